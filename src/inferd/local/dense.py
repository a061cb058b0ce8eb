"""Texts into vectors: token states, pooled, normalised."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from inferd.core.inputs import InputType
from inferd.core.results import Float32s
from inferd.errors import StatusError
from inferd.local.batches import Lane, Text
from inferd.local.catalogue import Model
from inferd.local.engine import Session
from inferd.local.session import Weights
from inferd.local.tokens import Tokenizer, Tokens


def ids(rows: Sequence[Text]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The rows of a batch, all of one length, as the engine reads them."""
    return np.array([row.tokens.ids for row in rows], np.int64)


def finite(results: Iterable[Any], values: Float32s, model: Model) -> list[Any]:
    """The results of a batch; instead of one whose values are not finite, a 500 naming the model."""
    if np.isfinite(values).all():
        return list(results)
    good = [bool(np.isfinite(row).all()) for row in values]
    return [
        result if fine else StatusError(500, f"The model [{model.id}] gave numbers that are not finite")
        for result, fine in zip(results, good, strict=True)
    ]


def normalise(vectors: Float32s) -> Float32s:
    """Each last-axis vector at length 1; a zero vector stays."""
    lengths = np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True))
    result: Float32s = vectors / np.maximum(lengths, np.float32(1e-12))
    return result


def pool(states: Float32s, how: str | None) -> Float32s:
    """[batch, tokens, size] into [batch, size]; vectors that a graph has pooled itself pass."""
    if states.ndim == 2:
        return states.copy()
    if how == "cls":
        return states[:, 0].copy()
    if how == "last":
        return states[:, -1].copy()
    mean: Float32s = states.mean(axis=1)
    return mean


class Dense:
    """A text embedding model. One result a text: float32 [dimensions]."""

    def __init__(self, model: Model, tokenizer: Tokenizer, weights: Weights) -> None:
        self.model, self.tokenizer, self.weights = model, tokenizer, weights

    def encode(self, text: str, prefix: str = "") -> Sequence[Tokens]:
        return (self.tokenizer.encode(text, self.model.max_tokens, prefix),)

    def prefix(self, input_type: InputType | None) -> str:
        """The model's own words before a query or a passage. A text of unknown use counts as a passage."""
        if input_type is not None and input_type.is_search:
            return self.model.query_prefix
        return self.model.passage_prefix

    def run(self, rows: Sequence[Text], lane: Lane) -> Sequence[Any]:
        with self.weights.lease(lane) as session:
            vectors = self.vectors(session, rows)
        return finite(vectors, vectors, self.model)

    def vectors(self, session: Session, rows: Sequence[Text]) -> Float32s:
        pooled = pool(session.run(ids(rows)), self.model.pooling)
        return normalise(pooled) if self.model.normalise else pooled
