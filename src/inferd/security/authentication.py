"""Credentials into principals (api.md 12.1, 12.2): Basic, ApiKey and Bearer, with the contract's texts for what is wrong."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any, Protocol

from msgspec import Struct

from inferd.core.identities import ApiKey, Role, User
from inferd.core.secrets import Secret
from inferd.errors import Rejected, SecurityError
from inferd.security import certificates
from inferd.security.delays import Delays, source
from inferd.security.passwords import Passwords
from inferd.security.principal import Principal, grant
from inferd.security.privileges import BUILT_IN

MAX_HEADER = 16_384
"""Characters of an Authorization header that are looked at; a longer one is a wrong credential."""

CHECKS = 1024
"""Passwords that may be checked, or wait for it, at once."""

_ANONYMOUS = (
    "unable to authenticate with provided credentials and anonymous access is not allowed for this request"
)


class Users(Protocol):
    def get(self, id: str) -> User | None: ...


class Roles(Protocol):
    def get(self, id: str) -> Role | None: ...


class ApiKeys(Protocol):
    def get(self, id: str) -> ApiKey | None: ...


class Identities(Protocol):
    """Who may call, as the store holds it; look-ups do not wait."""

    @property
    def users(self) -> Users: ...

    @property
    def roles(self) -> Roles: ...

    @property
    def api_keys(self) -> ApiKeys: ...


class Origin(Struct, frozen=True):
    """Where a request comes from: for texts, delays and the audit log."""

    uri: str
    address: str
    secure: bool


class _Known(Struct, frozen=True):
    """A password that was verified: against which hash, and until when that is taken for granted."""

    stored: str
    until: float


class Authenticator:
    """Verified passwords are remembered for a short time under a keyed hash, so that each request does not pay for argon2.

    What is remembered is void as soon as the user's password changes or the user goes. The same credential coming many times at
    once is verified once. API keys are 128 random bits: one SHA-256 verifies them.
    """

    def __init__(
        self,
        identities: Identities,
        *,
        cache_seconds: float = 60.0,
        cache_size: int = 10_000,
        client_users: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``client_users``: subject of a client certificate to user name."""
        self._identities = identities
        self.passwords = Passwords()
        self.delays = Delays(clock)
        self.key_delays = Delays(clock)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._principals: OrderedDict[str, tuple[tuple[object, ...], Principal]] = OrderedDict()
        self._cache_seconds = cache_seconds
        self._cache_size = cache_size
        self._checks: dict[tuple[str, bytes], asyncio.Task[bool]] = {}
        self._client_users = dict(client_users or {})
        self._salt = os.urandom(32)
        self._clock = clock
        self._now = now

    def close(self) -> None:
        for check in tuple(self._checks.values()):
            check.cancel()
        self.passwords.close()

    async def authenticate(
        self, authorization: str | None, origin: Origin, certificate: Mapping[str, Any] | None = None
    ) -> Principal:
        """The principal, or a 401 ``SecurityError``. A client certificate counts where no header says otherwise."""
        if not authorization:
            return self._by_certificate(certificate, origin)
        if len(authorization) > MAX_HEADER:
            raise refused(_ANONYMOUS, origin)
        scheme, _, credential = authorization.strip().partition(" ")
        credential = credential.strip()
        match scheme.lower():
            case "basic":
                return await self._basic(credential, origin)
            case "apikey":
                return await self._api_key(credential, origin, "API key")
            case "bearer":
                return await self._api_key(credential, origin, "oauth2 token")
        raise missing(origin)

    def _by_certificate(self, certificate: Mapping[str, Any] | None, origin: Origin) -> Principal:
        if not certificate or not self._client_users:
            raise missing(origin)
        names = certificates.names(certificate, self._now())
        name = next((self._client_users[n] for n in names if n in self._client_users), None)
        if name is None:
            raise missing(origin)
        user = self._identities.users.get(name)
        if user is None or not user.enabled:
            raise wrong_user(name, origin)
        return self.principal(user, realm="pki1", realm_type="pki")

    # Users

    async def _basic(self, credential: str, origin: Origin) -> Principal:
        name, colon, password = _decoded(credential).partition(":")
        if not colon:
            raise wrong_user("", origin)  # what stands there may be a secret that lost its name
        if not await self._password_ok(name, Secret(password), origin):
            raise wrong_user(name, origin)
        user = self._identities.users.get(name)
        if user is None or not user.enabled:
            raise wrong_user(name, origin)
        return self.principal(user)

    async def _password_ok(self, name: str, password: Secret, origin: Origin) -> bool:
        mark = self._mark(name, password)
        known = self._known.get(mark)
        proven = known is not None and known.stored == self._hash_of(name)
        if known is not None:
            if proven and known.until > self._clock():
                return True
            del self._known[mark]
        asked = (source(origin.address), mark)
        check = self._checks.get(asked)
        if check is None:
            if len(self._checks) >= CHECKS:
                raise Rejected(f"more than [{CHECKS}] passwords are being checked")
            check = asyncio.create_task(self._check(name, password, mark, origin, proven))
            self._checks[asked] = check
            check.add_done_callback(lambda done: self._checked(asked, done))
        return await asyncio.shield(check)

    def _checked(self, asked: tuple[str, bytes], done: "asyncio.Task[bool]") -> None:
        del self._checks[asked]
        if not done.cancelled():
            done.exception()  # everyone who asked may have left

    async def _check(self, name: str, password: Secret, mark: bytes, origin: Origin, proven: bool) -> bool:
        """A password that was right before is never made to wait for others' failures."""
        if proven:
            return await self._compare(name, password, mark)
        async with self.delays.attempt(origin.address, name) as attempt:
            right = await self._compare(name, password, mark)
            attempt.right = right
            return right

    async def _compare(self, name: str, password: Secret, mark: bytes) -> bool:
        """Against the hash as it stands; once more should it change while we look."""
        for _ in range(3):
            stored = self._hash_of(name)
            right = await self.passwords.verify(stored, password)
            if self._hash_of(name) == stored:
                if right and stored is not None:
                    self._remember(mark, _Known(stored, self._clock() + self._cache_seconds))
                return right
        return False

    def _hash_of(self, name: str) -> str | None:
        user = self._identities.users.get(name)
        return user.password_hash if user is not None and user.enabled else None

    def _mark(self, name: str, password: Secret) -> bytes:
        raw = f"{len(name)}:{name}:{password.reveal()}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._salt, digest_size=32).digest()

    def _remember(self, mark: bytes, known: _Known) -> None:
        self._known[mark] = known
        while len(self._known) > self._cache_size:
            self._known.popitem(last=False)

    def principal(self, user: User, *, realm: str = "native1", realm_type: str = "native") -> Principal:
        """Worked out anew only when the user or one of its roles was written since."""
        roles = self._identities.roles
        parts = (user, *(roles.get(name) for name in user.roles))
        return self._known_or_made(
            f"{realm}\0{user.name}", parts, lambda: self._made(user, realm, realm_type)
        )

    def _made(self, user: User, realm: str, realm_type: str) -> Principal:
        found, missing = self._roles(user.roles)
        return Principal(
            username=user.name,
            roles=tuple(found),
            missing_roles=tuple(missing),
            grants=(grant(found.values()),),
            user=user,
            realm=realm,
            realm_type=realm_type,
        )

    def _known_or_made(self, id: str, parts: tuple[object, ...], make: Callable[[], Principal]) -> Principal:
        """Records are never changed, only replaced: the same objects mean the same principal."""
        known = self._principals.get(id)
        if known is not None and len(known[0]) == len(parts) and all(map(is_, known[0], parts)):
            return known[1]
        made = make()
        self._principals[id] = (parts, made)
        self._principals.move_to_end(id)
        while len(self._principals) > self._cache_size:
            self._principals.popitem(last=False)
        return made

    def _roles(self, names: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], list[str]]:
        found: dict[str, dict[str, Any]] = {}
        missing = []
        for name in names:
            stored = self._identities.roles.get(name)
            descriptor = BUILT_IN.get(name) or (stored.descriptor if stored is not None else None)
            if descriptor is None:
                missing.append(name)
            else:
                found[name] = descriptor
        return found, missing

    def descriptors(self, user: User) -> dict[str, dict[str, Any]]:
        """The user's roles as they stand, by name: what a new API key is limited by."""
        return self._roles(user.roles)[0]

    # API keys

    async def _api_key(self, credential: str, origin: Origin, kind: str) -> Principal:
        """Only failures are slow: nobody guesses 128 bits, and who knows a key's id must not slow the key down."""
        id, colon, secret = _decoded(credential).partition(":")
        if not colon:
            raise _key_refused(f"{kind}: malformed credential", origin)
        key = self._identities.api_keys.get(id)
        if key is None or not key_matches(key.secret_hash, Secret(secret)):
            async with self.key_delays.attempt(origin.address, id) as attempt:
                attempt.right = False
            wrong = (
                f"unable to find apikey with id {_shown(id)}"
                if key is None
                else f"invalid credentials for API key [{_shown(id)}]"
            )
            raise _key_refused(f"{kind}: {wrong}", origin)
        if key.invalidated is not None:
            raise _key_refused(f"{kind}: api key [{id}] has been invalidated", origin)
        if key.expiration is not None and key.expiration <= self._now() * 1000:
            raise _key_refused(f"{kind}: api key is expired", origin)
        return self.key_principal(key)

    def key_principal(self, key: ApiKey) -> Principal:
        """Limited by its owner's rights at creation and, where it has any, by its own descriptors."""
        owner = self._identities.users.get(key.owner)
        return self._known_or_made(f"key\0{key.id}", (key, owner), lambda: self._made_of_key(key, owner))

    def _made_of_key(self, key: ApiKey, owner: User | None) -> Principal:
        grants = [grant(key.limited_by.values())]
        if key.role_descriptors:
            grants.append(grant(key.role_descriptors.values()))
        return Principal(
            username=key.owner,
            grants=tuple(grants),
            user=owner,
            api_key=key,
            realm="_es_api_key",
            realm_type="_es_api_key",
            authentication_type="api_key",
        )


def hash_key(secret: Secret) -> str:
    """Salted SHA-256: enough for a secret of 128 random bits."""
    salt = os.urandom(16)
    return f"ssha256${salt.hex()}${hashlib.sha256(salt + secret.reveal().encode()).hexdigest()}"


def key_matches(stored: str, secret: Secret) -> bool:
    """Compared in constant time."""
    _, salt, digest = stored.split("$")
    given = hashlib.sha256(bytes.fromhex(salt) + secret.reveal().encode("utf-8", "surrogatepass")).hexdigest()
    return hmac.compare_digest(given, digest)


def _decoded(credential: str) -> str:
    """Base64 of UTF-8; what cannot be read is a credential without a colon."""
    try:
        return base64.b64decode(credential + "=" * (-len(credential) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _shown(name: str) -> str:
    """A name somebody sent, short enough for a message."""
    return name if len(name) <= 256 else f"{name[:256]}…"


def claimed(authorization: str | None) -> dict[str, str]:
    """Who a credential that was refused said it was: a user or a key's id, never more."""
    scheme, _, credential = (authorization or "")[:MAX_HEADER].strip().partition(" ")
    name, colon, _ = _decoded(credential.strip()).partition(":")
    if not colon:
        return {}
    return {"user": name} if scheme.lower() == "basic" else {"api_key_id": name}


def challenges(secure: bool) -> list[tuple[str, str]]:
    """``WWW-Authenticate``, three headers over TLS, two over plain HTTP (api.md 12.2)."""
    offered = ['Basic realm="security", charset="UTF-8"', 'Bearer realm="security"', "ApiKey"]
    if not secure:
        del offered[1]
    return [("WWW-Authenticate", value) for value in offered]


def missing(origin: Origin) -> SecurityError:
    return refused(f"missing authentication credentials for REST request [{origin.uri}]", origin)


def wrong_user(name: str, origin: Origin) -> SecurityError:
    """The same for whatever was wrong: no user, another password, a disabled user, no password at all."""
    return refused(f"unable to authenticate user [{_shown(name)}] for REST request [{origin.uri}]", origin)


def _key_refused(why: str, origin: Origin) -> SecurityError:
    return refused(_ANONYMOUS, origin, members={"additional_unsuccessful_credentials": why})


def refused(reason: str, origin: Origin, *, members: dict[str, Any] | None = None) -> SecurityError:
    return SecurityError(reason, status=401, headers=challenges(origin.secure), members=members)
