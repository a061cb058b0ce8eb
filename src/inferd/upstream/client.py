"""The one HTTP client: a question to a provider, and what comes of it.

``Upstream.call`` gives a result, ``Upstream.stream`` chunks. Both wait for their turn (rate limit), send, read, retry and cut
as services/common.md sections 3 to 6 say, within the caller's deadline; cancelling the caller ends the provider's call.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec.structs import replace

from inferd.config import Config
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Inputs
from inferd.core.results import ChatAnswer, Completion, Result, Usage, collect
from inferd.core.secrets import Secret
from inferd.core.service import Ask, BadReply, Call, Outgoing, Reply, Send, Service
from inferd.core.tasks import EMBEDDINGS, TaskType
from inferd.errors import InferdError, StatusError, UpstreamError
from inferd.upstream import faults
from inferd.upstream.cuts import flagged, halved, within_token_limit
from inferd.upstream.egress import Egress
from inferd.upstream.errand import Errand, failed, refuse_several, timed_out, unsent
from inferd.upstream.failures import TooLarge, Unreachable, Unsendable, described
from inferd.upstream.limits import Limits
from inferd.upstream.parts import divided, joined, size
from inferd.upstream.streams import UNREADABLE, ChunkStream, unreadable
from inferd.upstream.tokens import ServiceTokens, TokenCache

T = TypeVar("T")

ATTEMPTS = 3
"""In total, the first one included."""
_FIRST_DELAY = 1000
_LONGEST_DELAY = 5000
"""Milliseconds. The bound of the delay before a repeat starts at the first and doubles up to the second."""
_RETRY_FOR = 30.0
"""Seconds since the first attempt began after which no repeat starts, unless the provider itself named the moment."""
_PARTS_AT_ONCE = 4
_MAX_GROUP_KEYS = 10_000
_TOKEN_REPLY_LIMIT = 1 << 20
_LONG_REPLY = 1 << 19
"""Bytes from which an answer is read by a worker thread, so that other requests get their turns meanwhile."""


_NO_AMBIENT = {"AWS_EC2_METADATA_DISABLED": Secret("true")}


class Upstream:
    """Calls to other people's servers. One a process, made anywhere, used on one event loop, ended by ``close``.

    ``sleep(seconds)`` and ``draw(low, high)`` (milliseconds, both ends included) are replaced in tests.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[int, int], int] = random.randint,
    ) -> None:
        config = config or Config()
        self._egress = Egress(config)
        self._limits = Limits(config.outbound.queue_capacity)
        self._tokens = TokenCache(config.environment if config.outbound.ambient_credentials else _NO_AMBIENT)
        self._max_reply = config.outbound.max_response_mb << 20
        self._sleep = sleep
        self._draw = draw
        self._groups: dict[str, tuple[Endpoint, Hashable]] = {}
        self._views: dict[str, ServiceTokens] = {}

    async def call(
        self, service: Service, call: Call, ask: Ask, deadline: float, timeout_text: str
    ) -> Result:
        """The provider's whole answer.

        ``deadline`` in seconds of the running loop's clock; ``timeout_text`` is the timeout as the caller wrote it (``30s``).
        Raises ``UpstreamError`` (refused, unreadable, unreachable), ``StatusError`` (400: the endpoint's or the caller's
        fault), ``Rejected`` (queue full, stopping), ``TimedOut``.
        """
        errand = Errand(service, call, ask.endpoint, deadline)
        try:
            async with asyncio.timeout_at(deadline) as scope:
                return await self._whole(errand, ask)
        except TimeoutError:
            if scope.expired():
                raise timed_out(errand, timeout_text) from None
            raise

    async def stream(
        self, service: Service, call: Call, ask: Ask, deadline: float, timeout_text: str
    ) -> ChunkStream:
        """The provider's chunks as they come; the first one is here when this returns.

        The deadline covers the start; after it each silence is bounded by ``outbound.read_timeout``. Errors until the
        first chunk as in ``call``; later ones are raised by the iterator. ``aclose`` or cancelling ends the call at once.
        """
        errand = Errand(service, call, ask.endpoint, deadline)
        try:
            async with asyncio.timeout_at(deadline) as scope:
                refuse_several(call, ask)
                await self._turn(errand)
                _, stream = await self._attempts(errand, replace(ask, stream=True), self._begin)
                return stream
        except TimeoutError:
            if scope.expired():
                raise timed_out(errand, timeout_text) from None
            raise

    def pool(self) -> dict[str, int]:
        """Numbers of connections, for diagnostics."""
        return self._egress.pool()

    async def close(self) -> None:
        """Refuse everybody in the queues, end token fetches, close every connection."""
        self._limits.close()
        await self._tokens.close()
        await self._egress.close()

    # One request

    async def _whole(self, errand: Errand, ask: Ask) -> Result:
        refuse_several(errand.call, ask)
        limit = errand.call.max_inputs
        if limit is not None:
            most = limit if isinstance(limit, int) else limit(ask)
            if size(ask.inputs) > most:
                return await self._divided(errand, ask, most)
        return await self._one(errand, ask)

    async def _one(self, errand: Errand, ask: Ask) -> Result:
        await self._turn(errand)
        streamed = errand.call.stream_only or errand.call.reply is None
        attempt = self._collected if streamed else self._exchange
        fitting = within_token_limit(ask) if errand.service.cuts else ask
        sent, result = await self._attempts(errand, fitting, attempt)
        return result if sent.inputs is ask.inputs else flagged(result, ask.inputs, sent.inputs)

    async def _divided(self, errand: Errand, ask: Ask, most: int) -> Result:
        """More inputs than the provider takes at once: several requests, one answer in order."""
        places = asyncio.Semaphore(_PARTS_AT_ONCE)
        total = size(ask.inputs)

        async def part(start: int, inputs: Inputs) -> Result:
            async with places:
                try:
                    return await self._one(errand, replace(ask, inputs=inputs))
                except InferdError as failure:
                    failure.reason += f" (inputs [{start}] to [{start + size(inputs) - 1}] of [{total}])"
                    raise

        tasks = [asyncio.ensure_future(part(start, inputs)) for start, inputs in divided(ask.inputs, most)]
        try:
            return joined(ask, await asyncio.gather(*tasks), most)
        except BadReply as bad:
            failure = failed(errand, str(bad))
            raise failure from failure.__cause__
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _turn(self, errand: Errand) -> None:
        """Wait until the rate limit lets this request go."""
        rate = errand.endpoint.settings.get("rate_limit")
        if rate is not None:
            group = self._group(errand.service, errand.endpoint)
            await self._limits.enter(group, rate["requests_per_minute"], errand.endpoint.id)

    def _group(self, service: Service, endpoint: Endpoint) -> Hashable:
        known = self._groups.get(endpoint.id)
        if known is not None and known[0] is endpoint:
            return known[1]
        if len(self._groups) >= _MAX_GROUP_KEYS:
            self._groups.clear()
        group = rate_group(service, endpoint)
        self._groups[endpoint.id] = (endpoint, group)
        return group

    # Attempts

    async def _attempts(
        self, errand: Errand, ask: Ask, attempt: Callable[[Errand, Ask], Awaitable[T]]
    ) -> tuple[Ask, T]:
        """The ask as it was sent in the end, and what came of it (common.md section 4)."""
        clock = asyncio.get_running_loop().time
        began = clock()
        earlier: list[UpstreamError] = []
        bound = _FIRST_DELAY
        while True:
            try:
                return ask, await attempt(errand, ask)
            except UpstreamError as failure:
                failure.suppressed = tuple(reversed(earlier))
                cut = failure.truncate and errand.service.truncates and errand.endpoint.task in EMBEDDINGS
                if (
                    not (failure.retryable or cut)
                    or not errand.service.retries
                    or len(earlier) + 1 == ATTEMPTS
                ):
                    raise
                wait = self._wait(failure, bound)
                if not _in_time(failure, clock() + wait, began, errand):
                    raise
                earlier.append(failure)
            await self._sleep(wait)
            bound = min(2 * bound, _LONGEST_DELAY)
            if cut:
                ask = halved(ask)

    def _wait(self, failure: UpstreamError, bound: int) -> float:
        """Seconds before the next attempt: from the upper half of the bound, or what the provider asks if it is more."""
        return max(self._draw(bound // 2 + 1, bound) / 1000, _asked(failure))

    async def _exchange(self, errand: Errand, ask: Ask) -> Result:
        outgoing, shown = await self._prepared(errand, ask)
        try:
            reply = await self._send(outgoing, self._max_reply, errand.deadline)
        except (Unreachable, Unsendable, TooLarge) as why:
            failure = unsent(errand, why, shown)
            raise failure from failure.__cause__
        self._check(errand, outgoing, reply, shown)
        read = errand.call.reply
        assert read is not None
        if not reply.body:
            raise failed(
                errand, f"Response body was empty for request from inference entity id [{errand.endpoint.id}]"
            )
        try:
            if len(reply.body) < _LONG_REPLY:
                return read(ask, reply)
            return await asyncio.to_thread(read, ask, reply)
        except UNREADABLE as bad:
            failure = failed(errand, unreadable(bad), retryable=True)
            raise failure from failure.__cause__

    async def _begin(self, errand: Errand, ask: Ask) -> ChunkStream:
        outgoing, shown = await self._prepared(errand, ask)
        try:
            response = await self._open(outgoing)
            try:
                if not 200 <= response.status < 300:
                    self._check(errand, outgoing, await _whole_reply(response, self._max_reply), shown)
                stream = ChunkStream(response, errand, ask)
                await stream.prime()
            except BaseException:
                response.close()
                raise
        except (Unreachable, Unsendable, TooLarge) as why:
            failure = unsent(errand, why, shown)
            raise failure from failure.__cause__
        return stream

    async def _collected(self, errand: Errand, ask: Ask) -> Result:
        """A whole answer from a provider that only streams."""
        chunks = []
        async with await self._begin(errand, replace(ask, stream=True)) as stream:
            async for chunk in stream:
                chunks.append(chunk)
                if stream.received > self._max_reply:
                    raise unsent(errand, _too_large(self._max_reply), "")
        answer = collect(chunks)
        return answer if errand.endpoint.task is TaskType.CHAT_COMPLETION else _as_completion(answer)

    def _check(self, errand: Errand, outgoing: Outgoing, reply: Reply, shown: str) -> None:
        if 200 <= reply.status < 300:
            return
        if reply.status in (401, 403):
            self._tokens.refused(outgoing)
        raise faults.refused(errand.service, errand.call, errand.endpoint, reply, shown)

    async def _prepared(self, errand: Errand, ask: Ask) -> tuple[Outgoing, str]:
        """The request with its credentials, and its address as messages may show it."""
        service, call, endpoint, _ = errand
        assert call.post is not None
        url = self._egress.place(
            service.name, endpoint, call.post if isinstance(call.post, str) else call.post(ask)
        )
        headers = {"Content-Type": "application/json"}
        if call.headers is not None:
            _merge(headers, call.headers(ask))
        try:
            outgoing = Outgoing(url=url, body=_encoded(call, ask), headers=headers)
            if service.auth is not None:
                outgoing = await service.auth(ask, outgoing, self._view(service.name))
        except (Unreachable, Unsendable, TooLarge) as why:
            failure = unsent(errand, why, url)
            raise failure from failure.__cause__
        return outgoing, url

    # HTTP

    def _view(self, service: str) -> ServiceTokens:
        view = self._views.get(service)
        if view is None:
            view = self._views[service] = ServiceTokens(self._tokens, service, self._token_sender(service))
        return view

    def _token_sender(self, service: str) -> Send:
        async def send(outgoing: Outgoing) -> Reply:
            outgoing.url = self._egress.token_place(service, outgoing.url)
            return await self._send(outgoing, _TOKEN_REPLY_LIMIT)

        return send

    async def _send(self, outgoing: Outgoing, limit: int, deadline: float | None = None) -> Reply:
        return await _whole_reply(await self._open(outgoing, deadline), limit)

    async def _open(self, outgoing: Outgoing, deadline: float | None = None) -> aiohttp.ClientResponse:
        """Send; the answer's head is here, its body is not. ``deadline``: when the caller gives the whole answer up."""
        url, session, proxy = self._egress.route(outgoing.url, outgoing.exempt)
        try:
            return await session.request(
                outgoing.method,
                url,
                data=outgoing.body or None,
                headers=outgoing.headers,
                allow_redirects=False,
                proxy=proxy,
                timeout=self._egress.patience(deadline),
            )
        except (aiohttp.ClientError, OSError) as failure:
            raise described(failure) from None
        except (ValueError, TypeError):
            raise Unsendable("A header is not valid") from None


def rate_group(service: Service, endpoint: Endpoint) -> Hashable:
    """Whoever is equal in this shares one rate limit: account, model, rate and task (common.md section 3)."""
    if service.group is not None:
        facts: tuple[Any, ...] = service.group(endpoint)
    else:
        facts = (endpoint.secrets, endpoint.settings.get("model_id"), endpoint.settings.get("url"))
    return (service.name, endpoint.task, _frozen(endpoint.settings.get("rate_limit")), _frozen(facts))


def _frozen(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return frozenset((key, _frozen(member)) for key, member in value.items())
    if isinstance(value, list | tuple):
        return tuple(_frozen(member) for member in value)
    return value if isinstance(value, Hashable) else repr(value)


def _asked(failure: UpstreamError) -> float:
    """Seconds that the provider asks to wait."""
    return failure.retry_after or 0.0 if failure.upstream_status in (429, 503) else 0.0


def _in_time(failure: UpstreamError, start: float, began: float, errand: Errand) -> bool:
    if start >= errand.deadline:
        return False
    return start - began <= _RETRY_FOR or _asked(failure) > 0


def _encoded(call: Call, ask: Ask) -> bytes:
    body = call.body(ask) if call.body is not None else b""
    if isinstance(body, bytes):
        return body
    try:
        return msgspec.json.encode(body)
    except UnicodeError:
        raise Unsendable("The request holds text that is not valid Unicode") from None


_CONNECTION_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What says where a request ends. Requests of all users share connections, so nobody may set these himself."""
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def _merge(headers: dict[str, str], more: Mapping[str, str]) -> None:
    """Set each header in place of one with the same name in any letter case; 400 for one that is not to be set."""
    for name, value in more.items():
        if not _HEADER_NAME.fullmatch(name):
            raise StatusError(400, f"[{name}] is not a valid header name")
        if name.lower() in _CONNECTION_HEADERS:
            raise StatusError(400, f"The header [{name}] belongs to the connection and can not be set")
        for present in [present for present in headers if present.lower() == name.lower()]:
            del headers[present]
        headers[name] = value


async def _whole_reply(response: aiohttp.ClientResponse, limit: int) -> Reply:
    try:
        body = await _body(response, limit)
    except (aiohttp.ClientError, OSError) as failure:
        response.close()
        raise described(failure) from None
    except BaseException:
        response.close()
        raise
    return Reply(status=response.status, headers=response.headers, body=body, reason=response.reason)


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    length = response.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    if length is not None and "Content-Encoding" not in response.headers:
        return await response.read()
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The response is larger than the limit of [{limit >> 20}mb]")


def _as_completion(answer: ChatAnswer) -> Completion:
    texts = tuple(choice.delta.content or "" for choice in answer.choices) or ("",)
    told = answer.usage
    if told is None:
        return Completion(texts=texts)
    usage = Usage(
        given=told.prompt_tokens,
        used=told.prompt_tokens,
        output=told.completion_tokens,
        cached=told.cached_tokens,
        reasoning=told.reasoning_tokens,
    )
    return Completion(texts=texts, usage=usage)
