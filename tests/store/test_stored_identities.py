"""Users, roles and API keys at rest."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from inferd.core.identities import ApiKey, Role, User
from inferd.errors import IllegalArgument, StatusError
from inferd.store import Store

Open = Callable[..., Awaitable[Store]]


def key(id: str, **members: Any) -> ApiKey:
    defaults = {"name": "k\0é", "secret_hash": "h", "owner": "u", "realm": "native1", "creation": 1}
    return ApiKey(id=id, **(defaults | members))


async def test_all_three_survive_a_restart(open_store: Open) -> None:
    """Whole, in order of their names, with metadata that holds NUL."""
    store = await open_store()
    ids = store.identities
    for name in ("b", "a"):
        await ids.users.put(
            User(
                name=name,
                password_hash="$argon2id$x",
                roles=("r", "q"),
                full_name="N",
                email="e@x",
                metadata={"a\0": ["\0"]},
                enabled=False,
            )
        )
    await ids.roles.put(Role(name="r", descriptor={"cluster": ["all"], "inference": [{"names": ["x-*"]}]}))
    await ids.api_keys.put(
        key(
            "1",
            role_descriptors={"r": {"cluster": []}},
            limited_by={"o": {}},
            metadata={"m": 1},
            expiration=9,
        )
    )
    before = (ids.users.all(), ids.roles.all(), ids.api_keys.all())
    await store.close()
    after = (await open_store()).identities
    assert (after.users.all(), after.roles.all(), after.api_keys.all()) == before
    assert [user.name for user in after.users.all()] == ["a", "b"]
    found = after.users.get("a")
    assert found is not None
    assert (found.roles, found.enabled, found.metadata) == (("r", "q"), False, {"a\0": ["\0"]})


async def test_put_tells_new_from_old(store: Store) -> None:
    """Unconditional puts: the last one stays, and the answer says whether there was one before."""
    users = store.identities.users
    first, created = await users.put(User(name="u", password_hash="1"))
    assert created is True
    second, created = await users.put(User(name="u", password_hash="2"))
    assert created is False
    assert second.version > first.version
    assert users.get("u") == second


async def test_put_with_a_version_is_compare_and_set(store: Store) -> None:
    """Version 0 is "must not exist"; a stale one is a 409 that changes nothing."""
    roles = store.identities.roles
    first, _ = await roles.put(Role(name="r", descriptor={}), 0)
    second, _ = await roles.put(Role(name="r", descriptor={"n": 2}), first.version)
    for stale in (0, first.version, second.version + 1):
        with pytest.raises(StatusError, match=r"^Role \[r\] is currently being updated") as refused:
            await roles.put(Role(name="r", descriptor={"n": 3}), stale)
        assert refused.value.status == 409
    assert roles.get("r") == second
    await roles.delete("r")
    with pytest.raises(StatusError):
        await roles.put(Role(name="r", descriptor={}), second.version)


async def test_two_processes_change_one_user(open_store: Open) -> None:
    """Exactly one wins a version."""
    stores = [await open_store(), await open_store()]
    version = (await stores[0].identities.users.put(User(name="u", password_hash="0")))[0].version
    for n in range(10):
        results = await asyncio.gather(
            *[s.identities.users.put(User(name="u", password_hash=str(n)), version) for s in stores],
            return_exceptions=True,
        )
        won = [result[0] for result in results if isinstance(result, tuple)]
        assert len(won) == 1
        version = won[0].version


async def test_delete_says_whether_there_was_one(store: Store) -> None:
    """Once; an impossible name was never there."""
    users = store.identities.users
    await users.put(User(name="u", password_hash="1"))
    assert await users.delete("u") is True
    assert await users.delete("u") is False
    assert await users.delete("\ud800") is False
    assert users.get("u") is None


@pytest.mark.parametrize(
    "user", [User(name="\0", password_hash=""), User(name="u", password_hash="", email="\ud800")]
)
async def test_what_cannot_be_stored_is_refused(store: Store, user: User) -> None:
    """NUL in a name, a lone surrogate anywhere."""
    with pytest.raises(IllegalArgument):
        await store.identities.users.put(user)
    assert store.identities.users.all() == []


async def test_keys_are_invalidated_once(store: Store) -> None:
    """All in one write; unknown ids and keys that were invalid already are left out of the answer."""
    keys = store.identities.api_keys
    for id in ("a", "b", "c"):
        await keys.put(key(id))
    assert await keys.invalidate(["b", "a", "b", "none"], 50) == ["a", "b"]
    assert await keys.invalidate(["a", "c"], 60) == ["c"]
    assert [found.invalidated for found in keys.all()] == [50, 50, 60]


async def test_a_key_invalidated_elsewhere_is_seen(open_store: Open) -> None:
    """A second process stops accepting it within its poll, and its subscribers are told."""
    one, two = await open_store(), await open_store(poll=0.02)
    await one.identities.api_keys.put(key("a"))
    told = asyncio.Event()
    leave = two.subscribe(told.set)
    async with asyncio.timeout(5):
        await told.wait()
        told.clear()
        await one.identities.api_keys.invalidate(["a"], 50)
        await told.wait()
    leave()
    found = two.identities.api_keys.get("a")
    assert found is not None
    assert found.invalidated == 50


async def test_an_update_does_not_undo_an_invalidation(store: Store) -> None:
    """The update was decided on the older version: 409."""
    keys = store.identities.api_keys
    old, _ = await keys.put(key("a"))
    await keys.invalidate(["a"], 50)
    with pytest.raises(StatusError):
        await keys.put(replace(old, metadata={"x": 1}), old.version)


async def test_old_keys_are_purged(store: Store) -> None:
    """Those that ended before the moment; valid ones and recent ones stay."""
    keys = store.identities.api_keys
    for id, members in {
        "valid": {},
        "expires-later": {"expiration": 100},
        "expired": {"expiration": 10},
        "invalidated": {"invalidated": 10, "expiration": 100},
        "recent": {"invalidated": 50},
    }.items():
        await keys.put(key(id, **members))
    assert await keys.purge(50) == 2
    assert [found.id for found in keys.all()] == ["expires-later", "recent", "valid"]
