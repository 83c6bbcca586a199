"""What is missing or dangerous in a server's set-up, and the command that puts it right.

Each check stands on its own: one that cannot be made (a right is missing, a managed
service hides a view) says so, and does not keep the others from being made. Nothing
is changed on the server.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final, Literal, TypeAlias

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from .config import NAME_LIMIT, Config
from .faults import GRANT_REPLICATION
from .published import PublishedTable, published_tables
from .slots import CONFLICT

Level: TypeAlias = Literal["ok", "warning", "problem"]
Row: TypeAlias = dict[str, Any]

_OLDEST: Final = 14
_GIB: Final = 2**30
_DAY: Final = 86_400
_STATEMENT_TIMEOUT: Final = "10s"
_CONNECT_SECONDS: Final = 10
_TABLES_NAMED: Final = 10


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``problem``: streaming does not work, or it breaks something else;
            ``warning``: it works, but may not for ever; otherwise ``ok``.
        text: What was found.
        fix: A command to paste: SQL, or a shell's if it begins with ``pgstream`` or
            ``pg_isready``. Empty if there is nothing to do.
    """

    level: Level
    text: str
    fix: str = ""


class _Server:
    """A connection, and what several checks need to know."""

    def __init__(self, connection: psycopg.Connection[Row], config: Config) -> None:
        self.connection = connection
        self.config = config
        self.version = connection.info.server_version // 10000
        self.slot: Row | None = None
        self.standby = False
        self._published: list[PublishedTable] | None = None

    def rows(self, query: str, *parameters: object) -> list[Row]:
        return self.connection.execute(query.encode(), parameters or None).fetchall()

    def row(self, query: str, *parameters: object) -> Row:
        return self.rows(query, *parameters)[0]

    def published(self) -> list[PublishedTable]:
        if self._published is None:
            self._published = published_tables(self.connection, self.config.publications)
        return self._published

    def setting(self, name: str) -> str:
        return str(self.row("SELECT current_setting(%s) AS value", name)["value"])


def examine(config: Config) -> Iterator[Finding]:
    """Yield the findings about the server, the publications and the slot of ``config``.

    Never raises for what the server says or fails to do: that is a finding too.
    """
    try:
        connection = psycopg.connect(
            config.conninfo,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=_CONNECT_SECONDS,
            application_name="pgstream doctor",
        )
    except psycopg.Error as error:
        yield Finding(
            "problem",
            f"the server cannot be reached: {_reason(config, error)}",
            f"pg_isready --dbname={shlex.quote(config.safe_dsn)}",
        )
        return
    with connection:
        server = _Server(connection, config)
        for subject, check in _CHECKS:
            try:
                for finding in check(server):
                    yield _on_the_primary(finding) if server.standby else finding
            except psycopg.Error as error:
                yield Finding(
                    "warning", f"{subject} could not be looked at: {_reason(config, error)}"
                )
                if connection.closed:
                    return


def _check_server(server: _Server) -> Iterator[Finding]:
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


def _check_wal_level(server: _Server) -> Iterator[Finding]:
    level = server.setting("wal_level")
    if level == "logical":
        yield Finding("ok", "wal_level is logical")
    else:
        yield Finding(
            "problem",
            f"wal_level is {level}: the WAL does not hold what logical decoding needs",
            "ALTER SYSTEM SET wal_level = 'logical';  -- then restart the server",
        )


def _check_role(server: _Server) -> Iterator[Finding]:
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
            GRANT_REPLICATION.format(role=_quoted(row["rolname"])),
        )


def _check_free_slots(server: _Server) -> Iterator[Finding]:
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


def _check_free_senders(server: _Server) -> Iterator[Finding]:
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


def _check_timeout(server: _Server) -> Iterator[Finding]:
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


def _check_wal_limit(server: _Server) -> Iterator[Finding]:
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


def _check_slot(server: _Server) -> Iterator[Finding]:
    name = server.config.slot
    found = server.rows(
        "SELECT slots.*, current_database() AS here, age(catalog_xmin) AS catalog_age, "
        "(position - confirmed_flush_lsn)::bigint AS behind, "
        "(position - restart_lsn)::bigint AS held "
        "FROM pg_replication_slots AS slots, (SELECT CASE WHEN pg_is_in_recovery() "
        "THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS position) AS wal "
        "WHERE slot_name = %s",
        name,
    )
    if not found:
        names = list(server.config.publications)
        present = server.rows("SELECT FROM pg_publication WHERE pubname = ANY (%s)", names)
        first = "" if len(present) == len(names) else "  # when the publications are there, below"
        yield Finding(
            "warning",
            f"slot {name} is not there yet: only what is committed after it was created is read",
            f"pgstream slot create {name}{first}",
        )
        return
    server.slot = slot = found[0]
    another = f"{name[: NAME_LIMIT - 2]}_2"
    beside = f"pgstream slot create {another}  # and read from it: this one is another reader's"
    if slot["plugin"] != "pgoutput":
        plugin = slot["plugin"] or "none, it is a physical slot"
        yield Finding(
            "problem", f"slot {name} has another output plugin than pgoutput: {plugin}", beside
        )
    elif slot["database"] != slot["here"]:
        yield Finding(
            "problem",
            f"slot {name} belongs to the database {slot['database']}, not to {slot['here']}",
            beside,
        )
    elif slot["wal_status"] == "lost" or slot.get("invalidation_reason") or slot.get("conflicting"):
        reason = slot.get("invalidation_reason") or (
            CONFLICT if slot.get("conflicting") and slot["restart_lsn"] else "its WAL was removed"
        )
        yield Finding(
            "problem",
            f"slot {name} is lost ({reason}): what was not read before cannot be read any more",
            f"pgstream slot drop {name} && pgstream run --slot {name} --snapshot"
            "  # a copy of the tables, for there is a gap",
        )
    else:
        yield from _check_slot_lag(server, slot)


def _check_slot_lag(server: _Server, slot: Row) -> Iterator[Finding]:
    text = f"slot {slot['slot_name']} is "
    idle = 0
    if slot["active"]:
        text += f"being read by the server process {slot['active_pid']}"
    elif slot.get("inactive_since") is None:
        text += "not being read"
    else:
        idle = server.row(
            "SELECT extract(epoch FROM now() - %s::timestamptz)::bigint AS seconds",
            slot["inactive_since"],
        )["seconds"]
        text += f"not being read since {slot['inactive_since']:%Y-%m-%d %H:%M:%S %Z}"
    text += f", {_size(slot['behind'])} behind, and holds {_size(slot['held'])} of WAL"
    fix = f"pgstream run --slot {slot['slot_name']}"
    if slot["wal_status"] == "unreserved":
        yield Finding(
            "warning", f"{text}; it is lost at the next checkpoint unless it is read", fix
        )
    elif slot["wal_status"] == "extended":
        yield Finding("warning", f"{text}, more than max_wal_size", fix)
    elif not slot["active"] and (slot["held"] > _GIB or idle > _DAY):
        yield Finding("warning", text, fix)
    else:
        yield Finding("ok", text)


def _check_prepared(server: _Server) -> Iterator[Finding]:
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


def _check_publications(server: _Server) -> Iterator[Finding]:
    for name in server.config.publications:
        found = server.rows(
            "SELECT *, age(xmin) AS age FROM pg_publication WHERE pubname = %s", name
        )
        if found:
            yield from _check_publication(server, found[0])
            yield from _check_publication_age(server, found[0])
        else:
            yield Finding(
                "problem",
                f"publication {name} does not exist",
                f"CREATE PUBLICATION {_quoted(name)} FOR ALL TABLES;",
            )


def _check_publication(server: _Server, publication: Row) -> Iterator[Finding]:
    name = publication["pubname"]
    tables = server.rows(
        "SELECT schemaname AS schema, tablename AS table FROM pg_publication_tables "
        "WHERE pubname = %s ORDER BY 1, 2",
        name,
    )
    if not tables and not publication["puballtables"]:
        yield Finding(
            "warning",
            f"publication {name} has no table",
            f"ALTER PUBLICATION {_quoted(name)} ADD TABLE schema.table;",
        )
        return
    names = [f"{row['schema']}.{row['table']}" for row in tables]
    if len(names) > _TABLES_NAMED:
        names[_TABLES_NAMED:] = [f"and {len(names) - _TABLES_NAMED} more"]
    text = f"publication {name} has " + ("all tables" if publication["puballtables"] else "")
    text += (" (" + ", ".join(names) + ")") if publication["puballtables"] else ", ".join(names)
    missing = [
        op for op in ("insert", "update", "delete", "truncate") if not publication[f"pub{op}"]
    ]
    if missing:
        text += f", but does not publish {' and '.join(missing)}"
    yield Finding("ok", text)


def _check_publication_age(server: _Server, publication: Row) -> Iterator[Finding]:
    """Compare what wrote the publication with the oldest catalog state that the slot may need.

    Publications are looked up as they were at the position being decoded.
    """
    slot = server.slot
    if slot is None or slot["catalog_age"] is None:
        return
    name, position = publication["pubname"], slot["confirmed_flush_lsn"]
    # age() counts transactions backwards from now, and so minds the wrap-around.
    if 0 <= publication["age"] <= slot["catalog_age"]:
        consequence = (
            "changes from before that are left out by the server, and the stream stops there"
            if server.version >= 18
            else "changes from before that end the stream with 'publication does not exist'"
        )
        yield Finding(
            "warning",
            f"publication {name} may have been created or altered after {position}, where slot "
            f"{slot['slot_name']} stands: {consequence}",
            f"pgstream slot drop {slot['slot_name']} && pgstream slot create {slot['slot_name']}"
            "  # gives up what was not read yet",
        )
        return
    membership = "SELECT min(age(xmin)) AS age FROM pg_publication_rel WHERE prpubid = %s"
    parameters = [publication["oid"]]
    if server.version >= 15:
        membership = (
            f"SELECT least(({membership}), (SELECT min(age(xmin)) "
            "FROM pg_publication_namespace WHERE pnpubid = %s)) AS age"
        )
        parameters *= 2
    age = server.row(membership, *parameters)["age"]
    if age is not None and 0 <= age <= slot["catalog_age"]:
        yield Finding(
            "warning",
            f"tables may have been added to publication {name} after {position}, where slot "
            f"{slot['slot_name']} stands: their changes from before that are left out",
        )


def _check_identities(server: _Server) -> Iterator[Finding]:
    """Look for tables whose UPDATE and DELETE fail because of how they are published."""
    tables = server.published()
    found = []
    for _, group in groupby(tables, key=lambda table: table.table):
        found += list(_refusals(server, list(group)))
    if tables and not found:
        yield Finding("ok", "each published table has a replica identity")
    yield from found


def _refusals(server: _Server, published: list[PublishedTable]) -> Iterator[Finding]:
    """Say what the server makes of one table, in each of its publications."""
    table, full = published[0].table, _takes_full(server, published)
    if not published[0].has_identity:
        yield Finding(
            "problem",
            f"table {table} has no replica identity: since it is published, {_failing(published)}",
            _identify(published, "FULL", "or give it a primary key")
            if full
            else _identify(published, "DEFAULT", "with a primary key, of columns that are sent"),
        )
        return
    for each in published:
        publication, consequence = each.publication, _failing([each])
        if each.is_full and each.listed is not None:
            yield Finding(
                "problem",
                f"table {table} has the replica identity FULL, with which a list of columns, as "
                f"publication {publication} has it, is not taken: {consequence}",
                _identify([each], "DEFAULT", "with a primary key, of columns that are listed"),
            )
        elif each.not_listed:
            yield Finding(
                "problem",
                f"publication {publication} does not list {', '.join(each.not_listed)} of "
                f"table {table}, of its replica identity: {consequence}",
                _list_more(server, each),
            )
        elif each.identity_not_published and server.version >= 18:
            yield Finding(
                "problem",
                f"publication {publication} does not publish the generated "
                f"{', '.join(each.identity_not_published)} of table {table}, of its replica "
                f"identity: {consequence}",
                _identify([each], "DEFAULT", "with a primary key")
                if each.has_virtual
                else f"ALTER PUBLICATION {_quoted(publication)} "
                "SET (publish_generated_columns = stored);  -- of all its tables",
            )
        if each.filtered_not_in_key:
            yield Finding(
                "problem",
                f"publication {publication} has {', '.join(each.filtered_not_in_key)} in the WHERE "
                f"of table {table}, outside of its replica identity: {consequence}",
                _identify([each], "FULL", "or an index that holds what WHERE names")
                if full
                else _identify([each], "USING INDEX …", "one that holds what WHERE names, too"),
            )


def _takes_full(server: _Server, published: list[PublishedTable]) -> bool:
    """Say whether REPLICA IDENTITY FULL is no mistake for this table."""
    unpublished = server.version >= 18 and any(each.unpublished for each in published)
    return not unpublished and not published[0].lists


def _failing(published: list[PublishedTable]) -> str:
    if not any(each.deletes for each in published):
        return "UPDATE on it fails"
    if not any(each.updates for each in published):
        return "DELETE on it fails"
    return "UPDATE and DELETE on it fail"


def _identify(published: list[PublishedTable], identity: str, comment: str = "") -> str:
    """Change the identity of a table, and of what it is published as: they are to be the same."""
    table = published[0].table
    roots = dict.fromkeys(each.root for each in published if each.root != table)
    statements = [f"ALTER TABLE {name} REPLICA IDENTITY {identity};" for name in (*roots, table)]
    return " ".join(statements) + (f"  -- {comment}" if comment else "")


def _list_more(server: _Server, published: PublishedTable) -> str:
    """List the columns of the replica identities, too, of all partitions if there are some."""
    if server.version < 18 and not set(published.not_listed).isdisjoint(published.unpublished):
        return _identify([published], "DEFAULT", "with a primary key, of columns that are listed")
    publication, root = published.publication, published.root
    names = dict.fromkeys(published.listed or ())
    for other in server.published():
        if (other.publication, other.root) == (publication, root):
            names |= dict.fromkeys(other.not_listed)
    # A list cannot be altered. In one transaction, so that no change falls between the two.
    alter = f"ALTER PUBLICATION {_quoted(publication)}"
    add = f"{alter} ADD TABLE ONLY {root} ({', '.join(map(_quoted, names))})"
    if published.condition is not None:
        add += f" WHERE ({published.condition})"
    return f"BEGIN; {alter} DROP TABLE ONLY {root}; {add}; COMMIT;"


def _check_partitions(server: _Server) -> Iterator[Finding]:
    """Look for partitions whose old rows are not what the table that they are published as says."""
    named = set()
    for each in server.published():
        root, leaf = each.root, each.table
        if each.identity == each.root_identity or (root, leaf) in named:
            continue
        named.add((root, leaf))
        if each.root_identity == "d":
            fix = f"ALTER TABLE {leaf} REPLICA IDENTITY DEFAULT;"
        elif not _takes_full(server, [each]):
            fix = _identify([each], "DEFAULT", "with a primary key, of columns that are sent")
        elif each.root_identity == "f":
            fix = f"ALTER TABLE {leaf} REPLICA IDENTITY FULL;"
        else:
            fix = _identify([each], "FULL")
        yield Finding(
            "warning",
            f"partition {leaf} has another replica identity than {root}, as which it is published:"
            " old rows of it lack values, or have NULL for them",
            fix,
        )


def _check_unlogged(server: _Server) -> Iterator[Finding]:
    unlogged = server.rows(
        "SELECT nspname AS schema, relname AS table FROM pg_class "
        "JOIN pg_namespace AS namespace ON namespace.oid = relnamespace "
        "WHERE relkind = 'r' AND relpersistence = 'u' "
        "AND EXISTS (SELECT FROM pg_publication WHERE pubname = ANY (%s) AND puballtables) "
        "ORDER BY 1, 2",
        list(server.config.publications),
    )
    for row in unlogged:
        yield Finding(
            "warning",
            f"table {row['schema']}.{row['table']} is unlogged: its changes are not in the WAL",
            f"ALTER TABLE {_quoted(row['schema'], row['table'])} SET LOGGED;",
        )


_CHECKS: Final[tuple[tuple[str, Callable[[_Server], Iterator[Finding]]], ...]] = (
    ("the server", _check_server),
    ("wal_level", _check_wal_level),
    ("the role", _check_role),
    ("the slot", _check_slot),
    ("the number of slots", _check_free_slots),
    ("the number of WAL senders", _check_free_senders),
    ("wal_sender_timeout", _check_timeout),
    ("the limit of the WAL", _check_wal_limit),
    ("prepared transactions", _check_prepared),
    ("the publications", _check_publications),
    ("replica identities", _check_identities),
    ("partitions", _check_partitions),
    ("unlogged tables", _check_unlogged),
)


def _on_the_primary(finding: Finding) -> Finding:
    """The finding about a standby, which takes no SQL but for its own settings."""
    if not finding.fix or finding.fix.startswith(("ALTER SYSTEM ", "pgstream ")):
        return finding
    statement, comment, rest = finding.fix.rpartition("  -- ")
    if not comment:
        return replace(finding, fix=f"{finding.fix}  -- on the primary")
    return replace(finding, fix=f"{statement}  -- on the primary; {rest}")


def _quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string()


def _size(count: int | None) -> str:
    if count is None:
        return "an unknown amount"
    for unit in ("bytes", "kB", "MB"):
        if abs(count) < 10 * 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GB"


def _reason(config: Config, error: psycopg.Error) -> str:
    """Return what the server or libpq said, on one line and without the password."""
    message = error.diag.message_primary or str(error)
    return " ".join(config.redact(message).split())
