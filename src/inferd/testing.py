"""The fake upstream: a loopback server that answers as it is told and remembers what it was asked.

    async with FakeUpstream() as fake:
        fake.answer(status=429, headers={"Retry-After": "1"})
        fake.answer(json={"data": [{"embedding": [0.1, 0.2]}]})
        upstream = fake.client("openai")           # retries do not sleep; waits are in fake.waits
        result = await upstream.call(...)
        assert fake.requests[0].json["input"] == ["how big"]

Answers are used in order and the last one is repeated. It speaks HTTP by hand, because most of what it is for (a body that
drips, stops or is cut) is what a proper server refuses to do.
"""

import asyncio
import socket
import ssl
import struct
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from inferd.config import Config, Outbound, ServiceConfig
from inferd.core.secrets import Secret
from inferd.upstream.client import Upstream


class Answer(Struct, frozen=True, kw_only=True):
    """What to do with one request.

    ``chunks`` are written one by one, ``pause`` seconds apart, as a chunked body; ``body`` goes out whole. ``delay``: seconds
    before the head. ``cut``: close the connection after so many bytes of the body; ``reset`` closes it with a RST. ``hang``:
    say nothing more after what is there and keep the connection open. ``raw``: these bytes instead of any HTTP.
    """

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    chunks: tuple[bytes, ...] | None = None
    pause: float = 0.0
    delay: float = 0.0
    cut: int | None = None
    reset: bool = False
    hang: bool = False
    raw: bytes | None = None


class Received(Struct, frozen=True, kw_only=True):
    """One request. ``target`` is path and query exactly as sent; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class FakeUpstream:
    """A provider on 127.0.0.1. ``asked``: set when a request has come; ``left``: set when a client goes away before its
    answer is complete."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Received] = []
        self.waits: list[float] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()
        self.connections = 0
        self._answers: dict[str, deque[Answer]] = {}
        self._clients: list[Upstream] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> "FakeUpstream":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}" if self._tls is None else f"https://localhost:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        for client in self._clients:
            await client.close()
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def answer(
        self, json: Any = None, *, path: str = "", sse: Iterable[Any] | None = None, **answer: Any
    ) -> None:
        """Add an answer: ``json`` as its body, ``sse`` as server-sent events (JSON values, or text as it is), or any field of
        ``Answer``. With ``path`` it is for requests to that path only.
        """
        if json is not None:
            answer["body"] = msgspec.json.encode(json)
        headers = dict(answer.pop("headers", {}))
        if sse is not None:
            answer["chunks"] = tuple(event_bytes(event) for event in sse)
            headers.setdefault("Content-Type", "text/event-stream")
        headers.setdefault("Content-Type", "application/json")
        self._answers.setdefault(path, deque()).append(Answer(headers=headers, **answer))

    def forget(self) -> None:
        """Drop every answer and every request seen."""
        self._answers.clear()
        self.requests.clear()
        self.waits.clear()

    def client(
        self, *services: str, outbound: Outbound | None = None, environment: Mapping[str, str] | None = None
    ) -> Upstream:
        """An ``Upstream`` that sends these services here and does not sleep before repeats; closed with the server."""
        config = Config(
            outbound=outbound or Outbound(),
            services={name: ServiceConfig(base_url=self.url, auth_base_url=self.url) for name in services},
            environment={name: Secret(value) for name, value in (environment or {}).items()},
        )
        client = Upstream(config, sleep=self._wait, draw=lambda low, high: high)
        self._clients.append(client)
        return client

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the test is over: both are what tests are about
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the connection is over."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        request = await _request(head, reader)
        self.requests.append(request)
        self.asked.set()
        answer = self._next(request.path)
        gone = asyncio.ensure_future(_gone(reader))
        work = asyncio.ensure_future(_write(answer, writer))
        try:
            done, _ = await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                try:
                    return work.result()
                except ConnectionError:
                    pass
            self.left.set()
            return False
        finally:
            for part in (gone, work):
                part.cancel()
            await asyncio.gather(gone, work, return_exceptions=True)

    def _next(self, path: str) -> Answer:
        answers = self._answers.get(path) or self._answers.get("")
        if not answers:
            return Answer(status=404, body=b'{"error":{"message":"the test names no answer for this path"}}')
        return answers.popleft() if len(answers) > 1 else answers[0]


def event_bytes(event: Any) -> bytes:
    """One server-sent event: text as it is, a (name, value) pair with its name, any other value as JSON data."""
    if isinstance(event, str | bytes):
        return event.encode() if isinstance(event, str) else event
    name = b""
    if isinstance(event, tuple):
        name, event = b"event: " + event[0].encode() + b"\n", event[1]
    data = event.encode() if isinstance(event, str) else msgspec.json.encode(event)
    return name + b"data: " + data + b"\n\n"


def aws_frame(payload: bytes, **headers: str) -> bytes:
    """One frame of an AWS event stream; header names with ``_`` for ``-`` and without their colon."""
    import zlib

    packed = b""
    for name, value in headers.items():
        full = f":{name.replace('_', '-')}".encode()
        raw = value.encode()
        packed += bytes([len(full)]) + full + b"\x07" + struct.pack(">H", len(raw)) + raw
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


async def _gone(reader: asyncio.StreamReader) -> None:
    """Return when the client has closed its side."""
    while True:
        if reader.at_eof() or reader.exception() is not None:
            return
        await asyncio.sleep(0.005)


async def _request(head: bytes, reader: asyncio.StreamReader) -> Received:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method=method, target=target, headers=headers, body=body)


async def _write(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    """True: the answer is complete and the connection may be used again."""
    if answer.delay:
        await asyncio.sleep(answer.delay)
    if answer.raw is not None:
        writer.write(answer.raw)
        await writer.drain()
        return await _hang() if answer.hang else False
    writer.write(_head(answer))
    sent = 0
    chunked = answer.chunks is not None
    for n, chunk in enumerate(answer.chunks if answer.chunks is not None else (answer.body,)):
        if n and answer.pause:
            await writer.drain()
            await asyncio.sleep(answer.pause)
        piece = chunk if answer.cut is None else chunk[: max(0, answer.cut - sent)]
        sent += len(piece)
        if piece:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        if answer.cut is not None and sent >= answer.cut:
            break
    if answer.hang:
        await _hang()
    if answer.reset:
        _set_reset(writer)
        return False
    if answer.cut is not None:
        return False
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return "connection" not in {name.lower() for name in answer.headers}


async def _hang() -> bool:
    await asyncio.get_running_loop().create_future()
    return False


def _head(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} Reason"]
    names = {name.lower() for name in answer.headers}
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if answer.chunks is not None:
        lines.append("Transfer-Encoding: chunked")
    elif "content-length" not in names:
        lines.append(f"Content-Length: {len(answer.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _set_reset(writer: asyncio.StreamWriter) -> None:
    """Closing sends a RST instead of a FIN."""
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
