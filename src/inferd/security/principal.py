"""Who was found to be asking, with what they may do worked out once."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from inferd.core.identities import ApiKey, User
from inferd.security.privileges import closure


class EndpointGrant(Struct, frozen=True):
    """Privileges on the endpoints whose ids match one of the patterns (``*`` and ``?``)."""

    names: tuple[str, ...]
    privileges: frozenset[str]

    def covers(self, endpoint: str) -> bool:
        return any(_pattern(name).fullmatch(endpoint) for name in self.names)


@lru_cache(maxsize=4096)
def _pattern(name: str) -> re.Pattern[str]:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in name)
    return re.compile("".join(parts), re.DOTALL)


class Grant(Struct, frozen=True):
    """What a set of roles allows together."""

    cluster: frozenset[str] = frozenset()
    endpoints: tuple[EndpointGrant, ...] = ()

    def allows(self, action: str, privileges: Iterable[str], endpoint: str | None) -> bool:
        """By cluster privilege, by the action's own name, or on this endpoint (None: on any endpoint at all)."""
        if action in self.cluster or any(name in self.cluster for name in privileges):
            return True
        return any(
            (endpoint is None or grant.covers(endpoint))
            and any(name in grant.privileges for name in privileges)
            for grant in self.endpoints
        )


def grant(descriptors: Iterable[Mapping[str, Any]]) -> Grant:
    """Role descriptors (the bodies of roles) into what they allow together."""
    cluster: set[str] = set()
    endpoints = []
    for descriptor in descriptors:
        cluster.update(descriptor.get("cluster") or ())
        for entry in descriptor.get("inference") or ():
            endpoints.append(EndpointGrant(tuple(entry["names"]), closure(entry["privileges"])))
    return Grant(closure(cluster), tuple(endpoints))


class Principal(Struct, frozen=True, kw_only=True):
    """``grants`` must all allow an action: an API key is limited by its own roles and by its owner's."""

    username: str
    roles: tuple[str, ...] = ()
    missing_roles: tuple[str, ...] = ()
    grants: tuple[Grant, ...] = ()
    user: User | None = None
    api_key: ApiKey | None = None
    realm: str = "native1"
    realm_type: str = "native"
    authentication_type: str = "realm"

    def allows(self, action: str, privileges: Iterable[str], endpoint: str | None = None) -> bool:
        wanted = tuple(privileges)
        return bool(self.grants) and all(g.allows(action, wanted, endpoint) for g in self.grants)

    def has(self, privilege: str) -> bool:
        """A cluster privilege, held on everything."""
        return bool(self.grants) and all(privilege.lower() in g.cluster for g in self.grants)

    @property
    def shown(self) -> str:
        """As 403 texts name it (api.md 12.3)."""
        if self.api_key is not None:
            return f"API key id [{self.api_key.id}] of user [{self.username}]"
        text = f"user [{self.username}] with effective roles [{','.join(sorted(self.roles))}]"
        if self.missing_roles:
            text += f" (assigned roles [{','.join(sorted(self.missing_roles))}] were not found)"
        return text
