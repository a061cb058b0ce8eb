"""Mixedbread. https://www.mixedbread.com/api-reference (contract: services/mixedbread.md)"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType
from inferd.core.results import Ranked, Ranking, Result
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
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import MIXEDBREAD_RULES, at, first, openai_fault
from inferd.wire import openai
from inferd.wire.replies import decode, float32, missing, spent
from inferd.wire.texts import documents, query, return_documents, texts, top_n

_URLS = {
    TaskType.RERANK: "https://api.mixedbread.com/v1/reranking",
    TaskType.TEXT_EMBEDDING: "https://api.mixedbread.com/v1/embeddings",
}


_SHOWN = ("model_id", "url", "similarity", "dimensions", "max_input_tokens", "rate_limit")


def _url(ask: Ask) -> str:
    return str(ask.settings.get("url") or _URLS[ask.endpoint.task])


def _shows(endpoint: Endpoint) -> dict[str, Any]:
    """The default URL is shown too."""
    settings = {"url": _URLS[endpoint.task], **endpoint.settings}
    return {key: settings[key] for key in _SHOWN if key in settings}


def _rerank_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": ask.settings["model_id"],
        "query": query(ask),
        "input": documents(ask),
    }
    if top_n(ask) is not None:
        body["top_k"] = top_n(ask)
    if return_documents(ask) is not None:
        body["return_input"] = return_documents(ask)
    return body


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": texts(ask), "model": ask.settings["model_id"]}
    if ask.endpoint.hidden.get("dimensions_set_by_user"):
        body["dimensions"] = ask.settings["dimensions"]
    for key in ("prompt", "normalized"):
        if ask.options.get(key) is not None:
            body[key] = ask.options[key]
    return body


class _Score(Struct):
    index: int
    score: float
    input: str | None
    """Must be there; null unless the texts were asked for."""


class _Reply(Struct):
    data: list[_Score] | UnsetType = UNSET
    usage: Any = None


_reply = msgspec.json.Decoder(_Reply)


def _ranking(ask: Ask, reply: Reply) -> Result:
    parsed = decode(_reply, reply.body)
    if parsed.data is UNSET:
        raise missing("data", "Mixedbread rerank")
    return Ranking(
        items=tuple(
            Ranked(index=score.index, score=float32(score.score), text=score.input) for score in parsed.data
        ),
        usage=spent(parsed.usage, "prompt_tokens", "total_tokens"),
    )


SERVICE = Service(
    name="mixedbread",
    title="Mixedbread",
    settings=(
        API_KEY,
        MODEL_ID,
        Setting(key="url", label="URL", url=True, listed=False),
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        rate_limit(100),
    ),
    auth=bearer,
    fault=first(at("message"), openai_fault, at("detail")),  # not confirmed
    rules=MIXEDBREAD_RULES,
    similarity="cosine",  # not confirmed
    input_types=frozenset(InputType),
    shows=_shows,
    failed="Failed to send Mixedbread {task} request from inference entity id [{id}]. Cause: {cause}",
    calls={
        TaskType.RERANK: Call(
            post=_url,
            body=_rerank_body,
            reply=_ranking,
            options=(RETURN_DOCUMENTS, TOP_N),
        ),
        TaskType.TEXT_EMBEDDING: Call(
            post=_url,
            body=_embeddings_body,
            reply=openai.embeddings,
            options=(
                Setting(key="prompt", label="Prompt"),
                Setting(key="normalized", kind=Kind.BOOLEAN, label="Normalized"),
            ),
            max_inputs=256,  # not confirmed
        ),
    },
)
