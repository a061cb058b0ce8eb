"""Server-sent events (api.md section 8)."""

import asyncio
import json
import logging

from inferd.api.elastic import events
from inferd.api.elastic.events import Options
from inferd.core.results import Choice, Chunk, Delta
from inferd.errors import StatusError, UpstreamError


def chunk(text: str | None = None, **more) -> Chunk:
    return Chunk(id="id", choices=(Choice(delta=Delta(content=text, **more)),), model="m")


async def source(*items, closed: list[bool] | None = None):
    try:
        for item in items:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        if closed is not None:
            closed.append(True)


async def sent(response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([piece async for piece in response.body])


DONE = b"event: message\ndata: [DONE]\n\n"


async def test_completion():
    """One event a chunk that holds text, then [DONE]; no comments, no ids."""
    response = events.completion(source(chunk("A"), chunk(), chunk(""), chunk("B\n")))
    assert response.content_type == "text/event-stream"
    assert ("X-Accel-Buffering", "no") in response.headers
    assert await sent(response) == (
        b'event: message\ndata: {"completion":[{"delta":"A"}]}\n\n'
        b'event: message\ndata: {"completion":[{"delta":"B\\n"}]}\n\n' + DONE
    )


async def test_chat():
    """One chunk of api.md 7.4 an event, the usage chunk included."""
    assert await sent(events.chat(source(chunk("HI")))) == (
        b'event: message\ndata: {"id":"id","choices":[{"delta":{"content":"HI"},"index":0}],"model":"m",'
        b'"object":"chat.completion.chunk"}\n\n' + DONE
    )


async def test_the_mark_of_the_reference():
    """U+FEFF before every event, the last one included; off unless asked for."""
    assert await sent(events.completion(source(chunk("A")), Options(bom=True))) == (
        b'\xef\xbb\xbfevent: message\ndata: {"completion":[{"delta":"A"}]}\n\n\xef\xbb\xbf' + DONE
    )
    assert (await sent(events.whole(b"{}", Options(bom=True)))).count(b"\xef\xbb\xbf") == 2


async def test_a_failure_after_the_start():
    """An error event, no [DONE]; the envelope of the dialect's side that was asked."""
    body = await sent(events.completion(source(chunk("A"), chunk("B"), StatusError(429, "slow down"))))
    assert body.count(b"event: message\n") == 2
    assert b"[DONE]" not in body
    last = body.split(b"event: error\ndata: ")[1]
    assert json.loads(last)["status"] == 429
    assert last.endswith(b"\n\n")
    body = await sent(events.chat(source(UpstreamError(500, "gone", code="stream_error"))))
    assert body == (
        b'event: error\ndata: {"error":{"code":"stream_error","message":"gone","type":"status_exception"}}\n\n'
    )


async def test_a_bug_in_a_stream_is_not_told(caplog):
    """The fixed text for the client, the traceback for the log."""
    with caplog.at_level(logging.ERROR):
        body = await sent(events.completion(source(chunk("A"), KeyError("secret"))))
    assert b"Fatal error while streaming response. Please retry the request." in body
    assert b"secret" not in body
    assert b"[DONE]" not in body
    assert "secret" in caplog.text


async def test_a_failure_before_the_start():
    """Its own status, one error event."""
    response = events.failure(StatusError(405, "Streaming is not allowed for service [S1]."), chat=False)
    assert (response.status, response.content_type) == (405, "text/event-stream")
    told = (await sent(response)).removeprefix(b"event: error\ndata: ").removesuffix(b"\n\n")
    assert json.loads(told)["error"]["reason"] == "Streaming is not allowed for service [S1]."
    assert b'"message":"m"' in await sent(events.failure(StatusError(400, "m"), chat=True))


async def test_a_whole_answer_is_one_event():
    """A service that does not stream: the complete body, then [DONE]."""
    assert await sent(events.whole(b'{"rerank":[]}')) == b'event: message\ndata: {"rerank":[]}\n\n' + DONE


async def test_the_source_is_closed_however_it_ends():
    """At the end, on failure, and when the reader leaves."""
    closed: list[bool] = []
    await sent(events.chat(source(chunk("A"), closed=closed)))
    await sent(events.chat(source(chunk("A"), StatusError(500, "x"), closed=closed)))
    left = events.chat(source(chunk("A"), chunk("B"), closed=closed)).body
    await anext(left)
    await left.aclose()
    assert closed == [True] * 3


class Pulled:
    """An iterator that is no generator, as a stream of an upstream connection may be."""

    def __init__(self) -> None:
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self) -> Chunk:
        await asyncio.sleep(0.03)
        return chunk("A")

    async def aclose(self) -> None:
        self.closed = True


async def test_any_iterator_is_closed_too():
    """What has a close is closed, generator or not."""
    pulled = Pulled()
    body = events.completion(pulled).body
    await anext(body)
    await body.aclose()
    assert pulled.closed


async def test_heartbeats():
    """Comment lines while a stream is silent, only when asked for."""
    body = events.completion(Pulled(), Options(heartbeat=0.01)).body
    pieces = [await anext(body) for _ in range(12)]
    await body.aclose()
    assert b":\n\n" in pieces
    assert any(piece.startswith(b"event: message\n") for piece in pieces)
