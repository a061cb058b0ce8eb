"""Jina AI. https://api.jina.ai/redoc (contract: services/jinaai.md)"""

import re
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType, Item
from inferd.core.results import ElementType, Embeddings, Ranked, Ranking, Result
from inferd.core.service import Ask, Call, Reply, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    MODEL_ID,
    RETURN_DOCUMENTS,
    SIMILARITY,
    TOP_N,
    Kind,
    Setting,
    rate_limit,
)
from inferd.core.tasks import DENSE, TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import JINA_RULES, at
from inferd.wire import cohere, openai
from inferd.wire.contents import asked_type, groups
from inferd.wire.replies import decode, float32, integers, missing, spent
from inferd.wire.texts import texts

LATE_CHUNKING_WORDS = 5500
"""Above that many words in one request the model's window no longer holds them."""

_TASKS = {
    InputType.INGEST: "retrieval.passage",
    InputType.INTERNAL_INGEST: "retrieval.passage",
    InputType.SEARCH: "retrieval.query",
    InputType.INTERNAL_SEARCH: "retrieval.query",
    InputType.CLUSTERING: "separation",
    InputType.CLASSIFICATION: "classification",
}
_QUERY_ONLY = frozenset({"jina-clip-v2"})
"""Models that know no other task than queries."""

_word = re.compile(r"\w+")


def _headers(ask: Ask) -> dict[str, str]:
    return {"Request-Source": "unspecified:elasticsearch"}


def _content(group: tuple[Item, ...]) -> dict[str, Any]:
    """One input: ``{"text": …}`` or ``{"image": <data URI>}``; several that share a vector lie under ``content``."""
    if len(group) == 1:
        return {group[0].type: group[0].value}
    return {"content": [{item.type: item.value} for item in group]}  # not confirmed


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    settings = ask.settings
    body: dict[str, Any] = {
        "input": [_content(group) for group in groups(ask)]
        if settings.get("multimodal_model")
        else texts(ask),
        "model": settings["model_id"],
        "embedding_type": "binary" if _is_bit(ask.endpoint) else "float",
    }
    task = _task(ask)
    if task is not None:
        body["task"] = task
    if ask.options.get("late_chunking") is not None:
        body["late_chunking"] = ask.options["late_chunking"] and _can_chunk_late(ask)
    if ask.endpoint.hidden.get("dimensions_set_by_user"):
        body["dimensions"] = settings["dimensions"]
    return body


def _task(ask: Ask) -> str | None:
    kind = asked_type(ask)
    task = _TASKS[kind] if kind is not None else None
    if ask.settings["model_id"] in _QUERY_ONLY and task != "retrieval.query":
        return None
    return task


def _can_chunk_late(ask: Ask) -> bool:
    items = [item for group in groups(ask) for item in group]
    if any(item.type != "text" for item in items):
        return False
    words = 0
    for item in items:
        words += sum(1 for _ in _word.finditer(item.value))
        if words > LATE_CHUNKING_WORDS:
            return False
    return True


def _is_bit(endpoint: Endpoint) -> bool:
    return endpoint.settings.get("embedding_type") in ("bit", "binary")


class _Bits(Struct):
    embedding: list[int]


class _BitsReply(Struct):
    data: list[_Bits] | UnsetType = UNSET
    usage: Any = None


class _Document(Struct):
    text: str | None = None


class _Score(Struct):
    index: int
    relevance_score: float
    document: _Document | str | None = None


class _RankingReply(Struct):
    results: list[_Score] | UnsetType = UNSET
    usage: Any = None


_bits = msgspec.json.Decoder(_BitsReply)
_scores = msgspec.json.Decoder(_RankingReply)


def _embeddings(ask: Ask, reply: Reply) -> Result:
    """Numbers, or signed bytes of eight dimensions each."""
    if not _is_bit(ask.endpoint):
        return openai.embeddings(ask, reply)
    parsed = decode(_bits, reply.body)
    if parsed.data is UNSET:
        raise missing("data", "Jina AI embeddings")
    return Embeddings(
        vectors=integers([entry.embedding for entry in parsed.data]),
        element=ElementType.BIT,
        usage=spent(parsed.usage, "prompt_tokens", "total_tokens"),
    )


def _ranking(ask: Ask, reply: Reply) -> Result:
    parsed = decode(_scores, reply.body)
    if parsed.results is UNSET:
        raise missing("results", "Jina AI rerank")
    return Ranking(
        items=tuple(
            Ranked(index=score.index, score=float32(score.relevance_score), text=_text(score.document))
            for score in parsed.results
        ),
        usage=spent(parsed.usage, "total_tokens"),
    )


def _text(document: _Document | str | None) -> str | None:
    return document.text if isinstance(document, _Document) else document


def _similarity(endpoint: Endpoint) -> str:
    return "l2_norm" if _is_bit(endpoint) else "dot_product"


_embed = Call(
    post="https://api.jina.ai/v1/embeddings",
    headers=_headers,
    body=_embeddings_body,
    reply=_embeddings,
    options=(
        Setting(key="input_type", choices=("classification", "clustering", "ingest", "search")),
        Setting(key="late_chunking", kind=Kind.BOOLEAN),
    ),
    max_inputs=2048,  # not confirmed
    verb="embeddings",
)

SERVICE = Service(
    name="jinaai",
    title="Jina AI",
    settings=(
        API_KEY,
        MODEL_ID,
        replace(SIMILARITY, listed=True, description="Similarity measure stored for the endpoint."),
        replace(
            DIMENSIONS,
            listed=True,
            description="Size of the embeddings; sent upstream only when the user set it.",
        ),
        MAX_INPUT_TOKENS,
        Setting(
            key="embedding_type",
            label="Embedding type",
            choices=("binary", "bit", "float"),
            default="float",
            tasks=DENSE,
            listed=False,
        ),
        rate_limit(2000),
        Setting(
            key="multimodal_model",
            kind=Kind.BOOLEAN,
            label="Multimodal model",
            default=True,
            tasks=frozenset({TaskType.EMBEDDING}),
            listed=False,
        ),
    ),
    auth=bearer,
    fault=at("detail"),
    rules=JINA_RULES,
    similarity=_similarity,
    input_types=frozenset(InputType),
    embedding_batch=16,
    calls={
        TaskType.EMBEDDING: _embed,
        TaskType.TEXT_EMBEDDING: _embed,
        TaskType.RERANK: Call(
            post="https://api.jina.ai/v1/rerank",
            headers=_headers,
            body=cohere.rerank_body,
            reply=_ranking,
            options=(RETURN_DOCUMENTS, TOP_N),
            verb="rerank",
        ),
    },
)
