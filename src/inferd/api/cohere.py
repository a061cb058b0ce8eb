"""Cohere's dialect, v1 and v2, and the rerank that Jina and Voyage clients speak: ``model`` is an inference id.

https://docs.cohere.com/reference, https://api.jina.ai/redoc, https://docs.voyageai.com/reference/reranker-api
"""

import base64
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from inferd.actions.house import House
from inferd.api.asking import Body, Desk, decode
from inferd.api.elastic import render
from inferd.api.guard import Guard
from inferd.api.http import Dialect, Handler, Request, Response, Route, keep_alive
from inferd.core.inputs import (
    Chat,
    Function,
    FunctionCall,
    ImagePart,
    InputType,
    Message,
    Part,
    RankQuery,
    TextPart,
    Texts,
    Tool,
    ToolCall,
)
from inferd.core.results import CallDelta, ChatAnswer, ChatUsage, Chunk, ElementType, Embeddings, Ranking
from inferd.core.tasks import TaskType
from inferd.errors import IllegalArgument, InferdError

_DENSE_TASKS = (TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING)
_CHAT_TASKS = (TaskType.CHAT_COMPLETION, TaskType.COMPLETION)
_INPUT_TYPES = {
    "search_document": InputType.INGEST,
    "search_query": InputType.SEARCH,
    "classification": InputType.CLASSIFICATION,
    "clustering": InputType.CLUSTERING,
}
_FLOAT_TYPES = ("float", "int8", "uint8", "binary", "ubinary", "base64")
_FINISHED = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "stop_sequence": "STOP_SEQUENCE",
}


class Cohere:
    """Handlers over one house."""

    def __init__(self, house: House, guard: Guard) -> None:
        self.desk = Desk(house, guard)
        self.house = house
        self.version = house.config.api.version

    async def embed_v1(self, request: Request) -> Response:
        return await self._embed(request, "1")

    async def embed_v2(self, request: Request) -> Response:
        return await self._embed(request, "2")

    async def _embed(self, request: Request, version: str) -> Response:
        body = Body(decode(await request.body()))
        id, texts = body.text("model"), body.texts("texts")
        kind = _input_type(body)
        wanted = _embedding_types(body, version)
        truncate = (body.take("truncate", str) or "END").upper()
        dimensions = body.positive("output_dimension")
        body.ignore("max_tokens", "priority")
        body.done()
        endpoint = self.desk.endpoint(request, id, *_DENSE_TASKS)
        has = endpoint.settings.get("dimensions")
        if dimensions is not None and dimensions != has:
            raise IllegalArgument(f"[output_dimension] is [{dimensions}] but endpoint [{id}] gives [{has}]")
        result = await self.desk.embed(endpoint, Texts(texts=texts, input_type=kind))
        if truncate == "NONE" and result.truncated:
            listed = ", ".join(str(n) for n in result.truncated[:20])
            raise IllegalArgument(
                f"[truncate] is [NONE] and texts [{listed}] are longer than the model's window"
            )
        shown: dict[str, Any] = {
            "id": secrets.token_hex(16),
            "embeddings": {name: quantised(result, name, id) for name in wanted or ("float",)},
            "texts": texts,
            "meta": _meta(version, result.usage.used if result.usage else None, _cut_warning(result)),
        }
        if version == "1":
            shown["response_type"] = "embeddings_by_type" if wanted else "embeddings_floats"
            if not wanted:
                shown["embeddings"] = shown["embeddings"]["float"]
        return reply(shown, headers=render.facts(result, self.version))

    async def rerank_v1(self, request: Request) -> Response:
        """Cohere's own, and what Jina's and Voyage's clients read: a superset of the three."""
        return await self._rerank(request, "1")

    async def rerank_v2(self, request: Request) -> Response:
        return await self._rerank(request, "2")

    async def _rerank(self, request: Request, version: str) -> Response:
        body = Body(decode(await request.body()))
        id, query = body.text("model"), body.text("query")
        documents = _documents(body)
        voyage = "top_k" in body
        limit, other = body.positive("top_n"), body.positive("top_k")
        wanted = body.take("return_documents", bool)
        fields = body.take("rank_fields", list)
        body.ignore("max_chunks_per_doc", "max_tokens_per_doc", "truncation", "priority")
        body.done()
        if fields is not None and fields != ["text"]:
            raise IllegalArgument("[rank_fields] is not supported: documents are ranked by their text")
        endpoint = self.desk.endpoint(request, id, TaskType.RERANK)
        top_n = limit if limit is not None else other
        asked = RankQuery(query=query, documents=documents, top_n=top_n, return_documents=bool(wanted))
        result = await self.desk.ask(endpoint, asked)
        if not isinstance(result, Ranking):
            raise TypeError(f"{endpoint.service} answered {type(result).__name__}")
        used = result.usage.used if result.usage else None
        scores = np.array([item.score for item in result.items], dtype=np.float32)
        render.check_finite(scores, id)
        shown: dict[str, Any] = {
            "id": secrets.token_hex(16),
            "results": [
                {
                    "index": item.index,
                    "relevance_score": score,
                    **({"document": {"text": documents[item.index]}} if wanted else {}),
                }
                for item, score in zip(result.items[:top_n], scores, strict=False)
            ],
            "meta": _meta(version, used, _cut_warning(result), search_units=1),
        }
        if version == "1":
            shown |= {"model": id, **({"usage": {"total_tokens": used}} if used is not None else {})}
        if voyage:
            shown |= {"object": "list", "data": [_voyage(item) for item in shown["results"]]}
        return reply(shown, headers=render.facts(result, self.version))

    async def chat(self, request: Request) -> Response:
        body = Body(decode(await request.body()))
        id = body.text("model")
        streaming = bool(body.take("stream", bool))
        chat = parse_chat(body)
        endpoint = self.desk.endpoint(request, id, *_CHAT_TASKS)
        if streaming:
            chunks = await self.desk.chat_stream(endpoint, chat)
            return _stream(chat_events(chunks), self.house.config.api.stream_heartbeat or 15.0)
        answer = await self.desk.chat(endpoint, chat)
        return reply(whole(answer), headers=render.facts(answer, self.version))


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
    headers = [(name, value) for name, value in error.headers if name != "Connection"]
    body = orjson.dumps({"id": secrets.token_hex(16), "message": error.reason})
    return Response(body, status=error.status, content_type="application/json", headers=headers)


def reply(value: Any, headers: list[tuple[str, str]]) -> Response:
    return Response(render.encode(value), content_type="application/json", headers=headers)


# Embeddings


def _input_type(body: Body) -> InputType | None:
    raw = body.take("input_type", str)
    if raw is None:
        return None
    kind = _INPUT_TYPES.get(raw)
    if kind is None:
        raise IllegalArgument(f"[input_type] must be one of [{', '.join(_INPUT_TYPES)}]")
    return kind


def _embedding_types(body: Body, version: str) -> tuple[str, ...]:
    raw = body.take("embedding_types", list)
    if raw is None:
        return ("float",) if version == "2" else ()
    if not raw or not all(name in _FLOAT_TYPES for name in raw):
        raise IllegalArgument(f"[embedding_types] must hold some of [{', '.join(_FLOAT_TYPES)}]")
    return tuple(dict.fromkeys(raw))


def quantised(result: Embeddings, form: str, endpoint: str) -> list[Any]:
    """The vectors in one of Cohere's forms.

    From float vectors: int8 is ``round(127 v)`` and uint8 that plus 128 (for vectors of length one; wider values are clipped), binary and
    ubinary pack the signs, eight dimensions a byte, highest bit first. Vectors stored as bytes or bits are given in their own form only.
    """
    own = {"float": ("float", *_FLOAT_TYPES[1:]), "byte": ("int8",), "bit": ("binary", "ubinary")}[
        result.element
    ]
    if form not in own:
        raise IllegalArgument(
            f"[embedding_types] [{form}]: endpoint [{endpoint}] gives element type [{result.element}]"
        )
    vectors: npt.NDArray[Any] = np.ascontiguousarray(result.vectors)
    if result.element is not ElementType.FLOAT:
        return [row.astype(np.uint8) + np.uint8(128) if form == "ubinary" else row for row in vectors]
    vectors = vectors.astype("<f4", copy=False)
    render.check_finite(vectors, endpoint)
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


def _cut_warning(result: Embeddings | Ranking) -> list[str]:
    if not result.truncated:
        return []
    return [f"inputs {list(result.truncated[:100])} were cut to the model's window"]


def _meta(version: str, used: int | None, warnings: list[str], **units: int) -> dict[str, Any]:
    billed: dict[str, int] = dict(units)
    if used is not None:
        billed["input_tokens"] = used
    meta: dict[str, Any] = {"api_version": {"version": version}, "billed_units": billed}
    if warnings:
        meta["warnings"] = warnings
    return meta


# Rerank


def _documents(body: Body) -> tuple[str, ...]:
    """Strings, or objects with a ``text``."""
    raw = body.take("documents", list, required=True)
    texts = tuple(item.get("text") if isinstance(item, dict) else item for item in raw)
    if not texts or any(not isinstance(text, str) for text in texts):
        raise IllegalArgument("[documents] must be a non-empty array of strings or of objects with [text]")
    return tuple(map(str, texts))


def _voyage(item: dict[str, Any]) -> dict[str, Any]:
    shown = {"index": item["index"], "relevance_score": item["relevance_score"]}
    return {**shown, "document": item["document"]["text"]} if "document" in item else shown


# Chat


def parse_chat(body: Body) -> Chat:
    """A v2 chat without its ``model`` and ``stream`` members."""
    messages = body.take("messages", list, required=True)
    if not messages:
        raise IllegalArgument("[messages] must not be empty")
    choice = body.take("tool_choice", str)
    stop = body.take("stop_sequences", list)
    if stop is not None and not all(isinstance(s, str) for s in stop):
        raise IllegalArgument("[stop_sequences] must hold strings only")
    chat = Chat(
        messages=tuple(_message(m, n) for n, m in enumerate(messages)),
        max_completion_tokens=body.positive("max_tokens"),
        temperature=body.take("temperature", float),
        top_p=body.take("p", float),
        stop=tuple(stop) if stop else None,
        tools=_tools(body.take("tools", list)),
        tool_choice=None if choice is None else choice.lower(),
    )
    body.ignore("seed", "priority", "safety_mode", "strict_tools")
    body.expect(
        k=0, frequency_penalty=0, presence_penalty=0, logprobs=False, response_format={"type": "text"}
    )
    body.expect(documents=[], citation_options={"mode": "OFF"})
    body.done()
    return chat


def _message(raw: Any, n: int) -> Message:
    where = f"messages[{n}]"
    if not isinstance(raw, dict) or not isinstance(raw.get("role"), str):
        raise IllegalArgument(f"[{where}.role] is required")
    content = raw.get("content")
    if isinstance(content, list):
        content = tuple(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    elif content is not None and not isinstance(content, str):
        raise IllegalArgument(f"[{where}.content] must be a string or an array")
    calls = raw.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise IllegalArgument(f"[{where}.tool_calls] must be an array")
    tool_call_id = raw.get("tool_call_id")
    return Message(
        role=raw["role"],
        content=content,
        tool_call_id=tool_call_id if isinstance(tool_call_id, str) else None,
        tool_calls=tuple(_tool_call(call, where) for call in calls) if calls else None,
    )


def _part(raw: Any, where: str) -> Part:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if kind == "text" and isinstance(raw.get("text"), str):
        return TextPart(raw["text"])
    if (
        kind == "image_url"
        and isinstance(raw.get("image_url"), dict)
        and isinstance(raw["image_url"].get("url"), str)
    ):
        return ImagePart(raw["image_url"]["url"])
    if kind == "document" and isinstance(raw.get("document"), dict):
        found = raw["document"].get("data")
        return TextPart(found if isinstance(found, str) else msgspec.json.encode(found).decode())
    raise IllegalArgument(f"[{where}] must be a part of type [text], [image_url] or [document]")


def _tool_call(raw: Any, where: str) -> ToolCall:
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise IllegalArgument(f"[{where}.tool_calls] must have [function.name]")
    arguments = function.get("arguments")
    return ToolCall(
        id=str(raw.get("id") or ""),
        function=FunctionCall(function["name"], arguments if isinstance(arguments, str) else "{}"),
    )


def _tools(raw: list[Any] | None) -> tuple[Tool, ...] | None:
    if not raw:
        return None
    found = []
    for n, item in enumerate(raw):
        function = item.get("function") if isinstance(item, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise IllegalArgument(f"[tools[{n}].function.name] is required")
        parameters = function.get("parameters")
        found.append(
            Tool(
                Function(
                    function["name"],
                    function.get("description") if isinstance(function.get("description"), str) else None,
                    parameters if isinstance(parameters, dict) else None,
                )
            )
        )
    return tuple(found)


def whole(answer: ChatAnswer) -> dict[str, Any]:
    """A chat answer in v2's form: the first choice."""
    choice = answer.choices[0] if answer.choices else None
    message: dict[str, Any] = {"role": "assistant"}
    if choice is not None and choice.delta.content is not None:
        message["content"] = [{"type": "text", "text": choice.delta.content}]
    if choice is not None and choice.delta.tool_calls:
        message["tool_calls"] = [_shown_call(call) for call in choice.delta.tool_calls]
    shown: dict[str, Any] = {
        "id": answer.id or secrets.token_hex(16),
        "finish_reason": _finish(choice.finish_reason if choice else None),
        "message": message,
    }
    if answer.usage is not None:
        shown["usage"] = _usage(answer.usage)
    return shown


def _finish(reason: str | None) -> str:
    return _FINISHED.get(reason or "stop", "COMPLETE")


def _shown_call(call: CallDelta) -> dict[str, Any]:
    return {
        "id": call.id or "",
        "type": "function",
        "function": {"name": call.name or "", "arguments": call.arguments or ""},
    }


def _usage(usage: ChatUsage) -> dict[str, Any]:
    tokens = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    return {"billed_units": tokens, "tokens": tokens}


async def chat_events(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[bytes, None]:
    """v2's events: the message opens, its content and tool calls open and close in turn, the message ends."""
    open_text = False
    open_call: int | None = None
    started = False
    block = 0
    finish: str | None = None
    usage: ChatUsage | None = None
    async for chunk in chunks:
        if not started:
            started = True
            yield _event(
                "message-start",
                id=chunk.id or secrets.token_hex(16),
                delta={"message": {"role": "assistant"}},
            )
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            if choice.delta.content:
                if not open_text:
                    open_text = True
                    content: dict[str, Any] = {"type": "text", "text": ""}
                    yield _event("content-start", index=block, delta={"message": {"content": content}})
                text = {"message": {"content": {"text": choice.delta.content}}}
                yield _event("content-delta", index=block, delta=text)
            for call in choice.delta.tool_calls or ():
                if open_text:
                    open_text = False
                    yield _event("content-end", index=block)
                    block += 1
                if open_call != call.index:
                    if open_call is not None:
                        yield _event("tool-call-end", index=open_call)
                    open_call = call.index
                    begun = {"message": {"tool_calls": _shown_call(call)}}
                    yield _event("tool-call-start", index=call.index, delta=begun)
                elif call.arguments:
                    more = {"message": {"tool_calls": {"function": {"arguments": call.arguments}}}}
                    yield _event("tool-call-delta", index=call.index, delta=more)
    if open_text:
        yield _event("content-end", index=block)
    if open_call is not None:
        yield _event("tool-call-end", index=open_call)
    end: dict[str, Any] = {"finish_reason": _finish(finish)}
    if usage is not None:
        end["usage"] = _usage(usage)
    yield _event("message-end", delta=end)


def _event(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + render.encode({"type": kind, **members}) + b"\n\n"


def _stream(events: AsyncGenerator[bytes, None], heartbeat: float) -> Response:
    headers = [("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]
    stream = keep_alive(_told(events), heartbeat, b": keep-alive\n\n")
    return Response(stream, content_type="text/event-stream", headers=headers)


async def _told(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """A failure midway ends the message with what went wrong."""
    async with aclosing(events):
        try:
            async for event in events:
                yield event
        except InferdError as error:
            yield _event("message-end", delta={"finish_reason": "ERROR", "error": error.reason})
