"""The models on this machine: one directory a model, whole or absent.

::

    models_dir/
    ├── intfloat--multilingual-e5-small/
    │   ├── manifest.json           names the directory that counts, and every file's size and sha256
    │   └── 3f0c…/                  config.json, tokenizer.json, model.safetensors, model.onnx
    ├── .partial/<model>/           a download that is not finished
    └── .locks/<model>

The manifest is replaced in one step, so a process that is killed leaves the model that was there, or none.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from inferd.errors import IllegalArgument, InferdError
from inferd.local.catalogue import Model, Recipe

_BLOCK = 1 << 20
_MOST_MANIFEST_BYTES = 1 << 20
GRAPH = "model.onnx"
BUNDLED = Path(__file__).parent / "bundled" / "minilm"
"""What comes in the package; ``SHA256SUMS`` beside it."""


class ShelfError(InferdError):
    """A model cannot be brought here, kept or read; the reason says what to do."""


class Step(Struct, frozen=True, kw_only=True):
    """How far a piece of work is, in bytes. ``wait`` is for another process that works on the same model."""

    phase: Literal["wait", "download", "copy", "check", "build"]
    model: str
    file: str = ""
    done: int = 0
    total: int = 0


Progress = Callable[[Step], None]


def unseen(step: Step) -> None:
    """Progress that nobody watches."""


class Held(Struct, frozen=True, kw_only=True):
    """A file as it was when it was checked. ``built`` ones were written here, from the others."""

    name: str
    size: int
    sha256: str
    built: bool = False


class Manifest(Struct, frozen=True, kw_only=True):
    """``commit`` is the hub's, None for files that came from a directory."""

    id: str
    repository: str
    commit: str | None = None
    directory: str
    files: tuple[Held, ...]


def slug(id: str) -> str:
    """The name of a model's directory."""
    return id.replace("/", "--")


def manifest(model: Model, models_dir: Path) -> Manifest | None:
    """What was written down about a model, None when there is nothing that can be read."""
    try:
        with (models_dir / slug(model.id) / "manifest.json").open("rb") as file:
            found = msgspec.json.decode(file.read(_MOST_MANIFEST_BYTES), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.id == model.id else None


def locate(model: Model, models_dir: Path, origin: str | None = None) -> Path | None:
    """The directory of a model's files when all of them are there in their full size; None otherwise.

    Files from elsewhere than ``origin``, where that is named, are not those that are asked for.
    """
    found = manifest(model, models_dir)
    if found is None or (origin is not None and found.repository != origin):
        return None
    directory = models_dir / slug(model.id) / found.directory
    whole = all(_size(directory / file.name) == file.size for file in found.files)
    return directory if whole else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def verify(model: Model, models_dir: Path, progress: Progress = unseen) -> tuple[str, ...]:
    """Read every byte again. What is wrong, in words; empty when nothing is. An absent model is wrong."""
    if model.bundled:
        return tuple(fault for file in _packaged() if (fault := _fault(model, BUNDLED, file, progress)))
    found = manifest(model, models_dir)
    if found is None:
        return ("it is not here",)
    directory = models_dir / slug(model.id) / found.directory
    return tuple(fault for file in found.files if (fault := _fault(model, directory, file, progress)))


def _packaged() -> Iterator[Held]:
    """The files of the package. Their sizes are not listed: the sums say enough."""
    for line in (BUNDLED / "SHA256SUMS").read_text("utf-8").splitlines():
        sha256, name = line.split()
        yield Held(name=name, size=_size(BUNDLED / name) or 0, sha256=sha256)


def _fault(model: Model, directory: Path, file: Held, progress: Progress) -> str | None:
    size = _size(directory / file.name)
    if size is None:
        return f"[{file.name}] is missing"
    if size != file.size:
        return f"[{file.name}] has {size} bytes instead of {file.size}"
    if digest(directory / file.name, model.id, progress) != file.sha256:
        return f"[{file.name}] is not what was checked when it came: its bytes have changed"
    return None


def digest(path: Path, id: str, progress: Progress = unseen) -> str:
    """SHA-256 of a file, in hex."""
    total, done, state = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            state.update(block)
            done += len(block)
            progress(Step(phase="check", model=id, file=path.name, done=done, total=total))
    return state.hexdigest()


def missing(model: Model) -> str:
    """What to do when a model is not here."""
    return (
        f"The model [{model.id}] is not on this machine. Run [inferd models pull {model.id}]; without a way to the "
        f"hub, run [inferd models bundle {model.id} -o FILE] where it is and [inferd models import FILE] here"
    )


@contextmanager
def working(
    model: Model, models_dir: Path, progress: Progress = unseen, patience: float = 600.0
) -> Iterator[Path]:
    """The directory where a model's files are put together, for this process alone.

    What an earlier try left is still in it. ShelfError when another process has worked on the same model for more
    than ``patience`` seconds.
    """
    with plain_errors(models_dir):
        lock = models_dir / ".locks" / slug(model.id)
        lock.parent.mkdir(parents=True, exist_ok=True)
        partial = models_dir / ".partial" / slug(model.id)
        with lock.open("w") as file:
            _wait(file.fileno(), model, progress, patience)
            partial.mkdir(parents=True, exist_ok=True)
            yield partial


def _wait(descriptor: int, model: Model, progress: Progress, patience: float) -> None:
    """Lock a file; the lock goes with the process, however it ends."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ShelfError(
                    f"Another process has been working on [{model.id}] for over {patience:.0f} s"
                ) from None
        progress(Step(phase="wait", model=model.id))
        time.sleep(0.1)


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """A disk that refuses, said plainly."""
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ShelfError(
                f"The disk of [{path}] is full. Make room, or choose another place with --models-dir; what was "
                "downloaded is kept"
            ) from cause
        if cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            raise ShelfError(
                f"[{path}] cannot be written: {cause.strerror}. Choose another --models-dir"
            ) from cause
        raise


def need_room(size: int, path: Path) -> None:
    """ShelfError when the disk has not that many bytes left."""
    free = shutil.disk_usage(path).free
    if size > free:
        raise ShelfError(
            f"[{path}] has {free / 1e9:.2f} GB left where {size / 1e9:.2f} GB are needed. Make room, or choose "
            "another place with --models-dir"
        )


def install(
    model: Model,
    partial: Path,
    names: Collection[str],
    models_dir: Path,
    progress: Progress,
    *,
    repository: str,
    commit: str | None,
) -> Path:
    """Make the checked files ``names`` of ``partial`` the model, and return the directory that counts now.

    Beside safetensors the graph is written; everything is flushed to the disk; the manifest is replaced last.
    """
    for path in partial.iterdir():
        if path.name not in names:
            path.unlink()
    builds = "model.safetensors" in names
    if builds:
        progress(Step(phase="build", model=model.id, file=GRAPH))
        _write_graph(model, partial)
    files = tuple(
        Held(
            name=name,
            size=(partial / name).stat().st_size,
            sha256=_flushed_digest(partial / name, model, progress),
            built=name not in names,
        )
        for name in sorted({*names, *([GRAPH] if builds else [])})
    )
    state = hashlib.sha256("".join(f"{x.name}:{x.sha256};" for x in files).encode()).hexdigest()
    home = models_dir / slug(model.id)
    home.mkdir(exist_ok=True)
    target = home / state[:16]
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    found = Manifest(id=model.id, repository=repository, commit=commit, directory=target.name, files=files)
    _replace(home / "manifest.json", msgspec.json.format(msgspec.json.encode(found), indent=2))
    for old in home.iterdir():
        if old.is_dir() and old != target:
            shutil.rmtree(old)
    return target


def _flushed_digest(path: Path, model: Model, progress: Progress) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return digest(path, model.id, progress)


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_graph(model: Model, directory: Path) -> None:
    from inferd.local import graphs

    heads = {
        Recipe.DENSE: graphs.Head.STATES,
        Recipe.LATE_INTERACTION: graphs.Head.STATES,
        Recipe.VOCABULARY_SPARSE: graphs.Head.STATES,
        Recipe.MLM_SPARSE: graphs.Head.MAXIMA,
        Recipe.CROSS_ENCODER: graphs.Head.CLASSES,
    }
    try:
        graphs.save(graphs.build_directory(directory, heads[model.recipe]), directory / GRAPH)
    except IllegalArgument as cause:
        raise ShelfError(f"The files of [{model.id}] do not make a model. {cause.reason}") from cause
