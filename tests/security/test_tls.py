"""TLS and client certificates."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import elastic_transport
import pytest
from cryptography.hazmat.primitives import serialization
from elastic_transport import TlsError
from elasticsearch import AsyncElasticsearch, AuthenticationException, AuthorizationException

from contract.house import PASSWORD, Client, call, secured
from inferd.config import Tls
from inferd.security import certificates

from .authority import Authority, name
from .listening import listening

USERS = {
    "CN=search,O=Example": "ann",
    "bob.example.org": "bob",
    "CN=gone": "nobody",
    "CN=off": "off",
    "CN=a\\,b\\+c": "ann",
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def tls(tmp_path: Path, authority: Authority) -> AsyncIterator[tuple[Client, str]]:
    cert, key = authority.issue(name(("CN", "server")))
    async with secured(tmp_path / "data", tls=Tls(client_users=USERS)) as root:
        for user in ("ann", "bob", "off"):
            body = {"password": "password-1", "roles": ["inference_user"], "enabled": user != "off"}
            await root("PUT", f"/_security/user/{user}", body)
        async with listening(root, cert=cert, key=key, client_ca=authority.file) as url:
            yield root, url


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[AsyncElasticsearch]:
    es = AsyncElasticsearch(url, max_retries=0, **options)
    try:
        yield es
    finally:
        await es.close()


async def test_official_client(tls: tuple[Client, str], authority: Authority, tmp_path: Path) -> None:
    """With ``ca_certs`` and a password; not with another authority."""
    _, url = tls
    async with client(url, ca_certs=authority.file, basic_auth=("elastic", PASSWORD)) as es:
        assert (await es.info())["tagline"] == "You Know, for Search"
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "somebody else")
    async with client(url, ca_certs=stranger.file, basic_auth=("elastic", PASSWORD)) as es:
        with pytest.raises(TlsError):
            await es.info()


async def test_challenges(tls: tuple[Client, str], authority: Authority) -> None:
    """Over TLS the 401 offers Bearer too."""
    _, url = tls
    async with client(url, ca_certs=authority.file) as es:
        with pytest.raises(AuthenticationException) as caught:
            await es.info()
    assert caught.value.body["error"]["header"]["WWW-Authenticate"] == [
        'Basic realm="security", charset="UTF-8"',
        'Bearer realm="security"',
        "ApiKey",
    ]


async def test_ciphers(tls: tuple[Client, str], authority: Authority) -> None:
    """A client of TLS 1.2 that takes nothing but authenticated ciphers connects; one without ends at the handshake."""
    parts = urlsplit(tls[1])
    context = ssl.create_default_context(cafile=authority.file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM")
    _, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    assert "GCM" in writer.get_extra_info("cipher")[0]
    writer.close()
    await writer.wait_closed()
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(parts.hostname, parts.port, ssl=context)


async def test_a_pair_that_does_not_fit(
    root: Client, authority: Authority, tmp_path: Path, caplog: Any
) -> None:
    """A renewal comes as two files, one after the other: in between the old pair serves, also when the key never fits."""
    cert, key = (Path(file) for file in authority.issue(name(("CN", "server"))))
    fresh_cert, fresh_key = (Path(file) for file in authority.issue(name(("CN", "renewed"))))
    context = ssl.create_default_context(cafile=authority.file)
    caplog.set_level("INFO", "inferd.server")
    async with listening(root, cert=str(cert), key=str(key), certificate_check=0.02) as url:
        parts = urlsplit(url)

        async def subject() -> str:
            _, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
            found = writer.get_extra_info("peercert")["subject"][0][0][1]
            writer.close()
            await writer.wait_closed()
            return str(found)

        old = key.read_bytes()
        for cert_file, key_file, served in (
            (fresh_cert.read_bytes(), old, "server"),
            (fresh_cert.read_bytes(), b"half a key", "server"),
            (fresh_cert.read_bytes(), fresh_key.read_bytes(), "renewed"),
        ):
            caplog.clear()
            cert.write_bytes(cert_file)
            key.write_bytes(key_file)
            while not any(record.name == "inferd.server" for record in caplog.records):  # noqa: ASYNC110 - nothing else tells of it
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert await subject() == served


async def test_no_passphrase_is_asked_for(authority: Authority, root: Client, tmp_path: Path) -> None:
    """A key under a passphrase is refused at the start: nobody sits at the terminal."""
    cert, key = (Path(file) for file in authority.issue(name(("CN", "server"))))
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    sealed = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    key.write_bytes(sealed)
    with pytest.raises(ssl.SSLError):
        async with listening(root, cert=str(cert), key=str(key)):
            pass


async def test_client_certificates(tls: tuple[Client, str], authority: Authority) -> None:
    """Subject, or the common name alone, to user."""
    _, url = tls
    for subject, user in (
        (name(("O", "Example"), ("CN", "search")), "ann"),
        (name(("O", "Anything"), ("CN", "bob.example.org")), "bob"),
        (name(("CN", "a,b+c")), "ann"),
    ):
        cert, key = authority.issue(subject)
        async with client(url, ca_certs=authority.file, client_cert=cert, client_key=key) as es:
            who = await es.security.authenticate()
            assert who["username"] == user
            assert who["authentication_realm"] == {"name": "pki1", "type": "pki"}
            await es.inference.get()
            with pytest.raises(AuthorizationException) as caught:
                await es.security.change_password(password="password-2")
            assert f"is unauthorized for user [{user}]" in caught.value.body["error"]["reason"]


async def test_a_header_wins(tls: tuple[Client, str], authority: Authority) -> None:
    """With credentials the certificate counts for nothing, also when they are wrong."""
    _, url = tls
    cert, key = authority.issue(name(("O", "Example"), ("CN", "search")))
    files = {"ca_certs": authority.file, "client_cert": cert, "client_key": key}
    async with client(url, basic_auth=("elastic", PASSWORD), **files) as es:
        assert (await es.security.authenticate())["username"] == "elastic"
    async with client(url, basic_auth=("elastic", "wrong-password"), **files) as es:
        with pytest.raises(AuthenticationException):
            await es.security.authenticate()


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (name(("CN", "stranger")), "missing authentication credentials"),
        (name(("CN", "search")), "missing authentication credentials"),
        (name(("CN", "x"), ("CN", "bob.example.org")), "missing authentication credentials"),
        (name(("CN", "gone")), "unable to authenticate user [nobody]"),
        (name(("CN", "off")), "unable to authenticate user [off]"),
    ],
)
async def test_certificates_of_nobody(
    tls: tuple[Client, str], authority: Authority, subject: Any, reason: str
) -> None:
    """Not mapped, not exactly that subject, two common names, no such user, a disabled one."""
    _, url = tls
    cert, key = authority.issue(subject)
    async with client(url, ca_certs=authority.file, client_cert=cert, client_key=key) as es:
        with pytest.raises(AuthenticationException) as caught:
            await es.info()
        assert caught.value.body["error"]["reason"].startswith(reason)


async def test_another_authoritys_certificate(
    tls: tuple[Client, str], authority: Authority, tmp_path: Path
) -> None:
    """Never reaches the application."""
    _, url = tls
    (tmp_path / "other").mkdir()
    cert, key = Authority(tmp_path / "other", "somebody else").issue(name(("O", "Example"), ("CN", "search")))
    async with client(url, ca_certs=authority.file, client_cert=cert, client_key=key) as es:
        with pytest.raises(elastic_transport.ConnectionError):
            await es.info()


async def test_a_certificate_that_ran_out(root: Client) -> None:
    """A connection may be older than its certificate's end."""
    certificate = {"subject": ((("commonName", "x"),),), "notAfter": "Jan  1 00:00:00 2020 GMT"}
    assert certificates.names(certificate, 0.0) == ("CN=x", "x")
    assert certificates.names(certificate, 2e9) == ()
    assert certificates.names({**certificate, "notAfter": "soon"}, 0.0) == ()
    answer = await call(root.app, "GET", "/", "", b"", {}, client_certificate=certificate)
    assert answer.status == 401


def test_subjects() -> None:
    """As RFC 4514 writes them; the library's own words are the reference."""
    for parts in (
        (("O", "Example"), ("CN", "search")),
        (("DC", "org"), ("DC", "example"), ("OU", "a;b<c>d"), ("CN", 'q"u\\o')),
        (("CN", " leading"),),
        (("CN", "trailing "),),
        (("CN", "#hash"),),
        (("UID", "u1"), ("CN", "über=ß")),
    ):
        subject = name(*parts)
        long = {"CN": "commonName", "O": "organizationName", "OU": "organizationalUnitName"}
        long |= {"UID": "userId", "DC": "domainComponent"}
        shown = certificates.subject([((long[kind], value),) for kind, value in parts])
        assert shown == subject.rfc4514_string()
