"""What models behind Amazon SageMaker are asked and answer: OpenAI's format, or Elasticsearch's own.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html (contract: services/amazon_sagemaker.md).
Beyond it: an event of OpenAI's format that is cut across two parts of a stream is put together.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

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
from inferd.core.service import Ask, BadReply, Event, Reply
from inferd.errors import UpstreamError, status_name
from inferd.upstream.faults import chat_fault, stream_failure
from inferd.upstream.sse import MAX_EVENT
from inferd.wire import openai
from inferd.wire.replies import decode, float32, integers, sparse
from inferd.wire.texts import documents, input_type, query, return_documents, texts, top_n

EXTRAS = "other task settings"
"""Where a request's own task settings are kept for the elastic API (``Call.passes_options``)."""

# The request


def _one_or_many(inputs: list[str]) -> str | list[str]:
    return inputs[0] if len(inputs) == 1 else inputs


def openai_embed_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": _one_or_many(texts(ask))}
    if ask.options.get("user") is not None:
        body["user"] = ask.options["user"]
    if ask.settings.get("dimensions") is not None:
        body["dimensions"] = ask.settings["dimensions"]
    return body


def _add_user(ask: Ask, body: dict[str, Any]) -> None:
    if ask.options.get("user") is not None:
        body["user"] = ask.options["user"]


openai_chat_body = openai.chat_body(model=False, extra=_add_user)
elastic_chat_body = openai.chat_body()

_INPUT_TYPES = {
    InputType.INGEST: "ingest",
    InputType.INTERNAL_INGEST: "ingest",
    InputType.SEARCH: "search",
    InputType.INTERNAL_SEARCH: "search",
    InputType.CLASSIFICATION: "classification",
    InputType.CLUSTERING: "clustering",
}


def elastic_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": _one_or_many(texts(ask))}
    asked = _INPUT_TYPES.get(InputType(input_type(ask) or "unspecified"))
    if asked is not None:
        body["input_type"] = asked
    return {**body, **_extras(ask)}


def elastic_rerank_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": _one_or_many(documents(ask)), "query": query(ask)}
    if return_documents(ask) is not None:
        body["return_documents"] = return_documents(ask)
    if top_n(ask) is not None:
        body["top_n"] = top_n(ask)
    return {**body, **_extras(ask)}


def _extras(ask: Ask) -> dict[str, Any]:
    """What only this request's ``task_settings`` hold; ``user`` means nothing to us here either."""
    extras = dict(ask.options.get(EXTRAS, {}))
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


def elastic_embeddings(ask: Ask, reply: Reply) -> Embeddings:
    element = ElementType(ask.settings["element_type"])
    if element is ElementType.FLOAT:
        rows = [entry.embedding for entry in decode(_floats, reply.body).text_embedding]
        return Embeddings(vectors=openai.stack(rows))
    if element is ElementType.BYTE:
        entries = decode(_byte_vectors, reply.body).text_embedding_bytes
    else:
        entries = decode(_bit_vectors, reply.body).text_embedding_bits
    return Embeddings(vectors=integers([entry.embedding for entry in entries]), element=element)


def elastic_sparse(ask: Ask, reply: Reply) -> Sparse:
    entries = decode(_sparse_reply, reply.body).sparse_embedding
    vectors = (replace(sparse(e.embedding.items()), is_truncated=e.is_truncated) for e in entries)
    return Sparse(vectors=tuple(vectors))


def elastic_ranking(ask: Ask, reply: Reply) -> Ranking:
    entries = decode(_rank_reply, reply.body).rerank
    return Ranking(items=tuple(Ranked(e.index, float32(e.relevance_score), e.text) for e in entries))


def elastic_completion(ask: Ask, reply: Reply) -> Completion:
    return Completion(texts=tuple(entry.result for entry in decode(_completion_reply, reply.body).completion))


def translated(read: Callable[[Ask, Reply], Result]) -> Callable[[Ask, Reply], Result]:
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
        status, text = ERRORS[kind]
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


def openai_texts(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    return _SseReader(ask, openai.lenient_chunks(ask))


def openai_chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    return _SseReader(ask, openai.chunks(ask))


class _Piece(Struct, forbid_unknown_fields=True):
    delta: str


class _Pieces(Struct, forbid_unknown_fields=True):
    completion: list[_Piece] | _Piece


_pieces = msgspec.json.Decoder(_Pieces)


def elastic_texts(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Each part is a document."""

    def read(event: Event) -> Iterable[Chunk]:
        part = _part(ask, event)
        if part is None:
            return ()
        told = decode(_pieces, part).completion
        pieces = told if isinstance(told, list) else [told]
        return (Chunk(id="", choices=tuple(Choice(delta=Delta(content=piece.delta)) for piece in pieces)),)

    return read


def elastic_chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Each part is a chunk."""
    read = openai.chunks(ask)

    def read_part(event: Event) -> Iterable[Chunk]:
        part = _part(ask, event)
        return () if part is None else read(Event(data=part.decode("utf-8", "replace")))

    return read_part


# Errors

ERRORS = {
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
OTHER_ERROR = (500, "Received an error from SageMaker for [{id}]")
BY_STATUS = {
    400: "ValidationError",
    424: "ModelError",
    429: "ModelNotReadyException",
    500: "InternalFailure",
    503: "ServiceUnavailable",
    530: "InternalDependencyException",
}
"""Where an answer does not name its error."""
