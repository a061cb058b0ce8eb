"""What the dialects beside Elasticsearch's share: one endpoint, one question, the facts that go with the answer."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from inferd.actions import get, infer, stream
from inferd.actions.house import Deadline, House
from inferd.actions.stream import Chunks
from inferd.api import sse
from inferd.api.elastic import render
from inferd.api.guard import Guard
from inferd.api.http import Request, Response
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Chat, Contents, Inputs, Item, Message, RankQuery, TextPart, Texts
from inferd.core.results import (
    ChatAnswer,
    Choice,
    Completion,
    Delta,
    ElementType,
    Embeddings,
    Float32s,
    Ranking,
    Result,
    Sparse,
)
from inferd.core.tasks import TaskType, default_timeout
from inferd.errors import IllegalArgument, InferdError, StatusError

DENSE_TASKS = (TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING)
CHAT_TASKS = (TaskType.CHAT_COMPLETION, TaskType.COMPLETION)
_HEARTBEAT = 15.0
"""Seconds; these dialects' clients all skip comments."""

R = TypeVar("R", bound=Result)


class Desk(Struct, frozen=True, eq=False):
    """Takes questions on behalf of a dialect."""

    house: House
    guard: Guard

    @property
    def heartbeat(self) -> float:
        return self.house.config.api.stream_heartbeat or _HEARTBEAT

    def endpoint(self, request: Request, id: str, *tasks: TaskType) -> Endpoint:
        """The endpoint the caller names, if it may use it and its task is one of these. Raises 403, 404, 400."""
        self.guard.authorise(request, id)
        endpoint = get.find(self.house, id)
        if tasks and endpoint.task not in tasks:
            raise StatusError(
                400,
                f"Inference endpoint [{endpoint.id}] does task [{endpoint.task}]; this route needs one of "
                f"[{', '.join(tasks)}]",
            )
        return endpoint

    def endpoints(self, request: Request) -> list[Endpoint]:
        self.guard.authorise_list(request)
        return get.listing(self.house, TaskType.ANY, self.guard.visible(request))

    def deadline(self, endpoint: Endpoint) -> Deadline:
        seconds = default_timeout(endpoint.task)
        return Deadline.after(seconds, f"{seconds:.0f}s")

    def max_tokens(self, endpoint: Endpoint) -> int | None:
        """The window of an endpoint whose model runs here."""
        model = self.house.lexicon.model(endpoint.settings.get("model_id"))
        return None if model is None else model.max_tokens

    async def embed(self, endpoint: Endpoint, inputs: Texts) -> Embeddings:
        texts = self._typed(endpoint, inputs)
        asked: Inputs = texts
        if endpoint.task is TaskType.EMBEDDING:
            asked = Contents(groups=tuple((Item(text),) for text in texts.texts), input_type=texts.input_type)
        return await self._ask(endpoint, asked, Embeddings)

    async def expand(self, endpoint: Endpoint, inputs: Texts) -> Sparse:
        return await self._ask(endpoint, self._typed(endpoint, inputs), Sparse)

    async def rank(self, endpoint: Endpoint, asked: RankQuery) -> Ranking:
        """Every item's ``index`` is one of the documents."""
        ranking = await self._ask(endpoint, asked, Ranking)
        if any(not 0 <= item.index < len(asked.documents) for item in ranking.items):
            raise StatusError(500, f"Inference endpoint [{endpoint.id}] ranked a document that was not sent")
        return ranking

    async def chat(self, endpoint: Endpoint, chat: Chat) -> ChatAnswer:
        """A whole answer, from chat and completion endpoints alike."""
        if endpoint.task is TaskType.CHAT_COMPLETION:
            return await stream.chat(self.house, endpoint, endpoint.task, chat, self.deadline(endpoint))
        return as_chat(await self._ask(endpoint, single_text(endpoint, chat), Completion))

    async def chat_stream(self, endpoint: Endpoint, chat: Chat, patience: float | None) -> Chunks:
        """``patience``: seconds after which the answer begins without its first chunk."""
        inputs: Inputs = chat if endpoint.task is TaskType.CHAT_COMPLETION else single_text(endpoint, chat)
        deadline = self.deadline(endpoint)
        return await sse.opened(
            stream.stream(self.house, endpoint, endpoint.task, inputs, {}, deadline), patience
        )

    async def reply(self, shape: Callable[[], Any], result: Result) -> Response:
        """The JSON that ``shape`` gives, and the facts of the result as headers. Large results are shaped in a thread."""
        if render.weight(result) > render.INLINE:
            body = await asyncio.to_thread(lambda: render.encode(shape()))
        else:
            body = render.encode(shape())
        return json_response(body, headers=render.facts(result, self.house.config.api.version))

    def _typed(self, endpoint: Endpoint, inputs: Texts) -> Texts:
        """An input type that the service does not know is left out: here it is a hint, and some clients must send one."""
        service, _ = infer.service_and_call(self.house, endpoint)
        known = service.input_types is not None and inputs.input_type in service.input_types
        return inputs if known else Texts(texts=inputs.texts)

    async def _ask(self, endpoint: Endpoint, inputs: Inputs, kind: type[R]) -> R:
        deadline = self.deadline(endpoint)
        result = await infer.infer(self.house, endpoint, endpoint.task, inputs, {}, deadline)
        if not isinstance(result, kind):
            raise TypeError(f"{endpoint.service} answered {type(result).__name__}")
        return result


def single_text(endpoint: Endpoint, chat: Chat) -> Texts:
    """A completion endpoint takes one text: one user message and nothing else that would be lost."""
    message = chat.messages[0]
    text = message.text()
    pictured = not isinstance(message.content, str) and any(
        not isinstance(part, TextPart) for part in message.content or ()
    )
    kept = Chat(messages=(Message(role="user", content=text),))
    if pictured or replace(chat, messages=(replace(message, content=text), *chat.messages[1:])) != kept:
        raise IllegalArgument(
            f"Inference endpoint [{endpoint.id}] does task [completion]: it takes one user message and no sampling "
            "parameters; use an endpoint of task [chat_completion]"
        )
    return Texts(texts=(text,))


def as_chat(answer: Completion) -> ChatAnswer:
    return ChatAnswer(
        id="",
        choices=tuple(
            Choice(index=n, delta=Delta(role="assistant", content=text), finish_reason="stop")
            for n, text in enumerate(answer.texts)
        ),
        usage=None if answer.usage is None else answer.usage.as_chat(),
        notices=answer.notices,
    )


# Answers


def json_response(body: bytes, *, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Response:
    return Response(body, status=status, content_type="application/json", headers=headers)


def refusal(error: InferdError, body: dict[str, Any]) -> Response:
    """A failure with its headers. The application adds those about the connection."""
    headers = [(name, value) for name, value in error.headers if name != "Connection"]
    return json_response(render.encode(body), status=error.status, headers=headers)


def floats(result: Embeddings, endpoint: Endpoint) -> Float32s:
    """The vectors as little-endian float32 rows; 500 when a number is not finite."""
    rows: Float32s = np.ascontiguousarray(result.vectors).astype("<f4", copy=False)
    if result.element is ElementType.FLOAT:
        render.check_finite(rows, endpoint.id)
    return rows


def scores(result: Ranking, endpoint: Endpoint) -> npt.NDArray[np.float32]:
    found = np.array([item.score for item in result.items], dtype=np.float32)
    render.check_finite(found, endpoint.id)
    return found


def listed(indexes: Sequence[int]) -> str:
    return ", ".join(map(str, indexes[:20])) + (", ..." if len(indexes) > 20 else "")


# Bodies


async def read(request: Request) -> "Body":
    """The request's JSON object. Raises 400 that says what is wrong with it."""
    raw = await request.body()
    if len(raw) > render.INLINE:
        return Body(await asyncio.to_thread(decode, raw))
    return Body(decode(raw))


def decode(body: bytes) -> dict[str, Any]:
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
    """The members of an object, read by kind; ``done`` refuses what nobody asked for. ``where``: its name in messages."""

    def __init__(self, raw: dict[str, Any], where: str = "") -> None:
        self._raw = {k: v for k, v in raw.items() if v is not None}
        self._where = where

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def holds(self, key: str, kind: type) -> bool:
        return isinstance(self._raw.get(key), kind)

    def name(self, key: str) -> str:
        return f"[{self._path(key)}]"

    def _path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def take(self, key: str, *kinds: type, required: bool = False) -> Any:
        """The value under this key; None when absent or null. Raises 400 for another kind."""
        value = self._raw.pop(key, None)
        if value is None:
            if required:
                raise IllegalArgument(f"{self.name(key)} is required")
            return None
        if float in kinds and isinstance(value, int) and not isinstance(value, bool):
            return _float(value)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(_NAMES[kind] for kind in kinds)
            raise IllegalArgument(f"{self.name(key)} must be {names}")
        return value

    def text(self, key: str) -> str:
        """A string that is not empty."""
        value: str = self.take(key, str, required=True)
        if not value:
            raise IllegalArgument(f"{self.name(key)} must not be empty")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A string or a non-empty array of strings."""
        value = self.take(key, str, list, required=True)
        found = (value,) if isinstance(value, str) else tuple(value)
        if not found:
            raise IllegalArgument(f"{self.name(key)} must not be empty")
        if not all(isinstance(text, str) for text in found):
            raise IllegalArgument(f"{self.name(key)} must hold strings only")
        return found

    def objects(self, key: str, *, required: bool = False) -> "list[Body]":
        """The objects of an array, each read like a body. A required array must not be empty."""
        found = self.take(key, list, required=required) or []
        if required and not found:
            raise IllegalArgument(f"{self.name(key)} must not be empty")
        where = self._path(key)
        for n, item in enumerate(found):
            if not isinstance(item, dict):
                raise IllegalArgument(f"[{where}[{n}]] must be an object")
        return [Body(item, f"{where}[{n}]") for n, item in enumerate(found)]

    def object(self, key: str) -> "Body | None":
        found = self.take(key, dict)
        return None if found is None else Body(found, self._path(key))

    def member(self, key: str) -> "Body":
        """An object that must be there."""
        return Body(self.take(key, dict, required=True), self._path(key))

    def positive(self, key: str) -> int | None:
        value: int | None = self.take(key, int)
        if value is not None and not 0 < value < 2**31:
            raise IllegalArgument(f"{self.name(key)} must be a positive integer")
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
            raise IllegalArgument(f"unsupported parameter: {', '.join(map(self.name, sorted(self._raw)))}")


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise IllegalArgument(f"[{str(value)[:20]}...] is too large a number") from None


_NAMES = {
    str: "a string",
    list: "an array",
    dict: "an object",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
}


def check_dimensions(name: str, endpoint: Endpoint, wanted: int | None) -> None:
    """The endpoint decides how long its vectors are."""
    has = endpoint.settings.get("dimensions")
    if wanted is not None and wanted != has:
        raise IllegalArgument(
            f"[{name}] is [{wanted}] but inference endpoint [{endpoint.id}] gives [{has}]; "
            "create an endpoint with these dimensions"
        )
