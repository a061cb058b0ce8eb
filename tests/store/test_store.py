"""Endpoints and the region policy: what was acknowledged is there, here and elsewhere, and nothing else is."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferd.core.endpoint import Endpoint
from inferd.core.regions import RegionPolicy
from inferd.core.secrets import Secret
from inferd.core.tasks import TaskType
from inferd.errors import AlreadyExists, IllegalArgument, Rejected, StatusError, StorageError
from inferd.store import Store

Open = Callable[..., Awaitable[Store]]
Make = Callable[..., Endpoint]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true within 5 s")


def contents(home: Path) -> bytes:
    return b"".join(file.read_bytes() for file in home.iterdir())


def rows(home: Path, query: str) -> list[Any]:
    with sqlite3.connect(home / "inferd.db") as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


async def test_an_endpoint_survives_a_restart_whole(open_store: Open, endpoint: Make) -> None:
    """Every member comes back equal, in the order it was given, secrets as Secret."""
    given = endpoint(
        "a",
        task=TaskType.COMPLETION,
        settings={"z": 1, "a": [1.5, None, True, "é\0\U0001f600"], "big": 2**70},
        task_settings={"user": "u"},
        chunking={"strategy": "none"},
        secrets={"api_key": Secret("k"), "secret_parameters": {"token": Secret("t"), "n": 1}},
        hidden={"dimensions_set_by_user": False},
        metadata={"display": {"name": "x"}},
    )
    store = await open_store()
    stored = await store.create(given)
    await store.close()
    found = (await open_store()).get("a")
    assert found == stored
    assert found is not None
    assert list(found.settings) == ["z", "a", "big"]
    assert found.secret() == "k"
    assert found.secrets["secret_parameters"]["token"].reveal() == "t"
    assert [getattr(found, name) for name in Endpoint.__struct_fields__ if name != "version"] == [
        getattr(given, name) for name in Endpoint.__struct_fields__ if name != "version"
    ]


async def test_an_id_is_taken_once(store: Store, endpoint: Make) -> None:
    """A second create answers 400 with the contract's text and changes nothing."""
    await store.create(endpoint("a"))
    with pytest.raises(AlreadyExists, match=r"^Inference endpoint \[a\] already exists$"):
        await store.create(endpoint("a", service="cohere", secrets={"api_key": Secret("other")}))
    found = store.get("a")
    assert found is not None
    assert (found.service, found.secret()) == ("openai", "key of a")


async def test_all_is_sorted_by_id(store: Store, endpoint: Make) -> None:
    """Whatever the order of creation, and after a replacement and a deletion."""
    for id in ("b", "a.1", "c", "a", "0"):
        await store.create(endpoint(id))
    b = store.get("b")
    assert b is not None
    await store.replace(b, b.version)
    await store.delete("a")
    assert [e.id for e in store.all()] == ["0", "a.1", "b", "c"]


async def test_an_update_needs_the_stored_version(store: Store, endpoint: Make) -> None:
    """The first of two updates from the same version wins; the other gets 409 with the contract's text."""
    first = await store.create(endpoint("a"))
    second = await store.replace(endpoint("a", settings={"model_id": "2"}), first.version)
    assert second.version > first.version
    with pytest.raises(StatusError) as refused:
        await store.replace(endpoint("a", settings={"model_id": "3"}), first.version)
    assert refused.value.status == 409
    assert (
        refused.value.reason == "Endpoint [a] is currently being updated. Try again once the update completes"
    )
    assert store.get("a") == second


async def test_an_update_replaces_the_secrets(store: Store, home: Path, endpoint: Make) -> None:
    """No secret of the older version stays behind."""
    first = await store.create(endpoint("a", secrets={"access_key": Secret("x"), "secret_key": Secret("y")}))
    await store.replace(endpoint("a", secrets={"api_key": Secret("z")}), first.version)
    found = store.get("a")
    assert found is not None
    assert found.secrets == {"api_key": Secret("z")}
    assert rows(home, "SELECT owner, name FROM secrets") == [("a", "api_key")]


async def test_an_update_of_nothing_is_404(store: Store, endpoint: Make) -> None:
    """Deleted meanwhile."""
    with pytest.raises(StatusError, match="does not exist and cannot be updated") as refused:
        await store.replace(endpoint("a"), 1)
    assert refused.value.status == 404


async def test_a_version_never_comes_back(store: Store, endpoint: Make) -> None:
    """An update decided on an endpoint that was deleted and made again meanwhile is refused."""
    first = await store.create(endpoint("a"))
    await store.delete("a")
    again = await store.create(endpoint("a"))
    assert again.version != first.version
    with pytest.raises(StatusError):
        await store.replace(endpoint("a"), first.version)


async def test_delete_takes_the_secrets_along(store: Store, home: Path, endpoint: Make) -> None:
    """True once, then False; nothing of it stays in the tables."""
    await store.create(endpoint("a"))
    assert await store.delete("a") is True
    assert await store.delete("a") is False
    assert store.get("a") is None
    assert rows(home, "SELECT * FROM endpoints UNION ALL SELECT *, 1 FROM secrets") == []


@pytest.mark.parametrize(
    "members",
    [
        {"settings": {"model_id": "\ud800"}},
        {"settings": {"\udfff": 1}},
        {"task_settings": {"a": ["\ud800"]}},
        {"metadata": {"x": "\ud83d"}},
        {"secrets": {"api_key": Secret("\ud800")}},
        {"secrets": {"secret_parameters": {"\ud800": Secret("x")}}},
        {"secrets": {"na\0me": Secret("x")}},
    ],
)
async def test_what_is_not_text_is_refused(
    store: Store, home: Path, members: dict[str, Any], endpoint: Make
) -> None:
    """A lone surrogate, wherever it hides, is a 400 and leaves nothing, not even the endpoint without its secret."""
    with pytest.raises(IllegalArgument):
        await store.create(endpoint("a", **members))
    assert store.get("a") is None
    assert rows(home, "SELECT count(*) FROM endpoints") == [(0,)]
    assert rows(home, "SELECT count(*) FROM secrets") == [(0,)]


@pytest.mark.parametrize("id", ["a\0b", "\ud800", ""])
async def test_odd_ids_do_no_harm(store: Store, id: str) -> None:
    """Looking up or deleting an id that cannot be stored finds nothing."""
    assert store.get(id) is None
    assert await store.delete(id) is False


async def test_an_id_that_cannot_be_stored_is_refused(store: Store, endpoint: Make) -> None:
    """NUL in an id."""
    with pytest.raises(IllegalArgument):
        await store.create(endpoint("a\0"))


async def test_bottomless_settings_are_refused(store: Store, endpoint: Make) -> None:
    """100 000 levels: a 400, and the store still works."""
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    try:
        with pytest.raises(IllegalArgument, match="too deeply"):
            await store.create(endpoint("a", settings=deep))
    finally:
        while deep:  # freed from the top, or the interpreter recurses
            deep = deep.popitem()[1]
    await store.create(endpoint("b"))


async def test_a_secret_among_the_settings_is_never_written(store: Store, home: Path, endpoint: Make) -> None:
    """A Secret outside ``secrets`` is a bug upstream; it fails instead of landing in the database."""
    with pytest.raises(TypeError):
        await store.create(endpoint("a", settings={"api_key": Secret("sk-planted")}))
    assert b"sk-planted" not in contents(home)


async def test_no_secret_is_readable_at_rest(open_store: Open, home: Path, endpoint: Make) -> None:
    """Neither while the store is open nor after, in no file."""
    store = await open_store()
    planted = {"api_key": Secret("sk-planted"), "secret_parameters": {"a": Secret("sk-planted-too")}}
    first = await store.create(endpoint("a", secrets=planted))
    await store.replace(first, first.version)
    before = contents(home)
    await store.close()
    assert b"sk-planted" not in before
    assert b"sk-planted" not in contents(home)
    assert "planted" not in repr(store.get("a"))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values, secret=st.text(st.characters(exclude_categories=["Cs"])))
async def test_any_json_comes_back(store: Store, value: Any, secret: str, endpoint: Make) -> None:
    """Settings and secrets are what they were, NUL and all."""
    await store.delete("a")
    await store.create(endpoint("a", settings={"value": value}, secrets={"api_key": Secret(secret)}))
    found = store.get("a")
    assert found is not None
    assert found.settings == {"value": value}
    assert found.secret() == secret


async def test_subscribers_hear_of_a_change_before_its_writer(store: Store, endpoint: Make) -> None:
    """A cache dropped in the callback is gone when the write returns; the callback already reads the new state."""
    seen: list[bool] = []
    leave = store.subscribe(lambda: seen.append(store.get("a") is not None))
    generation = store.generation
    await store.create(endpoint("a"))
    assert seen == [True]
    assert store.generation > generation
    leave()
    await store.delete("a")
    assert seen == [True]


async def test_a_failing_subscriber_is_logged_and_harms_nobody(
    store: Store, caplog: pytest.LogCaptureFixture, endpoint: Make
) -> None:
    """The write and the other subscribers go on."""
    seen: list[int] = []
    store.subscribe(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    store.subscribe(lambda: seen.append(1))
    await store.create(endpoint("a"))
    assert seen == [1]
    assert "a subscriber of the store failed" in caplog.text


async def test_another_process_is_noticed(open_store: Open, endpoint: Make) -> None:
    """Creation, replacement with a new secret, and deletion reach a second store within its poll."""
    one, two = await open_store(), await open_store(poll=0.02)
    for id in ("a", "b", "c"):
        await one.create(endpoint(id))
    await until(lambda: [e.id for e in two.all()] == ["a", "b", "c"])
    b = one.get("b")
    assert b is not None
    await one.replace(endpoint("b", secrets={"api_key": Secret("new")}), b.version)
    await one.delete("a")
    await until(lambda: two.get("a") is None)
    await until(lambda: (found := two.get("b")) is not None and found.secret() == "new")
    assert two.all() == one.all()
    assert two.generation == one.generation


async def test_the_default_poll_takes_no_longer_than_promised(open_store: Open, endpoint: Make) -> None:
    """250 ms, and a little for the machine."""
    one, two = await open_store(), await open_store()
    await one.create(endpoint("a"))
    started = time.monotonic()
    await until(lambda: two.get("a") is not None)
    assert time.monotonic() - started < 1.0


async def test_a_write_also_brings_what_others_wrote(open_store: Open, endpoint: Make) -> None:
    """Without waiting for a poll."""
    one, two = await open_store(), await open_store(poll=3600)
    await one.create(endpoint("a"))
    await two.create(endpoint("b"))
    assert [e.id for e in two.all()] == ["a", "b"]


async def test_one_update_wins_per_version(open_store: Open, endpoint: Make) -> None:
    """Two processes update the same endpoint again and again: each version has exactly one successor."""
    stores = [await open_store(), await open_store()]
    version = (await stores[0].create(endpoint("a"))).version
    for round in range(15):
        changes = [
            store.replace(endpoint("a", settings={"by": n, "round": round}), version)
            for n, store in enumerate(stores * 2)
        ]
        results = await asyncio.gather(*changes, return_exceptions=True)
        won = [result for result in results if isinstance(result, Endpoint)]
        lost = [result for result in results if isinstance(result, StatusError) and result.status == 409]
        assert (len(won), len(lost)) == (1, 3)
        version = won[0].version


async def test_one_creation_wins(open_store: Open, endpoint: Make) -> None:
    """Of four creations of one id in two processes."""
    stores = [await open_store(), await open_store()]
    results = await asyncio.gather(
        *[store.create(endpoint("a")) for store in stores * 2], return_exceptions=True
    )
    assert sum(isinstance(result, Endpoint) for result in results) == 1
    assert sum(isinstance(result, AlreadyExists) for result in results) == 3


async def hold(store: Store) -> threading.Event:
    """Keeps the store's thread busy until the event is set."""
    begun, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        loop.call_soon_threadsafe(begun.set)
        release.wait(10)

    store.holder = asyncio.ensure_future(store._worker.run(wait))  # type: ignore[attr-defined]
    await begun.wait()
    return release


async def test_a_full_queue_answers_429(open_store: Open, endpoint: Make) -> None:
    """The limit is named; what was accepted is done."""
    store = await open_store(capacity=3)
    release = await hold(store)
    waiting = [asyncio.ensure_future(store.create(endpoint(id))) for id in ("a", "b")]
    await asyncio.sleep(0)
    with pytest.raises(Rejected, match=r"\[3\] writes are waiting"):
        await store.create(endpoint("c"))
    release.set()
    await asyncio.gather(*waiting)
    assert [e.id for e in store.all()] == ["a", "b"]
    await store.create(endpoint("c"))


async def test_who_leaves_takes_the_write_along(store: Store, endpoint: Make) -> None:
    """A creation cancelled before its turn is never made."""
    release = await hold(store)
    creating = asyncio.ensure_future(store.create(endpoint("a")))
    await asyncio.sleep(0)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    release.set()
    await store.create(endpoint("b"))
    assert [e.id for e in store.all()] == ["b"]


async def test_nobody_waits_for_ever(open_store: Open, endpoint: Make) -> None:
    """A store that does not answer in time is a named error."""
    store = await open_store(patience=0.05)
    release = await hold(store)
    with pytest.raises(StatusError, match=r"Failed to store inference endpoint \[a\]") as failed:
        await store.create(endpoint("a"))
    release.set()
    assert isinstance(failed.value.__cause__, StorageError)
    assert "did not answer within [0.05s]" in failed.value.__cause__.reason
    with pytest.raises(StorageError):
        await store.holder  # type: ignore[attr-defined]


async def test_closing_finishes_what_was_accepted(open_store: Open, endpoint: Make) -> None:
    """And refuses the rest; closing twice is fine."""
    store = await open_store()
    writes = [asyncio.ensure_future(store.create(endpoint(f"e{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert len(await asyncio.gather(*writes)) == 5
    with pytest.raises(Rejected, match="closing"):
        await store.create(endpoint("late"))
    assert len((await open_store()).all()) == 5


async def test_a_lock_held_by_another_process_is_waited_for(
    open_store: Open, home: Path, endpoint: Make
) -> None:
    """Not longer than said; then the error names it. Reads go on, and so does the store after the lock is gone."""
    store = await open_store(wait=0.2)
    await store.create(endpoint("a"))
    other = sqlite3.connect(home / "inferd.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    with pytest.raises(StatusError, match=r"^Failed to store inference endpoint \[b\]$") as failed:
        await store.create(endpoint("b"))
    with pytest.raises(StorageError, match=r"locked by another process; waited \[0.2s\]") as locked:
        await store.delete("a")
    assert time.monotonic() - started < 3
    assert failed.value.status == 500
    assert locked.value.status == 503
    assert isinstance(failed.value.__cause__, StorageError)
    assert store.get("a") is not None
    other.execute("ROLLBACK")
    other.close()
    await store.create(endpoint("b"))


async def test_an_older_copy_restored_under_us_is_read_anew(
    open_store: Open, home: Path, endpoint: Make
) -> None:
    """A counter that went back: everything is looked at again."""
    store = await open_store(poll=0.02)
    for id in ("a", "b"):
        await store.create(endpoint(id))
    with sqlite3.connect(home / "inferd.db") as other:
        other.execute("DELETE FROM endpoints WHERE id = 'b'")
        other.execute(
            "UPDATE endpoints SET stamp = 1, body = CAST(replace(body, 'openai', 'cohere') AS BLOB)"
        )
        other.execute("UPDATE state SET counter = 1")
    other.close()
    await until(lambda: store.get("b") is None)
    found = store.get("a")
    assert found is not None
    assert found.service == "cohere"


async def test_a_damaged_row_is_named_and_the_last_view_serves(
    open_store: Open, home: Path, caplog: pytest.LogCaptureFixture, endpoint: Make
) -> None:
    """At run time: logged once, reads go on. At start: refused by name."""
    store = await open_store(poll=0.02)
    await store.create(endpoint("a"))
    with sqlite3.connect(home / "inferd.db") as other:
        other.execute("UPDATE endpoints SET stamp = 9, body = CAST('{\"id\":' AS BLOB)")
        other.execute("UPDATE state SET counter = 9")
    other.close()
    await until(lambda: "endpoint [a] is damaged" in caplog.text)
    await asyncio.sleep(0.1)
    assert caplog.text.count("is damaged") == 1
    assert store.get("a") is not None
    await store.close()
    with pytest.raises(StorageError, match=r"the stored endpoint \[a\] is damaged"):
        await open_store()


async def test_the_region_policy_is_one_row(open_store: Open) -> None:
    """Put, compare-and-set with the contract's text, delete; survives a restart."""
    store = await open_store()
    assert store.region_policy() is None
    assert await store.delete_region_policy() is False
    first = await store.put_region_policy(RegionPolicy(policy={"allowed_geos": ["us"]}, created_at=5), 0)
    for stale in (0, first.version - 1):
        with pytest.raises(StatusError) as lost:
            await store.put_region_policy(RegionPolicy(policy={}, created_at=6), stale)
        assert lost.value.status == 409
        assert (
            lost.value.reason
            == "Failed to put region policy due to a concurrent update conflict. Please retry."
        )
    second = await store.put_region_policy(
        RegionPolicy(policy={"allowed_geos": ["eu"]}, created_at=5, updated_at=7, updated_by="u"),
        first.version,
    )
    await store.close()
    store = await open_store()
    assert store.region_policy() == second
    assert await store.delete_region_policy() is True
    assert store.region_policy() is None
