"""More inputs than a provider takes at once: cut into several requests, joined in order."""

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from inferd.core.inputs import Contents, Inputs, RankQuery, Texts
from inferd.core.results import Embeddings, Ranked, Ranking, Result, Sparse, Usage
from inferd.core.service import Ask, BadReply


def size(inputs: Inputs) -> int:
    """How many inputs a provider's limit counts; a chat is one."""
    if isinstance(inputs, Texts):
        return len(inputs.texts)
    if isinstance(inputs, Contents):
        return len(inputs.groups)
    return len(inputs.documents) if isinstance(inputs, RankQuery) else 1


def divided(inputs: Inputs, most: int) -> Iterator[tuple[int, Inputs]]:
    """(index of the first input, at most ``most`` inputs), in order."""
    for start in range(0, size(inputs), most):
        part = slice(start, start + most)
        if isinstance(inputs, Texts):
            yield start, replace(inputs, texts=inputs.texts[part])
        elif isinstance(inputs, Contents):
            yield start, replace(inputs, groups=inputs.groups[part])
        elif isinstance(inputs, RankQuery):
            yield start, replace(inputs, documents=inputs.documents[part])


def joined(ask: Ask, results: list[Result], most: int) -> Result:
    """The answers of ``divided`` requests as one: in order, indexes as in the whole, usage summed.

    ``BadReply`` when an answer does not have one vector an input, since nothing after it could be placed.
    """
    starts = range(0, most * len(results), most)
    _check(results, size(ask.inputs), most)
    dense = [result for result in results if isinstance(result, Embeddings)]
    sparse = [result for result in results if isinstance(result, Sparse)]
    ranked = [result for result in results if isinstance(result, Ranking)]
    if len(dense) == len(results):
        return Embeddings(
            vectors=np.concatenate([result.vectors for result in dense]),
            element=dense[0].element,
            usage=_sum(result.usage for result in dense),
            truncated=_moved(results, starts),
            notices=_notices(results),
            headers=dense[0].headers,
        )
    if len(sparse) == len(results):
        return Sparse(
            vectors=tuple(vector for result in sparse for vector in result.vectors),
            usage=_sum(result.usage for result in sparse),
            notices=_notices(results),
            headers=sparse[0].headers,
        )
    if len(ranked) == len(results):
        return Ranking(
            items=_best(ask, ranked, starts),
            usage=_sum(result.usage for result in ranked),
            truncated=_moved(results, starts),
            notices=_notices(results),
            headers=ranked[0].headers,
        )
    raise BadReply("The answers to the parts of one request are of different kinds")


def _check(results: list[Result], total: int, most: int) -> None:
    for n, result in enumerate(results):
        expected = min(most, total - n * most)
        if isinstance(result, Embeddings | Sparse) and len(result.vectors) != expected:
            raise BadReply(
                f"Expected [{expected}] embeddings in the response but found [{len(result.vectors)}]"
            )
        if isinstance(result, Ranking) and not all(-1 <= item.index < expected for item in result.items):
            raise BadReply("The response ranks a document that was not sent")
    widths = {result.vectors.shape[1] for result in results if isinstance(result, Embeddings)}
    if len(widths) > 1:
        raise BadReply("The embeddings of one response differ in length")


def _best(ask: Ask, results: list[Ranking], starts: range) -> tuple[Ranked, ...]:
    """All items by falling score, the first ``top_n`` of them; -1 is the place of one that the provider did not name."""
    items = [
        replace(item, index=item.index + start) if item.index >= 0 else item
        for start, result in zip(starts, results, strict=True)
        for item in result.items
    ]
    items.sort(key=lambda item: -item.score)
    top = ask.inputs.top_n if isinstance(ask.inputs, RankQuery) else None
    top = top if top is not None else ask.options.get("top_n")
    return tuple(items[:top])


def _moved(results: list[Result], starts: range) -> tuple[int, ...]:
    return tuple(
        index + start
        for start, result in zip(starts, results, strict=True)
        if isinstance(result, Embeddings | Ranking)
        for index in result.truncated
    )


def _notices(results: list[Result]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notice for result in results for notice in result.notices))


def _sum(usages: Iterator[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    return Usage(
        given=sum(usage.given for usage in known),
        used=sum(usage.used for usage in known),
        output=sum(usage.output for usage in known),
    )
