"""Setting rows and their messages (api.md 5.3, services/common.md section 2)."""

from typing import Any

import pytest

from inferd.core.secrets import Secret
from inferd.core.settings import (
    API_KEY,
    DIMENSIONS,
    MODEL_ID,
    SIMILARITY,
    Draft,
    Kind,
    Setting,
    bad_url,
    java,
    java_double,
    publish,
    rate_limit,
    read,
    redacted,
    refuse_leftovers,
)
from inferd.core.tasks import TaskType
from inferd.errors import Invalid, StatusError

DENSE = TaskType.TEXT_EMBEDDING


def faults(row: Setting, value: Any, task: TaskType = DENSE) -> list[str]:
    draft = Draft("svc", task)
    read((row,), {row.key: value}, draft, "service_settings")
    return draft.faults


WORD = Setting(key="k")
NUMBER = Setting(key="k", kind=Kind.INTEGER)

CASES = [
    (Setting(key="k", required=True), None, "[service_settings] does not contain the required setting [k]"),
    (WORD, "", "[service_settings] Invalid value empty string. [k] must be a non-empty string"),
    (WORD, 5, "field [k] is not of the expected type. The value [5] cannot be converted to a [String]"),
    (
        WORD,
        {"a": [1, True, None]},
        "field [k] is not of the expected type. The value [{a=[1, true, null]}] cannot be converted to a [String]",
    ),
    (NUMBER, "5", "field [k] is not of the expected type. The value [5] cannot be converted to a [Integer]"),
    (
        NUMBER,
        5.0,
        "field [k] is not of the expected type. The value [5.0] cannot be converted to a [Integer]",
    ),
    (
        NUMBER,
        True,
        "field [k] is not of the expected type. The value [true] cannot be converted to a [Integer]",
    ),
    (
        NUMBER,
        2**31,
        "field [k] is not of the expected type. The value [2147483648] cannot be converted to a [Integer]",
    ),
    (DIMENSIONS, 0, "[service_settings] Invalid value [0]. [dimensions] must be a positive integer"),
    (
        Setting(key="k", kind=Kind.DOUBLE, minimum=0.0, maximum=2.0),
        2.5,
        "[service_settings] Invalid value [2.5]. [k] must be a less than or equal to [2.0]",
    ),
    (
        Setting(key="k", kind=Kind.DOUBLE, minimum=0.0, maximum=2.0),
        -1,
        "[service_settings] Invalid value [-1.0]. [k] must be a greater than or equal to [0.0]",
    ),
    (
        Setting(key="k", kind=Kind.BOOLEAN),
        "true",
        "field [k] is not of the expected type. The value [true] cannot be converted to a [Boolean]",
    ),
    (
        SIMILARITY,
        "dot",
        "[service_settings] Invalid value [dot] received. [similarity] must be one of [cosine, dot_product, l2_norm]",
    ),
    (
        Setting(key="k", kind=Kind.MAP, strings=True),
        {"a": 1},
        "Map field [k] has an entry that is not valid, [a => 1]. Value type of [1] is not one of [String].",
    ),
    (Setting(key="k", refused=True), "x", "[service_settings] does not allow the setting [k]"),
    (
        Setting(key="k", url=True),
        "nope",
        "[service_settings] Invalid url [nope] received for field [k]. Error: unable to parse url [nope]. "
        "Reason: the url has no scheme",
    ),
]


@pytest.mark.parametrize(("row", "value", "message"), CASES)
def test_a_bad_value_gives_its_message(row: Setting, value: Any, message: str) -> None:
    """Each rule has its literal text, and only that fault is reported."""
    assert faults(row, value) == [message]


def test_faults_are_collected_and_numbered() -> None:
    """All problems of one map come together."""
    draft = Draft("svc", DENSE)
    read((API_KEY, MODEL_ID, DIMENSIONS), {"dimensions": -1}, draft, "service_settings")
    with pytest.raises(Invalid) as told:
        draft.check()
    assert told.value.reason == (
        "Validation Failed: 1: [secret_settings] does not contain the required setting [api_key];"
        "2: [service_settings] does not contain the required setting [model_id];"
        "3: [service_settings] Invalid value [-1]. [dimensions] must be a positive integer;"
    )


class TestRateLimit:
    row = rate_limit({DENSE: 3000, TaskType.COMPLETION: 500})

    def parse(self, raw: Any, task: TaskType = DENSE) -> tuple[dict[str, Any], list[str]]:
        draft = Draft("svc", task)
        values = read((self.row,), raw, draft, "service_settings")
        return values, draft.faults

    @pytest.mark.parametrize("raw", [{}, {"rate_limit": {}}, {"rate_limit": None}])
    def test_the_default_is_filled_in(self, raw: dict[str, Any]) -> None:
        """Absent or empty means the default of the task."""
        assert self.parse(dict(raw)) == ({"rate_limit": {"requests_per_minute": 3000}}, [])

    def test_the_default_depends_on_the_task(self) -> None:
        """A mapping by task gives each task its own."""
        assert self.parse({}, TaskType.COMPLETION)[0] == {"rate_limit": {"requests_per_minute": 500}}

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (
                {"requests_per_minute": 0},
                "[rate_limit] Invalid value [0]. [requests_per_minute] must be a positive long",
            ),
            (
                {"requests_per_minute": "1"},
                "field [requests_per_minute] is not of one of the expected types. The value [1] cannot be converted "
                "to one of [Integer, Long]",
            ),
            (
                5,
                "field [rate_limit] is not of the expected type. The value [5] cannot be converted to a [Map]",
            ),
            ({"foo": "bar"}, "Rate limit settings contain unknown entries [{foo=bar}]"),
        ],
    )
    def test_bad_values(self, value: Any, message: str) -> None:
        """Its messages have the scope rate_limit."""
        assert self.parse({"rate_limit": value})[1] == [message]

    def test_a_long_is_accepted(self) -> None:
        """Beyond 32 bits."""
        assert self.parse({"rate_limit": {"requests_per_minute": 2**40}})[1] == []


def test_known_keys_are_taken_and_the_rest_is_unknown() -> None:
    """What no row reads is left over, and refused with the values printed."""
    raw = {"model_id": "m", "foo": "bar", "n": 1.5}
    draft = Draft("svc", DENSE)
    assert read((MODEL_ID,), raw, draft, "service_settings") == {"model_id": "m"}
    with pytest.raises(StatusError) as told:
        refuse_leftovers("svc", raw)
    assert (
        told.value.reason == "Configuration contains settings [{foo=bar, n=1.5}] unknown to the [svc] service"
    )


def test_a_misplaced_secret_is_not_echoed() -> None:
    """Unknown members are printed in the message, secrets by name are not."""
    with pytest.raises(StatusError) as told:
        refuse_leftovers("svc", {"api_key": "sk-1", "x": {"Authorization": "Bearer b", "max_tokens": 5}})
    assert told.value.reason.count("******") == 2
    assert "sk-1" not in told.value.reason
    assert "max_tokens=5" in told.value.reason


def test_a_wrong_secret_is_not_echoed() -> None:
    """A secret of the wrong type is not printed either."""
    draft = Draft("svc", DENSE)
    read((API_KEY,), {"api_key": {"inner": "sk-1"}}, draft, "service_settings")
    assert len(draft.faults) == 1
    assert "sk-1" not in draft.faults[0]


def test_secrets_are_sealed_and_kept_apart() -> None:
    """A secret row's value becomes a Secret and is not among the settings."""
    draft = Draft("svc", DENSE)
    rows = (API_KEY, Setting(key="parameters", kind=Kind.MAP, secret=True))
    values = read(rows, {"api_key": "k", "parameters": {"a": "b"}}, draft, "service_settings")
    assert values == {}
    assert draft.secrets == {"api_key": Secret("k"), "parameters": {"a": Secret("b")}}


def test_a_row_for_another_task_is_unknown() -> None:
    """A setting that the task does not have is left over."""
    raw = {"dimensions": 3}
    assert read((DIMENSIONS,), raw, Draft("svc", TaskType.RERANK), "service_settings") == {}
    assert raw == {"dimensions": 3}


def test_aliases_are_old_names() -> None:
    """An alias is read where the name is absent."""
    row = Setting(key="model_id", aliases=("model",), required=True)
    assert read((row,), {"model": "m"}, Draft("svc", DENSE), "service_settings") == {"model_id": "m"}


def test_a_partial_read_fills_nothing_in() -> None:
    """Request task settings neither require nor default."""
    row = Setting(key="k", required=True, default="d")
    draft = Draft("svc", DENSE)
    assert read((row,), {}, draft, "task_settings", partial=True) == {}
    assert draft.faults == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10.0, "10.0"),
        (0.5, "0.5"),
        (0.001, "0.001"),
        (-7.7057e-4, "-7.7057E-4"),
        (1e7, "1.0E7"),
        (123456789.0, "1.23456789E8"),
        (1e300, "1.0E300"),
        (1.5e-10, "1.5E-10"),
        (0.0, "0.0"),
    ],
)
def test_doubles_print_in_javas_notation(value: float, text: str) -> None:
    """Exponent form below 1E-3 and from 1E7 on."""
    assert java_double(value) == text


def test_values_print_in_javas_notation() -> None:
    """Maps, lists, null and booleans."""
    assert java({"a": {"b": [1, "x", None]}, "c": True}) == "{a={b=[1, x, null]}, c=true}"


def test_redaction_keeps_structure() -> None:
    """Only values under secret names change."""
    assert java(redacted([{"token": "t", "tokens": 3}])) == "[{token=******, tokens=3}]"


@pytest.mark.parametrize("url", ["http://h", "https://h:8080/p?q=1", "http://[::1]:80/"])
def test_good_urls(url: str) -> None:
    """http and https with a host."""
    assert bad_url(url) is None


@pytest.mark.parametrize(
    "url", ["", "h", "ftp://h", "http://", "http://h:x", "http://a b", "http://h\r\nX: y", "\ud800"]
)
def test_bad_urls(url: str) -> None:
    """Everything that could not be called, line breaks and lone surrogates among them."""
    assert bad_url(url)


def test_publishing_a_row() -> None:
    """The form of GET _services: alphabetical by kind of fact, unset facts left out."""
    row = Setting(
        key="k", kind=Kind.LONG, label="L", description="D", required=True, tasks=frozenset({DENSE})
    )
    assert publish(row, (TaskType.RERANK, DENSE)) == {
        "description": "D",
        "label": "L",
        "required": True,
        "sensitive": False,
        "updatable": False,
        "type": "int",
        "supported_task_types": ["text_embedding"],
    }
