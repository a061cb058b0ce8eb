"""The listening side: what is no request, slow and large headers, TLS, and the end."""

import asyncio
import datetime
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import textwrap

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from served import application, connected, running

from inferd.api.http import Request, Response, Route
from inferd.api.server import Server, bind


async def hello(request: Request) -> Response:
    return Response(b"hello")


HELLO = Route(method="GET", template="/hello", handler=hello)


@pytest.mark.parametrize(
    ("raw", "status", "error"),
    [
        (b"FOO /hello?x HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Unexpected http method [FOO], allowed: [GET]"),
        (b"FOO /none HTTP/1.1\r\nHost: x\r\n\r\n", 400, "no handler found for uri [/none] and method [FOO]"),
        (b"\x16\x03\x01 not http\r\n\r\n", 400, "invalid HTTP request"),
        (b"GET /hello HTTP/1.1\r\nbad header\r\n\r\n", 400, "invalid HTTP request"),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid HTTP request"),
        (b"POST /hello HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, "invalid HTTP request"),
    ],
)
async def test_what_is_no_request(raw, status, error):
    """Refused in Elasticsearch's form, with the product header; then the connection ends."""
    async with running(application(HELLO)) as server, connected(server) as peer:
        await peer.send(raw)
        code, headers, body = await peer.response()
        assert (code, headers["x-elastic-product"], headers["connection"]) == (
            status,
            "Elasticsearch",
            "close",
        )
        told = json.loads(body)["error"]
        assert (told if isinstance(told, str) else told["reason"]) == error
        assert await peer.reader.read() == b""


async def test_headers_have_a_size():
    """More than the limit is a 400, whether it comes at once or in pieces; a large body is no header."""

    async def size(request: Request) -> Response:
        return Response(str(len(await request.body())).encode())

    sized = Route(method="POST", template="/size", handler=size, body="optional")
    async with running(application(HELLO, sized), header_bytes=1000) as server:
        async with connected(server) as peer:
            await peer.send(b"GET /hello HTTP/1.1\r\nX: " + b"y" * 2000 + b"\r\n\r\n")
            status, _, body = await peer.response()
            assert status == 400
            assert b"larger than the limit of [1000] bytes" in body
        async with connected(server) as peer:
            await peer.send(b"GET /hello HTTP/1.1\r\n")
            for _ in range(2):
                await peer.send(b"X: " + b"y" * 500 + b"\r\n")
                await asyncio.sleep(0.02)
            assert (await peer.response())[0] == 400
        async with connected(server) as peer:
            assert (await peer.ask("POST", "/size", b" " * 5000))[2] == b"5000"
            assert (await peer.ask("GET", "/hello"))[2] == b"hello"


@pytest.mark.parametrize("start", [b"", b"GET /hello HTTP/1.1\r\nX: "], ids=["nothing", "half a header"])
async def test_headers_have_a_time(start):
    """A connection that sends nothing, or half a header, is closed."""
    async with running(application(HELLO), header_time=0.05) as server, connected(server) as peer:
        await peer.send(start)
        async with asyncio.timeout(2):
            assert await peer.reader.read() == b""


async def test_an_idle_connection_may_wait_for_its_next_request():
    """The time limit on headers is not one on keeping a connection open."""
    async with running(application(HELLO), header_time=0.05) as server, connected(server) as peer:
        assert (await peer.ask("GET", "/hello"))[2] == b"hello"
        await asyncio.sleep(0.15)
        assert (await peer.ask("GET", "/hello"))[2] == b"hello"


async def test_stopping_lets_requests_in_flight_finish():
    """What runs is finished; what comes on an open connection meanwhile is answered 503; then nobody listens."""
    go, started = asyncio.Event(), asyncio.Event()

    async def wait(request: Request) -> Response:
        started.set()
        await go.wait()
        return Response(b"done")

    app = application(Route(method="GET", template="/wait", handler=wait), HELLO)
    async with running(app) as server, connected(server) as peer:
        await peer.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        async with connected(server) as other:
            server.stop()
            assert (await other.ask("GET", "/hello"))[0] == 503
        go.set()
        status, headers, body = await peer.response()
        assert (status, headers["connection"], body) == (200, "close", b"done")
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_grace_ends():
    """A request that outlives the grace is cancelled and answered 503."""
    started = asyncio.Event()

    async def wait(request: Request) -> Response:
        started.set()
        await asyncio.sleep(60)
        return Response()

    app = application(Route(method="GET", template="/wait", handler=wait))
    async with running(app, drain=1) as server, connected(server) as peer:
        await peer.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        server.stop()
        async with asyncio.timeout(5):
            status, _, body = await peer.response()
        assert (status, json.loads(body)["error"]["reason"]) == (503, "the server is shutting down")


def test_a_taken_address_is_told_at_once():
    """Binding fails with an OSError before anything else is started."""
    first = bind("127.0.0.1", 0)
    first.listen()
    try:
        with pytest.raises(OSError):
            bind("127.0.0.1", first.getsockname()[1])
    finally:
        first.close()


def test_sigterm_ends_the_process_with_zero():
    """SIGTERM drains: the stop hooks run, the exit status is 0."""
    script = textwrap.dedent(
        """
        from inferd.api.http import Application, Dialect, Response, Route, Router
        from inferd.api.elastic import problems
        from inferd.api.server import Options, Server

        async def hello(request):
            return Response(b"hello")

        async def start():
            print("up", flush=True)

        async def stop():
            print("down", flush=True)

        rows = [Route(method="GET", template="/", handler=hello)]
        app = Application(
            Router([(Dialect(name="x", problem=problems.problem), rows)]), on_start=[start], on_stop=[stop]
        )
        Server(app, Options(port=0)).run()
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=10)
    assert (rest, process.returncode) == ("down\n", 0)


def certificate(name: str, key, issuer_name: str, issuer_key) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=name == issuer_name, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def write(path, name: str, authority=None):
    """A key and a certificate, signed by ``authority`` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_name, issuer_key = authority or (name, key)
    made = certificate(name, key, issuer_name, issuer_key)
    (path / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (path / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return name, key


async def test_tls_with_a_client_certificate_and_a_new_server_certificate(tmp_path):
    """TLS when there is a certificate; the client's own is handed to the request; new files are used for new connections."""
    authority = write(tmp_path, "authority")
    write(tmp_path, "server", authority)
    write(tmp_path, "client", authority)

    async def who(request: Request) -> Response:
        certificate = request.client_certificate
        return Response(json.dumps([request.secure, certificate and certificate["subject"]]).encode())

    tls = {
        "cert": str(tmp_path / "server.crt"),
        "key": str(tmp_path / "server.key"),
        "client_ca": str(tmp_path / "authority.crt"),
        "certificate_check": 0.05,
    }
    context = ssl.create_default_context(cafile=str(tmp_path / "authority.crt"))

    async def ask(server: Server) -> tuple[object, object]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        writer.write(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        body = (await reader.read()).rpartition(b"\r\n\r\n")[2]
        serial = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        await writer.wait_closed()
        return json.loads(body), serial

    async with running(application(Route(method="GET", template="/who", handler=who)), **tls) as server:
        answer, serial = await ask(server)
        assert answer == [True, None]
        context.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
        assert (await ask(server))[0] == [True, [[["commonName", "client"]]]]
        write(tmp_path, "server", authority)
        os.utime(tmp_path / "server.crt", (1, 1))
        for _ in range(100):
            if (await ask(server))[1] != serial:
                break
            await asyncio.sleep(0.05)
        assert (await ask(server))[1] != serial
