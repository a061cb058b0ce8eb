"""Amazon SageMaker. https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html

Contract: services/amazon_sagemaker.md. Beyond Elasticsearch: without ``access_key`` and ``secret_key`` the credentials of the place
where inferd runs are used.
"""

from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType
from inferd.core.service import Ask, Call, Fault, Framing, Reply, Rule, Service
from inferd.core.settings import DIMENSIONS, SIMILARITY, Draft, Kind, Setting, refuse_leftovers
from inferd.core.tasks import TaskType
from inferd.errors import StatusError
from inferd.upstream.aws import KEY_SETTINGS, check_changed_keys, check_keys, endpoint_url, sigv4
from inferd.upstream.faults import STATUS_NAME
from inferd.wire import openai, sagemaker

_NAME = "sagemaker"
"""What the service calls itself in messages."""
_OPENAI = "openai"
_DENSE = frozenset({TaskType.TEXT_EMBEDDING})
_ALL = (
    TaskType.TEXT_EMBEDDING,
    TaskType.SPARSE_EMBEDDING,
    TaskType.RERANK,
    TaskType.COMPLETION,
    TaskType.CHAT_COMPLETION,
)
_TASKS = {
    _OPENAI: (TaskType.TEXT_EMBEDDING, TaskType.COMPLETION, TaskType.CHAT_COMPLETION),
    "elastic": _ALL,
}
# The request


def _url(ask: Ask) -> str:
    name = quote(ask.settings["endpoint_name"], safe="")
    action = "invocations-response-stream" if ask.stream else "invocations"
    return f"{endpoint_url('runtime.sagemaker', ask.settings['region'])}/endpoints/{name}/{action}"


_HEADERS = {
    "Target-Model": "target_model",
    "Target-Container-Hostname": "target_container_hostname",
    "Inference-Component": "inference_component_name",
    "Custom-Attributes": "custom_attributes",
    "Enable-Explanations": "enable_explanations",
    "Inference-Id": "inference_id",
    "Session-Id": "session_id",
    "Target-Variant": "target_variant",
}
_NOT_STREAMED = frozenset({"Target-Model", "Enable-Explanations"})


def _headers(ask: Ask) -> dict[str, str]:
    headers = {"X-Amzn-SageMaker-Accept" if ask.stream else "Accept": "application/json"}
    for name, key in _HEADERS.items():
        value = ask.options.get(key, ask.settings.get(key))
        if value is None or (ask.stream and name in _NOT_STREAMED):
            continue
        if not (value.isascii() and value.isprintable()):
            raise StatusError(500, f"Failed to create SageMaker request for [{ask.endpoint.id}]")
        headers[f"X-Amzn-SageMaker-{name}"] = value
    return headers


# Errors


def _rules(reply: Reply, fault: Fault) -> Rule:
    named = reply.headers.get("x-amzn-errortype", "").partition(":")[0].rpartition("#")[2]
    kind = named or sagemaker.BY_STATUS.get(reply.status, "")
    status, text = sagemaker.ERRORS.get(kind, sagemaker.OTHER_ERROR)
    return Rule(
        "",
        retry=reply.status == 429 or reply.status >= 500 or kind == "ThrottlingException",
        status=status,
        text=lambda reply, fault, id, url: text.format(id=id),
    )


def _fault(body: bytes) -> Fault:
    """The provider's words are not passed on (contract)."""
    return Fault()


def _chat_fault(body: bytes) -> Fault:
    return Fault(kind="error", code=STATUS_NAME)


def _timed_out(id: str, timeout: str) -> Exception:
    return StatusError(408, f"Request timed out after [{timeout}]")


def _not_streamed(endpoint: Endpoint) -> str:
    api = endpoint.settings["api"]
    return (
        f"Streaming is not allowed for service [{_NAME}], api [{api}], and task [{endpoint.task}]. "
        "Supported streaming tasks: [[completion, chat_completion]]"
    )


# Settings


def _check(draft: Draft) -> None:
    check_keys(draft)
    draft.check()
    api = draft.settings["api"]
    supported = _TASKS.get(api, ())
    if draft.task not in supported:
        raise StatusError(
            405,
            f"Task [{api}] is not compatible for service [{_NAME}] and api [{draft.task}]. "
            f"Supported tasks: [[{', '.join(supported)}]]",
        )
    if api == _OPENAI:
        own = ("similarity", "element_type")
        refuse_leftovers(
            draft.service, {k: draft.settings[k] for k in own if k in draft.settings and k in draft.given}
        )
        return
    if draft.task in _DENSE and "element_type" not in draft.settings:
        draft.fault("[service_settings] does not contain the required setting [element_type]")
    if "user" in draft.task_settings:
        draft.fault(_NOT_STORED)


def _check_update(draft: Draft, stored: Endpoint) -> None:
    check_changed_keys(draft)
    _check(draft)


_NOT_STORED = "task_settings is only supported during the inference request and cannot be stored in the inference endpoint."


def _unread_options(draft: Draft, unread: dict[str, Any]) -> None:
    """The elastic API takes any task setting with a request, and none before."""
    if draft.settings.get("api") in _TASKS and draft.settings["api"] != _OPENAI:
        draft.fault(_NOT_STORED)
        unread.clear()


def _shows(endpoint: Endpoint) -> dict[str, Any]:
    keys = [
        "endpoint_name",
        "region",
        "api",
        "target_model",
        "target_container_hostname",
        "inference_component_name",
        "batch_size",
        "dimensions",
    ]
    settings = endpoint.settings
    shown = {key: settings[key] for key in keys if key in settings}
    if endpoint.task in _DENSE and settings["api"] != _OPENAI:
        shown["dimensions_set_by_user"] = bool(endpoint.hidden.get("dimensions_set_by_user"))
        shown |= {key: settings[key] for key in ("similarity", "element_type") if key in settings}
    return shown


def _similarity(endpoint: Endpoint) -> str | None:
    return "dot_product" if endpoint.settings["api"] == _OPENAI else None


def _batch(endpoint: Endpoint) -> int:
    return int(endpoint.settings.get("batch_size", 256))


_PASSED = (
    Setting(
        key="custom_attributes",
        label="Custom Attributes",
        description="An opaque informational value forwarded as-is to the model within SageMaker.",
    ),
    Setting(
        key="enable_explanations",
        label="Enable Explanations",
        description="JMESPath expression overriding the ClarifyingExplainerConfig in the SageMaker Endpoint Configuration.",
    ),
    Setting(
        key="inference_id",
        label="Inference ID",
        description="Informational identifying for auditing requests within the SageMaker Endpoint.",
    ),
    Setting(
        key="session_id",
        label="Session ID",
        description="Creates or reuses an existing Session for SageMaker stateful models.",
    ),
    Setting(
        key="target_variant",
        label="Target Variant",
        description="The production variant when calling the SageMaker Endpoint",
    ),
)
_USER = Setting(key="user", label="User")


def _call(task: TaskType, openai_form: Call | None, elastic_form: Call) -> Call:
    """One task; the endpoint's ``api`` chooses the form."""
    common: dict[str, Any] = {
        "post": _url,
        "headers": _headers,
        "framing": Framing.AWS,
        "reads_errors": True,
        "options": (*_PASSED, _USER),
        "unread_options": _unread_options,
        "fault": _chat_fault if task is TaskType.CHAT_COMPLETION else _fault,
    }
    spoken = replace(openai_form, **common) if openai_form is not None else None
    elastic = replace(elastic_form, **common, passes_options=sagemaker.EXTRAS)

    def variant(endpoint: Endpoint) -> Call:
        return spoken if spoken is not None and endpoint.settings["api"] == _OPENAI else elastic

    return replace(elastic, variant=variant)


SERVICE = Service(
    name="amazon_sagemaker",
    title="Amazon SageMaker",
    aliases=("sagemaker", "amazonsagemaker"),
    settings=(
        *KEY_SETTINGS,
        Setting(
            key="endpoint_name",
            label="Endpoint Name",
            description="The name specified when creating the SageMaker Endpoint.",
            required=True,
        ),
        Setting(
            key="region",
            label="Region",
            description="The AWS region that your model or ARN is deployed in.",
            required=True,
        ),
        Setting(
            key="api",
            label="API",
            description="The API format that your SageMaker Endpoint expects.",
            required=True,
        ),
        Setting(
            key="target_model",
            label="Target Model",
            description="The model to request when calling a SageMaker multi-model Endpoint.",
        ),
        Setting(
            key="target_container_hostname",
            label="Target Container Hostname",
            description="The hostname of the container when calling a SageMaker multi-container Endpoint.",
        ),
        Setting(key="inference_component_name", label="Inference Component Name", listed=False),
        Setting(
            key="batch_size",
            kind=Kind.INTEGER,
            positive=True,
            label="Batch Size",
            description="The maximum size a single chunk of input can be when chunking input for semantic text.",
        ),
        replace(DIMENSIONS, tasks=_DENSE),
        replace(SIMILARITY, tasks=_DENSE),
        Setting(key="element_type", choices=("byte", "float", "bit"), tasks=_DENSE, listed=False),
        # Listed beside the service settings, read from the task settings alone.
        *(replace(row, tasks=frozenset(), listed_tasks=_ALL) for row in _PASSED),
    ),
    auth=sigv4("sagemaker"),
    rules=_rules,
    check=_check,
    checked_update=_check_update,
    similarity=_similarity,
    input_types=frozenset(InputType),
    shows=_shows,
    embedding_batch=_batch,
    failed="Failed to call SageMaker for inference id [{id}].",
    timed_out=_timed_out,
    not_streamed=_not_streamed,
    tasks=_ALL,
    calls={
        TaskType.TEXT_EMBEDDING: _call(
            TaskType.TEXT_EMBEDDING,
            Call(body=sagemaker.openai_embed_body, reply=sagemaker.translated(openai.embeddings)),
            Call(body=sagemaker.elastic_body, reply=sagemaker.translated(sagemaker.elastic_embeddings)),
        ),
        TaskType.SPARSE_EMBEDDING: _call(
            TaskType.SPARSE_EMBEDDING,
            None,
            Call(body=sagemaker.elastic_body, reply=sagemaker.translated(sagemaker.elastic_sparse)),
        ),
        TaskType.RERANK: _call(
            TaskType.RERANK,
            None,
            Call(body=sagemaker.elastic_rerank_body, reply=sagemaker.translated(sagemaker.elastic_ranking)),
        ),
        TaskType.COMPLETION: _call(
            TaskType.COMPLETION,
            Call(
                body=sagemaker.openai_chat_body,
                reply=sagemaker.translated(openai.completion()),
                chunks=sagemaker.openai_texts,
            ),
            Call(
                body=sagemaker.elastic_body,
                reply=sagemaker.translated(sagemaker.elastic_completion),
                chunks=sagemaker.elastic_texts,
            ),
        ),
        TaskType.CHAT_COMPLETION: _call(
            TaskType.CHAT_COMPLETION,
            Call(body=sagemaker.openai_chat_body, chunks=sagemaker.openai_chunks),
            Call(body=sagemaker.elastic_chat_body, chunks=sagemaker.elastic_chunks),
        ),
    },
)
