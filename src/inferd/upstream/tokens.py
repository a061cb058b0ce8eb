"""Access tokens: fetched once when many need one, refreshed before they expire, dropped when refused."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from inferd.core.secrets import Secret
from inferd.core.service import Outgoing, Send
from inferd.errors import InferdError, Rejected
from inferd.upstream.failures import Unreachable

Fetch = Callable[[Send], Awaitable[tuple[str, float]]]

_FETCH_TIMEOUT = 30.0
"""Seconds that fetching one token may take, whoever waits for it."""
_EARLY = 60.0
"""Seconds before its end at which a token is renewed; at most a tenth of its life."""
_CAPACITY = 10_000


@dataclass(slots=True)
class _Entry:
    task: asyncio.Task[tuple[str, float]]
    until: float = float("inf")
    """Loop time from which on the token is no longer used; infinite while it is being fetched."""

    def token(self) -> str | None:
        done = self.task.done() and not self.task.cancelled() and self.task.exception() is None
        return self.task.result()[0] if done else None


class TokenCache:
    """All tokens of this process. Keys must not hold a credential in clear (``auth.fingerprint``)."""

    def __init__(self, environment: Mapping[str, Secret]) -> None:
        self.environment = environment
        self._entries: dict[str, _Entry] = {}

    async def get(self, key: str, fetch: Fetch, send: Send) -> str:
        """The token under ``key``. A caller who leaves does not end the fetch for the others."""
        loop = asyncio.get_running_loop()
        entry = self._entries.get(key)
        if entry is None or entry.until <= loop.time():
            self._forget_old(loop.time())
            entry = _Entry(loop.create_task(_fetched(fetch, send)))
            self._entries[key] = entry
            entry.task.add_done_callback(lambda _: self._settle(key, entry, loop.time()))
        try:
            token, _ = await asyncio.shield(entry.task)
        except InferdError as failure:
            raise _own(failure) from failure.__cause__
        except asyncio.CancelledError:
            if not entry.task.cancelled():
                raise
            raise Rejected("This server is stopping, no access token is fetched any more") from None
        return token

    def drop(self, key: str) -> None:
        """Fetch anew next time. A fetch under way goes on for those who wait."""
        self._entries.pop(key, None)

    def refused(self, outgoing: Outgoing) -> None:
        """The provider refused this request's credentials: drop the token in it, wherever it came from."""
        sent = [
            value.rpartition(" ")[2]
            for name, value in outgoing.headers.items()
            if name.lower() in ("authorization", "x-amz-security-token")
        ]
        for key, entry in list(self._entries.items()):
            token = entry.token()
            if token is not None and any(value and value in token for value in sent):
                self.drop(key)

    async def close(self) -> None:
        tasks = [entry.task for entry in self._entries.values()]
        self._entries.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _settle(self, key: str, entry: _Entry, now: float) -> None:
        if entry.token() is not None:
            lasts = entry.task.result()[1]
            entry.until = now + lasts - min(_EARLY, lasts / 10)
        elif self._entries.get(key) is entry:
            del self._entries[key]

    def _forget_old(self, now: float) -> None:
        if len(self._entries) >= _CAPACITY:
            self._entries = {k: e for k, e in self._entries.items() if e.until > now}
        while len(self._entries) >= _CAPACITY:
            del self._entries[next(iter(self._entries))]


def _own(failure: InferdError) -> InferdError:
    """A copy for one waiter: whoever catches an error may add to it."""
    own = type(failure).__new__(type(failure), *failure.args)
    own.__dict__.update(failure.__dict__)
    return own


async def _fetched(fetch: Fetch, send: Send) -> tuple[str, float]:
    try:
        async with asyncio.timeout(_FETCH_TIMEOUT):
            return await fetch(send)
    except TimeoutError:
        raise Unreachable("The access token did not come in time") from None


class ServiceTokens:
    """The cache as one service sees it (``core.service.Tokens``): keys of its own, its own way to send."""

    __slots__ = ("_cache", "_send", "_service")

    def __init__(self, cache: TokenCache, service: str, send: Send) -> None:
        self._cache = cache
        self._service = service
        self._send = send

    async def get(self, key: str, fetch: Fetch) -> str:
        return await self._cache.get(f"{self._service}:{key}", fetch, self._send)

    def drop(self, key: str) -> None:
        self._cache.drop(f"{self._service}:{key}")

    @property
    def environment(self) -> Mapping[str, Secret]:
        return self._cache.environment
