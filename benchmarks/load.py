"""Clients that keep a server busy: connections that each ask one request after the other, for some seconds.

    measured = load(port, requests, clients=32, seconds=2.0)

They run in a process of their own and do as little as possible: requests are bytes, answers are counted, not read.
"""

import asyncio
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvloop


@dataclass(frozen=True)
class Measured:
    """Latencies in milliseconds; ``cpu`` is what the measured processes used, in seconds a thousand requests."""

    rate: float
    p50: float
    p99: float
    cpu: float = 0.0


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A request as bytes; ``_`` in a header's name stands for ``-``."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def load(port: int, requests: Sequence[bytes], *, clients: int, seconds: float) -> tuple[int, Measured]:
    """How many were answered, and how fast. Raises when an answer is not 200."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=pickle.dumps((port, list(requests), clients, seconds)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + 120,
    )
    taken, wall = pickle.loads(done.stdout)
    if isinstance(taken, str):
        raise RuntimeError(taken)
    taken.sort()
    return len(taken), Measured(
        rate=len(taken) / wall,
        p50=1000 * statistics.median(taken),
        p99=1000 * taken[min(len(taken) - 1, int(len(taken) * 0.99))],
    )


def median(rounds: Sequence[Measured]) -> Measured:
    """Each figure's median."""
    return Measured(
        rate=statistics.median(r.rate for r in rounds),
        p50=statistics.median(r.p50 for r in rounds),
        p99=statistics.median(r.p99 for r in rounds),
        cpu=statistics.median(r.cpu for r in rounds),
    )


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, requests: list[bytes], until: float, done: asyncio.Future[None]) -> None:
        self._requests, self._until, self._done = requests, until, done
        self._next, self._head, self._missing = 0, b"", 0
        self.taken: list[float] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            if not head.startswith(b"HTTP/1.1 200") or not length.strip():
                self._end(RuntimeError(self._head[:1000].decode(errors="replace")))
                return
            self._missing = int(length) - len(body)
            self._head = b""
        if self._missing:
            return
        now = time.perf_counter()
        self.taken.append(now - self._began)
        if now < self._until:
            self._ask()
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("the server closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error) if error else self._done.set_result(None)
            self._transport.close()


async def _run(port: int, requests: list[bytes], clients: int, seconds: float) -> tuple[list[float], float]:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    all, ends = [], []
    for n in range(clients):
        ends.append(loop.create_future())
        start = n * len(requests) // clients
        client = _Client(requests[start:] + requests[:start], began + seconds, ends[-1])
        all.append(client)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
    await asyncio.gather(*ends)
    return [taken for client in all for taken in client.taken], time.perf_counter() - began


def main() -> None:
    job = pickle.load(sys.stdin.buffer)
    try:
        answer: Any = uvloop.run(_run(*job))
    except (OSError, RuntimeError) as bad:
        answer = (f"{type(bad).__name__}: {bad}", 0)
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
