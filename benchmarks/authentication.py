"""What asking who is there costs a request: a whole server with and without security, in the same run.

    python benchmarks/authentication.py [--requests 4000] [--connections 8] [--rounds 5]

Two servers, each a process of its own on the same machine; rounds take turns between open, Basic (remembered after the
first request), and ApiKey. The figure to look at is the server's CPU time per request, and its ratio to open; requests per
second include the client, which shares the machine. Medians over the rounds.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATH = "/_inference/rerank/.rerank-v1-elasticsearch"
PASSWORD = "benchmark-password"
BASIC = "Basic " + base64.b64encode(f"elastic:{PASSWORD}".encode()).decode()


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[int, int]]:
    """Process id and port."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "inferd",
                "serve",
                "--port",
                "0",
                "--data-dir",
                str(folder / "data"),
                *arguments,
            ],
            stdout=output,
            stderr=output,
            env={**os.environ, "ELASTIC_PASSWORD": PASSWORD},
        )
    try:
        while not (found := re.search(rb"listens on http://[^ ]*:(\d+)\n", log.read_bytes())):
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.02)
        yield process.pid, int(found[1])
    finally:
        process.terminate()
        process.wait()


def cpu(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ask(port: int, authorization: str | None, requests: int, connections: int) -> None:
    header = f"Authorization: {authorization}\r\n" if authorization else ""
    request = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode()

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(head.decode())
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
        writer.close()

    await asyncio.gather(*(one(requests // connections) for _ in range(connections)))


def api_key(port: int) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/_security/api_key",
        data=b'{"name":"benchmark"}',
        headers={"Authorization": BASIC, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return f"ApiKey {json.load(answer)['encoded']}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "open").mkdir()
        (Path(folder) / "secured").mkdir()
        with (
            serving(Path(folder) / "open", "--no-security") as (open_pid, open_port),
            serving(Path(folder) / "secured") as (pid, port),
        ):
            kinds = {
                "open": (open_pid, open_port, None),
                "basic": (pid, port, BASIC),
                "api key": (pid, port, api_key(port)),
            }
            times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
            for number in range(wish.rounds + 1):
                for kind, (process, where, authorization) in kinds.items():
                    began, used = time.perf_counter(), cpu(process)
                    asyncio.run(ask(where, authorization, wish.requests, wish.connections))
                    if number:
                        times[kind].append((cpu(process) - used, time.perf_counter() - began))
    print(f"{'':10}{'CPU µs/request':>16}{'÷ open':>9}{'requests/s':>13}{'÷ open':>9}")
    base = None
    for kind, rounds in times.items():
        micros = statistics.median(used for used, _ in rounds) / wish.requests * 1e6
        rate = wish.requests / statistics.median(took for _, took in rounds)
        base = base or (micros, rate)
        print(f"{kind:10}{micros:16.1f}{micros / base[0]:9.2f}{rate:13.0f}{rate / base[1]:9.2f}")


if __name__ == "__main__":
    main()
