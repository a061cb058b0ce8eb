"""Cohere's wire format, spoken by several rerank providers. https://docs.cohere.com/reference

Contract: services/cohere.md.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

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
    Usage,
)
from inferd.core.service import Ask, BadReply, Event, Reply
from inferd.errors import UpstreamError
from inferd.wire.openai import decode_object, stack
from inferd.wire.replies import float32, integers
from inferd.wire.texts import documents, input_type, query, return_documents, texts, top_n

INPUT_TYPES = {
    "ingest": "search_document",
    "internal_ingest": "search_document",
    "search": "search_query",
    "internal_search": "search_query",
    "classification": "classification",
    "clustering": "clustering",
}
"""API input type to Cohere's."""

_KNOWN = {
    "float": ElementType.FLOAT,
    "int8": ElementType.BYTE,
    "binary": ElementType.BIT,
}


def rerank_body(ask: Ask) -> dict[str, Any]:
    """``model``, ``query``, ``documents``; ``return_documents`` and ``top_n`` when set."""
    body: dict[str, Any] = {
        "model": ask.settings.get("model_id"),
        "query": query(ask),
        "documents": documents(ask),
    }
    if return_documents(ask) is not None:
        body["return_documents"] = return_documents(ask)
    if top_n(ask) is not None:
        body["top_n"] = top_n(ask)
    if body["model"] is None:
        del body["model"]
    return body


def ranking(name: str = "Cohere") -> Callable[[Ask, Reply], Result]:
    """``results[]`` of ``index``, ``relevance_score`` and maybe ``document.text``, in the given order.

    The reference fails where an entry has more members or a document is a plain string; servers that speak this format have both.
    """

    def read(ask: Ask, reply: Reply) -> Result:
        body = decode_object(reply.body)
        results = body.get("results")
        if not isinstance(results, list):
            raise BadReply(f"Failed to find required field [results] in {name} rerank response")
        items = tuple(ranked(item) for item in results)
        return Ranking(items=items, usage=billed(body))

    return read


def ranked(item: Any) -> Ranked:
    if not isinstance(item, dict):
        raise BadReply("Failed to parse the response: expected objects in [results]")
    index, score = item.get("index", -1), item.get("relevance_score", -1)
    if not isinstance(index, int) or not isinstance(score, int | float):
        raise BadReply("Failed to parse the response: [index] and [relevance_score] must be numbers")
    document = item.get("document")
    if document is not None and not isinstance(document, dict | str):
        raise BadReply("Failed to parse the response: [document] must be an object")
    text = document.get("text") if isinstance(document, dict) else document
    return Ranked(index=index, score=float32(score), text=text if isinstance(text, str) else None)


def billed(body: dict[str, Any]) -> Usage | None:
    """``meta.billed_units.input_tokens`` / ``output_tokens`` where there."""
    meta = body.get("meta")
    units = meta.get("billed_units") if isinstance(meta, dict) else None
    tokens = units.get("input_tokens") if isinstance(units, dict) else None
    if not isinstance(tokens, int | float) or isinstance(tokens, bool):
        return None
    return Usage(given=int(tokens), used=int(tokens))


def embed_body(ask: Ask) -> dict[str, Any]:
    """v2/embed: ``input_type`` always, ``embedding_types`` by the stored element form."""
    asked = input_type(ask) or "unspecified"
    element = ask.settings.get("embedding_type", "float")
    body: dict[str, Any] = {
        "texts": texts(ask),
        "model": ask.settings.get("model_id"),
        "input_type": INPUT_TYPES.get(asked)
        or INPUT_TYPES.get(ask.options.get("input_type", ""), "search_query"),
        "embedding_types": [{"byte": "int8", "bit": "binary"}.get(element, "float")],
    }
    if ask.options.get("truncate") is not None:
        body["truncate"] = ask.options["truncate"]
    return body


def embeddings(ask: Ask, reply: Reply) -> Result:
    """``embeddings.<type>``, first known type; or, from v1, a plain array."""
    body = decode_object(reply.body)
    found = body.get("embeddings")
    if found is None:
        raise BadReply("Failed to find required field [embeddings] in Cohere embeddings response")
    if isinstance(found, list):
        return _embeddings("float", found, body)
    if isinstance(found, dict):
        for kind, rows in found.items():
            if kind in _KNOWN and isinstance(rows, list):
                return _embeddings(kind, rows, body)
    raise BadReply(
        "Failed to find a supported embedding type in the Cohere embeddings response. "
        "Supported types are [binary, float, int8]"
    )


def _embeddings(kind: str, rows: list[Any], body: dict[str, Any]) -> Embeddings:
    try:
        if kind == "float":
            return Embeddings(vectors=stack(msgspec.convert(rows, list[list[float]])), usage=billed(body))
        vectors = integers(msgspec.convert(rows, list[list[int]]))
    except msgspec.ValidationError as bad:
        raise BadReply(f"Failed to parse the response: {bad}") from None
    return Embeddings(vectors=vectors, element=_KNOWN[kind], usage=billed(body))


def chat_text(ask: Ask, reply: Reply) -> Result:
    """The first key named ``text`` in document order, at any depth (v1 and v2 answers)."""
    body = decode_object(reply.body)
    text = _first_text(body)
    if text is None:
        raise BadReply("Failed to find required field [text] in Cohere chat response")
    return Completion(texts=(text,), usage=_chat_usage(body))


def _first_text(value: Any) -> str | None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "text" and isinstance(inner, str):
                return inner
            found = _first_text(inner)
            if found is not None:
                return found
    elif isinstance(value, list):
        for inner in value:
            found = _first_text(inner)
            if found is not None:
                return found
    return None


def _chat_usage(body: dict[str, Any]) -> Usage | None:
    usage = body.get("usage")
    tokens = usage.get("tokens") if isinstance(usage, dict) else None
    given = tokens.get("input_tokens") if isinstance(tokens, dict) else None
    output = tokens.get("output_tokens") if isinstance(tokens, dict) else None
    if not isinstance(given, int | float):
        return None
    return Usage(
        given=int(given), used=int(given), output=int(output) if isinstance(output, int | float) else 0
    )


_QUIET = frozenset(
    {
        "stream-start",
        "search-queries-generation",
        "search-results",
        "citation-generation",
        "tool-calls-generation",
        "tool-calls-chunk",
    }
)
_STOPPED = {"ERROR": 500, "ERROR_TOXIC": 500, "ERROR_LIMIT": 429}


def chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Both stream forms: v1 lines with ``event_type`` and v2 events with ``type``."""

    def read(event: Event) -> Iterable[Chunk]:
        body = decode_object(event.data.encode("utf-8", "surrogatepass"))
        if "event_type" in body:
            return _v1(body)
        return _v2(body)

    return read


def _text_chunk(text: str) -> tuple[Chunk, ...]:
    return (Chunk(id="", choices=(Choice(delta=Delta(content=text)),)),)


def _v1(body: dict[str, Any]) -> tuple[Chunk, ...]:
    kind = body["event_type"]
    if kind == "text-generation":
        text = body.get("text")
        if not isinstance(text, str):
            raise BadReply("Null text found in text-generation cohere event")
        return _text_chunk(text)
    if kind == "stream-end":
        response = body.get("response")
        _stopped(body.get("finish_reason"), response.get("text") if isinstance(response, dict) else None)
        return ()
    if kind in _QUIET:
        return ()
    raise BadReply(f"Unknown eventType found: {kind}")


def _v2(body: dict[str, Any]) -> tuple[Chunk, ...]:
    kind = body.get("type")
    delta = body.get("delta")
    if kind == "content-delta":
        text = _first_text(delta)
        return _text_chunk(text) if text else ()
    if kind == "message-end" and isinstance(delta, dict):
        _stopped(delta.get("finish_reason"), delta.get("error"))
    return ()


def _stopped(reason: Any, text: Any) -> None:
    status = _STOPPED.get(reason)
    if status is not None:
        raise UpstreamError(status, f"Cohere stopped the stream due to an error: {text}")
