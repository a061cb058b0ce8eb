"""Clients that do not behave, byte by byte, against a real server."""

import json
import socket
import threading
import time
from typing import Any

import pytest

from serverprocess import PASSWORD, ServerProcess, basic

HEAD = f"Host: x\r\nAuthorization: {basic('elastic', PASSWORD)}\r\nContent-Type: application/json\r\n"


def opened(server: ServerProcess, seconds: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=seconds)


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def healthy(server: ServerProcess) -> None:
    answer = server.ask("POST", "/_inference/local", {"input": "still here"})
    assert (answer.status, server.process.poll()) == (200, None)


def post(path: str, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\n{HEAD}Content-Length: {size}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    "body",
    [
        b'{"input":"a"',
        b'{"input',
        b'{"input":["a",',
        b'{"input":"\\u00',
        b'{"input":"a"}}',
        b"\xef\xbb\xbf",
        b'{"input":"\xff"}',
    ],
)
def test_truncated_json(server: ServerProcess, body: bytes) -> None:
    """A parse error with its position."""
    answer = server.ask("POST", "/_inference/text_embedding/local", body)
    assert (answer.status, answer.json["error"]["reason"][0]) == (400, "[")


def test_bodies_that_end_too_early(server: ServerProcess) -> None:
    """A client that announces more than it sends and leaves costs nothing and is not answered."""
    for _ in range(50):
        with opened(server) as connection:
            connection.sendall(post("/_inference/local", b'{"input":', length=1000))
    healthy(server)


def test_a_chunked_body(server: ServerProcess) -> None:
    """Without a length it is read to its end; a broken chunk is a 400 and the end of the connection."""
    start = f"POST /_inference/local HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    with opened(server) as connection:
        connection.sendall(start + b'8\r\n{"input"\r\n5\r\n:"a"}\r\n0\r\n\r\n')
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    with opened(server) as connection:
        connection.sendall(start + b"zz\r\nnonsense\r\n")
        assert b"400 Bad Request" in until_closed(connection)
    healthy(server)


def test_two_lengths_are_no_request(server: ServerProcess) -> None:
    """What could be read in two ways is refused: lengths that differ, a length beside chunks."""
    for lines in (
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ):
        with opened(server) as connection:
            connection.sendall(
                f"POST /_inference/local HTTP/1.1\r\n{HEAD}{lines}\r\n".encode() + b"0\r\n\r\n"
            )
            connection.shutdown(socket.SHUT_WR)
            assert until_closed(connection).startswith(b"HTTP/1.1 400")
    healthy(server)


def test_a_flood_of_headers(server: ServerProcess) -> None:
    """More than 64 KiB of headers are a 400, many small ones or a large one, finished or not."""
    many = "".join(f"X-{n}: {'y' * 50}\r\n" for n in range(3000))
    large = f"X-Large: {'y' * 200_000}\r\n"
    for flood in (many, large):
        for end in ("\r\n", ""):
            with opened(server) as connection:
                try:
                    connection.sendall(f"GET / HTTP/1.1\r\n{HEAD}{flood}{end}".encode())
                    told = until_closed(connection)
                except ConnectionError:  # it was refused while we were still sending
                    continue
                assert told.startswith(b"HTTP/1.1 400")
                assert b"larger than the limit" in told
    healthy(server)


def test_pipelined_garbage(server: ServerProcess) -> None:
    """Good requests before it are answered; the garbage is a 400 and the end."""
    good = f"GET /_inference/local HTTP/1.1\r\n{HEAD}\r\n".encode()
    with opened(server) as connection:
        connection.sendall(good + good + b"\x00\x01garbage\r\n\r\n")
        told = until_closed(connection)
    assert told.count(b"HTTP/1.1 200 OK") <= 2
    assert b"HTTP/1.1 400" in told
    healthy(server)


def test_pipelined_requests(server: ServerProcess) -> None:
    """Many requests in one write are answered in their order."""
    asked = [f"/_inference/p{n}" for n in range(100)]
    wire = "".join(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n" for path in asked[:-1])
    wire += f"GET {asked[-1]} HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n"
    with opened(server) as connection:
        connection.sendall(wire.encode())
        told = until_closed(connection).decode()
    found = [line.split("[p")[1].split("]")[0] for line in told.splitlines() if "not found [p" in line]
    assert found == [str(n) for n in range(100)]


def test_slow_bodies_are_answered_408(tmp_path: Any) -> None:
    """``http.body_timeout`` bounds the wait for the next piece of a body; others are served meanwhile."""
    from serverprocess import started

    with (
        started(tmp_path, "--no-security", environ={"INFERD_HTTP__BODY_TIMEOUT": "0.5"}) as server,
        opened(server) as connection,
    ):
        connection.sendall(post("/_inference/completion/x", b'{"input"', length=100))
        assert server.ask("GET", "/_inference").status == 200
        told = until_closed(connection)
    assert told.startswith(b"HTTP/1.1 408")


def test_a_client_that_leaves_its_provider_call(server: ServerProcess, provider: Any) -> None:
    """The work is cancelled: the next call of the same endpoint is not behind it."""
    config = {
        "service": "openai",
        "service_settings": {"api_key": "k", "model_id": "m", "url": f"{provider.url}/slow/chat"},
    }
    provider.began.clear()
    provider.go.set()
    assert server.ask("PUT", "/_inference/completion/slow", config).status == 200
    provider.go.clear()
    provider.began.clear()
    with opened(server) as connection:
        connection.sendall(post("/_inference/slow", b'{"input":"a"}'))
        assert provider.began.wait(10)
    deadline = time.monotonic() + 10
    while leased(server) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert leased(server) == 0
    provider.go.set()
    healthy(server)


def leased(server: ServerProcess) -> int:
    ((node),) = server.ask("GET", "/_inference/.diagnostics").json.values()
    return int(node["external"]["connection_pool_stats"]["leased_connections"])


def test_clients_that_leave_local_work(server: ServerProcess) -> None:
    """What nobody waits for is not computed: a hundred who left cost no one else their answer."""
    body = json.dumps({"input": ["one two three"] * 2000}).encode()
    for _ in range(20):
        with opened(server) as connection:
            connection.sendall(post("/_inference/local", body))
            time.sleep(0.01)
    start = time.monotonic()
    answer = server.ask("POST", "/_inference/local?timeout=20s", {"input": "me"})
    assert answer.status == 200
    assert time.monotonic() - start < 10


def test_readers_who_leave_a_stream(server: ServerProcess) -> None:
    """Streams that are left in the middle leave no connection to the provider behind."""
    body = json.dumps({"input": "word " * 2000}).encode()
    for _ in range(10):
        with opened(server) as connection:
            connection.sendall(post("/_inference/completion/comp/_stream", body))
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + 10
    while leased(server) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert leased(server) == 0


def test_idle_connections(server: ServerProcess) -> None:
    """They cost next to nothing, and others are served."""
    before = server.rss
    idle = [opened(server) for _ in range(500)]
    try:
        healthy(server)
        assert server.rss - before < 60 << 20
    finally:
        for connection in idle:
            connection.close()


def test_many_at_once(server: ServerProcess) -> None:
    """Sixty-four clients at once: everyone is answered, and rightly."""
    answers: dict[int, Any] = {}

    def ask(n: int) -> None:
        answers[n] = server.ask("POST", "/_inference/dense", {"input": "x" * n}).json

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {n: answer["text_embedding"][0]["embedding"][0] for n, answer in answers.items()}
    assert found == {n: float(n) for n in range(64)}
