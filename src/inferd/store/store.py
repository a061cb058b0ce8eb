"""Endpoints, the region policy and identities at rest, and in memory as they are at rest."""

import logging
from collections.abc import Callable

from inferd.core.endpoint import Endpoint
from inferd.core.regions import RegionPolicy
from inferd.errors import AlreadyExists, InferdError, StatusError, StorageError
from inferd.store.identities import API_KEY, ROLE, USER, Identities
from inferd.store.records import Records
from inferd.store.secretbox import SecretBox
from inferd.store.tables import ENDPOINTS, REGION_POLICY
from inferd.store.transaction import Kind, Transaction, View
from inferd.store.worker import Worker

_log = logging.getLogger(__name__)
_POLICY_ID = "policy"


def _endpoint_conflict(id: str, found: int) -> InferdError:
    if not found:
        return StatusError(404, f"The inference endpoint [{id}] does not exist and cannot be updated")
    return StatusError(
        409, f"Endpoint [{id}] is currently being updated. Try again once the update completes"
    )


def _policy_conflict(id: str, found: int) -> InferdError:
    return StatusError(409, "Failed to put region policy due to a concurrent update conflict. Please retry.")


ENDPOINT = Kind(
    "endpoint", ENDPOINTS, Endpoint, lambda endpoint: endpoint.id, _endpoint_conflict, sealed=True
)
POLICY = Kind("region policy", REGION_POLICY, RegionPolicy, lambda policy: _POLICY_ID, _policy_conflict)
KINDS = (ENDPOINT, POLICY, USER, ROLE, API_KEY)


class Store:
    """What this server must not forget.

    Reads are synchronous look-ups in memory. Writes are awaited: when one returns it is on disk and visible here; other
    processes see it within ``poll`` seconds. Failures: ``StorageError``, and ``Rejected`` when the queue is full.
    """

    def __init__(
        self, url: str, box: SecretBox, wait: float, poll: float, capacity: int, patience: float
    ) -> None:
        self._worker = Worker(
            url, box, KINDS, self._show, wait=wait, poll=poll, capacity=capacity, patience=patience
        )
        self._endpoints = Records(ENDPOINT, self._worker)
        self._policies = Records(POLICY, self._worker)
        self.identities = Identities(self._worker)
        self.generation = 0
        """Grows with every change of anything stored, here or in another process."""
        self._subscribers: list[Callable[[], None]] = []

    @classmethod
    async def open(
        cls,
        url: str,
        box: SecretBox,
        *,
        wait: float = 5.0,
        poll: float = 0.25,
        capacity: int = 1024,
        patience: float = 30.0,
    ) -> "Store":
        """Opens (creating what is missing), migrates and loads. Raises ``StorageError``: a sentence for the operator.

        ``wait``: seconds for a lock or a silent database; ``patience``: seconds a write may take, queue included.
        """
        store = cls(url, box, wait, poll, capacity, patience)
        await store._worker.start()
        return store

    async def close(self) -> None:
        """Finishes the writes that wait, then lets the database go."""
        await self._worker.close()

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back on the event loop after each change, before the writer of it is answered; returns the way out."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def get(self, id: str) -> Endpoint | None:
        return self._endpoints.get(id)

    def all(self) -> list[Endpoint]:
        """In ascending order of id."""
        return self._endpoints.all()

    async def create(self, endpoint: Endpoint) -> Endpoint:
        """Stores a new endpoint with its secrets. Raises ``AlreadyExists``; 500 where storing failed (api.md 4.2)."""
        try:
            return await self._worker.write(lambda t: _create(t, endpoint))
        except StorageError as bad:
            raise StatusError(500, f"Failed to store inference endpoint [{endpoint.id}]") from bad

    async def replace(self, endpoint: Endpoint, expected_version: int) -> Endpoint:
        """Compare-and-set. Raises 409 when the stored version is another one, 404 when it is gone (api.md 4.3)."""
        stored, _ = await self._endpoints.put(endpoint, expected_version)
        return stored

    async def delete(self, id: str) -> bool:
        """With its secrets; whether there was one."""
        return await self._endpoints.delete(id)

    def region_policy(self) -> RegionPolicy | None:
        return self._policies.get(_POLICY_ID)

    async def put_region_policy(self, policy: RegionPolicy, expected_version: int) -> RegionPolicy:
        """``expected_version`` 0: none is stored yet. Raises 409 for a lost race (api.md 4.7)."""
        stored, _ = await self._policies.put(policy, expected_version)
        return stored

    async def delete_region_policy(self) -> bool:
        return await self._policies.delete(_POLICY_ID)

    async def reseal(self) -> int:
        """Seals every secret that is not under the box's newest key with it, in one transaction; how many."""
        count = await self._worker.write(Transaction.reseal)
        await self._worker.scrub()
        return count

    def _show(self, view: View) -> None:
        self._endpoints.show(view)
        self._policies.show(view)
        self.identities.show(view)
        self.generation = view.counter
        for callback in tuple(self._subscribers):
            try:
                callback()
            except Exception:
                _log.exception("a subscriber of the store failed")


def _create(transaction: Transaction, endpoint: Endpoint) -> Endpoint:
    if transaction.get(ENDPOINT, endpoint.id):
        raise AlreadyExists(f"Inference endpoint [{endpoint.id}] already exists")
    stored, _ = transaction.put(ENDPOINT, endpoint, None)
    return stored
