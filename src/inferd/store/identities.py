"""Users, roles and API keys at rest."""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from inferd.core.identities import ApiKey, Role, User
from inferd.errors import InferdError, StatusError
from inferd.store.records import Records
from inferd.store.tables import API_KEYS, ROLES, USERS
from inferd.store.transaction import Kind, Transaction, View
from inferd.store.worker import Worker


def _changed_meanwhile(noun: str) -> Callable[[str, int], InferdError]:
    def conflict(id: str, found: int) -> InferdError:
        return StatusError(
            409, f"{noun} [{id}] is currently being updated. Try again once the update completes"
        )

    return conflict


USER = Kind("user", USERS, User, lambda user: user.name, _changed_meanwhile("User"))
ROLE = Kind("role", ROLES, Role, lambda role: role.name, _changed_meanwhile("Role"))
API_KEY = Kind("api_key", API_KEYS, ApiKey, lambda key: key.id, _changed_meanwhile("API key"))


class ApiKeys(Records[ApiKey]):
    async def invalidate(self, ids: Iterable[str], now: int) -> list[str]:
        """Marks keys invalid from ``now`` (ms), all in one write; the ids that were valid until then, sorted."""
        return await self._worker.write(lambda t: _invalidate(t, sorted(set(ids)), now))

    async def purge(self, before: int) -> int:
        """Removes keys that expired or were invalidated before that moment (ms); how many."""
        return await self._worker.write(lambda t: _purge(t, before))


def _invalidate(transaction: Transaction, ids: list[str], now: int) -> list[str]:
    found = (transaction.get(API_KEY, id) for id in ids)
    valid = [key for key in found if key and key.invalidated is None]
    for key in valid:
        transaction.put(API_KEY, replace(key, invalidated=now), key.version)
    return [key.id for key in valid]


def _purge(transaction: Transaction, before: int) -> int:
    over = [key.id for key in transaction.all(API_KEY) if _ended(key) < before]
    for id in over:
        transaction.delete(API_KEY, id)
    return len(over)


def _ended(key: ApiKey) -> float:
    return min(
        (moment for moment in (key.invalidated, key.expiration) if moment is not None), default=float("inf")
    )


class Identities:
    """Who may call: ``users``, ``roles`` and ``api_keys``, each readable without waiting."""

    def __init__(self, worker: Worker) -> None:
        self.users = Records(USER, worker)
        self.roles = Records(ROLE, worker)
        self.api_keys = ApiKeys(API_KEY, worker)

    def show(self, view: View) -> None:
        for records in (self.users, self.roles, self.api_keys):
            records.show(view)
