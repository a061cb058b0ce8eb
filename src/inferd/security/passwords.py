"""Passwords: argon2id, off the event loop, never more than a few at a time."""

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from inferd.core.secrets import Secret
from inferd.errors import Rejected

T = TypeVar("T")

TIME = 2
MEMORY = 19 * 1024
"""KiB; with them OWASP's parameters for argon2id are complete."""
WAITING = 256
"""Password checks that may wait at once; more are refused with 429."""


class Passwords:
    """Hashing costs tens of milliseconds and 19 MiB by design (OWASP's argon2id parameters), so two run at a time."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=TIME, memory_cost=MEMORY, parallelism=1)
        self._pool = ThreadPoolExecutor(
            max_workers=min(2, os.cpu_count() or 1), thread_name_prefix="password"
        )
        self._waiting = 0
        self._decoy = f"$argon2id$v=19$m={MEMORY},t={TIME},p=1${_random(16)}${_random(32)}"
        """Costs what a real one costs, and no password has it."""

    async def hash(self, password: Secret) -> str:
        return await self._run(lambda: self._hasher.hash(_bytes(password)))

    async def verify(self, stored: str | None, password: Secret) -> bool:
        """Whether it is the password. Without a stored hash the same time is spent on nothing."""
        matches = await self._run(lambda: self._verify(stored or self._decoy, password))
        return matches and stored is not None

    def takes(self, stored: str) -> bool:
        """Whether it is a hash that could have been made here: of another cost it would tell known users from unknown ones."""
        try:
            return stored.isascii() and not self._hasher.check_needs_rehash(stored)
        except ValueError:
            return False

    def _verify(self, stored: str, password: Secret) -> bool:
        try:
            return self._hasher.verify(stored, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING:
            raise Rejected(f"more than [{WAITING}] password checks are waiting")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _random(count: int) -> str:
    return b64encode(os.urandom(count)).decode().rstrip("=")


def _bytes(password: Secret) -> bytes:
    return password.reveal().encode("utf-8", "surrogatepass")
