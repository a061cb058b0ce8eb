"""Amazon SageMaker. https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html

Contract: services/amazon_sagemaker.md. Beyond Elasticsearch: without ``access_key`` and ``secret_key`` the credentials of the place
where inferd runs are used, and an event of OpenAI's format that is cut across two parts of a stream is put together.
"""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType
from inferd.core.results import (
    Choice,
    Chunk,
    Completion,
    Delta,
    ElementType,
    Embeddings,
    Ranked,
    Ranking,
    Result,
    Sparse,
)
from inferd.core.service import Ask, BadReply, Call, Event, Fault, Framing, Reply, Rule, Service
from inferd.core.settings import DIMENSIONS, SIMILARITY, Draft, Kind, Setting, refuse_leftovers
from inferd.core.tasks import TaskType
from inferd.errors import StatusError, UpstreamError, status_name
from inferd.upstream.aws import KEY_SETTINGS, check_changed_keys, check_keys, endpoint_url, sigv4
from inferd.upstream.faults import STATUS_NAME, chat_fault, stream_failure
from inferd.upstream.sse import MAX_EVENT
from inferd.wire import openai
from inferd.wire.replies import decode, float32, integers, sparse
from inferd.wire.texts import documents, input_type, query, return_documents, texts, top_n

_NAME = "sagemaker"
"""What the service calls itself in messages."""
_OPENAI = "openai"
_DENSE = frozenset({TaskType.TEXT_EMBEDDING})
_ALL = (
    TaskType.TEXT_EMBEDDING,
    TaskType.SPARSE_EMBEDDING,
    TaskType.RERANK,
    TaskType.COMPLETION,
    TaskType.CHAT_COMPLETION,
)
_TASKS = {
    _OPENAI: (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
    "elastic": _ALL,
}
_EXTRAS = "other task settings"
"""Where a request's own task settings are kept for the elastic API (``Call.passes_options``)."""

# The request


def _url(ask: Ask) -> str:
    name = quote(ask.settings["endpoint_name"], safe="")
    action = "invocations-response-stream" if ask.stream else "invocations"
    return f"{endpoint_url('runtime.sagemaker', ask.settings['region'])}/endpoints/{name}/{action}"


_HEADERS = {
    "Target-Model": "target_model",
    "Target-Container-Hostname": "target_container_hostname",
    "Inference-Component": "inference_component_name",
    "Custom-Attributes": "custom_attributes",
    "Enable-Explanations": "enable_explanations",
    "Inference-Id": "inference_id",
    "Session-Id": "session_id",
    "Target-Variant": "target_variant",
}
_NOT_STREAMED = frozenset({"Target-Model", "Enable-Explanations"})


def _headers(ask: Ask) -> dict[str, str]:
    headers = {"X-Amzn-SageMaker-Accept" if ask.stream else "Accept": "application/json"}
    for name, key in _HEADERS.items():
        value = ask.options.get(key, ask.settings.get(key))
        if value is None or (ask.stream and name in _NOT_STREAMED):
            continue
        if not (value.isascii() and value.isprintable()):
            raise StatusError(500, f"Failed to create SageMaker request for [{ask.endpoint.id}]")
        headers[f"X-Amzn-SageMaker-{name}"] = value
    return headers


def _one_or_many(inputs: list[str]) -> str | list[str]:
    return inputs[0] if len(inputs) == 1 else inputs


def _openai_embed_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": _one_or_many(texts(ask))}
    if ask.options.get("user") is not None:
        body["user"] = ask.options["user"]
    if ask.settings.get("dimensions") is not None:
        body["dimensions"] = ask.settings["dimensions"]
    return body


def _add_user(ask: Ask, body: dict[str, Any]) -> None:
    if ask.options.get("user") is not None:
        body["user"] = ask.options["user"]


_openai_chat_body = openai.chat_body(model=False, extra=_add_user)
_elastic_chat_body = openai.chat_body()

_INPUT_TYPES = {
    InputType.INGEST: "ingest",
    InputType.INTERNAL_INGEST: "ingest",
    InputType.SEARCH: "search",
    InputType.INTERNAL_SEARCH: "search",
    InputType.CLASSIFICATION: "classification",
    InputType.CLUSTERING: "clustering",
}


def _elastic_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": _one_or_many(texts(ask))}
    asked = _INPUT_TYPES.get(InputType(input_type(ask) or "unspecified"))
    if asked is not None:
        body["input_type"] = asked
    return {**body, **_extras(ask)}


def _elastic_rerank_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": _one_or_many(documents(ask)), "query": query(ask)}
    if return_documents(ask) is not None:
        body["return_documents"] = return_documents(ask)
    if top_n(ask) is not None:
        body["top_n"] = top_n(ask)
    return {**body, **_extras(ask)}


def _extras(ask: Ask) -> dict[str, Any]:
    """What only this request's ``task_settings`` hold; ``user`` means nothing to us here either."""
    extras = dict(ask.options.get(_EXTRAS, {}))
    if ask.options.get("user") is not None:
        extras["user"] = ask.options["user"]
    return {"task_settings": extras} if extras else {}


# The answer


class _Vector(Struct, forbid_unknown_fields=True):
    embedding: list[float]


class _Bytes(Struct, forbid_unknown_fields=True):
    embedding: list[int]


class _Floats(Struct, forbid_unknown_fields=True):
    text_embedding: list[_Vector]


class _ByteVectors(Struct, forbid_unknown_fields=True):
    text_embedding_bytes: list[_Bytes]


class _BitVectors(Struct, forbid_unknown_fields=True):
    text_embedding_bits: list[_Bytes]


class _Weights(Struct, forbid_unknown_fields=True):
    is_truncated: bool
    embedding: dict[str, float]


class _SparseReply(Struct, forbid_unknown_fields=True):
    sparse_embedding: list[_Weights]


class _Score(Struct, forbid_unknown_fields=True):
    index: int
    relevance_score: float
    text: str | None = None


class _RankReply(Struct, forbid_unknown_fields=True):
    rerank: list[_Score]


class _Text(Struct, forbid_unknown_fields=True):
    result: str


class _CompletionReply(Struct, forbid_unknown_fields=True):
    completion: list[_Text]


_floats = msgspec.json.Decoder(_Floats)
_byte_vectors = msgspec.json.Decoder(_ByteVectors)
_bit_vectors = msgspec.json.Decoder(_BitVectors)
_sparse_reply = msgspec.json.Decoder(_SparseReply)
_rank_reply = msgspec.json.Decoder(_RankReply)
_completion_reply = msgspec.json.Decoder(_CompletionReply)


def _elastic_embeddings(ask: Ask, reply: Reply) -> Embeddings:
    element = ElementType(ask.settings["element_type"])
    if element is ElementType.FLOAT:
        rows = [entry.embedding for entry in decode(_floats, reply.body).text_embedding]
        return Embeddings(vectors=openai.stack(rows))
    if element is ElementType.BYTE:
        entries = decode(_byte_vectors, reply.body).text_embedding_bytes
    else:
        entries = decode(_bit_vectors, reply.body).text_embedding_bits
    return Embeddings(vectors=integers([entry.embedding for entry in entries]), element=element)


def _elastic_sparse(ask: Ask, reply: Reply) -> Sparse:
    entries = decode(_sparse_reply, reply.body).sparse_embedding
    vectors = (replace(sparse(e.embedding.items()), is_truncated=e.is_truncated) for e in entries)
    return Sparse(vectors=tuple(vectors))


def _elastic_ranking(ask: Ask, reply: Reply) -> Ranking:
    entries = decode(_rank_reply, reply.body).rerank
    return Ranking(items=tuple(Ranked(e.index, float32(e.relevance_score), e.text) for e in entries))


def _elastic_completion(ask: Ask, reply: Reply) -> Completion:
    return Completion(texts=tuple(entry.result for entry in decode(_completion_reply, reply.body).completion))


def _translated(read: Callable[[Ask, Reply], Result]) -> Callable[[Ask, Reply], Result]:
    """The answer with the headers that go on to the caller; one that cannot be read is not asked for again."""

    def translate(ask: Ask, reply: Reply) -> Result:
        try:
            result = read(ask, reply)
        except (BadReply, msgspec.DecodeError, UnicodeError, RecursionError) as bad:
            reason = f"Failed to translate SageMaker response for [{ask.endpoint.id}]"
            raise UpstreamError(500, reason) from bad
        return replace(result, headers=_passed_on(reply))

    return translate


_PASSED_ON = ("custom-attributes", "new-session-id", "closed-session-id")


def _passed_on(reply: Reply) -> tuple[tuple[str, str], ...]:
    found = ((name, reply.headers.get(f"x-amzn-sagemaker-{name}")) for name in _PASSED_ON)
    return tuple(
        (f"X-elastic-sagemaker-{name}", value)
        for name, value in found
        if value is not None and value.isascii() and value.isprintable()
    )


# Streams


def _part(ask: Ask, event: Event) -> bytes | None:
    """The bytes of one part of a stream; failures are raised, events of another kind are None."""
    if event.failed:
        kind = "ModelError" if event.name == "ModelStreamError" else "InternalFailure"
        status, text = _ERRORS[kind]
        raise UpstreamError(status, text.format(id=ask.endpoint.id), kind="error", code=status_name(status))
    return event.data.encode("utf-8", "surrogateescape") if event.name == "PayloadPart" else None


class _SseReader:
    """Server-sent events inside the parts. A last line without an end counts when it is a whole event by itself."""

    def __init__(self, ask: Ask, read: Callable[[Event], Iterable[Chunk]]) -> None:
        self._ask = ask
        self._read = read
        self._rest = b""
        self._name = b""

    def __call__(self, event: Event) -> Iterable[Chunk]:
        part = _part(self._ask, event)
        if part is None:
            return
        *lines, rest = (self._rest + part).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))
        if _is_whole(rest):
            yield from self._line(rest)
            rest = b""
        if len(rest) > MAX_EVENT:
            raise BadReply(f"A line of the stream is longer than [{MAX_EVENT}] bytes")
        self._rest = rest

    def _line(self, line: bytes) -> Iterable[Chunk]:
        name, _, value = line.partition(b":")
        value = value.strip()
        if name == b"event":
            self._name = value
        elif not line:
            self._name = b""
        elif name == b"data" and self._name == b"error":
            raise stream_failure(self._ask.endpoint, chat_fault(value))
        elif name == b"data" and value.upper() != b"[DONE]":
            return self._read(Event(data=value.decode("utf-8", "replace")))
        return ()


def _is_whole(line: bytes) -> bool:
    name, _, value = line.partition(b":")
    if name != b"data":
        return False
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value.strip().upper() == b"[DONE]"
    return True


def _openai_texts(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    return _SseReader(ask, openai.lenient_chunks(ask))


def _openai_chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    return _SseReader(ask, openai.chunks(ask))


class _Piece(Struct, forbid_unknown_fields=True):
    delta: str


class _Pieces(Struct, forbid_unknown_fields=True):
    completion: list[_Piece] | _Piece


_pieces = msgspec.json.Decoder(_Pieces)


def _elastic_texts(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Each part is a document."""

    def read(event: Event) -> Iterable[Chunk]:
        part = _part(ask, event)
        if part is None:
            return ()
        told = decode(_pieces, part).completion
        pieces = told if isinstance(told, list) else [told]
        return (Chunk(id="", choices=tuple(Choice(delta=Delta(content=piece.delta)) for piece in pieces)),)

    return read


def _elastic_chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Each part is a chunk."""
    read = openai.chunks(ask)

    def read_part(event: Event) -> Iterable[Chunk]:
        part = _part(ask, event)
        return () if part is None else read(Event(data=part.decode("utf-8", "replace")))

    return read_part


# Errors

_ERRORS = {
    "InternalDependencyException": (500, "Received an internal dependency error from SageMaker for [{id}]"),
    "InternalFailure": (500, "Received an internal failure from SageMaker for [{id}]"),
    "ModelError": (424, "Received a model error from SageMaker for [{id}]"),
    "ModelNotReadyException": (429, "Received a model not ready error from SageMaker for [{id}]"),
    "ServiceUnavailable": (503, "SageMaker is unavailable for [{id}]"),
    "ValidationError": (400, "Received a validation error from SageMaker for [{id}]"),
    "AccessDeniedException": (
        400,
        "Access and Secret key stored in [{id}] do not have sufficient permissions.",
    ),
    "NotAuthorized": (400, "Access and Secret key stored in [{id}] do not have sufficient permissions."),
    "IncompleteSignature": (500, "The request signature does not conform to AWS standards [{id}]"),
    "InvalidAction": (400, "The requested action is not valid for [{id}]"),
    "InvalidClientTokenId": (403, "Access key stored in [{id}] does not exist in AWS"),
    "OptInRequired": (403, "Access key stored in [{id}] needs a subscription for the service"),
    "RequestExpired": (
        400,
        "The request reached SageMaker more than 15 minutes after the date stamp on the request for [{id}]",
    ),
    "ThrottlingException": (400, "SageMaker denied the request for [{id}] due to request throttling"),
}
_OTHER = (500, "Received an error from SageMaker for [{id}]")
_BY_STATUS = {
    400: "ValidationError",
    424: "ModelError",
    429: "ModelNotReadyException",
    500: "InternalFailure",
    503: "ServiceUnavailable",
    530: "InternalDependencyException",
}
"""Where an answer does not name its error."""


def _rules(reply: Reply, fault: Fault) -> Rule:
    named = reply.headers.get("x-amzn-errortype", "").partition(":")[0].rpartition("#")[2]
    kind = named or _BY_STATUS.get(reply.status, "")
    status, text = _ERRORS.get(kind, _OTHER)
    return Rule(
        "",
        retry=reply.status == 429 or reply.status >= 500 or kind == "ThrottlingException",
        status=status,
        text=lambda reply, fault, id, url: text.format(id=id),
    )


def _fault(body: bytes) -> Fault:
    """The provider's words are not passed on (contract)."""
    return Fault()


def _chat_fault(body: bytes) -> Fault:
    return Fault(kind="error", code=STATUS_NAME)


def _timed_out(id: str, timeout: str) -> Exception:
    return StatusError(408, f"Request timed out after [{timeout}]")


def _not_streamed(endpoint: Endpoint) -> str:
    api = endpoint.settings["api"]
    return (
        f"Streaming is not allowed for service [{_NAME}], api [{api}], and task [{endpoint.task}]. "
        "Supported streaming tasks: [[completion, chat_completion]]"
    )


# Settings


def _check(draft: Draft) -> None:
    check_keys(draft)
    draft.check()
    api = draft.settings["api"]
    supported = _TASKS.get(api, ())
    if draft.task not in supported:
        raise StatusError(
            405,
            f"Task [{api}] is not compatible for service [{_NAME}] and api [{draft.task}]. "
            f"Supported tasks: [[{', '.join(supported)}]]",
        )
    if api == _OPENAI:
        own = ("similarity", "element_type")
        refuse_leftovers(
            draft.service, {k: draft.settings[k] for k in own if k in draft.settings and k in draft.given}
        )
        return
    if draft.task in _DENSE and "element_type" not in draft.settings:
        draft.fault("[service_settings] does not contain the required setting [element_type]")
    if "user" in draft.task_settings:
        draft.fault(_NOT_STORED)


def _check_update(draft: Draft, stored: Endpoint) -> None:
    check_changed_keys(draft)
    _check(draft)


_NOT_STORED = "task_settings is only supported during the inference request and cannot be stored in the inference endpoint."


def _unread_options(draft: Draft, unread: dict[str, Any]) -> None:
    """The elastic API takes any task setting with a request, and none before."""
    if draft.settings.get("api") in _TASKS and draft.settings["api"] != _OPENAI:
        draft.fault(_NOT_STORED)
        unread.clear()


def _shows(endpoint: Endpoint) -> dict[str, Any]:
    keys = [
        "endpoint_name",
        "region",
        "api",
        "target_model",
        "target_container_hostname",
        "inference_component_name",
        "batch_size",
        "dimensions",
    ]
    settings = endpoint.settings
    shown = {key: settings[key] for key in keys if key in settings}
    if endpoint.task in _DENSE and settings["api"] != _OPENAI:
        shown["dimensions_set_by_user"] = bool(endpoint.hidden.get("dimensions_set_by_user"))
        shown |= {key: settings[key] for key in ("similarity", "element_type") if key in settings}
    return shown


def _similarity(endpoint: Endpoint) -> str | None:
    return "dot_product" if endpoint.settings["api"] == _OPENAI else None


def _batch(endpoint: Endpoint) -> int:
    return int(endpoint.settings.get("batch_size", 256))


_PASSED = (
    Setting(
        key="custom_attributes",
        label="Custom Attributes",
        description="An opaque informational value forwarded as-is to the model within SageMaker.",
    ),
    Setting(
        key="enable_explanations",
        label="Enable Explanations",
        description="JMESPath expression overriding the ClarifyingExplainerConfig in the SageMaker Endpoint Configuration.",
    ),
    Setting(
        key="inference_id",
        label="Inference ID",
        description="Informational identifying for auditing requests within the SageMaker Endpoint.",
    ),
    Setting(
        key="session_id",
        label="Session ID",
        description="Creates or reuses an existing Session for SageMaker stateful models.",
    ),
    Setting(
        key="target_variant",
        label="Target Variant",
        description="The production variant when calling the SageMaker Endpoint",
    ),
)
_USER = Setting(key="user", label="User")


def _call(task: TaskType, openai_form: Call | None, elastic_form: Call) -> Call:
    """One task; the endpoint's ``api`` chooses the form."""
    common: dict[str, Any] = {
        "post": _url,
        "headers": _headers,
        "framing": Framing.AWS,
        "reads_errors": True,
        "options": (*_PASSED, _USER),
        "unread_options": _unread_options,
        "fault": _chat_fault if task is TaskType.CHAT_COMPLETION else _fault,
    }
    spoken = replace(openai_form, **common) if openai_form is not None else None
    elastic = replace(elastic_form, **common, passes_options=_EXTRAS)

    def variant(endpoint: Endpoint) -> Call:
        return spoken if spoken is not None and endpoint.settings["api"] == _OPENAI else elastic

    return replace(elastic, variant=variant)


SERVICE = Service(
    name="amazon_sagemaker",
    title="Amazon SageMaker",
    aliases=("sagemaker", "amazonsagemaker"),
    settings=(
        *KEY_SETTINGS,
        Setting(
            key="endpoint_name",
            label="Endpoint Name",
            description="The name specified when creating the SageMaker Endpoint.",
            required=True,
        ),
        Setting(
            key="region",
            label="Region",
            description="The AWS region that your model or ARN is deployed in.",
            required=True,
        ),
        Setting(
            key="api",
            label="API",
            description="The API format that your SageMaker Endpoint expects.",
            required=True,
        ),
        Setting(
            key="target_model",
            label="Target Model",
            description="The model to request when calling a SageMaker multi-model Endpoint.",
        ),
        Setting(
            key="target_container_hostname",
            label="Target Container Hostname",
            description="The hostname of the container when calling a SageMaker multi-container Endpoint.",
        ),
        Setting(key="inference_component_name", label="Inference Component Name", listed=False),
        Setting(
            key="batch_size",
            kind=Kind.INTEGER,
            positive=True,
            label="Batch Size",
            description="The maximum size a single chunk of input can be when chunking input for semantic text.",
        ),
        replace(DIMENSIONS, tasks=_DENSE),
        replace(SIMILARITY, tasks=_DENSE),
        Setting(key="element_type", choices=("byte", "float", "bit"), tasks=_DENSE, listed=False),
        # Listed beside the service settings, read from the task settings alone.
        *(replace(row, tasks=frozenset(), listed_tasks=_ALL) for row in _PASSED),
    ),
    auth=sigv4("sagemaker"),
    rules=_rules,
    check=_check,
    checked_update=_check_update,
    similarity=_similarity,
    input_types=frozenset(InputType),
    shows=_shows,
    embedding_batch=_batch,
    failed="Failed to call SageMaker for inference id [{id}].",
    timed_out=_timed_out,
    not_streamed=_not_streamed,
    tasks=_ALL,
    calls={
        TaskType.TEXT_EMBEDDING: _call(
            TaskType.TEXT_EMBEDDING,
            Call(body=_openai_embed_body, reply=_translated(openai.embeddings)),
            Call(body=_elastic_body, reply=_translated(_elastic_embeddings)),
        ),
        TaskType.SPARSE_EMBEDDING: _call(
            TaskType.SPARSE_EMBEDDING, None, Call(body=_elastic_body, reply=_translated(_elastic_sparse))
        ),
        TaskType.RERANK: _call(
            TaskType.RERANK, None, Call(body=_elastic_rerank_body, reply=_translated(_elastic_ranking))
        ),
        TaskType.COMPLETION: _call(
            TaskType.COMPLETION,
            Call(body=_openai_chat_body, reply=_translated(openai.completion()), chunks=_openai_texts),
            Call(body=_elastic_body, reply=_translated(_elastic_completion), chunks=_elastic_texts),
        ),
        TaskType.CHAT_COMPLETION: _call(
            TaskType.CHAT_COMPLETION,
            Call(body=_openai_chat_body, chunks=_openai_chunks),
            Call(body=_elastic_chat_body, chunks=_elastic_chunks),
        ),
    },
)
