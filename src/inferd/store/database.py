"""The database behind the store: from a URL to an engine, SQLite's files and pragmas, driver errors into ours."""

import logging
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from inferd.errors import StorageError

_log = logging.getLogger(__name__)

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL may lose the last commits with the power; FULL: acknowledged is durable
    "PRAGMA secure_delete = ON",  # what was deleted or sealed anew does not stay in free pages
    "PRAGMA trusted_schema = OFF",
)
_POSTGRESQL_DRIVER = "postgresql+pg8000"


def connect(url: str, wait: float) -> sa.Engine:
    """An engine with one connection, for one thread. ``wait``: seconds to wait for a lock or a peer.

    SQLite's file is made with mode 0600, its directory with 0700. Raises ``StorageError``.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise StorageError(
            "store.url is not a database URL such as sqlite:////var/lib/inferd/inferd.db"
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed, wait)
        case "postgresql":
            return _postgresql(parsed, wait)
        case other:
            raise StorageError(f"store.url names [{other}]; the store is kept in [sqlite] or [postgresql]")


def _sqlite(url: sa.URL, wait: float) -> sa.Engine:
    if url.database and url.database != ":memory:":
        _prepare_file(Path(url.database))
    engine = sa.create_engine(
        url.set(drivername="sqlite"),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": wait, "isolation_level": None, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _set_pragmas)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
        finally:
            os.close(handle)
    except OSError as bad:
        raise StorageError(f"the store [{path}] cannot be opened: {bad.strerror}") from bad
    if mode & 0o077:
        _log.warning(
            "the store [%s] has mode [%04o]: others may read it; run: chmod 600 %s", path, mode, path
        )


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin(connection: sa.Connection) -> None:
    """sqlite3 begins nothing by itself here; a writer takes its lock first, so it never loses it half-way."""
    write = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _postgresql(url: sa.URL, wait: float) -> sa.Engine:
    if "+" not in url.drivername:
        url = url.set(drivername=_POSTGRESQL_DRIVER)
    try:
        engine = sa.create_engine(
            url,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"timeout": 2 * wait},
        )
    except ModuleNotFoundError as missing:
        raise StorageError(
            f"PostgreSQL needs the package [{missing.name}]: pip install 'inferd[postgresql]'"
        ) from None

    @sa.event.listens_for(engine, "connect")
    def set_timeouts(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET lock_timeout = {round(1000 * wait)}")
        cursor.execute(f"SET statement_timeout = {round(2000 * wait)}")
        cursor.close()
        connection.commit()

    return engine


def reading(engine: sa.Engine) -> sa.Connection:
    """A connection whose transaction sees one moment of the database."""
    connection = engine.connect()
    if engine.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ")
    return connection


def writing(engine: sa.Engine) -> sa.Connection:
    """A connection whose transaction may write."""
    return engine.connect().execution_options(writes=True)


def scrub(engine: sa.Engine) -> None:
    """Empties SQLite's write-ahead log, so that nothing overwritten stays in it. PostgreSQL vacuums by itself."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def place(url: str) -> str:
    """Where the store is, for an operator to read: without the password."""
    parsed = sa.make_url(url)
    return parsed.database or "memory" if parsed.get_backend_name() == "sqlite" else parsed.render_as_string()


def is_locked(bad: SQLAlchemyError) -> bool:
    return _sqlite_code(bad) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def fault(bad: SQLAlchemyError, wait: float) -> StorageError:
    """The driver's failure in our words; never with a statement, a parameter or a row in it."""
    match _sqlite_code(bad):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageError(f"the store is locked by another process; waited [{wait:g}s]", status=503)
        case sqlite3.SQLITE_FULL:
            return StorageError("the store cannot be written: the disk is full")
        case sqlite3.SQLITE_READONLY:
            return StorageError("the store cannot be written: it is read-only")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StorageError("the store is damaged: restore the database file from a backup")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            return StorageError(f"the store cannot be read or written: {_words(bad)}")
    return StorageError(f"the database refused: {_words(bad)}", status=503)


def _sqlite_code(bad: SQLAlchemyError) -> int | None:
    original = bad.orig if isinstance(bad, DBAPIError) else None
    code = original.sqlite_errorcode if isinstance(original, sqlite3.Error) else None
    return None if code is None else code & 0xFF  # the low byte; the rest says in which way


def _words(bad: SQLAlchemyError) -> str:
    """First line only: what follows may quote the row. pg8000 gives PostgreSQL's fields, M is the message."""
    original = bad.orig if isinstance(bad, DBAPIError) else bad
    said: Any = original.args[0] if original is not None and original.args else ""
    if isinstance(said, dict):
        said = said.get("M")
    return (str(said or "").splitlines() or [type(original).__name__])[0]
