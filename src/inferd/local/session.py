"""A model's weights in memory, and the engine sessions that threads borrow to run them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inferd.local.batches import Lane
from inferd.local.engine import Program, Session

_RECENT = 2.0
"""Seconds since the last search in which ingest leaves one session free."""


class Weights:
    """A graph that is loaded when first used, shared by every deployment that runs it.

    At most ``program.width`` sessions run at once, so a machine is never asked for more threads than it has.
    Searches are served first, and while there are any, ingest leaves one session to them.
    """

    def __init__(self, load: Callable[[], Program]) -> None:
        self._load = load
        self._loading = threading.Lock()
        self._program: Program | None = None
        self._changed = threading.Condition()
        self._free: list[Session] = []
        self._running = 0
        self._searching = 0
        self._last_search = float("-inf")

    def open(self) -> None:
        """Load the graph unless it is there. Blocks."""
        with self._loading:
            if self._program is None:
                self._program = self._load()

    @contextmanager
    def lease(self, lane: Lane) -> Iterator[Session]:
        """A session for one batch. Blocks until there is one."""
        self.open()
        program = self._program
        assert program is not None
        with self._changed:
            self._await_turn(lane, program.width)
            self._running += 1
            session = self._free.pop() if self._free else None
        try:
            session = session or program.session()
            yield session
        finally:
            with self._changed:
                self._running -= 1
                if session is not None:
                    self._free.append(session)
                self._changed.notify_all() if self._searching else self._changed.notify()

    def _await_turn(self, lane: Lane, width: int) -> None:
        if lane is Lane.SEARCH:
            self._last_search = time.monotonic()
            self._searching += 1
            while self._running >= width:
                self._changed.wait()
            self._searching -= 1
            return
        while self._searching or self._running >= width - self._reserved(width):
            self._changed.wait(_RECENT)

    def _reserved(self, width: int) -> int:
        return 1 if width > 1 and time.monotonic() - self._last_search < _RECENT else 0
