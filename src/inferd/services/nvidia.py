"""NVIDIA NIM. https://docs.api.nvidia.com/nim/reference (contract: services/nvidia.md)"""

from typing import Any

import msgspec
from msgspec import Struct

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType
from inferd.core.results import Ranked, Ranking, Result
from inferd.core.service import Ask, Call, Reply, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    MODEL_ID,
    SIMILARITY,
    Setting,
    rate_limit,
)
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import OPENAI_RULES, openai_fault, typed
from inferd.wire import openai
from inferd.wire.replies import decode, float32
from inferd.wire.texts import documents, input_type, query, texts

_URLS = {
    TaskType.TEXT_EMBEDDING: "https://integrate.api.nvidia.com/v1/embeddings",
    TaskType.COMPLETION: "https://integrate.api.nvidia.com/v1/chat/completions",
    TaskType.CHAT_COMPLETION: "https://integrate.api.nvidia.com/v1/chat/completions",
    TaskType.RERANK: "https://ai.api.nvidia.com/v1/retrieval/nvidia/reranking",
}
_SIDES = {
    "ingest": "passage",
    "internal_ingest": "passage",
    "search": "query",
    "internal_search": "query",
}


def _url(ask: Ask) -> str:
    return str(ask.settings.get("url") or _URLS[ask.endpoint.task])


def _shows(endpoint: Endpoint) -> dict[str, Any]:
    """The default address is shown too; it is not stored, so that ``services.nvidia.base_url`` can replace it."""
    return {
        "model_id": endpoint.settings["model_id"],
        "url": _URLS[endpoint.task],
        **endpoint.settings,
    }


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    asked = _SIDES.get(input_type(ask) or "") or _SIDES.get(ask.options.get("input_type", ""), "query")
    body: dict[str, Any] = {"input": texts(ask), "model": ask.settings["model_id"], "input_type": asked}
    if ask.options.get("truncate") is not None:
        body["truncate"] = ask.options["truncate"]
    return body


def _rerank_body(ask: Ask) -> dict[str, Any]:
    return {
        "model": ask.settings["model_id"],
        "query": {"text": query(ask)},
        "passages": [{"text": document} for document in documents(ask)],
    }


class _Rank(Struct):
    index: int
    logit: float


class _Rankings(Struct):
    rankings: list[_Rank]


_rankings = msgspec.json.Decoder(_Rankings)


def _ranking(ask: Ask, reply: Reply) -> Result:
    """The provider's whole ranking in its order: ``top_n`` is neither sent nor applied. The reference fails where an entry has
    more members; here they are skipped."""
    found = decode(_rankings, reply.body).rankings
    return Ranking(items=tuple(Ranked(index=r.index, score=float32(r.logit)) for r in found))


_chat_body = openai.chat_body(tokens_field="max_tokens", usage=False)

SERVICE = Service(
    name="nvidia",
    title="NVIDIA",
    settings=(
        API_KEY,
        MODEL_ID,
        Setting(
            key="url",
            label="URL",
            description="Overrides the default URL; the default is stored and echoed when absent.",
            url=True,
        ),
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        rate_limit(3000),
    ),
    auth=bearer,
    fault=openai_fault,
    rules=OPENAI_RULES,
    shows=_shows,
    similarity="dot_product",
    input_types=frozenset(InputType) - {InputType.CLASSIFICATION, InputType.CLUSTERING},
    truncates=True,
    embedding_batch=20,
    failed="Failed to send {title} {task} request from inference entity id [{id}]. Cause: {cause}",
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url,
            body=_embeddings_body,
            reply=openai.embeddings,
            options=(
                Setting(key="input_type", choices=tuple(_SIDES)),
                Setting(key="truncate", choices=("end", "none", "start"), upper=True),  # case not confirmed
            ),
        ),
        TaskType.COMPLETION: Call(
            post=_url,
            body=_chat_body,
            reply=openai.completion("NVIDIA completions"),
            chunks=openai.lenient_chunks,
            one_input="NVIDIA completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url,
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            fault=typed("nvidia_error", openai_fault),  # type not confirmed
        ),
        TaskType.RERANK: Call(post=_url, body=_rerank_body, reply=_ranking),
    },
)
