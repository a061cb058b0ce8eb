"""``filter_path`` (api.md section 3)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.api.elastic.filter import Filters, matches
from inferd.errors import IllegalArgument

BODY = {
    "endpoints": [
        {
            "inference_id": "a",
            "service_settings": {"model_id": "m", "rate_limit": {"requests_per_minute": 1}},
        },
        {"inference_id": "b", "service_settings": {"model_id": "n"}, "empty": {}},
    ],
    "count": 2,
    "a.b": {"c": 1},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count", {"count": 2}),
        ("endpoints.inference_id", {"endpoints": [{"inference_id": "a"}, {"inference_id": "b"}]}),
        (
            "endpoints.service_settings.rate_limit",
            {"endpoints": [{"service_settings": {"rate_limit": {"requests_per_minute": 1}}}]},
        ),
        ("*.inference_id", {"endpoints": [{"inference_id": "a"}, {"inference_id": "b"}]}),
        ("endpoints.inf*id", {"endpoints": [{"inference_id": "a"}, {"inference_id": "b"}]}),
        ("**.requests_per_minute", {"endpoints": [{"service_settings": {"rate_limit": {"requests_per_minute": 1}}}]}),
        ("**.model_id", {"endpoints": [{"service_settings": {"model_id": "m"}}, {"service_settings": {"model_id": "n"}}]}),
        ("**", BODY),
        ("endpoints.**", {"endpoints": BODY["endpoints"]}),
        ("*", BODY),
        (r"a\.b.c", {"a.b": {"c": 1}}),
        ("a.b.c", {}),
        ("nothing", {}),
        ("count.deeper", {}),
        ("endpoints.empty", {"endpoints": [{"empty": {}}]}),
        ("endpoints.inference_id, count", {"endpoints": [{"inference_id": "a"}, {"inference_id": "b"}], "count": 2}),
        ("-count,-a\\.b", {"endpoints": BODY["endpoints"]}),
        (
            "-endpoints.service_settings,-*.c",
            {"endpoints": [{"inference_id": "a"}, {"inference_id": "b", "empty": {}}], "count": 2},
        ),
        ("endpoints,-**.model_id,-**.empty", {
            "endpoints": [
                {"inference_id": "a", "service_settings": {"rate_limit": {"requests_per_minute": 1}}},
                {"inference_id": "b"},
            ]
        }),
        ("-*", {}),
        ("count,-count", {}),
        (",,", BODY),
        ("-", BODY),
    ],
)  # fmt: skip
def test_filters(text, expected):
    """Inclusions keep, exclusions take away from what was kept, arrays are looked through."""
    filters = Filters(text)
    assert (filters.apply(BODY) if filters else BODY) == expected


def test_an_array_on_top_is_looked_through():
    """`_services` answers with an array; nothing left is ``{}``."""
    assert Filters("service").apply([{"service": "a", "name": "A"}]) == [{"service": "a"}]
    assert Filters("none").apply([{"service": "a"}]) == {}


def test_stars():
    """A star is any run of characters, also none; hostile patterns take no time."""
    assert matches("a*c", "ac")
    assert matches("*", "")
    assert matches("*a*b*", "xaybz")
    assert not matches("a*c", "acd")
    assert not matches("*a" * 500 + "b", "a" * 2000)


def test_hostile_filters_take_no_time():
    """A path of double stars over a deep body stays small work."""
    deep: Any = 1
    for _ in range(150):
        deep = {"a": deep}
    assert Filters(".".join(["**", "a"] * 200)).apply(deep) == {}

    assert Filters(".".join(["**"] * 20_000)).apply({"a": [1]}) == {"a": [1]}
    assert Filters("a." * 20_000 + "a").apply(deep) == {}
    with pytest.raises(IllegalArgument, match="more than"):
        Filters("a," * 300)


bodies = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.*", max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.text("ab.*-,\\", max_size=20), bodies)
def test_any_filter_over_any_body(text, body):
    """What survives is never more than there was."""

    def leaves(value) -> int:
        if isinstance(value, dict):
            return sum(map(leaves, value.values()))
        return sum(map(leaves, value)) if isinstance(value, list) else 1

    filters = Filters(text)
    assert leaves(filters.apply(body)) <= leaves(body)
