"""Azure OpenAI. https://learn.microsoft.com/azure/ai-services/openai/reference (contract: services/azureopenai.md)"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat, InputType
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
from inferd.core.tasks import DENSE, TaskType
from inferd.upstream.auth import azure
from inferd.upstream.faults import AZURE_OPENAI_RULES, chat_fault, openai_fault
from inferd.wire import openai
from inferd.wire.texts import input_type, texts

_SECRETS = ("api_key", "entra_id", "client_secret")
_OAUTH2 = ("client_id", "tenant_id", "scopes")
_KEYS_TEXT = "Exactly one of api_key, entra_id, client_secret."
_OAUTH2_TEXT = "OAuth2 client-credentials field; all of client_id, tenant_id, scopes together."

_OPTIONS = (
    Setting(key="user", label="User", description="Passed on as user."),
    Setting(
        key="headers",
        kind=Kind.MAP,
        strings=True,
        label="Custom Headers",
        description="Extra HTTP headers.",
    ),
)


def _check(draft: Draft) -> None:
    """Exactly one secret; the OAuth2 fields come together or not at all."""
    kinds = [key for key in _SECRETS if key in draft.secrets]
    if len(kinds) != 1:
        received = f", received: [{', '.join(kinds)}]" if kinds else ""
        draft.fault(
            "[secret_settings] must have exactly one of [api_key], [entra_id], or [client_secret] field set"
            + received
        )
    missing = [key for key in _OAUTH2 if key not in draft.settings]
    if missing and (len(missing) < len(_OAUTH2) or "client_secret" in kinds):
        draft.fault(
            f"[service_settings] all OAuth2 fields must be provided together; missing: [{', '.join(missing)}]"
        )


def _check_update(draft: Draft, stored: Endpoint) -> None:
    """A secret of another kind takes the place of the stored one; OAuth2 must have been there from the start."""
    if any(key in draft.given for key in (*_OAUTH2, "client_secret")) and "client_id" not in stored.settings:
        draft.fault(
            "Cannot update OAuth2 fields as the service was not configured with OAuth2 settings. "
            "Please create a new Inference Endpoint with the OAuth2 settings instead."
        )
        return
    given = [key for key in _SECRETS if key in draft.given]
    if given:
        draft.secrets = {key: value for key, value in draft.secrets.items() if key in given}
    _check(draft)


def _group(endpoint: Endpoint) -> tuple[Any, ...]:
    return endpoint.settings["resource_name"], endpoint.settings["deployment_id"], endpoint.secrets


def _url(operation: str) -> Callable[[Ask], str]:
    def url(ask: Ask) -> str:
        resource, deployment, version = (
            quote(ask.settings[key], safe="") for key in ("resource_name", "deployment_id", "api_version")
        )
        return (
            f"https://{resource}.openai.azure.com/openai/deployments/{deployment}/{operation}"
            f"?api-version={version}"
        )

    return url


def _headers(ask: Ask) -> dict[str, str]:
    return dict(ask.options.get("headers", {}))


def _embeddings_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"input": texts(ask)}
    if ask.options.get("user"):
        body["user"] = ask.options["user"]
    asked = input_type(ask)
    if asked is not None and asked != InputType.UNSPECIFIED:
        body["input_type"] = asked
    if ask.endpoint.hidden.get("dimensions_set_by_user"):
        body["dimensions"] = ask.settings["dimensions"]
    return {**body, "encoding_format": "base64"}


def _chat_extras(ask: Ask, body: dict[str, Any]) -> None:
    """The deployment is the model; only a request may name another."""
    if isinstance(ask.inputs, Chat) and ask.inputs.model is not None:
        body["model"] = ask.inputs.model
    if ask.options.get("user"):
        body["user"] = ask.options["user"]


_chat_body = openai.chat_body(model=False, extra=_chat_extras)

SERVICE = Service(
    name="azureopenai",
    title="Azure OpenAI",
    settings=(
        Setting(key="api_key", label="API Key", description=_KEYS_TEXT, secret=True, updatable=True),
        Setting(key="entra_id", label="Entra ID", description=_KEYS_TEXT, secret=True, updatable=True),
        Setting(
            key="client_secret",
            label="OAuth2 Client Secret",
            description=_KEYS_TEXT,
            secret=True,
            updatable=True,
        ),
        Setting(
            key="resource_name",
            label="Resource Name",
            description="Name of the Azure OpenAI resource.",
            required=True,
        ),
        Setting(
            key="deployment_id",
            label="Deployment ID",
            description="Deployment name of the model.",
            required=True,
        ),
        Setting(
            key="api_version",
            label="API Version",
            description="Azure API version, passed as query parameter.",
            required=True,
        ),
        DIMENSIONS,
        MAX_INPUT_TOKENS,
        SIMILARITY,
        Setting(key="dimensions_set_by_user", tasks=DENSE, refused=True, shown=False, listed=False),
        rate_limit(
            {TaskType.TEXT_EMBEDDING: 1440, TaskType.COMPLETION: 120, TaskType.CHAT_COMPLETION: 120},
            "Default depends on the task type: 1440 embeddings, 120 completion kinds.",
        ),
        Setting(key="client_id", label="OAuth2 Client ID", description=_OAUTH2_TEXT, updatable=True),
        Setting(key="tenant_id", label="OAuth2 Tenant ID", description=_OAUTH2_TEXT, updatable=True),
        Setting(
            key="scopes",
            kind=Kind.LIST,
            strings=True,
            label="OAuth2 Scopes",
            description=_OAUTH2_TEXT,
            updatable=True,
        ),
    ),
    auth=azure,
    fault=openai_fault,
    rules=AZURE_OPENAI_RULES,
    check=_check,
    checked_update=_check_update,
    similarity="dot_product",
    input_types=frozenset(InputType),
    truncates=True,
    group=_group,
    embedding_batch=2048,
    calls={
        TaskType.TEXT_EMBEDDING: Call(
            post=_url("embeddings"),
            headers=_headers,
            body=_embeddings_body,
            reply=openai.embeddings,
            options=_OPTIONS,
            max_inputs=2048,
            verb="embeddings",
        ),
        TaskType.COMPLETION: Call(
            post=_url("chat/completions"),
            headers=_headers,
            body=_chat_body,
            reply=openai.completion("Azure OpenAI completions"),
            chunks=openai.lenient_chunks,
            options=_OPTIONS,
            one_input="Azure OpenAI completion",
            verb="completion",
        ),
        TaskType.CHAT_COMPLETION: Call(
            post=_url("chat/completions"),
            headers=_headers,
            body=_chat_body,
            reply=openai.answer,
            chunks=openai.chunks,
            options=_OPTIONS,
            fault=chat_fault,
            verb="chat completions",
        ),
    },
)
