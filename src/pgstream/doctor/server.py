"""Checks of the server: its version, its settings, the role, what is taken of its limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from psycopg import sql

from ..faults import GRANT_REPLICATION
from .findings import Finding, Server, quoted

_OLDEST: Final = 14
_STATEMENT_TIMEOUT: Final = "10s"


def check_server(server: Server) -> Iterator[Finding]:
    server.connection.execute(f"SET statement_timeout = '{_STATEMENT_TIMEOUT}'".encode())
    row = server.row(
        "SELECT current_setting('server_version') AS version, current_database() AS database, "
        "current_user AS role, pg_is_in_recovery() AS standby"
    )
    server.standby = row["standby"]
    where = f"PostgreSQL {row['version']}, database {row['database']}, role {row['role']}"
    if server.version < _OLDEST:
        yield Finding("problem", f"{where}: versions before {_OLDEST} are not supported")
    elif row["standby"] and server.version < 16:
        yield Finding(
            "problem", f"{where}: a standby, which has logical slots from PostgreSQL 16 on only"
        )
    elif row["standby"]:
        yield Finding("ok", f"{where}: a standby")
    else:
        yield Finding("ok", where)


def check_wal_level(server: Server) -> Iterator[Finding]:
    level = server.setting("wal_level")
    if level == "logical":
        yield Finding("ok", "wal_level is logical")
    else:
        yield Finding(
            "problem",
            f"wal_level is {level}: the WAL does not hold what logical decoding needs",
            "ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server",
        )


def check_role(server: Server) -> Iterator[Finding]:
    # Some managed services let the members of a role of their own replicate.
    row = server.row(
        "SELECT rolname, rolsuper OR rolreplication OR EXISTS (SELECT FROM pg_roles AS service "
        "WHERE service.rolname = 'rds_replication' AND pg_has_role(service.oid, 'MEMBER')) "
        "AS allowed FROM pg_roles WHERE rolname = current_user"
    )
    if row["allowed"]:
        yield Finding("ok", f"role {row['rolname']} may replicate")
    else:
        yield Finding(
            "problem",
            f"role {row['rolname']} may not replicate",
            GRANT_REPLICATION.format(role=quoted(row["rolname"])),
        )


def check_free_slots(server: Server) -> Iterator[Finding]:
    limit = int(server.setting("max_replication_slots"))
    used = server.row("SELECT count(*) AS used FROM pg_replication_slots")["used"]
    ours = server.rows("SELECT FROM pg_replication_slots WHERE slot_name = %s", server.config.slot)
    text = f"{used} of {limit} replication slots are taken"
    fix = f"ALTER SYSTEM SET max_replication_slots = {limit + 10};  -- then restart the server"
    if ours or limit - used > 1:
        yield Finding("ok", text)
    elif used < limit:
        yield Finding("warning", f"{text}: an initial copy needs two free ones for a moment", fix)
    else:
        yield Finding("problem", f"{text}: none is left for {server.config.slot}", fix)


def check_free_senders(server: Server) -> Iterator[Finding]:
    limit = int(server.setting("max_wal_senders"))
    used = server.row("SELECT count(*) AS used FROM pg_stat_replication")["used"]
    reading = server.slot is not None and server.slot["active"]
    text = f"{used} of {limit} WAL senders are busy"
    if used < limit or reading:
        yield Finding("ok", text)
    else:
        yield Finding(
            "problem",
            f"{text}: none is left to connect to",
            f"ALTER SYSTEM SET max_wal_senders = {limit + 10};  -- then restart the server",
        )


def check_timeout(server: Server) -> Iterator[Finding]:
    row = server.row(
        "SELECT setting::int AS ms, current_setting('wal_sender_timeout') AS text "
        "FROM pg_settings WHERE name = 'wal_sender_timeout'"
    )
    least = 2 * server.config.status_interval
    fix = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();"
    if row["ms"] == 0:
        yield Finding(
            "warning",
            "wal_sender_timeout is 0: a reader that vanished without a word keeps the slot busy",
            fix,
        )
    elif row["ms"] < least * 1000:
        yield Finding(
            "warning",
            f"wal_sender_timeout is {row['text']}: less than {least:g} s, twice the interval of "
            "the status updates; a handler that takes longer over one event loses the connection",
            fix,
        )
    else:
        yield Finding("ok", f"wal_sender_timeout is {row['text']}")


def check_wal_limit(server: Server) -> Iterator[Finding]:
    limit = server.setting("max_slot_wal_keep_size")
    if limit == "-1":
        yield Finding(
            "warning",
            "max_slot_wal_keep_size is unlimited: while nobody reads from a slot, its WAL piles "
            "up until the disk is full (with a limit the slot is lost instead)",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();",
        )
    else:
        yield Finding("ok", f"max_slot_wal_keep_size is {limit}: a slot that holds more is lost")
    if server.version >= 18 and (idle := server.setting("idle_replication_slot_timeout")) != "0":
        yield Finding(
            "warning",
            f"idle_replication_slot_timeout is {idle}: a slot is lost if not read so long",
        )


def check_prepared(server: Server) -> Iterator[Finding]:
    prepared = server.rows(
        "SELECT gid, database, extract(epoch FROM now() - prepared)::bigint AS seconds "
        "FROM pg_prepared_xacts ORDER BY prepared"
    )
    for row in prepared:
        gid = sql.Literal(row["gid"]).as_string()
        text = (
            f"the prepared transaction {gid} in database {row['database']} has been open for "
            f"{row['seconds']} s"
        )
        fix = f"COMMIT PREPARED {gid};  -- or ROLLBACK; in database {row['database']}"
        if server.slot is None:
            yield Finding("problem", f"{text}: a slot cannot be created before it ends", fix)
        else:
            yield Finding("warning", f"{text}: WAL is kept for it", fix)
