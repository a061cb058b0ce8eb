"""TLS and client certificates."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import elastic_transport
import pytest
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
