"""The path language of ``json_parser``: ``$``, then ``.field`` and ``[*]`` steps (contract: services/custom.md).

Each ``[*]`` gives a list of what the rest of the path finds in every member, so nesting is kept.
"""

import re
from typing import Any, NamedTuple

from inferd.core.service import BadReply

_STEP = re.compile(r"\[\*\]|\.([^.\[]+)")


class Step(NamedTuple):
    """A field to enter, or (None) every member of a list. ``start``: where in the path it is written."""

    start: int
    field: str | None


def parse(path: str) -> list[Step]:
    """The steps of a path; ``ValueError`` with the contract's text when it is not one."""
    if not path.startswith("$"):
        raise ValueError(f"Path [{path}] must start with a dollar sign ($)")
    steps = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise ValueError(f"Invalid path received [{path[at:]}], unable to extract a field name.")
        steps.append(Step(at, found[1]))
        at = found.end()
    return steps


def extract(value: Any, path: str) -> Any:
    """What the path finds in a decoded answer; ``BadReply`` when the answer has another shape."""
    return _walk(value, path, parse(path), 0)


def _walk(value: Any, path: str, steps: list[Step], at: int) -> Any:
    for n in range(at, len(steps)):
        start, field = steps[n]
        if field is None:
            if not isinstance(value, list):
                raise _wrong(path[start:], "array field", "list", value)
            return [_walk(member, path, steps, n + 1) for member in value]
        if not isinstance(value, dict):
            raise _wrong(path[start:], "dot field", "map", value)
        if field not in value:
            raise BadReply(f"Unable to find field [{field}] in map")
        value = value[field]
    return value


def _wrong(rest: str, pattern: str, wanted: str, value: Any) -> BadReply:
    return BadReply(
        f"Current path [{rest}] matched the {pattern} pattern but the current object is not a {wanted}, "
        f"found invalid type [{type_name(value)}] instead."
    )


_NAMES = {str: "String", bool: "Boolean", float: "Double", dict: "LinkedHashMap", list: "ArrayList"}


def type_name(value: Any) -> str:
    """A JSON value's type in the reference's words."""
    if type(value) is int:
        if -(2**31) <= value < 2**31:
            return "Integer"
        return "Long" if -(2**63) <= value < 2**63 else "BigInteger"
    return _NAMES.get(type(value), "null")
