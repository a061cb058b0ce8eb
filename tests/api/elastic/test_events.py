"""Server-sent events (api.md section 8)."""

import json
import logging

from inferd.api.elastic import events
from inferd.api.elastic.events import Options
from inferd.core.results import Choice, Chunk, Delta
from inferd.errors import StatusError, UpstreamError


def chunk(text: str | None = None, **more) -> Chunk:
    return Chunk(id="id", choices=(Choice(delta=Delta(content=text, **more)),), model="m")


class Source:
    """Chunks one after the other, as a provider's stream gives them; ``together``: all but the first come with it."""

    def __init__(self, *items, together: bool = False) -> None:
        self.items = list(items)
        self.together = together
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self) -> Chunk:
        if not self.items:
            raise StopAsyncIteration
        item = self.items.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    def waiting(self) -> list[Chunk]:
        if not self.together:
            return []
        taken, self.items = self.items, []
        return taken

    async def aclose(self) -> None:
        self.closed = True


async def sent(response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([piece async for piece in response.body])


DONE = b"event: message\ndata: [DONE]\n\n"


async def test_completion():
    """One event a chunk that holds text, then [DONE]; no comments, no ids."""
    response = events.completion(Source(chunk("A"), chunk(), chunk(""), chunk("B\n")))
    assert response.content_type == "text/event-stream"
    assert ("X-Accel-Buffering", "no") in response.headers
    assert await sent(response) == (
        b'event: message\ndata: {"completion":[{"delta":"A"}]}\n\n'
        b'event: message\ndata: {"completion":[{"delta":"B\\n"}]}\n\n' + DONE
    )


async def test_chat():
    """One chunk of api.md 7.4 an event, the usage chunk included."""
    assert await sent(events.chat(Source(chunk("HI")))) == (
        b'event: message\ndata: {"id":"id","choices":[{"delta":{"content":"HI"},"index":0}],"model":"m",'
        b'"object":"chat.completion.chunk"}\n\n' + DONE
    )


async def test_the_mark_of_the_reference():
    """U+FEFF before every event, the last one included; off unless asked for."""
    assert await sent(events.completion(Source(chunk("A")), Options(bom=True))) == (
        b'\xef\xbb\xbfevent: message\ndata: {"completion":[{"delta":"A"}]}\n\n\xef\xbb\xbf' + DONE
    )
    assert (await sent(events.whole(b"{}", Options(bom=True)))).count(b"\xef\xbb\xbf") == 2


async def test_a_failure_after_the_start():
    """An error event, no [DONE]; the envelope of the dialect's side that was asked."""
    body = await sent(events.completion(Source(chunk("A"), chunk("B"), StatusError(429, "slow down"))))
    assert body.count(b"event: message\n") == 2
    assert b"[DONE]" not in body
    last = body.split(b"event: error\ndata: ")[1]
    assert json.loads(last)["status"] == 429
    assert last.endswith(b"\n\n")
    body = await sent(events.chat(Source(UpstreamError(500, "gone", code="stream_error"))))
    assert body == (
        b'event: error\ndata: {"error":{"code":"stream_error","message":"gone","type":"status_exception"}}\n\n'
    )


async def test_a_bug_in_a_stream_is_not_told(caplog):
    """The fixed text for the client, the traceback for the log."""
    with caplog.at_level(logging.ERROR):
        body = await sent(events.completion(Source(chunk("A"), KeyError("secret"))))
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


async def test_what_comes_together_is_sent_together():
    """One piece for all that is there, the same bytes as one by one."""
    response = events.completion(Source(chunk("A"), chunk(), chunk("B"), together=True))
    pieces = [piece async for piece in response.body]
    assert len(pieces) == 2
    assert b"".join(pieces) == await sent(events.completion(Source(chunk("A"), chunk("B"))))


async def test_the_source_is_closed_however_it_ends():
    """At the end, on failure, and when the reader leaves."""
    sources = [Source(chunk("A")), Source(chunk("A"), StatusError(500, "x")), Source(chunk("A"), chunk("B"))]
    await sent(events.chat(sources[0]))
    await sent(events.chat(sources[1]))
    left = events.chat(sources[2]).body
    await anext(left)
    await left.aclose()
    assert [found.closed for found in sources] == [True] * 3


def test_heartbeats():
    """Comment lines while a stream is silent, only when asked for."""
    asked = events.completion(Source(), Options(heartbeat=0.01))
    assert (asked.heartbeat, asked.beat) == (0.01, b":\n\n")
    assert events.completion(Source()).heartbeat is None
