"""The database's files and its ways to fail: each with a sentence, none with a secret."""

import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from inferd.core.endpoint import Endpoint
from inferd.errors import StatusError, StorageError
from inferd.store import SecretBox, Store

Open = Callable[..., Awaitable[Store]]
Make = Callable[..., Endpoint]


def modes(home: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in (home, *home.iterdir())}


async def test_nobody_else_may_read_the_files(store: Store, home: Path, endpoint: Make) -> None:
    """The directory is 0700 and every file in it 0600, whatever the umask."""
    await store.create(endpoint("a"))
    assert modes(home) == {
        "data": 0o700,
        "inferd.db": 0o600,
        "inferd.db-wal": 0o600,
        "inferd.db-shm": 0o600,
        "secret.key": 0o600,
    }


async def test_a_database_that_others_may_read_is_warned_of(
    open_store: Open, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be meant; what is in it that matters is sealed or hashed."""
    await (await open_store()).close()
    (home / "inferd.db").chmod(0o640)
    await open_store()
    assert "has mode [0640]: others may read it" in caplog.text


async def test_sqlite_is_told_to_be_durable(store: Store) -> None:
    """Write-ahead log, full synchronisation, deleted content overwritten."""

    def pragmas() -> list[object]:
        with store._worker._engine.connect() as connection:
            names = ("journal_mode", "synchronous", "secure_delete")
            return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await store._worker.run(pragmas) == ["wal", 2, 1]


@pytest.mark.parametrize("content", [b"not a database at all " * 100, b"SQLite format 3\0" + b"\xff" * 8000])
async def test_a_file_that_is_no_database_is_refused(open_store: Open, home: Path, content: bytes) -> None:
    """And left as it is."""
    file = home / "inferd.db"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(StorageError, match=r"damaged|refused|cannot be read"):
        await open_store()
    assert file.read_bytes() == content


async def test_a_database_damaged_in_the_middle_is_refused(
    open_store: Open, home: Path, endpoint: Make
) -> None:
    """Pages of zeros."""
    store = await open_store()
    for n in range(60):
        await store.create(endpoint(f"e{n}", settings={"text": "x" * 500}))
    await store.close()
    size = (home / "inferd.db").stat().st_size
    with (home / "inferd.db").open("r+b") as file:
        file.seek(size // 4 // 4096 * 4096)
        file.write(bytes(size // 2))
    with pytest.raises(StorageError, match="damaged"):
        await open_store()


async def test_a_directory_in_place_of_the_file(open_store: Open, home: Path) -> None:
    """Named with its path."""
    (home / "inferd.db").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"the store \[.*inferd.db\] cannot be opened: Is a directory"):
        await open_store()


async def test_a_file_in_place_of_the_directory(open_store: Open, home: Path) -> None:
    """Named with its path."""
    (home.parent / home.name).write_text("")
    with pytest.raises(
        StorageError, match=r"the store \[.*inferd.db\] cannot be opened: (Not a|File exists)"
    ):
        await open_store()


READ_ONLY = """
import asyncio, os, sqlite3, sys
from pathlib import Path
import sqlalchemy.dialects.sqlite
from inferd.errors import StorageError
from inferd.store import SecretBox, Store
home = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    asyncio.run(Store.open(f"sqlite:///{home / 'inferd.db'}", SecretBox.at(home / "secret.key")))
except StorageError as refused:
    print(refused.reason)
"""


def test_a_directory_that_may_not_be_written_is_refused() -> None:
    """With the system's reason. (Run by root it becomes nobody first: root may write anywhere.)"""
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, home], capture_output=True, text=True, check=False
        )
    assert done.stdout.endswith("cannot be opened: Permission denied\n"), done.stderr


async def test_a_full_disk_is_named_and_harms_nothing(open_store: Open, home: Path, endpoint: Make) -> None:
    """A file that may not grow: the write is refused as a whole, reads go on, and later writes succeed."""
    store = await open_store()
    await store.create(endpoint("a"))
    largest = (home / "inferd.db-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 8192, hard))
    try:
        with pytest.raises(StatusError, match=r"^Failed to store inference endpoint \[b\]$") as failed:
            await store.create(endpoint("b", settings={"text": "x" * 1_000_000}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(failed.value.__cause__, StorageError)
    assert "disk" in failed.value.__cause__.reason
    assert store.get("b") is None
    assert store.get("a") is not None
    await store.create(endpoint("b", settings={"text": "x" * 1_000_000}))
    await store.close()
    assert [e.id for e in (await open_store()).all()] == ["a", "b"]


async def test_an_open_blocked_by_another_process_gives_up(open_store: Open, home: Path) -> None:
    """After the wait, with a named error."""
    await (await open_store()).close()
    other = sqlite3.connect(home / "inferd.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StorageError, match="locked by another process"):
            await open_store(wait=0.2)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:hunter2@h/d", r"\[mysql\]; the store is kept in \[sqlite\] or \[postgresql\]"),
        ("not a url hunter2", "not a database URL"),
        ("", "not a database URL"),
    ],
)
async def test_other_databases_are_refused(url: str, words: str) -> None:
    """By a sentence that does not quote the URL, which may hold a password."""
    with pytest.raises(StorageError, match=words) as refused:
        await Store.open(url, SecretBox())
    assert "hunter2" not in refused.value.reason


async def test_a_failed_start_ends_its_thread(open_store: Open, home: Path) -> None:
    """Nothing is left running."""
    (home / "inferd.db").mkdir(parents=True)
    before = set(threading.enumerate())
    for _ in range(3):
        with pytest.raises(StorageError):
            await open_store()
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)
