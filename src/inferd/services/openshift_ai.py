"""OpenShift AI: models served by vLLM and its like. https://docs.redhat.com (contract: services/openshift_ai.md)"""

from typing import Any

from inferd.core.service import Ask, Call, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    RETURN_DOCUMENTS,
    SIMILARITY,
    TOP_N,
    Setting,
    rate_limit,
)
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import COHERE_RULES, OPENAI_RULES, at, typed, whole
from inferd.wire import cohere, openai


def _url(ask: Ask) -> str:
    return str(ask.settings["url"])


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    body = openai.embeddings_body(ask)
    if body["model"] is None:
        del body["model"]
    return body


_chat_body = openai.chat_body(tokens_field="max_tokens", usage=False)

SERVICE = Service(
    name="openshift_ai",
    title="OpenShift AI",
    settings=(
        API_KEY,
        Setting(key="model_id", label="Model ID", description="Name of the provider's model to use."),
        Setting(key="url", label="URL", description="Endpoint URL.", required=True, url=True),
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        rate_limit(3000),
    ),
    auth=bearer,
    fault=whole,  # not confirmed for embeddings and chat
    rules=OPENAI_RULES,
    similarity="dot_product",
    truncates=True,
    embedding_batch=20,
    failed="Failed to send {title} {task} request from inference entity id [{id}]. Cause: {cause}",
    calls={
        TaskType.TEXT_EMBEDDING: Call(post=_url, body=_embeddings_body, reply=openai.embeddings),
        TaskType.COMPLETION: Call(
            post=_url,
            body=_chat_body,
            reply=openai.completion("OpenShift AI completions"),
            chunks=openai.lenient_chunks,
            one_input="OpenShift AI completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url,
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            fault=typed("openshift_ai_error", whole),  # not confirmed
        ),
        TaskType.RERANK: Call(
            post=_url,
            body=cohere.rerank_body,
            reply=cohere.ranking(),
            options=(RETURN_DOCUMENTS, TOP_N),
            fault=at("message"),
            rules=COHERE_RULES,
        ),
    },
)
