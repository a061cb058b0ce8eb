"""The way out: proxies, trust, other addresses, and what may not be reached."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from acme import Provider
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inferd.config import Config, ConfigError, Outbound, ServiceConfig, load
from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.errors import StatusError, UpstreamError
from inferd.testing import FakeUpstream
from inferd.upstream.client import Upstream
from inferd.upstream.egress import Egress, NoProxy, Policy, given_by_user, rebased

VECTORS = {"vectors": [[1]]}


def elsewhere(provider: Provider, url: str, proxy: str | None = None, **outbound: Any) -> None:
    """Let Acme be called at this URL, without an override."""
    provider.changed(name="elsewhere")
    provider.changed_call(TaskType.TEXT_EMBEDDING, post=url)
    provider.upstream = provider.fake.client(
        outbound=Outbound(proxy=Secret(proxy) if proxy else None, **outbound)
    )


# Policy

FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "2852039166",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "025177524776",
    "169.254.43518",
    "169.254.169.254.",
    "0xA9FEA9FE.",
    "169.16689662",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",
    "[fd00:0ec2:0:0:0:0:0:254]",
    "[fe80::1]",
    "[FE80::1%25eth0]",
    "[febf::1]",
    "100.100.100.200",
    "168.63.129.16",
]
ALLOWED = [
    "127.0.0.1",
    "10.0.0.1",
    "192.168.1.1",
    "169.253.1.1",
    "[::1]",
    "[fec0::1]",
    "[fd00:ec2::253]",
    "1.1.1.1",
]


@pytest.mark.parametrize("host", FORBIDDEN)
async def test_no_spelling_of_a_metadata_address(provider: Provider, host: str) -> None:
    """Decimal, octal, hexadecimal, short, mapped, translated: a 400 before anything is sent."""
    elsewhere(provider, f"http://{host}/latest")
    with pytest.raises(StatusError) as caught:
        await provider.call()
    assert caught.value.status == 400
    assert "is a link-local or metadata address" in caught.value.reason


@pytest.mark.parametrize("host", ALLOWED)
def test_private_addresses_are_allowed(host: str) -> None:
    """Own servers in private networks are what such endpoints are for."""
    Policy().check(host.strip("[]"))


@pytest.mark.parametrize("host", ["169.254.169.254", "２852039166", "169。254。169。254", "①69.254.169.254"])
async def test_lookalike_characters(provider: Provider, host: str) -> None:
    """Digits and dots of other scripts end as the same address or as no host at all."""
    elsewhere(provider, f"http://{host}/")
    with pytest.raises(StatusError) as caught:
        await provider.call()
    assert caught.value.status == 400


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let every name resolve to these addresses, one look-up each; the last one stays."""
    asked: list[str] = []
    left = list(answers)

    async def getaddrinfo(host: str, port: int, **kwargs: Any) -> Any:
        asked.append(host)
        address = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        rest = (0, 0) if ":" in address else ()
        return [(family, socket.SOCK_STREAM, 6, "", (address, port, *rest))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254"])
async def test_a_name_of_a_metadata_address(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """A name is judged by what it resolves to."""
    elsewhere(provider, "http://metadata.example/")
    asked = resolving(monkeypatch, address)
    with pytest.raises(StatusError, match="metadata address"):
        await provider.call()
    assert asked == ["metadata.example"]


async def test_a_name_that_changes_its_mind(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: the address that was checked is the one that is called; the next look-up is checked again."""
    port = provider.fake.url.rpartition(":")[2]
    elsewhere(provider, f"http://rebind.example:{port}/")
    asked = resolving(monkeypatch, "127.0.0.1", "169.254.169.254")
    provider.fake.answer(json=VECTORS, headers={"Connection": "close"})
    await provider.call()
    assert asked == ["rebind.example"]
    provider.upstream = provider.fake.client()
    with pytest.raises(StatusError, match="metadata address"):
        await provider.call()


@pytest.mark.parametrize("allow", ["169.254.0.0/16", "169.254.169.254", "meta.example"])
def test_the_allow_list(allow: str) -> None:
    """Networks, addresses and names may be allowed."""
    policy = Policy([allow])
    policy.check_resolved("meta.example", ["169.254.169.254"])
    with pytest.raises(StatusError):
        policy.check_resolved("other.example", ["fd00:ec2::254"])
    if allow != "meta.example":
        policy.check("169.254.169.254")


# Other addresses


@pytest.mark.parametrize(
    ("url", "base", "result"),
    [
        ("https://api.x.ai/v1/e?a=b", "http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/e?a=b"),
        ("https://api.x.ai/v1/e", "http://gw/", "http://gw/v1/e"),
        ("https://api.x.ai/v1/e", "http://gw/openai/", "http://gw/openai/v1/e"),
        ("https://h/model/a%3Ab%2Fc/invoke", "https://vpc", "https://vpc/model/a%3Ab%2Fc/invoke"),
    ],
)
def test_the_path_is_kept(url: str, base: str, result: str) -> None:
    """``base_url`` replaces scheme, host and port."""
    assert rebased(url, base) == result


def test_an_address_of_the_user_stays() -> None:
    """What stands as a URL in the endpoint's settings is not replaced; a computed address is."""
    endpoint = Endpoint(
        id="e",
        task=TaskType.COMPLETION,
        service="openai",
        settings={"url": "https://mine.example:8443/v1", "host": "bare.example"},
    )
    assert given_by_user(endpoint, "https://mine.example:8443/v1/chat")
    assert not given_by_user(endpoint, "https://bare.example/v1")
    assert not given_by_user(endpoint, "https://api.openai.com/v1")


@pytest.mark.parametrize(
    "value", ["http://[", "://", "https://[::1", "http://a:b:c", "x://\ud800", "//\u2100://"]
)
def test_a_setting_that_only_looks_like_an_address(value: str) -> None:
    """A model may be called anything."""
    endpoint = Endpoint(id="e", task=TaskType.COMPLETION, service="ai21", settings={"model_id": value})
    assert not given_by_user(endpoint, "https://api.ai21.com/v1")


async def test_base_url_by_service(provider: Provider) -> None:
    """Only the service that is named goes elsewhere, ``-`` and ``_`` alike in its name."""
    for name in ("acme", "ac_me"):
        service = name.replace("_", "-")
        provider.changed(name=service)
        provider.fake.answer(json=VECTORS)
        provider.upstream = Upstream(Config(services={name: ServiceConfig(base_url=provider.fake.url)}))
        await provider.call()
        await provider.upstream.close()
    assert [r.path for r in provider.fake.requests] == ["/v1/embed"] * 2


# Proxies


@pytest.mark.parametrize(
    ("entries", "host", "port", "covered"),
    [
        ("", "a.example", 443, False),
        ("*", "a.example", 443, True),
        ("a.example", "a.example", 443, True),
        ("a.example", "b.a.example", 443, True),
        (".a.example", "b.a.example", 443, True),
        ("*.a.example", "b.a.example", 443, True),
        ("a.example", "ba.example", 443, False),
        ("x, A.Example ", "a.example", 443, True),
        ("a.example:8080", "a.example", 8080, True),
        ("a.example:8080", "a.example", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("::1", "::1", 80, True),
        ("example", "10.1.2.3", 80, False),
    ],
)
def test_no_proxy(entries: str, host: str, port: int, covered: bool) -> None:
    """The usual forms of ``NO_PROXY``."""
    assert NoProxy(entries).covers(host, port) is covered


def test_no_proxy_of_the_environment() -> None:
    """``NO_PROXY`` counts where the configuration says nothing."""
    environ = {"NO_PROXY": "a.example"}
    assert load(environ=environ).outbound.no_proxy == "a.example"
    environ["INFERD_OUTBOUND__NO_PROXY"] = "b.example"
    assert load(environ=environ).outbound.no_proxy == "b.example"


async def test_an_http_proxy(provider: Provider) -> None:
    """Requests go to the proxy with the whole URL, its credentials in their own header; exceptions go direct."""
    proxy = provider.fake.url.replace("http://", "http://user:pass@")
    elsewhere(provider, "http://provider.invalid/v1", proxy=proxy, no_proxy="127.0.0.1")
    provider.fake.answer(json=VECTORS)
    await provider.call()
    seen = provider.fake.requests[0]
    assert seen.target == "http://provider.invalid/v1"
    assert seen.headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"
    provider.changed_call(TaskType.TEXT_EMBEDDING, post=f"{provider.fake.url}/direct")
    await provider.call()
    assert provider.fake.requests[1].target == "/direct"
    assert "proxy-authorization" not in provider.fake.requests[1].headers


async def test_a_proxy_does_not_lift_the_policy(provider: Provider) -> None:
    """An address is forbidden whoever connects to it."""
    elsewhere(provider, "http://169.254.169.254/", proxy=provider.fake.url)
    with pytest.raises(StatusError, match="metadata address"):
        await provider.call()
    assert provider.fake.requests == []


@pytest.mark.parametrize("url", ["http://x.invalid/", "https://x.invalid/"])
async def test_a_proxy_that_does_not_work(provider: Provider, url: str) -> None:
    """Its failure is named, its password is not."""
    elsewhere(provider, url, proxy="http://user:planted-pass@127.0.0.1:1")
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert caught.value.reason == "Failed to send Acme embeddings request. Cause: The proxy did not connect"
    assert "planted" not in repr(caught.value.__dict__)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class Socks:
    """A SOCKS5 proxy that connects everything to one port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[tuple[str, int]] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"socks5h://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods = (await reader.readexactly(2))[1]
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        kind = (await reader.readexactly(4))[3]
        assert kind == 3, "a name, so that the proxy resolves it"
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        self.asked.append((host, int.from_bytes(await reader.readexactly(2), "big")))
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        there = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(_relay(reader, there[1]), _relay(there[0], writer), return_exceptions=True)


async def test_a_socks_proxy(provider: Provider) -> None:
    """The proxy resolves the name; exceptions go direct."""
    socks = Socks(int(provider.fake.url.rpartition(":")[2]))
    provider.fake.answer(json=VECTORS)
    async with socks as proxy:
        elsewhere(provider, "http://provider.invalid/v1", proxy=proxy, no_proxy="127.0.0.1")
        await provider.call()
        assert socks.asked == [("provider.invalid", 80)]
        provider.changed_call(TaskType.TEXT_EMBEDDING, post=f"{provider.fake.url}/direct")
        await provider.call()
        await provider.upstream.close()
    assert len(socks.asked) == 1
    assert [r.path for r in provider.fake.requests] == ["/v1", "/direct"]


@pytest.mark.parametrize("proxy", ["nonsense", "ftp://x", "http://", "socks9://x"])
def test_a_proxy_that_is_none(proxy: str) -> None:
    """A proxy address that cannot be used stops the start with the setting's name."""
    with pytest.raises(ConfigError, match=r"^outbound\.proxy: expected"):
        Egress(Config(outbound=Outbound(proxy=Secret(proxy))))


# Trust


class Authority:
    """A private certificate authority and files of what it signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = self._write("ca.pem", self._signed("test authority", self._key, authority=True))

    def leaf(self, name: str) -> tuple[str, str]:
        """Files of a certificate for localhost and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f"{name}.pem", self._signed(name, key)), self._write(f"{name}.key", pem)

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, authority: bool = False) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def secure(authority: Authority) -> AsyncIterator[Provider]:
    """Acme behind TLS, asking for a client certificate without insisting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.leaf("server"))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_OPTIONAL
    async with FakeUpstream(tls=context) as fake:
        yield Provider(fake, fake.client())


async def test_a_private_authority(secure: Provider, authority: Authority) -> None:
    """``ca_certs`` is what makes its servers trusted; without it the certificate is refused by name."""
    secure.fake.answer(json=VECTORS)
    elsewhere(secure, f"{secure.fake.url}/v1")
    with pytest.raises(UpstreamError, match="The server's certificate is not accepted: "):
        await secure.call()
    elsewhere(secure, f"{secure.fake.url}/v1", ca_certs=authority.file)
    await secure.call()
    assert len(secure.fake.requests) == 1


async def test_a_client_certificate(authority: Authority) -> None:
    """``client_cert`` and ``client_key`` are shown to a server that insists."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.leaf("server"))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    cert, key = authority.leaf("client")
    async with FakeUpstream(tls=context) as fake:
        fake.answer(json=VECTORS)
        provider = Provider(fake, fake.client())
        elsewhere(provider, f"{fake.url}/v1", ca_certs=authority.file)
        with pytest.raises(UpstreamError, match="Failed to send"):
            await provider.call()
        elsewhere(provider, f"{fake.url}/v1", ca_certs=authority.file, client_cert=cert, client_key=key)
        await provider.call()
        assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [("ca_certs", "/no/such/file"), ("client_cert", "/no/such/file"), ("ca_certs", "garbage")],
)
def test_files_that_cannot_be_used(tmp_path: Path, setting: str, value: str) -> None:
    """The start stops with the setting's name."""
    if value == "garbage":
        (tmp_path / "x.pem").write_text("no certificate")
        value = str(tmp_path / "x.pem")
    with pytest.raises(ConfigError, match=rf"^outbound\.{setting}: cannot be used"):
        Egress(Config(outbound=Outbound(**{setting: value})))


# Limits


async def test_connections_per_host_are_bounded(provider: Provider) -> None:
    """No more connections than ``max_per_host``, however many calls; all of them are answered."""
    provider.upstream = provider.fake.client("acme", outbound=Outbound(max_per_host=3))
    provider.fake.answer(json=VECTORS, delay=0.02)
    await asyncio.gather(*(provider.call() for _ in range(12)))
    assert provider.fake.connections == 3


async def test_a_connection_that_is_not_accepted(provider: Provider) -> None:
    """``connect_timeout`` bounds the handshake; then it is tried again like any broken connection."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        elsewhere(provider, f"http://127.0.0.1:{port}/", connect_timeout=0.1)
        with pytest.raises(UpstreamError) as caught:
            await provider.call()
        for filler in fillers:
            filler.close()
    assert caught.value.reason.endswith("Cause: The connection could not be made in time")
    assert len(provider.fake.waits) == 2
