"""A service test is a class of values. What every service has to withstand is written here, once.

    class TestOpenai(ServiceTest):
        service = SERVICE
        cases = (Case(task=TaskType.TEXT_EMBEDDING, service_settings={...}, inputs=Texts(("how big",)), ...),)
        bad = (Bad(TaskType.COMPLETION, {"model_id": "m"}, reason="[secret_settings] does not contain ..."),)
        refusals = (Refusal(TaskType.COMPLETION, 400, {"error": {"message": "no"}}, reason="Received a bad request ..."),)
        changes = (Change(TaskType.COMPLETION, {...}, service_settings={"rate_limit": ...}, shown={...}),)

In settings ``{fake}`` stands for the address of the fake provider; a service with a default address is sent there by
``services.<name>.base_url``. Numbers of vectors are best written as binary fractions, which float32 keeps.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec import Struct

from inferd.actions import get, put, update
from inferd.actions import infer as infer_action
from inferd.actions.house import Deadline, House
from inferd.api.elastic import render
from inferd.config import Config, Outbound
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import Contents, Inputs, Item, Texts
from inferd.core.results import Chunk, Result
from inferd.core.service import Ask, Call, Event, Framing, Reply, Service
from inferd.core.tasks import EMBEDDINGS, TaskType
from inferd.errors import InferdError, TimedOut, UpstreamError
from inferd.testing import FakeUpstream, Received, event_bytes
from inferd.upstream.client import Upstream
from inferd.upstream.faults import mapped, secrets_of
from inferd.upstream.framing import framer
from inferd.upstream.parts import size
from inferd.upstream.streams import UNREADABLE

ID = "my-endpoint"
_PATIENCE = 20.0
"""Seconds that a call which should succeed, or fail by itself, may take on a slow machine."""
_SHORT = 0.05
"""Seconds until a call that nobody answers gives up."""
_TRANSPORT_HEADERS = {"host", "content-length", "user-agent"}


class Case(Struct, frozen=True, kw_only=True):
    """One endpoint, one question to it, and everything that follows.

    ``options`` are the request's ``task_settings``. ``request`` is the JSON body sent, ``path`` and ``query`` as on the wire, ``headers``
    all of them in lower case but Host, Content-Length, User-Agent and a Content-Type of ``application/json``; ``unittest.mock.ANY`` stands
    for what is not known before. ``reply`` is the provider's answer (JSON or bytes), ``answer`` ours. ``shown`` and ``shown_task`` are what GET
    says after a PUT, members in order. ``stream`` are the provider's events (see ``testing.event_bytes``) or their bytes, ``stream_request``
    the body that asks for them, ``chunks`` the JSON of our events. ``others`` are answers of the paths that tokens come from.
    """

    task: TaskType
    service_settings: dict[str, Any]
    inputs: Inputs
    task_settings: dict[str, Any] = {}
    options: dict[str, Any] = {}
    method: str = "POST"
    path: str
    query: str = ""
    headers: Mapping[str, Any]
    request: Any = None
    reply: Any = None
    reply_headers: Mapping[str, str] = {}
    answer: Any = None
    shown: dict[str, Any] | None = None
    shown_task: dict[str, Any] = {}
    stream: tuple[Any, ...] | bytes | None = None
    stream_path: str | None = None
    stream_request: Any = None
    chunks: list[Any] = []
    others: Mapping[str, Any] = {}
    environment: Mapping[str, str] = {}

    @property
    def stream_bytes(self) -> bytes:
        assert self.stream is not None
        return self.stream if isinstance(self.stream, bytes) else b"".join(map(event_bytes, self.stream))


class Bad(Struct, frozen=True):
    """A PUT that is refused. A ``validation_exception`` is written without its ``Validation Failed`` frame: the faults."""

    task: TaskType
    service_settings: Any
    task_settings: Any = None
    reason: str | None = None
    faults: tuple[str, ...] = ()
    status: int = 400
    type: str | None = None


class Change(Struct, frozen=True, kw_only=True):
    """An ``_update`` of the endpoint that ``stored`` (and ``stored_task``) describe: what GET says then, or why it is refused."""

    task: TaskType
    stored: dict[str, Any]
    stored_task: dict[str, Any] = {}
    service_settings: dict[str, Any] = {}
    task_settings: dict[str, Any] = {}
    shown: dict[str, Any] | None = None
    shown_task: dict[str, Any] | None = None
    secrets: dict[str, str | None] | None = None
    faults: tuple[str, ...] = ()
    reason: str | None = None


class Refusal(Struct, frozen=True, kw_only=True):
    """A provider's answer that is not a success, and the error it becomes; ``{url}`` in the reason is the address called."""

    task: TaskType
    status: int
    body: Any = b""
    headers: Mapping[str, str] = {}
    reason: str
    becomes: int | None = None
    attempts: int = 1
    code: str | None = None
    kind: str | None = None
    param: str | None = None


class Broken(Struct, frozen=True):
    """A 200 that does not hold what it should, and a part of what the error says about it."""

    task: TaskType
    body: bytes
    cause: str


class SettingsTest:
    """What PUT, GET and ``_update`` make of settings; all that a service without a provider needs."""

    service: ClassVar[Service]
    cases: ClassVar[tuple[Case, ...]] = ()
    bad: ClassVar[tuple[Bad, ...]] = ()
    changes: ClassVar[tuple[Change, ...]] = ()
    refusals: ClassVar[tuple[Refusal, ...]] = ()
    replies: ClassVar[tuple[Broken, ...]] = ()

    @classmethod
    def rows(cls, name: str) -> tuple[Any, ...]:
        whole = tuple(case for case in cls.cases if case.reply is not None)
        streamed = tuple(case for case in cls.cases if case.stream is not None)
        return {
            "case": cls.cases,
            "whole": whole,
            "streamed": streamed,
            "stored": tuple(case for case in cls.cases if case.shown is not None),
            "bad": cls.bad,
            "change": cls.changes,
            "refusal": cls.refusals,
            "broken": cls.replies,
        }[name]

    def endpoint(
        self, task: TaskType, service_settings: Any, task_settings: Any = None, url: str = "http://fake.test"
    ) -> Endpoint:
        """The endpoint that a PUT of these settings stores, before its trial call."""
        call = self.service.call(task)
        assert call is not None
        body: dict[str, Any] = {"service_settings": placed(service_settings, url)}
        if task_settings is not None:
            body["task_settings"] = placed(task_settings, url)
        return put.read_endpoint(self.service, call, ID, task, body)

    def call(self, endpoint: Endpoint) -> Call:
        found = self.service.call_for(endpoint)
        assert found is not None
        return found

    def house(self, upstream: Upstream | None = None) -> House:
        return house_of({self.service.name: self.service}, upstream=upstream)

    def seen(self, endpoint: Endpoint) -> dict[str, Any]:
        """The endpoint as GET shows it."""
        return render.endpoint_object(endpoint, get.shown_settings(self.house(), endpoint))

    def test_refused_settings(self, bad: Bad) -> None:
        """Settings that break a rule are refused in the contract's words."""
        with pytest.raises(InferdError) as caught:
            self.endpoint(bad.task, bad.service_settings, bad.task_settings)
        assert_refused(caught.value, bad.reason, bad.faults)
        assert caught.value.status == bad.status
        assert bad.type is None or caught.value.type == bad.type

    def test_changed_settings(self, change: Change) -> None:
        """An _update lays what may change over what is stored, and refuses the rest."""
        stored = self.endpoint(change.task, change.stored, change.stored_task)
        call = self.service.call(change.task)
        assert call is not None

        def merge() -> Endpoint:
            return update.merge(
                self.service, call, stored, dict(change.service_settings), dict(change.task_settings)
            )

        if change.faults or change.reason:
            with pytest.raises(InferdError) as caught:
                merge()
            assert_refused(caught.value, change.reason, change.faults)
            return
        merged = merge()
        seen = self.seen(merged)
        if change.shown is not None:
            assert seen["service_settings"] == placed(change.shown, "http://fake.test")
        if change.shown_task is not None:
            assert seen.get("task_settings", {}) == change.shown_task
        for key, value in (change.secrets or {}).items():
            assert merged.secret(key) == value

    def test_hostile_settings(self, case: Case) -> None:
        """Whatever a setting holds, a PUT is read or refused by name; no secret is quoted."""
        call = self.service.call(case.task)
        assert call is not None
        stored = self.endpoint(case.task, case.service_settings, case.task_settings)
        secrets = list(secrets_of(stored.secrets))
        for key in {row.key.partition(".")[0] for row in self.service.settings}:
            for value in HOSTILE:
                outcome = self.outcome(case.task, {**case.service_settings, key: value}, case.task_settings)
                assert_secret_free(outcome, secrets)
        for key in {row.key.partition(".")[0] for row in call.options}:
            for value in HOSTILE:
                outcome = self.outcome(case.task, case.service_settings, {**case.task_settings, key: value})
                assert_secret_free(outcome, secrets)

    def outcome(self, task: TaskType, service_settings: Any, task_settings: Any) -> Any:
        """What GET shows after a PUT, or the refusal of the PUT."""
        try:
            return self.seen(self.endpoint(task, service_settings, task_settings))
        except InferdError as refused:
            status = refused.status
            error = refused
        assert 400 <= status < 500
        return error

    def test_unknown_settings(self, case: Case) -> None:
        """A member that nobody reads is named, and a misplaced secret in it is not quoted."""
        text = (
            f"Configuration contains settings [{{nonsense=1}}] unknown to the [{self.service.name}] service"
        )
        with pytest.raises(InferdError) as caught:
            self.endpoint(case.task, {**case.service_settings, "nonsense": 1})
        assert (caught.value.status, caught.value.reason) == (400, text)
        with pytest.raises(InferdError) as caught:
            self.endpoint(case.task, case.service_settings, {"nonsense": 1})
        assert (caught.value.status, caught.value.reason) == (400, text)
        with pytest.raises(InferdError) as caught:
            self.endpoint(case.task, case.service_settings, {"my_api_key": "sk-misplaced"})
        assert "sk-misplaced" not in caught.value.reason

    def test_service_settings_required(self, case: Case) -> None:
        """Without service_settings nothing is read."""
        call = self.service.call(case.task)
        assert call is not None
        with pytest.raises(InferdError) as caught:
            put.read_endpoint(self.service, call, ID, case.task, {})
        assert caught.value.reason == "Missing required field [service_settings]"


def house_of(services: Mapping[str, Service], **parts: Any) -> House:
    """A house of these services, with nothing in it that a test does not name."""
    nothing = dict.fromkeys(House.__struct_fields__)
    return House(**{**nothing, "config": Config(), "services": services, **parts})


HOSTILE: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**70, 1.5, "", " ", "\x00", "\ud800", "x" * 10_000, "http://[", "file:///etc/passwd",
    "a\r\nX: y", [], [1], ["a", None], {}, {"a": 1}, {"a": "b"}, {"a": {"b": None}}, {"requests_per_minute": -1},
)  # fmt: skip


class ServiceTest(SettingsTest):
    """One provider. ``retried``: the statuses that are worth another attempt, by its document."""

    retried: ClassVar[frozenset[int]] = frozenset({429, 500, 503})
    retried_by_task: ClassVar[Mapping[TaskType, frozenset[int]]] = {}
    statuses: ClassVar[Mapping[int, int]] = {}
    """Where a status does not become what common.md section 5 says."""
    refusal_texts: ClassVar[bool] = True
    """Reasons of refusals name the endpoint and the status in the common form."""
    late: ClassVar[int] = 429
    """Status of a timeout."""

    def error_body(self, task: TaskType, message: str) -> bytes:
        """The provider's way of saying ``message``."""
        return msgspec.json.encode({"error": {"message": message, "type": "some_error"}})

    # Asking

    def of(self, case: Case, fake: FakeUpstream) -> Endpoint:
        return self.endpoint(case.task, case.service_settings, case.task_settings, fake.url)

    def client(self, case: Case, fake: FakeUpstream, **outbound: Any) -> Upstream:
        """One client for the calls of a test."""
        for path, other in case.others.items():
            fake.answer(json=other, path=path)
        kept: dict[Any, Upstream] = self.__dict__.setdefault("kept", {})
        key = (tuple(outbound.items()), tuple(case.environment.items()))
        if key not in kept:
            kept[key] = fake.client(
                self.service.name,
                outbound=Outbound(**{"max_response_mb": 1, **outbound}),
                environment=case.environment,
            )
        return kept[key]

    def question(self, case: Case, endpoint: Endpoint, inputs: Inputs | None = None) -> Ask:
        """The case's question. The endpoint has no rate limit, so that the calls of a test need not wait for their turn."""
        options = infer_action.options(self.service, self.call(endpoint), endpoint, dict(case.options))
        settings = {key: value for key, value in endpoint.settings.items() if key != "rate_limit"}
        unlimited = msgspec.structs.replace(endpoint, settings=settings)
        return Ask(endpoint=unlimited, inputs=inputs or case.inputs, options=options)

    async def ask(
        self,
        case: Case,
        fake: FakeUpstream,
        *,
        seconds: float = _PATIENCE,
        inputs: Inputs | None = None,
        **outbound: Any,
    ) -> Result:
        question = self.question(case, self.of(case, fake), inputs)
        call = self.call(question.endpoint)
        deadline = asyncio.get_running_loop().time() + seconds
        return await self.client(case, fake, **outbound).call(
            self.service, call, question, deadline, f"{seconds:g}s"
        )

    async def chunks(
        self, case: Case, fake: FakeUpstream, *, seconds: float = _PATIENCE, **outbound: Any
    ) -> list[Chunk]:
        question = self.question(case, self.of(case, fake))
        call = self.call(question.endpoint)
        deadline = asyncio.get_running_loop().time() + seconds
        client = self.client(case, fake, **outbound)
        stream = await client.stream(self.service, call, question, deadline, f"{seconds:g}s")
        return [chunk async for chunk in stream]

    async def refused(self, case: Case, fake: FakeUpstream, **ask: Any) -> InferdError:
        """The error of a call that must fail; no secret of the endpoint is anywhere in it."""
        with pytest.raises(InferdError) as caught:
            await self.ask(case, fake, **ask)
        assert_secret_free(caught.value, secrets_of(self.of(case, fake).secrets))
        return caught.value

    async def refused_stream(self, case: Case, fake: FakeUpstream, **ask: Any) -> InferdError:
        with pytest.raises(InferdError) as caught:
            await self.chunks(case, fake, **ask)
        assert_secret_free(caught.value, secrets_of(self.of(case, fake).secrets))
        return caught.value

    def asked(self, case: Case, fake: FakeUpstream) -> list[Received]:
        """The requests that were not for a token."""
        return [request for request in fake.requests if request.path not in case.others]

    def answer(self, case: Case, fake: FakeUpstream, *, inputs: int | None = None) -> None:
        """The provider's good answer, or what it would be for the first ``inputs`` inputs."""
        if isinstance(case.reply, bytes):
            fake.answer(body=case.reply, headers=case.reply_headers)
        else:
            reply = case.reply if inputs is None else cut_to(inputs, size(case.inputs), case.reply)
            fake.answer(json=reply, headers=case.reply_headers)

    def answer_stream(self, case: Case, fake: FakeUpstream, **more: Any) -> None:
        fake.answer(chunks=(case.stream_bytes,), headers={"Content-Type": "text/event-stream"}, **more)

    def streaming(self, case: Case) -> Case:
        """This case, or the first whose stream its endpoint reads."""
        chunks = self.call(self.endpoint(case.task, case.service_settings, case.task_settings)).chunks
        return next(
            other
            for other in (case, *self.cases)
            if other.stream is not None
            and other.task is case.task
            and self.call(self.endpoint(other.task, other.service_settings, other.task_settings)).chunks
            is chunks
        )

    def attempts(self, status: int, task: TaskType) -> int:
        retried = self.retried_by_task.get(task, self.retried)
        return 3 if self.service.retries and status in retried else 1

    @property
    def unreadable_attempts(self) -> int:
        return 3 if self.service.retries else 1

    # What is asked, what comes of it

    async def test_request(self, whole: Case, fake: FakeUpstream) -> None:
        """The request that leaves is the documented one, to the letter."""
        self.answer(whole, fake)
        await self.ask(whole, fake)
        assert len(self.asked(whole, fake)) == 1
        assert_request(self.asked(whole, fake)[0], whole, whole.path, whole.request, fake)

    async def test_reply(self, whole: Case, fake: FakeUpstream) -> None:
        """The provider's answer is Elasticsearch's JSON."""
        self.answer(whole, fake)
        result = await self.ask(whole, fake)
        assert msgspec.json.decode(render.result_json(result, whole.task, ID)) == whole.answer

    async def test_get_after_put(self, stored: Case, fake: FakeUpstream) -> None:
        """A PUT makes one trial call, for a chat the start of a stream; GET then shows every setting but the secret ones."""
        if stored.task is TaskType.CHAT_COMPLETION:
            self.answer_stream(self.streaming(stored), fake, hang=True)
        else:
            self.answer(stored, fake, inputs=1)
        kept = await put.verify(
            self.house(self.client(stored, fake)),
            self.service,
            self.of(stored, fake),
            Deadline.after(_PATIENCE),
        )
        assert len(self.asked(stored, fake)) == (1 if self.service.verify else 0)
        seen = self.seen(kept)
        assert list(seen["service_settings"].items()) == list(placed(stored.shown, fake.url).items())
        assert seen.get("task_settings", {}) == placed(stored.shown_task, fake.url)
        assert ("chunking_settings" in seen) is (stored.task in EMBEDDINGS)
        assert_secret_free(seen, secrets_of(kept.secrets))

    # What is refused

    async def test_refusal(self, refusal: Refusal, fake: FakeUpstream) -> None:
        """A provider's refusal becomes the documented error."""
        case = next(case for case in self.cases if case.task is refusal.task and case.reply is not None)
        body = refusal.body if isinstance(refusal.body, bytes) else msgspec.json.encode(refusal.body)
        fake.answer(status=refusal.status, body=body, headers=refusal.headers)
        error = await self.refused(case, fake)
        url = f"{fake.url}{self.asked(case, fake)[0].target}"
        assert error.reason == refusal.reason.replace("{url}", url)
        assert error.status == (refusal.becomes or mapped(refusal.status))
        assert len(self.asked(case, fake)) == refusal.attempts
        assert isinstance(error, UpstreamError)
        if refusal.kind is not None:
            assert (error.kind, error.code, error.param) == (refusal.kind, refusal.code, refusal.param)

    async def test_broken_reply(self, broken: Broken, fake: FakeUpstream) -> None:
        """An answer without what it must hold is an error that says what is missing."""
        case = next(case for case in self.cases if case.task is broken.task and case.reply is not None)
        fake.answer(body=broken.body)
        error = await self.refused(case, fake)
        assert broken.cause in error.reason
        assert len(self.asked(case, fake)) == self.unreadable_attempts

    async def test_statuses(self, whole: Case, fake: FakeUpstream) -> None:
        """Each status becomes ours, is tried again where that is worth it, and names the endpoint."""
        for status in (400, 401, 403, 404, 405, 409, 422, 429, 500, 502, 503, 529):
            fake.forget()
            fake.answer(status=status, body=self.error_body(whole.task, "no such luck"))
            error = await self.refused(whole, fake)
            assert error.status == self.statuses.get(status, mapped(status))
            if self.refusal_texts:
                assert f"inference entity id [{ID}] status [{status}]. Error message: [" in error.reason
                assert "no such luck" in error.reason
            assert len(self.asked(whole, fake)) == self.attempts(status, whole.task)
            assert len(error.suppressed) == self.attempts(status, whole.task) - 1

    async def test_another_attempt(self, whole: Case, fake: FakeUpstream) -> None:
        """An answer on the second attempt is an answer; the wait before it is the first bound."""
        status = next(iter(sorted(self.retried_by_task.get(whole.task, self.retried))), None)
        if status is None or not self.service.retries:
            pytest.skip("nothing is tried again")
        fake.answer(status=status, body=self.error_body(whole.task, "busy"))
        self.answer(whole, fake)
        result = await self.ask(whole, fake)
        assert msgspec.json.decode(render.result_json(result, whole.task, ID)) == whole.answer
        assert fake.waits == [1.0]

    async def test_too_large(self, whole: Case, fake: FakeUpstream) -> None:
        """A 413 is answered with half the text where the service cuts, and is an error where it does not."""
        fake.answer(status=413, body=self.error_body(whole.task, "too large"))
        cuts = self.service.truncates and whole.task in EMBEDDINGS
        error = await self.refused(whole, fake, inputs=long_text(whole.inputs))
        assert error.status == self.statuses.get(413, 413)
        sent = [request.body for request in self.asked(whole, fake)]
        assert len(sent) == (3 if cuts else self.attempts(413, whole.task))
        if cuts:
            assert [b"abcdefgh" in body for body in sent] == [True, False, False]
            assert [b"abcd" in body for body in sent] == [True, True, False]
            assert [b"ab" in body for body in sent] == [True, True, True]

    async def test_garbage(self, whole: Case, fake: FakeUpstream) -> None:
        """A 200 that holds something else is tried again, then is an error."""
        for body in (
            b"<html>",
            b"null",
            b"5",
            b'"text"',
            b"{}",
            b"\xff\xfe\x00",
            b"[" * 10_000,
            b'{"a":' * 5_000,
        ):
            fake.forget()
            fake.answer(body=body)
            error = await self.refused(whole, fake)
            assert error.status >= 400
            assert len(self.asked(whole, fake)) == self.unreadable_attempts

    async def test_truncated_json(self, whole: Case, fake: FakeUpstream) -> None:
        """An answer that ends too early is an error wherever it ends."""
        body = whole.reply if isinstance(whole.reply, bytes) else msgspec.json.encode(whole.reply)
        for end in {1, len(body) // 3, len(body) // 2, len(body) - 1}:
            fake.forget()
            fake.answer(body=body[:end])
            error = await self.refused(whole, fake)
            assert error.status >= 400
            assert len(self.asked(whole, fake)) == self.unreadable_attempts

    def test_mangled_members(self, whole: Case) -> None:
        """Whatever stands in place of a member of the answer, there is a result or an error of ours."""
        question = self.question(
            whole, self.endpoint(whole.task, whole.service_settings, whole.task_settings)
        )
        read = self.call(question.endpoint).reply
        if read is None or isinstance(whole.reply, bytes):
            pytest.skip("no whole JSON answer")
        for mangled in mangle(whole.reply):
            reply = Reply(status=200, headers={}, body=msgspec.json.encode(mangled))
            with contextlib.suppress(InferdError, *UNREADABLE):
                render.result_json(read(question, reply), whole.task, ID)

    async def test_empty_answer(self, whole: Case, fake: FakeUpstream) -> None:
        """A 200 without a body is an error, and not tried again."""
        fake.answer(body=b"")
        error = await self.refused(whole, fake)
        assert error.status >= 400
        assert len(self.asked(whole, fake)) == 1
        if self.refusal_texts:
            assert error.status == 500
            assert f"Response body was empty for request from inference entity id [{ID}]" in error.reason

    async def test_redirect(self, whole: Case, fake: FakeUpstream) -> None:
        """A redirect is not followed."""
        fake.answer(status=302, headers={"Location": f"{fake.url}/elsewhere"})
        error = await self.refused(whole, fake)
        assert error.status == self.statuses.get(302, 302)
        assert len(self.asked(whole, fake)) == 1
        if self.refusal_texts:
            assert error.reason.startswith("Unhandled redirection for request from inference entity id")

    async def test_silence(self, fake: FakeUpstream) -> None:
        """A provider that says nothing costs the timeout and no more, and is left."""
        case = next(iter(self.rows("whole") or self.cases))
        fake.answer(hang=True, delay=3600.0)
        began = time.monotonic()
        error = await self.refused(case, fake, seconds=_SHORT)
        assert time.monotonic() - began < 5
        assert error.status == self.late
        if self.service.timed_out is None:
            assert isinstance(error, TimedOut)
            assert error.reason == f"Request timed out after [{_SHORT:g}s] for inference id [{ID}]"

    async def test_slow_drip(self, fake: FakeUpstream) -> None:
        """An answer that drips in is waited for until the timeout."""
        case = next(iter(self.rows("whole") or self.cases))
        fake.answer(chunks=(b" ",) * 1000, pause=0.01)
        error = await self.refused(case, fake, seconds=_SHORT)
        assert error.status == self.late

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_huge_body(self, fake: FakeUpstream, chunked: bool) -> None:
        """An answer above the limit is not read to its end, whether it says its size or not."""
        case = next(iter(self.rows("whole") or self.cases))
        if chunked:
            fake.answer(chunks=(b" " * 262_144,) * 64, pause=0.0001)
        else:
            fake.answer(headers={"Content-Length": str(2**40)}, body=b" " * 1024, hang=True)
        error = await self.refused(case, fake)
        assert error.status >= 400
        assert len(self.asked(case, fake)) == 1

    async def test_broken_connection(self, whole: Case, fake: FakeUpstream) -> None:
        """An answer whose connection breaks is asked for again, then is an error."""
        fake.answer(headers={"Content-Length": "1000"}, body=b'{"data": [' * 10, cut=50)
        error = await self.refused(whole, fake)
        assert error.status >= 400
        assert len(self.asked(whole, fake)) == self.unreadable_attempts

    async def test_leaked_secret(self, whole: Case, fake: FakeUpstream) -> None:
        """A provider that quotes the credentials it refuses does not make us repeat them."""
        for secret in secrets_of(self.of(whole, fake).secrets):
            for status, body in (
                (401, self.error_body(whole.task, f"Incorrect key provided: {secret}.")),
                (500, f"key {secret}".encode()),
                (200, msgspec.json.encode({"unexpected": secret, secret: 1})),
                (200, msgspec.json.encode([secret])),
            ):
                fake.forget()
                fake.answer(status=status, body=body)
                await self.refused(whole, fake)

    async def test_caller_leaves(self, fake: FakeUpstream) -> None:
        """Cancelling the caller ends the provider's call."""
        case = next(iter(self.rows("whole") or self.cases))
        fake.answer(hang=True, delay=3600.0)
        task = asyncio.create_task(self.ask(case, fake))
        for _ in range(5000):
            if self.asked(case, fake):
                break
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(fake.left.wait(), 5)

    async def test_hostile_text(self, whole: Case, fake: FakeUpstream) -> None:
        """Any text leaves as valid JSON; what is not Unicode is an error of ours."""
        if not isinstance(whole.inputs, Texts):
            pytest.skip("not plain texts")
        for text in ("", "\x00", 'quote " back \\ slash', "\u2028\U0001f600", "\ud800", "x" * 100_000):
            fake.forget()
            self.answer(whole, fake, inputs=1)
            inputs = Texts(texts=(text,), input_type=whole.inputs.input_type)
            status = 200
            try:
                await self.ask(whole, fake, inputs=inputs)
            except InferdError as error:
                status = error.status
            assert status < 500 or text == "\ud800"
            for request in self.asked(whole, fake):
                request.body.decode("utf-8")
                if request.headers["content-type"] == "application/json":
                    assert request.json is not None

    # Streams

    async def test_stream(self, streamed: Case, fake: FakeUpstream) -> None:
        """A stream is asked for in the documented way and its events become Elasticsearch's."""
        self.answer_stream(streamed, fake)
        found = await self.chunks(streamed, fake)
        assert shown(streamed.task, found) == streamed.chunks
        path = streamed.stream_path or streamed.path
        assert_request(self.asked(streamed, fake)[0], streamed, path, streamed.stream_request, fake)

    @staticmethod
    def framed(framing: Framing, *pieces: bytes) -> list[Event]:
        """The events of a stream that arrives in these pieces."""
        frames = framer(framing)
        events = [event for piece in pieces for event in frames.feed(piece)] + frames.end()
        return list(itertools.takewhile(lambda event: not frames.is_last(event), events))

    def test_split_stream(self, streamed: Case) -> None:
        """Where the network cuts a stream into pieces makes no difference."""
        stream = streamed.stream_bytes
        stored = self.endpoint(streamed.task, streamed.service_settings, streamed.task_settings)
        framing = self.call(stored).framing
        whole = self.framed(framing, stream)
        assert len(whole) >= len(streamed.chunks)
        for position in range(1, len(stream)):
            assert self.framed(framing, stream[:position], stream[position:]) == whole
        assert self.framed(framing, *(stream[n : n + 1] for n in range(len(stream)))) == whole

    async def test_dripping_stream(self, streamed: Case, fake: FakeUpstream) -> None:
        """A stream that comes byte by byte has the same chunks."""
        stream = streamed.stream_bytes
        singles = tuple(stream[n : n + 1] for n in range(len(stream)))
        fake.answer(chunks=singles, headers={"Content-Type": "text/event-stream"})
        assert shown(streamed.task, await self.chunks(streamed, fake)) == streamed.chunks

    async def test_broken_stream(self, streamed: Case, fake: FakeUpstream) -> None:
        """A stream that breaks off ends in an error, never silently."""
        stream = streamed.stream_bytes
        for end in (0, 7, len(stream) // 2, len(stream) * 3 // 4):
            fake.forget()
            self.answer_stream(streamed, fake, cut=end)
            error = await self.refused_stream(streamed, fake)
            assert error.status >= 400

    @pytest.mark.parametrize("status", [401, 429])
    async def test_refused_stream(self, streamed: Case, fake: FakeUpstream, status: int) -> None:
        """A stream that is refused keeps the status."""
        fake.answer(status=status, body=self.error_body(streamed.task, "no such luck"))
        error = await self.refused_stream(streamed, fake)
        assert error.status == self.statuses.get(status, status)
        assert len(self.asked(streamed, fake)) == self.attempts(status, streamed.task)

    async def test_garbage_stream(self, streamed: Case, fake: FakeUpstream) -> None:
        """Events that are not the provider's are an error."""
        sse = ("data: <html>\n\n", "data: [1]\n\n", "data: {}\n\n")
        others = (b"{nonsense\n", b"[1]\n", b"\xff\xfe\xff\xff" * 8)
        for event in sse if self.call(self.of(streamed, fake)).framing is Framing.SSE else others:
            fake.forget()
            fake.answer(sse=[event])
            error = await self.refused_stream(streamed, fake)
            assert error.status >= 400

    async def test_error_event(self, streamed: Case, fake: FakeUpstream) -> None:
        """An error event inside a stream is the error of the stream, without the secrets it quotes."""
        call = self.call(self.of(streamed, fake))
        if call.framing is not Framing.SSE:
            pytest.skip("no server-sent events")
        secret = next(secrets_of(self.of(streamed, fake).secrets), "none")
        body = self.error_body(streamed.task, f"overloaded: {secret}")
        fake.answer(sse=[("error", body.decode())])
        error = await self.refused_stream(streamed, fake)
        assert error.status >= 400
        assert "overloaded" in error.reason

    async def test_stream_silence(self, fake: FakeUpstream) -> None:
        """A stream that does not start costs the timeout."""
        for case in self.rows("streamed")[:1]:
            fake.answer(hang=True, headers={"Content-Length": "1000"})
            error = await self.refused_stream(case, fake, seconds=_SHORT)
            assert error.status == self.late

    async def test_stream_reader_leaves(self, fake: FakeUpstream) -> None:
        """A reader who stops reading ends the provider's call."""
        for case in self.rows("streamed")[:1]:
            self.answer_stream(case, fake, hang=True)
            question = self.question(case, self.of(case, fake))
            call = self.call(question.endpoint)
            deadline = asyncio.get_running_loop().time() + _PATIENCE
            client = self.client(case, fake)
            stream = await client.stream(self.service, call, question, deadline, "20s")
            await anext(stream)
            await stream.aclose()
            if b"[DONE]" not in case.stream_bytes:
                await asyncio.wait_for(fake.left.wait(), 5)


# Comparing


def placed(value: Any, url: str) -> Any:
    """The value with ``{fake}`` replaced by the fake provider's address."""
    if isinstance(value, str):
        return value.replace("{fake}", url)
    if isinstance(value, dict):
        return {key: placed(member, url) for key, member in value.items()}
    return [placed(member, url) for member in value] if isinstance(value, list) else value


def assert_request(got: Received, case: Case, path: str, body: Any, fake: FakeUpstream) -> None:
    assert (got.method, got.target) == (case.method, f"{path}?{case.query}" if case.query else path)
    headers = {name: value for name, value in got.headers.items() if name not in _TRANSPORT_HEADERS}
    assert headers == {"content-type": "application/json", **placed(dict(case.headers), fake.url)}
    if isinstance(body, bytes):
        assert got.body == body
    else:
        assert got.json == body


def assert_refused(error: InferdError, reason: str | None, faults: tuple[str, ...]) -> None:
    if faults:
        assert error.type == "validation_exception"
        assert error.faults == list(faults)
    else:
        assert error.reason == reason


def assert_secret_free(value: Any, secrets: Any) -> None:
    """No secret in the text of a value; of an error with all its causes and companions."""
    texts = [repr(value)]
    errors = [value] if isinstance(value, BaseException) else []
    seen: list[BaseException] = []
    while errors:
        error = errors.pop()
        seen.append(error)
        texts += [str(error), repr(vars(error))]
        related = (error.__cause__, error.__context__, *getattr(error, "suppressed", ()))
        errors += [other for other in related if other is not None and other not in seen]
    for secret in secrets:
        assert not any(secret in text for text in texts)


def shown(task: TaskType, chunks: list[Chunk]) -> list[Any]:
    """Chunks as the events of our own stream (api.md 7.4, 8.2)."""
    if task is TaskType.CHAT_COMPLETION:
        return [msgspec.json.decode(msgspec.json.encode(render.chat_chunk(chunk))) for chunk in chunks]
    texts = [[c.delta.content for c in chunk.choices if c.delta.content] for chunk in chunks]
    return [{"completion": [{"delta": text} for text in found]} for found in texts if found]


def long_text(inputs: Inputs) -> Inputs:
    """The same kind of inputs, with a text whose halves can be told apart."""
    if isinstance(inputs, Texts):
        return Texts(texts=("abcdefgh",), input_type=inputs.input_type)
    if isinstance(inputs, Contents):
        return Contents(groups=((Item("abcdefgh"),),), input_type=inputs.input_type)
    return inputs


def cut_to(wanted: int, inputs: int, reply: Any) -> Any:
    """An answer to ``inputs`` inputs as one to the first ``wanted``: every outermost list with an entry for each is cut."""
    if isinstance(reply, list) and len(reply) == inputs:
        return reply[:wanted]
    if isinstance(reply, dict):
        return {key: cut_to(wanted, inputs, member) for key, member in reply.items()}
    return reply


_WRONG: tuple[Any, ...] = (None, True, -1, 1e300, "x", [], {}, [[]], {"a": None})


def mangle(value: Any) -> list[Any]:
    """The value with each member in turn left out, or replaced by something of another kind."""
    out: list[Any] = []
    if isinstance(value, dict):
        for key, member in value.items():
            rest = {k: v for k, v in value.items() if k != key}
            out.append(rest)
            out += [{**value, key: wrong} for wrong in (*_WRONG, *mangle(member))]
    elif isinstance(value, list) and value:
        out += [[wrong, *value[1:]] for wrong in (*_WRONG, *mangle(value[0]))]
    return out
