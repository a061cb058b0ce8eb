"""Hugging Face Inference Endpoints and text-embeddings-inference.

https://huggingface.github.io/text-embeddings-inference/ (contract: services/hugging_face.md)
"""

from inferd.core.service import Ask, Call, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    RETURN_DOCUMENTS,
    SIMILARITY,
    TOP_N,
    Draft,
    Setting,
    rate_limit,
)
from inferd.core.tasks import CHATS, TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import HUGGING_FACE_RULES, OPENAI_RULES, at
from inferd.wire import hugging_face, openai

_SPARSE_TOKENS = 512
"""Always echoed for sparse endpoints."""


def _url(ask: Ask) -> str:
    return str(ask.settings["url"])


def _check(draft: Draft) -> None:
    """Dimensions are read, and then replaced by what the answer measures without being compared to it."""
    draft.given.discard("dimensions")


_chat_body = openai.chat_body(tokens_field="max_tokens")

SERVICE = Service(
    name="hugging_face",
    title="Hugging Face",
    settings=(
        API_KEY,
        Setting(
            key="model_id",
            label="Model ID",
            description="Model name, needed by some (serverless) endpoints.",
            tasks=CHATS,
        ),
        Setting(
            key="url",
            label="URL",
            description="The URL endpoint to use for the requests.",
            required=True,
            url=True,
        ),
        SIMILARITY,
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        Setting(
            key="max_input_tokens",
            tasks=frozenset({TaskType.SPARSE_EMBEDDING}),
            default=_SPARSE_TOKENS,
            refused=True,
            listed=False,
        ),
        rate_limit(3000),
    ),
    auth=bearer,
    fault=at("error"),
    rules=HUGGING_FACE_RULES,
    check=_check,
    similarity="cosine",
    truncates=True,
    embedding_batch=20,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url, body=hugging_face.inputs_body, reply=hugging_face.dense, verb="text embeddings"
        ),
        TaskType.SPARSE_EMBEDDING: Call(
            post=_url, body=hugging_face.inputs_body, reply=hugging_face.sparse, verb="ELSER"
        ),
        TaskType.RERANK: Call(
            post=_url,
            body=hugging_face.rerank_body,
            reply=hugging_face.ranking,
            options=(RETURN_DOCUMENTS, TOP_N),
            verb="rerank",
        ),
        TaskType.COMPLETION: Call(
            post=_url,
            body=_chat_body,
            reply=openai.completion("Hugging Face chat completions"),
            chunks=openai.lenient_chunks,
            one_input="Hugging Face chat completions",
            rules=OPENAI_RULES,
            fault=hugging_face.chat_fault,
            verb="chat completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url,
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            rules=OPENAI_RULES,
            fault=hugging_face.chat_fault,
            verb="chat completions",
        ),
    },
)
