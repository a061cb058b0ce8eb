"""Templates and addresses of the custom service under hostile values: what goes in never becomes structure."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inferd.errors import StatusError
from inferd.services.custom import templates, urls

texts = st.text(st.characters(codec="utf-8"), max_size=30)
hostile = texts | st.sampled_from(
    [
        '"',
        '", "admin": true, "x": "',
        "\\",
        '\\"',
        "}",
        "${secret}",
        "$",
        "${",
        "\x00",
        "\r\nX-Injected: 1",
        "\u2028",
        ",1,",
        "]",
        "../../admin",
        "@evil.test/",
        "#",
        "?",
        "&a=b",
        "%2e%2e/%2f",
    ]
)


def left_over(name: str, field: str) -> str:
    return (
        f"Found placeholder [${{{name}}}] in field [{field}] after replacement call, please check that all templates "
        "have a corresponding field definition."
    )


# Bodies


@pytest.mark.parametrize(
    ("template", "values", "body"),
    [
        ("plain", {}, "plain"),
        ("", {}, ""),
        ("${a}", {"a": "x"}, '"x"'),
        ('{"input": ${input}}', {"input": ["a", 'b"']}, '{"input": ["a","b\\""]}'),
        ('{"n": ${n}, "f": ${f}, "b": ${b}}', {"n": 3, "f": 0.5, "b": True}, '{"n": 3, "f": 0.5, "b": true}'),
        ('{"a": ${a}, "b": ${a}}', {"a": "x"}, '{"a": "x", "b": "x"}'),
        ("${a}${b}", {"a": 1, "b": "2"}, '1"2"'),
        ("$a ${ a}", {" a": 1}, "$a 1"),
        ("$${a}", {"a": 1}, "$1"),
        ("<x a=${a}>", {"a": "1"}, '<x a="1">'),
        ('<x a="${a}">', {"a": "1"}, '<x a=""1"">'),
        ('{"input": "${input}"}', {"input": 'a "quote"'}, '{"input": "a \\"quote\\""}'),
        ('{"input": "say ${input}, ${n}!"}', {"input": "hi", "n": [1, "2"]}, '{"input": "say hi, [1,\\"2\\"]!"}'),
        ('{"a\\"${a}": ${a}}', {"a": "x"}, '{"a\\"x": "x"}'),
        ('{${a}: 1}', {"a": "key"}, '{"key": 1}'),
    ],
)  # fmt: skip
def test_bodies(template: str, values: dict[str, Any], body: str) -> None:
    """Values go into a body as JSON; inside a string of a JSON template without quotes of their own."""
    assert templates.fill_json(template, "request", values) == body


@pytest.mark.parametrize(
    ("template", "name"),
    [("${a}", "a"), ('{"x": ${b}, "y": ${a}}', "b"), ("${}", ""), ("${a b}", "a b"), ("${${a}", "a")],
)
def test_left_over(template: str, name: str) -> None:
    """A placeholder without a value is named with its field."""
    with pytest.raises(StatusError) as caught:
        templates.fill_json(template, "request", {})
    assert (caught.value.status, caught.value.reason) == (400, left_over(name, "request"))
    with pytest.raises(StatusError) as caught:
        templates.fill(template, "header.X", lambda key, before: None)
    assert caught.value.reason == left_over(name, "header.X")


@given(hostile, hostile)
def test_body_structure(a: str, b: str) -> None:
    """Whatever the values say, the body has the structure of its template and holds the values themselves."""
    template = '{"model": "m", "input": [${a}, "${b}", "x ${a} y"], "${b}": {"deep": ${a}}, "n": 1}'
    assume(b not in ("model", "input", "n"))
    body = msgspec.json.decode(templates.fill_json(template, "request", {"a": a, "b": b, "secret": "s3cret"}))
    assert body == {"model": "m", "input": [a, b, f"x {a} y"], b: {"deep": a}, "n": 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_any_json_value(value: Any) -> None:
    """Any value, nested ones too, arrives as it is."""
    body = templates.fill_json('{"a": ${v}, "b": "${v}"}', "request", {"v": value})
    read = msgspec.json.decode(body)
    assert read["a"] == value
    assert read["b"] == value if isinstance(value, str) else msgspec.json.decode(read["b"]) == value


def value_of(values: dict[str, str]) -> Callable[[str, str], str | None]:
    return lambda name, before: values.get(name)


@given(hostile)
def test_values_are_not_templates(value: str) -> None:
    """A value that looks like a placeholder stays text: no input can ask for a secret."""
    for text in (value, "${secret}", f"{value}${{secret}}"):
        values = {"input": text, "secret": "s3cret"}
        assert "s3cret" not in templates.fill_json('{"input": ${input}}', "request", values)
        assert templates.fill("${input}", "url", value_of(values)) == text


@given(st.text('${}ab"\\{}[]:,', max_size=40))
def test_any_template(template: str) -> None:
    """Any text is a template: with a value for each of its names it is filled, and nothing of it is lost."""
    names = templates.names(template)
    filled = templates.fill(template, "url", lambda name, before: f"${{{name}}}")
    assert filled == template
    values = dict.fromkeys(names, 7)
    assert templates.fill_json(template, "request", values) == templates.fill(
        template, "request", lambda name, before: "7"
    )


def test_not_unicode() -> None:
    """A value that is not Unicode is an error of ours, not a crash."""
    with pytest.raises(StatusError) as caught:
        templates.fill_json("${a}", "request", {"a": "\ud800"})
    assert caught.value.reason == "The request holds text that is not valid Unicode"


def test_many_placeholders() -> None:
    """A large template is filled in one pass."""
    template = '{"a": [' + ",".join(["${v}"] * 100_000) + "]}"
    assert len(msgspec.json.decode(templates.fill_json(template, "request", {"v": 1}))["a"]) == 100_000


# Addresses


def address(template: str, *pairs: tuple[str, str], own: Any = None, given: Any = None) -> str:
    return urls.filled(template, pairs, own or {}, given or {})


@pytest.mark.parametrize(
    ("template", "own", "url"),
    [
        ("https://a.test/v1", {}, "https://a.test/v1"),
        ("https://${host}/${path}?k=${k}", {"host": "a.test:8", "path": "b/c", "k": "d&e=f"}, "https://a.test:8/b/c?k=d&e=f"),
        ("${url}", {"url": "http://a.test/x"}, "http://a.test/x"),
        ("https://a.test/${p}", {"p": "../x"}, "https://a.test/../x"),
    ],
)  # fmt: skip
def test_own_values_are_raw(template: str, own: dict[str, str], url: str) -> None:
    """What the endpoint's own settings hold goes in as it is, wherever it stands."""
    assert address(template, own=own) == url


@pytest.mark.parametrize(
    ("template", "given", "url"),
    [
        ("https://a.test/models/${m}/embed", {"m": "org/name:1"}, "https://a.test/models/org/name:1/embed"),
        ("https://a.test/?m=${m}", {"m": "a/b?c=d"}, "https://a.test/?m=a/b?c=d"),
        ("https://a.test/${m}", {"m": "v1..2/a.b"}, "https://a.test/v1..2/a.b"),
        ("https://a.test/${m}", {"m": ""}, "https://a.test/"),
    ],
)
def test_given_values(template: str, given: dict[str, str], url: str) -> None:
    """What a request brings goes in as it is where it stays in its place."""
    assert address(template, given=given) == url


HOST = "[task_settings] The value of [parameters.m] must not be part of the host of the [url]"
PATH = "[task_settings] The values in [parameters] must not change the path of the [url]"


def characters(part: str, held: str) -> str:
    return f"[task_settings] The value of [parameters.m] must not hold any of the characters [{held}] in the {part} of the [url]"


@pytest.mark.parametrize(
    ("template", "value", "text"),
    [
        ("https://${m}/v1", "evil.test", HOST),
        ("${m}://a.test/v1", "http", HOST),
        ("${m}", "https://evil.test/", HOST),
        ("https://a.test${m}", ".evil.test/", HOST),
        ("https://a.test${m}", "/fine", HOST),
        ("https://user:${m}@a.test/", "x@evil.test/", HOST),
        ("https://a.test/${m}", "x?admin=1", characters("path", "? # \\")),
        ("https://a.test/${m}", "x#", characters("path", "? # \\")),
        ("https://a.test/a?k=${m}", "1&admin=1", characters("query", "& #")),
        ("https://a.test/a?k=${m}", "1#", characters("query", "& #")),
        ("https://a.test/a/${m}", "../admin", PATH),
        ("https://a.test/a/${m}/b", "..", PATH),
        ("https://a.test/a/.${m}", ".", PATH),
        ("https://a.test/a/${m}", "%2e%2E/admin", PATH),
        ("https://a.test/a/${m}", "x%2f..%2fadmin", PATH),
        ("https://a.test/a/${m}", "%5c..%5cadmin", PATH),
    ],
)
def test_moved_addresses(template: str, value: str, text: str) -> None:
    """Who may only use an endpoint cannot send its secrets elsewhere."""
    with pytest.raises(StatusError) as caught:
        address(template, given={"m": value})
    assert (caught.value.status, caught.value.reason) == (400, text)


@given(hostile)
def test_given_values_stay(value: str) -> None:
    """Any value of a request is refused, or leaves scheme, host and the rest of the path and query alone."""
    try:
        url = address("https://a.test/v1/${m}/embed?model=${m}&x=1", given={"m": value})
    except StatusError:
        return
    assert url == f"https://a.test/v1/{value}/embed?model={value}&x=1"
    assert not set(value) & set("?#&\\ \r\n\t\x00")
    assert ".." not in value.split("/")


@given(hostile, hostile, hostile)
def test_query_parameters(own: str, given_value: str, key: str) -> None:
    """Query parameters are written percent-encoded, in order; whatever they hold stays in them."""
    assume("${" not in key)
    url = address(
        "https://a.test/x?first=1",
        (key, "${own}-${given}"),
        ("last", "2"),
        own={"own": own},
        given={"given": given_value},
    )
    found = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True, max_num_fields=3)
    assert found == [("first", "1"), (key, f"{own}-{given_value}"), ("last", "2")]


def test_missing_values() -> None:
    """A placeholder without a value is named with the part of the address it stands in."""
    with pytest.raises(StatusError) as caught:
        address("https://a.test/${m}")
    assert caught.value.reason == left_over("m", "url")
    with pytest.raises(StatusError) as caught:
        address("https://a.test/", ("key", "${m}"))
    assert caught.value.reason == left_over("m", "query parameters: [key]")


@pytest.mark.parametrize(
    "url", ["a.test/v1", "ftp://a.test", "https://", "https://a b/", "http://[", "https://a.test:x/"]
)
def test_not_an_address(url: str) -> None:
    """What is no URL after replacement is refused without quoting the values."""
    with pytest.raises(StatusError) as caught:
        address("${u}", own={"u": url})
    assert caught.value.reason.startswith("The [url] [${u}] is not a valid url after replacement. Reason: ")
