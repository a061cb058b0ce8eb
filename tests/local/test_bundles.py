"""Bundles: models in one file, out of one machine and into another."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_hub import tiny_files
from msgspec.structs import replace

from inferd.local import bundles, shelf
from inferd.local.bundles import bundle, unbundle
from inferd.local.catalogue import BUNDLED, File, Kind, find
from inferd.local.fetch import Options, ShelfError, Step, locate, pull, verify

DENSE = find("BAAI/bge-small-en-v1.5") or pytest.fail("no such row")
SPARSE = find("prithivida/Splade_PP_en_v1") or pytest.fail("no such row")
HOME = "BAAI--bge-small-en-v1.5"


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """Two models, one with a graph of its author's."""
    for model, files in (
        (DENSE, tiny_files()),
        (SPARSE, {**tiny_files(), "model.onnx": b"a graph"}),
    ):
        source = tmp_path / shelf.slug(model.id)
        source.mkdir()
        for name, content in files.items():
            if model is DENSE or name != "model.safetensors":
                (source / name).write_bytes(content)
        pull(model, Options(models_dir=tmp_path / "models", repository={model.id: str(source)}))
    return tmp_path / "models"


@pytest.fixture
def carried(models_dir: Path, tmp_path: Path) -> Path:
    bundle([DENSE], tmp_path / "x.bundle", models_dir)
    return tmp_path / "x.bundle"


def test_models_survive_the_journey(models_dir: Path, tmp_path: Path) -> None:
    """What goes in comes out, byte for byte, and is a model there."""
    steps: list[Step] = []
    bundle([DENSE, SPARSE, DENSE], tmp_path / "x.bundle", models_dir, steps.append)
    there = tmp_path / "there"
    assert unbundle(tmp_path / "x.bundle", there, steps.append) == [DENSE.id, SPARSE.id]
    for model in (DENSE, SPARSE):
        here, arrived = locate(model, models_dir), locate(model, there)
        assert here is not None
        assert arrived is not None
        assert {x.name: x.read_bytes() for x in here.iterdir()} == {
            x.name: x.read_bytes() for x in arrived.iterdir()
        }
        assert verify(model, there) == ()
        assert shelf.manifest(model, there) == shelf.manifest(model, models_dir)
    assert {"copy", "check", "build"} <= {x.phase for x in steps}


def test_a_bundle_holds_no_graph_that_was_written_here(carried: Path) -> None:
    """Only what came from the hub is carried; the rest is made again."""
    with zipfile.ZipFile(carried) as archive:
        assert sorted(archive.namelist()) == sorted(
            ["bundle.json", *(f"{HOME}/{x}" for x in ("config.json", "model.safetensors", "tokenizer.json"))]
        )


def test_the_same_models_give_the_same_bytes(models_dir: Path, carried: Path, tmp_path: Path) -> None:
    """No clock and no order of directories is in a bundle."""
    bundle([DENSE], tmp_path / "y.bundle", models_dir)
    assert (tmp_path / "y.bundle").read_bytes() == carried.read_bytes()


def test_a_model_that_is_there_is_left_alone(carried: Path, tmp_path: Path) -> None:
    """The second import of the same bundle writes nothing; a damaged model is replaced."""
    there = tmp_path / "there"
    unbundle(carried, there)
    directory = locate(DENSE, there)
    assert directory is not None
    before = (directory / "config.json").stat().st_mtime_ns
    unbundle(carried, there)
    assert (directory / "config.json").stat().st_mtime_ns == before
    (directory / "config.json").write_text("{}")
    unbundle(carried, there)
    assert verify(DENSE, there) == ()


@pytest.mark.parametrize("break_it", ["absent", "changed", "bundled", "nothing"])
def test_what_cannot_be_carried_is_said(models_dir: Path, tmp_path: Path, break_it: str) -> None:
    """Absent, damaged and bundled models, and none at all, are errors; no file is left."""
    models, reason = [DENSE], {"absent": "is not on this machine", "changed": "is damaged"}.get(break_it, "")
    directory = locate(DENSE, models_dir)
    assert directory is not None
    if break_it == "absent":
        shutil.rmtree(directory)
    elif break_it == "changed":
        (directory / "config.json").write_bytes(b" " * (directory / "config.json").stat().st_size)
    elif break_it == "bundled":
        models, reason = [BUNDLED[0]], "comes with inferd"
    else:
        models, reason = [], "at least one model"
    with pytest.raises(ShelfError, match=reason):
        bundle(models, tmp_path / "x.bundle", models_dir)
    assert not [x for x in tmp_path.iterdir() if "bundle" in x.name]


def test_a_failed_bundle_leaves_the_old_one(
    models_dir: Path, carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing is atomic: a full disk costs the new bundle, not the old."""
    before = carried.read_bytes()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ShelfError, match="are needed"):
        bundle([DENSE, SPARSE], carried, models_dir)
    assert carried.read_bytes() == before


def test_a_place_that_cannot_be_written_is_said(models_dir: Path, tmp_path: Path) -> None:
    """A missing directory is an error that names it."""
    with pytest.raises(ShelfError, match="nowhere"):
        bundle([DENSE], tmp_path / "nowhere" / "x.bundle", models_dir)


# Bundles that lie


def rewrite(path: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None], **more: Any) -> Path:
    """The bundle with its entries and index changed."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    index = json.loads(entries.pop("bundle.json"))
    change(entries, index)
    target = path.with_name("evil.bundle")
    with zipfile.ZipFile(target, "w", **more) as archive:
        archive.writestr("bundle.json", json.dumps(index), zipfile.ZIP_STORED)
        for name, content in entries.items():
            archive.writestr(name, content)
    return target


def renamed(name: str) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(entries: dict[str, bytes], index: dict[str, Any]) -> None:
        entries[name] = b"evil"

    return change


def index_named(name: str) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(entries: dict[str, bytes], index: dict[str, Any]) -> None:
        entries[f"{HOME}/{name}"] = entries.pop(f"{HOME}/config.json")
        index["models"][0]["files"][0]["name"] = name

    return change


def edit(key: str, value: Any) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(entries: dict[str, bytes], index: dict[str, Any]) -> None:
        index["models"][0][key] = value

    return change


def edit_file(key: str, value: Any) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(entries: dict[str, bytes], index: dict[str, Any]) -> None:
        index["models"][0]["files"][0][key] = value

    return change


def drop(entries: dict[str, bytes], index: dict[str, Any]) -> None:
    del entries[f"{HOME}/config.json"]


def twice(entries: dict[str, bytes], index: dict[str, Any]) -> None:
    index["models"].append(index["models"][0])


def another_format(entries: dict[str, bytes], index: dict[str, Any]) -> None:
    index["format"] = 2


def no_models(entries: dict[str, bytes], index: dict[str, Any]) -> None:
    index["models"] = "none"


def extra_file(entries: dict[str, bytes], index: dict[str, Any]) -> None:
    files = index["models"][0]["files"]
    files.append({**files[0], "name": "idf.json"})
    entries[f"{HOME}/idf.json"] = entries[f"{HOME}/config.json"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (renamed("../../evil"), "does not name"),
        (renamed("/etc/evil"), "does not name"),
        (renamed(f"{HOME}/evil"), "does not name"),
        (renamed(f"{HOME}/model.onnx"), "does not name"),
        (index_named("../config.json"), "has not the files"),
        (index_named("manifest.json"), "has not the files"),
        (index_named("model.safetensors"), "is missing or there twice"),
        (edit("id", "nobody/knows"), "does not know"),
        (edit("id", ".elser_model_2"), "does not know"),
        (edit("id", ".all-minilm-l6-v2"), "does not know"),
        (edit("id", "../../evil"), "does not know"),
        (edit("files", []), "has not the files"),
        (edit_file("size", 1), "of another size"),
        (edit_file("size", -1), "of another size"),
        (edit_file("size", "big"), "that can be read"),
        (edit_file("sha256", "0" * 64), "is not what the bundle or the catalogue says"),
        (drop, "lacks"),
        (twice, "names a model twice"),
        (another_format, "bundle of format 2"),
        (no_models, "that can be read"),
        (extra_file, "do not belong"),
    ],
)
def test_bundles_that_lie_are_refused(carried: Path, tmp_path: Path, change: Any, reason: str) -> None:
    """Every lie is named; nothing is found afterwards and nothing lies outside of the models directory."""
    there = tmp_path / "a" / "b" / "there"
    with pytest.raises(ShelfError, match=reason):
        unbundle(rewrite(carried, change), there)
    assert locate(DENSE, there) is None
    assert not [x for x in tmp_path.rglob("*evil*") if x.name != "evil.bundle"]


def test_compressed_entries_are_refused(carried: Path, tmp_path: Path) -> None:
    """A small file that would become a large one is not unpacked."""
    with pytest.raises(ShelfError, match="is compressed"):
        unbundle(
            rewrite(carried, lambda entries, index: None, compression=zipfile.ZIP_DEFLATED),
            tmp_path / "there",
        )


@pytest.mark.parametrize("flag", [0x1, 0x20, 0x40])
def test_encrypted_and_strange_entries_are_refused(carried: Path, tmp_path: Path, flag: int) -> None:
    """An entry that is not plain bytes is refused before it is read."""
    content = bytearray(carried.read_bytes())
    position = content.rfind(b"PK\1\2")  # the last entry of the table of contents
    content[position + 8] |= flag
    carried.write_bytes(content)
    with pytest.raises(ShelfError, match="is compressed"):
        unbundle(carried, tmp_path / "there")


def test_a_directory_of_a_million_entries_is_refused(tmp_path: Path) -> None:
    """The archive's own table is not read into memory when it is large, told in 32 bits or in 64."""
    table = b"PK\1\2" + b"\0" * (2 << 20)
    end = b"PK\5\6" + b"\0" * 8 + len(table).to_bytes(4, "little") + b"\0" * 6
    (tmp_path / "x").write_bytes(table + end)
    with pytest.raises(ShelfError, match="its table of contents has"):
        unbundle(tmp_path / "x", tmp_path / "there")
    record = b"PK\6\6" + b"\0" * 36 + len(table).to_bytes(8, "little") + b"\0" * 8
    locator = b"PK\6\7" + b"\0" * 4 + len(table).to_bytes(8, "little") + b"\1\0\0\0"
    (tmp_path / "x").write_bytes(table + record + locator + b"PK\5\6" + b"\0" * 8 + b"\xff" * 8 + b"\0\0")
    with pytest.raises(ShelfError, match="its table of contents has"):
        unbundle(tmp_path / "x", tmp_path / "there")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 0.9999])
def test_truncated_bundles_are_refused(carried: Path, tmp_path: Path, share: float) -> None:
    """A file that was not copied to its end is not a bundle."""
    content = carried.read_bytes()
    carried.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ShelfError, match="is not a bundle"):
        unbundle(carried, tmp_path / "there")
    assert locate(DENSE, tmp_path / "there") is None


def test_flipped_bytes_are_found(carried: Path, tmp_path: Path) -> None:
    """A bit that the journey cost, wherever it was, is never in a model that is found."""
    content = carried.read_bytes()
    whole = unbundle(carried, tmp_path / "whole")
    expected = locate(DENSE, tmp_path / "whole")
    assert whole == [DENSE.id]
    assert expected is not None
    for position in range(0, len(content), max(1, len(content) // 60)):
        carried.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        there = tmp_path / f"there{position}"
        try:
            unbundle(carried, there)
        except ShelfError:
            assert locate(DENSE, there) is None
        else:  # a byte that means nothing, such as a date
            found = locate(DENSE, there)
            assert found is not None
            assert {x.name: x.read_bytes() for x in found.iterdir()} == {
                x.name: x.read_bytes() for x in expected.iterdir()
            }


def test_the_catalogues_hash_counts_above_the_bundles(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that is true to itself but not to the catalogue is refused."""
    known = File(path="model.safetensors", kind=Kind.WEIGHTS, sha256="0" * 64)
    model = replace(DENSE, files=(*DENSE.files[:2], known))
    monkeypatch.setattr(bundles, "named", lambda id, repository: model)
    with pytest.raises(ShelfError, match="or the catalogue says"):
        unbundle(carried, tmp_path / "there")


@pytest.mark.parametrize("kind", ["none", "directory", "text"])
def test_what_is_no_file_or_no_archive_is_said(tmp_path: Path, kind: str) -> None:
    """A missing file, a directory and a text are named plainly."""
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "text":
        path.write_text("PK hello")
    with pytest.raises(ShelfError, match=r"There is no file" if kind == "none" else "is not a bundle"):
        unbundle(path, tmp_path / "there")


def test_an_interrupted_import_leaves_nothing_that_is_found(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between two files, an import has put nothing in place; the next one completes it."""

    class Killed(BaseException):
        pass

    def stop(step: Step) -> None:
        if step.file == "model.safetensors":
            raise Killed

    with pytest.raises(Killed):
        unbundle(carried, tmp_path / "there", stop)
    assert locate(DENSE, tmp_path / "there") is None
    unbundle(carried, tmp_path / "there")
    assert verify(DENSE, tmp_path / "there") == ()
