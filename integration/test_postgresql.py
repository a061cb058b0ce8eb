"""The store on PostgreSQL: a real server on loopback, started here, thrown away afterwards.

Needs PostgreSQL's programs (Debian: ``apt-get install postgresql``) and the extra ``postgresql``.
"""

import asyncio
import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from inferd.core.endpoint import Endpoint
from inferd.core.identities import User
from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.errors import AlreadyExists, IllegalArgument, StatusError, StorageError
from inferd.store import SecretBox, Store, rotate
from inferd.store.tables import METADATA

Open = Callable[..., Awaitable[Store]]
PASSWORD = "planted-in-the-url"


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+pg8000:"), poolclass=sa.NullPool)


class Server:
    """A PostgreSQL of our own. Root runs it as ``postgres``: it refuses root."""

    def __init__(self, programs: Path, home: Path) -> None:
        self.programs, self.home = programs, home
        self.user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self.user, str(self.programs / program), *arguments],
            check=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    def create(self) -> None:
        password = self.home / "password"
        password.write_text(PASSWORD)
        if self.user:
            shutil.chown(self.home, "postgres")
            shutil.chown(password, "postgres")
        self.run(
            "initdb", "-D", f"{self.home}/db", "-U", "inferd", "-A", "scram-sha-256", f"--pwfile={password}",
            "-E", "UTF8", "--locale=C.UTF-8", "-N",
        )  # fmt: skip

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.home}"
        self.run("pg_ctl", "-D", f"{self.home}/db", "-w", "-l", f"{self.home}/log", "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", f"{self.home}/db", "-w", "-m", "immediate", "stop")

    def url(self, database: str) -> str:
        return f"postgresql://inferd:{PASSWORD}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb")]
    if found[-1] is None:
        pytest.fail("PostgreSQL's programs are missing: integration/run installs them")
    with tempfile.TemporaryDirectory() as home:
        server = Server(Path(found[-1]).parent, Path(home))
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def url(server: Server) -> str:
    """A database of its own for each test."""
    name = "d" + uuid.uuid4().hex
    with engine_of(server.url("postgres")).connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text(f"CREATE DATABASE {name}"))
    return server.url(name)


@pytest.fixture
async def open_store(url: str, tmp_path: Path) -> AsyncIterator[Open]:
    opened: list[Store] = []

    async def open(**options: Any) -> Store:
        store = await Store.open(url, SecretBox.at(tmp_path / "secret.key"), **options)
        opened.append(store)
        return store

    yield open
    for store in opened:
        await store.close()


def endpoint(id: str, **members: Any) -> Endpoint:
    defaults = {"settings": {"model_id": "m"}, "secrets": {"api_key": Secret(f"key of {id}")}}
    return Endpoint(id=id, task=TaskType.RERANK, service="cohere", **(defaults | members))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true within 10 s")


async def test_everything_survives_a_restart(open_store: Open) -> None:
    """Endpoints with NUL and astral characters, secrets, users; create, replace, delete."""
    store = await open_store()
    odd = {"a\0": "é\0\U0001f600", "big": 2**70}
    await store.create(endpoint("b", settings=odd, metadata={"m": "\0"}, secrets={"api_key": Secret("\0é")}))
    first = await store.create(endpoint("a"))
    await store.replace(endpoint("a", settings={"n": 2}), first.version)
    await store.create(endpoint("c"))
    assert await store.delete("c") is True
    assert await store.delete("c") is False
    await store.identities.users.put(User(name="u", password_hash="h", metadata={"x": "\0"}))
    before = (store.all(), store.identities.users.all())
    await store.close()
    store = await open_store()
    assert (store.all(), store.identities.users.all()) == before
    b = store.get("b")
    assert b is not None
    assert (b.settings, b.secret()) == (odd, "\0é")


async def test_what_cannot_be_stored_is_refused(open_store: Open) -> None:
    """As on SQLite: a NUL in an id, a lone surrogate anywhere; the connection is not spoiled by it."""
    store = await open_store()
    for bad in (endpoint("a\0"), endpoint("a", settings={"x": "\ud800"}), endpoint("a", secrets={"\0": "x"})):
        with pytest.raises(IllegalArgument):
            await store.create(bad)
    await store.create(endpoint("a"))
    with pytest.raises(AlreadyExists):
        await store.create(endpoint("a"))


async def test_another_server_is_noticed(open_store: Open) -> None:
    """Stateless servers over one database see each other's writes."""
    one, two = await open_store(), await open_store(poll=0.02)
    a = await one.create(endpoint("a"))
    await one.create(endpoint("b"))
    await until(lambda: len(two.all()) == 2)
    await one.replace(endpoint("a", secrets={"api_key": Secret("new")}), a.version)
    await one.delete("b")
    await until(lambda: [e.secret() for e in two.all()] == ["new"])


async def test_one_update_wins_per_version(open_store: Open) -> None:
    """Two servers, four updates at a time."""
    stores = [await open_store(), await open_store()]
    version = (await stores[0].create(endpoint("a"))).version
    for n in range(15):
        changes = [store.replace(endpoint("a", settings={"n": n}), version) for store in stores * 2]
        results = await asyncio.gather(*changes, return_exceptions=True)
        won = [result for result in results if isinstance(result, Endpoint)]
        assert len(won) == 1, results
        assert all(
            isinstance(lost, StatusError) and lost.status == 409 for lost in results if lost is not won[0]
        )
        version = won[0].version


async def test_servers_that_start_at_once_migrate_once(url: str, tmp_path: Path) -> None:
    """On an empty database; the schema is the declared one."""
    box = SecretBox.at(tmp_path / "secret.key")
    stores = await asyncio.gather(*[Store.open(url, box) for _ in range(6)])
    await asyncio.gather(*[store.create(endpoint(f"e{n}")) for n, store in enumerate(stores)])
    await asyncio.gather(*[store.close() for store in stores])
    engine = engine_of(url)
    found = sa.inspect(engine)
    for table in METADATA.sorted_tables:
        columns = {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns(table.name)}
        assert columns == {c.name: (c.type.compile(engine.dialect), c.nullable) for c in table.columns}
    with engine.connect() as connection:
        assert connection.scalars(sa.text("SELECT version FROM schema_version")).all() == [1]
        assert len(connection.execute(sa.text("SELECT id FROM endpoints")).all()) == 6
    engine.dispose()


async def test_secrets_rotate(open_store: Open, url: str, tmp_path: Path) -> None:
    """While a server runs."""
    store = await open_store()
    for n in range(3):
        await store.create(endpoint(f"e{n}"))
    assert await rotate(url, SecretBox.at(tmp_path / "secret.key")) == 3
    await store.create(endpoint("later"))
    assert len((tmp_path / "secret.key").read_text().split()) == 1
    assert [e.secret() for e in (await open_store()).all()] == [f"key of {e.id}" for e in store.all()]


async def test_a_database_that_restarts(server: Server, open_store: Open, caplog: Any) -> None:
    """Meanwhile reads go on and writes are named errors; afterwards both work again without a restart of ours."""
    store = await open_store(poll=0.05, wait=1)
    await store.create(endpoint("a"))
    await asyncio.to_thread(server.stop)
    try:
        with pytest.raises(StatusError, match=r"Failed to store inference endpoint \[b\]") as failed:
            await store.create(endpoint("b"))
        assert isinstance(failed.value.__cause__, StorageError)
        assert PASSWORD not in failed.value.__cause__.reason
        assert store.get("a") is not None
        await until(lambda: "changes by other processes are not seen" in caplog.text)
    finally:
        await asyncio.to_thread(server.start)
    await store.create(endpoint("b"))
    await until(lambda: "are seen again" in caplog.text)
    assert [e.id for e in (await open_store()).all()] == ["a", "b"]
    assert PASSWORD not in caplog.text


async def test_a_lock_held_by_somebody_else_is_waited_for(open_store: Open, url: str) -> None:
    """Not longer than said."""
    store = await open_store(wait=0.2)
    with engine_of(url).connect() as other:
        other.execute(sa.text("UPDATE state SET counter = counter"))
        with pytest.raises(StorageError, match="lock"):
            await store.delete("a")
    assert await store.delete("a") is False


@pytest.mark.parametrize("why", ["port", "password", "database"])
async def test_a_database_that_cannot_be_reached(url: str, why: str) -> None:
    """A sentence at start, without the password."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        parsed = sa.make_url(url)
        wrong = {
            "port": parsed.set(port=silent.getsockname()[1]),
            "password": parsed.set(password="wrong-" + PASSWORD),
            "database": parsed.set(database="nowhere"),
        }[why]
        with pytest.raises(StorageError) as refused:
            await Store.open(wrong.render_as_string(hide_password=False), SecretBox(), wait=1)
    assert PASSWORD not in refused.value.reason
    assert "127.0.0.1" in refused.value.reason


WRITER = """
import asyncio, sys
from pathlib import Path
from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.store import SecretBox, Store

async def main(url, key):
    store = await Store.open(url, SecretBox.at(Path(key)))
    n = 0
    while True:
        n += 1
        old = store.get("a")
        new = Endpoint(id="a", task=TaskType.RERANK, service="s", settings={"n": n},
                       secrets={"api_key": Secret(str(n))})
        await (store.replace(new, old.version) if old else store.create(new))
        print(n, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_server_loses_nothing_acknowledged(open_store: Open, url: str, tmp_path: Path) -> None:
    """Three times killed in the middle of its writes."""
    for _ in range(3):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, url, str(tmp_path / "secret.key"), stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        lines = [await writer.stdout.readline() for _ in range(20)]
        writer.kill()
        lines += (await writer.stdout.read()).split(b"\n")
        await writer.wait()
        acknowledged = max(int(line) for line in lines if line.strip())
        store = await open_store()
        a = store.get("a")
        assert a is not None
        assert a.settings["n"] in (acknowledged, acknowledged + 1)
        assert a.secret() == str(a.settings["n"])
        await store.close()


async def test_the_other_driver(url: str, tmp_path: Path) -> None:
    """``postgresql+pg8000://`` names a driver of its own."""
    store = await Store.open(url.replace("postgresql:", "postgresql+pg8000:"), SecretBox.at(tmp_path / "k"))
    first = await store.create(endpoint("a", settings={"x": "\0"}))
    await store.replace(endpoint("a"), first.version)
    await store.close()
