"""The models of this process: which weights serve a name, what is deployed, and what it answers.

Names mean what names.py says; that of a sparse model may have ``:query`` or ``:document`` behind it. A name that is
Elastic's and served by other weights is a stand-in, and every answer says so.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from msgspec import Struct

from inferd.core.inputs import Item, RankQuery, Texts
from inferd.core.results import Embeddings, Ranked, Ranking, Sparse, Usage
from inferd.core.tasks import TaskType
from inferd.errors import IllegalArgument, NotFound, StatusError
from inferd.local import engine, fetch, names, shelf
from inferd.local.batches import Lane, Text
from inferd.local.catalogue import Model, Recipe
from inferd.local.dense import Dense
from inferd.local.deployment import Allocations, Answer, Deployment, Runner, Statistics
from inferd.local.engine import Precision, Program
from inferd.local.rerank import CrossEncoder, LateInteraction
from inferd.local.session import Weights
from inferd.local.shelf import BUNDLED, ShelfError
from inferd.local.sparse import MlmSparse, Side, TableSparse, VocabularySparse
from inferd.local.tokens import Tokenizer, Tokens

_log = logging.getLogger(__name__)

GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
VOCABULARY_GRAPH, VOCABULARY_TABLE = "vocabulary.onnx", "vocabulary.npz"

_OUTPUTS = {
    Recipe.DENSE: "last_hidden_state",
    Recipe.LATE_INTERACTION: "last_hidden_state",
    Recipe.VOCABULARY_SPARSE: "last_hidden_state",
    Recipe.MLM_SPARSE: "logits",
    Recipe.CROSS_ENCODER: "logits",
}
_BULK = 8
_SIDES = frozenset(str(side) for side in Side)
"""Texts from which a request without an input type counts as ingest."""
_CHUNKS = 64
"""Most pieces of a long document where ``max_chunks_per_doc`` does not say."""


class HostOptions(Struct, frozen=True, kw_only=True):
    """How models run here.

    ``models_dir`` holds downloaded models; ``aliases`` and ``repository`` are for names.py. ``max_allocations`` and 0:
    as many workers a deployment as processors allow. ``batch_tokens``: the most tokens of a batch; a search waits for
    one batch of ingest at most. ``idle_seconds``: after so long an idle adaptive worker ends, the last one with the
    model's memory.
    """

    models_dir: Path
    aliases: Mapping[str, str] = {}
    repository: Mapping[str, str] = {}
    engine: str = "openvino"
    precision: str = "auto"
    queue_capacity: int = 1024
    max_allocations: int = 0
    batch_tokens: int = 256
    idle_seconds: float = 900.0
    sparse_side: str = "both"


class Served(Struct, frozen=True, kw_only=True):
    """What a name means here. ``notice`` is what every answer must say, for stand-ins."""

    name: str
    model: Model
    stand_in: bool = False
    notice: str | None = None
    side: Side = Side.BOTH

    @property
    def notices(self) -> tuple[str, ...]:
        return () if self.notice is None else (self.notice,)


class _Deployed(Struct, frozen=True):
    served: Served
    deployment: Deployment


class Host:
    """Made anywhere; used on one event loop."""

    def __init__(self, options: HostOptions) -> None:
        self.options = options
        self._precision = engine.choose(options.precision)
        if self._precision is Precision.BF16 and options.engine != "openvino" and options.precision == "auto":
            self._precision = Precision.F32
        self._default_side = _side(options.sparse_side)
        self._processors = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        self._executor = ThreadPoolExecutor(4, thread_name_prefix="inferd tokens")
        self._deployed: dict[str, _Deployed] = {}
        self._served: dict[str, Served] = {}
        """Names that were asked for and mean something: there are few."""
        # Runners hold these; with the last one of a model its memory goes.
        self._weights: WeakValueDictionary[tuple[Path, int], Weights] = WeakValueDictionary()
        self._tokenizers: WeakValueDictionary[Path, Tokenizer] = WeakValueDictionary()
        self._shared = threading.Lock()
        self._closing = False
        for name in (*options.repository, *options.aliases):
            try:
                self.resolve(name)
            except StatusError as fault:
                _log.warning("%s", fault.reason)

    # Names

    def resolve(self, name: str) -> Served | None:
        """Which model serves a name; None when none does. Says nothing about its files being here (``place``).

        400 when a setting gives the name to what is no model.
        """
        if (known := self._served.get(name)) is not None:
            return known
        bare, _, side = name.partition(":")
        try:
            found = names.meaning(bare, self.options.aliases, self.options.repository)
        except ShelfError as cause:
            raise StatusError(400, cause.reason) from cause
        if found is None or (
            side and (side not in _SIDES or found.model.task is not TaskType.SPARSE_EMBEDDING)
        ):
            return None
        notice = f"model [{name}] is served by the stand-in [{found.model.id}]; see models.aliases"
        self._served[name] = Served(
            name=name,
            model=found.model,
            stand_in=found.stand_in,
            notice=notice if found.stand_in else None,
            side=Side(side) if side else self._default_side,
        )
        return self._served[name]

    def place(self, model: Model) -> Path | None:
        """The directory of a model's files; None when they are not here."""
        if model.bundled:
            return BUNDLED
        return shelf.locate(model, self.options.models_dir, self.options.repository.get(model.id))

    def _brought(self, model: Model) -> Path:
        """The same, on a thread; files that the user keeps in a directory here are taken from there first."""
        if (place := self.place(model)) is not None:
            return place
        options = self.options
        if not self._is_near(model):
            raise StatusError(404, shelf.missing(model))
        try:
            return fetch.pull(
                model, fetch.Options(models_dir=options.models_dir, repository=options.repository)
            )
        except ShelfError as cause:
            raise StatusError(400, cause.reason) from cause

    def _is_near(self, model: Model) -> bool:
        return names.is_directory(self.options.repository.get(model.id, ""))

    # Deployments

    def deployed(self, id: str) -> bool:
        return id in self._deployed

    def allocations(self, id: str) -> int | None:
        """Workers of a deployment now; None when there is no such deployment."""
        found = self._deployed.get(id)
        return found.deployment.workers if found else None

    def statistics(self) -> list[Statistics]:
        return [found.deployment.statistics() for found in self._deployed.values()]

    async def deploy(
        self,
        id: str,
        model_id: str,
        *,
        num_allocations: int | None = None,
        num_threads: int = 1,
        adaptive: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        timeout: str = "30s",
    ) -> None:
        """Load a model and start its workers. One that is deployed under this id already is waited for.

        404 when no model has that name, or its files are not here (the reason says what to run); 408 past the
        deadline (loop clock): the start goes on.
        """
        if self._closing:
            raise StatusError(503, "The server is stopping")
        if id not in self._deployed:
            self._deployed[id] = self._make(
                id, model_id, self._bounds(num_allocations, num_threads, adaptive), num_threads
            )
        deployment = self._deployed[id].deployment
        try:
            async with asyncio.timeout_at(deadline):
                await deployment.start()
        except TimeoutError:
            raise StatusError(
                408,
                f"Could not start deployment [{id}] because it timed out after [{timeout}]; it starts all the same",
            ) from None
        except BaseException:
            if not deployment.workers and not deployment.starting:
                self._forget(id, deployment)
            raise

    def _make(self, id: str, model_id: str, allocations: Allocations, threads: int) -> _Deployed:
        served = self.resolve(model_id)
        if served is None:
            raise NotFound(f"No known trained model with model_id [{model_id}]")
        if not self._is_near(served.model) and self.place(served.model) is None:
            raise StatusError(404, shelf.missing(served.model))
        if served.notice is not None:
            _log.warning("[%s]: %s", id, served.notice)
        deployment = Deployment(
            id,
            model_id,
            lambda: self._runner(served, threads),
            threads=threads,
            allocations=allocations,
            budget=self.options.batch_tokens,
            queue_capacity=self.options.queue_capacity,
            idle_seconds=self.options.idle_seconds,
            executor=self._executor,
        )
        return _Deployed(served, deployment)

    def _bounds(self, number: int | None, threads: int, adaptive: Mapping[str, Any] | None) -> Allocations:
        ceiling = max(1, self._processors // max(1, threads))
        if self.options.max_allocations:
            ceiling = min(ceiling, self.options.max_allocations)
        if adaptive is not None and adaptive.get("enabled", True):
            most = min(adaptive.get("max_number_of_allocations") or ceiling, ceiling)
            least = min(adaptive.get("min_number_of_allocations") or 0, most)
            return Allocations(least=least, most=most, initial=max(1, least))
        fixed = min(number or 1, ceiling)
        return Allocations(least=fixed, most=fixed, initial=fixed)

    async def update(
        self, id: str, *, num_allocations: int | None = None, adaptive: Mapping[str, Any] | None = None
    ) -> None:
        """Other allocations for a running deployment; one that is not running takes them when it starts."""
        found = self._deployed.get(id)
        if found is not None:
            threads = found.deployment.threads
            found.deployment.resize(self._bounds(num_allocations, threads, adaptive))

    async def undeploy(self, id: str, grace: float = 5.0) -> None:
        """Stop a deployment after the requests it has, or ``grace`` seconds. An unknown id is no error."""
        found = self._deployed.pop(id, None)
        if found is not None:
            await found.deployment.stop(grace)

    async def close(self, grace: float = 5.0) -> None:
        """Stop everything."""
        self._closing = True
        await asyncio.gather(*(self.undeploy(id, grace) for id in list(self._deployed)))
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _forget(self, id: str, deployment: Deployment) -> None:
        found = self._deployed.get(id)
        if found is not None and found.deployment is deployment:
            del self._deployed[id]

    # Loading, on a thread

    def _runner(self, served: Served, threads: int) -> Runner:
        model = served.model
        directory = self._brought(model)
        tokenizer = self._tokenizer(directory / TOKENIZER)
        if model.recipe is Recipe.MLM_SPARSE and model.query_idf and served.side is Side.QUERY:
            return TableSparse(model, tokenizer, directory / model.query_idf)
        weights = self._open(directory / GRAPH, threads, _OUTPUTS[model.recipe])
        weights.open()
        runner = self._recipe(served, tokenizer, weights, directory, threads)
        _warm(runner)
        return runner

    def _recipe(
        self, served: Served, tokenizer: Tokenizer, weights: Weights, directory: Path, threads: int
    ) -> Runner:
        model = served.model
        match model.recipe:
            case Recipe.DENSE:
                return Dense(model, tokenizer, weights)
            case Recipe.LATE_INTERACTION:
                return LateInteraction(model, tokenizer, weights)
            case Recipe.CROSS_ENCODER:
                return CrossEncoder(model, tokenizer, weights)
            case Recipe.MLM_SPARSE:
                return MlmSparse(model, tokenizer, weights)
            case Recipe.VOCABULARY_SPARSE:
                words = self._open(directory / VOCABULARY_GRAPH, threads, None)
                return VocabularySparse(
                    model, tokenizer, weights, words, directory / VOCABULARY_TABLE, served.side
                )

    def _tokenizer(self, path: Path) -> Tokenizer:
        with self._shared:
            found = self._tokenizers.get(path)
            if found is None:
                found = self._tokenizers[path] = Tokenizer.load(path)
            return found

    def _open(self, graph: Path, threads: int, output: str | None) -> Weights:
        """The weights of a graph; deployments with as many threads share them."""
        width = max(1, self._processors // threads)

        def load() -> Program:
            return engine.find(self.options.engine).open(
                graph, output=output, threads=threads, width=width, precision=self._precision
            )

        with self._shared:
            found = self._weights.get((graph, threads))
            if found is None:
                found = self._weights[graph, threads] = Weights(load)
            return found

    # Asking

    async def embed(self, id: str, inputs: Texts, deadline: float, timeout: str = "30s") -> Embeddings:
        """A vector a text. ``deadline`` is of the loop's clock; ``timeout`` as the caller wrote it."""
        found = self._find(id, TaskType.TEXT_EMBEDDING)
        runner: Dense = await found.deployment.ready(deadline, timeout)
        prefix = runner.prefix(inputs.input_type)
        answer = await found.deployment.ask(
            inputs.texts,
            lambda text: runner.encode(text, prefix),
            lane=_lane(inputs),
            deadline=deadline,
            timeout=timeout,
        )
        vectors = answer.results
        return Embeddings(
            vectors=vectors[0][None] if len(vectors) == 1 else np.stack(vectors),
            usage=answer.usage,
            truncated=answer.truncated,
            notices=found.served.notices,
        )

    async def expand(self, id: str, inputs: Texts, deadline: float, timeout: str = "30s") -> Sparse:
        """Weighted vocabulary entries a text."""
        found = self._find(id, TaskType.SPARSE_EMBEDDING)
        runner: VocabularySparse | MlmSparse | TableSparse = await found.deployment.ready(deadline, timeout)
        answer = await found.deployment.ask(
            inputs.texts, runner.encode, lane=_lane(inputs), deadline=deadline, timeout=timeout
        )
        return Sparse(vectors=tuple(answer.results), usage=answer.usage, notices=found.served.notices)

    async def rank(
        self,
        id: str,
        inputs: RankQuery,
        deadline: float,
        timeout: str = "30s",
        options: Mapping[str, Any] | None = None,
    ) -> Ranking:
        """Documents by falling score; equal ones in the request's order.

        ``options``: ``return_documents`` (the request's own comes first), ``long_document_strategy`` (``truncate``, or
        ``chunk``: the best of the pieces that fit the model counts) and ``max_chunks_per_doc``.
        """
        options = options or {}
        found = self._find(id, TaskType.RERANK)
        runner: LateInteraction | CrossEncoder = await found.deployment.ready(deadline, timeout)
        most = (
            (options.get("max_chunks_per_doc") or _CHUNKS)
            if options.get("long_document_strategy") == "chunk"
            else 1
        )
        texts = tuple(_text(document) for document in inputs.documents)
        query = runner.query(_text(inputs.query))
        ask = partial(found.deployment.ask, lane=Lane.SEARCH, deadline=deadline, timeout=timeout)
        usage, context = Usage(given=0, used=0), None
        if isinstance(runner, LateInteraction):
            about = await ask((_text(inputs.query),), lambda text: (query,))
            usage, context = about.usage, about.results[0]
        answer = await ask(texts, lambda text: runner.documents(query, text, most), context=context)
        wanted = inputs.return_documents
        shown = options.get("return_documents", True) if wanted is None else wanted
        ranked = sorted(_best(answer, len(texts)), key=lambda pair: -pair[1])[: inputs.top_n]
        return Ranking(
            items=tuple(Ranked(i, score, texts[i] if shown else None) for i, score in ranked),
            usage=Usage(given=usage.given + answer.usage.given, used=usage.used + answer.usage.used),
            truncated=answer.truncated,
            notices=(*found.served.notices, *_cut_query(query)),
        )

    def _find(self, id: str, task: TaskType) -> "_Deployed":
        found = self._deployed.get(id)
        if found is None:
            raise StatusError(404, f"Cannot find deployment [{id}]")
        if found.served.model.task is not task:
            raise StatusError(
                400, f"The model [{found.served.name}] of deployment [{id}] does not serve [{task}]"
            )
        return found


def _side(name: str) -> Side:
    if name not in _SIDES:
        raise IllegalArgument(f"models.sparse_side [{name}] is not one of [{', '.join(Side)}]")
    return Side(name)


def _lane(inputs: Texts) -> Lane:
    """A search waits for somebody; ingest is many texts, or says so."""
    kind = inputs.input_type
    if kind is not None and (kind.is_search or kind.is_ingest):
        return Lane.SEARCH if kind.is_search else Lane.INGEST
    return Lane.SEARCH if len(inputs.texts) < _BULK else Lane.INGEST


def _text(item: str | Item) -> str:
    if isinstance(item, str):
        return item
    if item.type != "text":
        raise StatusError(400, f"The [elasticsearch] service only reads text, not [{item.type}]")
    return item.value


def _best(answer: Answer, documents: int) -> list[tuple[int, float]]:
    """Each document's score: that of its best piece."""
    scores = [float("-inf")] * documents
    for owner, score in zip(answer.owners, answer.results, strict=True):
        scores[owner] = max(scores[owner], score)
    return list(enumerate(scores))


def _cut_query(query: Tokens) -> tuple[str, ...]:
    if not query.truncated:
        return ()
    return (f"the query was cut to {len(query.ids)} of its {query.given} tokens",)


def _warm(runner: Any) -> None:
    """One short text through everything: the first one is the slowest."""
    if isinstance(runner, LateInteraction | CrossEncoder):
        pieces = runner.documents(runner.query("warm"), "up", 1)
    else:
        pieces = runner.encode("warm up")
    runner.run([Text(pieces[0])], Lane.SEARCH)
