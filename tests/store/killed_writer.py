"""Run by test_kill: creates, replaces and deletes endpoints until it is killed.

Before each write it says on stdout what it is about to do, and after it that it is done: ``try|done n id version``,
where version 0 is a deletion.
"""

import asyncio
import random
import sys
from pathlib import Path

from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.store import SecretBox, Store


async def main(home: Path, prefix: str) -> None:
    store = await Store.open(f"sqlite:///{home / 'inferd.db'}", SecretBox.at(home / "secret.key"))
    print("ready", flush=True)
    n = 0
    while True:
        n += 1
        id = f"{prefix}-{random.randrange(8)}"
        found = store.get(id)
        value = 0 if found and random.random() < 0.2 else n
        print("try", id, value, flush=True)
        endpoint = Endpoint(
            id=id,
            task=TaskType.RERANK,
            service="s",
            settings={"n": value, "padding": "x" * random.randrange(5000)},
            secrets={"api_key": Secret(f"{id} {value}"), "map": {"k": Secret(str(value))}},
        )
        if not value:
            await store.delete(id)
        elif found:
            await store.replace(endpoint, found.version)
        else:
            await store.create(endpoint)
        print("done", id, value, flush=True)


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
