"""The tables as the newest migration leaves them.

A record (an endpoint, a user, …) is one JSON document in ``body``: bytes, because PostgreSQL's text refuses NUL, which
JSON strings may hold. ``version`` changes when the record does (compare-and-set); ``stamp`` is the value that
``state.counter`` had when the row was written, so that another process finds what is new with one comparison.
"""

import sqlalchemy as sa

METADATA = sa.MetaData()


def _records(name: str) -> sa.Table:
    return sa.Table(
        name,
        METADATA,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("stamp", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),  # milliseconds since 1970
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Index(f"{name}_stamp", "stamp"),
    )


ENDPOINTS = _records("endpoints")
REGION_POLICY = _records("region_policy")
USERS = _records("users")
ROLES = _records("roles")
API_KEYS = _records("api_keys")

SECRETS = sa.Table(
    "secrets",
    METADATA,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)
"""What must not be read at rest, apart from its owner and sealed by ``secretbox``."""

STATE = sa.Table(
    "state",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
)
"""One row: how many writes there were, and the key that new secrets are sealed with ('' until the first start)."""

SCHEMA_VERSION = sa.Table("schema_version", METADATA, sa.Column("version", sa.Integer, nullable=False))
