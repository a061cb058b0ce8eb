"""Whole answers: what goes out, what comes back, what is tried again."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from acme import KEY, Provider

from inferd.config import Outbound
from inferd.core.inputs import Contents, Item, Texts
from inferd.core.secrets import Secret
from inferd.core.service import Rule
from inferd.core.tasks import TaskType
from inferd.errors import InferdError, StatusError, TimedOut, UpstreamError
from inferd.upstream import faults
from inferd.upstream.faults import table

VECTORS = {"vectors": [[0.5, 0.25]]}
WHERE = "for request from inference entity id [e1]"


async def test_the_request_is_what_the_call_says(provider: Provider) -> None:
    """URL, body and headers go out as the service's row has them, and no header of our own but the agent's name."""
    provider.fake.answer(json=VECTORS)
    result = await provider.call()
    assert result.vectors.tolist() == [[0.5, 0.25]]
    sent = provider.fake.requests[0]
    assert (sent.method, sent.target, sent.body) == ("POST", "/v1/embed", b'{"input":["how big"]}')
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert set(sent.headers) == {"host", "user-agent", "content-type", "content-length", "authorization"}


async def test_the_users_header_wins(provider: Provider) -> None:
    """A header of the call replaces a fixed one and the credentials', in any letter case."""
    provider.changed_call(
        TaskType.TEXT_EMBEDDING, headers=lambda ask: {"authorization": "Basic x", "content-TYPE": "text/json"}
    )
    provider.fake.answer(json=VECTORS)
    await provider.call()
    sent = provider.fake.requests[0].headers
    assert (sent["authorization"], sent["content-type"]) == ("Basic x", "text/json")


async def test_connections_are_used_again(provider: Provider) -> None:
    """Calls one after the other share a connection."""
    provider.fake.answer(json=VECTORS)
    for _ in range(5):
        await provider.call()
    assert (len(provider.fake.requests), provider.fake.connections) == (5, 1)


@pytest.mark.parametrize(
    ("upstream", "ours", "text"),
    [
        (400, 400, "Received a bad request status code"),
        (401, 401, "Received an authentication error status code"),
        (403, 403, "Received an unsuccessful status code"),
        (404, 404, "Resource not found at [{url}/v1/embed]"),
        (418, 400, "Received an unsuccessful status code"),
        (422, 422, "Received an input validation error response"),
        (500, 400, "Received a server error status code"),
        (502, 400, "Received a server error status code"),
        (503, 400, "Received a server busy error status code"),
        (599, 400, "Received a server error status code"),
        (307, 307, "Unhandled redirection"),
    ],
)
async def test_a_refusal_keeps_its_status(provider: Provider, upstream: int, ours: int, text: str) -> None:
    """Below 500 a status is passed on, from 500 on it is a 400; the text names the endpoint and quotes the message."""
    provider.fake.answer(status=upstream, json={"error": {"message": "no luck"}})
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    said = text.replace("{url}", provider.fake.url)
    assert caught.value.reason == f"{said} {WHERE} status [{upstream}]. Error message: [no luck]"
    assert (caught.value.status, caught.value.upstream_status) == (ours, upstream)


async def test_an_error_body_that_says_nothing(provider: Provider) -> None:
    """Without a readable message the text ends after the status."""
    provider.fake.answer(status=401, body=b"<html>")
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert caught.value.reason == f"Received an authentication error status code {WHERE} status [401]"


async def test_a_redirect_is_not_followed(provider: Provider) -> None:
    """A 3xx is an error; nobody calls where it points."""
    provider.fake.answer(path="/v1/embed", status=302, headers={"Location": f"{provider.fake.url}/other"})
    with pytest.raises(UpstreamError, match="Unhandled redirection"):
        await provider.call()
    assert [r.path for r in provider.fake.requests] == ["/v1/embed"]


async def test_three_attempts_and_their_waits(provider: Provider) -> None:
    """Three attempts in all, waits within 1 s and 2 s; the last failure is reported, earlier ones suppressed, newest first."""
    for number in (1, 2, 3):
        provider.fake.answer(status=500, json={"error": {"message": f"failure {number}"}})
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert len(provider.fake.requests) == 3
    assert provider.fake.waits == [1.0, 2.0]
    assert "failure 3" in caught.value.reason
    assert [earlier.reason[-10:] for earlier in caught.value.suppressed] == ["failure 2]", "failure 1]"]


async def test_jitter_is_the_upper_half_of_the_bound(provider: Provider) -> None:
    """Delays are drawn from 501 to 1000 and from 1001 to 2000 milliseconds."""
    drawn: list[tuple[int, int]] = []

    def lowest(low: int, high: int) -> int:
        drawn.append((low, high))
        return low

    provider.upstream._draw = lowest
    provider.fake.answer(status=500)
    with pytest.raises(UpstreamError):
        await provider.call()
    assert drawn == [(501, 1000), (1001, 2000)]
    assert provider.fake.waits == [0.501, 1.001]


async def test_success_after_failures(provider: Provider) -> None:
    """A later attempt's answer is the answer."""
    provider.fake.answer(status=429)
    provider.fake.answer(status=503)
    provider.fake.answer(json=VECTORS)
    assert (await provider.call()).vectors.shape == (1, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501, 502, 504])
async def test_what_is_not_retried(provider: Provider, status: int) -> None:
    """Statuses without a retry in the table are asked once (413 without truncation too)."""
    provider.changed(truncates=False)
    provider.fake.answer(status=status)
    with pytest.raises(UpstreamError):
        await provider.call()
    assert len(provider.fake.requests) == 1


async def test_a_service_without_the_retry_layer(provider: Provider) -> None:
    """``retries=False``: one attempt whatever the table says."""
    provider.changed(retries=False)
    provider.fake.answer(status=500)
    with pytest.raises(UpstreamError):
        await provider.call()
    assert len(provider.fake.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_waited_for(provider: Provider, status: int) -> None:
    """The provider's own delay is kept when it is longer than ours and ends before the deadline."""
    provider.fake.answer(status=status, headers={"Retry-After": "3"})
    provider.fake.answer(json=VECTORS)
    await provider.call(timeout=10)
    assert provider.fake.waits == [3.0]


async def test_retry_after_as_a_date(provider: Provider) -> None:
    """A date is measured by the provider's own clock."""
    dates = {"Retry-After": "Wed, 21 Oct 2015 07:28:04 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    provider.fake.answer(status=429, headers=dates)
    provider.fake.answer(json=VECTORS)
    await provider.call(timeout=10)
    assert provider.fake.waits == [4.0]


async def test_retry_after_beyond_the_deadline(provider: Provider) -> None:
    """Nobody waits for a moment that comes too late: the refusal is the answer, with the provider's delay in it."""
    provider.fake.answer(status=429, headers={"Retry-After": "60"})
    with pytest.raises(UpstreamError) as caught:
        await provider.call(timeout=5)
    assert (len(provider.fake.requests), provider.fake.waits, caught.value.retry_after) == (1, [], 60.0)


@pytest.mark.parametrize("value", ["", "soon", "-1", "nan", "inf", "1e99", "Wed, 99 Oct"])
async def test_a_senseless_retry_after(provider: Provider, value: str) -> None:
    """What is no delay is not there."""
    provider.fake.answer(status=429, headers={"Retry-After": value})
    provider.fake.answer(json=VECTORS)
    await provider.call()
    assert provider.fake.waits == [1.0]


async def test_garbage_is_retried_and_then_named(provider: Provider) -> None:
    """A 200 that cannot be read counts as a failed attempt; in the end it is a 500 with the reader's words."""
    provider.fake.answer(json={"other": 1})
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert len(provider.fake.requests) == 3
    assert caught.value.reason == "Failed to send Acme embeddings request. Cause: Required [vectors]"
    assert caught.value.status == 500
    assert isinstance(caught.value.__cause__, InferdError)
    assert caught.value.__cause__.reason == "Required [vectors]"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"nonsense", b"[" * 100_000, b"\x00"])
async def test_bodies_that_are_not_json(provider: Provider, body: bytes) -> None:
    """Truncated, binary or endlessly nested: a 500 that says so, no crash."""
    provider.fake.answer(body=body)
    with pytest.raises(UpstreamError, match=r"^Failed to send Acme embeddings request\. Cause: ."):
        await provider.call()


async def test_an_empty_body(provider: Provider) -> None:
    """A success without a body is an error of its own, not tried again."""
    provider.fake.answer(body=b"")
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert f"Response body was empty {WHERE}" in caught.value.reason
    assert (caught.value.status, len(provider.fake.requests)) == (500, 1)


async def test_the_wrapping_text_is_the_services(provider: Provider) -> None:
    """``failed`` and ``verb`` say how a failure of the call reads."""
    provider.changed(
        failed="Failed to send {title} {task} request from inference entity id [{id}]. Cause: {cause}"
    )
    provider.fake.answer(json={})
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert caught.value.reason == (
        "Failed to send Acme text_embedding request from inference entity id [e1]. Cause: Required [vectors]"
    )


async def test_an_unknown_host(provider: Provider) -> None:
    """A name that does not resolve is a 400 at once."""
    provider.changed(name="elsewhere")
    provider.changed_call(TaskType.TEXT_EMBEDDING, post="https://nowhere.invalid/v1")
    with pytest.raises(StatusError) as caught:
        await provider.call()
    assert (
        caught.value.reason
        == "Invalid host [https://nowhere.invalid/v1], please check that the URL is correct."
    )
    assert (caught.value.status, provider.fake.waits) == (400, [])


async def test_a_refused_connection(provider: Provider) -> None:
    """A connection that fails is tried again and named without an address."""
    provider.changed(name="elsewhere")
    provider.changed_call(TaskType.TEXT_EMBEDDING, post="http://127.0.0.1:1/v1")
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert caught.value.reason == "Failed to send Acme embeddings request. Cause: Connection refused"
    assert len(provider.fake.waits) == 2


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ({"raw": b""}, "The server closed the connection without an answer"),
        ({"raw": b"not http at all\r\n\r\n"}, "The server's answer is not valid HTTP"),
        ({"raw": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000}, "The server's answer is not valid HTTP"),
        ({"body": b'{"vectors":[[1]]}', "cut": 5}, "The connection ended before the answer was complete"),
        ({"chunks": (b'{"vec', b"tors"), "cut": 5}, "The connection ended before the answer was complete"),
        ({"body": b'{"vectors":[[1]]}', "cut": 5, "reset": True}, None),
    ],
)
async def test_peers_that_die(provider: Provider, answer: dict[str, Any], cause: str | None) -> None:
    """Closed, cut, reset, not HTTP: each is a failed attempt, and the next one may succeed."""
    provider.fake.answer(**answer)
    provider.fake.answer(**answer)
    provider.fake.answer(json=VECTORS)
    assert (await provider.call()).vectors.shape == (1, 2)
    provider.fake.forget()
    provider.fake.answer(**answer)
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert len(provider.fake.requests) == 3
    if cause is not None:
        assert caught.value.reason.endswith(f"Cause: {cause}")


async def test_a_peer_that_hangs(provider: Provider) -> None:
    """The deadline ends the wait and the connection."""
    provider.fake.answer(body=b"abc", headers={"Content-Length": "100"}, hang=True)
    began = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        await provider.call(timeout=0.2)
    assert time.monotonic() - began < 1
    assert caught.value.reason == "Request timed out after [5s] for inference id [e1]"
    assert caught.value.status == 429
    await asyncio.wait_for(provider.fake.left.wait(), 1)


async def test_a_peer_that_drips(provider: Provider) -> None:
    """A body that comes byte by byte does not outlive the deadline."""
    provider.fake.answer(chunks=tuple(b"[" for _ in range(1000)), pause=0.02)
    with pytest.raises(TimedOut):
        await provider.call(timeout=0.2)
    await asyncio.wait_for(provider.fake.left.wait(), 1)


async def test_the_services_own_timeout(provider: Provider) -> None:
    """A service may say what a timeout is."""
    provider.changed(timed_out=lambda id, text: StatusError(408, f"Request timed out after [{text}]"))
    provider.fake.answer(delay=5.0)
    with pytest.raises(StatusError) as caught:
        await provider.call(timeout=0.1)
    assert (caught.value.status, caught.value.reason) == (408, "Request timed out after [5s]")


async def test_a_caller_who_leaves(provider: Provider) -> None:
    """Cancelling the caller ends the provider's call within a second."""
    provider.fake.answer(headers={"Content-Length": "9"}, hang=True)
    task = asyncio.create_task(provider.call())
    await asyncio.wait_for(provider.fake.asked.wait(), 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(provider.fake.left.wait(), 1)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_huge_body(provider: Provider, chunked: bool) -> None:
    """An answer above the limit is refused before it is held, and not asked for again."""
    upstream = provider.upstream = provider.fake.client("acme", outbound=Outbound(max_response_mb=1))
    if chunked:
        provider.fake.answer(chunks=tuple(b"x" * 65536 for _ in range(40)))
    else:
        provider.fake.answer(body=b"", headers={"Content-Length": "2000000"}, hang=True)
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert caught.value.reason.endswith("Cause: The response is larger than the limit of [1mb]")
    assert len(provider.fake.requests) == 1
    assert upstream is provider.upstream


async def test_a_bomb(provider: Provider) -> None:
    """A small compressed body that unpacks beyond the limit is refused too."""
    import gzip

    provider.upstream = provider.fake.client("acme", outbound=Outbound(max_response_mb=1))
    provider.fake.answer(body=gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"})
    with pytest.raises(UpstreamError, match="larger than the limit"):
        await provider.call()


async def test_a_long_answer(provider: Provider) -> None:
    """A large answer is read all the same (by a worker thread)."""
    provider.fake.answer(json={"vectors": np.ones((100, 1536)).tolist()})
    assert (await provider.call(Texts(("a",) * 100))).vectors.shape == (100, 1536)


async def test_a_compressed_answer(provider: Provider) -> None:
    """We do not ask for compression, and understand it."""
    import gzip

    provider.fake.answer(body=gzip.compress(b'{"vectors":[[1]]}'), headers={"Content-Encoding": "gzip"})
    assert (await provider.call()).vectors.tolist() == [[1.0]]


async def test_completion_takes_one_input(provider: Provider) -> None:
    """A provider with a single prompt refuses several, before anything is sent."""
    with pytest.raises(StatusError) as caught:
        await provider.call(Texts(("a", "b")), TaskType.COMPLETION)
    assert (caught.value.status, caught.value.reason) == (400, "Acme completion only accepts 1 input")
    assert provider.fake.requests == []


@pytest.mark.parametrize("key", ["sk-line\r\nX-Injected: 1", "sk-line\nbreak", "sk-nul\x00"])
async def test_a_key_that_no_header_can_carry(provider: Provider, key: str) -> None:
    """A line break or NUL in a key is never sent, and not quoted either."""
    provider.secrets = {"api_key": Secret(key)}
    provider.fake.answer(json=VECTORS)
    with pytest.raises(InferdError) as caught:
        await provider.call()
    assert caught.value.reason == "Http client failed to send request from inference entity id [e1]"
    assert "sk-" not in str(caught.value.__cause__)
    assert provider.fake.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no-scheme",
        "ftp://x/y",
        "http://",
        "http:///path",
        "http://[::1/x",
        "http://a:99999/",
        "file:///etc/passwd",
    ],
)
async def test_an_address_that_is_none(provider: Provider, url: str) -> None:
    """What is no http or https URL cannot be sent to."""
    provider.changed(name="elsewhere")
    provider.changed_call(TaskType.TEXT_EMBEDDING, post=url)
    with pytest.raises(InferdError) as caught:
        await provider.call()
    assert caught.value.reason == "Http client failed to send request from inference entity id [e1]"


async def test_texts_that_are_not_unicode(provider: Provider) -> None:
    """A lone surrogate cannot be written as JSON: an error with a name."""
    with pytest.raises(InferdError, match="Http client failed to send request"):
        await provider.call(Texts(("a\ud800b",)))


@pytest.mark.parametrize("text", ["\x00", "\u2028", "héllo wörld 🦆", "\ufeff", 'quote " and \\ slash'])
async def test_texts_go_out_as_they_are(provider: Provider, text: str) -> None:
    """Every character reaches the provider."""
    provider.fake.answer(json=VECTORS)
    await provider.call(Texts((text,)))
    assert provider.fake.requests[0].json == {"input": [text]}


async def test_a_path_is_sent_as_given(provider: Provider) -> None:
    """Percent-encoding in a URL is not touched, since it may be signed; what is not clean is quoted."""
    provider.fake.answer(json=VECTORS)
    provider.changed(name="elsewhere")
    provider.changed_call(TaskType.TEXT_EMBEDDING, post=f"{provider.fake.url}/model/a%3Ab%2Fc/invoke?x=%20")
    await provider.call()
    provider.changed_call(TaskType.TEXT_EMBEDDING, post=f"{provider.fake.url}/mödel x")
    await provider.call()
    assert [r.target for r in provider.fake.requests] == ["/model/a%3Ab%2Fc/invoke?x=%20", "/m%C3%B6del%20x"]


async def test_no_cookie_is_kept(provider: Provider) -> None:
    """What one endpoint's provider sets is not sent by another endpoint."""
    provider.changed(name="elsewhere")
    place = provider.fake.url.replace("127.0.0.1", "localhost")  # jars keep nothing of bare addresses
    provider.changed_call(TaskType.TEXT_EMBEDDING, post=f"{place}/v1")
    provider.fake.answer(json=VECTORS, headers={"Set-Cookie": "session=1; Path=/"})
    await provider.call()
    await provider.call()
    assert "cookie" not in provider.fake.requests[1].headers


# Truncation


async def test_too_large_inputs_are_halved(provider: Provider) -> None:
    """A 413 cuts every input to half, again on each attempt, and the cut inputs are marked."""
    provider.fake.answer(status=413)
    provider.fake.answer(status=413)
    provider.fake.answer(json={"vectors": [[1], [2]]})
    result = await provider.call(Texts(("abcdefghi", "")))
    assert [r.json["input"] for r in provider.fake.requests] == [["abcdefghi", ""], ["abcd", ""], ["ab", ""]]
    assert result.truncated == (0,)


async def test_the_special_400_is_a_413(provider: Provider) -> None:
    """A 400 whose message asks for a shorter prompt counts as too large."""
    message = "xx Please reduce your prompt; or completion length. xx"
    provider.fake.answer(status=400, json={"error": {"message": message}})
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert [len(r.json["input"][0]) for r in provider.fake.requests] == [7, 3, 1]
    assert caught.value.reason.startswith("Received a content too large status code")


@pytest.mark.parametrize("task", [TaskType.COMPLETION, TaskType.RERANK])
async def test_only_embeddings_are_cut(provider: Provider, task: TaskType) -> None:
    """Other tasks get the plain error, once."""
    from inferd.core.inputs import RankQuery

    provider.fake.answer(status=413)
    with pytest.raises(UpstreamError):
        await provider.call(RankQuery("q", ("d",)) if task is TaskType.RERANK else None, task)
    assert len(provider.fake.requests) == 1


async def test_inputs_are_cut_to_the_token_limit(provider: Provider) -> None:
    """``max_input_tokens`` cuts to three characters a token before sending; what was cut is marked."""
    provider.settings = {"max_input_tokens": 2}
    provider.fake.answer(json={"vectors": [[1], [2]]})
    result = await provider.call(Texts(("1234567", "123456")))
    assert provider.fake.requests[0].json["input"] == ["123456", "123456"]
    assert result.truncated == (0,)


async def test_a_cut_sparse_input_says_so(provider: Provider) -> None:
    """``is_truncated`` is true for the item whose input was cut, and for no other."""
    provider.settings = {"max_input_tokens": 1}
    provider.fake.answer(json={"vectors": [{"a": 1.0}, {"b": 1.0}]})
    result = await provider.call(Texts(("abcd", "abc")), TaskType.SPARSE_EMBEDDING)
    assert [v.is_truncated for v in result.vectors] == [True, False]


async def test_contents_are_cut_in_their_texts_only(provider: Provider) -> None:
    """An image in an embedding's input is left alone."""
    from inferd.upstream.cuts import halved

    ask = provider.ask(Contents(((Item("abcd"), Item("data:xyz", type="image")),)))
    cut = halved(ask)
    assert cut.inputs == Contents(((Item("ab"), Item("data:xyz", type="image")),))
    assert cut.cut == 0.5


# Chat errors


async def test_a_chat_error_carries_the_providers_words(provider: Provider) -> None:
    """Code, type and param of the provider's error object are the client's."""
    error = {"message": "m", "type": "invalid_request_error", "code": "bad", "param": "p"}
    provider.fake.answer(status=400, json={"error": error})
    with pytest.raises(UpstreamError) as caught:
        await provider.stream()
    failure = caught.value
    assert (failure.status, failure.kind, failure.code, failure.param) == (
        400,
        "invalid_request_error",
        "bad",
        "p",
    )
    assert failure.reason == f"Received a bad request status code {WHERE} status [400]. Error message: [m]"


async def test_a_chat_error_in_another_shape(provider: Provider) -> None:
    """Then the type is the internal label and the code the status name."""
    provider.fake.answer(status=404, body=b"nope")
    with pytest.raises(UpstreamError) as caught:
        await provider.stream()
    assert (caught.value.kind, caught.value.code, caught.value.param) == ("ErrorResponse", "not_found", None)


# Secrets


async def test_no_secret_in_any_error(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """A provider that quotes the key, in any field, does not make us repeat it; neither do our own representations."""
    echo = {"error": {"message": f"bad key {KEY}", "type": f"t{KEY}", "code": "c"}}
    provider.settings = {"rate_limit": {"requests_per_minute": 1_000_000}}
    failures: list[Any] = []
    for answer in (
        {"status": 401, "json": echo},
        {"status": 500, "json": echo},
        {"json": {"vectors": KEY}},
        {"body": f"garbage {KEY}".encode()},
    ):
        provider.fake.forget()
        provider.fake.answer(**answer)
        with pytest.raises(InferdError) as caught:
            await provider.call()
        failures.append(caught.value)
        while (cause := failures[-1].__cause__) is not None:
            failures.append(cause)
        failures.extend(caught.value.suppressed)
    for failure in failures:
        shown = f"{failure!r} {failure} {failure.__dict__}"
        assert KEY not in shown
    assert KEY not in caplog.text
    assert KEY not in repr(provider.upstream.__dict__)


async def test_a_key_in_the_query_is_not_shown(provider: Provider) -> None:
    """``query_key`` puts the key into the URL that is called, and no message shows that one."""
    from inferd.upstream.auth import query_key

    provider.changed(auth=query_key("key"), rules=table({404: Rule(faults.NOT_FOUND)}))
    provider.fake.answer(status=404)
    with pytest.raises(UpstreamError) as caught:
        await provider.call()
    assert provider.fake.requests[0].target == f"/v1/embed?key={KEY}"
    assert caught.value.reason == f"Resource not found at [{provider.fake.url}/v1/embed] {WHERE} status [404]"
