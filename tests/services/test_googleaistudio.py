"""Google AI Studio: what we send, what we make of the reply."""

from typing import Any

import msgspec
import pytest

from inferd.core.inputs import InputType, Texts
from inferd.core.tasks import TaskType
from inferd.services.googleaistudio import SERVICE
from inferd.testing import FakeUpstream

from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, COMPLETION = TaskType.TEXT_EMBEDDING, TaskType.COMPLETION

SETTINGS = {"api_key": "AIza very/secret", "model_id": "gemini-1.5"}
EMBEDDING = {"api_key": "AIza very/secret", "model_id": "embedding-001"}
KEY = "key=AIza%20very%2Fsecret"


def part(text: str, **candidate: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **candidate}],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 312, "totalTokenCount": 316},
    }


def entry(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "models/embedding-001", "content": {"parts": [{"text": text}]}, **more}


class TestGoogleAiStudio(ServiceTest):
    service = SERVICE

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}})

    cases = (
        Case(
            task=TEXT,
            service_settings={**EMBEDDING, "dimensions": 3, "similarity": "cosine", "max_input_tokens": 2},
            inputs=Texts(("how big", "is it"), input_type=InputType.SEARCH),
            path="/v1/models/embedding-001:batchEmbedContents",
            query=KEY,
            headers={},
            request={
                "requests": [
                    entry("how bi", outputDimensionality=3, taskType="RETRIEVAL_QUERY"),
                    entry("is it", outputDimensionality=3, taskType="RETRIEVAL_QUERY"),
                ]
            },
            reply={"embeddings": [{"values": [0.5, -0.25, 1.0]}, {"values": [0.0, 2, 0.125], "shape": 3}]},
            answer={"text_embedding": [{"embedding": [0.5, -0.25, 1.0]}, {"embedding": [0.0, 2.0, 0.125]}]},
            shown={
                "model_id": "embedding-001",
                "max_input_tokens": 2,
                "dimensions": 3,
                "similarity": "cosine",
                "rate_limit": {"requests_per_minute": 360},
            },
        ),
        Case(
            task=TEXT,
            service_settings=EMBEDDING,
            inputs=Texts(("how big",)),
            path="/v1/models/embedding-001:batchEmbedContents",
            query=KEY,
            headers={},
            request={"requests": [entry("how big")]},
            reply={"embeddings": [{"values": [0.5, -0.25]}]},
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}]},
            shown={
                "model_id": "embedding-001",
                "dimensions": 2,
                "similarity": "dot_product",
                "rate_limit": {"requests_per_minute": 360},
            },
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=Texts(("how big",), input_type=InputType.UNSPECIFIED),
            path="/v1/models/gemini-1.5:generateContent",
            query=KEY,
            headers={},
            request={
                "contents": [{"parts": [{"text": "how big"}], "role": "user"}],
                "generationConfig": {"candidateCount": 1},
            },
            reply=part("result", finishReason="STOP"),
            answer={"completion": [{"result": "result"}]},
            shown={"model_id": "gemini-1.5", "rate_limit": {"requests_per_minute": 360}},
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path="/v1/models/gemini-1.5:streamGenerateContent",
            query=f"alt=sse&{KEY}",
            headers={},
            stream=(
                part("Größe"),
                ": keep-alive\r\n\r\n",
                part(" 🔎"),
                {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]},
                {"usageMetadata": {"promptTokenCount": 4}},
            ),
            stream_request={
                "contents": [{"parts": [{"text": "how big"}], "role": "user"}],
                "generationConfig": {"candidateCount": 1},
            },
            chunks=[{"completion": [{"delta": "Größe"}]}, {"completion": [{"delta": " 🔎"}]}],
        ),
    )
    bad = (
        Bad(TEXT, {"model_id": "m"}, faults=("[secret_settings] does not contain the required setting [api_key]",)),
        Bad(COMPLETION, {"api_key": "k"}, faults=("[service_settings] does not contain the required setting [model_id]",)),
        Bad(
            TEXT,
            {**EMBEDDING, "dimensions": 0, "similarity": "near", "max_input_tokens": -1, "rate_limit": {"requests_per_minute": 0}},
            faults=(
                "[service_settings] Invalid value [-1]. [max_input_tokens] must be a positive integer",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [near] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
            ),
        ),
        Bad(COMPLETION, SETTINGS, {"temperature": 1}, reason="Configuration contains settings [{temperature=1}] unknown to the [googleaistudio] service"),
        Bad(COMPLETION, {**SETTINGS, "dimensions": 3}, reason="Configuration contains settings [{dimensions=3}] unknown to the [googleaistudio] service"),
    )  # fmt: skip
    changes = (
        Change(
            task=TEXT,
            stored=EMBEDDING,
            service_settings={
                "api_key": "new",
                "max_input_tokens": 9,
                "rate_limit": {"requests_per_minute": 1},
            },
            shown={
                "model_id": "embedding-001",
                "max_input_tokens": 9,
                "rate_limit": {"requests_per_minute": 1},
            },
            secrets={"api_key": "new"},
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=503,
            body={"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}},
            reason="The Google AI Studio service may be temporarily overloaded or down for request from inference "
            "entity id [my-endpoint] status [503]. Error message: [later]",
            attempts=3,
        ),
        Refusal(
            task=TEXT,
            status=403,
            reason="Received a permission denied error status code for request from inference entity id [my-endpoint] status [403]",
        ),
        Refusal(
            task=COMPLETION,
            status=401,
            reason="Received an unsuccessful status code for request from inference entity id [my-endpoint] status [401]",
        ),
    )

    async def test_not_found(self, fake: FakeUpstream) -> None:
        """A 404 names the address that was called, without the key in it."""
        fake.answer(status=404)
        error = await self.refused(self.cases[1], fake)
        url = f"{fake.url}/v1/models/embedding-001:batchEmbedContents"
        assert error.reason == (
            f"Resource not found at [{url}] for request from inference entity id [my-endpoint] status [404]"
        )

    async def test_several_inputs(self, fake: FakeUpstream) -> None:
        """A completion takes one input."""
        error = await self.refused(self.cases[2], fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "Google AI Studio completion only accepts 1 input")

    async def test_batches(self, fake: FakeUpstream) -> None:
        """More than a hundred inputs become several requests and one answer in order."""
        fake.answer(json={"embeddings": [{"values": [1.0]}] * 100})
        fake.answer(json={"embeddings": [{"values": [2.0]}]})
        case = msgspec.structs.replace(
            self.cases[1], service_settings={**EMBEDDING, "rate_limit": {"requests_per_minute": 10**9}}
        )
        result: Any = await self.ask(case, fake, inputs=Texts(tuple(f"text {n}" for n in range(101))))
        assert sorted(len(request.json["requests"]) for request in fake.requests) == [1, 100]
        assert result.vectors.shape == (101, 1)

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
        """Each input type has a task type of Google's."""
        self.answer(self.cases[1], fake)
        await self.ask(self.cases[1], fake, inputs=Texts(("a",), input_type=given))
        assert fake.requests[0].json["requests"][0]["taskType"] == sent

    async def test_refused_input_types(self, fake: FakeUpstream) -> None:
        """Only embedding-001 lets its callers choose, and only among what Google knows."""
        unknown = Texts(("a",), input_type=InputType.UNSPECIFIED)
        error = await self.refused(self.cases[1], fake, inputs=unknown)
        assert (error.status, error.reason) == (
            400,
            "Input type [unspecified] is not supported for [Google AI Studio]",
        )
        other = msgspec.structs.replace(
            self.cases[1], service_settings={**EMBEDDING, "model_id": "text-embedding-004"}
        )
        for given in (InputType.SEARCH, InputType.UNSPECIFIED):
            error = await self.refused(other, fake, inputs=Texts(("a",), input_type=given))
            assert (error.status, error.type) == (400, "validation_exception")
            assert error.reason == (
                f"Validation Failed: 1: Invalid value [{given}] received. [input_type] is not allowed for model "
                "[text-embedding-004];"
            )
        assert fake.requests == []
        self.answer(other, fake)
        await self.ask(other, fake, inputs=Texts(("a",), input_type=InputType.INTERNAL_SEARCH))
        assert len(fake.requests) == 1

    @pytest.mark.parametrize("field", ["embeddings", "values"])
    async def test_missing_vectors(self, fake: FakeUpstream, field: str) -> None:
        """An answer without vectors says what is missing."""
        fake.answer(json={"embeddings": [{"value": [1.0]}]} if field == "values" else {"embedding": []})
        error = await self.refused(self.cases[1], fake)
        assert error.reason == (
            "Failed to send Google AI Studio embeddings request. Cause: "
            f"Failed to find required field [{field}] in Google AI Studio embeddings response"
        )

    @pytest.mark.parametrize(
        ("reply", "field"),
        [
            ({"promptFeedback": {}}, "candidates"),
            ({"candidates": [{"finishReason": "SAFETY"}]}, "content"),
            ({"candidates": [{"content": {"role": "model"}}]}, "parts"),
            ({"candidates": [{"content": {"parts": [{"inlineData": {}}]}}]}, "text"),
        ],
    )
    async def test_missing_text(self, fake: FakeUpstream, reply: Any, field: str) -> None:
        """An answer without a text says what is missing."""
        fake.answer(json=reply)
        error = await self.refused(self.cases[2], fake)
        assert error.reason == (
            "Failed to send Google AI Studio completion request. Cause: "
            f"Failed to find required field [{field}] in Google AI Studio completion response"
        )

    async def test_error_as_data(self, fake: FakeUpstream) -> None:
        """An error that comes as plain data of a stream is an error."""
        fake.answer(sse=[part("a"), {"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}}])
        error = await self.refused_stream(self.cases[3], fake)
        assert error.reason == (
            "Received an error response for request from inference entity id [my-endpoint]. Error message: [later]"
        )
