"""Streams of server-sent events, whatever the dialect: pulled, closed with their reader, failing in the dialect's words.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from inferd.api.http import Response, keep_alive
from inferd.errors import InferdError, StatusError

log = logging.getLogger("inferd.streams")

HEADERS = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))
"""Proxies keep nothing back."""
FATAL = "Fatal error while streaming response. Please retry the request."
_BEAT = b":\n\n"

Tell = Callable[[InferdError], bytes]


def stream(
    events: AsyncGenerator[bytes, None],
    tell: Tell,
    heartbeat: float | None = None,
    *,
    content_type: str = "text/event-stream",
) -> Response:
    """``tell`` renders a failure midway as the last event. ``heartbeat``: seconds of silence after which a comment is sent, from
    the first event's absence on; None or 0: never."""
    told = _told(events, tell)
    if heartbeat:
        told = keep_alive(told, heartbeat, _BEAT)
    return Response(told, content_type=content_type, headers=HEADERS)


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
