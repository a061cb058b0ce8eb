"""Secrets: strings that never print themselves."""

import hmac
from typing import Any, NoReturn


class Secret:
    """A secret string. Only ``reveal()`` gives it; ``repr``, ``str`` and formatting give stars."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(******)"

    def __str__(self) -> str:
        return "******"

    def __format__(self, spec: str) -> str:
        return "******"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode("utf-8", "surrogatepass"), other._value.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


def masked(value: Any) -> Any:
    """The same structure with every Secret replaced by stars."""
    if isinstance(value, Secret):
        return "******"
    if isinstance(value, dict):
        return {k: masked(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [masked(v) for v in value]
    return value
