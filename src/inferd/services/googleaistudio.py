"""Google AI Studio. https://ai.google.dev/api (contract: services/googleaistudio.md)"""

from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType, Texts
from inferd.core.results import Embeddings, Result
from inferd.core.service import Ask, BadReply, Call, Reply, Service
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    SIMILARITY,
    Setting,
    rate_limit,
)
from inferd.core.tasks import TaskType
from inferd.errors import Invalid, StatusError
from inferd.upstream.auth import query_key
from inferd.upstream.faults import GOOGLE_AI_STUDIO_RULES, at
from inferd.wire import google
from inferd.wire.openai import stack
from inferd.wire.replies import decode, missing
from inferd.wire.texts import texts

_TITLE = "Google AI Studio"
_MODELS = "https://generativelanguage.googleapis.com/v1/models/"


def _embed_url(ask: Ask) -> str:
    return f"{_MODELS}{quote(ask.settings['model_id'], safe='')}:batchEmbedContents"


def _generate_url(ask: Ask) -> str:
    model = quote(ask.settings["model_id"], safe="")
    return f"{_MODELS}{model}:{'streamGenerateContent?alt=sse' if ask.stream else 'generateContent'}"


_TASK_TYPES = {
    InputType.INGEST: "RETRIEVAL_DOCUMENT",
    InputType.INTERNAL_INGEST: "RETRIEVAL_DOCUMENT",
    InputType.SEARCH: "RETRIEVAL_QUERY",
    InputType.INTERNAL_SEARCH: "RETRIEVAL_QUERY",
    InputType.CLASSIFICATION: "CLASSIFICATION",
    InputType.CLUSTERING: "CLUSTERING",
}
_MODEL_WITH_INPUT_TYPES = "embedding-001"


def _task_type(ask: Ask) -> str | None:
    """Only one model lets its callers choose (contract); internal types go to every model (not confirmed)."""
    given = ask.inputs.input_type if isinstance(ask.inputs, Texts) else None
    if given is None:
        return None
    model = ask.settings["model_id"]
    if not given.is_internal and model != _MODEL_WITH_INPUT_TYPES:
        raise Invalid(f"Invalid value [{given}] received. [input_type] is not allowed for model [{model}]")
    if given not in _TASK_TYPES:
        raise StatusError(400, f"Input type [{given}] is not supported for [{_TITLE}]")
    return _TASK_TYPES[given]


def _embed_body(ask: Ask) -> dict[str, Any]:
    model = f"models/{ask.settings['model_id']}"
    more: dict[str, Any] = {}
    if ask.endpoint.hidden.get("dimensions_set_by_user"):
        more["outputDimensionality"] = ask.settings["dimensions"]
    task_type = _task_type(ask)
    if task_type is not None:
        more["taskType"] = task_type
    return {
        "requests": [{"model": model, "content": {"parts": [{"text": text}]}, **more} for text in texts(ask)]
    }


class _Entry(Struct):
    values: list[float] | None = None


class _Embeddings(Struct):
    embeddings: list[_Entry] | None = None


_embeddings = msgspec.json.Decoder(_Embeddings)


def _embed_reply(ask: Ask, reply: Reply) -> Result:
    entries = decode(_embeddings, reply.body).embeddings
    if entries is None:
        raise _missing("embeddings")
    vectors = []
    for entry in entries:
        if entry.values is None:
            raise _missing("values")
        vectors.append(entry.values)
    return Embeddings(vectors=stack(vectors))


def _missing(field: str) -> BadReply:
    return missing(field, f"{_TITLE} embeddings")


def _completion_body(ask: Ask) -> dict[str, Any]:
    return {
        "contents": [{"parts": [{"text": text}], "role": "user"} for text in texts(ask)],
        "generationConfig": {"candidateCount": 1},
    }


def _group(endpoint: Endpoint) -> tuple[Any, ...]:
    return (endpoint.settings["model_id"],)


SERVICE = Service(
    name="googleaistudio",
    title=_TITLE,
    settings=(
        API_KEY,
        Setting(key="model_id", label="Model ID", description="ID of the LLM you're using.", required=True),
        MAX_INPUT_TOKENS,
        DIMENSIONS,
        SIMILARITY,
        rate_limit(360),
    ),
    auth=query_key("key"),
    fault=at("error", "message"),
    rules=GOOGLE_AI_STUDIO_RULES,
    similarity="dot_product",
    input_types=frozenset(InputType),
    group=_group,
    embedding_batch=100,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_embed_url, body=_embed_body, reply=_embed_reply, max_inputs=100, verb="embeddings"
        ),
        TaskType.COMPLETION: Call(
            post=_generate_url,
            body=_completion_body,
            reply=google.first_text(_TITLE),
            chunks=google.text_chunks,
            one_input="Google AI Studio completion",
            verb="completion",
        ),
    },
)
