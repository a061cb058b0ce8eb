"""Changing an endpoint (api.md 4.3, services/common.md section 10): merge, verify, compare and set."""

from typing import Any

from msgspec.structs import replace

from inferd.actions import deployments
from inferd.actions.get import defaults
from inferd.actions.house import Deadline, House
from inferd.actions.put import in_row_order, refuse_options, resolve_task, verify
from inferd.core.endpoint import Endpoint, check_id
from inferd.core.service import Call, Service
from inferd.core.settings import Draft, Setting, java, read, redacted, refuse_leftovers
from inferd.core.tasks import TaskType
from inferd.errors import StatusError


async def update(
    house: House, id: str, path_task: TaskType, body: dict[str, Any], deadline: Deadline
) -> Endpoint:
    check_id(id)
    task, raw_service, raw_task = _parts(path_task, body)
    stored = house.store.get(id) or defaults(house).get(id)
    if stored is None:
        raise StatusError(404, f"The inference endpoint [{id}] does not exist and cannot be updated")
    if task is not stored.task:
        raise StatusError(400, "Task type must match the task type of the existing endpoint")
    service = house.services.get(stored.service)
    call = service.call(stored.task) if service else None
    if service is None or call is None:
        raise StatusError(500, f"Service [{stored.service}] not found")
    merged = merge(service, call, stored, raw_service, raw_task)
    if _same(merged, stored):
        return stored
    if call.run is not None:
        await deployments.resize(house, stored, merged, deadline)
    elif not house.config.api.skip_validate:
        merged = await verify(house, service, merged, deadline)
    return await house.store.replace(merged, stored.version)


def _parts(path_task: TaskType, body: dict[str, Any]) -> tuple[TaskType, dict[str, Any], dict[str, Any]]:
    if not body:
        raise StatusError(400, "Request body is empty")
    whole = java(redacted(body))
    rest = dict(body)
    raw = rest.pop("task_type", None)
    if raw is not None and not isinstance(raw, str):
        raise StatusError(500, f"Failed to parse [task_type] in update request [{whole}]")
    found = {}
    for key, name in (("service_settings", "service settings"), ("task_settings", "task settings")):
        value = rest.pop(key, None)
        if value is not None and not isinstance(value, dict):
            raise StatusError(400, f"Unable to parse {name} in the request [{whole}]")
        found[key] = dict(value or {})
    if rest:
        raise StatusError(
            400,
            f"Request contained fields which cannot be updated, remove these fields and try again [{java(redacted(rest))}]",
        )
    return resolve_task(path_task, raw, update=True), found["service_settings"], found["task_settings"]


def merge(
    service: Service, call: Call, stored: Endpoint, raw_service: dict[str, Any], raw_task: dict[str, Any]
) -> Endpoint:
    """The stored endpoint with the request laid over it.

    A setting that cannot be changed may be repeated with the value it has; a new value is refused, so that nothing that a caller asked
    for is dropped without a word (the reference's older lines ignore it).
    """
    draft = Draft(service.name, stored.task, stored.id)
    draft.hidden = dict(stored.hidden)
    draft.secrets = dict(stored.secrets)
    frozen = [row for row in service.settings if not row.can_update]
    for row in frozen:
        if not row.serves(stored.task) or "." in row.key or row.key not in raw_service:
            continue
        value = raw_service.pop(row.key)
        if value is not None and not _repeats(row, value, stored):
            draft.fault(f"[service_settings] does not allow the setting [{row.key}]")
    rows = [row for row in service.settings if row.can_update]
    changed = read(rows, raw_service, draft, "service_settings", partial=True)
    refuse_leftovers(service.name, raw_service)
    draft.settings = in_row_order(service.settings, {**stored.settings, **changed})
    whole = service.replaces_task_settings and bool(raw_task)
    options = read(call.options, raw_task, draft, "task_settings", partial=not whole)
    refuse_options(service, call, draft, raw_task)
    draft.task_settings = options if whole else {**stored.task_settings, **options}
    if service.checked_update is not None:
        service.checked_update(draft, stored)
    draft.check()
    return replace(
        stored,
        settings=draft.settings,
        task_settings=draft.task_settings,
        secrets=draft.secrets,
        hidden=draft.hidden,
    )


def _repeats(row: Setting, value: Any, stored: Endpoint) -> bool:
    """Whether a value is the stored one, as it is stored or as a PUT may have written it."""
    kept = stored.settings.get(row.key)
    if value == kept:
        return True
    draft = Draft(stored.service, stored.task, stored.id)
    found = read((row,), {row.key: value}, draft, "service_settings", partial=True)
    return not draft.faults and row.key in found and found[row.key] == kept


def _same(a: Endpoint, b: Endpoint) -> bool:
    return (a.settings, a.task_settings, a.secrets, a.hidden) == (
        b.settings,
        b.task_settings,
        b.secrets,
        b.hidden,
    )
