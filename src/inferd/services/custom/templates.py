"""``${name}`` in URLs, headers and bodies (contract: services/custom.md, "Request").

A template is read once: what is filled in is never looked at for placeholders again, so an input that says
``${api_key}`` stays those ten characters.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from inferd.errors import StatusError

_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")
_QUOTE = re.compile(r'\\.|"', re.DOTALL)


class Template(NamedTuple):
    """Text between placeholders, and their names: one more text than names.

    ``quoted``: for each placeholder, whether it stands inside a string of a template that is JSON.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]
    quoted: tuple[bool, ...]


@lru_cache(1024)
def parse(template: str) -> Template:
    parts = _PLACEHOLDER.split(template)
    texts, names = tuple(parts[::2]), tuple(parts[1::2])
    return Template(texts, names, _quoted(texts))


def names(template: str) -> tuple[str, ...]:
    return parse(template).names


def fill(template: str, field: str, value: Callable[[str, str], str | None]) -> str:
    """The text with ``value(name, text before it)`` in place of each placeholder; None: there is no such value."""
    texts, names, _ = parse(template)
    out = texts[0]
    for name, text in zip(names, texts[1:], strict=True):
        found = value(name, out)
        if found is None:
            raise left_over(name, field)
        out += found + text
    return out


def fill_json(template: str, field: str, values: Mapping[str, Any]) -> str:
    """The text with each value as JSON.

    Inside a string of a JSON template the value goes in escaped and without quotes of its own: the quotes would end the string
    there, and what comes after them would be the input's to decide.
    """
    texts, names, quoted = parse(template)
    out = [texts[0]]
    for name, within, text in zip(names, quoted, texts[1:], strict=True):
        if name not in values:
            raise left_over(name, field)
        out.append(_escaped(values[name]) if within else _json(values[name]))
        out.append(text)
    return "".join(out)


def left_over(name: str, field: str) -> StatusError:
    return StatusError(
        400,
        f"Found placeholder [${{{name}}}] in field [{field}] after replacement call, please check that all templates "
        "have a corresponding field definition.",
    )


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        raise StatusError(400, "The request holds text that is not valid Unicode") from None


def _escaped(value: Any) -> str:
    return _json(value if isinstance(value, str) else _json(value))[1:-1]


def _quoted(texts: tuple[str, ...]) -> tuple[bool, ...]:
    """For each gap between the texts, whether it lies inside a JSON string; nowhere when the whole is not JSON."""
    found = []
    within = False
    probe = texts[0]
    for before, after in pairwise(texts):
        within = _ends_within(before, within)
        found.append(within)
        probe += after if within else f'""{after}'
    try:
        msgspec.json.decode(probe.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return (False,) * len(found)
    return tuple(found)


def _ends_within(text: str, within: bool) -> bool:
    """Whether a JSON string is open after this text, given whether one was before it."""
    quotes = sum(1 for found in _QUOTE.finditer(text) if found[0] == '"')
    return within != (quotes % 2 == 1)
