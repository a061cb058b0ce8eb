"""Cohere's dialect, v1 and v2, and the rerank that Jina and Voyage clients speak: ``model`` is an inference id.

https://docs.cohere.com/reference, https://api.jina.ai/redoc, https://docs.voyageai.com/reference/reranker-api
"""

import base64
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from inferd.actions.house import House
from inferd.actions.stream import Chunks
from inferd.api import sse
from inferd.api.asking import (
    CHAT_TASKS,
    DENSE_TASKS,
    Body,
    Desk,
    check_dimensions,
    floats,
    listed,
    read,
    refusal,
    scores,
)
from inferd.api.elastic import render
from inferd.api.guard import Guard
from inferd.api.http import Dialect, Handler, Request, Response, Route
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import (
    Chat,
    Function,
    FunctionCall,
    ImagePart,
    InputType,
    Message,
    Part,
    RankQuery,
    Reasoning,
    TextPart,
    Texts,
    Tool,
    ToolCall,
)
from inferd.core.results import (
    CallDelta,
    ChatAnswer,
    ChatUsage,
    Chunk,
    ElementType,
    Embeddings,
    Ranking,
    Usage,
)
from inferd.core.tasks import TaskType
from inferd.errors import IllegalArgument, InferdError

_INPUT_TYPES = {
    "search_document": InputType.INGEST,
    "search_query": InputType.SEARCH,
    "classification": InputType.CLASSIFICATION,
    "clustering": InputType.CLUSTERING,
}
_FORMS = ("float", "int8", "uint8", "binary", "ubinary", "base64")
_FINISHED = {
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "stop_sequence": "STOP_SEQUENCE",
    "content_filter": "ERROR",
}


class Cohere:
    """Handlers over one house."""

    def __init__(self, house: House, guard: Guard) -> None:
        self.desk = Desk(house, guard)

    async def embed_v1(self, request: Request) -> Response:
        return await self._embed(request, "1")

    async def embed_v2(self, request: Request) -> Response:
        return await self._embed(request, "2")

    async def _embed(self, request: Request, version: str) -> Response:
        body = await read(request)
        id, texts = body.text("model"), body.texts("texts")
        kind, forms, truncate = _input_type(body), _forms(body), _truncate(body)
        dimensions = body.positive("output_dimension")
        body.ignore("priority")
        body.done()
        endpoint = self.desk.endpoint(request, id, *DENSE_TASKS)
        check_dimensions("output_dimension", endpoint, dimensions)
        result = await self.desk.embed(endpoint, Texts(texts=texts, input_type=kind))
        if truncate != "END" and result.truncated:
            raise IllegalArgument(
                f"[truncate] is [{truncate}] and texts [{listed(result.truncated)}] are longer than the model's window: "
                "only their end can be cut"
            )
        return await self.desk.reply(lambda: _embedded(result, texts, forms, version, endpoint), result)

    async def rerank_v1(self, request: Request) -> Response:
        """Cohere's own, and what Jina's and Voyage's clients read: a superset of the three."""
        return await self._rerank(request, "1")

    async def rerank_v2(self, request: Request) -> Response:
        return await self._rerank(request, "2")

    async def _rerank(self, request: Request, version: str) -> Response:
        body = await read(request)
        id, query = body.text("model"), body.text("query")
        documents = _documents(body)
        voyage = version == "1" and "top_n" not in body
        top_n = body.positive("top_k" if "top_k" in body else "top_n")
        shown = bool(body.take("return_documents", bool))
        whole = body.take("truncation", bool) is False
        limit = body.positive("max_tokens_per_doc")
        body.expect(rank_fields=["text"])
        body.ignore("max_chunks_per_doc", "priority")
        body.done()
        endpoint = self.desk.endpoint(request, id, TaskType.RERANK)
        _check_limit(limit, self.desk.max_tokens(endpoint))
        texts = tuple(document["text"] for document in documents)
        asked = RankQuery(query=query, documents=texts, top_n=top_n, return_documents=shown)
        result = await self.desk.rank(endpoint, asked)
        if whole and result.truncated:
            raise IllegalArgument(
                f"[truncation] is [false] and documents [{listed(result.truncated)}] are longer than the model's window"
            )
        if not shown:
            documents = []
        ranked = _Ranked(endpoint, result, top_n, documents)
        return await self.desk.reply(lambda: ranked.v1(voyage) if version == "1" else ranked.v2(), result)

    async def chat(self, request: Request) -> Response:
        body = await read(request)
        id, streaming = body.text("model"), bool(body.take("stream", bool))
        chat = parse_chat(body)
        body.done()
        endpoint = self.desk.endpoint(request, id, *CHAT_TASKS)
        if not streaming:
            answer = await self.desk.chat(endpoint, chat)
            return await self.desk.reply(lambda: _whole(answer), answer)
        if _reads_lines(request):
            chunks = await self.desk.chat_stream(endpoint, chat, None)
            return sse.stream(_lines(chunks), _line_told, content_type="application/stream+json")
        chunks = await self.desk.chat_stream(endpoint, chat, self.desk.heartbeat)
        return sse.stream(_events(chunks), _told, self.desk.heartbeat)


def routes(handlers: Cohere, infer: tuple[str, tuple[str, ...]]) -> list[Route]:
    """``infer``: action name and the privileges that grant it."""
    rows: list[tuple[str, Handler]] = [
        ("/v1/embed", handlers.embed_v1),
        ("/v2/embed", handlers.embed_v2),
        ("/v1/rerank", handlers.rerank_v1),
        ("/v2/rerank", handlers.rerank_v2),
        ("/v2/chat", handlers.chat),
    ]
    return [
        Route(
            method="POST",
            template=path,
            handler=handler,
            action=infer[0],
            privileges=infer[1],
            body="required",
        )
        for path, handler in rows
    ]


def dialect(guard: Guard) -> Dialect:
    return Dialect(name="cohere", problem=problem, authenticate=guard.authenticate)


def problem(request: Request, error: InferdError) -> Response:
    """Cohere's error body is one message."""
    return refusal(error, {"id": secrets.token_hex(16), "message": error.reason})


# Embeddings


def _input_type(body: Body) -> InputType | None:
    raw = body.take("input_type", str)
    if raw is not None and raw not in _INPUT_TYPES:
        raise IllegalArgument(f"[input_type] must be one of [{', '.join(_INPUT_TYPES)}]")
    return None if raw is None else _INPUT_TYPES[raw]


def _forms(body: Body) -> tuple[str, ...]:
    """None asked for: v1 answers in its oldest form, v2 in floats."""
    raw = body.take("embedding_types", list) or []
    if not all(isinstance(name, str) and name in _FORMS for name in raw):
        raise IllegalArgument(f"[embedding_types] must hold some of [{', '.join(_FORMS)}]")
    return tuple(dict.fromkeys(raw))


def _truncate(body: Body) -> str:
    how: str = (body.take("truncate", str) or "END").upper()
    if how not in ("NONE", "START", "END"):
        raise IllegalArgument("[truncate] must be one of [NONE, START, END]")
    return how


def _embedded(
    result: Embeddings, texts: tuple[str, ...], forms: tuple[str, ...], version: str, endpoint: Endpoint
) -> dict[str, Any]:
    vectors: Any = {name: quantised(result, name, endpoint) for name in forms or ("float",)}
    shown = {"id": secrets.token_hex(16), "embeddings": vectors, "texts": texts}
    if version == "1":
        shown["response_type"] = "embeddings_by_type" if forms else "embeddings_floats"
        shown["embeddings"] = vectors if forms else vectors["float"]
    return {**shown, "meta": _meta(version, result)}


def quantised(result: Embeddings, form: str, endpoint: Endpoint) -> list[Any]:
    """The vectors in one of Cohere's forms.

    From float vectors: int8 is ``round(127 v)`` and uint8 that plus 128 (for vectors of length one; wider values are clipped), binary and
    ubinary pack the signs, eight dimensions a byte, highest bit first. Vectors stored as bytes or bits are given in their own form only.
    """
    own = {
        ElementType.FLOAT: _FORMS,
        ElementType.BYTE: ("int8",),
        ElementType.BIT: ("binary", "ubinary"),
    }[result.element]
    if form not in own:
        raise IllegalArgument(
            f"[embedding_types] [{form}]: endpoint [{endpoint.id}] gives element type [{result.element}]"
        )
    if result.element is not ElementType.FLOAT:
        rows = np.ascontiguousarray(result.vectors)
        return list(rows.astype(np.uint8) + np.uint8(128) if form == "ubinary" else rows)
    vectors = floats(result, endpoint)
    match form:
        case "float":
            return list(vectors)
        case "base64":
            return [base64.b64encode(row.tobytes()).decode() for row in vectors]
        case "int8":
            return list(_steps(vectors).astype(np.int8))
        case "uint8":
            return list((_steps(vectors) + 128).astype(np.uint8))
    bits = np.packbits(vectors > 0, axis=1)
    return list(bits if form == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8))


def _steps(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    steps: npt.NDArray[Any] = np.clip(np.rint(vectors * 127), -128, 127).astype(np.int16)
    return steps


def _meta(version: str, result: Embeddings | Ranking, **units: int) -> dict[str, Any]:
    """Tokens, and a warning that says what was cut."""
    usage, billed = result.usage, dict(units)
    if usage is not None:
        billed["input_tokens"] = usage.used
    meta: dict[str, Any] = {"api_version": {"version": version}, "billed_units": billed}
    if result.truncated:
        meta["warnings"] = [_cut(result.truncated, usage)]
    return meta


def _cut(indexes: tuple[int, ...], usage: Usage | None) -> str:
    lost = "" if usage is None else f": {usage.dropped} of {usage.given} tokens were dropped"
    return f"inputs [{listed(indexes)}] were cut to the model's window{lost}"


# Rerank


def _documents(body: Body) -> list[dict[str, Any]]:
    """Objects with a ``text``, which strings are short for; what else is in them goes back as it came."""
    raw = body.take("documents", list, required=True)
    found = [{"text": item} if isinstance(item, str) else item for item in raw]
    if not found or not all(isinstance(item, dict) and isinstance(item.get("text"), str) for item in found):
        raise IllegalArgument("[documents] must be a non-empty array of strings or of objects with [text]")
    return found


def _check_limit(asked: int | None, window: int | None) -> None:
    """The model's window is the only limit on a document."""
    if asked is not None and (window is None or asked < window):
        raise IllegalArgument(f"[max_tokens_per_doc] cannot be set to [{asked}] here")


class _Ranked(Struct, frozen=True):
    """A ranking in Cohere's terms. ``documents``: those to give back, or none."""

    endpoint: Endpoint
    ranking: Ranking
    top_n: int | None
    documents: list[dict[str, Any]]

    def _results(self, document: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
        pairs = zip(self.ranking.items, scores(self.ranking, self.endpoint), strict=True)
        return [
            {
                "index": item.index,
                "relevance_score": score,
                **({"document": document(self.documents[item.index])} if self.documents else {}),
            }
            for item, score in list(pairs)[: self.top_n]
        ]

    def v2(self, version: str = "2") -> dict[str, Any]:
        return {
            "id": secrets.token_hex(16),
            "results": self._results(lambda document: document),
            "meta": _meta(version, self.ranking, search_units=1),
        }

    def v1(self, voyage: bool) -> dict[str, Any]:
        """With what Jina's clients read beside, and on demand Voyage's, whose documents are plain texts."""
        shown = {**self.v2("1"), "model": self.endpoint.id}
        usage = self.ranking.usage
        if usage is not None:
            shown["usage"] = {"total_tokens": usage.used, "prompt_tokens": usage.used}
        if voyage:
            shown |= {"object": "list", "data": self._results(lambda document: document["text"])}
        return shown


# Chat


def parse_chat(body: Body) -> Chat:
    """A v2 chat without its ``model`` and ``stream`` members."""
    choice = body.take("tool_choice", str)
    body.ignore("seed", "priority", "safety_mode", "strict_tools")
    body.expect(
        k=0, frequency_penalty=0, presence_penalty=0, logprobs=False, response_format={"type": "text"}
    )
    body.expect(documents=[], citation_options={"mode": "OFF"}, stop_sequences=[])
    return Chat(
        messages=tuple(_message(message) for message in body.objects("messages", required=True)),
        max_completion_tokens=body.positive("max_tokens"),
        temperature=body.take("temperature", float),
        top_p=body.take("p", float),
        stop=body.texts("stop_sequences") if "stop_sequences" in body else None,
        tools=tuple(_tool(tool) for tool in body.objects("tools")) or None,
        tool_choice=None if choice is None else choice.lower(),
        reasoning=_reasoning(body),
    )


def _reasoning(body: Body) -> Reasoning | None:
    thinking = body.object("thinking")
    if thinking is None:
        return None
    kind = thinking.text("type")
    thinking.done()
    if kind not in ("enabled", "disabled"):
        raise IllegalArgument("[thinking.type] must be [enabled] or [disabled]")
    return Reasoning(effort="medium" if kind == "enabled" else "none")


def _message(body: Body) -> Message:
    content: str | tuple[Part, ...] | None = None
    thoughts: list[str] = []
    if body.holds("content", str):
        content = body.take("content", str)
    elif "content" in body:
        parts = [_part(part) for part in body.objects("content")]
        thoughts = [part for part in parts if isinstance(part, str)]
        content = tuple(part for part in parts if not isinstance(part, str)) or None
    plan = body.take("tool_plan", str)
    message = Message(
        role=body.text("role"),
        content=content,
        tool_call_id=body.take("tool_call_id", str),
        tool_calls=tuple(_tool_call(call) for call in body.objects("tool_calls")) or None,
        reasoning="".join([*thoughts, plan or ""]) or None,
    )
    body.ignore("citations")
    body.done()
    return message


def _part(body: Body) -> Part | str:
    """A part of the content; a bare string is a thought."""
    kind = body.text("type")
    part: Part | str
    if kind == "text":
        part = TextPart(body.take("text", str, required=True))
    elif kind == "thinking":
        part = str(body.take("thinking", str, required=True))
    elif kind == "image_url":
        image = body.member("image_url")
        part = ImagePart(image.text("url"), image.take("detail", str))
        image.done()
    elif kind == "document":
        document = body.member("document")
        document.ignore("id")
        data = document.take("data", str, dict, required=True)
        document.done()
        part = TextPart(data if isinstance(data, str) else msgspec.json.encode(data).decode())
    else:
        raise IllegalArgument(f"{body.name('type')} must be [text], [thinking], [image_url] or [document]")
    body.done()
    return part


def _tool_call(body: Body) -> ToolCall:
    id = body.text("id")
    body.expect(type="function")
    function = body.member("function")
    call = FunctionCall(function.text("name"), function.take("arguments", str) or "{}")
    function.done()
    body.done()
    return ToolCall(id=id, function=call)


def _tool(body: Body) -> Tool:
    body.expect(type="function")
    function = body.member("function")
    name, told = function.text("name"), function.take("description", str)
    tool = Tool(Function(name, told, function.take("parameters", dict)))
    function.done()
    body.done()
    return tool


def _whole(answer: ChatAnswer) -> dict[str, Any]:
    """A chat answer in v2's form: the first choice."""
    message: dict[str, Any] = {"role": "assistant"}
    finish = None
    for choice in answer.choices[:1]:
        delta, finish = choice.delta, choice.finish_reason
        content = [(k, v) for k, v in (("thinking", delta.reasoning), ("text", delta.content)) if v]
        message["content"] = [{"type": kind, kind: value} for kind, value in content]
        if delta.tool_calls:
            message["tool_calls"] = [_shown_call(call) for call in delta.tool_calls]
    shown: dict[str, Any] = {
        "id": answer.id or secrets.token_hex(16),
        "finish_reason": _finish(finish),
        "message": message,
    }
    if answer.usage is not None:
        shown["usage"] = _usage(answer.usage)
    return shown


def _finish(reason: str | None) -> str:
    return _FINISHED.get(reason or "stop", "COMPLETE")


def _shown_call(call: CallDelta) -> dict[str, Any]:
    return {
        "id": call.id or f"call_{secrets.token_hex(8)}",
        "type": "function",
        "function": {"name": call.name or "", "arguments": call.arguments or ""},
    }


def _usage(usage: ChatUsage) -> dict[str, Any]:
    tokens = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    return {"billed_units": tokens, "tokens": tokens}


# Chat streams


class _Message:
    """A message while it comes: v2's events open and close its content and its tool calls in turn."""

    def __init__(self) -> None:
        self.finish: str | None = None
        self.usage: ChatUsage | None = None
        self._blocks = 0
        self._open: tuple[str, int] | None = None
        """The block or call that is being written: ``thinking``, ``text`` or ``tool-call``, and its index."""
        self._calls: set[int] = set()

    def events(self, chunk: Chunk) -> list[bytes]:
        self.usage = chunk.usage or self.usage
        found: list[bytes] = []
        for choice in chunk.choices:
            self.finish = choice.finish_reason or self.finish
            if choice.index == 0:
                found += self._content("thinking", choice.delta.reasoning)
                found += self._content("text", choice.delta.content)
                for call in choice.delta.tool_calls or ():
                    found += self._call(call)
        return found

    def _content(self, kind: str, piece: str | None) -> list[bytes]:
        if not piece:
            return []
        found = []
        if self._open is None or self._open[0] != kind:
            found += self.close()
            self._open = (kind, self._blocks)
            self._blocks += 1
            begun = {"message": {"content": {"type": kind, kind: ""}}}
            found.append(_event("content-start", index=self._open[1], delta=begun))
        more = {"message": {"content": {kind: piece}}}
        return [*found, _event("content-delta", index=self._open[1], delta=more)]

    def _call(self, call: CallDelta) -> list[bytes]:
        if call.index not in self._calls:
            found = self.close()
            self._calls.add(call.index)
            self._open = ("tool-call", call.index)
            begun = {"message": {"tool_calls": _shown_call(call)}}
            return [*found, _event("tool-call-start", index=call.index, delta=begun)]
        if not call.arguments:
            return []
        more = {"message": {"tool_calls": {"function": {"arguments": call.arguments}}}}
        return [_event("tool-call-delta", index=call.index, delta=more)]

    def close(self) -> list[bytes]:
        """The end of what is open."""
        if self._open is None:
            return []
        kind, index = self._open
        self._open = None
        return [_event("tool-call-end" if kind == "tool-call" else "content-end", index=index)]

    def end(self) -> bytes:
        end: dict[str, Any] = {"finish_reason": _finish(self.finish)}
        if self.usage is not None:
            end["usage"] = _usage(self.usage)
        return _event("message-end", delta=end)


async def _events(chunks: Chunks) -> AsyncGenerator[bytes, None]:
    message, begun = _Message(), False
    async with aclosing(chunks):
        async for chunk in chunks:
            events = [event for each in (chunk, *chunks.waiting()) for event in message.events(each)]
            if not begun:
                begun = True
                role = {"message": {"role": "assistant"}}
                events.insert(0, _event("message-start", id=chunk.id or secrets.token_hex(16), delta=role))
            if events:
                yield b"".join(events)
    yield b"".join([*message.close(), message.end()])


def _event(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + render.encode({"type": kind, **members}) + b"\n\n"


def _told(error: InferdError) -> bytes:
    """A failure midway ends the message with what went wrong."""
    return _event("message-end", delta={"finish_reason": "ERROR", "error": error.reason})


# The older stream


def _reads_lines(request: Request) -> bool:
    """Elasticsearch's own ``cohere`` service sends v2 requests but reads v1's stream: JSON lines with an ``event_type``
    (services/cohere.md). It says who it is."""
    return (request.header("request-source") or "").endswith(":elasticsearch")


async def _lines(chunks: Chunks) -> AsyncGenerator[bytes, None]:
    async with aclosing(chunks):
        async for chunk in chunks:
            texts = [c.delta.content for each in (chunk, *chunks.waiting()) for c in each.choices]
            lines = [_line("text-generation", text=text) for text in texts if text]
            if lines:
                yield b"".join(lines)
    yield _line("stream-end", finish_reason="COMPLETE")


def _line(kind: str, **members: Any) -> bytes:
    return render.encode({"event_type": kind, **members}) + b"\n"


def _line_told(error: InferdError) -> bytes:
    reason = "ERROR_LIMIT" if error.status == 429 else "ERROR"
    return _line("stream-end", finish_reason=reason, response={"text": error.reason})
