"""``filter_path``: which members of a body survive (api.md section 3)."""

from functools import lru_cache
from typing import Any

from inferd.errors import IllegalArgument

Path = tuple[str, ...]

MOST = 256
"""Filters in one request."""
_LONGEST = 402
"""Names in one filter that can still matter: no body of ours is 200 levels deep, with a ``**`` before each."""

_GONE = object()


class Filters:
    """Parsed filters. ``apply`` gives the filtered body; ``{}`` when nothing survives. Errors: 400 for too many."""

    __slots__ = ("_excludes", "_includes")

    def __init__(self, text: str) -> None:
        includes, excludes = [], []
        for entry in text.split(","):
            name = entry.strip()
            if name.startswith("-"):
                excludes.append(_split(name[1:]))
            elif name:
                includes.append(_split(name))
        if len(includes) + len(excludes) > MOST:
            raise IllegalArgument(f"[filter_path] holds more than [{MOST}] filters")
        self._includes = frozenset(includes)
        self._excludes = frozenset(path for path in excludes if path != ("",))

    def __bool__(self) -> bool:
        return bool(self._includes or self._excludes)

    def apply(self, body: Any) -> Any:
        kept = _keep(body, self._includes) if self._includes else body
        if kept is not _GONE and self._excludes:
            kept = _drop(kept, self._excludes)
        return {} if kept is _GONE else kept


def _split(path: str) -> Path:
    """At dots, except ``\\.``."""
    names = [""]
    escaped = False
    for char in path:
        if escaped:
            names[-1] += char if char == "." else "\\" + char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ".":
            names.append("")
        else:
            names[-1] += char
    if escaped:
        names[-1] += "\\"
    once = [name for at, name in enumerate(names) if name != "**" or names[at - 1 : at] != ["**"]]
    return tuple(once[:_LONGEST])


@lru_cache(maxsize=4096)
def _step(name: str, paths: frozenset[Path]) -> tuple[bool, frozenset[Path]]:
    """After entering ``name``: does a path end here, and which go on."""
    ends = False
    onward: set[Path] = set()
    todo = list(paths)
    for path in todo:
        head, rest = path[0], path[1:]
        if head == "**":
            onward.add(path)
            if not rest:
                ends = True
            else:
                todo.append(rest)
        elif matches(head, name):
            if not rest or all(part == "**" for part in rest):
                ends = True
            else:
                onward.add(rest)
    return ends, frozenset(onward)


def matches(pattern: str, name: str) -> bool:
    """``*`` stands for any run of characters. Never slower than the product of the lengths."""
    if "*" not in pattern:
        return pattern == name
    p = n = 0
    star = mark = -1
    while n < len(name):
        if p < len(pattern) and pattern[p] == "*":
            star, mark = p, n
            p += 1
        elif p < len(pattern) and pattern[p] == name[n]:
            p += 1
            n += 1
        elif star >= 0:
            mark += 1
            p, n = star + 1, mark
        else:
            return False
    return all(char == "*" for char in pattern[p:])


def _keep(value: Any, paths: frozenset[Path]) -> Any:
    if isinstance(value, dict):
        kept = {}
        for name, member in value.items():
            ends, onward = _step(name, paths)
            found = member if ends else _keep(member, onward) if onward else _GONE
            if found is not _GONE:
                kept[name] = found
        return kept or _GONE
    if isinstance(value, list):
        return [found for item in value if (found := _keep(item, paths)) is not _GONE] or _GONE
    return _GONE


def _drop(value: Any, paths: frozenset[Path]) -> Any:
    """Without the excluded members. What exclusions emptied goes as well; what was empty before stays."""
    if isinstance(value, dict) and value:
        kept = {}
        for name, member in value.items():
            ends, onward = _step(name, paths)
            left = _GONE if ends else _drop(member, onward) if onward else member
            if left is not _GONE:
                kept[name] = left
        return kept or _GONE
    if isinstance(value, list) and value:
        return [left for item in value if (left := _drop(item, paths)) is not _GONE] or _GONE
    return value
