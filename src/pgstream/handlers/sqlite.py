"""Applies changes to a SQLite file, and keeps the position in the same transaction.

So the effect is exactly once: what is stored and how far it goes cannot come apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, Final, TypeAlias

from ..encoding import encode_value
from ..errors import HandlerError
from ..lsn import LSN
from ..messages import (
    UNCHANGED,
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
from ..types import JSONText, oids
from .former import check_sent, former_values, not_told

Row = Mapping[str, Any]
_Change: TypeAlias = Insert | Update | Delete | Truncate

_CHANGES: Final = 10_000  # after so many, whole transactions are committed
_DOCUMENTS: Final = frozenset({oids.JSON, oids.JSONB})
_NO_TEXT: Final = frozenset({oids.BOOL, oids.INT2, oids.INT4, oids.INT8})  # are never a str
_INT64: Final = 2**63
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class _Table:
    """A table of the file, and how the rows of a relation get there."""

    name: str
    label: str
    columns: tuple[str, ...]
    documents: frozenset[str]  # the columns that hold JSON, where a str is a JSON string
    no_text: frozenset[str]  # the columns whose values are never a str, unless all are
    key: tuple[str, ...]  # what a row is found by; empty: by all of it
    rowid: str


class SQLiteHandler:
    """Keeps the tables of a stream in a SQLite file, exactly once.

    A table ``public.users`` becomes ``users``, one of another schema ``schema.table``; it
    is made when its first row comes, with the columns that are published, and an index of
    its key. Columns that are added later are added here; one that is dropped stays, and is
    NULL in later rows. SQLite tells no capitals apart: a second table of the same name is
    refused (``pgstream_tables`` says whose a name is).

    Integers, floats, text and ``bytea`` are stored as what they are in SQLite, booleans
    as 0 and 1; NaN, which SQLite has not, as ``'NaN'``. Everything else is text: what
    JSON Lines has for it, so ``numeric`` keeps its scale, arrays, ranges and documents
    can be read with SQLite's JSON functions or as PostgreSQL writes them. A document that
    is null is NULL. With ``json_loads=pgstream.types.JSONText`` documents are kept as
    PostgreSQL has them, to the letter, null too. Rows must be dicts, as they are by default;
    ``values="text"`` stores PostgreSQL's own text, and needs ``json_text=True``.

    Args:
        path: The file; made if it is not there. Not ``:memory:``, which forgets.
        name: The consumer: under which name the position is kept in ``pgstream_positions``.
        json_text: A ``str`` in a column of type json or jsonb is the document's text, not a
            document that is a string: the stream has ``values="text"`` or ``json_loads=str``.

    Raises:
        HandlerError: if the file cannot be written, or does not hold a row that changed.
    """

    requires: Final = {"changes": "events"}

    def __init__(
        self, path: str | PathLike[str], *, name: str = "pgstream", json_text: bool = False
    ) -> None:
        self._path = fspath(path)
        self._consumer = name
        self._json_text = json_text
        self._tables: dict[int, tuple[Relation, _Table]] = {}
        self._stored: LSN | None = None  # committed
        self._whole: LSN | None = None  # the end of the last transaction that is stored or applied
        self._changes = 0  # applied since the last commit
        self._open: list[_Change] | None = None  # of the transaction that is being received
        self._spilled = False  # that one is too large to wait: a part of it is applied
        self._skipping = False
        self._copying = False
        import sqlite3  # here, for not every Python has it, and no other handler needs it

        with _failures(self._path):
            self._connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=60
            )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def position(self) -> LSN | None:
        """The end of the last transaction that the file holds; ``None`` if there is none."""
        return self._stored

    def __call__(self, event: Event, /) -> None:
        """Apply an event; it is committed, together with the position, at :meth:`flush`."""
        match event:
            case Insert() | Update() | Delete() | Truncate():
                if not self._skipping:
                    self._change(event)
            case Begin():
                self._begin(event)
            case Commit():
                self._end(event)
            case SnapshotRow():
                if not self._copying:
                    raise HandlerError("a row of a snapshot came before its SnapshotBegin")
                with _failures(self._path, event.relation, event.lsn):
                    self._insert(self._table(event.relation), event.new)
            case SnapshotBegin():
                self._begin_copy(event)
            case SnapshotEnd():
                if not self._copying:
                    raise HandlerError("a SnapshotEnd came without its SnapshotBegin")
                self._copying = False
                self._whole = event.lsn
                self.flush()
            case JSONLines():
                raise HandlerError(
                    "a change came as a line of JSON, which cannot be applied",
                    "connect without changes='json'",
                )
            case BeginPrepare() | CommitPrepared() | RollbackPrepared():
                raise HandlerError(
                    "prepared transactions cannot be applied",
                    "connect without two_phase: they arrive when they are committed",
                )

    def flush(self) -> None:
        """Commit all whole transactions that were received, with their position."""
        if self._spilled or self._copying or self._whole == self._stored:
            return
        with _failures(self._path):
            self._start()
            before = None if self._stored is None else str(self._stored)
            done = self._connection.execute(
                "UPDATE pgstream_positions SET lsn = ? WHERE consumer = ? AND lsn IS ?",
                [str(self._whole), self._consumer, before],
            )
            if done.rowcount != 1:
                self._connection.execute("ROLLBACK")
                raise HandlerError(
                    f"consumer {self._consumer!r} has moved on from {before} in {self._path}:"
                    " another process stores under the same name",
                    "stop one of the two, or give each its own name",
                )
            self._connection.execute("COMMIT")
        self._stored = self._whole
        self._changes = 0

    def advance(self, lsn: LSN) -> None:
        """Store a position before which nothing is missing: what came was for other tables."""
        if self._open is None and not self._copying:
            self._whole = max(lsn, self._whole or lsn)
            self.flush()

    def close(self) -> None:
        """Close the file. What was not flushed is not stored, and comes again."""
        self._connection.close()

    def __enter__(self) -> SQLiteHandler:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # The file

    def _prepare(self) -> None:
        with _failures(self._path):
            # What COMMIT has returned for is on the disk.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS pgstream_positions"
                " (consumer TEXT PRIMARY KEY, lsn TEXT) WITHOUT ROWID"
            )
            self._connection.execute(
                "INSERT OR IGNORE INTO pgstream_positions VALUES (?, NULL)", [self._consumer]
            )
            # Whose a table is, by its name here: in the file, for a later process to know.
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS pgstream_tables"
                ' (name TEXT PRIMARY KEY, "schema" TEXT, "table" TEXT) WITHOUT ROWID'
            )
            [lsn] = self._connection.execute(
                "SELECT lsn FROM pgstream_positions WHERE consumer = ?", [self._consumer]
            ).fetchone()
        self._stored = self._whole = None if lsn is None else LSN(lsn)

    def _knows(self, relation: Relation) -> bool:
        known = self._tables.get(relation.oid)
        return known is not None and known[0] is relation

    def _table(self, relation: Relation) -> _Table:
        if self._knows(relation):
            return self._tables[relation.oid][1]
        label = f"{relation.schema}.{relation.table}"
        name = relation.table if relation.schema == "public" else label
        columns = tuple(column.name for column in relation.columns)
        key: tuple[str, ...] = ()
        if relation.replica_identity != "f":
            key = tuple(column.name for column in relation.columns if column.is_key)
        if name.lower().startswith(("sqlite_", "pgstream_")) or not self._owns(name, relation):
            raise HandlerError(
                f"table {label} cannot be kept as {name!r}: SQLite tells no capitals apart,"
                " and the names of other tables are taken",
                "publish one of the two only",
            )
        if len({column.lower() for column in columns}) < len(columns):
            raise HandlerError(
                f"table {label} has columns that differ in capitals alone, which SQLite has not",
                "leave one out of the publication",
            )
        taken = {column.lower() for column in columns}
        rowid = next((r for r in ("rowid", "_rowid_", "oid") if r not in taken), None)
        if rowid is None:
            raise HandlerError(f"table {label} has columns of all the names of SQLite's rowid")
        self._make(name, columns, key)
        table = _Table(
            name=quoted(name),
            label=label,
            columns=columns,
            documents=_of_types(relation, frozenset() if self._json_text else _DOCUMENTS),
            no_text=_of_types(relation, _NO_TEXT),
            key=key,
            rowid=rowid,
        )
        self._tables[relation.oid] = relation, table
        return table

    def _owns(self, name: str, relation: Relation) -> bool:
        """Whether the table of this name is that of the relation; it is, if it was nobody's."""
        mine = (relation.schema, relation.table)
        execute = self._connection.execute
        execute("INSERT OR IGNORE INTO pgstream_tables VALUES (?, ?, ?)", (name.lower(), *mine))
        known = 'SELECT "schema", "table" FROM pgstream_tables WHERE name = ?'
        return bool(execute(known, [name.lower()]).fetchone() == mine)

    def _make(self, name: str, columns: tuple[str, ...], key: tuple[str, ...]) -> None:
        """Make the table, and what it lacks. Columns without a type: nothing is converted."""
        execute = self._connection.execute
        there = {row[1].lower() for row in execute(f"PRAGMA table_info({quoted(name)})")}
        if not there:
            # SQLite has no table without columns.
            listed = ", ".join(map(quoted, columns)) or quoted("no columns")
            execute(f"CREATE TABLE {quoted(name)} ({listed})")
            there = {column.lower() for column in columns}
        for column in columns:
            if column.lower() not in there:
                execute(f"ALTER TABLE {quoted(name)} ADD COLUMN {quoted(column)}")
        index = quoted(f"pgstream key of {name}")
        found = [row[2] for row in execute(f"PRAGMA index_info({index})")]
        if found != list(key):
            execute(f"DROP INDEX IF EXISTS {index}")
            if key:
                execute(f"CREATE INDEX {index} ON {quoted(name)} ({', '.join(map(quoted, key))})")

    # Changes

    def _start(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _begin(self, event: Begin) -> None:
        if self._spilled:
            # It was half received before a reconnection, and comes again.
            self._roll_back()
        self._skipping = self._whole is not None and event.commit_lsn < self._whole
        self._open = []

    def _end(self, event: Commit) -> None:
        changes, self._open = self._open, None
        if changes is None:
            raise HandlerError(f"a Commit at {event.commit_lsn} came without its Begin")
        if self._skipping:
            self._skipping = False
            return
        self._apply(changes)
        self._spilled = False
        self._whole = event.end_lsn
        if self._changes >= _CHANGES:
            self.flush()

    def _change(self, event: _Change) -> None:
        if self._open is None:
            raise HandlerError(f"a change at {event.lsn} came outside a transaction")
        relations = event.relations if isinstance(event, Truncate) else (event.relation,)
        if not all(map(self._knows, relations)):
            # A table may have changed: where the file has to follow, it cannot take both what
            # comes now and what came before.
            self.flush()
        self._open.append(event)
        if len(self._open) >= _CHANGES:
            self.flush()  # what came before it
            self._spilled = True
            self._apply(self._open)
            self._open.clear()

    def _apply(self, changes: list[_Change]) -> None:
        try:
            with _failures(self._path):
                self._start()
            for event in changes:
                if isinstance(event, Truncate):
                    for relation in event.relations:
                        with _failures(self._path, relation, event.lsn):
                            self._connection.execute(f"DELETE FROM {self._table(relation).name}")
                else:
                    with _failures(self._path, event.relation, event.lsn):
                        self._change_row(event)
        except BaseException:
            self._roll_back()
            raise
        self._changes += len(changes)

    def _roll_back(self) -> None:
        """Back to what is stored."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._tables.clear()  # those that were made have gone with it
        self._open, self._spilled, self._skipping, self._copying = None, False, False, False
        self._whole = self._stored
        self._changes = 0

    def _change_row(self, event: Insert | Update | Delete) -> None:
        table = self._table(event.relation)
        if isinstance(event, Insert):
            check_sent(event, table.label, table.columns)
            self._insert(table, event.new)
            return
        condition, values = _found_by(table, event)
        if isinstance(event, Delete):
            statement = f"DELETE FROM {table.name} WHERE {condition}"
        else:
            names = [name for name in table.columns if event.new[name] is not UNCHANGED]
            if not names:
                return
            settings = ", ".join(f"{quoted(name)} = ?" for name in names)
            statement = f"UPDATE {table.name} SET {settings} WHERE {condition}"
            values = _stored(table, event.new, names) + values
        found = self._connection.execute(statement, values).rowcount
        if found != 1:
            raise HandlerError(
                f"a change at {event.lsn} found {found} rows of {table.label} in {self._path},"
                " not one: it is not a copy of the source",
                "copy the tables anew (snapshot) into a new file",
            )

    def _insert(self, table: _Table, new: Row) -> None:
        if not table.columns:
            self._connection.execute(f"INSERT INTO {table.name} DEFAULT VALUES")
            return
        names = ", ".join(map(quoted, table.columns))
        marks = ", ".join("?" * len(table.columns))
        self._connection.execute(
            f"INSERT INTO {table.name} ({names}) VALUES ({marks})",
            _stored(table, new, table.columns),
        )

    def _begin_copy(self, event: SnapshotBegin) -> None:
        """Start over: empty the tables. All of it is one transaction, up to SnapshotEnd."""
        with _failures(self._path):
            self._roll_back()
            self._start()
        for relation in event.relations:
            with _failures(self._path, relation, event.lsn):
                self._connection.execute(f"DELETE FROM {self._table(relation).name}")
        self._copying = True


class _failures:
    """Turns what SQLite refuses into an error that says where."""

    def __init__(self, path: str, relation: Relation | None = None, lsn: LSN | None = None) -> None:
        self._path = path
        self._where = ""
        if relation is not None:
            self._where = f" a change of {relation.schema}.{relation.table} at {lsn}:"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            return
        import sqlite3

        if isinstance(error, sqlite3.Error):
            raise HandlerError(
                f"{self._path}:{self._where} {error}",
                "put the file right; nothing of this transaction is stored, and it comes again",
            ) from error


def quoted(name: str) -> str:
    """An identifier of SQLite, exactly as it is."""
    return '"' + name.replace('"', '""') + '"'


def _found_by(table: _Table, event: Update | Delete) -> tuple[str, list[Any]]:
    """What finds the row that changed, by the old values that were sent."""
    known = former_values(event, table.key)
    if table.columns and not (known and known.keys() >= set(table.key)):
        raise not_told(event, table.label, "key")
    if table.key:
        condition = " AND ".join(f"{quoted(name)} = ?" for name in table.key)
        return condition, _stored(table, known, table.key)
    same = " AND ".join(f"{quoted(name)} IS ?" for name in known) or "true"
    condition = f"{table.rowid} = (SELECT {table.rowid} FROM {table.name} WHERE {same} LIMIT 1)"
    return condition, _stored(table, known, list(known))


def _of_types(relation: Relation, types: Collection[int]) -> frozenset[str]:
    return frozenset(column.name for column in relation.columns if column.type_oid in types)


def _stored(table: _Table, row: Row, names: Iterable[str]) -> list[Any]:
    stored = []
    for name in names:
        value, document = row[name], name in table.documents
        if document and type(value) is str and any(type(row.get(n)) is str for n in table.no_text):
            raise HandlerError(
                f"the values of {table.label} came as text: it cannot be told whether {name!r}"
                " is a document's text or a string",
                "pass json_text=True to the handler",
            )
        stored.append(store(value, document=document))
    return stored


def store(value: Any, *, document: bool = False) -> int | float | str | bytes | None:
    """What SQLite holds for a value.

    Args:
        value: As a decoder makes it.
        document: It is of type json or jsonb, and parsed, unless it is a JSONText.
    """
    if value is None:
        return None
    if isinstance(value, JSONText):
        return str(value)
    if document:
        return encode_value(value)
    if isinstance(value, str):
        # Half a surrogate pair, which a parsed document may hold, is text to nobody else.
        return value if not _SURROGATE.search(value) else json.dumps(value)
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return int(value)
    text = encode_value(value)
    # What JSON has as a string, such as a date, is stored as that string.
    return str(json.loads(text)) if text.startswith('"') else text
