"""What it costs a chat stream to go through inferd: 200 chunks a stream, 16 readers.

    python -m benchmarks.streams [--rounds 3] [--seconds 2] [--clients 16]

The provider is a mock in a process of its own: ``at once`` it writes a whole stream, ``paced`` a chunk every 2 ms, as models do. It is read
directly, through a floor (uvicorn and aiohttp, bytes passed on as they come, nothing looked at) and through an endpoint of the ``openai``
service with security on, in each dialect. First token: from the request to the first ``data:``. CPU is that of what stands in between. Ways
alternate within a round; only ratios within one run count.
"""

import argparse
import asyncio
import json
import pickle
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
import uvloop
from tests.serverprocess import ServerProcess, started

from benchmarks import machine
from benchmarks.load import post

CHUNKS = 200
PACE = 0.002
"""Seconds between two chunks."""
MESSAGES = [{"role": "user", "content": "Tell me of the sky above the port."}]


@dataclass(frozen=True)
class Measured:
    """Streams a second; milliseconds to the first token; CPU seconds a thousand streams."""

    rate: float
    first: float
    cpu: float


# The provider


def _event(value: Any) -> bytes:
    raw = f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def _stream() -> list[bytes]:
    made = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f" word{n}"} for n in range(CHUNKS - 2)]
    events = [{**made, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    events.append({**made, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*map(_event, events), _event("[DONE]") + b"0\r\n\r\n"]


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_STREAM = _stream()
_WHOLE = json.dumps(
    {"id": "i", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}]}
).encode()


class Provider(asyncio.Protocol):
    """Streams to every request, and answers in one piece to who does not ask for a stream."""

    def __init__(self) -> None:
        self._seen = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0) if found else 0
        if not found or len(body) < length:
            return
        self._seen = b""
        if b'"stream":true' in body and head.startswith(b"POST /paced"):
            self._transport.write(_HEAD)
            self._go_on(iter(_STREAM))
        elif b'"stream":true' in body:
            self._transport.write(_HEAD + b"".join(_STREAM))
        else:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_WHOLE), _WHOLE))

    def _go_on(self, chunks: Iterator[bytes]) -> None:
        chunk = next(chunks, None)
        if chunk is not None and not self._transport.is_closing():
            self._transport.write(chunk)
            asyncio.get_running_loop().call_later(PACE, self._go_on, chunks)


async def provide() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# The floor


def serve_floor(provider: int) -> None:
    session: aiohttp.ClientSession | None = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal session
        session = session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = (await receive())["body"]
        url = f"http://127.0.0.1:{provider}{scope['path']}"
        async with session.post(url, data=body) as reply:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for piece in reply.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        print(bound.getsockname()[1], flush=True)
        config = uvicorn.Config(app, loop="uvloop", lifespan="off", log_level="error", access_log=False)
        uvicorn.Server(config).run(sockets=[bound])


# The readers


class _Reader(asyncio.Protocol):
    """One connection that reads one stream after the other; ``taken``: seconds to each first token."""

    def __init__(self, request: bytes, until: float, done: asyncio.Future[None]) -> None:
        self._request, self._until, self._done = request, until, done
        self._head, self._tail, self._waiting = b"", b"", True
        self.taken: list[float] = []
        self.streams = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._head, self._tail, self._waiting = b"", b"", True
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._waiting:
            self._head += data
            if b"data: " not in self._head:
                return
            if not self._head.startswith(b"HTTP/1.1 200"):
                self._end(RuntimeError(self._head[:1000].decode(errors="replace")))
                return
            self._waiting = False
            self.taken.append(time.perf_counter() - self._began)
        self._tail = (self._tail + data)[-16:]
        if not self._tail.endswith(b"\r\n0\r\n\r\n"):
            return
        self.streams += 1
        if time.perf_counter() < self._until:
            self._ask()
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("the server closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error) if error else self._done.set_result(None)
            self._transport.close()


async def _read(port: int, request: bytes, clients: int, seconds: float) -> tuple[int, float, list[float]]:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    readers = []
    for _ in range(clients):
        done: asyncio.Future[None] = loop.create_future()
        _, reader = await loop.create_connection(
            lambda done=done: _Reader(request, began + seconds, done), "127.0.0.1", port
        )
        readers.append((reader, done))
    await asyncio.gather(*(done for _, done in readers))
    wall = time.perf_counter() - began
    return sum(r.streams for r, _ in readers), wall, [t for r, _ in readers for t in r.taken]


def read(port: int, request: bytes, clients: int, seconds: float) -> tuple[int, float, list[float]]:
    """Streams read to their end, seconds it took, seconds to each first token; in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.streams", "--read"],
        input=pickle.dumps((port, request, clients, seconds)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + 60,
    )
    found: tuple[int, float, list[float]] = pickle.loads(done.stdout)
    return found


@contextmanager
def child(*arguments: str) -> Iterator[tuple[int, int]]:
    """This module in a process of its own: the port that it prints, and its id."""
    command = [sys.executable, "-m", "benchmarks.streams", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


def requests(key: str, kind: str) -> dict[str, bytes]:
    """What each dialect is asked."""
    bearer = {"Authorization": f"Bearer {key}"}
    typed = {"messages": MESSAGES}
    spoken = {"model": f"{kind}-chat", "messages": MESSAGES, "stream": True}
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "inferd, Elasticsearch, chat": (f"/_inference/chat_completion/{kind}-chat/_stream", typed),
        "inferd, Elasticsearch, completion": (
            f"/_inference/completion/{kind}-completion/_stream",
            {"input": MESSAGES[0]["content"]},
        ),
        "inferd, OpenAI": ("/v1/chat/completions", spoken),
        "inferd, Cohere": ("/v2/chat", spoken),
    }
    return {name: post(path, json.dumps(body).encode(), **bearer) for name, (path, body) in asked.items()}


def create(server: ServerProcess, provider: int, kind: str) -> None:
    settings = {
        "api_key": "sk-benchmark",
        "model_id": "m",
        "url": f"http://127.0.0.1:{provider}/{kind}",
        "rate_limit": {"requests_per_minute": 1_000_000_000},
    }
    for task, id in (("chat_completion", f"{kind}-chat"), ("completion", f"{kind}-completion")):
        body = {"service": "openai", "service_settings": settings}
        answer = server.ask("PUT", f"/_inference/{task}/{id}", body)
        assert answer.status == 200, answer.body


def measure(rounds: int, seconds: float, clients: int, kind: str) -> dict[str, Measured]:
    found: dict[str, list[Measured]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory() as folder,
        child("--provide") as (there, _),
        child("--floor", str(there)) as (floor, floor_pid),
        started(Path(folder)) as server,
    ):
        create(server, there, kind)
        key = server.ask("POST", "/_security/api_key", {"name": "benchmark"}).json["encoded"]
        asked = json.dumps({"messages": MESSAGES, "stream": True}, separators=(",", ":")).encode()
        direct = post(f"/{kind}", asked)
        ways: list[tuple[str, int, Callable[[], float], bytes]] = [
            ("nothing", there, lambda: 0.0, direct),
            ("floor", floor, lambda: machine.cpu([floor_pid]), direct),
        ]
        for name, request in requests(key, kind).items():
            ways.append((name, server.port, lambda: machine.cpu([server.process.pid]), request))
        for _, port, _, request in ways:
            read(port, request, clients, seconds / 4)
        for _ in range(rounds):
            for name, port, cpu, request in ways:
                before = cpu()
                streams, wall, taken = read(port, request, clients, seconds)
                used = 1000 * (cpu() - before) / streams
                found[name].append(Measured(streams / wall, 1000 * statistics.median(taken), used))
    return {
        name: Measured(
            *(statistics.median(getattr(m, key) for m in each) for key in ("rate", "first", "cpu"))
        )
        for name, each in found.items()
    }


def table(found: dict[str, Measured]) -> str:
    """Markdown; ratios are to the provider itself."""
    lines = [
        "| in front of the provider | streams/s | ÷ direct | first token p50, ms | above direct, ms | CPU-s per 1000 streams |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    direct = found["nothing"]
    for name, one in found.items():
        above, cost = ("", "") if name == "nothing" else (f"{one.first - direct.first:.1f}", f"{one.cpu:.2f}")
        lines.append(
            f"| {name} | {one.rate:.0f} | {one.rate / direct.rate:.2f} | {one.first:.1f} | {above} | {cost} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--clients", type=int, default=16)
    options.add_argument("--provide", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--floor", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.provide:
        uvloop.run(provide())
    elif given.floor:
        serve_floor(given.floor)
    elif given.read:
        sys.stdout.buffer.write(pickle.dumps(uvloop.run(_read(*pickle.load(sys.stdin.buffer)))))
    else:
        print(machine.facts())
        for kind, words in (("at-once", "At once"), ("paced", f"Paced, a chunk every {1000 * PACE:g} ms")):
            print(f"\n{words}:\n")
            print(table(measure(given.rounds, given.seconds, given.clients, kind)))


if __name__ == "__main__":
    main()
