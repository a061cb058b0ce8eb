"""Words of a BERT vocabulary, and how rare each is. The sparse encoder and the script that makes its matrix share it."""

import numpy as np

from inferd.core.results import Float32s


def is_word(token: str) -> bool:
    """Whether a token is a whole word: letters alone, more than one."""
    return len(token) > 1 and token.isalpha()


def rarity(words: int) -> Float32s:
    """Of so many words, ordered by frequency as BERT's vocabulary is, how rare each is: from 0 to 1, the logarithm
    of its rank."""
    ranks = np.arange(1, words + 1, dtype=np.float64)
    scaled: Float32s = (np.log(ranks) / np.log(max(2, words))).astype(np.float32)
    return scaled
