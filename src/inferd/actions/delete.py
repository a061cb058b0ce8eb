"""Deleting an endpoint (api.md 4.4). Pipelines and index mappings live in Elasticsearch: here nothing refers to an endpoint."""

from msgspec import Struct

from inferd.actions import deployments
from inferd.actions.get import defaults, find, match_task
from inferd.actions.house import House
from inferd.core.tasks import TaskType
from inferd.errors import NotFound, StatusError


class Deletion(Struct, frozen=True, kw_only=True):
    acknowledged: bool
    pipelines: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    error_message: str | None = None
    """Only in a dry run; empty when nothing refers to the endpoint."""


async def delete(house: House, id: str, task: TaskType, *, dry_run: bool, force: bool) -> Deletion:
    endpoint = find(house, id)
    match_task(endpoint, task)
    if dry_run:
        return Deletion(acknowledged=False, error_message="")
    reserved = id in defaults(house) and house.store.get(id) is None
    if reserved and not force:
        raise StatusError(
            400,
            f"[{id}] is a reserved inference endpoint. "
            "Use the force=true query parameter to delete the inference endpoint.",
        )
    service = house.services.get(endpoint.service)
    if service is None:
        raise StatusError(404, f"No service found for this inference endpoint {id}")
    if not reserved and not await house.store.delete(id):
        raise NotFound(f"Inference endpoint not found [{id}]")
    call = service.call(endpoint.task)
    if call is not None and call.run is not None:
        await deployments.stop(house, endpoint)
    return Deletion(acknowledged=True)
