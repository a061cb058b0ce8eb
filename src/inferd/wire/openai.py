"""OpenAI's wire format, spoken by most providers. https://platform.openai.com/docs/api-reference

Contract: services/common.md sections 13 and 14, services/openai.md.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from inferd.core.inputs import Chat, FilePart, ImagePart, Message, Part, TextPart, ToolChoice
from inferd.core.results import (
    CallDelta,
    ChatAnswer,
    ChatUsage,
    Choice,
    Chunk,
    Completion,
    Delta,
    Embeddings,
    Float32s,
    Result,
    Usage,
)
from inferd.core.service import Ask, BadReply, Event, Reply
from inferd.wire.texts import texts

# Embeddings


def embeddings_body(ask: Ask) -> dict[str, Any]:
    """``input`` is always an array; ``dimensions`` goes out only when the user set it."""
    body: dict[str, Any] = {"input": texts(ask), "model": ask.settings.get("model_id")}
    if ask.endpoint.hidden.get("dimensions_set_by_user"):
        body["dimensions"] = ask.settings["dimensions"]
    return body


class _Usage(Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None
    completion_tokens: int | None = None


class _EmbeddingEntry(Struct):
    """``bytes``: base64 that the decoder has already read; it is several times faster at that than the library."""

    embedding: list[float] | bytes | msgspec.UnsetType = msgspec.UNSET


class _EmbeddingsReply(Struct):
    data: list[_EmbeddingEntry] | msgspec.UnsetType = msgspec.UNSET
    usage: _Usage | None = None


_embeddings = msgspec.json.Decoder(_EmbeddingsReply)


def embeddings(ask: Ask, reply: Reply) -> Result:
    """``data[].embedding`` in array order: numbers, or base64 of little-endian float32."""
    try:
        parsed = _embeddings.decode(reply.body)
    except (msgspec.DecodeError, ValueError) as bad:
        parsed = _lenient_embeddings(reply.body, bad)
    if parsed.data is msgspec.UNSET:
        raise BadReply("Required [data]")
    vectors = [_vector(entry.embedding) for entry in parsed.data]
    return Embeddings(vectors=stack(vectors), usage=embedding_usage(parsed.usage))


def _lenient_embeddings(body: bytes, why: Exception) -> _EmbeddingsReply:
    """What the strict reading refused: a usage object of another shape must not spoil the vectors, a wrong
    embedding gets its own message."""
    whole = decode_object(body)
    data = whole.get("data", msgspec.UNSET)
    if data is msgspec.UNSET:
        return _EmbeddingsReply()
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise BadReply(f"Failed to parse the response: {why}")
    return _EmbeddingsReply(
        data=[_EmbeddingEntry(embedding=_checked(entry.get("embedding", msgspec.UNSET))) for entry in data]
    )


_WHERE = "[EmbeddingFloatResult] failed to parse field [data]"


def _checked(embedding: Any) -> list[float] | bytes | msgspec.UnsetType:
    if isinstance(embedding, msgspec.UnsetType):
        return embedding
    if isinstance(embedding, str):
        return _unpacked(embedding)
    try:
        numbers: list[float] = msgspec.convert(embedding, list[float])
        return numbers
    except msgspec.ValidationError:
        wrong = (
            next((v for v in embedding if not _is_number(v)), embedding)
            if isinstance(embedding, list)
            else embedding
        )
        raise BadReply(
            f"{_WHERE}: [embedding] expected base64 string or float array, got token [{_token(wrong)}]"
        ) from None


def _vector(embedding: list[float] | bytes | msgspec.UnsetType) -> Sequence[float] | Float32s:
    if embedding is msgspec.UNSET:
        raise BadReply(f"{_WHERE}: Required [embedding]")
    if not isinstance(embedding, bytes):
        return embedding
    if len(embedding) % 4:
        raise BadReply(
            f"{_WHERE}: [embedding] base64-decoded length [{len(embedding)}] is not a multiple of 4"
        )
    return np.frombuffer(embedding, dtype="<f4")


def _unpacked(embedding: str) -> bytes:
    try:
        return base64.b64decode(embedding.encode(), validate=True)
    except (binascii.Error, ValueError) as bad:
        raise BadReply(f"{_WHERE}: [embedding] is not valid base64: {bad}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _token(value: Any) -> str:
    if value is None:
        return "VALUE_NULL"
    if isinstance(value, bool):
        return "VALUE_TRUE" if value else "VALUE_FALSE"
    if isinstance(value, int | float):
        return "VALUE_NUMBER"
    if isinstance(value, str):
        return "VALUE_STRING"
    return "START_OBJECT" if isinstance(value, dict) else "START_ARRAY"


def stack(vectors: Sequence[Sequence[float] | Float32s]) -> Float32s:
    """Vectors of one answer as a matrix; they must be equally long, and every number finite as a float32."""
    if not vectors:
        return np.empty((0, 0), dtype=np.float32)
    size = len(vectors[0])
    if any(len(vector) != size for vector in vectors):
        raise BadReply("The embeddings of one response differ in length")
    with np.errstate(over="ignore"):
        matrix = np.asarray(vectors, dtype=np.float32).reshape(len(vectors), size)
    if not np.isfinite(matrix).all():
        raise BadReply("The embeddings of the response are not finite numbers")
    return matrix


def embedding_usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    used = usage.prompt_tokens if usage.prompt_tokens is not None else usage.total_tokens
    return None if used is None else Usage(given=used, used=used)


# Chat: the request


def messages(chat: Chat) -> list[dict[str, Any]]:
    return [message(m) for m in chat.messages]


def message(m: Message) -> dict[str, Any]:
    """The members of services/common.md section 14; a model's earlier reasoning is not among them."""
    out: dict[str, Any] = {}
    if m.content is not None:
        out["content"] = m.content if isinstance(m.content, str) else [part(p) for p in m.content]
    out["role"] = m.role
    if m.name is not None:
        out["name"] = m.name
    if m.tool_call_id is not None:
        out["tool_call_id"] = m.tool_call_id
    if m.tool_calls:
        out["tool_calls"] = [
            {
                "id": call.id,
                "function": {"arguments": call.function.arguments, "name": call.function.name},
                "type": call.type,
            }
            for call in m.tool_calls
        ]
    return out


def part(p: Part) -> dict[str, Any]:
    if isinstance(p, TextPart):
        return {"text": p.text, "type": "text"}
    if isinstance(p, ImagePart):
        image = {"url": p.url} if p.detail is None else {"url": p.url, "detail": p.detail}
        return {"type": "image_url", "image_url": image}
    if isinstance(p, FilePart):
        file = {"file_data": p.file_data}
        if p.filename is not None:
            file["filename"] = p.filename
        return {"type": "file", "file": file}
    raise TypeError(type(p).__name__)


def tools(chat: Chat) -> list[dict[str, Any]]:
    out = []
    for tool in chat.tools or ():
        function: dict[str, Any] = {}
        if tool.function.description is not None:
            function["description"] = tool.function.description
        function["name"] = tool.function.name
        if tool.function.parameters is not None:
            function["parameters"] = tool.function.parameters
        if tool.function.strict is not None:
            function["strict"] = tool.function.strict
        out.append({"type": tool.type, "function": function})
    return out


def tool_choice(chat: Chat) -> Any:
    choice = chat.tool_choice
    if isinstance(choice, ToolChoice):
        return {"type": choice.type, "function": {"name": choice.name}}
    return choice


def as_chat(ask: Ask) -> Chat:
    """The ask as a chat: a completion's inputs become user messages."""
    if isinstance(ask.inputs, Chat):
        return ask.inputs
    return Chat(messages=tuple(Message(role="user", content=text) for text in texts(ask)))


def chat_body(
    *,
    tokens_field: str = "max_completion_tokens",
    usage: bool = True,
    model: bool = True,
    extra: Callable[[Ask, dict[str, Any]], None] | None = None,
) -> Callable[[Ask], dict[str, Any]]:
    """The unified chat body (services/common.md section 14).

    ``tokens_field``: how the provider calls the token limit; ``usage``: whether ``stream_options`` is sent when streaming; ``model``:
    whether the model is named (when one is known). ``extra`` may add or change members.
    """

    def body(ask: Ask) -> dict[str, Any]:
        chat = as_chat(ask)
        out: dict[str, Any] = {"messages": messages(chat)}
        if chat.max_completion_tokens is not None:
            out[tokens_field] = chat.max_completion_tokens
        out["n"] = 1
        if chat.stop:
            out["stop"] = list(chat.stop)
        if chat.temperature is not None:
            out["temperature"] = chat.temperature
        if chat.tool_choice is not None:
            out["tool_choice"] = tool_choice(chat)
        if chat.tools:
            out["tools"] = tools(chat)
        if chat.top_p is not None:
            out["top_p"] = chat.top_p
        name = chat.model or ask.settings.get("model_id")
        if model and name is not None:
            out["model"] = name
        out["stream"] = ask.stream
        if ask.stream and usage:
            out["stream_options"] = {"include_usage": True}
        if extra is not None:
            extra(ask, out)
        return out

    return body


# Chat: the answer


def completion(name: str = "OpenAI chat completions") -> Callable[[Ask, Reply], Result]:
    """Every ``choices[].message.content``; a missing field is named in the contract's words."""

    def read(ask: Ask, reply: Reply) -> Result:
        body = decode_object(reply.body)
        out = []
        for choice in _required(body, "choices", name):
            content = _required(_required(choice, "message", name), "content", name)
            out.append(content if isinstance(content, str) else "")
        return Completion(texts=tuple(out), usage=_completion_usage(body.get("usage")))

    return read


def decode_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError) as bad:
        raise BadReply(f"Failed to parse the response: {bad}") from None
    if not isinstance(value, dict):
        raise BadReply(f"Failed to parse the response: expected an object but found {_token(value)}")
    return value


def _required(value: Any, key: str, name: str) -> Any:
    if not isinstance(value, dict) or value.get(key) is None:
        raise BadReply(f"Failed to find required field [{key}] in {name} response")
    return value[key]


def _completion_usage(raw: Any) -> Usage | None:
    usage = chat_usage(raw)
    if usage is None:
        return None
    return Usage(
        given=usage.prompt_tokens,
        used=usage.prompt_tokens,
        output=usage.completion_tokens,
        cached=usage.cached_tokens,
        reasoning=usage.reasoning_tokens,
    )


def chat_usage(raw: Any) -> ChatUsage | None:
    if not isinstance(raw, dict):
        return None
    prompt = _count(raw, "prompt_tokens") or 0
    output = _count(raw, "completion_tokens") or 0
    total = _count(raw, "total_tokens")
    prompt_details = raw.get("prompt_tokens_details")
    output_details = raw.get("completion_tokens_details")
    return ChatUsage(
        prompt_tokens=prompt,
        completion_tokens=output,
        total_tokens=prompt + output if total is None else total,
        cached_tokens=_count(prompt_details, "cached_tokens"),
        cache_write_tokens=_count(prompt_details, "cache_write_tokens"),
        reasoning_tokens=_count(output_details, "reasoning_tokens"),
    )


def _count(raw: Any, key: str) -> int | None:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def answer(ask: Ask, reply: Reply) -> Result:
    """A whole chat answer: ``choices[].message``."""
    body = decode_object(reply.body)
    choices = body.get("choices")
    if not isinstance(choices, list):
        raise BadReply("Failed to find required field [choices] in the chat completion response")
    return ChatAnswer(
        id=_text(body.get("id")) or "",
        choices=tuple(_choice(c, "message") for c in choices),
        model=_text(body.get("model")),
        usage=chat_usage(body.get("usage")),
    )


class _PlainDelta(Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    role: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: None = None
    reasoning_details: None = None


class _PlainChoice(Struct, gc=False):
    delta: _PlainDelta
    index: int
    finish_reason: str | None = None


class _PlainChunk(Struct, gc=False):
    """What nearly every chunk is, read in one pass: text, no tools, no usage. Others are read member by member."""

    id: str
    choices: list[_PlainChoice]
    model: str | None = None
    usage: None = None

    def chunk(self) -> Chunk:
        found = tuple(
            Choice(
                delta=Delta(
                    content=c.delta.content,
                    refusal=c.delta.refusal,
                    role=c.delta.role,
                    reasoning=c.delta.reasoning or c.delta.reasoning_content,
                ),
                index=c.index,
                finish_reason=c.finish_reason,
            )
            for c in self.choices
        )
        return Chunk(id=self.id, choices=found, model=self.model)

    def text_chunk(self) -> Chunk:
        found = tuple(
            Choice(delta=Delta(content=c.delta.content), finish_reason=c.finish_reason) for c in self.choices
        )
        return Chunk(id=self.id, choices=found, model=self.model)


_plain = msgspec.json.Decoder(_PlainChunk)


def _plain_chunk(event: Event) -> _PlainChunk | None:
    try:
        return _plain.decode(event.data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Reads one stream: each ``data`` is a chunk; ``id``, ``choices``, ``delta`` and ``index`` must be there."""

    def read(event: Event) -> Iterable[Chunk]:
        plain = _plain_chunk(event)
        if plain is not None:
            return (plain.chunk(),)
        body = decode_object(event.data.encode("utf-8", "surrogatepass"))
        if body.get("id") is None:
            raise BadReply("Required [id]")
        choices = body.get("choices")
        if not isinstance(choices, list):
            raise BadReply("Required [choices]")
        usage = chat_usage(body.get("usage"))
        found = tuple(_choice(c, "delta") for c in choices)
        return (Chunk(id=str(body["id"]), choices=found, model=_text(body.get("model")), usage=usage),)

    return read


def lenient_chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """For completion streams: only ``choices[].delta.content`` matters."""

    def read(event: Event) -> Iterable[Chunk]:
        plain = _plain_chunk(event)
        if plain is not None:
            return (plain.text_chunk(),)
        body = decode_object(event.data.encode("utf-8", "surrogatepass"))
        raw = body.get("choices")
        if not isinstance(raw, list):
            raise BadReply("Required [choices]")
        found = tuple(
            Choice(
                delta=Delta(content=_text(c["delta"].get("content"))),
                finish_reason=_text(c.get("finish_reason")),
            )
            for c in raw
            if isinstance(c, dict) and isinstance(c.get("delta"), dict)
        )
        usage = chat_usage(body.get("usage"))
        return (
            Chunk(id=_text(body.get("id")) or "", choices=found, model=_text(body.get("model")), usage=usage),
        )

    return read


def _choice(raw: Any, key: str) -> Choice:
    if not isinstance(raw, dict) or not isinstance(raw.get(key), dict):
        raise BadReply(f"Required [{key}]")
    index = raw.get("index")
    if not isinstance(index, int) or isinstance(index, bool):
        raise BadReply("Required [index]")
    return Choice(delta=delta(raw[key]), index=index, finish_reason=_text(raw.get("finish_reason")))


def delta(raw: dict[str, Any]) -> Delta:
    """A ``delta`` or ``message`` object; unknown members are dropped."""
    calls = raw.get("tool_calls")
    details = raw.get("reasoning_details")
    return Delta(
        content=_text(raw.get("content")),
        refusal=_text(raw.get("refusal")),
        role=_text(raw.get("role")),
        reasoning=_text(raw.get("reasoning")) or _text(raw.get("reasoning_content")),
        tool_calls=tuple(_tool_call(c, n) for n, c in enumerate(calls) if isinstance(c, dict)) or None
        if isinstance(calls, list)
        else None,
        reasoning_details=tuple(d for d in details if isinstance(d, dict)) or None
        if isinstance(details, list)
        else None,
    )


def _tool_call(raw: dict[str, Any], position: int) -> CallDelta:
    function = raw.get("function")
    named = function if isinstance(function, dict) else {}
    index = raw.get("index")
    return CallDelta(
        index=index if isinstance(index, int) else position,
        id=_text(raw.get("id")),
        name=_text(named.get("name")),
        arguments=_text(named.get("arguments")),
        type=_text(raw.get("type")),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
