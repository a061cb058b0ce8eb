"""Fireworks AI: what we send, what we make of the reply."""

from typing import Any

from inferd.core.inputs import Chat, Message, Texts
from inferd.core.tasks import TaskType
from inferd.services.fireworksai import SERVICE
from inferd.upstream.client import rate_group

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, COMPLETION, CHAT = TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION
SETTINGS = {"api_key": "fw-very-secret", "model_id": "accounts/fireworks/models/m"}
BEARER = {"authorization": "Bearer fw-very-secret"}
RATE = {"rate_limit": {"requests_per_minute": 6000}}
MODEL = {"model_id": "accounts/fireworks/models/m"}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


STREAM = (chunk({"role": "assistant", "content": "Elás"}), chunk({"content": "tic"}, "stop"), "[DONE]")


class TestFireworksai(ServiceTest):
    service = SERVICE
    retried = frozenset({429, 500})
    cases = (
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "dimensions": 2, "max_input_tokens": 1},
            inputs=Texts(("how big", "how small")),
            path="/inference/v1/embeddings",
            headers=BEARER,
            request={
                "input": ["how big", "how small"],
                "model": "accounts/fireworks/models/m",
                "dimensions": 2,
            },
            reply={
                "data": [{"embedding": [0.5, -0.25]}, {"embedding": [1, 0]}],
                "usage": {"prompt_tokens": 4, "total_tokens": 4},
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown={
                **MODEL,
                "url": "https://api.fireworks.ai/inference/v1/embeddings",
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 1,
                **RATE,
            },
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "url": "{fake}/mine", "similarity": "dot_product"},
            inputs=Texts(("how big",)),
            path="/mine",
            headers=BEARER,
            request={"input": ["how big"], "model": "accounts/fireworks/models/m"},
            reply={"data": [{"embedding": [0.5]}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={**MODEL, "url": "{fake}/mine", "similarity": "dot_product", "dimensions": 1, **RATE},
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            task_settings={"user": "me", "headers": {"X-Stored": "1"}},
            options={"headers": {"X-Asked": "2"}},
            inputs=Texts(("how big",)),
            path="/inference/v1/chat/completions",
            headers={**BEARER, "x-asked": "2"},
            request={
                "messages": [{"content": "how big", "role": "user"}],
                "n": 1,
                "model": "accounts/fireworks/models/m",
                "stream": False,
                "user": "me",
            },
            reply={"choices": [{"message": {"content": "Elastic"}}]},
            answer={"completion": [{"result": "Elastic"}]},
            shown={**MODEL, **RATE},
            shown_task={"user": "me", "headers": {"X-Stored": "1"}},
            stream=STREAM,
            stream_request={
                "messages": [{"content": "how big", "role": "user"}],
                "n": 1,
                "model": "accounts/fireworks/models/m",
                "stream": True,
                "stream_options": {"include_usage": True},
                "user": "me",
            },
            chunks=[{"completion": [{"delta": "Elás"}]}, {"completion": [{"delta": "tic"}]}],
        ),
        Case(
            task=CHAT,
            service_settings={**SETTINGS, "url": "{fake}/chat"},
            inputs=Chat(
                messages=(Message(role="user", content="how big"),),
                max_completion_tokens=5,
                temperature=0.5,
                model="another",
            ),
            path="/chat",
            headers=BEARER,
            request={
                "messages": [{"content": "how big", "role": "user"}],
                "max_completion_tokens": 5,
                "n": 1,
                "temperature": 0.5,
                "model": "another",
                "stream": False,
            },
            reply={
                "id": "c1",
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Elastic"},
                        "finish_reason": "stop",
                    }
                ],
            },
            answer={
                "id": "c1",
                "choices": [
                    {
                        "message": {"content": "Elastic", "role": "assistant"},
                        "finish_reason": "stop",
                        "index": 0,
                    }
                ],
                "model": "m",
                "object": "chat.completion",
            },
            shown={**MODEL, "url": "{fake}/chat", **RATE},
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=Chat(messages=(Message(role="user", content="how big"),)),
            path="/inference/v1/chat/completions",
            headers=BEARER,
            stream=STREAM,
            stream_request={
                "messages": [{"content": "how big", "role": "user"}],
                "n": 1,
                "model": "accounts/fireworks/models/m",
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            chunks=[
                {
                    "id": "c1",
                    "choices": [{"delta": {"content": "Elás", "role": "assistant"}, "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
                {
                    "id": "c1",
                    "choices": [{"delta": {"content": "tic"}, "finish_reason": "stop", "index": 0}],
                    "model": "m",
                    "object": "chat.completion.chunk",
                },
            ],
        ),
    )
    bad = (
        Bad(
            TEXT,
            {
                "url": "ftp://x",
                "similarity": "x",
                "dimensions": 0,
                "max_input_tokens": 0,
                "rate_limit": {"requests_per_minute": 0},
            },
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [model_id]",
                "[service_settings] Invalid url [ftp://x] received for field [url]. Error: unable to parse url [ftp://x]. "
                "Reason: unexpected scheme, expected http or https",
                "[service_settings] Invalid value [x] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
            ),
        ),
        Bad(
            CHAT,
            SETTINGS,
            {"headers": {"a": 1}, "user": 5},
            faults=(
                "field [user] is not of the expected type. The value [5] cannot be converted to a [String]",
                "Map field [headers] has an entry that is not valid, [a => 1]. Value type of [1] is not one of [String].",
            ),
        ),
        Bad(
            COMPLETION,
            {**SETTINGS, "dimensions": 1},
            reason="Configuration contains settings [{dimensions=1}] unknown to the [fireworksai] service",
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"api_key": "another", "max_input_tokens": 7},
            shown={
                **MODEL,
                "url": "https://api.fireworks.ai/inference/v1/embeddings",
                "max_input_tokens": 7,
                **RATE,
            },
            secrets={"api_key": "another"},
        ),
    )
    refusals = (
        *(
            Refusal(
                task=task,
                status=status,
                body={"error": {"message": "not that", "type": "t"}},
                reason=f"{prefix} for request from inference entity id [my-endpoint] status [{status}]. "
                "Error message: [not that]",
                attempts=attempts,
            )
            for task in (TEXT, COMPLETION)
            for status, prefix, attempts in (
                (401, "Received an authentication error status code", 1),
                (413, "Received an unsuccessful status code", 1),
                (429, "Received a rate limit status code", 3),
                (500, "Received a server error status code", 3),
                (503, "Received a server error status code", 1),
            )
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={
                "error": {"message": "not that", "type": "invalid_request_error", "code": "c", "param": "p"}
            },
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [400]. "
            "Error message: [not that]",
            kind="invalid_request_error",
            code="c",
            param="p",
        ),
        Refusal(
            task=TEXT,
            status=200,
            body={},
            reason="Failed to send FireworksAI embeddings request. Cause: Required [data]",
            becomes=500,
            attempts=3,
        ),
    )


def test_one_rate_for_a_key() -> None:
    """The API key alone decides who shares a limit."""

    def group(**settings: Any) -> Any:
        return rate_group(SERVICE, TestFireworksai().endpoint(TEXT, {**SETTINGS, **settings}))

    assert group(model_id="a") == group(model_id="b", url="http://elsewhere.test")
    assert group(api_key="one") != group(api_key="two")
