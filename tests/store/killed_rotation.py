"""Run by test_rotation: kills a rotation at its first step, at its second, … and looks each time what is left.

A step is a call that changes something outside the process. One line a round goes to stdout: the step it was killed at,
keys in the file after the kill, keys after a second run.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.store import SecretBox, Store, rotate
from inferd.store.transaction import Transaction

HOME = Path(sys.argv[1])
URL = f"sqlite:///{HOME / 'inferd.db'}"
COUNT = 3


def box() -> SecretBox:
    return SecretBox.at(HOME / "secret.key")


def keys() -> list[str]:
    return (HOME / "secret.key").read_text().split()


async def fill() -> None:
    store = await Store.open(URL, box())
    for n in range(COUNT):
        secrets = {"api_key": Secret(f"secret {n}")}
        await store.create(
            Endpoint(id=f"e{n}", task=TaskType.RERANK, service="s", settings={}, secrets=secrets)
        )
    await store.close()


async def check() -> None:
    """A server starts, reads every secret and can store another."""
    store = await Store.open(URL, box())
    assert [e.secret() for e in store.all()] == [f"secret {n}" for n in range(COUNT)]
    extra = Endpoint(id="x", task=TaskType.RERANK, service="s", settings={}, secrets={"api_key": Secret("x")})
    await store.create(extra)
    await store.delete("x")
    await store.close()


async def finish() -> None:
    await rotate(URL, box())
    assert len(keys()) == 1


async def killed_at(step: int) -> None:
    left = step

    def deadly(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        setattr(owner, name, counted)

    for owner, name in (
        (os, "replace"),
        (os, "fsync"),
        (Transaction, "_insert_secret"),
        (Transaction, "_use_key"),
        (sa.engine.default.DefaultDialect, "do_commit"),
        (Store, "close"),
        (SecretBox, "retire"),
    ):
        deadly(owner, name)
    await rotate(URL, box())


def in_child(work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """As a process of its own; its exit status."""
    child = os.fork()
    if not child:
        asyncio.run(work())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    assert in_child(fill) == 0
    step, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        step += 1
        before = keys()
        status = in_child(partial(killed_at, step))
        after = len(keys())
        assert status in (0, -signal.SIGKILL), status
        assert in_child(check) == 0, "a server does not start after the kill"
        assert in_child(finish) == 0, "the rotation does not finish after the kill"
        assert in_child(check) == 0, "a server does not start after the rotation"
        assert before != keys()
        print(step, after, len(keys()), flush=True)


if __name__ == "__main__":
    main()
