"""The superuser ``elastic``: made at the first start, with a generated password that is printed once."""

import secrets
import string
from typing import Protocol

from msgspec.structs import replace

from inferd.config import ConfigError
from inferd.core.identities import User
from inferd.core.secrets import Secret
from inferd.errors import StatusError
from inferd.security.passwords import Passwords

SUPERUSER = "elastic"
MIN_PASSWORD = 6
"""Characters (api.md 12.5)."""
_LETTERS = string.ascii_letters + string.digits
_LENGTH = 20


class UserRecords(Protocol):
    def get(self, id: str) -> User | None: ...

    async def put(self, record: User, expected_version: int | None = None) -> tuple[User, bool]: ...


def generated_password() -> Secret:
    """20 letters and digits: 119 random bits."""
    return Secret("".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)))


async def ensure_superuser(users: UserRecords, passwords: Passwords, preset: Secret | None) -> Secret | None:
    """Creates ``elastic`` when it is missing; the password if it was generated and must be shown now.

    Two processes that start at once: the one that came second keeps the first one's user and shows nothing. A preset
    (``ELASTIC_PASSWORD``) only counts at creation.
    """
    if users.get(SUPERUSER) is not None:
        return None
    password = preset or generated_password()
    if len(password.reveal()) < MIN_PASSWORD:
        raise ConfigError(f"ELASTIC_PASSWORD must have at least [{MIN_PASSWORD}] characters")
    user = User(
        name=SUPERUSER,
        password_hash=await passwords.hash(password),
        roles=("superuser",),
        metadata={"_reserved": True},
    )
    try:
        await users.put(user, 0)
    except StatusError as lost:
        if lost.status != 409:
            raise
        return None
    return password if preset is None else None


async def reset_password(users: UserRecords, passwords: Passwords, name: str, password: Secret) -> bool:
    """Whether there is such a user. Its remembered logins are void at once."""
    user = users.get(name)
    if user is None:
        return False
    await users.put(replace(user, password_hash=await passwords.hash(password)), user.version)
    return True
