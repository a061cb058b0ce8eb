"""Words of a BERT vocabulary, and how rare each is. The sparse encoder and the script that makes its matrix share it."""

import numpy as np
import numpy.typing as npt

from inferd.core.results import Float32s

FIRST = 996
"""BERT's vocabulary holds its unused entries and special tokens first; what follows is ordered by frequency."""
SIZE = 30_522


def is_word(token: str) -> bool:
    """Whether a token is a whole word: letters alone, more than one."""
    return len(token) > 1 and token.isalpha()


def idf(ids: npt.NDArray[np.integer]) -> Float32s:
    """How rare entries are, from 0 to 1: the logarithm of their rank."""
    ranks = np.maximum(ids.astype(np.float64) - (FIRST - 1), 1.0)
    scaled: Float32s = (np.log(ranks) / np.log(SIZE - FIRST)).astype(np.float32)
    return scaled
