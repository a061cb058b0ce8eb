"""The audit log: one JSON line per security event and per change, written by a thread of its own.

Noting never waits: a full queue or a full disk loses lines, and how many is written as soon as that is possible again. The
file is the owner's alone (0600) and rotates by size: ``audit.log``, ``audit.log.1`` … Several processes may share one.
"""

import fcntl
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any

import msgspec

from inferd.config import ConfigError

log = logging.getLogger("inferd.audit")

CAPACITY = 8192
"""Lines that may wait to be written."""
BATCH = 512
LONGEST = 256
"""Characters of any value that came from outside."""


class AuditLog:
    """``note`` from the event loop, ``close`` at the end. Errors at start: ``ConfigError``."""

    def __init__(self, path: Path, *, max_bytes: int, keep: int, capacity: int = CAPACITY) -> None:
        self._path, self._max_bytes, self._keep = path, max_bytes, keep
        self._queue: Queue[dict[str, Any] | None] = Queue(capacity)
        self._lock = threading.Lock()
        self._unreported = 0
        self.dropped = 0
        """Lines lost since the start."""
        self._failing = False
        self._torn = False
        """A write ended in the middle, perhaps of a line."""
        try:
            self._file = self._open()
        except OSError as bad:
            raise ConfigError(f"audit file {path}: {bad.strerror}") from None
        self._thread = threading.Thread(target=self._main, name="inferd-audit", daemon=True)
        self._thread.start()

    def note(self, event: str, **facts: Any) -> None:
        """Facts that are None are left out; texts are cut."""
        line = {"@timestamp": moment(time.time()), "event": event}
        line.update((name, shortened(value)) for name, value in facts.items() if value is not None)
        try:
            self._queue.put_nowait(line)
        except Full:
            self._lose(1)

    def close(self, timeout: float = 5.0) -> None:
        """Writes what waits."""
        with suppress(Full):
            self._queue.put(None, timeout=timeout)
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.error("the audit log was left with [%d] unwritten lines", self._queue.qsize())

    # The thread

    def _main(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._batch()
            lost = self._unreported
            try:
                self._write(loss(lost) + b"".join(encoded(line) for line in batch))
            except OSError as bad:
                self._lose(len(batch))
                if not self._failing:
                    log.error("audit lines are lost: %s: %s", self._path, bad.strerror)
                self._failing = True
            else:
                self._failing = False
                self._lose(0, reported=lost)
                if lost:
                    log.warning("[%d] audit lines were lost", lost)
        os.close(self._file)

    def _batch(self) -> tuple[list[dict[str, Any]], bool]:
        """At least one line, and whether this is the end."""
        line = self._queue.get()
        batch: list[dict[str, Any]] = []
        while line is not None:
            batch.append(line)
            if len(batch) >= BATCH:
                return batch, False
            try:
                line = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _lose(self, count: int, reported: int = 0) -> None:
        with self._lock:
            self.dropped += count
            self._unreported += count - reported

    def _write(self, data: bytes) -> None:
        if not data:
            return
        self._follow()
        if os.fstat(self._file).st_size + len(data) > self._max_bytes:
            self._rotate()
        if self._torn:
            data = b"\n" + data
        self._torn = True
        while data:
            data = data[os.write(self._file, data) :]
        self._torn = False

    def _follow(self) -> None:
        """Another process, or an administrator, may have moved the file away."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._file)):
                return
        self._reopen()

    def _reopen(self) -> None:
        fresh = self._open()
        os.close(self._file)
        self._file = fresh

    def _rotate(self) -> None:
        """One process does it, the others follow."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._file)) and os.fstat(self._file).st_size:
                self._shift()
        self._reopen()

    def _shift(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(self._numbered(number), self._numbered(number + 1))
        if self._keep:
            os.replace(self._path, self._numbered(1))
        else:
            os.unlink(self._path)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._path, flags, 0o600)
        os.fchmod(file, 0o600)
        return file


def loss(count: int) -> bytes:
    """The line that tells of lost ones, if there are any."""
    if not count:
        return b""
    return encoded({"@timestamp": moment(time.time()), "event": "lines_lost", "count": count})


def moment(seconds: float) -> str:
    """UTC with milliseconds: ``2026-01-02T03:04:05.678Z``."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03d}Z"


def shortened(value: Any) -> Any:
    return f"{value[:LONGEST]}…" if isinstance(value, str) and len(value) > LONGEST else value


def encoded(line: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(line) + b"\n"
    except UnicodeEncodeError:
        mended = {
            k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in line.items()
        }
        return msgspec.json.encode(mended) + b"\n"
