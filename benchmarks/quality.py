"""Retrieval quality of the bundled models on judged collections: nDCG@10, dense, sparse and reranked.

A collection is a JSON file of ``docs`` (id to text), ``queries`` (id to text) and ``qrels`` (query id to document id to
gain); cranfield and cisi are in every archive of test collections. Through a running server::

    python benchmarks/quality.py --collections DIR --url http://127.0.0.1:9200 --user elastic --password …

or, without ``--url``, in this process. Reranking is over the top 100 of BM25.
"""

import argparse
import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import numpy as np

Scores = dict[str, np.ndarray]

DENSE, SPARSE, RERANK = ".all-minilm-l6-v2", ".minilm-sparse", ".minilm-late-interaction"
BATCH = 64
DEPTH = 100
TIMEOUT = 600


class Models(Protocol):
    """Where the answers come from."""

    async def embed(self, texts: Sequence[str]) -> np.ndarray: ...
    async def expand(self, texts: Sequence[str], side: str) -> list[dict[str, float]]: ...
    async def rank(self, query: str, documents: Sequence[str]) -> list[float]: ...


class Served:
    """A running server, through its HTTP API."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url.rstrip("/")

    async def call(self, method: str, path: str, body: Any) -> Any:
        url = f"{self.url}/_inference/{path}"
        async with self.session.request(method, url, json=body) as reply:
            if reply.status != 200:
                raise SystemExit(f"{method} {path}: {reply.status} {await reply.text()}")
            return await reply.json()

    async def create(self, task: str, id: str, model: str) -> None:
        settings = {"model_id": model, "num_allocations": 2, "num_threads": 1}
        async with self.session.delete(f"{self.url}/_inference/{task}/{id}"):
            pass
        await self.call(
            "PUT", f"{task}/{id}?timeout=120s", {"service": "elasticsearch", "service_settings": settings}
        )

    async def prepare(self) -> None:
        await self.create("text_embedding", "quality-dense", DENSE)
        for side in ("both", "document", "query"):
            await self.create("sparse_embedding", f"quality-sparse-{side}", f"{SPARSE}:{side}")
        await self.create("rerank", "quality-rerank", RERANK)

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        found = await self.call(
            "POST", f"text_embedding/quality-dense?timeout={TIMEOUT}s", {"input": list(texts)}
        )
        return np.array([one["embedding"] for one in found["text_embedding"]], np.float32)

    async def expand(self, texts: Sequence[str], side: str) -> list[dict[str, float]]:
        path = f"sparse_embedding/quality-sparse-{side}?timeout={TIMEOUT}s"
        found = await self.call("POST", path, {"input": list(texts)})
        return [one["embedding"] for one in found["sparse_embedding"]]

    async def rank(self, query: str, documents: Sequence[str]) -> list[float]:
        body = {"query": query, "input": list(documents)}
        found = await self.call("POST", f"rerank/quality-rerank?timeout={TIMEOUT}s", body)
        scores = [0.0] * len(documents)
        for one in found["rerank"]:
            scores[one["index"]] = one["relevance_score"]
        return scores


class InProcess:
    """The same models without HTTP."""

    def __init__(self) -> None:
        from inferd.local.host import Host, HostOptions

        self.host = Host(HostOptions(models_dir=Path("/nonexistent")))

    async def prepare(self) -> None:
        await self.host.deploy("dense", DENSE, num_allocations=2)
        for side in ("both", "document", "query"):
            await self.host.deploy(side, f"{SPARSE}:{side}", num_allocations=2)
        await self.host.deploy("rerank", RERANK, num_allocations=2)

    @property
    def deadline(self) -> float:
        return asyncio.get_running_loop().time() + TIMEOUT

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        from inferd.core.inputs import Texts

        return (await self.host.embed("dense", Texts(tuple(texts)), self.deadline)).vectors

    async def expand(self, texts: Sequence[str], side: str) -> list[dict[str, float]]:
        from inferd.core.inputs import Texts

        found = await self.host.expand(side, Texts(tuple(texts)), self.deadline)
        return [dict(zip(v.tokens, map(float, v.weights), strict=True)) for v in found.vectors]

    async def rank(self, query: str, documents: Sequence[str]) -> list[float]:
        from inferd.core.inputs import RankQuery

        found = await self.host.rank("rerank", RankQuery(query, tuple(documents)), self.deadline)
        scores = [0.0] * len(documents)
        for item in found.items:
            scores[item.index] = item.score
        return scores


def ndcg(
    scores: Scores, ids: Sequence[str], qrels: Mapping[str, Mapping[str, int]], depth: int = 10
) -> float:
    """Mean over the queries; gains are the judgements themselves, ties go by document order."""
    total = 0.0
    for query, found in scores.items():
        gains = qrels[query]
        best = sorted(gains.values(), reverse=True)[:depth]
        top = np.argsort(-found, kind="stable")[:depth]
        reached = sum(gains.get(ids[place], 0) / math.log2(rank + 2) for rank, place in enumerate(top))
        total += reached / sum(gain / math.log2(rank + 2) for rank, gain in enumerate(best))
    return total / len(scores)


class Bm25:
    """Okapi BM25, k1 1.2, b 0.75, lower-cased words."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in texts]
        self.size = len(texts)
        lengths = np.array([sum(count.values()) for count in counts], np.float64)
        self.norms = 1.2 * (0.25 + 0.75 * lengths / lengths.mean())
        self.postings: dict[str, list[tuple[int, int]]] = {}
        for place, count in enumerate(counts):
            for word, times in count.items():
                self.postings.setdefault(word, []).append((place, times))

    def scores(self, query: str) -> np.ndarray:
        found = np.zeros(self.size)
        for word in words(query):
            postings = self.postings.get(word, [])
            idf = math.log(1 + (self.size - len(postings) + 0.5) / (len(postings) + 0.5))
            for place, times in postings:
                found[place] += idf * 2.2 * times / (times + self.norms[place])
        return found


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]


async def dense(models: Models, docs: Sequence[str], queries: Mapping[str, str]) -> Scores:
    matrix = np.concatenate([await models.embed(some) for some in parts(docs)])
    asked = np.concatenate([await models.embed(some) for some in parts(list(queries.values()))])
    return dict(zip(queries, asked @ matrix.T, strict=True))


async def sparse(
    models: Models, docs: Sequence[str], queries: Mapping[str, str], document: str, query: str
) -> Scores:
    postings: dict[str, list[tuple[int, float]]] = {}
    place = 0
    for some in parts(docs):
        for vector in await models.expand(some, document):
            for token, weight in vector.items():
                postings.setdefault(token, []).append((place, weight))
            place += 1
    scores: Scores = {}
    asked = [vector for some in parts(list(queries.values())) for vector in await models.expand(some, query)]
    for id, vector in zip(queries, asked, strict=True):
        found = scores[id] = np.zeros(len(docs))
        for token, weight in vector.items():
            for at, other in postings.get(token, []):
                found[at] += weight * other
    return scores


async def reranked(models: Models, docs: Sequence[str], queries: Mapping[str, str], first: Scores) -> Scores:
    scores: Scores = {}
    for id, query in queries.items():
        top = np.argsort(-first[id], kind="stable")[:DEPTH]
        found = scores[id] = np.full(len(docs), -np.inf)
        found[top] = await models.rank(query, [docs[place] for place in top])
    return scores


async def measure(
    models: Models, name: str, collection: Mapping[str, Any], wanted: Sequence[str]
) -> dict[str, float]:
    ids, docs = list(collection["docs"]), list(collection["docs"].values())
    queries = {id: text for id, text in collection["queries"].items() if collection["qrels"].get(id)}
    lexical = Bm25(docs)
    first = {id: lexical.scores(text) for id, text in queries.items()}
    reached = {"bm25": ndcg(first, ids, collection["qrels"])}
    for what in wanted:
        if what == "dense":
            scores = await dense(models, docs, queries)
        elif what == "rerank":
            scores = await reranked(models, docs, queries, first)
        else:
            sides = ("document", "query") if what == "sides" else ("both", "both")
            scores = await sparse(models, docs, queries, *sides)
        reached[what] = ndcg(scores, ids, collection["qrels"])
        print(f"{name:12} {what:8} {reached[what]:.4f}", flush=True)
    print(f"{name:12} bm25     {reached['bm25']:.4f}", flush=True)
    return reached


async def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--collections", type=Path, required=True, help="directory of JSON files")
    options.add_argument("--only", nargs="*", default=["cranfield", "cisi"])
    options.add_argument("--what", nargs="*", default=["dense", "sparse", "rerank"], help="also: sides")
    options.add_argument("--url", help="a running server; none: in this process")
    options.add_argument("--user", default="elastic")
    options.add_argument("--password")
    given = options.parse_args()
    auth = aiohttp.BasicAuth(given.user, given.password) if given.password else None
    timeout = aiohttp.ClientTimeout(total=TIMEOUT + 10)
    async with aiohttp.ClientSession(auth=auth, timeout=timeout) as session:
        models = Served(session, given.url) if given.url else InProcess()
        await models.prepare()
        for name in given.only:
            collection = json.loads((given.collections / f"{name}.json").read_text())
            await measure(models, name, collection, given.what)


if __name__ == "__main__":
    asyncio.run(main())
