"""Requests into batches of texts of exactly equal token length, so that nothing is padded.

A text's bits then never depend on what shares its batch. There is no waiting window: an idle worker takes what is
there. Searches go before ingest; equal lengths are gathered across requests.
"""

import time
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from threading import Condition, Lock
from typing import Any

from inferd.local.tokens import Tokens

PATIENCE = 0.25
"""Seconds after which the oldest text goes next, however small its group; until then the fullest group does."""
TURNS = 16
"""Batches of searches after which waiting ingest gets one."""


class Lane(IntEnum):
    SEARCH = 0
    INGEST = 1


class Waiting:
    """Someone who waits for an answer: until when (``time.monotonic``), and whether still."""

    __slots__ = ("left", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.left = False
        """Nobody waits any more: answered, timed out or gone."""

    @property
    def over(self) -> bool:
        return self.left or time.monotonic() >= self.until


class Job:
    """Texts of one request that are answered together. Its results are touched by the event loop only."""

    __slots__ = ("future", "lane", "open", "results", "waiting")

    def __init__(self, texts: int, lane: Lane, waiting: Waiting, loop: AbstractEventLoop) -> None:
        self.lane, self.waiting = lane, waiting
        self.results: list[Any] = [None] * texts
        self.open = texts
        self.future: Future[list[Any]] = loop.create_future()


class Text:
    """What a runner gets: a text's tokens, and what it is compared with, if anything."""

    __slots__ = ("context", "tokens")

    def __init__(self, tokens: Tokens, context: Any = None) -> None:
        self.tokens, self.context = tokens, context


class Row(Text):
    """A text in the queue."""

    __slots__ = ("arrived", "index", "job")

    def __init__(self, tokens: Tokens, context: Any, job: Job, index: int, arrived: float) -> None:
        self.tokens, self.context = tokens, context
        self.job, self.index, self.arrived = job, index, arrived


def settle(rows: Sequence[Row], results: Sequence[Any]) -> None:
    """On the event loop: results where they belong; jobs that are complete are answered.

    A result that is an exception is its job's answer.
    """
    for row, result in zip(rows, results, strict=True):
        job = row.job
        if job.future.done():
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.results[row.index] = result
            job.open -= 1
            if not job.open:
                job.future.set_result(job.results)


def fail(rows: Sequence[Row], error: Callable[[], BaseException]) -> None:
    """On the event loop: jobs that cannot be answered."""
    for row in rows:
        if not row.job.future.done():
            row.job.future.set_exception(error())


class _Shelf:
    """The waiting rows of one lane, by length."""

    def __init__(self) -> None:
        self.groups: dict[int, deque[Row]] = {}
        self.rows = 0
        self.tokens = 0

    def put(self, row: Row) -> None:
        length = len(row.tokens.ids)
        group = self.groups.get(length)
        if group is None:
            group = self.groups[length] = deque()
        group.append(row)
        self.rows += 1
        self.tokens += length

    def take(self, budget: int, now: float) -> list[Row]:
        """Rows of one length, at most ``budget`` tokens but at least one row; those nobody waits for are left out."""
        while self.rows:
            length = self._choose(budget, now)
            batch = self._pull(length, max(1, budget // length))
            if batch:
                return batch
        return []

    def _choose(self, budget: int, now: float) -> int:
        eldest, since, fullest, most = 0, float("inf"), 0, 0
        for length, group in self.groups.items():
            if group[0].arrived < since:
                eldest, since = length, group[0].arrived
            size = min(len(group) * length, budget)
            if size > most:
                fullest, most = length, size
        return eldest if now - since > PATIENCE else fullest

    def _pull(self, length: int, most: int) -> list[Row]:
        group = self.groups[length]
        batch: list[Row] = []
        while group and len(batch) < most:
            row = group.popleft()
            self.rows -= 1
            self.tokens -= length
            if not row.job.waiting.over:
                batch.append(row)
        if not group:
            del self.groups[length]
        return batch

    def sweep(self) -> None:
        """Forget the rows nobody waits for."""
        kept = [row for group in self.groups.values() for row in group if not row.job.waiting.over]
        self.groups.clear()
        self.rows = self.tokens = 0
        for row in kept:
            self.put(row)


class Batches:
    """What waits for a deployment's workers. Thread-safe.

    ``budget`` is the most tokens of a batch. Besides the workers there is one express worker: it takes searches
    while all others are busy with ingest.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._shelves = (_Shelf(), _Shelf())
        mutex = Lock()
        self._lock, self._express = Condition(mutex), Condition(mutex)
        self._idle = 0
        self._ingesting = 0
        self._workers = 0
        self._searches = 0
        self._stale = 0
        self._woken = 0
        self._closed = False

    def put(self, rows: Sequence[Row], lane: Lane) -> int:
        """Add rows of one lane; the number of rows that wait now."""
        with self._lock:
            shelf = self._shelves[lane]
            for row in rows:
                shelf.put(row)
            if self._idle:
                self._lock.notify(min(self._idle, len(rows)))
            elif lane is Lane.SEARCH and self._ingesting >= self._workers:
                self._express.notify()
            return self.waiting

    @property
    def waiting(self) -> int:
        return self._shelves[0].rows + self._shelves[1].rows

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return self._shelves[0].tokens + self._shelves[1].tokens

    def join(self) -> None:
        """A worker begins."""
        with self._lock:
            self._workers += 1

    def leave(self) -> None:
        """A worker ends."""
        with self._lock:
            self._workers -= 1

    def take(self, idle: float | None) -> list[Row] | None:
        """The next batch for a worker; None when all is over.

        Empty when there is nothing to do: after ``idle`` seconds, or at ``wake``.
        """
        with self._lock:
            while not self._closed:
                batch = self._next()
                if batch:
                    return batch
                woken, self._idle = self._woken, self._idle + 1
                notified = self._lock.wait(idle)
                self._idle -= 1
                if not self._closed and not self.waiting and (not notified or woken != self._woken):
                    return []
            return None

    def _next(self) -> list[Row]:
        search, ingest = self._shelves
        now = time.monotonic()
        if search.rows and (self._searches < TURNS or not ingest.rows):
            batch = search.take(self.budget, now)
            if batch:
                self._searches += 1
                return batch
        self._searches = 0
        batch = ingest.take(self.budget, now)
        if batch:
            self._ingesting += 1
            if search.rows and self._ingesting >= self._workers:
                self._express.notify()
            return batch
        return search.take(self.budget, now)

    def wake(self) -> None:
        """Idle workers look again at what is wanted of them."""
        with self._lock:
            self._woken += 1
            self._lock.notify_all()

    def done(self, lane: Lane) -> None:
        """A worker has finished a batch."""
        if lane is Lane.INGEST:
            with self._lock:
                self._ingesting -= 1

    def take_express(self) -> list[Row] | None:
        """The next searches, when every worker is busy with ingest; None when all is over."""
        with self._lock:
            while not self._closed:
                if self._workers and self._ingesting >= self._workers:
                    batch = self._shelves[Lane.SEARCH].take(self.budget, time.monotonic())
                    if batch:
                        return batch
                self._express.wait()
            return None

    def abandon(self, rows: int) -> None:
        """So many rows may be waiting for nobody; now and then they are swept out."""
        with self._lock:
            self._stale += rows
            if self._stale > 1000:
                self._stale = 0
                for shelf in self._shelves:
                    shelf.sweep()

    def close(self) -> list[Row]:
        """No more batches; what was left."""
        with self._lock:
            self._closed = True
            rest = [row for shelf in self._shelves for group in shelf.groups.values() for row in group]
            self._shelves = (_Shelf(), _Shelf())
            self._lock.notify_all()
            self._express.notify_all()
            return rest
