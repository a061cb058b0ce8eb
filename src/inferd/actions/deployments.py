"""Endpoints of the ``elasticsearch`` service: which model, and its deployment (services/elasticsearch.md).

The deployment's id is ``deployment_id`` when the endpoint attaches to one, else the endpoint's own. A deployment starts with the PUT and, after
a restart and for the default endpoints, with the first question.
"""

from typing import Any

from msgspec.structs import replace

from inferd.actions.house import Deadline, House
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import RankQuery, Texts
from inferd.core.results import Result
from inferd.core.service import Ask
from inferd.core.tasks import TaskType
from inferd.errors import StatusError

_NO_MATCH = "Error parsing request config, model id does not match any models available on this platform. Was [{model}]"
_MODEL_TYPES = {
    TaskType.SPARSE_EMBEDDING: "text_expansion",
    TaskType.TEXT_EMBEDDING: "text_embedding",
    TaskType.RERANK: "text_similarity",
}


def deployment_id(endpoint: Endpoint) -> str:
    return str(endpoint.settings.get("deployment_id") or endpoint.id)


def admit(house: House, endpoint: Endpoint) -> Endpoint:
    """The endpoint with what its model or its deployment decides; a model that cannot serve it is a 400."""
    settings = dict(endpoint.settings)
    attached = settings.get("deployment_id")
    if attached is not None:
        settings = _attach(house, settings, attached)
    model = str(settings["model_id"])
    served = house.host.resolve(model)
    if served is None:
        raise StatusError(
            400, f"{_NO_MATCH.format(model=model)}. You may need to load it into the cluster using eland."
        )
    if served.model.task is not endpoint.task:
        kind = _MODEL_TYPES[served.model.task]
        raise StatusError(
            400,
            f"Deployed model [{model}] with type [{kind}] does not match the requested task type [{endpoint.task}]",
        )
    if endpoint.task is TaskType.TEXT_EMBEDDING:
        settings["dimensions"] = served.model.dimensions
        settings.setdefault("similarity", served.model.similarity)
        settings.setdefault("element_type", "float")
    return replace(endpoint, settings=settings)


def _attach(house: House, settings: dict[str, Any], id: str) -> dict[str, Any]:
    owner = next((e for e in house.store.all() if e.id == id and _is_local(house, e)), None)
    if owner is None:
        raise StatusError(404, f"Cannot find deployment [{id}]")
    model = owner.settings["model_id"]
    given = settings.get("model_id")
    if given is not None and given != model:
        raise StatusError(
            400,
            f"Deployment [{id}] uses model [{model}] which does not match the model [{given}] in the request.",
        )
    sized = ("num_allocations", "num_threads", "adaptive_allocations")
    taken: dict[str, Any] = {key: owner.settings[key] for key in sized if key in owner.settings}
    rest = {key: value for key, value in settings.items() if key not in sized}
    return {**taken, **rest, "model_id": model}


def _is_local(house: House, endpoint: Endpoint) -> bool:
    service = house.services.get(endpoint.service)
    call = service.call(endpoint.task) if service else None
    return call is not None and call.run is not None


async def start(house: House, endpoint: Endpoint, deadline: Deadline) -> None:
    """Load the model and wait until it serves."""
    settings = endpoint.settings
    await house.host.deploy(
        deployment_id(endpoint),
        str(settings["model_id"]),
        num_allocations=settings.get("num_allocations"),
        num_threads=settings.get("num_threads", 1),
        adaptive=settings.get("adaptive_allocations"),
        deadline=deadline.at,
        timeout=deadline.text,
    )


async def stop(house: House, endpoint: Endpoint) -> None:
    """A deployment that others own or still use stays."""
    id = deployment_id(endpoint)
    others = (e for e in house.store.all() if e.id != endpoint.id and _is_local(house, e))
    if id == endpoint.id and not any(deployment_id(e) == id for e in others):
        await house.host.undeploy(id)


async def resize(house: House, stored: Endpoint, merged: Endpoint, deadline: Deadline) -> None:
    """New allocations for the running deployment."""
    id = deployment_id(stored)
    if id != stored.id:
        raise StatusError(
            409,
            f"Cannot update inference endpoint [{stored.id}]: its deployment [{id}] was created by inference endpoint [{id}]; "
            "update that endpoint instead",
        )
    await house.host.update(
        id,
        num_allocations=merged.settings.get("num_allocations"),
        adaptive=merged.settings.get("adaptive_allocations"),
    )


def describe(house: House, endpoint: Endpoint, shown: dict[str, Any]) -> dict[str, Any]:
    """``service_settings`` of a GET: the current number of allocations where it adapts."""
    if "adaptive_allocations" not in shown:
        return shown
    current = house.host.allocations(deployment_id(endpoint))
    return shown if current is None else {"num_allocations": current, **shown}


def notices(house: House, endpoint: Endpoint) -> tuple[str, ...]:
    """What every answer of a local endpoint must say; nothing for others."""
    model = endpoint.settings.get("model_id") if _is_local(house, endpoint) else None
    try:
        served = house.host.resolve(str(model)) if model is not None else None
    except StatusError as fault:
        return (fault.reason,)
    return () if served is None else served.notices


async def run(house: House, ask: Ask, deadline: Deadline) -> Result:
    """The local model's answer; a deployment that is not there yet is started first."""
    endpoint, host = ask.endpoint, house.host
    id = deployment_id(endpoint)
    if not host.deployed(id):
        await start(house, endpoint, deadline)
    if isinstance(ask.inputs, RankQuery):
        return await host.rank(id, ask.inputs, deadline.at, deadline.text, _rank_options(ask))
    if isinstance(ask.inputs, Texts):
        runner = host.expand if endpoint.task is TaskType.SPARSE_EMBEDDING else host.embed
        return await runner(id, ask.inputs, deadline.at, deadline.text)
    raise StatusError(400, f"The [{endpoint.service}] service only supports text inputs")


def _rank_options(ask: Ask) -> dict[str, Any]:
    settings = ask.settings
    return {
        "return_documents": ask.options.get("return_documents", True),
        "long_document_strategy": settings.get("long_document_strategy", "truncate"),
        "max_chunks_per_doc": settings.get("max_chunks_per_doc"),
    }
