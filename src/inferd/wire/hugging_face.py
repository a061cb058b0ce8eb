"""The wire format of text-embeddings-inference and Hugging Face Inference Endpoints; Llama Stack answers alike.

https://huggingface.github.io/text-embeddings-inference/ (contract: services/hugging_face.md)
"""

from typing import Any

import msgspec
from msgspec import Struct

from inferd.core.results import Embeddings, Ranked, Ranking, Result, Sparse
from inferd.core.service import Ask, BadReply, Fault, Reply
from inferd.wire.openai import stack
from inferd.wire.replies import decode, float32
from inferd.wire.replies import sparse as sparse_vector
from inferd.wire.texts import documents, query, return_documents, texts, top_n


class _Dense(Struct):
    embeddings: list[list[float]] | msgspec.UnsetType = msgspec.UNSET


class _Score(Struct):
    index: int
    score: float | msgspec.UnsetType = msgspec.UNSET
    relevance_score: float | msgspec.UnsetType = msgspec.UNSET
    text: str | None = None
    document: Any = None


_rows = msgspec.json.Decoder(list[list[float]])
_dense = msgspec.json.Decoder(_Dense)
_sparse = msgspec.json.Decoder(list[dict[str, float]])
_scores = msgspec.json.Decoder(list[_Score])


def inputs_body(ask: Ask) -> dict[str, Any]:
    return {"inputs": texts(ask)}


def dense(ask: Ask, reply: Reply) -> Result:
    """``[[…], …]`` or ``{"embeddings": [[…], …]}``."""
    if not reply.body.lstrip().startswith(b"{"):
        rows = decode(_rows, reply.body)
        return Embeddings(vectors=stack(rows))
    found = decode(_dense, reply.body).embeddings
    if found is msgspec.UNSET:
        raise BadReply("Failed to find required field [embeddings] in Hugging Face embeddings response")
    return Embeddings(vectors=stack(found))


def sparse(ask: Ask, reply: Reply) -> Result:
    """``[{"token": weight, …}, …]``; the upstream client marks what it had to cut."""
    return Sparse(vectors=tuple(sparse_vector(item.items()) for item in decode(_sparse, reply.body)))


def rerank_body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"texts": documents(ask), "query": query(ask)}
    if return_documents(ask) is not None:
        body["return_text"] = return_documents(ask)
    if top_n(ask) is not None:
        body["top_n"] = top_n(ask)
    return body


def ranking(ask: Ask, reply: Reply) -> Result:
    """Sorted by score here, whatever the server's order, and cut to ``top_n`` again."""
    items = sorted((_ranked(item) for item in decode(_scores, reply.body)), key=lambda r: -r.score)
    return Ranking(items=tuple(items[: top_n(ask)]))


def _ranked(item: _Score) -> Ranked:
    score = item.relevance_score if item.score is msgspec.UNSET else item.score
    if score is msgspec.UNSET:
        raise BadReply("Failed to parse the response: Required [score]")
    text = item.text
    if text is None and isinstance(item.document, dict):
        text = item.document.get("text")
    return Ranked(index=item.index, score=float32(score), text=text if isinstance(text, str) else None)


def chat_fault(body: bytes) -> Fault:
    """``{"error": {"message"?, "http_status_code"?}}`` beside the plain ``{"error": "…"}``."""
    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, RecursionError):
        return Fault()
    if isinstance(error, str):
        return Fault(message=error)
    if not isinstance(error, dict):
        return Fault()
    code, message = error.get("http_status_code"), error.get("message")
    return Fault(
        message=message if isinstance(message, str) else "unknown",
        kind="hugging_face_error",
        code=str(code) if isinstance(code, int | str) and not isinstance(code, bool) else None,
    )
