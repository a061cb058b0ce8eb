"""Media types: what a body is, and what the answer should be (api.md 1.2 and 1.3).

SMILE is known and refused with 406: no kept library reads it.
"""

import asyncio
import re
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any

import cbor2
import orjson
import yaml
from msgspec import Struct

from inferd.api.http import Request
from inferd.errors import BadBody, BadMediaType, NotRouted, StatusError, TruncatedBody

MAJOR = 9
"""Versions MAJOR and MAJOR - 1 may be asked for."""


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"
    CBOR = "cbor"
    SMILE = "smile"


class Media(Struct, frozen=True):
    """A media type of the table in api.md 1.3; version None: the plain form."""

    format: Format = Format.JSON
    version: int | None = None

    @property
    def content_type(self) -> str:
        """As a response names it."""
        if self.version is None:
            return f"application/{self.format}"
        return f"application/vnd.elasticsearch+{self.format};compatible-with={self.version}"


JSON = Media()

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's token, no credential
_TYPE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*((?:;\s*{_TOKEN}\s*=\s*(?:{_TOKEN}|\"[^\"]*\")\s*)*);?\s*")
_PARAM = re.compile(rf";\s*({_TOKEN})\s*=\s*({_TOKEN}|\"[^\"]*\")")
_NAMES = {f"application/{f}": f for f in Format} | {f"application/vnd.elasticsearch+{f}": f for f in Format}


class _Header(Struct, frozen=True):
    """A header understood: ``media`` None for a well-formed type outside the table."""

    media: Media | None
    broken: bool = False


@lru_cache(maxsize=256)
def _read_header(value: str) -> _Header:
    match = _TYPE.fullmatch(value)
    if match is None:
        return _Header(None, broken=True)
    name = match[1].lower()
    format = _NAMES.get(name)
    if format is None:
        return _Header(None)
    version: int | None = None
    for key, quoted in _PARAM.findall(match[2]):
        given = quoted.strip('"').lower()
        if key.lower() == "compatible-with" and "vnd." in name and re.fullmatch("[0-9]{1,9}", given):
            version = int(given)
        elif not (key.lower() == "charset" and given == "utf-8") and key.lower() != "q":
            return _Header(None, broken=True)
    return _Header(Media(format, version))


def check(request: Request) -> None:
    """Negotiate ``request.media`` from the headers. Errors: 400 media_type_header_exception, 406 for SMILE."""
    wanted, given = _headers(
        request.raw_header(b"accept"), request.raw_header(b"content-type"), request.has_body
    )
    request.media = _answer(request, wanted, given)


@lru_cache(maxsize=256)
def _headers(
    accept: bytes | None, content: bytes | None, has_body: bool
) -> tuple[Media | None, Media | None]:
    """What the two headers ask for and announce."""
    accept_text = None if accept is None else accept.decode("latin-1")
    content_text = None if content is None else content.decode("latin-1")
    wanted, given = _accepted(accept_text), _given(content_text)
    if has_body and content_text and given is not None and not _only_events(accept_text):
        _same_version(wanted, given, accept_text, content_text)
    return wanted, given


def _only_events(accept: str | None) -> bool:
    """There is no versioned form of an event stream; official clients send this beside a versioned body."""
    return accept is not None and accept.strip() == "text/event-stream"


def _accepted(accept: str | None) -> Media | None:
    if accept is None or not accept.strip() or accept.strip() == "*/*" or _only_events(accept):
        return None
    if "," in accept:
        return next((m for part in accept.split(",") if (m := _read_header(part).media) is not None), None)
    header = _read_header(accept)
    if header.media is None and accept.strip().split(";")[0] not in ("*/*", "application/*"):
        raise BadMediaType("Invalid media-type value on header [Accept]")
    _check_version("Accept", accept, header.media)
    return header.media


def _given(content: str | None) -> Media | None:
    if not content:
        return None
    header = _read_header(content)
    if header.broken and "," not in content:
        raise BadMediaType("Invalid media-type value on header [Content-Type]")
    _check_version("Content-Type", content, header.media)
    return header.media


def _check_version(name: str, value: str, media: Media | None) -> None:
    if media is not None and media.version is not None and media.version not in (MAJOR, MAJOR - 1):
        raise _bad_version(
            f"{name} version must be either version {MAJOR} or {MAJOR - 1}, "
            f"but found {media.version}. {name}={value}"
        )


def _same_version(wanted: Media | None, given: Media, accept: str | None, content: str) -> None:
    if (wanted.version if wanted else None) != given.version:
        raise _bad_version(
            "A compatible version is required on both Content-Type and Accept headers if either one has requested "
            "a compatible version and the compatible versions must match. "
            f"Accept={'null' if accept is None else accept}, Content-Type={content}"
        )


def _bad_version(reason: str) -> BadMediaType:
    error = BadMediaType("Invalid media-type value on headers [Accept, Content-Type]")
    error.__cause__ = StatusError(400, reason)
    return error


def _answer(request: Request, wanted: Media | None, given: Media | None) -> Media:
    """First match wins: ``format``, Accept, Content-Type, JSON."""
    version = wanted.version if wanted else None
    if request.scope["query_string"]:
        named = dict(request.query).get("format")
        if named in set(Format):
            return _kept(Media(Format(named), version), "format", named)
    if wanted is not None:
        return (
            wanted
            if wanted.format is Format.JSON
            else _kept(wanted, "Accept header", request.header("accept"))
        )
    if given is not None and given.format is not Format.SMILE:
        return Media(given.format)
    return JSON


def _kept(media: Media, what: str, given: str | None) -> Media:
    if media.format is Format.SMILE:
        raise NotRouted(406, f"{what} [{given}] is not supported")
    return media


def of(request: Request) -> Media:
    """The answer's media type, also for requests refused before they were negotiated."""
    if request.media is None:
        try:
            check(request)
        except (BadMediaType, NotRouted):
            return JSON
    return request.media if isinstance(request.media, Media) else JSON


def check_body(request: Request) -> None:
    """The type of an announced body. Errors: 406."""
    if request.raw_header(b"content-type") == b"application/json":
        return
    content = request.header("content-type")
    if not content:
        raise NotRouted(406, "Content-Type header is missing")
    media = _read_header(content).media
    if media is None or media.format is Format.SMILE:
        raise NotRouted(406, f"Content-Type header [{content}] is not supported")


_INLINE = 4 * 1024
"""Bytes of a YAML or CBOR body that are read on the event loop."""
_MOST_BYTES = {Format.YAML: 2 * 1024 * 1024, Format.CBOR: 20 * 1024 * 1024}
"""Their readers are slow; who has more sends JSON."""
_MOST_NODES = 1_000_000
_DEEPEST = 200


async def json_body(request: Request) -> bytes:
    """The request's body as JSON bytes, whatever it was sent as; empty when there is none.

    Positions in errors about a YAML or CBOR body count in this JSON form.
    """
    body = await request.body()
    content = request.raw_header(b"content-type")
    media = None if content in (None, b"application/json") else _read_header(content.decode("latin-1")).media
    if not body or media is None or media.format is Format.JSON:
        return body
    read = from_yaml if media.format is Format.YAML else from_cbor
    most = _MOST_BYTES.get(media.format, 0)
    if len(body) > most:
        raise StatusError(413, f"a {media.format} body is larger than the limit of [{most}] bytes; send JSON")
    return read(body) if len(body) <= _INLINE else await asyncio.to_thread(read, body)


class _Loader(yaml.CSafeLoader):
    """YAML with JSON's scalars: no dates, no ``yes``, no binary, no tags of other kinds."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    yaml_constructors = {
        key: value
        for key, value in yaml.SafeLoader.yaml_constructors.items()
        if key is None or key.rsplit(":", 1)[-1] in ("null", "bool", "int", "float", "str", "seq", "map")
    }


for _kind, _pattern, _starts in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _starts)


def from_yaml(body: bytes) -> bytes:
    """Errors: 400, also for aliases, depth beyond 200 and several documents."""
    try:
        _check_yaml(body)
        value = yaml.load(body, Loader=_Loader)  # noqa: S506 - built on CSafeLoader
    except yaml.MarkedYAMLError as error:
        raise BadBody(f"{_mark(error.problem_mark)}{error.problem or 'not valid YAML'}") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise BadBody(f"[1:1] not valid YAML: {error}") from None
    return _as_json(value)


def _check_yaml(body: bytes) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(body, Loader=yaml.CSafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.AliasEvent):
            raise BadBody(f"{_mark(event.start_mark)}YAML aliases are not supported")
        if depth > _DEEPEST:
            raise BadBody(f"{_mark(event.start_mark)}nested deeper than [{_DEEPEST}] levels")
        if count > _MOST_NODES:
            raise BadBody(f"{_mark(event.start_mark)}more than [{_MOST_NODES}] values in a YAML body")


def _mark(mark: Any) -> str:
    return f"[{mark.line + 1}:{mark.column + 1}] " if mark is not None else "[1:1] "


def from_cbor(body: bytes) -> bytes:
    """Errors: 400, also for values that JSON does not have."""
    try:
        value = cbor2.loads(body)
    except cbor2.CBORDecodeEOF as error:
        raise TruncatedBody(f"[1:{len(body) + 1}] Unexpected end of CBOR input: {error}") from None
    except (
        cbor2.CBORDecodeError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise BadBody(f"[1:1] not valid CBOR: {error}") from None
    return _as_json(value)


def _as_json(value: Any) -> bytes:
    left = _MOST_NODES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise BadBody(f"[1:1] more than [{_MOST_NODES}] values or [{_DEEPEST}] levels")
        if isinstance(value, dict):
            return {_name(key): plain(member, depth + 1) for key, member in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item, depth + 1) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        raise BadBody(f"[1:1] a value of type [{type(value).__name__}] is not supported")

    try:
        return dump(plain(value, 0))
    except ValueError as error:
        raise BadBody(f"[1:1] {error}") from None


def _name(key: Any) -> str:
    if isinstance(key, str):
        return key.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(key, bool | int | float):
        return str(key).lower()
    raise BadBody(f"[1:1] a member name of type [{type(key).__name__}] is not supported")


def dump(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """JSON bytes; numpy arrays as arrays, float32 in its shortest digits. ValueError for what JSON cannot hold."""
    try:
        return orjson.dumps(value, default, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"not representable as JSON: {error}") from None
