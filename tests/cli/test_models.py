"""``inferd models``, as a person runs it."""

import importlib.util
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inferd.cli import main
from inferd.local import shelf
from inferd.local.catalogue import MODELS

E5 = "intfloat/multilingual-e5-small"
Run = Callable[..., tuple[int, str, str]]


def load_fake_hub() -> Any:
    path = Path(__file__).parent.parent / "local" / "fake_hub.py"
    spec = importlib.util.spec_from_file_location("fake_hub", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake_hub = load_fake_hub()


@pytest.fixture
def hub() -> Iterator[Any]:
    with fake_hub.running_hub() as hub:
        hub.repositories[E5] = fake_hub.tiny_files()
        yield hub


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command with these arguments: exit code, standard output, standard error."""
    for name in [x for x in os.environ if x.startswith(("INFERD_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("INFERD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inferd", "models", *arguments])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_every_model_is_listed_with_its_state(run: Run) -> None:
    """The table names every model, the bundled ones as bundled and the rest as absent; no id is folded."""
    code, out, _ = run("list")
    assert code == 0
    for model in MODELS:
        line = next(x for x in out.splitlines() if x.split()[:1] == [model.id])
        assert ("bundled" if model.bundled else "absent") in line
        assert model.licence in line


def test_elastics_names_say_who_answers(run: Run) -> None:
    """Stand-ins are called stand-ins; true models are not."""
    _, out, _ = run("list")
    assert "  .elser_model_2 is answered by .minilm-sparse, a stand-in\n" in out
    assert "  .rerank-v1 is answered by .minilm-late-interaction, a stand-in\n" in out
    assert f"  .multilingual-e5-small is {E5}\n" in out


def test_an_alias_of_the_users_is_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """models.aliases moves a name to another stand-in."""
    splade = "prithivida/Splade_PP_en_v1"
    monkeypatch.setenv("INFERD_MODELS__ALIASES", json.dumps({".elser_model_2": splade}))
    rows = {row["id"]: row for row in json.loads(run("list", "--json")[1])}
    assert rows[splade]["stands_in_for"] == [".elser_model_2", ".elser_model_2_linux-x86_64"]
    assert ".elser_model_2" not in rows[".minilm-sparse"]["stands_in_for"]


def test_the_list_as_json_holds_every_fact(run: Run) -> None:
    """A program reads the same facts as a person."""
    rows = json.loads(run("list", "--json")[1])
    assert [row["id"] for row in rows] == [model.id for model in MODELS]
    assert rows[3] == {
        "id": E5,
        "task_type": "text_embedding",
        "recipe": "dense",
        "dimensions": 384,
        "max_tokens": 512,
        "parameters_millions": 118,
        "languages": ["multilingual"],
        "licence": "MIT",
        "repository": E5,
        "state": "absent",
        "size": None,
        "commit": None,
        "serves": [".multilingual-e5-small", ".multilingual-e5-small_linux-x86_64"],
        "stands_in_for": [],
    }


def test_pull_verify_bundle_import(run: Run, hub: Any, tmp_path: Path) -> None:
    """The way of a model: from the hub, checked, into a file, onto another machine."""
    code, out, err = run("pull", E5, "--mirror", hub.url)
    assert code == 0
    assert re.fullmatch(rf"{E5} is in {tmp_path}/data/models/\S+\n", out)
    assert f"{E5}: model.safetensors (" in err
    row = next(x for x in json.loads(run("list", "--json")[1]) if x["id"] == E5)
    assert (row["state"], row["commit"]) == ("present", fake_hub.COMMIT)
    assert row["size"] > 1000
    code, out, _ = run("verify")
    packaged = (".all-minilm-l6-v2", ".minilm-late-interaction", ".minilm-sparse")
    assert (code, sorted(out.splitlines())) == (0, sorted(f"{id}: ok" for id in (*packaged, E5)))
    code, out, _ = run("bundle", E5, "-o", str(tmp_path / "e5.bundle"))
    assert code == 0
    assert out.startswith(f"{tmp_path}/e5.bundle holds {E5} (")
    there = str(tmp_path / "there")
    assert run("import", str(tmp_path / "e5.bundle"), "--models-dir", there)[:2] == (0, f"{E5} is here\n")
    assert run("verify", E5, "--models-dir", there)[:2] == (0, f"{E5}: ok\n")


def test_everything_answers_in_json(run: Run, hub: Any, tmp_path: Path) -> None:
    """--json gives one JSON value on standard output, whatever the command."""
    place = json.loads(run("pull", E5, ".minilm-sparse", "--mirror", hub.url, "--json")[1])
    assert set(place) == {E5, ".minilm-sparse"}
    assert place[".minilm-sparse"] == "bundled"
    assert json.loads(run("verify", E5, ".minilm-sparse", "--json")[1]) == {E5: [], ".minilm-sparse": []}
    bundle = json.loads(run("bundle", E5, "-o", str(tmp_path / "x"), "--json")[1])
    assert bundle == {"file": str(tmp_path / "x"), "size": (tmp_path / "x").stat().st_size, "models": [E5]}
    assert json.loads(run("import", str(tmp_path / "x"), "--json")[1]) == {"models": [E5]}


def test_a_changed_package_is_told(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The bundled models are compared with the sums that were packaged with them."""
    copy = tmp_path / "package"
    copy.mkdir()
    for file in shelf.BUNDLED.iterdir():
        (copy / file.name).symlink_to(file)
    changed = bytearray((copy / "vocabulary.npz").read_bytes())
    changed[100] ^= 1
    (copy / "vocabulary.npz").unlink()
    (copy / "vocabulary.npz").write_bytes(changed)
    (copy / "tokenizer.json").unlink()
    monkeypatch.setattr(shelf, "BUNDLED", copy)
    code, out, _ = run("verify", ".minilm-sparse")
    assert code == 1
    assert "[vocabulary.npz] is not what was checked" in out
    assert "[tokenizer.json] is missing" in out


def test_elastics_name_pulls_the_true_model(run: Run, hub: Any) -> None:
    """.multilingual-e5-small is a way to say intfloat/multilingual-e5-small; a stand-in needs no pull."""
    assert run("pull", ".multilingual-e5-small", "--mirror", hub.url)[1].startswith(f"{E5} is in ")
    assert run("pull", ".elser_model_2")[1] == ".minilm-sparse comes with inferd\n"


def test_settings_come_from_file_and_environment(
    run: Run, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mirror and place may be set once; options on the command line count above them."""
    (tmp_path / "inferd.toml").write_text(f'[models]\nmirror = "{hub.url}"\n')
    monkeypatch.setenv("INFERD_MODELS_DIR", str(tmp_path / "mine"))
    assert f" is in {tmp_path}/mine/" in run("pull", E5, "--config", str(tmp_path / "inferd.toml"))[1]
    assert run("verify", E5, "--models-dir", str(tmp_path / "empty"))[:2] == (1, f"{E5}: it is not here\n")


def test_a_damaged_model_fails_the_check(run: Run, hub: Any, tmp_path: Path) -> None:
    """verify ends with 1 and names the file; list calls the model damaged when a file is missing."""
    run("pull", E5, "--mirror", hub.url)
    (config,) = (tmp_path / "data" / "models").rglob("config.json")
    config.unlink()
    code, out, _ = run("verify", E5)
    assert (code, out) == (1, f"{E5}: [config.json] is missing\n")
    assert run("verify", "--json")[0] == 1
    rows = json.loads(run("list", "--json")[1])
    assert next(x for x in rows if x["id"] == E5)["state"] == "damaged"


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["pull", E5, "--offline"], 1, "inferd models import FILE"),
        (["pull", E5, "--mirror", "http://127.0.0.1:9"], 1, "cannot be reached"),
        (["pull", E5, "--mirror", "nonsense"], 1, "is not an address"),
        (["pull", E5, "--models-dir", "/dev/null/x"], 1, "cannot be written"),
        (["pull", "multilingual-e5-smal"], 2, E5),
        (["pull", "\0"], 2, "There is no model"),
        (["pull"], 2, "Missing argument"),
        (["verify", "nothing"], 2, "There is no model"),
        (["verify", E5], 1, ""),
        (["bundle", E5, "-o", "x"], 1, "is not on this machine"),
        (["bundle", E5], 2, "Missing option"),
        (["bundle", ".minilm-sparse", "-o", "x"], 1, "comes with inferd"),
        (["import", "/nowhere/x"], 1, "There is no file [/nowhere/x]"),
        (["import", "/dev/null"], 1, "is not a bundle"),
        (["list", "--config", "/nowhere.toml"], 1, "/nowhere.toml"),
        (["dance"], 2, "No such command"),
    ],
)
def test_errors_are_plain(run: Run, arguments: list[str], code: int, reason: str) -> None:
    """One sentence on standard error, never a traceback; 1 when it failed, 2 when it was asked wrongly."""
    ended, _, err = run(*arguments)
    assert ended == code
    assert reason in err.replace("│", "").replace("\n", " ").replace("  ", " ")
    assert "Traceback" not in err
    if code == 1 and reason:
        assert err.startswith("inferd: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["list", "pull", "verify", "bundle", "import"])
def test_help_has_an_example(run: Run, command: str) -> None:
    """--help of every command shows a line to copy."""
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"inferd models {command}" in out.split("Example", 1)[1]


def test_a_terminal_sees_bars(hub: Any, tmp_path: Path) -> None:
    """On a terminal a download is a bar that reaches its end."""
    reader, writer = pty.openpty()
    code = "import sys; from inferd.cli import main; sys.argv[0] = 'inferd'; main()"
    command = [sys.executable, "-c", code, "models", "pull", E5, "--mirror", hub.url]
    environment = {**os.environ, "INFERD_DATA_DIR": str(tmp_path), "COLUMNS": "120", "TERM": "xterm"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, env=environment)
    os.close(writer)
    shown = b""
    try:
        while block := os.read(reader, 65536):
            shown += block
    except OSError:
        pass  # Linux says so when the other side of a terminal is closed
    out, _ = child.communicate(timeout=60)
    os.close(reader)
    assert child.returncode == 0
    assert "download model.safetensors" in shown.decode()
    assert out.decode().startswith(f"{E5} is in ")


def test_listing_is_quick() -> None:
    """list loads neither the hub client, nor an engine, nor onnx."""
    code = (
        "import sys; from inferd.cli.models import describe; from inferd.config import load\n"
        "describe(load(environ={}))\n"
        "print({'huggingface_hub', 'onnx', 'openvino', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
