"""A running model under load, deadlines and change. The runner is a slow model of our making."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tiny_model import row

from inferd.core.tasks import TaskType
from inferd.errors import Rejected, StatusError
from inferd.local.batches import Lane, Text
from inferd.local.catalogue import Recipe
from inferd.local.deployment import Allocations, Deployment, slices
from inferd.local.tokens import Tokens

MODEL = row(TaskType.TEXT_EMBEDDING, Recipe.DENSE)
ONE = Allocations(least=1, most=1, initial=1)


class Runner:
    """Answers each text with its length, after a while, or when told."""

    model = MODEL

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.go = threading.Event()
        self.go.set()
        self.batches: list[list[int]] = []
        self.lanes: list[Lane] = []
        self.together = self.most_together = 0
        self.lock = threading.Lock()

    def run(self, rows: Sequence[Text], lane: Lane) -> Sequence[Any]:
        with self.lock:
            self.batches.append([len(row.tokens.ids) for row in rows])
            self.lanes.append(lane)
            self.together += 1
            self.most_together = max(self.most_together, self.together)
        time.sleep(self.seconds)
        assert self.go.wait(10)
        with self.lock:
            self.together -= 1
        if any(row.tokens.ids == [13] for row in rows):
            raise ZeroDivisionError("a secret detail")
        return [len(row.tokens.ids) for row in rows]


def encode(text: str) -> Sequence[Tokens]:
    return (Tokens([ord(c) for c in text], len(text)),)


@asynccontextmanager
async def deployed(
    runner: Runner, allocations: Allocations = ONE, loads: list[float] | None = None, **more: Any
) -> AsyncIterator[Deployment]:
    def load() -> Runner:
        if loads is not None:
            loads.append(time.monotonic())
        return runner

    facts = {"threads": 1, "budget": 100, "queue_capacity": 1000, "idle_seconds": 60.0}
    with ThreadPoolExecutor(4) as executor:
        deployment = Deployment(
            "d", "tiny", load, allocations=allocations, executor=executor, **{**facts, **more}
        )
        try:
            yield deployment
        finally:
            runner.go.set()
            await deployment.stop(1.0)


def ask(deployment: Deployment, *texts: str, lane: Lane = Lane.SEARCH, seconds: float = 20.0) -> Any:
    deadline = asyncio.get_running_loop().time() + seconds
    return deployment.ask(texts, encode, lane=lane, deadline=deadline, timeout=f"{seconds:g}s")


async def until(condition: Any, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)


async def test_results_are_in_order_and_tokens_are_counted() -> None:
    """Whatever the lengths, each text gets its own result."""
    async with deployed(Runner()) as deployment:
        answer = await ask(deployment, "aaa", "b", "cc")
        assert answer.results == answer.used == answer.given == [3, 1, 2]


async def test_a_full_queue_refuses_and_names_its_limit() -> None:
    """Request number queue_capacity + 1 is a 429; when one is done the next is taken."""
    runner = Runner()
    runner.go.clear()
    async with deployed(runner, queue_capacity=2) as deployment:
        waiting = [asyncio.create_task(ask(deployment, "aa")) for _ in range(2)]
        await until(lambda: deployment.statistics().pending == 2)
        with pytest.raises(Rejected, match=r"queue_capacity is \[2\]") as caught:
            await ask(deployment, "aa")
        assert caught.value.status == 429
        runner.go.set()
        await asyncio.gather(*waiting)
        assert (await ask(deployment, "aa")).results == [2]
        assert deployment.statistics().rejected == 1


async def test_a_deadline_is_kept_and_told_in_the_callers_words() -> None:
    """Past its timeout a request is the contract's 408, and work that is still queued never runs."""
    runner = Runner()
    runner.go.clear()
    async with deployed(runner) as deployment:
        first = asyncio.create_task(ask(deployment, "a"))
        await until(lambda: runner.batches)
        with pytest.raises(StatusError) as caught:
            await ask(deployment, "bb", seconds=0.05)
        assert (caught.value.status, caught.value.reason) == (
            408,
            "timeout [0.05s] waiting for inference result",
        )
        runner.go.set()
        await first
        assert (await ask(deployment, "ccc")).results == [3]
        assert [2] not in runner.batches


async def test_a_cancelled_request_never_runs() -> None:
    """A client that leaves takes its queued texts with it."""
    runner = Runner()
    runner.go.clear()
    async with deployed(runner) as deployment:
        first = asyncio.create_task(ask(deployment, "a"))
        await until(lambda: runner.batches)
        gone = asyncio.create_task(ask(deployment, *["bb"] * 50))
        await until(lambda: deployment.statistics().waiting == 50)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        runner.go.set()
        await first
        assert (await ask(deployment, "ccc")).results == [3]
        assert runner.batches == [[1], [3]]
        assert deployment.statistics().pending == 0


async def test_a_search_waits_for_one_batch_of_ingest_at_most() -> None:
    """Beside a thousand passages a search is answered by the express worker at once."""
    runner = Runner(0.02)
    async with deployed(runner) as deployment:
        bulk = asyncio.create_task(ask(deployment, *["x" * 50] * 200, lane=Lane.INGEST))
        await until(lambda: runner.batches)
        began = time.monotonic()
        await ask(deployment, "a")
        assert time.monotonic() - began < 0.5
        assert not bulk.done()
        assert (await bulk).results == [50] * 200


async def test_ten_thousand_inputs_are_taken_in_slices() -> None:
    """A huge request is answered whole, in order, with a bounded part of it in the queue at a time."""
    runner = Runner()
    most = 0
    texts = ["x" * (1 + n % 7) for n in range(10_000)]
    async with deployed(runner) as deployment:
        work = asyncio.create_task(ask(deployment, *texts, lane=Lane.INGEST))
        while not work.done():
            most = max(most, deployment.statistics().waiting)
            await asyncio.sleep(0)
        assert (await work).results == [len(text) for text in texts]
        assert 0 < most <= 1024


def test_slices_are_bounded_in_texts_and_characters() -> None:
    """Long texts travel in smaller slices; nothing is lost."""
    texts = ["x" * 200_000] * 5 + ["y"] * 1000
    cut = list(slices(texts))
    assert [text for some in cut for text in some] == texts
    assert all(len(some) <= 512 and (len(some) == 1 or sum(map(len, some)) <= 500_000) for some in cut)
    assert list(slices(["x" * 10**6])) == [["x" * 10**6]]


async def test_an_adaptive_deployment_grows_with_its_queue_and_shrinks_to_nothing() -> None:
    """From zero to its limit under load, back to zero when idle, and up again at the next question."""
    runner, loads = Runner(0.01), []
    async with deployed(
        runner, Allocations(least=0, most=3, initial=1), loads, idle_seconds=0.1, budget=1
    ) as deployment:
        assert deployment.workers == 0
        await asyncio.gather(*(ask(deployment, "a") for _ in range(100)))
        assert runner.most_together == 3
        await until(lambda: deployment.workers == 0 and not deployment.loaded)
        assert (await ask(deployment, "aa")).results == [2]
        assert len(loads) == 2


async def test_a_fixed_deployment_keeps_its_workers() -> None:
    """Without adaptive allocations nothing comes and nothing goes."""
    runner = Runner(0.01)
    fixed = Allocations(least=2, most=2, initial=2)
    async with deployed(runner, fixed, idle_seconds=0.02, budget=1) as deployment:
        await asyncio.gather(*(ask(deployment, "a") for _ in range(60)))
        assert runner.most_together == 2
        await asyncio.sleep(0.1)
        assert deployment.workers == 2


async def test_allocations_change_while_it_runs() -> None:
    """More workers start at once; superfluous ones end."""
    async with deployed(Runner()) as deployment:
        await ask(deployment, "a")
        deployment.resize(Allocations(least=3, most=3, initial=3))
        assert deployment.workers == 3
        deployment.resize(ONE)
        await until(lambda: deployment.workers == 1)
        assert (await ask(deployment, "aa")).results == [2]


async def test_stopping_finishes_what_is_there_and_refuses_the_rest() -> None:
    """Within the grace requests are answered; after it, and for new ones, 503."""
    runner = Runner(0.05)
    async with deployed(runner) as deployment:
        work = asyncio.create_task(ask(deployment, "a"))
        await until(lambda: runner.batches)
        await deployment.stop(5.0)
        assert (await work).results == [1]
        with pytest.raises(StatusError, match=r"\[d\] was stopped") as caught:
            await ask(deployment, "a")
        assert caught.value.status == 503


async def test_what_is_still_queued_when_the_grace_is_over_gets_503() -> None:
    """Nobody waits for ever on a model that is gone."""
    runner = Runner()
    runner.go.clear()
    async with deployed(runner) as deployment:
        running = asyncio.create_task(ask(deployment, "a"))
        await until(lambda: runner.batches)
        queued = asyncio.create_task(ask(deployment, "bb"))
        await until(lambda: deployment.statistics().waiting == 1)
        asyncio.get_running_loop().call_later(0.2, runner.go.set)
        await deployment.stop(0.05)
        with pytest.raises(StatusError, match="was stopped"):
            await queued
        running.cancel()


async def test_a_model_that_fails_says_so_without_details(caplog: pytest.LogCaptureFixture) -> None:
    """The caller learns that the model failed, the log why; the worker lives on."""
    async with deployed(Runner()) as deployment:
        with pytest.raises(StatusError) as caught:
            await ask(deployment, "\r")
        assert caught.value.status == 500
        assert "secret detail" not in caught.value.reason
        assert "secret detail" in caplog.text
        assert (await ask(deployment, "ok")).results == [2]
        assert deployment.statistics().errors == 1


async def test_a_start_that_fails_is_told_to_all_and_tried_again() -> None:
    """Everybody who waited gets the error; the next question starts anew."""
    attempts = []

    def load() -> Runner:
        attempts.append(1)
        if len(attempts) == 1:
            raise StatusError(404, "not here")
        return Runner()

    with ThreadPoolExecutor(2) as executor:
        deployment = Deployment(
            "d",
            "tiny",
            load,
            threads=1,
            allocations=ONE,
            budget=9,
            queue_capacity=9,
            idle_seconds=9,
            executor=executor,
        )
        both = await asyncio.gather(ask(deployment, "a"), ask(deployment, "a"), return_exceptions=True)
        assert [str(found) for found in both] == ["not here", "not here"]
        assert (await ask(deployment, "a")).results == [1]
        await deployment.stop(1)


async def test_the_event_loop_is_free_while_models_run() -> None:
    """A second of model work and a megabyte of text do not hold up the loop."""
    runner = Runner(0.3)
    async with deployed(runner) as deployment:
        work = asyncio.create_task(ask(deployment, "x" * 1_000_000, "y", lane=Lane.INGEST))
        worst, last = 0.0, time.monotonic()
        while not work.done():
            await asyncio.sleep(0.002)
            worst, last = max(worst, time.monotonic() - last), time.monotonic()
        await work
        assert worst < 0.2


async def test_statistics_count_what_was_done() -> None:
    """Texts, tokens and batches of a deployment, for people and scrapers."""
    async with deployed(Runner()) as deployment:
        await ask(deployment, "aa", "bb", "c")
        found = deployment.statistics()
        assert (found.inferences, found.tokens, found.batches, found.errors) == (3, 5, 2, 0)
        assert (found.allocations, found.pending, found.waiting, found.queue_capacity) == (1, 0, 0, 1000)
        assert found.last_used is not None
        assert found.last_used >= found.started
