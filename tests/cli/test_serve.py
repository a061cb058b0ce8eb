"""``inferd serve`` as a user meets it: a real process, its words, its exit status."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serverprocess import COMMAND, PASSWORD, ServerProcess, basic, clean_environ, inferd, started


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def test_from_start_to_end(tmp_path: Path) -> None:
    """It prints its address, asks for credentials, answers, and SIGTERM ends it with 0 and without a traceback."""
    with started(tmp_path) as server:
        assert server.ask("GET", "/_inference", headers={"Authorization": ""}).status == 401
        assert server.ask("GET", "/_inference").status == 200
        assert (server.stop(), server.log.count("\n")) == (0, 1)
    assert server.log.startswith("inferd ")
    assert PASSWORD not in server.log


def test_a_password_is_made_once(tmp_path: Path) -> None:
    """Without ELASTIC_PASSWORD the first start prints one that works; the second start prints none."""
    command = [*COMMAND, "serve", "--port", "0", "--data-dir", str(tmp_path / "d")]
    logs = []
    for _ in range(2):
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=clean_environ(), text=True) as process:
            assert process.stderr is not None
            lines = [process.stderr.readline()]
            while "listens on" not in lines[-1]:
                lines.append(process.stderr.readline())
            if not logs:
                server = ServerProcess.__new__(ServerProcess)
                server.port = int(lines[-1].rsplit(":", 1)[1])
                password = next(line.split()[1] for line in lines if line.split()[:1] == ["password"])
                asked = server.ask("GET", "/", headers={"Authorization": basic("elastic", password)})
                assert asked.status == 200
            process.terminate()
            assert process.wait(20) == 0
        logs.append("".join(lines))
    assert "shown once" in logs[0]
    assert "password" not in logs[1]


def test_whoever_reads_the_address_may_stop_it(tmp_path: Path) -> None:
    """SIGTERM at the very moment the address is printed is a clean end."""
    script = (
        "import os, signal, sys\n"
        "from inferd.api import app\n"
        "from inferd.config import load\n"
        "app.print = lambda *told, **to: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(app.run(load(None, {'http': {'port': 0}, 'security': {'enabled': False}})))\n"
    )
    environ = {**clean_environ(), "INFERD_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_ctrl_c(tmp_path: Path) -> None:
    """SIGINT is a clean end too."""
    with started(tmp_path, "--no-security") as server:
        assert "SECURITY IS OFF" in server.log
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.log


def test_settings_from_everywhere(tmp_path: Path) -> None:
    """File, environment and command line, the later over the earlier; lines of the log as JSON."""
    file = tmp_path / "inferd.toml"
    file.write_text('[api]\nversion = "9.1.2"\ncluster_name = "from-file"\n[log]\nformat = "json"\n')
    environ = {"INFERD_API__CLUSTER_NAME": "from-environment", "INFERD_URL": "http://not.for.servers"}
    with started(tmp_path, "--config", str(file), "--no-security", environ=environ) as server:
        root = server.ask("GET", "/").json
        warned = json.loads(server.log.splitlines()[0])
    assert (root["version"]["number"], root["cluster_name"]) == ("9.1.2", "from-environment")
    assert (warned["log.level"], warned["message"][:15]) == ("warning", "SECURITY IS OFF")


def test_the_port_is_taken(tmp_path: Path) -> None:
    """One line that says so and what to do, status 1."""
    with taken_port() as port:
        done = inferd("serve", "--no-security", "--port", str(port), "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"inferd: 127.0.0.1:{port}: the address is in use; stop what listens there, or choose another --port"
    )


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["--config", "nope.toml"], {}, "configuration file nope.toml: No such file or directory"),
        (
            [],
            {"INFERD_HTTP__PROT": "1"},
            "INFERD_HTTP__PROT: unknown setting [http.prot]; did you mean [http.port]?",
        ),
        ([], {"INFERD_NONSENSE": "1"}, "INFERD_NONSENSE: unknown setting [nonsense]"),
        (["--port", "99999"], {}, "setting [http.port]: Expected `int` <= 65535"),
        (
            [],
            {"INFERD_HTTP__DRAIN": "soon"},
            "INFERD_HTTP__DRAIN: setting [http.drain]: Expected `float`, got `str`",
        ),
        (
            [],
            {"INFERD_LOG__LEVEL": "loud"},
            "INFERD_LOG__LEVEL: setting [log.level]: one of [debug, info, warning, error]",
        ),
        (
            [],
            {"INFERD_SERVICES__OPENIA__BASE_URL": "http://127.0.0.1"},
            "setting [services.openia]: there is no such service; did you mean [openai]?",
        ),
        (
            [],
            {"INFERD_SERVICES__OPENAI__BASE_URL": "127.0.0.1:8000"},
            "setting [services.openai.base_url] is no http:// or https:// address",
        ),
        (
            [],
            {"INFERD_TLS__CERT": "/nope.pem"},
            "setting [tls.cert]: [/nope.pem] is no file that this user may read",
        ),
        (
            [],
            {"INFERD_SECRET_KEY": "short"},
            "INFERD_SECRET_KEY is too short: [5] bytes, at least [16] are needed",
        ),
        (
            [],
            {"INFERD_STORE__URL": "bogus://x"},
            "store.url names [bogus]; the store is kept in [sqlite] or [postgresql]",
        ),
        (["--host", "nosuchhost.invalid"], {}, "nosuchhost.invalid:0: Name or service not known"),
    ],
)
def test_what_cannot_be(tmp_path: Path, arguments: list[str], environ: dict[str, str], said: str) -> None:
    """A setting that cannot be used is one plain line and status 1, before anything is served."""
    port = [] if "--port" in arguments else ["--port", "0"]
    done = inferd("serve", "--data-dir", str(tmp_path), *port, *arguments, **environ)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"inferd: {said}")
    assert "Traceback" not in done.stderr


def test_an_open_network_without_security(tmp_path: Path) -> None:
    """It is refused with the reason and the three ways out."""
    done = inferd("serve", "--no-security", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "anyone could use your models" in done.stderr
    assert "--allow-open-network" in done.stderr


def test_data_directories_that_cannot_be_used(tmp_path: Path) -> None:
    """A file, a place where nobody may write, a damaged store: each is told by name."""
    file = tmp_path / "file"
    file.touch()
    done = inferd("serve", "--port", "0", "--data-dir", str(file))
    assert (done.returncode, done.stderr) == (1, f"inferd: data directory {file}: that is a file\n")
    done = inferd("serve", "--port", "0", "--data-dir", "/proc/inferd")
    assert (done.returncode, done.stderr.startswith("inferd: data directory /proc/inferd: ")) == (1, True)
    store = tmp_path / "d" / "inferd.db"
    store.parent.mkdir()
    store.write_text("garbage")
    done = inferd("serve", "--port", "0", "--data-dir", str(store.parent))
    assert done.returncode == 1
    assert "the store is damaged" in done.stderr.splitlines()[-1]


def test_a_data_directory_that_cannot_be(tmp_path: Path) -> None:
    """One line with the path, for root too."""
    (tmp_path / "file").write_text("")
    done = inferd("serve", "--port", "0", "--data-dir", str(tmp_path / "file" / "data"))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_data_directory(tmp_path: Path) -> None:
    """One line with the directory."""
    tmp_path.chmod(0o500)
    done = inferd("serve", "--port", "0", "--data-dir", str(tmp_path))
    assert (done.returncode, done.stderr) == (
        1,
        f"inferd: data directory {tmp_path}: this user may not write there\n",
    )


@pytest.mark.parametrize(
    "arguments", [["serve", "--port", "x"], ["serve", "--prot", "1"], ["nope"], ["serve", "extra"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Status 2 and a hint at the help."""
    done = inferd(*arguments)
    assert done.returncode == 2
    assert "inferd" in done.stderr
    assert "-h" in done.stderr


@pytest.mark.parametrize(
    "command", ["serve", "demo", "endpoints list", "endpoints show", "endpoints delete", "version"]
)
def test_help_has_examples(command: str) -> None:
    """Each command's help shows how it is called."""
    done = inferd(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"inferd {command}" in done.stdout.split("Example", 1)[1]


def test_no_command_is_the_help() -> None:
    """Every command is listed, on a first call without any."""
    done = inferd()
    assert done.returncode == 2
    for command in ("serve", "demo", "models", "endpoints", "version", "reset-password"):
        assert command in done.stdout + done.stderr
