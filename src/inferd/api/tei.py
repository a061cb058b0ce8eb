"""The dialect of text-embeddings-inference, one endpoint an address: ``/tei/{id}/…``.

https://huggingface.github.io/text-embeddings-inference/. ``POST /tei/{id}`` answers in the shape of the endpoint's task, which is what
Elasticsearch's ``hugging_face`` service calls.
"""

from typing import Any

import numpy as np
import orjson

from inferd import __version__
from inferd.actions.house import House
from inferd.api.asking import Body, Desk, decode
from inferd.api.elastic import render
from inferd.api.guard import Guard
from inferd.api.http import Dialect, Handler, Request, Response, Route
from inferd.core.endpoint import Endpoint
from inferd.core.inputs import InputType, RankQuery, Texts
from inferd.core.results import Embeddings, Ranking, Result, Sparse
from inferd.core.tasks import TaskType
from inferd.errors import IllegalArgument, InferdError

_DENSE_TASKS = (TaskType.TEXT_EMBEDDING, TaskType.EMBEDDING)
_PROMPTS = {"query": InputType.SEARCH, "passage": InputType.INGEST, "document": InputType.INGEST}
"""Prompt names that models commonly declare, and what they mean here."""


class Tei:
    """Handlers over one house."""

    def __init__(self, house: House, guard: Guard) -> None:
        self.desk = Desk(house, guard)
        self.house = house
        self.version = house.config.api.version

    def _endpoint(self, request: Request, *tasks: TaskType) -> Endpoint:
        return self.desk.endpoint(request, request.path_params["id"], *tasks)

    def _reply(self, value: Any, result: Result | None = None) -> Response:
        headers = [] if result is None else render.facts(result, self.version)
        return Response(render.encode(value), content_type="application/json", headers=headers)

    async def predict(self, request: Request) -> Response:
        """By the endpoint's task: vectors, token weights, or scores."""
        endpoint = self._endpoint(request, *_DENSE_TASKS, TaskType.SPARSE_EMBEDDING, TaskType.RERANK)
        if endpoint.task is TaskType.RERANK:
            return await self.rerank(request)
        if endpoint.task is TaskType.SPARSE_EMBEDDING:
            result = await self._sparse(request, endpoint)
            rows = [dict(zip(v.tokens, v.weights, strict=True)) for v in result.vectors]
            return self._reply(rows, result)
        return await self.embed(request)

    async def embed(self, request: Request) -> Response:
        endpoint = self._endpoint(request, *_DENSE_TASKS)
        body = Body(decode(await request.body()))
        texts = body.texts("inputs")
        kind, truncate = _prompt(body), body.take("truncate", bool)
        body.ignore("truncation_direction")
        body.expect(normalize=True)
        dimensions = body.positive("dimensions")
        body.done()
        if dimensions is not None and dimensions != endpoint.settings.get("dimensions"):
            raise IllegalArgument(
                f"[dimensions]: this endpoint gives [{endpoint.settings.get('dimensions')}]"
            )
        result = await self.desk.embed(endpoint, Texts(texts=texts, input_type=kind))
        _check_truncated(result, truncate)
        vectors = np.ascontiguousarray(result.vectors)
        render.check_finite(vectors, endpoint.id)
        return self._reply(list(vectors), result)

    async def embed_sparse(self, request: Request) -> Response:
        """Token ids of the endpoint's own tokenizer and their weights."""
        endpoint = self._endpoint(request, TaskType.SPARSE_EMBEDDING)
        result = await self._sparse(request, endpoint)
        model = endpoint.settings.get("model_id")
        tokens = [token for vector in result.vectors for token in vector.tokens]
        ids = iter(await self.house.lexicon.token_ids(model, tokens))
        rows = [
            [{"index": next(ids), "value": weight} for weight in vector.weights] for vector in result.vectors
        ]
        return self._reply(rows, result)

    async def _sparse(self, request: Request, endpoint: Endpoint) -> Sparse:
        body = Body(decode(await request.body()))
        texts = body.texts("inputs")
        _prompt(body)
        truncate = body.take("truncate", bool)
        body.ignore("truncation_direction")
        body.done()
        result = await self.desk.ask(endpoint, Texts(texts=texts))
        if not isinstance(result, Sparse):
            raise TypeError(f"{endpoint.service} answered {type(result).__name__}")
        _check_truncated(result, truncate)
        return result

    async def rerank(self, request: Request) -> Response:
        endpoint = self._endpoint(request, TaskType.RERANK)
        body = Body(decode(await request.body()))
        query, texts = body.text("query"), body.texts("texts")
        wanted = bool(body.take("return_text", bool))
        top_n, truncate = body.positive("top_n"), body.take("truncate", bool)
        body.ignore("truncation_direction")
        body.expect(raw_scores=False)
        body.done()
        asked = RankQuery(query=query, documents=texts, top_n=top_n, return_documents=wanted)
        result = await self.desk.ask(endpoint, asked)
        if not isinstance(result, Ranking):
            raise TypeError(f"{endpoint.service} answered {type(result).__name__}")
        _check_truncated(result, truncate)
        scores = np.array([item.score for item in result.items], dtype=np.float32)
        render.check_finite(scores, endpoint.id)
        rows = [
            {"index": item.index, **({"text": texts[item.index]} if wanted else {}), "score": score}
            for item, score in zip(result.items, scores, strict=True)
        ]
        return self._reply(rows, result)

    async def tokenize(self, request: Request) -> Response:
        endpoint = self._endpoint(request)
        body = Body(decode(await request.body()))
        texts = body.texts("inputs")
        special = body.take("add_special_tokens", bool)
        _prompt(body)
        body.done()
        rows = await self.house.lexicon.tokenize(
            endpoint.settings.get("model_id"), texts, special is not False
        )
        return self._reply(
            [
                [
                    {"id": t.id, "text": t.text, "special": t.special, "start": t.start, "stop": t.stop}
                    for t in row
                ]
                for row in rows
            ]
        )

    async def info(self, request: Request) -> Response:
        endpoint = self._endpoint(request)
        facts = self.house.lexicon.model(endpoint.settings.get("model_id"))
        kind = "reranker" if endpoint.task is TaskType.RERANK else "embedding"
        shown: dict[str, Any] = {
            "model_id": endpoint.settings.get("model_id") or endpoint.id,
            "model_sha": None,
            "model_dtype": "float32",
            "model_type": {kind: {"pooling": str(facts.pooling)} if facts else {}},
            "max_input_length": facts.max_tokens if facts else None,
            "max_concurrent_requests": self.house.config.models.queue_capacity,
            "version": __version__,
        }
        return self._reply(shown)

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


_KINDS = {400: "Validation", 404: "Validation", 413: "Validation", 424: "Backend", 429: "Overloaded"}


def problem(request: Request, error: InferdError) -> Response:
    headers = [(name, value) for name, value in error.headers if name != "Connection"]
    kind = _KINDS.get(error.status, "Unhealthy" if error.status == 503 else "Backend")
    body = orjson.dumps({"error": error.reason, "error_type": kind})
    return Response(body, status=error.status, content_type="application/json", headers=headers)


def _prompt(body: Body) -> InputType | None:
    name = body.take("prompt_name", str)
    if name is None:
        return None
    if name not in _PROMPTS:
        raise IllegalArgument(f"[prompt_name] must be one of [{', '.join(_PROMPTS)}]")
    return _PROMPTS[name]


def _check_truncated(result: Embeddings | Sparse | Ranking, truncate: bool | None) -> None:
    """``truncate: false`` refuses what does not fit; left out, it is cut and the headers say so."""
    if truncate is False and result.truncated:
        listed = ", ".join(str(n) for n in result.truncated[:20])
        raise IllegalArgument(f"inputs [{listed}] are longer than the model's window and [truncate] is false")
