"""Ordered schema changes. Append one; never edit one that was released."""

from collections.abc import Callable

import sqlalchemy as sa

from inferd.errors import StorageError

_LOCK = 0x696E66657264  # "inferd": PostgreSQL's advisory lock of this runner


def migrate(connection: sa.Connection) -> None:
    """Brings the schema to the newest version, inside the caller's write transaction: all of it or nothing.

    Two processes that start at once take turns (SQLite: the write transaction is the lock). A schema newer than this
    program is refused.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    connection.execute(sa.text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"))
    found = connection.execute(sa.text("SELECT version FROM schema_version")).scalar()
    if found is None:
        connection.execute(sa.text("INSERT INTO schema_version (version) VALUES (0)"))
    version = found or 0
    if version > len(MIGRATIONS):
        raise StorageError(
            f"the store has schema version [{version}], this inferd knows versions up to [{len(MIGRATIONS)}]: "
            "it was written by a newer inferd; use that one or restore a backup"
        )
    for change in MIGRATIONS[version:]:
        change(connection)
    if version < len(MIGRATIONS):
        connection.execute(sa.text("UPDATE schema_version SET version = :new"), {"new": len(MIGRATIONS)})


def _first(connection: sa.Connection) -> None:
    blob = "BYTEA" if connection.dialect.name == "postgresql" else "BLOB"
    for name in ("endpoints", "region_policy", "users", "roles", "api_keys"):
        connection.exec_driver_sql(
            f"CREATE TABLE {name} (id TEXT NOT NULL PRIMARY KEY, body {blob} NOT NULL, version BIGINT NOT NULL, "
            "stamp BIGINT NOT NULL, created BIGINT NOT NULL, updated BIGINT NOT NULL)"
        )
        connection.exec_driver_sql(f"CREATE INDEX {name}_stamp ON {name} (stamp)")
    connection.exec_driver_sql(
        "CREATE TABLE secrets (kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, key_id TEXT NOT NULL, "
        f"sealed {blob} NOT NULL, PRIMARY KEY (kind, owner, name))"
    )
    connection.exec_driver_sql(
        "CREATE TABLE state (id INTEGER NOT NULL PRIMARY KEY, counter BIGINT NOT NULL, key_id TEXT NOT NULL)"
    )
    connection.exec_driver_sql("INSERT INTO state (id, counter, key_id) VALUES (1, 0, '')")


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_first,)
