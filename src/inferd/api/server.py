"""The listening side: sockets, TLS, signals, and what is refused before it is a request.

uvicorn with httptools and uvloop does the work; this module adds limits on headers (bytes and time), Elasticsearch's
answer for what cannot be parsed, certificates that are read again when they change, and a drain on SIGTERM.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inferd.api.elastic.problems import envelope
from inferd.api.elastic.render import encode
from inferd.api.http import METHODS, Application, Request
from inferd.errors import IllegalArgument, InferdError

log = logging.getLogger("inferd.server")


class Options(Struct, frozen=True, kw_only=True):
    """Where to listen and what to put up with. Times in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 9200
    """0: any free one."""
    cert: str | None = None
    """PEM files; with a certificate the server speaks TLS only."""
    key: str | None = None
    client_ca: str | None = None
    """Client certificates are asked for, not demanded; see `Request.client_certificate`."""
    drain: float = 20.0
    """What requests in flight get once the server is told to stop."""
    header_bytes: int = 64 * 1024
    header_time: float = 30.0
    keep_alive: float = 75.0
    backlog: int = 2048
    certificate_check: float = 10.0


_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) (/[!-~]*) HTTP/1\.[01]\r?\n")


class Protocol(HttpToolsProtocol):
    """One connection, with limits on its headers."""

    header_bytes = 64 * 1024
    header_time = 30.0

    _pending = False
    _seen = 0
    _last = b""
    _late: asyncio.TimerHandle | None = None
    _refusal: InferdError | None = None
    _certificate: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if self.scheme == "https":
            self._certificate = transport.get_extra_info("peercert") or None
        self._late = self.loop.call_later(self.header_time, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._last = data
        super().data_received(data)
        if self._pending:
            self._seen += len(data)
            if self._seen > self.header_bytes and not self.transport.is_closing():
                self._refusal = self._too_large()
                self.send_400_response("")
            elif self._late is None:
                self._late = self.loop.call_later(self.header_time, self._give_up)
        elif self._late is not None:
            self._in_time()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._pending = True
        self._seen = 0
        if self._certificate is not None:
            self.scope["client_certificate"] = self._certificate  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._pending = False
        if len(self._last) + self._seen > self.header_bytes:
            size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
            if size > self.header_bytes:
                self._refusal = self._too_large()
                raise ValueError(self._refusal.reason)
        super().on_headers_complete()

    def _too_large(self) -> InferdError:
        return IllegalArgument(
            f"the request's headers are larger than the limit of [{self.header_bytes}] bytes"
        )

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        """Nothing, or half a header, for too long."""
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What the parser refused: in Elasticsearch's form, and the connection ends."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
            return
        error = self._refusal or self._unknown_method() or IllegalArgument("invalid HTTP request")
        self._refusal = None
        self.transport.write(_raw_response(error))
        self.transport.close()

    def _unknown_method(self) -> InferdError | None:
        line = _REQUEST_LINE.match(self._last)
        app = self.config.loaded_app
        if line is None or line[1].decode() in METHODS or not isinstance(app, Application):
            return None
        path, _, query = line[2].partition(b"?")
        scope: dict[str, Any] = {
            "method": line[1].decode(),
            "raw_path": path,
            "query_string": query,
            "headers": [],
        }
        return app.router.find(Request(scope, _nothing, app.limits)).error


async def _nothing() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def _raw_response(error: InferdError) -> bytes:
    body = encode(envelope(error))
    headers = [
        ("x-elastic-product", "Elasticsearch"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "close"),
        *(error.headers),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    status = HTTPStatus(error.status)
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode("latin-1", "replace") + body


class _Server(uvicorn.Server):
    """uvicorn's server that tells the application to drain, and exits with 0 when it was asked to stop."""

    def __init__(self, config: uvicorn.Config, app: Application) -> None:
        super().__init__(config)
        self._app = app
        self.announce: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.announce is not None:
            self.announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """The first call drains, the second one ends at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._app.drain()


def bind(host: str, port: int) -> socket.socket:
    """A listening address, before anything else is started. Errors: OSError."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


class Server:
    """``serve`` runs until ``stop`` is called or a signal comes; ``port`` is known before it starts."""

    def __init__(self, app: Application, options: Options | None = None) -> None:
        """Errors: OSError when the address is taken, ssl.SSLError and OSError for certificates."""
        self.options = options or Options()
        self._socket = bind(self.options.host, self.options.port)
        self.port: int = self._socket.getsockname()[1]
        try:
            # From here on clients wait instead of being refused.
            self._socket.listen(self.options.backlog)
            self._server = _Server(_config(app, self.options), app)
        except BaseException:
            self._socket.close()
            raise

    @property
    def ready(self) -> bool:
        return self._server.started

    def stop(self) -> None:
        self._server.stop()

    async def serve(self, announce: Callable[[], None] | None = None) -> None:
        """``announce`` is called once requests and signals are heard. Errors: SystemExit when the application's start hooks fail."""
        self._server.announce = announce
        watcher = asyncio.create_task(self._watch_certificate()) if self.options.cert else None
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            if watcher is not None:
                watcher.cancel()
            self._socket.close()

    def run(self) -> None:
        """``serve`` on an event loop of its own: uvloop where there is one."""
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self.serve())

    async def _watch_certificate(self) -> None:
        """New handshakes use new files; a broken pair is told once, the old one stays."""
        options, context = self.options, self._server.config.ssl
        if context is None or options.cert is None:
            return
        seen = await asyncio.to_thread(_stamp, options)
        while True:
            await asyncio.sleep(options.certificate_check)
            now = await asyncio.to_thread(_stamp, options)
            if now != seen:
                seen = now
                try:
                    await asyncio.to_thread(_load, context, options.cert, options.key)
                    log.info("the TLS certificate was read again")
                except (OSError, ssl.SSLError) as error:
                    log.error("the new TLS certificate cannot be used, the old one stays: %s", error)


def _load(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Tried on a context of its own first: a pair that does not fit would leave this one without a key."""
    for taking in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
        taking.load_cert_chain(cert, key, lambda: _NOTHING_TYPED)


_NOTHING_TYPED = "none"
"""Given for keys that want one, so that OpenSSL does not ask at the terminal and wait."""


def _stamp(options: Options) -> tuple[int, ...]:
    stamps = []
    for path in (options.cert, options.key):
        try:
            stamps.append(os.stat(path).st_mtime_ns if path else 0)
        except OSError:
            stamps.append(-1)
    return tuple(stamps)


def _config(app: Application, options: Options) -> uvicorn.Config:
    protocol = type(
        "Connection", (Protocol,), {"header_bytes": options.header_bytes, "header_time": options.header_time}
    )
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(options.keep_alive),
        timeout_graceful_shutdown=max(1, round(options.drain)),
        backlog=options.backlog,
        ssl_certfile=options.cert,
        ssl_keyfile=options.key,
        ssl_keyfile_password=_NOTHING_TYPED,
        ssl_ca_certs=options.client_ca,
        ssl_cert_reqs=ssl.CERT_OPTIONAL if options.client_ca else ssl.CERT_NONE,
        ssl_ciphers="",  # Python's own choice; uvicorn's leaves TLS 1.2 nothing but CBC with SHA-1
    )
    config.load()
    return config


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one, else asyncio's own (None)."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
