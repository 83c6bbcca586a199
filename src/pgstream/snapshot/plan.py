"""What is copied: the published tables, their columns and rows, and in which pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from ..errors import PublicationNotFound, ServerError
from ..messages import Column, Relation

_PART_PAGES: Final = 8192  # a table of more is read in pieces of so many: 64 MB
_LOCK_MILLISECONDS: Final = 3000  # to wait for a lock


@dataclass(frozen=True)
class Part:
    """What one COPY reads.

    Attributes:
        relation: The table, as the stream will name it.
        query: The query.
        pages: How large it is.
        expected_rows: As many as the planner expects; 0 where it does not know.
    """

    relation: Relation
    query: sql.Composed
    pages: int
    expected_rows: float

    def statement(self, *, binary: bool) -> sql.Composed:
        """The COPY."""
        how = sql.SQL("binary" if binary else "text")
        return sql.SQL("COPY ({}) TO STDOUT (FORMAT {})").format(self.query, how)


@dataclass(frozen=True)
class Stored:
    """A table that has rows of its own, as the snapshot shows it.

    Attributes:
        filenode: Its file; 0 where the catalog names none.
    """

    oid: int
    schema: str
    name: str
    kind: str
    filenode: int


@dataclass(frozen=True)
class Plan:
    """All that is copied.

    Attributes:
        relations: The published tables, in the order of their names.
        parts: In the order in which they are taken up, the largest first.
        stored: The tables that are read for them.
    """

    relations: tuple[Relation, ...] = ()
    parts: tuple[Part, ...] = ()
    stored: tuple[Stored, ...] = ()


@dataclass
class _Table:
    oid: int
    schema: str
    name: str
    identity: str
    kind: str
    columns: list[Column]
    filter: str | None

    @property
    def relation(self) -> Relation:
        return Relation(self.oid, self.schema, self.name, self.identity, tuple(self.columns))


class SnapshotStale(Exception):
    """What the snapshot shows cannot be read any more, or is not what would be read."""


# A partition is left out where the table that it belongs to is published in its place.
_PUBLISHED: Final = """
WITH published AS (
    SELECT p.pubname, c.oid, {columns}, {filter}
      FROM pg_catalog.pg_publication_tables p
      JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
     WHERE p.pubname = ANY (%s)
)
SELECT p.oid, n.nspname, c.relname, c.relreplident::text, c.relkind::text,
       p.columns, p.filter
  FROM published p
  JOIN pg_catalog.pg_class c ON c.oid = p.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_partition_ancestors(p.oid) a (oid)
         WHERE a.oid <> p.oid AND a.oid IN (SELECT oid FROM published))
 ORDER BY n.nspname, c.relname, p.pubname"""

# The primary key of a partitioned table is not valid before all partitions have it.
_COLUMNS: Final = """
SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod,
       c.relreplident = 'f' OR
       coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false),
       a.attgenerated <> ''
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_catalog.pg_index i
         ON i.indrelid = c.oid AND (i.indisvalid OR {unfinished})
        AND CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate
                                WHEN 'i' THEN i.indisreplident ELSE false END
 WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum"""

# What is read for a table: itself, or its partitions where it has some.
_STORED: Final = """
SELECT root.oid, n.nspname, c.relname, c.relkind::text, c.reltuples, c.relpages,
       pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::int, c.oid,
       c.relfilenode
  FROM unnest(%s::oid[]) root (oid)
  CROSS JOIN LATERAL (
        SELECT root.oid AS oid
         UNION SELECT relid FROM pg_catalog.pg_partition_tree(root.oid)) leaf
  JOIN pg_catalog.pg_class c ON c.oid = leaf.oid AND c.relkind <> 'p'
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY root.oid, c.oid"""

# Asked of the catalog as it is now, not as the snapshot shows it.
_NOW: Final = """
SELECT to_regclass(name)::oid, pg_catalog.pg_relation_filenode(oid)
  FROM unnest(%s::text[], %s::oid[]) WITH ORDINALITY t (name, oid, place) ORDER BY place"""


# What the copy goes by, row by row, with the transaction that wrote each. Where the server
# gives what holds now (the view of published tables, the trees of partitions, a column by
# its name), and not what the snapshot shows, it is the same only if these are. The text is
# what has happened otherwise.
_ATTACHED: Final = "a partition was attached or detached"
_UNNAMED: Final = "a table was dropped, made unlogged, or moved to another schema"
_VERSIONS: Final = f"""
SELECT 'a publication was altered', oid, 0, xmin::text
  FROM pg_catalog.pg_publication WHERE pubname = ANY (%(publications)s)
UNION ALL
SELECT 'a publication has other tables now', r.oid, 0, r.xmin::text
  FROM pg_catalog.pg_publication_rel r
  JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid AND p.pubname = ANY (%(publications)s)
UNION ALL
SELECT 'table ' || attrelid::regclass || ' was altered', attrelid, attnum, xmin::text
  FROM pg_catalog.pg_attribute WHERE attrelid = ANY (%(tables)s)
UNION ALL
SELECT '{_ATTACHED}', i.inhrelid, i.inhparent::int8, i.xmin::text
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class c ON c.oid = i.inhparent AND c.relkind = 'p'
UNION ALL
SELECT '{_UNNAMED}', c.oid, c.relnamespace::int8, ''
  FROM pg_catalog.pg_class c
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND EXISTS (
        SELECT FROM pg_catalog.pg_publication p
         WHERE p.puballtables AND p.pubname = ANY (%(publications)s))"""
_SCHEMAS: Final = f"""
UNION ALL
SELECT 'a publication has other schemas now', n.oid, 0, n.xmin::text
  FROM pg_catalog.pg_publication_namespace n
  JOIN pg_catalog.pg_publication p ON p.oid = n.pnpubid AND p.pubname = ANY (%(publications)s)
UNION ALL
SELECT '{_UNNAMED}', c.oid, c.relnamespace::int8, ''
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_publication_namespace n ON n.pnnspid = c.relnamespace
  JOIN pg_catalog.pg_publication p ON p.oid = n.pnpubid AND p.pubname = ANY (%(publications)s)
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'"""


def make_plan(connection: psycopg.Connection[Any], publications: Sequence[str]) -> Plan:
    """Find out what is published, in a transaction that has taken on the snapshot.

    All tables are locked (ACCESS SHARE) until its end, so that they stay as they are.

    Args:
        connection: In the transaction.
        publications: The names.

    Raises:
        SnapshotStale: if a table has changed since the snapshot so that it cannot be read.
        ServerError: if publications contradict each other, or one is not there.
    """
    with _impatient(connection):
        tables = _find_tables(connection, publications)
        found = connection.execute(_STORED, [list(tables)]).fetchall()
    stored = tuple(
        Stored(oid, schema, name, kind, filenode)
        for _, schema, name, kind, *_, oid, filenode in found
    )
    lock_tables(connection, stored)
    parts: list[Part] = []
    relations = {oid: table.relation for oid, table in tables.items()}
    for root, schema, name, kind, tuples, known_pages, pages, *_ in found:
        table = tables[root]
        relation = relations[root]
        rows_per_page = tuples / known_pages if tuples > 0 and known_pages > 0 else 0.0
        for first in range(0, max(pages, 1), _PART_PAGES):
            last = None if first + _PART_PAGES >= pages else first + _PART_PAGES
            size = (pages if last is None else last) - first
            query = _query(schema, name, table, kind, first, last)
            parts.append(Part(relation, query, max(size, 1), rows_per_page * size))
    parts.sort(key=lambda part: part.pages, reverse=True)
    return Plan(tuple(relations.values()), tuple(parts), stored)


def _find_tables(
    connection: psycopg.Connection[Any], publications: Sequence[str]
) -> dict[int, _Table]:
    version = connection.info.server_version
    # Column lists and row filters came with 15; before, the view has neither.
    published = _PUBLISHED.format(
        columns="p.attnames::text[] AS columns" if version >= 150000 else "NULL::text[] AS columns",
        filter="p.rowfilter AS filter" if version >= 150000 else "NULL::text AS filter",
    )
    tables: dict[int, _Table] = {}
    lists: dict[int, Any] = {}
    for oid, schema, name, identity, kind, columns, condition in connection.execute(
        published.encode(), [list(publications)]
    ):
        table = tables.get(oid)
        if table is None:
            tables[oid] = _Table(oid, schema, name, identity, kind, [], condition)
            lists[oid] = columns
            continue
        if lists[oid] != columns:
            raise ServerError(
                f"the publications have different columns of {schema}.{name}, which the server"
                " refuses to send",
                "name publications that agree",
            )
        # A row is published if one of them publishes it.
        if table.filter is None or condition is None:
            table.filter = None
        elif condition != table.filter:
            table.filter = f"{table.filter} OR {condition}"
    found = connection.execute(
        "SELECT count(*) FROM pg_catalog.pg_publication WHERE pubname = ANY (%s)",
        [list(publications)],
    ).fetchone()
    if found is None or found[0] < len(publications):
        raise PublicationNotFound(
            f"a publication is not there: {', '.join(publications)}",
            "create it, then start again",
        )
    # It identifies the rows of that table all the same, from 18 on.
    unfinished = "i.indisprimary AND c.relkind = 'p'" if version >= 180000 else "false"
    for oid, name, type_oid, modifier, is_key, generated in connection.execute(
        _COLUMNS.format(unfinished=unfinished).encode(), [list(tables)]
    ):
        wanted = lists[oid]
        if generated and version < 180000:
            continue
        if wanted is None or name in wanted:
            tables[oid].columns.append(Column(name, type_oid, modifier, is_key))
    return tables


def lock_tables(connection: psycopg.Connection[Any], stored: Sequence[Stored]) -> None:
    """Keep all tables as they are, and make sure that they are as the snapshot shows them.

    Every connection that reads does this before any of them begins. One that came to a table
    later could stand behind an ALTER TABLE that waits for another of them; and once that one
    was done, it would read what the ALTER TABLE has left of the table.

    Raises:
        SnapshotStale: if a table has changed, or cannot be locked soon.
    """
    names = [sql.Identifier(table.schema, table.name) for table in stored]
    lockable = [name for name, table in zip(names, stored, strict=True) if table.kind == "r"]
    with _impatient(connection):
        if lockable:
            listed = sql.SQL(", ").join([sql.SQL("ONLY ") + name for name in lockable])
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(listed))
        now = connection.execute(
            _NOW,
            [[name.as_string(connection) for name in names], [table.oid for table in stored]],
        ).fetchall()
    for table, (oid, filenode) in zip(stored, now, strict=True):
        # What rewrites a table (TRUNCATE, some ALTER TABLE) shows it empty, or otherwise, to
        # a snapshot that is older.
        if oid != table.oid or (table.filenode and filenode != table.filenode):
            raise SnapshotStale(
                f"table {table.schema}.{table.name} was rewritten, truncated or replaced"
            )


@contextlib.contextmanager
def _impatient(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Wait for no lock for long.

    Who stands before us may wait for another connection of this copy, which the server cannot
    know to be a deadlock. If not, the slot of the next copy waits for them, and says for whom.
    """
    connection.execute(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise SnapshotStale(
            "another session holds a table, or waits for one, with a lock that keeps readers out"
        ) from None
    except (
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedObject,  # a publication
        psycopg.errors.UndefinedTable,
    ) as error:
        raise SnapshotStale(error.diag.message_primary or "a table was dropped") from None
    connection.execute("SET LOCAL lock_timeout = 0")


def check_unchanged(
    connection: psycopg.Connection[Any],
    outside: psycopg.Connection[Any],
    publications: Sequence[str],
    plan: Plan,
) -> None:
    """Make sure that the plan is what the stream begins with.

    Args:
        connection: In the transaction that made the plan, and holds the tables.
        outside: One that sees what is there now.
        publications: The names.
        plan: The plan.

    Raises:
        SnapshotStale: if it was made of something that has changed since the snapshot.
    """
    then, now = (_versions(each, publications, plan) for each in (connection, outside))
    for what, oid, *_ in sorted(then ^ now):
        # A table that was made since has no rows that the copy could lack.
        if what not in (_ATTACHED, _UNNAMED) or _is_there(connection, oid):
            raise SnapshotStale(what)


def _versions(
    connection: psycopg.Connection[Any], publications: Sequence[str], plan: Plan
) -> set[tuple[Any, ...]]:
    query = _VERSIONS
    if connection.info.server_version >= 150000:
        query += _SCHEMAS
    # The columns of a partition are those of its root, and change with them.
    tables = [relation.oid for relation in plan.relations]
    parameters = {"publications": list(publications), "tables": tables}
    return set(connection.execute(query.encode(), parameters))


def _is_there(connection: psycopg.Connection[Any], oid: int) -> bool:
    found = connection.execute("SELECT FROM pg_catalog.pg_class WHERE oid = %s", [oid])
    return found.rowcount > 0


def _query(
    schema: str, name: str, table: _Table, kind: str, first: int, last: int | None
) -> sql.Composed:
    conditions: list[sql.Composable] = []
    if table.filter is not None:
        conditions.append(sql.SQL("({})").format(sql.SQL(table.filter)))
    if first:
        conditions.append(sql.SQL("ctid >= {}").format(sql.Literal(f"({first},0)")))
    if last is not None:
        conditions.append(sql.SQL("ctid < {}").format(sql.Literal(f"({last},0)")))
    return sql.SQL("SELECT {} FROM {}{}{}").format(
        sql.SQL(", ").join([sql.Identifier(column.name) for column in table.columns]),
        # Children that inherit are published by their own names.
        sql.SQL("ONLY " if kind == "r" else ""),
        sql.Identifier(schema, name),
        sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL(""),
    )
