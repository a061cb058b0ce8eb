"""kill -9 at any moment loses nothing acknowledged and leaves nothing half-written."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from inferd.store import Store

Open = Callable[..., Awaitable[Store]]


def write_until_killed(
    home: Path, prefix: str, writes: int, pause: float
) -> tuple[dict[str, int], dict[str, int], int]:
    """What was acknowledged last of each id, what was begun and not acknowledged, and how many writes there were."""
    script = Path(__file__).with_name("killed_writer.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(home), prefix],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        output = "".join(writer.stdout.readline() for _ in range(1 + 2 * writes))
        time.sleep(pause)
        writer.kill()
        output += writer.stdout.read()
        errors = writer.stderr.read()
    assert output.startswith("ready\n"), errors
    assert not errors
    done: dict[str, int] = {}
    begun: dict[str, int] = {}
    lines = [line.split() for line in output.split("\n")[1:-1]]
    for word, id, value in lines:
        if word == "try":
            begun[id] = int(value)
        else:
            done[id] = begun.pop(id)
    return done, begun, len(lines) // 2


async def test_nothing_acknowledged_is_lost(open_store: Open, home: Path) -> None:
    """Six lives of a writer on one store: after each kill every acknowledged write is there, at most the one that was
    under way besides; endpoint and secrets are of the same write, and no secret is left without its endpoint."""
    chance = random.Random(7)
    known: dict[str, int] = {}
    writes = 0
    for life in range(6):
        prefix = "ab"[life % 2]
        done, begun, count = write_until_killed(
            home, prefix, chance.randrange(1, 40), chance.uniform(0, 0.03)
        )
        known |= done
        writes += count
        store = await open_store()
        found = {e.id: e.settings["n"] for e in store.all()}
        for e in store.all():
            assert e.secret() == f"{e.id} {e.settings['n']}"
            assert e.secrets["map"]["k"].reveal() == str(e.settings["n"])
        await store.close()
        for id in known.keys() | begun.keys() | found.keys():
            assert found.get(id, 0) in {known.get(id, 0), begun.get(id, known.get(id, 0))}, id
        known = found
        with sqlite3.connect(home / "inferd.db") as other:
            assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            orphans = "SELECT count(*) FROM secrets WHERE owner NOT IN (SELECT id FROM endpoints)"
            assert other.execute(orphans).fetchone() == (0,)
        other.close()
    assert writes > 50
