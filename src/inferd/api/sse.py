"""Streams of server-sent events, whatever the dialect: pulled, closed with their reader, failing in the dialect's words.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from inferd.actions.stream import Chunks
from inferd.api.http import Response
from inferd.core.results import Chunk
from inferd.errors import InferdError, StatusError

log = logging.getLogger("inferd.streams")

HEADERS = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
"""Proxies keep nothing back."""
FATAL = "Fatal error while streaming response. Please retry the request."
_BEAT = b":\n\n"

Tell = Callable[[InferdError], bytes]


async def opened(opening: Coroutine[Any, Any, Chunks], patience: float | None) -> Chunks:
    """The chunks, once the first one is there. After ``patience`` seconds (None or 0: never) chunks that go on waiting for it, so
    that heartbeats can begin; a failure from then on is one of the stream."""
    if not patience:
        return await opening
    task = asyncio.ensure_future(opening)
    try:
        await asyncio.wait((task,), timeout=patience)
    except asyncio.CancelledError:
        await _Late(task).aclose()
        raise
    return task.result() if task.done() else _Late(task)


class _Late:
    """Chunks of a stream that is not open yet."""

    def __init__(self, opening: asyncio.Future[Chunks]) -> None:
        self._opening = opening

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        return await anext(aiter(await self._opening))

    def waiting(self) -> Sequence[Chunk]:
        return self._opening.result().waiting()

    async def aclose(self) -> None:
        self._opening.cancel()
        await asyncio.wait((self._opening,))
        if not self._opening.cancelled() and self._opening.exception() is None:
            await self._opening.result().aclose()


def stream(
    events: AsyncGenerator[bytes, None],
    tell: Tell,
    heartbeat: float | None = None,
    *,
    content_type: str = "text/event-stream",
) -> Response:
    """``tell`` renders a failure midway as the last event. ``heartbeat``: seconds of silence after which a comment is sent, from
    the first event's absence on; None or 0: never."""
    return Response(
        _told(events, tell), content_type=content_type, headers=HEADERS, heartbeat=heartbeat, beat=_BEAT
    )


async def _told(events: AsyncGenerator[bytes, None], tell: Tell) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        try:
            async for event in events:
                yield event
        except InferdError as error:
            yield tell(error)
        except Exception:
            log.exception("a stream failed")
            yield tell(StatusError(500, FATAL))
