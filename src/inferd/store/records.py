"""One kind of record as the rest of inferd sees it: read from memory, written with compare-and-set."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from msgspec import Struct

from inferd.store.transaction import Kind, View, is_storable
from inferd.store.worker import Worker

T = TypeVar("T", bound=Struct)


class Records(Generic[T]):
    """Reads are dictionary look-ups in the newest view; a write is durable and visible when it returns."""

    def __init__(self, kind: Kind[T], worker: Worker) -> None:
        self.kind = kind
        self._worker = worker
        self._rows: Mapping[str, T] = {}

    def show(self, view: View) -> None:
        """Makes the view's rows the ones that are read."""
        self._rows = view.rows[self.kind.name]

    def get(self, id: str) -> T | None:
        return self._rows.get(id)

    def all(self) -> list[T]:
        """In ascending order of id."""
        return list(self._rows.values())

    async def put(self, record: T, expected_version: int | None = None) -> tuple[T, bool]:
        """Creates or replaces: the record as stored (with its new version), and whether it is new.

        ``expected_version``: the version it must have, 0 for "must not exist", None for "whatever is there".
        Raises the kind's conflict (409), ``IllegalArgument`` for what cannot be stored, ``StorageError``, ``Rejected``.
        """
        return await self._worker.write(lambda t: t.put(self.kind, record, expected_version))

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        if not is_storable(id):
            return False
        return await self._worker.write(lambda t: t.delete(self.kind, id))
