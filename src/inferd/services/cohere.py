"""Cohere, API v2. https://docs.cohere.com/reference (contract: services/cohere.md)"""

from typing import Any

from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType
from inferd.core.service import Ask, Call, Framing, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    RETURN_DOCUMENTS,
    SIMILARITY,
    TOP_N,
    Draft,
    Kind,
    Setting,
    rate_limit,
)
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import COHERE_RULES, at
from inferd.wire import cohere
from inferd.wire.texts import texts

_ELEMENTS = {"int8": "byte", "byte": "byte", "binary": "bit", "bit": "bit", "float": "float"}
_DENSE = frozenset({TaskType.TEXT_EMBEDDING})


def _url(path: str) -> Any:
    def url(ask: Ask) -> str:
        return str(ask.settings.get("url") or f"https://api.cohere.ai/v2/{path}")

    return url


def _headers(ask: Ask) -> dict[str, str]:
    return {"Request-Source": "unspecified:elasticsearch"}


def _rerank_body(ask: Ask) -> dict[str, Any]:
    body = cohere.rerank_body(ask)
    if ask.options.get("max_chunks_per_doc") is not None:
        body["max_chunks_per_doc"] = ask.options["max_chunks_per_doc"]
    return body


def _chat_body(ask: Ask) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": text} for text in texts(ask)],
        "model": ask.settings["model_id"],
        "stream": ask.stream,
    }


def _similarity(endpoint: Endpoint) -> str:
    return "l2_norm" if endpoint.settings.get("embedding_type") == "bit" else "cosine"


def _check(draft: Draft) -> None:
    """GET shows the element form; dimensions are read but never sent."""
    kind = draft.settings.get("embedding_type")
    if kind is not None:
        draft.settings["embedding_type"] = _ELEMENTS[kind]


SERVICE = Service(
    name="cohere",
    title="Cohere",
    settings=(
        API_KEY,
        Setting(key="url", url=True, shown=False, listed=False),
        Setting(
            key="model_id",
            label="Model ID",
            description="Name of the provider's model to use.",
            required=True,
            aliases=("model",),
            missing="The [service_settings.model_id] field is required for the Cohere V2 API.",
        ),
        replace(rate_limit(10000), resettable=True),
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        Setting(
            key="embedding_type",
            choices=("binary", "bit", "byte", "float", "int8"),
            default="float",
            tasks=_DENSE,
            listed=False,
        ),
    ),
    auth=bearer,
    fault=at("message"),
    rules=COHERE_RULES,
    check=_check,
    similarity=_similarity,
    input_types=frozenset(InputType),
    embedding_batch=96,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url("embed"),
            headers=_headers,
            body=cohere.embed_body,
            reply=cohere.embeddings,
            options=(
                Setting(key="input_type", choices=("classification", "clustering", "ingest", "search")),
                Setting(key="truncate", choices=("end", "none", "start"), upper=True),
            ),
            max_inputs=96,
            verb="embeddings",
        ),
        TaskType.RERANK: Call(
            post=_url("rerank"),
            headers=_headers,
            body=_rerank_body,
            reply=cohere.ranking(),
            options=(
                RETURN_DOCUMENTS,
                TOP_N,
                replace(TOP_N, key="max_chunks_per_doc", kind=Kind.INTEGER, label="Max chunks per document"),
            ),
            verb="rerank",
        ),
        TaskType.COMPLETION: Call(
            post=_url("chat"),
            headers=_headers,
            body=_chat_body,
            reply=cohere.chat_text,
            chunks=cohere.chunks,
            framing=Framing.SSE_OR_LINES,
            one_input="Cohere completion",
            verb="completion",
        ),
    },
)
