"""A provider's stream as chunks, pulled: nothing is read before somebody asks for it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator

import aiohttp
import msgspec

from inferd.core.results import Chunk
from inferd.core.service import Ask, BadReply, Event, Fault
from inferd.errors import InferdError, UpstreamError
from inferd.upstream import faults
from inferd.upstream.errand import Errand, failed
from inferd.upstream.failures import Unreachable, described
from inferd.upstream.framing import framer

UNREADABLE = (
    BadReply,
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What reading a provider's bytes may raise: they are not ours, so a wrong type in them is their fault, not a bug."""

_TURN = 16
"""Events of one read that are worked on before others get their turn: a provider may send hundreds at once."""
_AFTER_DONE = 0.05
"""Seconds given to the end of a finished stream, so that its connection can be used again."""


class ChunkStream(AsyncIterator[Chunk]):
    """Chunks of one stream. ``aclose`` (or cancelling whoever waits) ends the provider's call at once."""

    def __init__(self, response: aiohttp.ClientResponse, errand: Errand, ask: Ask) -> None:
        assert errand.call.chunks is not None
        self._response = response
        self._errand = errand
        self._read = errand.call.chunks(ask)
        self._told = errand.call.fault or errand.service.fault or faults.openai_fault
        self._framer = framer(errand.call.framing)
        self._events: Iterator[Event] = iter(())
        self._ready: deque[Chunk] = deque()
        self._failure: Exception | None = None
        self._more = False
        """Events of the last read may be left."""
        self._eof = False
        self._framed = False
        self._started = False
        self._done = False
        self.received = 0
        """Bytes so far."""

    async def prime(self) -> None:
        """Wait for the first chunk; raises what happens before it, which may be worth another attempt."""
        await self._fill()
        if not self._ready and self._failure is not None:
            raise self._failure

    async def __anext__(self) -> Chunk:
        if not self._ready:
            await self._fill()
        if self._ready:
            return self._ready.popleft()
        failure, self._failure = self._failure, None
        if failure is None:
            raise StopAsyncIteration
        if isinstance(failure, Unreachable):
            raise _cut_off(failure)
        raise failure

    def waiting(self) -> list[Chunk]:
        """Chunks that are here already; they are taken."""
        ready = list(self._ready)
        self._ready.clear()
        return ready

    async def aclose(self) -> None:
        """End the provider's call; nothing more comes."""
        self._ready.clear()
        self._failure = None
        self._finish()

    async def __aenter__(self) -> "ChunkStream":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _fill(self) -> None:
        """Read until there is a chunk, a failure or the end."""
        try:
            while not self._ready and not self._done:
                await self._step()
        except (aiohttp.ClientError, OSError) as failure:
            self._finish(described(failure))
        except (InferdError, BadReply) as failure:
            self._finish(self._unreadable(failure) if isinstance(failure, BadReply) else failure)
        except BaseException:
            self._finish()
            raise

    async def _step(self) -> None:
        """A turn's worth of what was read; or read."""
        if self._more:
            self._more = False
            await asyncio.sleep(0)
        else:
            data = await self._response.content.readany()
            self.received += len(data)
            self._events = iter(self._framer.feed(data) if data else self._framer.end())
            self._eof = not data
        if self._take():
            await self._end()

    def _take(self) -> bool:
        """The chunks of the next events; True when the stream is at its end: its last event, or no more bytes."""
        for count, event in enumerate(self._events, 1):
            self._framed = True
            if self._framer.is_last(event):
                return True
            self._ready.extend(self._chunks(event))
            self._started = self._started or bool(self._ready)
            if count == _TURN:
                self._more = True
                return False
        if self._eof and self.received and not self._framed:
            raise BadReply("The response is not a stream of events")
        return self._eof

    def _chunks(self, event: Event) -> list[Chunk]:
        if event.name == "error" and not event.failed and not self._errand.call.reads_errors:
            raise faults.stream_failure(self._errand.endpoint, self._told(_bytes(event)))
        try:
            return list(self._read(event))
        except UNREADABLE as bad:
            failure = self._unreadable(bad, event)
            raise failure from failure.__cause__

    def _unreadable(self, bad: Exception, event: Event | None = None) -> UpstreamError:
        """Not a chunk: an error object that came as plain data, or bytes that make no sense."""
        fault = self._told(_bytes(event)) if event is not None else Fault()
        if fault.message is None and not self._started:
            return failed(self._errand, unreadable(bad), retryable=True)
        return faults.stream_failure(self._errand.endpoint, fault)

    async def _end(self) -> None:
        """Let the connection end well, so that it can be used again."""
        try:
            async with asyncio.timeout(_AFTER_DONE):
                while await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            self._response.close()
        self._finish()

    def _finish(self, failure: Exception | None = None) -> None:
        self._done = True
        self._failure = self._failure or failure
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def unreadable(bad: Exception) -> str:
    """What is wrong with an answer, in words that were meant for a reader."""
    if isinstance(bad, BadReply | msgspec.MsgspecError):
        return str(bad)
    return "The response is not of the expected form"


def _bytes(event: Event) -> bytes:
    return event.data.encode("utf-8", "surrogateescape")


def _cut_off(why: Unreachable) -> UpstreamError:
    """The stream broke after it had begun (api.md 8.1)."""
    failure = UpstreamError(500, "Fatal error while streaming response. Please retry the request.")
    failure.__cause__ = InferdError(str(why))
    return failure
