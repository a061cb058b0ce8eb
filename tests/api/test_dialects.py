"""One endpoint, every dialect: the same floats to the last bit, and the same count of tokens."""

import base64
from typing import Any

import cbor2
import httpx
import numpy as np
import pytest
from dialects import Served, put
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXTS = [
    "The sky above the port was the color of television, tuned to a dead channel.",
    "",
    "a",
    "日本語 и русский \0 \u202e 👩‍🚀",
    "word " * 300,
    *(f"text number {n} of some length" for n in range(8)),
]
WORDS = ["luke", "like", "leia", "chewy", "r2d2", "star", "wars"]
QUERY = "star wars main character"


def bits(rows: Any) -> bytes:
    return np.array(rows, np.float32).tobytes()


def unpacked(rows: list[str]) -> bytes:
    return b"".join(base64.b64decode(row, validate=True) for row in rows)


async def asked(served: Served, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    answer = await served.http.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def dense(served: Served) -> dict[str, bytes]:
    """The vectors of ``TEXTS`` as float32 bytes, by dialect."""

    async def json(path: str, **body: Any) -> Any:
        return (await asked(served, path, body)).json()

    cbor = await asked(
        served, "/_inference/text_embedding/dense", {"input": TEXTS}, Accept="application/cbor"
    )
    elastic = await json("/_inference/text_embedding/dense", input=TEXTS)
    openai = {"model": "dense", "input": TEXTS}
    cohere = {"model": "dense", "texts": TEXTS, "embedding_types": ["float", "base64"]}
    by_type = [(await json(path, **cohere))["embeddings"] for path in ("/v1/embed", "/v2/embed")]
    in_floats = await json("/v1/embeddings", **openai)
    in_base64 = await json("/v1/embeddings", **openai, encoding_format="base64")
    return {
        "elastic, JSON": bits([e["embedding"] for e in elastic["text_embedding"]]),
        "elastic, CBOR": bits([e["embedding"] for e in cbor2.loads(cbor.content)["text_embedding"]]),
        "elastic, no task": bits(
            [e["embedding"] for e in (await json("/_inference/dense", input=TEXTS))["text_embedding"]]
        ),
        "openai, float": bits([e["embedding"] for e in in_floats["data"]]),
        "openai, base64": unpacked([e["embedding"] for e in in_base64["data"]]),
        "cohere v1": bits((await json("/v1/embed", model="dense", texts=TEXTS))["embeddings"]),
        "cohere v1, float": bits(by_type[0]["float"]),
        "cohere v1, base64": unpacked(by_type[0]["base64"]),
        "cohere v2, float": bits(by_type[1]["float"]),
        "cohere v2, base64": unpacked(by_type[1]["base64"]),
        "tei": bits(await json("/tei/dense/embed", inputs=TEXTS)),
        "tei, bare": bits(await json("/tei/dense", inputs=TEXTS)),
        "one by one": b"".join([bits(await json("/tei/dense", inputs=text)) for text in TEXTS]),
    }


async def test_the_same_vectors(served: Served):
    """Thirteen ways to ask, one answer: not a bit differs."""
    found = await dense(served)
    assert len(found["elastic, JSON"]) == len(TEXTS) * 384 * 4
    assert {name for name, raw in found.items() if raw != found["elastic, JSON"]} == set()


async def test_the_same_weights(served: Served):
    """Sparse: tokens and weights alike."""
    elastic = (await asked(served, "/_inference/sparse_embedding/sparse", {"input": TEXTS})).json()
    bare = (await asked(served, "/tei/sparse", {"inputs": TEXTS})).json()
    ids = (await asked(served, "/tei/sparse/embed_sparse", {"inputs": TEXTS})).json()
    wanted = [entry["embedding"] for entry in elastic["sparse_embedding"]]
    assert [list(row) for row in bare] == [list(row) for row in wanted]
    for row, other, pairs in zip(wanted, bare, ids, strict=True):
        assert bits(list(row.values())) == bits(list(other.values())) == bits([p["value"] for p in pairs])
    assert sum(map(len, wanted)) > 100


async def test_the_same_scores(served: Served):
    """Rerank: order and scores alike."""
    body = {"model": "rank", "query": QUERY, "documents": WORDS}
    elastic = (await asked(served, "/_inference/rerank/rank", {"query": QUERY, "input": WORDS})).json()
    rows = [elastic["rerank"]]
    for path, key in (("/v1/rerank", "results"), ("/v1/rerank", "data"), ("/v2/rerank", "results")):
        rows.append((await asked(served, path, body)).json()[key])
    answers = [[(r["index"], r["relevance_score"]) for r in found] for found in rows]
    tei = (await asked(served, "/tei/rank/rerank", {"query": QUERY, "texts": WORDS})).json()
    answers.append([(r["index"], r["score"]) for r in tei])
    orders = [[index for index, _ in answer] for answer in answers]
    scores = [bits([score for _, score in answer]) for answer in answers]
    assert len(set(scores)) == 1
    assert all(order == orders[0] for order in orders)
    assert sorted(orders[0]) == list(range(7))


# Tokens


def usage(answer: httpx.Response) -> dict[str, int]:
    pairs = (part.split("=") for part in answer.headers["x-inferd-usage"].split(", "))
    return {name: int(value) for name, value in pairs}


def cut(answer: httpx.Response) -> list[int]:
    return [int(index) for index in answer.headers.get("x-inferd-truncated", "").split(", ") if index]


WINDOW = 256
TEXT = st.text(max_size=20) | st.integers(250, 300).map(lambda n: "word " * n)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(TEXT, min_size=1, max_size=3))
async def test_every_token_is_counted(served: Served, texts: list[str]):
    """given = used + dropped, never 0; what was cut is named; every dialect tells the same."""
    rows = (await asked(served, "/tei/dense/tokenize", {"inputs": texts})).json()
    lengths = [len(row) for row in rows]
    answers = [
        await asked(served, "/_inference/text_embedding/dense", {"input": texts}),
        await asked(served, "/v1/embeddings", {"model": "dense", "input": texts}),
        await asked(served, "/v2/embed", {"model": "dense", "texts": texts}),
        await asked(served, "/tei/dense/embed", {"inputs": texts}),
        await asked(served, "/_inference/sparse_embedding/sparse", {"input": texts}),
        await asked(served, "/tei/sparse", {"inputs": texts}),
    ]
    used = sum(min(length, WINDOW) for length in lengths)
    for answer in answers:
        assert usage(answer) == {"given": sum(lengths), "used": used, "dropped": sum(lengths) - used}
        assert cut(answer) == [n for n, length in enumerate(lengths) if length > WINDOW]
    assert answers[1].json()["usage"]["prompt_tokens"] == used >= 2 * len(texts)
    assert answers[1].json()["usage"].get("dropped_tokens", 0) == sum(lengths) - used
    meta = answers[2].json()["meta"]
    assert meta["billed_units"]["input_tokens"] == used
    assert ("warnings" in meta) is (sum(lengths) > used)
    flags = [entry["is_truncated"] for entry in answers[4].json()["sparse_embedding"]]
    assert flags == [length > WINDOW for length in lengths]


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=st.text(min_size=1, max_size=10), texts=st.lists(TEXT, min_size=1, max_size=3))
async def test_every_token_of_a_ranking_is_counted(served: Served, query: str, texts: list[str]):
    """The same for rerank: nothing used is 0, nothing dropped goes unnamed."""
    body = {"query": query, "documents": texts, "model": "rank"}
    answers = [
        await asked(served, "/_inference/rerank/rank", {"query": query, "input": texts}),
        await asked(served, "/v1/rerank", body),
        await asked(served, "/v2/rerank", body),
        await asked(served, "/tei/rank/rerank", {"query": query, "texts": texts}),
        await asked(served, "/_inference/rerank/rank/_stream", {"query": query, "input": texts}),
    ]
    told = [usage(answer) for answer in answers]
    assert all(other == told[0] for other in told)
    assert told[0]["given"] == told[0]["used"] + told[0]["dropped"]
    assert told[0]["used"] > 0
    assert (told[0]["dropped"] > 0) is bool(cut(answers[0]))
    assert answers[1].json()["usage"]["total_tokens"] == told[0]["used"]
    for answer in answers[1:3]:
        meta = answer.json()["meta"]
        assert meta["billed_units"]["input_tokens"] == told[0]["used"]
        assert ("warnings" in meta) is bool(cut(answer))


async def test_usage_of_a_chat(served: Served):
    """What the provider says is what every dialect tells; where it says nothing, nothing is made up."""
    chat = [{"role": "user", "content": "hi"}]
    for told in ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}, None):
        message = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        served.answers({"id": "i", "model": "m", "choices": [message], "usage": told})
        openai = (await asked(served, "/v1/chat/completions", {"model": "chat", "messages": chat})).json()
        cohere = (await asked(served, "/v2/chat", {"model": "chat", "messages": chat})).json()
        elastic = (await asked(served, "/_inference/chat_completion/chat", {"messages": chat})).json()
        assert openai.get("usage") == elastic.get("usage") == told
        tokens = cohere["usage"]["tokens"] if told else None
        assert tokens == ({"input_tokens": 5, "output_tokens": 3} if told else None)
        assert "usage" in cohere if told else "usage" not in cohere


async def test_a_document_that_the_provider_did_not_name(served: Served):
    """Elasticsearch's clients get the place -1 for it, which no other dialect has."""
    path = "/provider/rerank"
    served.fake.forget()
    served.fake.answer({"results": [{"relevance_score": 0.5}]}, path=path)
    stored = {"url": served.fake.url + path, "model_id": "m", "api_key": "provider-key"}
    await put(served.http, "rerank", "nameless", "cohere", stored)
    elastic = await served.post("/_inference/rerank/nameless", {"query": "q", "input": ["a", "b"]})
    assert elastic.json() == {"rerank": [{"index": -1, "relevance_score": 0.5}]}
    for route, body in (
        ("/v1/rerank", {"model": "nameless", "query": "q", "documents": ["a", "b"]}),
        ("/tei/nameless/rerank", {"query": "q", "texts": ["a", "b"]}),
    ):
        answer = await served.post(route, body)
        assert answer.status_code >= 500
        assert "ranked a document that was not sent" in answer.text
    await served.http.delete("/_inference/nameless")
