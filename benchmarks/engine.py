"""What the local engine costs over the engine alone: the same mixed-length texts, in process, rounds interleaved.

- raw: as many threads as the machine allows, each running batches of one length, sorted, as fast as they can
- clients: that many tasks, each sending one short text after the other through a deployment
- one client: its median latency, and that of the engine for the same texts
"""

import argparse
import asyncio
import os
import random
import statistics
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from inferd.core.inputs import InputType, Texts
from inferd.local.host import GRAPH, TOKENIZER, Host, HostOptions
from inferd.local.shelf import BUNDLED
from inferd.local.tokens import Tokenizer

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "was",
    "for",
    "on",
    "with",
    "wing",
    "pressure",
    "library",
    "index",
    "flow",
]
MODEL = ".all-minilm-l6-v2"


def short_texts(count: int, seed: int = 0) -> list[str]:
    """Queries and sentences: four to thirty words or so."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(3, 18))) for _ in range(count)]


def groups(texts: list[str], budget: int) -> list[np.ndarray]:
    tokenizer = Tokenizer.load(BUNDLED / TOKENIZER)
    by_length = defaultdict(list)
    for text in texts:
        ids = tokenizer.encode(text, 256).ids
        by_length[len(ids)].append(ids)
    made = []
    for length, rows in by_length.items():
        step = max(1, budget // length)
        made += [np.array(rows[at : at + step], np.int64) for at in range(0, len(rows), step)]
    return made


class Raw:
    """The engine with nothing around it."""

    def __init__(self, threads: int, budget: int) -> None:
        from inferd.local import engine

        self.program = engine.find("openvino").open(
            BUNDLED / GRAPH, output=None, threads=1, width=threads, precision=engine.choose("auto")
        )
        self.sessions = [self.program.session() for _ in range(threads)]
        self.budget = budget

    def throughput(self, texts: list[str]) -> float:
        waiting = groups(texts, self.budget)
        random.Random(1).shuffle(waiting)
        lock = threading.Lock()

        def work(session) -> None:
            while True:
                with lock:
                    if not waiting:
                        return
                    batch = waiting.pop()
                session.run(batch)

        threads = [threading.Thread(target=work, args=(session,)) for session in self.sessions]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(texts) / (time.perf_counter() - began)

    def latency(self, texts: list[str]) -> float:
        batches = groups(texts, 1)
        taken = []
        for batch in batches:
            began = time.perf_counter()
            self.sessions[0].run(batch)
            taken.append(time.perf_counter() - began)
        return 1000 * statistics.median(taken)


async def clients(host: Host, texts: list[str], count: int, id: str) -> tuple[float, list[float]]:
    """Texts a second, and each one's milliseconds."""
    loop, todo, taken = asyncio.get_running_loop(), list(texts), []

    async def one() -> None:
        while todo:
            text = todo.pop()
            began = time.perf_counter()
            await host.embed(id, Texts((text,), InputType.SEARCH), loop.time() + 60)
            taken.append(1000 * (time.perf_counter() - began))

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return len(texts) / (time.perf_counter() - began), taken


async def bulk(host: Host, id: str, texts: list[str], count: int, stop: asyncio.Event) -> int:
    """Clients that send many long texts at once until told to stop; texts done."""
    loop, done = asyncio.get_running_loop(), 0

    async def one() -> None:
        nonlocal done
        while not stop.is_set():
            await host.embed(id, Texts(tuple(texts[:32]), InputType.INGEST), loop.time() + 120)
            done += 32

    await asyncio.gather(*(one() for _ in range(count)))
    return done


async def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--texts", type=int, default=600)
    given = options.parse_args()
    cores = len(os.sched_getaffinity(0))
    host = Host(HostOptions(models_dir=Path("/nonexistent")))
    await host.deploy("bench", MODEL, num_allocations=cores)
    raw = Raw(cores, 256)
    texts = short_texts(given.texts)
    raw.throughput(texts)
    await clients(host, texts, 32, "bench")
    print(
        f"{'round':>5} {'raw/s':>8} {'32 clients/s':>13} {'ratio':>6} {'engine ms':>10} {'1 client ms':>12}"
    )
    ratios, overheads = [], []
    for round in range(given.rounds):
        best = raw.throughput(texts)
        reached, _ = await clients(host, texts, 32, "bench")
        engine_ms = raw.latency(texts[:150])
        _, taken = await clients(host, texts[:150], 1, "bench")
        ratios.append(reached / best)
        overheads.append(statistics.median(taken) - engine_ms)
        print(
            f"{round:5} {best:8.0f} {reached:13.0f} {ratios[-1]:6.2f} {engine_ms:10.2f} {statistics.median(taken):12.2f}"
        )
    print(f"median ratio {statistics.median(ratios):.2f}, overhead {statistics.median(overheads):.2f} ms")
    long = [" ".join(WORDS * 6)[:600] for _ in range(32)]
    _, idle = await clients(host, texts[:200], 1, "bench")
    stop = asyncio.Event()
    work = asyncio.create_task(bulk(host, "bench", long, 4, stop))
    await asyncio.sleep(2)
    began = time.perf_counter()
    _, busy = await clients(host, texts[:200], 1, "bench")
    stop.set()
    done = await work
    p99 = [np.percentile(x, 99) for x in (idle, busy)]
    print(
        f"search p50/p99 idle {np.median(idle):.1f}/{p99[0]:.1f} ms, beside 4 × 32 passages "
        f"{np.median(busy):.1f}/{p99[1]:.1f} ms; passages/s {done / (time.perf_counter() - began + 2):.1f}"
    )
    await host.close()


if __name__ == "__main__":
    asyncio.run(main())
