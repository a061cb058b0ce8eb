"""Hugging Face Inference Endpoints and text-embeddings-inference.

https://huggingface.github.io/text-embeddings-inference/ (contract: services/hugging_face.md)
"""

from typing import Any

import msgspec
import numpy as np

from inferd.core.results import (
    Embeddings,
    Ranked,
    Ranking,
    Result,
    Sparse,
    SparseVector,
)
from inferd.core.service import Ask, BadReply, Call, Fault, Reply, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    RETURN_DOCUMENTS,
    SIMILARITY,
    TOP_N,
    Setting,
    rate_limit,
)
from inferd.core.tasks import CHATS, TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import HUGGING_FACE_RULES, OPENAI_RULES, at
from inferd.wire import openai
from inferd.wire.texts import documents, query, return_documents, texts, top_n

_SPARSE_TOKENS = 512
"""Always echoed for sparse endpoints."""


def url(ask: Ask) -> str:
    return str(ask.settings["url"])


def inputs_body(ask: Ask) -> dict[str, Any]:
    return {"inputs": texts(ask)}


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError) as bad:
        raise BadReply(f"Failed to parse the response: {bad}") from None


def dense(ask: Ask, reply: Reply) -> Result:
    """``[[…], …]`` or ``{"embeddings": [[…], …]}``."""
    parsed = _decode(reply.body)
    rows = parsed.get("embeddings") if isinstance(parsed, dict) else parsed
    if not isinstance(rows, list):
        raise BadReply("Failed to find required field [embeddings] in Hugging Face embeddings response")
    try:
        vectors = [np.asarray(row, dtype=np.float32) for row in rows]
    except (TypeError, ValueError) as bad:
        raise BadReply(f"Failed to parse the response: {bad}") from None
    if any(vector.ndim != 1 for vector in vectors):
        raise BadReply("Failed to parse the response: each embedding must be an array of numbers")
    return Embeddings(vectors=openai.stack(vectors))


def sparse(ask: Ask, reply: Reply) -> Result:
    """``[{"token": weight, …}, …]``; ``is_truncated`` says whether inferd had to cut the input."""
    parsed = _decode(reply.body)
    if not isinstance(parsed, list) or not all(isinstance(item, dict) for item in parsed):
        raise BadReply("Failed to parse the response: expected an array of objects")
    return Sparse(vectors=tuple(_sparse_vector(item, ask.cut < 1.0) for item in parsed))


def _sparse_vector(item: dict[str, Any], is_truncated: bool) -> SparseVector:
    try:
        pairs = sorted(((str(k), float(v)) for k, v in item.items()), key=lambda kv: -kv[1])
    except (TypeError, ValueError):
        raise BadReply("Failed to parse the response: weights must be numbers") from None
    weights = np.array([w for _, w in pairs], dtype=np.float32)
    return SparseVector(tokens=tuple(t for t, _ in pairs), weights=weights, is_truncated=is_truncated)


def rerank_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"texts": documents(ask), "query": query(ask)}
    if return_documents(ask) is not None:
        body["return_text"] = return_documents(ask)
    if top_n(ask) is not None:
        body["top_n"] = top_n(ask)
    return body


def ranking(ask: Ask, reply: Reply) -> Result:
    """Sorted by score here, whatever the server's order, and cut to ``top_n`` again."""
    parsed = _decode(reply.body)
    if not isinstance(parsed, list):
        raise BadReply("Failed to parse the response: expected an array")
    items = sorted((_ranked(item) for item in parsed), key=lambda r: -r.score)
    return Ranking(items=tuple(items[: top_n(ask)]))


def _ranked(item: Any) -> Ranked:
    if not isinstance(item, dict):
        raise BadReply("Failed to parse the response: expected objects")
    score = item.get("score", item.get("relevance_score"))
    index = item.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or not isinstance(score, int | float):
        raise BadReply("Failed to parse the response: [index] and [score] are required")
    document = item.get("document")
    text = item.get("text", document.get("text") if isinstance(document, dict) else None)
    return Ranked(index=index, score=float(np.float32(score)), text=text if isinstance(text, str) else None)


_error = at("error")


def chat_fault(body: bytes) -> Fault:
    """``{"error": {"message"?, "http_status_code"?}}`` beside the plain ``{"error": "…"}``."""
    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, IndexError):
        return Fault()
    if isinstance(error, str):
        return Fault(message=error)
    if not isinstance(error, dict):
        return Fault()
    code = error.get("http_status_code")
    message = error.get("message")
    return Fault(
        message=message if isinstance(message, str) else "unknown",
        kind="hugging_face_error",
        code=str(code) if code is not None else None,
    )


URL = Setting(
    key="url",
    label="URL",
    description="The URL endpoint to use for the requests.",
    required=True,
    url=True,
)

_chat_body = openai.chat_body(tokens_field="max_tokens")

SERVICE = Service(
    name="hugging_face",
    title="Hugging Face",
    settings=(
        API_KEY,
        Setting(
            key="model_id",
            label="Model ID",
            description="Model name, needed by some (serverless) endpoints.",
            tasks=CHATS,
        ),
        URL,
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        Setting(
            key="max_input_tokens",
            tasks=frozenset({TaskType.SPARSE_EMBEDDING}),
            default=_SPARSE_TOKENS,
            refused=True,
            listed=False,
        ),
        rate_limit(3000),
    ),
    auth=bearer,
    fault=_error,
    rules=HUGGING_FACE_RULES,
    similarity="cosine",
    truncates=True,
    embedding_batch=20,
    calls={
        TaskType.TEXT_EMBEDDING: Call(post=url, body=inputs_body, reply=dense, verb="text embeddings"),
        TaskType.SPARSE_EMBEDDING: Call(post=url, body=inputs_body, reply=sparse, verb="ELSER"),
        TaskType.RERANK: Call(
            post=url, body=rerank_body, reply=ranking, options=(RETURN_DOCUMENTS, TOP_N), verb="rerank"
        ),
        TaskType.COMPLETION: Call(
            post=url,
            body=_chat_body,
            reply=openai.completion("Hugging Face chat completions"),
            chunks=openai.lenient_chunks,
            one_input="Hugging Face chat completions",
            rules=OPENAI_RULES,
            fault=chat_fault,
            verb="chat completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=url,
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            rules=OPENAI_RULES,
            fault=chat_fault,
            verb="chat completions",
        ),
    },
)
