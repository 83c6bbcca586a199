"""Slots and publications: what the server keeps for a consumer, and the commands for it.

Each command is a generator over a connection, as in ``connector.py``; a connection of
psycopg runs one with ``Connection.wait`` or ``await AsyncConnection.wait``.

Source: "Streaming Replication Protocol" and the view ``pg_replication_slots`` in the
PostgreSQL documentation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import generators, sql
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

from .config import Table, check_publication, check_slot
from .faults import require_version
from .lsn import LSN

Row = tuple[str | None, ...]

CONFLICT: Final = "it conflicted with recovery"
"""Why PostgreSQL 16 gave a slot up that it calls conflicting, and that has its WAL still."""


@dataclass(frozen=True)
class Slot:
    """A logical replication slot, as ``pg_replication_slots`` shows it.

    Attributes:
        confirmed_flush_lsn: Up to where the consumer has confirmed; ``None`` while the
            slot is being made.
        wal_status: ``reserved``, ``extended``, ``unreserved`` or ``lost``.
        lag: Bytes of WAL between ``confirmed_flush_lsn`` and the server's position.
        failover: Whether it is copied to standbys (PostgreSQL 17).
        synced: Whether it is such a copy.
        invalidation_reason: Why it cannot be read any more (PostgreSQL 17; 16 knows conflicts).
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
    failover: bool = False
    synced: bool = False
    invalidation_reason: str | None = None


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
    return rows_of((yield from execute(pgconn, statement)))


def rows_of(result: PGresult) -> list[Row]:
    """The rows of a result, as text."""
    rows: list[Row] = []
    for row in range(result.ntuples):
        values = [result.get_value(row, column) for column in range(result.nfields)]
        # A database in no known encoding may have names that are not UTF-8.
        rows.append(
            tuple([None if value is None else value.decode(errors="replace") for value in values])
        )
    return rows


def find_slots(pgconn: PGconn, name: str | None = None) -> PQGen[list[Slot]]:
    """The logical slots of the server, of all its databases; or the one of this name."""
    condition: sql.Composable = sql.SQL("slot_type = 'logical'")
    if name is not None:
        condition = sql.SQL("slot_name = {}").format(sql.Literal(name))
    later = "false, false, NULL"
    if pgconn.server_version >= 170000:
        later = "failover, synced, invalidation_reason"
    elif pgconn.server_version >= 160000:
        # It calls a slot conflicting whose WAL is gone, too; that has no restart_lsn.
        conflict = f"CASE WHEN conflicting AND restart_lsn IS NOT NULL THEN '{CONFLICT}' END"
        later = f"false, false, {conflict}"
    rows = yield from query(
        pgconn,
        sql.SQL(
            "SELECT slot_name, coalesce(plugin, ''), coalesce(database, ''), active_pid,"
            " confirmed_flush_lsn, restart_lsn, wal_status, two_phase,"
            " CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
            " ELSE pg_current_wal_lsn() END - confirmed_flush_lsn, {}"
            " FROM pg_catalog.pg_replication_slots WHERE {} ORDER BY slot_name"
        ).format(sql.SQL(later), condition),
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
            failover=failover == "t",
            synced=synced == "t",
            invalidation_reason=reason,
        )
        for (
            slot,
            plugin,
            database,
            pid,
            flush,
            restart,
            status,
            two_phase,
            lag,
            failover,
            synced,
            reason,
        ) in rows
    ]


@dataclass(frozen=True)
class System:
    """What a server says of itself, on a replication connection.

    Attributes:
        identifier: What ``initdb`` gave the cluster; standbys and restored copies share it.
        timeline: The timeline of its WAL: a promotion or a recovery to an earlier point
            begins a new one.
        position: Up to where it has written, or on a standby replayed, its WAL.
        in_recovery: Whether it is a standby.
    """

    identifier: str
    timeline: int
    position: LSN
    in_recovery: bool


def identify(pgconn: PGconn) -> PQGen[System]:
    """Ask the server who it is; needs a replication connection."""
    [(identifier, timeline, position, _)] = yield from query(pgconn, "IDENTIFY_SYSTEM")
    [(replayed,)] = yield from query(
        pgconn, "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END"
    )
    return System(
        identifier=str(identifier),
        timeline=int(timeline or 0),
        position=LSN(str(replayed if replayed is not None else position)),
        in_recovery=replayed is not None,
    )


def timeline_ends(pgconn: PGconn, timeline: int) -> PQGen[dict[int, LSN]]:
    """Where each timeline before this one ended; needs a replication connection."""
    result = yield from execute(pgconn, f"TIMELINE_HISTORY {timeline}")
    content = result.get_value(0, 1) or b""
    ends = {}
    for line in content.decode(errors="replace").splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0].isdigit():
            ends[int(fields[0])] = LSN(fields[1])
    return ends


def creation_command(
    server_version: int,
    name: str,
    *,
    two_phase: bool = False,
    failover: bool = False,
    snapshot: str = "nothing",
    temporary: bool = False,
) -> str:
    """The replication command that creates a logical slot for ``pgoutput``.

    Args:
        server_version: The server's, as libpq gives it.
        name: The slot's.
        two_phase: It sends prepared transactions when they are prepared.
        failover: It is copied to standbys.
        snapshot: ``"nothing"``, ``"export"`` or ``"use"``.
        temporary: It goes with the connection.

    Raises:
        ServerError: if the server is too old for an option.
    """
    check_slot(name)
    if two_phase:
        require_version(server_version, 15, "--two-phase")
    if failover:
        require_version(server_version, 17, "--failover")
    if server_version >= 150000:
        options = [f"SNAPSHOT '{snapshot}'", f"TWO_PHASE {'true' if two_phase else 'false'}"]
        if failover:
            options.append("FAILOVER true")
        how = f"({', '.join(options)})"
    else:
        words = {"nothing": "NOEXPORT_SNAPSHOT", "export": "EXPORT_SNAPSHOT", "use": "USE_SNAPSHOT"}
        how = words[snapshot]
    kept = "TEMPORARY " if temporary else ""
    return f"CREATE_REPLICATION_SLOT {name} {kept}LOGICAL pgoutput {how}"


def begin(pgconn: PGconn, command: str) -> PQGen[None]:
    """Send a command whose answer may take long; :func:`answer` waits for it."""
    pgconn.send_query(command.encode())
    while pgconn.flush() != 0:
        yield Wait.W


def answer(pgconn: PGconn, seconds: float) -> PQGen[list[Row] | None]:
    """The rows that the command sent by :func:`begin` gave; ``None`` if it takes longer."""
    deadline = time.monotonic() + seconds
    while pgconn.is_busy():
        if time.monotonic() >= deadline:
            return None
        if (yield Wait.R):
            pgconn.consume_input()
    results = yield from generators.fetch_many(pgconn)
    check(results)
    return rows_of(results[-1])


def who_blocks(pgconn: PGconn, pid: int) -> PQGen[str | None]:
    """What the process ``pid`` waits for while it creates a slot, in words."""
    rows = yield from query(
        pgconn,
        "SELECT p.gid, p.prepared, p.owner, a.pid, a.usename, a.application_name, a.xact_start,"
        " pg_is_in_recovery()"
        " FROM (VALUES (1)) AS one LEFT JOIN pg_catalog.pg_locks w ON w.pid = "
        f"{pid} AND NOT w.granted AND w.locktype = 'transactionid'"
        " LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = w.transactionid"
        " LEFT JOIN pg_catalog.pg_locks h ON h.locktype = 'transactionid' AND h.granted"
        " AND h.transactionid = w.transactionid AND h.pid IS NOT NULL"
        " LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = h.pid",
    )
    gid, prepared, owner, holder, user, application, since, standby = rows[0]
    if gid is not None:
        return (
            f"the prepared transaction {gid!r} of {owner}, since {prepared}:"
            f" COMMIT PREPARED or ROLLBACK PREPARED ends it"
        )
    if holder is not None:
        called = f", application {application!r}" if application else ""
        return (
            f"the transaction of PID {holder} (user {user!r}{called}), open since {since}:"
            f" SELECT pg_terminate_backend({holder}) ends it"
        )
    if standby == "t":
        return (
            "a record of the running transactions, which the primary writes from time to time:"
            " SELECT pg_log_standby_snapshot() on the primary writes one now"
        )
    return None


def enable_failover(pgconn: PGconn, name: str) -> PQGen[None]:
    """Have a slot that is there copied to standbys; needs a replication connection."""
    check_slot(name)
    require_version(pgconn.server_version, 17, "--failover")
    yield from execute(pgconn, f"ALTER_REPLICATION_SLOT {name} (FAILOVER true)")


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
