"""Azure AI Studio. https://learn.microsoft.com/azure/ai-foundry (contract: services/azureaistudio.md)"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from inferd.core.inputs import InputType
from inferd.core.results import Completion, Ranked, Ranking, Result
from inferd.core.service import Ask, BadReply, Call, Outgoing, Reply, Service, Tokens
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
from inferd.errors import StatusError
from inferd.upstream.auth import bearer, header
from inferd.upstream.faults import OPENAI_RULES, openai_fault
from inferd.wire import openai
from inferd.wire.contents import asked_type
from inferd.wire.replies import decode, float32, missing
from inferd.wire.texts import documents, query, return_documents, texts, top_n

_OFFERS = {
    TaskType.TEXT_EMBEDDING: {"token": ("openai", "cohere"), "realtime": ()},
    TaskType.COMPLETION: {
        "token": ("openai", "meta", "cohere"),
        "realtime": ("mistral", "meta", "microsoft_phi", "databricks"),
    },
    TaskType.RERANK: {"token": ("cohere",), "realtime": ()},
}
"""Providers by task and endpoint type."""

_INPUT_TYPES = {
    InputType.INGEST: "document",
    InputType.INTERNAL_INGEST: "document",
    InputType.SEARCH: "query",
    InputType.INTERNAL_SEARCH: "query",
}
_PATHS = {
    TaskType.TEXT_EMBEDDING: "/v1/embeddings",
    TaskType.COMPLETION: "/v1/chat/completions",
    TaskType.RERANK: "/v1/rerank",
}
_PARAMETERS = ("temperature", "top_p", "do_sample", "max_new_tokens")
_MOST_INPUTS = {"cohere": 96}
"""OpenAI's deployments take 2048."""


def _check(draft: Draft) -> None:
    """Not every provider offers every task on every endpoint type."""
    if draft.faults:
        return
    provider, kind = draft.settings["provider"], draft.settings["endpoint_type"]
    offers = _OFFERS[draft.task]
    if not any(provider in providers for providers in offers.values()):
        raise StatusError(400, f"The [{draft.task}] task type for provider [{provider}] is not available")
    if provider not in offers[kind]:
        raise StatusError(
            400,
            f"The [{kind}] endpoint type with [{draft.task}] task type for provider [{provider}] is not available",
        )


def _is_realtime(ask: Ask) -> bool:
    return bool(ask.settings["endpoint_type"] == "realtime")


def _url(ask: Ask) -> str:
    target = str(ask.settings["target"])
    if ask.settings["provider"] == "openai" or _is_realtime(ask):
        return target
    return target.rstrip("/") + _PATHS[ask.endpoint.task]


_api_key = header("api-key")
_bare_key = header("Authorization")


async def _auth(ask: Ask, outgoing: Outgoing, tokens: Tokens) -> Outgoing:
    if ask.settings["provider"] == "openai":
        return await _api_key(ask, outgoing, tokens)
    if _is_realtime(ask):
        return await bearer(ask, outgoing, tokens)
    return await _bare_key(ask, outgoing, tokens)


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": texts(ask)}
    if ask.options.get("user") is not None:
        body["user"] = ask.options["user"]
    if ask.endpoint.hidden.get("dimensions_set_by_user"):
        body["dimensions"] = ask.settings["dimensions"]
    kind = asked_type(ask)
    if kind is not None:
        body["input_type"] = _INPUT_TYPES[kind]
    return body


def _completion_body(ask: Ask) -> dict[str, Any]:
    messages = [{"content": text, "role": "user"} for text in texts(ask)]
    parameters = {key: ask.options[key] for key in _PARAMETERS if ask.options.get(key) is not None}
    chosen = {"parameters": parameters} if parameters else {}
    body: dict[str, Any] = (
        {"input_data": {"input_string": messages, **chosen}}
        if _is_realtime(ask)
        else {"messages": messages, **chosen}
    )
    if ask.stream:
        body["stream"] = True
    return body


def _rerank_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"documents": documents(ask), "query": query(ask)}
    if return_documents(ask) is not None:
        body["return_documents"] = return_documents(ask)
    if top_n(ask) is not None:
        body["top_n"] = top_n(ask)
    return body


class _Document(Struct, forbid_unknown_fields=True):
    text: str | None = None


class _Score(Struct, forbid_unknown_fields=True):
    index: int
    relevance_score: float
    document: _Document | None = None


class _RankingReply(Struct):
    results: list[_Score] | UnsetType = UNSET


_scores = msgspec.json.Decoder(_RankingReply)
_token_completion = openai.completion("Azure AI Studio completion")


def _completion(ask: Ask, reply: Reply) -> Result:
    """Realtime deployments answer ``{"output": "…"}``, the name in any letter case."""
    if not _is_realtime(ask):
        return _token_completion(ask, reply)
    for name, value in openai.decode_object(reply.body).items():
        if name.lower() == "output" and isinstance(value, str):
            return Completion(texts=(value,))
    raise BadReply("Reached an invalid state while parsing the Azure AI Studio completion response")


def _ranking(ask: Ask, reply: Reply) -> Result:
    results = decode(_scores, reply.body).results
    if results is UNSET:
        raise missing("results", "Azure AI Studio rerank")
    return Ranking(
        items=tuple(
            Ranked(
                index=score.index,
                score=float32(score.relevance_score),
                text=score.document.text if score.document is not None else None,
            )
            for score in results
        )
    )


SERVICE = Service(
    name="azureaistudio",
    title="Azure AI Studio",
    settings=(
        API_KEY,
        Setting(
            key="target",
            label="Target",
            description="The target URL of your Azure AI Studio model deployment.",
            required=True,
            url=True,
        ),
        Setting(
            key="provider",
            label="Provider",
            description="The model provider for your deployment.",
            required=True,
            choices=("cohere", "databricks", "meta", "microsoft_phi", "mistral", "openai"),
        ),
        Setting(
            key="endpoint_type",
            label="Endpoint Type",
            description="Specifies the type of endpoint that is used in your model deployment.",
            required=True,
            choices=("realtime", "token"),
        ),
        DIMENSIONS,
        Setting(
            key="dimensions_set_by_user",
            kind=Kind.BOOLEAN,
            tasks=DIMENSIONS.tasks,
            refused=True,
            shown=False,
            listed=False,
        ),
        SIMILARITY,
        MAX_INPUT_TOKENS,
        rate_limit(240),
    ),
    auth=_auth,
    fault=openai_fault,
    rules=OPENAI_RULES,
    check=_check,
    similarity="dot_product",
    input_types=frozenset({*_INPUT_TYPES, InputType.UNSPECIFIED}),
    truncates=True,
    group=lambda endpoint: (
        endpoint.secrets,
        *(endpoint.settings.get(key) for key in ("target", "provider", "endpoint_type")),
    ),
    embedding_batch=2048,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url,
            body=_embeddings_body,
            reply=openai.embeddings,
            options=(Setting(key="user", label="User"),),
            max_inputs=lambda ask: _MOST_INPUTS.get(ask.settings["provider"], 2048),
            verb="embeddings",
        ),
        TaskType.COMPLETION: Call(
            post=_url,
            body=_completion_body,
            reply=_completion,
            chunks=openai.lenient_chunks,
            options=(
                Setting(key="temperature", kind=Kind.DOUBLE, minimum=0.0, maximum=2.0),
                Setting(key="top_p", kind=Kind.DOUBLE, minimum=0.0, maximum=2.0),
                Setting(key="do_sample", kind=Kind.BOOLEAN),
                Setting(key="max_new_tokens", kind=Kind.INTEGER, positive=True, default=64),
            ),
            verb="completion",
        ),
        TaskType.RERANK: Call(
            post=_url,
            body=_rerank_body,
            reply=_ranking,
            options=(RETURN_DOCUMENTS, TOP_N),
            verb="rerank",
        ),
    },
)
