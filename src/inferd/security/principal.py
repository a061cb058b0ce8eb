"""Who was found to be asking, with what they may do worked out once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from inferd.core.identities import ApiKey, User
from inferd.security.privileges import ACTIONS, closure

LONGEST_PATTERN = 512
"""Characters of a pattern, and of what is compared with one: more never matches."""


def matches(pattern: str, text: str) -> bool:
    """``*`` is any run of characters, ``?`` any one. Never more steps than the product of the two lengths."""
    if len(pattern) > LONGEST_PATTERN or len(text) > LONGEST_PATTERN:
        return False
    at, here = 0, 0
    star, taken = -1, 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, taken = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[here]):
            at += 1
            here += 1
        elif star >= 0:
            taken += 1
            at, here = star + 1, taken
        else:
            return False
    return not pattern[at:].strip("*")


class EndpointGrant(Struct, frozen=True):
    """Privileges on the endpoints whose ids match one of the patterns."""

    names: tuple[str, ...]
    privileges: frozenset[str]

    def covers(self, endpoint: str) -> bool:
        return any(matches(name, endpoint) for name in self.names)


class Grant(Struct, frozen=True):
    """What a set of roles allows together."""

    cluster: frozenset[str] = frozenset()
    actions: tuple[str, ...] = ()
    """Patterns over action names (``cluster:monitor/*``), which Elasticsearch takes among the privileges."""
    endpoints: tuple[EndpointGrant, ...] = ()

    def allows(self, action: str, privileges: Sequence[str]) -> bool:
        """On the whole house: by cluster privilege or by the action's own name."""
        return not self.cluster.isdisjoint(privileges) or any(
            matches(pattern, action) for pattern in self.actions
        )

    def has(self, name: str) -> bool:
        """A privilege or an action, by its name."""
        if "all" in self.cluster or name in self.cluster:
            return True
        patterns = [p for held in self.cluster for p in ACTIONS.get(held, ())]
        return ":" in name and any(matches(pattern, name) for pattern in (*self.actions, *patterns))

    def allows_on(self, endpoint: str | None, privileges: Sequence[str]) -> bool:
        """By a grant that is limited to endpoints; None: on one of them at least."""
        return any(
            (endpoint is None or limited.covers(endpoint)) and not limited.privileges.isdisjoint(privileges)
            for limited in self.endpoints
        )


def grant(descriptors: Iterable[Mapping[str, Any]]) -> Grant:
    """Role descriptors (the bodies of roles) into what they allow together."""
    cluster: set[str] = set()
    endpoints = []
    for descriptor in descriptors:
        cluster.update(descriptor.get("cluster") or ())
        for entry in descriptor.get("inference") or ():
            endpoints.append(EndpointGrant(tuple(entry["names"]), closure(entry["privileges"])))
    held = closure(cluster)
    return Grant(held, tuple(sorted(name for name in held if ":" in name)), tuple(endpoints))


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

    def allows(self, action: str, privileges: Sequence[str], endpoint: str | None = None) -> bool:
        """On this endpoint; without one, on the whole house: a grant that is limited to endpoints never does."""
        for held in self.grants:
            if held.allows(action, privileges):
                continue
            if endpoint is None or not held.allows_on(endpoint, privileges):
                return False
        return bool(self.grants)

    def allows_some(self, action: str, privileges: Sequence[str]) -> bool:
        """On the whole house, or on some endpoints: what a list that leaves out the others asks."""
        return bool(self.grants) and all(
            held.allows(action, privileges) or held.allows_on(None, privileges) for held in self.grants
        )

    def has(self, privilege: str) -> bool:
        """A cluster privilege, or an action by its name, held on everything."""
        return bool(self.grants) and all(held.has(privilege.lower()) for held in self.grants)

    @property
    def shown(self) -> str:
        """As 403 texts name it (api.md 12.3)."""
        if self.api_key is not None:
            return f"API key id [{self.api_key.id}] of user [{self.username}]"
        text = f"user [{self.username}] with effective roles [{','.join(sorted(self.roles))}]"
        if self.missing_roles:
            text += f" (assigned roles [{','.join(sorted(self.missing_roles))}] were not found)"
        return text
