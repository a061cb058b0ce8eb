"""Secrets at rest, and the keys that open them."""

import asyncio
import base64
import os
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from inferd.core.endpoint import Endpoint
from inferd.core.secrets import Secret
from inferd.errors import StatusError, StorageError
from inferd.store import SecretBox, Store
from inferd.store.secretbox import Key, Unreadable, _write

Open = Callable[..., Awaitable[Store]]
Make = Callable[..., Endpoint]

PHRASE = Secret("correct horse battery staple")


def test_what_is_sealed_opens() -> None:
    """Strings and maps; each string comes back as a Secret."""
    box = SecretBox.of(PHRASE)
    for value, back in [
        (Secret("s"), Secret("s")),
        ("plain", Secret("plain")),
        ("", Secret("")),
        ("é\0\U0001f600" * 1000, Secret("é\0\U0001f600" * 1000)),
        ({"a": Secret("x"), "b": ["y", 1, None]}, {"a": Secret("x"), "b": [Secret("y"), 1, None]}),
    ]:
        key_id, sealed = box.seal("endpoint", "e", "api_key", value)
        assert box.open("endpoint", "e", "api_key", key_id, sealed) == back


def test_the_same_secret_never_seals_alike() -> None:
    """The nonce is fresh each time, and the text is not in the bytes."""
    box = SecretBox.of(PHRASE)
    sealed = [box.seal("endpoint", "e", "n", Secret("planted"))[1] for _ in range(50)]
    assert len({one[:12] for one in sealed}) == len(set(sealed)) == 50
    assert not any(b"planted" in one for one in sealed)


@pytest.mark.parametrize(
    "place", [("user", "e", "n"), ("endpoint", "f", "n"), ("endpoint", "e", "m"), ("endpoint", "e n", "")]
)
def test_a_row_cannot_change_its_owner(place: tuple[str, str, str]) -> None:
    """A sealed value opens only where it was sealed."""
    box = SecretBox.of(PHRASE)
    key_id, sealed = box.seal("endpoint", "e", "n", "s")
    assert isinstance(box.open(*place, key_id, sealed), Unreadable)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-1],
        lambda s: s + b"x",
        lambda s: b"",
        lambda s: s[:12],
        lambda s: bytes([s[0] ^ 1]) + s[1:],
        lambda s: "text",
    ],
)
def test_damage_is_noticed(change: Callable[[bytes], bytes]) -> None:
    """Truncated, lengthened, emptied, flipped: nobody gets a wrong secret, whoever asks gets a named 500."""
    box = SecretBox.of(PHRASE)
    key_id, sealed = box.seal("endpoint", "e", "api_key", "s")
    value = box.open("endpoint", "e", "api_key", key_id, change(sealed))
    with pytest.raises(
        StatusError, match=r"stored secret \[api_key\] of endpoint \[e\] cannot be decrypted"
    ) as failed:
        value.reveal()
    assert failed.value.status == 500


def test_base64_of_32_bytes_is_the_key() -> None:
    """In both alphabets; anything else is a phrase that a key is derived from."""
    raw = bytes(range(224, 256))
    plain, urlsafe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    assert plain != urlsafe
    key_id, sealed = SecretBox.of(Secret(plain)).seal("k", "o", "n", "s")
    assert SecretBox.of(Secret(urlsafe)).open("k", "o", "n", key_id, sealed) == Secret("s")
    assert AESGCM(raw).decrypt(sealed[:12], sealed[12:], f'["k","o","n","{key_id}"]'.encode()) == b'"s"'
    phrase_id, _ = SecretBox.of(Secret(plain + "!")).seal("k", "o", "n", "s")
    assert phrase_id != key_id


def test_a_short_phrase_is_refused() -> None:
    """Fifteen bytes; sixteen are enough. The phrase is not quoted."""
    with pytest.raises(StorageError, match=r"too short: \[15\] bytes, at least \[16\]") as refused:
        SecretBox.of(Secret("fifteen bytes !"))
    assert "fifteen" not in refused.value.reason
    SecretBox.of(Secret("sixteen bytes !!"))


def test_a_box_does_not_print_its_keys() -> None:
    """Only their ids."""
    raw = base64.b64encode(b"k" * 32).decode()
    assert raw not in repr(SecretBox.of(Secret(raw))) + repr(vars(SecretBox.of(Secret(raw))))


async def test_the_first_start_makes_a_key_file(open_store: Open, home: Path, endpoint: Make) -> None:
    """One base64 key, mode 0600, no draft beside it; the next start uses it."""
    store = await open_store()
    await store.create(endpoint("a"))
    path = home / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(path.read_text(), validate=False)) == 32
    assert sorted(os.listdir(home)) == ["inferd.db", "inferd.db-shm", "inferd.db-wal", "secret.key"]
    await store.close()
    found = (await open_store()).get("a")
    assert found is not None
    assert found.secret() == "key of a"


async def test_servers_that_start_at_once_share_one_key(home: Path, open_store: Open, endpoint: Make) -> None:
    """Whoever is first makes the key file; what each of them stores opens for all."""
    stores = await asyncio.gather(*[open_store() for _ in range(5)])
    for n, store in enumerate(stores):
        await store.create(endpoint(f"e{n}"))
    last = await open_store()
    assert [found.secret() for found in last.all()] == [f"key of e{n}" for n in range(5)]


def test_a_key_file_is_never_made_over_another(tmp_path: Path) -> None:
    """Of two first starts whose looks both found nothing, the first to write wins and the second uses its key."""
    path = tmp_path / "secret.key"
    slow, fast = SecretBox.at(path), SecretBox.at(path)
    slow.refresh()
    fast.prepare(())
    before = path.read_text()
    _write(path, [Key(b"k" * 32)], replace=False)
    assert path.read_text() == before
    slow.prepare(())
    assert slow.newest.id == fast.newest.id
    assert os.listdir(tmp_path) == ["secret.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
async def test_a_key_file_that_others_may_read_is_refused(open_store: Open, home: Path, mode: int) -> None:
    """The error says what to run."""
    await (await open_store()).close()
    (home / "secret.key").chmod(mode)
    with pytest.raises(StorageError, match=f"has mode .{mode:04o}.: others may read it; run: chmod 600"):
        await open_store()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\x00", base64.b64encode(b"short")])
async def test_a_damaged_key_file_is_refused(open_store: Open, home: Path, content: bytes) -> None:
    """Without quoting it, and without writing over it."""
    await (await open_store()).close()
    (home / "secret.key").write_bytes(content)
    with pytest.raises(StorageError, match=r"the key file \[.*\] is damaged"):
        await open_store()
    assert (home / "secret.key").read_bytes() == content


async def test_a_missing_key_file_is_refused_while_secrets_need_it(
    open_store: Open, home: Path, endpoint: Make
) -> None:
    """No new key is made over old rows; once the file is back everything works."""
    store = await open_store()
    await store.create(endpoint("a"))
    await store.close()
    path = home / "secret.key"
    path.rename(home / "elsewhere")
    with pytest.raises(StorageError, match=r"the key file \[.*secret.key\] is missing.*restore the file"):
        await open_store()
    assert not path.exists()
    (home / "elsewhere").rename(path)
    assert (await open_store()).get("a") is not None


async def test_a_missing_key_file_is_made_anew_where_nothing_needs_it(
    open_store: Open, home: Path, endpoint: Make
) -> None:
    """A store without secrets."""
    store = await open_store()
    await store.create(endpoint("a", secrets={}))
    await store.close()
    (home / "secret.key").unlink()
    await (await open_store()).create(endpoint("b"))
    assert (home / "secret.key").exists()


async def test_another_key_is_refused(open_store: Open, endpoint: Make) -> None:
    """At start, naming the keys by id."""
    store = await open_store(SecretBox.of(PHRASE))
    await store.create(endpoint("a"))
    await store.close()
    with pytest.raises(StorageError, match="INFERD_SECRET_KEY does not open the stored secrets"):
        await open_store(SecretBox.of(Secret("another phrase of some length")))
    assert (await open_store(SecretBox.of(PHRASE))).get("a") is not None


async def test_a_swapped_row_spoils_only_its_endpoint(open_store: Open, home: Path, endpoint: Make) -> None:
    """Whoever exchanges two rows in the file gets no key of the other; the server starts, lists and can be repaired."""
    store = await open_store()
    for id in ("a", "b", "c"):
        await store.create(endpoint(id))
    await store.close()
    with sqlite3.connect(home / "inferd.db") as other:
        other.execute(
            "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE owner = 'b') WHERE owner = 'a'"
        )
    other.close()
    store = await open_store()
    a, b = store.get("a"), store.get("b")
    assert a is not None
    assert b is not None
    assert b.secret() == "key of b"
    with pytest.raises(StatusError, match=r"\[api_key\] of endpoint \[a\] cannot be decrypted"):
        a.secret()
    with pytest.raises(StatusError, match="cannot be decrypted"):
        await store.replace(a, a.version)
    repaired = await store.replace(endpoint("a", secrets={"api_key": Secret("again")}), a.version)
    assert repaired.secret() == "again"


async def test_a_server_with_an_outdated_key_writes_no_secret(open_store: Open, endpoint: Make) -> None:
    """After a rotation to another INFERD_SECRET_KEY elsewhere: a named error instead of a row nobody else opens."""
    old, new = SecretBox.of(PHRASE), SecretBox.of(Secret("a new phrase of some length"))
    behind = await open_store(old, poll=0.02)
    await behind.create(endpoint("a"))
    ahead = await open_store(new.reading(old))
    assert await ahead.reseal() == 1
    with pytest.raises(StatusError) as refused:
        await behind.create(endpoint("b"))
    assert isinstance(refused.value.__cause__, StorageError)
    assert "sealed with another key" in refused.value.__cause__.reason
    found = behind.get("a")
    assert found is not None
    assert found.secret() == "key of a"
    await ahead.create(endpoint("c"))
    for _ in range(500):
        if c := behind.get("c"):
            break
        await asyncio.sleep(0.01)
    assert c is not None
    with pytest.raises(StatusError, match="cannot be decrypted"):
        c.secret()


def test_a_key_file_in_an_impossible_place_is_a_plain_error(tmp_path: Path) -> None:
    """Named with the path and the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be read: Not a directory"):
        SecretBox.at(tmp_path / "file" / "secret.key").prepare(())
