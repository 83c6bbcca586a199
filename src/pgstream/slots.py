"""Slots and publications: what the server keeps for a consumer, and the commands for it.

Each command is a generator over a connection, as in ``connector.py``; a connection of
psycopg runs one with ``Connection.wait`` or ``await AsyncConnection.wait``.

Source: "Streaming Replication Protocol" and the view ``pg_replication_slots`` in the
PostgreSQL documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import generators, sql
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from .config import Table, check_publication, check_slot
from .faults import require_version
from .lsn import LSN

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Slot:
    """A logical replication slot, as ``pg_replication_slots`` shows it.

    Attributes:
        confirmed_flush_lsn: Up to where the consumer has confirmed; ``None`` while the
            slot is being made.
        wal_status: ``reserved``, ``extended``, ``unreserved`` or ``lost``.
        lag: Bytes of WAL between ``confirmed_flush_lsn`` and the server's position.
    """

    name: str
    plugin: str
    database: str
    active_pid: int | None
    confirmed_flush_lsn: LSN | None
    restart_lsn: LSN | None
    wal_status: str | None
    two_phase: bool
    lag: int | None


def execute(pgconn: PGconn, statement: str | sql.Composable) -> PQGen[PGresult]:
    """Run SQL or a replication command by the simple query protocol, the only one that a
    replication connection knows. Returns the last result.

    Raises:
        psycopg.Error: what the server answered.
    """
    text = statement if isinstance(statement, str) else statement.as_string(None)
    pgconn.send_query(text.encode())
    results = yield from generators.execute(pgconn)
    check(results)
    last: PGresult = results[-1]
    return last


def check(results: Sequence[PGresult]) -> None:
    """Raise the first result that is an error."""
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")


def query(pgconn: PGconn, statement: str | sql.Composable) -> PQGen[list[Row]]:
    """The rows that a statement gives, as text; raises as :func:`execute` does."""
    result = yield from execute(pgconn, statement)
    rows: list[Row] = []
    for row in range(result.ntuples):
        values = [result.get_value(row, column) for column in range(result.nfields)]
        rows.append(tuple([None if value is None else value.decode() for value in values]))
    return rows


def find_slots(pgconn: PGconn, name: str | None = None) -> PQGen[list[Slot]]:
    """The logical slots of the server, of all its databases; or the one of this name."""
    condition: sql.Composable = sql.SQL("slot_type = 'logical'")
    if name is not None:
        condition = sql.SQL("slot_name = {}").format(sql.Literal(name))
    rows = yield from query(
        pgconn,
        sql.SQL(
            "SELECT slot_name, coalesce(plugin, ''), coalesce(database, ''), active_pid,"
            " confirmed_flush_lsn, restart_lsn, wal_status, two_phase,"
            " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
            " ELSE pg_current_wal_lsn() END - confirmed_flush_lsn"
            " FROM pg_catalog.pg_replication_slots WHERE {} ORDER BY slot_name"
        ).format(condition),
    )
    return [
        Slot(
            name=str(slot),
            plugin=str(plugin),
            database=str(database),
            active_pid=None if pid is None else int(pid),
            confirmed_flush_lsn=None if flush is None else LSN(flush),
            restart_lsn=None if restart is None else LSN(restart),
            wal_status=status,
            two_phase=two_phase == "t",
            lag=None if lag is None else int(lag),
        )
        for slot, plugin, database, pid, flush, restart, status, two_phase, lag in rows
    ]


def create_slot(pgconn: PGconn, name: str, *, two_phase: bool = False) -> PQGen[LSN]:
    """Create a logical slot for ``pgoutput``; needs a replication connection.

    It waits until every transaction that is open now has ended, prepared ones included.

    Returns:
        The position from which on the slot has every change.

    Raises:
        ServerError: if the server is too old for ``two_phase``.
    """
    check_slot(name)
    if two_phase:
        require_version(pgconn.server_version, 15, "--two-phase")
    if pgconn.server_version >= 150000:
        options = f"(SNAPSHOT 'nothing', TWO_PHASE {'true' if two_phase else 'false'})"
    else:
        options = "NOEXPORT_SNAPSHOT"
    rows = yield from query(pgconn, f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput {options}")
    return LSN(str(rows[0][1]))


def drop_slot(pgconn: PGconn, name: str) -> PQGen[None]:
    """Drop a slot, and with it the position that its consumer had reached."""
    check_slot(name)
    yield from query(
        pgconn, sql.SQL("SELECT pg_drop_replication_slot({})").format(sql.Literal(name))
    )


def missing_publications(pgconn: PGconn, names: Sequence[str]) -> PQGen[list[str]]:
    """Those of the publications that are not there."""
    rows = yield from query(
        pgconn,
        sql.SQL("SELECT pubname FROM pg_catalog.pg_publication WHERE pubname IN ({})").format(
            sql.SQL(", ").join(map(sql.Literal, names))
        ),
    )
    present = {row[0] for row in rows}
    return [name for name in names if name not in present]


def create_publication_sql(name: str, tables: Sequence[Table]) -> sql.Composed:
    """The statement that makes a publication of the tables, or of all when none is named."""
    check_publication(name)
    what: sql.Composable = sql.SQL("ALL TABLES")
    if tables:
        named = [sql.Identifier(schema, table) for schema, table in tables]
        what = sql.SQL("TABLE {}").format(sql.SQL(", ").join(named))
    return sql.SQL("CREATE PUBLICATION {} FOR {}").format(sql.Identifier(name), what)
