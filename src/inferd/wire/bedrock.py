"""Amazon Bedrock's Converse API. https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html

Contract: services/amazonbedrock.md. Beyond it, from the vendor's documentation: images and documents in user messages.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from inferd.core.inputs import Chat, FilePart, ImagePart, Message, Part, TextPart, ToolChoice
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
from inferd.errors import StatusError, UpstreamFailure, status_name
from inferd.upstream.faults import UNREAD_KIND, scrub
from inferd.wire.attachments import arguments, attachment
from inferd.wire.blocks import ToolBlocks, step
from inferd.wire.replies import decode, missing

# The request


def chat_body(chat: Chat, defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    """``messages``, ``system``, ``toolConfig``, ``inferenceConfig``.

    ``defaults``: Converse's names (``maxTokens`` …) to values, where the request has none of its own.
    """
    out: dict[str, Any] = {"messages": messages(chat)}
    system = [{"text": text} for m in chat.messages if m.role == "system" for text in _texts(m)]
    if system:
        out["system"] = system
    if _has_tools(chat):
        out["toolConfig"] = _tool_config(chat)
    given = {"temperature": chat.temperature, "topP": chat.top_p, "maxTokens": chat.max_completion_tokens}
    config = {**(defaults or {}), **{k: v for k, v in given.items() if v is not None}}
    if config:
        if chat.stop:
            config["stopSequences"] = list(chat.stop)
        out["inferenceConfig"] = config
    return out


def _texts(message: Message) -> list[str]:
    """Every text that is not empty."""
    if message.content is None or isinstance(message.content, str):
        return [message.content] if message.content else []
    return [part.text for part in message.content if isinstance(part, TextPart) and part.text]


def messages(chat: Chat) -> list[dict[str, Any]]:
    """User and assistant in turns, a user first: Converse refuses anything else."""
    tools = _has_tools(chat)
    turns: list[dict[str, Any]] = []
    holds_result = False
    for message in chat.messages:
        role, blocks = _turn(message, tools)
        if not blocks:
            continue
        is_result = message.role == "tool"
        if not turns and role == "assistant":
            turns.append({"role": "user", "content": [{"text": "Hi"}]})
        if turns and turns[-1]["role"] == role:
            if is_result == holds_result:
                turns[-1]["content"] += blocks
                continue
            turns.append({"role": "assistant", "content": [{"text": "Please continue."}]})
        turns.append({"role": role, "content": blocks})
        holds_result = is_result
    return turns


def _turn(message: Message, tools: bool) -> tuple[str, list[dict[str, Any]]]:
    """Role and content blocks; no blocks: the message is left out."""
    match message.role:
        case "system":
            return "system", []
        case "user":
            return "user", _user_blocks(message)
        case "assistant":
            calls = message.tool_calls or () if tools else ()
            uses = [
                {"toolUse": {"toolUseId": call.id, "name": call.function.name, "input": arguments(call)}}
                for call in calls
            ]
            return "assistant", [{"text": text} for text in _texts(message)] + uses
        case "tool":
            return "user", [_tool_result(message)] if tools else []
    raise StatusError(400, f"Unsupported message role: {message.role}")


def _tool_result(message: Message) -> dict[str, Any]:
    texts = _texts(message)
    if not texts:
        raise StatusError(400, "Tool message must have non-empty contents")
    content = [{"text": text} for text in texts]
    return {"toolResult": {"toolUseId": message.tool_call_id, "content": content}}


def _user_blocks(message: Message) -> list[dict[str, Any]]:
    if message.content is None or isinstance(message.content, str):
        return [{"text": text} for text in _texts(message)]
    blocks = [_block(part, place) for place, part in enumerate(message.content)]
    return [block for block in blocks if block is not None]


def _block(part: Part, place: int) -> dict[str, Any] | None:
    if isinstance(part, TextPart):
        return {"text": part.text} if part.text else None
    if isinstance(part, ImagePart):
        return {"image": {"format": _format(part), "source": {"bytes": attachment(part).data}}}
    name = _DOCUMENT_NAME.sub(" ", (part.filename or "").rpartition(".")[0]).strip() or f"document {place}"
    return {"document": {"format": _format(part), "name": name, "source": {"bytes": attachment(part).data}}}


_DOCUMENT_NAME = re.compile(r"[^A-Za-z0-9()\[\]-]+")
"""What a document's name may not hold, and runs of blanks."""

_FORMATS = {
    "jpg": "jpeg",
    "plain": "txt",
    "markdown": "md",
    "msword": "doc",
    "vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "vnd.ms-excel": "xls",
    "vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}


def _format(part: ImagePart | FilePart) -> str:
    """Converse's word for a media type."""
    subtype = attachment(part).media_type.partition("/")[2]
    return _FORMATS.get(subtype, subtype)


def _has_tools(chat: Chat) -> bool:
    return bool(chat.tools) and chat.tool_choice != "none"


def _tool_config(chat: Chat) -> dict[str, Any]:
    return {"tools": [_tool_spec(tool) for tool in chat.tools or ()], "toolChoice": _tool_choice(chat)}


def _tool_spec(tool: Any) -> dict[str, Any]:
    if tool.type != "function":
        raise StatusError(400, f"Unsupported tool type [{tool.type}], only [function] is supported")
    spec: dict[str, Any] = {"name": tool.function.name}
    if tool.function.description is not None:
        spec["description"] = tool.function.description
    return {"toolSpec": {**spec, "inputSchema": {"json": tool.function.parameters or {}}}}


def _tool_choice(chat: Chat) -> dict[str, Any]:
    choice = chat.tool_choice
    if isinstance(choice, ToolChoice):
        return {"tool": {"name": choice.name}}
    if choice in (None, "auto"):
        return {"auto": {}}
    if choice == "required":
        return {"any": {}}
    # The order of the words is not confirmed.
    raise StatusError(400, f"Invalid tool choice [{choice}], must be one of [auto, none, required]")


# The answer


class _ToolUse(Struct, rename="camel"):
    tool_use_id: str | None = None
    name: str | None = None
    input: Any = None


class _Block(Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolUse | None = None


class _Message(Struct):
    content: list[_Block] | None = None
    role: str | None = None


class _Output(Struct):
    message: _Message | None = None


class _Usage(Struct, rename="camel"):
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None

    @property
    def prompt(self) -> int:
        cached = (self.cache_read_input_tokens or 0) + (self.cache_write_input_tokens or 0)
        return (self.input_tokens or 0) + cached

    @property
    def output(self) -> int:
        return self.output_tokens or 0


class _Answer(Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


_answer = msgspec.json.Decoder(_Answer)

_FINISH = {
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}


def _finish(reason: str | None) -> str | None:
    return None if reason is None else _FINISH.get(reason, "stop")


def _blocks(body: _Answer) -> list[_Block]:
    message = body.output.message if body.output is not None else None
    if message is None or message.content is None:
        raise missing("content", "Amazon Bedrock converse")
    return message.content


def completion(ask: Ask, reply: Reply) -> Result:
    """One text a content block."""
    body = decode(_answer, reply.body)
    return Completion(
        texts=tuple(block.text or "" for block in _blocks(body)), usage=_completion_usage(body.usage)
    )


def _completion_usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        given=usage.prompt,
        used=usage.prompt,
        output=usage.output,
        cached=usage.cache_read_input_tokens,
    )


def answer(ask: Ask, reply: Reply) -> Result:
    """A whole chat answer."""
    body = decode(_answer, reply.body)
    blocks = _blocks(body)
    texts = [block.text for block in blocks if block.text is not None]
    uses = [block.tool_use for block in blocks if block.tool_use is not None]
    calls = tuple(
        CallDelta(
            index=n,
            id=use.tool_use_id,
            name=use.name,
            arguments=msgspec.json.encode({} if use.input is None else use.input).decode(),
            type="function",
        )
        for n, use in enumerate(uses)
    )
    delta = Delta(content="".join(texts) if texts else None, role="assistant", tool_calls=calls or None)
    return ChatAnswer(
        id=_fresh_id(),
        model=ask.settings["model"],
        choices=(Choice(delta=delta, finish_reason=_finish(body.stop_reason)),),
        usage=_chat_usage(body.usage) if body.usage is not None else None,
    )


def _fresh_id() -> str:
    return f"unified-{uuid4()}"


def _chat_usage(usage: _Usage) -> ChatUsage:
    total = usage.total_tokens
    return ChatUsage(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.output,
        total_tokens=usage.prompt + usage.output if total is None else total,
        cached_tokens=usage.cache_read_input_tokens,
    )


# Streams


class _Piece(Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolUse | None = None


class _Event(Struct, rename="camel"):
    role: str | None = None
    start: _Piece | None = None
    delta: _Piece | None = None
    content_block_index: int = 0
    stop_reason: str | None = None
    usage: _Usage | None = None


_event = msgspec.json.Decoder(_Event)


def text_chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """For completion streams: the texts."""

    def read(event: Event) -> Iterable[Chunk]:
        refuse_failure(ask, event)
        if event.name != "contentBlockDelta":
            return ()
        delta = _decoded(event).delta
        text = delta.text if delta is not None else None
        return (Chunk(id="", choices=(Choice(delta=Delta(content=text)),)),) if text is not None else ()

    return read


def _decoded(event: Event) -> _Event:
    return decode(_event, event.data.encode("utf-8", "surrogateescape"))


def refuse_failure(ask: Ask, event: Event) -> None:
    """An exception frame inside a stream, in the words of services/amazonbedrock.md."""
    if event.failed:
        message = exception_fault(event.data.encode("utf-8", "surrogateescape")).message or event.name
        reason = f"AmazonBedrock StreamingChatProcessor failure: [{message}]"
        raise UpstreamFailure(500, scrub(reason, ask.endpoint), kind=UNREAD_KIND, code=status_name(500))


_SHOWN = 16_384


def exception_fault(body: bytes) -> Fault:
    """``{"message"}`` or ``{"Message"}``."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        value = None
    members = value if isinstance(value, dict) else {}
    message = members.get("message", members.get("Message"))
    return Fault(message=message[:_SHOWN]) if isinstance(message, str) else Fault()


def chunks(ask: Ask) -> Callable[[Event], Iterable[Chunk]]:
    """Reads one chat stream."""
    return _ChatReader(ask)


class _ChatReader:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._blank = Chunk(id=_fresh_id(), model=ask.settings["model"])
        self._tools = ToolBlocks()

    def __call__(self, event: Event) -> Iterable[Chunk]:
        refuse_failure(self._ask, event)
        match event.name:
            case "messageStart":
                return (step(self._blank, Delta(role=_decoded(event).role)),)
            case "contentBlockStart":
                return (self._start(_decoded(event)),)
            case "contentBlockDelta":
                return (self._delta(_decoded(event)),)
            case "messageStop":
                return (self._stop(_decoded(event)),)
            case "metadata":
                usage = _decoded(event).usage
                return (replace(self._blank, usage=_chat_usage(usage)),) if usage is not None else ()
        return ()

    def _start(self, body: _Event) -> Chunk:
        use = body.start.tool_use if body.start is not None else None
        if use is None:
            raise BadReply("Unsupported content block start in Amazon Bedrock converse stream")
        call = CallDelta(id=use.tool_use_id, name=use.name, type="function")
        calls = self._tools.start(body.content_block_index, replace(call, arguments=""))
        native = Delta(role="assistant", tool_calls=(call,))
        return step(self._blank, Delta(tool_calls=calls), native=native, block=body.content_block_index)

    def _delta(self, body: _Event) -> Chunk:
        delta, place = body.delta, body.content_block_index
        if delta is not None and delta.text is not None:
            return step(self._blank, Delta(content=delta.text), block=place)
        if delta is None or delta.tool_use is None:
            raise BadReply("Unsupported content block delta in Amazon Bedrock converse stream")
        if not isinstance(delta.tool_use.input, str):
            raise BadReply("Required [input]")
        piece = self._tools.piece(place, delta.tool_use.input)
        native = Delta(tool_calls=(replace(piece, index=0, type="function"),))
        return step(self._blank, Delta(tool_calls=(piece,)), native=native, block=place)

    def _stop(self, body: _Event) -> Chunk:
        owed = self._tools.owed()
        delta = Delta(tool_calls=owed or None)
        return step(self._blank, delta, native=Delta() if owed else None, finish=_finish(body.stop_reason))
