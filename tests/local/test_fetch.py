"""Fetching models: from a hub on the loopback, with everything that goes wrong on the way."""

import errno
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from fake_hub import COMMIT, Hub, running_hub, tiny_files
from msgspec.structs import replace

from inferd.core.secrets import Secret
from inferd.local import fetch, shelf
from inferd.local.catalogue import MODELS, File, Kind, find
from inferd.local.fetch import Options, ShelfError, Step, locate, pull, verify
from inferd.local.names import named

MODEL = find("BAAI/bge-small-en-v1.5") or pytest.fail("no such row")
SPARSE = find("prithivida/Splade_PP_en_v1") or pytest.fail("no such row")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.repositories[MODEL.repository] = tiny_files()
        yield hub


@pytest.fixture
def options(hub: Hub, tmp_path: Path) -> Options:
    return Options(
        models_dir=tmp_path / "models", mirror=hub.url, timeout=2.0, patience=0.3, pause=0.001, attempts=3
    )


def names(directory: Path | None) -> list[str]:
    assert directory is not None
    return sorted(x.name for x in directory.iterdir())


WHOLE = ["config.json", "model.onnx", "model.safetensors", "tokenizer.json"]


def test_a_pulled_model_can_be_run(hub: Hub, options: Options) -> None:
    """Files, graph and manifest are there, checked, and the graph runs from where it lies."""
    directory = pull(MODEL, options)
    assert names(directory) == WHOLE
    assert locate(MODEL, options.models_dir) == directory
    assert verify(MODEL, options.models_dir) == ()
    assert (directory / "model.safetensors").read_bytes() == hub.repositories[MODEL.repository][
        "model.safetensors"
    ]
    session = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    ones = np.ones((1, 3), np.int64)
    feed = {"input_ids": ones, "attention_mask": ones, "token_type_ids": ones - 1}
    assert session.run(None, feed)[0].shape == (1, 3, 16)
    found = shelf.manifest(MODEL, options.models_dir)
    assert found is not None
    assert (found.commit, found.repository) == (COMMIT, MODEL.repository)
    assert [x.name for x in found.files if x.built] == ["model.onnx"]
    assert not (options.models_dir / ".partial" / shelf.slug(MODEL.id)).exists()


def test_all_files_are_of_one_commit(hub: Hub, options: Options) -> None:
    """What [main] means is asked once; everything is then taken at that commit."""
    pull(MODEL, options)
    asked = [path.split("/")[4] for _, path, _ in hub.requests if "/resolve/" in path]
    assert asked[0] == "main"
    assert set(asked[1:]) == {COMMIT}


def test_what_is_here_is_not_fetched_again(hub: Hub, options: Options) -> None:
    """A second pull asks the hub nothing; a forced one fetches anew and leaves one copy."""
    directory = pull(MODEL, options)
    hub.requests.clear()
    assert pull(MODEL, options) == directory
    assert hub.requests == []
    hub.repositories[MODEL.repository]["tokenizer.json"] = b'{"newer": true}'
    newer = pull(MODEL, replace(options, force=True))
    assert (newer / "tokenizer.json").read_bytes() == b'{"newer": true}'
    assert names(newer.parent) == sorted([newer.name, "manifest.json"])


def test_progress_is_told_to_the_last_byte(hub: Hub, options: Options) -> None:
    """Steps of a file rise to its size; the check and the graph follow."""
    steps: list[Step] = []
    pull(MODEL, options, steps.append)
    size = len(hub.repositories[MODEL.repository]["model.safetensors"])
    weights = [x for x in steps if x.phase == "download" and x.file == "model.safetensors"]
    assert [x.done for x in weights] == sorted(x.done for x in weights)
    assert (weights[-1].done, weights[-1].total, weights[-1].model) == (size, size, MODEL.id)
    assert {x.phase for x in steps} == {"download", "check", "build"}


def test_offline_says_what_to_do(hub: Hub, options: Options) -> None:
    """Offline mode asks nobody; what is here already is still found."""
    offline = replace(options, offline=True)
    with pytest.raises(
        ShelfError, match=rf"inferd models pull {MODEL.id}.*inferd models import.*Offline mode is on"
    ):
        pull(MODEL, offline)
    assert hub.requests == []
    pull(MODEL, options)
    assert pull(MODEL, offline) == locate(MODEL, options.models_dir)


def test_bundled_models_are_not_fetched(options: Options) -> None:
    """Asking for a model that comes with inferd is answered, not ignored."""
    with pytest.raises(ShelfError, match="comes with inferd"):
        pull(MODELS[0], options)


# Copies of the user's own


def test_another_repository_is_taken_when_named(hub: Hub, options: Options) -> None:
    """models.repository names a repository, with a revision if need be; a changed one is fetched anew."""
    pull(MODEL, options)
    hub.repositories["me/copy"] = tiny_files() | {"tokenizer.json": b'{"mine": true}'}
    mine = replace(options, repository={MODEL.id: f"me/copy@{COMMIT}"})
    assert (pull(MODEL, mine) / "tokenizer.json").read_bytes() == b'{"mine": true}'
    hub.requests.clear()
    pull(MODEL, mine)
    assert hub.requests == []


def test_a_directory_is_copied_when_named(hub: Hub, options: Options, tmp_path: Path) -> None:
    """models.repository names a directory: nobody is asked, offline or not."""
    source = tmp_path / "copy"
    source.mkdir()
    for name, content in tiny_files().items():
        (source / name).write_bytes(content)
    mine = replace(options, repository={MODEL.id: str(source)}, offline=True)
    assert names(pull(MODEL, mine)) == WHOLE
    assert hub.requests == []
    (source / "tokenizer.json").unlink()
    with pytest.raises(ShelfError, match=r"has no file \[tokenizer.json\]"):
        pull(MODEL, replace(mine, force=True))


def test_elastics_models_need_a_copy_that_the_user_names(options: Options, tmp_path: Path) -> None:
    """Elastic's weights are fetched from nowhere; with a copy named they are a model like any other."""
    assert named(".elser_model_2", {}) is None
    model = named(".elser_model_2", {".elser_model_2": str(tmp_path / "elser")})
    assert model is not None
    with pytest.raises(ShelfError, match=r"owner's property.*models\.repository\.\"\.elser_model_2\""):
        pull(model, options)
    (tmp_path / "elser").mkdir()
    for name, content in tiny_files("bert", "masked").items():
        (tmp_path / "elser" / name).write_bytes(content)
    assert names(pull(model, replace(options, repository={model.id: str(tmp_path / "elser")}))) == WHOLE


@pytest.mark.parametrize("origin", ["nothing", "a/b/c", "../x y", "a/b@", "a/b@x y", "a/b\0", "http://x/y"])
def test_what_is_no_repository_is_refused(options: Options, origin: str) -> None:
    """A repository that is neither a name nor a directory is named in the error, before anything is asked."""
    with pytest.raises(ShelfError, match=r"is neither a hub repository|has no file"):
        pull(MODEL, replace(options, repository={MODEL.id: origin}))


def test_alternatives_are_tried_in_order(hub: Hub, options: Options) -> None:
    """A repository without safetensors gives its author's own graph, and no other is written."""
    files = tiny_files("bert", "masked")
    del files["model.safetensors"]
    hub.repositories[SPARSE.repository] = files | {"onnx/model.onnx": b"a graph"}
    directory = pull(SPARSE, options)
    assert names(directory) == ["config.json", "model.onnx", "tokenizer.json"]
    assert (directory / "model.onnx").read_bytes() == b"a graph"
    del hub.repositories[SPARSE.repository]["onnx/model.onnx"]
    with pytest.raises(ShelfError, match=r"has no file \[model.safetensors\]"):
        pull(SPARSE, replace(options, force=True))


# Resume


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, options: Options) -> None:
    """A connection that dies in the middle costs the rest of the file, not all of it."""
    content = hub.repositories[MODEL.repository]["model.safetensors"]
    half = len(content) // 2
    cuts = iter([True])

    def die_once(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.startswith("/cdn/") and next(cuts, False):
            handler.cut(content[:half], len(content))
            return True
        return False

    hub.misbehave = die_once
    directory = pull(MODEL, options)
    assert (directory / "model.safetensors").read_bytes() == content
    last = hub.gets("model.safetensors")[-1]
    assert 0 < int(last["range"].removeprefix("bytes=").removesuffix("-")) <= half


def test_a_hub_that_never_ends_a_file_is_given_up_and_gone_on_with_later(hub: Hub, options: Options) -> None:
    """After the last attempt the error says that the same command goes on; it does."""
    content = hub.repositories[MODEL.repository]["model.safetensors"]

    def die(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.startswith("/cdn/"):
            handler.cut(content[:100] if "Range" not in handler.headers else b"", len(content))
            return True
        return False

    hub.misbehave = die
    with pytest.raises(ShelfError, match=r"broke off.*run the same command to go on"):
        pull(MODEL, options)
    assert locate(MODEL, options.models_dir) is None
    hub.misbehave = lambda handler, path: False
    hub.requests.clear()
    pull(MODEL, options)
    assert "range" in hub.gets("model.safetensors")[0]
    assert not hub.gets("tokenizer.json")


def test_a_server_without_ranges_starts_anew(hub: Hub, options: Options) -> None:
    """An answer that is not the rest of the file is taken as the whole of it."""
    content = hub.repositories[MODEL.repository]["model.safetensors"]
    cuts = iter([True])

    def without_ranges(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.startswith("/cdn/"):
            if next(cuts, False):
                handler.cut(content[:500], len(content))
            else:
                handler.reply(200, {}, content)
            return True
        return False

    hub.misbehave = without_ranges
    assert (pull(MODEL, options) / "model.safetensors").read_bytes() == content


@pytest.mark.parametrize("answer", ["refused", "elsewhere", "unsaid"])
def test_a_range_that_is_not_served_starts_anew(hub: Hub, options: Options, answer: str) -> None:
    """416, or another part than the one asked for, throws away what was there instead of failing for ever."""
    content = hub.repositories[MODEL.repository]["model.safetensors"]
    cuts = iter([True])

    def misjudge_ranges(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.startswith("/cdn/"):
            if next(cuts, False):
                handler.cut(content[:500], len(content))
                return True
            if "Range" in handler.headers:
                where = {"Content-Range": f"bytes 7-{len(content) - 1}/*"} if answer == "elsewhere" else {}
                handler.reply(416 if answer == "refused" else 206, where, content[7:])
                return True
        return False

    hub.misbehave = misjudge_ranges
    assert (pull(MODEL, options) / "model.safetensors").read_bytes() == content


def test_a_new_version_does_not_go_on_with_the_old_ones_bytes(hub: Hub, options: Options) -> None:
    """What is left of another version of a file is thrown away."""
    content = hub.repositories[MODEL.repository]["model.safetensors"]

    def die(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.startswith("/cdn/"):
            handler.cut(content[:100] if "Range" not in handler.headers else b"", len(content))
            return True
        return False

    hub.misbehave = die
    with pytest.raises(ShelfError):
        pull(MODEL, options)
    hub.misbehave = lambda handler, path: False
    newer = tiny_files("bert", "classes")
    hub.repositories[MODEL.repository] = newer
    hub.requests.clear()
    assert (pull(MODEL, options) / "model.safetensors").read_bytes() == newer["model.safetensors"]
    assert "range" not in hub.gets("model.safetensors")[0]


def test_killed_at_any_point_no_half_model_looks_whole(hub: Hub, options: Options) -> None:
    """A process killed with SIGKILL while it downloads leaves nothing that is found; the next pull completes it."""
    content = hub.repositories[MODEL.repository]["model.safetensors"]
    reached = threading.Event()

    def hang(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.startswith("/cdn/") and not reached.is_set():
            handler.reply(200, {}, content[:1000], len(content))
            handler.wfile.flush()
            reached.set()
            time.sleep(1)
            return True
        return False

    hub.misbehave = hang
    code = (
        "import sys; from pathlib import Path; from inferd.local.catalogue import find; "
        "from inferd.local.fetch import *; "
        "pull(find(sys.argv[1]), Options(models_dir=Path(sys.argv[2]), mirror=sys.argv[3]))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, MODEL.id, str(options.models_dir), hub.url])
    assert reached.wait(30)
    time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert locate(MODEL, options.models_dir) is None
    assert verify(MODEL, options.models_dir) == ("it is not here",)
    pull(MODEL, options)
    assert verify(MODEL, options.models_dir) == ()


@pytest.mark.parametrize("step", ["_write_graph", "_flushed_digest", "_replace", "rmtree"])
def test_stopped_while_it_is_put_in_place(
    hub: Hub, options: Options, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the installation stops, what is found is the old model, whole, or the new one, whole."""
    old = pull(MODEL, options)
    hub.repositories[MODEL.repository]["tokenizer.json"] = b'{"newer": true}'

    class Killed(BaseException):
        pass

    def stop(*args: Any, **more: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil if step == "rmtree" else shelf, step, stop)
        with pytest.raises(Killed):
            pull(MODEL, replace(options, force=True))
    now = locate(MODEL, options.models_dir)
    assert now is not None
    assert verify(MODEL, options.models_dir) == ()
    assert (now == old) is (step != "rmtree")
    newer = pull(MODEL, replace(options, force=True))
    assert (newer / "tokenizer.json").read_bytes() == b'{"newer": true}'
    assert names(newer.parent) == sorted([newer.name, "manifest.json"])


# Two at once


def _pull_in_child(models_dir: str, url: str, results: Any) -> None:
    results.put(str(pull(MODEL, Options(models_dir=Path(models_dir), mirror=url))))


def test_two_processes_fetch_once(hub: Hub, options: Options) -> None:
    """The second process waits for the first and finds the model."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    children = [
        context.Process(target=_pull_in_child, args=(str(options.models_dir), hub.url, results))
        for _ in range(2)
    ]
    for child in children:
        child.start()
    found = {results.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    results.close()
    results.join_thread()
    assert found == {str(locate(MODEL, options.models_dir))}
    assert len(hub.gets("tokenizer.json")) == 1


def test_waiting_for_another_process_ends(options: Options) -> None:
    """A lock that is never given back is an error after the patience; the wait is told."""
    steps: list[Step] = []
    with (
        shelf.working(MODEL, options.models_dir),
        pytest.raises(ShelfError, match="Another process"),
        shelf.working(MODEL, options.models_dir, steps.append, patience=0.15),
    ):
        pytest.fail("two at once")
    assert {x.phase for x in steps} == {"wait"}


# Refusals of the hub


def refuse(status: int, code: str = "", only: str = "") -> Any:
    def misbehave(handler: Any, path: str) -> bool:
        if only and handler.command != only:
            return False
        handler.reply(status, {"X-Error-Code": code} if code else {})
        return True

    return misbehave


@pytest.mark.parametrize(
    ("status", "code", "only", "reason"),
    [
        (401, "", "HEAD", "no repository .*needs a login"),
        (401, "RepoNotFound", "HEAD", "no repository .*needs a login"),
        (403, "GatedRepo", "HEAD", "accept its terms first, at https://huggingface.co/BAAI"),
        (404, "RepoNotFound", "HEAD", "no repository"),
        (404, "RevisionNotFound", "HEAD", "has not the revision"),
        (404, "EntryNotFound", "HEAD", r"has no file \[config.json\]"),
        (404, "", "HEAD", "no repository"),
        (500, "", "HEAD", "status 500; try again later"),
        (503, "", "GET", "status 503; try again later"),
        (429, "", "GET", "status 429; try again later"),
        (403, "", "GET", "needs a login"),
        (418, "", "HEAD", "status 418"),
    ],
)
def test_refusals_are_plain(
    hub: Hub, options: Options, status: int, code: str, only: str, reason: str
) -> None:
    """Each refusal is one sentence of ours, the hub's own error is its cause, and nothing is found afterwards."""
    hub.misbehave = refuse(status, code, only)
    with pytest.raises(ShelfError, match=reason) as caught:
        pull(MODEL, options)
    assert "\n" not in caught.value.reason
    assert locate(MODEL, options.models_dir) is None


def test_passing_failures_are_tried_again(hub: Hub, options: Options) -> None:
    """Two 503 in a row are not the end."""
    answers = iter([503, 503])

    def flaky(handler: Any, path: str) -> bool:
        status = next(answers, None)
        if status:
            handler.reply(status, {})
        return status is not None

    hub.misbehave = flaky
    assert names(pull(MODEL, options)) == WHOLE


def test_what_is_no_hub_is_said(hub: Hub, options: Options) -> None:
    """A web server that answers everything with 200 is not taken for a model."""
    hub.misbehave = lambda handler, path: handler.reply(200, {}, b"<html>hello</html>") is None
    with pytest.raises(ShelfError, match="is not a model hub"):
        pull(MODEL, options)


@pytest.mark.parametrize("mirror", ["nonsense", "ftp://x", "http://", "file:///etc/passwd", ""])
def test_a_mirror_must_be_an_address(options: Options, mirror: str) -> None:
    """A mirror that is no address is named, and not asked."""
    if not mirror:
        assert fetch._Hub(replace(options, mirror=""), "a/b")._endpoint == "https://huggingface.co"
        return
    with pytest.raises(ShelfError, match=re.escape(f"[{mirror}]")):
        pull(MODEL, replace(options, mirror=mirror))


def test_a_hub_out_of_reach_is_said(options: Options) -> None:
    """Nobody listens: the error names the address and the other ways."""
    with pytest.raises(
        ShelfError, match=r"127\.0\.0\.1:9\] cannot be reached.*--mirror.*inferd models import"
    ):
        pull(MODEL, replace(options, mirror="http://127.0.0.1:9"))


def test_a_silent_hub_is_given_up(hub: Hub, options: Options) -> None:
    """A hub that accepts and says nothing costs the timeout, not for ever."""
    hub.misbehave = lambda handler, path: time.sleep(1.0) is None
    started = time.monotonic()
    with pytest.raises(ShelfError, match="cannot be reached"):
        pull(MODEL, replace(options, timeout=0.1, attempts=2))
    assert time.monotonic() - started < 5


def test_a_crawling_hub_is_given_up(hub: Hub, options: Options) -> None:
    """Bytes that come, but hardly, end the download after the patience."""
    content = hub.repositories[MODEL.repository]["model.safetensors"]

    def crawl(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.startswith("/cdn/"):
            handler.trickle(content, 0.02)
            return True
        return False

    hub.misbehave = crawl
    with pytest.raises(ShelfError, match=r"Only \d+ bytes came in 0 s.*is kept"):
        pull(MODEL, options)


def test_more_bytes_than_named_are_refused(hub: Hub, options: Options) -> None:
    """A hub that sends without end is stopped at the size that it named."""
    content = hub.repositories[MODEL.repository]["model.safetensors"]

    def flood(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.startswith("/cdn/"):
            handler.reply(200, {}, content + b"more")
            return True
        return False

    hub.misbehave = flood
    with pytest.raises(ShelfError, match="sends more of"):
        pull(MODEL, options)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_other_bytes_than_named_are_refused_and_thrown_away(hub: Hub, options: Options, name: str) -> None:
    """A file whose hash is not the hub's is not kept: the next pull does not trip over it."""
    content = hub.repositories[MODEL.repository][name]

    def forge(handler: Any, path: str) -> bool:
        if handler.command == "GET" and path.endswith(name):
            handler.reply(
                200, {}, b"x" + content[1:]
            ) if "cdn" in path or name != "model.safetensors" else None
            return "cdn" in path or name != "model.safetensors"
        return False

    hub.misbehave = forge
    with pytest.raises(ShelfError, match=rf"\[{name}\] of .* is not the file that it should be"):
        pull(MODEL, options)
    hub.misbehave = lambda handler, path: False
    assert names(pull(MODEL, options)) == WHOLE


def test_the_catalogues_hash_counts_above_the_hubs(hub: Hub, options: Options) -> None:
    """A hub that serves, and names, another file than the catalogue does is refused."""
    known = File(path="model.safetensors", kind=Kind.WEIGHTS, sha256="0" * 64)
    model = replace(MODEL, files=(*MODEL.files[:2], known))
    with pytest.raises(ShelfError, match=f"expected was {'0' * 64}"):
        pull(model, options)
    right = hashlib.sha256(hub.repositories[MODEL.repository]["model.safetensors"]).hexdigest()
    pull(replace(model, files=(*MODEL.files[:2], replace(known, sha256=right))), options)


def test_the_catalogues_size_counts_too(hub: Hub, options: Options) -> None:
    """A file of another size than the catalogue's is refused before it is downloaded."""
    known = File(path="model.safetensors", kind=Kind.WEIGHTS, size=12)
    with pytest.raises(ShelfError, match="bytes instead of 12"):
        pull(replace(MODEL, files=(known,)), options)


def test_files_that_make_no_model_are_refused(hub: Hub, options: Options) -> None:
    """Garbage that hashes as promised is still no model: the error says so, and nothing is found."""
    hub.repositories[MODEL.repository]["model.safetensors"] = b"garbage" * 9
    with pytest.raises(ShelfError, match="do not make a model"):
        pull(MODEL, options)
    assert locate(MODEL, options.models_dir) is None


def test_absurd_sizes_are_refused(hub: Hub, options: Options) -> None:
    """A config.json of a terabyte is not asked for."""

    def boast(handler: Any, path: str) -> bool:
        handler.reply(200, {"X-Repo-Commit": COMMIT, "ETag": '"x"'}, b"", 10**12)
        return True

    hub.misbehave = boast
    with pytest.raises(ShelfError, match="at most 10000000 are taken"):
        pull(MODEL, options)


def test_a_commit_that_is_no_name_is_refused(hub: Hub, options: Options) -> None:
    """A commit that would lead the next request elsewhere is not followed."""

    def lead_astray(handler: Any, path: str) -> bool:
        handler.reply(200, {"X-Repo-Commit": "../../evil", "ETag": '"x"'}, b"1")
        return True

    hub.misbehave = lead_astray
    with pytest.raises(ShelfError, match="is not a model hub"):
        pull(MODEL, options)


# Credentials


def test_a_mirror_sees_only_the_token_meant_for_it(
    hub: Hub, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub login of the machine is not sent to a mirror; a token that was given is, but not to its storage."""
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    pull(MODEL, options)
    assert all("authorization" not in headers for _, _, headers in hub.requests)
    hub.requests.clear()
    pull(MODEL, replace(options, token=Secret("hf_given"), force=True))
    sent = {path.startswith("/cdn/"): headers.get("authorization") for _, path, headers in hub.requests}
    assert sent == {False: "Bearer hf_given", True: None}


def test_the_token_is_in_no_error(hub: Hub, options: Options) -> None:
    """Errors and their causes do not show the token."""
    hub.misbehave = refuse(500)
    with pytest.raises(ShelfError) as caught:
        pull(MODEL, replace(options, token=Secret("hf_planted")))
    cause: BaseException | None = caught.value
    while cause:
        assert "hf_planted" not in repr(cause) + str(cause)
        cause = cause.__cause__ or cause.__context__


# The disk


def test_a_full_disk_is_said_before_the_download(
    hub: Hub, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is counted first: nothing is downloaded that cannot be kept."""
    usage = shutil.disk_usage(options.models_dir.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ShelfError, match=r"has 0\.00 GB left where"):
        pull(MODEL, options)
    assert not hub.gets("model.safetensors")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_meanwhile_is_said(
    hub: Hub, options: Options, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk's refusal in the middle of a download is a plain error too."""
    original = Path.open

    def fail(path: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        if path.suffix == ".part" and mode in ("ab", "wb"):
            raise OSError(code, os.strerror(code), str(path))
        return original(path, mode, *args, **more)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(ShelfError, match=r"is full\. Make room"):
        pull(MODEL, options)


def test_a_models_dir_that_is_a_file_is_said(options: Options, tmp_path: Path) -> None:
    """A place that cannot be a directory is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ShelfError, match="cannot be written"):
        pull(MODEL, replace(options, models_dir=tmp_path / "file"))


def test_verify_finds_every_change(options: Options) -> None:
    """Changed, cut and missing files are each named; a cut or missing one is no longer located."""
    directory = pull(MODEL, options)
    weights = directory / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert verify(MODEL, options.models_dir) == (
        "[model.safetensors] is not what was checked when it came: its bytes have changed",
    )
    assert locate(MODEL, options.models_dir) == directory
    weights.write_bytes(content[:-1])
    assert locate(MODEL, options.models_dir) is None
    (directory / "config.json").unlink()
    assert verify(MODEL, options.models_dir) == (
        "[config.json] is missing",
        f"[model.safetensors] has {len(content) - 1} bytes instead of {len(content)}",
    )
    assert locate(MODEL, options.models_dir) is None
    pull(MODEL, options)
    assert verify(MODEL, options.models_dir) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"id": 1}',
        "\0",
        "\udcff",
        '{"id": "other", "repository": "", "directory": ".", "files": []}',
    ],
)
def test_a_broken_manifest_is_no_model(options: Options, text: str) -> None:
    """A manifest that cannot be read, or is another model's, means that the model is not here."""
    pull(MODEL, options)
    path = options.models_dir / shelf.slug(MODEL.id) / "manifest.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert locate(MODEL, options.models_dir) is None
    assert pull(MODEL, options) == locate(MODEL, options.models_dir)


def test_manifests_are_json_that_people_can_read(options: Options) -> None:
    """One key a line, with the hash of every file."""
    pull(MODEL, options)
    text = (options.models_dir / shelf.slug(MODEL.id) / "manifest.json").read_text()
    assert len(text.splitlines()) > 10
    assert {x["name"] for x in json.loads(text)["files"]} == set(WHOLE)
    assert msgspec.json.decode(text, type=shelf.Manifest).id == MODEL.id


def test_importing_fetch_loads_neither_the_hub_client_nor_onnx() -> None:
    """The server locates models without paying for what only pulls need."""
    code = "import sys, inferd.local.fetch; print({'huggingface_hub', 'onnx', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_every_model_has_a_home_of_its_own() -> None:
    """No two ids share a directory, and every file of a model has its own name there."""
    assert len({shelf.slug(model.id) for model in MODELS}) == len(MODELS)
    for model in MODELS:
        paths = [file.path.rpartition("/")[2] for file in model.files]
        assert len(set(paths)) == len(paths)
