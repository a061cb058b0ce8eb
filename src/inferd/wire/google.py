"""Gemini's ``generateContent``, spoken by Vertex AI and AI Studio.

https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference (contract: services/googlevertexai.md,
services/googleaistudio.md). Beyond the contract, from the vendor's documentation: results of tools, thought signatures, effort.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inferd.core.inputs import Chat, Message, Reasoning, TextPart, ToolCall, ToolChoice
from inferd.core.results import (
    CallDelta,
    ChatAnswer,
    ChatUsage,
    Choice,
    Chunk,
    Completion,
    Delta,
    Result,
    Usage,
)
from inferd.core.service import Ask, BadReply, Event, Fault, Reply
from inferd.errors import StatusError
from inferd.wire.attachments import arguments
from inferd.wire.openai import as_chat
from inferd.wire.replies import decode, missing

REASONING_FORMAT = "google-vertex-ai-v1"
_CHAT = "not supported by Google VertexAI ChatCompletion. Supported"

# The request


def body(ask: Ask) -> dict[str, Any]:
    """``contents``, ``systemInstruction``, ``generationConfig``, ``tools``, ``toolConfig``: each only when there is something in it."""
    chat = as_chat(ask)
    out: dict[str, Any] = {"contents": contents(chat)}
    system = [{"text": text} for m in chat.messages if m.role == "system" for text in _texts(m)]
    if system:
        out["systemInstruction"] = {"parts": system}
    config = _generation(chat, ask.options)
    if config:
        out["generationConfig"] = config
    if chat.tools:
        out["tools"] = [{"functionDeclarations": _declarations(chat)}]
    forced = _forced(chat)
    if forced is not None:
        out["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [forced]}}
    return out


def contents(chat: Chat) -> list[dict[str, Any]]:
    """All messages but the system's; results of tools that ran side by side share one entry, as the vendor wants."""
    out: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    names: dict[str, str] = {}
    for message in chat.messages:
        if message.role == "system":
            continue
        if message.role != "tool":
            results = None
            names.update((call.id, call.function.name) for call in message.tool_calls or ())
            out.append({"role": _role(message), "parts": _parts(message)})
            continue
        if results is None:
            results = []
            out.append({"role": "user", "parts": results})
        results.append(_result(message, names))
    return out


def _role(message: Message) -> str:
    role = "model" if message.role == "assistant" else message.role
    if role not in ("user", "model"):
        raise StatusError(400, f"Role [{message.role}] {_CHAT} roles: [user, model]")
    return role


def _texts(message: Message) -> list[str]:
    """The text of each part; a part of another type is a 400."""
    if message.content is None or isinstance(message.content, str):
        return [message.content] if message.content else []
    texts = []
    for part in message.content:
        if not isinstance(part, TextPart):
            kind = part.__struct_config__.tag
            raise StatusError(400, f"Type [{kind}] {_CHAT} types: [text]")
        texts.append(part.text)
    return texts


def _parts(message: Message) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": text} for text in _texts(message)]
    calls = [_call(call) for call in message.tool_calls or ()]
    parts = parts if parts or calls else [{"text": ""}]
    _sign(parts, calls, message)
    return parts + calls


def _call(call: ToolCall) -> dict[str, Any]:
    return {"functionCall": {"name": call.function.name, "id": call.id, "args": arguments(call)}}


def _sign(parts: list[dict[str, Any]], calls: list[dict[str, Any]], message: Message) -> None:
    """Thought signatures of an earlier turn go back to the part they came with."""
    for detail in message.reasoning_details or ():
        signature = detail.get("data") or detail.get("signature")
        if detail.get("format") != REASONING_FORMAT or not signature:
            continue
        owner = next((c for c in calls if c["functionCall"]["id"] == detail.get("id")), None)
        target = owner or (parts[-1] if parts else calls[0])
        target["thoughtSignature"] = signature


def _result(message: Message, names: dict[str, str]) -> dict[str, Any]:
    id = message.tool_call_id or ""
    text = "".join(_texts(message))
    try:
        response = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, ValueError, RecursionError):
        response = None
    if not isinstance(response, dict):
        response = {"output": text}
    return {"functionResponse": {"name": names.get(id) or message.name or id, "id": id, "response": response}}


def _generation(chat: Chat, options: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if chat.stop:
        config["stopSequences"] = list(chat.stop)
    if chat.temperature is not None:
        config["temperature"] = chat.temperature
    if chat.max_completion_tokens is not None:
        config["maxOutputTokens"] = chat.max_completion_tokens
    if chat.top_p is not None:
        config["topP"] = chat.top_p
    stored = options.get("thinking_config") or {}
    if chat.reasoning is not None:
        config["thinkingConfig"] = _thinking(chat.reasoning)
    elif stored.get("thinking_budget") is not None:
        config["thinkingConfig"] = {"thinkingBudget": stored["thinking_budget"]}
    return config


_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576}
"""Tokens; https://ai.google.dev/gemini-api/docs/openai names these for OpenAI's efforts (``xhigh`` is not confirmed)."""


def _thinking(reasoning: Reasoning) -> dict[str, Any]:
    config: dict[str, Any] = {"thinkingBudget": _BUDGETS.get(reasoning.effort or "medium", 8192)}
    if not reasoning.exclude and config["thinkingBudget"]:
        config["includeThoughts"] = True
    return config


def _declarations(chat: Chat) -> list[dict[str, Any]]:
    out = []
    for tool in chat.tools or ():
        if tool.type != "function":
            raise StatusError(400, f"Tool type [{tool.type}] {_CHAT} types: [function]")
        function: dict[str, Any] = {"name": tool.function.name}
        if tool.function.description is not None:
            function["description"] = tool.function.description
        if tool.function.parameters is not None:
            function["parameters"] = tool.function.parameters
        out.append(function)
    return out


def _forced(chat: Chat) -> str | None:
    """The one function that must be called, if any."""
    choice = chat.tool_choice
    if isinstance(choice, ToolChoice):
        if choice.type != "function":
            raise StatusError(400, f"Tool choice type [{choice.type}] {_CHAT} types: [function]")
        return choice.name
    if choice not in (None, "auto"):
        raise StatusError(400, f"Tool choice value [{choice}] {_CHAT} values: [auto]")
    return None


# The answer


class _FunctionCall(Struct):
    name: str = ""
    id: str | None = None
    args: dict[str, Any] | None = None


class _Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(Struct):
    parts: list[_Part] | None = None
    role: str | None = None


class _Candidate(Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int = 0


class _Usage(Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    total_token_count: int | None = None

    @property
    def prompt(self) -> int:
        return self.prompt_token_count or 0

    @property
    def output(self) -> int:
        return (self.candidates_token_count or 0) + (self.thoughts_token_count or 0)


class _Reply(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    model_version: str | None = None
    response_id: str = ""
    error: Any = None


_reply = msgspec.json.Decoder(_Reply)

_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
_FILTERED = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR"}
)


def first_text(title: str) -> Callable[[Ask, Reply], Result]:
    """The first part of the first candidate. ``title`` stands in the text about a missing field."""

    def read(ask: Ask, reply: Reply) -> Result:
        body = decode(_reply, reply.body)
        parts = _required_parts(body, title)
        if not parts or parts[0].text is None:
            raise _missing("text", title)
        return Completion(texts=(parts[0].text,), usage=_completion_usage(body.usage_metadata))

    return read


def _required_parts(body: _Reply, title: str) -> list[_Part]:
    if not body.candidates:
        raise _missing("candidates", title)
    content = body.candidates[0].content
    if content is None:
        raise _missing("content", title)
    if content.parts is None:
        raise _missing("parts", title)
    return content.parts


def _missing(field: str, title: str) -> BadReply:
    return missing(field, f"{title} completion")


def _completion_usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        given=usage.prompt,
        used=usage.prompt,
        output=usage.output,
        cached=usage.cached_content_token_count,
        reasoning=usage.thoughts_token_count,
    )


def completion(title: str) -> Callable[[Ask, Reply], Result]:
    """The text of each candidate, thoughts left out."""

    def read(ask: Ask, reply: Reply) -> Result:
        body = decode(_reply, reply.body)
        if not body.candidates:
            raise _missing("candidates", title)
        texts = tuple(_text(candidate) or "" for candidate in body.candidates)
        return Completion(texts=texts, usage=_completion_usage(body.usage_metadata))

    return read


def _candidate_parts(candidate: _Candidate) -> list[_Part]:
    return candidate.content.parts or [] if candidate.content is not None else []


def _text(candidate: _Candidate) -> str | None:
    texts = [p.text for p in _candidate_parts(candidate) if p.text is not None and not p.thought]
    return "".join(texts) if texts else None


def answer(ask: Ask, reply: Reply) -> Result:
    """A whole chat answer."""
    (chunk,) = _ChatReader().chunks(decode(_reply, reply.body))
    if not chunk.choices:
        raise _missing("candidates", "Google Vertex AI")
    return ChatAnswer(id=chunk.id, choices=chunk.choices, model=chunk.model, usage=chunk.usage)


# Streams


def text_chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """For completion streams: the text of the first candidate. The last events of a stream may hold none."""

    def read(event: Event) -> Iterable[Chunk]:
        body = _decoded(event)
        text = _text(body.candidates[0]) if body.candidates else None
        return (Chunk(id="", choices=(Choice(delta=Delta(content=text)),)),) if text else ()

    return read


def _decoded(event: Event) -> _Reply:
    body = decode(_reply, event.data.encode("utf-8", "surrogatepass"))
    if body.error is not None:
        raise BadReply("The stream holds an error")
    if body.candidates is None and body.usage_metadata is None:
        raise BadReply("Required [candidates]")
    return body


def chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Reads one chat stream: every event is one chunk."""
    reader = _ChatReader()
    return lambda event: reader.chunks(_decoded(event))


class _ChatReader:
    """Tool calls are numbered through the whole stream: the vendor sends each whole and without a number."""

    def __init__(self) -> None:
        self._calls = 0

    def chunks(self, body: _Reply) -> tuple[Chunk]:
        """One chunk; its native form keeps the vendor's words for roles and ends."""
        native = tuple(self._choice(candidate) for candidate in body.candidates or ())
        chunk = Chunk(
            id=body.response_id,
            model=body.model_version,
            choices=tuple(self._in_openai_terms(choice) for choice in native),
            usage=_chat_usage(body.usage_metadata),
        )
        return (replace(chunk, native=replace(chunk, choices=native)),)

    def _choice(self, candidate: _Candidate) -> Choice:
        parts = _candidate_parts(candidate)
        thoughts = "".join(p.text for p in parts if p.thought and p.text)
        calls = tuple(self._call(p.function_call) for p in parts if p.function_call is not None)
        delta = Delta(
            content=_text(candidate),
            role=candidate.content.role if candidate.content is not None else None,
            reasoning=thoughts or None,
            reasoning_details=tuple(d for p in parts if (d := _detail(p)) is not None) or None,
            tool_calls=calls or None,
        )
        return Choice(delta=delta, index=candidate.index, finish_reason=candidate.finish_reason)

    def _call(self, call: _FunctionCall) -> CallDelta:
        number, self._calls = self._calls, self._calls + 1
        return CallDelta(
            index=number,
            id=_call_id(call),
            name=call.name,
            arguments=msgspec.json.encode(call.args or {}).decode(),
            type="function",
        )

    def _in_openai_terms(self, choice: Choice) -> Choice:
        reason = choice.finish_reason
        if reason is not None:
            reason = "content_filter" if reason in _FILTERED else _FINISH.get(reason, "stop")
            if reason == "stop" and self._calls:
                reason = "tool_calls"
        role = "assistant" if choice.delta.role == "model" else choice.delta.role
        return replace(choice, finish_reason=reason, delta=replace(choice.delta, role=role))


def _call_id(call: _FunctionCall) -> str:
    return call.id or call.name


def _detail(part: _Part) -> dict[str, Any] | None:
    """A thought, or the signature of one, which the vendor wants back with the part it came with."""
    detail: dict[str, Any] = {"format": REASONING_FORMAT}
    if part.thought and part.text:
        detail = {"type": "reasoning.text", **detail, "text": part.text}
        return {**detail, "signature": part.thought_signature} if part.thought_signature else detail
    if part.thought_signature is None:
        return None
    detail = {"type": "reasoning.encrypted", **detail, "data": part.thought_signature}
    return {**detail, "id": _call_id(part.function_call)} if part.function_call is not None else detail


def _chat_usage(usage: _Usage | None) -> ChatUsage | None:
    if usage is None:
        return None
    total = usage.total_token_count
    return ChatUsage(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.output,
        total_tokens=usage.prompt + usage.output if total is None else total,
        cached_tokens=usage.cached_content_token_count,
        reasoning_tokens=usage.thoughts_token_count,
    )


# Errors

_UNKNOWN = "google_vertex_ai_error"
_SHOWN = 4096
"""Characters of an unreadable error body that are quoted."""


def chat_fault(body: bytes) -> Fault:
    """``{"error": {"code", "message", "status"}}`` of a chat, before or inside its stream (services/googlevertexai.md)."""
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        whole = None
    if isinstance(whole, list) and len(whole) == 1:
        whole = whole[0]  # without alt=sse the vendor wraps even an error in an array
    error = whole.get("error") if isinstance(whole, dict) else None
    if isinstance(whole, dict) and error is None:
        return Fault(kind=_UNKNOWN, code="0")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        shown = body.decode("utf-8", "replace")[:_SHOWN]
        text = f"Unable to parse the Google Vertex AI error, response body: [{shown}]"
        return Fault(message=text, kind=_UNKNOWN, code="0")
    status, code = error.get("status"), error.get("code")
    return Fault(
        message=error["message"],
        kind=status if isinstance(status, str) else _UNKNOWN,
        code=str(code) if isinstance(code, int) and not isinstance(code, bool) else "0",
    )
