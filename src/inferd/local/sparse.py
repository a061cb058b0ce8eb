"""Texts into weighted vocabulary entries.

``VocabularySparse`` needs no training: docs/models.md says how it works and what it reaches. ``MlmSparse`` reads
trained masked-language heads (SPLADE, arXiv:2107.05720) and, for those that were trained so, queries without a model.
"""

import math
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from inferd.core.results import Float32s, SparseVector
from inferd.local import vocabulary
from inferd.local.batches import Lane, Text
from inferd.local.catalogue import Activation, Model
from inferd.local.dense import finite, ids, normalise
from inferd.local.session import Weights
from inferd.local.tokens import Tokenizer, Tokens


class Side(StrEnum):
    """What a sparse endpoint reads. It is the endpoint's, never the request's."""

    BOTH = "both"
    DOCUMENT = "document"
    QUERY = "query"


class Shape(Struct, frozen=True):
    """Cosines below ``threshold`` count nothing; ``literal`` weighs the entries that the text contains; the ``most``
    heaviest entries are kept."""

    threshold: float
    literal: float
    most: int


SHAPES = {
    Side.BOTH: Shape(threshold=0.3, literal=0.5, most=128),
    Side.DOCUMENT: Shape(threshold=0.2, literal=0.25, most=256),
    Side.QUERY: Shape(threshold=0.3, literal=0.5, most=30),
}
_STRIDE = 64
"""Tokens compared with the vocabulary at once: 87 KB of cosines a token."""


def heaviest(weights: Float32s, most: int, truncated: bool, tokens: Sequence[str]) -> SparseVector:
    """The positive weights, falling; equal ones in vocabulary order."""
    found = np.flatnonzero(weights > 0)
    values = weights[found]
    order = np.argsort(-values, kind="stable")[:most]
    return SparseVector(tuple(tokens[i] for i in found[order]), values[order], truncated)


class VocabularySparse:
    """Token states of a sentence encoder against the states of whole words.

    The weight of word w is ``relu(sqrt(r_w) · max over tokens i of cos(h_i, o_w) − threshold)`` plus, for words in the
    text, ``literal · r_w · log(1 + count)``; ``h`` and ``o`` are states less the words' mean state, ``r`` is rarity.
    The whole is divided by the square root of its length, or long texts would win by their length.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        weights: Weights,
        words: Weights,
        table: Path,
        side: Side = Side.BOTH,
    ) -> None:
        self.model, self.tokenizer, self.weights, self.words = model, tokenizer, weights, words
        self.shape = SHAPES[side]
        with np.load(table) as stored:
            entries: np.ndarray[tuple[int], np.dtype[np.int32]] = stored["words"]
            self._mean: Float32s = stored["mean"]
        tokens = tokenizer.vocabulary
        self._tokens = [tokens[id] for id in entries]
        self._place = {int(id): place for place, id in enumerate(entries)}
        self._rarity = vocabulary.rarity(len(entries))
        self._scale = np.sqrt(self._rarity)
        self._counts = np.array(
            [any(c.isalnum() for c in token) and not token.startswith("[") for token in tokens], np.float32
        )
        """1 for tokens that say something, 0 for special ones and punctuation."""

    def encode(self, text: str) -> Sequence[Tokens]:
        return (self.tokenizer.encode(text, self.model.max_tokens),)

    def run(self, rows: Sequence[Text], lane: Lane) -> Sequence[Any]:
        read = ids(rows)
        with self.weights.lease(lane) as session:
            states = session.run(read) - self._mean
        # Tokens that do not count become zeros: their cosines are 0, below the threshold.
        counted = normalise(states) * self._counts[read][..., None]
        results = [
            self._vector(row, self._best(found, lane)) for row, found in zip(rows, counted, strict=True)
        ]
        return finite(results, states, self.model)

    def _best(self, states: Float32s, lane: Lane) -> Float32s:
        """For every word the best cosine over the tokens."""
        best: Float32s | None = None
        with self.words.lease(lane) as session:
            for start in range(0, len(states), _STRIDE):
                some = np.ascontiguousarray(states[None, start : start + _STRIDE])
                found = session.run(some)[0]
                best = found.copy() if best is None else np.maximum(best, found, out=best)
        assert best is not None
        return best

    def _vector(self, row: Text, best: Float32s) -> SparseVector:
        weights = np.maximum(self._scale * best - np.float32(self.shape.threshold), np.float32(0))
        for id, count in Counter(row.tokens.ids).items():
            place = self._place.get(id)
            if place is not None:
                weights[place] += np.float32(self.shape.literal * self._rarity[place] * math.log1p(count))
        vector = heaviest(weights, self.shape.most, row.tokens.truncated, self._tokens)
        length = np.sqrt(np.square(vector.weights).sum())
        return replace(vector, weights=vector.weights / np.sqrt(np.maximum(length, np.float32(1e-12))))


class MlmSparse:
    """A masked-language head's logits: the maximum over the tokens, activated; a weight an entry."""

    def __init__(self, model: Model, tokenizer: Tokenizer, weights: Weights) -> None:
        self.model, self.tokenizer, self.weights = model, tokenizer, weights
        self._tokens = tokenizer.vocabulary
        self._special = np.array(sorted(tokenizer.special), np.int64)

    def encode(self, text: str) -> Sequence[Tokens]:
        return (self.tokenizer.encode(text, self.model.max_tokens),)

    def run(self, rows: Sequence[Text], lane: Lane) -> Sequence[Any]:
        with self.weights.lease(lane) as session:
            logits = session.run(ids(rows))
            highest = (logits if logits.ndim == 2 else logits.max(axis=1)).copy()
        weights = activate(highest, self.model.activation)
        weights[:, self._special[self._special < weights.shape[1]]] = 0.0
        results = [
            heaviest(found, found.size, row.tokens.truncated, self._tokens)
            for row, found in zip(rows, weights, strict=True)
        ]
        return finite(results, highest, self.model)


def activate(highest: Float32s, how: Activation) -> Float32s:
    """Logits into weights: both logarithms are monotone, so they may come after the maximum."""
    weights = np.log1p(np.maximum(highest, np.float32(0)))
    return np.log1p(weights) if how is Activation.LOG1P_LOG1P_RELU else weights


class TableSparse:
    """Queries of a model that reads documents only: each token of the text has its weight in a table."""

    def __init__(self, model: Model, tokenizer: Tokenizer, table: Path) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._tokens = tokenizer.vocabulary
        known = msgspec.json.decode(table.read_bytes(), type=dict[str, float])
        self._weights = {id: known[token] for id, token in enumerate(self._tokens) if known.get(token, 0) > 0}

    def encode(self, text: str) -> Sequence[Tokens]:
        return (self.tokenizer.encode(text, self.model.max_tokens),)

    def run(self, rows: Sequence[Text], lane: Lane) -> Sequence[Any]:
        return [self._vector(row) for row in rows]

    def _vector(self, row: Text) -> SparseVector:
        present = sorted(set(row.tokens.ids) & self._weights.keys() - self.tokenizer.special)
        weights = np.array([self._weights[id] for id in present], np.float32)
        return heaviest(weights, weights.size, row.tokens.truncated, [self._tokens[id] for id in present])
