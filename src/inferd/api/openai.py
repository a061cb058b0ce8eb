"""OpenAI's dialect: ``model`` is an inference id. https://platform.openai.com/docs/api-reference

Embeddings, chat completions, completions and models over the same actions, security and limits as every other dialect. Parameters that
would change the answer and that inferd cannot honour are refused by name.
"""

import base64
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

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
    json_response,
    read,
    refusal,
)
from inferd.api.elastic import render
from inferd.api.guard import Guard
from inferd.api.http import Dialect, Handler, Request, Response, Route
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
from inferd.core.results import CallDelta, ChatAnswer, ChatUsage, Choice, Delta, ElementType, Embeddings
from inferd.errors import IllegalArgument, InferdError, NotFound, SecurityError, UpstreamError

MAX_TOKEN_INPUTS = 2048


class Form(Struct, frozen=True):
    """How a chat's answer is written: a chat completion, or the older text completion."""

    whole: str
    """``object`` of the answer."""
    piece: str
    """``object`` of a step of its stream."""
    prefix: str
    """Of ids that are made here."""
    choice: Callable[[Choice, bool], dict[str, Any]]


class OpenAI:
    """Handlers over one house."""

    def __init__(self, house: House, guard: Guard) -> None:
        self.desk = Desk(house, guard)
        self.lexicon = house.lexicon

    async def models(self, request: Request) -> Response:
        shown = [_model(endpoint) for endpoint in self.desk.endpoints(request)]
        return json_response(render.encode({"object": "list", "data": shown}))

    async def model(self, request: Request) -> Response:
        return json_response(render.encode(_model(self.desk.endpoint(request, request.path_params["id"]))))

    async def embeddings(self, request: Request) -> Response:
        body = await read(request)
        id, raw = body.text("model"), body.take("input", str, list, required=True)
        form = body.take("encoding_format", str) or "float"
        dimensions = body.positive("dimensions")
        kind = _input_type(body)
        body.ignore("user")
        body.done()
        if form not in ("float", "base64"):
            raise IllegalArgument("[encoding_format] must be [float] or [base64]")
        endpoint = self.desk.endpoint(request, id, *DENSE_TASKS)
        check_dimensions("dimensions", endpoint, dimensions)
        texts = await self._texts(endpoint, raw)
        result = await self.desk.embed(endpoint, Texts(texts=texts, input_type=kind))
        return await self.desk.reply(lambda: _embeddings(result, form, endpoint), result)

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
        return await self.lexicon.texts_of(endpoint.settings.get("model_id"), rows)

    async def chat(self, request: Request) -> Response:
        body = await read(request)
        return await self._answer(request, body, parse_chat, CHAT)

    async def completions(self, request: Request) -> Response:
        body = await read(request)
        return await self._answer(request, body, parse_prompt, COMPLETION)

    async def _answer(
        self, request: Request, body: Body, parse: Callable[[Body], Chat], form: Form
    ) -> Response:
        id = body.text("model")
        streaming, with_usage = bool(body.take("stream", bool)), _with_usage(body)
        chat = parse(body)
        body.done()
        endpoint = self.desk.endpoint(request, id, *CHAT_TASKS)
        head = {"id": f"{form.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": id}
        if streaming:
            chunks = await self.desk.chat_stream(endpoint, chat, self.desk.heartbeat)
            return sse.stream(_events(chunks, head, form, with_usage), _told, self.desk.heartbeat)
        answer = await self.desk.chat(endpoint, chat)
        return await self.desk.reply(lambda: _whole(answer, head, form), answer)


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
    known = {str(kind): kind for kind in InputType if not kind.is_internal}
    if raw.lower() not in known:
        raise IllegalArgument(f"[input_type] must be one of [{', '.join(sorted(known))}]")
    return known[raw.lower()]


def _with_usage(body: Body) -> bool:
    options = body.object("stream_options")
    if options is None:
        return False
    wanted = bool(options.take("include_usage", bool))
    options.ignore("include_obfuscation")
    options.done()
    return wanted


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
    """The chat of a request whose ``model``, ``stream`` and ``stream_options`` members were taken."""
    effort = body.take("reasoning_effort", str)
    return Chat(
        messages=tuple(_message(message) for message in body.objects("messages", required=True)),
        tools=tuple(_tool(tool) for tool in body.objects("tools")) or None,
        tool_choice=_tool_choice(body),
        reasoning=None if effort is None else Reasoning(effort=effort),
        **_sampling(body),
    )


def parse_prompt(body: Body) -> Chat:
    prompts = body.texts("prompt")
    if len(prompts) > 1:
        raise IllegalArgument("[prompt] takes one text")
    return Chat(messages=(Message(role="user", content=prompts[0]),), **_sampling(body))


def _sampling(body: Body) -> dict[str, Any]:
    limit = body.positive("max_completion_tokens")
    old_limit = body.positive("max_tokens")
    body.ignore(*_HINTS)
    body.expect(**_NEUTRAL)
    return {
        "max_completion_tokens": limit if limit is not None else old_limit,
        "temperature": body.take("temperature", float),
        "top_p": body.take("top_p", float),
        "stop": body.texts("stop") if "stop" in body else None,
    }


def _message(body: Body) -> Message:
    role = body.text("role")
    content = body.take("content", str) if body.holds("content", str) else _parts(body)
    reasoning, other = body.take("reasoning_content", str), body.take("reasoning", str)
    message = Message(
        role="system" if role == "developer" else role,
        content=content,
        tool_call_id=body.take("tool_call_id", str),
        tool_calls=tuple(_tool_call(call) for call in body.objects("tool_calls")) or None,
        reasoning=reasoning or other,
        name=body.take("name", str),
    )
    body.ignore("refusal", "annotations")
    body.done()
    return message


def _parts(body: Body) -> tuple[Part, ...] | None:
    return tuple(_part(part) for part in body.objects("content")) if "content" in body else None


def _part(body: Body) -> Part:
    kind = body.text("type")
    body.ignore("cache_control")
    if kind == "text":
        part: Part = TextPart(body.take("text", str, required=True))
    elif kind == "image_url":
        image = body.member("image_url")
        part = ImagePart(image.text("url"), image.take("detail", str))
        image.done()
    elif kind == "file":
        file = body.member("file")
        part = FilePart(file.text("file_data"), file.take("filename", str))
        file.done()
    else:
        raise IllegalArgument(f"{body.name('type')} must be [text], [image_url] or [file]")
    body.done()
    return part


def _function(body: Body) -> Body:
    body.expect(type="function")
    function = body.member("function")
    body.done()
    return function


def _tool_call(body: Body) -> ToolCall:
    id = body.text("id")
    body.ignore("index")
    function = _function(body)
    call = FunctionCall(function.text("name"), function.take("arguments", str) or "")
    function.done()
    return ToolCall(id=id, function=call)


def _tool(body: Body) -> Tool:
    function = _function(body)
    tool = Tool(
        Function(
            function.text("name"),
            function.take("description", str),
            function.take("parameters", dict),
            function.take("strict", bool),
        )
    )
    function.done()
    return tool


def _tool_choice(body: Body) -> str | ToolChoice | None:
    if body.holds("tool_choice", str):
        return body.text("tool_choice")
    chosen = body.object("tool_choice")
    if chosen is None:
        return None
    function = _function(chosen)
    name = function.text("name")
    function.done()
    return ToolChoice(name)


# Answers


def _model(endpoint: Endpoint) -> dict[str, Any]:
    return {"id": endpoint.id, "object": "model", "created": 0, "owned_by": endpoint.service}


def _embeddings(result: Embeddings, form: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": n, "embedding": vector}
            for n, vector in enumerate(_vectors(result, form, endpoint))
        ],
        "model": endpoint.id,
        **_embedding_usage(result),
    }


def _vectors(result: Embeddings, form: str, endpoint: Endpoint) -> list[Any]:
    """One an input: numbers, or float32 bytes in base64."""
    rows = floats(result, endpoint)
    if form == "base64":
        return [base64.b64encode(row.tobytes()).decode() for row in rows]
    return list(rows if result.element is ElementType.FLOAT else result.vectors)


def _embedding_usage(result: Embeddings) -> dict[str, Any]:
    """Left out when the provider did not say: never a made-up number. Tokens beyond the model's window are named."""
    if result.usage is None:
        return {}
    shown = {"prompt_tokens": result.usage.used, "total_tokens": result.usage.used}
    if result.usage.dropped:
        shown["dropped_tokens"] = result.usage.dropped
    return {"usage": shown}


def _whole(answer: ChatAnswer, head: dict[str, Any], form: Form) -> dict[str, Any]:
    shown = {
        **head,
        "id": answer.id or head["id"],
        "object": form.whole,
        "choices": [form.choice(choice, True) for choice in answer.choices],
    }
    if answer.usage is not None:
        shown["usage"] = _usage(answer.usage)
    return shown


async def _events(
    chunks: Chunks, head: dict[str, Any], form: Form, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    """One event a chunk; then, where it was asked for and is known, one with the usage and no choices; ``[DONE]``."""
    head = {**head, "object": form.piece}
    usage: ChatUsage | None = None
    async with aclosing(chunks):
        async for chunk in chunks:
            events = []
            for each in (chunk, *chunks.waiting()):
                usage = each.usage or usage
                if each.choices:
                    shown = [form.choice(choice, False) for choice in each.choices]
                    events.append(_data({**head, "id": each.id or head["id"], "choices": shown}))
            if events:
                yield b"".join(events)
    if with_usage and usage is not None:
        yield _data({**head, "choices": [], "usage": _usage(usage)})
    yield b"data: [DONE]\n\n"


def _data(event: dict[str, Any]) -> bytes:
    return b"data: " + render.encode(event) + b"\n\n"


def _chat_choice(choice: Choice, whole: bool) -> dict[str, Any]:
    return {
        "index": choice.index,
        **({"message": _message_of(choice.delta)} if whole else {"delta": _delta(choice.delta)}),
        "logprobs": None,
        "finish_reason": choice.finish_reason,
    }


def _message_of(delta: Delta) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "role": delta.role or "assistant",
        "content": delta.content,
        "refusal": delta.refusal,
    }
    if delta.reasoning is not None:
        shown["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        shown["tool_calls"] = [
            {
                "id": call.id or f"call_{secrets.token_hex(12)}",
                "type": call.type or "function",
                "function": {"name": call.name or "", "arguments": call.arguments or ""},
            }
            for call in delta.tool_calls
        ]
    return shown


def _delta(delta: Delta) -> dict[str, Any]:
    """What this step brings, and nothing else."""
    shown: dict[str, Any] = {
        name: value
        for name, value in (
            ("role", delta.role),
            ("content", delta.content),
            ("refusal", delta.refusal),
            ("reasoning_content", delta.reasoning),
        )
        if value is not None
    }
    if delta.tool_calls:
        shown["tool_calls"] = [_call_delta(call) for call in delta.tool_calls]
    return shown


def _call_delta(call: CallDelta) -> dict[str, Any]:
    function = {"arguments": call.arguments or ""}
    if call.name is not None:
        function = {"name": call.name, **function}
    shown: dict[str, Any] = {"index": call.index, "function": function}
    if call.id is not None:
        shown["id"] = call.id
    if call.type is not None:
        shown["type"] = call.type
    return shown


def _text_choice(choice: Choice, whole: bool) -> dict[str, Any]:
    return {
        "index": choice.index,
        "text": choice.delta.content or "",
        "logprobs": None,
        "finish_reason": choice.finish_reason,
    }


CHAT = Form("chat.completion", "chat.completion.chunk", "chatcmpl", _chat_choice)
COMPLETION = Form("text_completion", "text_completion", "cmpl", _text_choice)


def _usage(usage: ChatUsage) -> dict[str, Any]:
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


# Failures


def problem(request: Request, error: InferdError) -> Response:
    return refusal(error, envelope(error))


def _told(error: InferdError) -> bytes:
    """A failure midway: an event with the error object, and no ``[DONE]``."""
    return _data(envelope(error))


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
