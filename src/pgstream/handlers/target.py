"""A table of :class:`~pgstream.handlers.PostgresHandler`'s target, and the statements that
bring the rows of a relation there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any, Final

import psycopg
from psycopg import sql

from ..errors import HandlerError
from ..messages import UNCHANGED, Relation

Text = str | None
Row = Mapping[str, Any]

_COLUMNS: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attidentity = 'a',
       a.attgenerated <> '', format_type(a.atttypid, -1),
       a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), c.relkind
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a
         ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
 WHERE n.nspname = $1 AND c.relname = $2"""


@dataclass
class TargetTable:
    """A table of the target, and how the rows of a relation get there.

    Attributes:
        name: Its name, with the schema.
        label: The same for people.
        partitioned: It has partitions.
        columns: Those that can be written: name to type.
        types: Of all of them, without length or precision.
        fixed: GENERATED ALWAYS AS IDENTITY: inserted, never updated.
        key: What a row is found by; empty: by all of it.
    """

    name: sql.Identifier
    label: str
    partitioned: bool
    columns: dict[str, str]
    types: dict[str, str]
    fixed: frozenset[str]
    key: tuple[str, ...]
    _updates: dict[tuple[str, ...], str] = field(default_factory=dict)  # by what they set
    _number: int = field(default_factory=count().__next__)

    @classmethod
    def find(cls, connection: psycopg.Connection[Any], relation: Relation) -> TargetTable:
        """Look it up in the target, under the name that the relation has.

        Raises:
            HandlerError: if it is not there, or lacks a column of the relation.
        """
        label = f"{relation.schema}.{relation.table}"
        found = connection.execute(_COLUMNS, [relation.schema, relation.table]).fetchall()
        if not found:
            raise HandlerError(
                f"table {label} is not in the target database", "create it there, as at the source"
            )
        there = {row[0] for row in found}
        missing = [column.name for column in relation.columns if column.name not in there]
        if missing:
            raise HandlerError(
                f"table {label} of the target has no column {', '.join(map(repr, missing))}",
                f"ALTER TABLE {label} ADD COLUMN … on the target, then start again",
            )
        sent = {column.name for column in relation.columns}
        primary = tuple(name for name, *_, is_key, _ in found if is_key)
        if relation.replica_identity == "f":
            key = primary if sent.issuperset(primary) else ()
        else:
            key = tuple(column.name for column in relation.columns if column.is_key)
        return cls(
            name=sql.Identifier(relation.schema, relation.table),
            label=label,
            partitioned=found[0][-1] == "p",
            columns={name: kind for name, kind, _, made, *_ in found if name in sent and not made},
            types={name: kind for name, *_, kind, _, _ in found},
            fixed=frozenset(name for name, _, always, *_ in found if always),
            key=key,
        )

    @cached_property
    def found_by(self) -> tuple[str, ...]:
        """The columns whose former values find a row."""
        return self.key or tuple(self.columns)

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """Of the columns that no UPDATE can set, those that are no part of the key."""
        return tuple(name for name in self.columns if name in self.fixed and name not in self.key)

    @property
    def only(self) -> sql.SQL:
        # Partitions belong to their table; children that inherit are sent on their own.
        return sql.SQL("" if self.partitioned else "ONLY ")

    def insert(self, new: Row) -> tuple[str, str, tuple[Text, ...]]:
        """The INSERT of a row, the COPY that does the same, and the values."""
        statement, copy = self._insert
        return statement, copy, self.texts(new, self.columns)

    def copy(self) -> sql.Composed:
        """The COPY that takes rows."""
        listed = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        return sql.SQL("COPY {} ({}) FROM STDIN").format(self.name, listed)

    def default_row(self) -> sql.Composed:
        """The INSERT of a row of no columns."""
        return sql.SQL("INSERT INTO {} DEFAULT VALUES").format(self.name)

    def delete(self, known: Row) -> tuple[str, tuple[Text, ...]]:
        """The DELETE of the row of which that is known, and the values."""
        return self._delete, self.texts(known, self.found_by)

    def update(self, known: Row, new: Row) -> tuple[str, tuple[Text, ...]]:
        """The UPDATE of the row of which that is known, and the values.

        Raises:
            HandlerError: if a column has a new value and cannot be set.
        """
        names = []
        for name in self.columns:
            if name in self.fixed:
                if name in self.key and known[name] != new[name]:
                    raise HandlerError(
                        f"column {name!r} of {self.label} is GENERATED ALWAYS in the target, and"
                        " the source has given it a new value",
                        f"ALTER TABLE {self.label} ALTER COLUMN … SET GENERATED BY DEFAULT",
                    )
            elif new[name] is not UNCHANGED:
                names.append(name)
        changed, kept = tuple(names), self.kept
        statement = self._updates.get(changed)
        if statement is None:
            # What cannot be set must be there already: the source may have set it to its DEFAULT.
            # So must the row, where nothing is to be set.
            after = enumerate(kept, len(changed) + len(self.found_by) + 1)
            where = [self._condition(len(changed) + 1), *(self._is(name, at) for at, name in after)]
            to = sql.SQL(", ").join(_equals(name, number) for number, name in enumerate(changed, 1))
            update = "UPDATE {}{} SET {} WHERE {}" if changed else "SELECT FROM {}{}{} WHERE {}"
            made = sql.SQL(update).format(self.only, self.name, to, sql.SQL(" AND ").join(where))
            statement = self._updates[changed] = self._own(made)
        values = self.texts(known, self.found_by) + self.texts(new, kept)
        return statement, self.texts(new, changed) + values

    def texts(self, row: Row, names: Iterable[str]) -> tuple[Text, ...]:
        """The values of these columns.

        Raises:
            HandlerError: if one is not PostgreSQL's text.
        """
        values = []
        for name in names:
            value = row[name]
            if value is not None and type(value) is not str:
                raise HandlerError(
                    f"column {name!r} of {self.label} came as {type(value).__name__}, not as text",
                    "connect with values='text': PostgreSQL's own text is exact for every type",
                )
            values.append(value)
        return tuple(values)

    @cached_property
    def _insert(self) -> tuple[str, str]:
        if not self.columns:
            return self.default_row().as_string(None), ""
        listed = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        values = _sql(", ".join(f"${number}" for number in range(1, len(self.columns) + 1)))
        insert = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})")
        made = self._own(insert.format(self.name, listed, values))
        return made, self.copy().as_string(None)

    @cached_property
    def _delete(self) -> str:
        delete = sql.SQL("DELETE FROM {}{} WHERE {}")
        return self._own(delete.format(self.only, self.name, self._condition(1)))

    def _own(self, statement: sql.Composed) -> str:
        # Its own alone: a prepared statement keeps the types of its parameters, and a value that
        # went through the former type of a column could lose something there.
        return f"{statement.as_string(None)} /* {self._number} */"

    def _condition(self, first: int) -> sql.Composable:
        """What finds the row: its key, or one of those whose columns all have the same text.

        Args:
            first: The number of the first parameter.
        """
        if self.key:
            return sql.SQL(" AND ").join(
                self._is(name, number) for number, name in enumerate(self.key, first)
            )
        # As one row's text: types such as json and point have no equality that could be used,
        # and that of others (numeric 1.0 and 1.00) calls different values equal.
        values = ", ".join(
            f"${number}::{kind}" for number, kind in enumerate(self.columns.values(), first)
        )
        # Rows of different partitions may stand at the same ctid.
        place = "tableoid, ctid" if self.partitioned else "ctid"
        row = f"SELECT {place} FROM {{}} WHERE ROW({{}})::text = ROW({{}})::text LIMIT 1"
        return _sql(f"({place}) = ({row})").format(
            self.only + self.name,
            sql.SQL(", ").join(map(sql.Identifier, self.columns)),
            _sql(values),
        )

    def _is(self, name: str, number: int) -> sql.Composed:
        # Cast, because = finds the type of a composite value no more than of any record. To a
        # type with a length a value would be cut, and be that of another row.
        value = _sql(f"${number}::{self.types[name]}")
        return sql.SQL("{} = {}").format(sql.Identifier(name), value)


def _equals(name: str, number: int) -> sql.Composed:
    return _sql(f"{{}} = ${number}").format(sql.Identifier(name))


def _sql(text: str) -> sql.SQL:
    """SQL that was put together here, of numbers and of the catalog's names of types."""
    return sql.SQL(text)
