"""Any provider: the endpoint says how a request is written and where its answer is (contract: services/custom.md)."""

from functools import partial

from inferd.core.inputs import InputType
from inferd.core.service import Call, Service
from inferd.core.settings import DIMENSIONS, MAX_INPUT_TOKENS, SIMILARITY, Kind, Setting, rate_limit
from inferd.core.tasks import TaskType
from inferd.services.custom import answers, requests
from inferd.services.custom.settings import (
    check,
    check_update,
    read_headers,
    read_input_type,
    read_parameters,
    read_query_parameters,
    read_response,
)
from inferd.upstream.faults import ALIBABA_RULES, whole

_call = partial(
    Call,
    post=requests.url,
    headers=requests.headers,
    body=requests.body,
    options=(Setting(key="parameters", label="Parameters", read=read_parameters),),
)

SERVICE = Service(
    name="custom",
    title="Custom",
    settings=(
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        Setting(key="url", label="URL", description="Target URL template.", required=True),
        Setting(
            key="headers",
            kind=Kind.MAP,
            strings=True,
            label="Headers",
            description="Header templates.",
            read=read_headers,
            updatable=True,
        ),
        Setting(
            key="query_parameters",
            kind=Kind.LIST,
            label="Query Parameters",
            description="List of [key, value].",
            read=read_query_parameters,
        ),
        Setting(key="request", label="Request", description="Body template.", required=True),
        Setting(
            key="response", kind=Kind.MAP, label="Response", required=True, listed=False, read=read_response
        ),
        Setting(
            key="input_type",
            kind=Kind.MAP,
            label="Input Type",
            read=read_input_type,
            default=lambda draft: {"translation": {}, "default": ""},
            listed=False,
        ),
        rate_limit(10000),
        Setting(
            key="batch_size",
            kind=Kind.INTEGER,
            positive=True,
            label="Batch Size",
            description="Chunked batch size.",
            default=10,
            listed_default=10,
        ),
        Setting(
            key="secret_parameters",
            kind=Kind.MAP,
            strings=True,
            label="Secret Parameters",
            description="Secret template values.",
            secret=True,
            updatable=True,
        ),
    ),
    auth=requests.authorized,
    fault=whole,
    rules=ALIBABA_RULES,
    check=check,
    checked_update=check_update,
    similarity=answers.similarity,
    input_types=frozenset(InputType),
    group=lambda endpoint: (
        endpoint.settings["url"],
        endpoint.settings.get("headers"),
        endpoint.secrets,
    ),
    embedding_batch=lambda endpoint: int(endpoint.settings["batch_size"]),
    calls={
        TaskType.TEXT_EMBEDDING: _call(reply=answers.embeddings, verb="embeddings"),
        TaskType.SPARSE_EMBEDDING: _call(reply=answers.sparse_embeddings, verb="sparse embeddings"),
        TaskType.RERANK: _call(reply=answers.ranking, verb="rerank"),
        TaskType.COMPLETION: _call(
            reply=answers.completion, one_input="Custom completion", verb="completion"
        ),  # not confirmed: one_input
    },
)
