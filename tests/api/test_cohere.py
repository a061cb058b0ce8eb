"""Cohere's own client, unmodified, against a real server (https://github.com/cohere-ai/cohere-python); Jina's and Voyage's rerank."""

import asyncio
import base64
import json
from typing import Any

import cohere
import numpy as np
import pytest
import pytest_asyncio
from cohere.core.api_error import ApiError
from dialects import DONE, WHOLE, Served, piece, usage_piece

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASK = [{"role": "user", "content": "hi"}]
WORDS = ["luke", "like", "leia", "chewy", "r2d2", "star", "wars"]
QUERY = "star wars main character"
DOCUMENTS = {"model": "rank", "query": QUERY, "documents": WORDS}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def v2(served: Served) -> cohere.AsyncClientV2:
    async with cohere.AsyncClientV2(base_url=served.url, api_key=served.key, max_retries=0) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def v1(served: Served) -> cohere.AsyncClient:
    async with cohere.AsyncClient(base_url=served.url, api_key=served.key, max_retries=0) as found:
        yield found


# Embeddings


async def test_embed_v2_in_all_forms(v2: cohere.AsyncClientV2):
    """Every form is made of the same floats: their bytes, their steps, their signs."""
    answer = await v2.embed(
        model="dense",
        texts=["hello", "world"],
        input_type="search_document",
        embedding_types=["float", "int8", "uint8", "binary", "ubinary", "base64"],
    )
    found: Any = answer.embeddings
    floats = np.array(found.float_, np.float32)
    assert floats.shape == (2, 384)
    assert b"".join(base64.b64decode(row, validate=True) for row in found.base64) == (
        floats.astype("<f4").tobytes()
    )
    steps = np.rint(floats * np.float32(127)).astype(int)
    assert np.array(found.int8).tolist() == steps.tolist()
    assert np.array(found.uint8).tolist() == (steps + 128).tolist()
    signs = np.packbits(floats > 0, axis=1).astype(int)
    assert found.ubinary == signs.tolist()
    assert found.binary == (signs - 128).tolist()
    assert np.array(found.binary).shape == (2, 48)
    assert answer.texts == ["hello", "world"]


async def test_usage_and_truncation_are_told(v2: cohere.AsyncClientV2):
    """Where Cohere's clients look: billed units and warnings; other ways of cutting are refused, not ignored."""
    texts = ["short", "word " * 1000]
    answer = await v2.embed(model="dense", texts=texts, input_type="search_query")
    assert answer.meta.billed_units.input_tokens == 3 + 256
    assert answer.meta.warnings == [
        "inputs [1] were cut to the model's window: 746 of 1005 tokens were dropped"
    ]
    for how in ("NONE", "START"):
        with pytest.raises(cohere.BadRequestError, match=r"texts \[1\] are longer"):
            await v2.embed(model="dense", texts=texts, input_type="search_query", truncate=how)
        fine = await v2.embed(model="dense", texts=texts[:1], input_type="search_query", truncate=how)
        assert fine.meta.warnings is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the client's own
async def test_embed_v1(v1: cohere.AsyncClient):
    """Plain floats by default, by type on demand; the client's own batches of 96 come together."""
    texts = [f"text {n}" for n in range(100)]
    answer: Any = await v1.embed(model="dense", texts=texts, input_type="classification")
    assert answer.response_type == "embeddings_floats"
    assert np.array(answer.embeddings).shape == (100, 384)
    assert answer.meta.billed_units.input_tokens == 400
    typed: Any = await v1.embed(
        model="dense", texts=texts, input_type="clustering", embedding_types=["int8", "float"]
    )
    assert typed.embeddings.float_ == answer.embeddings
    assert np.array(typed.embeddings.int8).shape == (100, 384)


# Rerank


async def test_rerank(v1: cohere.AsyncClient, v2: cohere.AsyncClientV2):
    """By falling score, cut to ``top_n``; usage known; v1 gives documents back on demand, all of them."""
    answer = await v2.rerank(**DOCUMENTS)
    scores = [item.relevance_score for item in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert WORDS[answer.results[0].index] == "luke"
    assert answer.meta.billed_units.input_tokens > 7
    assert [r.index for r in (await v2.rerank(**DOCUMENTS, top_n=2)).results] == [
        r.index for r in answer.results[:2]
    ]
    old = await v1.rerank(**DOCUMENTS)
    assert [(r.index, r.relevance_score) for r in old.results] == [
        (r.index, r.relevance_score) for r in answer.results
    ]
    documents = [{"text": word, "page": n} for n, word in enumerate(WORDS)]
    shown: Any = await v1.rerank(
        model="rank", query=QUERY, documents=documents, return_documents=True, rank_fields=["text"]
    )
    assert [r.document.model_dump() for r in shown.results] == [documents[r.index] for r in shown.results]


async def test_rerank_as_jinas_clients_read_it(served: Served):
    """https://api.jina.ai/redoc: model, usage, results with documents."""
    answer = (await served.post("/v1/rerank", {**DOCUMENTS, "top_n": 2, "return_documents": True})).json()
    assert answer["model"] == "rank"
    assert answer["usage"]["total_tokens"] > 7
    assert [set(r) for r in answer["results"]] == [{"index", "relevance_score", "document"}] * 2
    assert answer["results"][0]["document"] == {"text": "luke"}


@pytest.mark.parametrize("more", [{}, {"top_k": 2, "truncation": True}])
async def test_rerank_as_voyages_clients_read_it(served: Served, more: dict[str, Any]):
    """https://docs.voyageai.com/reference/reranker-api: a list of data, documents as plain texts."""
    answer = (await served.post("/v1/rerank", {**DOCUMENTS, **more, "return_documents": True})).json()
    assert (answer["object"], answer["model"]) == ("list", "rank")
    assert len(answer["data"]) == more.get("top_k", 7)
    assert answer["data"][0]["document"] == "luke"
    assert [r["relevance_score"] for r in answer["data"]] == [r["relevance_score"] for r in answer["results"]]
    assert answer["usage"]["total_tokens"] > 7


async def test_long_documents_are_told(served: Served):
    """In the answer's warnings and headers; refused for who wants no truncation; a limit of one's own is not kept in silence."""
    body = {"model": "rank", "query": "word", "documents": ["short", "word " * 2000]}
    answer = await served.post("/v2/rerank", body)
    assert answer.headers["x-inferd-truncated"] == "1"
    assert answer.json()["meta"]["warnings"][0].startswith("inputs [1] were cut to the model's window: ")
    refused = await served.post("/v1/rerank", {**body, "truncation": False})
    assert refused.status_code == 400
    assert "documents [1] are longer" in refused.json()["message"]
    assert (await served.post("/v2/rerank", {**body, "max_tokens_per_doc": 8})).status_code == 400
    assert (await served.post("/v2/rerank", {**body, "max_tokens_per_doc": 4096})).status_code == 200


# Chat


async def test_chat(v2: cohere.AsyncClientV2, served: Served):
    """A whole answer, from chat and completion endpoints."""
    served.answers(WHOLE)
    for model in ("chat", "complete"):
        answer = await v2.chat(model=model, messages=ASK)
        assert answer.finish_reason == "COMPLETE"
        assert answer.message.role == "assistant"
        assert [part.text for part in answer.message.content] == ["Hello!"]
        assert (answer.usage.tokens.input_tokens, answer.usage.tokens.output_tokens) == (9, 2)
        assert answer.usage.billed_units.input_tokens == 9


CALL = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"town":"x"}'}}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "of a town", "parameters": {"type": "object"}},
}


async def test_all_of_a_chat_reaches_the_provider(v2: cohere.AsyncClientV2, served: Served):
    """Images, tools and their results, thoughts, sampling: in the provider's terms."""
    served.answers(
        {
            **WHOLE,
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "ok",
                        "reasoning": "hmm",
                        "tool_calls": [CALL],
                    },
                    "finish_reason": "tool_calls",
                }
            ],
        }
    )
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    thought = {"type": "thinking", "thinking": "so be it"}
    result = [{"type": "document", "document": {"id": "1", "data": '{"sky":"blue"}'}}]
    answer: Any = await v2.chat(
        model="chat",
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "what is it"}, image]},
            {"role": "assistant", "content": [thought], "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "t1", "content": result},
        ],
        tools=[TOOL],
        tool_choice="REQUIRED",
        max_tokens=7,
        temperature=0.5,
        p=0.9,
        stop_sequences=["x"],
        thinking={"type": "enabled"},
        seed=3,
    )
    sent = served.upstream
    assert sent["messages"][1]["content"] == [{"type": "text", "text": "what is it"}, image]
    assert sent["messages"][2] == {"role": "assistant", "tool_calls": [CALL]}
    assert sent["messages"][3]["content"] == [{"type": "text", "text": '{"sky":"blue"}'}]
    assert sent["tools"] == [TOOL]
    assert (sent["tool_choice"], sent["reasoning_effort"], sent["stop"]) == ("required", "medium", ["x"])
    assert (sent["max_completion_tokens"], sent["temperature"], sent["top_p"]) == (7, 0.5, 0.9)
    assert answer.finish_reason == "TOOL_CALL"
    assert [(part.type, getattr(part, part.type)) for part in answer.message.content] == [
        ("thinking", "hmm"),
        ("text", "ok"),
    ]
    assert answer.message.tool_calls[0].model_dump() == CALL


async def test_chat_stream(v2: cohere.AsyncClientV2, served: Served):
    """v2's events in order: thoughts, text and calls open and close in turn; the end has reason and usage."""

    def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        function = {"arguments": arguments, **more.pop("function", {})}
        return piece(tool_calls=[{"index": index, "function": function, **more}])

    served.answers(
        sse=[
            piece(role="assistant", content=""),
            piece(reasoning="h"),
            piece(reasoning="mm"),
            piece("Hel"),
            piece("lo"),
            call(0, "", id="t1", function={"name": "a"}),
            call(0, "{}"),
            call(1, '{"x":', id="t2", function={"name": "b"}),
            call(1, "1}"),
            piece(None, "tool_calls"),
            usage_piece(),
            DONE,
        ]
    )
    events: list[Any] = [event async for event in v2.chat_stream(model="chat", messages=ASK)]
    assert [(e.type, getattr(e, "index", None)) for e in events] == [
        ("message-start", None),
        ("content-start", 0),
        ("content-delta", 0),
        ("content-delta", 0),
        ("content-end", 0),
        ("content-start", 1),
        ("content-delta", 1),
        ("content-delta", 1),
        ("content-end", 1),
        ("tool-call-start", 0),
        ("tool-call-delta", 0),
        ("tool-call-end", 0),
        ("tool-call-start", 1),
        ("tool-call-delta", 1),
        ("tool-call-end", 1),
        ("message-end", None),
    ]
    assert (events[0].id, events[0].delta.message.role) == ("c-1", "assistant")
    contents = [e.delta.message.content for e in events if e.type == "content-delta"]
    assert [c.thinking or c.text for c in contents] == ["h", "mm", "Hel", "lo"]
    started = [e.delta.message.tool_calls for e in events if e.type == "tool-call-start"]
    assert [(c.id, c.function.name, c.function.arguments) for c in started] == [
        ("t1", "a", ""),
        ("t2", "b", '{"x":'),
    ]
    more = [e.delta.message.tool_calls.function.arguments for e in events if e.type == "tool-call-delta"]
    assert more == ["{}", "1}"]
    assert (events[-1].delta.finish_reason, events[-1].delta.usage.tokens.output_tokens) == ("TOOL_CALL", 2)


async def test_a_stream_that_dies(v2: cohere.AsyncClientV2, served: Served):
    """Cut in the middle of an event: the message ends with an error, not as if it were complete."""
    first, half = piece("Hel"), b'data: {"id":"c-1","choices":[{"index":0,"delta":{"content":"\xc3'
    served.answers(sse=[first, half], cut=len(json.dumps(first, separators=(",", ":"))) + 8 + len(half))
    events: list[Any] = [event async for event in v2.chat_stream(model="chat", messages=ASK)]
    assert [e.type for e in events] == ["message-start", "content-start", "content-delta", "message-end"]
    assert events[-1].delta.finish_reason == "ERROR"
    assert events[-1].delta.error.startswith("Fatal error while streaming response")


async def test_a_reader_who_leaves(served: Served):
    """The provider's call ends within a second."""
    served.answers(sse=[piece("Hel")], hang=True)
    body = {"model": "chat", "messages": ASK, "stream": True}
    async with served.http.stream("POST", "/v2/chat", json=body) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        assert (await anext(answer.aiter_raw())).startswith(b"event: message-start\n")
    await asyncio.wait_for(served.fake.left.wait(), 1)


async def test_heartbeats(v2: cohere.AsyncClientV2, served: Served):
    """A slow provider: the client waits, and sees none of the comments."""
    served.answers(sse=[piece("Hello", "stop"), DONE], delay=1.7)
    events: list[Any] = [event async for event in v2.chat_stream(model="chat", messages=ASK)]
    assert [e.type for e in events] == [
        "message-start",
        "content-start",
        "content-delta",
        "content-end",
        "message-end",
    ]


async def test_elasticsearchs_own_reader(served: Served):
    """Its ``cohere`` service reads v1's lines, and nothing between them."""
    served.answers(sse=[piece("Hel"), piece("lo", "stop"), usage_piece(), DONE], delay=1.7)
    body = {"model": "complete", "messages": ASK, "stream": True}
    answer = await served.post("/v2/chat", body, **{"Request-Source": "unspecified:elasticsearch"})
    assert [json.loads(line) for line in answer.text.splitlines()] == [
        {"event_type": "text-generation", "text": "Hel"},
        {"event_type": "text-generation", "text": "lo"},
        {"event_type": "stream-end", "finish_reason": "COMPLETE"},
    ]
    served.answers(sse=[piece("Hel"), {"error": {"message": "overloaded", "type": "t"}}])
    answer = await served.post("/v2/chat", body, **{"Request-Source": "unspecified:elasticsearch"})
    last = json.loads(answer.text.splitlines()[-1])
    assert (last["event_type"], last["finish_reason"]) == ("stream-end", "ERROR")
    assert "overloaded" in last["response"]["text"]


# Failures


async def test_errors(v2: cohere.AsyncClientV2, served: Served):
    """Each status becomes the class that the client has for it, with one message."""
    async with cohere.AsyncClientV2(base_url=served.url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(cohere.UnauthorizedError):
            await stranger.rerank(**DOCUMENTS)
    async with cohere.AsyncClientV2(base_url=served.url, api_key=served.narrow, max_retries=0) as narrow:
        with pytest.raises(cohere.ForbiddenError, match="is unauthorized for API key"):
            await narrow.embed(model="dense", texts=["a"], input_type="search_query")
        assert (await narrow.rerank(**DOCUMENTS)).results
    with pytest.raises(cohere.NotFoundError, match=r"Inference endpoint not found \[nothing\]"):
        await v2.rerank(model="nothing", query="a", documents=["b"])
    with pytest.raises(cohere.BadRequestError, match=r"needs one of \[rerank\]"):
        await v2.rerank(model="dense", query="a", documents=["b"])
    served.answers({"error": {"message": "slow down", "type": "t"}}, status=429)
    with pytest.raises(cohere.TooManyRequestsError, match="slow down"):
        await v2.chat(model="chat", messages=ASK)
    with pytest.raises(cohere.TooManyRequestsError):
        _ = [event async for event in v2.chat_stream(model="chat", messages=ASK)]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"k": 5}, r"\[k\]"),
        ({"logprobs": True}, r"\[logprobs\]"),
        ({"response_format": {"type": "json_object"}}, r"\[response_format\]"),
        ({"documents": ["x"]}, r"\[documents\]"),
        ({"thinking": {"type": "enabled", "token_budget": 5}}, r"\[thinking.token_budget\]"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, r"content\[0\].type\] must be"),
    ],
)
async def test_nothing_is_dropped_in_silence(v2: cohere.AsyncClientV2, more: dict[str, Any], named: str):
    """What would change the answer and cannot be honoured is a 400 that names it."""
    with pytest.raises(ApiError, match=named):
        await v2.chat(**{"model": "chat", "messages": ASK, **more})
