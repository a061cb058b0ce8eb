"""Fireworks AI. https://docs.fireworks.ai/api-reference (contract: services/fireworksai.md)"""

from typing import Any

from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.service import Ask, Call, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    MODEL_ID,
    SIMILARITY,
    Kind,
    Setting,
    rate_limit,
)
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import FIREWORKS_RULES, chat_fault, openai_fault
from inferd.wire import openai

_EMBEDDINGS = "https://api.fireworks.ai/inference/v1/embeddings"
_CHAT = "https://api.fireworks.ai/inference/v1/chat/completions"  # not confirmed


_SHOWN = ("model_id", "url", "similarity", "dimensions", "max_input_tokens", "rate_limit")


def _default(task: TaskType) -> str:
    return _EMBEDDINGS if task is TaskType.TEXT_EMBEDDING else _CHAT


def _url(ask: Ask) -> str:
    return str(ask.settings.get("url") or _default(ask.endpoint.task))


def _shows(endpoint: Endpoint) -> dict[str, Any]:
    """Embedding endpoints show the default URL too."""
    settings = endpoint.settings
    if endpoint.task is TaskType.TEXT_EMBEDDING:
        settings = {"url": _EMBEDDINGS, **settings}
    return {key: settings[key] for key in _SHOWN if key in settings}


def _headers(ask: Ask) -> dict[str, str]:
    return dict(ask.options.get("headers", {}))


def _add_user(ask: Ask, body: dict[str, Any]) -> None:
    if ask.options.get("user") is not None:
        body["user"] = ask.options["user"]


_chat_body = openai.chat_body(extra=_add_user)
_chat_options = (
    Setting(key="user", label="User"),
    Setting(key="headers", kind=Kind.MAP, strings=True, label="Custom Headers"),
)

SERVICE = Service(
    name="fireworksai",
    title="FireworksAI",
    settings=(
        API_KEY,
        MODEL_ID,
        Setting(key="url", label="URL", url=True, listed=False),
        SIMILARITY,
        replace(
            DIMENSIONS,
            listed=True,
            description="Size of the embeddings; sent upstream only when the user set it.",
        ),
        MAX_INPUT_TOKENS,
        rate_limit(6000),
    ),
    auth=bearer,
    fault=openai_fault,
    rules=FIREWORKS_RULES,
    similarity="cosine",
    group=lambda endpoint: (endpoint.secrets,),
    embedding_batch=256,
    cuts=False,
    shows=_shows,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url,
            body=openai.embeddings_body,
            reply=openai.embeddings,
            max_inputs=256,
            verb="embeddings",
        ),
        TaskType.COMPLETION: Call(
            post=_url,
            headers=_headers,
            body=_chat_body,
            reply=openai.completion("FireworksAI chat completions"),
            chunks=openai.lenient_chunks,
            options=_chat_options,
            one_input="FireworksAI chat completions",  # not confirmed
            verb="chat completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url,
            headers=_headers,
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            options=_chat_options,
            fault=chat_fault,
            verb="chat completions",
        ),
    },
)
