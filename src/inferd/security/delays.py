"""Guessing made slow: a wait that grows with each failure, per source and name, and is forgotten after a while.

Nobody is locked out: the wait is bounded, a right credential ends it, and failures from one address do not slow the same user down elsewhere.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

from inferd.errors import Rejected

FREE = 3
"""Failures without any wait."""
FIRST = 0.25
LONGEST = 5.0
FORGET = 300.0
"""Seconds without a failure after which it is forgotten."""
REMEMBERED = 10_000
WAITING = 16
"""Attempts for one source and name that may wait at once."""


class _Failures(Struct):
    count: int = 0
    last: float = 0.0
    waiting: int = 0


class Delays:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    async def wait(self, address: str, name: str) -> None:
        """Wait as long as earlier failures ask for. Raises 429 when too many wait for the same."""
        entry = self._failures.get((address, name))
        seconds = self.seconds(address, name)
        if entry is None or seconds <= 0:
            return
        if entry.waiting >= WAITING:
            raise Rejected(
                f"more than [{WAITING}] attempts to authenticate are waiting after repeated failures"
            )
        entry.waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            entry.waiting -= 1

    def seconds(self, address: str, name: str) -> float:
        entry = self._failures.get((address, name))
        if entry is None or entry.count < FREE or self._clock() - entry.last > FORGET:
            return 0.0
        return float(min(LONGEST, FIRST * 2 ** min(entry.count - FREE, 10)))

    def failed(self, address: str, name: str) -> None:
        entry = self._failures.pop((address, name), None) or _Failures()
        if self._clock() - entry.last > FORGET:
            entry.count = 0
        entry.count += 1
        entry.last = self._clock()
        self._failures[(address, name)] = entry
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, address: str, name: str) -> None:
        self._failures.pop((address, name), None)
