"""A cluster reaches inferd through its own ``openai``, ``cohere``, ``hugging_face`` and ``custom`` services.

The definitions of docs/elasticsearch.md are put on a second server; its implementation of these services sends what the wire contract
documents (tests/services holds it to that), and its answers must be those of the first.
"""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from dialects import DONE, LOCAL, WHOLE, Served, piece, put, serving, usage_piece

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOC = Path(__file__).parents[2] / "docs" / "elasticsearch.md"
BLOCKS = re.findall(r"```\n(PUT|POST) (\S+)\n(.+?)```", DOC.read_text(), re.DOTALL)
DEFINITIONS = {path.rsplit("/", 1)[1]: (path, body) for method, path, body in BLOCKS if method == "PUT"}
NAMES = {"dense": "my-dense", "sparse": "my-sparse", "rank": "my-rerank"}

WORDS = ["luke", "like", "leia", "chewy", "r2d2", "star", "wars"]
QUERY = "star wars main character"
TEXTS = ["The sky above the port", "", "日本語 \0", "word " * 300]
ASK = [{"role": "user", "content": "hi"}]


def ids(task: str) -> list[str]:
    return [id for id, (path, _) in DEFINITIONS.items() if f"/{task}/" in path]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(served: Served, tmp_path_factory) -> AsyncIterator[httpx.AsyncClient]:
    """Every definition of the document, put on a second server with the document's key."""
    for id, name in NAMES.items():
        task, model = LOCAL[id]
        await put(served.http, task, name, "elasticsearch", {"model_id": model, "deployment_id": id})
    served.answers(sse=[piece("x"), DONE])
    await put(served.http, "chat_completion", "my-chat", "openai", chat_settings(served))
    ((_, path, body),) = [block for block in BLOCKS if block[0] == "POST"]
    made = await served.post(f"/{path}", json.loads(body))
    async with serving(tmp_path_factory.mktemp("cluster"), local=False, secure=False) as second:
        for path, body in DEFINITIONS.values():
            filled = body.replace("https://inferd:9200", served.url).replace(
                "<encoded>", made.json()["encoded"]
            )
            if "/chat_completion/" in path:
                served.answers(sse=[piece("x"), DONE])
            else:
                served.answers(WHOLE)
            answer = await second.http.put(f"/{path}", json=json.loads(filled))
            assert answer.status_code == 200, answer.text
        yield second.http


def chat_settings(served: Served) -> dict[str, Any]:
    stored = served.house.store.get("chat")
    assert stored is not None
    return {"url": stored.settings["url"], "model_id": "m", "api_key": "provider-key"}


async def ok(client: httpx.AsyncClient, path: str, body: Any) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_document_covers_the_tasks():
    """Nothing below passes for want of a definition."""
    counts = {task: len(ids(task)) for task in ("text_embedding", "sparse_embedding", "rerank")}
    assert counts == {"text_embedding": 2, "sparse_embedding": 1, "rerank": 3}
    assert len(ids("completion")) == 2
    assert len(ids("chat_completion")) == 1
    services = {json.loads(body)["service"] for _, body in DEFINITIONS.values()}
    assert services == {"openai", "cohere", "hugging_face", "custom"}


@pytest.mark.parametrize("id", ids("text_embedding"))
async def test_text_embedding(served: Served, cluster: httpx.AsyncClient, id: str):
    """The same bits; dimensions were found at PUT."""
    ours = await ok(served.http, "/_inference/text_embedding/dense", {"input": TEXTS})
    theirs = await ok(cluster, f"/_inference/text_embedding/{id}", {"input": TEXTS})
    left, right = (
        np.array([e["embedding"] for e in a["text_embedding"]], np.float32) for a in (ours, theirs)
    )
    assert left.tobytes() == right.tobytes()
    shown = (await cluster.get(f"/_inference/{id}")).json()["endpoints"][0]
    assert shown["service_settings"]["dimensions"] == 384


@pytest.mark.parametrize("id", ids("sparse_embedding"))
async def test_sparse_embedding(served: Served, cluster: httpx.AsyncClient, id: str):
    """The same tokens, the same weights."""
    ours = await ok(served.http, "/_inference/sparse_embedding/sparse", {"input": TEXTS})
    theirs = await ok(cluster, f"/_inference/sparse_embedding/{id}", {"input": TEXTS})
    pairs = zip(ours["sparse_embedding"], theirs["sparse_embedding"], strict=True)
    assert [left["embedding"] == right["embedding"] for left, right in pairs] == [True] * 4
    assert len(theirs["sparse_embedding"][0]["embedding"]) > 5


@pytest.mark.parametrize("id", ids("rerank"))
async def test_rerank(served: Served, cluster: httpx.AsyncClient, id: str):
    """The same order, the same scores; ``top_n`` and documents where the service passes them on."""
    body = {"query": QUERY, "input": WORDS}
    ours = (await ok(served.http, "/_inference/rerank/rank", body))["rerank"]
    theirs = (await ok(cluster, f"/_inference/rerank/{id}", body))["rerank"]
    assert [(r["index"], np.float32(r["relevance_score"])) for r in theirs] == [
        (r["index"], np.float32(r["relevance_score"])) for r in ours
    ]
    if id != "from-inferd-custom":
        more = {**body, "top_n": 2, "return_documents": True}
        cut = (await ok(cluster, f"/_inference/rerank/{id}", more))["rerank"]
        assert [r["text"] for r in cut] == [WORDS[r["index"]] for r in ours[:2]]


@pytest.mark.parametrize("id", ids("completion"))
async def test_completion(served: Served, cluster: httpx.AsyncClient, id: str):
    """Whole and streamed, the provider behind inferd is heard by the cluster."""
    served.answers(WHOLE)
    answer = await ok(cluster, f"/_inference/completion/{id}", {"input": "hi"})
    assert answer == {"completion": [{"result": "Hello!"}]}
    assert served.upstream["messages"] == [{"role": "user", "content": "hi"}]
    served.answers(sse=[piece("Hel"), piece("lo", "stop"), usage_piece(), DONE])
    streamed = await cluster.post(f"/_inference/completion/{id}/_stream", json={"input": "hi"})
    assert streamed.text == (
        'event: message\ndata: {"completion":[{"delta":"Hel"}]}\n\n'
        'event: message\ndata: {"completion":[{"delta":"lo"}]}\n\n'
        "event: message\ndata: [DONE]\n\n"
    )


async def test_chat(served: Served, cluster: httpx.AsyncClient):
    """Tools in pieces and usage pass both servers."""
    (id,) = ids("chat_completion")
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": "{"}}
    more = {"index": 0, "function": {"arguments": "}"}}
    served.answers(
        sse=[
            piece("Hi", role="assistant"),
            piece(tool_calls=[call]),
            piece(None, "tool_calls", tool_calls=[more]),
            usage_piece(),
            DONE,
        ]
    )
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    body = {"messages": ASK, "tools": [tool], "tool_choice": "auto", "max_completion_tokens": 9}
    told = [
        (await client.post(path, json=body)).text.replace('"model":"my-chat"', '"model":"m"')
        for client, path in (
            (served.http, "/_inference/chat_completion/my-chat/_stream"),
            (cluster, f"/_inference/chat_completion/{id}/_stream"),
        )
    ]
    ours, theirs = ([json.loads(line[6:]) for line in events(text)] for text in told)
    assert [c["choices"] for c in theirs if c["choices"]] == [c["choices"] for c in ours if c["choices"]]
    assert theirs[-1]["usage"] == ours[-1]["usage"]
    assert told[1].endswith("data: [DONE]\n\n")
    assert (served.upstream["tools"], served.upstream["max_completion_tokens"]) == ([tool], 9)


def events(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize(
    "id",
    ["from-inferd", "from-inferd-typed", "from-inferd-rerank", "from-inferd-cohere", "from-inferd-custom"],
)
async def test_what_is_wrong_reaches_the_clusters_user(served: Served, cluster: httpx.AsyncClient, id: str):
    """An error of inferd, in the wire of each service, is quoted by it: here that the key may not use this endpoint."""
    path, raw = DEFINITIONS[id]
    broken = json.loads(raw.replace("https://inferd:9200", served.url).replace("<encoded>", served.narrow))
    answer = await cluster.put(f"/{path}-broken", json=broken)
    assert answer.status_code == 400
    assert "is unauthorized for API key id" in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["a"], "model": "my-dense"}),
        ("/v1/embeddings", {"input": ["a"], "model": "my-dense", "encoding_format": "base64"}),
        ("/v1/embeddings", {"input": ["a"], "model": "my-dense", "user": "u", "dimensions": 384}),
        (
            "/v2/embed",
            {
                "texts": ["a"],
                "model": "my-dense",
                "input_type": "search_query",
                "embedding_types": ["float"],
                "truncate": "END",
            },
        ),
        (
            "/v2/rerank",
            {
                "model": "my-rerank",
                "query": "q",
                "documents": ["a"],
                "return_documents": True,
                "top_n": 1,
                "max_chunks_per_doc": 3,
            },
        ),
        ("/tei/my-dense", {"inputs": ["a"]}),
        ("/tei/my-sparse", {"inputs": ["a"]}),
        ("/tei/my-rerank", {"texts": ["a"], "query": "q", "return_text": True, "top_n": 1}),
        ("/v1/chat/completions", {"messages": ASK, "model": "my-chat", "n": 1, "stream": False}),
        (
            "/v1/chat/completions",
            {"messages": ASK, "model": "my-chat", "n": 1, "stream": False, "max_tokens": 5},
        ),
        ("/v2/chat", {"messages": ASK, "model": "my-chat", "stream": False}),
    ],
)
async def test_documented_requests(served: Served, cluster: httpx.AsyncClient, path: str, body: Any):
    """The bodies of the wire contract, older lines' included, with all their optional members."""
    served.answers(WHOLE)
    headers = {"Authorization": f"Bearer {served.key}", "Request-Source": "unspecified:elasticsearch"}
    answer = await served.http.post(path, json=body, headers=headers, auth=None)
    assert answer.status_code == 200, answer.text
