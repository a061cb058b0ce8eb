"""Chunks into server-sent events (api.md section 8).

Events are pulled: a reader who is slow slows the provider, one who leaves closes the stream of chunks.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from msgspec import Struct

from inferd.actions.stream import Chunks
from inferd.api import sse
from inferd.api.elastic.problems import chat_envelope, envelope
from inferd.api.elastic.problems import headers as error_headers
from inferd.api.elastic.render import chat_chunk, encode
from inferd.api.http import Response
from inferd.core.results import Chunk
from inferd.errors import InferdError

_BOM = b"\xef\xbb\xbf"


class Options(Struct, frozen=True, kw_only=True):
    """``bom``: a byte-order mark before each event, as the reference writes it. ``heartbeat``: seconds of silence after
    which a comment line is sent; None: never, which is the contract's form."""

    bom: bool = False
    heartbeat: float | None = None


PLAIN = Options()


def frame(data: bytes, name: bytes = b"message", *, bom: bool = False) -> bytes:
    return (_BOM if bom else b"") + b"event: " + name + b"\ndata: " + data + b"\n\n"


def completion(chunks: Chunks, options: Options = PLAIN) -> Response:
    """``{"completion":[{"delta":".."}]}`` for each chunk that holds text (api.md 8.2)."""
    return _stream(chunks, _completion_data, envelope, options)


def chat(chunks: Chunks, options: Options = PLAIN) -> Response:
    """One chunk of api.md 7.4 an event."""
    return _stream(chunks, _chat_data, chat_envelope, options)


def whole(body: bytes, options: Options = PLAIN, *, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """A complete body as the only event: what a stream request gets from a service that answered at once."""
    return _response(frame(body, bom=options.bom) + _done(options.bom), more=headers)


def failure(error: InferdError, *, chat: bool, options: Options = PLAIN) -> Response:
    """A failure before the stream exists: its own status, one error event."""
    event = _error_event(error, chat_envelope if chat else envelope, options.bom)
    return _response(event, status=error.status, more=error_headers(error))


def _response(body: bytes, *, status: int = 200, more: Sequence[tuple[str, str]] = ()) -> Response:
    return Response(
        body,
        status=status,
        content_type="text/event-stream",
        headers=[*sse.HEADERS, *more],
        compress=False,
    )


Data = Callable[[Chunk], bytes | None]
Envelope = Callable[[InferdError], dict[str, Any]]


def _stream(chunks: Chunks, data: Data, shape: Envelope, options: Options) -> Response:
    """A failure ends the stream with an error event and without ``[DONE]``."""
    return sse.stream(
        _events(chunks, data, options.bom),
        lambda error: _error_event(error, shape, options.bom),
        options.heartbeat,
    )


async def _events(chunks: Chunks, data: Data, bom: bool) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            events = [event for each in (chunk, *chunks.waiting()) if (event := data(each)) is not None]
            if events:
                yield b"".join([frame(event, bom=bom) for event in events])
    yield _done(bom)


def _done(bom: bool) -> bytes:
    return frame(b"[DONE]", bom=bom)


def _error_event(error: InferdError, shape: Envelope, bom: bool) -> bytes:
    return frame(encode(shape(error)), b"error", bom=bom)


def _completion_data(chunk: Chunk) -> bytes | None:
    texts = [choice.delta.content for choice in chunk.choices if choice.delta.content]
    return encode({"completion": [{"delta": text} for text in texts]}) if texts else None


def _chat_data(chunk: Chunk) -> bytes:
    return encode(chat_chunk(chunk))
