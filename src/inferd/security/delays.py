"""Guessing made slow: a wait that grows with each failure, per source and name, and is forgotten after a while.

Nobody is locked out: the wait is bounded, and failures from one source do not slow the same user down elsewhere. Attempts
that are still being looked at count as failures, so that many at once gain nothing.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

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


def source(address: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 that one IPv6 subscriber has at hand."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))


class _Failures(Struct):
    count: int = 0
    last: float = 0.0
    pending: int = 0


class Delays:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    @asynccontextmanager
    async def attempt(self, address: str, name: str) -> AsyncIterator["Attempt"]:
        """One attempt: waits as long as earlier failures ask for. Raises 429 when too many wait for the same.

        The block says how it went with ``failed`` or ``succeeded``; an attempt that was cut short counts as neither.
        """
        key = (source(address), name)
        entry = self._entry(key)
        seconds = wait_after(entry.count + entry.pending)
        if seconds and entry.pending >= WAITING:
            raise Rejected(
                f"more than [{WAITING}] attempts to authenticate are waiting after repeated failures"
            )
        attempt = Attempt()
        entry.pending += 1
        try:
            if seconds:
                await asyncio.sleep(seconds)
            yield attempt
        finally:
            entry.pending -= 1
            self._settle(key, entry, attempt.right)

    def _entry(self, key: tuple[str, str]) -> _Failures:
        entry = self._failures.get(key)
        if entry is None:
            self._make_room()
            entry = self._failures[key] = _Failures()
        elif self._clock() - entry.last > FORGET:
            entry.count = 0
        return entry

    def _make_room(self) -> None:
        """The oldest goes, but never one that somebody waits for."""
        if len(self._failures) >= REMEMBERED:
            oldest = next((key for key, entry in self._failures.items() if not entry.pending), None)
            if oldest is not None:
                del self._failures[oldest]

    def _settle(self, key: tuple[str, str], entry: _Failures, right: bool | None) -> None:
        if right is False:
            entry.count += 1
            entry.last = self._clock()
            if self._failures.get(key) is entry:
                self._failures.move_to_end(key)
        elif right:
            entry.count = 0
        if not entry.count and not entry.pending and self._failures.get(key) is entry:
            del self._failures[key]

    def seconds(self, address: str, name: str) -> float:
        """What the next attempt would wait."""
        entry = self._failures.get((source(address), name))
        if entry is None or self._clock() - entry.last > FORGET:
            return 0.0
        return wait_after(entry.count + entry.pending)

    def __len__(self) -> int:
        return len(self._failures)


class Attempt(Struct):
    right: bool | None = None

    def failed(self) -> None:
        self.right = False

    def succeeded(self) -> None:
        self.right = True


def wait_after(failures: int) -> float:
    """Seconds."""
    if failures < FREE:
        return 0.0
    return float(min(LONGEST, FIRST * 2 ** min(failures - FREE, 10)))
