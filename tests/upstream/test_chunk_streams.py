"""Streams: the start, the middle, the end, and everything that can go wrong in each."""

import asyncio
from typing import Any

import pytest
from acme import Provider
from msgspec.structs import replace

from inferd.core.inputs import Texts
from inferd.core.service import Framing
from inferd.core.tasks import TaskType
from inferd.errors import InferdError, TimedOut, UpstreamError
from inferd.testing import aws_frame, event_bytes

WORDS = [{"text": "Hel"}, {"text": "lo ü🦆"}, {"text": "", "end": "stop"}]
SSE = b"".join(event_bytes(word) for word in WORDS) + b"data: [DONE]\n\n"


async def texts(stream: Any) -> list[str]:
    return [chunk.choices[0].delta.content async for chunk in stream]


async def test_chunks_in_order(provider: Provider) -> None:
    """Each event's chunk comes out, ``[DONE]`` ends the stream, what follows it is not read as chunks."""
    provider.fake.answer(sse=[*WORDS, "[DONE]", {"text": "late"}])
    provider.fake.answer(chunks=(SSE + event_bytes({"text": "late"}),))
    for _ in range(2):
        assert await texts(await provider.stream()) == ["Hel", "lo ü🦆", ""]
    assert provider.fake.requests[0].json == {"messages": ["hi"], "stream": True}


async def test_cut_at_every_byte(provider: Provider) -> None:
    """Where the network cuts the bytes makes no difference."""
    for place in range(1, len(SSE)):
        provider.fake.forget()
        provider.fake.answer(chunks=(SSE[:place], SSE[place:]))
        assert await texts(await provider.stream()) == ["Hel", "lo ü🦆", ""]


async def test_a_finished_stream_gives_its_connection_back(provider: Provider) -> None:
    """Streams one after the other share a connection, also when the end comes a little after its mark."""
    provider.fake.answer(chunks=(SSE,))
    provider.fake.answer(chunks=(SSE, b": bye\n\n"), pause=0.01)
    for _ in range(4):
        await texts(await provider.stream())
    assert provider.fake.connections == 1


@pytest.mark.parametrize("ending", [b"", b"data: [DONE]", b": bye\n"])
async def test_a_stream_may_end_without_its_mark(provider: Provider, ending: bytes) -> None:
    """A connection that ends in order is the end of the stream."""
    provider.fake.answer(
        chunks=(event_bytes({"text": "a"}), ending) if ending else (event_bytes({"text": "a"}),)
    )
    assert await texts(await provider.stream()) == ["a"]


@pytest.mark.parametrize("body", [b"<html></html>", b": comment\n\n", b"{}"])
async def test_a_stream_that_is_none(provider: Provider, body: bytes) -> None:
    """A success that holds no event cannot be read: tried again, then a 500."""
    provider.fake.answer(body=body)
    with pytest.raises(UpstreamError, match="The response is not a stream of events"):
        await provider.stream()
    assert len(provider.fake.requests) == 3


async def test_a_stream_without_chunks(provider: Provider) -> None:
    """Nothing at all, or nothing but the end mark, is an empty stream."""
    provider.fake.answer(chunks=())
    provider.fake.answer(sse=["data: [DONE]\n\n"])
    for _ in range(2):
        assert await texts(await provider.stream()) == []


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_refusal_before_the_stream_is_retried(provider: Provider, status: int) -> None:
    """A non-2xx answer is read whole and follows the same rules as any other."""
    provider.fake.answer(status=status)
    provider.fake.answer(sse=WORDS)
    assert await texts(await provider.stream()) == ["Hel", "lo ü🦆", ""]
    assert provider.fake.waits == [1.0]


async def test_a_refusal_keeps_its_status(provider: Provider) -> None:
    """Early failures are raised before anybody has an iterator."""
    provider.fake.answer(status=401, json={"error": {"message": "no", "type": "auth"}})
    with pytest.raises(UpstreamError) as caught:
        await provider.stream()
    assert (caught.value.status, caught.value.kind) == (401, "auth")


@pytest.mark.parametrize(
    "answer", [{"raw": b""}, {"chunks": (b"data: {",), "cut": 4}, {"chunks": (b"data: {\n\n",)}]
)
async def test_nothing_came_yet(provider: Provider, answer: dict[str, Any]) -> None:
    """Until the first chunk a broken or unreadable stream is tried again."""
    provider.fake.answer(**answer)
    provider.fake.answer(sse=WORDS)
    assert await texts(await provider.stream()) == ["Hel", "lo ü🦆", ""]
    assert len(provider.fake.requests) == 2


async def test_an_error_event_before_any_chunk(provider: Provider) -> None:
    """It is the provider's word, so it is raised at once and not tried again."""
    provider.fake.answer(sse=[("error", {"error": {"message": "overloaded", "type": "busy", "code": "c9"}})])
    with pytest.raises(UpstreamError) as caught:
        await provider.stream()
    failure = caught.value
    assert failure.reason == (
        "Received an error response for request from inference entity id [e1]. Error message: [overloaded]"
    )
    assert (failure.status, failure.kind, failure.code) == (500, "busy", "c9")
    assert len(provider.fake.requests) == 1


@pytest.mark.parametrize(
    ("event", "code", "message"),
    [
        (("error", {"error": {"message": "m", "type": "t"}}), None, ". Error message: [m]"),
        ({"error": {"message": "m", "type": "t", "code": 7}}, "7", ". Error message: [m]"),
        (("error", "not json"), "stream_error", ""),
        ({"other": 1}, "stream_error", ""),
        ("[1]", "stream_error", ""),
        ("nonsense", "stream_error", ""),
    ],
)
async def test_an_error_in_the_middle(provider: Provider, event: Any, code: str | None, message: str) -> None:
    """What came before is delivered; then the error, with the provider's words when there are any; no second attempt."""
    bad = event_bytes(event) if not isinstance(event, str) else f"data: {event}\n\n".encode()
    provider.fake.answer(chunks=(event_bytes({"text": "a"}) + bad + event_bytes({"text": "never"}),))
    stream = await provider.stream()
    assert (await anext(stream)).choices[0].delta.content == "a"
    with pytest.raises(UpstreamError) as caught:
        await anext(stream)
    assert (
        caught.value.reason
        == f"Received an error response for request from inference entity id [e1]{message}"
    )
    assert (caught.value.status, caught.value.code) == (500, code)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert len(provider.fake.requests) == 1


@pytest.mark.parametrize("reset", [True, False])
async def test_a_stream_that_dies(provider: Provider, reset: bool) -> None:
    """A connection that breaks in the middle of an event ends the stream with an error, never silently."""
    whole = event_bytes({"text": "a"})
    provider.fake.answer(chunks=(whole, b'data: {"te', b"xt"), cut=len(whole) + 10, reset=reset)
    stream = await provider.stream()
    assert (await anext(stream)).choices[0].delta.content == "a"
    with pytest.raises(UpstreamError) as caught:
        await anext(stream)
    assert caught.value.reason == "Fatal error while streaming response. Please retry the request."
    assert isinstance(caught.value.__cause__, InferdError)


async def test_closing_ends_the_call(provider: Provider) -> None:
    """``aclose`` ends the provider's call at once."""
    provider.fake.answer(chunks=(event_bytes({"text": "a"}),), hang=True)
    stream = await provider.stream()
    await stream.aclose()
    await asyncio.wait_for(provider.fake.left.wait(), 1)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_reader_who_leaves(provider: Provider) -> None:
    """Cancelling whoever waits for the next chunk ends the provider's call within a second."""
    provider.fake.answer(chunks=(event_bytes({"text": "a"}),), hang=True)
    stream = await provider.stream()
    task = asyncio.create_task(texts(stream))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(provider.fake.left.wait(), 1)


@pytest.mark.parametrize("answer", [{"delay": 5.0}, {"chunks": (b": ping\n\n",) * 500, "pause": 0.01}])
async def test_the_deadline_covers_the_start(provider: Provider, answer: dict[str, Any]) -> None:
    """No chunk in time is a timeout, whatever else came."""
    provider.fake.answer(**answer)
    with pytest.raises(TimedOut):
        await provider.stream(timeout=0.2)
    await asyncio.wait_for(provider.fake.left.wait(), 1)


async def test_the_deadline_covers_only_the_start(provider: Provider) -> None:
    """A stream that has begun may go on beyond the deadline."""
    provider.fake.answer(sse=[{"text": str(n)} for n in range(8)], pause=0.05)
    assert len(await texts(await provider.stream(timeout=0.1))) == 8


async def test_a_stream_that_falls_silent(provider: Provider) -> None:
    """``outbound.read_timeout`` bounds every silence."""
    from inferd.config import Outbound

    provider.upstream = provider.fake.client("acme", outbound=Outbound(read_timeout=0.2))
    provider.fake.answer(chunks=(event_bytes({"text": "a"}),), hang=True)
    stream = await provider.stream()
    await anext(stream)
    with pytest.raises(UpstreamError, match="Fatal error while streaming"):
        await asyncio.wait_for(anext(stream), 2)


async def test_a_slow_reader_slows_the_provider(provider: Provider) -> None:
    """Nothing is read ahead without bound: what nobody asks for stays with the provider."""
    piece = event_bytes({"text": "x" * 10_000})
    provider.fake.answer(chunks=(piece,) * 2000)
    stream = await provider.stream()
    await asyncio.sleep(0.3)
    assert stream.received < 1_000_000
    assert len(stream._ready) < 100
    assert len(await texts(stream)) == 2000


async def test_collected_answers(provider: Provider) -> None:
    """A task whose provider only streams gives a whole answer: the message of a chat, the text of a completion."""
    from acme import CHAT

    provider.fake.answer(sse=[*WORDS, "[DONE]"])
    answer = await provider.call(CHAT, TaskType.CHAT_COMPLETION)
    assert (answer.choices[0].delta.content, answer.choices[0].finish_reason) == ("Hello ü🦆", "stop")
    provider.changed_call(TaskType.COMPLETION, stream_only=True)
    assert (await provider.call(Texts(("x",)), TaskType.COMPLETION)).texts == ("Hello ü🦆",)


async def test_a_collected_answer_that_breaks(provider: Provider) -> None:
    """Half an answer is an error."""
    from acme import CHAT

    provider.fake.answer(sse=[WORDS[0], ("error", {"error": {"message": "m", "type": "t"}})])
    with pytest.raises(UpstreamError, match="Received an error response"):
        await provider.call(CHAT, TaskType.CHAT_COMPLETION)


@pytest.mark.parametrize(
    ("framing", "raw"),
    [
        (Framing.LINES, b'{"text":"a"}\n{"text":"b"}\n'),
        (Framing.JSON_ARRAY, b'[{"text":"a"},\r\n{"text":"b"}]'),
        (
            Framing.AWS,
            b"".join(
                aws_frame(text, message_type="event", event_type="chunk")
                for text in (b'{"text":"a"}', b'{"text":"b"}')
            ),
        ),
    ],
)
async def test_other_framings(provider: Provider, framing: Framing, raw: bytes) -> None:
    """The call's framing says how its stream is cut into events."""
    provider.changed_call(TaskType.CHAT_COMPLETION, framing=framing)
    provider.fake.answer(chunks=tuple(raw[n : n + 7] for n in range(0, len(raw), 7)))
    assert await texts(await provider.stream()) == ["a", "b"]


async def test_a_corrupt_frame_in_the_middle(provider: Provider) -> None:
    """A frame whose checksum is wrong ends the stream with an error."""
    good = aws_frame(b'{"text":"a"}', message_type="event", event_type="chunk")
    provider.changed_call(TaskType.CHAT_COMPLETION, framing=Framing.AWS)
    provider.fake.answer(chunks=(good, good[:-1] + b"\x00"))
    stream = await provider.stream()
    await anext(stream)
    with pytest.raises(UpstreamError, match="Received an error response"):
        await anext(stream)


async def test_a_reader_of_its_own_errors(provider: Provider) -> None:
    """``reads_errors``: error events go to the chunk reader, which raises what it makes of them."""

    def chunks(ask: Any) -> Any:
        def read(event: Any) -> Any:
            raise UpstreamError(429, f"{event.name}: {event.data}")

        return read

    provider.service = replace(provider.service)
    provider.changed_call(TaskType.CHAT_COMPLETION, chunks=chunks, reads_errors=True)
    provider.fake.answer(sse=[("error", "slow down")])
    with pytest.raises(UpstreamError) as caught:
        await provider.stream()
    assert (caught.value.status, caught.value.reason) == (429, "error: slow down")


async def test_many_events_at_once_leave_others_their_turn(provider: Provider) -> None:
    """A provider that sends hundreds of events in one piece does not keep the loop to itself."""
    provider.fake.answer(chunks=(b"".join(event_bytes({"text": str(n)}) for n in range(320)),))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    stream = await provider.stream()
    counting = asyncio.ensure_future(count())
    assert await texts(stream) == [str(n) for n in range(320)]
    counting.cancel()
    assert turns >= 15


async def test_what_came_together_is_there_together(provider: Provider) -> None:
    """After one chunk those that came with it need no waiting; nothing comes twice, nothing is lost."""
    provider.fake.answer(chunks=(b"".join(event_bytes({"text": str(n)}) for n in range(40)),))
    found, most = [], 0
    async with await provider.stream() as stream:
        async for chunk in stream:
            together = [chunk, *stream.waiting()]
            most = max(most, len(together))
            found += [each.choices[0].delta.content for each in together]
    assert found == [str(n) for n in range(40)]
    assert most > 1
