"""Tables rebuilt from events, to be compared with what the server holds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from pgstream import (
    UNCHANGED,
    BeginPrepare,
    CommitPrepared,
    Delete,
    Event,
    Insert,
    RollbackPrepared,
    Truncate,
    Update,
)
from pgstream.messages import Relation

Row = dict[str, Any]


class Replica:
    """Applies events as a consumer would. A prepared transaction waits for its end."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {}
        self._prepared: dict[str, list[Event]] = {}

    def apply(self, events: Iterable[Event]) -> None:
        for event in events:
            gid = getattr(event, "gid", None)
            if isinstance(event, BeginPrepare):
                self._prepared[event.gid] = []
            elif isinstance(event, CommitPrepared):
                for change in self._prepared.pop(event.gid, []):
                    self._change(change)
            elif isinstance(event, RollbackPrepared):
                self._prepared.pop(event.gid, None)
            elif gid in self._prepared:
                self._prepared[gid].append(event)
            else:
                self._change(event)

    def rows(self, table: str, columns: Iterable[str]) -> list[str]:
        """The rows as ``select`` gives them; NULL for a column that was added after a row."""
        columns = list(columns)
        rows = [tuple(row.get(name) for name in columns) for row in self.tables.get(table, [])]
        return sorted(map(exactly, rows))

    def _change(self, event: Event) -> None:
        if isinstance(event, Insert):
            self._rows(event.relation).append(event.new)
        elif isinstance(event, Update):
            rows = self._rows(event.relation)
            before = event.old if event.old is not None else event.new
            row = self._find(rows, event.relation, before)
            row.update({k: v for k, v in event.new.items() if v is not UNCHANGED})
        elif isinstance(event, Delete):
            rows = self._rows(event.relation)
            rows.remove(self._find(rows, event.relation, event.old))
        elif isinstance(event, Truncate):
            for relation in event.relations:
                self._rows(relation).clear()

    def _rows(self, relation: Relation) -> list[Row]:
        return self.tables.setdefault(f"{relation.schema}.{relation.table}", [])

    @staticmethod
    def _find(rows: list[Row], relation: Relation, known: Row) -> Row:
        key = [column.name for column in relation.columns if column.is_key]
        for row in rows:
            if all(row.get(name) == known[name] for name in key):
                return row
        raise AssertionError(f"no row of {relation.table} with {known!r}")


def exactly(row: tuple[Any, ...]) -> str:
    """A row with the type of each value, so that 1.50 is not 1.5, and NaN equals itself."""
    return repr(
        tuple(
            value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
            for value in row
        )
    )


def select(connection: psycopg.Connection[Any], table: str) -> tuple[list[str], list[str]]:
    """The columns of a table, and its rows as psycopg reads them, sorted."""
    cursor = connection.execute(sql.SQL("SELECT * FROM {}").format(identifier(table)))
    assert cursor.description is not None
    return [column.name for column in cursor.description], sorted(map(exactly, cursor))


def select_text(connection: psycopg.Connection[Any], table: str) -> tuple[list[str], list[Any]]:
    """The same, each value as the text that the type's output function writes."""
    statement = sql.SQL("SELECT * FROM {}").format(identifier(table)).as_bytes(None)
    result = connection.pgconn.exec_(statement)
    names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
    rows = []
    for row in range(result.ntuples):
        values = [result.get_value(row, column) for column in range(result.nfields)]
        rows.append(tuple(None if value is None else value.decode() for value in values))
    return names, sorted(rows, key=repr)


def identifier(table: str) -> sql.Identifier:
    schema, _, name = table.partition(".")
    return sql.Identifier(schema, name)
