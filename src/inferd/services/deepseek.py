"""DeepSeek. https://api-docs.deepseek.com (contract: services/deepseek.md)"""

from inferd.core.inputs import InputType
from inferd.core.service import Ask, Call, Service
from inferd.core.settings import Setting
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import OPENAI_RULES, chat_fault, openai_fault
from inferd.wire import openai

_URL = "https://api.deepseek.com/chat/completions"


def _url(ask: Ask) -> str:
    return str(ask.settings.get("url") or _URL)


_body = openai.chat_body(tokens_field="max_tokens")

SERVICE = Service(
    name="deepseek",
    title="DeepSeek",
    settings=(
        Setting(
            key="api_key",
            label="API Key",
            description="Key used to authenticate with the provider.",
            secret=True,
            required=True,
            updatable=True,
            missing="[service_settings] does not contain the required setting [api_key]",
        ),
        Setting(
            key="model_id",
            label="Model ID",
            description="Name of the provider's model to use.",
            required=True,
        ),
        Setting(key="url", label="URL", description="Overrides the URL.", url=True, listed_default=_URL),
    ),
    auth=bearer,
    fault=openai_fault,
    rules=OPENAI_RULES,
    input_types=frozenset(InputType),
    failed="Failed to send deepseek {what} request. Cause: {cause}",
    calls={
        TaskType.COMPLETION: Call(
            post=_url,
            body=_body,
            reply=openai.completion(),
            chunks=openai.lenient_chunks,
            verb="completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url,
            body=_body,
            reply=openai.answer,
            chunks=openai.chunks,
            fault=chat_fault,
            verb="chat completions",
        ),
    },
)
