"""Passwords and keys: remembered briefly, void on change, slow to guess, and never told apart."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import argon2
import pytest
from msgspec.structs import replace

from inferd.core.identities import ApiKey, Role, User
from inferd.core.secrets import Secret
from inferd.errors import Rejected, SecurityError
from inferd.security import delays
from inferd.security.authentication import MAX_HEADER, Authenticator, Origin, hash_key
from inferd.security.delays import Delays, source, wait_after
from inferd.security.principal import Principal

HERE = Origin(uri="/x", address="10.0.0.1", secure=False)
THERE = replace(HERE, address="10.0.0.2")


@dataclass
class Book:
    """Identities as a store shows them."""

    users: dict[str, User] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    api_keys: dict[str, ApiKey] = field(default_factory=dict)


class House:
    def __init__(self) -> None:
        self.book = Book()
        self.now = 1_000_000.0
        self.time = 1000.0
        self.authenticator = Authenticator(
            self.book, clock=lambda: self.time, now=lambda: self.now, cache_size=4
        )

    async def put(self, name: str, password: str, **more: Any) -> None:
        stored = await self.authenticator.passwords.hash(Secret(password))
        self.book.users[name] = User(name=name, password_hash=stored, **more)

    async def enter(self, name: str, password: str, origin: Origin = HERE) -> Principal:
        credential = base64.b64encode(f"{name}:{password}".encode()).decode()
        return await self.authenticator.authenticate(f"Basic {credential}", origin)

    async def enters(self, name: str, password: str, origin: Origin = HERE) -> bool:
        try:
            await self.enter(name, password, origin)
        except SecurityError:
            return False
        return True


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.authenticator.close()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that argon2 was asked about."""
    asked: list[str] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, stored: str, password: bytes) -> bool:
        asked.append(stored)
        return verify(self, stored, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    return asked


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited for because of failures; nobody really waits."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def nap(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr(delays.asyncio, "sleep", nap)
    return waited


class TestRemembering:
    async def test_once_in_a_while(self, house: House, checks: list[str]) -> None:
        """A verified password costs argon2 once a minute."""
        await house.put("ann", "password-1")
        for _ in range(20):
            await house.enter("ann", "password-1")
        assert len(checks) == 1
        house.time += 61
        await house.enter("ann", "password-1")
        assert len(checks) == 2

    async def test_many_at_once(self, house: House, checks: list[str]) -> None:
        """The same credential a hundred times at once is verified once, and nobody waits."""
        await house.put("ann", "password-1")
        found = await asyncio.gather(*(house.enter("ann", "password-1") for _ in range(100)))
        assert {principal.username for principal in found} == {"ann"}
        assert len(checks) == 1

    async def test_void_on_change(self, house: House) -> None:
        """A new password, a disabled and a deleted user count from the next request on."""
        await house.put("ann", "password-1")
        await house.enter("ann", "password-1")
        before = house.book.users["ann"]
        house.book.users["ann"] = replace(before, enabled=False)
        assert not await house.enters("ann", "password-1")
        house.book.users["ann"] = before
        assert await house.enters("ann", "password-1")
        await house.put("ann", "password-2")
        assert not await house.enters("ann", "password-1")
        assert await house.enters("ann", "password-2")
        del house.book.users["ann"]
        assert not await house.enters("ann", "password-2")
        await house.put("ann", "password-2", roles=("superuser",))
        assert (await house.enter("ann", "password-2")).roles == ("superuser",)

    async def test_bounded(self, house: House) -> None:
        for number in range(10):
            await house.put(f"u{number}", "password-1")
            await house.enter(f"u{number}", "password-1")
        assert len(house.authenticator._known) == 4

    async def test_wrong_ones_are_not_remembered(self, house: House, checks: list[str]) -> None:
        await house.put("ann", "password-1")
        for _ in range(2):
            assert not await house.enters("ann", "wrong")
        assert len(checks) == 2
        assert not house.authenticator._known

    async def test_no_password_is_kept(self, house: House) -> None:
        """What is remembered holds no password, plain or hashed without the process's own key."""
        await house.put("ann", "password-1")
        await house.enter("ann", "password-1")
        [mark] = house.authenticator._known
        assert b"password-1" not in mark
        other = House()
        other.book = other.authenticator._identities = house.book  # type: ignore[assignment]
        await other.enter("ann", "password-1")
        assert set(other.authenticator._known) != {mark}
        other.authenticator.close()

    async def test_names_and_passwords_do_not_run_together(self, house: House) -> None:
        """``ab:c`` remembered does not let ``a:bc`` in; the first colon ends the name."""
        await house.put("ab", "cpassword")
        await house.enter("ab", "cpassword")
        await house.put("a", "other-password")
        assert not await house.enters("a", "bcpassword")
        await house.put("c", "with:colons:")
        assert await house.enters("c", "with:colons:")

    async def test_changed_while_it_is_checked(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """The password that is stored when the check ends is the one that counts."""
        await house.put("ann", "password-1")
        first = house.book.users["ann"]
        await house.put("ann", "password-2")
        second = house.book.users["ann"]
        verify = argon2.PasswordHasher.verify
        for password, expected in (("password-1", False), ("password-2", True)):
            house.book.users["ann"] = first
            began, go = threading.Event(), threading.Event()

            def slow(
                self: Any, *given: Any, began: threading.Event = began, go: threading.Event = go
            ) -> bool:
                began.set()
                assert go.wait(5)
                return verify(self, *given)

            monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
            attempt = asyncio.create_task(house.enters("ann", password))
            await asyncio.to_thread(began.wait, 5)
            house.book.users["ann"] = second
            go.set()
            assert await attempt is expected

    async def test_whoever_leaves_ends_nothing(self, house: House, checks: list[str]) -> None:
        """A client that goes away while its password is checked takes nobody else's answer with it."""
        await house.put("ann", "password-1")
        first = asyncio.create_task(house.enter("ann", "password-1"))
        second = asyncio.create_task(house.enter("ann", "password-1"))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).username == "ann"
        assert len(checks) == 1
        assert not house.authenticator._checks


class TestGuessing:
    async def test_slower_and_slower(self, house: House, naps: list[float]) -> None:
        await house.put("ann", "password-1")
        for number in range(10):
            assert not await house.enters("ann", f"guess {number}")
        assert naps == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
        assert await house.enters("ann", "password-1")
        assert naps[-1] == 5.0
        assert await house.enters("ann", "password-1")
        assert len(naps) == 8  # what is remembered does not wait

    async def test_elsewhere_nobody_waits(self, house: House, naps: list[float]) -> None:
        """Failures from one source slow neither the same user elsewhere nor other users there."""
        await house.put("ann", "password-1")
        await house.put("bob", "password-1")
        for number in range(6):
            await house.enters("ann", f"guess {number}")
        naps.clear()
        assert await house.enters("ann", "password-1", THERE)
        assert await house.enters("bob", "password-1")
        assert naps == []

    async def test_who_was_right_before_never_waits(self, house: House, naps: list[float]) -> None:
        """Guessing at a user from behind the same proxy does not lock the user out."""
        await house.put("ann", "password-1")
        await house.enter("ann", "password-1")
        for number in range(6):
            await house.enters("ann", f"guess {number}")
        naps.clear()
        house.time += 61
        assert await house.enters("ann", "password-1")
        assert naps == []

    async def test_at_once_is_no_way_around(self, house: House, checks: list[str]) -> None:
        """Of a hundred guesses at once three are looked at, a few wait, and the rest is refused with 429."""
        await house.put("ann", "password-1")
        guesses = [asyncio.create_task(house.enters("ann", f"guess {n}")) for n in range(100)]
        async with asyncio.timeout(5):
            while len(checks) < 3 or sum(guess.done() for guess in guesses) < 80:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        refused = [guess.exception() for guess in guesses if guess.done() and guess.exception()]
        assert len(refused) == 100 - delays.WAITING
        assert all(isinstance(error, Rejected) for error in refused)
        assert len(checks) <= 3
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)

    async def test_forgotten(self, house: House, naps: list[float]) -> None:
        await house.put("ann", "password-1")
        for number in range(6):
            await house.enters("ann", f"guess {number}")
        naps.clear()
        house.time += delays.FORGET + 1
        assert not await house.enters("ann", "guess")
        assert naps == []

    async def test_unknown_users_are_like_known_ones(
        self, house: House, naps: list[float], checks: list[str]
    ) -> None:
        """The same work, the same waits and the same words, whether there is such a user or not."""
        await house.put("ann", "password-1")
        await house.put("off", "password-1", enabled=False)
        told: dict[str, list[str]] = {}
        for name in ("ann", "off", "zoe"):
            naps.clear()
            checks.clear()
            for number in range(6):
                with pytest.raises(SecurityError) as caught:
                    await house.enter(name, f"guess {number}" if name == "ann" else "password-1")
                told.setdefault(name, []).append(caught.value.reason.replace(name, "NAME"))
            assert naps == [0.25, 0.5, 1.0]
            assert len(checks) == 6
            assert {stored.rsplit("$", 2)[0] for stored in checks} == {"$argon2id$v=19$m=19456,t=2,p=1"}
        assert told["ann"] == told["off"] == told["zoe"]

    async def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The oldest failures go first, and never one that somebody waits for."""
        monkeypatch.setattr(delays, "REMEMBERED", 10)
        kept = Delays(lambda: 1.0)
        async with kept.attempt("10.0.0.9", "waits"):
            for number in range(50):
                async with kept.attempt("10.0.0.1", str(number)) as attempt:
                    attempt.failed()
            assert len(kept) <= 10
            assert kept.seconds("10.0.0.9", "waits") == 0
            for _ in range(5):
                async with kept.attempt("10.0.0.1", "49") as attempt:
                    attempt.failed()
            assert kept.seconds("10.0.0.1", "49") > 0
        async with kept.attempt("10.0.0.1", "good") as attempt:
            attempt.succeeded()
        assert len(kept) <= 10

    def test_sources(self) -> None:
        """An IPv6 subscriber is one source."""
        assert source("10.0.0.1") == "10.0.0.1"
        assert source("2001:db8:1:2:3::4") == source("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
        assert source("2001:db8:1:3::4") != source("2001:db8:1:2::4")
        assert source("::ffff:10.0.0.1") == "10.0.0.1"
        assert source("fe80::1%eth0") == source("fe80::2%eth0")
        assert source("") == ""
        assert source("/run/socket") == "/run/socket"

    def test_waits_are_bounded(self) -> None:
        assert [wait_after(n) for n in (0, 2, 3, 4, 8, 100, 10**9)] == [0, 0, 0.25, 0.5, 5, 5, 5]


def make_key(book: Book, id: str, secret: str, **more: Any) -> str:
    book.api_keys[id] = ApiKey(
        id=id,
        name="k",
        secret_hash=hash_key(Secret(secret)),
        owner="ann",
        realm="native1",
        creation=0,
        limited_by={"superuser": {"cluster": ["all"]}},
        **more,
    )
    return "ApiKey " + base64.b64encode(f"{id}:{secret}".encode()).decode()


class TestKeys:
    async def test_a_right_key_never_waits(self, house: House, naps: list[float]) -> None:
        """Who knows a key's id cannot slow the key down; wrong secrets are answered slower and slower."""
        good = make_key(house.book, "k1", "s" * 22)
        bad = "ApiKey " + base64.b64encode(b"k1:wrong").decode()
        for _ in range(6):
            with pytest.raises(SecurityError):
                await house.authenticator.authenticate(bad, HERE)
        assert naps == [0.25, 0.5, 1.0]
        assert (await house.authenticator.authenticate(good, HERE)).api_key is not None
        assert naps == [0.25, 0.5, 1.0]

    async def test_clock_jumps(self, house: House) -> None:
        """A key ends by the wall clock at the moment of each request; remembered passwords do not know that clock."""
        key = make_key(house.book, "k1", "s" * 22, expiration=2_000_000_000)
        await house.put("ann", "password-1")
        house.now = 1_999_999.0
        await house.authenticator.authenticate(key, HERE)
        await house.enter("ann", "password-1")
        house.now = 2_000_000.0
        with pytest.raises(SecurityError, match="unable to authenticate"):
            await house.authenticator.authenticate(key, HERE)
        await house.enter("ann", "password-1")
        house.now = 0.0
        await house.authenticator.authenticate(key, HERE)
        await house.enter("ann", "password-1")

    async def test_a_key_outlives_its_owner_but_not_its_invalidation(self, house: House) -> None:
        key = make_key(house.book, "k1", "s" * 22)
        principal = await house.authenticator.authenticate(key, HERE)
        assert (principal.username, principal.user, principal.has("all")) == ("ann", None, True)
        house.book.api_keys["k1"] = replace(house.book.api_keys["k1"], invalidated=1)
        with pytest.raises(SecurityError):
            await house.authenticator.authenticate(key, HERE)

    def test_hashes(self) -> None:
        """Salted: the same secret is never stored twice the same."""
        first, second = hash_key(Secret("s")), hash_key(Secret("s"))
        assert first != second
        assert "s" not in first.split("$")[1:]

    async def test_hostile(self, house: House) -> None:
        """Nothing but a refusal comes of any of these."""
        make_key(house.book, "k1", "s" * 22)
        for credential in (b"k1:", b":", b"k1:" + b"s" * 10_000, b"k1:\xff", b"\0:\0", b"k1::" + b"s" * 22):
            for scheme in ("ApiKey", "Bearer", "Basic"):
                header = f"{scheme} {base64.b64encode(credential).decode()}"
                with pytest.raises(SecurityError):
                    await house.authenticator.authenticate(header, replace(HERE, address=scheme))
        with pytest.raises(SecurityError):
            await house.authenticator.authenticate("ApiKey " + "A" * MAX_HEADER, HERE)
