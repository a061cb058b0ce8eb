"""The dialect of text-embeddings-inference, one endpoint an address: ``/tei/{id}/…``.

https://huggingface.github.io/text-embeddings-inference/. ``POST /tei/{id}`` answers in the shape of the endpoint's task, which is what
Elasticsearch's ``hugging_face`` service calls.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from inferd import __version__
from inferd.actions.house import House
from inferd.api.asking import (
    DENSE_TASKS,
    Body,
    Desk,
    check_dimensions,
    floats,
    json_response,
    listed,
    read,
    refusal,
    scores,
)
from inferd.api.elastic import render
from inferd.api.guard import Guard
from inferd.api.http import Dialect, Handler, Request, Response, Route
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType, RankQuery, Texts
from inferd.core.results import Ranking, Sparse
from inferd.core.tasks import TaskType
from inferd.errors import IllegalArgument, InferdError, StatusError

_PROMPTS = {"query": InputType.SEARCH, "passage": InputType.INGEST, "document": InputType.INGEST}
"""Prompt names that models commonly declare, and what they mean here."""


class Tei:
    """Handlers over one house."""

    def __init__(self, house: House, guard: Guard) -> None:
        self.desk = Desk(house, guard)
        self.lexicon = house.lexicon
        self.capacity = house.config.models.queue_capacity

    def _endpoint(self, request: Request, *tasks: TaskType) -> Endpoint:
        return self.desk.endpoint(request, request.path_params["id"], *tasks)

    async def predict(self, request: Request) -> Response:
        """By the endpoint's task: vectors, token weights, or scores."""
        endpoint = self._endpoint(request, *DENSE_TASKS, TaskType.SPARSE_EMBEDDING, TaskType.RERANK)
        if endpoint.task is TaskType.RERANK:
            return await self.rerank(request)
        if endpoint.task is TaskType.SPARSE_EMBEDDING:
            result = await self._sparse(request, endpoint)
            return await self.desk.reply(
                lambda: [dict(zip(v.tokens, v.weights, strict=True)) for v in result.vectors], result
            )
        return await self.embed(request)

    async def embed(self, request: Request) -> Response:
        endpoint = self._endpoint(request, *DENSE_TASKS)
        body = await read(request)
        texts, kind, cut = body.texts("inputs"), _prompt(body), _cut(body)
        body.expect(normalize=True)
        dimensions = body.positive("dimensions")
        body.done()
        check_dimensions("dimensions", endpoint, dimensions)
        result = await self.desk.embed(endpoint, Texts(texts=texts, input_type=kind))
        cut.check(result.truncated)
        return await self.desk.reply(lambda: list(floats(result, endpoint)), result)

    async def embed_sparse(self, request: Request) -> Response:
        """Token ids of the endpoint's own tokenizer and their weights."""
        endpoint = self._endpoint(request, TaskType.SPARSE_EMBEDDING)
        result = await self._sparse(request, endpoint)
        tokens = [token for vector in result.vectors for token in vector.tokens]
        ids = iter(await self.lexicon.token_ids(endpoint.settings.get("model_id"), tokens))
        return await self.desk.reply(
            lambda: [[{"index": next(ids), "value": w} for w in v.weights] for v in result.vectors], result
        )

    async def _sparse(self, request: Request, endpoint: Endpoint) -> Sparse:
        body = await read(request)
        texts, kind, cut = body.texts("inputs"), _prompt(body), _cut(body)
        body.done()
        result = await self.desk.expand(endpoint, Texts(texts=texts, input_type=kind))
        cut.check(result.truncated)
        for vector in result.vectors:
            render.check_finite(vector.weights, endpoint.id)
        return result

    async def rerank(self, request: Request) -> Response:
        endpoint = self._endpoint(request, TaskType.RERANK)
        body = await read(request)
        query, texts, cut = body.text("query"), body.texts("texts"), _cut(body)
        shown = bool(body.take("return_text", bool))
        top_n = body.positive("top_n")
        body.expect(raw_scores=False)
        body.done()
        asked = RankQuery(query=query, documents=texts, top_n=top_n, return_documents=shown)
        result = await self.desk.rank(endpoint, asked)
        cut.check(result.truncated)
        return await self.desk.reply(lambda: _ranked(result, texts if shown else None, endpoint), result)

    async def tokenize(self, request: Request) -> Response:
        endpoint = self._endpoint(request)
        body = await read(request)
        texts = body.texts("inputs")
        special = body.take("add_special_tokens", bool) is not False
        body.done()
        rows = await self.lexicon.tokenize(endpoint.settings.get("model_id"), texts, special)
        shown = await asyncio.to_thread(
            lambda: render.encode([[asdict(token) for token in row] for row in rows])
        )
        return json_response(shown)

    async def info(self, request: Request) -> Response:
        """What is known of the endpoint's model; nothing of a provider's."""
        endpoint = self._endpoint(request)
        name = endpoint.settings.get("model_id")
        model = self.lexicon.model(name)
        shown: dict[str, Any] = {
            "model_id": name or endpoint.id,
            "model_sha": None,
            "model_dtype": "float32",
            "model_type": _kind(endpoint.task, model.pooling if model else None),
            "max_input_length": model.max_tokens if model else None,
            "max_concurrent_requests": self.capacity,
            "auto_truncate": True,
            "version": __version__,
        }
        return json_response(render.encode(shown))

    async def health(self, request: Request) -> Response:
        self._endpoint(request)
        return Response(b"", content_type="text/plain")


def routes(
    handlers: Tei, read: tuple[str, tuple[str, ...]], infer: tuple[str, tuple[str, ...]]
) -> list[Route]:
    """``read`` and ``infer``: action name and the privileges that grant it."""
    asked: list[tuple[str, Handler]] = [
        ("/tei/{id}", handlers.predict),
        ("/tei/{id}/embed", handlers.embed),
        ("/tei/{id}/embed_sparse", handlers.embed_sparse),
        ("/tei/{id}/rerank", handlers.rerank),
        ("/tei/{id}/tokenize", handlers.tokenize),
    ]
    shown: list[tuple[str, Handler]] = [
        ("/tei/{id}/info", handlers.info),
        ("/tei/{id}/health", handlers.health),
    ]
    return [
        *(
            Route(method="POST", template=t, handler=h, action=infer[0], privileges=infer[1], body="required")
            for t, h in asked
        ),
        *(Route(method="GET", template=t, handler=h, action=read[0], privileges=read[1]) for t, h in shown),
    ]


def dialect(guard: Guard) -> Dialect:
    return Dialect(name="tei", problem=problem, authenticate=guard.authenticate)


_KINDS = {400: "Validation", 404: "Validation", 413: "Validation", 429: "Overloaded", 503: "Unhealthy"}


def problem(request: Request, error: InferdError) -> Response:
    return refusal(error, {"error": error.reason, "error_type": _KINDS.get(error.status, "Backend")})


def _kind(task: TaskType, pooling: str | None) -> dict[str, Any]:
    if task is TaskType.RERANK:
        return {"reranker": {}}
    if task is TaskType.SPARSE_EMBEDDING:
        return {"embedding": {"pooling": "splade"}}
    return {"embedding": {} if pooling is None else {"pooling": str(pooling)}}


def _prompt(body: Body) -> InputType | None:
    name = body.take("prompt_name", str)
    if name is not None and name not in _PROMPTS:
        raise IllegalArgument(f"[prompt_name] must be one of [{', '.join(_PROMPTS)}]")
    return None if name is None else _PROMPTS[name]


class _Cut(Struct, frozen=True):
    """What may become of a text that is too long; where nothing is said its end is cut, and the headers tell."""

    allowed: bool
    left: bool

    def check(self, truncated: Sequence[int]) -> None:
        if truncated and not self.allowed:
            raise StatusError(413, f"inputs [{listed(truncated)}] are longer than the model's window")
        if truncated and self.left:
            raise IllegalArgument(
                f"inputs [{listed(truncated)}] are longer than the model's window: only their right end can be cut"
            )


def _cut(body: Body) -> _Cut:
    side = (body.take("truncation_direction", str) or "right").lower()
    if side not in ("left", "right"):
        raise IllegalArgument("[truncation_direction] must be [Left] or [Right]")
    return _Cut(allowed=body.take("truncate", bool) is not False, left=side == "left")


def _ranked(result: Ranking, texts: Sequence[str] | None, endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"index": item.index, **({} if texts is None else {"text": texts[item.index]}), "score": score}
        for item, score in zip(result.items, scores(result, endpoint), strict=True)
    ]
