"""HTTP and nothing else: requests in, responses out, routes, over plain ASGI.

One `Application` serves several dialects. A dialect is how one family of clients speaks: it authenticates, checks
headers and turns errors into bodies; its route rows name the handlers. Order of checks: api.md 1.2.
"""

import asyncio
import logging
import secrets
import time
import zlib
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import unquote, unquote_plus

from msgspec import Struct

from inferd.errors import IllegalArgument, InferdError, NotRouted, Rejected, StatusError

log = logging.getLogger("inferd.http")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT")
"""In the order in which a 405 lists them (api.md 1.4)."""

_PRODUCT = (b"x-elastic-product", b"Elasticsearch")
_UNSAFE = bytes(32 if byte < 32 or byte == 127 else byte for byte in range(256))
_INLINE = 64 * 1024
"""Bytes that are compressed or decompressed on the event loop; more goes to a thread (zlib lets go of the GIL)."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a client may cost us. Sizes in bytes, times in seconds."""

    body: int = 100 * 1024 * 1024
    """As sent, and again once decompressed (api.md 1.1)."""
    body_idle: float = 30.0
    """Between two pieces of a request body."""
    body_total: float = 600.0
    tick: float = 0.25
    """How often a long request is looked at: has its client left, is it late, does it read."""
    write_stall: float = 120.0
    """A client that reads nothing for this long is dropped."""
    concurrent: int = 4096
    """Requests in flight; more are answered 429."""
    compress_from: int | None = 2048
    """Smallest body that is compressed for those who accept gzip; None: never."""


class ClientGone(Exception):
    """The client left before its request was complete; nobody is there to be told."""


class Request:
    """One HTTP request. ``path_params``, ``route`` and ``principal`` are filled in on its way to the handler."""

    __slots__ = (
        "_body",
        "_headers",
        "_many",
        "_query",
        "_receive",
        "_segments",
        "deadline",
        "dialect",
        "has_body",
        "limits",
        "media",
        "method",
        "path_params",
        "principal",
        "raw_path",
        "received",
        "route",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        self.scope = scope
        self.method: str = scope["method"]
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.limits = limits
        self.path_params: Mapping[str, str] = {}
        self.route: Route | None = None
        self.dialect: Dialect | None = None
        self.principal: Any = None
        self.media: Any = None
        """What the dialect negotiated, if it negotiates."""
        self._receive = receive
        self._headers = dict(pairs)
        self._many = len(self._headers) != len(pairs)
        self._query: list[tuple[str, str | None]] | None = None
        self._segments: tuple[str, ...] | None = None
        self._body: bytes | None = None
        self.deadline = 0.0
        """While the body is read: the moment of the loop's clock at which that takes too long."""
        length = self._headers.get(b"content-length")
        self.has_body = (
            length is not None and length.strip(b"0") != b""
        ) or b"transfer-encoding" in self._headers
        """A body was announced; a chunked one may still turn out empty."""
        self.received = not self.has_body
        """The body has been read to its end, or there is none."""

    @property
    def path(self) -> str:
        """As sent, without the query string."""
        return self.raw_path.decode("latin-1")

    @property
    def segments(self) -> tuple[str, ...]:
        """The path split at its slashes, each segment decoded by itself: ``%2F`` stays inside one. No trailing blanks."""
        if self._segments is None:
            self._segments = split_path(self.raw_path)
        return self._segments

    @property
    def uri(self) -> str:
        """Path and query string as sent."""
        query: bytes = self.scope["query_string"]
        return (self.raw_path + b"?" + query if query else self.raw_path).decode("latin-1")

    @property
    def query(self) -> list[tuple[str, str | None]]:
        """Parameters in order; None is a bare name. Undecodable bytes become U+FFFD."""
        if self._query is None:
            self._query = parse_query(self.scope["query_string"])
        return self._query

    def header(self, name: str) -> str | None:
        """The value under this name, any letter case; several are joined by a comma."""
        value = self.raw_header(name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def raw_header(self, name: bytes) -> bytes | None:
        """Like ``header``, for names in lower case; as sent."""
        if not self._many:
            return self._headers.get(name)
        values = [value for key, value in self.scope["headers"] if key == name]
        return b",".join(values) if values else None

    def headers(self, name: str) -> list[str]:
        """Every value under this name, in order."""
        key = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key_, value in self.scope["headers"] if key_ == key]

    @property
    def opaque_id(self) -> str | None:
        return self.header("x-opaque-id")

    @property
    def client(self) -> str | None:
        """The peer's address."""
        peer = self.scope.get("client")
        return peer[0] if peer else None

    @property
    def secure(self) -> bool:
        """TLS on this connection."""
        return bool(self.scope.get("scheme") == "https")

    @property
    def client_certificate(self) -> dict[str, Any] | None:
        """A verified client certificate as `ssl.SSLSocket.getpeercert` gives it."""
        return self.scope.get("client_certificate")

    async def body(self) -> bytes:
        """The whole body, decompressed.

        Errors: 413 beyond the limit, 400 for a damaged gzip stream, ClientGone. A client that is slow is answered 408
        by the application.
        """
        if self._body is None:
            raw = b"" if self.received else await self._read()
            encoding = self._headers.get(b"content-encoding")
            self._body = (
                raw if encoding is None else await decoded(raw, encoding.decode("latin-1"), self.limits.body)
            )
        return self._body

    async def _read(self) -> bytes:
        self.check_length()
        loop = asyncio.get_running_loop()
        pieces: list[bytes] = []
        size = 0
        latest = loop.time() + self.limits.body_total
        while True:
            self.deadline = min(loop.time() + self.limits.body_idle, latest)
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            size += len(piece)
            if size > self.limits.body:
                raise too_large(self.limits.body, close=True)
            pieces.append(piece)
            if not message.get("more_body"):
                break
        self.deadline = 0.0
        self.received = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def check_length(self) -> None:
        """413 by the announced length, before a byte is read."""
        length = self._headers.get(b"content-length", b"")
        if len(length) > 8 and length.isdigit() and int(length) > self.limits.body:
            raise too_large(self.limits.body, close=int(length) > 2 * self.limits.body)

    async def gone(self) -> None:
        """Return when the client has left. Only once the body is read."""
        while (await self._receive())["type"] != "http.disconnect":
            continue


def stopping() -> StatusError:
    return StatusError(503, "the server is shutting down", headers={"Connection": "close"})


def slow_body() -> StatusError:
    return StatusError(408, "the request body did not arrive in time", headers={"Connection": "close"})


def too_large(limit: int, *, close: bool) -> StatusError:
    return StatusError(
        413,
        f"the request body is larger than the limit of [{limit}] bytes",
        headers={"Connection": "close"} if close else (),
    )


def split_path(raw: bytes) -> tuple[str, ...]:
    parts = raw.decode("latin-1").split("/")[1:]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(unquote(part) if "%" in part else part for part in parts)


def parse_query(raw: bytes) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = []
    for part in raw.decode("latin-1").split("&"):
        if part:
            name, equals, value = part.partition("=")
            pairs.append((unquote_plus(name), unquote_plus(value) if equals else None))
    return pairs


async def decoded(raw: bytes, encoding: str, limit: int) -> bytes:
    """A body without its Content-Encoding; ``limit`` bounds what comes out."""
    if not raw:
        return raw
    match encoding.strip().lower():
        case "" | "identity":
            return raw
        case "gzip" | "x-gzip":
            return (
                gunzip(raw, limit)
                if len(raw) <= _INLINE // 16
                else await asyncio.to_thread(gunzip, raw, limit)
            )
        case _:
            raise IllegalArgument(f"Content-Encoding [{encoding}] is not supported")


def gunzip(raw: bytes, limit: int) -> bytes:
    """One or more gzip members. Errors: 413 beyond the limit, 400 when damaged or cut short."""
    pieces: list[bytes] = []
    room = limit
    while raw:
        stream = zlib.decompressobj(wbits=31)
        try:
            piece = stream.decompress(raw, room + 1)
        except zlib.error as error:
            raise IllegalArgument(f"the request body is not valid gzip: {error}") from None
        room -= len(piece)
        if room < 0 or stream.unconsumed_tail:
            raise too_large(limit, close=False)
        if not stream.eof:
            raise IllegalArgument("the request body is not valid gzip: it ends too early")
        pieces.append(piece)
        raw = stream.unused_data
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


class Response:
    """What to send. ``body``: bytes, or an async generator whose first piece is awaited before the status is sent.

    ``compress``: large bytes may be compressed for clients that accept it; a stream never is. ``heartbeat``: seconds of
    silence after which ``beat`` is put between two pieces of a stream, before the first one too, to the tick; None: never.
    """

    __slots__ = ("beat", "body", "compress", "content_type", "headers", "heartbeat", "status")

    def __init__(
        self,
        body: bytes | AsyncGenerator[bytes, None] = b"",
        *,
        status: int = 200,
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        compress: bool = True,
        heartbeat: float | None = None,
        beat: bytes = b"",
    ) -> None:
        self.body = body
        self.heartbeat = heartbeat
        self.beat = beat
        self.compress = compress
        self.status = status
        self.content_type = content_type
        self.headers = list(headers)


Handler = Callable[[Request], Awaitable[Response]]


class Dialect(Struct, frozen=True, kw_only=True):
    """How one family of clients speaks. Each function may raise an `InferdError`; ``problem`` renders it, and never raises."""

    name: str
    problem: Callable[[Request, InferdError], Response]
    authenticate: Callable[[Request], Awaitable[None]] | None = None
    """Sets ``request.principal``; runs before the route is looked up."""
    check: Callable[[Request], None] | None = None
    """Syntax of the headers; before the route is looked up."""
    check_body: Callable[[Request], None] | None = None
    """Type of an announced body; after the route was found."""


class Route(Struct, frozen=True, kw_only=True):
    """One row of a route table. ``template`` segments are literal or ``{name}``."""

    method: str
    template: str
    handler: Handler
    action: str = ""
    privileges: tuple[str, ...] = ()
    params: frozenset[str] = frozenset()
    """Query parameters of this route, besides those that every route takes."""
    body: Literal["none", "optional", "required"] = "none"


class _Node:
    __slots__ = ("any", "literal", "routes")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.routes: dict[str, tuple[Dialect, Route, tuple[str, ...]]] = {}


class Match(Struct, frozen=True):
    """Where a path leads: a route, or the error to answer with."""

    dialect: Dialect
    route: Route | None = None
    params: Mapping[str, str] = {}
    error: InferdError | None = None
    allowed: tuple[str, ...] = ()


_MOST_KNOWN = 1024
_LONGEST_KNOWN = 256
"""Paths that were found are remembered: most requests ask for the same few."""


class Router:
    """Rows into a tree. A literal segment wins over ``{name}``, from left to right, among the rows that know the method."""

    def __init__(self, tables: Iterable[tuple[Dialect, Iterable[Route]]]) -> None:
        """The first table's dialect answers for paths that nobody knows."""
        self._root = _Node()
        self._known: dict[tuple[str, bytes], Match] = {}
        self.routes: list[tuple[Dialect, Route]] = [
            (dialect, row) for dialect, rows in tables for row in rows
        ]
        if not self.routes:
            raise ValueError("a router needs a route")
        self.default = self.routes[0][0]
        for dialect, route in self.routes:
            self._add(dialect, route)

    def _add(self, dialect: Dialect, route: Route) -> None:
        node = self._root
        names = []
        for segment in split_path(route.template.encode()):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.any = node = node.any or _Node()
            else:
                node = node.literal.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"two routes for {route.method} {route.template}")
        node.routes[route.method] = (dialect, route, tuple(names))

    def find(self, request: Request) -> Match:
        key = (request.method, request.raw_path)
        match = self._known.get(key)
        return self._search(request, key) if match is None else match

    def _search(self, request: Request, key: tuple[str, bytes]) -> Match:
        seen: list[_Node] = []
        found = _search(self._root, request.segments, 0, (), request.method, seen)
        if found is None:
            return self._miss(request, seen)
        (dialect, route, names), values = found
        match = Match(dialect, route, dict(zip(names, values, strict=True)))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        if len(request.raw_path) <= _LONGEST_KNOWN:
            self._known[key] = match
        return match

    def _miss(self, request: Request, seen: list[_Node]) -> Match:
        known = {method: row[0] for node in seen for method, row in node.routes.items()}
        if not known:
            reason = f"no handler found for uri [{request.uri}] and method [{request.method}]"
            return Match(self.default, error=NotRouted(400, reason, show_status=False))
        allowed = tuple(method for method in METHODS if method in known)
        dialect = next(iter(known.values()))
        if request.method == "OPTIONS":
            return Match(dialect, allowed=allowed)
        return Match(dialect, error=wrong_method(request.method, request.uri, allowed))


def wrong_method(method: str, uri: str, allowed: Sequence[str]) -> NotRouted:
    listed = ", ".join(allowed)
    reason = (
        f"Incorrect HTTP method for uri [{uri}] and method [{method}], allowed: [{listed}]"
        if method in METHODS
        else f"Unexpected http method [{method}], allowed: [{listed}]"
    )
    return NotRouted(405, reason, headers={"Allow": ",".join(allowed)})


_Found = tuple[tuple[Dialect, Route, tuple[str, ...]], tuple[str, ...]]


def _search(
    node: _Node, segments: tuple[str, ...], at: int, values: tuple[str, ...], method: str, seen: list[_Node]
) -> _Found | None:
    if at == len(segments):
        if not node.routes:
            return None
        row = node.routes.get(method)
        if row is not None:
            return row, values
        seen.append(node)
        return None
    segment = segments[at]
    literal = node.literal.get(segment)
    if literal is not None:
        found = _search(literal, segments, at + 1, values, method, seen)
        if found is not None:
            return found
    if node.any is not None and segment:
        return _search(node.any, segments, at + 1, (*values, segment), method, seen)
    return None


Hook = Callable[[], Awaitable[None]]


class Application:
    """The ASGI application: routes requests, sends responses, answers for every failure.

    ``observe`` is told of every finished request: request, status (0: the client left), seconds.
    """

    def __init__(
        self,
        router: Router,
        *,
        limits: Limits | None = None,
        on_start: Sequence[Hook] = (),
        on_stop: Sequence[Hook] = (),
        observe: Callable[[Request, int, float], None] | None = None,
    ) -> None:
        self.router = router
        self.limits = limits or Limits()
        self.draining = False
        self.open: set[_Exchange] = set()
        self._ticking = False
        self._on_start = on_start
        self._on_stop = on_stop
        self._observe = observe

    def drain(self) -> None:
        """From now on new work is answered 503."""
        self.draining = True

    @property
    def running(self) -> int:
        """Requests in flight."""
        return len(self.open)

    def _tick(self) -> None:
        """Look at what is in flight, as long as something is."""
        for exchange in self.open:
            exchange.look()
        self._ticking = bool(self.open)
        if self._ticking:
            asyncio.get_running_loop().call_later(self.limits.tick, self._tick)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchange = _Exchange(self, Request(scope, receive, self.limits), send)
            self.open.add(exchange)
            if not self._ticking:
                self._ticking = True
                exchange.loop.call_later(self.limits.tick, self._tick)
            try:
                await exchange.run()
            finally:
                self.open.discard(exchange)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            for hook in self._on_start:
                await hook()
        except Exception as error:
            log.exception("start failed")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.drain()
        for hook in self._on_stop:
            try:
                await hook()
            except Exception:
                log.exception("a stop hook failed")
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(self, request: Request) -> Response:
        match = self.router.find(request)
        dialect = match.dialect
        request.dialect = dialect
        request.route = match.route
        request.path_params = match.params
        if self.draining:
            raise stopping()
        if len(self.open) > self.limits.concurrent:
            raise Rejected(f"more than [{self.limits.concurrent}] requests in flight")
        request.check_length()
        if dialect.authenticate is not None:
            await dialect.authenticate(request)
        if dialect.check is not None:
            dialect.check(request)
        if match.error is not None:
            raise match.error
        if match.route is None:
            return options(match.allowed)
        if not request.received and dialect.check_body is not None:
            dialect.check_body(request)
        return await match.route.handler(request)

    def problem(self, request: Request, error: InferdError) -> Response:
        """The dialect's body for a failure; a bare one should the dialect fail at that."""
        dialect = request.dialect or self.router.default
        try:
            response = dialect.problem(request, error)
        except Exception:
            log.exception("the %s dialect cannot tell of a failure: %s", dialect.name, error.reason)
            return Response(
                b'{"error":"internal error","status":500}', status=500, content_type="application/json"
            )
        for name, value in error.headers:
            if name in ("Connection", "Allow") and (name, value) not in response.headers:
                response.headers.append((name, value))
        return response


def options(allowed: Sequence[str]) -> Response:
    return Response(content_type="text/plain; charset=UTF-8", headers=[("Allow", ",".join(allowed))])


class _Exchange:
    """One request and its response: watches for the client leaving, and never starts a response twice."""

    __slots__ = (
        "app",
        "beating",
        "late",
        "left",
        "loop",
        "request",
        "send",
        "sending_since",
        "silent_since",
        "started",
        "status",
        "stream",
        "task",
        "watcher",
    )

    def __init__(self, app: Application, request: Request, send: Send) -> None:
        self.app = app
        self.request = request
        self.send = send
        self.started = False
        self.left = False
        self.status = 0
        self.sending_since = 0.0
        self.silent_since = 0.0
        """While a stream with heartbeats has nothing to send."""
        self.stream: Response | None = None
        self.beating: asyncio.Task[None] | None = None
        self.watcher: asyncio.Task[None] | None = None
        self.late = False
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an exchange runs in a task")
        self.task = task
        self.loop = task.get_loop()

    async def run(self) -> None:
        began = time.perf_counter()
        try:
            await self._respond(await self.app.answer(self.request))
        except InferdError as error:
            await self._fail(error)
        except ClientGone:
            self.left = True
        except asyncio.CancelledError:
            await self._cancelled()
        except Exception:
            await self._crashed()
        finally:
            if self.watcher is not None:
                self.watcher.cancel()
                # Its traceback holds this exchange; held in turn, the body would wait for a full collection.
                self.watcher = None
            if self.app._observe is not None:
                self.app._observe(self.request, 0 if self.left else self.status, time.perf_counter() - began)

    async def _crashed(self) -> None:
        mark = self.request.opaque_id or secrets.token_hex(8)
        log.exception("request [%s] %s %s failed", mark, self.request.method, self.request.path)
        await self._fail(InferdError(f"internal error, see the server's log for request [{mark}]"))

    async def _fail(self, error: InferdError) -> None:
        if self.started:
            log.error(
                "%s after the response to %s had started: %s", error.type, self.request.path, error.reason
            )
            return
        await self._respond(self.app.problem(self.request, error))

    async def _cancelled(self) -> None:
        """The client left, or was slow to send; or the server stops and this request's grace is over."""
        if self.late:
            await self._fail(slow_body())
        elif not self.left:
            if not self.app.draining or self.started:
                raise asyncio.CancelledError
            await self._fail(stopping())
        self.task.uncancel()

    async def _respond(self, response: Response) -> None:
        body = response.body
        if isinstance(body, bytes):
            await self._whole(response, body)
        else:
            async with aclosing(body):
                await self._stream(response, body)

    async def _whole(self, response: Response, body: bytes) -> None:
        headers = self._headers(response)
        least = self.app.limits.compress_from
        if least is not None and len(body) >= least and response.compress:
            headers.append((b"vary", b"Accept-Encoding"))
            if accepts_gzip(self.request.header("accept-encoding")):
                body = gzip(body) if len(body) <= _INLINE else await asyncio.to_thread(gzip, body)
                headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", b"%d" % len(body)))
        await self._start(response.status, headers)
        await self._write(b"" if self.request.method == "HEAD" else body, more=False)

    async def _stream(self, response: Response, body: AsyncGenerator[bytes, None]) -> None:
        self.stream = response
        piece = await self._next(body)
        if not self.started:
            await self._start(response.status, self._headers(response))
        while piece is not None and self.request.method != "HEAD":
            await self._write(piece, more=True)
            piece = await self._next(body)
        await self._write(b"", more=False)

    async def _next(self, body: AsyncGenerator[bytes, None]) -> bytes | None:
        """The next piece, once no heartbeat is being written; None: there is no more."""
        self.silent_since = self.loop.time()
        piece = await anext(body, None)
        self.silent_since = 0.0
        if self.beating is not None:
            await asyncio.wait((self.beating,))
        return piece

    async def _beat(self, response: Response) -> None:
        if not self.started:
            await self._start(response.status, self._headers(response))
        await self._write(response.beat, more=True)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def _write(self, piece: bytes, *, more: bool) -> None:
        self.sending_since = self.loop.time()
        await self.send({"type": "http.response.body", "body": piece, "more_body": more})
        self.sending_since = 0.0

    def _headers(self, response: Response) -> list[tuple[bytes, bytes]]:
        headers = [_PRODUCT]
        if self.app.draining:
            headers.append((b"connection", b"close"))
        if response.content_type is not None:
            headers.append((b"content-type", response.content_type.encode("latin-1")))
        opaque = self.request._headers.get(b"x-opaque-id")
        if opaque is not None:
            headers.append((b"x-opaque-id", opaque.translate(_UNSAFE)))
        for name, value in response.headers:
            headers.append(
                (name.lower().encode("latin-1"), value.encode("latin-1", "replace").translate(_UNSAFE))
            )
        return headers

    def look(self) -> None:
        """Has the client left, is it late, does it read, does it wait for a heartbeat."""
        now = self.loop.time()
        if self.watcher is None and self.request.received:
            self.watcher = self.loop.create_task(self._leave())
        if self.sending_since and now - self.sending_since > self.app.limits.write_stall:
            log.warning("a client read nothing for %d s: dropped", self.app.limits.write_stall)
            self._drop()
        elif 0 < self.request.deadline < now and not self.late:
            self.late = True
            self.task.cancel()
        elif self.silent_since and self.beating is None:
            self._keep_alive(now)

    def _keep_alive(self, now: float) -> None:
        """A heartbeat, where the stream asked for one and was silent for long enough."""
        every = self.stream.heartbeat if self.stream is not None else None
        if self.stream is not None and every and now - self.silent_since >= every:
            self.silent_since = now
            self.beating = self.loop.create_task(self._beat(self.stream))
            self.beating.add_done_callback(self._has_beaten)

    def _has_beaten(self, beating: asyncio.Task[None]) -> None:
        self.beating = None

    async def _leave(self) -> None:
        await self.request.gone()
        self._drop()

    def _drop(self) -> None:
        if not self.left:
            self.left = True
            self.task.cancel()


def accepts_gzip(header: str | None) -> bool:
    if header is None:
        return False
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "").rstrip("0").rstrip(".") not in ("q=", "q=0")
    return False
