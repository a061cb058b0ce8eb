"""Provider answers: decoded in one pass, and refused in the contract's words."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from inferd.core.results import SparseVector, Usage
from inferd.core.service import BadReply

T = TypeVar("T")

_LARGEST = float(np.finfo(np.float32).max)


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The answer as the decoder's type; anything else is a ``BadReply`` that names the place."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as bad:
        raise BadReply(f"Failed to parse the response: {bad}") from None


def missing(field: str, answer: str) -> BadReply:
    """``answer``: what was read, such as ``Watsonx rerank``."""
    return BadReply(f"Failed to find required field [{field}] in {answer} response")


def float32(value: float) -> float:
    """The nearest float32, which must be finite."""
    if not -_LARGEST <= value <= _LARGEST:
        raise BadReply(f"Failed to parse the response: [{value}] is not a finite float")
    return float(np.float32(value))


def integers(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int8]:
    """Vectors of signed bytes as a matrix; they must be equally long."""
    size = len(rows[0]) if rows else 0
    if any(len(row) != size for row in rows):
        raise BadReply("The embeddings of one response differ in length")
    for row in rows:
        if row and (min(row) < -128 or max(row) > 127):
            wrong = next(value for value in row if not -128 <= value <= 127)
            raise BadReply(f"Value [{wrong}] is out of range for a byte")
    return np.asarray(rows, dtype=np.int8).reshape(len(rows), size)


def sparse(pairs: Iterable[tuple[str, float]]) -> SparseVector:
    """Tokens by falling weight; of a token that comes twice the larger weight."""
    weights: dict[str, float] = {}
    for token, weight in pairs:
        weights[token] = max(float32(weight), weights.get(token, weight))
    ordered = sorted(weights.items(), key=lambda pair: -pair[1])
    return SparseVector(
        tokens=tuple(token for token, _ in ordered),
        weights=np.array([weight for _, weight in ordered], dtype=np.float32),
    )


def spent(usage: Any, *names: str, output: str | None = None) -> Usage | None:
    """Tokens from a provider's usage object: the first of ``names`` that is a whole number."""
    if not isinstance(usage, dict):
        return None
    used = next((n for n in map(usage.get, names) if type(n) is int), None)
    if used is None:
        return None
    written = usage.get(output) if output is not None else None
    return Usage(given=used, used=used, output=written if type(written) is int else 0)
