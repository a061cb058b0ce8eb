"""Voyage AI. https://docs.voyageai.com/reference (contract: services/voyageai.md)"""

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
from inferd.errors import StatusError
from inferd.upstream.auth import bearer
from inferd.upstream.faults import JINA_RULES, at
from inferd.wire import openai
from inferd.wire.contents import asked_type, groups
from inferd.wire.replies import decode, float32, integers, missing, spent
from inferd.wire.texts import documents, query, return_documents, texts, top_n

_TEXTS = "https://api.voyageai.com/v1/embeddings"
_CONTENTS = "https://api.voyageai.com/v1/multimodalembeddings"

_INPUT_TYPES = {
    InputType.INGEST: "document",
    InputType.INTERNAL_INGEST: "document",
    InputType.SEARCH: "query",
    InputType.INTERNAL_SEARCH: "query",
}
_DTYPES = {"float": "float", "int8": "int8", "byte": "int8", "bit": "binary", "binary": "binary"}
_ELEMENTS = {"float": ElementType.FLOAT, "int8": ElementType.BYTE, "binary": ElementType.BIT}
_BATCHES = {
    "voyage-3": 10,
    "voyage-3.5": 10,
    "voyage-4": 10,
    "voyage-3-lite": 30,
    "voyage-3.5-lite": 30,
    "voyage-4-lite": 30,
    "voyage-2": 72,
    "voyage-02": 72,
}
"""Chunks in one request; every other model takes 7."""


def _headers(ask: Ask) -> dict[str, str]:
    return {"Request-Source": "unspecified:elasticsearch"}


def _takes_contents(ask: Ask) -> bool:
    """Whether the model embeds more than text; the contract leaves open how the reference knows."""
    return str(ask.settings["model_id"]).startswith("voyage-multimodal")


def _url(ask: Ask) -> str:
    return _CONTENTS if _takes_contents(ask) else _TEXTS


def _text_body(ask: Ask) -> dict[str, Any]:
    return {"input": texts(ask), **_choices(ask)}


def _body(ask: Ask) -> dict[str, Any]:
    if _takes_contents(ask):
        inputs = [{"content": [_part(item, ask) for item in group]} for group in groups(ask)]
        return {"inputs": inputs, **_choices(ask)}
    if any(item.type != "text" for group in groups(ask) for item in group):
        raise StatusError(400, "Non-text input provided for text-only model")
    return _text_body(ask)


def _part(item: Item, ask: Ask) -> dict[str, str]:
    if item.type == "text":
        return {"type": "text", "text": item.value}
    if item.type in ("image", "video"):
        return {"type": f"{item.type}_base64", f"{item.type}_base64": item.value}
    raise StatusError(
        400, f"The [{ask.endpoint.service}] service does not support inputs of type [{item.type}]"
    )


def _choices(ask: Ask) -> dict[str, Any]:
    """``output_dimension`` goes out whenever dimensions are stored, also those that PUT found."""
    body: dict[str, Any] = {"model": ask.settings["model_id"]}
    kind = asked_type(ask)
    if kind is not None:
        body["input_type"] = _INPUT_TYPES[kind]
    if ask.options.get("truncation") is not None:
        body["truncation"] = ask.options["truncation"]
    if ask.settings.get("dimensions") is not None:
        body["output_dimension"] = ask.settings["dimensions"]
    body["output_dtype"] = _dtype(ask.endpoint)
    return body


def _dtype(endpoint: Endpoint) -> str:
    return _DTYPES[endpoint.settings.get("embedding_type", "float")]


def _rerank_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": ask.settings["model_id"],
        "query": query(ask),
        "documents": documents(ask),
    }
    if return_documents(ask) is not None:
        body["return_documents"] = return_documents(ask)
    top = top_n(ask) if top_n(ask) is not None else ask.options.get("top_k")
    if top is not None:
        body["top_k"] = top
    if ask.options.get("truncation") is not None:
        body["truncation"] = ask.options["truncation"]
    return body


class _Integers(Struct):
    embedding: list[int]


class _IntegersReply(Struct):
    data: list[_Integers] | UnsetType = UNSET
    usage: Any = None


class _Score(Struct):
    index: int
    relevance_score: float
    document: str | None = None


class _RankingReply(Struct):
    data: list[_Score] | UnsetType = UNSET
    usage: Any = None


_integers = msgspec.json.Decoder(_IntegersReply)
_scores = msgspec.json.Decoder(_RankingReply)


def _embeddings(ask: Ask, reply: Reply) -> Result:
    dtype = _dtype(ask.endpoint)
    if dtype == "float":
        return openai.embeddings(ask, reply)
    parsed = decode(_integers, reply.body)
    if parsed.data is UNSET:
        raise missing("data", "Voyage AI embeddings")
    return Embeddings(
        vectors=integers([entry.embedding for entry in parsed.data]),
        element=_ELEMENTS[dtype],
        usage=spent(parsed.usage, "total_tokens"),
    )


def _ranking(ask: Ask, reply: Reply) -> Result:
    parsed = decode(_scores, reply.body)
    if parsed.data is UNSET:
        raise missing("data", "Voyage AI rerank")
    return Ranking(
        items=tuple(
            Ranked(index=score.index, score=float32(score.relevance_score), text=score.document)
            for score in parsed.data
        ),
        usage=spent(parsed.usage, "total_tokens"),
    )


def _family(endpoint: Endpoint) -> str:
    """Models of one family share the account's limit."""
    model = str(endpoint.settings["model_id"])
    return next((name for name in ("multimodal", "rerank", "context") if name in model), "embed")


TRUNCATION = Setting(key="truncation", kind=Kind.BOOLEAN)
_INPUT_TYPE = Setting(key="input_type", choices=("ingest", "search"))

SERVICE = Service(
    name="voyageai",
    title="Voyage AI",
    settings=(
        API_KEY,
        MODEL_ID,
        SIMILARITY,
        replace(
            DIMENSIONS,
            listed=True,
            description="Size of the embeddings; sent upstream only when the user set it.",
        ),
        Setting(
            key="embedding_type",
            label="Embedding type",
            description="float, int8/byte, bit/binary.",
            choices=("binary", "bit", "byte", "float", "int8"),
            default="float",
            tasks=DENSE,
        ),
        MAX_INPUT_TOKENS,
        rate_limit(2000),
    ),
    auth=bearer,
    fault=at("detail"),
    rules=JINA_RULES,
    similarity="dot_product",
    input_types=frozenset(_INPUT_TYPES),
    group=lambda endpoint: (endpoint.secrets, _family(endpoint)),
    embedding_batch=lambda endpoint: _BATCHES.get(endpoint.settings["model_id"], 7),
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_TEXTS,
            headers=_headers,
            body=_text_body,
            reply=_embeddings,
            options=(_INPUT_TYPE, TRUNCATION),
            max_inputs=1000,
            verb="embeddings",
        ),
        TaskType.RERANK: Call(
            post="https://api.voyageai.com/v1/rerank",
            headers=_headers,
            body=_rerank_body,
            reply=_ranking,
            options=(
                RETURN_DOCUMENTS,
                replace(TOP_N, key="top_k", label="Top K"),
                TRUNCATION,
            ),
            verb="rerank",
        ),
        TaskType.EMBEDDING: Call(
            post=_url,
            headers=_headers,
            body=_body,
            reply=_embeddings,
            options=(_INPUT_TYPE, TRUNCATION),
            max_inputs=1000,
            verb="embeddings",
        ),
    },
)
