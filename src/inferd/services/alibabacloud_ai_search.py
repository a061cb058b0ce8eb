"""Alibaba Cloud AI Search.

https://help.aliyun.com/zh/open-search/search-platform/developer-reference (contract: services/alibabacloud-ai-search.md)
"""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from inferd.core.inputs import InputType
from inferd.core.results import Completion, Embeddings, Ranked, Ranking, Result, Sparse
from inferd.core.service import Ask, BadReply, Call, Reply, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    SIMILARITY,
    Draft,
    Kind,
    Setting,
    bad_url,
    not_a_url,
    rate_limit,
    wrong_type,
)
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.upstream.auth import bearer
from inferd.upstream.faults import ALIBABA_RULES, at
from inferd.wire import openai
from inferd.wire.contents import asked_type
from inferd.wire.replies import decode, float32, missing, sparse, spent
from inferd.wire.texts import documents, query, texts

_INPUT_TYPES = {
    InputType.INGEST: "document",
    InputType.INTERNAL_INGEST: "document",
    InputType.SEARCH: "query",
    InputType.INTERNAL_SEARCH: "query",
}
_SCHEMES = ("https", "http")


def _url(path: str) -> Callable[[Ask], str]:
    def url(ask: Ask) -> str:
        settings = ask.settings
        workspace, model = (quote(settings[key], safe="") for key in ("workspace", "service_id"))
        scheme = settings.get("http_schema", "https")
        return f"{scheme}://{settings['host']}/v3/openapi/workspaces/{workspace}/{path}/{model}"

    return url


def _scheme(value: Any, row: Setting, draft: Draft) -> str | None:
    if not isinstance(value, str):
        draft.fault(wrong_type(row.key, value, "String"))
    elif value not in _SCHEMES:
        draft.fault(f"Invalid value for [{row.key}]. Must be one of [{', '.join(_SCHEMES)}]")
    else:
        return value
    return None


def _check(draft: Draft) -> None:
    host = draft.settings.get("host")
    reason = bad_url(f"https://{host}") if host is not None else None
    if host is not None and reason is not None:
        draft.fault(not_a_url("service_settings", "host", host, reason))


# Requests


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": texts(ask)}
    kind = asked_type(ask)
    if kind is not None:
        body["input_type"] = _INPUT_TYPES[kind]
    if ask.options.get("return_token") is not None:
        body["return_token"] = ask.options["return_token"]
    return body


def _rerank_body(ask: Ask) -> dict[str, Any]:
    return {"query": query(ask), "docs": documents(ask)}


def _completion_body(ask: Ask) -> dict[str, Any]:
    """Inputs alternate between user and assistant; the last is the question."""
    inputs = texts(ask)
    if len(inputs) % 2 == 0:
        raise StatusError(
            400,
            "Alibaba Completion's inputs must be an odd number. The last input is the current query, all preceding "
            "inputs are the completion history as pairs of user input and the assistant's response.",
        )
    body: dict[str, Any] = {
        "messages": [
            {"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(inputs)
        ]
    }
    stored = ask.endpoint.task_settings.get("parameters", {})
    parameters = {**stored, **ask.options.get("parameters", {})}
    if parameters:
        body["parameters"] = parameters
    return body


# Answers: ``{"request_id", "latency", "usage", "result": {…}}``


class _Embedded(Struct):
    embedding: list[float] | UnsetType = UNSET


class _Dense(Struct):
    embeddings: list[_Embedded] | UnsetType = UNSET


class _Token(Struct):
    weight: float
    token_id: int | str | None = None
    token: str | UnsetType | None = UNSET


class _Tokens(Struct):
    embedding: list[_Token] | UnsetType = UNSET


class _Sparse(Struct):
    sparse_embeddings: list[_Tokens] | UnsetType = UNSET


class _Score(Struct, forbid_unknown_fields=True):
    index: int
    score: float


class _Scores(Struct):
    scores: list[_Score] | UnsetType = UNSET


class _Text(Struct):
    text: str | UnsetType = UNSET


class _DenseReply(Struct):
    result: _Dense | UnsetType = UNSET
    usage: Any = None


class _SparseReply(Struct):
    result: _Sparse | UnsetType = UNSET
    usage: Any = None


class _ScoresReply(Struct):
    result: _Scores | UnsetType = UNSET
    usage: Any = None


class _TextReply(Struct):
    result: _Text | UnsetType = UNSET
    usage: Any = None


_dense = msgspec.json.Decoder(_DenseReply)
_sparse = msgspec.json.Decoder(_SparseReply)
_scores = msgspec.json.Decoder(_ScoresReply)
_text = msgspec.json.Decoder(_TextReply)


def _lacks(field: str, what: str) -> BadReply:
    return missing(field, f"AlibabaCloud Search {what}")


def _embeddings(ask: Ask, reply: Reply) -> Result:
    """In array order, whatever ``index`` says."""
    parsed = decode(_dense, reply.body)
    if parsed.result is UNSET:
        raise _lacks("result", "embeddings")
    if parsed.result.embeddings is UNSET:
        raise _lacks("embeddings", "embeddings")
    vectors = []
    for entry in parsed.result.embeddings:
        if entry.embedding is UNSET:
            raise _lacks("embedding", "embeddings")
        vectors.append(entry.embedding)
    return Embeddings(vectors=openai.stack(vectors), usage=spent(parsed.usage, "token_count"))


def _sparse_embeddings(ask: Ask, reply: Reply) -> Result:
    parsed = decode(_sparse, reply.body)
    if parsed.result is UNSET:
        raise _lacks("result", "sparse embeddings")
    if parsed.result.sparse_embeddings is UNSET:
        raise _lacks("sparse_embeddings", "sparse embeddings")
    vectors = []
    for entry in parsed.result.sparse_embeddings:
        if entry.embedding is UNSET:
            raise _lacks("embedding", "sparse embeddings")
        vectors.append(sparse(_weights(entry.embedding)))
    return Sparse(vectors=tuple(vectors), usage=spent(parsed.usage, "token_count"))


def _weights(tokens: list[_Token]) -> Iterator[tuple[str, float]]:
    """Weights by name; a name with a dot could not be a field of a document, so such entries are dropped."""
    for entry in tokens:
        name = _name(entry)
        if name and "." not in name and entry.weight > 0:
            yield name, entry.weight


def _name(entry: _Token) -> str | None:
    if entry.token is not UNSET:
        return entry.token
    return None if entry.token_id is None else str(entry.token_id)


def _ranking(ask: Ask, reply: Reply) -> Result:
    parsed = decode(_scores, reply.body)
    if parsed.result is UNSET:
        raise _lacks("result", "rerank")
    if parsed.result.scores is UNSET:
        raise _lacks("scores", "rerank")
    return Ranking(
        items=tuple(Ranked(index=score.index, score=float32(score.score)) for score in parsed.result.scores),
        usage=spent(parsed.usage, "doc_tokens", "token_count"),
    )


def _completion(ask: Ask, reply: Reply) -> Result:
    parsed = decode(_text, reply.body)
    if parsed.result is UNSET:
        raise _lacks("result", "completion")
    if parsed.result.text is UNSET:
        raise _lacks("text", "completion")
    return Completion(
        texts=(parsed.result.text,), usage=spent(parsed.usage, "input_tokens", output="output_tokens")
    )


_INPUT_TYPE = Setting(key="input_type", choices=("ingest", "search"))

SERVICE = Service(
    name="alibabacloud-ai-search",
    title="AlibabaCloud AI Search",
    settings=(
        replace(API_KEY, description="A valid API key for the AlibabaCloud AI Search API."),
        Setting(
            key="service_id",
            label="Project ID",
            description="The name of the model service to use for the {infer} task.",
            required=True,
        ),
        Setting(
            key="host",
            label="Host",
            description="The name of the host address used for the {infer} task. You can find the host address at "
            "https://opensearch.console.aliyun.com/cn-shanghai/rag/api-key[ the API keys section] of the documentation.",
            required=True,
        ),
        Setting(
            key="workspace",
            label="Workspace",
            description="The name of the workspace used for the {infer} task.",
            required=True,
        ),
        Setting(key="http_schema", label="HTTP Schema", description="", read=_scheme, listed_required=True),
        rate_limit(1000),
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
    ),
    auth=bearer,
    fault=at("message"),
    rules=ALIBABA_RULES,
    check=_check,
    similarity="dot_product",
    input_types=frozenset(_INPUT_TYPES),
    group=lambda endpoint: (
        endpoint.secrets,
        *(endpoint.settings.get(key) for key in ("host", "workspace", "service_id")),
    ),
    embedding_batch=32,
    failed="Failed to send AlibabaCloud Search {what} request. Cause: {cause}",
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url("text-embedding"),
            body=_embeddings_body,
            reply=_embeddings,
            options=(_INPUT_TYPE,),
            max_inputs=32,
            verb="text embeddings",
        ),
        TaskType.SPARSE_EMBEDDING: Call(
            post=_url("text-sparse-embedding"),
            body=_embeddings_body,
            reply=_sparse_embeddings,
            options=(_INPUT_TYPE, Setting(key="return_token", kind=Kind.BOOLEAN)),
            max_inputs=32,
            verb="sparse embeddings",
        ),
        TaskType.RERANK: Call(
            post=_url("ranker"), body=_rerank_body, reply=_ranking, options=(), verb="rerank"
        ),
        TaskType.COMPLETION: Call(
            post=_url("text-generation"),
            body=_completion_body,
            reply=_completion,
            options=(Setting(key="parameters", kind=Kind.MAP),),
            verb="completion",
        ),
    },
)
