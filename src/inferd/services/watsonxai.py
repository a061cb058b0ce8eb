"""IBM watsonx.ai. https://cloud.ibm.com/apidocs/watsonx-ai (contract: services/watsonxai.md)"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from inferd.core.results import Embeddings, Ranked, Ranking, Result
from inferd.core.service import Ask, Call, Fault, Reply, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MODEL_ID,
    RETURN_DOCUMENTS,
    SIMILARITY,
    TOP_N,
    Draft,
    Kind,
    Setting,
    bad_url,
    not_a_url,
    rate_limit,
)
from inferd.core.tasks import TaskType
from inferd.upstream.auth import ibm_iam
from inferd.upstream.faults import WATSONX_RULES, typed
from inferd.wire import openai
from inferd.wire.replies import decode, float32, missing, spent
from inferd.wire.texts import documents, query, return_documents, texts, top_n

_DENSE = frozenset({TaskType.TEXT_EMBEDDING})


def _base(url: str) -> str:
    """``url`` is a host name; a whole address is taken too."""
    return url.rstrip("/") if "://" in url else f"https://{url}"


def _url(kind: str) -> Callable[[Ask], str]:
    def url(ask: Ask) -> str:
        version = quote(ask.settings["api_version"], safe="")
        return f"{_base(ask.settings['url'])}/ml/v1/text/{kind}?version={version}"

    return url


def _check(draft: Draft) -> None:
    url = draft.settings.get("url")
    reason = bad_url(_base(url)) if url is not None else None
    if url is not None and reason is not None:
        draft.fault(not_a_url("service_settings", "url", url, reason))


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    return {
        "inputs": texts(ask),
        "model_id": ask.settings["model_id"],
        "project_id": ask.settings["project_id"],
    }


def _rerank_body(ask: Ask) -> dict[str, Any]:
    returned: dict[str, Any] = {}
    if return_documents(ask) is not None:
        returned["inputs"] = return_documents(ask)
    if top_n(ask) is not None:
        returned["top_n"] = top_n(ask)
    parameters: dict[str, Any] = {}
    if ask.options.get("truncate_input_tokens") is not None:
        parameters["truncate_input_tokens"] = ask.options["truncate_input_tokens"]
    return {
        "model_id": ask.settings["model_id"],
        "query": query(ask),
        "inputs": [{"text": document} for document in documents(ask)],
        "project_id": ask.settings["project_id"],
        "parameters": {**parameters, "return_options": returned},
    }


def _add_project(ask: Ask, body: dict[str, Any]) -> None:
    body["project_id"] = ask.settings["project_id"]


class _Embedded(Struct):
    embedding: list[float]


class _EmbeddingsReply(Struct):
    results: list[_Embedded] | UnsetType = UNSET
    input_token_count: Any = None


class _Input(Struct, forbid_unknown_fields=True):
    text: str | None = None


class _Score(Struct, forbid_unknown_fields=True):
    index: int = -1
    score: float = -1.0
    input: _Input | None = None


class _RankingReply(Struct):
    results: list[_Score] | UnsetType = UNSET
    input_token_count: Any = None


_vectors = msgspec.json.Decoder(_EmbeddingsReply)
_scores = msgspec.json.Decoder(_RankingReply)


def _embeddings(ask: Ask, reply: Reply) -> Result:
    parsed = decode(_vectors, reply.body)
    if parsed.results is UNSET:
        raise missing("results", "Watsonx embeddings")
    return Embeddings(
        vectors=openai.stack([entry.embedding for entry in parsed.results]),
        usage=spent({"tokens": parsed.input_token_count}, "tokens"),
    )


def _ranking(ask: Ask, reply: Reply) -> Result:
    parsed = decode(_scores, reply.body)
    if parsed.results is UNSET:
        raise missing("results", "Watsonx rerank")
    return Ranking(
        items=tuple(
            Ranked(
                index=score.index,
                score=float32(score.score),
                text=score.input.text if score.input is not None else None,
            )
            for score in parsed.results
        ),
        usage=spent({"tokens": parsed.input_token_count}, "tokens"),
    )


def _fault(body: bytes) -> Fault:
    """``error.message``; an error object without one has an empty message. IBM's own form gives none."""
    try:
        error = msgspec.json.decode(body, type=dict[str, Any]).get("error")
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Fault()
    if not isinstance(error, dict):
        return Fault()
    message = error.get("message", "")
    return Fault(message=message) if isinstance(message, str) else Fault()


_chat_body = openai.chat_body(tokens_field="max_tokens", usage=False, extra=_add_project)

SERVICE = Service(
    name="watsonxai",
    title="IBM Watsonx",
    settings=(
        API_KEY,
        Setting(key="url", label="URL", description="", required=True),
        Setting(
            key="api_version",
            label="API Version",
            description="The IBM Watsonx API version ID to use.",
            required=True,
        ),
        replace(MODEL_ID, description="The name of the model to use for the inference task."),
        Setting(key="project_id", label="Project ID", description="", required=True),
        Setting(
            key="max_input_tokens",
            kind=Kind.INTEGER,
            positive=True,
            label="Maximum Input Tokens",
            description="Allows you to specify the maximum number of tokens per input.",
            tasks=_DENSE,
            mutable=True,
        ),
        DIMENSIONS,
        SIMILARITY,
        rate_limit(120),
    ),
    auth=ibm_iam,
    fault=_fault,
    rules=WATSONX_RULES,
    check=_check,
    similarity="dot_product",
    group=lambda endpoint: tuple(endpoint.settings.get(key) for key in ("model_id", "url", "project_id")),
    embedding_batch=1000,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url("embeddings"),
            body=_embeddings_body,
            reply=_embeddings,
            max_inputs=1000,
            verb="embeddings",
        ),
        TaskType.RERANK: Call(
            post=_url("reranks"),
            body=_rerank_body,
            reply=_ranking,
            options=(
                TOP_N,
                RETURN_DOCUMENTS,
                Setting(key="truncate_input_tokens", kind=Kind.INTEGER, positive=True),
            ),
            verb="rerank",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url("chat"),
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            fault=typed("watsonx_error", _fault),
            verb="chat completions",
        ),
        TaskType.COMPLETION: Call(
            post=_url("chat"),
            body=_chat_body,
            reply=openai.completion(),
            chunks=openai.lenient_chunks,
            one_input="IBM Watsonx completions",  # not confirmed
            verb="completions",
        ),
    },
)
