"""Streams through nginx as it comes (Debian: ``apt-get install nginx-light``), with a configuration that says nothing about streams."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from serverprocess import ServerProcess, started

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PAUSE = 1.0
"""Seconds between two chunks of the provider: a proxy that keeps something back shows."""

CONFIGURATION = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  gzip on;
  proxy_read_timeout 2s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass {url}; }}
  }}
}}
"""


class Provider(ThreadingHTTPServer):
    """Streams three chunks, or for ever where the user says so; ``left`` is set when its reader has gone."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.left = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.left.set()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        if not body["stream"]:
            choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
            raw = json.dumps({"id": "i", "model": "m", "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if text == "slow":
            time.sleep(3)
        for n in range(10_000 if text == "endless" else 3):
            choice = {"index": 0, "delta": {"content": str(n)}}
            self._chunk(f"data: {json.dumps({'id': 'i', 'model': 'm', 'choices': [choice]})}\n\n")
            time.sleep(0.05 if text == "endless" else PAUSE)
        self._chunk("data: [DONE]\n\n")
        self._chunk("")

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def proxied(folder: Path, url: str) -> Iterator[int]:
    assert NGINX is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, url=url))
    command = [NGINX, "-p", str(folder), "-c", str(file), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not listens(port):
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    server = Provider()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[ServerProcess]:
    environ = {"INFERD_API__STREAM_HEARTBEAT": "0.5"}
    with started(tmp_path_factory.mktemp("server"), "--no-security", environ=environ) as server:
        url = f"http://127.0.0.1:{provider.server_address[1]}/"
        settings = {"url": url, "model_id": "m", "api_key": "k"}
        body = {"service": "openai", "service_settings": settings}
        for task, id in (("chat_completion", "chat"), ("completion", "complete")):
            answer = server.ask("PUT", f"/_inference/{task}/{id}", body)
            assert answer.status == 200, answer.body
        yield server


@pytest.fixture(scope="module")
def port(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    assert NGINX, "nginx is missing: integration/run installs it"
    with proxied(tmp_path_factory.mktemp("nginx"), server.url) as port:
        yield port


def routes(text: str) -> list[tuple[str, dict[str, Any]]]:
    messages = [{"role": "user", "content": text}]
    return [
        ("/_inference/chat_completion/chat/_stream", {"messages": messages}),
        ("/_inference/completion/complete/_stream", {"input": text}),
        ("/v1/chat/completions", {"model": "chat", "messages": messages, "stream": True}),
        ("/v2/chat", {"model": "chat", "messages": messages, "stream": True}),
    ]


@contextmanager
def asked(port: int, path: str, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


@pytest.mark.parametrize(("path", "body"), routes("hi"))
def test_events_come_as_they_are_made(port: int, path: str, body: dict[str, Any]) -> None:
    """Nothing is held back, nothing is compressed: each chunk is here before the provider makes the next."""
    with asked(port, path, body) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Content-Encoding"] is None
        came = []
        while piece := response.read1(65536):
            if b"data: " in piece and b"[DONE]" not in piece:
                came.append(time.monotonic())
    gaps = [later - earlier for earlier, later in pairwise(came)]
    assert len([gap for gap in gaps if gap > PAUSE / 2]) == 2 + (path == "/v2/chat"), gaps


@pytest.mark.parametrize(("path", "body"), routes("slow"))
def test_heartbeats_keep_the_proxy_waiting(port: int, path: str, body: dict[str, Any]) -> None:
    """The first token takes longer than nginx waits for a silent server."""
    with asked(port, path, body) as response:
        assert response.status == 200
        assert response.read1(65536).startswith(b":\n\n")
        assert b'"2"' in response.read()


@pytest.mark.parametrize(("path", "body"), routes("endless"))
def test_a_reader_who_leaves(port: int, provider: Provider, path: str, body: dict[str, Any]) -> None:
    """Leaving nginx ends the provider's call, which would last for minutes."""
    provider.left.clear()
    with asked(port, path, body) as response:
        assert response.read1(65536)
    assert provider.left.wait(20)
