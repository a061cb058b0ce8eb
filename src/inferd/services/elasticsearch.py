"""Models on this machine, under the name that Elasticsearch gives its in-cluster models.

Contract: services/elasticsearch.md, elser.md. ``elser`` is an alias for sparse embeddings.
"""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from inferd.core import chunking
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType
from inferd.core.service import Call, Service
from inferd.core.settings import RETURN_DOCUMENTS, Draft, Kind, Setting, refuse_leftovers, wrong_type
from inferd.core.tasks import TaskType
from inferd.errors import StatusError

DEFAULT_ELSER = ".elser_model_2"
_E5 = frozenset({".multilingual-e5-small", ".multilingual-e5-small_linux-x86_64"})
"""Their similarity and element type are known: nobody gives them."""

_RERANK = frozenset({TaskType.RERANK})
_DENSE = frozenset({TaskType.TEXT_EMBEDDING})
_BOUNDS = ("min_number_of_allocations", "max_number_of_allocations")


def _adaptive(value: Any, row: Setting, draft: Draft) -> dict[str, Any] | None:
    """``{enabled, min_number_of_allocations, max_number_of_allocations}``."""
    if not isinstance(value, Mapping):
        draft.fault(wrong_type(row.key, value, "Map"))
        return None
    before = len(draft.faults)
    for key in value:
        if key not in ("enabled", *_BOUNDS):
            draft.fault(f"[{row.key}] does not allow the setting [{key}]")
    enabled = value.get("enabled")
    if enabled is not None and not isinstance(enabled, bool):
        draft.fault(wrong_type("enabled", enabled, "Boolean"))
    for key in _BOUNDS:
        bound = value.get(key)
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int)):
            draft.fault(wrong_type(key, bound, "Integer"))
    if len(draft.faults) > before:
        return None
    low, high = (value.get(key) for key in _BOUNDS)
    if low is not None and low < 0:
        draft.fault("[min_number_of_allocations] must be a non-negative integer or null")
    if high is not None and high <= 0:
        draft.fault("[max_number_of_allocations] must be a positive integer or null")
    if low is not None and high is not None and low > high:
        draft.fault("[min_number_of_allocations] must not be larger than [max_number_of_allocations]")
    return {k: value[k] for k in ("enabled", *_BOUNDS) if value.get(k) is not None}


def _check(draft: Draft) -> None:
    """Which model comes first (without one nothing else matters), then how it is deployed."""
    settings = draft.settings
    if "model_id" not in settings and "deployment_id" not in settings and "model_id" not in draft.given:
        if draft.called != "elser":
            raise StatusError(400, "Error parsing service settings, model_id must be provided")
        settings["model_id"] = DEFAULT_ELSER
    if settings.get("model_id") in _E5:
        refuse_leftovers(
            draft.service, {key: settings[key] for key in ("similarity", "element_type") if key in settings}
        )
    if "deployment_id" not in settings:
        if not draft.given & {"num_allocations", "adaptive_allocations"}:
            draft.fault(
                "[service_settings] does not contain one of the required settings [num_allocations, adaptive_allocations]"
            )
        if "num_threads" not in draft.given:
            draft.fault("[service_settings] does not contain the required setting [num_threads]")
    threads = settings.get("num_threads")
    if threads is not None and (threads & (threads - 1) or threads > 32):
        draft.fault(
            f"[service_settings] Invalid value [{threads}]. [num_threads] must be a power of 2 less than or equal to 32"
        )
    if "max_chunks_per_doc" in settings and settings.get("long_document_strategy") != "chunk":
        draft.fault("The [max_chunks_per_doc] setting requires [long_document_strategy] to be set to [chunk]")


def _check_update(draft: Draft, stored: Endpoint) -> None:
    """A fixed number and an adaptive range exclude each other: the one that was asked for stays."""
    if "num_allocations" in draft.given and "adaptive_allocations" in draft.given:
        draft.fault("[num_allocations] and [adaptive_allocations] can not be updated together")
    elif "num_allocations" in draft.given:
        draft.settings.pop("adaptive_allocations", None)
    elif "adaptive_allocations" in draft.given:
        adaptive = draft.settings.get("adaptive_allocations")
        if adaptive is not None and adaptive.get("enabled", True):
            draft.settings.pop("num_allocations", None)


def _default(id: str, task: TaskType, model: str) -> Endpoint:
    rerank = task is TaskType.RERANK
    return Endpoint(
        id=id,
        task=task,
        service="elasticsearch",
        settings={
            "num_threads": 1,
            "model_id": model,
            "adaptive_allocations": {
                "enabled": True,
                "min_number_of_allocations": 0,
                "max_number_of_allocations": 32,
            },
        },
        task_settings={"return_documents": True} if rerank else {},
        chunking=None if rerank else dict(chunking.DEFAULT),
    )


SERVICE = Service(
    name="elasticsearch",
    title="Elasticsearch",
    aliases=("elser",),
    deprecated_aliases={
        "elser": "The [elser] service is deprecated and will be removed in a future release. Use the [elasticsearch] "
        f"service instead, with [model_id] set to [{DEFAULT_ELSER}] in the [service_settings]"
    },
    settings=(
        Setting(
            key="num_allocations",
            kind=Kind.INTEGER,
            positive=True,
            label="Number Allocations",
            description="Number of model copies; the alternative is adaptive_allocations.",
            updatable=True,
            listed_required=True,
            listed_default=1,
        ),
        Setting(
            key="num_threads",
            kind=Kind.INTEGER,
            positive=True,
            label="Number Threads",
            description="Threads per allocation; power of two, at most 32.",
            listed_required=True,
            listed_default=2,
        ),
        Setting(
            key="model_id",
            label="Model ID",
            description="Built-in or uploaded (Eland) model; optional when deployment_id is given.",
            listed_required=True,
        ),
        Setting(key="adaptive_allocations", kind=Kind.MAP, read=_adaptive, mutable=True, listed=False),
        Setting(key="deployment_id", listed=False),
        Setting(key="dimensions", kind=Kind.INTEGER, tasks=_DENSE, refused=True, listed=False),
        Setting(key="similarity", choices=("cosine", "dot_product", "l2_norm"), tasks=_DENSE, listed=False),
        Setting(key="element_type", choices=("byte", "float"), tasks=_DENSE, listed=False),
        Setting(key="long_document_strategy", choices=("chunk", "truncate"), tasks=_RERANK, listed=False),
        Setting(key="max_chunks_per_doc", kind=Kind.INTEGER, positive=True, tasks=_RERANK, listed=False),
    ),
    check=_check,
    checked_update=_check_update,
    input_types=frozenset(InputType),
    verify=False,
    similarity="cosine",
    embedding_batch=10,
    tasks=(TaskType.RERANK, TaskType.TEXT_EMBEDDING, TaskType.SPARSE_EMBEDDING),
    calls={
        TaskType.RERANK: Call(run="rank", options=(replace(RETURN_DOCUMENTS, default=True),)),
        TaskType.TEXT_EMBEDDING: Call(run="embed"),
        TaskType.SPARSE_EMBEDDING: Call(run="expand"),
    },
    defaults=(
        _default(".elser-2-elasticsearch", TaskType.SPARSE_EMBEDDING, DEFAULT_ELSER),
        _default(".multilingual-e5-small-elasticsearch", TaskType.TEXT_EMBEDDING, ".multilingual-e5-small"),
        _default(".rerank-v1-elasticsearch", TaskType.RERANK, ".rerank-v1"),
    ),
)
