"""Creating an endpoint: the checks of api.md 4.2, in that order, then one trial call, then the store."""

from typing import Any

from msgspec.structs import replace

from inferd.actions import deployments, infer
from inferd.actions.get import defaults
from inferd.actions.house import Deadline, House
from inferd.actions.stream import stream
from inferd.core import chunking
from inferd.core.endpoint import Endpoint, check_id
from inferd.core.inputs import Chat, Inputs, InputType, Message, RankQuery, Texts
from inferd.core.results import ElementType, Embeddings
from inferd.core.service import Call, Service
from inferd.core.settings import Draft, Setting, read, refuse_leftovers, wrong_type
from inferd.core.tasks import DENSE, EMBEDDINGS, TaskType
from inferd.errors import InferdError, Invalid, StatusError


async def put(
    house: House, id: str, path_task: TaskType, body: dict[str, Any], deadline: Deadline
) -> Endpoint:
    """The stored endpoint. ``body`` is consumed."""
    check_id(id)
    if id in defaults(house):
        raise StatusError(
            400,
            f"[{id}] is a reserved inference ID. Cannot create a new inference endpoint with a reserved ID.",
        )
    task = resolve_task(path_task, body.pop("task_type", None))
    called = body.get("service")
    service = _service(house, body)
    if service.unavailable is not None:
        raise StatusError(400, service.unavailable)
    call = service.call(task)
    if call is None:
        raise StatusError(400, f"The [{service.name}] service does not support task type [{task}]")
    endpoint = read_endpoint(service, call, id, task, body, called)
    if call.run is not None:
        endpoint = deployments.admit(house, endpoint)
    if house.config.api.skip_validate:
        return await _store(house, endpoint)
    if call.run is None:
        return await _store(house, await verify(house, service, endpoint, deadline))
    await house.store.create(endpoint)
    return await _deploy(house, endpoint, deadline)


async def _deploy(house: House, endpoint: Endpoint, deadline: Deadline) -> Endpoint:
    """A deployment that is late leaves the endpoint stored; one that cannot be leaves nothing."""
    try:
        await deployments.start(house, endpoint, deadline)
    except StatusError as late:
        if late.status != 408:
            await house.store.delete(endpoint.id)
        raise
    except InferdError:
        await house.store.delete(endpoint.id)
        raise
    return endpoint


async def _store(house: House, endpoint: Endpoint) -> Endpoint:
    await house.store.create(endpoint)
    return endpoint


def resolve_task(path: TaskType, raw: Any, *, update: bool = False) -> TaskType:
    """The task from the path and the body's ``task_type``."""
    if raw is not None and not isinstance(raw, str):
        raise Invalid(wrong_type("task_type", raw, "String"))
    body = TaskType.parse(raw) if raw is not None else None
    if body is TaskType.ANY:
        raise StatusError(400, "task_type [any] is not valid type for inference")
    if path is TaskType.ANY:
        if body is None:
            raise StatusError(400, "model is missing required setting [task_type]")
        return body
    if body is not None and body is not path and not update:
        raise StatusError(
            400,
            f"Cannot resolve conflicting task_type parameter in the request URL [{path}] and the request body [{body}]",
        )
    return path


def _service(house: House, body: dict[str, Any]) -> Service:
    name = body.pop("service", None)
    if name is None:
        raise StatusError(400, "Inference endpoint configuration is missing the [service] setting")
    if not isinstance(name, str):
        raise Invalid(wrong_type("service", name, "String"))
    service = house.service(name)
    if service is None:
        raise StatusError(400, f"Unknown service [{name}]")
    return service


def read_endpoint(
    service: Service, call: Call, id: str, task: TaskType, body: dict[str, Any], called: str | None = None
) -> Endpoint:
    """The endpoint that a PUT body describes. Unknown members first, then everything wrong with the known ones.

    ``called``: the name of the service as the request has it.
    """
    raw_service = _object(body, "service_settings")
    raw_task = _object(body, "task_settings") or {}
    raw_chunking = body.pop("chunking_settings", None) if task in EMBEDDINGS else None
    refuse_leftovers(service.name, body)
    draft = Draft(service.name, task, id, called)
    given = dict(raw_service or {})
    draft.settings = read(service.settings, given, draft, "service_settings")
    refuse_leftovers(service.name, given)
    task_given = dict(raw_task)
    draft.task_settings = read(call.options, task_given, draft, "task_settings")
    refuse_options(service, call, draft, task_given)
    if raw_service is None:
        raise StatusError(400, "Missing required field [service_settings]")
    if service.check is not None:
        service.check(draft)
    draft.check()
    if "dimensions" in draft.settings and "dimensions" in draft.given:
        draft.hidden["dimensions_set_by_user"] = True
    return Endpoint(
        id=id,
        task=task,
        service=service.name,
        settings=draft.settings,
        task_settings=draft.task_settings,
        chunking=chunking.parse(raw_chunking) if task in EMBEDDINGS else None,
        secrets=draft.secrets,
        hidden=draft.hidden,
    )


def refuse_options(service: Service, call: Call, draft: Draft, unread: dict[str, Any]) -> None:
    """Task settings that no row reads."""
    if unread and call.unread_options is not None:
        call.unread_options(draft, unread)
    refuse_leftovers(service.name, unread)


def _object(body: dict[str, Any], key: str) -> dict[str, Any] | None:
    value = body.pop(key, None)
    if value is not None and not isinstance(value, dict):
        raise Invalid(wrong_type(key, value, "Map"))
    return value


_FAILED = "Could not complete inference endpoint creation as validation call to service threw an exception."


def trial(task: TaskType) -> Inputs:
    """What PUT asks the model (services/common.md section 9); a chat is streamed."""
    if task is TaskType.RERANK:
        return RankQuery(query="test query", documents=("how big",))
    if task is TaskType.CHAT_COMPLETION:
        return Chat(messages=(Message(role="user", content="how big"),))
    return Texts(texts=("how big",), input_type=InputType.INTERNAL_INGEST)


async def verify(house: House, service: Service, endpoint: Endpoint, deadline: Deadline) -> Endpoint:
    """One real call; for dense embeddings it fixes ``dimensions`` and the default ``similarity``."""
    if not service.verify:
        return endpoint
    try:
        if endpoint.task is TaskType.CHAT_COMPLETION:
            await _begin(house, endpoint, deadline)
            return endpoint
        result = await infer.ask(house, endpoint, trial(endpoint.task), {}, deadline)
    except InferdError as cause:
        raise StatusError(400, _FAILED) from cause
    if endpoint.task not in DENSE:
        return endpoint
    if not isinstance(result, Embeddings):
        raise StatusError(
            400,
            "Validation call did not return expected results type."
            f"Expected a result of type [text_embedding_service_results] got [{type(result).__name__}]",
        )
    return _measured(service, endpoint, result)


async def _begin(house: House, endpoint: Endpoint, deadline: Deadline) -> None:
    """A chat is tried in a stream, and left once it has begun: nobody waits for the end of an answer that nobody reads."""
    chunks = await stream(house, endpoint, endpoint.task, trial(endpoint.task), {}, deadline)
    await chunks.aclose()


def _measured(service: Service, endpoint: Endpoint, result: Embeddings) -> Endpoint:
    if len(result.vectors) == 0 or result.vectors.shape[1] == 0:
        raise StatusError(400, "Could not determine embedding size")
    size = int(result.vectors.shape[1]) * (8 if result.element is ElementType.BIT else 1)
    wanted = endpoint.settings.get("dimensions")
    if wanted is not None and endpoint.hidden.get("dimensions_set_by_user") and wanted != size:
        raise StatusError(
            400,
            f"The retrieved embeddings size [{size}] does not match the size specified in the settings [{wanted}]. "
            f"Please recreate the [{endpoint.id}] configuration with the correct dimensions",
        )
    settings = {**endpoint.settings, "dimensions": size}
    if settings.get("similarity") is None and service.similarity is not None:
        default = service.similarity
        chosen = default if isinstance(default, str) else default(endpoint)
        if chosen is not None:
            settings["similarity"] = chosen
    return replace(endpoint, settings=in_row_order(service.settings, settings))


def in_row_order(rows: tuple[Setting, ...], settings: dict[str, Any]) -> dict[str, Any]:
    names = list(dict.fromkeys(row.key.partition(".")[0] for row in rows))
    order = {name: n for n, name in enumerate(names)}
    return dict(sorted(settings.items(), key=lambda kv: order.get(kv[0], len(order))))
