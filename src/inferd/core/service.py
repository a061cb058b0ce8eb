"""The shape of ``services/*.py``: a service is data, a call is a few pure functions.

A service module exports one ``SERVICE``. Support for a task is a key in ``calls``; there are no capability flags.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Inputs
from inferd.core.results import Chunk, Result
from inferd.core.secrets import Secret
from inferd.core.settings import Draft, Setting
from inferd.core.tasks import TaskType


class Ask(Struct, frozen=True, kw_only=True):
    """One question put to one endpoint.

    ``options`` are the effective task settings: request over stored. ``stream`` says that chunks are wanted.
    ``cut`` is the share of each input that is left after a provider called it too large (1.0: all of it); the
    upstream client has already cut ``inputs``, so ``body`` functions only read them.
    """

    endpoint: Endpoint
    inputs: Inputs
    options: dict[str, Any] = {}
    stream: bool = False
    cut: float = 1.0

    @property
    def settings(self) -> dict[str, Any]:
        return self.endpoint.settings


class Outgoing(Struct, kw_only=True):
    """An HTTP request about to leave. Header names as sent; secrets are inside: never log one."""

    url: str
    body: bytes
    headers: dict[str, str]
    method: str = "POST"
    exempt: bool = False
    """Goes to this machine's own metadata service: our auth code may, whatever the egress policy says."""

    def __repr__(self) -> str:
        return f"Outgoing({self.method} …)"


class Reply(Struct, frozen=True, kw_only=True):
    """A provider's whole answer. Look headers up in lower case. ``reason``: the words after the status."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reason: str | None = None


class Event(Struct, frozen=True):
    """One event of a provider's stream. ``name`` is the SSE event name or the frame's event type.

    ``failed`` marks an AWS exception or error frame; ``name`` is then the exception's type. Bytes of an AWS frame that
    are not UTF-8 are kept as surrogates (``data.encode("utf-8", "surrogateescape")`` gives them back).
    """

    data: str
    name: str = ""
    failed: bool = False


class Fault(Struct, frozen=True):
    """What a provider's error body says. ``message`` None: nothing could be read."""

    message: str | None = None
    code: str | None = None
    kind: str | None = None
    param: str | None = None


class Rule(Struct, frozen=True):
    """What a status means: how the text starts, whether another attempt is worth it, and whether cutting the input helps.

    ``prefix`` may be computed from the reply (rate limit headers). ``status`` replaces the mapped status. The whole reason is
    ``<prefix> for request from inference entity id [<id>] status [<status>]`` plus the provider's message; ``text``, when given,
    replaces that whole reason (and gets (reply, fault, endpoint id, url)).
    """

    prefix: str | Callable[[Reply], str]
    retry: bool = False
    truncate: bool = False
    status: int | None = None
    text: Callable[[Reply, Fault, str, str], str] | None = None
    untyped: bool = False
    """The error's type is the plain ``exception``, not ``status_exception``."""


class Tokens(Protocol):
    """Where access tokens are kept: fetched once when many need one, refreshed before they expire."""

    async def get(self, key: str, fetch: "Callable[[Send], Awaitable[tuple[str, float]]]") -> str:
        """The token under ``key``; ``fetch(send)`` gives (token, seconds it lasts)."""
        ...

    def drop(self, key: str) -> None: ...

    @property
    def environment(self) -> Mapping[str, Secret]:
        """The variables that ambient cloud credentials are read from."""
        ...


Send = Callable[[Outgoing], Awaitable[Reply]]
"""Sends one request over the shared client within the caller's deadline."""

Auth = Callable[[Ask, Outgoing, Tokens], Awaitable[Outgoing]]
"""Adds credentials to a request. Pure header auth ignores the tokens."""


class Framing(StrEnum):
    """How a provider cuts its stream into events."""

    SSE = "sse"
    LINES = "lines"
    SSE_OR_LINES = "sse_or_lines"
    """Lines that start with a brace are JSON by themselves; everything else is SSE."""
    AWS = "aws"
    JSON_ARRAY = "json_array"


class Call(Struct, frozen=True, kw_only=True):
    """One task of one service.

    ``post``: the URL, or a function of the ask. ``body``: a JSON value (bytes go out as they are). ``reply``: the provider's 2xx body
    into a result; whatever it raises as ``BadReply`` counts as an unparsable answer. ``chunks`` makes a fresh reader for one stream:
    a function from event to chunks; None means that the task does not stream. ``run`` names a local runner instead of a URL.
    ``options`` are the task settings of this task.
    """

    options: tuple[Setting, ...] = ()
    post: str | Callable[[Ask], str] | None = None
    body: Callable[[Ask], Any] | None = None
    reply: Callable[[Ask, Reply], Result] | None = None
    chunks: Callable[[Ask], Callable[[Event], Iterable[Chunk]]] | None = None
    framing: Framing = Framing.SSE
    reads_errors: bool = False
    """The chunk reader itself turns SSE events named ``error`` into errors; else the client does, with ``fault``."""
    headers: Callable[[Ask], dict[str, str]] | None = None
    run: str | None = None
    stream_only: bool = False
    """The provider's route for this task only streams: a whole answer is collected from chunks."""
    fault: Callable[[bytes], Fault] | None = None
    rules: Callable[[Reply, Fault], Rule] | None = None
    verb: str | None = None
    """What "Failed to send <Service> <what> request" calls this call (default: from the task)."""
    one_input: str | None = None
    """Text of the 400 for several inputs, without ``only accepts 1 input`` (completion only)."""
    max_inputs: int | Callable[[Ask], int] | None = None
    """The provider's per-request limit: more are split and rejoined in order."""
    variant: "Callable[[Endpoint], Call] | None" = None
    """The call as this endpoint makes it, where a stored setting chooses the wire format (``Service.call_for``)."""
    unread_options: Callable[[Draft, dict[str, Any]], None] | None = None
    """Raises for task settings of a PUT that no row reads; default: the common unknown-settings text."""
    passes_options: str | None = None
    """Task settings of a request that no row reads are handed on under this key of ``Ask.options``; default: ignored."""


class Service(Struct, frozen=True, kw_only=True):
    """A provider, or the local engine, as the API knows it.

    ``settings``: rows of service and secret settings. ``check`` sees the draft after the rows were read and may add faults, fill defaults
    and hide values. ``similarity`` gives the default similarity of a dense endpoint. ``input_types`` None: the service has none (a
    client-given value is a 400 with the common text); else those accepted.
    """

    name: str
    title: str
    calls: Mapping[TaskType, Call]
    settings: tuple[Setting, ...] = ()
    aliases: tuple[str, ...] = ()
    listed: bool = True
    auth: Auth | None = None
    fault: Callable[[bytes], Fault] | None = None
    rules: Callable[[Reply, Fault], Rule] | None = None
    check: Callable[[Draft], None] | None = None
    checked_update: Callable[[Draft, Endpoint], None] | None = None
    """Like ``check``, for ``_update``: the draft holds the merged settings, the endpoint the stored ones."""
    replaces_task_settings: bool = False
    """``_update`` puts the given task settings in place of all stored ones, required keys included; default: merged."""
    not_streamed: Callable[[Endpoint], str] | None = None
    """Text of the 405 for a task that does not stream; default: api.md 8.4."""
    similarity: Callable[[Endpoint], str | None] | str | None = None
    input_types: frozenset[str] | None = None
    truncates: bool = False
    """A 413 (or its like) is answered by cutting the inputs in half and trying again."""
    cuts: bool = True
    """Inputs are cut to the endpoint's ``max_input_tokens``; else that setting is only stored and shown."""
    retries: bool = True
    """The generic retry layer applies (common.md section 4)."""
    group: Callable[[Endpoint], tuple[Any, ...]] | None = None
    """Facts that share one rate limit; default: credentials and model."""
    embedding_batch: int | Callable[[Endpoint], int] | None = None
    verify: bool = True
    """PUT makes one real call (common.md section 9)."""
    shows: Callable[[Endpoint], dict[str, Any]] | None = None
    """service_settings as GET shows them, where it is not simply the shown rows in order."""
    failed: str = "Failed to send {title} {what} request. Cause: {cause}"
    """Text of the 500 that wraps an error of our own while calling this provider."""
    timed_out: Callable[[str, str], Exception] | None = None
    """What a caller gets when the timeout passes, from (endpoint id, timeout as given); default: the 429 of common.md section 3."""
    unavailable: str | None = None
    """Listed, but a PUT answers 400 with this text."""
    tasks: tuple[TaskType, ...] = ()
    """Order of ``task_types`` in ``_services`` where it is not the order of ``calls``."""
    features: Mapping[str, Any] = {}
    defaults: tuple[Endpoint, ...] = ()
    """Endpoints that exist without anybody having created them (api.md section 11)."""
    deprecated_aliases: Mapping[str, str] = {}
    """Warning text for a PUT under an old name."""

    def call(self, task: TaskType) -> Call | None:
        return self.calls.get(task)

    def call_for(self, endpoint: Endpoint) -> Call | None:
        call = self.calls.get(endpoint.task)
        return call if call is None or call.variant is None else call.variant(endpoint)

    @property
    def streaming_tasks(self) -> tuple[TaskType, ...]:
        return tuple(task for task, call in self.calls.items() if call.chunks is not None)


class BadReply(Exception):
    """A 2xx answer that does not hold what it should: retryable, then a 500 with this text."""


def shortened(ask: Ask, share: float) -> Ask:
    """The same question with ``share`` of its present inputs."""
    return replace(ask, cut=ask.cut * share)
