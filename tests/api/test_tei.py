"""text-embeddings-inference's routes over real models (https://huggingface.github.io/text-embeddings-inference/)."""

from typing import Any

import numpy as np
import pytest
from dialects import Served

from inferd import __version__

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORDS = ["luke", "like", "leia", "star", "wars"]
SKY = "The sky above the port was the color of television"
LONG = "word " * 1000


async def ok(served: Served, path: str, body: dict[str, Any]) -> Any:
    answer = await served.post(path, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_embed(served: Served):
    """Rows of floats, from one text or several; the bare address answers the same."""
    rows = await ok(served, "/tei/dense/embed", {"inputs": ["hello", "world"]})
    assert np.array(rows).shape == (2, 384)
    assert await ok(served, "/tei/dense/embed", {"inputs": "hello"}) == rows[:1]
    assert await ok(served, "/tei/dense", {"inputs": ["hello", "world"]}) == rows
    more = {"normalize": True, "truncate": True, "prompt_name": "query", "dimensions": 384}
    assert await ok(served, "/tei/dense/embed", {"inputs": "hello", **more}) == rows[:1]


async def test_embed_sparse(served: Served):
    """Ids of the model's own tokenizer and weights; the bare address gives tokens, as Elasticsearch reads them."""
    (ids,) = await ok(served, "/tei/sparse/embed_sparse", {"inputs": SKY})
    (tokens,) = await ok(served, "/tei/sparse", {"inputs": [SKY]})
    assert [entry["value"] for entry in ids] == list(tokens.values())
    assert {"sky", "port", "color"} <= set(tokens)
    (words,) = await ok(served, "/tei/sparse/tokenize", {"inputs": "sky", "add_special_tokens": False})
    assert ids[list(tokens).index("sky")]["index"] == words[0]["id"]


async def test_rerank(served: Served):
    """Index and score by falling score, texts on demand."""
    body = {"query": "star wars main character", "texts": WORDS}
    rows = await ok(served, "/tei/rank/rerank", body)
    assert [set(row) for row in rows] == [{"index", "score"}] * 5
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert WORDS[rows[0]["index"]] == "luke"
    shown = await ok(served, "/tei/rank", {**body, "return_text": True, "top_n": 2, "raw_scores": False})
    assert [row["text"] for row in shown] == [WORDS[row["index"]] for row in rows[:2]]


async def test_tokens_of_a_huge_text(served: Served):
    """The tokenizer needs far more memory than the text has: more than a million characters are refused."""
    refused = await served.post("/tei/dense/tokenize", {"inputs": ["a " * 300_000, "a " * 200_001]})
    assert refused.status_code == 413
    assert "at most [1000000]" in refused.text


async def test_tokenize(served: Served):
    """Tokens with their places in the text; special ones stand nowhere."""
    (row,) = await ok(served, "/tei/dense/tokenize", {"inputs": "Hëllo"})
    assert [token["text"] for token in row] == ["[CLS]", "hello", "[SEP]"]
    assert [token["special"] for token in row] == [True, False, True]
    assert (row[0]["start"], row[1]["start"], row[1]["stop"]) == (None, 0, 5)
    (plain,) = await ok(served, "/tei/dense/tokenize", {"inputs": "Hëllo", "add_special_tokens": False})
    assert plain == row[1:2]
    refused = await served.post("/tei/chat/tokenize", {"inputs": "a"})
    assert refused.json() == {
        "error": "token ids are only known for models that run here; send texts",
        "error_type": "Validation",
    }


async def test_info_and_health(served: Served):
    """What a client asks before it starts."""
    told = (await served.http.get("/tei/dense/info")).json()
    assert told["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (told["max_input_length"], told["version"]) == (256, __version__)
    assert (await served.http.get("/tei/rank/info")).json()["model_type"] == {"reranker": {}}
    health = await served.http.get("/tei/dense/health")
    assert (health.status_code, health.content) == (200, b"")
    assert (await served.http.get("/tei/nothing/health")).status_code == 404


async def test_truncation_is_told(served: Served):
    """Cut at the end with a header that says so; 413 for who wants it whole, 400 for who wants its other end."""
    for path, body in (
        ("/tei/dense/embed", {"inputs": ["a", LONG]}),
        ("/tei/sparse/embed_sparse", {"inputs": ["a", LONG]}),
        ("/tei/rank/rerank", {"query": "a", "texts": ["a", LONG]}),
    ):
        answer = await served.post(path, body)
        assert answer.headers["x-inferd-truncated"] == "1"
        assert (await served.post(path, {**body, "truncate": False})).status_code == 413
        left = await served.post(path, {**body, "truncation_direction": "Left"})
        assert left.status_code == 400
        assert "[1]" in left.json()["error"]


async def test_errors(served: Served):
    """The status, and the error with its type."""
    for path, body, status, text in (
        ("/tei/nothing/embed", {"inputs": "a"}, 404, "Inference endpoint not found [nothing]"),
        ("/tei/rank/embed", {"inputs": "a"}, 400, "needs one of [text_embedding, embedding]"),
        ("/tei/chat", {"inputs": "a"}, 400, "needs one of"),
        ("/tei/dense/embed", {}, 400, "[inputs] is required"),
        ("/tei/dense/embed", {"inputs": []}, 400, "[inputs] must not be empty"),
        ("/tei/dense/embed", {"inputs": [1]}, 400, "[inputs] must hold strings only"),
        ("/tei/dense/embed", {"inputs": "a", "normalize": False}, 400, "[normalize]"),
        ("/tei/rank/rerank", {"query": "a", "texts": ["a"], "raw_scores": True}, 400, "[raw_scores]"),
        ("/tei/dense/embed", {"inputs": "a", "prompt_name": "odd"}, 400, "[prompt_name] must be one of"),
    ):
        answer = await served.post(path, body)
        assert answer.status_code == status
        assert answer.json()["error_type"] == "Validation"
        assert text in answer.json()["error"]
    stranger = await served.http.post(
        "/tei/dense", json={"inputs": "a"}, headers={"Authorization": "Bearer x"}, auth=None
    )
    assert stranger.status_code == 401
    bearer = {"Authorization": f"Bearer {served.narrow}"}
    allowed = await served.http.post(
        "/tei/rank", json={"query": "a", "texts": ["b"]}, headers=bearer, auth=None
    )
    assert allowed.status_code == 200
    denied = await served.http.post("/tei/dense", json={"inputs": "a"}, headers=bearer, auth=None)
    assert denied.status_code == 403
