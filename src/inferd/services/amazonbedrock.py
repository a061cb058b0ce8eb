"""Amazon Bedrock. https://docs.aws.amazon.com/bedrock/latest/APIReference/ (contract: services/amazonbedrock.md)

Beyond Elasticsearch: without ``access_key`` and ``secret_key`` the credentials of the place where inferd runs are used.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat, InputType
from inferd.core.results import Embeddings, Result, Usage
from inferd.core.service import Ask, Call, Fault, Framing, Reply, Rule, Service
from inferd.core.settings import MAX_INPUT_TOKENS, SIMILARITY, Draft, Kind, Setting, rate_limit
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.upstream.aws import KEY_SETTINGS, check_changed_keys, check_keys, endpoint_url, sigv4
from inferd.wire import bedrock
from inferd.wire.cohere import INPUT_TYPES
from inferd.wire.openai import stack
from inferd.wire.replies import decode, missing
from inferd.wire.texts import input_type, texts

_DENSE = frozenset({TaskType.TEXT_EMBEDDING})
_BATCHES = {"AMAZONTITAN": 1, "COHERE": 96}
"""Inputs a request; other providers have no embeddings."""
_NO_CHAT = frozenset({"AMAZONTITAN"})
_WITH_TOP_K = frozenset({"ANTHROPIC", "COHERE", "MISTRAL"})


def _url(operation: str, streamed: str = "") -> Callable[[Ask], str]:
    def url(ask: Ask) -> str:
        model = quote(ask.settings["model"], safe="")
        action = streamed if streamed and ask.stream else operation
        return f"{endpoint_url('bedrock-runtime', ask.settings['region'])}/model/{model}/{action}"

    return url


# Embeddings


def _batch(endpoint: Endpoint) -> int:
    return _BATCHES.get(endpoint.settings["provider"], 1)


def _embed_body(ask: Ask) -> dict[str, Any]:
    inputs = texts(ask)
    if not inputs:
        raise StatusError(400, "[input] cannot be null or empty")
    if ask.settings["provider"] == "AMAZONTITAN":
        return {"inputText": inputs[0]}
    asked = input_type(ask) or InputType.INGEST
    body: dict[str, Any] = {"texts": inputs, "input_type": INPUT_TYPES.get(asked, "search_document")}
    if ask.options.get("truncate") is not None:
        body["truncate"] = ask.options["truncate"]
    return body


class _Titan(Struct):
    embedding: list[float] | None = None
    tokens: int | None = msgspec.field(default=None, name="inputTextTokenCount")


class _Cohere(Struct):
    embeddings: list[list[float]] | None = None


_titan = msgspec.json.Decoder(_Titan)
_cohere = msgspec.json.Decoder(_Cohere)


def _embed_reply(ask: Ask, reply: Reply) -> Result:
    if ask.settings["provider"] == "AMAZONTITAN":
        told = decode(_titan, reply.body)
        if told.embedding is None:
            raise missing("embedding", "Amazon Bedrock embeddings")
        usage = Usage(given=told.tokens, used=told.tokens) if told.tokens is not None else None
        return Embeddings(vectors=stack([told.embedding]), usage=usage)
    rows = decode(_cohere, reply.body).embeddings
    if rows is None:
        raise missing("embeddings", "Amazon Bedrock embeddings")
    return Embeddings(vectors=stack(rows))


# Completion and chat

_MAX_NEW_TOKENS = 64


def _inference(ask: Ask) -> dict[str, Any]:
    """The stored inference parameters under Converse's names."""
    named = {"temperature": "temperature", "top_p": "topP", "max_new_tokens": "maxTokens"}
    return {name: ask.options[key] for key, name in named.items() if ask.options.get(key) is not None}


def _completion_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": [{"text": text}]} for text in texts(ask)],
        "inferenceConfig": {"maxTokens": _MAX_NEW_TOKENS, **_inference(ask)},
    }
    top_k = ask.options.get("top_k")
    if top_k is not None:
        _refuse_top_k(ask.settings["provider"])
        body["additionalModelResponseFieldPaths"] = [f'{{"top_k":{top_k:.6f}}}']
    return body


def _chat_body(ask: Ask) -> dict[str, Any]:
    """What the request does not say comes from the stored task settings (not confirmed); there is no other default."""
    assert isinstance(ask.inputs, Chat)
    return bedrock.chat_body(ask.inputs, _inference(ask))


def _refuse_top_k(provider: str) -> None:
    if provider not in _WITH_TOP_K:
        raise StatusError(400, f"The [top_k] task parameter is not available for provider [{provider}]")


# Errors


def _rules(operation: str) -> Callable[[Reply, Fault], Rule]:
    """Every refusal is a 500 that quotes the provider (contract), in the words of Amazon's SDK (not confirmed)."""

    def text(reply: Reply, fault: Fault, id: str, url: str) -> str:
        told = fault.message or reply.headers.get("x-amzn-errortype", "").partition(":")[0] or "null"
        request = reply.headers.get("x-amzn-requestid", "null")
        return (
            f"AmazonBedrock {operation} failure: [{told} (Service: BedrockRuntime, "
            f"Status Code: {reply.status}, Request ID: {request})]"
        )

    rule = Rule("", status=500, text=text, untyped=True)
    return lambda reply, fault: rule


# Settings


def _check(draft: Draft) -> None:
    check_keys(draft)
    draft.check()
    provider, task = draft.settings["provider"], draft.task
    if (task in _DENSE and provider not in _BATCHES) or (
        task is TaskType.CHAT_COMPLETION and provider in _NO_CHAT
    ):
        raise StatusError(400, f"The [{task}] task type for provider [{provider}] is not available")
    if "top_k" in draft.task_settings:
        _refuse_top_k(provider)
    if "truncate" in draft.task_settings and provider != "COHERE":
        raise StatusError(
            400,
            f"The [text_embedding] task type for provider [{provider}] does not allow [truncate] field",
        )


def _check_update(draft: Draft, stored: Endpoint) -> None:
    """``dimensions`` may come with another model; the trial call shows whether they are true."""
    check_changed_keys(draft)
    _check(draft)
    if draft.settings != stored.settings:
        claimed = draft.settings.get("dimensions") != stored.settings.get("dimensions")
        draft.hidden["dimensions_set_by_user"] = claimed


def _similarity(endpoint: Endpoint) -> str:
    return "dot_product" if endpoint.settings["provider"] == "COHERE" else "cosine"


def _group(endpoint: Endpoint) -> tuple[Any, ...]:
    return (endpoint.settings["model"], endpoint.settings["region"], endpoint.secrets)


def _share(key: str) -> Setting:
    return Setting(key=key, kind=Kind.DOUBLE, minimum=0, maximum=1, label=key.replace("_", " ").title())


_OPTIONS = (
    Setting(key="max_new_tokens", kind=Kind.INTEGER, positive=True, label="Max New Tokens"),
    _share("temperature"),
    _share("top_p"),
    _share("top_k"),
)

SERVICE = Service(
    name="amazonbedrock",
    title="Amazon Bedrock",
    settings=(
        *KEY_SETTINGS,
        Setting(
            key="region",
            label="Region",
            description="The region that your model or ARN is deployed in.",
            required=True,
            mutable=True,
        ),
        Setting(
            key="model",
            label="Model",
            description="The base model ID or an ARN to a custom model based on a foundational model.",
            required=True,
            mutable=True,
        ),
        Setting(
            key="provider",
            label="Provider",
            description="The model provider for your deployment.",
            choices=("amazontitan", "anthropic", "ai21labs", "cohere", "meta", "mistral"),
            upper=True,
            required=True,
            mutable=True,
        ),
        rate_limit(
            240,
            "By default, the amazonbedrock service sets the number of requests allowed per minute to 240.",
        ),
        Setting(
            key="dimensions",
            kind=Kind.INTEGER,
            label="Dimensions",
            description="The number of dimensions the resulting embeddings should have. For more information refer to "
            "https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html.",
            tasks=_DENSE,
            positive=True,
            refused=True,
            mutable=True,
        ),
        Setting(
            key="dimensions_set_by_user",
            kind=Kind.BOOLEAN,
            tasks=_DENSE,
            refused=True,
            shown=False,
            listed=False,
        ),
        MAX_INPUT_TOKENS,
        msgspec.structs.replace(SIMILARITY, mutable=True),
    ),
    auth=sigv4("bedrock"),
    fault=bedrock.exception_fault,
    check=_check,
    checked_update=_check_update,
    similarity=_similarity,
    input_types=frozenset(InputType),
    retries=False,
    group=_group,
    embedding_batch=_batch,
    failed="Amazon Bedrock {what} call failed",
    tasks=(TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url("invoke"),
            body=_embed_body,
            reply=_embed_reply,
            options=(Setting(key="truncate", choices=("none", "start", "end"), upper=True),),
            max_inputs=lambda ask: _batch(ask.endpoint),
            rules=_rules("invoke model"),
            verb="invoke model",
        ),
        TaskType.COMPLETION: Call(
            post=_url("converse", "converse-stream"),
            body=_completion_body,
            reply=bedrock.completion,
            chunks=bedrock.text_chunks,
            framing=Framing.AWS,
            reads_errors=True,
            options=_OPTIONS,
            rules=_rules("converse"),
            verb="converse",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url("converse", "converse-stream"),
            body=_chat_body,
            reply=bedrock.answer,
            chunks=bedrock.chunks,
            framing=Framing.AWS,
            reads_errors=True,
            options=_OPTIONS,
            rules=_rules("converse"),
            verb="converse",
        ),
    },
)
