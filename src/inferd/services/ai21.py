"""AI21. https://docs.ai21.com/reference (contract: services/ai21.md)"""

from msgspec.structs import replace

from inferd.core.service import Call, Service
from inferd.core.settings import API_KEY, MODEL_ID, rate_limit
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import OPENAI_RULES, openai_fault, typed
from inferd.wire import openai

_URL = "https://api.ai21.com/studio/v1/chat/completions"

_body = openai.chat_body(tokens_field="max_tokens")

SERVICE = Service(
    name="ai21",
    title="AI21",
    settings=(
        API_KEY,
        replace(MODEL_ID, label="Model"),
        replace(rate_limit(200), resettable=True),
    ),
    auth=bearer,
    fault=openai_fault,
    rules=OPENAI_RULES,
    failed="Failed to send {title} {task} request from inference entity id [{id}]. Cause: {cause}",
    calls={
        TaskType.COMPLETION: Call(
            post=_URL,
            body=_body,
            reply=openai.completion(),
            chunks=openai.lenient_chunks,
            one_input="AI21 completions",  # not confirmed
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_URL,
            body=_body,
            reply=openai.answer,
            chunks=openai.chunks,
            fault=typed("ai21_error", openai_fault),
        ),
    },
)
