"""Results into Elasticsearch's JSON, and any body into the form that was asked for (api.md 3, 5.1, 6.3, 7.4)."""

import asyncio
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cbor2
import numpy as np
import numpy.typing as npt
import orjson
import yaml

from inferd.api.elastic import media as media_types
from inferd.api.elastic.media import Format, Media, dump
from inferd.api.elastic.params import Common, common
from inferd.api.http import Request, Response
from inferd.core.endpoint import Endpoint
from inferd.core.results import (
    ChatAnswer,
    ChatUsage,
    Choice,
    Chunk,
    Completion,
    Delta,
    ElementType,
    Embeddings,
    Ranking,
    Result,
    Sparse,
    SparseVector,
    Usage,
)
from inferd.core.tasks import TaskType
from inferd.errors import StatusError

INLINE = 64 * 1024
"""Bytes, or numbers, that are read or rendered on the event loop; more goes to a thread."""
_TRANSFORM_INLINE = 8 * 1024
"""Bytes that are filtered, made pretty or written as YAML on the event loop."""
_SLICE = 32 * 1024
"""Numbers rendered in one step there: the loop gets its turn in between."""


async def reply(
    request: Request,
    body: Any,
    *,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
    common_params: Common | None = None,
) -> Response:
    """A response in the negotiated form. ``body``: JSON bytes, or a value."""
    shape = common_params or common(request)
    media = media_types.of(request)
    if not isinstance(body, bytes):
        body = encode(body)
    if not shape.plain or media.format is not Format.JSON:
        if len(body) <= _TRANSFORM_INLINE:
            body = transform(body, media, shape)
        else:
            body = await asyncio.to_thread(transform, body, media, shape)
    return Response(body, status=status, content_type=media.content_type, headers=headers)


def encode(value: Any) -> bytes:
    """JSON bytes of any value of ours. What no client could have meant is mended, not refused: unpaired surrogates
    become U+FFFD, integers beyond 64 bits floats."""
    try:
        return dump(value)
    except ValueError:
        return dump(_mended(value))


def _mended(value: Any) -> Any:
    if isinstance(value, dict):
        return {_mended(key): _mended(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 10**308 else None
    return value


def transform(body: bytes, media: Media, shape: Common) -> bytes:
    """JSON bytes filtered, then written as JSON, pretty JSON, YAML or CBOR."""
    value = orjson.loads(body)
    if shape.filters:
        value = shape.filters.apply(value)
    match media.format:
        case Format.YAML:
            return to_yaml(value)
        case Format.CBOR:
            return bytes(cbor2.dumps(value))
        case _:
            return pretty(value) if shape.pretty else dump(value)


def pretty(value: Any) -> bytes:
    """Two blanks a level, ``"key" : value``, every element on a line of its own, a newline at the end."""
    out = io.BytesIO()
    _pretty(value, b"\n", out)
    out.write(b"\n")
    return out.getvalue()


def _pretty(value: Any, line: bytes, out: io.BytesIO) -> None:
    inner = line + b"  "
    if isinstance(value, dict):
        if not value:
            out.write(b"{ }")
            return
        mark = b"{"
        for key, member in value.items():
            out.write(mark + inner + orjson.dumps(key) + b" : ")
            _pretty(member, inner, out)
            mark = b","
        out.write(line + b"}")
    elif isinstance(value, list):
        if not value:
            out.write(b"[ ]")
            return
        mark = b"["
        for item in value:
            out.write(mark + inner)
            _pretty(item, inner, out)
            mark = b","
        out.write(line + b"]")
    else:
        out.write(orjson.dumps(value))


def to_yaml(value: Any) -> bytes:
    """Starts with ``---`` on a line of its own."""
    text = yaml.dump(
        value,
        Dumper=yaml.CSafeDumper,
        explicit_start=True,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=2**31 - 1,
        encoding="utf-8",
    )
    return b"---\n" + text[4:] if text.startswith(b"--- ") else bytes(text)


# Results -----------------------------------------------------------------------------------------------------------


async def result(value: Result, task: TaskType, endpoint_id: str) -> bytes:
    """JSON bytes of a result. Errors: 500 naming the endpoint when a number is not finite."""
    if weight(value) > INLINE:
        return await asyncio.to_thread(result_json, value, task, endpoint_id)
    return result_json(value, task, endpoint_id)


def weight(value: Result) -> int:
    match value:
        case Embeddings():
            return value.vectors.size
        case Sparse():
            return sum(len(vector.tokens) for vector in value.vectors) * 4
        case Ranking():
            return len(value.items) * 16
        case _:
            return 0


def result_json(value: Result, task: TaskType, endpoint_id: str) -> bytes:
    match value:
        case Embeddings():
            return _embeddings(value, task, endpoint_id)
        case Sparse():
            return dump({"sparse_embedding": [_sparse(vector, endpoint_id) for vector in value.vectors]})
        case Ranking():
            return _ranking(value, endpoint_id)
        case Completion():
            return encode({"completion": [{"result": text} for text in value.texts]})
        case ChatAnswer():
            return encode(chat_answer(value))


_KEYS = {
    (TaskType.EMBEDDING, ElementType.FLOAT): b"embeddings",
    (TaskType.EMBEDDING, ElementType.BYTE): b"embeddings_bytes",
    (TaskType.EMBEDDING, ElementType.BIT): b"embeddings_bits",
    (TaskType.TEXT_EMBEDDING, ElementType.FLOAT): b"text_embedding",
    (TaskType.TEXT_EMBEDDING, ElementType.BYTE): b"text_embedding_bytes",
    (TaskType.TEXT_EMBEDDING, ElementType.BIT): b"text_embedding_bits",
}


def _embeddings(value: Embeddings, task: TaskType, endpoint_id: str) -> bytes:
    vectors = np.ascontiguousarray(value.vectors)
    if vectors.dtype.kind == "f":
        vectors = vectors.astype(np.float32, copy=False)
        check_finite(vectors, endpoint_id)
    kind = TaskType.EMBEDDING if task is TaskType.EMBEDDING else TaskType.TEXT_EMBEDDING
    rows = max(1, _SLICE // max(1, vectors.shape[1] if vectors.ndim == 2 else 1))
    parts = [
        dump([{"embedding": row} for row in vectors[at : at + rows]])[1:-1]
        for at in range(0, len(vectors), rows)
    ]
    return b'{"' + _KEYS[kind, value.element] + b'":[' + b",".join(parts) + b"]}"


def check_finite(numbers: npt.NDArray[Any], endpoint_id: str) -> None:
    """The last gate before a vector leaves."""
    if not np.isfinite(numbers).all():
        raise StatusError(
            500, f"The model of inference endpoint [{endpoint_id}] gave a number that is not finite"
        )


def _sparse(vector: SparseVector, endpoint_id: str) -> dict[str, Any]:
    weights = np.asarray(vector.weights, dtype=np.float32)
    check_finite(weights, endpoint_id)
    tokens: Sequence[str] = vector.tokens
    if (weights[1:] > weights[:-1]).any():
        order = np.argsort(-weights, kind="stable")
        weights = weights[order]
        tokens = [tokens[i] for i in order]
    return {"is_truncated": vector.is_truncated, "embedding": dict(zip(tokens, weights, strict=True))}


def _ranking(value: Ranking, endpoint_id: str) -> bytes:
    scores = np.array([item.score for item in value.items], dtype=np.float32)
    check_finite(scores, endpoint_id)
    entries: list[dict[str, Any]] = []
    for item, score in zip(value.items, scores, strict=True):
        entry: dict[str, Any] = {"index": item.index, "relevance_score": score}
        if item.text is not None:
            entry["text"] = item.text
        entries.append(entry)
    return encode({"rerank": entries})


def chat_answer(answer: ChatAnswer) -> dict[str, Any]:
    """A whole answer (api.md 7.4)."""
    return _chat(answer, "message", "chat.completion")


def chat_chunk(chunk: Chunk) -> dict[str, Any]:
    """One step of a stream (api.md 7.4)."""
    return _chat(chunk.native or chunk, "delta", "chat.completion.chunk")


def _chat(value: ChatAnswer | Chunk, wrapper: str, kind: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": value.id,
        "choices": [_choice(choice, wrapper) for choice in value.choices],
        "model": value.model,
        "object": kind,
    }
    if value.usage is not None:
        body["usage"] = _chat_usage(value.usage)
    return body


def _choice(choice: Choice, wrapper: str) -> dict[str, Any]:
    body: dict[str, Any] = {wrapper: _delta(choice.delta)}
    if choice.finish_reason is not None:
        body["finish_reason"] = choice.finish_reason
    body["index"] = choice.index
    return body


def _delta(delta: Delta) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if delta.content is not None:
        body["content"] = delta.content
    if delta.refusal is not None:
        body["refusal"] = delta.refusal
    if delta.role is not None:
        body["role"] = delta.role
    if delta.reasoning is not None:
        body["reasoning"] = delta.reasoning
    if delta.tool_calls:
        body["tool_calls"] = [
            _given(
                index=call.index,
                id=call.id,
                function=_given(arguments=call.arguments, name=call.name) or None,
                type=call.type,
            )
            for call in delta.tool_calls
        ]
    if delta.reasoning_details:
        body["reasoning_details"] = delta.reasoning_details
    return body


def _chat_usage(usage: ChatUsage) -> dict[str, Any]:
    return _given(
        completion_tokens=usage.completion_tokens,
        prompt_tokens=usage.prompt_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=_given(
            cached_tokens=usage.cached_tokens, cache_write_tokens=usage.cache_write_tokens
        )
        or None,
        completion_tokens_details=_given(reasoning_tokens=usage.reasoning_tokens) or None,
    )


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


# Endpoints, facts --------------------------------------------------------------------------------------------------


def endpoint_object(endpoint: Endpoint, service_settings: Mapping[str, Any]) -> dict[str, Any]:
    """api.md 5.1; ``service_settings`` as the service shows them."""
    body: dict[str, Any] = {
        "inference_id": endpoint.id,
        "task_type": str(endpoint.task),
        "service": endpoint.service,
        "service_settings": service_settings,
    }
    if endpoint.task_settings:
        body["task_settings"] = endpoint.task_settings
    if endpoint.chunking is not None:
        body["chunking_settings"] = endpoint.chunking
    if endpoint.metadata is not None:
        body["metadata"] = endpoint.metadata
    return body


def facts(value: Result, version: str) -> list[tuple[str, str]]:
    """Headers with what the exact body has no place for: tokens given, used and dropped, cut inputs, notices."""
    headers = [("Warning", warning(version, notice)) for notice in getattr(value, "notices", ())]
    headers += getattr(value, "headers", ())
    usage = getattr(value, "usage", None)
    if isinstance(usage, Usage):
        headers.append(("X-Inferd-Usage", f"given={usage.given}, used={usage.used}, dropped={usage.dropped}"))
    truncated: tuple[int, ...] = getattr(value, "truncated", ())
    if truncated:
        shown = ", ".join(map(str, truncated[:100]))
        headers.append(("X-Inferd-Truncated", shown + (", ..." if len(truncated) > 100 else "")))
    return headers


def warning(version: str, text: str) -> str:
    """The value of a ``Warning`` header (api.md 1.1), safe to send whatever the text holds."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 Elasticsearch-{version} "{quoted.encode("ascii", "replace").decode()[:1000]}"'
