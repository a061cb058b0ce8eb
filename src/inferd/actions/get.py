"""Looking endpoints up: stored ones and the defaults that always exist (api.md 4.1, section 11)."""

from collections.abc import Callable
from typing import Any

from inferd.actions import deployments
from inferd.actions.house import House
from inferd.core.endpoint import Endpoint
from inferd.core.service import Service
from inferd.core.settings import publish
from inferd.core.tasks import TaskType
from inferd.errors import NotFound, StatusError

Visible = Callable[[str], bool]
"""Whether the caller may know of an endpoint."""


def everyone(id: str) -> bool:
    return True


def defaults(house: House) -> dict[str, Endpoint]:
    return {e.id: e for service in house.services.values() for e in service.defaults}


def find(house: House, id: str) -> Endpoint:
    """The endpoint, or a 404."""
    endpoint = house.store.get(id)
    if endpoint is None:
        endpoint = next((e for s in house.services.values() for e in s.defaults if e.id == id), None)
    if endpoint is None:
        raise NotFound(f"Inference endpoint not found [{id}]")
    return endpoint


def get(house: House, id: str, task: TaskType) -> Endpoint:
    endpoint = find(house, id)
    match_task(endpoint, task)
    service_of(house, endpoint)
    return endpoint


def match_task(endpoint: Endpoint, task: TaskType) -> None:
    if task not in (TaskType.ANY, endpoint.task):
        raise StatusError(
            400,
            f"Requested task type [{task}] does not match the inference endpoint's task type [{endpoint.task}]",
        )


def service_of(house: House, endpoint: Endpoint) -> Service:
    service = house.services.get(endpoint.service)
    if service is None:
        raise StatusError(
            500, f"Unknown service [{endpoint.service}] for inference endpoint [{endpoint.id}]. "
        )
    return service


def listing(house: House, task: TaskType, visible: Visible = everyone) -> list[Endpoint]:
    """Every endpoint of the task the caller may see, sorted by id."""
    endpoints = defaults(house)
    endpoints.update((e.id, e) for e in house.store.all())
    found = [e for e in endpoints.values() if task in (TaskType.ANY, e.task) and visible(e.id)]
    for endpoint in found:
        service_of(house, endpoint)
    return sorted(found, key=lambda e: e.id)


def shown_settings(house: House, endpoint: Endpoint) -> dict[str, Any]:
    """``service_settings`` as GET shows them: secrets and hidden settings left out."""
    service = house.services[endpoint.service]
    if service.shows is not None:
        shown = service.shows(endpoint)
    else:
        shown = {}
        for row in service.settings:
            key = row.key.partition(".")[0]
            if row.shown and not row.secret and row.serves(endpoint.task) and key in endpoint.settings:
                shown[key] = endpoint.settings[key]
    call = service.call(endpoint.task)
    if call is not None and call.run is not None:
        return deployments.describe(house, endpoint, shown)
    return shown


def services(house: House, task: TaskType) -> list[dict[str, Any]]:
    """``GET _inference/_services`` (api.md 4.5)."""
    out = []
    for service in sorted(house.services.values(), key=lambda s: s.name):
        tasks = service.tasks or tuple(service.calls)
        if not service.listed or (task is not TaskType.ANY and task not in tasks):
            continue
        rows = {}
        for row in service.settings:
            if row.listed:
                rows[row.key] = publish(row, tasks)
        entry: dict[str, Any] = {
            "service": service.name,
            "name": service.title,
            "task_types": [str(t) for t in tasks],
            "configurations": dict(sorted(rows.items())),
        }
        if service.features:
            entry["features"] = dict(service.features)
        out.append(entry)
    return out
