"""Inputs cut to fit: before sending, to the endpoint's token limit; after a "too large", in half (common.md section 4)."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from inferd.core.inputs import Contents, Inputs, Item, Texts
from inferd.core.results import Embeddings, Result, Sparse
from inferd.core.service import Ask
from inferd.core.tasks import EMBEDDINGS

_CHARACTERS_PER_TOKEN = 3
_SHARE = 0.5


def within_token_limit(ask: Ask) -> Ask:
    """Each input of an embedding cut to three characters a token of ``max_input_tokens``."""
    tokens = ask.endpoint.settings.get("max_input_tokens")
    if tokens is None or ask.endpoint.task not in EMBEDDINGS:
        return ask
    limit = tokens * _CHARACTERS_PER_TOKEN
    if isinstance(ask.inputs, Texts) and all(len(text) <= limit for text in ask.inputs.texts):
        return ask
    return replace(ask, inputs=_each_text(ask.inputs, lambda text: text[:limit]))


def halved(ask: Ask) -> Ask:
    """The first half of each input."""
    inputs = _each_text(ask.inputs, lambda text: text[: int(len(text) * _SHARE)])
    return replace(ask, inputs=inputs, cut=ask.cut * _SHARE)


def flagged(result: Result, whole: Inputs, sent: Inputs) -> Result:
    """The result with every item marked whose input was cut."""
    cut = [n for n, (a, b) in enumerate(zip(_items(whole), _items(sent), strict=True)) if a != b]
    if not cut:
        return result
    if isinstance(result, Sparse):
        vectors = tuple(
            replace(vector, is_truncated=True) if n in cut else vector
            for n, vector in enumerate(result.vectors)
        )
        return replace(result, vectors=vectors)
    if isinstance(result, Embeddings):
        return replace(result, truncated=tuple(sorted({*result.truncated, *cut})))
    return result


def _each_text(inputs: Inputs, change: Callable[[str], str]) -> Inputs:
    if isinstance(inputs, Texts):
        return replace(inputs, texts=tuple(change(text) for text in inputs.texts))
    if isinstance(inputs, Contents):
        groups = tuple(tuple(_changed(item, change) for item in group) for group in inputs.groups)
        return replace(inputs, groups=groups)
    return inputs


def _changed(item: Item, change: Callable[[str], str]) -> Item:
    return replace(item, value=change(item.value)) if item.type == "text" else item


def _items(inputs: Inputs) -> Sequence[object]:
    if isinstance(inputs, Texts):
        return inputs.texts
    return inputs.groups if isinstance(inputs, Contents) else ()
