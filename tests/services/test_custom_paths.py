"""The path language of the custom service, hostile paths and answers included."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.core.service import BadReply
from inferd.services.custom.paths import extract, parse, type_name


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("$", {"a": 1}, {"a": 1}),
        ("$.a", {"a": 1}, 1),
        ("$.a", {"a": None}, None),
        ("$.a.b", {"a": {"b": [1, 2]}}, [1, 2]),
        ("$[*]", [1, 2], [1, 2]),
        ("$[*].a", [{"a": 1}, {"a": 2}], [1, 2]),
        ("$.a[*]", {"a": []}, []),
        ("$.a[*].b", {"a": [{"b": 1}, {"b": 2}]}, [1, 2]),
        (
            "$.a[*].b[*].c",
            {"a": [{"b": [{"c": 1}, {"c": 2}]}, {"b": []}, {"b": [{"c": 3}]}]},
            [[1, 2], [], [3]],
        ),
        ("$.a[*][*]", {"a": [[1], [2, 3]]}, [[1], [2, 3]]),
        ("$.a-b.c d.ü", {"a-b": {"c d": {"ü": 1}}}, 1),
        ("$.a]", {"a]": 1}, 1),
        ("$.*", {"*": 1}, 1),
    ],
)
def test_found(path: str, value: Any, found: Any) -> None:
    """Fields are entered, every [*] gives a list of its own."""
    assert extract(value, path) == found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "Path [] must start with a dollar sign ($)"),
        ("a.b", "Path [a.b] must start with a dollar sign ($)"),
        (" $.a", "Path [ $.a] must start with a dollar sign ($)"),
        ("$a", "Invalid path received [a], unable to extract a field name."),
        ("$.", "Invalid path received [.], unable to extract a field name."),
        ("$..a", "Invalid path received [..a], unable to extract a field name."),
        ("$.a.", "Invalid path received [.], unable to extract a field name."),
        ("$.a[0]", "Invalid path received [[0]], unable to extract a field name."),
        ("$.a[*]b", "Invalid path received [b], unable to extract a field name."),
        ("$.a[*", "Invalid path received [[*], unable to extract a field name."),
        ("$['a']", "Invalid path received [['a']], unable to extract a field name."),
        ("$.[*]", "Invalid path received [.[*]], unable to extract a field name."),
    ],
)
def test_not_a_path(path: str, text: str) -> None:
    """What is not a path is told in the contract's words, before any answer is there."""
    with pytest.raises(ValueError) as caught:
        parse(path)
    assert str(caught.value) == text


def list_text(rest: str, found: str) -> str:
    return (
        f"Current path [{rest}] matched the array field pattern but the current object is not a list, "
        f"found invalid type [{found}] instead."
    )


def map_text(rest: str, found: str) -> str:
    return (
        f"Current path [{rest}] matched the dot field pattern but the current object is not a map, "
        f"found invalid type [{found}] instead."
    )


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("$.a.b", {"a": {"c": 1}}, "Unable to find field [b] in map"),
        ("$.a", {}, "Unable to find field [a] in map"),
        ("$[*].a", [{"a": 1}, {}], "Unable to find field [a] in map"),
        ("$.a[*].b", {"a": {"b": 1}}, list_text("[*].b", "LinkedHashMap")),
        ("$.a[*]", {"a": "text"}, list_text("[*]", "String")),
        ("$[*]", 5, list_text("[*]", "Integer")),
        ("$[*]", None, list_text("[*]", "null")),
        ("$.a.b", {"a": [1]}, map_text(".b", "ArrayList")),
        ("$.a.b.c", {"a": 1.5}, map_text(".b.c", "Double")),
        ("$.a", True, map_text(".a", "Boolean")),
        ("$[*].a", [2**40], map_text(".a", "Long")),
    ],
)
def test_not_found(path: str, value: Any, text: str) -> None:
    """An answer of another shape is told with the place where it differs."""
    with pytest.raises(BadReply) as caught:
        extract(value, path)
    assert str(caught.value) == text


def test_type_names() -> None:
    """Types are named as the reference names them."""
    assert [type_name(v) for v in ("", True, 1, 2**31, -(2**31), 2**63, 1.0, {}, [], None)] == [
        *("String", "Boolean", "Integer", "Long", "Integer"),
        *("BigInteger", "Double", "LinkedHashMap", "ArrayList", "null"),
    ]


fields = st.text(st.characters(exclude_characters=".["), min_size=1, max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields, inner, max_size=4),
    max_leaves=20,
)


PATHS = st.text("$.[]*ab0 \ud800\x00", max_size=20)


@given(PATHS)
def test_any_path(path: str) -> None:
    """Any text is a path, all of it, or is refused by name."""
    with contextlib.suppress(ValueError):
        steps = parse(path)
        assert "$" + "".join("[*]" if step.field is None else f".{step.field}" for step in steps) == path
        return
    with pytest.raises(ValueError, match=r"(?s)Path \[.*\] must start|Invalid path received \["):
        parse(path)


@given(path=PATHS.map(lambda path: f"$.{path}"), value=json_values)
def test_any_answer(path: str, value: Any) -> None:
    """Any answer is read, or is refused by name."""
    with contextlib.suppress(BadReply, ValueError):
        extract(value, path)


def spread(value: Any, steps: list[str | None]) -> Any:
    """A plain second reading of the same steps."""
    if not steps:
        return value
    if steps[0] is None:
        return [spread(member, steps[1:]) for member in value]
    return spread(value[steps[0]], steps[1:])


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[str | None], Any]:
    """A path, and an answer that it fits."""
    steps = draw(st.lists(st.none() | fields, max_size=5))

    def build(at: int) -> Any:
        if at == len(steps):
            return draw(st.integers(0, 9))
        name = steps[at]
        if name is not None:
            return {**draw(st.dictionaries(fields, st.integers(), max_size=2)), name: build(at + 1)}
        return [build(at + 1) for _ in range(draw(st.integers(0, 3)))]

    return steps, build(0)


@given(journeys())
def test_journeys(journey: tuple[list[str | None], Any]) -> None:
    """A path finds what its steps lead to, nesting kept."""
    steps, value = journey
    path = "$" + "".join("[*]" if step is None else f".{step}" for step in steps)
    assert extract(value, path) == spread(value, steps)


def test_long_paths() -> None:
    """A long path is read in one pass, and followed no deeper than the answer goes."""
    assert len(parse("$" + ".a" * 50_000)) == 50_000
    assert len(parse("$" + "[*]" * 50_000)) == 50_000
    with pytest.raises(BadReply):
        extract([{}], "$" + "[*].a" * 50_000)
