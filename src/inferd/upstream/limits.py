"""Requests per minute: one token bucket and one queue a group (services/common.md section 3).

A bucket holds one token and fills at ``requests_per_minute / 60`` a second, so calls leave evenly spaced; whoever
finds it empty waits in line. Waiters are woken at the very moment their token exists, there is no polling. A group
that nobody waits in and whose token is back equals a new one, so it is simply forgotten.
"""

import asyncio
import time
from collections.abc import Callable, Hashable

from inferd.errors import Rejected

_LATE = 0.010
"""Seconds a timer may be late without the queue losing pace for it."""
_EARLY = 0.001
"""Seconds a timer may be early: loops round to milliseconds."""
_SWEEP = 1024
"""Groups that may exist before idle ones are looked for."""


class Limits:
    """All groups of this process. ``clock`` in seconds; ``later`` as ``loop.call_later``. The loop's own clock would not
    do: uvloop's counts in milliseconds, which is coarser than high rates are.
    """

    def __init__(
        self,
        capacity: int = 2000,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._capacity = capacity
        self._groups: dict[Hashable, _Group] = {}
        self._closed = False
        self._sweep_at = _SWEEP
        self._clock = clock
        self._later = later

    async def enter(self, key: Hashable, per_minute: float, inference_id: str) -> None:
        """Return when a request of this group may leave; first come, first served.

        Raises ``Rejected`` when the queue is full or this process is stopping. Cancelling gives up the place.
        """
        now = self._clock()
        group = self._groups.get(key)
        if self._closed:
            name = group.name if group else _name(key)
            raise Rejected(
                f"Failed to enqueue task for inference id [{inference_id}] because the request service "
                f"[{name}] has already shutdown"
            )
        if group is None:
            group = self._add(key, now)
        if not group.waiters and now >= group.next_at:
            group.next_at = now + 60.0 / per_minute
            return
        if len(group.waiters) >= self._capacity:
            raise Rejected(
                f"Failed to execute task for inference id [{inference_id}] because the request service "
                f"[{group.name}] queue is full"
            )
        await self._wait(group, 60.0 / per_minute, inference_id)

    def close(self) -> None:
        """Refuse everybody who waits and everybody to come."""
        self._closed = True
        for group in self._groups.values():
            for waiter, (_, inference_id) in group.waiters.items():
                if not waiter.done():
                    waiter.set_exception(
                        Rejected(
                            f"Failed to send request, request service [{group.name}] for inference id "
                            f"[{inference_id}] has shutdown prior to executing request"
                        )
                    )
            group.waiters.clear()

    async def _wait(self, group: "_Group", interval: float, inference_id: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        group.waiters[waiter] = (interval, inference_id)
        self._arm(group)
        try:
            await waiter
        finally:
            group.waiters.pop(waiter, None)

    def _arm(self, group: "_Group") -> None:
        if group.waiters and not group.armed:
            group.armed = True
            later = self._later or asyncio.get_running_loop().call_later
            later(max(0.0, group.next_at - self._clock()), lambda: self._release(group))

    def _release(self, group: "_Group") -> None:
        """Let go whoever has a token by now. Those who left meanwhile are no longer in line."""
        group.armed = False
        now = self._clock()
        group.next_at = max(group.next_at, now - _LATE)
        while group.waiters and group.next_at <= now + _EARLY:
            waiter = next(iter(group.waiters))
            interval, _ = group.waiters.pop(waiter)
            if not waiter.done():
                waiter.set_result(None)
                group.next_at += interval
        self._arm(group)

    def _add(self, key: Hashable, now: float) -> "_Group":
        if len(self._groups) >= self._sweep_at:
            self._groups = {k: g for k, g in self._groups.items() if g.waiters or g.next_at > now}
            self._sweep_at = max(_SWEEP, 2 * len(self._groups))
        group = self._groups[key] = _Group(_name(key))
        return group


class _Group:
    """``next_at``: when the next token exists. ``waiters``: who waits, in order, with interval and inference id."""

    __slots__ = ("armed", "name", "next_at", "waiters")

    def __init__(self, name: int) -> None:
        self.name = name
        self.next_at = float("-inf")
        self.waiters: dict[asyncio.Future[None], tuple[float, str]] = {}
        self.armed = False


def _name(key: Hashable) -> int:
    """The number that stands for a group in messages. Python salts string hashes, so it says nothing about the key."""
    return hash(key) & 0x7FFFFFFF
