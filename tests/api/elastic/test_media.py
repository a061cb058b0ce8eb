"""Media types (api.md 1.3)."""

import json

import cbor2
import pytest
from asked import asked
from hypothesis import given
from hypothesis import strategies as st

from inferd.api.elastic import media
from inferd.api.elastic.media import Format, Media, from_cbor, from_yaml
from inferd.errors import BadBody, BadMediaType, InferdError, NotRouted, StatusError, TruncatedBody

VND = "application/vnd.elasticsearch+json"


def negotiated(uri="/x", body=b"", **headers) -> str:
    request = asked(
        "POST", uri, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    media.check(request)
    return media.of(request).content_type


@pytest.mark.parametrize(
    ("uri", "headers", "expected"),
    [
        ("/x", {}, "application/json"),
        ("/x", {"accept": "*/*"}, "application/json"),
        ("/x", {"accept": "application/*"}, "application/json"),
        ("/x", {"accept": "text/event-stream"}, "application/json"),
        ("/x", {"accept": "text/html, application/yaml;q=0.9, */*"}, "application/yaml"),
        ("/x", {"accept": "application/yaml"}, "application/yaml"),
        ("/x", {"accept": "Application/JSON; Charset=UTF-8"}, "application/json"),
        ("/x", {"accept": f"{VND};compatible-with=9"}, f"{VND};compatible-with=9"),
        ("/x", {"accept": f"{VND}; compatible-with=8"}, f"{VND};compatible-with=8"),
        ("/x", {"accept": 'application/vnd.elasticsearch+cbor;compatible-with="9"'}, "application/vnd.elasticsearch+cbor;compatible-with=9"),
        ("/x?format=yaml", {"accept": "application/json"}, "application/yaml"),
        ("/x?format=cbor", {}, "application/cbor"),
        ("/x?format=xml", {}, "application/json"),
        ("/x", {"content_type": "application/yaml"}, "application/yaml"),
        ("/x", {"content_type": "application/yaml", "accept": "application/json"}, "application/json"),
        ("/x", {"content_type": "text/plain"}, "application/json"),
    ],
)  # fmt: skip
def test_the_form_of_the_answer(uri, headers, expected):
    """``format``, then Accept, then Content-Type, then JSON."""
    assert negotiated(uri, **headers) == expected


@pytest.mark.parametrize(
    ("headers", "reason", "cause"),
    [
        ({"accept": "json"}, "Invalid media-type value on header [Accept]", None),
        ({"accept": "text/plain"}, "Invalid media-type value on header [Accept]", None),
        ({"accept": "application/json; charset=utf-16"}, "Invalid media-type value on header [Accept]", None),
        ({"content_type": "json"}, "Invalid media-type value on header [Content-Type]", None),
        ({"content_type": "application/json; x"}, "Invalid media-type value on header [Content-Type]", None),
        (
            {"accept": f"{VND}; compatible-with=10"},
            "Invalid media-type value on headers [Accept, Content-Type]",
            f"Accept version must be either version 9 or 8, but found 10. Accept={VND}; compatible-with=10",
        ),
        (
            {"accept": f"{VND};compatible-with=7"},
            "Invalid media-type value on headers [Accept, Content-Type]",
            f"Accept version must be either version 9 or 8, but found 7. Accept={VND};compatible-with=7",
        ),
        (
            {"body": b"{}", "content_type": f"{VND};compatible-with=9", "accept": f"{VND};compatible-with=8"},
            "Invalid media-type value on headers [Accept, Content-Type]",
            "A compatible version is required on both Content-Type and Accept headers if either one has requested a "
            "compatible version and the compatible versions must match. "
            f"Accept={VND};compatible-with=8, Content-Type={VND};compatible-with=9",
        ),
        (
            {"body": b"{}", "content_type": "application/json", "accept": f"{VND};compatible-with=9"},
            "Invalid media-type value on headers [Accept, Content-Type]",
            "A compatible version is required on both Content-Type and Accept headers if either one has requested a "
            "compatible version and the compatible versions must match. "
            f"Accept={VND};compatible-with=9, Content-Type=application/json",
        ),
    ],
)
def test_headers_that_are_wrong(headers, reason, cause):
    """400 media_type_header_exception, to the letter."""
    with pytest.raises(BadMediaType) as caught:
        negotiated(**headers)
    assert caught.value.reason == reason
    told = caught.value.__cause__
    assert (None if told is None else told.reason) == cause


def test_versions_may_differ_without_a_body():
    """A GET with a version on one header only is fine."""
    assert (
        negotiated(accept=f"{VND};compatible-with=9", content_type="application/json")
        == f"{VND};compatible-with=9"
    )


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        (None, "Content-Type header is missing"),
        ("text/plain", "Content-Type header [text/plain] is not supported"),
        ("text/plain; charset=utf-8", "Content-Type header [text/plain; charset=utf-8] is not supported"),
        (
            "application/x-www-form-urlencoded",
            "Content-Type header [application/x-www-form-urlencoded] is not supported",
        ),
        (
            "multipart/form-data; boundary=x",
            "Content-Type header [multipart/form-data; boundary=x] is not supported",
        ),
        ("application/smile", "Content-Type header [application/smile] is not supported"),
        ("application/json,text/plain", "Content-Type header [application/json,text/plain] is not supported"),
    ],
)
def test_bodies_of_other_types(content_type, reason):
    """406 with the header as sent."""
    request = asked(
        "POST",
        "/x",
        headers={"content-length": "2"} | ({"content-type": content_type} if content_type else {}),
    )
    media.check(request)
    with pytest.raises(NotRouted) as caught:
        media.check_body(request)
    assert (caught.value.status, caught.value.reason) == (406, reason)


@pytest.mark.parametrize("headers", [{"accept": "application/smile"}, {"uri": "/x?format=smile"}])
def test_smile_is_not_spoken(headers):
    """406: no kept library writes it."""
    with pytest.raises(NotRouted) as caught:
        negotiated(**headers)
    assert caught.value.status == 406


def test_a_refusal_before_negotiation_is_json():
    """An error about the headers themselves still has a form."""
    assert media.of(asked("GET", "/x", headers={"accept": "nonsense"})) == Media(Format.JSON)


header_text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)


@given(header_text, header_text)
def test_any_headers(accept, content_type):
    """Negotiated, or refused by name."""
    request = asked(
        "POST", "/x", headers={"accept": accept, "content-type": content_type, "content-length": "2"}
    )
    try:
        media.check(request)
        media.check_body(request)
    except (BadMediaType, NotRouted):
        return
    assert isinstance(media.of(request), Media)


# YAML and CBOR


async def as_json(body: bytes, content_type: str) -> object:
    return json.loads(
        await media.json_body(asked("PUT", "/x", body=body, headers={"content-type": content_type}))
    )


async def test_yaml_and_cbor_bodies():
    """They mean what their JSON would."""
    value = {"service": "x", "n": [1, 2.5, None, True, "yes"], "d": {"é": "\0"}}
    text = b'service: x\nn: [1, 2.5, ~, true, yes]\nd: {"\\u00e9": "\\0"}\n'
    assert await as_json(text, "application/yaml") == value
    assert await as_json(cbor2.dumps(value), "application/vnd.elasticsearch+cbor; compatible-with=9") == value
    assert await as_json(b'{"a":1}', "application/json; charset=utf-8") == {"a": 1}
    big = {"input": ["a long text"] * 20_000}
    assert await as_json(cbor2.dumps(big), "application/cbor") == big


def test_yaml_scalars_are_those_of_json():
    """No dates, no ``yes``, no octal, no binary numbers, no infinity."""
    text = b"[2020-01-01, yes, off, 0o7, 0x1f, 1_000, .inf, 1e3, -1, +2, .5, '1', 12:30:45]"
    expected = [
        "2020-01-01",
        "yes",
        "off",
        "0o7",
        "0x1f",
        "1_000",
        ".inf",
        1000.0,
        -1,
        2,
        0.5,
        "1",
        "12:30:45",
    ]
    assert json.loads(from_yaml(text)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"a: &x [1]\nb: *x",
        b"[" * 300,
        b"- " * 300 + b"1",
        b"a: b: c",
        b"!!timestamp 2020-01-01",
        b"!!python/object/apply:os.system ['true']",
        b"\x00",
        b"--- 1\n--- 2",
        b"? [1]\n: 2",
        b"\xff\xff",
        b"'unclosed",
    ],
)
def test_yaml_that_is_refused(body):
    """Aliases, depth, tags of Python, several documents, and what is not YAML: 400 with a position."""
    with pytest.raises(BadBody, match=r"^\[\d+:\d+\] "):
        from_yaml(body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xa1", TruncatedBody),
        (b"\x5a\xff\xff\xff\xff", TruncatedBody),
        (b"\x9b" + b"\xff" * 8, BadBody),
        (b"\x81" * 100_000, BadBody),
        (b"\xd8\x1c\x81\xd8\x1d\x00", BadBody),
        (b"\xff", BadBody),
        (b"\xa1\x80\x01", BadBody),
        (b"\x41\x00", BadBody),
        (cbor2.dumps(2**70), BadBody),
    ],
)
def test_cbor_that_is_refused(body, kind):
    """Cut short, endless, deep, cyclic, and values that JSON does not have."""
    with pytest.raises(kind):
        from_cbor(body)


async def test_yaml_has_a_size():
    """Its reader is slow: 413 beyond 2 MB."""
    with pytest.raises(StatusError) as caught:
        await as_json(b" " * (2 * 1024 * 1024 + 1), "application/yaml")
    assert caught.value.status == 413


@given(st.binary(max_size=100))
def test_any_bytes_as_cbor(body):
    """Read, or refused by name."""
    try:
        json.loads(from_cbor(body))
    except InferdError as error:
        assert error.status == 400  # noqa: PT017 - both ends are the point


@given(st.text(max_size=60))
def test_any_text_as_yaml(text):
    """Read, or refused by name."""
    try:
        json.loads(from_yaml(text.encode("utf-8", "surrogatepass")))
    except InferdError as error:
        assert error.status == 400  # noqa: PT017 - both ends are the point
