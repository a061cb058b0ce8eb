"""All that docs/performance.md shows, measured here and written there: ``make bench``, about five minutes.

    python -m benchmarks [--rounds 3] [--seconds 2] [--print]

Nothing else should be running. Only the text between the document's markers changes.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import embedding, machine, proxy, start
from benchmarks.embedding import Shape

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"


def bars(starting: dict[str, Any], proxying: dict[str, Any], embedded: dict[str, Any]) -> str:
    """What was promised, and what was measured."""
    lines = ["| bar | measured | reached |", "| --- | --- | --- |"]
    for name, figure, reached in _bars(starting, proxying, embedded):
        lines.append(f"| {name} | {figure} | {'yes' if reached else '**no**'} |")
    return "\n".join(lines)


def _bars(
    starting: dict[str, Any], proxying: dict[str, Any], embedded: dict[str, Any]
) -> Iterator[tuple[str, str, bool]]:
    total = sum(starting["sizes"].values())
    yield (
        "base installation without torch ≤ 550 MB",
        f"{total:.0f} MB",
        total <= 550 and "torch" not in starting["sizes"],
    )
    slowest = max(starting["fresh"], starting["again"])
    yield "server start to first answer ≤ 2 s", f"{slowest:.2f} s", slowest <= 2
    loaded = starting["loaded"]
    yield "idle memory with the bundled models loaded ≤ 300 MB", f"{loaded:.0f} MB", loaded <= 300
    ratio = embedded["ratios"][Shape(32)][0]
    yield (
        "local embedding, 32 clients × 1 short text ≥ 0.85 × the raw engine's best",
        f"{ratio:.2f} ×",
        ratio >= 0.85,
    )
    over = embedded["served"][Shape(1)].p50 - embedded["alone"]
    yield "one short text, one client ≤ 1 ms above the engine's own latency", f"{over:.1f} ms", over <= 1
    for form in ("base64", "numbers"):
        if (form, "nginx") in proxying["found"]:
            ratio = proxying["ratios"][form, "inferd"]
            name = f"proxying an embedding of 1536 numbers, provider answers {form} ≤ 12 × nginx's CPU"
            yield name, f"{ratio:.1f} ×", ratio <= 12
        ratio = proxying["floors"][form, "inferd"]
        yield f"the same ≤ 1.6 × the CPU of the floor, {form}", f"{ratio:.1f} ×", ratio <= 1.6


def write(sections: dict[str, str], document: Path = DOCUMENT) -> None:
    """Each section between its two markers."""
    text = document.read_text()
    for name, section in sections.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise SystemExit(f"{document}: no place for [{name}]")
        text = pattern.sub(lambda _, new=f"{begin}\n{section}\n{end}": new, text)
    document.write_text(text)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=2.0)
    options.add_argument("--print", action="store_true", help="leave the document as it is")
    given = options.parse_args()
    sections = {"machine": machine.facts()}
    print(sections["machine"], flush=True)
    starting = start.measure(given.rounds)
    sections["start"] = start.table(starting)
    print("", sections["start"], sep="\n", flush=True)
    proxying = proxy.measure(given.rounds, given.seconds)
    sections["proxy"] = proxy.table(proxying)
    print("", sections["proxy"], sep="\n", flush=True)
    embedded = embedding.measure(given.rounds, given.seconds)
    sections["embedding"] = embedding.table(embedded)
    print("", sections["embedding"], sep="\n", flush=True)
    sections["bars"] = bars(starting, proxying, embedded)
    print("", sections["bars"], sep="\n", flush=True)
    if not given.print:
        write(sections)


if __name__ == "__main__":
    main()
