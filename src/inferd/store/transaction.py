"""One write transaction, and the view of what is stored: records in tables, compare-and-set, what changed since."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from inferd.errors import IllegalArgument, InferdError, StorageError
from inferd.store.secretbox import SecretBox, Unreadable
from inferd.store.tables import SECRETS, STATE

T = TypeVar("T", bound=Struct)


class Kind(Generic[T]):
    """How one kind of record is kept. ``conflict`` names the failure when a version is not the expected one.

    Its arguments are the id and the version found, 0 when there is no such record. With ``sealed`` the member
    ``secrets`` of the record goes to its own table.
    """

    def __init__(
        self,
        name: str,
        table: sa.Table,
        shape: type[T],
        key: Callable[[T], str],
        conflict: Callable[[str, int], InferdError],
        *,
        sealed: bool = False,
    ) -> None:
        self.name = name
        self.table = table
        self.key = key
        self.conflict = conflict
        self.sealed = sealed
        self._decoder = msgspec.json.Decoder(shape)

    def decode(self, id: str, body: bytes) -> T:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as bad:
            raise StorageError(f"the stored {self.name} [{id}] is damaged: {bad}") from None


class View(Struct, frozen=True):
    """The records at one moment: by kind's name, then by id in ascending order. Never changed, only replaced."""

    counter: int
    rows: Mapping[str, Mapping[str, Any]]


class Transaction:
    """One write transaction; it holds the write lock from its first statement, so it never meets another."""

    def __init__(self, connection: sa.Connection, box: SecretBox) -> None:
        connection.execute(STATE.update().values(counter=STATE.c.counter + 1))
        self.connection = connection
        self.box = box
        self.stamp, self._key_id = connection.execute(sa.select(STATE.c.counter, STATE.c.key_id)).one()
        self.written: dict[str, set[str]] = {}
        """Which ids were put or deleted, by kind's name."""
        self._now = time.time_ns() // 1_000_000

    def get(self, kind: Kind[T], id: str) -> T | None:
        """Without its secrets."""
        query = sa.select(kind.table.c.body).where(kind.table.c.id == _storable(id))
        body = self.connection.execute(query).scalar()
        return None if body is None else kind.decode(id, body)

    def all(self, kind: Kind[T]) -> list[T]:
        """Without their secrets."""
        rows = self.connection.execute(sa.select(kind.table.c.id, kind.table.c.body))
        return [kind.decode(id, body) for id, body in rows]

    def put(self, kind: Kind[T], record: T, expected: int | None) -> tuple[T, bool]:
        """Creates or replaces; the record as stored, and whether it is new.

        ``expected``: the version it must have, 0 for "must not exist", None for "whatever is there".
        """
        table, id = kind.table, _storable(kind.key(record))
        self._wrote(kind, id)
        found = self.connection.execute(sa.select(table.c.version).where(table.c.id == id)).scalar() or 0
        if expected is not None and expected != found:
            raise kind.conflict(id, found)
        # The counter as version: a record that was deleted and made again never repeats one.
        record = msgspec.structs.replace(record, version=self.stamp)
        body = _encode(msgspec.structs.replace(record, secrets={}) if kind.sealed else record)
        values = {"body": body, "version": self.stamp, "stamp": self.stamp, "updated": self._now}
        if found:
            self.connection.execute(table.update().where(table.c.id == id).values(values))
        else:
            self.connection.execute(table.insert().values(id=id, created=self._now, **values))
        if kind.sealed:
            self._seal(kind.name, id, getattr(record, "secrets", {}))
        return record, not found

    def delete(self, kind: Kind[T], id: str) -> bool:
        self._wrote(kind, id)
        if kind.sealed:
            self._forget(kind.name, id)
        return self.connection.execute(kind.table.delete().where(kind.table.c.id == id)).rowcount > 0

    def _wrote(self, kind: Kind[Any], id: str) -> None:
        self.written.setdefault(kind.name, set()).add(id)

    def reseal(self) -> int:
        """Every secret under the newest key; how many were not. Nothing is changed when one cannot be opened."""
        self.box.refresh()
        newest = self.box.newest.id
        rows = self.connection.execute(sa.select(SECRETS).where(SECRETS.c.key_id != newest)).all()
        for kind, owner, name, key_id, sealed in rows:
            value = self.box.open(kind, owner, name, key_id, sealed)
            if isinstance(value, Unreadable):
                value.reveal()
            self._forget(kind, owner, name)
            self._insert_secret(kind, owner, name, value)
        self._use_key(newest)
        return len(rows)

    def settle_key(self) -> None:
        """At start: the keys at hand must open what is stored; a key that nothing depends on may change."""
        self.box.prepare(keys_in_use(self.connection))
        if not self._key_id or not self.box.knows(self._key_id):
            self._use_key(self.box.newest.id)

    def _seal(self, kind: str, owner: str, secrets: Mapping[str, Any]) -> None:
        self._forget(kind, owner)
        if not secrets:
            return
        if not self.box.knows(
            self._key_id
        ):  # under the write lock, so a rotation was before this or comes after
            raise StorageError(
                f"the secrets of this store are sealed with another key [{self._key_id}] since this server "
                "started: give it that key and start it again"
            )
        for name, value in secrets.items():
            self._insert_secret(kind, owner, _storable(name), value)
        self._use_key(self.box.newest.id)

    def _insert_secret(self, kind: str, owner: str, name: str, value: Any) -> None:
        try:
            key_id, sealed = self.box.seal(kind, owner, name, value)
        except (UnicodeEncodeError, RecursionError):
            raise IllegalArgument(f"[{name}] of [{owner}] cannot be stored: it is not Unicode text") from None
        self.connection.execute(
            SECRETS.insert().values(kind=kind, owner=owner, name=name, key_id=key_id, sealed=sealed)
        )

    def _forget(self, kind: str, owner: str, name: str | None = None) -> None:
        gone = SECRETS.delete().where(SECRETS.c.kind == kind, SECRETS.c.owner == owner)
        self.connection.execute(gone if name is None else gone.where(SECRETS.c.name == name))

    def _use_key(self, key_id: str) -> None:
        if key_id != self._key_id:
            self.connection.execute(STATE.update().values(key_id=key_id))
            self._key_id = key_id


def is_storable(text: str) -> bool:
    """PostgreSQL's text has no NUL; a lone surrogate has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _storable(text: str) -> str:
    if not is_storable(text):
        raise IllegalArgument(f"[{text!a}] cannot be stored: names hold neither NUL nor lone surrogates")
    return text


def _encode(record: Struct) -> bytes:
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:
        raise IllegalArgument("a lone surrogate is not a character and cannot be stored") from None
    except RecursionError:
        raise IllegalArgument("a value is nested too deeply to be stored") from None


def keys_in_use(connection: sa.Connection) -> set[str]:
    return set(connection.scalars(sa.select(SECRETS.c.key_id).distinct()))


def read_counter(connection: sa.Connection) -> int:
    counter: int = connection.execute(_COUNTER).scalar_one()
    return counter


_COUNTER = sa.select(STATE.c.counter)


def advance(
    connection: sa.Connection,
    view: View,
    kinds: tuple[Kind[Any], ...],
    box: SecretBox,
    own: Transaction | None = None,
) -> View:
    """The view as the database has it now; reads only rows written since. Needs a transaction that sees one moment.

    ``own``: the write that is about to be committed; when nobody else wrote since, only what it wrote is looked at.
    """
    counter = read_counter(connection)
    if counter < view.counter:  # an older copy was restored under us
        view = View(0, {})
    alone = own is not None and counter == view.counter + 1
    rows = dict(view.rows)
    for kind in kinds:
        known = rows.get(kind.name, {})
        if not alone:
            known = _merge(known, _written_since(connection, kind, view.counter, box))
            rows[kind.name] = _without_deleted(connection, kind, known)
        elif own and (ids := own.written.get(kind.name)):
            left = {id: record for id, record in known.items() if id not in ids}
            rows[kind.name] = _merge(left, _written_since(connection, kind, view.counter, box))
    return View(counter, rows)


def _written_since(connection: sa.Connection, kind: Kind[T], since: int, box: SecretBox) -> dict[str, T]:
    table = kind.table
    written = connection.execute(sa.select(table.c.id, table.c.body).where(table.c.stamp > since))
    found = {id: kind.decode(id, body) for id, body in written}
    if kind.sealed and found:
        for owner, secrets in _open_secrets(connection, kind, since, box).items():
            found[owner] = msgspec.structs.replace(found[owner], secrets=secrets)
    return found


def _merge(known: Mapping[str, T], written: Mapping[str, T]) -> Mapping[str, T]:
    if not written:
        return known
    merged = {**known, **written}
    return merged if written.keys() <= known.keys() else dict(sorted(merged.items()))


def _without_deleted(connection: sa.Connection, kind: Kind[T], known: Mapping[str, T]) -> Mapping[str, T]:
    """``known`` already has every row that is stored, so an equal count says that nothing was deleted."""
    if connection.execute(sa.select(sa.func.count()).select_from(kind.table)).scalar_one() == len(known):
        return known
    left = set(connection.scalars(sa.select(kind.table.c.id)))
    return {id: record for id, record in known.items() if id in left}


def _open_secrets(
    connection: sa.Connection, kind: Kind[T], since: int, box: SecretBox
) -> dict[str, dict[str, Any]]:
    table = kind.table
    query = (
        sa.select(SECRETS.c.owner, SECRETS.c.name, SECRETS.c.key_id, SECRETS.c.sealed)
        .join(table, table.c.id == SECRETS.c.owner)
        .where(SECRETS.c.kind == kind.name, table.c.stamp > since)
        .order_by(SECRETS.c.owner, SECRETS.c.name)
    )
    found: dict[str, dict[str, Any]] = {}
    for owner, name, key_id, sealed in connection.execute(query):
        found.setdefault(owner, {})[name] = box.open(kind.name, owner, name, key_id, sealed)
    return found
