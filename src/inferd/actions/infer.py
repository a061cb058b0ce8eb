"""Answering a question: the endpoint's service, a provider or a local model (api.md section 6)."""

from typing import Any

from inferd.actions import deployments
from inferd.actions.house import Deadline, House
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Contents, Inputs, RankQuery, Texts
from inferd.core.results import Embeddings, Ranking, Result, Sparse
from inferd.core.service import Ask, Call, Service
from inferd.core.settings import Draft, read
from inferd.core.tasks import TaskType
from inferd.errors import Invalid, StatusError


def check_task(endpoint: Endpoint, task: TaskType) -> None:
    if task not in (TaskType.ANY, endpoint.task):
        raise StatusError(
            400,
            f"Incompatible task_type, the requested type [{task}] does not match the model type [{endpoint.task}]",
        )


def service_and_call(house: House, endpoint: Endpoint) -> tuple[Service, Call]:
    service = house.services.get(endpoint.service)
    if service is None:
        raise StatusError(400, f"Unknown service [{endpoint.service}] for model [{endpoint.id}]")
    call = service.call_for(endpoint)
    if call is None:
        tasks = ", ".join(str(t) for t in service.calls)
        raise StatusError(
            400,
            f"Inference entity [{endpoint.id}] does not support task type [{endpoint.task}] for inference, "
            f"the task type must be one of [{tasks}].",
        )
    return service, call


async def infer(
    house: House,
    endpoint: Endpoint,
    task: TaskType,
    inputs: Inputs,
    task_settings: dict[str, Any],
    deadline: Deadline,
) -> Result:
    """One question, one result. The task is the one in the path (ANY when none)."""
    service, _ = service_and_call(house, endpoint)
    check_task(endpoint, task)
    check_input_type(service, inputs)
    return complete(endpoint, inputs, await ask(house, endpoint, inputs, task_settings, deadline))


def complete(endpoint: Endpoint, inputs: Inputs, result: Result) -> Result:
    """The same result, if it has one vector an input (with fewer nobody could tell whose they are) and ranks nothing but
    the documents of the request; -1 is the place of one that the provider did not name (services/cohere.md, watsonxai.md)."""
    if isinstance(result, Embeddings | Sparse) and isinstance(inputs, Texts | Contents):
        asked = len(inputs.texts if isinstance(inputs, Texts) else inputs.groups)
        if len(result.vectors) != asked:
            raise StatusError(
                500,
                f"The service of inference endpoint [{endpoint.id}] gave [{len(result.vectors)}] embeddings for "
                f"[{asked}] inputs",
            )
    if isinstance(result, Ranking) and isinstance(inputs, RankQuery):
        asked = len(inputs.documents)
        wrong = next((item.index for item in result.items if not -1 <= item.index < asked), None)
        if wrong is not None:
            raise StatusError(
                500,
                f"The service of inference endpoint [{endpoint.id}] ranked a document [{wrong}] of [{asked}]",
            )
    return result


async def ask(
    house: House, endpoint: Endpoint, inputs: Inputs, task_settings: dict[str, Any], deadline: Deadline
) -> Result:
    """Like ``infer`` without the checks that only concern a client's request."""
    service, call = service_and_call(house, endpoint)
    question = Ask(endpoint=endpoint, inputs=inputs, options=options(service, call, endpoint, task_settings))
    if call.run is not None:
        return await deployments.run(house, question, deadline)
    return await house.upstream.call(service, call, question, deadline.at, deadline.text)


def options(service: Service, call: Call, endpoint: Endpoint, given: dict[str, Any]) -> dict[str, Any]:
    """Request task settings over stored ones; unknown keys of a request are ignored (common.md section 7) or handed on."""
    if not given:
        return endpoint.task_settings
    draft = Draft(service.name, endpoint.task, endpoint.id)
    unread = dict(given)
    own = read(call.options, unread, draft, "task_settings", partial=True)
    draft.check()
    if call.passes_options is not None and unread:
        own[call.passes_options] = unread
    return {**endpoint.task_settings, **own}


def check_input_type(service: Service, inputs: Inputs) -> None:
    """common.md section 8; only what a client gave is checked."""
    if not isinstance(inputs, Texts | Contents) or inputs.input_type is None:
        return
    if service.input_types is None:
        raise Invalid(
            f"Invalid input_type [{inputs.input_type}]. The input_type option is not supported by this service"
        )
    if inputs.input_type not in service.input_types:
        raise StatusError(400, f"Input type [{inputs.input_type}] is not supported for [{service.title}]")
