"""Users, roles and API keys as Elastic clients manage them (api.md 12.5)."""

import re
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from inferd.core.identities import ApiKey, Role, User
from inferd.core.secrets import Secret
from inferd.core.settings import wrong_type
from inferd.errors import IllegalArgument, InvalidRequest, NotFound, Rejected, StatusError
from inferd.security.authentication import Authenticator, hash_key
from inferd.security.bootstrap import MIN_PASSWORD, SUPERUSER
from inferd.security.passwords import MEMORY, TIME
from inferd.security.principal import LONGEST_PATTERN, Principal, matches
from inferd.security.privileges import BUILT_IN, CLUSTER, INFERENCE
from inferd.store.identities import Identities

_USER_NAME = re.compile(r"[!-~](?:[ -~]{0,505}[!-~])?")
_ROLE_NAME = _USER_NAME
MAX_PASSWORD = 4096
MAX_NAMES = 1000
MAX_KEYS = 10_000
"""Valid API keys of one owner."""
MAX_ASKED = 10_000
"""Pairs of a privilege and what it is held on, in one question."""
KEPT_DAYS = 7
"""How long keys that expired or were invalidated are still shown."""
_RESERVED_USER = SUPERUSER


class Accounts(Struct, frozen=True, eq=False):
    """Writes identities; every rule about names, reserved ones and what a key may hold lives here."""

    identities: Identities
    authenticator: Authenticator

    # Users

    async def put_user(self, name: str, body: dict[str, Any]) -> bool:
        """Creates or changes; whether it is new. A password is needed for a new user only."""
        check_name("user", name, _USER_NAME)
        reader = _Reader(body)
        password = reader.text("password")
        hashed = reader.text("password_hash")
        roles = reader.names("roles")
        full_name, email = reader.text("full_name"), reader.text("email")
        metadata, enabled = reader.object("metadata"), reader.boolean("enabled")
        reader.done("user")
        before = self.identities.users.get(name)
        if name == _RESERVED_USER:
            raise IllegalArgument(f"user [{name}] is reserved and only its password can be changed")
        if roles is None:
            raise InvalidRequest("roles must be given; [] is a user without any")
        stored = await self._hash(password, hashed) or (before.password_hash if before else None)
        if stored is None:
            raise InvalidRequest("password must be specified unless you are updating an existing user")
        user = User(
            name=name,
            password_hash=stored,
            roles=tuple(roles),
            full_name=full_name,
            email=email,
            metadata=check_metadata(metadata),
            enabled=enabled is not False,
        )
        _, created = await self.identities.users.put(user, before.version if before else 0)
        return created

    async def _hash(self, password: str | None, hashed: str | None) -> str | None:
        """What to store for a password, or for one that was hashed elsewhere; None: neither was given."""
        if hashed is not None:
            if password is not None:
                raise InvalidRequest("give [password] or [password_hash], not both")
            if not self.authenticator.passwords.takes(hashed):
                raise InvalidRequest(f"[password_hash] must be argon2id, made with [m={MEMORY},t={TIME},p=1]")
            return hashed
        if password is None:
            return None
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise InvalidRequest(f"passwords must be at least [{MIN_PASSWORD}] characters long")
        return await self.authenticator.passwords.hash(Secret(password))

    def users(self, names: Iterable[str] | None) -> dict[str, Any]:
        found = self.identities.users.all()
        if names is not None:
            wanted = set(names)
            found = [user for user in found if user.name in wanted]
        return {user.name: shown_user(user) for user in found}

    async def delete_user(self, name: str) -> bool:
        if name == _RESERVED_USER:
            raise IllegalArgument(f"user [{name}] is reserved and cannot be deleted")
        return await self.identities.users.delete(name)

    async def change_password(self, name: str, body: dict[str, Any]) -> None:
        reader = _Reader(body)
        password, hashed = reader.text("password"), reader.text("password_hash")
        reader.done("change_password")
        user = self._user(name, "password")
        stored = await self._hash(password, hashed)
        if stored is None:
            raise InvalidRequest("password is missing")
        await self.identities.users.put(replace(user, password_hash=stored), user.version)

    async def enable(self, name: str, enabled: bool) -> None:
        user = self._user(name, "status")
        if name == _RESERVED_USER and not enabled:
            raise IllegalArgument(f"user [{name}] is reserved and cannot be disabled")
        await self.identities.users.put(replace(user, enabled=enabled), user.version)

    def _user(self, name: str, what: str) -> User:
        user = self.identities.users.get(name)
        if user is None:
            raise InvalidRequest(f"user must exist in order to change {what}")
        return user

    def who(self, principal: Principal) -> dict[str, Any]:
        """``GET _security/_authenticate``."""
        return authenticated(principal)

    # Roles

    def privileges(self) -> dict[str, Any]:
        """``GET _security/privilege/_builtin``. There are no indices here."""
        return {"cluster": list(CLUSTER), "index": []}

    async def put_role(self, name: str, body: dict[str, Any]) -> bool:
        check_name("role", name, _ROLE_NAME)
        if name in BUILT_IN:
            raise IllegalArgument(f"Role [{name}] is reserved and may not be used.")
        descriptor = check_descriptor(name, body)
        before = self.identities.roles.get(name)
        _, created = await self.identities.roles.put(
            Role(name=name, descriptor=descriptor), before.version if before else 0
        )
        return created

    def roles(self, names: Iterable[str] | None) -> dict[str, Any]:
        every = {name: dict(role) for name, role in BUILT_IN.items()}
        every.update((role.name, role.descriptor) for role in self.identities.roles.all())
        wanted = set(every) if names is None else set(names)
        return {name: shown_role(every[name]) for name in sorted(every) if name in wanted}

    async def delete_role(self, name: str) -> bool:
        if name in BUILT_IN:
            raise IllegalArgument(f"role [{name}] is reserved and cannot be deleted")
        return await self.identities.roles.delete(name)

    # API keys

    async def create_key(
        self, owner: Principal, body: dict[str, Any], seconds: Callable[[str], float]
    ) -> dict[str, Any]:
        """The new key; its secret is in this answer and nowhere else. Keys that ended long ago go for it."""
        reader = _Reader(body)
        name, expiration = reader.text("name"), reader.text("expiration")
        descriptors = check_descriptors(reader.object("role_descriptors"))
        metadata = check_metadata(reader.object("metadata"))
        reader.done("api_key")
        if not name:
            raise InvalidRequest("api key name is required")
        if len(name) > 256:
            raise InvalidRequest("api key name may not be more than 256 characters long")
        if name != name.strip():
            raise InvalidRequest("api key name may not begin or end with whitespace")
        if name.startswith("_"):
            raise InvalidRequest("api key name may not begin with an underscore")
        if owner.api_key is not None and not (
            descriptors and all(_is_empty(d) for d in descriptors.values())
        ):
            raise IllegalArgument(
                "creating derived api keys requires an explicit role descriptor that is empty (has no privileges)"
            )
        now = time.time_ns() // 1_000_000
        expires = _expiration(expiration, now, seconds)
        if (
            sum(key.owner == owner.username and is_active(key) for key in self.identities.api_keys.all())
            >= MAX_KEYS
        ):
            raise Rejected(f"user [{owner.username}] has [{MAX_KEYS}] valid API keys, which is the limit")
        await self._forget_ended(now)
        secret = Secret(secrets.token_urlsafe(16))
        key = ApiKey(
            id=secrets.token_urlsafe(15),
            name=name,
            secret_hash=hash_key(secret),
            owner=owner.username,
            realm="native1" if owner.api_key is None else owner.api_key.realm,
            creation=now,
            role_descriptors=descriptors,
            limited_by=self._limits(owner),
            metadata=metadata,
            expiration=expires,
        )
        await self.identities.api_keys.put(key, 0)
        shown: dict[str, Any] = {"id": key.id, "name": name}
        if key.expiration is not None:
            shown["expiration"] = key.expiration
        encoded = b64encode(f"{key.id}:{secret.reveal()}".encode()).decode()
        return {**shown, "api_key": secret.reveal(), "encoded": encoded}

    async def _forget_ended(self, now: int) -> None:
        before = now - KEPT_DAYS * 86_400_000
        keys = self.identities.api_keys.all()
        if any(end is not None and end < before for key in keys for end in (key.expiration, key.invalidated)):
            await self.identities.api_keys.purge(before)

    def _limits(self, owner: Principal) -> dict[str, Any]:
        """What the owner may do now: the key never gets more, whatever becomes of the owner."""
        if owner.api_key is not None:
            return owner.api_key.limited_by
        return {} if owner.user is None else dict(self.authenticator.descriptors(owner.user))

    def key_filter(self, body: dict[str, Any]) -> tuple["KeyFilter", bool]:
        """The body of ``DELETE _security/api_key``: which keys, and whether only the caller's own."""
        reader = _Reader(body)
        id, ids, owned = reader.text("id"), reader.names("ids"), reader.boolean("owner")
        name, username, realm = reader.text("name"), reader.text("username"), reader.text("realm_name")
        reader.done("invalidate_api_key")
        if id is not None and ids is not None:
            raise InvalidRequest("[id] and [ids] say the same: give one of them")
        listed = [id] if id is not None else ids
        wanted = KeyFilter(
            ids=None if listed is None else tuple(listed), name=name, username=username, realm_name=realm
        )
        return wanted, bool(owned)

    def keys(self, wanted: "KeyFilter") -> list[ApiKey]:
        return [key for key in self.identities.api_keys.all() if wanted.covers(key)]

    async def invalidate_keys(self, wanted: "KeyFilter") -> dict[str, Any]:
        found = self.keys(wanted)
        before = sorted(key.id for key in found if key.invalidated is not None)
        now = time.time_ns() // 1_000_000
        done = await self.identities.api_keys.invalidate([key.id for key in found], now)
        return {"invalidated_api_keys": done, "previously_invalidated_api_keys": before, "error_count": 0}

    async def update_key(
        self, owner: Principal, id: str, body: dict[str, Any], seconds: Callable[[str], float]
    ) -> bool:
        """Whether anything changed. Only the owner updates a key, and it gets the owner's rights of now."""
        reader = _Reader(body)
        raw_descriptors, raw_metadata = reader.object("role_descriptors"), reader.object("metadata")
        expiration = reader.text("expiration")
        reader.done("update_api_key")
        if owner.api_key is not None:
            raise IllegalArgument("an API key cannot update API keys: authenticate as their owner")
        key = self.identities.api_keys.get(id)
        if key is None or key.owner != owner.username:
            raise NotFound(f"no API key owned by requesting user found for ID [{id}]")
        now = time.time_ns() // 1_000_000
        if key.invalidated is not None:
            raise IllegalArgument(f"cannot update invalidated API key [{id}]")
        if key.expiration is not None and key.expiration <= now:
            raise IllegalArgument(f"cannot update expired API key [{id}]")
        changed = replace(
            key,
            role_descriptors=key.role_descriptors
            if raw_descriptors is None
            else check_descriptors(raw_descriptors),
            metadata=key.metadata if raw_metadata is None else check_metadata(raw_metadata),
            expiration=key.expiration if expiration is None else _expiration(expiration, now, seconds),
            limited_by=self._limits(owner),
        )
        if changed == key:
            return False
        await self.identities.api_keys.put(changed, key.version)
        return True


class KeyFilter(Struct, frozen=True, kw_only=True):
    """Which keys; a member that is None does not filter. ``owner`` is the only user whose keys are seen."""

    ids: tuple[str, ...] | None = None
    name: str | None = None
    username: str | None = None
    realm_name: str | None = None
    owner: str | None = None
    active_only: bool = False

    def covers(self, key: ApiKey) -> bool:
        if self.ids is not None and key.id not in self.ids:
            return False
        if self.name is not None and not matches(self.name, key.name):
            return False
        if self.owner is not None and key.owner != self.owner:
            return False
        if self.username is not None and key.owner != self.username:
            return False
        if self.realm_name is not None and key.realm != self.realm_name:
            return False
        return not self.active_only or is_active(key)


def _expiration(text: str | None, now: int, seconds: Callable[[str], float]) -> int | None:
    """Milliseconds since 1970."""
    if text is None:
        return None
    lasts = seconds(text)
    if lasts <= 0:
        raise InvalidRequest(f"[expiration] must be longer than nothing, found [{text}]")
    return now + round(lasts * 1000)


def is_active(key: ApiKey) -> bool:
    expired = key.expiration is not None and key.expiration <= time.time() * 1000
    return key.invalidated is None and not expired


def check_name(noun: str, name: str, pattern: re.Pattern[str]) -> None:
    """api.md 12.5: 1 to 507 printable ASCII characters without outer blanks."""
    if not pattern.fullmatch(name):
        raise InvalidRequest(
            f"{noun.capitalize()} names must be at least 1 and no more than 507 characters. They can contain alphanumeric "
            "characters (a-z, A-Z, 0-9), spaces, punctuation, and printable symbols in the Basic Latin (ASCII) block. "
            "Leading or trailing whitespace is not allowed."
        )


def check_descriptor(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A role's body with its members in place; unknown ones are refused. What grants nothing here is kept as it is."""
    reader = _Reader(dict(body))
    out: dict[str, Any] = {"cluster": reader.names("cluster") or []}
    indices = reader.objects("indices") or reader.objects("index") or []
    out["indices"] = indices
    out["applications"] = reader.objects("applications") or []
    out["run_as"] = reader.names("run_as") or []
    out["metadata"] = check_metadata(reader.object("metadata"))
    reader.object("transient_metadata")
    elsewhere = {
        "global": reader.object("global"),
        "remote_indices": reader.objects("remote_indices"),
        "remote_cluster": reader.objects("remote_cluster"),
        "description": reader.text("description"),
    }
    out.update((key, value) for key, value in elsewhere.items() if value is not None)
    inference = reader.objects("inference")
    if inference is not None:
        out["inference"] = [_inference_entry(entry) for entry in inference]
    reader.done(name)
    return out


def _inference_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """``{"names": ["search-*"], "privileges": ["monitor_inference"]}`` (beyond Elasticsearch)."""
    reader = _Reader(entry)
    names, privileges = reader.names("names"), reader.names("privileges")
    reader.done("inference")
    if not names or not privileges:
        raise InvalidRequest("[inference] entries need [names] and [privileges]")
    if any(len(name) > LONGEST_PATTERN for name in names):
        raise InvalidRequest(f"[inference] names may not be longer than [{LONGEST_PATTERN}] characters")
    unknown = sorted(set(privileges) - set(INFERENCE))
    if unknown:
        raise InvalidRequest(
            f"[inference] privileges must be among [{', '.join(INFERENCE)}], found {unknown}"
        )
    return {"names": names, "privileges": privileges}


def check_descriptors(raw: Mapping[str, Any] | None) -> dict[str, Any]:
    out = {}
    for name, body in (raw or {}).items():
        if not isinstance(body, Mapping):
            raise _wrong(name, body, "Map")
        out[name] = check_descriptor(name, body)
    return out


def check_metadata(raw: dict[str, Any] | None) -> dict[str, Any]:
    reserved = [key for key in raw or {} if key.startswith("_")]
    if reserved:
        raise InvalidRequest("metadata keys may not start with [_]")
    return raw or {}


def _is_empty(descriptor: Mapping[str, Any]) -> bool:
    return not any(
        descriptor.get(key) for key in ("cluster", "indices", "applications", "run_as", "inference")
    )


def _wrong(key: str, value: Any, name: str) -> InvalidRequest:
    """Texts are not repeated: in bodies like these they may be secrets in the wrong place."""
    return InvalidRequest(wrong_type(key, value if isinstance(value, bool | int | float) else "******", name))


class _Reader:
    """Members of a body by kind. Raises 400 for a wrong kind or an unknown member."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = dict(raw)

    def _take(self, key: str, kind: type, name: str) -> Any:
        value = self._raw.pop(key, None)
        if value is not None and (
            not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))
        ):
            raise _wrong(key, value, name)
        return value

    def text(self, key: str) -> str | None:
        value: str | None = self._take(key, str, "String")
        return value

    def boolean(self, key: str) -> bool | None:
        value: bool | None = self._take(key, bool, "Boolean")
        return value

    def object(self, key: str) -> dict[str, Any] | None:
        value: dict[str, Any] | None = self._take(key, dict, "Map")
        return value

    def names(self, key: str) -> list[str] | None:
        value: Any = self._raw.pop(key, None)
        found = [value] if isinstance(value, str) else value
        if found is None:
            return None
        if (
            not isinstance(found, list)
            or len(found) > MAX_NAMES
            or not all(isinstance(v, str) for v in found)
        ):
            raise _wrong(key, found, "List")
        return found

    def objects(self, key: str) -> list[dict[str, Any]] | None:
        value: Any = self._take(key, list, "List")
        if value is not None and not all(isinstance(v, dict) for v in value):
            raise _wrong(key, value, "List")
        found: list[dict[str, Any]] | None = value
        return found

    def done(self, name: str) -> None:
        if self._raw:
            unknown = next(iter(self._raw))
            raise StatusError(400, f"failed to parse [{name}]: unexpected field [{unknown}]")


# As clients see them


def shown_user(user: User) -> dict[str, Any]:
    return {
        "username": user.name,
        "roles": list(user.roles),
        "full_name": user.full_name,
        "email": user.email,
        "metadata": user.metadata,
        "enabled": user.enabled,
    }


def shown_role(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in descriptor.items() if key != "description"}
    shown["transient_metadata"] = {"enabled": True}
    if "description" in descriptor:
        shown["description"] = descriptor["description"]
    return shown


def shown_key(key: ApiKey, *, limited_by: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": key.id, "name": key.name, "type": "rest", "creation": key.creation}
    if key.expiration is not None:
        shown["expiration"] = key.expiration
    shown["invalidated"] = key.invalidated is not None
    if key.invalidated is not None:
        shown["invalidation"] = key.invalidated
    shown |= {"username": key.owner, "realm": key.realm, "realm_type": "native", "metadata": key.metadata}
    shown["role_descriptors"] = {name: shown_role(d) for name, d in key.role_descriptors.items()}
    if limited_by:
        shown["limited_by"] = [{name: shown_role(d) for name, d in key.limited_by.items()}]
    return shown


def authenticated(principal: Principal) -> dict[str, Any]:
    """``GET _security/_authenticate``."""
    user = principal.user
    realm = {"name": principal.realm, "type": principal.realm_type}
    shown: dict[str, Any] = {
        "username": principal.username,
        "roles": [] if user is None else list(user.roles),
        "full_name": None if user is None else user.full_name,
        "email": None if user is None else user.email,
        "metadata": {} if user is None else user.metadata,
        "enabled": True,
        "authentication_realm": realm,
        "lookup_realm": realm,
        "authentication_type": principal.authentication_type,
    }
    if principal.api_key is not None:
        shown["roles"] = []
        shown["api_key"] = {
            "id": principal.api_key.id,
            "name": principal.api_key.name,
            "managed_by": "elasticsearch",
        }
    return shown


def has_privileges(principal: Principal, body: dict[str, Any]) -> dict[str, Any]:
    """``POST _security/user/_has_privileges``. There are no indices and applications here: only ``all`` has those."""
    reader = _Reader(body)
    cluster = reader.names("cluster") or []
    index = [_has_entry(entry, "index", ("names", "privileges")) for entry in reader.objects("index") or ()]
    application = [
        _has_entry(entry, "application", ("resources", "privileges"), "application")
        for entry in reader.objects("application") or ()
    ]
    reader.done("has_privileges")
    if not cluster and not index and not application:
        raise InvalidRequest("must specify at least one privilege")
    asked = sum(
        len(entry["privileges"]) * len(entry.get("names") or entry["resources"])
        for entry in index + application
    )
    if asked > MAX_ASKED:
        raise InvalidRequest(f"more than [{MAX_ASKED}] privileges are asked about")
    everything = principal.has("all")
    shown_cluster = {name: principal.has(name) for name in cluster}
    shown_index: dict[str, Any] = {}
    for entry in index:
        for name in entry["names"]:
            shown_index.setdefault(name, {}).update(dict.fromkeys(entry["privileges"], everything))
    shown_application: dict[str, Any] = {}
    for entry in application:
        resources = shown_application.setdefault(entry["application"], {})
        for name in entry["resources"]:
            resources.setdefault(name, {}).update(dict.fromkeys(entry["privileges"], everything))
    every = all(shown_cluster.values()) and (everything or not (shown_index or shown_application))
    return {
        "username": principal.username,
        "has_all_requested": every,
        "cluster": shown_cluster,
        "index": shown_index,
        "application": shown_application,
    }


def _has_entry(
    raw: dict[str, Any], parser: str, lists: tuple[str, str], text: str | None = None
) -> dict[str, Any]:
    reader = _Reader(raw)
    entry: dict[str, Any] = {key: reader.names(key) for key in lists}
    if text is not None:
        entry[text] = reader.text(text)
    else:
        reader.boolean("allow_restricted_indices")
    reader.done(parser)
    absent = [key for key, value in entry.items() if not value]
    if absent:
        raise InvalidRequest(f"[{parser}] entries need [{', '.join(absent)}]")
    return entry
