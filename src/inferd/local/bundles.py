"""Models in one file, to carry to a machine without a way to the hub.

A bundle is a ZIP archive without compression: ``bundle.json`` (the manifests) and every file under its model's
directory name. Graphs that were written here are left out: they are written again where the bundle arrives.
"""

import contextlib
import hashlib
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from inferd.local.catalogue import Model
from inferd.local.names import named
from inferd.local.shelf import (
    Held,
    Manifest,
    Progress,
    ShelfError,
    Step,
    install,
    locate,
    manifest,
    missing,
    need_room,
    plain_errors,
    slug,
    unseen,
    verify,
    working,
)

_INDEX = "bundle.json"
_FORMAT = 1
_MOST_INDEX_BYTES = 1 << 20
_MOST_TAIL_BYTES = 22 + 0xFFFF
_BLOCK = 1 << 20
_PLAIN_FLAGS = 0x808
"""Sizes after the data, names in UTF-8: anything else is encryption or stranger."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


class _Index(Struct, frozen=True, kw_only=True):
    format: int
    models: tuple[Manifest, ...]


def bundle(models: Sequence[Model], path: Path, models_dir: Path, progress: Progress = unseen) -> None:
    """Write the models' files into one file; the same models give the same bytes. ShelfError when a model is not
    here or has changed, or when the file cannot be written; then ``path`` is as it was."""
    manifests = []
    for model in {x.id: x for x in models}.values():
        if model.bundled:
            raise ShelfError(f"The model [{model.id}] comes with inferd: it needs no bundle")
        found = manifest(model, models_dir)
        if found is None or locate(model, models_dir) is None:
            raise ShelfError(missing(model))
        if faults := verify(model, models_dir, progress):
            raise ShelfError(
                f"The model [{model.id}] is damaged ({'; '.join(faults)}). Pull it again with --force"
            )
        manifests.append(found)
    if not manifests:
        raise ShelfError("A bundle needs at least one model")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with plain_errors(path.parent):
            need_room(sum(file.size for x in manifests for file in _carried(x)), path.parent)
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
                _write(archive, manifests, models_dir, progress)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(path)
    finally:
        with contextlib.suppress(OSError):  # what failed above is the error to tell
            draft.unlink(missing_ok=True)


def _carried(found: Manifest) -> list[Held]:
    return [file for file in found.files if not file.built]


def _write(
    archive: zipfile.ZipFile, manifests: Sequence[Manifest], models_dir: Path, progress: Progress
) -> None:
    carried = tuple(msgspec.structs.replace(x, files=tuple(_carried(x))) for x in manifests)
    archive.writestr(
        zipfile.ZipInfo(_INDEX, _EPOCH), msgspec.json.encode(_Index(format=_FORMAT, models=carried))
    )
    for found in carried:
        home = slug(found.id)
        for file in found.files:
            entry = zipfile.ZipInfo(f"{home}/{file.name}", _EPOCH)
            done = 0
            with (
                (models_dir / home / found.directory / file.name).open("rb") as source,
                archive.open(entry, "w", force_zip64=True) as target,
            ):
                while block := source.read(_BLOCK):
                    target.write(block)
                    done += len(block)
                    progress(Step(phase="copy", model=found.id, file=file.name, done=done, total=file.size))


def unbundle(
    path: Path, models_dir: Path, progress: Progress = unseen, *, repository: Mapping[str, str] | None = None
) -> list[str]:
    """Bring a bundle's models here; returns their ids. Models that are here already, unchanged, are left alone.

    Nothing of the archive is trusted: only files that its index names and the catalogue knows are read, uncompressed,
    in the size and with the hash that are named, and only whole models are put in place. Raises ShelfError.
    """
    with _archive_errors(path), _opened(path) as archive:
        manifests = _read_index(archive, path)
        models = [_known(x, repository or {}, path) for x in manifests]
        entries = _entries(archive, manifests, path)
    with zipfile.ZipFile(path) as archive:
        for model, found in zip(models, manifests, strict=True):
            if not _is_here(model, found, models_dir, progress):
                _import(archive, entries, model, found, models_dir, progress)
    return [x.id for x in manifests]


def _opened(path: Path) -> zipfile.ZipFile:
    _check_directory(path)
    return zipfile.ZipFile(path)


@contextlib.contextmanager
def _archive_errors(path: Path | str) -> Iterator[None]:
    """What zipfile says of a broken archive, said plainly."""
    try:
        yield
    except FileNotFoundError as cause:
        raise ShelfError(f"There is no file [{path}]") from cause
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error) as cause:
        raise ShelfError(f"[{path}] is not a bundle, or not all of it: {cause}") from cause


def _check_directory(path: Path) -> None:
    """The archive's table of contents, which zipfile reads into memory, must be small (APPNOTE.TXT 4.3.14–4.3.16)."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _MOST_TAIL_BYTES))
        tail = file.read()
        end = tail.rfind(b"PK\5\6")
        if end < 0 or len(tail) < end + 22:
            raise ShelfError(f"[{path}] is not a bundle, or not all of it")
        length = int.from_bytes(tail[end + 12 : end + 16], "little")
        if length == 0xFFFFFFFF and tail[end - 20 : end - 16] == b"PK\6\7":
            file.seek(min(int.from_bytes(tail[end - 12 : end - 4], "little"), size))
            length = int.from_bytes(file.read(56)[40:48], "little")
    if length > _MOST_INDEX_BYTES:
        raise ShelfError(f"[{path}] is not a bundle: its table of contents has {length} bytes")


def _read_index(archive: zipfile.ZipFile, path: Path) -> tuple[Manifest, ...]:
    try:
        entry = archive.getinfo(_INDEX)
        if entry.file_size > _MOST_INDEX_BYTES or entry.compress_type != zipfile.ZIP_STORED:
            raise ShelfError(f"[{path}] is not a bundle: its [{_INDEX}] is too large or compressed")
        index = msgspec.json.decode(archive.read(entry), type=_Index)
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise ShelfError(f"[{path}] is not a bundle: it has no [{_INDEX}] that can be read") from cause
    if index.format != _FORMAT:
        raise ShelfError(
            f"[{path}] is a bundle of format {index.format}; this version reads format {_FORMAT}"
        )
    if len({x.id for x in index.models}) != len(index.models):
        raise ShelfError(f"[{path}] names a model twice")
    return index.models


def _known(found: Manifest, repository: Mapping[str, str], path: Path) -> Model:
    """The catalogue's row, for which the index must name the right files."""
    model = named(found.id, repository)
    if model is None or model.bundled:
        raise ShelfError(f"[{path}] holds the model [{found.id}], which this version does not know")
    names = [file.name for file in found.files]
    for file in model.files:
        known = {x.rpartition("/")[2] for x in (file.path, *file.alternatives)}
        if len(known.intersection(names)) != 1:
            raise ShelfError(
                f"[{path}] has not the files of [{found.id}]: [{file.path}] is missing or there twice"
            )
    if len(names) != len(model.files):
        raise ShelfError(f"[{path}] has files that do not belong to [{found.id}]")
    return model


def _entries(
    archive: zipfile.ZipFile, manifests: Sequence[Manifest], path: Path
) -> dict[tuple[str, str], zipfile.ZipInfo]:
    """The archive's entries by model id and file name; exactly those of the index, as large as it says."""
    wanted = {f"{slug(x.id)}/{file.name}": (x.id, file) for x in manifests for file in x.files}
    entries: dict[tuple[str, str], zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if entry.filename == _INDEX and entry is archive.getinfo(_INDEX):
            continue
        if entry.filename not in wanted:
            raise ShelfError(f"[{path}] has an entry [{entry.filename}] that its index does not name")
        id, file = wanted[entry.filename]
        if (id, file.name) in entries:
            raise ShelfError(f"[{path}] has two entries [{entry.filename}]")
        plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & ~_PLAIN_FLAGS
        if not plain or not entry.file_size == entry.compress_size == file.size:
            raise ShelfError(
                f"[{path}] has an entry [{entry.filename}] that is compressed or of another size"
            )
        entries[id, file.name] = entry
    if lacking := [name for name, (id, file) in wanted.items() if (id, file.name) not in entries]:
        raise ShelfError(f"[{path}] lacks [{lacking[0]}]")
    return entries


def _is_here(model: Model, found: Manifest, models_dir: Path, progress: Progress) -> bool:
    here = manifest(model, models_dir)
    if here is None or _carried(here) != list(found.files):
        return False
    return not verify(model, models_dir, progress)


def _import(
    archive: zipfile.ZipFile,
    entries: Mapping[tuple[str, str], zipfile.ZipInfo],
    model: Model,
    found: Manifest,
    models_dir: Path,
    progress: Progress,
) -> None:
    hashes = {file.path.rpartition("/")[2]: file.sha256 for file in model.files}
    with working(model, models_dir, progress) as partial:
        need_room(sum(file.size for file in found.files), partial)
        for file in found.files:
            done, state = 0, hashlib.sha256()
            with (partial / file.name).open("wb") as copy:
                for block in _blocks(archive, entries[model.id, file.name]):
                    copy.write(block)
                    state.update(block)
                    done += len(block)
                    progress(Step(phase="copy", model=model.id, file=file.name, done=done, total=file.size))
            seen = state.hexdigest()
            if seen != file.sha256 or seen != (hashes.get(file.name) or seen):
                raise ShelfError(
                    f"[{file.name}] of [{model.id}] is not what the bundle or the catalogue says it is"
                )
        names = [file.name for file in found.files]
        install(model, partial, names, models_dir, progress, repository=found.repository, commit=found.commit)


def _blocks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with _archive_errors(archive.filename or ""), archive.open(entry) as source:
        blocks = iter(lambda: source.read(_BLOCK), b"")
        yield from blocks
