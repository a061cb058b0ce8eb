"""Llama Stack. https://llama-stack.readthedocs.io (contract: services/llama.md)"""

from typing import Any

from msgspec.structs import replace

from inferd.core.service import Ask, Call, Service
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
from inferd.upstream.auth import optional_bearer
from inferd.upstream.faults import OPENAI_RULES, typed, whole
from inferd.wire import hugging_face, openai
from inferd.wire.texts import texts


def _url(ask: Ask) -> str:
    return str(ask.settings["url"])


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    return {"model_id": ask.settings["model_id"], "contents": texts(ask)}


_chat_body = openai.chat_body(tokens_field="max_tokens", usage=False)

SERVICE = Service(
    name="llama",
    title="Llama",
    settings=(
        replace(API_KEY, required=False, listed_required=True),
        MODEL_ID,
        Setting(key="url", label="URL", description="Llama stack endpoint.", required=True, url=True),
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        rate_limit(3000),
    ),
    auth=optional_bearer,
    fault=whole,
    rules=OPENAI_RULES,
    similarity="dot_product",
    truncates=True,
    embedding_batch=20,
    failed="Failed to send {title} {task} request from inference entity id [{id}]. Cause: {cause}",
    calls={
        TaskType.TEXT_EMBEDDING: Call(post=_url, body=_embeddings_body, reply=hugging_face.dense),
        TaskType.COMPLETION: Call(
            post=_url,
            body=_chat_body,
            reply=openai.completion("Llama completions"),
            chunks=openai.lenient_chunks,
            one_input="Llama completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url,
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            fault=typed("llama_error", whole),
        ),
    },
)
