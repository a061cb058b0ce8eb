"""OpenAI: what we send, what we make of the reply."""

import base64
import struct
from typing import Any

from inferd.core.inputs import (
    Chat,
    Contents,
    FilePart,
    Function,
    FunctionCall,
    ImagePart,
    Item,
    Message,
    Reasoning,
    TextPart,
    Texts,
    Tool,
    ToolCall,
    ToolChoice,
)
from inferd.core.tasks import TaskType
from inferd.services.openai import SERVICE

from .base import Case, ServiceTest

TEXT, EMBEDDING = TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION

SETTINGS = {"api_key": "sk-very-secret", "model_id": "the-model"}
BEARER = {"authorization": "Bearer sk-very-secret"}
PACKED = base64.b64encode(struct.pack("<3f", 0.5, -0.25, 0.125)).decode()

CHAT_REPLY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Elastic", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 16,
        "completion_tokens": 28,
        "total_tokens": 44,
        "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 10},
    },
}


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": more.pop("finish_reason", None)}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


STREAM = (
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"content": "Elástic"}),
    ": a comment\n\n",
    chunk({"content": "search 🔎"}),
    chunk({}, finish_reason="stop"),
    {
        "id": "c1",
        "model": "m",
        "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    },
    "[DONE]",
)


class TestOpenai(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=TEXT,
            service_settings={
                **SETTINGS,
                "organization_id": "org-1",
                "dimensions": 3,
                "similarity": "COSINE",
                "max_input_tokens": 100,
                "rate_limit": {"requests_per_minute": 60000},
            },
            task_settings={"user": "stored", "headers": {"X-Stored": "1"}},
            options={"user": "asked", "headers": {"authorization": "Bearer other", "X-Asked": "2"}},
            inputs=Texts(("how big", "how small")),
            path="/v1/embeddings",
            headers={"authorization": "Bearer other", "openai-organization": "org-1", "x-asked": "2"},
            request={
                "input": ["how big", "how small"],
                "model": "the-model",
                "user": "asked",
                "dimensions": 3,
                "encoding_format": "base64",
            },
            reply={
                "object": "list",
                "data": [
                    {"object": "embedding", "index": 1, "embedding": PACKED},
                    {"object": "embedding", "index": 0, "embedding": [1, 2.0, 0.25]},
                ],
                "model": "m",
                "usage": {"prompt_tokens": 4, "total_tokens": 4},
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25, 0.125]}, {"embedding": [1.0, 2.0, 0.25]}]},
            shown={
                "model_id": "the-model",
                "organization_id": "org-1",
                "similarity": "cosine",
                "dimensions": 3,
                "max_input_tokens": 100,
                "rate_limit": {"requests_per_minute": 60000},
            },
            shown_task={"user": "stored", "headers": {"X-Stored": "1"}},
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "url": "{fake}/elsewhere?x=1"},
            inputs=Texts(("how big",)),
            path="/elsewhere",
            query="x=1",
            headers=BEARER,
            request={"input": ["how big"], "model": "the-model", "encoding_format": "base64"},
            reply={"data": [{"embedding": [0.5, 0.25]}]},
            answer={"text_embedding": [{"embedding": [0.5, 0.25]}]},
            shown={
                "model_id": "the-model",
                "url": "{fake}/elsewhere?x=1",
                "similarity": "dot_product",
                "dimensions": 2,
                "rate_limit": {"requests_per_minute": 3000},
            },
        ),
        Case(
            task=EMBEDDING,
            service_settings=SETTINGS,
            inputs=Contents(((Item("how big"),), (Item("how small"),))),
            path="/v1/embeddings",
            headers=BEARER,
            request={"input": ["how big", "how small"], "model": "the-model", "encoding_format": "base64"},
            reply={"data": [{"embedding": [0.5]}, {"embedding": [0.25]}]},
            answer={"embeddings": [{"embedding": [0.5]}, {"embedding": [0.25]}]},
            shown={
                "model_id": "the-model",
                "similarity": "dot_product",
                "dimensions": 1,
                "rate_limit": {"requests_per_minute": 3000},
            },
        ),
        Case(
            task=COMPLETION,
            service_settings={"api_key": "sk-very-secret", "max_input_tokens": 7},
            task_settings={"model": "the-model", "user": "me"},
            inputs=Texts(("how big",)),
            path="/v1/chat/completions",
            headers=BEARER,
            request={
                "messages": [{"content": "how big", "role": "user"}],
                "n": 1,
                "model": "the-model",
                "stream": False,
                "user": "me",
            },
            reply={"choices": [{"message": {"content": "Elastic"}}, {"message": {"content": "search"}}]},
            answer={"completion": [{"result": "Elastic"}, {"result": "search"}]},
            shown={
                "model_id": "the-model",
                "max_input_tokens": 7,
                "rate_limit": {"requests_per_minute": 500},
            },
            shown_task={"user": "me"},
            stream=STREAM,
            stream_request={
                "messages": [{"content": "how big", "role": "user"}],
                "n": 1,
                "model": "the-model",
                "stream": True,
                "stream_options": {"include_usage": True},
                "user": "me",
            },
            chunks=[{"completion": [{"delta": "Elástic"}]}, {"completion": [{"delta": "search 🔎"}]}],
        ),
        Case(
            task=CHAT,
            service_settings={
                "client_secret": "very-secret",
                "client_id": "an-app",
                "scopes": ["a", "b"],
                "token_url": "{fake}/token",
                "model_id": "the-model",
            },
            inputs=Chat(
                messages=(
                    Message(role="system", content="Be brief."),
                    Message(
                        role="user",
                        content=(
                            TextPart("What is this?"),
                            ImagePart("data:image/png;base64,AA==", "low"),
                            FilePart("data:application/pdf;base64,AA==", "a.pdf"),
                        ),
                    ),
                    Message(
                        role="assistant",
                        tool_calls=(ToolCall(id="call_1", function=FunctionCall("f", "{}")),),
                    ),
                    Message(role="tool", content="42", tool_call_id="call_1"),
                ),
                model="another-model",
                max_completion_tokens=100,
                stop=("end",),
                temperature=0.5,
                top_p=0.25,
                tools=(
                    Tool(Function("f", description="d", parameters={"type": "object"}, strict=True)),
                    Tool(Function("g")),
                ),
                tool_choice=ToolChoice("f"),
                reasoning=Reasoning(effort="low", summary="auto", exclude=True),
                cache_control={"type": "ephemeral"},
                session_id="s",
            ),
            path="/v1/chat/completions",
            headers={"authorization": "Bearer a-token"},
            others={"/token": {"access_token": "a-token", "expires_in": 3600}},
            request={
                "messages": [
                    {"content": "Be brief.", "role": "system"},
                    {
                        "content": [
                            {"text": "What is this?", "type": "text"},
                            {
                                "type": "image_url",
                                "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
                            },
                            {
                                "type": "file",
                                "file": {
                                    "file_data": "data:application/pdf;base64,AA==",
                                    "filename": "a.pdf",
                                },
                            },
                        ],
                        "role": "user",
                    },
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "id": "call_1",
                                "function": {"arguments": "{}", "name": "f"},
                                "type": "function",
                            }
                        ],
                    },
                    {"content": "42", "role": "tool", "tool_call_id": "call_1"},
                ],
                "max_completion_tokens": 100,
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
                "model": "another-model",
                "stream": False,
                "reasoning_effort": "low",
            },
            reply=CHAT_REPLY,
            answer={
                "id": "chatcmpl-1",
                "choices": [
                    {
                        "message": {"content": "Elastic", "role": "assistant"},
                        "finish_reason": "stop",
                        "index": 0,
                    }
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
            },
            shown={
                "model_id": "the-model",
                "rate_limit": {"requests_per_minute": 500},
                "client_id": "an-app",
                "scopes": ["a", "b"],
                "token_url": "{fake}/token",
            },
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=Chat(messages=(Message(role="user", content="how big"),)),
            path="/v1/chat/completions",
            headers=BEARER,
            stream=STREAM,
            stream_request={
                "messages": [{"content": "how big", "role": "user"}],
                "n": 1,
                "model": "the-model",
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            chunks=[
                {
                    "id": "c1",
                    "choices": [{"delta": {"content": "", "role": "assistant"}, "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
                {
                    "id": "c1",
                    "choices": [{"delta": {"content": "Elástic"}, "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
                {
                    "id": "c1",
                    "choices": [{"delta": {"content": "search 🔎"}, "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
                {
                    "id": "c1",
                    "choices": [{"delta": {}, "finish_reason": "stop", "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
                {
                    "id": "c1",
                    "choices": [],
                    "model": "m",
                    "object": "chat.completion.chunk",
                    "usage": {"completion_tokens": 2, "prompt_tokens": 1, "total_tokens": 3},
                },
            ],
        ),
    )
