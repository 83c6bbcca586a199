"""The slot of a copy: temporary while it lasts, permanent once all of it is handled."""

from __future__ import annotations

import os
from typing import Final

from psycopg import sql
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn

from .. import slots

# The replication connection does nothing while the copy lasts, and must live through it.
_PATIENT: Final = (
    "SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0;"
    " SET statement_timeout = 0"
)


def temporary_name(slot: str) -> str:
    """A name for the temporary slot of a copy that is meant for ``slot``."""
    return f"{slot[:46]}_copy_{os.urandom(4).hex()}"


def be_patient(pgconn: PGconn) -> PQGen[None]:
    """Let no timeout, as a database or a role may set, end the session of the slot."""
    yield from slots.execute(pgconn, _PATIENT)
    if pgconn.server_version >= 170000:
        yield from slots.execute(pgconn, "SET transaction_timeout = 0")


def use(pgconn: PGconn, temporary: str) -> PQGen[None]:
    """Use the temporary slot, which changes nothing.

    The server has to keep it: ``idle_replication_slot_timeout`` (PostgreSQL 18) counts the time
    since a slot was used last, also for one whose session lives.
    """
    nothing = "SELECT 1"
    if pgconn.server_version >= 180000:
        nothing = f"ALTER_REPLICATION_SLOT {temporary} (FAILOVER false)"
    yield from slots.execute(pgconn, nothing)


def slots_left(pgconn: PGconn) -> PQGen[int]:
    """How many more replication slots the server has room for."""
    [(left,)] = yield from slots.query(
        pgconn,
        "SELECT current_setting('max_replication_slots')::int - count(*)"
        " FROM pg_catalog.pg_replication_slots",
    )
    return int(left or 0)


def make_permanent(pgconn: PGconn, temporary: str, slot: str, *, failover: bool) -> PQGen[None]:
    """Make a permanent slot at the position of a temporary one, which is dropped.

    It has to happen on the connection that made the temporary one.

    Raises:
        psycopg.Error: what the server answered, such as that the slot is there by now.
    """
    copy = sql.SQL("SELECT pg_copy_logical_replication_slot({}, {}, false)")
    yield from slots.execute(pgconn, copy.format(sql.Literal(temporary), sql.Literal(slot)))
    if failover:
        yield from slots.execute(pgconn, f"ALTER_REPLICATION_SLOT {slot} (FAILOVER true)")
    yield from slots.execute(pgconn, f"DROP_REPLICATION_SLOT {temporary}")
