"""Answering in pieces (api.md sections 7 and 8): chunks are pulled, so a slow reader slows the provider."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Protocol

from inferd.actions.house import Deadline, House
from inferd.actions.infer import ask, check_input_type, check_task, options, service_and_call
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat, Inputs
from inferd.core.results import ChatAnswer, Chunk
from inferd.core.service import Ask, Call, Service
from inferd.core.tasks import CHATS, TaskType
from inferd.errors import StatusError


class Chunks(Protocol):
    """The chunks of one answer. Whoever takes them closes them (``contextlib.aclosing``): that ends the provider's call."""

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    def __anext__(self) -> Awaitable[Chunk]: ...

    def waiting(self) -> Sequence[Chunk]:
        """Chunks that are here already; they are taken. What came together is written together."""
        ...

    def aclose(self) -> Awaitable[None]: ...


def check_streams(service: Service, endpoint: Endpoint, task: TaskType) -> Call:
    """api.md 8.4; the task named is the one in the path."""
    call = service.call_for(endpoint)
    if (call is None or call.chunks is None) and service.not_streamed is not None:
        raise StatusError(405, service.not_streamed(endpoint))
    tasks = [t for t in (TaskType.COMPLETION, TaskType.CHAT_COMPLETION) if t in service.streaming_tasks]
    if not tasks:
        raise StatusError(405, f"Streaming is not allowed for service [{service.name}].")
    if call is None or call.chunks is None:
        raise StatusError(
            405,
            f"Streaming is not allowed for service [{service.name}] and task [{task}]. Supported tasks: [{','.join(tasks)}]",
        )
    return call


async def stream(
    house: House,
    endpoint: Endpoint,
    task: TaskType,
    inputs: Inputs,
    task_settings: dict[str, Any],
    deadline: Deadline,
) -> Chunks:
    """Opens the stream: returns once the first chunk is there, so that an early failure keeps its status."""
    service, _ = service_and_call(house, endpoint)
    check_task(endpoint, task)
    call = check_streams(service, endpoint, task)
    check_input_type(service, inputs)
    chosen = options(service, call, endpoint, task_settings)
    question = Ask(endpoint=endpoint, inputs=inputs, options=chosen, stream=True)
    return await house.upstream.stream(service, call, question, deadline.at, deadline.text)


async def chat(
    house: House, endpoint: Endpoint, task: TaskType, inputs: Chat, deadline: Deadline
) -> ChatAnswer:
    """A whole chat answer: the provider's own, or its stream put together."""
    check_task(endpoint, task)
    if endpoint.task not in CHATS:
        check_task(endpoint, TaskType.CHAT_COMPLETION)
    answer = await ask(house, endpoint, inputs, {}, deadline)
    if not isinstance(answer, ChatAnswer):
        raise TypeError(f"{endpoint.service} answered {type(answer).__name__}")
    return answer
