"""What it costs to go through inferd to a provider: embeddings of 1536 numbers, 32 clients.

    python -m benchmarks.proxy [--rounds 3] [--seconds 2]

The provider is a mock that answers at once, with numbers or with base64, in a process of its own. It is asked directly,
through nginx (``proxy_pass`` with kept connections, one worker; left out where nginx is not installed), through the floor
(uvicorn and aiohttp with as little as possible between them: the text read, the vector passed on as bytes; no
authentication, limits, errors or checks), and through endpoints of the ``openai`` service with security on. CPU is that of what stands in between. OpenAI asks for base64 only
when told to; the ``openai`` service always does and reads both.
"""

import argparse
import asyncio
import base64
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import numpy as np
import uvicorn
import uvloop
from tests.serverprocess import ServerProcess, started

from benchmarks import machine
from benchmarks.load import Measured, load, median, post

CLIENTS = 32
NUMBERS = 1536
TEXT = "The sky above the port was the color of television tuned to a dead channel."


# The provider


def reply(form: str) -> bytes:
    vector = np.random.default_rng(0).standard_normal(NUMBERS).astype(np.float32)
    vector /= np.linalg.norm(vector)
    value: Any = [float(str(x)) for x in vector]
    if form == "base64":
        value = base64.b64encode(vector.tobytes()).decode()
    data = [{"object": "embedding", "index": 0, "embedding": value}]
    usage = {"prompt_tokens": 16, "total_tokens": 16}
    body = json.dumps(
        {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}
    ).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


_REPLIES = {form: reply(form) for form in ("numbers", "base64")}


class Provider(asyncio.Protocol):
    """Answers every request; what with, its path says."""

    def __init__(self) -> None:
        self._seen = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._seen = b""
        form = "base64" if b"/base64/" in head.split(b"\r\n", 1)[0] else "numbers"
        self._transport.write(_REPLIES[form])


async def provide() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# What stands in between


_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d;
  scgi_temp_path {folder}/e;
  proxy_buffers 16 32k; proxy_buffer_size 32k; proxy_busy_buffers_size 64k;
  upstream provider {{ server 127.0.0.1:{provider}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@contextmanager
def nginx(provider: int, folder: Path) -> Iterator[tuple[int, Callable[[], list[int]]] | None]:
    """Its port, and the processes it has; None where it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        yield None
        return
    port = machine.free_port()
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, provider=provider, port=port))
    with subprocess.Popen(
        [program, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    ) as process:
        try:
            for _ in range(100):
                if machine.children(process.pid):
                    break
                time.sleep(0.05)
            yield port, lambda: [process.pid, *machine.children(process.pid)]
        finally:
            process.terminate()


class _Entry(msgspec.Struct):
    embedding: msgspec.Raw


class _Reply(msgspec.Struct):
    data: list[_Entry]


def floor_app(provider: int) -> Any:
    """An ASGI application that asks for one embedding and wraps what comes."""
    decode, session = msgspec.json.Decoder(_Reply).decode, None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal session
        if scope["type"] == "lifespan":
            return
        if session is None:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        asked = msgspec.json.decode((await receive())["body"])
        body = msgspec.json.encode({"input": [asked["input"]], "model": "m", "encoding_format": "base64"})
        url = f"http://127.0.0.1:{provider}{scope['path']}"
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
            found = decode(await reply.read())
        answer = msgspec.json.encode(
            {"text_embedding": [{"embedding": entry.embedding} for entry in found.data]}
        )
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def serve_floor(provider: int) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as bound:
        print(bound.getsockname()[1], flush=True)
        config = uvicorn.Config(
            floor_app(provider), loop="uvloop", lifespan="off", log_level="error", access_log=False
        )
        uvicorn.Server(config).run(sockets=[bound])


@contextmanager
def child(*arguments: str) -> Iterator[tuple[int, Callable[[], list[int]]]]:
    """This module in a process of its own: the port that it prints, and its process."""
    command = [sys.executable, "-m", "benchmarks.proxy", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), lambda: [process.pid]
        finally:
            process.terminate()


class Way(NamedTuple):
    """Something to ask: what the provider answers, what is in front of it, and what that runs as."""

    form: str
    name: str
    port: int
    pids: Callable[[], list[int]]
    request: bytes


@contextmanager
def ways(folder: Path) -> Iterator[list[Way]]:
    """Everything started, every connection made once."""
    with (
        child("--provide") as (there, _),
        child("--floor", str(there)) as floor,
        nginx(there, folder) as web,
        started(folder) as server,
    ):
        key = server.ask("POST", "/_security/api_key", {"name": "benchmark"}).json["encoded"]
        own: tuple[int, Callable[[], list[int]]] = server.port, lambda: [server.process.pid]
        typed = json.dumps({"input": TEXT}).encode()
        made = []
        for form in _REPLIES:
            path = f"/{form}/v1/embeddings"
            create(server, form, f"http://127.0.0.1:{there}{path}")
            direct = openai_request(form, path, Authorization="Bearer sk-benchmark")
            made.append(Way(form, "nothing", there, list, direct))
            if web is not None:
                made.append(Way(form, "nginx", *web, direct))
            made.append(Way(form, "floor", *floor, post(path, typed)))
            asked = post(f"/_inference/text_embedding/{form}", typed, Authorization=f"ApiKey {key}")
            made.append(Way(form, "inferd", *own, asked))
            asked = openai_request(form, "/v1/embeddings", model=form, Authorization=f"Bearer {key}")
            made.append(Way(form, "inferd, asked as OpenAI", *own, asked))
        for way in made:
            load(way.port, [way.request], clients=CLIENTS, seconds=0.5)
        yield made


def create(server: ServerProcess, id: str, url: str) -> None:
    settings = {
        "api_key": "sk-benchmark",
        "model_id": "text-embedding-3-small",
        "url": url,
        "rate_limit": {"requests_per_minute": 1_000_000_000},
    }
    body = {"service": "openai", "service_settings": settings}
    answer = server.ask("PUT", f"/_inference/text_embedding/{id}", body)
    assert answer.status == 200, answer.body


def openai_request(form: str, path: str, model: str = "text-embedding-3-small", **headers: str) -> bytes:
    kind = "base64" if form == "base64" else "float"
    return post(
        path, json.dumps({"input": [TEXT], "model": model, "encoding_format": kind}).encode(), **headers
    )


def measure(rounds: int = 3, seconds: float = 2.0) -> dict[str, Any]:
    """By form and by what stands in between; CPU ratios to nginx and to the floor in the same round."""
    found: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, ways(Path(folder)) as all:
        for _ in range(rounds):
            for way in all:
                before = machine.cpu(way.pids())
                count, one = load(way.port, [way.request], clients=CLIENTS, seconds=seconds)
                used = 1000 * (machine.cpu(way.pids()) - before) / count
                found[way.form, way.name].append(Measured(one.rate, one.p50, one.p99, used))

    def against(base: str) -> dict[tuple[str, str], float]:
        return {
            (form, name): statistics.median(
                one.cpu / other.cpu for one, other in zip(each, found[form, base], strict=True)
            )
            for (form, name), each in found.items()
            if name != "nothing" and (form, base) in found
        }

    return {
        "found": {way: median(each) for way, each in found.items()},
        "ratios": against("nginx"),
        "floors": against("floor"),
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| provider answers | in front of it | requests/s | p50, ms | p99, ms | CPU-s per 1000 requests "
        "| CPU ÷ nginx | CPU ÷ floor |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way, one in found["found"].items():
        form, name = way
        cost = "" if name == "nothing" else f"{one.cpu:.3f}"
        nginx, floor = (
            f"{found[kind][way]:.1f}" if way in found[kind] else "" for kind in ("ratios", "floors")
        )
        lines.append(
            f"| {form} | {name} | {one.rate:.0f} | {one.p50:.1f} | {one.p99:.1f} | {cost} | {nginx} | {floor} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--provide", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--floor", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.floor:
        serve_floor(given.floor)
        return
    if given.provide:
        uvloop.run(provide())
        return
    print(machine.facts(), end="\n\n")
    print(table(measure(given.rounds, given.seconds)))


if __name__ == "__main__":
    main()
