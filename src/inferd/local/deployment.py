"""A running model: its workers, what waits for them, and what they did.

Workers are threads that borrow an engine session a batch. The event loop only tokenizes short texts, puts rows into
the queue and receives results.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Protocol

from msgspec import Struct

from inferd.core.results import Usage
from inferd.errors import InferdError, Rejected, StatusError
from inferd.local.batches import Batches, Job, Lane, Row, Text, Waiting, fail, settle
from inferd.local.catalogue import Model
from inferd.local.tokens import Tokens, until

_log = logging.getLogger(__name__)

Encode = Callable[[str], Sequence[Tokens]]
"""A text's tokens: one piece, or several where a long text is read in pieces."""

SHORT = 2_000
"""Characters up to which texts are tokenized on the event loop: some hundred microseconds."""
SLICE = 512
"""Texts of a request that are tokenized and queued at once; two slices are under way."""
SLICE_CHARACTERS = 500_000
CROWDED = 8
"""Waiting texts per worker at which an adaptive deployment adds one."""


class Runner(Protocol):
    """What a worker does with a batch: one result a row."""

    model: Model

    def run(self, rows: Sequence[Text], lane: Lane) -> Sequence[Any]: ...


class Allocations(Struct, frozen=True, kw_only=True):
    """How many workers: between ``least`` and ``most``, started with ``initial``."""

    least: int
    most: int
    initial: int

    @property
    def adaptive(self) -> bool:
        return self.least != self.most


class Statistics(Struct, frozen=True, kw_only=True):
    """Counts since the start. ``pending`` and ``rejected`` count requests; the others count texts."""

    id: str
    model_id: str
    threads: int
    allocations: int
    least: int
    most: int
    pending: int
    waiting: int
    queue_capacity: int
    inferences: int
    tokens: int
    batches: int
    errors: int
    rejected: int
    timeouts: int
    average_ms: float
    """Engine time of one text, on average; 0 before the first."""
    started: float
    """Seconds since the epoch."""
    last_used: float | None


class _Counts:
    """Written by workers under the lock of their deployment."""

    def __init__(self) -> None:
        self.inferences = self.tokens = self.batches = self.errors = 0
        self.rejected = self.timeouts = 0
        self.seconds = 0.0
        self.last_used: float | None = None


class Deployment:
    """One model, its workers and its queue. Made and asked on one event loop."""

    def __init__(
        self,
        id: str,
        model_id: str,
        load: Callable[[], Runner],
        *,
        threads: int,
        allocations: Allocations,
        budget: int,
        queue_capacity: int,
        idle_seconds: float,
        executor: Executor,
    ) -> None:
        self.id, self.model_id, self.threads = id, model_id, threads
        self.allocations = allocations
        self._load = load
        self._budget, self._capacity, self._idle_seconds = budget, queue_capacity, idle_seconds
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._batches = Batches(budget)
        self._lock = threading.Lock()
        self._workers = 0
        self._express = False
        self._threads: set[threading.Thread] = set()
        self._starting: asyncio.Future[None] | None = None
        self._runner: Runner | None = None
        self._pending = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._stopping = False
        self._counts = _Counts()
        self._started = time.time()

    # Starting and stopping

    @property
    def workers(self) -> int:
        return self._workers

    @property
    def loaded(self) -> bool:
        return self._runner is not None

    @property
    def starting(self) -> bool:
        return self._starting is not None

    async def start(self) -> None:
        """Load the model and start the workers, or wait for who does."""
        if self._runner is not None and self._workers:
            return
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
            self._starting.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Others may wait for the same start: one that leaves does not stop it.
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        try:
            self._runner = await self._loop.run_in_executor(self._executor, self._load)
            while self._workers < max(1, self.allocations.initial) and not self._stopping:
                self._add_worker()
        finally:
            self._starting = None

    def resize(self, allocations: Allocations) -> None:
        """Other bounds: missing workers start now, superfluous ones end after their batch."""
        self.allocations = allocations
        if self._runner is not None and self._workers:
            while self._workers < max(allocations.least, min(allocations.initial, allocations.most)):
                self._add_worker()
            self._batches.wake()

    async def stop(self, grace: float) -> None:
        """Take nothing new, finish what is there within ``grace`` seconds, refuse the rest with 503."""
        self._stopping = True
        try:
            async with asyncio.timeout(grace):
                await self._quiet.wait()
        except TimeoutError:
            pass
        fail(self._batches.close(), self._gone)
        threads = tuple(self._threads)
        await self._loop.run_in_executor(self._executor, _join, threads, max(1.0, grace))

    def _gone(self) -> StatusError:
        return StatusError(503, f"The deployment [{self.id}] was stopped")

    # Asking

    async def ready(self, deadline: float, timeout: str) -> Any:
        """The runner, loaded if need be."""
        if self._runner is None or not self._workers:
            try:
                async with asyncio.timeout_at(deadline):
                    await self.start()
            except TimeoutError:
                raise self._late(timeout) from None
        return self._runner

    def _late(self, timeout: str) -> StatusError:
        self._counts.timeouts += 1
        return StatusError(408, f"timeout [{timeout}] waiting for inference result")

    async def ask(
        self,
        texts: Sequence[str],
        encode: Encode,
        *,
        lane: Lane,
        deadline: float,
        timeout: str,
        context: Any = None,
    ) -> "Answer":
        """What the runner makes of each text.

        ``deadline`` is of the loop's clock; past it the error is the contract's 408, in which ``timeout`` is the
        duration as the caller gave it. Raises ``Rejected`` when the queue is full.
        """
        self._admit()
        waiting = Waiting(time.monotonic() + deadline - self._loop.time())
        try:
            async with asyncio.timeout_at(deadline):
                if not self._workers:
                    await self.start()
                return await self._answer(texts, encode, lane, waiting, context)
        except TimeoutError:
            raise self._late(timeout) from None
        finally:
            waiting.left = True
            self._pending -= 1
            if not self._pending:
                self._quiet.set()

    def _admit(self) -> None:
        if self._stopping:
            raise self._gone()
        if self._pending >= self._capacity:
            self._counts.rejected += 1
            raise Rejected(
                f"The queue of the deployment [{self.id}] is full: [{self._pending}] requests wait, "
                f"queue_capacity is [{self._capacity}]"
            )
        self._pending += 1
        self._quiet.clear()

    async def _answer(
        self, texts: Sequence[str], encode: Encode, lane: Lane, waiting: Waiting, context: Any
    ) -> "Answer":
        answer = Answer()
        jobs: deque[Job] = deque()
        try:
            for some in slices(texts):
                if sum(map(len, some)) <= SHORT:
                    pieces = [encode(text) for text in some]
                else:
                    pieces = await self._loop.run_in_executor(
                        self._executor, encode_all, some, encode, waiting
                    )
                jobs.append(self._put(answer.add(pieces), lane, waiting, context))
                if len(jobs) > 1:
                    answer.results += await jobs[0].future
                    jobs.popleft()
            while jobs:
                answer.results += await jobs[0].future
                jobs.popleft()
        finally:
            for job in jobs:
                job.future.cancel()
                self._batches.abandon(job.open)
        return answer

    def _put(self, tokens: list[Tokens], lane: Lane, waiting: Waiting, context: Any) -> Job:
        job = Job(len(tokens), lane, waiting, self._loop)
        now = time.monotonic()
        self._batches.put([Row(found, context, job, index, now) for index, found in enumerate(tokens)], lane)
        if self._workers < self.allocations.most:
            self._grow()
        return job

    def _grow(self) -> None:
        """One worker more where each has plenty to do."""
        crowded = self._batches.waiting >= CROWDED * self._workers
        if crowded or self._batches.tokens > 2 * self._budget * self._workers:
            self._add_worker()

    # Working, on the workers' threads

    def _add_worker(self) -> None:
        with self._lock:
            self._workers += 1
            self._batches.join()
        self._thread(self._work)
        if not self._express:
            self._express = True
            self._thread(self._work_express)

    def _thread(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guard, args=(target,), name=f"inferd {self.id}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _guard(self, target: Callable[[], None]) -> None:
        try:
            target()
        finally:
            self._threads.discard(threading.current_thread())

    def _work(self) -> None:
        while True:
            rows = self._batches.take(self._idle_seconds if self._workers > self.allocations.least else None)
            if rows is None:
                return
            if rows:
                self._run(rows)
                self._batches.done(rows[0].job.lane)
            if (not rows or self._workers > self.allocations.most) and self._retire():
                return

    def _work_express(self) -> None:
        while (rows := self._batches.take_express()) is not None:
            self._run(rows)

    def _retire(self) -> bool:
        """End this worker unless it is needed after all."""
        with self._lock:
            spare = self._workers > self.allocations.most
            if not spare and (self._workers <= self.allocations.least or self._batches.waiting):
                return False
            self._workers -= 1
            self._batches.leave()
            last = not self._workers
        if last:
            self._call(self._release)
        return True

    def _release(self) -> None:
        """Nobody works here: the model's memory may go."""
        if not self._workers and not self._pending and self._starting is None:
            self._runner = None

    def _run(self, rows: list[Row]) -> None:
        runner, began = self._runner, time.perf_counter()
        try:
            assert runner is not None
            results = runner.run(rows, rows[0].job.lane)
        except Exception as error:
            self._count(rows, time.perf_counter() - began, failed=True)
            self._call(fail, rows, self._told(error))
        else:
            self._count(rows, time.perf_counter() - began, failed=False)
            self._call(settle, rows, results)

    def _told(self, error: Exception) -> Callable[[], Exception]:
        """What a batch's callers get. The details of what is not ours go to the log only."""
        if isinstance(error, InferdError):
            return lambda: error
        _log.error("The model [%s] failed", self.model_id, exc_info=error)
        return lambda: StatusError(500, f"The model [{self.model_id}] failed; the log has the reason")

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """On the event loop, unless that is closed: then nobody waits any more."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _count(self, rows: list[Row], seconds: float, *, failed: bool) -> None:
        with self._lock:
            counts = self._counts
            counts.batches += 1
            counts.seconds += seconds
            counts.tokens += len(rows) * len(rows[0].tokens.ids)
            counts.last_used = time.time()
            if failed:
                counts.errors += len(rows)
            else:
                counts.inferences += len(rows)

    def statistics(self) -> Statistics:
        counts, allocations = self._counts, self.allocations
        return Statistics(
            id=self.id,
            model_id=self.model_id,
            threads=self.threads,
            allocations=self._workers,
            least=allocations.least,
            most=allocations.most,
            pending=self._pending,
            waiting=self._batches.waiting,
            queue_capacity=self._capacity,
            inferences=counts.inferences,
            tokens=counts.tokens,
            batches=counts.batches,
            errors=counts.errors,
            rejected=counts.rejected,
            timeouts=counts.timeouts,
            average_ms=1000 * counts.seconds / counts.inferences if counts.inferences else 0.0,
            started=self._started,
            last_used=counts.last_used,
        )


class Answer:
    """Results of a request, piece by piece in order. ``owners`` tells whose each is: the text's index.

    ``given`` and ``used`` are tokens by text: what it has, and what the model saw.
    """

    __slots__ = ("given", "owners", "results", "used")

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.owners: list[int] = []
        self.given: list[int] = []
        self.used: list[int] = []

    def add(self, pieces: Sequence[Sequence[Tokens]]) -> list[Tokens]:
        """Take note of more texts' tokens; all of them in one list."""
        flat: list[Tokens] = []
        for of_text in pieces:
            self.owners += [len(self.given)] * len(of_text)
            self.given.append(sum(piece.given for piece in of_text))
            self.used.append(sum(len(piece.ids) for piece in of_text))
            flat += of_text
        return flat

    @property
    def truncated(self) -> tuple[int, ...]:
        pairs = zip(self.given, self.used, strict=True)
        return tuple(index for index, (given, used) in enumerate(pairs) if given > used)

    @property
    def usage(self) -> Usage:
        return Usage(given=sum(self.given), used=sum(self.used))


def slices(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts in runs of at most ``SLICE``, and of ``SLICE_CHARACTERS`` unless one alone has more."""
    start = size = 0
    for index, text in enumerate(texts):
        size += len(text)
        if index > start and (index - start >= SLICE or size > SLICE_CHARACTERS):
            yield texts[start:index]
            start, size = index, len(text)
    yield texts[start:]


def encode_all(texts: Sequence[str], encode: Encode, waiting: Waiting) -> list[Sequence[Tokens]]:
    """On a thread: every text's tokens, as long as somebody waits for them."""
    made = []
    with until(lambda: waiting.over):
        for text in texts:
            if waiting.over:
                raise TimeoutError
            made.append(encode(text))
    return made


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
