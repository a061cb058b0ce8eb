"""What a custom endpoint's paths find in an answer (contract: services/custom.md, "Response")."""

from typing import Any

import msgspec

from inferd.core.endpoint import Endpoint
from inferd.core.results import Completion, ElementType, Embeddings, Ranked, Ranking, Result, Sparse
from inferd.core.service import Ask, BadReply, Reply
from inferd.services.custom import paths
from inferd.wire import openai
from inferd.wire.replies import decode, float32, integers, sparse

_ELEMENTS = {"float": ElementType.FLOAT, "byte": ElementType.BYTE, "bit": ElementType.BIT}
_anything = msgspec.json.Decoder()


def _parser(endpoint: Endpoint) -> dict[str, str]:
    found: dict[str, str] = endpoint.settings["response"]["json_parser"]
    return found


def _found(ask: Ask, reply: Reply, key: str, shape: Any) -> Any:
    """What the path of this parser key finds, as ``shape``."""
    path = _parser(ask.endpoint)[key]
    value = paths.extract(decode(_anything, reply.body), path)
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as bad:
        raise _wrong(key, path, f"cannot be read: {bad}") from None


def _wrong(key: str, path: str, why: str) -> BadReply:
    return BadReply(f"Extracted field [{key}] from path [{path}] {why}")


def embeddings(ask: Ask, reply: Reply) -> Result:
    element = _ELEMENTS[_parser(ask.endpoint)["embedding_type"]]
    if element is ElementType.FLOAT:
        return Embeddings(vectors=openai.stack(_found(ask, reply, "text_embeddings", list[list[float]])))
    rows = _found(ask, reply, "text_embeddings", list[list[int]])
    return Embeddings(vectors=integers(rows), element=element)


def sparse_embeddings(ask: Ask, reply: Reply) -> Result:
    """Token ids as text, paired with the weights by position."""
    tokens = _found(ask, reply, "token_path", list[list[str | int | float]])
    weights = _found(ask, reply, "weight_path", list[list[float]])
    try:
        pairs = [list(zip(names, row, strict=True)) for names, row in zip(tokens, weights, strict=True)]
    except ValueError:
        raise BadReply("The response has a different number of tokens and of weights") from None
    return Sparse(vectors=tuple(sparse((str(name), weight) for name, weight in row) for row in pairs))


def ranking(ask: Ask, reply: Reply) -> Result:
    """By falling score. Without an index path the scores are in the order of the documents."""
    scores = _found(ask, reply, "relevance_score", list[float])
    parser = _parser(ask.endpoint)
    indexes: Any = range(len(scores))
    found: Any = [None] * len(scores)
    if "reranked_index" in parser:
        indexes = _found(ask, reply, "reranked_index", list[int])
    if "document_text" in parser:
        found = _found(ask, reply, "document_text", list[str | None])
    if not len(scores) == len(indexes) == len(found):
        raise BadReply("The response has a different number of scores, indexes and documents")
    items = [
        Ranked(index=index, score=float32(score), text=text)
        for index, score, text in zip(indexes, scores, found, strict=True)
    ]
    return Ranking(items=tuple(sorted(items, key=lambda item: -item.score)))


def completion(ask: Ask, reply: Reply) -> Result:
    path = _parser(ask.endpoint)["completion_result"]
    value = paths.extract(decode(_anything, reply.body), path)
    if isinstance(value, str):
        return Completion(texts=(value,))
    if not isinstance(value, list):
        raise _wrong(
            "completion_result",
            path,
            f"is an invalid type, expected a list or a string but received [{paths.type_name(value)}]",
        )
    for text in value:
        if not isinstance(text, str):
            raise _wrong(
                "completion_result", path, f"holds a value that is not a string but [{paths.type_name(text)}]"
            )
    return Completion(texts=tuple(value))


def similarity(endpoint: Endpoint) -> str:
    return "l2_norm" if _parser(endpoint)["embedding_type"] == "bit" else "dot_product"
