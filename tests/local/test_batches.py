"""What waits, and what goes next."""

import asyncio
import threading
import time

import pytest

from inferd.errors import StatusError
from inferd.local.batches import TURNS, Batches, Job, Lane, Row, Waiting, fail, settle
from inferd.local.tokens import Tokens


def rows(lengths: list[int], lane: Lane = Lane.SEARCH, *, until: float = 60, age: float = 0) -> list[Row]:
    waiting = Waiting(time.monotonic() + until)
    job = Job(len(lengths), lane, waiting, asyncio.get_running_loop())
    arrived = time.monotonic() - age
    return [Row(Tokens([7] * length, length), None, job, i, arrived) for i, length in enumerate(lengths)]


def lengths(batch: list[Row] | None) -> list[int]:
    assert batch is not None
    return [len(row.tokens.ids) for row in batch]


async def test_a_batch_holds_one_length_and_no_more_than_the_budget() -> None:
    """Equal lengths are gathered across requests; whatever is longer than the budget goes alone."""
    batches = Batches(20)
    for _ in range(3):
        batches.put(rows([5, 7, 5, 30]), Lane.SEARCH)
    seen = [lengths(batches.take(0)) for _ in range(7)]
    assert sorted(map(tuple, seen)) == sorted([(5,) * 4, (5,) * 2, (7,) * 2, (7,), (30,), (30,), (30,)])
    assert batches.take(0) == []


async def test_the_fullest_group_goes_first_until_the_oldest_has_waited_long() -> None:
    """Throughput first, but nobody starves."""
    batches = Batches(100)
    batches.put(rows([9], age=0.1), Lane.SEARCH)
    batches.put(rows([5] * 6), Lane.SEARCH)
    assert lengths(batches.take(0)) == [5] * 6
    batches.put(rows([5] * 6), Lane.SEARCH)
    batches.put(rows([8], age=9), Lane.SEARCH)
    assert lengths(batches.take(0)) == [8]


async def test_searches_go_before_ingest_but_not_for_ever() -> None:
    """After so many batches of searches, waiting ingest gets one."""
    batches = Batches(10)
    batches.join()
    batches.put(rows([10] * 3, Lane.INGEST), Lane.INGEST)
    batches.put(rows([9] * (TURNS + 5)), Lane.SEARCH)
    seen = [lengths(batches.take(0))[0] for _ in range(TURNS + 2)]
    assert seen == [9] * TURNS + [10, 9]


async def test_what_nobody_waits_for_is_dropped_before_it_runs() -> None:
    """Timed out and abandoned rows are skipped, their neighbours are not."""
    batches = Batches(100)
    late, gone, good = rows([5], until=-1), rows([5]), rows([5])
    gone[0].job.waiting.left = True
    for some in (late, gone, good):
        batches.put(some, Lane.SEARCH)
    assert batches.take(0) == good
    assert (batches.waiting, batches.tokens) == (0, 0)


async def test_abandoned_rows_are_swept_out_of_the_queue() -> None:
    """Clients that leave by the thousand leave nothing behind."""
    batches = Batches(100)
    for _ in range(4):
        left = rows([5] * 300, Lane.INGEST)
        batches.put(left, Lane.INGEST)
        left[0].job.waiting.left = True
        batches.abandon(300)
    kept = rows([6])
    batches.put(kept, Lane.SEARCH)
    assert batches.waiting <= 301
    assert batches.take(0) == kept


async def test_the_express_worker_takes_searches_while_all_others_ingest() -> None:
    """It wakes for a search when the only worker is busy with ingest, and not before."""
    batches = Batches(100)
    batches.join()
    seen: list[list[Row] | None] = []
    thread = threading.Thread(target=lambda: seen.append(batches.take_express()))
    thread.start()
    batches.put(rows([5], Lane.INGEST), Lane.INGEST)
    assert lengths(batches.take(0)) == [5]
    search = rows([6])
    batches.put(search, Lane.SEARCH)
    await asyncio.to_thread(thread.join, 5)
    assert seen == [search]
    batches.done(Lane.INGEST)


async def test_an_idle_worker_gives_up_after_its_time_and_all_at_the_end() -> None:
    """Empty when idle, None when closed; what was left is given back."""
    batches = Batches(100)
    assert batches.take(0.01) == []
    left = rows([5, 6])
    batches.put(left, Lane.INGEST)
    assert sorted(map(id, batches.close())) == sorted(map(id, left))
    assert batches.take(None) is None
    assert batches.take_express() is None


async def test_a_job_is_answered_when_all_its_rows_are() -> None:
    """Results come back in the request's order, whatever order they were made in."""
    some = rows([5, 6, 5])
    settle([some[0], some[2]], ["a", "c"])
    assert not some[0].job.future.done()
    settle([some[1]], ["b"])
    assert await some[0].job.future == ["a", "b", "c"]


async def test_a_row_that_fails_fails_its_job_alone() -> None:
    """An exception among the results is the answer of its job."""
    bad, good = rows([5]), rows([5])
    settle([*bad, *good], [StatusError(500, "bad"), "fine"])
    with pytest.raises(StatusError, match="bad"):
        await bad[0].job.future
    assert await good[0].job.future == ["fine"]
    other = rows([5])
    fail([*bad, *other], lambda: StatusError(503, "stopped"))
    with pytest.raises(StatusError, match="stopped"):
        await other[0].job.future
