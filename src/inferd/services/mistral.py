"""Mistral. https://docs.mistral.ai/api (contract: services/mistral.md)"""

from collections.abc import Callable
from typing import Any

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat
from inferd.core.service import Ask, Call, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    SIMILARITY,
    Kind,
    Setting,
    rate_limit,
)
from inferd.core.tasks import DENSE, TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import OPENAI_RULES, at, first, openai_fault, typed, whole
from inferd.wire import openai
from inferd.wire.texts import texts

_BASE = "https://api.mistral.ai/v1"


def _url(path: str) -> Callable[[Ask], str]:
    def url(ask: Ask) -> str:
        return str(ask.settings.get("url") or f"{_BASE}/{path}")

    return url


def _group(endpoint: Endpoint) -> tuple[Any, ...]:
    return endpoint.secrets, endpoint.settings["model"]


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    return {"model": ask.settings["model"], "input": texts(ask), "encoding_format": "float"}


def _model(ask: Ask, body: dict[str, Any]) -> None:
    """The setting's key is ``model`` here."""
    named = ask.inputs.model if isinstance(ask.inputs, Chat) else None
    body["model"] = named or ask.settings["model"]


_chat_body = openai.chat_body(tokens_field="max_tokens", usage=False, extra=_model)

SERVICE = Service(
    name="mistral",
    title="Mistral",
    settings=(
        API_KEY,
        Setting(
            key="model",
            label="Model",
            description="Refer to the Mistral models documentation for the list of available text embedding models.",
            required=True,
        ),
        Setting(key="url", url=True, shown=False, listed=False),
        DIMENSIONS,
        SIMILARITY,
        Setting(
            key="max_input_tokens",
            kind=Kind.INTEGER,
            positive=True,
            label="Maximum Input Tokens",
            description="Allows you to specify the maximum number of tokens per input.",
            tasks=DENSE,
            mutable=True,
        ),
        Setting(key="dimensions_set_by_user", tasks=DENSE, refused=True, shown=False, listed=False),
        rate_limit(240),
    ),
    auth=bearer,
    fault=first(openai_fault, at("message")),  # which of them: not confirmed
    rules=OPENAI_RULES,
    similarity="dot_product",
    truncates=True,
    group=_group,
    embedding_batch=96,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url("embeddings"),
            body=_embeddings_body,
            reply=openai.embeddings,
            verb="embeddings",
        ),
        TaskType.COMPLETION: Call(
            post=_url("chat/completions"),
            body=_chat_body,
            reply=openai.completion("Mistral completions"),
            chunks=openai.lenient_chunks,
            one_input="Mistral completions",
            fault=whole,
            verb="completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url("chat/completions"),
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            fault=typed("mistral_error", whole),
            verb="chat completions",
        ),
    },
)
