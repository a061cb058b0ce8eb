"""A model hub on the loopback: what the hub client asks for, and the ways in which a hub misbehaves."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from safetensors.numpy import save

COMMIT = "c0ffee" + "0" * 34
RECORDS = json.loads((Path(__file__).parent / "graphs.json").read_text())


def tiny_files(model_type: str = "bert", head: str = "states") -> dict[str, bytes]:
    """The files of a model of random weights: a few kilobytes."""
    record = next(x for x in RECORDS if x["config"]["model_type"] == model_type and x["head"] == head)
    tensors = {
        name: np.random.RandomState(crc32(name.encode())).standard_normal(shape).astype(np.float32)
        for name, shape in record["tensors"].items()
    }
    return {
        "config.json": json.dumps(record["config"]).encode(),
        "tokenizer.json": json.dumps(
            {"version": "1.0", "model": {"type": "WordLevel", "vocab": {}}}
        ).encode(),
        "model.safetensors": save(tensors, {"format": "pt"}),
    }


class Hub:
    """Repositories by name, each a mapping of path to bytes. ``misbehave`` may take an answer over: it gets the
    handler and the request's path and says whether it did."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.misbehave: Callable[[Any, str], bool] = lambda handler, path: False
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.url = ""

    def gets(self, path: str) -> list[dict[str, str]]:
        """Headers of the downloads of a file, in order."""
        return [
            headers for method, asked, headers in self.requests if method == "GET" and asked.endswith(path)
        ]


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".onnx"))


def etag(path: str, content: bytes) -> str:
    if is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub: Hub = self.server.hub
        hub.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if hub.misbehave(self, self.path):
            pass
        elif self.path.startswith("/cdn/"):
            self.send_content(self.server.contents[self.path])
        else:
            self.resolve(hub, *self.path[1:].split("/", 4))

    def resolve(self, hub: Hub, owner: str, name: str, _resolve: str, revision: str, path: str) -> None:
        files = hub.repositories.get(f"{owner}/{name}")
        if files is None:
            self.refuse(401, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        elif path not in files:
            self.refuse(404, "EntryNotFound")
        else:
            self.send_file(path, files[path])

    def send_file(self, path: str, content: bytes) -> None:
        about = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(path, content)}"'}
        if not is_large(path):
            self.send_content(content, about)
            return
        place = f"/cdn/{etag(path, content)}/{path}"
        self.server.contents[place] = content
        about |= {"X-Linked-ETag": f'"{etag(path, content)}"', "X-Linked-Size": str(len(content))}
        port = self.server.server_address[1]
        self.reply(302, {**about, "Location": f"http://localhost:{port}{place}"})

    def send_content(self, content: bytes, about: dict[str, str] | None = None) -> None:
        start = 0
        if given := self.headers.get("Range"):
            start = int(given.removeprefix("bytes=").removesuffix("-"))
        status, more = (
            (200, {}) if not given else (206, {"Content-Range": f"bytes {start}-{len(content) - 1}/*"})
        )
        self.reply(status, {**(about or {}), **more}, content[start:])

    def refuse(self, status: int, code: str) -> None:
        self.reply(status, {"X-Error-Code": code, "X-Repo-Commit": COMMIT})

    def reply(
        self, status: int, headers: dict[str, str], body: bytes = b"", length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def cut(self, body: bytes, length: int) -> None:
        """Promise ``length`` bytes and leave after ``body``."""
        self.reply(200, {}, body, length)
        self.close_connection = True

    def trickle(self, content: bytes, pause: float) -> None:
        """One byte at a time."""
        self.reply(200, {}, b"", len(content))
        try:
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(pause)
        except OSError:
            self.close_connection = True  # the client left


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hub = Hub()
        self.contents: dict[str, bytes] = {}


@contextmanager
def running_hub() -> Iterator[Hub]:
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub = server.hub
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
