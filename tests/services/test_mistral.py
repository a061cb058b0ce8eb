"""Mistral: what we send, what we make of the reply."""

from inferd.core.inputs import Texts
from inferd.core.settings import wrong_type
from inferd.core.tasks import TaskType
from inferd.services.mistral import SERVICE
from inferd.testing import FakeUpstream

from . import chat
from .base import Bad, Case, Change, Refusal, ServiceTest

TEXT, COMPLETION, CHAT = TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION

SETTINGS = {"api_key": "mi-very-secret", "model": "the-model"}
BEARER = {"authorization": "Bearer mi-very-secret"}
RATE = {"requests_per_minute": 240}
FOR = "for request from inference entity id [my-endpoint]"

INVALID_MODEL = (
    b'{"object":"error","message":"Invalid model","type":"invalid_model","param":null,"code":"1500"}'
)
UNAUTHORIZED = b'{"message":"Unauthorized","request_id":"r"}'
NOT_FOUND = b'{"detail":"Not Found"}'
UNPROCESSABLE = (
    b'{"object":"error","message":{"detail":[{"type":"less_than_equal","loc":["body"],"msg":"no"}]},'
    b'"type":"invalid_request_error","param":null,"code":null}'
)


class TestMistral(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=TEXT,
            service_settings={
                **SETTINGS,
                "dimensions": 2,
                "similarity": "cosine",
                "max_input_tokens": 100,
            },
            inputs=Texts(("how big", "how small")),
            path="/v1/embeddings",
            headers=BEARER,
            request={"model": "the-model", "input": ["how big", "how small"], "encoding_format": "float"},
            reply={"id": "1", "data": [{"embedding": [0.5, -0.25]}, {"embedding": [1, 2]}]},
            answer={"text_embedding": [{"embedding": [0.5, -0.25]}, {"embedding": [1.0, 2.0]}]},
            shown={
                "model": "the-model",
                "dimensions": 2,
                "similarity": "cosine",
                "max_input_tokens": 100,
                "rate_limit": RATE,
            },
        ),
        Case(
            task=TEXT,
            service_settings={**SETTINGS, "url": "{fake}/elsewhere"},
            inputs=Texts(("how big",)),
            path="/elsewhere",
            headers=BEARER,
            request={"model": "the-model", "input": ["how big"], "encoding_format": "float"},
            reply={"data": [{"embedding": [0.5, 0.25, 0.125]}]},
            answer={"text_embedding": [{"embedding": [0.5, 0.25, 0.125]}]},
            shown={"model": "the-model", "dimensions": 3, "similarity": "dot_product", "rate_limit": RATE},
        ),
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=chat.PROMPT,
            path="/v1/chat/completions",
            headers=BEARER,
            request=chat.prompt(model="the-model"),
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown={"model": "the-model", "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.prompt(model="the-model", stream=True),
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=chat.QUESTION,
            path="/v1/chat/completions",
            headers=BEARER,
            request=chat.question(tokens="max_tokens", model="the-model"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={"model": "the-model", "rate_limit": RATE},
            stream=chat.STREAM,
            stream_request=chat.question(tokens="max_tokens", model="the-model", stream=True),
            chunks=chat.CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=chat.SHORT,
            path="/v1/chat/completions",
            headers=BEARER,
            request=chat.short(),
            reply=chat.REPLY,
            answer=chat.ANSWER,
        ),
    )
    bad = (
        Bad(
            CHAT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [model]",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "dimensions": -1, "similarity": "x", "max_input_tokens": 0},
            faults=(
                "[service_settings] Invalid value [-1]. [dimensions] must be a positive integer",
                "[service_settings] Invalid value [x] received. [similarity] must be one of "
                "[cosine, dot_product, l2_norm]",
                "[service_settings] Invalid value [0]. [max_input_tokens] must be a positive integer",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "max_input_tokens": "5", "rate_limit": {"requests_per_minute": 0}},
            faults=(
                wrong_type("max_input_tokens", "5", "Integer"),
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
            ),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "dimensions_set_by_user": True},
            faults=("[service_settings] does not allow the setting [dimensions_set_by_user]",),
        ),
        Bad(
            TEXT,
            {**SETTINGS, "model_id": "m"},
            reason="Configuration contains settings [{model_id=m}] unknown to the [mistral] service",
        ),
        Bad(
            TEXT,
            SETTINGS,
            {"user": "me"},
            reason="Configuration contains settings [{user=me}] unknown to the [mistral] service",
        ),
    )
    changes = (
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={
                "api_key": "new",
                "max_input_tokens": 4,
                "rate_limit": {"requests_per_minute": 1},
            },
            shown={"model": "the-model", "max_input_tokens": 4, "rate_limit": {"requests_per_minute": 1}},
            secrets={"api_key": "new"},
        ),
        Change(
            task=TEXT,
            stored=SETTINGS,
            service_settings={"model": "another"},
            faults=("[service_settings] does not allow the setting [model]",),
        ),
    )
    refusals = (
        Refusal(
            task=COMPLETION,
            status=404,
            body=NOT_FOUND,
            reason=f'Resource not found at [{{url}}] {FOR} status [404]. Error message: [{{"detail":"Not Found"}}]',
        ),
        Refusal(
            task=CHAT,
            status=400,
            body=INVALID_MODEL,
            reason=f"Received a bad request status code {FOR} status [400]. "
            f"Error message: [{INVALID_MODEL.decode()}]",
            kind="mistral_error",
            code="bad_request",
        ),
        Refusal(
            task=CHAT,
            status=401,
            body=UNAUTHORIZED,
            reason=f"Received an authentication error status code {FOR} status [401]. "
            f"Error message: [{UNAUTHORIZED.decode()}]",
            kind="mistral_error",
            code="unauthorized",
        ),
        Refusal(
            task=CHAT,
            status=422,
            body=UNPROCESSABLE,
            reason=f"Received an input validation error response {FOR} status [422]. "
            f"Error message: [{UNPROCESSABLE.decode()}]",
            kind="mistral_error",
            code="unprocessable_entity",
        ),
        Refusal(
            task=TEXT,
            status=400,
            body=INVALID_MODEL,
            reason=f"Received a bad request status code {FOR} status [400]. Error message: [Invalid model]",
        ),
        Refusal(
            task=TEXT,
            status=401,
            body={"error": {"message": "no"}},
            reason=f"Received an authentication error status code {FOR} status [401]. Error message: [no]",
        ),
        Refusal(
            task=TEXT,
            status=422,
            body=UNPROCESSABLE,
            reason=f"Received an input validation error response {FOR} status [422]",
        ),
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        case = next(case for case in self.cases if case.task is COMPLETION)
        error = await self.refused(case, fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "Mistral completions only accepts 1 input")
