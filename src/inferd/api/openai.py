"""OpenAI's dialect: ``model`` is an inference id. https://platform.openai.com/docs/api-reference

Embeddings, chat completions, completions and models over the same actions, security and limits as every other dialect. Parameters that
would change the answer and that inferd cannot honour are refused by name.
"""

import base64
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import numpy as np
import orjson

from inferd.actions.house import House
from inferd.api.asking import Body, Desk, decode
from inferd.api.elastic import render
from inferd.api.guard import Guard
from inferd.api.http import Dialect, Handler, Request, Response, Route, keep_alive
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import (
    Chat,
    FilePart,
    Function,
    FunctionCall,
    ImagePart,
    InputType,
    Message,
    Part,
    Reasoning,
    TextPart,
    Texts,
    Tool,
    ToolCall,
    ToolChoice,
)
from inferd.core.results import ChatUsage, Choice, Chunk, Delta, ElementType, Embeddings
from inferd.core.tasks import TaskType
from inferd.errors import IllegalArgument, InferdError, NotFound, SecurityError, UpstreamError

_CHAT_TASKS = (TaskType.CHAT_COMPLETION, TaskType.COMPLETION)
_DENSE_TASKS = (TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING)
MAX_TOKEN_INPUTS = 2048


class OpenAI:
    """Handlers over one house."""

    def __init__(self, house: House, guard: Guard) -> None:
        self.desk = Desk(house, guard)
        self.house = house
        self.version = house.config.api.version

    def _headers(self, result: Any) -> list[tuple[str, str]]:
        return render.facts(result, self.version)

    async def models(self, request: Request) -> Response:
        return reply({"object": "list", "data": [_model(e) for e in self.desk.endpoints(request)]})

    async def model(self, request: Request) -> Response:
        return reply(_model(self.desk.endpoint(request, request.path_params["id"])))

    async def embeddings(self, request: Request) -> Response:
        body = Body(decode(await request.body()))
        id, raw = body.text("model"), body.take("input", str, list, required=True)
        form = body.take("encoding_format", str) or "float"
        dimensions = body.positive("dimensions")
        kind = _input_type(body)
        body.ignore("user")
        body.done()
        if form not in ("float", "base64"):
            raise IllegalArgument("[encoding_format] must be [float] or [base64]")
        endpoint = self.desk.endpoint(request, id, *_DENSE_TASKS)
        check_dimensions(endpoint, dimensions)
        texts = await self._texts(endpoint, raw)
        result = await self.desk.embed(endpoint, Texts(texts=texts, input_type=kind))
        return reply(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": n, "embedding": vector}
                    for n, vector in enumerate(vectors(result, form, endpoint.id))
                ],
                "model": id,
                **_embedding_usage(result),
            },
            headers=self._headers(result),
        )

    async def _texts(self, endpoint: Endpoint, raw: Any) -> tuple[str, ...]:
        """Texts as they are; token ids are the endpoint's own model's and are read back by its tokenizer."""
        items = [raw] if isinstance(raw, str) else raw
        if not items:
            raise IllegalArgument("[input] must not be empty")
        if all(isinstance(item, str) for item in items):
            return tuple(items)
        rows: Any = [items] if all(_is_id(item) for item in items) else items
        if len(rows) > MAX_TOKEN_INPUTS or not all(
            isinstance(row, list) and row and all(_is_id(item) for item in row) for row in rows
        ):
            raise IllegalArgument("[input] must be a string, an array of strings, or arrays of token ids")
        return await self.house.lexicon.texts_of(endpoint.settings.get("model_id"), rows)

    async def chat(self, request: Request) -> Response:
        body = Body(decode(await request.body()))
        id = body.text("model")
        streaming = bool(body.take("stream", bool))
        options = body.take("stream_options", dict) or {}
        chat = parse_chat(body)
        endpoint = self.desk.endpoint(request, id, *_CHAT_TASKS)
        made = int(time.time())
        if streaming:
            chunks = await self.desk.chat_stream(endpoint, chat)
            usage = bool(options.get("include_usage"))
            return event_stream(self._chat_events(chunks, id, made, usage), self._heartbeat())
        answer = await self.desk.chat(endpoint, chat)
        shown = {
            "id": answer.id or f"chatcmpl-{secrets.token_hex(12)}",
            "object": "chat.completion",
            "created": made,
            "model": id,
            "choices": [_choice(choice, "message") for choice in answer.choices],
        }
        if answer.usage is not None:
            shown["usage"] = chat_usage(answer.usage)
        return reply(shown, headers=self._headers(answer))

    def _heartbeat(self) -> float:
        return self.house.config.api.stream_heartbeat or 15.0

    async def _chat_events(
        self, chunks: AsyncIterator[Chunk], model: str, made: int, usage: bool
    ) -> AsyncGenerator[bytes, None]:
        fallback = f"chatcmpl-{secrets.token_hex(12)}"
        async for chunk in chunks:
            event = {
                "id": chunk.id or fallback,
                "object": "chat.completion.chunk",
                "created": made,
                "model": model,
                "choices": [_choice(choice, "delta") for choice in chunk.choices],
            }
            if chunk.usage is not None and usage:
                event["usage"] = chat_usage(chunk.usage)
            if chunk.choices or "usage" in event:
                yield data(event)

    async def completions(self, request: Request) -> Response:
        body = Body(decode(await request.body()))
        id = body.text("model")
        prompts = body.texts("prompt")
        streaming = bool(body.take("stream", bool))
        body.ignore("stream_options", "user")
        chat = Chat(messages=(Message(role="user", content=prompts[0]),), **_sampling(body))
        body.done()
        if len(prompts) > 1:
            raise IllegalArgument("[prompt] takes one text")
        endpoint = self.desk.endpoint(request, id, *_CHAT_TASKS)
        made, name = int(time.time()), f"cmpl-{secrets.token_hex(12)}"
        base = {"id": name, "object": "text_completion", "created": made, "model": id}
        if streaming:
            chunks = await self.desk.chat_stream(endpoint, chat)
            return event_stream(_text_events(chunks, base), self._heartbeat())
        answer = await self.desk.chat(endpoint, chat)
        shown = {**base, "choices": [_text_choice(choice) for choice in answer.choices]}
        if answer.usage is not None:
            shown["usage"] = chat_usage(answer.usage)
        return reply(shown, headers=self._headers(answer))


def routes(
    handlers: OpenAI, read: tuple[str, tuple[str, ...]], infer: tuple[str, tuple[str, ...]]
) -> list[Route]:
    """``read`` and ``infer``: action name and the privileges that grant it."""

    def row(method: str, template: str, handler: Handler, granted: tuple[str, tuple[str, ...]]) -> Route:
        return Route(
            method=method,
            template=template,
            handler=handler,
            action=granted[0],
            privileges=granted[1],
            body="required" if method == "POST" else "none",
        )

    return [
        row("GET", "/v1/models", handlers.models, read),
        row("GET", "/v1/models/{id}", handlers.model, read),
        row("POST", "/v1/embeddings", handlers.embeddings, infer),
        row("POST", "/v1/chat/completions", handlers.chat, infer),
        row("POST", "/v1/completions", handlers.completions, infer),
    ]


def dialect(guard: Guard) -> Dialect:
    return Dialect(name="openai", problem=problem, authenticate=guard.authenticate)


# Reading


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _input_type(body: Body) -> InputType | None:
    """An extension that clients send through ``extra_body``: what the texts are for."""
    raw = body.take("input_type", str)
    if raw is None:
        return None
    try:
        kind = InputType(raw.lower())
    except ValueError:
        kind = InputType.INTERNAL_INGEST
    if kind.is_internal:
        raise IllegalArgument(
            "[input_type] must be one of [classification, clustering, ingest, search, unspecified]"
        )
    return kind


def check_dimensions(endpoint: Endpoint, wanted: int | None) -> None:
    """The endpoint decides how long its vectors are."""
    has = endpoint.settings.get("dimensions")
    if wanted is not None and wanted != has:
        raise IllegalArgument(
            f"[dimensions] is [{wanted}] but inference endpoint [{endpoint.id}] gives [{has}]; "
            "create an endpoint with these dimensions"
        )


_HINTS = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "seed",
    "verbosity",
)
_NEUTRAL: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logprobs": False,
    "logit_bias": {},
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "modalities": ["text"],
}


def parse_chat(body: Body) -> Chat:
    """The chat of a request whose ``model`` and ``stream`` members were taken."""
    messages = body.take("messages", list, required=True)
    if not messages:
        raise IllegalArgument("[messages] must not be empty")
    chat = Chat(
        messages=tuple(_message(m, n) for n, m in enumerate(messages)),
        tools=_tools(body.take("tools", list)),
        tool_choice=_tool_choice(body.take("tool_choice", str, dict)),
        reasoning=_reasoning(body),
        **_sampling(body),
    )
    body.done()
    return chat


def _sampling(body: Body) -> dict[str, Any]:
    stop = body.take("stop", str, list)
    if isinstance(stop, list) and not all(isinstance(s, str) for s in stop):
        raise IllegalArgument("[stop] must be a string or an array of strings")
    limit = body.positive("max_completion_tokens")
    old_limit = body.positive("max_tokens")
    body.ignore(*_HINTS)
    body.expect(**_NEUTRAL)
    return {
        "max_completion_tokens": limit if limit is not None else old_limit,
        "temperature": body.take("temperature", float),
        "top_p": body.take("top_p", float),
        "stop": None if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
    }


def _reasoning(body: Body) -> Reasoning | None:
    effort = body.take("reasoning_effort", str)
    return None if effort is None else Reasoning(effort=effort)


def _message(raw: Any, n: int) -> Message:
    where = f"messages[{n}]"
    if not isinstance(raw, dict) or not isinstance(raw.get("role"), str):
        raise IllegalArgument(f"[{where}.role] is required")
    role = "system" if raw["role"] == "developer" else raw["role"]
    content = raw.get("content")
    if isinstance(content, list):
        content = tuple(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    elif content is not None and not isinstance(content, str):
        raise IllegalArgument(f"[{where}.content] must be a string or an array")
    calls = raw.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise IllegalArgument(f"[{where}.tool_calls] must be an array")
    return Message(
        role=role,
        content=content,
        tool_call_id=_string(raw, "tool_call_id", where),
        tool_calls=tuple(_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls))
        if calls
        else None,
        reasoning=_string(raw, "reasoning_content", where) or _string(raw, "reasoning", where),
        name=_string(raw, "name", where),
    )


def _string(raw: dict[str, Any], key: str, where: str) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise IllegalArgument(f"[{where}.{key}] must be a string")
    return value


def _part(raw: Any, where: str) -> Part:
    kind = raw.get("type") if isinstance(raw, dict) else None
    inner = raw.get(kind) if isinstance(raw, dict) and isinstance(kind, str) else None
    if kind == "text" and isinstance(inner, str):
        return TextPart(inner)
    if kind == "image_url" and isinstance(inner, dict) and isinstance(inner.get("url"), str):
        return ImagePart(inner["url"], _string(inner, "detail", where))
    if kind == "file" and isinstance(inner, dict) and isinstance(inner.get("file_data"), str):
        return FilePart(inner["file_data"], _string(inner, "filename", where))
    raise IllegalArgument(f"[{where}] must be a part of type [text], [image_url] or [file]")


def _tool_call(raw: Any, where: str) -> ToolCall:
    function = raw.get("function") if isinstance(raw, dict) else None
    if (
        not isinstance(function, dict)
        or not isinstance(function.get("name"), str)
        or not isinstance(raw.get("id"), str)
    ):
        raise IllegalArgument(f"[{where}] must have [id] and [function.name]")
    return ToolCall(
        id=raw["id"],
        type=_string(raw, "type", where) or "function",
        function=FunctionCall(function["name"], _string(function, "arguments", where) or ""),
    )


def _tools(raw: list[Any] | None) -> tuple[Tool, ...] | None:
    if not raw:
        return None
    found = []
    for n, item in enumerate(raw):
        where = f"tools[{n}]"
        function = item.get("function") if isinstance(item, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise IllegalArgument(f"[{where}.function.name] is required")
        parameters, strict = function.get("parameters"), function.get("strict")
        if parameters is not None and not isinstance(parameters, dict):
            raise IllegalArgument(f"[{where}.function.parameters] must be an object")
        if strict is not None and not isinstance(strict, bool):
            raise IllegalArgument(f"[{where}.function.strict] must be a boolean")
        name = function["name"]
        description = _string(function, "description", where)
        kind = _string(item, "type", where) or "function"
        found.append(Tool(Function(name, description, parameters, strict), kind))
    return tuple(found)


def _tool_choice(raw: Any) -> str | ToolChoice | None:
    if raw is None or isinstance(raw, str):
        return raw
    function = raw.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise IllegalArgument("[tool_choice.function.name] is required")
    return ToolChoice(function["name"], _string(raw, "type", "tool_choice") or "function")


# Rendering


def reply(value: Any, *, status: int = 200, headers: list[tuple[str, str]] | None = None) -> Response:
    return Response(
        render.encode(value), status=status, content_type="application/json", headers=headers or ()
    )


def _model(endpoint: Endpoint) -> dict[str, Any]:
    return {"id": endpoint.id, "object": "model", "created": 0, "owned_by": endpoint.service}


def vectors(result: Embeddings, form: str, endpoint_id: str) -> list[Any]:
    """One vector an input: float32 rows, or their bytes in base64 (little-endian)."""
    rows = np.ascontiguousarray(result.vectors)
    if result.element is ElementType.FLOAT:
        rows = rows.astype("<f4", copy=False)
        render.check_finite(rows, endpoint_id)
    if form == "base64":
        wide = rows.astype("<f4", copy=False)
        return [base64.b64encode(row.tobytes()).decode() for row in wide]
    return list(rows)


def _embedding_usage(result: Embeddings) -> dict[str, Any]:
    """Left out when the provider did not say: never a made-up number."""
    if result.usage is None:
        return {}
    return {"usage": {"prompt_tokens": result.usage.used, "total_tokens": result.usage.used}}


def _choice(choice: Choice, wrapper: str) -> dict[str, Any]:
    return {
        "index": choice.index,
        wrapper: _delta(choice.delta, whole=wrapper == "message"),
        "logprobs": None,
        "finish_reason": choice.finish_reason,
    }


def _delta(delta: Delta, *, whole: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if delta.role is not None or whole:
        shown["role"] = delta.role or "assistant"
    if delta.content is not None or whole:
        shown["content"] = delta.content
    if delta.refusal is not None or whole:
        shown["refusal"] = delta.refusal
    if delta.reasoning is not None:
        shown["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        shown["tool_calls"] = [
            {
                **({} if whole else {"index": call.index}),
                **({"id": call.id} if call.id is not None else {}),
                **({"type": call.type} if call.type is not None else {}),
                "function": {
                    **({"name": call.name} if call.name is not None else {}),
                    "arguments": call.arguments or "",
                },
            }
            for call in delta.tool_calls
        ]
    return shown


def _text_choice(choice: Choice) -> dict[str, Any]:
    return {
        "index": choice.index,
        "text": choice.delta.content or "",
        "logprobs": None,
        "finish_reason": choice.finish_reason,
    }


async def _text_events(chunks: AsyncIterator[Chunk], base: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        if chunk.choices:
            yield data({**base, "choices": [_text_choice(choice) for choice in chunk.choices]})


def chat_usage(usage: ChatUsage) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        shown["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        shown["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return shown


def data(event: Any) -> bytes:
    return b"data: " + render.encode(event) + b"\n\n"


def event_stream(events: AsyncGenerator[bytes, None], heartbeat: float) -> Response:
    stream = keep_alive(_closed(events), heartbeat, b": keep-alive\n\n")
    headers = [("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]
    return Response(stream, content_type="text/event-stream", headers=headers)


async def _closed(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Ends with ``[DONE]``, or with an error event where the provider failed."""
    async with aclosing(events):
        try:
            async for event in events:
                yield event
        except InferdError as error:
            yield data(envelope(error))
            return
    yield b"data: [DONE]\n\n"


# Failures


def problem(request: Request, error: InferdError) -> Response:
    headers = [(name, value) for name, value in error.headers if name != "Connection"]
    body = orjson.dumps(envelope(error))
    return Response(body, status=error.status, content_type="application/json", headers=headers)


_TYPES = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}


def envelope(error: InferdError) -> dict[str, Any]:
    """OpenAI's error object; a provider's own words where it gave them."""
    kind, code = _TYPES.get(
        error.status, ("invalid_request_error" if error.status < 500 else "server_error", None)
    )
    param = None
    if isinstance(error, NotFound):
        param = "model"
    if isinstance(error, UpstreamError):
        kind, code, param = error.kind or kind, error.code or code, error.param
    elif isinstance(error, SecurityError) and error.status == 403:
        code = "insufficient_permissions"
    return {"error": {"message": error.reason, "type": kind, "param": param, "code": code}}
