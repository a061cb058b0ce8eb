"""Groq. https://console.groq.com/docs/api-reference (contract: services/groq.md)"""

from typing import Any

from inferd.core.service import Ask, Call, Service
from inferd.core.settings import Kind, Setting, rate_limit
from inferd.core.tasks import TaskType
from inferd.upstream.auth import bearer
from inferd.upstream.faults import OPENAI_RULES, chat_fault, openai_fault
from inferd.wire import openai

_URL = "https://api.groq.com/openai/v1/chat/completions"
_ORGANIZATION = "OpenAI-Organization"  # not confirmed; the API is compatible with OpenAI's

_USER = Setting(key="user", label="User", description="Passed as user.")
_HEADERS = Setting(
    key="headers", kind=Kind.MAP, strings=True, label="Custom Headers", description="Extra HTTP headers."
)


def _url(ask: Ask) -> str:
    return str(ask.settings.get("url") or _URL)


def _headers(ask: Ask) -> dict[str, str]:
    """Custom headers come last and replace those of the same name."""
    organization = ask.settings.get("organization_id")
    fixed = {_ORGANIZATION: organization} if organization else {}
    return {**fixed, **ask.options.get("headers", {})}


def _user(ask: Ask, body: dict[str, Any]) -> None:
    if ask.options.get("user"):
        body["user"] = ask.options["user"]


SERVICE = Service(
    name="groq",
    title="Groq",
    settings=(
        Setting(
            key="api_key",
            label="API Key",
            description="Key used to authenticate with the provider.",
            secret=True,
            required=True,
            updatable=True,
        ),
        Setting(
            key="model_id",
            label="Model ID",
            description="Name of the provider's model to use.",
            required=True,
        ),
        Setting(
            key="url",
            label="URL",
            description="Absolute URL which replaces the default one.",
            url=True,
            listed_default=_URL,
        ),
        Setting(
            key="organization_id",
            label="Organization ID",
            description="Groq organization, sent as a header.",
        ),
        Setting(
            key="headers",
            kind=Kind.MAP,
            label=_HEADERS.label,
            description=_HEADERS.description,
            updatable=True,
            tasks=frozenset(),
            listed_tasks=(TaskType.CHAT_COMPLETION,),
        ),
        rate_limit(1000, "Requests allowed per minute, to lower the number of rate limit errors."),
    ),
    auth=bearer,
    fault=openai_fault,
    rules=OPENAI_RULES,
    calls={
        TaskType.CHAT_COMPLETION: Call(
            post=_url,
            headers=_headers,
            body=openai.chat_body(extra=_user),
            reply=openai.answer,
            chunks=openai.chunks,
            options=(_USER, _HEADERS),
            fault=chat_fault,
            verb="chat completions",
        ),
    },
)
