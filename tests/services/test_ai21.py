"""AI21: what we send, what we make of the reply."""

from inferd.core.inputs import Texts
from inferd.core.tasks import TaskType
from inferd.services.ai21 import SERVICE
from inferd.testing import FakeUpstream

from . import chat
from .base import Bad, Broken, Case, Change, Refusal, ServiceTest

COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION
SETTINGS = {"api_key": "ai-very-secret", "model_id": "the-model"}
BEARER = {"authorization": "Bearer ai-very-secret"}
PATH = "/studio/v1/chat/completions"
SHOWN = {"model_id": "the-model", "rate_limit": {"requests_per_minute": 200}}
FOR = "for request from inference entity id [my-endpoint]"


class TestAi21(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=chat.PROMPT,
            path=PATH,
            headers=BEARER,
            request=chat.prompt(model="the-model"),
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown=SHOWN,
            stream=chat.STREAM,
            stream_request=chat.prompt(model="the-model", stream=True, stream_options=chat.USAGE),
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings=SETTINGS,
            inputs=chat.QUESTION,
            path=PATH,
            headers=BEARER,
            request=chat.question(tokens="max_tokens", model="the-model"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown=SHOWN,
            stream=chat.STREAM,
            stream_request=chat.question(
                tokens="max_tokens", model="the-model", stream=True, stream_options=chat.USAGE
            ),
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
            CHAT,
            {},
            faults=(
                "[secret_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [model_id]",
            ),
        ),
        Bad(
            CHAT,
            {**SETTINGS, "rate_limit": {"requests_per_minute": 0}},
            faults=("[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",),
        ),
        Bad(
            CHAT,
            {**SETTINGS, "url": "http://host"},
            reason="Configuration contains settings [{url=http://host}] unknown to the [ai21] service",
        ),
        Bad(
            CHAT,
            SETTINGS,
            {"user": "me"},
            reason="Configuration contains settings [{user=me}] unknown to the [ai21] service",
        ),
    )
    changes = (
        Change(
            task=CHAT,
            stored=SETTINGS,
            service_settings={"api_key": "new", "rate_limit": {"requests_per_minute": 1}},
            shown={"model_id": "the-model", "rate_limit": {"requests_per_minute": 1}},
            secrets={"api_key": "new"},
        ),
        Change(
            task=CHAT,
            stored={**SETTINGS, "rate_limit": {"requests_per_minute": 1}},
            service_settings={"rate_limit": None},
            shown={"model_id": "the-model", "rate_limit": {"requests_per_minute": 200}},
        ),
        Change(
            task=CHAT,
            stored={**SETTINGS, "rate_limit": {"requests_per_minute": 1}},
            service_settings={"rate_limit": {}},
            shown={"model_id": "the-model", "rate_limit": {"requests_per_minute": 1}},
        ),
        Change(
            task=CHAT,
            stored=SETTINGS,
            service_settings={"model_id": "another"},
            faults=("[service_settings] does not allow the setting [model_id]",),
        ),
    )
    refusals = (
        Refusal(
            task=CHAT,
            status=422,
            body={"error": {"message": "no"}},
            reason=f"Received an input validation error response {FOR} status [422]. Error message: [no]",
            kind="ai21_error",
            code="unprocessable_entity",
        ),
        Refusal(
            task=COMPLETION,
            status=401,
            body={"detail": "Forbidden"},
            reason=f"Received an authentication error status code {FOR} status [401]",
        ),
        Refusal(
            task=COMPLETION,
            status=413,
            reason=f"Received a content too large status code {FOR} status [413]",
        ),
    )
    replies = (
        Broken(
            COMPLETION,
            b"{}",
            "Failed to send AI21 completion request from inference entity id [my-endpoint]. Cause: ",
        ),
        Broken(
            CHAT,
            b"{}",
            "Failed to send AI21 chat_completion request from inference entity id [my-endpoint]. Cause: ",
        ),
    )

    async def test_one_prompt(self, fake: FakeUpstream) -> None:
        """A completion takes one prompt."""
        error = await self.refused(self.cases[0], fake, inputs=Texts(("a", "b")))
        assert (error.status, error.reason) == (400, "AI21 completions only accepts 1 input")
