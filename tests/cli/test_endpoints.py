"""``inferd endpoints`` against a running server."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serverprocess import PASSWORD, ServerProcess, inferd, started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("server")
    with started(folder, environ={"INFERD_API__SKIP_VALIDATE": "true"}) as running:
        yield running


def put(server: ServerProcess, id: str) -> None:
    body = {"service": "openai", "service_settings": {"api_key": "planted-key", "model_id": "gpt-x"}}
    assert server.ask("PUT", f"/_inference/completion/{id}", body).status == 200


def at(server: ServerProcess) -> list[str]:
    return ["--url", server.url, "--user", f"elastic:{PASSWORD}"]


def test_list(server: ServerProcess) -> None:
    """A table for people, the API's objects for programs; no key in either."""
    put(server, "mine")
    shown, told = inferd("endpoints", "list", *at(server)), inferd("endpoints", "list", "--json", *at(server))
    row = next(line.split() for line in shown.stdout.splitlines() if line.strip().startswith("mine"))
    assert row == ["mine", "completion", "openai", "gpt-x"]
    ids = [endpoint["inference_id"] for endpoint in json.loads(told.stdout)]
    assert (ids, ids == sorted(ids)) == ([*ids], True)
    assert "mine" in ids
    assert ".elser-2-elasticsearch" in ids
    assert "planted-key" not in shown.stdout + told.stdout


def test_a_list_for_a_pipe_is_whole(server: ServerProcess) -> None:
    """No id is cut to the width of a terminal that is not there; what looks like markup stays."""
    body = {"service": "openai", "service_settings": {"api_key": "k", "model_id": "[red]" + "m" * 60}}
    assert server.ask("PUT", f"/_inference/completion/{'i' * 60}", body).status == 200
    shown = inferd("endpoints", "list", *at(server)).stdout.splitlines()
    assert ["i" * 60, "completion", "openai", "[red]" + "m" * 60] in [line.split() for line in shown]


def test_show_and_delete(server: ServerProcess) -> None:
    """One endpoint as JSON; it is deleted once, then not found."""
    put(server, "gone")
    shown = inferd("endpoints", "show", "gone", *at(server))
    assert json.loads(shown.stdout)["service_settings"]["model_id"] == "gpt-x"
    assert inferd("endpoints", "delete", "gone", *at(server)).stdout == "deleted [gone]\n"
    again = inferd("endpoints", "delete", "gone", *at(server))
    assert (again.returncode, again.stderr) == (1, "inferd: Inference endpoint not found [gone]\n")


def test_default_endpoints_need_force(server: ServerProcess) -> None:
    """The server's reason without it; with it the answer, as JSON when asked for."""
    refused = inferd("endpoints", "delete", ".elser-2-elasticsearch", *at(server))
    assert refused.returncode == 1
    assert "force" in refused.stderr
    done = inferd("endpoints", "delete", ".elser-2-elasticsearch", "--force", "--json", *at(server))
    assert json.loads(done.stdout)["acknowledged"] is True


def test_credentials(server: ServerProcess) -> None:
    """From the options or the environment; without any, the hint at the options; a wrong one is told."""
    none = inferd("endpoints", "list", "--url", server.url)
    assert (none.returncode, none.stderr.rstrip().endswith("name yourself with --user or --api-key")) == (
        1,
        True,
    )
    key = server.ask("POST", "/_security/api_key", {"name": "k"}).json["encoded"]
    for environ in (
        {"INFERD_USER": f"elastic:{PASSWORD}"},
        {"INFERD_USER": "elastic", "ELASTIC_PASSWORD": PASSWORD},
        {"INFERD_API_KEY": key},
    ):
        done = inferd("endpoints", "list", INFERD_URL=server.url, **environ)
        assert (done.returncode, done.stderr) == (0, "")
    wrong = inferd("endpoints", "list", "--url", server.url, "--user", "elastic:no")
    assert wrong.returncode == 1
    assert "unable to authenticate" in wrong.stderr


def test_nobody_there() -> None:
    """A plain line for a closed port, a wrong address, and a peer that is something else."""
    done = inferd("endpoints", "list", "--url", "http://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (
        1,
        "inferd: no inferd at http://127.0.0.1:1: nobody listens there; is `inferd serve` running?\n",
    )
    for url in ("nonsense", "ftp://x", "http://x:99999", "http://"):
        done = inferd("endpoints", "list", "--url", url)
        assert (done.returncode, done.stderr) == (1, f"inferd: [{url}] is not an http or https address\n")
    done = inferd("endpoints", "list", "--url", "https://127.0.0.1:1", "--ca-certs", "/nope")
    assert (done.returncode, done.stderr) == (1, "inferd: --ca-certs /nope: No such file or directory\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-x\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "is no inferd"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nhi", "the server answered 500"),
    ],
)
def test_somebody_else_there(answer: bytes, said: str) -> None:
    """What is not an inferd is told, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reply() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        done = inferd("endpoints", "list", "--url", f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
