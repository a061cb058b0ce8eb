"""Secrets under a new key, whatever happens meanwhile."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.errors import StatusError, StorageError
from inferd.store import SecretBox, Store, rotate

Open = Callable[..., Awaitable[Store]]
Make = Callable[..., Endpoint]

OLD, NEW = Secret("the older of two phrases"), Secret("the newer of two phrases")


def keys(home: Path) -> list[str]:
    return (home / "secret.key").read_text().split()


def sealed_secrets(home: Path) -> list[bytes]:
    with sqlite3.connect(home / "inferd.db") as connection:
        found = [row[0] for row in connection.execute("SELECT sealed FROM secrets")]
    connection.close()
    return found


def files(home: Path) -> bytes:
    return b"".join(file.read_bytes() for file in home.iterdir())


def key_ids(home: Path) -> set[str]:
    with sqlite3.connect(home / "inferd.db") as connection:
        found = {row[0] for row in connection.execute("SELECT key_id FROM secrets")}
    connection.close()
    return found


async def test_a_key_file_gets_a_new_key(open_store: Open, home: Path, url: str, endpoint: Make) -> None:
    """Every row is under it, the old key is gone from the file, and what was sealed with it from the database."""
    store = await open_store()
    for n in range(3):
        await store.create(endpoint(f"e{n}"))
    await store.close()
    before, ids = keys(home), key_ids(home)
    sealed = sealed_secrets(home)
    assert await rotate(url, SecretBox.at(home / "secret.key")) == 3
    assert len(keys(home)) == 1
    assert keys(home) != before
    assert len(key_ids(home)) == 1
    assert key_ids(home) != ids
    assert not any(old in files(home) for old in sealed)
    assert [e.secret() for e in (await open_store()).all()] == [f"key of e{n}" for n in range(3)]


async def test_a_running_server_follows(open_store: Open, home: Path, url: str, endpoint: Make) -> None:
    """After a rotation it reads and writes under the new key; what the old key opened is in no file, open as they are."""
    server = await open_store(poll=0.02)
    await server.create(endpoint("a"))
    sealed = sealed_secrets(home)
    await rotate(url, SecretBox.at(home / "secret.key"))
    assert not any(old in files(home) for old in sealed)
    await server.create(endpoint("b"))
    assert len(key_ids(home)) == 1
    other = await open_store()
    assert [e.secret() for e in other.all()] == ["key of a", "key of b"]
    await other.create(endpoint("c"))
    for _ in range(500):
        if c := server.get("c"):
            break
        await asyncio.sleep(0.01)
    assert c is not None
    assert c.secret() == "key of c"


async def test_writes_during_rotations_are_never_lost(
    open_store: Open, home: Path, url: str, endpoint: Make
) -> None:
    """A server stores endpoints without pause while the key changes three times; every secret opens in the end."""
    server = await open_store()

    async def write() -> None:
        for n in range(60):
            await server.create(endpoint(f"e{n}"))

    async def turn() -> None:
        for _ in range(3):
            await rotate(url, SecretBox.at(home / "secret.key"))

    await asyncio.gather(write(), turn())
    await server.close()
    assert len(keys(home)) == 1
    assert {e.id: e.secret() for e in (await open_store()).all()} == {
        f"e{n}": f"key of e{n}" for n in range(60)
    }


async def test_a_key_given_by_hand_is_exchanged(
    open_store: Open, home: Path, url: str, endpoint: Make
) -> None:
    """From an old INFERD_SECRET_KEY to a new one; a second run finds nothing to do; the old one is refused then."""
    store = await open_store(SecretBox.of(OLD))
    await store.create(endpoint("a"))
    await store.close()
    assert await rotate(url, SecretBox.of(NEW), SecretBox.of(OLD)) == 1
    assert await rotate(url, SecretBox.of(NEW), SecretBox.of(OLD)) == 0
    with pytest.raises(StorageError, match="does not open the stored secrets"):
        await open_store(SecretBox.of(OLD))
    a = (await open_store(SecretBox.of(NEW))).get("a")
    assert a is not None
    assert a.secret() == "key of a"


async def test_from_a_key_file_to_a_key_by_hand_and_back(
    open_store: Open, home: Path, url: str, endpoint: Make
) -> None:
    """Both ways are one rotation."""
    store = await open_store()
    await store.create(endpoint("a"))
    await store.close()
    file = SecretBox.at(home / "secret.key")
    assert await rotate(url, SecretBox.of(NEW), file) == 1
    (home / "secret.key").unlink()
    assert await rotate(url, SecretBox.at(home / "secret.key"), SecretBox.of(NEW)) == 1
    a = (await open_store()).get("a")
    assert a is not None
    assert a.secret() == "key of a"


async def test_a_secret_that_does_not_open_stops_the_rotation(
    open_store: Open, home: Path, url: str, endpoint: Make
) -> None:
    """Named; no row has changed and both keys are kept, so nothing is lost by trying."""
    store = await open_store()
    for id in ("a", "b", "c"):
        await store.create(endpoint(id))
    await store.close()
    before = key_ids(home)
    with sqlite3.connect(home / "inferd.db") as other:
        other.execute("UPDATE secrets SET sealed = x'00' WHERE owner = 'b'")
    other.close()
    with pytest.raises(StatusError, match=r"\[api_key\] of endpoint \[b\] cannot be decrypted"):
        await rotate(url, SecretBox.at(home / "secret.key"))
    assert key_ids(home) == before
    assert len(keys(home)) == 2
    a = (await open_store()).get("a")
    assert a is not None
    assert a.secret() == "key of a"


async def test_one_rotation_at_a_time(open_store: Open, home: Path, url: str) -> None:
    """The second says so and changes nothing."""
    await (await open_store()).close()
    box = SecretBox.at(home / "secret.key")
    before = keys(home)
    with box.rotating(), pytest.raises(StorageError, match="another rotation of the secrets is running"):
        await rotate(url, SecretBox.at(home / "secret.key"))
    assert keys(home) == before


def test_a_rotation_may_be_killed_anywhere(home: Path) -> None:
    """SIGKILL before each step that changes a file or the database: a server still starts and opens every secret, and
    running the rotation again ends with one key."""
    script = Path(__file__).with_name("killed_rotation.py")
    done = subprocess.run(
        [sys.executable, str(script), str(home)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    rounds = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(rounds) > 10
    assert {after for _, after, _ in rounds} == {1, 2}  # killed on both sides of the key file's changes
    assert {finished for _, _, finished in rounds} == {1}
