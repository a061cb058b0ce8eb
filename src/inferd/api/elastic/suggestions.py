"""Did you mean: names close to a misspelt one (api.md 2.3 and 3).

† Close is an edit-distance similarity above one half; the nearest first, equals by name.
"""

from collections.abc import Iterable

_LONGEST = 64
"""Longer names are nobody's typing slip, and comparing them costs."""


def close_names(name: str, known: Iterable[str]) -> list[str]:
    if len(name) > _LONGEST:
        return []
    scored = sorted((-_similarity(name, other), other) for other in known)
    return [other for score, other in scored if score < -0.5]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` did you mean [a]?``, `` did you mean any of [a, b]?``, or nothing."""
    close = close_names(name, known)
    if not close:
        return ""
    return (
        f" did you mean [{close[0]}]?" if len(close) == 1 else f" did you mean any of [{', '.join(close)}]?"
    )


def _similarity(a: str, b: str) -> float:
    """1 for equal names, 0 for names without anything in common (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (left != right))
    return 1.0 - row[-1] / max(len(a), len(b), 1)
