"""Anthropic's messages, spoken by Anthropic and by its models on Vertex AI.

https://docs.anthropic.com/en/api/messages (contract: services/anthropic.md, services/googlevertexai.md). Beyond the contract, from
the vendor's documentation: tool calls and results, images, documents and thinking of earlier turns become content blocks.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inferd.core.inputs import Chat, FilePart, ImagePart, Message, Part, Reasoning, TextPart, Tool
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
from inferd.core.service import Ask, BadReply, Event, Reply
from inferd.errors import UpstreamError
from inferd.upstream.faults import scrub
from inferd.wire.attachments import arguments, attachment, is_remote
from inferd.wire.blocks import ToolBlocks, step
from inferd.wire.replies import decode, missing

REASONING_FORMAT = "anthropic-claude-v1"
"""``format`` of the reasoning details that carry this vendor's signatures."""

# The request


def system(chat: Chat) -> str | list[dict[str, Any]] | None:
    """The system messages: one string as it is, anything else as text blocks."""
    found = [m for m in chat.messages if m.role == "system"]
    if not found:
        return None
    if len(found) == 1 and isinstance(found[0].content, str):
        return found[0].content
    return [_text_block(text) for m in found for text in _texts(m)]


def _texts(message: Message) -> list[str]:
    if message.content is None or isinstance(message.content, str):
        return [message.content] if message.content else []
    return [part.text for part in message.content if isinstance(part, TextPart)]


def messages(chat: Chat) -> list[dict[str, Any]]:
    """Everything but the system messages; results of tools that ran side by side share one user message."""
    out: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for message in chat.messages:
        if message.role == "system":
            continue
        if message.role != "tool":
            results = None
            out.append({"role": message.role, "content": _content(message)})
            continue
        if results is None:
            results = []
            out.append({"role": "user", "content": results})
        results.append(_tool_result(message))
    return out


def _content(message: Message) -> str | list[dict[str, Any]]:
    """As given where it is plain; content blocks where there is more than text."""
    thoughts = [] if message.role != "assistant" else _thoughts(message.reasoning_details or ())
    if isinstance(message.content, str) or message.content is None:
        text = message.content or ""
        if not thoughts and not message.tool_calls:
            return text
        blocks = [_text_block(text)] if text else []
    else:
        blocks = [_block(part) for part in message.content]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.function.name, "input": arguments(call)}
        for call in message.tool_calls or ()
    ]
    return [*thoughts, *blocks, *calls]


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return _text_block(part.text)
    if isinstance(part, ImagePart):
        return {"type": "image", "source": _source(part)}
    block: dict[str, Any] = {"type": "document", "source": _source(part)}
    if part.filename is not None:
        block["title"] = part.filename
    return block


def _source(part: ImagePart | FilePart) -> dict[str, Any]:
    if isinstance(part, ImagePart) and is_remote(part.url):
        return {"type": "url", "url": part.url}
    found = attachment(part)
    if found.family == "text":
        return {"type": "text", "media_type": "text/plain", "data": found.text()}
    return {"type": "base64", "media_type": found.media_type, "data": found.data}


def _tool_result(message: Message) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.tool_call_id}
    content = _content(message)
    if content:
        block["content"] = content
    return block


def _thoughts(details: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Thinking of an earlier turn, which the vendor wants back unchanged; pieces of one block are put together again."""
    blocks: dict[Any, dict[str, Any]] = {}
    for place, detail in enumerate(details):
        if detail.get("format") not in (None, REASONING_FORMAT):
            continue
        key = detail.get("type"), str(detail.get("index", f"#{place}"))
        if detail.get("type") == "reasoning.encrypted":
            blocks[key] = {"type": "redacted_thinking", "data": detail.get("data")}
        elif detail.get("type") == "reasoning.text":
            block = blocks.setdefault(key, {"type": "thinking", "thinking": "", "signature": ""})
            block["thinking"] += _word(detail, "text")
            block["signature"] += _word(detail, "signature")
    return [block for block in blocks.values() if block["type"] != "thinking" or block["signature"]]


def tool(tool: Tool) -> dict[str, Any]:
    """``name``, ``description`` and ``input_schema`` (the parameters), each when given."""
    function = tool.function
    out: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        out["description"] = function.description
    if function.parameters:
        out["input_schema"] = function.parameters
    return out


def _word(detail: dict[str, Any], key: str) -> str:
    value = detail.get(key)
    return value if isinstance(value, str) else ""


_SHARES = {"xhigh": 0.95, "high": 0.8, "medium": 0.5, "low": 0.2, "minimal": 0.1}
_LEAST_BUDGET = 1024


def thinking(reasoning: Reasoning | None, max_tokens: int) -> dict[str, Any] | None:
    """Effort as a share of the token limit: the vendor takes a budget of tokens, 1024 or more. Not confirmed."""
    if reasoning is None:
        return None
    share = _SHARES.get(reasoning.effort or "medium")
    if share is None:
        return {"type": "disabled"}
    return {"type": "enabled", "budget_tokens": max(_LEAST_BUDGET, int(max_tokens * share))}


# The answer


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    @property
    def prompt(self) -> int:
        """All tokens that were read, from a cache or not."""
        cached = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        return (self.input_tokens or 0) + cached


class _Block(Struct):
    type: str = ""
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class _Answer(Struct):
    content: list[_Block] | None = None
    id: str = ""
    model: str | None = None
    role: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Delta(Struct):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class _Error(Struct):
    type: str = ""
    message: str = ""


class _Event(Struct):
    type: str = ""
    index: int = 0
    message: _Answer | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


_answer = msgspec.json.Decoder(_Answer)
_event = msgspec.json.Decoder(_Event)

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def _finish(reason: str | None) -> str | None:
    return None if reason is None else _FINISH.get(reason, "stop")


def _chat_usage(usage: _Usage) -> ChatUsage:
    output = usage.output_tokens or 0
    return ChatUsage(
        prompt_tokens=usage.prompt,
        completion_tokens=output,
        total_tokens=usage.prompt + output,
        cached_tokens=usage.cache_read_input_tokens or None,
        cache_write_tokens=usage.cache_creation_input_tokens or None,
    )


def completion(name: str) -> Callable[[Ask, Reply], Result]:
    """One text a text block. ``name`` stands in the text about a missing field."""

    def read(ask: Ask, reply: Reply) -> Result:
        body = decode(_answer, reply.body)
        if body.content is None:
            raise missing("content", name)
        texts = tuple(block.text or "" for block in body.content if block.type == "text")
        return Completion(texts=texts, usage=_completion_usage(body.usage))

    return read


def _completion_usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        given=usage.prompt,
        used=usage.prompt,
        output=usage.output_tokens or 0,
        cached=usage.cache_read_input_tokens,
    )


def answer(ask: Ask, reply: Reply) -> Result:
    """A whole chat answer: the text blocks joined, a tool call a tool_use block, thinking as reasoning."""
    body = decode(_answer, reply.body)
    if body.content is None:
        raise missing("content", "Anthropic chat completions")
    blocks = body.content
    hidden = _hides_reasoning(ask)
    details = [] if hidden else [d for n, b in enumerate(blocks) if (d := _detail(b, n)) is not None]
    thoughts = [] if hidden else [b.thinking for b in blocks if b.type == "thinking" and b.thinking]
    texts = [block.text or "" for block in blocks if block.type == "text"]
    uses = [block for block in blocks if block.type == "tool_use"]
    delta = Delta(
        content="".join(texts) if texts else None,
        role=body.role or "assistant",
        reasoning="".join(thoughts) or None,
        reasoning_details=tuple(details) or None,
        tool_calls=tuple(
            CallDelta(index=n, id=use.id, name=use.name, arguments=_json(use.input), type="function")
            for n, use in enumerate(uses)
        )
        or None,
    )
    return ChatAnswer(
        id=body.id,
        choices=(Choice(delta=delta, finish_reason=_finish(body.stop_reason)),),
        model=body.model,
        usage=_chat_usage(body.usage) if body.usage is not None else None,
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value if value is not None else {}).decode()


def _hides_reasoning(ask: Ask) -> bool:
    reasoning = ask.inputs.reasoning if isinstance(ask.inputs, Chat) else None
    return reasoning is not None and reasoning.exclude is True


def _detail(block: _Block, index: int) -> dict[str, Any] | None:
    """What a client must send back for the vendor to trust its own thinking."""
    detail: dict[str, Any] = {"format": REASONING_FORMAT, "index": index}
    if block.type == "redacted_thinking":
        return {"type": "reasoning.encrypted", **detail, "data": block.data or ""}
    if block.type != "thinking":
        return None
    detail = {"type": "reasoning.text", **detail, "text": block.thinking or ""}
    if block.signature:
        detail["signature"] = block.signature
    return detail


# Streams

_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
}


def text_chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """For completion streams: the text of blocks; an ``error`` event has its own status and the vendor's words."""

    def read(event: Event) -> Iterable[Chunk]:
        body = _decoded(event)
        if body.type == "error":
            told = body.error or _Error()
            message = scrub(told.message, ask.endpoint)
            raise UpstreamError(_STATUS.get(told.type, 500), message, kind=told.type or None)
        text = None
        if body.type == "content_block_start" and body.content_block is not None:
            text = body.content_block.text
        elif body.type == "content_block_delta" and body.delta is not None:
            text = body.delta.text
        return (Chunk(id="", choices=(Choice(delta=Delta(content=text)),)),) if text else ()

    return read


def _decoded(event: Event) -> _Event:
    body = decode(_event, event.data.encode("utf-8", "surrogatepass"))
    if not body.type:
        raise BadReply("Required [type]")
    return body


def chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Reads one chat stream."""
    return _ChatReader(_hides_reasoning(ask))


class _ChatReader:
    def __init__(self, hides_reasoning: bool) -> None:
        self._hides_reasoning = hides_reasoning
        self._blank = Chunk(id="")
        self._usage = _Usage()
        self._tools = ToolBlocks()

    def __call__(self, event: Event) -> Iterable[Chunk]:
        body = _decoded(event)
        chunk = None
        match event.name or body.type:
            case "message_start":
                chunk = self._start(body)
            case "content_block_start":
                chunk = self._block_start(body)
            case "content_block_delta":
                chunk = self._block_delta(body)
            case "message_delta":
                chunk = self._end(body)
            case "error":
                raise BadReply("The stream holds an error")
        return (chunk,) if chunk is not None else ()

    def _start(self, body: _Event) -> Chunk:
        """Elasticsearch prints the usage in two pieces, this and the last; in OpenAI's terms it comes once."""
        if body.message is None:
            raise BadReply("Required [message]")
        self._blank = Chunk(id=body.message.id, model=body.message.model)
        self._usage = body.message.usage or _Usage()
        prompt, output = self._usage.input_tokens or 0, self._usage.output_tokens or 0
        chunk = step(self._blank, Delta(role=body.message.role))
        usage = ChatUsage(prompt_tokens=prompt, completion_tokens=output, total_tokens=prompt + output)
        return replace(chunk, native=replace(chunk, usage=usage))

    def _block_start(self, body: _Event) -> Chunk | None:
        block = body.content_block
        if block is None:
            raise BadReply("Required [content_block]")
        if block.type == "text":
            return step(self._blank, Delta(content=block.text or ""), block=body.index)
        if block.type == "tool_use":
            return self._tool_start(block, body.index)
        return self._thought(block, body.index)

    def _tool_start(self, block: _Block, place: int) -> Chunk:
        """The vendor starts with an empty object, which Elasticsearch prints; pieces that follow would not join to it."""
        call = CallDelta(id=block.id, name=block.name, arguments=_json(block.input))
        calls = self._tools.start(place, call if block.input else replace(call, arguments=""))
        native = Delta(tool_calls=(call,))
        return step(self._blank, Delta(tool_calls=calls), native=native, block=place)

    def _block_delta(self, body: _Event) -> Chunk | None:
        delta = body.delta
        if delta is None:
            raise BadReply("Required [delta]")
        if delta.type == "text_delta":
            return step(self._blank, Delta(content=delta.text or ""), block=body.index)
        if delta.type == "input_json_delta":
            piece = self._tools.piece(body.index, delta.partial_json or "")
            native = Delta(tool_calls=(replace(piece, index=0),))
            return step(self._blank, Delta(tool_calls=(piece,)), native=native, block=body.index)
        if delta.type in ("thinking_delta", "signature_delta"):
            thought = _Block(type="thinking", thinking=delta.thinking, signature=delta.signature)
            return self._thought(thought, body.index)
        return None

    def _thought(self, block: _Block, place: int) -> Chunk | None:
        detail = _detail(block, place)
        empty = block.type == "thinking" and not block.thinking and not block.signature
        if detail is None or empty or self._hides_reasoning:
            return None
        delta = Delta(reasoning=block.thinking or None, reasoning_details=(detail,))
        return step(self._blank, delta, block=place)

    def _end(self, body: _Event) -> Chunk:
        if body.delta is None:
            raise BadReply("Required [delta]")
        usage, reason = body.usage or _Usage(), body.delta.stop_reason
        output = usage.output_tokens or 0
        whole = usage if usage.input_tokens is not None else replace(self._usage, output_tokens=output)
        told = ChatUsage(prompt_tokens=0, completion_tokens=output, total_tokens=output)
        native = replace(step(self._blank, Delta(), finish=reason), usage=told)
        chunk = step(self._blank, Delta(tool_calls=self._tools.owed() or None), finish=_finish(reason))
        return replace(chunk, usage=_chat_usage(whole), native=native)
