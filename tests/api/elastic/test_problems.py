"""Error bodies (api.md 2.1, 7.5)."""

import json

from asked import asked

from inferd.api.elastic.problems import chat_envelope, chat_problem, envelope, problem
from inferd.errors import (
    BadBody,
    IllegalArgument,
    InferdError,
    InvalidRequest,
    NotRouted,
    SecurityError,
    StatusError,
    TimedOut,
    UpstreamError,
)


def caused(error: InferdError, cause: BaseException) -> InferdError:
    error.__cause__ = cause
    return error


def test_plain_envelope():
    """Type and reason in both places, and the status."""
    assert envelope(StatusError(400, "R")) == {
        "error": {
            "root_cause": [{"type": "status_exception", "reason": "R"}],
            "type": "status_exception",
            "reason": "R",
        },
        "status": 400,
    }


def test_what_was_never_routed_is_plain_text():
    """No envelope, and the status only where the contract has it."""
    assert envelope(NotRouted(405, "no")) == {"error": "no", "status": 405}
    assert envelope(NotRouted(400, "no", show_status=False)) == {"error": "no"}


def test_root_cause_is_the_deepest_server_exception():
    """Down the chain while it is the server's own; arguments and foreign errors do not count."""

    def root(error: InferdError) -> str:
        return envelope(error)["error"]["root_cause"][0]["reason"]

    upstream = UpstreamError(400, "deep")
    assert root(caused(StatusError(500, "outer"), upstream)) == "deep"
    assert root(caused(StatusError(500, "outer"), ValueError("x"))) == "outer"
    assert root(caused(BadBody("outer"), IllegalArgument("inner"))) == "outer"
    assert root(caused(BadBody("outer"), caused(BadBody("inner"), IllegalArgument("arg")))) == "inner"
    assert root(caused(BadBody("outer"), StatusError(400, "status"))) == "status"
    assert root(caused(StatusError(400, "outer"), BadBody("inner"))) == "outer"
    assert root(caused(IllegalArgument("outer"), StatusError(400, "inner"))) == "outer"
    assert root(InvalidRequest("f")) == "Validation Failed: 1: f;"


def test_causes_nest_and_suppressed_are_listed():
    """``caused_by`` inside ``caused_by``; ``suppressed`` only when there are some."""
    error = caused(BadBody("a"), caused(BadBody("b"), IllegalArgument("c")))
    error.suppressed = (StatusError(429, "earlier"),)
    body = envelope(error)["error"]
    assert body["caused_by"] == {
        "type": "x_content_parse_exception",
        "reason": "b",
        "caused_by": {"type": "illegal_argument_exception", "reason": "c"},
    }
    assert body["suppressed"] == [{"type": "status_exception", "reason": "earlier"}]
    assert "suppressed" not in body["root_cause"][0]


def test_members_and_headers_of_the_error():
    """After the reason, in both places; a list of one is bare; headers also in the response."""
    error = SecurityError(
        "R",
        status=401,
        members={"one": ["a"], "two": ["a", "b"]},
        headers=[("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "ApiKey")],
    )
    expected = {
        "type": "security_exception",
        "reason": "R",
        "one": "a",
        "two": ["a", "b"],
        "header": {"WWW-Authenticate": ["Basic", "ApiKey"]},
    }
    body = envelope(error)
    assert body["error"] == {"root_cause": [expected], **expected}
    assert list(body["error"]) == ["root_cause", "type", "reason", "one", "two", "header"]
    response = problem(asked("GET", "/x"), error)
    assert response.headers == [("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "ApiKey")]


def raised(error: InferdError) -> InferdError:
    try:
        raise error
    except InferdError as caught:
        return caught


def test_error_trace():
    """Every error object gains a string; never for 401; no path of this machine inside."""
    error = raised(caused(BadBody("a"), raised(BadBody("b"))))
    body = json.loads(problem(asked("GET", "/x?error_trace=true"), error).body)["error"]
    traces = [body["stack_trace"], body["caused_by"]["stack_trace"], body["root_cause"][0]["stack_trace"]]
    assert all(isinstance(trace, str) and trace for trace in traces)
    assert "raised(test_problems.py:" in body["stack_trace"]
    assert "/" not in body["stack_trace"]
    hidden = problem(asked("GET", "/x?error_trace=true"), SecurityError("no", status=401))
    assert b"stack_trace" not in hidden.body
    assert b"stack_trace" not in problem(asked("GET", "/x"), error).body


def test_errors_are_pretty_and_formatted_but_never_filtered():
    """`pretty` and `format` hold for errors, `filter_path` does not; a wrong `pretty` is no second error."""
    error = StatusError(404, "R")
    assert problem(asked("GET", "/x?pretty&filter_path=nothing"), error).body == (
        b'{\n  "error" : {\n    "root_cause" : [\n      {\n        "type" : "status_exception",\n        "reason" : "R"\n'
        b'      }\n    ],\n    "type" : "status_exception",\n    "reason" : "R"\n  },\n  "status" : 404\n}\n'
    )
    yaml = problem(asked("GET", "/x?format=yaml"), error)
    assert yaml.content_type == "application/yaml"
    assert yaml.body.startswith(b"---\nerror:\n")
    assert json.loads(problem(asked("GET", "/x?pretty=maybe"), error).body)["status"] == 404


def test_timeouts_are_marked():
    """`X-Timed-Out: ?1` on a timeout_exception, 429."""
    response = problem(asked("GET", "/x"), TimedOut("late"))
    assert response.status == 429
    assert ("X-Timed-Out", "?1") in response.headers


def test_chat_envelope():
    """No status, no root cause; the code is the status' name, or the provider's own words."""
    assert chat_envelope(StatusError(400, "M")) == {
        "error": {"code": "bad_request", "message": "M", "type": "status_exception"}
    }
    error = UpstreamError(429, "M", code="rate", kind="tokens", param="model")
    assert list(chat_envelope(error)["error"].items()) == [
        ("code", "rate"),
        ("message", "M"),
        ("param", "model"),
        ("type", "tokens"),
    ]
    assert "code" not in chat_envelope(StatusError(499, "M"))["error"]
    assert chat_problem(asked("POST", "/x"), error).status == 429


def test_texts_that_are_no_unicode_are_still_told():
    """A lone surrogate in a reason is replaced, not a second failure."""
    assert (
        "a\ufffdb"
        in json.loads(problem(asked("GET", "/x"), StatusError(400, "a\ud800b")).body)["error"]["reason"]
    )
