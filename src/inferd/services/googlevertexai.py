"""Google Vertex AI, and other vendors' models in its Model Garden.

https://cloud.google.com/vertex-ai/docs/reference/rest (contract: services/googlevertexai.md)
"""

from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat, InputType, ToolChoice
from inferd.core.results import Embeddings, Ranked, Ranking, Result, Usage
from inferd.core.service import Ask, BadReply, Call, Reply, Service
from inferd.core.settings import (
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    SIMILARITY,
    TOP_N,
    Draft,
    Kind,
    Setting,
    rate_limit,
)
from inferd.core.tasks import CHATS, TaskType
from inferd.errors import StatusError
from inferd.upstream.auth import google_service_account
from inferd.upstream.faults import (
    ANTHROPIC_RULES,
    GOOGLE_VERTEX_AI_RULES,
    OPENAI_RULES,
    at,
    chat_fault,
    openai_fault,
    typed,
    whole,
)
from inferd.wire import anthropic, google, hugging_face, openai
from inferd.wire.replies import decode, float32, missing
from inferd.wire.texts import documents, input_type, query, return_documents, texts, top_n

_TITLE = "Google Vertex AI"
_EMBED = frozenset({TaskType.TEXT_EMBEDDING})
_BATCH = 250
_GOOGLE = "GOOGLE"

# Addresses


def _model_url(ask: Ask, model: str, verb: str) -> str:
    """Without a location: the global endpoint."""
    place = quote(ask.settings.get("location", "global"), safe="")
    host = f"{place}-aiplatform.googleapis.com" if "location" in ask.settings else "aiplatform.googleapis.com"
    project = quote(ask.settings["project_id"], safe="")
    return (
        f"https://{host}/v1/projects/{project}/locations/{place}"
        f"/publishers/google/models/{quote(model, safe='')}:{verb}"
    )


def _embed_url(ask: Ask) -> str:
    return _model_url(ask, ask.settings["model_id"], "predict")


def _generate_url(ask: Ask) -> str:
    asked = ask.inputs.model if isinstance(ask.inputs, Chat) else None
    verb = "streamGenerateContent?alt=sse" if ask.stream else "generateContent"
    return _model_url(ask, asked or ask.settings["model_id"], verb)


def _rank_url(ask: Ask) -> str:
    project = quote(ask.settings["project_id"], safe="")
    return (
        f"https://discoveryengine.googleapis.com/v1/projects/{project}"
        "/locations/global/rankingConfigs/default_ranking_config:rank"
    )


def _garden_url(ask: Ask) -> str:
    """Each of the two addresses stands in for the other."""
    url, streaming = ask.settings.get("url"), ask.settings.get("streaming_url")
    return str((streaming or url) if ask.stream else (url or streaming))


# Embeddings

_TASK_TYPES = {
    "ingest": "RETRIEVAL_DOCUMENT",
    "internal_ingest": "RETRIEVAL_DOCUMENT",
    "search": "RETRIEVAL_QUERY",
    "internal_search": "RETRIEVAL_QUERY",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}


def _embed_body(ask: Ask) -> dict[str, Any]:
    asked = input_type(ask) or ask.options.get("input_type")
    more = {"task_type": _TASK_TYPES[asked]} if asked is not None else {}
    parameters: dict[str, Any] = {}
    if ask.options.get("auto_truncate") is not None:
        parameters["autoTruncate"] = ask.options["auto_truncate"]
    if ask.endpoint.hidden.get("dimensions_set_by_user"):
        parameters["outputDimensionality"] = ask.settings["dimensions"]
    return {"instances": [{"content": text, **more} for text in texts(ask)], "parameters": parameters}


class _Statistics(Struct):
    token_count: float | None = None
    truncated: bool = False


class _Values(Struct):
    values: list[float] | None = None
    statistics: _Statistics | None = None


class _Prediction(Struct):
    embeddings: _Values | None = None


class _Predictions(Struct):
    predictions: list[_Prediction] | None = None


_predictions = msgspec.json.Decoder(_Predictions)


def _embed_reply(ask: Ask, reply: Reply) -> Result:
    predictions = decode(_predictions, reply.body).predictions
    if predictions is None:
        raise _missing("predictions")
    vectors, counts, truncated = [], [], []
    for place, prediction in enumerate(predictions):
        if prediction.embeddings is None:
            raise _missing("embeddings")
        if prediction.embeddings.values is None:
            raise _missing("values")
        vectors.append(prediction.embeddings.values)
        statistics = prediction.embeddings.statistics or _Statistics()
        counts.append(statistics.token_count)
        if statistics.truncated:
            truncated.append(place)
    return Embeddings(vectors=openai.stack(vectors), usage=_usage(counts), truncated=tuple(truncated))


def _usage(counts: list[float | None]) -> Usage | None:
    known = [int(count) for count in counts if count is not None]
    return Usage(given=sum(known), used=sum(known)) if known else None


def _missing(field: str, what: str = "embeddings") -> BadReply:
    return missing(field, f"{_TITLE} {what}")


# Rerank


def _rank_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {
        "query": query(ask),
        "records": [{"id": str(n), "content": text} for n, text in enumerate(documents(ask))],
    }
    if ask.settings.get("model_id") is not None:
        body["model"] = ask.settings["model_id"]
    if top_n(ask) is not None:
        body["topN"] = top_n(ask)
    wanted = return_documents(ask)
    if wanted is not None:
        body["ignoreRecordDetailsInResponse"] = not wanted
    return body


class _Record(Struct):
    id: str | None = None
    score: float | None = None
    content: str | None = None


class _Records(Struct):
    records: list[_Record] | None = None


_records = msgspec.json.Decoder(_Records)


def _ranking(ask: Ask, reply: Reply) -> Result:
    records = decode(_records, reply.body).records
    if records is None:
        raise _missing("records", "rerank")
    return Ranking(items=tuple(_ranked(record) for record in records))


def _ranked(record: _Record) -> Ranked:
    if record.id is None:
        raise _missing("id", "rerank")
    if record.score is None:
        raise _missing("score", "rerank")
    if not (record.id.isascii() and record.id.isdigit() and len(record.id) < 10):
        raise BadReply(f"Failed to parse the response: [id] is not a number but [{record.id}]")
    return Ranked(index=int(record.id), score=float32(record.score), text=record.content)


# Model Garden


def _anthropic_body(ask: Ask) -> dict[str, Any]:
    chat = openai.as_chat(ask)
    limit = chat.max_completion_tokens or ask.options.get("max_tokens") or 1024
    members = {
        "anthropic_version": "vertex-2023-10-16",
        "system": anthropic.system(chat),
        "messages": anthropic.messages(chat),
        "temperature": chat.temperature,
        "tool_choice": _anthropic_tool_choice(chat),
        "tools": [anthropic.tool(tool) for tool in chat.tools or ()] or None,
        "top_p": chat.top_p,
        "thinking": anthropic.thinking(chat.reasoning, limit),
        "stream": ask.stream,
        "max_tokens": limit,
    }
    return {key: value for key, value in members.items() if value is not None}


def _anthropic_tool_choice(chat: Chat) -> dict[str, Any] | None:
    """The type as given; but one that names a function needs the name too, and ``function`` is not a type of this vendor."""
    choice = chat.tool_choice
    if choice is None:
        return None
    if not isinstance(choice, ToolChoice):
        raise StatusError(
            400,
            "Tool choice value is not supported as string by Google Model Garden Anthropic Chat Completion.",
        )
    if choice.type in ("function", "tool"):
        return {"type": "tool", "name": choice.name}
    return {"type": choice.type}


_FEW = openai.chat_body(tokens_field="max_tokens", usage=False)
_MANY = openai.chat_body(tokens_field="max_tokens")

_SPEAKERS = {
    "META": ("Meta", _FEW, typed("llama_error", whole)),
    "HUGGING_FACE": ("Hugging Face", _MANY, hugging_face.chat_fault),
    "MISTRAL": ("Mistral", _FEW, typed("mistral_error", whole)),
    "AI21": ("AI21", _MANY, typed("ai21_error", openai_fault)),
}
"""Providers whose models speak OpenAI's format: name, body, error reader."""


def _garden(call: Call, provider: str, chat: bool) -> Call:
    """This call as the provider's models take it."""
    if provider == "ANTHROPIC":
        return replace(
            call,
            post=_garden_url,
            body=_anthropic_body,
            reply=anthropic.answer
            if chat
            else anthropic.completion("Google Model Garden Anthropic completion"),
            chunks=anthropic.chunks if chat else anthropic.text_chunks,
            reads_errors=not chat,
            rules=ANTHROPIC_RULES,
            fault=chat_fault if chat else at("error", "message"),
        )
    name, body, fault = _SPEAKERS[provider]
    return replace(
        call,
        post=_garden_url,
        body=body,
        reply=openai.answer if chat else openai.completion(f"Google Model Garden {name} completion"),
        chunks=openai.chunks if chat else openai.lenient_chunks,
        rules=OPENAI_RULES,
        fault=fault,
    )


# Settings


def _check(draft: Draft) -> None:
    """A Google model needs a project and its name, a model of Model Garden a provider and an address."""
    if draft.task not in CHATS or draft.faults:
        return
    settings = draft.settings
    has_url = "url" in settings or "streaming_url" in settings
    if settings["provider"] != _GOOGLE and has_url:
        return
    if (
        settings["provider"] == _GOOGLE
        and not has_url
        and "project_id" in settings
        and "model_id" in settings
    ):
        return
    location, project, model = (settings.get(key, "null") for key in ("location", "project_id", "model_id"))
    draft.fault(
        "For Google Model Garden, you must provide either provider with url and/or streaming_url. "
        "For Google Vertex AI models, you must provide location, project_id, and model. "
        "provider, url and streaming url were not provided. "
        f"Provided values: location={location}, project_id={project}, model={model}."
    )


def _group(endpoint: Endpoint) -> tuple[Any, ...]:
    settings = endpoint.settings
    if endpoint.task is TaskType.RERANK:
        return (settings["project_id"],)
    keys = ("project_id", "location", "model_id", "provider", "url", "streaming_url")
    return tuple(settings.get(key) for key in keys)


def _batch(endpoint: Endpoint) -> int:
    return int(endpoint.settings.get("max_batch_size", _BATCH))


_OPTIONS = (
    Setting(key="thinking_config.thinking_budget", kind=Kind.INTEGER, label="Thinking Budget"),
    Setting(key="max_tokens", kind=Kind.INTEGER, positive=True, label="Max Tokens"),
)

_COMPLETION = Call(
    post=_generate_url,
    body=google.body,
    reply=google.completion(_TITLE),
    chunks=google.text_chunks,
    options=_OPTIONS,
)
_CHAT_COMPLETION = replace(_COMPLETION, reply=google.answer, chunks=google.chunks, fault=google.chat_fault)


def _completion(endpoint: Endpoint) -> Call:
    provider = endpoint.settings["provider"]
    return _COMPLETION if provider == _GOOGLE else _garden(_COMPLETION, provider, chat=False)


def _chat_completion(endpoint: Endpoint) -> Call:
    provider = endpoint.settings["provider"]
    return _CHAT_COMPLETION if provider == _GOOGLE else _garden(_CHAT_COMPLETION, provider, chat=True)


SERVICE = Service(
    name="googlevertexai",
    title=_TITLE,
    settings=(
        Setting(
            key="service_account_json",
            label="Credentials JSON",
            description="API Key for the provider you're connecting to.",
            secret=True,
            required=True,
            updatable=True,
        ),
        Setting(
            key="project_id",
            label="GCP Project",
            description="The GCP Project ID which has Vertex AI API(s) enabled. "
            "For more information on the URL, refer to the {geminiVertexAIDocs}.",
            required=frozenset({TaskType.TEXT_EMBEDDING, TaskType.RERANK}),
            listed_required=True,
        ),
        Setting(
            key="location",
            label="GCP Region",
            description="Please provide the GCP region where the Vertex AI API(s) is enabled. "
            "For more information, refer to the {geminiVertexAIDocs}.",
            tasks=_EMBED | CHATS,
        ),
        Setting(
            key="model_id",
            label="Model ID",
            description="ID of the LLM you're using.",
            required=_EMBED,
            listed_required=True,
            listed_tasks=(TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
        ),
        Setting(
            key="provider",
            label="Model Garden Provider",
            description="google, anthropic, meta, hugging_face, mistral, ai21.",
            choices=("google", "anthropic", "meta", "hugging_face", "mistral", "ai21"),
            upper=True,  # case not confirmed
            default=_GOOGLE,
            tasks=CHATS,
        ),
        Setting(key="url", label="URL", description="Model Garden non-streaming URL.", url=True, tasks=CHATS),
        Setting(
            key="streaming_url",
            label="Streaming URL",
            description="Model Garden streaming URL.",
            url=True,
            tasks=CHATS,
        ),
        DIMENSIONS,
        Setting(
            key="dimensions_set_by_user",
            kind=Kind.BOOLEAN,
            tasks=_EMBED,
            refused=True,
            shown=False,
            listed=False,
        ),
        SIMILARITY,
        MAX_INPUT_TOKENS,
        Setting(
            key="max_batch_size",
            kind=Kind.INTEGER,
            positive=True,
            maximum=_BATCH,
            label="Max Batch Size",
            tasks=_EMBED,
            updatable=True,
            listed=False,
        ),
        rate_limit(
            {
                TaskType.TEXT_EMBEDDING: 30000,
                TaskType.RERANK: 300,
                TaskType.COMPLETION: 1000,
                TaskType.CHAT_COMPLETION: 1000,
            }
        ),
    ),
    auth=google_service_account,
    fault=at("error", "message"),
    rules=GOOGLE_VERTEX_AI_RULES,
    check=_check,
    similarity="dot_product",
    input_types=frozenset(InputType) - {InputType.UNSPECIFIED},
    group=_group,
    embedding_batch=_batch,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_embed_url,
            body=_embed_body,
            reply=_embed_reply,
            options=(
                Setting(key="auto_truncate", kind=Kind.BOOLEAN, label="Auto Truncate"),
                Setting(
                    key="input_type",
                    choices=("classification", "clustering", "ingest", "search"),
                    label="Input Type",
                ),
            ),
            max_inputs=lambda ask: _batch(ask.endpoint),
        ),
        TaskType.RERANK: Call(post=_rank_url, body=_rank_body, reply=_ranking, options=(TOP_N,)),
        TaskType.COMPLETION: replace(_COMPLETION, variant=_completion),
        TaskType.CHAT_COMPLETION: replace(_CHAT_COMPLETION, variant=_chat_completion),
    },
)
