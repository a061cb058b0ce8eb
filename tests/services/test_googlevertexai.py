"""Google Vertex AI and Model Garden: what we send, what we make of the reply."""

import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from inferd.core.inputs import (
    Chat,
    Function,
    FunctionCall,
    InputType,
    Message,
    RankQuery,
    TextPart,
    Texts,
    Tool,
    ToolCall,
    ToolChoice,
)
from inferd.core.tasks import TaskType
from inferd.errors import UpstreamError
from inferd.services.googlevertexai import SERVICE
from inferd.testing import FakeUpstream

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, RERANK = TaskType.TEXT_EMBEDDING, TaskType.RERANK
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION

_PEM = generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
ACCOUNT = json.dumps(
    {
        "type": "service_account",
        "client_id": "1",
        "client_email": "me@example.test",
        "private_key": _PEM.decode(),
        "private_key_id": "key-1",
        "token_uri": "{fake}/token",
    }
)
TOKEN = {"/token": {"access_token": "ya29.token", "expires_in": 3600, "token_type": "Bearer"}}
BEARER = {"authorization": "Bearer ya29.token"}

SECRET = {"service_account_json": ACCOUNT}
MODEL = {**SECRET, "location": "eu-1", "project_id": "proj", "model_id": "gemini-2"}
BASE = "/v1/projects/proj/locations/eu-1/publishers/google/models/gemini-2"
GENERATE, STREAMED = f"{BASE}:generateContent", f"{BASE}:streamGenerateContent"
SHOWN = {
    "project_id": "proj",
    "location": "eu-1",
    "model_id": "gemini-2",
    "provider": "GOOGLE",
    "rate_limit": {"requests_per_minute": 1000},
}
GARDEN = {**SECRET, "url": "{fake}/garden", "model_id": "a-model"}
QUESTION = Chat(messages=(Message(role="user", content="how big"),))
USER = {"role": "user", "parts": [{"text": "how big"}]}
NOT_GIVEN = (
    "For Google Model Garden, you must provide either provider with url and/or streaming_url. "
    "For Google Vertex AI models, you must provide location, project_id, and model. "
    "provider, url and streaming url were not provided. "
)


def reply(*parts: Any, **candidate: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"role": "model", "parts": list(parts)}, **candidate}],
        "usageMetadata": {
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 2,
            "totalTokenCount": 17,
            "trafficType": "ON_DEMAND",
        },
        "modelVersion": "gemini-2-001",
        "responseId": "resp-1",
    }


USAGE = {
    "completion_tokens": 7,
    "prompt_tokens": 10,
    "total_tokens": 17,
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def chunk(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {
        "id": "resp-1",
        "choices": [{"delta": {**delta, "role": "model"}, **choice, "index": 0}],
        "model": "gemini-2-001",
        "object": "chat.completion.chunk",
        "usage": USAGE,
    }


CALL = {"functionCall": {"name": "weather", "args": {"city": "Köln"}}}
STREAM = (
    reply({"text": "Gr"}, {"text": "öße"}),
    ": keep-alive\r\n\r\n",
    reply({"text": "thinking", "thought": True}, {"text": " 🔎"}),
    reply({**CALL, "thoughtSignature": "c2ln"}, {"functionCall": {"name": "time", "id": "call-2"}}),
    reply(finishReason="STOP"),
)
OPENAI_REPLY = {
    "id": "c1",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Elastic"}, "finish_reason": "stop"}
    ],
}
OPENAI_ANSWER = {
    "id": "c1",
    "choices": [
        {"message": {"content": "Elastic", "role": "assistant"}, "finish_reason": "stop", "index": 0}
    ],
    "model": "m",
    "object": "chat.completion",
}
OPENAI_STREAM = (
    {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": "Elástic"}}]},
    "data: [DONE]\n\n",
)
OPENAI_CHUNKS = [
    {
        "id": "c1",
        "choices": [{"delta": {"content": "Elástic"}, "index": 0}],
        "model": "m",
        "object": "chat.completion.chunk",
    }
]
ANTHROPIC_STREAM = (
    (
        "message_start",
        {
            "type": "message_start",
            "message": {"id": "msg_1", "role": "assistant", "model": "claude", "usage": {"input_tokens": 3}},
        },
    ),
    (
        "content_block_delta",
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Größe"}},
    ),
    ("message_stop", {"type": "message_stop"}),
)


class TestGoogleVertexAi(ServiceTest):
    service = SERVICE

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}})

    cases = (
        Case(
            task=TEXT,
            service_settings={**MODEL, "dimensions": 2, "similarity": "cosine", "max_batch_size": 7, "max_input_tokens": 2},
            task_settings={"auto_truncate": True, "input_type": "CLUSTERING"},
            options={"auto_truncate": False},
            inputs=Texts(("how big", "is it")),
            path=f"{BASE}:predict",
            headers=BEARER,
            others=TOKEN,
            request={
                "instances": [
                    {"content": "how bi", "task_type": "CLUSTERING"},
                    {"content": "is it", "task_type": "CLUSTERING"},
                ],
                "parameters": {"autoTruncate": False, "outputDimensionality": 2},
            },
            reply={
                "predictions": [
                    {"embeddings": {"values": [0.5, -0.25], "statistics": {"truncated": False, "token_count": 2}}},
                    {"embeddings": {"values": [1, 0.0], "statistics": {"truncated": True, "token_count": 3.0}}},
                ]
            },
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 0.0]}]},
            shown={
                "project_id": "proj",
                "location": "eu-1",
                "model_id": "gemini-2",
                "dimensions": 2,
                "similarity": "cosine",
                "max_input_tokens": 2,
                "max_batch_size": 7,
                "rate_limit": {"requests_per_minute": 30000},
            },
            shown_task={"auto_truncate": True, "input_type": "clustering"},
        ),
        Case(
            task=TEXT,
            service_settings={**SECRET, "project_id": "proj", "model_id": "embed/1"},
            inputs=Texts(("how big",), input_type=InputType.SEARCH),
            path="/v1/projects/proj/locations/global/publishers/google/models/embed%2F1:predict",
            headers=BEARER,
            others=TOKEN,
            request={"instances": [{"content": "how big", "task_type": "RETRIEVAL_QUERY"}], "parameters": {}},
            reply={"predictions": [{"embeddings": {"values": [0.5]}}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={
                "project_id": "proj",
                "model_id": "embed/1",
                "dimensions": 1,
                "similarity": "dot_product",
                "rate_limit": {"requests_per_minute": 30000},
            },
        ),
        Case(
            task=RERANK,
            service_settings={**SECRET, "project_id": "proj", "model_id": "ranker"},
            task_settings={"top_n": 5},
            inputs=RankQuery("luke", ("leia", "han"), return_documents=False),
            path="/v1/projects/proj/locations/global/rankingConfigs/default_ranking_config:rank",
            headers=BEARER,
            others=TOKEN,
            request={
                "model": "ranker",
                "query": "luke",
                "records": [{"id": "0", "content": "leia"}, {"id": "1", "content": "han"}],
                "topN": 5,
                "ignoreRecordDetailsInResponse": True,
            },
            reply={"records": [{"id": "1", "score": 0.5, "content": "han"}, {"id": "0", "score": 0.75}]},
            answer={
                "rerank": [
                    {"index": 1, "relevance_score": 0.5, "text": "han"},
                    {"index": 0, "relevance_score": 0.75},
                ]
            },
            shown={"project_id": "proj", "model_id": "ranker", "rate_limit": {"requests_per_minute": 300}},
            shown_task={"top_n": 5},
        ),
        Case(
            task=RERANK,
            service_settings={**SECRET, "project_id": "proj"},
            inputs=RankQuery("luke", ("leia",), top_n=1, return_documents=True),
            path="/v1/projects/proj/locations/global/rankingConfigs/default_ranking_config:rank",
            headers=BEARER,
            others=TOKEN,
            request={
                "query": "luke",
                "records": [{"id": "0", "content": "leia"}],
                "topN": 1,
                "ignoreRecordDetailsInResponse": False,
            },
            reply={"records": [{"id": "0", "score": 0.75}]},
            answer={"rerank": [{"index": 0, "relevance_score": 0.75}]},
        ),
        Case(
            task=COMPLETION,
            service_settings=MODEL,
            task_settings={"thinking_config": {"thinking_budget": 256}},
            inputs=Texts(("how big",)),
            path=GENERATE,
            headers=BEARER,
            others=TOKEN,
            request={"contents": [USER], "generationConfig": {"thinkingConfig": {"thinkingBudget": 256}}},
            reply=reply({"text": "Gr"}, {"text": "öße"}, finishReason="STOP"),
            answer={"completion": [{"result": "Größe"}]},
            shown=SHOWN,
            shown_task={"thinking_config": {"thinking_budget": 256}},
        ),
        Case(
            task=COMPLETION,
            service_settings=MODEL,
            inputs=Texts(("how big",)),
            path=STREAMED,
            query="alt=sse",
            headers=BEARER,
            others=TOKEN,
            stream=STREAM,
            stream_request={"contents": [USER]},
            chunks=[{"completion": [{"delta": "Größe"}]}, {"completion": [{"delta": " 🔎"}]}],
        ),
        Case(
            task=CHAT,
            service_settings=MODEL,
            inputs=Chat(
                messages=(
                    Message(role="system", content="Be brief."),
                    Message(role="user", content=(TextPart("how"), TextPart("big"))),
                    Message(role="assistant", content="One moment.", tool_calls=(ToolCall("c1", FunctionCall("f", '{"a":1}')),)),
                    Message(role="tool", content='{"b":2}', tool_call_id="c1"),
                    Message(role="model", content="ok"),
                ),
                max_completion_tokens=100,
                stop=("end",),
                temperature=0.25,
                top_p=0.75,
                tools=(Tool(Function("f", description="d", parameters={"type": "object"})), Tool(Function("g"))),
                tool_choice=ToolChoice("f"),
            ),
            path=GENERATE,
            headers=BEARER,
            others=TOKEN,
            request={
                "contents": [
                    {"role": "user", "parts": [{"text": "how"}, {"text": "big"}]},
                    {
                        "role": "model",
                        "parts": [
                            {"text": "One moment."},
                            {"functionCall": {"name": "f", "id": "c1", "args": {"a": 1}}},
                        ],
                    },
                    {"role": "user", "parts": [{"functionResponse": {"name": "f", "id": "c1", "response": {"b": 2}}}]},
                    {"role": "model", "parts": [{"text": "ok"}]},
                ],
                "systemInstruction": {"parts": [{"text": "Be brief."}]},
                "generationConfig": {
                    "stopSequences": ["end"],
                    "temperature": 0.25,
                    "maxOutputTokens": 100,
                    "topP": 0.75,
                },
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "f", "description": "d", "parameters": {"type": "object"}},
                            {"name": "g"},
                        ]
                    }
                ],
                "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            },
            reply=reply({"text": "Größe"}, CALL, finishReason="STOP"),
            answer={
                "id": "resp-1",
                "choices": [
                    {
                        "message": {
                            "content": "Größe",
                            "role": "assistant",
                            "tool_calls": [
                                {
                                    "index": 0,
                                    "id": "weather",
                                    "function": {"arguments": '{"city":"Köln"}', "name": "weather"},
                                    "type": "function",
                                }
                            ],
                        },
                        "finish_reason": "tool_calls",
                        "index": 0,
                    }
                ],
                "model": "gemini-2-001",
                "object": "chat.completion",
                "usage": USAGE,
            },
            shown=SHOWN,
        ),
        Case(
            task=CHAT,
            service_settings=MODEL,
            inputs=QUESTION,
            path=STREAMED,
            query="alt=sse",
            headers=BEARER,
            others=TOKEN,
            stream=STREAM,
            stream_request={"contents": [USER]},
            chunks=[
                chunk({"content": "Größe"}),
                chunk(
                    {
                        "content": " 🔎",
                        "reasoning": "thinking",
                        "reasoning_details": [
                            {"type": "reasoning.text", "format": "google-vertex-ai-v1", "text": "thinking"}
                        ],
                    }
                ),
                chunk(
                    {
                        "tool_calls": [
                            {"index": 0, "id": "weather", "function": {"arguments": '{"city":"Köln"}', "name": "weather"}, "type": "function"},
                            {"index": 1, "id": "call-2", "function": {"arguments": "{}", "name": "time"}, "type": "function"},
                        ],
                        "reasoning_details": [
                            {"type": "reasoning.encrypted", "format": "google-vertex-ai-v1", "data": "c2ln", "id": "weather"}
                        ],
                    }
                ),
                chunk({}, finish_reason="STOP"),
            ],
        ),
    )  # fmt: skip
    bad = (
        Bad(TEXT, {"model_id": "m", "project_id": "p"}, faults=("[secret_settings] does not contain the required setting [service_account_json]",)),
        Bad(
            TEXT,
            SECRET,
            faults=(
                "[service_settings] does not contain the required setting [project_id]",
                "[service_settings] does not contain the required setting [model_id]",
            ),
        ),
        Bad(RERANK, SECRET, {"top_n": 0}, faults=(
            "[service_settings] does not contain the required setting [project_id]",
            "[task_settings] Invalid value [0]. [top_n] must be a positive integer",
        )),
        Bad(TEXT, {**MODEL, "location": ""}, faults=("[service_settings] Invalid value empty string. [location] must be a non-empty string",)),
        Bad(TEXT, {**MODEL, "max_batch_size": 251}, faults=("[service_settings] Invalid value [251.0]. [max_batch_size] must be a less than or equal to [250.0]",)),
        Bad(TEXT, {**MODEL, "max_batch_size": 0}, faults=("[service_settings] Invalid value [0]. [max_batch_size] must be a positive integer",)),
        Bad(TEXT, {**MODEL, "dimensions_set_by_user": True}, faults=("[service_settings] does not allow the setting [dimensions_set_by_user]",)),
        Bad(TEXT, MODEL, {"auto_truncate": "yes"}, faults=("field [auto_truncate] is not of the expected type. The value [yes] cannot be converted to a [Boolean]",)),
        Bad(TEXT, MODEL, {"input_type": "x"}, faults=("[task_settings] Invalid value [x] received. [input_type] must be one of [classification, clustering, ingest, search]",)),
        Bad(CHAT, {**MODEL, "provider": "acme"}, faults=("[service_settings] Invalid value [acme] received. [provider] must be one of [ai21, anthropic, google, hugging_face, meta, mistral]",)),
        Bad(CHAT, MODEL, {"max_tokens": -1}, faults=("[task_settings] Invalid value [-1]. [max_tokens] must be a positive integer",)),
        Bad(COMPLETION, MODEL, {"thinking_config": {"thinking_budget": "x"}}, faults=("field [thinking_budget] is not of the expected type. The value [x] cannot be converted to a [Integer]",)),
        Bad(CHAT, {**SECRET, "project_id": "p"}, faults=(NOT_GIVEN + "Provided values: location=null, project_id=p, model=null.",)),
        Bad(CHAT, {**MODEL, "provider": "meta"}, faults=(NOT_GIVEN + "Provided values: location=eu-1, project_id=proj, model=gemini-2.",)),
        Bad(COMPLETION, {**MODEL, "url": "http://x.test"}, faults=(NOT_GIVEN + "Provided values: location=eu-1, project_id=proj, model=gemini-2.",)),
        Bad(COMPLETION, {**MODEL, "provider": "google", "streaming_url": "http://x.test"}, faults=(NOT_GIVEN + "Provided values: location=eu-1, project_id=proj, model=gemini-2.",)),
        Bad(RERANK, {**SECRET, "project_id": "p", "location": "eu"}, reason="Configuration contains settings [{location=eu}] unknown to the [googlevertexai] service"),
    )  # fmt: skip
    changes = (
        Change(
            task=TEXT,
            stored=MODEL,
            service_settings={"max_batch_size": 3, "rate_limit": {"requests_per_minute": 9}},
            shown={
                "project_id": "proj",
                "location": "eu-1",
                "model_id": "gemini-2",
                "max_batch_size": 3,
                "rate_limit": {"requests_per_minute": 9},
            },
        ),
        Change(
            task=CHAT,
            stored=MODEL,
            service_settings={"service_account_json": "other"},
            task_settings={"max_tokens": 5},
            shown=SHOWN,
            shown_task={"max_tokens": 5},
            secrets={"service_account_json": "other"},
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=503,
            body={"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}},
            reason="The Google Vertex AI service may be temporarily overloaded or down for request from inference "
            "entity id [my-endpoint] status [503]. Error message: [later]",
            attempts=3,
        ),
        Refusal(
            task=TEXT,
            status=404,
            reason="Resource not found at [{url}] for request from inference entity id [my-endpoint] status [404]",
        ),
        Refusal(
            task=RERANK,
            status=403,
            reason="Received a permission denied error status code for request from inference entity id [my-endpoint] status [403]",
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}},
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [400]. "
            "Error message: [no]",
            kind="INVALID_ARGUMENT",
            code="400",
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={"error": {"message": "no"}},
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [400]. "
            "Error message: [no]",
            kind="google_vertex_ai_error",
            code="0",
        ),
        Refusal(
            task=CHAT,
            status=400,
            body=b"<html>",
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [400]. "
            "Error message: [Unable to parse the Google Vertex AI error, response body: [<html>]]",
            kind="google_vertex_ai_error",
            code="0",
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={"other": 1},
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [400]",
            kind="google_vertex_ai_error",
            code="0",
        ),
    )

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (InputType.INGEST, "RETRIEVAL_DOCUMENT"),
            (InputType.INTERNAL_INGEST, "RETRIEVAL_DOCUMENT"),
            (InputType.SEARCH, "RETRIEVAL_QUERY"),
            (InputType.INTERNAL_SEARCH, "RETRIEVAL_QUERY"),
            (InputType.CLASSIFICATION, "CLASSIFICATION"),
            (InputType.CLUSTERING, "CLUSTERING"),
        ],
    )
    async def test_input_types(self, fake: FakeUpstream, given: InputType, sent: str) -> None:
        """The request's input type wins over the stored one, and each has a task type of Google's."""
        self.answer(self.cases[0], fake)
        await self.ask(self.cases[0], fake, inputs=Texts(("a", "b"), input_type=given))
        (asked,) = self.asked(self.cases[0], fake)
        assert asked.json["instances"][0]["task_type"] == sent

    async def test_batches(self, fake: FakeUpstream) -> None:
        """No request holds more inputs than max_batch_size."""
        fake.answer(json={"predictions": [{"embeddings": {"values": [1.0]}}] * 3})
        settings = {**MODEL, "max_batch_size": 3, "rate_limit": {"requests_per_minute": 10**9}}
        case = msgspec.structs.replace(self.cases[0], service_settings=settings)
        result: Any = await self.ask(case, fake, inputs=Texts(tuple("abcdef")))
        assert [len(request.json["instances"]) for request in self.asked(case, fake)] == [3, 3]
        assert result.vectors.shape == (6, 1)

    async def test_counted_tokens(self, fake: FakeUpstream) -> None:
        """Google's statistics say how many tokens were used, and which inputs were cut."""
        self.answer(self.cases[0], fake)
        result: Any = await self.ask(self.cases[0], fake)
        assert (result.usage.used, result.truncated) == (5, (0, 1))

    @pytest.mark.parametrize(
        ("account", "why"),
        [
            ("not an object", "The service account is not a JSON object"),
            ('{"type": "user"}', "The service account JSON is not of type [service_account]"),
        ],
    )
    async def test_bad_account(self, fake: FakeUpstream, account: str, why: str) -> None:
        """Whatever is wrong with the service account is a 403, for Google's models and for the garden's."""
        for case in (self.cases[0], TestGarden.cases[0]):
            settings = {**case.service_settings, "service_account_json": account}
            error = await self.refused(msgspec.structs.replace(case, service_settings=settings), fake)
            assert (error.status, error.reason) == (403, why)

    @pytest.mark.parametrize("place", [5, 7])
    async def test_error_as_data(self, fake: FakeUpstream, place: int) -> None:
        """An error inside a stream comes as plain data, and keeps Google's words."""
        told = {"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}}
        fake.answer(sse=[STREAM[0], told])
        error = await self.refused_stream(self.cases[place], fake)
        assert isinstance(error, UpstreamError)
        assert error.reason == (
            "Received an error response for request from inference entity id [my-endpoint]. Error message: [later]"
        )
        assert error.status == 500
        if place == 7:
            assert (error.kind, error.code) == ("UNAVAILABLE", "503")


class TestGardenAnthropic(ServiceTest):
    """Anthropic's models in Model Garden."""

    service = SERVICE
    retried = frozenset({429, 500, 529})

    cases = (
        Case(
            task=COMPLETION,
            service_settings={**SECRET, "provider": "anthropic", "url": "{fake}/garden"},
            task_settings={"max_tokens": 7},
            inputs=Texts(("how big",)),
            path="/garden",
            headers=BEARER,
            others=TOKEN,
            request={
                "anthropic_version": "vertex-2023-10-16",
                "messages": [{"role": "user", "content": "how big"}],
                "stream": False,
                "max_tokens": 7,
            },
            reply={"content": [{"type": "text", "text": "Größe"}]},
            answer={"completion": [{"result": "Größe"}]},
            shown={"provider": "ANTHROPIC", "url": "{fake}/garden", "rate_limit": {"requests_per_minute": 1000}},
            shown_task={"max_tokens": 7},
            stream=ANTHROPIC_STREAM,
            stream_request={
                "anthropic_version": "vertex-2023-10-16",
                "messages": [{"role": "user", "content": "how big"}],
                "stream": True,
                "max_tokens": 7,
            },
            chunks=[{"completion": [{"delta": "Größe"}]}],
        ),
        Case(
            task=CHAT,
            service_settings={**GARDEN, "provider": "Anthropic", "streaming_url": "{fake}/streamed"},
            inputs=Chat(
                messages=(
                    Message(role="system", content="Be brief."),
                    Message(role="user", content="how big"),
                ),
                temperature=0.5,
                top_p=0.25,
                tools=(Tool(Function("f", description="d", parameters={"type": "object"})), Tool(Function("g", parameters={}))),
                tool_choice=ToolChoice("f"),
            ),
            path="/garden",
            stream_path="/streamed",
            headers=BEARER,
            others=TOKEN,
            request={
                "anthropic_version": "vertex-2023-10-16",
                "system": "Be brief.",
                "messages": [{"role": "user", "content": "how big"}],
                "temperature": 0.5,
                "tool_choice": {"type": "tool", "name": "f"},
                "tools": [
                    {"name": "f", "description": "d", "input_schema": {"type": "object"}},
                    {"name": "g"},
                ],
                "top_p": 0.25,
                "stream": False,
                "max_tokens": 1024,
            },
            reply={"id": "msg_1", "role": "assistant", "content": [{"type": "text", "text": "Größe"}], "stop_reason": "max_tokens"},
            answer={
                "id": "msg_1",
                "choices": [{"message": {"content": "Größe", "role": "assistant"}, "finish_reason": "length", "index": 0}],
                "model": None,
                "object": "chat.completion",
            },
            shown={
                "model_id": "a-model",
                "provider": "ANTHROPIC",
                "url": "{fake}/garden",
                "streaming_url": "{fake}/streamed",
                "rate_limit": {"requests_per_minute": 1000},
            },
            stream=ANTHROPIC_STREAM,
            stream_request={
                "anthropic_version": "vertex-2023-10-16",
                "system": "Be brief.",
                "messages": [{"role": "user", "content": "how big"}],
                "temperature": 0.5,
                "tool_choice": {"type": "tool", "name": "f"},
                "tools": [
                    {"name": "f", "description": "d", "input_schema": {"type": "object"}},
                    {"name": "g"},
                ],
                "top_p": 0.25,
                "stream": True,
                "max_tokens": 1024,
            },
            chunks=[
                {
                    "id": "msg_1",
                    "choices": [{"delta": {"role": "assistant"}, "index": 0}],
                    "model": "claude",
                    "object": "chat.completion.chunk",
                    "usage": {"completion_tokens": 0, "prompt_tokens": 3, "total_tokens": 3},
                },
                {
                    "id": "msg_1",
                    "choices": [{"delta": {"content": "Größe"}, "index": 0}],
                    "model": "claude",
                    "object": "chat.completion.chunk",
                },
            ],
        ),
    )  # fmt: skip

    async def test_tool_choice(self, fake: FakeUpstream) -> None:
        """A tool_choice keeps its type, but a string is refused."""
        case = self.cases[1]
        self.answer(case, fake)
        chat = Chat(messages=QUESTION.messages, tool_choice=ToolChoice("f", type="any"))
        await self.ask(case, fake, inputs=chat)
        assert self.asked(case, fake)[0].json["tool_choice"] == {"type": "any"}
        chat = Chat(messages=QUESTION.messages, tool_choice="auto")
        error = await self.refused(case, fake, inputs=chat)
        assert (error.status, error.reason) == (
            400,
            "Tool choice value is not supported as string by Google Model Garden Anthropic Chat Completion.",
        )

    async def test_missing_content(self, fake: FakeUpstream) -> None:
        """An answer without content is named so."""
        fake.answer(json={"type": "message"})
        error = await self.refused(self.cases[0], fake)
        assert error.reason.endswith(
            "Failed to find required field [content] in Google Model Garden Anthropic completion response"
        )


class TestGarden(ServiceTest):
    """Models in Model Garden that speak OpenAI's format."""

    service = SERVICE
    cases = (
        Case(
            task=COMPLETION,
            service_settings={**SECRET, "provider": "meta", "streaming_url": "{fake}/garden", "model_id": "a-model"},
            inputs=Texts(("how big",)),
            path="/garden",
            headers=BEARER,
            others=TOKEN,
            request={"messages": [{"role": "user", "content": "how big"}], "n": 1, "model": "a-model", "stream": False},
            reply=OPENAI_REPLY,
            answer={"completion": [{"result": "Elastic"}]},
            stream=OPENAI_STREAM,
            stream_request={"messages": [{"role": "user", "content": "how big"}], "n": 1, "model": "a-model", "stream": True},
            chunks=[{"completion": [{"delta": "Elástic"}]}],
        ),
        *(
            Case(
                task=CHAT,
                service_settings={**GARDEN, "provider": provider},
                inputs=Chat(messages=QUESTION.messages, max_completion_tokens=5, model="asked"),
                path="/garden",
                headers=BEARER,
                others=TOKEN,
                request={
                    "messages": [{"role": "user", "content": "how big"}],
                    "max_tokens": 5,
                    "n": 1,
                    "model": "asked",
                    "stream": False,
                },
                reply=OPENAI_REPLY,
                answer=OPENAI_ANSWER,
                stream=OPENAI_STREAM,
                stream_request={
                    "messages": [{"role": "user", "content": "how big"}],
                    "max_tokens": 5,
                    "n": 1,
                    "model": "asked",
                    "stream": True,
                    **({"stream_options": {"include_usage": True}} if options else {}),
                },
                chunks=OPENAI_CHUNKS,
            )
            for provider, options in (("meta", False), ("mistral", False), ("hugging_face", True), ("ai21", True))
        ),
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("provider", "kind", "message"),
        [
            ("meta", "llama_error", '{"error":{"message":"no","type":"t","code":1}}'),
            ("mistral", "mistral_error", '{"error":{"message":"no","type":"t","code":1}}'),
            ("ai21", "ai21_error", "no"),
        ],
    )
    async def test_garden_refusals(self, fake: FakeUpstream, provider: str, kind: str, message: str) -> None:
        """A model of the garden is refused in its own service's words."""
        case = next(
            case for case in self.cases if case.task is CHAT and case.service_settings["provider"] == provider
        )
        fake.answer(status=422, body=b'{"error":{"message":"no","type":"t","code":1}}')
        error = await self.refused(case, fake)
        assert isinstance(error, UpstreamError)
        assert error.kind == kind
        assert error.reason.endswith(f"status [422]. Error message: [{message}]")
