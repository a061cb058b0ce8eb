"""What the dialects beside Elasticsearch's share: one endpoint, one question, the facts that go with the answer."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct

from inferd.actions import get, infer, stream
from inferd.actions.house import Deadline, House
from inferd.api.guard import Guard
from inferd.api.http import Request
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat, Inputs, Message, Texts
from inferd.core.results import ChatAnswer, Choice, Chunk, Completion, Delta, Embeddings, Result, Usage
from inferd.core.tasks import CHATS, TaskType, default_timeout
from inferd.errors import IllegalArgument, StatusError


class Desk(Struct, frozen=True, eq=False):
    """Takes questions on behalf of a dialect."""

    house: House
    guard: Guard

    def endpoint(self, request: Request, id: str, *tasks: TaskType) -> Endpoint:
        """The endpoint the caller names, if it may use it and its task is one of these. Raises 403, 404, 400."""
        self.guard.authorise(request, id)
        endpoint = get.find(self.house, id)
        if tasks and endpoint.task not in tasks:
            raise StatusError(
                400,
                f"Inference endpoint [{id}] does task [{endpoint.task}]; this route needs one of "
                f"[{', '.join(tasks)}]",
            )
        return endpoint

    def endpoints(self, request: Request) -> list[Endpoint]:
        self.guard.authorise_list(request)
        return get.listing(self.house, TaskType.ANY, self.guard.visible(request))

    def deadline(self, endpoint: Endpoint) -> Deadline:
        seconds = default_timeout(endpoint.task)
        return Deadline.after(seconds, f"{seconds:.0f}s")

    async def ask(self, endpoint: Endpoint, inputs: Inputs, options: dict[str, Any] | None = None) -> Result:
        deadline = self.deadline(endpoint)
        return await infer.infer(self.house, endpoint, endpoint.task, inputs, options or {}, deadline)

    async def embed(self, endpoint: Endpoint, inputs: Texts) -> Embeddings:
        """Dense vectors; an input type that the service does not know is left out."""
        service, _ = infer.service_and_call(self.house, endpoint)
        if service.input_types is None or inputs.input_type not in service.input_types:
            inputs = Texts(texts=inputs.texts)
        result = await self.ask(endpoint, inputs)
        if not isinstance(result, Embeddings):
            raise TypeError(f"{endpoint.service} answered {type(result).__name__}")
        return result

    async def chat(self, endpoint: Endpoint, chat: Chat) -> ChatAnswer:
        """A whole answer, from chat and completion endpoints alike."""
        if endpoint.task is TaskType.CHAT_COMPLETION:
            return await stream.chat(self.house, endpoint, endpoint.task, chat, self.deadline(endpoint))
        result = await self.ask(endpoint, single_text(endpoint, chat))
        if not isinstance(result, Completion):
            raise TypeError(f"{endpoint.service} answered {type(result).__name__}")
        return ChatAnswer(
            id="",
            choices=tuple(
                Choice(index=n, delta=Delta(role="assistant", content=text), finish_reason="stop")
                for n, text in enumerate(result.texts)
            ),
            usage=None if result.usage is None else result.usage.as_chat(),
            notices=result.notices,
        )

    async def chat_stream(self, endpoint: Endpoint, chat: Chat) -> AsyncIterator[Chunk]:
        inputs: Inputs = chat if endpoint.task is TaskType.CHAT_COMPLETION else single_text(endpoint, chat)
        deadline = self.deadline(endpoint)
        return await stream.stream(self.house, endpoint, endpoint.task, inputs, {}, deadline)


def single_text(endpoint: Endpoint, chat: Chat) -> Texts:
    """A completion endpoint takes one text: one user message and nothing else that would be lost."""
    plain = len(chat.messages) == 1 and chat.messages[0].role == "user" and not chat.tools
    tuned = (chat.max_completion_tokens, chat.temperature, chat.top_p, chat.stop, chat.reasoning)
    if endpoint.task not in CHATS or not plain or any(value is not None for value in tuned):
        raise IllegalArgument(
            f"Inference endpoint [{endpoint.id}] does task [completion]: it takes one user message and no sampling "
            "parameters; use an endpoint of task [chat_completion]"
        )
    return Texts(texts=(chat.messages[0].text(),))


def decode(body: bytes) -> dict[str, Any]:
    """A JSON object, or a 400 that says what is wrong with it."""
    if not body:
        raise IllegalArgument("the request body is required")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as bad:
        raise IllegalArgument(f"the request body is not valid JSON: {bad}") from None
    if not isinstance(value, dict):
        raise IllegalArgument("the request body must be a JSON object")
    return value


class Body:
    """The members of a request body, read by kind; what nobody asked for is found by ``rest``."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = {k: v for k, v in raw.items() if v is not None}

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def take(self, key: str, *kinds: type, required: bool = False) -> Any:
        """The value under this key; None when absent or null. Raises 400 for another kind."""
        value = self._raw.pop(key, None)
        if value is None:
            if required:
                raise IllegalArgument(f"[{key}] is required")
            return None
        if float in kinds and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(_NAMES[kind] for kind in kinds)
            raise IllegalArgument(f"[{key}] must be {names}")
        return value

    def text(self, key: str) -> str:
        value: str = self.take(key, str, required=True)
        if not value:
            raise IllegalArgument(f"[{key}] must not be empty")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A string or a non-empty array of strings."""
        value = self.take(key, str, list, required=True)
        found = (value,) if isinstance(value, str) else tuple(value)
        if not found:
            raise IllegalArgument(f"[{key}] must not be empty")
        if not all(isinstance(text, str) for text in found):
            raise IllegalArgument(f"[{key}] must hold strings only")
        return found

    def positive(self, key: str) -> int | None:
        value: int | None = self.take(key, int)
        if value is not None and not 0 < value < 2**31:
            raise IllegalArgument(f"[{key}] must be a positive integer")
        return value

    def ignore(self, *keys: str) -> None:
        """Hints that change nothing in the answer."""
        for key in keys:
            self._raw.pop(key, None)

    def expect(self, **same: Any) -> None:
        """Members that may be there with the value that changes nothing."""
        for key, value in same.items():
            if key in self._raw and self._raw[key] == value:
                del self._raw[key]

    def done(self) -> None:
        """Refuse what would otherwise be dropped without a word."""
        if self._raw:
            raise IllegalArgument(
                f"unsupported parameter: {', '.join(f'[{key}]' for key in sorted(self._raw))}"
            )


_NAMES = {
    str: "a string",
    list: "an array",
    dict: "an object",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
}


def user_message(text: str) -> Chat:
    return Chat(messages=(Message(role="user", content=text),))


def used(usage: Usage | None) -> int | None:
    """Tokens that the model saw, where known."""
    return None if usage is None else usage.used
