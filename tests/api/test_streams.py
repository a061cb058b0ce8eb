"""Streams end to end, in every dialect: backpressure, readers who leave, providers that die, shutdown, framing (api.md section 8)."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import elasticsearch
import httpx
import pytest
import pytest_asyncio
from dialects import CHAT, DONE, Served, piece, put, serving, usage_piece

from inferd.config import Api

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASK = [{"role": "user", "content": "hi"}]
ELASTIC = "/_inference/chat_completion/chat/_stream"
STREAMS = {
    "elastic, completion": ("/_inference/completion/complete/_stream", {"input": "hi"}),
    "elastic, chat": (ELASTIC, {"messages": ASK}),
    "openai, chat": ("/v1/chat/completions", {"model": "chat", "messages": ASK, "stream": True}),
    "openai, text": ("/v1/completions", {"model": "complete", "prompt": "hi", "stream": True}),
    "cohere": ("/v2/chat", {"model": "chat", "messages": ASK, "stream": True}),
}
every = pytest.mark.parametrize(("path", "body"), STREAMS.values(), ids=list(STREAMS))


def parsed(text: str) -> list[tuple[str, str]]:
    """Name and data of each event, by the rules: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream"""
    found, name, data = [], "", []
    for line in text.removeprefix("\ufeff").split("\n"):
        field, _, value = line.partition(":")
        if not line and data:
            found.append((name or "message", "\n".join(data)))
        if not line:
            name, data = "", []
        elif field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))
    return found


class Endless:
    """A provider that streams as fast as it is read; ``sent``: bytes that it could write."""

    def __init__(self) -> None:
        self.sent = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        event = f"data: {json.dumps(piece('x' * 8000))}\n\n".encode()
        chunk = b"%x\r\n%b\r\n" % (len(event), event)
        self.sent = 0
        self.left.clear()
        try:
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            while True:
                writer.write(chunk)
                await writer.drain()
                self.sent += len(chunk)
        except ConnectionError:
            self.left.set()
        finally:
            writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def endless(served: Served) -> AsyncIterator[Endless]:
    provider = Endless()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{CHAT}"
    stored = served.house.store.get("chat")
    assert stored is not None
    whole = {"id": "i", "choices": [{"index": 0, "message": {"content": "x"}}]}
    for id, task, answer in (
        ("endless-chat", "chat_completion", {"sse": [piece("x"), DONE]}),
        ("endless-complete", "completion", {"json": whole}),
    ):
        # PUT asks the provider once: it answers there, and is endless from then on.
        settings = {"url": stored.settings["url"], "model_id": "m", "api_key": "k"}
        served.answers(**answer)
        await put(served.http, task, id, "openai", settings)
        served.house.store.get(id).settings["url"] = url
    yield provider
    server.close()


async def still(value: Any) -> int:
    """The value once it has stopped growing: the same for 300 ms, within three seconds."""
    seen = value()
    for _ in range(10):
        await asyncio.sleep(0.3)
        if value() == seen:
            return seen
        seen = value()
    raise AssertionError(f"it grows and grows: {seen} bytes")


@every
async def test_a_slow_reader_slows_the_provider(
    served: Served, endless: Endless, path: str, body: dict[str, Any]
):
    """Nobody reads: what is under way stays below what sockets hold, nothing piles up; reading goes on where it stopped."""
    path = path.replace("/chat/_", "/endless-chat/_").replace("/complete/_", "/endless-complete/_")
    body = {**body, **({"model": f"endless-{body['model']}"} if "model" in body else {})}
    async with served.http.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200
        pieces = answer.aiter_raw()
        await anext(pieces)
        stuck = await still(lambda: endless.sent)
        assert stuck < 24_000_000
        read = 0
        while read < 2 * stuck:
            read += len(await anext(pieces))
        assert endless.sent > stuck
    await asyncio.wait_for(endless.left.wait(), 1)


@every
async def test_a_reader_who_leaves(served: Served, path: str, body: dict[str, Any]):
    """The provider's call ends within a second; nothing buffers on the way."""
    served.answers(sse=[piece("Hel")], hang=True)
    async with served.http.stream("POST", path, json=body) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["cache-control"] == "no-cache"
        assert b"Hel" in await anext(answer.aiter_raw())
    await asyncio.wait_for(served.fake.left.wait(), 1)


async def test_a_collected_answer_ends_with_its_reader(served: Served):
    """Whole answers too: who leaves ends the provider's call."""
    served.answers({}, delay=30)
    served.fake.asked.clear()
    asking = asyncio.ensure_future(served.post("/_inference/chat_completion/chat", {"messages": ASK}))
    await asyncio.wait_for(served.fake.asked.wait(), 2)
    asking.cancel()
    await asyncio.wait_for(served.fake.left.wait(), 1)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("cut", [4, 40, 95])
async def test_a_provider_that_dies(served: Served, cut: int, reset: bool):
    """In the middle of an event, of its UTF-8 even: what was complete came, then the error event, no ``[DONE]``."""
    first = f"data: {json.dumps(piece('Hel'), separators=(',', ':'))}\n\n".encode()
    half = (
        'data: {"id":"c-1","model":"m","choices":[{"index":0,"delta":{"content":"üüüüüüüüüüüüüüüüü'.encode()
    )
    served.answers(sse=[first, half], cut=len(first) + cut, reset=reset, pause=0.1)
    told = parsed((await served.post(ELASTIC, {"messages": ASK})).text)
    assert [name for name, _ in told] == ["message", "error"]
    assert json.loads(told[0][1])["choices"][0]["delta"] == {"content": "Hel"}
    assert json.loads(told[1][1]) == {
        "error": {
            "code": "internal_server_error",
            "message": "Fatal error while streaming response. Please retry the request.",
            "type": "status_exception",
        }
    }
    served.answers(sse=[first, half], cut=len(first) + cut, reset=reset, pause=0.1)
    told = parsed((await served.post("/_inference/completion/complete/_stream", {"input": "hi"})).text)
    assert [name for name, _ in told] == ["message", "error"]
    assert json.loads(told[1][1])["status"] == 500


@every
async def test_a_failure_before_the_stream_keeps_its_status(served: Served, path: str, body: dict[str, Any]):
    """The provider's 429 is ours, in every dialect."""
    served.answers({"error": {"message": "slow down", "type": "t"}}, status=429)
    answer = await served.post(path, body)
    assert answer.status_code == 429
    assert "slow down" in answer.text


# Shutdown


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(tmp_path) -> AsyncIterator[Served]:
    """A server that may be stopped; it gives streams two seconds."""
    async with serving(tmp_path, local=False, secure=False, api=Api()) as found:
        yield found


async def ask_on(url: str) -> None:
    """New connections, one after the other."""
    for _ in range(100):
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(url)
        await asyncio.sleep(0.01)


async def test_shutdown_lets_streams_finish(fresh: Served):
    """Asked to stop in the middle of a stream: new work is refused, the stream comes to its end."""
    fresh.answers(sse=[piece("a"), piece("b"), piece("c", "stop"), DONE], pause=0.3)
    async with fresh.http.stream("POST", ELASTIC, json={"messages": ASK}) as answer:
        text = answer.aiter_text()
        read = await anext(text)
        fresh.server.stop()
        with pytest.raises(httpx.TransportError):
            await ask_on(fresh.url)
        read += "".join([part async for part in text])
    assert [json.loads(data)["choices"][0]["delta"]["content"] for _, data in parsed(read)[:-1]] == [
        "a",
        "b",
        "c",
    ]
    assert parsed(read)[-1] == ("message", "[DONE]")


async def test_shutdown_does_not_wait_for_ever(fresh: Served):
    """A stream beyond the limit is cut, not ended as if it were complete; the provider's call ends too."""
    fresh.answers(sse=[piece("a")], hang=True)
    async with fresh.http.stream("POST", ELASTIC, json={"messages": ASK}) as answer:
        text = answer.aiter_text()
        read = await anext(text)
        fresh.server.stop()
        async with asyncio.timeout(6):
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(text)
    assert "[DONE]" not in read
    await asyncio.wait_for(fresh.fake.left.wait(), 1)


# Framing


async def test_a_stream_holds_nothing_but_events(fresh: Served):
    """The contract's form: no comments, however slow the provider; usage in the last chunk."""
    fresh.answers(sse=[piece("a", "stop"), usage_piece(), DONE], delay=0.3)
    text = (await fresh.post(ELASTIC, {"messages": ASK})).text
    assert text == (
        'event: message\ndata: {"id":"c-1","choices":[{"delta":{"content":"a"},"finish_reason":"stop","index":0}],'
        '"model":"m","object":"chat.completion.chunk"}\n\n'
        'event: message\ndata: {"id":"c-1","choices":[],"model":"m","object":"chat.completion.chunk","usage":'
        '{"completion_tokens":2,"prompt_tokens":9,"total_tokens":11}}\n\n'
        "event: message\ndata: [DONE]\n\n"
    )


async def test_heartbeats_where_they_are_asked_for(served: Served):
    """With ``api.stream_heartbeat``: comments before the first token and between two."""
    served.answers(sse=[piece("a"), piece("b", "stop"), DONE], delay=1.7, pause=1.2)
    text = (await served.post(ELASTIC, {"messages": ASK})).text
    assert text.startswith(":\n\n")
    assert ":\n\n" in text[text.index('"a"') : text.index('"b"')]
    assert [name for name, _ in parsed(text)] == ["message"] * 3
    served.answers({"error": {"message": "no", "type": "t"}}, status=400, delay=1.2)
    late = await served.post(ELASTIC, {"messages": ASK})
    ((name, data),) = parsed(late.text)
    assert (late.status_code, name, "no" in json.loads(data)["error"]["message"]) == (200, "error", True)


@pytest.mark.parametrize("mark", [False, True])
async def test_the_mark_of_the_reference(tmp_path, mark: bool):
    """Decision 20: without it a parser by the rules knows every event; with it errors lose their name. Elasticsearch's client takes
    both."""
    async with serving(tmp_path, local=False, secure=False, api=Api(sse_bom=mark)) as found:
        error = {"error": {"message": "broken", "type": "t"}}
        found.answers(sse=[piece("a"), error])
        raw = (await found.post(ELASTIC, {"messages": ASK})).content
        found.answers(error, status=400)
        early = (await found.post(ELASTIC, {"messages": ASK})).content
        async with elasticsearch.AsyncElasticsearch(found.url) as client:
            found.answers(sse=[piece("a", "stop"), DONE])
            answer = await client.perform_request(
                "POST",
                ELASTIC,
                body={"messages": ASK},
                headers={"accept": "text/event-stream, application/json", "content-type": "application/json"},
            )
    assert raw.count(b"\xef\xbb\xbfevent: ") == (2 if mark else 0)
    assert early.startswith(b"\xef\xbb\xbf") is mark
    assert [name for name, _ in parsed(raw.decode())] == ["message", "message" if mark else "error"]
    assert '"a"' in str(answer.body)
