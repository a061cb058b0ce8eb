"""DeepSeek: what we send, what we make of the reply."""

from inferd.core.inputs import Texts
from inferd.core.tasks import TaskType
from inferd.services.deepseek import SERVICE

from . import chat
from .base import Bad, Broken, Case, Change, Refusal, ServiceTest

COMPLETION, CHAT = TaskType.COMPLETION, TaskType.CHAT_COMPLETION
SETTINGS = {"api_key": "ds-very-secret", "model_id": "the-model"}
BEARER = {"authorization": "Bearer ds-very-secret"}
PATH = "/chat/completions"
FOR = "for request from inference entity id [my-endpoint]"
TWO = [{"content": "how big", "role": "user"}, {"content": "how small", "role": "user"}]


class TestDeepSeek(ServiceTest):
    service = SERVICE
    cases = (
        Case(
            task=COMPLETION,
            service_settings=SETTINGS,
            inputs=Texts(("how big", "how small")),
            path=PATH,
            headers=BEARER,
            request={**chat.prompt(model="the-model"), "messages": TWO},
            reply=chat.TEXTS_REPLY,
            answer=chat.TEXTS_ANSWER,
            shown={"model_id": "the-model"},
            stream=chat.STREAM,
            stream_request={
                **chat.prompt(model="the-model", stream=True, stream_options=chat.USAGE),
                "messages": TWO,
            },
            chunks=chat.TEXT_CHUNKS,
        ),
        Case(
            task=CHAT,
            service_settings={**SETTINGS, "url": "{fake}/elsewhere"},
            inputs=chat.QUESTION,
            path="/elsewhere",
            headers=BEARER,
            request=chat.question(tokens="max_tokens", model="the-model"),
            reply=chat.REPLY,
            answer=chat.ANSWER,
            shown={"model_id": "the-model", "url": "{fake}/elsewhere"},
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
                "[service_settings] does not contain the required setting [api_key]",
                "[service_settings] does not contain the required setting [model_id]",
            ),
        ),
        Bad(
            CHAT,
            {**SETTINGS, "rate_limit": {"requests_per_minute": 5}},
            reason="Configuration contains settings [{rate_limit={requests_per_minute=5}}] unknown to the "
            "[deepseek] service",
        ),
        Bad(
            COMPLETION,
            SETTINGS,
            {"user": "me"},
            reason="Configuration contains settings [{user=me}] unknown to the [deepseek] service",
        ),
        Bad(
            COMPLETION,
            {**SETTINGS, "url": "http://"},
            faults=(
                "[service_settings] Invalid url [http://] received for field [url]. Error: unable to parse url "
                "[http://]. Reason: the url has no host",
            ),
        ),
    )
    changes = (
        Change(task=CHAT, stored=SETTINGS, service_settings={"api_key": "n"}, secrets={"api_key": "n"}),
    )
    refusals = (
        Refusal(
            task=COMPLETION,
            status=402,
            body={"error": {"message": "Insufficient Balance"}},
            reason=f"Received an unsuccessful status code {FOR} status [402]. Error message: [Insufficient Balance]",
        ),
        Refusal(
            task=COMPLETION,
            status=413,
            reason=f"Received a content too large status code {FOR} status [413]",
        ),
        Refusal(
            task=CHAT,
            status=402,
            body={"error": {"message": "no", "type": "unknown_error", "param": None, "code": "c"}},
            reason=f"Received an unsuccessful status code {FOR} status [402]. Error message: [no]",
            kind="unknown_error",
            code="c",
        ),
    )
    replies = (
        Broken(COMPLETION, b"{}", "Failed to send deepseek completions request. Cause: Failed to find"),
        Broken(CHAT, b"{}", "Failed to send deepseek chat completions request. Cause: Failed to find"),
    )
