"""The one thread that talks to the database; the event loop only ever sees finished views."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from inferd.errors import Rejected, StorageError
from inferd.store import database
from inferd.store.migrations import migrate
from inferd.store.secretbox import SecretBox
from inferd.store.transaction import Kind, Transaction, View, advance, read_counter

_log = logging.getLogger(__name__)
R = TypeVar("R")

_RETRY = 0.02
"""Seconds between two tries to open a store that another process is just making."""


_NOTHING = View(-2, {})
"""Before the first look; no counter is one more, so that look is at everything."""


class _Job(Generic[R]):
    """Work for the thread. The future belongs to the loop; the thread only looks whether its asker left."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], R], future: "asyncio.Future[R]") -> None:
        self.work = work
        self.future = future


class Worker:
    """Runs write transactions one after another, and looks every ``poll`` seconds what other processes wrote.

    ``publish(view)`` is called on the event loop: after another process's write, and before a write of our own is
    acknowledged. At most ``capacity`` writes wait (then ``Rejected``); none is waited for longer than ``patience``
    seconds; a lock or a silent database is waited for ``wait`` seconds (then ``StorageError``).
    """

    def __init__(
        self,
        url: str,
        box: SecretBox,
        kinds: tuple[Kind[Any], ...],
        publish: Callable[[View], None],
        *,
        wait: float,
        poll: float,
        capacity: int,
        patience: float,
    ) -> None:
        self._url, self._box, self._kinds, self._publish = url, box, kinds, publish
        self._wait, self._poll_every, self._capacity, self._patience = wait, poll, capacity, patience
        self._view = _NOTHING
        self._opened: sa.Engine | None = None
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._waiting = 0
        self._closing = False
        self._poll_failed = False

    async def start(self) -> None:
        """Opens, migrates and loads. Raises ``StorageError`` with a sentence for the operator."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        threading.Thread(target=self._main, name="inferd-store", daemon=True).start()
        try:
            await self._submit(self._open)
        except BaseException:
            await self.close()
            raise

    async def write(self, work: Callable[[Transaction], R]) -> R:
        """Runs ``work`` in a write transaction; on return it is durable and published."""
        return await self.run(lambda: self._commit(work))

    async def scrub(self) -> None:
        """Leaves nothing overwritten in the database's own files."""
        await self.run(lambda: database.scrub(self._engine))

    async def run(self, work: Callable[[], R]) -> R:
        """Runs ``work`` on the thread. A caller that leaves before its turn takes its work with it."""
        if self._closing:
            raise Rejected("the store is closing")
        if self._waiting >= self._capacity:
            raise Rejected(f"the store's queue is full: [{self._capacity}] writes are waiting")
        try:
            async with asyncio.timeout(self._patience):
                result: R = await self._submit(work)
                return result
        except TimeoutError:
            raise StorageError(
                f"the store did not answer within [{self._patience:g}s]; whether it wrote is not known",
                status=503,
            ) from None

    def _submit(self, work: Callable[[], R]) -> "asyncio.Future[R]":
        future: asyncio.Future[R] = self._loop.create_future()
        self._waiting += 1
        self._jobs.put(_Job(work, future))
        return future

    async def close(self) -> None:
        """Writes that were accepted are finished first."""
        if not self._closing:
            self._closing = True
            self._jobs.put(None)
        try:
            async with asyncio.timeout(self._patience):
                await asyncio.shield(self._ended)
        except TimeoutError:
            _log.error("the store did not close within [%gs]", self._patience)

    def _settle(self, job: _Job[R], result: R | None, error: BaseException | None) -> None:
        """On the loop."""
        self._waiting -= 1
        if job.future.done():
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(cast(R, result))

    # From here on: the thread.

    def _main(self) -> None:
        with contextlib.suppress(_LoopClosed):
            while (job := self._next()) is not None:
                self._serve(job)
        if self._opened:
            self._opened.dispose()
        with contextlib.suppress(_LoopClosed):
            self._tell(self._ended.set_result, None)

    def _next(self) -> _Job[Any] | None:
        while True:
            try:
                return self._jobs.get(timeout=self._poll_every)
            except Empty:
                self._poll()

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # nobody closed the store before the loop ended
            raise _LoopClosed from None

    def _serve(self, job: _Job[Any]) -> None:
        if job.future.done():
            self._tell(self._settle, job, None, None)
            return
        try:
            result = job.work()
        except SQLAlchemyError as bad:
            fault = database.fault(bad, self._wait)
            fault.__cause__ = bad
            self._tell(self._settle, job, None, fault)
        except Exception as bad:
            self._tell(self._settle, job, None, bad)
        else:
            self._tell(self._settle, job, result, None)

    @property
    def _engine(self) -> sa.Engine:
        if self._opened is None:
            self._opened = database.connect(self._url, self._wait)
        return self._opened

    def _open(self) -> None:
        """Another process may be making the same database: some of SQLite's first steps do not wait by themselves."""
        deadline = time.monotonic() + self._wait
        while True:
            try:
                return self._commit(Transaction.settle_key, before=migrate)
            except SQLAlchemyError as bad:
                if not database.is_locked(bad) or time.monotonic() > deadline:
                    reason = database.fault(bad, self._wait).reason
                    raise StorageError(
                        f"the store [{database.place(self._url)}] cannot be opened: {reason}"
                    ) from bad
            time.sleep(_RETRY)

    def _commit(
        self, work: Callable[[Transaction], R], before: Callable[[sa.Connection], None] | None = None
    ) -> R:
        """The new view is read inside the transaction: nothing can fail between commit and acknowledgement."""
        with database.writing(self._engine) as connection, connection.begin():
            if before:
                before(connection)
            transaction = Transaction(connection, self._box)
            result = work(transaction)
            view = advance(connection, self._view, self._kinds, self._box, transaction)
        self._show(view)
        return result

    def _show(self, view: View) -> None:
        self._view = view
        self._tell(self._publish, view)

    def _poll(self) -> None:
        """Trouble is logged once and tried again; meanwhile the last view serves."""
        if self._loop.is_closed():
            raise _LoopClosed
        if self._view is _NOTHING:  # not open yet
            return
        try:
            view = self._look()
        except Exception as bad:
            if not self._poll_failed:
                trace = None if isinstance(bad, StorageError) else bad
                _log.error("changes by other processes are not seen: %s", bad, exc_info=trace)
            self._poll_failed = True
            return
        if self._poll_failed:
            _log.warning("changes by other processes are seen again")
        self._poll_failed = False
        if view is not self._view:
            self._show(view)

    def _look(self) -> View:
        try:
            with database.reading(self._engine) as connection, connection.begin():
                if read_counter(connection) == self._view.counter:
                    return self._view
                return advance(connection, self._view, self._kinds, self._box)
        except SQLAlchemyError as bad:
            raise database.fault(bad, self._wait) from bad


class _LoopClosed(Exception):
    """The event loop that owns the store is gone."""
