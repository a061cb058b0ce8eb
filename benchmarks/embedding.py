"""Local embedding through the whole server, security on, against the engine alone with the same texts.

    python -m benchmarks.embedding [--rounds 3] [--seconds 2]

Every round runs each load once beside the raw engine, so that what the machine does besides hits both; figures are
medians of the rounds. The raw engine runs ready-made batches of equal length, already tokenized, on as many threads as
the endpoint has allocations, with the batch size that suits it best: nothing is faster on this model and machine. What
the server adds is HTTP, authentication, JSON, tokens, queue, pooling, rendering, and the clients, which share the cores.
"""

import argparse
import itertools
import json
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.serverprocess import ServerProcess, started

from benchmarks import machine
from benchmarks.load import Measured, load, median, post
from inferd.local import engine
from inferd.local.host import GRAPH, TOKENIZER
from inferd.local.shelf import BUNDLED
from inferd.local.tokens import Tokenizer

MODEL = ".all-minilm-l6-v2"
BUDGETS = (128, 256, 512)
"""Tokens of a batch that the raw engine may choose from."""


@dataclass(frozen=True)
class Shape:
    """Clients that each send so many texts a request; ``one`` runs them on one engine thread."""

    clients: int
    inputs: int = 1
    one: bool = False

    @property
    def name(self) -> str:
        kind = "1 short text" if self.inputs == 1 else f"{self.inputs} passages"
        return f"{self.clients} × {kind}" + (", one allocation" if self.one else "")

    @property
    def key(self) -> tuple[bool, bool]:
        """Texts and threads: what the raw engine is run with."""
        return self.inputs == 1, self.one


SHAPES = (
    Shape(1),
    Shape(8),
    Shape(32),
    Shape(128),
    Shape(4, 32),
    Shape(32, one=True),
    Shape(4, 32, one=True),
)


def texts(count: int, low: int, high: int) -> list[str]:
    """English words from this benchmark's own sources, so many a text."""
    words = [w.strip(".,:`()\"'").lower() for w in __doc__.split() if w.isascii()]
    chance = random.Random(count)
    return [" ".join(chance.choices(words, k=chance.randint(low, high))) for _ in range(count)]


SHORT = texts(512, 4, 14)
PASSAGES = texts(128, 85, 105)


class Raw:
    """The engine with nothing around it, on so many threads."""

    def __init__(self, threads: int) -> None:
        program = engine.find("openvino").open(
            BUNDLED / GRAPH,
            output="last_hidden_state",
            threads=1,
            width=threads,
            precision=engine.choose("auto"),
        )
        self._sessions = [program.session() for _ in range(threads)]
        tokenizer = Tokenizer.load(BUNDLED / TOKENIZER)
        self._rows = {
            short: [tokenizer.encode(text, 256).ids for text in source]
            for short, source in ((True, SHORT), (False, PASSAGES))
        }
        self._best: dict[bool, list[np.ndarray]] = {}

    def tokens(self, short: bool) -> float:
        """Of a text, on average."""
        return float(np.mean([len(row) for row in self._rows[short]]))

    def choose(self, short: bool, seconds: float) -> int:
        """Find the batch size that is fastest once warm; the budget in tokens."""
        speeds = {}
        for budget in BUDGETS:
            self.prepare(short, budget)
            speeds[budget] = self.throughput(short, seconds)[0]
        best = max(speeds, key=speeds.__getitem__)
        self.prepare(short, best)
        return best

    def prepare(self, short: bool, budget: int) -> None:
        """Take this batch size, and run each batch once."""
        self._best[short] = batches = self._batches(short, budget)
        self._run(iter(batches))

    def throughput(self, short: bool, seconds: float) -> tuple[float, float]:
        """Texts a second, and processor seconds a thousand texts."""
        began, before = time.perf_counter(), time.process_time()
        batches = itertools.cycle(self._best[short])
        until = began + seconds
        done = self._run(itertools.takewhile(lambda _: time.perf_counter() < until, batches))
        return done / (time.perf_counter() - began), 1000 * (time.process_time() - before) / done

    def latency(self, seconds: float) -> float:
        """Median milliseconds of one short text alone."""
        batches, taken = self._batches(True, 1), []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for batch in batches:
                began = time.perf_counter()
                self._sessions[0].run(batch)
                taken.append(time.perf_counter() - began)
        return 1000 * float(np.median(taken))

    def _batches(self, short: bool, budget: int) -> list[np.ndarray]:
        by_length = defaultdict(list)
        for row in self._rows[short]:
            by_length[len(row)].append(row)
        made = []
        for length, rows in by_length.items():
            step = max(1, budget // length)
            made += [np.array(rows[at : at + step], np.int64) for at in range(0, len(rows), step)]
        random.Random(1).shuffle(made)
        return made

    def _run(self, batches: Iterator[np.ndarray]) -> int:
        """Texts done."""
        lock, done = threading.Lock(), []

        def work(session: engine.Session) -> None:
            while True:
                with lock:
                    batch = next(batches, None)
                if batch is None:
                    return
                session.run(batch)
                done.append(len(batch))

        threads = [threading.Thread(target=work, args=(session,)) for session in self._sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done)


def requests(shape: Shape, key: str) -> list[bytes]:
    """One endpoint per number of allocations; each request its own texts."""
    source = SHORT if shape.inputs == 1 else PASSAGES
    bodies = [source[at : at + shape.inputs] for at in range(0, len(source), shape.inputs)]
    path = "/_inference/text_embedding/" + ("one" if shape.one else "all")
    return [
        post(
            path,
            json.dumps({"input": body[0] if len(body) == 1 else body}).encode(),
            Authorization=f"ApiKey {key}",
        )
        for body in bodies
    ]


def prepare(server: ServerProcess) -> str:
    """Two endpoints and a key."""
    for id, allocations in (("all", machine.cores()), ("one", 1)):
        settings = {"model_id": MODEL, "num_allocations": allocations, "num_threads": 1}
        answer = server.ask(
            "PUT",
            f"/_inference/text_embedding/{id}",
            {"service": "elasticsearch", "service_settings": settings},
        )
        assert answer.status == 200, answer.body
    answer = server.ask("POST", "/_security/api_key", {"name": "benchmark"})
    assert answer.status == 200, answer.body
    return str(answer.json["encoded"])


def measure(rounds: int = 3, seconds: float = 2.0) -> dict[str, Any]:
    """Figures by shape and of the raw engine, medians over the rounds."""
    raws = {one: Raw(1 if one else machine.cores()) for one in (False, True)}
    budgets = {}
    for short in (True, False):
        budgets[short] = raws[False].choose(short, seconds / 4)
        raws[True].prepare(short, budgets[short])
    served: dict[Shape, list[Measured]] = defaultdict(list)
    raw: dict[tuple[bool, bool], list[tuple[float, float]]] = defaultdict(list)
    ratios: dict[Shape, list[tuple[float, float]]] = defaultdict(list)
    alone = []
    with tempfile.TemporaryDirectory() as folder, started(Path(folder)) as server:
        key = prepare(server)
        jobs = {shape: requests(shape, key) for shape in SHAPES}
        for shape in SHAPES:
            load(server.port, jobs[shape], clients=shape.clients, seconds=seconds / 2)
        for _ in range(rounds):
            alone.append(raws[True].latency(seconds / 2))
            now = {}
            for shape in SHAPES:
                if shape.key not in now:
                    now[shape.key] = raws[shape.one].throughput(shape.inputs == 1, seconds)
                    raw[shape.key].append(now[shape.key])
                before = machine.cpu([server.process.pid])
                count, found = load(server.port, jobs[shape], clients=shape.clients, seconds=seconds)
                used = 1000 * (machine.cpu([server.process.pid]) - before) / count
                served[shape].append(Measured(found.rate, found.p50, found.p99, used))
                speed, cost = now[shape.key]
                ratios[shape].append((found.rate * shape.inputs / speed, used / (cost * shape.inputs)))
    return {
        "served": {shape: median(found) for shape, found in served.items()},
        "ratios": {shape: tuple(np.median(found, axis=0)) for shape, found in ratios.items()},
        "raw": {key: tuple(np.median(found, axis=0)) for key, found in raw.items()},
        "budgets": budgets,
        "alone": float(np.median(alone)),
        "tokens": {short: raws[True].tokens(short) for short in (True, False)},
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| load | requests/s | texts/s | p50, ms | p99, ms | CPU-s per 1000 requests | texts/s ÷ raw engine "
        "| CPU ÷ raw engine |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for shape, one in found["served"].items():
        speed, cost = found["ratios"][shape]
        lines.append(
            f"| {shape.name} | {one.rate:.0f} | {one.rate * shape.inputs:.0f} | {one.p50:.1f} | {one.p99:.1f} "
            f"| {one.cpu:.2f} | {speed:.2f} | {cost:.2f} |"
        )
    for (short, one), (speed, cost) in found["raw"].items():
        threads = "1 thread" if one else f"{machine.cores()} threads"
        kind = "short texts" if short else "passages"
        latency = f"{found['alone']:.1f}" if short and one else ""
        lines.append(
            f"| raw engine, {kind}, {threads}, batches of {found['budgets'][short]} tokens | | {speed:.0f} "
            f"| {latency} | | {cost:.2f} (texts) | 1 | 1 |"
        )
    short, long = found["tokens"][True], found["tokens"][False]
    lines += [
        "",
        f"Short texts have {short:.0f} tokens on average, passages {long:.0f}; p50 of the raw engine: one text alone.",
    ]
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=2.0)
    given = options.parse_args()
    print(machine.facts(), end="\n\n")
    print(table(measure(given.rounds, given.seconds)))


if __name__ == "__main__":
    main()
