"""Real processes: ``inferd serve`` as a user starts it, and a provider that it can call.

    with started(folder) as server:
        server.ask("GET", "/_inference")

The provider answers in the vendors' formats, on paths of its own; it lives in a thread, so that blocking tests may use it.
"""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "inferd")
PASSWORD = "correct horse"
_LISTENS = re.compile(r"listens on (https?)://([^\s]+):(\d+)")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class ServerProcess:
    """One server; ``log`` is what it wrote so far."""

    def __init__(self, folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.file = folder / "server.log"
        command = [*COMMAND, "serve", "--port", "0", "--data-dir", str(folder / "data")]
        with self.file.open("ab") as output:
            self._start = output.tell()
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean_environ(ELASTIC_PASSWORD=PASSWORD, **(environ or {})),
            )
        self.port = 0

    @property
    def log(self) -> str:
        return self.file.read_bytes()[self._start :].decode(errors="replace")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def rss(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def ready(self, seconds: float = 60.0) -> "ServerProcess":
        """The address it printed."""
        pause = threading.Event()
        for _ in range(int(seconds / 0.02)):
            found = _LISTENS.search(self.log)
            if found:
                self.port = int(found[3])
                return self
            if self.process.poll() is not None:
                raise AssertionError(f"exit {self.process.returncode}: {self.log}")
            pause.wait(0.02)
        raise AssertionError(f"not ready: {self.log}")

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        timeout: float = 60.0,
    ) -> Answer:
        """One request on a connection of its own, by the superuser unless ``headers`` say otherwise."""
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        sent = {"Authorization": basic("elastic", PASSWORD), **(headers or {})}
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body=raw, headers=sent)
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def clean_environ(**more: str) -> dict[str, str]:
    """The environment without what would configure a server."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("INFERD_", "ELASTIC_", "OPENAI_", "AWS_"))
    }
    return {**kept, **more}


def inferd(*arguments: str, timeout: float = 60, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command line, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environ(COLUMNS="100", NO_COLOR="1", **environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def started(folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> Iterator[ServerProcess]:
    server = ServerProcess(folder, *arguments, environ=environ)
    try:
        yield server.ready()
    finally:
        server.kill()


def vector(text: str) -> list[float]:
    return [len(text), 0.5, -0.25, 0.125]


class _Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        match self.path:
            case "/openai/embeddings":
                self._json({"data": [{"embedding": vector(text)} for text in body["input"]]})
            case "/hf":
                self._json([vector(text) for text in body["inputs"]])
            case "/openai/chat":
                self._chat(body)
            case "/slow/chat":
                self.server.began.set()
                self.server.go.wait(30)
                self._chat(body)
            case "/v2/rerank":
                order = sorted(range(len(body["documents"])), key=lambda i: -len(body["documents"][i]))
                self._json(
                    {"results": [{"index": i, "relevance_score": 1 / (n + 2)} for n, i in enumerate(order)]}
                )
            case _:
                self._json({"error": {"message": "no such model", "type": "not_found"}}, 404)

    def _chat(self, body: dict[str, Any]) -> None:
        text = str(body["messages"][-1]["content"]).upper()
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            self._json({"id": "id", "model": "m", "object": "chat.completion", "choices": [choice]})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in text.split():
            delta = {"index": 0, "delta": {"content": word}}
            chunk = {"id": "id", "model": "m", "object": "chat.completion.chunk", "choices": [delta]}
            self._chunk(f"data: {json.dumps(chunk)}\n\n")
        self._chunk("data: [DONE]\n\n")
        self._chunk("")

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def _json(self, value: Any, status: int = 200) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class _Server(ThreadingHTTPServer):
    """``asked``: path, headers, body. ``/slow/chat`` sets ``began`` and answers once ``go`` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Provider)
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.began, self.go = threading.Event(), threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is nothing to tell of."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def provider() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.go.set()
        server.shutdown()
        thread.join()
        server.server_close()
