"""OpenAI's own client, unmodified, against a real server (https://github.com/openai/openai-python)."""

import asyncio
import base64
import json
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio
from dialects import DONE, WHOLE, Served, piece, usage_piece
from openai import AsyncOpenAI

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASK = [{"role": "user", "content": "hi"}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(served: Served) -> AsyncOpenAI:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.key, max_retries=0) as found:
        yield found


# Models


async def test_models(client: AsyncOpenAI, served: Served):
    """Every endpoint the caller may see; one by its id; 404 for what is none."""
    shown = {model.id: model.owned_by async for model in client.models.list()}
    assert shown.items() >= {"dense": "elasticsearch", "chat": "openai"}.items()
    assert (await client.models.retrieve("dense")).id == "dense"
    with pytest.raises(openai.NotFoundError, match=r"Inference endpoint not found \[nothing\]"):
        await client.models.retrieve("nothing")
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.narrow) as narrow:
        assert [model.id async for model in narrow.models.list()] == ["rank"]


# Embeddings


async def test_embeddings(client: AsyncOpenAI):
    """The client's default (base64) and plain floats are the same vectors; usage counts tokens; one text is a list of one."""
    packed = await client.embeddings.create(model="dense", input=["hello world", "", "ü\0"])
    plain = await client.embeddings.create(
        model="dense", input=["hello world", "", "ü\0"], encoding_format="float"
    )
    assert [d.index for d in packed.data] == [0, 1, 2]
    assert [len(d.embedding) for d in packed.data] == [384] * 3
    left, right = (np.array([d.embedding for d in a.data], np.float32) for a in (packed, plain))
    assert left.tobytes() == right.tobytes()
    assert np.linalg.norm(left, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 6
    assert (packed.object, packed.model, packed.data[0].object) == ("list", "dense", "embedding")
    alone = await client.embeddings.create(model="dense", input="hello world")
    assert alone.data[0].embedding == packed.data[0].embedding


async def test_base64_is_little_endian_float32(served: Served):
    """The bytes that other clients unpack themselves."""
    answer = await served.post(
        "/v1/embeddings", {"model": "dense", "input": "a", "encoding_format": "base64"}
    )
    raw = base64.b64decode(answer.json()["data"][0]["embedding"], validate=True)
    plain = await served.post("/v1/embeddings", {"model": "dense", "input": "a"})
    assert np.frombuffer(raw, "<f4").tobytes() == (
        np.array(plain.json()["data"][0]["embedding"], "<f4").tobytes()
    )


async def test_token_arrays(client: AsyncOpenAI, served: Served):
    """Ids of the endpoint's own model, one array or several, give the vectors of their texts."""
    texts = ["hello world", "the sky above the port"]
    rows = (await served.post("/tei/dense/tokenize", {"inputs": texts, "add_special_tokens": False})).json()
    ids = [[token["id"] for token in row] for row in rows]
    wanted = await client.embeddings.create(model="dense", input=texts)
    found = await client.embeddings.create(model="dense", input=ids)
    assert [d.embedding for d in found.data] == [d.embedding for d in wanted.data]
    alone = await client.embeddings.create(model="dense", input=ids[0])
    assert alone.data[0].embedding == wanted.data[0].embedding
    with pytest.raises(openai.BadRequestError, match=r"token id \[99999999\]"):
        await client.embeddings.create(model="dense", input=[99999999])


async def test_dimensions(client: AsyncOpenAI):
    """The endpoint's own, or an error that names them."""
    await client.embeddings.create(model="dense", input="a", dimensions=384)
    with pytest.raises(openai.BadRequestError, match=r"\[dimensions\] is \[128\].*gives \[384\]"):
        await client.embeddings.create(model="dense", input="a", dimensions=128)


async def test_truncation_is_told(client: AsyncOpenAI):
    """Usage counts what the model saw, and says how many tokens it did not; headers name the inputs."""
    raw = await client.embeddings.with_raw_response.create(model="dense", input=["short", "word " * 1000])
    usage: Any = raw.parse().usage
    assert usage.prompt_tokens == 3 + 256
    assert usage.dropped_tokens == 1002 - 256
    assert raw.headers["x-inferd-truncated"] == "1"
    assert raw.headers["x-inferd-usage"] == f"given={3 + 1002}, used={3 + 256}, dropped={1002 - 256}"


# Chat


async def test_chat(client: AsyncOpenAI, served: Served):
    """A whole answer: message, finish reason, usage, the endpoint's id as model."""
    served.answers(WHOLE)
    answer = await client.chat.completions.create(model="chat", messages=ASK)
    assert (answer.id, answer.object, answer.model) == ("c-1", "chat.completion", "chat")
    assert answer.choices[0].message.content == "Hello!"
    assert (answer.choices[0].message.role, answer.choices[0].finish_reason) == ("assistant", "stop")
    assert (
        answer.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"})
        == (WHOLE["usage"])
    )
    assert (served.upstream["model"], served.upstream["stream"]) == ("m", False)


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        "strict": True,
    },
}


async def test_all_of_a_chat_reaches_the_provider(client: AsyncOpenAI, served: Served):
    """Images, files, tools, tool results, sampling, reasoning: as OpenAI's wire has them."""
    served.answers(WHOLE)
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"x"}'}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}}
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what is it"}, image, file]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
    ]
    await client.chat.completions.create(
        model="chat",
        messages=messages,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_completion_tokens=7,
        temperature=0,
        top_p=0.5,
        stop=["a", "b"],
        reasoning_effort="low",
        seed=1,
        user="u",
        parallel_tool_calls=True,
        n=1,
    )
    sent = served.upstream
    assert sent["messages"][0] == {"role": "system", "content": "be brief"}
    assert sent["messages"][1]["content"] == [{"type": "text", "text": "what is it"}, image, file]
    assert sent["messages"][2] == {"role": "assistant", "tool_calls": [call]}
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": "t1", "content": "sunny"}
    assert sent["tools"] == [TOOL]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert (sent["max_completion_tokens"], sent["temperature"], sent["top_p"]) == (7, 0, 0.5)
    assert (sent["stop"], sent["reasoning_effort"]) == (["a", "b"], "low")


async def test_an_answer_goes_back_as_a_message(client: AsyncOpenAI, served: Served):
    """What the client dumps of an answer is a message that is taken."""
    served.answers(WHOLE)
    answer = await client.chat.completions.create(model="chat", messages=ASK)
    message: Any = answer.choices[0].message.model_dump()
    await client.chat.completions.create(model="chat", messages=[*ASK, message, *ASK])
    assert served.upstream["messages"][1] == {"role": "assistant", "content": "Hello!"}


async def test_chat_stream(client: AsyncOpenAI, served: Served):
    """Chunks as they come; usage in the last one, which has no choices; only when asked for."""
    served.answers(
        sse=[
            piece(role="assistant", content=""),
            piece("Hel"),
            piece("lo"),
            piece(None, "stop"),
            usage_piece(),
            DONE,
        ]
    )
    for wanted in (True, False):
        stream = await client.chat.completions.create(
            model="chat", messages=ASK, stream=True, stream_options={"include_usage": wanted}
        )
        chunks = [chunk async for chunk in stream]
        told = [c for c in chunks if c.choices]
        assert {(c.id, c.object, c.model) for c in chunks} == {("c-1", "chat.completion.chunk", "chat")} | (
            {(chunks[-1].id, "chat.completion.chunk", "chat")}
        )
        assert told[0].choices[0].delta.role == "assistant"
        assert "".join(c.choices[0].delta.content or "" for c in told) == "Hello"
        assert [c.choices[0].finish_reason for c in told] == [None, None, None, "stop"]
        assert [c.usage.total_tokens for c in chunks if c.usage] == ([11] if wanted else [])
        assert (len(chunks) == 5) is wanted


async def test_tools_in_pieces(client: AsyncOpenAI, served: Served):
    """Two calls at once, streamed in pieces: the client's own accumulator puts them together."""

    def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
        return piece(tool_calls=[{"index": index, "function": function, **more}])

    served.answers(
        sse=[
            piece(role="assistant"),
            call(0, "", id="t1", type="function", name="weather"),
            call(0, '{"town":'),
            call(0, '"ü"}'),
            call(1, "{}", id="t2", type="function", name="time"),
            piece(None, "tool_calls"),
            DONE,
        ]
    )
    async with client.chat.completions.stream(
        model="chat", messages=ASK, tools=[TOOL], tool_choice="required"
    ) as stream:
        answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("t1", "weather", '{"town":"ü"}'),
        ("t2", "time", "{}"),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert served.upstream["tool_choice"] == "required"


async def test_reasoning_comes_along(client: AsyncOpenAI, served: Served):
    """Thoughts stand where clients of reasoning models look."""
    served.answers(sse=[piece(reasoning="hmm"), piece("ok", "stop"), DONE])
    stream = await client.chat.completions.create(model="chat", messages=ASK, stream=True)
    deltas: list[Any] = [chunk.choices[0].delta async for chunk in stream]
    assert (deltas[0].reasoning_content, deltas[1].content) == ("hmm", "ok")


async def test_completions(client: AsyncOpenAI, served: Served):
    """The older route, over a completion endpoint and a chat endpoint, whole and streamed."""
    served.answers(WHOLE)
    for model in ("complete", "chat"):
        answer = await client.completions.create(model=model, prompt="hi")
        assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
            "text_completion",
            "Hello!",
            "stop",
        )
        assert answer.usage.total_tokens == 11
        assert served.upstream["messages"] == [{"role": "user", "content": "hi"}]
    served.answers(sse=[piece("Hel"), piece("lo", "stop"), usage_piece(), DONE])
    for model in ("complete", "chat"):
        stream = await client.completions.create(
            model=model, prompt="hi", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].text for c in chunks if c.choices) == "Hello"
        assert chunks[-1].usage.total_tokens == 11


async def test_a_completion_endpoint_chats_one_message(client: AsyncOpenAI, served: Served):
    """One plain user message passes; what its service would lose is refused."""
    served.answers(WHOLE)
    parts = [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}]
    answer = await client.chat.completions.create(model="complete", messages=parts)
    assert answer.choices[0].message.content == "Hello!"
    assert served.upstream["messages"] == [{"role": "user", "content": "hi"}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    for more in (
        {"messages": [*ASK, *ASK]},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "user", "content": [image]}]},
        {"temperature": 1},
        {"tools": [TOOL]},
        {"tool_choice": "auto"},
        {"reasoning_effort": "low"},
    ):
        with pytest.raises(openai.BadRequestError, match="it takes one user message"):
            await client.chat.completions.create(**{"model": "complete", "messages": ASK, **more})


# Failures


async def test_errors(client: AsyncOpenAI, served: Served):
    """Each status becomes the class that the client has for it, with OpenAI's type and code."""
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.embeddings.create(model="dense", input="a")
        assert (caught.value.type, caught.value.code) == ("authentication_error", "invalid_api_key")
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.narrow, max_retries=0) as narrow:
        with pytest.raises(openai.PermissionDeniedError, match="is unauthorized for API key") as caught:
            await narrow.embeddings.create(model="dense", input="a")
        assert caught.value.code == "insufficient_permissions"
    with pytest.raises(openai.NotFoundError) as caught:
        await client.embeddings.create(model="nothing", input="a")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match=r"needs one of \[text_embedding, embedding\]"):
        await client.embeddings.create(model="rank", input="a")
    with pytest.raises(openai.BadRequestError, match=r"needs one of \[chat_completion, completion\]"):
        await client.chat.completions.create(model="dense", messages=ASK)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_providers_refusal_keeps_its_status(client: AsyncOpenAI, served: Served, stream: bool):
    """429 of the provider is the client's RateLimitError, with the provider's words, streaming or not."""
    error = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    served.answers(error, status=429)
    with pytest.raises(openai.RateLimitError, match="slow down"):
        await client.chat.completions.create(model="chat", messages=ASK, stream=stream)
    served.answers({"error": {"message": "no", "type": "t", "param": "messages", "code": "odd"}}, status=400)
    with pytest.raises(openai.BadRequestError, match="no") as caught:
        await client.chat.completions.create(model="chat", messages=ASK, stream=stream)
    assert (caught.value.param, caught.value.code) == ("messages", "odd")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"n": 2}, r"\[n\]"),
        ({"logprobs": True}, r"\[logprobs\]"),
        ({"response_format": {"type": "json_object"}}, r"\[response_format\]"),
        ({"parallel_tool_calls": False}, r"\[parallel_tool_calls\]"),
        ({"frequency_penalty": 0.5}, r"\[frequency_penalty\]"),
        ({"logit_bias": {"1": 5}}, r"\[logit_bias\]"),
        ({"extra_body": {"unheard_of": 1}}, r"\[unheard_of\]"),
        ({"messages": [{"role": "user", "content": "x", "odd": 1}]}, r"\[messages\[0\].odd\]"),
        ({"messages": []}, r"\[messages\] must not be empty"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            r"content\[0\].type\] must be",
        ),
        ({"tools": [{"type": "custom", "function": {"name": "x"}}]}, r"\[tools\[0\].type\]"),
        ({"max_completion_tokens": 0}, r"\[max_completion_tokens\] must be a positive integer"),
        ({"temperature": "hot"}, r"\[temperature\] must be a number"),
    ],
)
async def test_nothing_is_dropped_in_silence(client: AsyncOpenAI, more: dict[str, Any], named: str):
    """What would change the answer and cannot be honoured is a 400 that names it."""
    with pytest.raises(openai.BadRequestError, match=named):
        await client.chat.completions.create(**{"model": "chat", "messages": ASK, **more})


async def test_a_stream_that_dies(client: AsyncOpenAI, served: Served):
    """Cut in the middle of an event: what came is there, then the client's error; no end that looks like one."""
    first, half = piece("Hel"), b'data: {"id":"c-1","choices":[{"index":0,"delta":{"content":"\xc3'
    served.answers(sse=[first, half], cut=len(json.dumps(first, separators=(",", ":"))) + 8 + len(half))
    stream = await client.chat.completions.create(model="chat", messages=ASK, stream=True)
    found = []
    with pytest.raises(openai.APIError, match="Fatal error while streaming response"):
        await collect(stream, found)
    assert found == ["Hel"]


async def collect(stream: Any, into: list[Any]) -> None:
    async for chunk in stream:
        into.append(chunk.choices[0].delta.content)


async def test_a_provider_that_fails_midway(client: AsyncOpenAI, served: Served):
    """The provider's error event is the client's exception."""
    served.answers(sse=[piece("Hel"), {"error": {"message": "overloaded", "type": "server_error"}}])
    stream = await client.chat.completions.create(model="chat", messages=ASK, stream=True)
    with pytest.raises(openai.APIError, match="overloaded"):
        _ = [chunk async for chunk in stream]


async def test_a_reader_who_leaves(client: AsyncOpenAI, served: Served):
    """The provider's call ends within a second."""
    served.answers(sse=[piece("Hel")], hang=True)
    stream = await client.chat.completions.create(model="chat", messages=ASK, stream=True)
    await anext(aiter(stream))
    await stream.close()
    await asyncio.wait_for(served.fake.left.wait(), 1)


async def test_heartbeats_before_the_first_token(client: AsyncOpenAI, served: Served):
    """A slow provider: comments keep the connection, the client never sees them; a late failure is told in the stream."""
    served.answers(sse=[piece("Hello", "stop"), DONE], delay=1.7)
    body = {"model": "chat", "messages": ASK, "stream": True}
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert raw.startswith(b":\n\n")
    assert raw.endswith(b"data: [DONE]\n\n")
    stream = await client.chat.completions.create(**body)
    assert [chunk.choices[0].delta.content async for chunk in stream] == ["Hello"]
    served.answers({"error": {"message": "no", "type": "t"}}, status=400, delay=1.2)
    stream = await client.chat.completions.create(**body)
    with pytest.raises(openai.APIError, match="no"):
        _ = [chunk async for chunk in stream]


async def test_a_reader_who_leaves_before_the_first_token(served: Served):
    """Before the head and after it, with heartbeats already coming: the provider's call ends."""
    body = {"model": "chat", "messages": ASK, "stream": True}
    for seconds in (0.1, 1.0):
        served.answers(sse=[piece("x")], delay=30)
        served.fake.asked.clear()
        asking = asyncio.ensure_future(served.post("/v1/chat/completions", body))
        await asyncio.wait_for(served.fake.asked.wait(), 2)
        await asyncio.sleep(seconds)
        asking.cancel()
        await asyncio.wait_for(served.fake.left.wait(), 1)
