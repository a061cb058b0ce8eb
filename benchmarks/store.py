"""What the store costs: reading an endpoint, storing one, and seeing another process's write. Prints medians.

    python benchmarks/store.py [--endpoints 1000] [--url postgresql://…]

Creation is shown beside the bare cost of a durable SQLite commit on the same disk in the same run.
"""

import argparse
import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
import timeit
from collections.abc import Awaitable, Callable
from pathlib import Path

from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.store import SecretBox, Store


def endpoint(n: int) -> Endpoint:
    return Endpoint(
        id=f"endpoint-{n:06}",
        task=TaskType.TEXT_EMBEDDING,
        service="openai",
        settings={"model_id": "text-embedding-3-small", "dimensions": 1536, "similarity": "cosine"},
        chunking={"strategy": "sentence", "max_chunk_size": 250, "sentence_overlap": 1},
        secrets={"api_key": Secret("sk-" + "x" * 48)},
    )


async def median(times: int, work: Callable[[int], Awaitable[object]]) -> float:
    taken = []
    for n in range(times):
        started = time.perf_counter()
        await work(n)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def bare_commit(path: Path, times: int) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
    taken = []
    for n in range(times):
        started = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?, ?)", (n, b"x" * 300))
        connection.execute("COMMIT")
        taken.append(time.perf_counter() - started)
    connection.close()
    return statistics.median(taken)


async def seen_after(here: Store, there: Store, n: int) -> float:
    seen = asyncio.Event()
    leave = there.subscribe(seen.set)
    await here.create(endpoint(n))
    started = time.perf_counter()
    await seen.wait()
    leave()
    return time.perf_counter() - started


async def measure(home: Path, url: str, count: int) -> dict[str, float]:
    box = SecretBox.at(home / "secret.key")
    store = await Store.open(url, box)
    create = await median(count, lambda n: store.create(endpoint(n)))
    some = endpoint(count // 2).id
    reads = min(timeit.repeat(lambda: store.get(some), number=100_000, repeat=5)) / 100_000
    listing = min(timeit.repeat(store.all, number=100, repeat=5)) / 100

    async def update(_: int) -> None:
        found = store.get(some)
        assert found is not None
        await store.replace(found, found.version)

    replace = await median(100, update)
    started = time.perf_counter()
    other = await Store.open(url, box)
    opened = time.perf_counter() - started
    noticed = statistics.median([await seen_after(store, other, count + n) for n in range(10)])
    remove = await median(100, lambda n: store.delete(endpoint(n).id))
    await other.close()
    await store.close()
    return {
        "get, µs": reads * 1e6,
        "all, µs": listing * 1e6,
        "create, ms": create * 1e3,
        "replace, ms": replace * 1e3,
        "delete, ms": remove * 1e3,
        "bare durable SQLite commit, ms": bare_commit(home / "bare.db", 200) * 1e3,
        "seen by another process after, ms": noticed * 1e3,
        "open, ms": opened * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--url", help="default: SQLite in a temporary directory")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        url = options.url or f"sqlite:///{home / 'inferd.db'}"
        figures = asyncio.run(measure(home, url, options.endpoints))
    if options.json:
        print(json.dumps({"endpoints": options.endpoints} | figures))
        return
    print(f"{options.endpoints} endpoints, medians")
    for name, value in figures.items():
        print(f"{name:36}{value:10.3f}")


if __name__ == "__main__":
    main()
