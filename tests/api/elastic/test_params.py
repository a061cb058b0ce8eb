"""Query parameters (api.md 3, 10.1)."""

import pytest
from asked import asked
from hypothesis import given
from hypothesis import strategies as st

from inferd.api.elastic.params import COMMON, Duration, Params, common, parse_boolean, parse_duration
from inferd.api.elastic.suggestions import close_names, did_you_mean
from inferd.errors import IllegalArgument


@pytest.mark.parametrize(
    ("text", "seconds", "printed"),
    [
        ("30s", 30.0, "30s"),
        ("2m", 120.0, "2m"),
        ("10ms", 0.01, "10ms"),
        ("1H", 3600.0, "1h"),
        ("1d", 86400.0, "1d"),
        ("5micros", 5e-6, "5micros"),
        ("7nanos", 7e-9, "7nanos"),
        ("0", 0.0, "0"),
        ("-1", -1.0, "-1"),
        (" 3 s ", 3.0, "3s"),
        ("0s", 0.0, "0s"),
    ],
)
def test_durations(text, seconds, printed):
    """An integer and a unit; it prints as the caller gave it."""
    duration = parse_duration("timeout", text)
    assert duration == Duration(seconds, printed)
    assert f"{duration}" == printed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "30",
            "failed to parse setting [timeout] with value [30] as a time value: unit is missing or unrecognized",
        ),
        ("1.5s", "failed to parse [1.5s], fractional time values are not supported"),
        (
            "-5s",
            "failed to parse setting [timeout] with value [-5s] as a time value: negative durations are not supported",
        ),
        ("abcs", "failed to parse [abcs]"),
        (
            "",
            "failed to parse setting [timeout] with value [] as a time value: unit is missing or unrecognized",
        ),
        ("s", "failed to parse [s]"),
        (
            "30x",
            "failed to parse setting [timeout] with value [30x] as a time value: unit is missing or unrecognized",
        ),
        ("٣s", "failed to parse [٣s]"),
        ("99999999999999999999d", "failed to parse [99999999999999999999d]"),
        ("999999999d", "Values greater than 9223372036854775807 nanoseconds are not supported: 999999999d"),
    ],
)
def test_wrong_durations(text, reason):
    """Each in the words of api.md 10.1."""
    with pytest.raises(IllegalArgument) as caught:
        parse_duration("timeout", text)
    assert caught.value.reason == reason


@given(st.text(max_size=30))
def test_any_text_as_a_duration(text):
    """A duration, or a refusal by name."""
    try:
        assert parse_duration("timeout", text).seconds >= -1
    except IllegalArgument:
        return


def test_booleans():
    """true, false, the bare name and the empty value; nothing else."""
    assert [parse_boolean(text) for text in ("true", "false", None, "")] == [True, False, True, True]
    for text in ("maybe", "True", "1", " "):
        with pytest.raises(IllegalArgument) as caught:
            parse_boolean(text)
        assert caught.value.reason == f"Failed to parse value [{text}] as only [true] or [false] are allowed."


def test_parameters_of_a_request():
    """The last of a repeated parameter counts; what is absent is None or the default."""
    params = Params(asked("GET", "/x?force=false&force&timeout=3s&a=1", params=("force", "timeout", "a")))
    assert params.boolean("force") is True
    assert params.duration("timeout") == Duration(3.0, "3s")
    assert params.text("a") == "1"
    assert (params.text("b"), params.boolean("b", True), params.duration("b")) == (None, True, None)
    params.finish()


@pytest.mark.parametrize(
    ("query", "params", "reason"),
    [
        ("foo=1", (), "request [/_inference/x] contains unrecognized parameter: [foo]"),
        ("b=1&a", (), "request [/_inference/x] contains unrecognized parameters: [a], [b]"),
        (
            "timout=1s",
            ("timeout",),
            "request [/_inference/x] contains unrecognized parameter: [timout] -> did you mean [timeout]?",
        ),
        (
            "timeout=1s",
            ("master_timeout",),
            "request [/_inference/x] contains unrecognized parameter: [timeout]",
        ),
        (
            "pretti",
            (),
            "request [/_inference/x] contains unrecognized parameter: [pretti] -> did you mean [pretty]?",
        ),
        (
            "aab=1",
            ("aaa", "aac"),
            "request [/_inference/x] contains unrecognized parameter: [aab] -> did you mean any of [aaa, aac]?",
        ),
    ],
)
def test_unrecognised_parameters(query, params, reason):
    """Sorted, each with its near names; the path without its query."""
    with pytest.raises(IllegalArgument) as caught:
        Params(asked("GET", f"/_inference/x?{query}", params=params)).finish()
    assert caught.value.reason == reason


def test_many_unrecognised_parameters_take_no_time():
    """All are listed; only some are compared with the known ones."""
    query = "&".join(f"tiemout{n}=1" for n in range(5000))
    with pytest.raises(IllegalArgument) as caught:
        Params(asked("GET", f"/x?{query}", params=("timeout",))).finish()
    assert caught.value.reason.count("did you mean") <= 16
    assert caught.value.reason.count("[tiemout") == 5000


def test_a_body_where_none_is_read():
    """Refused after the parameters are."""
    with pytest.raises(IllegalArgument) as caught:
        Params(asked("GET", "/_inference/x", body=b"{}")).finish()
    assert caught.value.reason == "request [GET /_inference/x] does not support having a body"
    with pytest.raises(IllegalArgument, match="unrecognized"):
        Params(asked("GET", "/_inference/x?foo", body=b"{}")).finish()
    Params(asked("GET", "/_inference/x", headers={"content-length": "0"})).finish()


def test_common_parameters():
    """Every route takes them; without a query they cost nothing."""
    Params(asked("GET", "/x?" + "&".join(COMMON))).finish()
    shape = common(asked("GET", "/x?pretty&human=true&error_trace=false&filter_path=a"))
    assert (shape.pretty, shape.human, shape.error_trace, shape.plain) == (True, True, False, False)
    assert common(asked("GET", "/x")).plain
    assert common(asked("GET", "/x?filter_path=")).plain
    with pytest.raises(IllegalArgument):
        common(asked("GET", "/x?pretty=maybe"))


@given(st.text(max_size=60))
def test_any_query(query):
    """Read, or refused by name."""
    try:
        request = asked(
            "GET", "/x?" + query.encode("utf-8", "replace").decode("latin-1"), params=("timeout",)
        )
        common(request)
        params = Params(request)
        params.duration("timeout")
        params.finish()
    except IllegalArgument:
        return


def test_did_you_mean():
    """Near names, the nearest first; none for what is far or absurdly long."""
    assert did_you_mean("inpt", ["input", "input_type", "timeout"]) == " did you mean [input]?"
    assert did_you_mean("x", ["input"]) == ""
    assert close_names("quer", ["query", "queue"]) == ["query", "queue"]
    assert close_names("i" * 100_000, ["i" * 99_999]) == []
