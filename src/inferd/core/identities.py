"""Who may call, as stored: users, roles, API keys (api.md 12.5). Moments are milliseconds since 1970.

``version`` is the store's: it changes with each write and is what compare-and-set compares; 0 is "not stored yet".
"""

from typing import Any

from msgspec import Struct


class User(Struct, frozen=True, kw_only=True):
    """A user of the native realm; ``password_hash`` is a password hash, never a password."""

    name: str
    password_hash: str
    roles: tuple[str, ...] = ()
    full_name: str | None = None
    email: str | None = None
    metadata: dict[str, Any] = {}
    enabled: bool = True
    version: int = 0


class Role(Struct, frozen=True, kw_only=True):
    """A role; ``descriptor`` is the body it was put with (cluster, indices, applications, run_as, …)."""

    name: str
    descriptor: dict[str, Any]
    version: int = 0


class ApiKey(Struct, frozen=True, kw_only=True):
    """An API key; its secret is kept as a hash only.

    ``role_descriptors`` are what the key was limited to, ``limited_by`` what its owner could do at creation.
    """

    id: str
    name: str
    secret_hash: str
    owner: str
    realm: str
    creation: int
    role_descriptors: dict[str, Any] = {}
    limited_by: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    expiration: int | None = None
    invalidated: int | None = None
    version: int = 0
