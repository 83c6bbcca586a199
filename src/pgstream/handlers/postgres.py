"""Applies changes to another PostgreSQL, and keeps the position in the same transaction.

So the effect is exactly once: what is stored and how far it goes cannot come apart.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from .. import faults
from ..config import Config
from ..errors import HandlerError, PgstreamError
from ..lsn import LSN
from ..messages import (
    Begin,
    BeginPrepare,
    Commit,
    CommitPrepared,
    Delete,
    Event,
    Insert,
    JSONLines,
    Relation,
    RollbackPrepared,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    Truncate,
    Update,
)
from .former import check_sent, former_values, not_told
from .target import Row, TargetTable, Text

_MANY: Final = 20  # rows for one table in a row that are worth a COPY
_ROWS: Final = 1000  # changes that are sent to the target in one transaction, about
_CHARACTERS: Final = 16 * 2**20  # and their size

# The texts of values mean what they meant at the source only with the same settings.
_SESSION: Final = (
    "SET client_encoding = 'UTF8'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';"
    " SET timezone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 3;"
    " SET lc_monetary = 'C';"
    " SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0;"
    " SET idle_in_transaction_session_timeout = 0; SET xmloption = 'content'; SET array_nulls = on;"
    # What is stored must stay stored; a stronger setting is left as it is.
    " SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)

_LOST: Final = ("08", "57P")  # SQLSTATEs of a connection that is no more

_POSITIONS: Final = """
CREATE TABLE IF NOT EXISTS {table} (
    consumer text PRIMARY KEY,
    lsn pg_lsn,  -- NULL while nothing is stored, or half a snapshot
    stored_at timestamptz NOT NULL DEFAULT now()
)"""

# IF NOT EXISTS looks before another session has made the table; then it depends on how far that
# session has come: its name, that of its type, or both in an index of the catalog.
_MADE_MEANWHILE: Final = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
)


@dataclass(frozen=True)
class _Change:
    """One statement to run, and the change that it comes of."""

    statement: str
    values: tuple[Text, ...]
    label: str
    lsn: LSN
    one_row: bool = True
    kept: tuple[str, ...] = ()  # of an UPDATE: what it cannot set, and must have found
    copy: str = ""  # for an INSERT: the COPY that does the same to many rows

    @property
    def size(self) -> int:
        return sum([len(value) for value in self.values if value is not None])


class PostgresHandler:
    """Applies the changes of a stream to another PostgreSQL database, exactly once.

    The tables must be there, under the same names, with the columns that are published.
    Changes are applied in commit order, several small transactions of the source in one
    of the target, together with the position, which stands in a table of its own.
    Use it with ``connect(values="text").run(handler)``: PostgreSQL's own text is the one
    form that every value of every type has exactly; typed values are refused.

    A row is found by the replica identity that the source sends; under FULL by the
    target's primary key, or, where there is none, by the text of all its columns.
    A change whose row is not there is an error: the target is not a copy of the source.
    So is a new value of a column that is GENERATED ALWAYS AS IDENTITY in the target, which an
    UPDATE cannot set, and a row that a trigger of the target leaves out.
    TRUNCATE empties the tables that the source names, and no others: it is sent without
    CASCADE, and where a foreign key of another table of the target refers to one of them,
    also an empty one, it is an error.

    Args:
        dsn: The target. Not the database that is read from, unless its tables are elsewhere.
        name: The consumer: under which name the position is kept. One process at a time
            may use it; of two one fails, and nothing is stored twice.
        positions: The table that keeps positions, ``schema.table``. It is made if it is
            not there.
        triggers: Fire the target's triggers and check its foreign keys, as for any other
            session. By default they are left out, as PostgreSQL's own subscriptions do:
            their effects at the source arrive as changes of their own. That needs the
            right to set ``session_replication_role``.
        origin: The replication origin that everything it writes bears, so that who reads
            the target can tell it apart and leave it out: a stream with ``origin="none"``,
            a subscription. It is made if it is not there, and belongs to one session at a
            time. Without it, what comes here looks like the target's own.

    Raises:
        HandlerError: if the target cannot be reached or lacks a right, a table, a column
            or a row.
    """

    requires: Final = {"values": "text", "changes": "events"}

    def __init__(
        self,
        dsn: str,
        *,
        name: str = "pgstream",
        positions: str = "public.pgstream_positions",
        triggers: bool = False,
        origin: str | None = None,
    ) -> None:
        self._consumer = name
        schema, _, table = positions.rpartition(".")
        self._positions = sql.Identifier(*([schema, table] if schema else [table]))
        self._targets: dict[int, tuple[Relation, TargetTable]] = {}
        self._open: list[_Change] | None = None  # of the transaction that is being received
        self._waiting: list[_Change] = []  # of whole transactions that are not stored yet
        self._size = 0  # of what is open and of what is waiting
        self._stored: LSN | None = None
        self._version = ""  # of the row that holds the position: another one is another process's
        self._whole: LSN | None = None  # the end of the last that is stored or waiting
        self._skipping = False
        self._spilled = False  # the open transaction has a transaction of the target to itself
        self._copying: _Copying | None = None
        self._connection = _connect(dsn)
        try:
            self._prepare(triggers, origin)
        except BaseException:
            self._connection.close()
            raise

    def position(self) -> LSN | None:
        """The end of the last transaction that the target holds; ``None`` if there is none."""
        return self._stored

    def __call__(self, event: Event, /) -> None:
        """Take an event. What it changes is stored with its transaction, at :meth:`flush`."""
        match event:
            case Insert() | Update() | Delete() | Truncate():
                if not self._skipping:
                    self._change(event)
            case Begin():
                if self._spilled:
                    # It was half received before a reconnection, and comes again.
                    self._roll_back()
                # Half of one that waited is dropped for the same reason.
                self._size -= sum(change.size for change in self._open or ())
                self._open = []
                self._skipping = self._whole is not None and event.commit_lsn < self._whole
            case Commit():
                self._commit(event)
            case SnapshotRow():
                if self._copying is None:
                    raise HandlerError("a row of a snapshot came before its SnapshotBegin")
                with self._failures(event.relation, event.lsn):
                    target = self._target(event.relation)
                if self._copying.add(target, event.new):
                    self._send_copied(self._copying)
            case SnapshotBegin():
                self._begin_copy(event)
            case SnapshotEnd():
                self._end_copy(event)
            case JSONLines():
                raise HandlerError(
                    "a change came as a line of JSON, which cannot be applied",
                    "connect without changes='json'",
                )
            case BeginPrepare() | CommitPrepared() | RollbackPrepared():
                raise HandlerError(
                    "prepared transactions cannot be applied to the target",
                    "connect without two_phase: they arrive when they are committed",
                )

    def flush(self) -> None:
        """Store what is waiting: all whole transactions that were received."""
        if not self._spilled:
            self._store()

    def advance(self, lsn: LSN) -> None:
        """Store a position before which nothing is missing: what came was for other tables."""
        if self._open is None and self._copying is None:
            self._whole = max(lsn, self._whole or lsn)
            self._store()

    def close(self) -> None:
        """Close the connection. What was not flushed is not stored, and comes again."""
        self._connection.close()

    def __enter__(self) -> PostgresHandler:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # The target

    def _prepare(self, triggers: bool, origin: str | None) -> None:
        table = sql.SQL(_POSITIONS).format(table=self._positions)
        with self._failures():
            self._connection.execute(_SESSION)
            if self._connection.info.server_version >= 170000:
                self._connection.execute("SET transaction_timeout = 0")
            if not triggers:
                try:
                    self._connection.execute("SET session_replication_role = 'replica'")
                except psycopg.errors.InsufficientPrivilege:
                    raise HandlerError(
                        "the role may not set session_replication_role on the target",
                        "GRANT SET ON PARAMETER session_replication_role TO the_role;"
                        "  -- PostgreSQL 15; or pass triggers=True",
                    ) from None
            if origin is not None:  # before anything is written
                self._bear(origin)
            known = self._connection.execute(
                "SELECT to_regclass($1) IS NOT NULL", [self._positions.as_string(None)]
            ).fetchone()
            if known != (True,):  # asked first: CREATE needs a right that later runs may lack
                with contextlib.suppress(*_MADE_MEANWHILE):
                    self._connection.execute(table)
            insert = sql.SQL("INSERT INTO {} (consumer) VALUES ($1) ON CONFLICT DO NOTHING")
            self._connection.execute(insert.format(self._positions), [self._consumer])
            select = sql.SQL("SELECT lsn::text, xmin::text FROM {} WHERE consumer = $1")
            row = self._connection.execute(
                select.format(self._positions), [self._consumer]
            ).fetchone()
        if row is not None:
            self._stored, self._version = None if row[0] is None else LSN(row[0]), row[1]
            self._whole = self._stored

    def _bear(self, origin: str) -> None:
        """Let what this session writes bear a replication origin."""
        query = "SELECT FROM pg_catalog.pg_replication_origin WHERE roname = $1"
        try:
            if self._connection.execute(query, [origin]).fetchone() is None:
                with contextlib.suppress(*_MADE_MEANWHILE):
                    self._connection.execute("SELECT pg_replication_origin_create($1)", [origin])
            self._connection.execute("SELECT pg_replication_origin_session_setup($1)", [origin])
        except psycopg.errors.InsufficientPrivilege:
            raise HandlerError(
                f"the role may not use the replication origin {origin!r} on the target",
                "GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text),"
                " pg_replication_origin_session_setup(text) TO the_role;",
            ) from None
        except psycopg.errors.ObjectInUse:
            raise HandlerError(
                f"another session writes to the target with the replication origin {origin!r}",
                "stop it, or give each handler an origin of its own",
            ) from None

    def _target(self, relation: Relation) -> TargetTable:
        known = self._targets.get(relation.oid)
        if known is not None and known[0] is relation:
            return known[1]
        if not self._spilled:
            # The table may have changed: where the target has to follow, it cannot take both
            # what comes now and what came before.
            self._store()
        # Answered outside the pipeline of changes: this is asked before they are sent.
        target = TargetTable.find(self._connection, relation)
        self._targets[relation.oid] = relation, target
        return target

    # Changes

    def _change(self, event: Insert | Update | Delete | Truncate) -> None:
        if self._open is None:
            raise HandlerError(f"a change at {event.lsn} came outside a transaction")
        change = self._truncate(event) if isinstance(event, Truncate) else self._row(event)
        self._size += change.size
        self._open.append(change)
        if len(self._open) >= _ROWS or self._size >= _CHARACTERS:
            self._spill()

    def _row(self, event: Insert | Update | Delete) -> _Change:
        with self._failures(event.relation, event.lsn):
            target = self._target(event.relation)
            copy = ""
            kept: tuple[str, ...] = ()
            if isinstance(event, Insert):
                check_sent(event, target.label, target.columns)
                statement, copy, values = target.insert(event.new)
            elif isinstance(event, Delete):
                statement, values = target.delete(_known(target, event))
            else:
                kept = target.kept
                statement, values = target.update(_known(target, event), event.new)
        return _Change(statement, values, target.label, event.lsn, kept=kept, copy=copy)

    def _truncate(self, event: Truncate) -> _Change:
        targets = []
        for relation in event.relations:
            with self._failures(relation, event.lsn):
                targets.append(self._target(relation))
        # Never CASCADE: the tables that it reached at the source are named. Further ones would be
        # the target's own, as PostgreSQL's own subscriptions have it.
        statement = sql.SQL("TRUNCATE {}{}").format(
            sql.SQL(", ").join(target.only + target.name for target in targets),
            sql.SQL(" RESTART IDENTITY" if event.restart_identity else ""),
        )
        label = ", ".join(target.label for target in targets)
        return _Change(statement.as_string(None), (), label, event.lsn, one_row=False)

    def _spill(self) -> None:
        """Send a part of a transaction that is too large to wait for its end."""
        assert self._open is not None
        if not self._spilled:
            self._store()  # what came before it; from here on the target's is its alone
            self._begin()
            self._spilled = True
        self._run(self._open)
        self._open.clear()
        self._size = 0

    def _commit(self, event: Commit) -> None:
        changes, self._open = self._open, None
        if changes is None:
            raise HandlerError(f"a Commit at {event.commit_lsn} came without its Begin")
        if self._skipping:
            self._skipping = False
            return
        self._waiting += changes
        self._whole = event.end_lsn
        if self._spilled or len(self._waiting) >= _ROWS:  # of their size a change takes care
            self._store()

    def _roll_back(self) -> None:
        """Back to what is stored: nothing open, nothing waiting."""
        self._open, self._spilled, self._skipping, self._copying = None, False, False, None
        self._waiting.clear()
        self._size = 0
        self._whole = self._stored
        if not self._connection.closed:
            with contextlib.suppress(psycopg.OperationalError):  # then it is gone by itself
                self._connection.execute("ROLLBACK")

    def _store(self) -> None:
        """Apply the changes of whole transactions, and their position, in one transaction."""
        if self._whole == self._stored:
            return
        if not self._spilled:
            self._begin()
        self._run(self._waiting)
        self._finish(self._whole)
        self._size -= sum(change.size for change in self._waiting)
        self._waiting.clear()
        self._spilled = False

    def _begin(self) -> None:
        self._execute("BEGIN")

    def _execute(
        self, statement: LiteralString | sql.Composed, values: Sequence[Text] = ()
    ) -> psycopg.Cursor[Any]:
        """Run a statement that is no change itself; the transaction does not outlast its error."""
        try:
            with self._failures():
                return self._connection.execute(statement, values)
        except HandlerError:
            self._roll_back()
            raise

    def _finish(self, position: LSN | None) -> None:
        """Write the position and commit."""
        self._settle(position, self._move(position))

    def _settle(self, position: LSN | None, version: str) -> None:
        self._execute("COMMIT")
        self._stored = self._whole = position
        self._version = version

    def _move(self, position: LSN | None) -> str:
        """Write the position, and return the version of its row. It lets one process pass."""
        statement = sql.SQL(
            "UPDATE {} SET lsn = $1::pg_lsn, stored_at = now()"
            " WHERE consumer = $2 AND xmin = $3::xid RETURNING xmin::text"
        ).format(self._positions)
        after = None if position is None else str(position)
        return self._only_one(statement, [after, self._consumer, self._version])

    def _hold(self) -> None:
        """Let no other process pass before this transaction ends; none must have passed."""
        statement = sql.SQL(
            "SELECT xmin::text FROM {} WHERE consumer = $1 AND xmin = $2::xid FOR SHARE"
        ).format(self._positions)
        self._only_one(statement, [self._consumer, self._version])

    def _only_one(self, statement: sql.Composed, values: list[Text]) -> str:
        row = self._execute(statement, values).fetchone()
        if row is None:
            before = self._stored
            self._roll_back()
            raise HandlerError(
                f"consumer {self._consumer!r} has moved on from {before} in the target:"
                " another process stores under the same name",
                "stop one of the two, or give each its own name",
            )
        return str(row[0])

    def _run(self, changes: list[_Change]) -> None:
        """Apply changes, in their order."""
        waiting: list[_Change] = []
        for copy, run in groupby(changes, lambda change: change.copy):
            alike = list(run)
            if not copy or len(alike) < _MANY:
                waiting += alike
                continue
            self._send(waiting)
            waiting = []
            self._send_copy(copy, alike)
        self._send(waiting)

    def _send_copy(self, statement: str, changes: list[_Change]) -> None:
        """Insert many rows into one table."""
        try:
            with self._connection.cursor() as cursor:
                with cursor.copy(statement.encode()) as copy:
                    for change in changes:
                        copy.write_row(change.values)
                stored = cursor.rowcount
        except psycopg.Error as error:
            self._roll_back()
            # They may be of many transactions: say which row it was.
            line = _line(error)
            first, last = (line - 1, line) if 0 < line <= len(changes) else (0, None)
            of = changes[first:last]
            raise _refused(error, of[0].label, of[0].lsn, of[-1].lsn) from None
        if stored != len(changes):
            self._roll_back()
            raise _left_out(changes[0].label, len(changes), stored)

    def _send(self, changes: list[_Change]) -> None:
        """Send changes without waiting for the answer to each."""
        if not changes:
            return
        done: list[tuple[_Change, psycopg.Cursor[Any]]] = []
        refusal: psycopg.Error | None = None
        try:
            with self._connection.pipeline():
                try:
                    for change in changes:
                        cursor = self._connection.cursor()
                        done.append((change, cursor))
                        cursor.execute(change.statement, change.values, prepare=True)
                except psycopg.Error as error:
                    # It must not leave the pipeline: what is under way behind it fails as
                    # well, which psycopg would then say in its log.
                    refusal = error
        except psycopg.Error as error:
            refusal = refusal or error
        if refusal is not None:
            # The one that failed is the first without a result.
            failed = next((c for c, cursor in done if cursor.pgresult is None), changes[-1])
            self._roll_back()
            raise _refused(refusal, failed.label, failed.lsn) from None
        for change, cursor in done:
            if change.one_row and cursor.rowcount != 1:
                self._roll_back()
                verb = change.statement.split(" ", 1)[0].replace("SELECT", "UPDATE")
                why = "the target is not a copy of the source"
                if change.kept:
                    why += f", or {', '.join(map(repr, change.kept))}, GENERATED ALWAYS in the"
                    why += " target, has a new value at the source (then SET GENERATED BY DEFAULT)"
                raise HandlerError(
                    f"{verb} at {change.lsn} found {cursor.rowcount} rows of {change.label} in the"
                    f" target, not one: {why}",
                    "copy the tables anew (snapshot), with nobody else writing to the target",
                )

    # The snapshot

    def _begin_copy(self, event: SnapshotBegin) -> None:
        """Start over: empty the tables, and forget the position until SnapshotEnd.

        The rows are committed as they come. One transaction for them all would hold locks
        for hours, and hold up the slot of a copy that starts again, were it on this server.
        """
        self._roll_back()
        targets = []
        for relation in event.relations:
            with self._failures(relation, event.lsn):
                targets.append(self._target(relation))
        self._begin()
        # Before the tables are locked: who copies under the same name waits for it with none.
        version = self._move(None)
        if targets:
            names = sql.SQL(", ").join(target.only + target.name for target in targets)
            self._execute(sql.SQL("TRUNCATE {}").format(names))
        self._settle(None, version)
        self._copying = _Copying(self._connection)

    def _send_copied(self, copying: _Copying) -> None:
        """Store the rows that have come, if no other process has begun anew meanwhile."""
        self._begin()
        self._hold()
        try:
            copying.send_all()
        except HandlerError:
            self._roll_back()
            raise
        self._execute("COMMIT")

    def _end_copy(self, event: SnapshotEnd) -> None:
        copying, self._copying = self._copying, None
        if copying is None:
            raise HandlerError("a SnapshotEnd came without its SnapshotBegin")
        self._send_copied(copying)
        self._begin()
        self._finish(event.lsn)

    def _failures(self, relation: Relation | None = None, lsn: LSN | None = None) -> _Failures:
        return _Failures("" if relation is None else f"{relation.schema}.{relation.table}", lsn)


class _Copying:
    """The rows of a snapshot, sent by COPY, a table at a time."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._rows: dict[str, tuple[TargetTable, list[tuple[Text, ...]]]] = {}
        self._size = 0

    def add(self, target: TargetTable, row: Row) -> bool:
        """Take a row; say whether it is time to send what has come."""
        values = target.texts(row, target.columns)
        rows = self._rows.setdefault(target.label, (target, []))[1]
        rows.append(values)
        self._size += sum([len(value) for value in values if value is not None]) + 16
        return self._size >= _CHARACTERS or len(rows) >= 10 * _ROWS

    def send_all(self) -> None:
        for target, rows in self._rows.values():
            with _Failures(target.label, None):
                self._send(target, rows)
        self._rows.clear()
        self._size = 0

    def _send(self, target: TargetTable, rows: list[tuple[Text, ...]]) -> None:
        if not target.columns:
            for _ in rows:
                self._connection.execute(target.default_row())
            return
        statement = target.copy()
        with self._connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
            if cursor.rowcount != len(rows):
                raise _left_out(target.label, len(rows), cursor.rowcount)


class _Failures:
    """Turns what the target refuses into an error that says where."""

    def __init__(self, label: str, lsn: LSN | None) -> None:
        self._label = label
        self._lsn = lsn

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, psycopg.Error):
            raise _refused(error, self._label, self._lsn) from None


def _connect(dsn: str) -> psycopg.Connection[Any]:
    """Connect to the target; an error of it says no more of the DSN than the source's do."""
    try:
        config = Config(dsn=dsn)
        try:
            return psycopg.connect(
                config.conninfo,
                autocommit=True,
                fallback_application_name="pgstream",
                cursor_factory=psycopg.RawCursor,  # a name may hold a percent sign
            )
        except psycopg.Error as error:
            raise faults.turned_away(error, config) from None
    except PgstreamError as error:
        raise HandlerError(f"the target: {error.message}", error.hint) from None


def _refused(
    error: psycopg.Error, label: str, lsn: LSN | None, last: LSN | None = None
) -> HandlerError:
    # What libpq says itself has no SQLSTATE.
    if isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith(_LOST):
        reason = error.diag.message_primary or str(error).partition("\n")[0]
        return HandlerError(
            f"the connection to the target was lost: {reason}",
            "start again when the target is back; nothing of this transaction is stored, and it"
            " comes again",
        )
    # The primary message alone: the detail may hold values of the row.
    reason = error.diag.message_primary or type(error).__name__
    where = f" {label}" if label else ""
    at = f" at {lsn}" if lsn is not None else ""
    if last not in (None, lsn):
        at = f" between {lsn} and {last}"
    return HandlerError(
        f"the target refused a change of{where}{at}: {reason}"
        if label
        else f"the target database: {reason}",
        "put the target right; nothing of this transaction is stored, and it comes again",
    )


def _line(error: psycopg.Error) -> int:
    """The line of a COPY that failed, which its context tells in the server's language; or 0."""
    found = re.search(r"^COPY [^,]*, \D*(\d+)", error.diag.context or "", re.MULTILINE)
    return int(found[1]) if found else 0


def _left_out(label: str, sent: int, stored: int) -> HandlerError:
    return HandlerError(
        f"of {sent} new rows of {label} the target has stored {stored}: a trigger leaves some out",
        "drop it: what it leaves out cannot be found when it changes",
    )


def _known(target: TargetTable, event: Update | Delete) -> Row:
    """What is known of a row before its change: at least what it is found by."""
    known = former_values(event, target.key)
    if missing := [name for name in target.found_by if name not in known]:
        raise not_told(event, target.label, f"former {', '.join(map(repr, missing))}")
    return known
