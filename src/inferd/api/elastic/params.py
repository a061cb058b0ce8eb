"""Query parameters: text, booleans, durations, and the ones nobody knows (api.md 3 and 10.1)."""

import re

from msgspec import Struct

from inferd.api.elastic.filter import Filters
from inferd.api.elastic.suggestions import did_you_mean
from inferd.api.http import Request
from inferd.errors import IllegalArgument

COMMON = frozenset({"pretty", "human", "filter_path", "format", "error_trace"})
"""Every route takes these."""

_NANOS = {
    "nanos": 1,
    "micros": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_MOST = 2**63 - 1
_DURATION = re.compile(r"(.*?)(nanos|micros|ms|s|m|h|d)", re.DOTALL | re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_FRACTION = re.compile(r"[+-]?[0-9]*\.[0-9]*")


class Duration(Struct, frozen=True):
    """A time span and the words it was given in; ``str`` prints those (``30s``)."""

    seconds: float
    text: str

    def __str__(self) -> str:
        return self.text


def parse_duration(name: str, text: str) -> Duration:
    """``30s``, ``2m``, ``0``, ``-1``; anything else is a 400 in the words of api.md 10.1."""
    value = text.strip()
    if value in ("0", "-1"):
        return Duration(float(value), value)
    failed = f"failed to parse setting [{name}] with value [{text}] as a time value:"
    match = _DURATION.fullmatch(value)
    if match is None:
        raise IllegalArgument(f"{failed} unit is missing or unrecognized")
    number, unit = match[1].strip(), match[2].lower()
    if _FRACTION.fullmatch(number) and number.strip("+-.") != "":
        raise IllegalArgument(f"failed to parse [{text}], fractional time values are not supported")
    if not _INTEGER.fullmatch(number):
        raise IllegalArgument(f"failed to parse [{text}]")
    count = int(number)
    if count < 0:
        raise IllegalArgument(f"{failed} negative durations are not supported")
    if count * _NANOS[unit] > _MOST:
        raise IllegalArgument(f"Values greater than {_MOST} nanoseconds are not supported: {text}")
    return Duration(count * _NANOS[unit] / 1e9, f"{count}{unit}")


def parse_boolean(text: str | None) -> bool:
    """The bare name and the empty value mean true."""
    if text in (None, "", "true"):
        return True
    if text == "false":
        return False
    raise IllegalArgument(f"Failed to parse value [{text}] as only [true] or [false] are allowed.")


class Params:
    """The query of one request. Of a repeated parameter the last one counts."""

    __slots__ = ("_request", "_values")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._values = dict(request.query) if request.scope["query_string"] else {}

    def text(self, name: str) -> str | None:
        """None when absent, or a bare name."""
        return self._values.get(name)

    def boolean(self, name: str, default: bool = False) -> bool:
        return parse_boolean(self._values[name]) if name in self._values else default

    def duration(self, name: str) -> Duration | None:
        """None when absent."""
        return parse_duration(name, self._values[name] or "") if name in self._values else None

    def finish(self) -> None:
        """Refuse faulty parameters of every route, unrecognised ones, then a body where none is read.

        Call it after the route's own parameters were parsed (api.md 1.2, step 5).
        """
        common(self._request)
        route = self._request.route
        known = COMMON | route.params if route is not None else COMMON
        if self._values and not known.issuperset(self._values):
            raise _unrecognised(self._request.path, sorted(self._values.keys() - known), known)
        if route is not None and route.body == "none" and self._request.has_body:
            raise IllegalArgument(
                f"request [{self._request.method} {self._request.path}] does not support having a body"
            )


def _unrecognised(path: str, names: list[str], known: frozenset[str]) -> IllegalArgument:
    hinted = [f"[{name}]{_hint(name, known)}" for name in names[:_MOST_HINTS]]
    listed = ", ".join(hinted + [f"[{name}]" for name in names[_MOST_HINTS:]])
    noun = "parameter" if len(names) == 1 else "parameters"
    return IllegalArgument(f"request [{path}] contains unrecognized {noun}: {listed}")


_MOST_HINTS = 16
"""Comparing names costs; whoever misspells more of them finds out soon enough."""


def _hint(name: str, known: frozenset[str]) -> str:
    hint = did_you_mean(name, known)
    return f" ->{hint}" if hint else ""


class Common(Struct, frozen=True, kw_only=True):
    """What every route understands about the shape of its answer."""

    pretty: bool = False
    human: bool = False
    error_trace: bool = False
    filters: Filters | None = None

    @property
    def plain(self) -> bool:
        return not (self.pretty or self.filters)


_PLAIN = Common()


def common(request: Request) -> Common:
    """Errors: 400 for a boolean that is none."""
    if not request.scope["query_string"]:
        return _PLAIN
    params = Params(request)
    filters = Filters(params.text("filter_path") or "")
    return Common(
        pretty=params.boolean("pretty"),
        human=params.boolean("human"),
        error_trace=params.boolean("error_trace"),
        filters=filters or None,
    )
