"""Bedrock's Converse: what a chat becomes, and what its events become in OpenAI's terms."""

import base64
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
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from inferd.core.results import ChatAnswer, Chunk, collect
from inferd.core.service import Ask, Event, Reply
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.wire import bedrock

ENDPOINT = Endpoint(
    id="e", task=TaskType.CHAT_COMPLETION, service="amazonbedrock", settings={"model": "a-model"}
)
USER = Message(role="user", content="hi")
TOOLS = (Tool(Function("f")),)
CALLS = Message(role="assistant", tool_calls=(ToolCall("1", FunctionCall("f", "")),))
RESULT = Message(role="tool", content="42", tool_call_id="1")
USED = {"toolUse": {"toolUseId": "1", "name": "f", "input": {}}}
RETURNED = {"toolResult": {"toolUseId": "1", "content": [{"text": "42"}]}}
ASK = Ask(endpoint=ENDPOINT, inputs=Chat(messages=(USER,)))


def sent(*messages: Message, **chat: Any) -> list[dict[str, Any]]:
    return bedrock.messages(Chat(messages=messages, **chat))


def turn(role: str, *blocks: Any) -> dict[str, Any]:
    return {
        "role": role,
        "content": [{"text": block} if isinstance(block, str) else block for block in blocks],
    }


def read(*values: tuple[str, Any]) -> list[Chunk]:
    reader = bedrock.chunks(ASK)
    return [
        chunk for name, value in values for chunk in reader(Event(msgspec.json.encode(value).decode(), name))
    ]


@pytest.mark.parametrize(
    ("messages", "tools", "expected"),
    [
        ((USER, Message(role="user", content="there")), (), [turn("user", "hi", "there")]),
        (
            (Message(role="assistant", content="a"), USER),
            (),
            [turn("user", "Hi"), turn("assistant", "a"), turn("user", "hi")],
        ),
        ((Message(role="system", content="s"), Message(role="user", content=""), USER), (), [turn("user", "hi")]),
        ((USER, CALLS, RESULT), (), [turn("user", "hi")]),
        ((USER, CALLS, RESULT), TOOLS, [turn("user", "hi"), turn("assistant", USED), turn("user", RETURNED)]),
        (
            (USER, CALLS, RESULT, RESULT),
            TOOLS,
            [turn("user", "hi"), turn("assistant", USED), turn("user", RETURNED, RETURNED)],
        ),
        (
            (USER, CALLS, RESULT, USER, USER),
            TOOLS,
            [
                turn("user", "hi"),
                turn("assistant", USED),
                turn("user", RETURNED),
                turn("assistant", "Please continue."),
                turn("user", "hi", "hi"),
            ],
        ),
        (
            (USER, RESULT),
            TOOLS,
            [turn("user", "hi"), turn("assistant", "Please continue."), turn("user", RETURNED)],
        ),
    ],
    ids=range(8),
)  # fmt: skip
def test_turns(messages: Any, tools: Any, expected: Any) -> None:
    """User and assistant take turns, a user begins, results stand apart from other text, tools need to be enabled."""
    assert sent(*messages, tools=tools) == expected


def test_given_messages_stay() -> None:
    """Merging turns does not change what the caller gave."""
    chat = Chat(messages=(USER, USER), tools=TOOLS)
    assert bedrock.messages(chat) == bedrock.messages(chat)


def test_tools_off() -> None:
    """With tool_choice none there are no tools, and earlier calls and results are left out."""
    body = bedrock.chat_body(Chat(messages=(USER, CALLS, RESULT), tools=TOOLS, tool_choice="none"))
    assert body == {"messages": [turn("user", "hi")]}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {"auto": {}}),
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        (ToolChoice("f"), {"tool": {"name": "f"}}),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    """Each tool_choice has a form of Converse's."""
    body = bedrock.chat_body(Chat(messages=(USER,), tools=TOOLS, tool_choice=choice))
    assert body["toolConfig"]["toolChoice"] == expected


@pytest.mark.parametrize(
    ("chat", "reason"),
    [
        ({"messages": (Message(role="robot", content="x"),)}, "Unsupported message role: robot"),
        (
            {"messages": (USER, Message(role="tool", content="", tool_call_id="1")), "tools": TOOLS},
            "Tool message must have non-empty contents",
        ),
        (
            {
                "messages": (Message(role="assistant", tool_calls=(ToolCall("1", FunctionCall("f", "{")),)),),
                "tools": TOOLS,
            },
            "Failed to parse function arguments",
        ),
        (
            {"messages": (USER,), "tools": TOOLS, "tool_choice": "maybe"},
            "Invalid tool choice [maybe], must be one of [auto, none, required]",
        ),
        (
            {"messages": (USER,), "tools": (Tool(Function("f"), type="web"),)},
            "Unsupported tool type [web], only [function] is supported",
        ),
    ],
)
def test_refused_chats(chat: Any, reason: str) -> None:
    """What Converse does not take is refused in the contract's words."""
    with pytest.raises(StatusError) as caught:
        bedrock.chat_body(Chat(**chat))
    assert (caught.value.status, caught.value.reason) == (400, reason)


@pytest.mark.parametrize(
    ("chat", "defaults", "expected"),
    [
        ({"stop": ("a",)}, {}, None),
        ({"stop": ("a",), "top_p": 0.5}, {}, {"topP": 0.5, "stopSequences": ["a"]}),
        (
            {"temperature": 0.0},
            {"temperature": 0.5, "maxTokens": 9},
            {"temperature": 0.0, "maxTokens": 9},
        ),
    ],
)
def test_inference_config(chat: Any, defaults: Any, expected: Any) -> None:
    """The request wins over what is stored, and stop alone is not sent."""
    body = bedrock.chat_body(Chat(messages=(USER,), **chat), defaults)
    assert body.get("inferenceConfig") == expected


def test_attachments() -> None:
    """Images and documents become blocks of Converse's formats; a document's name holds only what Converse takes."""
    data = base64.b64encode(b"x").decode()
    found = sent(
        Message(
            role="user",
            content=(
                TextPart("see"),
                ImagePart(f"data:image/JPG;base64,{data}"),
                FilePart(f"data:application/pdf;base64,{data}", "Q1/Größe_1 (final).pdf"),
                FilePart(f"data:text/plain;base64,{data}"),
            ),
        )
    )
    assert found == [
        turn(
            "user",
            "see",
            {"image": {"format": "jpeg", "source": {"bytes": data}}},
            {"document": {"format": "pdf", "name": "Q1 Gr e 1 (final)", "source": {"bytes": data}}},
            {"document": {"format": "txt", "name": "document 3", "source": {"bytes": data}}},
        )
    ]


TURN: tuple[tuple[str, Any], ...] = (
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"text": "Two."}, "contentBlockIndex": 0}),
    (
        "contentBlockStart",
        {"start": {"toolUse": {"toolUseId": "1", "name": "f"}}, "contentBlockIndex": 1},
    ),
    ("contentBlockDelta", {"delta": {"toolUse": {"input": '{"a":'}}, "contentBlockIndex": 1}),
    ("contentBlockDelta", {"delta": {"toolUse": {"input": "1}"}}, "contentBlockIndex": 1}),
    (
        "contentBlockStart",
        {"start": {"toolUse": {"toolUseId": "2", "name": "g"}}, "contentBlockIndex": 2},
    ),
    ("contentBlockDelta", {"delta": {"toolUse": {"input": ""}}, "contentBlockIndex": 2}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}),
)


def test_whole_and_streamed_agree() -> None:
    """In OpenAI's terms the same turn says the same whether it comes whole or in pieces: one choice, numbered calls."""
    body = {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"text": "Two."},
                    {"toolUse": {"toolUseId": "1", "name": "f", "input": {"a": 1}}},
                    {"toolUse": {"toolUseId": "2", "name": "g"}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
    }
    whole = bedrock.answer(ASK, Reply(status=200, headers={}, body=msgspec.json.encode(body)))
    assert isinstance(whole, ChatAnswer)
    found = read(*TURN)
    assert msgspec.structs.replace(collect(found), id=whole.id) == whole
    assert [c.arguments for c in whole.choices[0].delta.tool_calls or ()] == ['{"a":1}', "{}"]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("content_filtered", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("malformed_tool_use", "stop"),
    ],
)
def test_finish_words(reason: str, finish: str) -> None:
    """Each reason to stop has OpenAI's word."""
    (chunk,) = read(("messageStop", {"stopReason": reason}))
    assert chunk.choices[0].finish_reason == finish
