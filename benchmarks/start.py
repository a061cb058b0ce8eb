"""How soon a server answers, and what it takes: start, memory, imports, size of the installation.

    python -m benchmarks.start [--rounds 3]

Start is from the process to its first answer with a bundled model: with a new data directory (keys, database and the
endpoint are made on the way) and with one that has the endpoint. Memory is resident, two seconds after each of the three
bundled models has answered. The installation is what the base package needs, by the records of the installed packages.
"""

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from tests.serverprocess import ServerProcess

import inferd
from benchmarks import machine

ENDPOINTS = (
    ("text_embedding", ".all-minilm-l6-v2", {"input": "sky"}),
    ("sparse_embedding", ".minilm-sparse", {"input": "sky"}),
    ("rerank", ".minilm-late-interaction", {"query": "sky", "input": ["port", "a sky"]}),
)


def put(server: ServerProcess, task: str, model: str) -> None:
    settings = {"model_id": model, "num_allocations": 1, "num_threads": 1}
    body = {"service": "elasticsearch", "service_settings": settings}
    answer = server.ask("PUT", f"/_inference/{task}/{task}", body)
    assert answer.status == 200, answer.body


def infer(server: ServerProcess, task: str, body: dict[str, Any]) -> None:
    answer = server.ask("POST", f"/_inference/{task}/{task}", body)
    assert answer.status == 200, answer.body


def first_answer(folder: Path, *, new: bool) -> float:
    """Seconds from the start of the process."""
    task, model, body = ENDPOINTS[0]
    began = time.perf_counter()
    server = ServerProcess(folder)
    try:
        server.ready()
        if new:
            put(server, task, model)
        infer(server, task, body)
        return time.perf_counter() - began
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.stop(10)
        server.kill()


def memory(folder: Path) -> tuple[float, float]:
    """Megabytes: started, and with all three bundled models loaded."""
    server = ServerProcess(folder)
    try:
        server.ready()
        server.ask("GET", "/")
        empty = machine.rss(server.process.pid)
        for task, model, body in ENDPOINTS:
            put(server, task, model)
            infer(server, task, body)
        time.sleep(2)
        return empty, machine.rss(server.process.pid)
    finally:
        server.kill()


def importing(module: str) -> float:
    """Seconds of a Python that only imports it, less those of one that imports nothing."""
    taken = []
    for code in ("", f"import {module}"):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        taken.append(time.perf_counter() - began)
    return taken[1] - taken[0]


def closure(name: str, found: dict[str, Distribution] | None = None) -> dict[str, Distribution]:
    """The installed distribution and all that it requires here, without extras unless a requirement names them."""
    found = {} if found is None else found
    return _closure(Requirement(name), found)


def _closure(wanted: Requirement, found: dict[str, Distribution]) -> dict[str, Distribution]:
    name = re.sub(r"[-_.]+", "-", wanted.name).lower()
    known = name in found
    if known and not wanted.extras:
        return found
    found[name] = distribution(name)
    for text in found[name].requires or ():
        needed = Requirement(text)
        extras = ("", *sorted(wanted.extras))
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            _closure(needed, found)
    return found


def size(one: Distribution) -> int:
    """Bytes on disk of its files; the package itself, which may be installed in place, by its folder."""
    if one.metadata["Name"] == "inferd":
        files = [path for path in Path(inferd.__file__).parent.rglob("*") if path.is_file()]
    else:
        files = [Path(str(one.locate_file(file))) for file in one.files or ()]
    return sum(path.stat().st_size for path in files if path.is_file())


def measure(rounds: int = 3) -> dict[str, Any]:
    fresh, again = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            fresh.append(first_answer(Path(folder), new=True))
            again.append(first_answer(Path(folder), new=False))
    with tempfile.TemporaryDirectory() as folder:
        empty, loaded = memory(Path(folder))
    sizes = {name: size(one) / 1e6 for name, one in closure("inferd").items()}
    return {
        "fresh": statistics.median(fresh),
        "again": statistics.median(again),
        "empty": empty,
        "loaded": loaded,
        "import inferd.api.app": statistics.median(importing("inferd.api.app") for _ in range(rounds)),
        "import inferd.cli": statistics.median(importing("inferd.cli") for _ in range(rounds)),
        "sizes": dict(sorted(sizes.items(), key=lambda item: -item[1])),
    }


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    sizes = found["sizes"]
    largest = ", ".join(f"{name} {mb:.0f}" for name, mb in list(sizes.items())[:6])
    return "\n".join(
        [
            "| what | figure |",
            "| --- | --- |",
            f"| start to first answer, new data directory | {found['fresh']:.2f} s |",
            f"| start to first answer, endpoint exists | {found['again']:.2f} s |",
            f"| resident memory, no model loaded | {found['empty']:.0f} MB |",
            f"| resident memory, idle, all three bundled models loaded | {found['loaded']:.0f} MB |",
            f"| `import inferd.api.app` (the whole server) | {found['import inferd.api.app']:.2f} s |",
            f"| `import inferd.cli` | {found['import inferd.cli']:.2f} s |",
            f"| base installation, {len(sizes)} packages | {sum(sizes.values()):.0f} MB ({largest}) |",
        ]
    )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    print(machine.facts(), end="\n\n")
    print(table(measure(given.rounds)))


if __name__ == "__main__":
    main()
