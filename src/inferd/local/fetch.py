"""Bring a model's files here from a hub, a mirror of it or a directory; checked, resumed, whole or not at all.

The hub client is ``huggingface_hub``: its addresses, session, credentials and errors. What it says about a file
(size, and sha256 or git's sha1 as the ETag) is compared with what arrives; a hash in the catalogue counts above it.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from inferd.core.secrets import Secret
from inferd.local.catalogue import File, Kind, Model
from inferd.local.names import is_directory
from inferd.local.shelf import (
    Progress,
    ShelfError,
    Step,
    digest,
    install,
    locate,
    missing,
    need_room,
    unseen,
    verify,
    working,
)

__all__ = ["Options", "ShelfError", "Step", "locate", "missing", "pull", "verify"]

_HUB = "https://huggingface.co"
_COMMIT = re.compile(r"[\w.\-]+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[\w.\-]+/[\w.\-]+(@[\w.\-/]+)?", re.ASCII)
_MOST_BYTES = {
    Kind.CONFIG: 10_000_000,
    Kind.TOKENIZER: 200_000_000,
    Kind.IDF: 100_000_000,
    Kind.WEIGHTS: 50_000_000_000,
    Kind.GRAPH: 50_000_000_000,
}
_SLOWEST = 1000
"""Bytes a second, over ``Options.patience``; below it a download is given up."""


_KEPT = ". What has arrived is kept: run the same command to go on"


class Options(Struct, frozen=True, kw_only=True):
    """How to fetch. Seconds are ``timeout`` (one silence of the hub), ``patience`` (a crawl) and ``pause`` (before
    the second try; doubled before each other). ``attempts`` are counted anew whenever bytes have come.

    ``repository`` is, by model id, a hub repository (``owner/name`` or ``owner/name@revision``) or a directory to
    take the files from. Without a ``token`` the hub client's own login is used, but for the real hub alone.
    """

    models_dir: Path
    offline: bool = False
    mirror: str | None = None
    repository: Mapping[str, str] = {}
    token: Secret | None = None
    force: bool = False
    timeout: float = 15.0
    patience: float = 60.0
    attempts: int = 5
    pause: float = 1.0


class _Source(Struct, frozen=True):
    """A file as the hub describes it."""

    file: File
    path: str
    url: str
    headers: dict[str, str]
    size: int
    etag: str
    commit: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def pull(model: Model, options: Options, progress: Progress = unseen) -> Path:
    """The directory of the model's files, fetched when they are not here (or with ``force``).

    Blocks, for as long as the download takes: never on the event loop. Two processes that pull the same model take
    turns, and the second finds it there. Raises ShelfError.
    """
    if model.bundled:
        raise ShelfError(f"The model [{model.id}] comes with inferd: there is nothing to fetch")
    origin = options.repository.get(model.id, model.repository)
    if not origin:
        raise ShelfError(
            f"The weights of [{model.id}] are their owner's property. If you may use them, name your copy: "
            f'models.repository."{model.id}" = "/a/directory" in the configuration'
        )
    with working(model, options.models_dir, progress) as partial:
        here = locate(model, options.models_dir, options.repository.get(model.id))
        if here is not None and not options.force:
            return here
        commit = None
        if is_directory(origin):
            names = _copy(model, Path(origin).expanduser(), partial, progress)
        else:
            names, commit = _download(model, origin, partial, options, progress)
        return install(model, partial, names, options.models_dir, progress, repository=origin, commit=commit)


def _copy(model: Model, directory: Path, partial: Path, progress: Progress) -> list[str]:
    """Take the files from a directory, checked against the catalogue's hashes when it has any."""
    names = []
    for file in model.files:
        paths = (file.path, *file.alternatives)
        path = next((directory / x for x in paths if (directory / x).is_file()), None)
        if path is None:
            raise ShelfError(f"[{directory}] has no file [{file.path}], which [{model.id}] needs")
        size = path.stat().st_size
        need_room(size, partial)
        progress(Step(phase="copy", model=model.id, file=path.name, done=0, total=size))
        shutil.copyfile(path, partial / path.name)
        progress(Step(phase="copy", model=model.id, file=path.name, done=size, total=size))
        _check_hash(model, file, partial / path.name, None, progress)
        names.append(path.name)
    return names


def _download(
    model: Model, origin: str, partial: Path, options: Options, progress: Progress
) -> tuple[list[str], str]:
    """All files into ``partial``; returns their names and the commit that they are of."""
    if not _REPOSITORY.fullmatch(origin):
        raise ShelfError(
            f"[{origin}] is neither a hub repository [owner/name] nor a directory (which starts with / or ./)"
        )
    if options.offline:
        raise ShelfError(f"{missing(model)}. Offline mode is on (models.offline)")
    repository, _, revision = origin.partition("@")
    revision = revision or (model.revision if origin == model.repository else "main")
    hub = _Hub(options, repository)
    sources: list[_Source] = []
    for file in model.files:
        sources.append(hub.describe(file, sources[0].commit if sources else revision))
    here = sum(x.stat().st_size for x in partial.iterdir())
    need_room(sum(x.size for x in sources) - here, partial)
    for source in sources:
        _bring(hub, model, source, partial, progress)
    return [x.name for x in sources], sources[0].commit


def _bring(hub: "_Hub", model: Model, source: _Source, partial: Path, progress: Progress) -> None:
    """One file, from where an earlier try of the same file stopped."""
    whole, part, etag = (partial / f"{source.name}{x}" for x in ("", ".part", ".etag"))
    if not etag.exists() or etag.read_text() != source.etag:
        whole.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
        etag.write_text(source.etag)
    if not whole.exists():
        hub.download(model, source, part, progress)
        part.replace(whole)
    try:
        _check_hash(model, source.file, whole, source.etag, progress)
    except ShelfError:
        whole.unlink()
        raise


def _check_hash(model: Model, file: File, path: Path, etag: str | None, progress: Progress) -> None:
    """Against the catalogue's hash, else the hub's."""
    wanted = file.sha256 if path.name == file.path.rpartition("/")[2] else None
    if wanted is None and etag is not None and _SHA1.fullmatch(etag):
        found, wanted = _git_sha1(path), etag
    else:
        wanted = wanted or (etag if etag is not None and _SHA256.fullmatch(etag) else None)
        found = digest(path, model.id, progress) if wanted else ""
    if wanted and found != wanted:
        raise ShelfError(
            f"[{path.name}] of [{model.id}] is not the file that it should be: its hash is {found}, expected was "
            f"{wanted}. It was thrown away; try again, and if it stays so, distrust the source"
        )


def _git_sha1(path: Path) -> str:
    """Git's name of a blob, which is the hub's ETag of a small file."""
    state = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


class _Hub:
    """One repository of a hub. huggingface_hub is imported when the first of these is made."""

    def __init__(self, options: Options, repository: str) -> None:
        import huggingface_hub
        from huggingface_hub import errors, utils

        self._library, self._errors, self._utils = huggingface_hub, errors, utils
        self._options = options
        self._repository = repository
        self._endpoint = (options.mirror or _HUB).rstrip("/")
        if not re.match(r"https?://[^/\s]", self._endpoint):
            raise ShelfError(
                f"The mirror [{options.mirror}] is not an address such as https://hub.example.com"
            )
        token: Any = options.token.reveal().strip() if options.token else None
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise ShelfError("models.token is no token: it holds white space or what is not ASCII")
        if token is None and options.mirror is not None:
            token = False  # the hub's login is not for others to see
        self._headers = {
            **utils.build_hf_headers(token=token, library_name="inferd"),
            "Accept-Encoding": "identity",
        }

    def describe(self, file: File, revision: str) -> _Source:
        """What the hub says about a file, or about the first of its alternatives that exists."""
        for path in (file.path, *file.alternatives):
            try:
                return self._describe(file, path, revision)
            except self._errors.EntryNotFoundError:
                continue
        raise ShelfError(f"The repository [{self._repository}] has no file [{file.path}] at [{revision}]")

    def _describe(self, file: File, path: str, revision: str) -> _Source:
        found = self._ask_for(self._url(revision, path))
        if not _COMMIT.fullmatch(found.commit_hash or "") or not found.etag or found.size is None:
            raise ShelfError(
                f"What answers at [{self._endpoint}] is not a model hub: check --mirror and the network"
            )
        most = _MOST_BYTES[Kind.GRAPH if path.endswith(".onnx") else file.kind]
        if not 0 <= found.size <= most:
            raise ShelfError(
                f"[{path}] of [{self._repository}] has {found.size} bytes; at most {most} are taken"
            )
        if file.size is not None and path == file.path and found.size != file.size:
            raise ShelfError(
                f"[{path}] of [{self._repository}] has {found.size} bytes instead of {file.size}"
            )
        url = self._url(found.commit_hash, path)
        return _Source(file, path, url, self._headers, found.size, found.etag, found.commit_hash)

    def _url(self, revision: str, path: str) -> str:
        return f"{self._endpoint}/{self._repository}/resolve/{quote(revision, safe='')}/{path}"

    def _ask_for(self, url: str) -> Any:
        attempts = min(self._options.attempts, 3)  # a hub that is out of reach is said soon
        for attempt in range(1, attempts + 1):
            try:
                return self._library.get_hf_file_metadata(
                    url,
                    timeout=self._options.timeout,
                    headers=self._headers,
                    token=False,
                    endpoint=self._endpoint,
                )
            except self._errors.EntryNotFoundError:
                raise
            except (self._errors.HTTPError, ConnectionError) as cause:
                self._pause_or_raise(cause, attempt, attempts)
        raise AssertionError("the last attempt returns or raises")

    def download(self, model: Model, source: _Source, part: Path, progress: Progress) -> None:
        """The bytes of a file that are not in ``part`` yet, appended to it."""
        part.touch()
        failed, furthest = 0, 0
        while (start := part.stat().st_size) != source.size:
            if start > source.size:
                part.unlink()
                return self.download(model, source, part, progress)
            try:
                self._stream(model, source, part, start, progress)
            except (self._errors.HTTPError, ConnectionError) as cause:
                came = part.stat().st_size
                failed = 1 if came > furthest else failed + 1
                furthest = max(came, furthest)
                self._pause_or_raise(cause, failed, self._options.attempts, kept=came > 0)
        return None

    def _stream(self, model: Model, source: _Source, part: Path, start: int, progress: Progress) -> None:
        session = self._utils.get_session()
        headers = {**source.headers, **({"Range": f"bytes={start}-"} if start else {})}
        timeout = self._options.timeout
        with session.stream(
            "GET", source.url, headers=headers, timeout=timeout, follow_redirects=True
        ) as answer:
            resumed = answer.status_code == 206
            elsewhere = resumed and not _starts_at(answer.headers.get("Content-Range", ""), start)
            if answer.status_code == 416 or elsewhere:
                part.write_bytes(b"")
                raise ConnectionError("the hub does not go on where the last try stopped")
            self._utils.hf_raise_for_status(answer)
            done = start if resumed else 0
            crawl = _Crawl(self._options.patience)
            with part.open("ab" if resumed else "wb") as file:
                for block in answer.iter_raw():
                    done += len(block)
                    if done > source.size:
                        raise ShelfError(
                            f"The hub sends more of [{source.path}] than the {source.size} bytes it named"
                        )
                    file.write(block)
                    crawl.add(len(block))
                    progress(
                        Step(phase="download", model=model.id, file=source.name, done=done, total=source.size)
                    )
        if done < source.size:
            raise ConnectionError(f"the answer ended after {done} of {source.size} bytes")

    def _pause_or_raise(self, cause: Exception, failed: int, attempts: int, *, kept: bool = False) -> None:
        """Wait before the next attempt, or say plainly why there is none."""
        status = getattr(getattr(cause, "response", None), "status_code", None)
        passing = status is None or status in (408, 416, 429) or status >= 500
        if failed >= attempts or not passing or isinstance(cause, self._errors.OfflineModeIsEnabled):
            raise ShelfError(self._plain(cause, status) + (_KEPT if kept else "")) from cause
        time.sleep(min(self._options.pause * 2 ** (failed - 1), 30.0))

    def _plain(self, cause: Exception, status: int | None) -> str:
        errors, name = self._errors, self._repository
        if isinstance(cause, errors.GatedRepoError):
            return f"[{name}] asks you to accept its terms first, at {_HUB}/{name}; then log in with [hf auth login]"
        if isinstance(cause, errors.RevisionNotFoundError):
            return f"The repository [{name}] has not the revision asked for"
        if isinstance(cause, errors.RepositoryNotFoundError) or status in (401, 403, 404):
            return f"There is no repository [{name}] at [{self._endpoint}], or it needs a login"
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return "The hub client is in offline mode (HF_HUB_OFFLINE)"
        if status is not None:
            return f"[{self._endpoint}] answered with status {status}; try again later"
        return (
            f"[{self._endpoint}] cannot be reached or broke off ({type(cause).__name__}: {cause}). Check the network, "
            "name a mirror with --mirror, or carry the model here as a bundle (inferd models import)"
        )


def _starts_at(content_range: str, start: int) -> bool:
    return content_range.startswith(f"bytes {start}-")


class _Crawl:
    """Gives a download up whose bytes come, but hardly."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since = time.monotonic()
        self._bytes = 0

    def add(self, count: int) -> None:
        self._bytes += count
        passed = time.monotonic() - self._since
        if passed < self._patience:
            return
        if self._bytes < _SLOWEST * passed:
            raise ShelfError(
                f"Only {self._bytes} bytes came in {passed:.0f} s. Try again later or name a mirror with --mirror; "
                "what has arrived is kept"
            )
        self._since, self._bytes = time.monotonic(), 0
