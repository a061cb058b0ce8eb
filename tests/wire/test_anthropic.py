"""Anthropic's messages: what a chat becomes, and what their events become in OpenAI's terms."""

import base64
from typing import Any

import msgspec
import pytest

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import (
    Chat,
    FilePart,
    FunctionCall,
    ImagePart,
    Message,
    Reasoning,
    TextPart,
    ToolCall,
)
from inferd.core.results import ChatAnswer, ChatUsage, Chunk, collect
from inferd.core.service import Ask, BadReply, Event, Reply
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.wire import anthropic

ENDPOINT = Endpoint(id="e", task=TaskType.CHAT_COMPLETION, service="anthropic", settings={})
PNG = base64.b64encode(b"\x89PNG").decode()


def ask(**chat: Any) -> Ask:
    return Ask(endpoint=ENDPOINT, inputs=Chat(messages=(Message(role="user", content="hi"),), **chat))


def sent(*messages: Message) -> list[dict[str, Any]]:
    return anthropic.messages(Chat(messages=messages))


def events(*values: tuple[str, dict[str, Any]]) -> list[Event]:
    return [Event(msgspec.json.encode({"type": name, **value}).decode(), name) for name, value in values]


def read(found: list[Event], question: Ask | None = None) -> list[Chunk]:
    reader = anthropic.chunks(question or ask())
    return [chunk for event in found for chunk in reader(event)]


def answer(value: Any, question: Ask | None = None) -> ChatAnswer:
    reply = Reply(status=200, headers={}, body=msgspec.json.encode(value))
    found = anthropic.answer(question or ask(), reply)
    assert isinstance(found, ChatAnswer)
    return found


def start(index: int, **block: Any) -> tuple[str, dict[str, Any]]:
    return ("content_block_start", {"index": index, "content_block": block})


def piece(index: int, **delta: Any) -> tuple[str, dict[str, Any]]:
    return ("content_block_delta", {"index": index, "delta": delta})


STARTED = (
    "message_start",
    {
        "message": {
            "id": "msg_1",
            "role": "assistant",
            "model": "claude",
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 1},
        }
    },
)
TURN = events(
    STARTED,
    start(0, type="thinking", thinking=""),
    piece(0, type="thinking_delta", thinking="let me"),
    piece(0, type="thinking_delta", thinking=" see"),
    piece(0, type="signature_delta", signature="c2ln"),
    start(1, type="redacted_thinking", data="aGlkZGVu"),
    start(2, type="text", text=""),
    piece(2, type="text_delta", text="Two calls."),
    start(3, type="tool_use", id="t1", name="weather", input={}),
    piece(3, type="input_json_delta", partial_json='{"a":'),
    piece(3, type="input_json_delta", partial_json="1}"),
    start(4, type="tool_use", id="t2", name="time", input={}),
    piece(4, type="input_json_delta", partial_json=""),
    piece(4, type="citations_delta", citation={}),
    ("message_delta", {"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}}),
    ("message_stop", {}),
)


# The request


def test_plain_messages_as_given() -> None:
    """Strings stay strings, text parts stay parts, names are left out, system messages are not here."""
    found = sent(
        Message(role="system", content="s"),
        Message(role="user", content="a", name="ann"),
        Message(role="assistant", content=(TextPart("b"),)),
        Message(role="user"),
    )
    assert found == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "content": ""},
    ]


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ((), None),
        (("one",), "one"),
        (("one", "two"), [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]),
        (((TextPart("one"),),), [{"type": "text", "text": "one"}]),
    ],
)
def test_system(contents: tuple[Any, ...], expected: Any) -> None:
    """One system string is lifted as it is, everything else as text blocks."""
    user = Message(role="user", content="x")
    messages = (user, *(Message(role="system", content=content) for content in contents))
    assert anthropic.system(Chat(messages=messages)) == expected


def test_tool_turns() -> None:
    """Calls become tool_use blocks; results that belong together become one user message."""
    found = sent(
        Message(
            role="assistant",
            content="ok",
            tool_calls=(
                ToolCall("t1", FunctionCall("f", '{"a": [1]}')),
                ToolCall("t2", FunctionCall("g", "")),
            ),
        ),
        Message(role="tool", content="1", tool_call_id="t1"),
        Message(role="tool", content=(TextPart("2"), ImagePart(f"data:image/png;base64,{PNG}")), tool_call_id="t2"),
        Message(role="user", content="and?"),
        Message(role="tool", tool_call_id="t3"),
    )  # fmt: skip
    assert found == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "ok"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1]}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "1"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "content": [
                        {"type": "text", "text": "2"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                        },
                    ],
                },
            ],
        },
        {"role": "user", "content": "and?"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
    ]


def test_attachments() -> None:
    """Images and files become blocks with their media type; an image may be an address."""
    text = base64.b64encode("Größe".encode()).decode()
    (found,) = sent(
        Message(
            role="user",
            content=(
                ImagePart("https://example.test/x.png"),
                FilePart(f"data:application/pdf;base64,{PNG}", "report.pdf"),
                FilePart(f"data:text/csv;charset=utf-8;base64,{text}"),
            ),
        )
    )
    assert found["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://example.test/x.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
            "title": "report.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Größe"}},
    ]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (ImagePart("data:image/png,abc"), "Field [url] must be a data URI with base64 content"),
        (ImagePart("file:///etc/passwd"), "Field [url] must be a data URI with base64 content"),
        (FilePart("abc"), "Field [file_data] must be a data URI with base64 content"),
        (
            FilePart("data:text/plain;base64,_w=="),
            "The file of type [text/plain] is not valid base64 of UTF-8 text",
        ),
    ],
)
def test_bad_attachments(part: Any, reason: str) -> None:
    """What is neither an address nor base64 is a 400."""
    with pytest.raises(StatusError) as caught:
        sent(Message(role="user", content=(part,)))
    assert (caught.value.status, caught.value.reason) == (400, reason)


@pytest.mark.parametrize("arguments", ["{", "[1]", "null", "\ud800", "[" * 100_000])
def test_bad_arguments(arguments: str) -> None:
    """Arguments that are not a JSON object are a 400."""
    call = ToolCall("t", FunctionCall("f", arguments))
    with pytest.raises(StatusError) as caught:
        sent(Message(role="assistant", tool_calls=(call,)))
    assert (caught.value.status, caught.value.reason) == (400, "Failed to parse function arguments")


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (None, None),
        (Reasoning(effort="none"), {"type": "disabled"}),
        (Reasoning(effort="high"), {"type": "enabled", "budget_tokens": 8000}),
        (Reasoning(enabled=True), {"type": "enabled", "budget_tokens": 5000}),
        (Reasoning(effort="minimal", enabled=True), {"type": "enabled", "budget_tokens": 1024}),
    ],
)
def test_thinking(reasoning: Any, expected: Any) -> None:
    """Effort is a share of the token limit, but never less than the vendor takes."""
    assert anthropic.thinking(reasoning, 10_000) == expected


# The answer


def test_semantic_stream() -> None:
    """In OpenAI's terms a stream is one choice with numbered calls, whole usage at its end, and every call has arguments."""
    found = read(TURN)
    assert {choice.index for chunk in found for choice in chunk.choices} == {0}
    assert [chunk.usage for chunk in found if chunk.usage is not None] == [
        ChatUsage(
            prompt_tokens=13, completion_tokens=20, total_tokens=33, cached_tokens=7, cache_write_tokens=1
        )
    ]
    (choice,) = collect(found).choices
    assert (choice.delta.content, choice.delta.reasoning) == ("Two calls.", "let me see")
    assert choice.finish_reason == "tool_calls"
    calls = [(c.index, c.id, c.name, c.arguments, c.type) for c in choice.delta.tool_calls or ()]
    assert calls == [(0, "t1", "weather", '{"a":1}', "function"), (1, "t2", "time", "{}", "function")]
    assert {(chunk.id, chunk.model) for chunk in found} == {("msg_1", "claude")}


def test_whole_and_streamed_agree() -> None:
    """The same turn says the same whether it comes whole or in pieces."""
    whole = answer(
        {
            "id": "msg_1",
            "model": "claude",
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "let me see", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "aGlkZGVu"},
                {"type": "text", "text": "Two calls."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"a": 1}},
                {"type": "tool_use", "id": "t2", "name": "time", "input": {}},
            ],
            "stop_reason": "tool_use",
            "usage": {
                "input_tokens": 5,
                "cache_read_input_tokens": 7,
                "cache_creation_input_tokens": 1,
                "output_tokens": 20,
            },
        }
    )
    streamed = collect(read(TURN))
    details = whole.choices[0].delta.reasoning_details
    delta = msgspec.structs.replace(streamed.choices[0].delta, reasoning_details=details)
    choice = msgspec.structs.replace(streamed.choices[0], delta=delta)
    assert msgspec.structs.replace(streamed, choices=(choice,)) == whole


def test_thinking_goes_back() -> None:
    """Thinking of an answer, whole or in pieces, goes back in the next request as the blocks it came in."""
    expected = [
        {"type": "thinking", "thinking": "let me see", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "aGlkZGVu"},
        {"type": "text", "text": "Two calls."},
    ]
    details = collect(read(TURN)).choices[0].delta.reasoning_details
    foreign = {"type": "reasoning.text", "format": "google-vertex-ai-v1", "text": "no", "signature": "s"}
    unsigned = {"type": "reasoning.text", "text": "no"}
    message = Message(
        role="assistant", content="Two calls.", reasoning_details=(*(details or ()), foreign, unsigned)
    )
    assert sent(message) == [{"role": "assistant", "content": expected}]
    assert sent(msgspec.structs.replace(message, role="user")) == [{"role": "user", "content": "Two calls."}]


def test_excluded_reasoning() -> None:
    """A caller who excludes reasoning gets none of it."""
    question = ask(reasoning=Reasoning(effort="high", exclude=True))
    (choice,) = collect(read(TURN, question)).choices
    assert (choice.delta.reasoning, choice.delta.reasoning_details) == (None, None)
    whole = {"content": [{"type": "thinking", "thinking": "x", "signature": "s"}]}
    (choice,) = answer(whole, question).choices
    assert (choice.delta.reasoning, choice.delta.reasoning_details) == (None, None)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        (None, None),
    ],
)
def test_finish_words(reason: str | None, finish: str | None) -> None:
    """Each reason to stop has OpenAI's word, and Elasticsearch prints the vendor's."""
    (chunk,) = read(events(("message_delta", {"delta": {"stop_reason": reason}})))
    assert chunk.choices[0].finish_reason == finish
    assert chunk.native is not None
    assert chunk.native.choices[0].finish_reason == reason


@pytest.mark.parametrize(
    "event",
    [
        Event("{}"),
        Event("[]", "message_start"),
        Event('{"type":"message_start"}'),
        Event('{"type":"content_block_start"}', "content_block_start"),
        Event('{"type":"content_block_delta"}', "content_block_delta"),
        Event('{"type":"message_delta"}', "message_delta"),
        Event('{"type":"error","error":{}}'),
        Event('{"type":"content_block_start","index":"x","content_block":{}}'),
        Event("\ud800"),
    ],
)
def test_unreadable_events(event: Event) -> None:
    """An event without what it must hold is unreadable."""
    with pytest.raises(BadReply):
        read([event])
