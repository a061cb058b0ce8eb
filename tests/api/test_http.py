"""Requests in, responses out: bodies, compression, routes, leaving clients, failures."""

import asyncio
import gzip
import json
import logging
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import DIALECT, application, connected, running, until

from inferd.api import http
from inferd.api.http import Application, Dialect, Limits, Request, Response, Route, Router
from inferd.errors import IllegalArgument, StatusError


def route(handler, method="POST", template="/it", **more) -> Route:
    return Route(method=method, template=template, handler=handler, **{"body": "optional", **more})


def request(method="GET", path="/", query="", headers=()) -> Request:
    async def receive():
        return {"type": "http.disconnect"}

    scope = {
        "method": method,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    return Request(scope, receive, Limits())


async def echo(request: Request) -> Response:
    return Response(await request.body(), content_type="application/json")


# Requests


def test_segments_are_decoded_each_by_itself():
    """``%2F`` stays inside its segment; slashes at the end do not count."""
    assert request(path="/_inference/a%2Fb/%C3%BC%00/").segments == ("_inference", "a/b", "ü\0")
    assert request(path="/").segments == ()
    assert request(path="//x").segments == ("", "x")


def test_query_keeps_order_repeats_and_bare_names():
    """A bare name has no value, an empty value is empty; plus is a blank."""
    assert request(query="a=1&b&a=2+3&c=&&d=%zz&e=%ff").query == [
        ("a", "1"),
        ("b", None),
        ("a", "2 3"),
        ("c", ""),
        ("d", "%zz"),
        ("e", "\ufffd"),
    ]


def test_headers_of_any_case_and_number():
    """Names have no case; repeated headers are joined by a comma, or listed."""
    it = request(headers=[("x-a", "1"), ("content-type", "a/b"), ("x-a", "2")])
    assert it.header("X-A") == "1,2"
    assert it.headers("X-A") == ["1", "2"]
    assert it.header("Content-Type") == "a/b"
    assert it.header("none") is None


def test_uri_is_as_sent():
    """The uri keeps its escapes and its query."""
    assert request(path="/a%20b", query="x=%41").uri == "/a%20b?x=%41"
    assert request(path="/a").uri == "/a"


# Routes


async def nothing(request: Request) -> Response:
    return Response()


ROWS = [
    Route(method=method, template=template, handler=nothing, action=f"{method} {template}")
    for method, template in (
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/i"),
        ("GET", "/i/{id}"),
        ("PUT", "/i/{id}"),
        ("POST", "/i/{id}"),
        ("DELETE", "/i/{id}"),
        ("GET", "/i/{task}/{id}"),
        ("POST", "/i/{task}/{id}"),
        ("POST", "/i/{id}/_stream"),
        ("POST", "/i/{task}/{id}/_stream"),
        ("GET", "/i/_services"),
        ("GET", "/i/_services/{task}"),
    )
]
ROUTER = Router([(DIALECT, ROWS)])


@pytest.mark.parametrize(
    ("method", "path", "row", "params"),
    [
        ("GET", "/", "GET /", {}),
        ("GET", "/i/", "GET /i", {}),
        ("GET", "/i/x", "GET /i/{id}", {"id": "x"}),
        ("GET", "/i/_services", "GET /i/_services", {}),
        ("PUT", "/i/_services", "PUT /i/{id}", {"id": "_services"}),
        ("GET", "/i/_services/rerank", "GET /i/_services/{task}", {"task": "rerank"}),
        ("POST", "/i/_services/x", "POST /i/{task}/{id}", {"task": "_services", "id": "x"}),
        ("POST", "/i/x/_stream", "POST /i/{id}/_stream", {"id": "x"}),
        ("POST", "/i/a/b/_stream", "POST /i/{task}/{id}/_stream", {"task": "a", "id": "b"}),
        ("GET", "/i/a/_stream", "GET /i/{task}/{id}", {"task": "a", "id": "_stream"}),
        ("GET", "/i/a%2Fb", "GET /i/{id}", {"id": "a/b"}),
    ],
)
def test_literal_segments_win(method, path, row, params):
    """A literal segment wins over a name, among the rows that know the method."""
    match = ROUTER.find(request(method, path))
    assert match.route is not None
    assert (match.route.action, match.params) == (row, params)


@pytest.mark.parametrize(
    ("method", "path", "status", "text", "shows"),
    [
        ("GET", "/a/b?c=1", 400, "no handler found for uri [/a/b?c=1] and method [GET]", False),
        ("GET", "/i//x", 400, "no handler found for uri [/i//x] and method [GET]", False),
        (
            "PATCH",
            "/i/x?y",
            405,
            "Incorrect HTTP method for uri [/i/x?y] and method [PATCH], allowed: [GET, POST, PUT, DELETE]",
            True,
        ),
        ("HEAD", "/i", 405, "Incorrect HTTP method for uri [/i] and method [HEAD], allowed: [GET]", True),
        ("FOO", "/", 405, "Unexpected http method [FOO], allowed: [GET, HEAD]", True),
        ("OPTIONS", "/no", 400, "no handler found for uri [/no] and method [OPTIONS]", False),
    ],
)
def test_misses(method, path, status, text, shows):
    """api.md 1.4, to the letter."""
    path, _, query = path.partition("?")
    error = ROUTER.find(request(method, path, query)).error
    assert error is not None
    assert (error.status, error.reason, error.show_status) == (status, text, shows)


def test_two_rows_for_one_path_are_refused():
    """A table that contradicts itself does not start."""
    with pytest.raises(ValueError, match="two routes"):
        Router([(DIALECT, [ROWS[3], Route(method="GET", template="/i/{other}", handler=nothing)])])


def test_each_dialect_answers_for_its_own_paths():
    """A path nobody knows belongs to the first table."""
    other = Dialect(name="other", problem=DIALECT.problem)
    router = Router([(DIALECT, ROWS), (other, [Route(method="POST", template="/v1/x", handler=nothing)])])
    assert router.find(request("GET", "/v1/x")).dialect is other
    assert router.find(request("GET", "/v1")).dialect is DIALECT


@given(st.text(max_size=40), st.sampled_from(["GET", "POST", "OPTIONS"]))
def test_any_path_leads_somewhere(path, method):
    """A path is found, or refused with a name; nothing else."""
    match = ROUTER.find(request(method, "/" + path.encode("utf-8", "replace").decode()))
    assert (match.route is not None) + (match.error is not None) + bool(match.allowed) == 1


# Over a connection


async def test_answers_carry_the_product_and_the_opaque_id():
    """Every response, refusals included."""
    async with running(application(route(echo))) as server, connected(server) as peer:
        status, headers, body = await peer.ask("POST", "/it", b"{}", "X-Opaque-Id: me")
        assert (status, headers["x-elastic-product"], headers["x-opaque-id"], body) == (
            200,
            "Elasticsearch",
            "me",
            b"{}",
        )
        status, headers, body = await peer.ask("GET", "/none", b"", "X-Opaque-Id: you")
        assert (status, headers["x-elastic-product"], headers["x-opaque-id"]) == (400, "Elasticsearch", "you")
        assert json.loads(body) == {"error": "no handler found for uri [/none] and method [GET]"}


async def test_options_and_head():
    """OPTIONS lists the methods; HEAD has the headers of GET and no body."""

    async def hello(request: Request) -> Response:
        return Response(b"hello", content_type="text/plain")

    rows = [route(hello, "GET", "/"), route(hello, "HEAD", "/"), route(hello, "PUT", "/x")]
    async with running(application(*rows)) as server, connected(server) as peer:
        status, headers, body = await peer.ask("OPTIONS", "/")
        assert (status, headers["allow"], headers["content-type"], body) == (
            200,
            "GET,HEAD",
            "text/plain; charset=UTF-8",
            b"",
        )
        await peer.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        assert b"content-length: 5\r\n" in head
        await peer.send(b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert b" 405 " in head
        assert b"allow: PUT\r\n" in head
        assert (await peer.ask("GET", "/"))[2] == b"hello"


async def test_gzip_both_ways():
    """A compressed body is read; a large answer is compressed for those who accept it, a small one is not."""
    body = json.dumps({"x": "y" * 5000}).encode()
    async with running(application(route(echo))) as server, connected(server) as peer:
        packed = gzip.compress(body)
        assert (await peer.ask("POST", "/it", packed, "Content-Encoding: gzip"))[2] == body
        status, headers, answer = await peer.ask("POST", "/it", body, "Accept-Encoding: deflate, gzip;q=0.5")
        assert (status, headers["content-encoding"]) == (200, "gzip")
        assert gzip.decompress(answer) == body
        assert "content-encoding" not in (await peer.ask("POST", "/it", body, "Accept-Encoding: gzip;q=0"))[1]
        assert "content-encoding" not in (await peer.ask("POST", "/it", body))[1]
        assert "content-encoding" not in (await peer.ask("POST", "/it", b"{}", "Accept-Encoding: gzip"))[1]


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"no gzip", 400), (gzip.compress(b"{}")[:-5], 400), (gzip.compress(b"0" * 20_000), 413)],
    ids=["damaged", "truncated", "bomb"],
)
async def test_bad_gzip_is_refused(raw, status):
    """400 for what is damaged or cut short, 413 for what unpacks beyond the limit."""
    limits = Limits(body=10_000)
    async with running(application(route(echo), limits=limits)) as server, connected(server) as peer:
        assert (await peer.ask("POST", "/it", raw, "Content-Encoding: gzip"))[0] == status
        assert (await peer.ask("POST", "/it", b"{}", "Content-Encoding: br"))[0] == 400


@given(st.binary(max_size=200))
def test_any_bytes_as_gzip(raw):
    """Whatever is sent as gzip is unpacked within the limit, or refused by name."""
    try:
        unpacked = http.gunzip(raw, 100)
    except (IllegalArgument, StatusError):
        return
    assert len(unpacked) <= 100


def test_members_of_gzip_are_joined():
    """A file of several gzip members is one body, and one limit holds for all."""
    assert http.gunzip(gzip.compress(b"ab") + gzip.compress(b"cd"), 4) == b"abcd"
    with pytest.raises(StatusError):
        http.gunzip(gzip.compress(b"ab") + gzip.compress(b"cd"), 3)


async def test_too_large_by_announcement_and_by_count():
    """413 without reading when the length is announced; while reading when it is not."""
    limits = Limits(body=100_000_000 - 1)
    async with running(application(route(echo), limits=limits)) as server, connected(server) as peer:
        await peer.send(
            b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
        )
        assert (await peer.response())[0] == 413
    async with running(application(route(echo), limits=Limits(body=10))) as server, connected(server) as peer:
        head = b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        await peer.send(head + b"b\r\n01234567890\r\n0\r\n\r\n")
        status, headers, _ = await peer.response()
        assert (status, headers["connection"]) == (413, "close")


async def test_a_slow_body_is_refused():
    """408 when the next piece of a body does not come, and the connection ends."""
    limits = Limits(body_idle=0.05, tick=0.02)
    async with running(application(route(echo), limits=limits)) as server, connected(server) as peer:
        await peer.send(
            b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        status, headers, body = await peer.response()
        assert (status, headers["connection"]) == (408, "close")
        assert json.loads(body)["error"]["reason"] == "the request body did not arrive in time"
        assert await peer.reader.read() == b""


async def test_a_slow_handler_is_not_a_slow_body():
    """Once the body is there, its deadline is over: the work may take longer."""

    async def slow(request: Request) -> Response:
        await request.body()
        await asyncio.sleep(0.2)
        return Response(b"done")

    limits = Limits(body_idle=0.05, body_total=0.05, tick=0.02)
    async with running(application(route(slow), limits=limits)) as server, connected(server) as peer:
        assert (await peer.ask("POST", "/it", b"{}"))[2] == b"done"


async def test_a_body_in_pieces_is_read_whole():
    """Pieces that come in time make one body, however many."""
    limits = Limits(body_idle=0.2, tick=0.02)
    async with running(application(route(echo), limits=limits)) as server, connected(server) as peer:
        await peer.send(
            b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n"
        )
        for piece in (b'"a', b"bc", b'd"'):
            await asyncio.sleep(0.05)
            await peer.send(piece)
        assert (await peer.response())[2] == b'"abcd"'


async def test_a_client_that_leaves_cancels_the_work():
    """Within a second of the connection's end the handler is cancelled; nothing is logged as an error."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        await request.body()
        started.set()
        try:
            await asyncio.sleep(30)
        finally:
            cancelled.set()
        return Response()

    seen = []
    app = application(route(slow), observe=lambda request, status, seconds: seen.append(status))
    async with running(app) as server:
        async with connected(server) as peer:
            await peer.send(
                b"POST /it HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            )
            await started.wait()
        async with asyncio.timeout(1):
            await cancelled.wait()
        await until(lambda: not app.running)
    assert seen == [0]


async def test_a_reader_who_leaves_a_stream_closes_its_source():
    """The generator behind a stream is closed when its reader goes."""
    closed = asyncio.Event()

    async def ticks():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.02)
        finally:
            closed.set()

    async def stream(request: Request) -> Response:
        return Response(ticks(), content_type="text/event-stream")

    async with running(application(route(stream, "GET"))) as server:
        async with connected(server) as peer:
            await peer.send(b"GET /it HTTP/1.1\r\nHost: x\r\n\r\n")
            await peer.reader.readuntil(b"tick\n")
        async with asyncio.timeout(1):
            await closed.wait()


async def test_a_reader_who_stands_still_is_dropped():
    """A client that takes nothing for too long loses its connection, and the source is closed."""
    closed = asyncio.Event()

    async def flood():
        try:
            while True:
                yield b"x" * 1_000_000
        finally:
            closed.set()

    async def stream(request: Request) -> Response:
        return Response(flood())

    limits = Limits(write_stall=0.1, tick=0.05)
    async with running(application(route(stream, "GET"), limits=limits)) as server, connected(server) as peer:
        await peer.send(b"GET /it HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            await closed.wait()


async def test_failures_before_and_after_the_first_piece():
    """Before: a status of its own. After: the connection breaks, so that nobody takes the rest for whole."""

    async def early():
        raise StatusError(418, "no")
        yield b""

    async def late():
        yield b"first"
        raise StatusError(418, "no")

    async def answer(request: Request) -> Response:
        return Response(early() if request.path == "/early" else late())

    rows = [route(answer, "GET", "/early"), route(answer, "GET", "/late")]
    async with running(application(*rows)) as server, connected(server) as peer:
        status, _, body = await peer.ask("GET", "/early")
        assert (status, json.loads(body)["error"]["reason"]) == (418, "no")
        await peer.send(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await peer.reader.read()).endswith(b"5\r\nfirst\r\n")


async def test_a_bug_is_a_500_without_details(caplog):
    """The log has the traceback under the request's id; the client has only the id."""

    async def broken(request: Request) -> Response:
        raise KeyError("secret detail")

    with caplog.at_level(logging.ERROR):
        async with running(application(route(broken))) as server, connected(server) as peer:
            status, _, body = await peer.ask("POST", "/it", b"{}", "X-Opaque-Id: id-7")
    assert status == 500
    assert b"secret" not in body
    assert b"id-7" in body
    assert "secret detail" in caplog.text
    assert "id-7" in caplog.text


async def test_a_dialect_that_fails_to_fail(caplog):
    """When even the error body cannot be made, the client still gets a 500 with the product header."""

    def broken(request: Request, error: Exception) -> Response:
        raise KeyError("secret")

    dialect = Dialect(name="x", problem=broken)
    with caplog.at_level(logging.ERROR):
        async with (
            running(Application(Router([(dialect, [route(echo)])]))) as server,
            connected(server) as peer,
        ):
            status, headers, body = await peer.ask("GET", "/none")
    assert (status, headers["x-elastic-product"]) == (500, "Elasticsearch")
    assert b"secret" not in body
    assert "secret" in caplog.text


async def test_header_values_cannot_break_out():
    """Line breaks in a header value become blanks; letters outside Latin-1 question marks."""

    async def answer(request: Request) -> Response:
        return Response(headers=[("X-It", "a\r\nX-Evil: 1 €")])

    async with running(application(route(answer, "GET"))) as server, connected(server) as peer:
        _, headers, _ = await peer.ask("GET", "/it")
    assert headers["x-it"] == "a  X-Evil: 1 ?"
    assert "x-evil" not in headers


async def test_order_of_checks():
    """Authentication, header syntax, route, body type, handler (api.md 1.2)."""
    calls = []

    def dialect(failing: str) -> Dialect:
        def step(name):
            def check(request: Request) -> None:
                calls.append(name)
                if name == failing:
                    raise IllegalArgument(name)

            return check

        async def authenticate(request: Request) -> None:
            step("authenticate")(request)

        return Dialect(
            name="x",
            problem=DIALECT.problem,
            authenticate=authenticate,
            check=step("check"),
            check_body=step("check_body"),
        )

    async def handler(request: Request) -> Response:
        calls.append("handler")
        return Response()

    async def order(failing: str, method: str = "POST") -> list[str]:
        calls.clear()
        app = Application(Router([(dialect(failing), [route(handler)])]))
        async with running(app) as server, connected(server) as peer:
            await peer.ask(method, "/it", b"{}")
        return list(calls)

    assert await order("") == ["authenticate", "check", "check_body", "handler"]
    assert await order("authenticate") == ["authenticate"]
    assert await order("check") == ["authenticate", "check"]
    assert await order("", "PATCH") == ["authenticate", "check"]
    assert await order("check_body") == ["authenticate", "check", "check_body"]


async def test_more_than_allowed_at_once_is_429():
    """The request beyond the limit is refused by name, the others finish."""
    go = asyncio.Event()

    async def wait(request: Request) -> Response:
        await go.wait()
        return Response(b"ok")

    app = application(route(wait, "GET"), limits=Limits(concurrent=1))
    async with running(app) as server, connected(server) as first, connected(server) as second:
        await first.send(b"GET /it HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: app.running)
        status, _, body = await second.ask("GET", "/it")
        assert (status, json.loads(body)["error"]["type"]) == (429, "es_rejected_execution_exception")
        go.set()
        assert (await first.response())[2] == b"ok"


async def test_start_and_stop_hooks():
    """Hooks run in order at start, and all of them at stop even if one fails."""
    calls = []

    def hook(name, fails=False):
        async def run():
            calls.append(name)
            if fails:
                raise RuntimeError(name)

        return run

    app = application(route(echo), on_start=[hook("a"), hook("b")], on_stop=[hook("c", True), hook("d")])
    async with running(app):
        assert calls == ["a", "b"]
    assert calls == ["a", "b", "c", "d"]


async def test_heartbeats_fill_silence():
    """Before the first piece and between two, never within one; the source is closed at the end and when its reader leaves."""
    closed = []

    async def source():
        try:
            await asyncio.sleep(0.1)
            yield b"1"
            await asyncio.sleep(0.1)
            yield b"2"
            yield b"3"
        finally:
            closed.append(True)

    async def handler(request):
        return Response(source(), heartbeat=0.02, beat=b":")

    app = application(route(handler, "GET"), limits=Limits(tick=0.01))
    async with running(app) as server:
        async with connected(server) as peer:
            _, _, body = await peer.ask("GET", "/it")
        assert body.replace(b":", b"") == b"123"
        assert body.startswith(b"::")
        assert b":" in body[body.index(b"1") : body.index(b"2")]
        assert body.endswith(b"23")
        async with connected(server) as peer:
            await peer.send(b"GET /it HTTP/1.1\r\nHost: x\r\n\r\n")
            await peer.reader.readuntil(b":")
        await until(lambda: closed == [True, True])


async def test_no_heartbeat_where_none_is_asked_for():
    """A stream without one is silent, and its status waits for the first piece."""

    async def source():
        await asyncio.sleep(0.1)
        raise StatusError(429, "slow down")
        yield b""

    async def handler(request):
        return Response(source())

    async with running(application(route(handler, "GET"), limits=Limits(tick=0.01))) as server:
        async with connected(server) as peer:
            status, _, _ = await peer.ask("GET", "/it")
        assert status == 429


@given(st.text(alphabet="gzip*;q=01., xdeflate", max_size=30))
def test_any_accept_encoding(header):
    """Whatever the header says, the answer is yes or no."""
    assert http.accepts_gzip(header) in (True, False)


def test_accept_encoding():
    """gzip is for those who ask, not for those who refuse."""
    assert http.accepts_gzip("gzip")
    assert http.accepts_gzip("br, *")
    assert http.accepts_gzip("gzip; q=0.1")
    assert not http.accepts_gzip("gzip;q=0")
    assert not http.accepts_gzip("gzip;q=0.000")
    assert not http.accepts_gzip("br")
    assert not http.accepts_gzip(None)
    assert zlib.decompress(http.gzip(b"x"), 31) == b"x"
