"""A query and documents into scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inferd.core.results import Float32s
from inferd.local.batches import Lane, Text
from inferd.local.catalogue import Activation, Model
from inferd.local.dense import finite, ids, normalise
from inferd.local.session import Weights
from inferd.local.tokens import Tokenizer, Tokens


class LateInteraction:
    """Token states of query and document meet in cosines; the score is the mean over the query's tokens of the best
    cosine in the document: ColBERT's scoring (arXiv:2004.12832) on a sentence encoder's states, special tokens
    included. A row without context is a query, and its result the states; with them as context it is a document.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, weights: Weights) -> None:
        self.model, self.tokenizer, self.weights = model, tokenizer, weights

    def query(self, text: str) -> Tokens:
        return self.tokenizer.encode(text, self.model.max_tokens)

    def documents(self, query: Tokens, text: str, most: int) -> list[Tokens]:
        """The document in up to ``most`` pieces that fit the model."""
        return self.tokenizer.encode_pieces(text, self.model.max_tokens, most)

    def run(self, rows: Sequence[Text], lane: Lane) -> Sequence[Any]:
        with self.weights.lease(lane) as session:
            states = normalise(session.run(ids(rows)))
        results = [
            found.copy() if row.context is None else best_match(row.context, found)
            for row, found in zip(rows, states, strict=True)
        ]
        return finite(results, states, self.model)


def best_match(query: Float32s, document: Float32s) -> float:
    """Mean over the query's tokens of the best cosine; both are normalised states [tokens, size]."""
    return float((query @ document.T).max(axis=1).mean(dtype=np.float32))


class CrossEncoder:
    """Query and document read together; one logit, activated as the model's card says."""

    def __init__(self, model: Model, tokenizer: Tokenizer, weights: Weights) -> None:
        self.model, self.tokenizer, self.weights = model, tokenizer, weights

    def query(self, text: str) -> Tokens:
        """Bare ids: a query takes at most half of the room, so that the document keeps some."""
        kept, count = self.tokenizer.bare(text, self.tokenizer.room(self.model.max_tokens) // 2)
        return Tokens(kept, count)

    def documents(self, query: Tokens, text: str, most: int) -> list[Tokens]:
        return self.tokenizer.pair_pieces(query.ids, text, self.model.max_tokens, most)

    def run(self, rows: Sequence[Text], lane: Lane) -> Sequence[Any]:
        types = np.array([row.tokens.types for row in rows], np.int64)
        with self.weights.lease(lane) as session:
            logits = session.run(ids(rows), types)[:, 0].copy()
        scores = activate(logits, self.model.activation)
        return finite([float(score) for score in scores], logits, self.model)


def activate(logits: Float32s, how: Activation) -> Float32s:
    """A logit as the score that the model's card gives."""
    if how is Activation.SIGMOID:
        wide = np.clip(logits.astype(np.float64), -80.0, 80.0)
        return (1.0 / (1.0 + np.exp(-wide))).astype(np.float32)
    return logits
