"""Requests per minute: even spacing, first come first served, bounded."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from acme import Provider

from inferd.core.tasks import TaskType
from inferd.errors import Rejected, TimedOut
from inferd.upstream.client import rate_group
from inferd.upstream.limits import Limits


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    def later(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now + delay, len(self._timers), what))

    async def until(self, when: float) -> None:
        while self._timers and self._timers[0][0] <= when:
            self.now, _, what = heapq.heappop(self._timers)
            what()
            await asyncio.sleep(0)
        self.now = when
        await asyncio.sleep(0)


class Line:
    """Requests entering one by one, and when they were let go."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self.clock = clock
        self.limits = limits
        self.left: list[tuple[str, float]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def enter(self, name: str, per_minute: float = 60, key: Any = "g") -> asyncio.Task[None]:
        async def wait() -> None:
            await self.limits.enter(key, per_minute, name)
            self.left.append((name, self.clock.now - 100))

        task = asyncio.ensure_future(wait())
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    clock = Clock()
    line = Line(clock, Limits(capacity=3, clock=lambda: clock.now, later=clock.later))
    yield line
    for task in line.tasks:
        task.cancel()
    await asyncio.gather(*line.tasks, return_exceptions=True)


async def test_even_spacing_in_order(line: Line) -> None:
    """One a second at 60 a minute, the first at once, the others in the order they came."""
    for name in "abcd":
        await line.enter(name)
    await line.clock.until(110)
    assert line.left == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]


async def test_no_burst_after_a_rest(line: Line) -> None:
    """A rest saves up one request, not more."""
    await line.enter("a")
    await line.clock.until(160)
    for name in "bc":
        await line.enter(name)
    await line.clock.until(170)
    assert line.left == [("a", 0), ("b", 60), ("c", 61)]


async def test_nobody_overtakes(line: Line) -> None:
    """Who comes when a token is free but others wait goes to the end of the line."""
    await line.enter("a")
    await line.enter("b")
    line.clock.now = 101.0  # b's token exists, but b has not been woken yet
    await line.enter("c")
    await line.clock.until(103)
    assert [name for name, _ in line.left] == ["a", "b", "c"]


async def test_groups_are_independent(line: Line) -> None:
    """A full line holds up nobody else."""
    for name in "abcd":
        await line.enter(name)
    await line.enter("other", key="h")
    assert [name for name, _ in line.left] == ["a", "other"]


async def test_a_full_queue(line: Line) -> None:
    """One above the capacity is refused at once; the text names the endpoint and the group."""
    for name in "abcd":
        await line.enter(name)
    task = await line.enter("e")
    with pytest.raises(
        Rejected, match=r"^Failed to execute task for inference id \[e\] because the request service "
    ):
        await task
    with pytest.raises(Rejected, match=r"request service \[\d+\] queue is full$") as caught:
        await line.limits.enter("g", 60, "f")
    assert caught.value.status == 429


async def test_the_2001st(provider: Provider) -> None:
    """The queue takes 2000 by default; the next one is refused."""
    limits = Limits()
    await limits.enter("g", 1, "first")
    waiting = [asyncio.ensure_future(limits.enter("g", 1, str(n))) for n in range(2000)]
    await asyncio.sleep(0)
    with pytest.raises(Rejected, match="queue is full"):
        await limits.enter("g", 1, "one too many")
    limits.close()
    assert all(isinstance(r, Rejected) for r in await asyncio.gather(*waiting, return_exceptions=True))


async def test_who_leaves_makes_room(line: Line) -> None:
    """A cancelled waiter gives up its place and costs the others nothing."""
    for name in "abcd":
        await line.enter(name)
    line.tasks[1].cancel()
    line.tasks[2].cancel()
    await asyncio.sleep(0)
    await line.enter("e")
    await line.clock.until(110)
    assert line.left == [("a", 0), ("d", 1), ("e", 2)]


async def test_stopping(line: Line) -> None:
    """Whoever waits when the server stops is told so, and so is whoever comes later."""
    await line.enter("a")
    waiting = await line.enter("b")
    line.limits.close()
    with pytest.raises(
        Rejected,
        match=r"^Failed to send request, request service \[\d+\] for inference id \[b\] has shutdown prior to "
        r"executing request$",
    ):
        await waiting
    with pytest.raises(
        Rejected,
        match=r"^Failed to enqueue task for inference id \[c\] because the request service \[\d+\] has already shutdown$",
    ):
        await line.limits.enter("g", 60, "c")


async def test_idle_groups_are_forgotten(line: Line) -> None:
    """Groups do not pile up: those that equal a new one are dropped."""
    for n in range(5000):
        await line.limits.enter(n, 60_000, "x")
        line.clock.now += 0.01
    assert len(line.limits._groups) <= 1024


async def test_late_timers_do_not_lose_pace(line: Line) -> None:
    """A timer that fires late does not push everybody behind it back."""
    for name in "abcd":
        await line.enter(name, per_minute=6000)
    for _ in range(3):
        due = line.clock._timers[0][0]
        line.clock._timers[0] = (due + 0.004, 0, line.clock._timers[0][2])
        await line.clock.until(due + 0.004)
    assert [round(at, 3) for _, at in line.left] == [0, 0.014, 0.024, 0.034]


async def test_on_a_real_loop() -> None:
    """With the loop's own clock: 20 requests at 100 a second take about a fifth of a second, in order."""
    limits = Limits()
    order: list[int] = []

    async def one(n: int) -> None:
        await limits.enter("g", 6000, "x")
        order.append(n)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(one(n) for n in range(20)))
    assert order == list(range(20))
    assert 0.17 < loop.time() - began < 1.0


# In the client


async def test_calls_wait_their_turn(provider: Provider) -> None:
    """The endpoint's rate limit holds calls back, and the timeout counts while they wait."""
    provider.settings = {"rate_limit": {"requests_per_minute": 60}}
    provider.fake.answer(json={"vectors": [[1]]})
    await provider.call()
    with pytest.raises(TimedOut, match=r"^Request timed out after \[5s\] for inference id \[e1\]$"):
        await provider.call(timeout=0.1)
    assert len(provider.fake.requests) == 1


async def test_a_retry_needs_no_turn(provider: Provider) -> None:
    """The limit is for requests, not for attempts."""
    provider.settings = {"rate_limit": {"requests_per_minute": 1}}
    provider.fake.answer(status=500)
    provider.fake.answer(json={"vectors": [[1]]})
    await provider.call(timeout=2)
    assert len(provider.fake.requests) == 2


async def test_groups_are_accounts(provider: Provider) -> None:
    """Endpoints of one account, model and task share a limit; another key, model, rate or task has its own."""
    from inferd.core.secrets import Secret

    base = {"model_id": "m", "rate_limit": {"requests_per_minute": 60}}
    provider.settings = base
    first = rate_group(provider.service, provider.ask().endpoint)
    assert first == rate_group(provider.service, provider.ask().endpoint)
    others = [rate_group(provider.service, provider.ask(task=TaskType.COMPLETION).endpoint)]
    for change in ({"model_id": "n"}, {"rate_limit": {"requests_per_minute": 61}}, {"url": "http://x"}):
        provider.settings = {**base, **change}
        others.append(rate_group(provider.service, provider.ask().endpoint))
    provider.settings = base
    provider.secrets = {"api_key": Secret("another")}
    others.append(rate_group(provider.service, provider.ask().endpoint))
    assert len({first, *others}) == 6


async def test_a_group_of_the_services_own(provider: Provider) -> None:
    """``Service.group`` says which facts share a limit, lists and maps among them."""
    provider.changed(group=lambda endpoint: ("fixed", ["a", {"b": 1}]))
    provider.settings = {"model_id": "m"}
    first = rate_group(provider.service, provider.ask().endpoint)
    provider.settings = {"model_id": "n"}
    assert rate_group(provider.service, provider.ask().endpoint) == first
    assert hash(first)
