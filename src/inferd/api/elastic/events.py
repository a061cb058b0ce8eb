"""Chunks into server-sent events (api.md section 8).

Events are pulled: a reader who is slow slows the provider, one who leaves closes the stream of chunks.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from msgspec import Struct

from inferd.api.elastic.problems import chat_envelope, envelope, headers
from inferd.api.elastic.render import chat_chunk, encode
from inferd.api.http import Response, keep_alive
from inferd.core.results import Chunk
from inferd.errors import InferdError, StatusError

log = logging.getLogger("inferd.events")

_BOM = b"\xef\xbb\xbf"
_BEAT = b":\n\n"
_FATAL = "Fatal error while streaming response. Please retry the request."
_HEADERS = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"))


class Options(Struct, frozen=True, kw_only=True):
    """``bom``: a byte-order mark before each event, as the reference writes it. ``heartbeat``: seconds of silence after
    which a comment line is sent; None: never, which is the contract's form."""

    bom: bool = False
    heartbeat: float | None = None


PLAIN = Options()


def frame(data: bytes, name: bytes = b"message", *, bom: bool = False) -> bytes:
    return (_BOM if bom else b"") + b"event: " + name + b"\ndata: " + data + b"\n\n"


def completion(chunks: AsyncIterator[Chunk], options: Options = PLAIN) -> Response:
    """``{"completion":[{"delta":".."}]}`` for each chunk that holds text (api.md 8.2)."""
    return _stream(_events(chunks, _completion_data, envelope, options.bom), options)


def chat(chunks: AsyncIterator[Chunk], options: Options = PLAIN) -> Response:
    """One chunk of api.md 7.4 an event."""
    return _stream(_events(chunks, _chat_data, chat_envelope, options.bom), options)


def whole(body: bytes, options: Options = PLAIN) -> Response:
    """A complete body as the only event: what a stream request gets from a service that answered at once."""
    return _response(frame(body, bom=options.bom) + _done(options.bom))


def failure(error: InferdError, *, chat: bool, options: Options = PLAIN) -> Response:
    """A failure before the stream exists: its own status, one error event."""
    event = _error_event(error, chat_envelope if chat else envelope, options.bom)
    return _response(event, status=error.status, more=headers(error))


def _response(body: bytes, *, status: int = 200, more: list[tuple[str, str]] | None = None) -> Response:
    return Response(
        body,
        status=status,
        content_type="text/event-stream",
        headers=[*_HEADERS, *(more or ())],
        compress=False,
    )


def _stream(events: AsyncGenerator[bytes, None], options: Options) -> Response:
    if options.heartbeat:
        events = keep_alive(events, options.heartbeat, _BEAT)
    return Response(events, content_type="text/event-stream", headers=_HEADERS)


Data = Callable[[Chunk], bytes | None]
Envelope = Callable[[InferdError], dict[str, Any]]


async def _events(
    chunks: AsyncIterator[Chunk], data: Data, shape: Envelope, bom: bool
) -> AsyncGenerator[bytes, None]:
    """A failure ends the stream with an error event and without ``[DONE]``."""
    try:
        async with _closing(chunks) as pulled:
            async for chunk in pulled:
                event = data(chunk)
                if event is not None:
                    yield frame(event, bom=bom)
    except InferdError as error:
        yield _error_event(error, shape, bom)
    except Exception:
        log.exception("a stream failed")
        yield _error_event(StatusError(500, _FATAL), shape, bom)
    else:
        yield _done(bom)


def _closing(chunks: AsyncIterator[Chunk]) -> "aclosing[AsyncGenerator[Chunk, None]]":
    return aclosing(chunks if isinstance(chunks, AsyncGenerator) else _generator(chunks))


async def _generator(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """Any iterator with a close that takes its source along."""
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _done(bom: bool) -> bytes:
    return frame(b"[DONE]", bom=bom)


def _error_event(error: InferdError, shape: Envelope, bom: bool) -> bytes:
    return frame(encode(shape(error)), b"error", bom=bom)


def _completion_data(chunk: Chunk) -> bytes | None:
    texts = [choice.delta.content for choice in chunk.choices if choice.delta.content]
    return encode({"completion": [{"delta": text} for text in texts]}) if texts else None


def _chat_data(chunk: Chunk) -> bytes:
    return encode(chat_chunk(chunk))
