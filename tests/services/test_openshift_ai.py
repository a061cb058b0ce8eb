"""OpenShift AI: what we send, what we make of the reply."""

import msgspec

from inferd.core.inputs import RankQuery, Texts
from inferd.core.tasks import TaskType
from inferd.services.openshift_ai import SERVICE
from inferd.testing import FakeUpstream

from . import chat
from .base import Bad, Broken, Case, Change, Refusal, ServiceTest

TEXT, RERANK = TaskType.TEXT_EMBEDDING, TaskType.RERANK
COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION
SETTINGS = {"api_key": "os-very-secret", "url": "{fake}/my/model"}
BEARER = {"authorization": "Bearer os-very-secret"}
PATH = "/my/model"
RATE = {"requests_per_minute": 3000}
FOR = "for request from inference entity id [my-endpoint]"


class TestOpenShiftAi(ServiceTest):
    service = SERVICE
    retried_by_task = {RERANK: frozenset({429, 500})}

    def error_body(self, task: TaskType, message: str) -> bytes:
        return msgspec.json.encode({"message": message})

    cases = (
        Case(
            task=TEXT,
            service_settings={
                **SETTINGS,
                "model_id": "the-model",
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 100,
            },
            inputs=Texts(("how big", "how small")),
            path=PATH,
            headers=BEARER,
            request={"input": ["how big", "how small"], "model": "the-model", "dimensions": 2},
            reply={"data": [{"embedding": [0.5, -0.25]}, {"embedding": [1, 2]}]},
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 2.0]}]},
            shown={
                "model_id": "the-model",
                "url": "{fake}/my/model",
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 100,
                "rate_limit": RATE,
            },
        ),
        Case(
            task=TEXT,
            service_settings=SETTINGS,
            inputs=Texts(("how big",)),
            path=PATH,
            headers=BEARER,
            request={"input": ["how big"]},
            reply={"data": [{"embedding": "AAAAPw=="}]},
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={
                "url": "{fake}/my/model",
                "similarity": "dot_product",
                "dimensions": 1,
                "rate_limit": RATE,
            },
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=chat.PROMPT,
            path=PATH,
            headers=BEARER,
            request=chat.prompt(),
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown={"url": "{fake}/my/model", "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.prompt(stream=True),
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings={**SETTINGS, "model_id": "the-model"},
            inputs=chat.QUESTION,
            path=PATH,
            headers=BEARER,
            request=chat.question(tokens="max_tokens", model="the-model"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={"model_id": "the-model", "url": "{fake}/my/model", "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.question(tokens="max_tokens", model="the-model", stream=True),
            chunks=chat.CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings={**SETTINGS, "model_id": "the-model"},
            inputs=chat.SHORT,
            path=PATH,
            headers=BEARER,
            request=chat.short(),
            reply=chat.REPLY,
            answer=chat.ANSWER,
        ),
        Case(
            task=RERANK,
            service_settings={**SETTINGS, "model_id": "the-model"},
            task_settings={"return_documents": True, "top_n": 5},
            options={"top_n": 2},
            inputs=RankQuery("luke", ("luke", "leia"), return_documents=False),
            path=PATH,
            headers=BEARER,
            request={
                "model": "the-model",
                "query": "luke",
                "documents": ["luke", "leia"],
                "top_n": 2,
                "return_documents": False,
            },
            reply={
                "id": "1",
                "results": [
                    {"index": 1, "relevance_score": 0.5, "document": {"text": "leia"}},
                    {"index": 0, "relevance_score": 0.25},
                ],
            },
            answer={
                "rerank": [
                    {"index": 1, "relevance_score": 0.5, "text": "leia"},
                    {"index": 0, "relevance_score": 0.25},
                ]
            },
            shown={"model_id": "the-model", "url": "{fake}/my/model", "rate_limit": RATE},
            shown_task={"return_documents": True, "top_n": 5},
        ),
        Case(
            task=RERANK,
            service_settings=SETTINGS,
            inputs=RankQuery("luke", ("luke",)),
            path=PATH,
            headers=BEARER,
            request={"query": "luke", "documents": ["luke"]},
            reply={"results": [{"index": 0, "relevance_score": 1}]},
            answer={"rerank": [{"index": 0, "relevance_score": 1.0}]},
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [url]",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "dimensions": 0, "max_input_tokens": 0, "similarity": "x"},
            faults=(
                "[service_settings] Invalid value [x] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
            ),
        ),
        Bad(
            RERANK,
            {**SETTINGS, "rate_limit": {"requests_per_minute": 0}},
            {"return_documents": "true", "top_n": 0},
            faults=(
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "field [return_documents] is not of the expected type. The value [true] cannot be converted to a "
                "[Boolean]",
                "[task_settings] Invalid value [0]. [top_n] must be a positive integer",
            ),
        ),
        Bad(
            TEXT,
            SETTINGS,
            {"top_n": 1},
            reason="Configuration contains settings [{top_n=1}] unknown to the [openshift_ai] service",
        ),
    )
    changes = (
        Change(
            task=RERANK,
            stored=SETTINGS,
            stored_task={"top_n": 3},
            service_settings={"api_key": "new", "rate_limit": {"requests_per_minute": 1}},
            task_settings={"return_documents": True},
            shown={"url": "http://fake.test/my/model", "rate_limit": {"requests_per_minute": 1}},
            shown_task={"top_n": 3, "return_documents": True},
            secrets={"api_key": "new"},
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=413,
            body=b"too large",
            reason=f"Received a content too large status code {FOR} status [413]. Error message: [too large]",
            attempts=3,
        ),
        Refusal(
            task=RERANK,
            status=413,
            body={"message": "too large"},
            reason=f"Received an unsuccessful status code {FOR} status [413]. Error message: [too large]",
        ),
        Refusal(
            task=RERANK,
            status=503,
            becomes=400,
            body={"message": "busy"},
            reason=f"Received a server error status code {FOR} status [503]. Error message: [busy]",
        ),
        Refusal(
            task=CHAT,
            status=422,
            body={"detail": "no"},
            reason=f"Received an input validation error response {FOR} status [422]. "
            'Error message: [{"detail":"no"}]',
            kind="openshift_ai_error",
            code="unprocessable_entity",
        ),
    )
    replies = tuple(
        Broken(
            task,
            b"{}",
            f"Failed to send OpenShift AI {task} request from inference entity id [my-endpoint]. Cause: ",
        )
        for task in (TEXT, COMPLETION, CHAT, RERANK)
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        error = await self.refused(self.cases[2], fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "OpenShift AI completions only accepts 1 input")
