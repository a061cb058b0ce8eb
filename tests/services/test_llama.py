"""Llama Stack: what we send, what we make of the reply."""

from inferd.core.inputs import Texts
from inferd.core.tasks import TaskType
from inferd.services.llama import SERVICE
from inferd.testing import FakeUpstream

from . import chat
from .base import Bad, Broken, Case, Change, Refusal, ServiceTest

TEXT, COMPLETION, CHAT = TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION
SETTINGS = {"api_key": "ll-very-secret", "model_id": "the-model", "url": "{fake}/my/stack"}
OPEN = {"model_id": "the-model", "url": "{fake}/my/stack"}
BEARER = {"authorization": "Bearer ll-very-secret"}
PATH = "/my/stack"
RATE = {"requests_per_minute": 3000}
FOR = "for request from inference entity id [my-endpoint]"


class TestLlama(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "similarity": "cosine", "dimensions": 2, "max_input_tokens": 100},
            inputs=Texts(("how big", "how small")),
            path=PATH,
            headers=BEARER,
            request={"model_id": "the-model", "contents": ["how big", "how small"]},
            reply={"embeddings": [[0.5, -0.25], [1, 2]]},
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 2.0]}]},
            shown={
                "model_id": "the-model",
                "url": "{fake}/my/stack",
                "similarity": "cosine",
                "dimensions": 2,
                "max_input_tokens": 100,
                "rate_limit": RATE,
            },
        ),
        Case(
            task=TEXT,
            service_settings=OPEN,
            inputs=Texts(("how big",)),
            path=PATH,
            headers={},
            request={"model_id": "the-model", "contents": ["how big"]},
            reply=[[0.5]],
            answer={"text_embedding": [{"embedding": [0.5]}]},
            shown={
                "model_id": "the-model",
                "url": "{fake}/my/stack",
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
            request=chat.prompt(model="the-model"),
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown={"model_id": "the-model", "url": "{fake}/my/stack", "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.prompt(model="the-model", stream=True),
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=OPEN,
            inputs=chat.QUESTION,
            path=PATH,
            headers={},
            request=chat.question(tokens="max_tokens", model="the-model"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={"model_id": "the-model", "url": "{fake}/my/stack", "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.question(tokens="max_tokens", model="the-model", stream=True),
            chunks=chat.CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=chat.SHORT,
            path=PATH,
            headers=BEARER,
            request=chat.short(),
            reply=chat.REPLY,
            answer=chat.ANSWER,
        ),
    )
    bad = (
        Bad(
            TEXT,
            {},
            faults=(
                "[service_settings] does not contain the required setting [model_id]",
                "[service_settings] does not contain the required setting [url]",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "dimensions": 0, "max_input_tokens": -5, "similarity": "x"},
            faults=(
                "[service_settings] Invalid value [x] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [-5]. [max_input_tokens] must be a positive integer",
            ),
        ),
        Bad(
            CHAT,
            {**SETTINGS, "rate_limit": {"requests_per_minute": -1}},
            faults=("[rate_limit] Invalid value [-1]. [requests_per_minute] must be a positive long",),
        ),
        Bad(
            TEXT,
            SETTINGS,
            {"user": "me"},
            reason="Configuration contains settings [{user=me}] unknown to the [llama] service",
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=OPEN,
            service_settings={
                "api_key": "new",
                "max_input_tokens": 2,
                "rate_limit": {"requests_per_minute": 1},
            },
            shown={
                "model_id": "the-model",
                "url": "http://fake.test/my/stack",
                "max_input_tokens": 2,
                "rate_limit": {"requests_per_minute": 1},
            },
            secrets={"api_key": "new"},
        ),
    )
    refusals = (
        Refusal(
            task=TEXT,
            status=400,
            body=b"plain words",
            reason=f"Received a bad request status code {FOR} status [400]. Error message: [plain words]",
        ),
        Refusal(
            task=COMPLETION,
            status=404,
            body={"detail": "no"},
            reason=f'Resource not found at [{{url}}] {FOR} status [404]. Error message: [{{"detail":"no"}}]',
        ),
        Refusal(
            task=CHAT,
            status=400,
            body={"error": {"detail": "no"}},
            reason=f"Received a bad request status code {FOR} status [400]. "
            'Error message: [{"error":{"detail":"no"}}]',
            kind="llama_error",
            code="bad_request",
        ),
    )
    replies = tuple(
        Broken(
            task,
            b"{}",
            f"Failed to send Llama {task} request from inference entity id [my-endpoint]. Cause: Failed to find",
        )
        for task in (TEXT, COMPLETION, CHAT)
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        error = await self.refused(self.cases[2], fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "Llama completions only accepts 1 input")
