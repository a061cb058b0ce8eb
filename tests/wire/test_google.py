"""Gemini's generateContent: what a chat becomes, and what its chunks become."""

from typing import Any

import msgspec
import pytest

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import (
    Chat,
    FilePart,
    Function,
    FunctionCall,
    ImagePart,
    Message,
    Reasoning,
    Tool,
    ToolCall,
    ToolChoice,
)
from inferd.core.results import Chunk, collect
from inferd.core.service import Ask, BadReply, Event
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.wire import google

ENDPOINT = Endpoint(id="e", task=TaskType.CHAT_COMPLETION, service="googlevertexai", settings={})
USER = Message(role="user", content="hi")


def sent(*messages: Message, options: dict[str, Any] | None = None, **chat: Any) -> dict[str, Any]:
    inputs = Chat(messages=messages or (USER,), **chat)
    return google.body(Ask(endpoint=ENDPOINT, inputs=inputs, options=options or {}))


def read(*values: Any) -> list[Chunk]:
    reader = google.chunks(Ask(endpoint=ENDPOINT, inputs=Chat(messages=(USER,))))
    return [chunk for value in values for chunk in reader(Event(msgspec.json.encode(value).decode()))]


def candidate(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        (
            {"messages": (Message(role="robot", content="x"),)},
            "Role [robot] not supported by Google VertexAI ChatCompletion. Supported roles: [user, model]",
        ),
        (
            {"messages": (Message(role="user", content=(ImagePart("data:image/png;base64,AA=="),)),)},
            "Type [image_url] not supported by Google VertexAI ChatCompletion. Supported types: [text]",
        ),
        (
            {"messages": (Message(role="user", content=(FilePart("data:a/b;base64,AA=="),)),)},
            "Type [file] not supported by Google VertexAI ChatCompletion. Supported types: [text]",
        ),
        (
            {"messages": (USER,), "tools": (Tool(Function("f"), type="web"),)},
            "Tool type [web] not supported by Google VertexAI ChatCompletion. Supported types: [function]",
        ),
        (
            {"messages": (USER,), "tool_choice": "required"},
            "Tool choice value [required] not supported by Google VertexAI ChatCompletion. Supported values: [auto]",
        ),
        (
            {"messages": (USER,), "tool_choice": ToolChoice("f", type="web")},
            "Tool choice type [web] not supported by Google VertexAI ChatCompletion. Supported types: [function]",
        ),
    ],
)
def test_refused_chats(chat: Any, reason: str) -> None:
    """What Gemini's chat does not take is refused in the contract's words."""
    with pytest.raises(StatusError) as caught:
        google.body(Ask(endpoint=ENDPOINT, inputs=Chat(**chat)))
    assert (caught.value.status, caught.value.reason) == (400, reason)


def test_smallest_chat() -> None:
    """Nothing is sent that was not asked for; tool_choice auto is the vendor's own default."""
    assert sent(tool_choice="auto") == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def test_tool_results() -> None:
    """Results that belong together share one entry, under the names of their calls; an object stays one."""
    found = sent(
        Message(
            role="assistant",
            tool_calls=(ToolCall("1", FunctionCall("f", "")), ToolCall("2", FunctionCall("g", "{}"))),
        ),
        Message(role="tool", content='{"b": 2}', tool_call_id="1"),
        Message(role="tool", content="[1]", tool_call_id="2"),
        Message(role="tool", content="x", tool_call_id="3", name="h"),
        Message(role="user"),
    )
    assert found["contents"] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "f", "id": "1", "args": {}}},
                {"functionCall": {"name": "g", "id": "2", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "f", "id": "1", "response": {"b": 2}}},
                {"functionResponse": {"name": "g", "id": "2", "response": {"output": "[1]"}}},
                {"functionResponse": {"name": "h", "id": "3", "response": {"output": "x"}}},
            ],
        },
        {"role": "user", "parts": [{"text": ""}]},
    ]


@pytest.mark.parametrize(
    ("reasoning", "options", "expected"),
    [
        (None, {}, None),
        (None, {"thinking_config": {"thinking_budget": 5}}, {"thinkingBudget": 5}),
        (None, {"thinking_config": {}}, None),
        (Reasoning(effort="none"), {"thinking_config": {"thinking_budget": 5}}, {"thinkingBudget": 0}),
        (Reasoning(enabled=True), {}, {"thinkingBudget": 8192, "includeThoughts": True}),
        (Reasoning(effort="high", exclude=True), {}, {"thinkingBudget": 24576}),
    ],
)
def test_thinking(reasoning: Any, options: Any, expected: Any) -> None:
    """The request's effort wins over the stored budget."""
    found = sent(reasoning=reasoning, options=options)
    assert found.get("generationConfig", {}).get("thinkingConfig") == expected


def test_semantic_stream() -> None:
    """In OpenAI's terms the role is assistant, calls are numbered through the stream, and a turn with calls ends in them."""
    found = read(
        candidate({"text": "a"}),
        candidate({"functionCall": {"name": "f", "args": {"x": 1}}}),
        candidate({"functionCall": {"name": "g"}}, finishReason="STOP"),
    )
    (choice,) = collect(found).choices
    assert (choice.delta.role, choice.finish_reason) == ("assistant", "tool_calls")
    calls = [(c.index, c.id, c.name, c.arguments) for c in choice.delta.tool_calls or ()]
    assert calls == [(0, "f", "f", '{"x":1}'), (1, "g", "g", "{}")]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("OTHER", "stop")],
)
def test_finish_words(reason: str, finish: str) -> None:
    """Each reason to stop has OpenAI's word, and Elasticsearch prints the vendor's."""
    (chunk,) = read(candidate({"text": "a"}, finishReason=reason))
    assert chunk.choices[0].finish_reason == finish
    assert chunk.native is not None
    assert chunk.native.choices[0].finish_reason == reason


def test_signatures_go_back() -> None:
    """A thought's signature goes back with the part it came with."""
    found = read(
        candidate({"text": "Hm.", "thoughtSignature": "dGV4dA=="}),
        candidate({"functionCall": {"name": "f", "id": "1"}, "thoughtSignature": "Y2FsbA=="}),
    )
    delta = collect(found).choices[0].delta
    calls = tuple(
        ToolCall(c.id or "", FunctionCall(c.name or "", c.arguments or "")) for c in delta.tool_calls or ()
    )
    message = Message(
        role="assistant",
        content=delta.content,
        tool_calls=calls,
        reasoning_details=(
            *(delta.reasoning_details or ()),
            {"type": "reasoning.encrypted", "format": "other", "data": "x"},
        ),
    )
    assert sent(message)["contents"][0]["parts"] == [
        {"text": "Hm.", "thoughtSignature": "dGV4dA=="},
        {"functionCall": {"name": "f", "id": "1", "args": {}}, "thoughtSignature": "Y2FsbA=="},
    ]


@pytest.mark.parametrize(
    "value", [{}, [], {"error": {"message": "x"}}, {"candidates": 1}, {"candidates": [1]}, None]
)
def test_unreadable_events(value: Any) -> None:
    """An event without what it must hold is unreadable."""
    with pytest.raises(BadReply):
        read(value)


@pytest.mark.parametrize(
    ("body", "message", "kind", "code"),
    [
        (b'{"error":{"code":429,"message":"m","status":"S"}}', "m", "S", "429"),
        (b'[{"error":{"code":429,"message":"m","status":"S"}}]', "m", "S", "429"),
        (b'{"error":{"message":"m"}}', "m", "google_vertex_ai_error", "0"),
        (b'{"error":{"code":true,"message":"m","status":1}}', "m", "google_vertex_ai_error", "0"),
        (b'{"a":1}', None, "google_vertex_ai_error", "0"),
        (
            b'{"error":"x"}',
            'Unable to parse the Google Vertex AI error, response body: [{"error":"x"}]',
            "google_vertex_ai_error",
            "0",
        ),
        (
            b"\xff",
            "Unable to parse the Google Vertex AI error, response body: [\ufffd]",
            "google_vertex_ai_error",
            "0",
        ),
        (
            b"[" * 3000,
            f"Unable to parse the Google Vertex AI error, response body: [{'[' * 3000}]",
            "google_vertex_ai_error",
            "0",
        ),
    ],
    ids=range(8),
)
def test_chat_faults(body: bytes, message: str | None, kind: str, code: str) -> None:
    """An error body gives message, kind and code, or says that it cannot be read."""
    fault = google.chat_fault(body)
    assert (fault.message, fault.kind, fault.code, fault.param) == (message, kind, code, None)
