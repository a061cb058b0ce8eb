"""``inferd serve`` as a process of its own."""

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Server:
    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port
        self.said: list[bytes] = []
        """Everything it ever answered: heads and bodies."""

    def __call__(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if raw is not None else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, raw, {**sent, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        self.said += [str(answer.getheaders()).encode(), content]
        return answer.status, content


@contextmanager
def serving(home: Path, log: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """Until the block ends, or the process was killed in it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("INFERD_", "ELASTIC"))}
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "inferd", "serve", "--port", "0", "--data-dir", str(home), *arguments],
            stdout=output,
            stderr=output,
            env={**clean, **environment},
        )
    try:
        yield Server(process, _port(process, log, begin))
    finally:
        process.terminate()
        process.wait(30)


def _port(process: "subprocess.Popen[bytes]", log: Path, begin: int) -> int:
    for _ in range(3000):
        told = log.read_bytes()[begin:]
        found = re.search(rb"listens on https?://[^ ]*:(\d+)\n", told)
        if found:
            return int(found[1])
        if process.poll() is not None:
            break
        with_timeout(process)
    raise AssertionError(log.read_text())


def with_timeout(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(0.01)
    except subprocess.TimeoutExpired:
        return
