"""Schema changes: in order, all or nothing, by one process at a time."""

import asyncio
import multiprocessing
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from inferd.core.endpoint import Endpoint
from inferd.errors import StorageError
from inferd.store import SecretBox, Store, migrations
from inferd.store.tables import METADATA

Open = Callable[..., Awaitable[Store]]
Make = Callable[..., Endpoint]


def schema(url: str) -> dict[str, object]:
    engine = sa.create_engine(url)
    found = sa.inspect(engine)
    shape: dict[str, object] = {
        table: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)),
            sorted(found.get_pk_constraint(table)["constrained_columns"]),
            sorted((i["name"], tuple(i["column_names"])) for i in found.get_indexes(table)),  # type: ignore[type-var]
        )
        for table in found.get_table_names()
    }
    engine.dispose()
    return shape


async def test_the_migrations_make_the_tables(store: Store, url: str, tmp_path: Path) -> None:
    """The schema that the migrations leave is the one that the code queries."""
    declared = f"sqlite:///{tmp_path / 'declared.db'}"
    engine = sa.create_engine(declared)
    METADATA.create_all(engine)
    engine.dispose()
    assert schema(url) == schema(declared)


async def test_a_newer_schema_is_refused(open_store: Open, home: Path) -> None:
    """With both versions in the text, and nothing is changed."""
    await (await open_store()).close()
    with sqlite3.connect(home / "inferd.db") as other:
        other.execute("UPDATE schema_version SET version = 999")
    other.close()
    with pytest.raises(StorageError, match=r"schema version \[999\], this inferd knows versions up to \[1\]"):
        await open_store()


async def test_a_new_migration_keeps_what_was_there(
    open_store: Open, home: Path, endpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs once, and the endpoints stay."""
    store = await open_store()
    before = await store.create(endpoint("a"))
    await store.close()

    def second(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE more (x INTEGER)")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, second))
    for _ in range(2):
        store = await open_store()
        assert store.get("a") == before
        await store.close()


async def test_a_migration_that_fails_leaves_the_old_schema(
    open_store: Open, home: Path, endpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first half is undone too; the older program still runs."""
    store = await open_store()
    await store.create(endpoint("a"))
    await store.close()

    def second(connection: sa.Connection) -> None:
        connection.exec_driver_sql("DROP TABLE endpoints")
        connection.exec_driver_sql("CREATE TABLE nonsense (")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, second))
        with pytest.raises(StorageError, match="the database refused"):
            await open_store()
    assert (await open_store()).get("a") is not None


def start(url: str, key: str, barrier: "multiprocessing.synchronize.Barrier", n: int) -> None:
    async def run() -> None:
        barrier.wait(30)
        store = await Store.open(url, SecretBox.at(Path(key)))
        await store.create(
            Endpoint(id=f"e{n}", task="rerank", service="s", settings={}, secrets={"api_key": "k"})
        )  # type: ignore[arg-type]
        await store.close()

    asyncio.run(run())


async def test_processes_that_start_at_once_migrate_once(open_store: Open, home: Path, url: str) -> None:
    """Four on an empty directory: all run, with one key and one schema, and all they stored is there."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    processes = [
        context.Process(target=start, args=(url, str(home / "secret.key"), barrier, n)) for n in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        await asyncio.to_thread(process.join, 60)
    assert [process.exitcode for process in processes] == [0] * 4
    store = await open_store()
    assert [(e.id, e.secret()) for e in store.all()] == [(f"e{n}", "k") for n in range(4)]
