"""OpenAI. https://platform.openai.com/docs/api-reference (contract: services/openai.md)"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat
from inferd.core.service import Ask, Call, Service
from inferd.core.settings import (
    DIMENSIONS,
    MAX_INPUT_TOKENS,
    SIMILARITY,
    Draft,
    Kind,
    Setting,
    rate_limit,
)
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.upstream.auth import bearer_or_client_credentials
from inferd.upstream.faults import OPENAI_RULES, chat_fault, openai_fault
from inferd.wire import openai

_EMBEDDINGS = "https://api.openai.com/v1/embeddings"
_CHAT = "https://api.openai.com/v1/chat/completions"

_USER = Setting(key="user", label="User", description="Passed on as user in the body.")
_HEADERS = Setting(
    key="headers", kind=Kind.MAP, strings=True, label="Custom Headers", description="Extra HTTP headers."
)

_OLD_MODEL = Setting(key="model_id", aliases=("model",))
_TASKS = (TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION)
_OAUTH2 = ("client_id", "scopes", "token_url")


def _check(draft: Draft) -> None:
    """The model may stand in the task settings (an old form)."""
    model = draft.task_settings.pop("model_id", None)
    if model is not None:
        draft.settings = {"model_id": model, **draft.settings}
    if "model_id" not in draft.settings and "model_id" not in draft.given:
        draft.fault("[service_settings] does not contain the required setting [model_id]")
    _check_credentials(draft)


def _check_credentials(draft: Draft) -> None:
    """Exactly one secret; the OAuth2 fields come together or not at all."""
    if ("api_key" in draft.secrets) == ("client_secret" in draft.secrets):
        draft.fault("[service_settings] must have exactly one of [api_key] or [client_secret] field set")
    missing = [key for key in _OAUTH2 if key not in draft.settings]
    if missing and (len(missing) < len(_OAUTH2) or "client_secret" in draft.secrets):
        draft.fault(
            f"[service_settings] all OpenAI OAuth2 fields must be provided together; missing: [{', '.join(missing)}]"
        )


def _check_update(draft: Draft, stored: Endpoint) -> None:
    """A secret of the other kind takes the place of the stored one; OAuth2 must have been there from the start."""
    if draft.task_settings.pop("model_id", None) is not None:
        draft.fault("[task_settings] does not allow the setting [model_id]")
    given = [key for key in (*_OAUTH2, "client_secret") if key in draft.given]
    if given and "client_secret" not in stored.secrets:
        draft.fault(
            "Cannot update OAuth2 fields as the service was not configured with OAuth2 settings. "
            "Please create a new Inference Endpoint with the OAuth2 settings instead."
        )
        return
    secrets = [key for key in ("api_key", "client_secret") if key in draft.given]
    if secrets:
        draft.secrets = {key: value for key, value in draft.secrets.items() if key in secrets}
    _check_credentials(draft)


def _group(endpoint: Endpoint) -> tuple[Any, ...]:
    facts = ("model_id", "url", "organization_id", "client_id", "token_url")
    return endpoint.secrets, *(endpoint.settings.get(key) for key in facts)


def _url(default: str) -> Callable[[Ask], str]:
    def url(ask: Ask) -> str:
        return str(ask.settings.get("url") or default)

    return url


def _headers(ask: Ask) -> dict[str, str]:
    """Custom headers come last and replace those of the same name."""
    organization = ask.settings.get("organization_id")
    fixed = {"OpenAI-Organization": organization} if organization else {}
    return {**fixed, **ask.options.get("headers", {})}


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    body = openai.embeddings_body(ask)
    dimensions = body.pop("dimensions", None)
    if ask.options.get("user"):
        body["user"] = ask.options["user"]
    if dimensions is not None:
        body["dimensions"] = dimensions
    return {**body, "encoding_format": "base64"}


def _chat_extras(ask: Ask, body: dict[str, Any]) -> None:
    if ask.options.get("user"):
        body["user"] = ask.options["user"]
    chat = ask.inputs
    if isinstance(chat, Chat) and chat.reasoning is not None:
        if chat.reasoning.effort is None:
            raise StatusError(
                400, "OpenAI chat completion requires [reasoning.effort] to map to [reasoning_effort]"
            )
        body["reasoning_effort"] = chat.reasoning.effort


_embed = Call(
    post=_url(_EMBEDDINGS),
    headers=_headers,
    body=_embeddings_body,
    reply=openai.embeddings,
    options=(_USER, _HEADERS, _OLD_MODEL),
    max_inputs=2048,
    verb="embeddings",
)
_chat_body = openai.chat_body(extra=_chat_extras)

SERVICE = Service(
    name="openai",
    title="OpenAI",
    settings=(
        Setting(
            key="api_key",
            label="API Key",
            description="Key of the OpenAI account. Exactly one of api_key / client_secret.",
            secret=True,
            updatable=True,
        ),
        Setting(
            key="client_secret",
            label="OAuth2 Client Secret",
            description="Secret of the OAuth2 client-credentials grant.",
            secret=True,
            updatable=True,
        ),
        Setting(
            key="model_id",
            label="Model ID",
            description="Name of the provider's model to use.",
            listed_required=True,
        ),
        Setting(key="url", label="URL", description="Absolute URL which replaces the default one.", url=True),
        Setting(
            key="organization_id",
            label="Organization ID",
            description="OpenAI organization; sent as a header.",
            mutable=True,
        ),
        SIMILARITY,
        Setting(
            key="dimensions",
            kind=Kind.INTEGER,
            positive=True,
            label="Dimensions",
            description="Size of the embeddings; sent upstream only when the user set it.",
            tasks=DIMENSIONS.tasks,
        ),
        replace(MAX_INPUT_TOKENS, tasks=None),
        Setting(
            key="headers",
            kind=Kind.MAP,
            label=_HEADERS.label,
            description=_HEADERS.description,
            updatable=True,
            tasks=frozenset(),
            listed_tasks=_TASKS,
        ),
        rate_limit(
            {
                TaskType.TEXT_EMBEDDING: 3000,
                TaskType.EMBEDDING: 3000,
                TaskType.COMPLETION: 500,
                TaskType.CHAT_COMPLETION: 500,
            },
            "Requests per minute; 3000 for embedding kinds, 500 for completion kinds.",
        ),
        Setting(
            key="client_id",
            label="OAuth2 Client ID",
            description="Application id of the OAuth2 client.",
            updatable=True,
        ),
        Setting(
            key="scopes",
            kind=Kind.LIST,
            strings=True,
            label="OAuth2 Scopes",
            description="Permissions asked for by the OAuth2 client.",
            updatable=True,
        ),
        Setting(
            key="token_url",
            label="OAuth2 Token URL",
            description="Endpoint which exchanges the client credentials for an access token.",
            url=True,
            updatable=True,
        ),
    ),
    auth=bearer_or_client_credentials,
    fault=openai_fault,
    rules=OPENAI_RULES,
    check=_check,
    checked_update=_check_update,
    similarity="dot_product",
    truncates=True,
    group=_group,
    embedding_batch=2048,
    calls={
        TaskType.TEXT_EMBEDDING: _embed,
        TaskType.EMBEDDING: _embed,
        TaskType.COMPLETION: Call(
            post=_url(_CHAT),
            headers=_headers,
            body=_chat_body,
            reply=openai.completion(),
            chunks=openai.lenient_chunks,
            options=(_USER, _HEADERS, _OLD_MODEL),
            one_input="OpenAI chat completions",
            verb="chat completions",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url(_CHAT),
            headers=_headers,
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            options=(_USER, _HEADERS, _OLD_MODEL),
            fault=chat_fault,
            verb="chat completions",
        ),
    },
)
