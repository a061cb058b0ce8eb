"""A chat, a prompt, and what a provider with OpenAI's wire format makes of them: values for the tests of such providers."""

from typing import Any

from inferd.core.inputs import (
    Chat,
    FilePart,
    Function,
    FunctionCall,
    ImagePart,
    Message,
    TextPart,
    Texts,
    Tool,
    ToolCall,
    ToolChoice,
)

PROMPT = Texts(("how big",))

QUESTION = Chat(
    messages=(
        Message(role="system", content="Be brief."),
        Message(
            role="user",
            content=(
                TextPart("What is this?"),
                ImagePart("data:image/png;base64,AA==", "low"),
                ImagePart("https://host/image.png"),
                FilePart("data:application/pdf;base64,AA==", "a.pdf"),
            ),
            name="luke",
        ),
        Message(
            role="assistant",
            tool_calls=(ToolCall(id="call_1", function=FunctionCall("f", "{}")),),
            reasoning="Hm.",
            reasoning_details=({"type": "reasoning.text", "text": "Hm."},),
        ),
        Message(role="tool", content="42", tool_call_id="call_1"),
    ),
    max_completion_tokens=100,
    stop=("end",),
    temperature=0.5,
    top_p=0.25,
    tools=(
        Tool(Function("f", description="d", parameters={"type": "object"}, strict=True)),
        Tool(Function("g")),
    ),
    tool_choice=ToolChoice("f"),
)
SHORT = Chat(messages=(Message(role="user", content="how big"),), model="another-model", tool_choice="auto")

_QUESTION = {
    "messages": [
        {"content": "Be brief.", "role": "system"},
        {
            "content": [
                {"text": "What is this?", "type": "text"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://host/image.png"}},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
                },
            ],
            "role": "user",
            "name": "luke",
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "function": {"arguments": "{}", "name": "f"}, "type": "function"}
            ],
        },
        {"content": "42", "role": "tool", "tool_call_id": "call_1"},
    ],
    "n": 1,
    "stop": ["end"],
    "temperature": 0.5,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [
        {
            "type": "function",
            "function": {
                "description": "d",
                "name": "f",
                "parameters": {"type": "object"},
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "g"}},
    ],
    "top_p": 0.25,
}


def question(*, tokens: str, stream: bool = False, **more: Any) -> dict[str, Any]:
    """The body for ``QUESTION``; ``tokens``: what the provider calls the token limit."""
    return {**_QUESTION, tokens: 100, "stream": stream, **more}


def prompt(*, stream: bool = False, **more: Any) -> dict[str, Any]:
    """The body for ``PROMPT``."""
    return {"messages": [{"content": "how big", "role": "user"}], "n": 1, "stream": stream, **more}


def short(*, stream: bool = False, **more: Any) -> dict[str, Any]:
    """The body for ``SHORT``, model included."""
    return {**prompt(stream=stream), "model": "another-model", "tool_choice": "auto", **more}


USAGE = {"include_usage": True}

REPLY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Elastic", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        },
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_2", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
                ],
            },
            "finish_reason": "tool_calls",
        },
    ],
    "usage": {
        "prompt_tokens": 16,
        "completion_tokens": 28,
        "total_tokens": 44,
        "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 10},
    },
    "system_fingerprint": "fp",
}
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "choices": [
        {"message": {"content": "Elastic", "role": "assistant"}, "finish_reason": "stop", "index": 0},
        {
            "message": {
                "role": "assistant",
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "call_2",
                        "function": {"arguments": '{"a": 1}', "name": "f"},
                        "type": "function",
                    }
                ],
            },
            "finish_reason": "tool_calls",
            "index": 1,
        },
    ],
    "model": "gpt-4o",
    "object": "chat.completion",
    "usage": {
        "completion_tokens": 28,
        "prompt_tokens": 16,
        "total_tokens": 44,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 10},
    },
}
TEXTS_REPLY = {"choices": [{"message": {"content": "Elastic"}}, {"message": {"content": "search"}}]}
TEXTS_ANSWER = {"completion": [{"result": "Elastic"}, {"result": "search"}]}


def _sent(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def _shown(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"delta": delta, **more, "index": 0}
    return {"id": "c1", "choices": [choice], "model": "m", "object": "chat.completion.chunk"}


_CALL = {"index": 0, "id": "call_2", "type": "function", "function": {"name": "f", "arguments": ""}}

STREAM: tuple[Any, ...] = (
    _sent({"role": "assistant", "content": "", "refusal": None}),
    _sent({"content": "Elástic"}),
    ": a comment\n\n",
    _sent({"content": "search 🔎"}),
    _sent({"tool_calls": [_CALL]}),
    _sent({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
    _sent({}, "tool_calls"),
    {
        "id": "c1",
        "model": "m",
        "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    },
    "[DONE]",
)
CHUNKS: list[Any] = [
    _shown({"content": "", "role": "assistant"}),
    _shown({"content": "Elástic"}),
    _shown({"content": "search 🔎"}),
    _shown({"tool_calls": [_CALL]}),
    _shown({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
    _shown({}, finish_reason="tool_calls"),
    {
        "id": "c1",
        "choices": [],
        "model": "m",
        "object": "chat.completion.chunk",
        "usage": {"completion_tokens": 2, "prompt_tokens": 1, "total_tokens": 3},
    },
]
TEXT_CHUNKS: list[Any] = [{"completion": [{"delta": "Elástic"}]}, {"completion": [{"delta": "search 🔎"}]}]
