"""Anthropic: what we send, what we make of the reply."""

from typing import Any

import msgspec
import pytest

from inferd.actions import infer
from inferd.core.inputs import (
    Chat,
    Function,
    FunctionCall,
    Message,
    TextPart,
    Texts,
    Tool,
    ToolCall,
    ToolChoice,
)
from inferd.core.service import Ask
from inferd.core.tasks import TaskType
from inferd.errors import InferdError, UpstreamError
from inferd.services.anthropic import SERVICE
from inferd.testing import FakeUpstream

from .base import Bad, Case, Change, Refusal, ServiceTest

COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION

SETTINGS = {"api_key": "sk-ant-very-secret", "model_id": "claude-3"}
LIMIT = {"max_tokens": 512}
HEADERS = {"x-api-key": "sk-ant-very-secret", "anthropic-version": "2023-06-01"}
SHOWN = {"model_id": "claude-3", "rate_limit": {"requests_per_minute": 50}}
QUESTION = Chat(messages=(Message(role="user", content="how big"),))

REPLY: dict[str, Any] = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-3-opus",
    "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 16, "output_tokens": 326},
}

STREAM = (
    (
        "message_start",
        {
            "type": "message_start",
            "message": {
                "id": "msg_01",
                "type": "message",
                "role": "assistant",
                "model": "claude-3-opus",
                "content": [],
                "stop_reason": None,
                "usage": {"input_tokens": 25, "output_tokens": 1},
            },
        },
    ),
    ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    ("ping", {"type": "ping"}),
    ": a comment\r\n",
    ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Größe"}}),
    "event: content_block_delta\r\n"
    'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" 🔎"}}\r\n\r\n',
    ("content_block_stop", {"type": "content_block_stop", "index": 0}),
    (
        "content_block_start",
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        },
    ),
    ("content_block_delta", {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ""}}),
    ("content_block_delta", {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}}),
    ("content_block_delta", {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ' "Köln"}'}}),
    ("content_block_stop", {"type": "content_block_stop", "index": 1}),
    ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 89}}),
    ("message_stop", {"type": "message_stop"}),
    ("something_new", {"type": "something_new"}),
)  # fmt: skip


def chunk(delta: dict[str, Any], index: int = 0, **choice: Any) -> dict[str, Any]:
    return {
        "id": "msg_01",
        "choices": [{"delta": delta, **choice, "index": index}],
        "model": "claude-3-opus",
        "object": "chat.completion.chunk",
    }


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "usage": {
            "completion_tokens": completion,
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
        }
    }


class TestAnthropic(ServiceTest):
    service = SERVICE
    retried = frozenset({429, 500, 529})

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"type": "error", "error": {"type": "some_error", "message": message}})

    cases = (
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            task_settings={"max_tokens": 512, "temperature": 0.5, "top_k": 7, "top_p": 1},
            options={"temperature": 0.25, "max_tokens": 1000},
            inputs=Texts(("how big",)),
            path="/v1/messages",
            headers=HEADERS,
            request={
                "messages": [{"role": "user", "content": "how big"}],
                "model": "claude-3",
                "max_tokens": 1000,
                "temperature": 0.25,
                "top_p": 1.0,
                "top_k": 7,
            },
            reply=REPLY,
            answer={"completion": [{"result": "Hello"}, {"result": "there"}]},
            shown=SHOWN,
            shown_task={"max_tokens": 512, "temperature": 0.5, "top_k": 7, "top_p": 1.0},
            stream=STREAM,
            stream_request={
                "messages": [{"role": "user", "content": "how big"}],
                "model": "claude-3",
                "max_tokens": 1000,
                "temperature": 0.25,
                "top_p": 1.0,
                "top_k": 7,
                "stream": True,
            },
            chunks=[{"completion": [{"delta": "Größe"}]}, {"completion": [{"delta": " 🔎"}]}],
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            task_settings={**LIMIT, "top_k": 3, "temperature": 0.5, "top_p": 0.5},
            inputs=Chat(
                messages=(
                    Message(role="system", content="Be brief."),
                    Message(role="user", content=(TextPart("how"), TextPart("big"))),
                    Message(
                        role="assistant", tool_calls=(ToolCall("toolu_1", FunctionCall("f", '{"a":1}')),)
                    ),
                    Message(role="tool", content="42", tool_call_id="toolu_1"),
                ),
                model="another-model",
                max_completion_tokens=100,
                stop=("end",),
                temperature=0.25,
                top_p=0.75,
                tools=(
                    Tool(Function("f", description="d", parameters={"type": "object"})),
                    Tool(Function("g")),
                ),
                tool_choice=ToolChoice("f"),
            ),
            path="/v1/messages",
            headers=HEADERS,
            request={
                "model": "another-model",
                "system": "Be brief.",
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "how"}, {"type": "text", "text": "big"}]},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"}]},
                ],
                "temperature": 0.25,
                "top_p": 0.75,
                "top_k": 3,
                "tool_choice": {"type": "tool", "name": "f"},
                "tools": [
                    {"name": "f", "description": "d", "input_schema": {"type": "object"}},
                    {"name": "g"},
                ],
                "stream": False,
                "max_tokens": 100,
            },
            reply=REPLY,
            answer={
                "id": "msg_01",
                "choices": [
                    {
                        "message": {"content": "Hellothere", "role": "assistant"},
                        "finish_reason": "stop",
                        "index": 0,
                    }
                ],
                "model": "claude-3-opus",
                "object": "chat.completion",
                **usage(16, 326),
            },
            shown=SHOWN,
            shown_task={"max_tokens": 512, "temperature": 0.5, "top_k": 3, "top_p": 0.5},
        ),
        Case(
            task=CHAT,
            service_settings={**SETTINGS, "rate_limit": {"requests_per_minute": 5}},
            task_settings=LIMIT,
            inputs=QUESTION,
            path="/v1/messages",
            headers=HEADERS,
            stream=STREAM,
            stream_request={
                "model": "claude-3",
                "messages": [{"role": "user", "content": "how big"}],
                "stream": True,
                "max_tokens": 512,
            },
            chunks=[
                {**chunk({"role": "assistant"}), **usage(25, 1)},
                chunk({"content": ""}),
                chunk({"content": "Größe"}),
                chunk({"content": " 🔎"}),
                chunk({"tool_calls": [{"index": 0, "id": "toolu_1", "function": {"arguments": "{}", "name": "weather"}}]}, 1),
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}, 1),
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}, 1),
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' "Köln"}'}}]}, 1),
                {**chunk({}, finish_reason="tool_use"), **usage(0, 89)},
            ],
        ),
    )  # fmt: skip
    bad = (
        Bad(COMPLETION, {"model_id": "m"}, LIMIT, faults=("[secret_settings] does not contain the required setting [api_key]",)),
        Bad(COMPLETION, {**SETTINGS, "api_key": ""}, LIMIT, faults=("[secret_settings] Invalid value empty string. [api_key] must be a non-empty string",)),
        Bad(CHAT, {"api_key": "k"}, LIMIT, faults=("[service_settings] does not contain the required setting [model_id]",)),
        Bad(CHAT, SETTINGS, {}, faults=("[task_settings] does not contain the required setting [max_tokens]",)),
        Bad(COMPLETION, SETTINGS, {"max_tokens": 0}, faults=("[task_settings] Invalid value [0]. [max_tokens] must be a positive integer",)),
        Bad(
            COMPLETION,
            {**SETTINGS, "rate_limit": {"requests_per_minute": 0}},
            {**LIMIT, "temperature": "warm", "top_k": 1.5, "top_p": True},
            faults=(
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "field [temperature] is not of the expected type. The value [warm] cannot be converted to a [Double]",
                "field [top_k] is not of the expected type. The value [1.5] cannot be converted to a [Integer]",
                "field [top_p] is not of the expected type. The value [true] cannot be converted to a [Double]",
            ),
        ),
        Bad(COMPLETION, {**SETTINGS, "url": "http://x"}, LIMIT, reason="Configuration contains settings [{url=http://x}] unknown to the [anthropic] service"),
    )  # fmt: skip
    changes = (
        Change(
            task=COMPLETION,
            stored=SETTINGS,
            stored_task={**LIMIT, "top_k": 4},
            service_settings={"api_key": "sk-new", "rate_limit": {"requests_per_minute": 7}},
            shown={"model_id": "claude-3", "rate_limit": {"requests_per_minute": 7}},
            shown_task={"max_tokens": 512, "top_k": 4},
            secrets={"api_key": "sk-new"},
        ),
        Change(
            task=COMPLETION,
            stored=SETTINGS,
            stored_task={**LIMIT, "top_k": 4},
            task_settings={"max_tokens": 9, "temperature": 0.5},
            shown_task={"max_tokens": 9, "temperature": 0.5},
        ),
        Change(
            task=CHAT,
            stored=SETTINGS,
            stored_task=LIMIT,
            task_settings={"temperature": 0.5},
            faults=("[task_settings] does not contain the required setting [max_tokens]",),
        ),
        Change(
            task=CHAT,
            stored=SETTINGS,
            stored_task=LIMIT,
            service_settings={"model_id": "other"},
            faults=("[service_settings] does not allow the setting [model_id]",),
        ),
    )
    refusals = (
        Refusal(
            task=COMPLETION,
            status=429,
            body={"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
            headers={
                "anthropic-ratelimit-tokens-limit": "1",
                "anthropic-ratelimit-tokens-remaining": "2",
                "anthropic-ratelimit-tokens-reset": "3",
                "anthropic-ratelimit-requests-limit": "4",
                "anthropic-ratelimit-requests-remaining": "5",
                "anthropic-ratelimit-requests-reset": "6",
                "retry-after": "7",
            },
            reason="Received a rate limit status code. Token limit [1], remaining tokens [2], tokens reset [3]. "
            "Request limit [4], remaining requests [5], request reset [6]. Retry after [7] for request from "
            "inference entity id [my-endpoint] status [429]. Error message: [slow down]",
            attempts=3,
        ),
        Refusal(
            task=COMPLETION,
            status=429,
            reason="Received a rate limit status code. Token limit [unknown], remaining tokens [unknown], tokens reset "
            "[unknown]. Request limit [unknown], remaining requests [unknown], request reset [unknown]. Retry after "
            "[unknown] for request from inference entity id [my-endpoint] status [429]",
            attempts=3,
        ),
        Refusal(
            task=COMPLETION,
            status=529,
            reason="Received an Anthropic server is temporarily overloaded status code for request from inference "
            "entity id [my-endpoint] status [529]",
            attempts=3,
        ),
        Refusal(
            task=COMPLETION,
            status=403,
            reason="Received a permission denied error status code for request from inference entity id [my-endpoint] status [403]",
        ),
        Refusal(
            task=CHAT,
            status=401,
            body={"type": "error", "error": {"type": "authentication_error", "message": "who?"}},
            reason="Received an authentication error status code for request from inference entity id [my-endpoint] "
            "status [401]. Error message: [who?]",
            kind="authentication_error",
        ),
        Refusal(
            task=CHAT,
            status=400,
            body=b"<html>",
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [400]",
            kind="ErrorResponse",
            code="bad_request",
        ),
    )

    async def test_several_inputs(self, fake: FakeUpstream) -> None:
        """A completion takes one input."""
        error = await self.refused(self.cases[0], fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "Anthropic chat completions only accepts 1 input")

    async def test_missing_content(self, fake: FakeUpstream) -> None:
        """An answer without content is named so."""
        fake.answer(json={"type": "message"})
        error = await self.refused(self.cases[0], fake)
        assert error.reason == (
            "Failed to send Anthropic chat completions request. Cause: "
            "Failed to find required field [content] in Anthropic chat completions response"
        )

    @pytest.mark.parametrize(
        ("choice", "sent"),
        [
            ("auto", {"type": "auto"}),
            ("none", {"type": "none"}),
            ("required", {"type": "any"}),
            (ToolChoice("f"), {"type": "tool", "name": "f"}),
        ],
    )
    def test_tool_choice(self, choice: Any, sent: Any) -> None:
        """Each tool_choice has a form of Anthropic's."""
        assert self.body(Chat(messages=QUESTION.messages, tool_choice=choice))["tool_choice"] == sent

    def test_refused_tool_choice(self) -> None:
        """A word that Anthropic has no form for is refused."""
        with pytest.raises(InferdError) as caught:
            self.body(Chat(messages=QUESTION.messages, tool_choice="sometimes"))
        assert caught.value.status == 400
        assert caught.value.reason == (
            "Unsupported tool_choice value [sometimes] for the Anthropic chat completion API."
        )

    def test_refused_strict(self) -> None:
        """A strict function is refused."""
        with pytest.raises(InferdError) as caught:
            self.body(Chat(messages=QUESTION.messages, tools=(Tool(Function("f", strict=False)),)))
        assert caught.value.status == 400
        assert caught.value.reason == (
            "The [strict] field in tool function definitions is not supported by the Anthropic chat completion API."
        )

    def body(self, chat: Chat) -> dict[str, Any]:
        endpoint = self.endpoint(CHAT, SETTINGS, LIMIT)
        call = self.call(endpoint)
        assert call.body is not None
        found: dict[str, Any] = call.body(
            Ask(endpoint=endpoint, inputs=chat, options=infer.options(SERVICE, call, endpoint, {}))
        )
        return found

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            ("invalid_request_error", 400),
            ("authentication_error", 401),
            ("permission_error", 403),
            ("not_found_error", 404),
            ("request_too_large", 413),
            ("rate_limit_error", 429),
            ("api_error", 500),
            ("overloaded_error", 500),
        ],
    )
    async def test_completion_error_event(self, fake: FakeUpstream, kind: str, status: int) -> None:
        """Inside a completion stream the kind of an error is its status, and its message is as it is."""
        fake.answer(
            sse=[
                *STREAM[:5],
                ("error", {"type": "error", "error": {"type": kind, "message": "Overloaded"}}),
            ]
        )
        error = await self.refused_stream(self.cases[0], fake)
        assert (error.status, error.reason) == (status, "Overloaded")

    async def test_chat_error_event(self, fake: FakeUpstream) -> None:
        """Inside a chat stream an error has the provider's type and the common text."""
        told = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        fake.answer(sse=[*STREAM[:5], ("error", told)])
        error = await self.refused_stream(self.cases[2], fake)
        assert isinstance(error, UpstreamError)
        assert (error.status, error.kind) == (500, "overloaded_error")
        assert error.reason == (
            "Received an error response for request from inference entity id [my-endpoint]. Error message: [Overloaded]"
        )
