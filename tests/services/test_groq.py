"""Groq: what we send, what we make of the reply."""

from inferd.core.settings import wrong_type
from inferd.core.tasks import TaskType
from inferd.services.groq import SERVICE

from . import chat
from .base import Bad, Case, Change, Refusal, ServiceTest

CHAT = TaskType.CHAT_COMPLETION
SETTINGS = {"api_key": "gsk_very-secret", "model_id": "the-model"}
BEARER = {"authorization": "Bearer gsk_very-secret"}
FOR = "for request from inference entity id [my-endpoint]"


class TestGroq(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=CHAT,
            service_settings={
                **SETTINGS,
                "organization_id": "org-1",
                "rate_limit": {"requests_per_minute": 60000},
            },
            task_settings={"user": "me", "headers": {"X-Mine": "1"}},
            inputs=chat.QUESTION,
            path="/openai/v1/chat/completions",
            headers={**BEARER, "openai-organization": "org-1", "x-mine": "1"},
            request=chat.question(tokens="max_completion_tokens", model="the-model", user="me"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={
                "model_id": "the-model",
                "organization_id": "org-1",
                "rate_limit": {"requests_per_minute": 60000},
            },
            shown_task={"user": "me", "headers": {"X-Mine": "1"}},
            stream=chat.STREAM,
            stream_request=chat.question(
                tokens="max_completion_tokens",
                model="the-model",
                user="me",
                stream=True,
                stream_options=chat.USAGE,
            ),
            chunks=chat.CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings={**SETTINGS, "url": "{fake}/elsewhere"},
            options={"headers": {"AUTHORIZATION": "mine", "content-type": "application/json"}},
            inputs=chat.SHORT,
            path="/elsewhere",
            headers={"authorization": "mine"},
            request=chat.short(),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={
                "model_id": "the-model",
                "url": "{fake}/elsewhere",
                "rate_limit": {"requests_per_minute": 1000},
            },
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
            {**SETTINGS, "url": "groq", "rate_limit": {"requests_per_minute": 0}},
            {"headers": {"a": True}},
            faults=(
                "[service_settings] Invalid url [groq] received for field [url]. Error: unable to parse url [groq]. "
                "Reason: the url has no scheme",
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
                "Map field [headers] has an entry that is not valid, [a => true]. Value type of [true] is not one "
                "of [String].",
            ),
        ),
        Bad(CHAT, {**SETTINGS, "model_id": []}, faults=(wrong_type("model_id", [], "String"),)),
        Bad(
            CHAT,
            {**SETTINGS, "headers": {"a": "b"}},
            reason="Configuration contains settings [{headers={a=b}}] unknown to the [groq] service",
        ),
    )
    changes = (
        Change(
            task=CHAT,
            stored=SETTINGS,
            service_settings={"api_key": "new", "rate_limit": {"requests_per_minute": 1}},
            task_settings={"user": "me"},
            shown={"model_id": "the-model", "rate_limit": {"requests_per_minute": 1}},
            shown_task={"user": "me"},
            secrets={"api_key": "new"},
        ),
    )
    refusals = (
        Refusal(
            task=CHAT,
            status=413,
            body={"error": {"message": "too large", "type": "tokens", "code": "rate_limit_exceeded"}},
            reason=f"Received a content too large status code {FOR} status [413]. Error message: [too large]",
            kind="tokens",
            code="rate_limit_exceeded",
        ),
        Refusal(
            task=CHAT,
            status=429,
            headers={"x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "1"},
            reason="Received a rate limit status code. Token limit [6000], remaining tokens [1]. "
            f"Request limit [unknown], remaining requests [unknown] {FOR} status [429]",
            attempts=3,
            kind="ErrorResponse",
            code="too_many_requests",
        ),
    )
