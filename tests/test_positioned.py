"""The handlers that keep what they are given: another PostgreSQL, SQLite, a file of lines."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import math
import os
import random
import re
import sqlite3
import time
from asyncio import run
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

import workload
from pgstream import (
    LSN,
    UNCHANGED,
    Begin,
    BeginPrepare,
    Column,
    Commit,
    CommitPrepared,
    ConfigError,
    Delete,
    Event,
    HandlerError,
    Insert,
    JSONLines,
    LogicalMessage,
    Origin,
    Relation,
    RollbackPrepared,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    Truncate,
    Update,
    connect,
    connect_async,
)
from pgstream.embedded import Server
from pgstream.handlers import JSONLinesFile, JSONLinesHandler, PostgresHandler, SQLiteHandler
from pgstream.handlers.sqlite import store
from pgstream.types import JSONText
from replica import select_text
from servers import Database, fresh_database

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ITEMS = Relation(
    16384, "public", "items", "d", (Column("id", 23, -1, True), Column("note", 25, -1, False))
)


def change(kind: type, lsn: int, ordinal: int = 0, relation: Relation = ITEMS, **rows: Any) -> Any:
    return kind(
        relation=relation,
        **rows,
        lsn=LSN(lsn),
        xid=1,
        commit_lsn=LSN(lsn + 8),
        commit_time=NOON,
        ordinal=ordinal,
    )


def transaction(lsn: int, *changes: Any) -> list[Event]:
    """A transaction that commits at ``lsn``."""
    return [Begin(1, LSN(lsn), NOON), *changes, Commit(1, LSN(lsn), LSN(lsn + 0x30), NOON)]


def inserted(lsn: int, *ids: Any, **row: Any) -> list[Event]:
    return transaction(
        lsn,
        *(
            replace(
                change(Insert, lsn - 8, i, new={"id": key, "note": "x", **row}),
                commit_lsn=LSN(lsn),
            )
            for i, key in enumerate(ids)
        ),
    )


FLUSH = object()


def feed(handler: Any, events: list[Any]) -> None:
    for event in events:
        if event is FLUSH:
            handler.flush()
        else:
            handler(event)


@pytest.fixture
def target(server: Server) -> Iterator[Database]:
    with fresh_database(server) as database:
        yield database


def follow(database: Database, handler: Any, **options: Any) -> None:
    options = {"values": "text", "until": "now"} | options
    connect(database.dsn, slot=f"slot_{database.name}", **options).run(handler)


def publish(database: Database, schema: str) -> None:
    database.execute(schema + "; CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    follow(database, lambda event: None)


def same(source: Database, target: Database, table: str) -> None:
    with source.connect() as one, target.connect() as two:
        there, here = select_text(one, table), select_text(two, table)
    assert here == there
    assert there[1]


# PostgreSQL


def test_postgres_holds_what_the_source_holds(database: Database, target: Database) -> None:
    publish(database, workload.SCHEMA)
    target.execute(workload.SCHEMA)
    # As the workload alters it; the column that it drops can only be dropped afterwards.
    target.execute("ALTER TABLE evolving ADD COLUMN c numeric, ADD COLUMN d text")
    target.execute("CREATE TABLE gone (id int PRIMARY KEY)")
    workload.run(database, two_phase=True)
    # A target may be named as a source is.
    with PostgresHandler(make_conninfo(target.dsn, replication="database")) as handler:
        follow(database, handler)
        position = handler.position()
    target.execute("ALTER TABLE evolving DROP COLUMN a")
    for table in workload.TABLES:
        same(database, target, table)
    assert target.execute("SELECT count(*) FROM nothing") == [(1,)]
    [(stored,)] = target.execute("SELECT lsn::text FROM pgstream_positions")
    assert position == LSN(stored)


EVERYTHING = """
CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
CREATE TYPE pair AS (a int, "b c" text);
CREATE DOMAIN short AS varchar(5) CHECK (length(VALUE) < 5);
CREATE TABLE everything (
    i8 int8, n numeric, np numeric(10,4), f4 real, f8 float8, b bool, t text, c5 char(5), ch "char",
    nm name, by bytea, d date, ts timestamp, tz timestamptz, tm time, ttz timetz, iv interval,
    u uuid, j json, jb jsonb, ai int[], at text[], r int4range, mr nummultirange, ip inet,
    ci cidr, mac macaddr, p point, bx box, pg polygon, bits bit(3), vb varbit, m mood, pr pair,
    prs pair[], sh short, money money, tsv tsvector, "per%cent" int,
    always int GENERATED ALWAYS AS IDENTITY, dbl numeric GENERATED ALWAYS AS (np * 2) STORED)
"""
ROWS = [
    "(9223372036854775807, 1.500, 1.5, 1.1, 0.1, true, e'a\\tb\\n\\\\N', 'ab', 'x', 'nm',"
    " '\\x00ff', 'infinity', '-infinity', '2026-03-29 02:30:00.123456+00', '24:00', '01:02:03+05',"
    " '1 mon -2 days 00:00:00.1', gen_random_uuid(), '{\"a\":  1e400}', '{\"a\": [null]}',"
    "  '[0:1]={1,NULL}', ARRAY['a,b', '\"', NULL, 'NULL', ''], '[1,5)',"
    " '{[1,2],(5,)}', '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '(1,2)', '(1,2),(0,0)',"
    " '((0,0),(1,1))', '101', '1', 'it''s ok', ROW(1, 'x \"y\"'), ARRAY[ROW(1, NULL)::pair],"
    " 'abc', 12.34, 'fat:1 cat:2', 5)",
    "(" + ", ".join(["NULL"] * 39) + ")",
    "(1, 'NaN', 'NaN', 'NaN', '-Infinity', false, '', '', '', '', '', '4713-01-01 BC',"
    " '0044-03-15 12:00:00 BC', 'infinity', '00:00', '00:00+00', '0', NULL, 'null', 'null',"
    " '{}', '{}', 'empty', '{}', '::1/64', '::/0', NULL, '(NaN,0)', NULL, NULL, '000', '',"
    " 'sad', ROW(NULL, ''), '{}', '', 0, '', 0)",
]


@pytest.mark.parametrize("identity", ["FULL", "DEFAULT"])
def test_postgres_holds_every_type_exactly(
    database: Database, target: Database, identity: str
) -> None:
    schema = EVERYTHING
    if identity == "DEFAULT":
        schema += "; ALTER TABLE everything ADD COLUMN id int GENERATED BY DEFAULT AS IDENTITY"
        schema += " PRIMARY KEY"
    else:
        # With it no row could be changed on PostgreSQL 18, unless it is published.
        schema += "; ALTER TABLE everything DROP COLUMN dbl"
    publish(database, f"{schema}; ALTER TABLE everything REPLICA IDENTITY {identity}")
    target.execute(schema)
    for row in ROWS * 2:
        database.execute(f"INSERT INTO everything VALUES {row}")
    database.execute("UPDATE everything SET n = n + 1.000, t = t || 'x', i8 = 2 WHERE i8 = 1")
    database.execute("UPDATE everything SET jb = '{}', at = NULL WHERE n = 1.5")
    database.execute(
        "DELETE FROM everything WHERE ctid IN (SELECT min(ctid) FROM everything GROUP BY i8)"
    )
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    same(database, target, "public.everything")


def test_postgres_partitions_inheritance_and_truncate(database: Database, target: Database) -> None:
    schema = """
        CREATE TABLE whole (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
        CREATE TABLE one PARTITION OF whole FOR VALUES IN (1);
        CREATE TABLE two PARTITION OF whole FOR VALUES IN (2);
        ALTER TABLE one REPLICA IDENTITY FULL; ALTER TABLE two REPLICA IDENTITY FULL;
        CREATE TABLE parent (id int PRIMARY KEY);
        CREATE TABLE child (id int PRIMARY KEY) INHERITS (parent);
        CREATE TABLE counted (id serial PRIMARY KEY);
        CREATE TABLE owner (id int PRIMARY KEY);
        CREATE TABLE owned (id int REFERENCES owner ON DELETE CASCADE, PRIMARY KEY (id));
    """
    publish(database, schema)
    target.execute(schema)
    database.execute("INSERT INTO whole SELECT g, 1 + g % 2 FROM generate_series(1, 6) g")
    database.execute("UPDATE whole SET part = 2 WHERE id = 2")
    database.execute("DELETE FROM whole WHERE id = 3")
    database.execute("INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1), (3)")
    database.execute("UPDATE ONLY parent SET id = 1 WHERE id = 1")
    database.execute("DELETE FROM ONLY parent WHERE id = 1")
    database.execute("INSERT INTO owner VALUES (1), (2); INSERT INTO owned VALUES (1), (2)")
    database.execute("DELETE FROM owner WHERE id = 1")  # and what it owns, as changes
    database.execute("INSERT INTO counted DEFAULT VALUES")
    target.execute("SELECT nextval('counted_id_seq'), nextval('counted_id_seq')")
    database.execute("TRUNCATE counted RESTART IDENTITY")
    database.execute("INSERT INTO counted VALUES (1)")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    for table in ("whole", "one", "two", "parent", "child", "owner", "owned", "counted"):
        same(database, target, f"public.{table}")
    assert target.execute("SELECT nextval('counted_id_seq')") == [(1,)]
    database.execute("TRUNCATE owner CASCADE")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    assert target.execute("SELECT * FROM owned, owner") == []


def test_postgres_a_partition_with_a_key_of_its_own(database: Database, target: Database) -> None:
    """REPLICA IDENTITY FULL does not go from a partitioned table to its partitions: what the
    key of one does not hold is sent as NULL, and a large value that stays is not sent at all.
    """
    schema = """
        CREATE TABLE whole (id int PRIMARY KEY, note text, large text) PARTITION BY RANGE (id);
        ALTER TABLE whole REPLICA IDENTITY FULL;
        CREATE TABLE part PARTITION OF whole DEFAULT;
        ALTER TABLE part ALTER large SET STORAGE EXTERNAL
    """
    publish(database, schema)
    target.execute(schema)
    database.execute("ALTER PUBLICATION pgstream_pub SET (publish_via_partition_root = true)")
    database.execute(
        "INSERT INTO whole SELECT g, 'x', repeat('y', 9000) FROM generate_series(1, 4) g"
    )
    database.execute("UPDATE whole SET id = 10 WHERE id = 1")
    database.execute("UPDATE whole SET note = 'z' WHERE id = 2")
    database.execute("DELETE FROM whole WHERE id = 3")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    same(database, target, "public.whole")


def test_postgres_a_truncate_empties_no_table_of_the_target_alone(
    database: Database, target: Database
) -> None:
    schema = "CREATE TABLE owner (id int PRIMARY KEY)"
    publish(database, schema)
    target.execute(f"{schema}; CREATE TABLE notes (owner int REFERENCES owner)")
    database.execute("INSERT INTO owner VALUES (1)")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    target.execute("INSERT INTO notes VALUES (1)")
    database.execute("TRUNCATE owner CASCADE")
    with (
        PostgresHandler(target.dsn) as handler,
        pytest.raises(HandlerError, match=r"public\.owner .* foreign key"),
    ):
        follow(database, handler)
    assert target.execute("SELECT * FROM notes, owner") == [(1, 1)]
    target.execute("DROP TABLE notes")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    assert target.execute("SELECT * FROM owner") == []


def test_postgres_a_partitioned_target_of_rows_without_a_key(
    database: Database, target: Database
) -> None:
    publish(
        database,
        "CREATE TABLE t (id int, part int); ALTER TABLE t REPLICA IDENTITY FULL",
    )
    target.execute(
        "CREATE TABLE t (id int, part int) PARTITION BY LIST (part);"
        " CREATE TABLE one PARTITION OF t FOR VALUES IN (1);"
        " CREATE TABLE two PARTITION OF t FOR VALUES IN (2)"
    )
    database.execute("INSERT INTO t VALUES (1, 1), (1, 1), (1, 2)")
    database.execute("DELETE FROM t WHERE part = 2")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    assert target.execute("SELECT id, part FROM t") == [(1, 1), (1, 1)]


class Reopened:
    """A handler that more than one stream uses: it is not closed at the end of each."""

    def __init__(self, handler: PostgresHandler) -> None:
        self._handler = handler
        self.flush = handler.flush
        self.position = handler.position

    def __call__(self, event: Event) -> None:
        self._handler(event)


def test_postgres_a_column_of_another_type(database: Database, target: Database) -> None:
    """Once both have it, values come as the new type has them, without a start in between."""
    schema = "CREATE TABLE t (id int PRIMARY KEY, r real, c char(6), d date, n int)"
    publish(database, schema)
    target.execute(schema)
    with PostgresHandler(target.dsn) as handler:
        database.execute("INSERT INTO t VALUES (1), (2); UPDATE t SET n = 1 WHERE id = 1")
        follow(database, Reopened(handler))
        for one in (database, target):
            one.execute(
                "ALTER TABLE t ALTER r TYPE float8, ALTER c TYPE text, ALTER d TYPE timestamp,"
                " ALTER n TYPE bigint, ALTER id TYPE bigint"
            )
        new = "0.1, 'a  ', '2026-01-01 12:00', 5000000000"
        database.execute(f"INSERT INTO t VALUES (5000000000, {new})")
        database.execute(f"UPDATE t SET (r, c, d, n) = ({new}) WHERE id = 1")
        database.execute("UPDATE t SET n = 4000000000 WHERE id = 5000000000")
        database.execute("DELETE FROM t WHERE id = 2")
        follow(database, Reopened(handler))
    same(database, target, "public.t")


def test_postgres_a_value_that_only_the_target_may_give(
    database: Database, target: Database
) -> None:
    """An UPDATE cannot set it there: what the source has set anew is not passed over."""
    schema = """
        CREATE TABLE t (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, note text);
        CREATE TABLE bare (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY)
    """
    publish(database, schema)
    target.execute(schema)
    database.execute("INSERT INTO t VALUES (1); INSERT INTO bare VALUES (1)")
    database.execute("UPDATE t SET note = 'x'")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    same(database, target, "public.t")
    for table, also in (("t", ", note = 'y'"), ("t", ""), ("bare", "")):
        target.execute(f"ALTER TABLE {table} ALTER n SET GENERATED ALWAYS")
        database.execute(f"UPDATE {table} SET n = DEFAULT{also}")
        with (
            PostgresHandler(target.dsn) as handler,
            pytest.raises(
                HandlerError, match=r"UPDATE at .* found 0 rows .* 'n', GENERATED ALWAYS"
            ),
        ):
            follow(database, handler)
        target.execute(f"ALTER TABLE {table} ALTER n SET GENERATED BY DEFAULT")
        with PostgresHandler(target.dsn) as handler:
            follow(database, handler)
        same(database, target, f"public.{table}")


def test_postgres_a_key_that_only_the_target_may_give(database: Database, target: Database) -> None:
    schema = "CREATE TABLE t (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, note text)"
    publish(database, schema)
    target.execute(schema)
    database.execute("SELECT nextval('t_id_seq'); INSERT INTO t (note) VALUES ('x')")
    database.execute("UPDATE t SET note = 'y'")
    database.execute("UPDATE t SET id = DEFAULT")
    for _ in range(2):
        with (
            PostgresHandler(target.dsn) as handler,
            pytest.raises(HandlerError, match=r"'id' of public\.t is GENERATED ALWAYS"),
        ):
            follow(database, handler)
        # What came before is stored as far as it had arrived together.
        assert target.execute("SELECT * FROM t") in ([], [(2, "x")], [(2, "y")])
    target.execute("ALTER TABLE t ALTER id SET GENERATED BY DEFAULT")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    same(database, target, "public.t")


def test_postgres_a_key_that_is_generated(database: Database, target: Database) -> None:
    """It is sent, where the publication says so, but nobody can write it."""
    schema = """
        CREATE TABLE t (a int, k int GENERATED ALWAYS AS (a * 2) STORED NOT NULL UNIQUE, note text);
        ALTER TABLE t REPLICA IDENTITY USING INDEX t_k_key
    """
    database.execute(schema)
    database.execute(
        "CREATE PUBLICATION pgstream_pub FOR TABLE t WITH (publish_generated_columns = stored)"
    )
    follow(database, lambda event: None)
    target.execute(schema)
    database.execute("INSERT INTO t (a) VALUES (1), (2), (3)")
    database.execute("UPDATE t SET note = 'x' WHERE a = 1")
    database.execute("UPDATE t SET a = 4 WHERE a = 2")
    database.execute("DELETE FROM t WHERE a = 3")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    same(database, target, "public.t")


def test_postgres_a_document_that_is_a_string(database: Database, target: Database) -> None:
    """A typed one cannot be told from the text of another document."""
    publish(database, "CREATE TABLE t (doc jsonb); ALTER TABLE t REPLICA IDENTITY FULL")
    target.execute("CREATE TABLE t (doc jsonb)")
    database.execute("""INSERT INTO t VALUES ('"123"')""")
    with PostgresHandler(target.dsn) as handler, pytest.raises(ConfigError, match="values='text'"):
        follow(database, handler, values="typed")
    with PostgresHandler(target.dsn) as handler:
        assert handler.position() is None
        follow(database, handler)
    same(database, target, "public.t")


@pytest.mark.parametrize("asyncio", [False, True])
@pytest.mark.parametrize("kind", [PostgresHandler, SQLiteHandler])
def test_lines_of_json_cannot_be_applied(
    database: Database, target: Database, tmp_path: Path, kind: Any, asyncio: bool
) -> None:
    """Nothing would come of them, and they would be acknowledged."""
    publish(database, "CREATE TABLE t (id int PRIMARY KEY)")
    target.execute("CREATE TABLE t (id int PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    settings: Any = {"slot": f"slot_{database.name}", "until": "now", "changes": "json"}
    settings["values"] = "text" if kind is PostgresHandler else "typed"
    with kind(target.dsn if kind is PostgresHandler else tmp_path / "db") as handler:
        stream: Any = (connect_async if asyncio else connect)(database.dsn, **settings)
        with pytest.raises(ConfigError, match="needs changes='events'"):
            run(stream.run(handler)) if asyncio else stream.run(handler)
        with pytest.raises(HandlerError, match="JSON"):
            feed(handler, [Begin(1, LSN(0x100), NOON), JSONLines(b"{}\n")])
    with connect(database.dsn, slot=settings["slot"], until="now") as again:
        events = list(again)
    assert [event.new for event in events if isinstance(event, Insert)] == [{"id": 1}]


def test_postgres_a_key_of_a_composite_type(database: Database, target: Database) -> None:
    schema = """
        CREATE TYPE "p{a}i%r" AS (a int, b text);
        CREATE TABLE t (id "p{a}i%r" PRIMARY KEY, note text)
    """
    publish(database, schema)
    target.execute(schema)
    database.execute("INSERT INTO t VALUES ('(1,a)'), ('(2,)'), ('(3,c)')")
    database.execute("UPDATE t SET note = 'x' WHERE (id).a = 1")
    database.execute("UPDATE t SET id = '(4,)' WHERE (id).a = 2; DELETE FROM t WHERE (id).a = 3")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    same(database, target, "public.t")


@pytest.mark.parametrize("kind", ["varchar(3)", "char(3)", "bit(3)"])
def test_postgres_a_key_is_not_cut_to_fit(target: Database, kind: str) -> None:
    """A row whose key is too long for the target is not there, and another must not be found."""
    target.execute(f"CREATE TABLE items (id {kind} PRIMARY KEY, note text)")
    keys = ("101", "1011") if kind == "bit(3)" else ("abc", "abcdef")
    with PostgresHandler(target.dsn) as handler:
        feed(handler, [*inserted(0x100, keys[0]), FLUSH])
        gone = [change(Delete, 0x1F8, old={"id": key, "note": None}) for key in keys]
        with pytest.raises(HandlerError, match="DELETE at 0/1F8 found 0 rows"):
            feed(handler, [*transaction(0x200, gone[1]), FLUSH])
        assert target.execute("SELECT count(*) FROM items") == [(1,)]
        feed(handler, [*transaction(0x200, gone[0]), FLUSH])
    assert target.execute("SELECT count(*) FROM items") == [(0,)]


def test_postgres_settings_of_the_target_change_no_value(
    database: Database, target: Database
) -> None:
    """Nor do they make two values one, where rows are found by all that they hold."""
    schema = "CREATE TABLE t (f float8, r real, a text[], e text, i interval, tz timestamptz)"
    publish(database, f"{schema}; ALTER TABLE t REPLICA IDENTITY FULL")
    target.execute(schema)
    for setting in (
        *("extra_float_digits = -15", "client_encoding = 'LATIN1'", "array_nulls = off"),
        *("intervalstyle = 'sql_standard'", "datestyle = 'German'", "bytea_output = 'escape'"),
        "timezone = 'America/New_York'",
    ):
        target.execute(f"ALTER DATABASE {target.name} SET {setting}")
    row = "0.5, '{NULL,x}', '\u20ac', '-1 mon 2 days -00:00:01', '2026-11-01 05:30+00'"
    for number in ("0.3", "0.30000000000000004", "0.30000000000000010"):
        database.execute(f"INSERT INTO t VALUES ({number}, {row})")
    database.execute("UPDATE t SET r = 0.25 WHERE f > 0.3 AND f < 0.30000000000000010")
    database.execute("DELETE FROM t WHERE f > 0.30000000000000004")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    for one in (database, target):
        one.execute(f"ALTER DATABASE {one.name} RESET ALL")
    same(database, target, "public.t")


@pytest.mark.parametrize("setting", ["off", "local", "remote_apply"])
def test_postgres_what_is_stored_stays_stored(target: Database, setting: str) -> None:
    """It is acknowledged once COMMIT returns: that must not be before it is on the disk."""
    target.execute(f"ALTER DATABASE {target.name} SET synchronous_commit = {setting}")
    with PostgresHandler(target.dsn) as handler:
        found = handler._connection.execute("SHOW synchronous_commit").fetchone()
    assert found == ("on" if setting == "off" else setting,)


def test_postgres_rows_of_one_table_among_others(database: Database, target: Database) -> None:
    """Keys of several columns, and what the target has beside them."""
    schema = """
        CREATE TABLE items (a int, b text, note text, PRIMARY KEY (a, b));
        CREATE TABLE full_ (id int, note text); ALTER TABLE full_ REPLICA IDENTITY FULL;
        CREATE TABLE keyless (id int, note text); ALTER TABLE keyless REPLICA IDENTITY FULL;
        CREATE TABLE made (id int PRIMARY KEY, note int, twice int, thrice int);
        CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
        CREATE TABLE counted (id serial PRIMARY KEY)
    """
    publish(database, schema)
    target.execute(f"""
        CREATE SCHEMA app;
        CREATE TABLE app.items (a text, b text, note int GENERATED ALWAYS AS IDENTITY);
        {schema};
        ALTER TABLE full_ ADD PRIMARY KEY (id) INCLUDE (note); CREATE UNIQUE INDEX ON full_ (note);
        ALTER TABLE keyless ADD COLUMN own serial PRIMARY KEY;
        ALTER TABLE made DROP twice, DROP thrice, ADD twice int GENERATED ALWAYS AS (note * 2)
            STORED, ADD thrice int GENERATED ALWAYS AS (note * 3) VIRTUAL;
        INSERT INTO child VALUES (7)
    """)
    database.execute("""
        INSERT INTO items VALUES (1, 'x', 'one'), (1, 'y', 'two'), (2, 'x', 'three');
        UPDATE items SET note = NULL WHERE (a, b) = (1, 'x');
        DELETE FROM items WHERE (a, b) = (2, 'x');
        INSERT INTO full_ VALUES (1, NULL), (2, NULL), (3, 'three');
        UPDATE full_ SET note = 'one' WHERE id = 1; DELETE FROM full_ WHERE id = 2;
        INSERT INTO keyless VALUES (1, NULL), (1, NULL), (1, 'x');
        UPDATE keyless SET note = 'y' WHERE note = 'x';
        DELETE FROM keyless WHERE ctid = (SELECT min(ctid) FROM keyless);
        INSERT INTO made VALUES (1, 5, 10, 15), (2, 6, 12, 18);
        UPDATE made SET note = 7, twice = 14, thrice = 21 WHERE id = 1;
        INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)
    """)
    database.execute("TRUNCATE ONLY parent")
    database.execute("INSERT INTO counted DEFAULT VALUES; TRUNCATE counted")
    target.execute("SELECT nextval('counted_id_seq')")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    target.execute("ALTER TABLE keyless DROP COLUMN own")
    for table in ("items", "full_", "keyless", "made"):
        same(database, target, f"public.{table}")
    assert target.execute("SELECT id FROM parent ORDER BY id") == [(2,), (7,)]
    assert target.execute("SELECT nextval('counted_id_seq')") == [(2,)]


@pytest.mark.parametrize("copied", [False, True])
def test_postgres_columns_in_another_order(
    database: Database, target: Database, copied: bool
) -> None:
    """And one more that only the target has."""
    database.execute(
        'CREATE TABLE t (id int PRIMARY KEY, "A ""b" text, b text);'
        " CREATE PUBLICATION pgstream_pub FOR TABLE t"
    )
    target.execute(
        """CREATE TABLE t (own text DEFAULT 'own', b text, "A ""b" text, id int PRIMARY KEY)"""
    )
    if not copied:
        follow(database, lambda event: None)
    for rows in ("1, 3", "4, 40"):
        database.execute(f"INSERT INTO t SELECT g, 'a', 'b' FROM generate_series({rows}) g")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler, snapshot=copied)
    rows = target.execute('SELECT own, b, "A ""b", count(*), max(id) FROM t GROUP BY 1, 2, 3')
    assert rows == [("own", "b", "a", 40, 40)]


def test_postgres_a_copy_of_a_parent_leaves_its_children(
    database: Database, target: Database
) -> None:
    schema = "CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent)"
    database.execute(f"{schema}; CREATE PUBLICATION pgstream_pub FOR TABLE ONLY parent")
    database.execute("INSERT INTO parent VALUES (1)")
    target.execute(f"{schema}; INSERT INTO child VALUES (7); INSERT INTO parent VALUES (8)")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler, snapshot=True)
    assert target.execute("SELECT id FROM parent ORDER BY id") == [(1,), (7,)]


def test_postgres_an_update_of_nothing_that_could_be_set(
    database: Database, target: Database
) -> None:
    schema = "CREATE TABLE t (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, large text)"
    publish(database, f"{schema}; ALTER TABLE t ALTER large SET STORAGE EXTERNAL")
    target.execute(schema)
    database.execute("INSERT INTO t (large) VALUES (repeat('x', 9000))")
    database.execute("UPDATE t SET large = large")
    with PostgresHandler(target.dsn) as handler:
        follow(database, handler)
    same(database, target, "public.t")
    target.execute("TRUNCATE t")
    database.execute("UPDATE t SET large = large")
    with (
        PostgresHandler(target.dsn) as handler,
        pytest.raises(HandlerError, match=r"UPDATE at .* found 0 rows"),
    ):
        follow(database, handler)


def test_postgres_targets_of_every_version(any_server: Server) -> None:
    with fresh_database(any_server) as target:
        target.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")
        with PostgresHandler(target.dsn) as handler:
            feed(handler, snapshot(0x100, "1", "2"))
            feed(handler, inserted(0x200, "3"))
            row = {"id": "1", "note": "y"}
            feed(handler, transaction(0x300, change(Update, 0x2F8, old=None, new=row)))
            feed(handler, transaction(0x400, change(Delete, 0x3F8, old={"id": "2"})))
            handler.flush()
        rows = target.execute("SELECT * FROM items ORDER BY id")
        assert rows == [(1, "y"), (3, "x")]
        with PostgresHandler(target.dsn) as handler:
            assert handler.position() == LSN(0x430)


def in_transaction(target: Database) -> bool:
    return bool(
        target.execute(
            "SELECT FROM pg_stat_activity WHERE state = 'idle in transaction'"
            " AND datname = current_database()"
        )
    )


@pytest.fixture
def twice(target: Database) -> Database:
    """A target whose table would take a row twice."""
    target.execute("CREATE TABLE items (id int, note text)")
    return target


class Targets:
    """One handler, whichever it is, and what it holds."""

    def __init__(self, kind: str, target: Database, path: Path) -> None:
        self.kind = kind
        self.path = path / "target.db"
        self.database = target
        target.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")

    def open(self, name: str = "pgstream") -> PostgresHandler | SQLiteHandler:
        if self.kind == "postgres":
            return PostgresHandler(self.database.dsn, name=name)
        return SQLiteHandler(self.path, name=name)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        if self.kind == "postgres":
            return self.database.execute(statement)
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement).fetchall()

    def ids(self) -> list[int]:
        return sorted(int(key) for (key,) in self.execute("SELECT id FROM items"))


@pytest.fixture(params=["postgres", "sqlite"])
def targets(request: pytest.FixtureRequest, target: Database, tmp_path: Path) -> Targets:
    return Targets(request.param, target, tmp_path)


def test_the_position_is_stored_with_the_data(targets: Targets) -> None:
    with targets.open() as handler:
        assert handler.position() is None
        feed(handler, inserted(0x100, "1"))
        assert handler.position() is None  # not before it is stored
        handler.flush()
        assert handler.position() == LSN(0x130)
        feed(handler, inserted(0x200, "2"))
    with targets.open() as handler:  # closed without flush: the second has gone
        assert handler.position() == LSN(0x130)
        assert targets.ids() == [1]
    with targets.open("another") as handler:
        assert handler.position() is None


def test_a_key_of_two_columns(targets: Targets) -> None:
    if targets.kind == "postgres":
        targets.execute("CREATE TABLE pairs (id int, note text, PRIMARY KEY (id, note))")
    both = tuple(replace(column, is_key=True) for column in ITEMS.columns)
    pairs = replace(ITEMS, oid=2, table="pairs", columns=both)
    rows = [{"id": "1", "note": note} for note in "abc"]
    new = {"id": "1", "note": "z"}
    changes = [change(Insert, 0xF8, relation=pairs, new=row) for row in rows]
    changes.append(change(Update, 0xF8, relation=pairs, old=rows[1], new=new))
    changes.append(change(Delete, 0xF8, relation=pairs, old=rows[2]))
    with targets.open() as handler:
        feed(handler, [*transaction(0x100, *changes), FLUSH])
    assert targets.execute("SELECT note FROM pairs ORDER BY note") == [("a",), ("z",)]


def test_what_is_stored_counts_after_a_new_start(targets: Targets) -> None:
    """Also where nothing has come, or less than a position that is known."""
    with targets.open() as handler:
        feed(handler, [*inserted(0x100, "1"), FLUSH])
    with targets.open() as handler:
        handler.flush()
        assert handler.position() == LSN(0x130)
        handler.advance(LSN(0x110))
        assert handler.position() == LSN(0x130)
        feed(handler, inserted(0x200, "2"))
        handler.advance(LSN(0x210))
        assert handler.position() == LSN(0x230)
    assert targets.ids() == [1, 2]


def test_what_is_whole_is_stored_while_more_comes(targets: Targets) -> None:
    with targets.open() as handler:
        feed(handler, inserted(0x100, "1") + inserted(0x200, "2", "3")[:-2])
        handler.flush()
        assert handler.position() == LSN(0x130)
        feed(handler, inserted(0x200, "2", "3")[-2:])
        handler.flush()
        assert handler.position() == LSN(0x230)
    assert targets.ids() == [1, 2, 3]


def test_what_is_whole_does_not_wait_for_ever(targets: Targets) -> None:
    """Where the stream is never idle, nobody calls flush."""
    with targets.open() as handler:
        for n in range(10_001):
            feed(handler, inserted(0x1000 * (n + 1), str(n)))
        assert handler.position() is not None
        if targets.kind == "postgres":
            before = handler.position()
            for n in range(11_000, 11_005):
                feed(handler, inserted(0x1000 * (n + 1), str(n), note="x" * 4_000_000))
            assert handler.position() != before


@pytest.mark.parametrize("kind", ["change", "Commit", "SnapshotRow", "SnapshotEnd"])
def test_what_comes_out_of_place_is_an_error(targets: Targets, kind: str) -> None:
    event = {
        "change": inserted(0x100, "1")[1],
        "Commit": inserted(0x100, "1")[-1],
        "SnapshotRow": snapshot(0x100, "1")[1],
        "SnapshotEnd": snapshot(0x100, "1")[-1],
    }[kind]
    with targets.open() as handler:
        with pytest.raises(HandlerError, match=r"came (outside|without|before)"):
            handler(event)
        assert handler.position() is None


def test_the_rest_of_what_has_failed_is_not_stored(targets: Targets) -> None:
    many = [change(Delete, 0x2F8, old={"id": "9"})] * 10_000
    with targets.open() as handler:
        feed(handler, inserted(0x200, "2"))
        with pytest.raises(HandlerError, match="found 0 rows"):
            feed(handler, transaction(0x300, *many))
        for event in inserted(0x300, "3")[1:]:
            with pytest.raises(HandlerError, match="came"):
                handler(event)
        handler.flush()
        assert handler.position() == LSN(0x230)
    assert targets.ids() == [2]


def test_what_fails_before_a_large_transaction_is_not_stored(targets: Targets) -> None:
    """Nor what waited with it: what is large begins with storing what came before."""
    missing = change(Delete, 0x1F8, old={"id": "9999"})
    with targets.open() as handler:
        with pytest.raises(HandlerError, match="0/1F8 found 0 rows"):
            feed(
                handler,
                [
                    *inserted(0x100, *map(str, range(30))),
                    *transaction(0x200, missing),
                    *inserted(0x300, *map(str, range(100, 10_200))),
                ],
            )
        handler.flush()
        assert handler.position() is None
    assert targets.kind == "sqlite" or targets.ids() == []


def test_what_waits_with_what_fails_comes_again_with_it(targets: Targets) -> None:
    with targets.open() as handler:
        feed(handler, [*inserted(0x100, "1"), FLUSH, *inserted(0x200, "2")])
        missing = change(Delete, 0x2F8, old={"id": "9"})
        with pytest.raises(HandlerError, match="found 0 rows"):
            feed(handler, [*transaction(0x300, missing), FLUSH])
        handler.flush()
        handler.advance(LSN(0x110))
        assert handler.position() == LSN(0x130)
        assert targets.ids() == [1]
        feed(handler, [*inserted(0x200, "2"), FLUSH])
        assert handler.position() == LSN(0x230)
    assert targets.ids() == [1, 2]


def test_the_position_follows_where_nothing_comes(targets: Targets) -> None:
    with targets.open() as handler:
        handler.advance(LSN(0x80))
        feed(handler, inserted(0x100, "1"))
        handler.advance(LSN(0x500))
        feed(handler, inserted(0x600, "2")[:-1])
        handler.advance(LSN(0x700))  # not in the middle of a transaction
        assert handler.position() == LSN(0x500)
    with targets.open() as handler:
        assert handler.position() == LSN(0x500)
    assert targets.ids() == [1]


def test_what_is_stored_is_not_stored_again(targets: Targets) -> None:
    with targets.open() as handler:
        feed(handler, inserted(0x100, "1") + inserted(0x200, "2"))
        handler.flush()
    with targets.open() as handler:
        feed(handler, inserted(0x100, "1") + inserted(0x200, "2") + inserted(0x300, "3"))
        handler.flush()
        # After a reconnection, too, when it has not been flushed yet.
        feed(handler, inserted(0x400, "4"))
        feed(handler, inserted(0x300, "3") + inserted(0x400, "4") + inserted(0x500, "5"))
        handler.flush()
        assert handler.position() == LSN(0x530)
        # Half of it, and then the server knows that it is stored.
        feed(handler, inserted(0x500, "5")[:-1] + inserted(0x600, "6"))
        handler.flush()
    assert targets.ids() == [1, 2, 3, 4, 5, 6]


def test_what_is_stored_and_large_is_not_stored_again(targets: Targets) -> None:
    large = inserted(0x100, *map(str, range(12_000)))
    removed = [change(Delete, 0x1F8, i, old={"id": str(i)}) for i in range(12_000)]
    with targets.open() as handler:
        feed(handler, [*large, *transaction(0x200, *removed), FLUSH])
    with targets.open() as handler:
        feed(handler, [*large, FLUSH])
        assert targets.ids() == []
        feed(handler, [*transaction(0x200, *removed), *inserted(0x300, "1"), FLUSH])
    assert targets.ids() == [1]


@pytest.mark.parametrize("rows", [2, 25_000])
def test_half_a_transaction_that_comes_again_counts_once(targets: Targets, rows: int) -> None:
    whole = inserted(0x200, *map(str, range(rows)))
    with targets.open() as handler:
        feed(handler, inserted(0x100, "-1"))
        feed(handler, whole[: rows // 2 + 1])
        feed(handler, whole)
        handler.flush()
        assert handler.position() == LSN(0x230)
        feed(handler, inserted(0x300, "-2"))
        handler.flush()
    assert targets.ids() == sorted([-2, -1, *range(rows)])


def test_half_a_transaction_is_not_stored(targets: Targets) -> None:
    with targets.open() as handler:
        feed(handler, inserted(0x100, "-1"))
        feed(handler, inserted(0x200, *map(str, range(25_000)))[:-1])
        handler.flush()
    assert targets.ids() == [-1]
    with targets.open() as handler:
        assert handler.position() == LSN(0x130)


def test_a_second_process_of_the_same_name_is_noticed(targets: Targets) -> None:
    with targets.open() as one, targets.open() as two:
        feed(one, inserted(0x100, "1"))
        one.flush()
        feed(two, inserted(0x100, "1") if targets.kind == "sqlite" else inserted(0x100, "2"))
        with pytest.raises(HandlerError, match="another process"):
            two.flush()
        if isinstance(two, SQLiteHandler):
            assert not two._connection.in_transaction
        else:
            assert not in_transaction(targets.database)
    assert targets.ids() == [1]


def test_a_row_that_is_not_there_is_an_error(targets: Targets) -> None:
    with targets.open() as handler:
        feed(handler, inserted(0x100, "1"))
        handler.flush()
        for event in (
            change(Delete, 0x1F8, old={"id": "7"}),
            change(Update, 0x1F8, old=None, new={"id": "7", "note": "y"}),
        ):
            with pytest.raises(HandlerError, match=r"0/1F8 found 0 rows of public\.items"):
                feed(handler, [*transaction(0x200, event), FLUSH])
    assert targets.ids() == [1]


def test_what_came_before_a_change_of_a_table_is_stored(targets: Targets) -> None:
    """The target can be made to fit what follows, but not what came before as well."""
    things = replace(ITEMS, table="things")
    update = change(Update, 0x1F8, relation=things, old=None, new={"id": "1", "note": "y"})
    with targets.open() as handler:
        feed(handler, inserted(0x100, "1"))
        with pytest.raises(HandlerError, match=r"public\.things"):
            feed(handler, [*transaction(0x200, update), FLUSH])
    assert targets.ids() == [1]
    targets.execute("ALTER TABLE items RENAME TO things")
    with targets.open() as handler:
        assert handler.position() == LSN(0x130)
        feed(handler, [*transaction(0x200, update), FLUSH])
    assert targets.execute("SELECT note FROM things") == [("y",)]


def test_a_row_that_the_source_does_not_tell_is_an_error(targets: Targets) -> None:
    """Its key is not published, or its partition has another one than what is published."""
    keyless = replace(ITEMS, columns=(Column("id", 23, -1, False), Column("note", 25, -1, False)))
    row = {"id": "1", "note": "x"}
    with targets.open() as handler:
        feed(handler, [*inserted(0x100, "1"), FLUSH])
        for event in (
            change(Delete, 0x1F8, old={"id": UNCHANGED}),
            change(Delete, 0x1F8, relation=keyless, old={}),
            change(Update, 0x1F8, relation=keyless, old={}, new=row),
            change(Update, 0x1F8, relation=keyless, old=None, new=row),
        ):
            with pytest.raises(HandlerError, match=r"0/1F8 of public\.items does not say of which"):
                feed(handler, [*transaction(0x200, event), FLUSH])
    assert targets.ids() == [1]


def test_unchanged_columns_stay(targets: Targets) -> None:
    with targets.open() as handler:
        feed(handler, inserted(0x100, "1", note="large"))
        feed(
            handler,
            transaction(
                0x200,
                change(Update, 0x1F8, old={"id": "1"}, new={"id": "2", "note": UNCHANGED}),
                change(Update, 0x1F8, 1, old=None, new={"id": "2", "note": UNCHANGED}),
            ),
        )
        handler.flush()
    assert targets.ids() == [2]
    if targets.kind == "postgres":
        assert targets.database.execute("SELECT note FROM items") == [("large",)]


def test_a_value_that_becomes_null(targets: Targets) -> None:
    row = {"id": "1", "note": None}
    with targets.open() as handler:
        feed(handler, inserted(0x100, "1", "2"))
        feed(handler, [*transaction(0x200, change(Update, 0x1F8, old=None, new=row)), FLUSH])
    assert targets.execute("SELECT note FROM items ORDER BY id") == [(None,), ("x",)]


def test_sqlite_finds_nulls_among_all_that_a_row_holds(tmp_path: Path) -> None:
    full = replace(ITEMS, replica_identity="f")
    rows = [{"id": 1, "note": None}, {"id": 1, "note": "x"}, {"id": None, "note": None}]
    changes = [change(Insert, 0xF8, relation=full, new=row) for row in rows]
    changes += [change(Delete, 0xF8, relation=full, old=row) for row in rows[::2]]
    with SQLiteHandler(tmp_path / "t.db") as handler:
        feed(handler, [*transaction(0x100, *changes), FLUSH])
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        assert connection.execute("SELECT * FROM items").fetchall() == [(1, "x")]


def test_sqlite_rows_with_one_key(tmp_path: Path) -> None:
    with SQLiteHandler(tmp_path / "t.db") as handler:
        feed(handler, [*inserted(0x100, 1, 1), FLUSH])
        with pytest.raises(HandlerError, match="found 2 rows"):
            feed(handler, transaction(0x200, change(Delete, 0x1F8, old={"id": 1})))


def test_a_row_that_a_filter_lets_in(database: Database, targets: Targets) -> None:
    """It comes as an INSERT without the large value that the UPDATE has left alone."""
    database.execute(
        "CREATE TABLE items (id int, note text, shown bool NOT NULL, PRIMARY KEY (id, shown));"
        " ALTER TABLE items ALTER note SET STORAGE EXTERNAL;"
        " CREATE PUBLICATION pgstream_pub FOR TABLE items WHERE (shown)"
    )
    if targets.kind == "postgres":
        targets.execute("ALTER TABLE items ADD COLUMN shown bool")
    follow(database, lambda event: None)
    database.execute(
        "INSERT INTO items SELECT g, repeat('x', 9000), false FROM generate_series(1, 2) g"
    )
    database.execute("ALTER TABLE items REPLICA IDENTITY FULL")
    database.execute("UPDATE items SET shown = true WHERE id = 1")
    with targets.open() as handler:
        follow(database, handler)
    assert targets.execute("SELECT id, length(note) FROM items") in ([(1, 9000)], [("1", 9000)])
    database.execute("ALTER TABLE items REPLICA IDENTITY DEFAULT")
    database.execute("UPDATE items SET shown = true WHERE id = 2")
    with (
        targets.open() as handler,
        pytest.raises(
            HandlerError, match=r"INSERT at .* of public\.items lacks .* 'note': .*filter"
        ),
    ):
        follow(database, handler)
    assert targets.ids() == [1]


@pytest.mark.parametrize("wrong", [0, 2, 4])
def test_postgres_says_which_change_finds_no_row(twice: Database, wrong: int) -> None:
    with PostgresHandler(twice.dsn) as handler:
        feed(handler, [*inserted(0x100, *"12345", "6", "6"), FLUSH])
        for key, found in (("7", 0), ("6", 2)):
            ids = [key if n == wrong else str(n + 1) for n in range(5)]
            deletes = [change(Delete, 0x200 + n, old={"id": one}) for n, one in enumerate(ids)]
            with pytest.raises(HandlerError, match=rf"DELETE at 0/20{wrong} found {found} rows"):
                feed(handler, [*transaction(0x300, *deletes), FLUSH])
        assert not in_transaction(twice)
    assert twice.execute("SELECT count(*) FROM items") == [(7,)]


@pytest.mark.parametrize("rows", [5, 50])
def test_postgres_says_which_change_is_refused(twice: Database, rows: int) -> None:
    """And goes on from what is stored, once the target takes it."""
    twice.execute("ALTER TABLE items ADD CONSTRAINT few CHECK (id <> 2)")
    events = [event for n in range(rows) for event in inserted(0x1000 * (n + 1), str(n))]
    with PostgresHandler(twice.dsn) as handler:
        with pytest.raises(HandlerError, match=r"public\.items at 0/2FF8: .*few"):
            feed(handler, [*events, FLUSH])
        assert not in_transaction(twice)
        twice.execute("ALTER TABLE items DROP CONSTRAINT few")
        feed(handler, [*events, FLUSH])
    assert twice.execute("SELECT count(*) FROM items") == [(rows,)]


def test_postgres_applies_many_changes_in_their_order(target: Database) -> None:
    """New rows of one table go together; nothing overtakes anything for that."""
    target.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")
    target.execute("CREATE TABLE things (LIKE items INCLUDING ALL)")
    things = replace(ITEMS, oid=2, table="things")
    ids = [str(n) for n in range(30)]
    news = [{"id": key, "note": "y"} for key in ids]
    with PostgresHandler(target.dsn) as handler:
        for relation in (things, ITEMS):  # known from here on
            row = change(Insert, 0x78, relation=relation, new={"id": "-1", "note": "z"})
            feed(handler, [*transaction(0x80, row), FLUSH])
            handler.advance(LSN(0x80))
        feed(
            handler,
            [
                *inserted(0x100, *ids),
                *transaction(0x200, *(change(Delete, 0x1F8, old={"id": key}) for key in ids)),
                *inserted(0x300, *ids),
                *transaction(0x400, *(change(Update, 0x3F8, old=None, new=new) for new in news)),
                *transaction(
                    0x500, *(change(Insert, 0x4F8, relation=things, new=new) for new in news)
                ),
                *inserted(0x600, *(str(n) for n in range(100, 130))),
                FLUSH,
            ],
        )
    rows = "SELECT note, count(*) FROM {} GROUP BY note ORDER BY note"
    assert target.execute(rows.format("items")) == [("x", 30), ("y", 30)]
    assert target.execute(rows.format("things")) == [("y", 30), ("z", 1)]


def test_consumers_keep_apart(targets: Targets) -> None:
    for name in ("a", "b"):
        targets.open(name).close()
    with targets.open("a") as handler:
        feed(handler, [*inserted(0x100, "1"), FLUSH])
    rows = targets.execute("SELECT consumer, CAST(lsn AS text) FROM pgstream_positions ORDER BY 1")
    assert rows == [("a", "0/130"), ("b", None)]


def test_postgres_consumers_keep_apart(twice: Database) -> None:
    """Also where one transaction has written their positions, as a restored dump has."""
    for name in ("a", "b"):
        PostgresHandler(twice.dsn, name=name).close()
    twice.execute("UPDATE pgstream_positions SET stored_at = '2000-01-01'")
    with PostgresHandler(twice.dsn, name="a") as handler:
        feed(handler, [*inserted(0x100, "1"), FLUSH])
    assert twice.execute(
        "SELECT consumer, lsn::text, stored_at > '2001-01-01' FROM pgstream_positions ORDER BY 1"
    ) == [("a", "0/130", True), ("b", None, False)]


def snapshot(lsn: int, *ids: str) -> list[Event]:
    rows = [SnapshotRow(ITEMS, {"id": key, "note": None}, LSN(lsn), i) for i, key in enumerate(ids)]
    return [SnapshotBegin(LSN(lsn), (ITEMS,)), *rows, SnapshotEnd(LSN(lsn), len(rows))]


def test_a_snapshot_starts_over(targets: Targets) -> None:
    with targets.open() as handler:
        feed(handler, inserted(0x90, "100"))
        handler.flush()
        feed(handler, snapshot(0x100, "1", "2")[:-1])
        if targets.kind == "postgres":
            assert targets.execute("SELECT lsn FROM pgstream_positions") == [(None,)]
        feed(handler, snapshot(0x200, "1", "3")[:-1])
        handler.flush()
        # SQLite keeps what it had until the copy is whole; PostgreSQL knows that it is not.
        assert handler.position() == (None if targets.kind == "postgres" else LSN(0xC0))
    assert targets.ids() == ([] if targets.kind == "postgres" else [100])
    with targets.open() as handler:
        assert handler.position() == (None if targets.kind == "postgres" else LSN(0xC0))
        feed(handler, inserted(0xD0, "101"))  # and no flush
        feed(handler, snapshot(0x300, "1", "4"))
        handler.flush()
        assert handler.position() == LSN(0x300)
        feed(handler, inserted(0x2F0, "99") + inserted(0x300, "5"))
        handler.flush()
        assert targets.ids() == [1, 4, 5]
        handler.advance(LSN(0x400))
        assert handler.position() == LSN(0x400)
        feed(handler, [*snapshot(0x500, "6"), FLUSH])  # from what has a position, too
        assert handler.position() == LSN(0x500)
    assert targets.ids() == [6]


def test_a_snapshot_of_several_tables_and_of_none(targets: Targets) -> None:
    bare = replace(ITEMS, oid=2, table="bare", columns=())
    things = replace(ITEMS, oid=3, table="things")
    if targets.kind == "postgres":
        targets.execute("CREATE TABLE bare (); CREATE TABLE things (LIKE items)")
    rows = [
        SnapshotRow(relation, {"id": key, "note": None} if relation.columns else {}, LSN(0x100), 0)
        for key in "12"
        for relation in (ITEMS, bare, things)
    ]
    with targets.open() as handler:
        for _ in range(2):
            feed(handler, [SnapshotBegin(LSN(0x100), (ITEMS, bare, things)), *rows])
            handler(SnapshotEnd(LSN(0x100), 6))
        for table in ("items", "bare", "things"):
            assert targets.execute(f"SELECT count(*) FROM {table}") == [(2,)]
        feed(handler, [SnapshotBegin(LSN(0x200), ()), SnapshotEnd(LSN(0x200), 0)])
        assert handler.position() == LSN(0x200)


def test_postgres_a_copy_that_cannot_begin(target: Database) -> None:
    """What refers to a table of it is left alone, and so is what is stored."""
    target.execute(
        "CREATE TABLE items (id int PRIMARY KEY, note text);"
        " CREATE TABLE notes (item int REFERENCES items)"
    )
    with PostgresHandler(target.dsn) as handler:
        feed(handler, [*inserted(0x100, "1"), FLUSH])
        with pytest.raises(HandlerError, match="foreign key"):
            feed(handler, snapshot(0x200, "2"))
        assert not in_transaction(target)
    with PostgresHandler(target.dsn) as handler:
        assert handler.position() == LSN(0x130)
    assert target.execute("SELECT id FROM items") == [(1,)]


def waits_for_a_lock(database: Database) -> bool:
    return bool(
        database.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
    )


@contextlib.contextmanager
def meanwhile(database: Database, work: Callable[[], object]) -> Iterator[Future[object]]:
    """Let it run into a lock that is held; at the end of the block it is to be let go."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        while not waits_for_a_lock(database) and not done.done():
            time.sleep(0.01)
        yield done


def test_postgres_of_two_copies_under_one_name_the_first_fails(twice: Database) -> None:
    events = snapshot(0x100, "1", "2")
    with PostgresHandler(twice.dsn) as one:
        feed(one, events[:2])
        with PostgresHandler(twice.dsn) as two:
            feed(two, events[:1])
            with pytest.raises(HandlerError, match="another process"):
                feed(one, events[2:])
            assert twice.execute("SELECT * FROM items") == []
            feed(two, events[1:])
    assert twice.execute("SELECT id FROM items ORDER BY id") == [(1,), (2,)]
    assert twice.execute("SELECT lsn::text FROM pgstream_positions") == [("0/100",)]


def test_postgres_a_copy_that_began_before_another_does_not_end_it(twice: Database) -> None:
    """Both have found nothing stored; nor is there a row left that the first could add."""
    events = snapshot(0x100)
    with PostgresHandler(twice.dsn) as one, PostgresHandler(twice.dsn) as two:
        feed(one, events[:1])
        with pytest.raises(HandlerError, match="another process"):
            feed(two, events[:1])
        feed(one, events[1:])
    assert twice.execute("SELECT lsn::text FROM pgstream_positions") == [("0/100",)]


def test_postgres_a_copy_is_stored_as_it_comes(twice: Database) -> None:
    """It may not fit into memory; its position comes at the end."""
    with PostgresHandler(twice.dsn) as handler:
        feed(handler, snapshot(0x100, *map(str, range(10_001)))[:-1])
        [(count,)] = twice.execute("SELECT count(*) FROM items")
        assert 0 < count < 10_001
        handler.advance(LSN(0x200))
        assert handler.position() is None
        row = {"id": "1", "note": "x" * 6_000_000}
        feed(handler, [SnapshotRow(ITEMS, row, LSN(0x100), 0)] * 4)
        assert twice.execute("SELECT count(*) > 10001 FROM items") == [(True,)]
        handler(SnapshotEnd(LSN(0x100), 10_005))
    assert twice.execute("SELECT count(*) FROM items") == [(10_005,)]


@pytest.mark.parametrize("rest", [0, 1])
def test_postgres_another_process_that_is_just_passing(twice: Database, rest: int) -> None:
    """What has to wait for the row of the position sees what became of it."""
    events = snapshot(0x100, "1") if rest else [*inserted(0x100, "1"), FLUSH]
    with PostgresHandler(twice.dsn) as handler, twice.connect(autocommit=False) as other:
        feed(handler, events[:-1])
        other.execute("UPDATE pgstream_positions SET stored_at = now()")
        with meanwhile(twice, lambda: feed(handler, events[-1:])) as done:
            other.commit()
        with pytest.raises(HandlerError, match="another process"):
            done.result()
    assert twice.execute("SELECT * FROM items") == []


def test_postgres_what_a_copy_cannot_store(twice: Database) -> None:
    twice.execute("ALTER TABLE items ADD CHECK (id > 0)")
    with PostgresHandler(twice.dsn) as handler:
        with pytest.raises(HandlerError, match=r"public\.items: .* check constraint"):
            feed(handler, snapshot(0x100, "1", "-1"))
        assert not in_transaction(twice)
        assert twice.execute("SELECT * FROM items") == []
        for event in snapshot(0x100, "1")[1:]:  # its rest
            with pytest.raises(HandlerError, match="SnapshotBegin"):
                handler(event)
        assert handler.position() is None
        feed(handler, snapshot(0x200, "1"))
    assert twice.execute("SELECT id FROM items") == [(1,)]


@pytest.mark.parametrize("rows", [3, 1500])
def test_postgres_a_commit_that_fails(twice: Database, rows: int) -> None:
    """Whatever the transaction held is gone, and nothing else may go with its position."""
    twice.execute("ALTER TABLE items ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED")
    whole = inserted(0x100, *map(str, range(rows)), "1")
    with PostgresHandler(twice.dsn, triggers=True) as handler:
        with pytest.raises(HandlerError, match=r"the target database: .* unique"):
            feed(handler, [*whole, FLUSH])
        handler.flush()
        assert handler.position() is None
        assert twice.execute("SELECT * FROM items") == []
        feed(handler, [*inserted(0x100, *map(str, range(rows))), FLUSH])
    assert twice.execute("SELECT count(*) FROM items") == [(rows,)]
    assert twice.execute("SELECT lsn::text FROM pgstream_positions") == [("0/130",)]


@pytest.mark.parametrize(
    "events",
    [
        inserted(0x200, "1"),
        transaction(0x200, Truncate((ITEMS,), False, False, LSN(0x1F8), 1, LSN(0x200), NOON, 0)),
        snapshot(0x200, "1"),
        [*inserted(0x200, "1"), FLUSH],
    ],
    ids=["row", "truncate", "copy", "flush"],
)
def test_postgres_a_connection_that_is_lost(twice: Database, events: list[Any]) -> None:
    with PostgresHandler(twice.dsn) as handler:
        if events[-1] is FLUSH:
            feed(handler, events[:-1])
            events = [FLUSH]
        twice.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with pytest.raises(HandlerError, match="the connection to the target was lost") as info:
            feed(handler, events)
        assert re.search("terminating connection|closed", info.value.message)
        assert info.value.hint.startswith("start again")
    assert twice.execute("SELECT * FROM items") == []
    with PostgresHandler(twice.dsn) as handler:
        assert handler.position() is None


def test_postgres_a_copy_that_fails_half_way(twice: Database) -> None:
    """What comes after it is not taken for the rest."""
    twice.execute("ALTER TABLE items ADD CHECK (id > 0)")
    events = snapshot(0x100, "-1", *map(str, range(1, 10_002)))
    with PostgresHandler(twice.dsn) as handler:
        with pytest.raises(HandlerError, match="check constraint"):
            feed(handler, events)
        for event in events[-2:]:
            with pytest.raises(HandlerError, match="SnapshotBegin"):
                handler(event)
        assert handler.position() is None
    assert twice.execute("SELECT * FROM items") == []


@pytest.mark.parametrize(
    "event",
    [
        BeginPrepare(1, "g", LSN(1), LSN(2), NOON),
        CommitPrepared(1, "g", LSN(1), LSN(2), NOON),
        RollbackPrepared(1, "g", LSN(1), LSN(2), NOON, NOON),
    ],
    ids=lambda event: type(event).__name__,
)
def test_prepared_transactions_are_refused(targets: Targets, event: Event) -> None:
    with targets.open() as handler, pytest.raises(HandlerError, match="two_phase"):
        handler(event)


def test_postgres_refuses_typed_values(target: Database) -> None:
    target.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")
    with PostgresHandler(target.dsn) as handler, pytest.raises(HandlerError, match="values='text'"):
        feed(handler, inserted(0x100, 1))


def test_postgres_says_what_the_target_lacks(target: Database) -> None:
    with PostgresHandler(target.dsn) as handler:
        with pytest.raises(HandlerError, match=r"table public\.items is not in the target"):
            feed(handler, inserted(0x100, "1"))
        target.execute("CREATE TABLE items (id int PRIMARY KEY)")
        with pytest.raises(HandlerError, match=r"public\.items .* has no column 'note'"):
            feed(handler, inserted(0x100, "1"))
        target.execute("ALTER TABLE items ADD COLUMN note text CHECK (note <> 'secret')")
        with pytest.raises(
            HandlerError, match=r"public\.items at 0/F8: .*check constraint"
        ) as info:
            feed(handler, [*inserted(0x100, "1", note="secret"), FLUSH])
        assert "secret" not in str(info.value)
    assert target.execute("SELECT * FROM items") == []


def test_postgres_a_refusal_is_told_once(
    target: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """What was sent behind a refused change fails as well, of which psycopg would warn."""
    target.execute("CREATE TABLE items (id int PRIMARY KEY, note text CHECK (note <> 'bad'))")
    old, new = {"id": "1"}, {"id": "1", "note": "x" * 1000}
    refused = change(Update, 0x1F8, old=old, new=new | {"note": "bad"})
    behind = [change(Update, 0x1F8, i, old=old, new=new) for i in range(1, 900)]
    with PostgresHandler(target.dsn) as handler:
        feed(handler, [*inserted(0x100, "1"), FLUSH])
        with pytest.raises(HandlerError, match=r"public\.items at 0/1F8: .*check constraint"):
            feed(handler, [*transaction(0x200, refused, *behind), FLUSH])
    assert caplog.records == []
    assert target.execute("SELECT note FROM items") == [("x",)]


def test_postgres_says_which_of_many_rows_was_refused(target: Database) -> None:
    """They may be of many transactions, and one of these may have to be left out."""
    target.execute(
        "CREATE TABLE items (id int PRIMARY KEY, note text CHECK (note <> 'secret'));"
        " CREATE FUNCTION bad(text) RETURNS bool LANGUAGE plpgsql AS"
        " 'BEGIN IF $1 = ''bad'' THEN RAISE ''bad at 3''; END IF; RETURN true; END';"
        " ALTER TABLE items ADD CHECK (bad(note))"
    )
    many = [inserted(0x1000 * n, str(n)) for n in range(1, 40)]
    for wrong in (
        inserted(0x30000, "7"),
        inserted(0x30000, "41", note="secret"),
        inserted(0x30000, "41", note="bad"),
    ):
        with PostgresHandler(target.dsn) as handler:
            for events in (*many, wrong, inserted(0x40000, "42")):
                feed(handler, events)
            with pytest.raises(HandlerError, match=r"public\.items at 0/2FFF8: ") as info:
                handler.flush()
        assert "secret" not in str(info.value)
    assert target.execute("SELECT * FROM items") == []


def test_postgres_cannot_always_say_which_of_many_rows_was_refused(target: Database) -> None:
    """Foreign keys are checked once all of them are in."""
    target.execute(
        "CREATE TABLE owner (id int PRIMARY KEY); INSERT INTO owner VALUES (1);"
        " CREATE TABLE items (id int PRIMARY KEY REFERENCES owner, note text)"
    )
    with PostgresHandler(target.dsn, triggers=True) as handler:
        for n in range(1, 41):
            feed(handler, inserted(0x1000 * n, str(n)))
        with pytest.raises(
            HandlerError, match=r"public\.items between 0/FF8 and 0/27FF8: .*foreign"
        ):
            handler.flush()


@pytest.mark.parametrize("rows", [3, 30])
@pytest.mark.parametrize("make", [lambda *ids: [*inserted(0x100, *ids), FLUSH], snapshot])
def test_postgres_a_trigger_that_leaves_rows_out(target: Database, make: Any, rows: int) -> None:
    target.execute(
        "CREATE TABLE items (id int PRIMARY KEY, note text);"
        " CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.id = 1 THEN RETURN NULL; END IF; RETURN NEW; END';"
        " CREATE TRIGGER leave_out BEFORE INSERT ON items"
        " FOR EACH ROW EXECUTE FUNCTION leave_out()"
    )
    ids = map(str, range(rows))
    events = make(0x100, *ids) if make is snapshot else make(*ids)
    with PostgresHandler(target.dsn, triggers=True) as handler:
        with pytest.raises(HandlerError, match=r"public\.items"):
            feed(handler, events)
        assert not in_transaction(target)
        assert handler.position() is None
    assert target.execute("SELECT * FROM items") == []
    with PostgresHandler(target.dsn) as handler:  # which leaves triggers out
        feed(handler, events)
    assert target.execute("SELECT count(*) FROM items") == [(rows,)]


def test_postgres_without_a_right_or_a_server(target: Database) -> None:
    target.execute("CREATE ROLE plain LOGIN; GRANT ALL ON SCHEMA public TO plain")
    try:
        with pytest.raises(HandlerError, match="session_replication_role"):
            PostgresHandler(target.server.dsn(target.name, user="plain"))
        with PostgresHandler(target.server.dsn(target.name, user="plain"), triggers=True) as one:
            assert one.position() is None
        # The table that keeps positions may be anywhere; who only uses it need not make it.
        positions = 'Odd.schema.The "positions'
        target.execute(
            'CREATE SCHEMA "Odd.schema"; REVOKE ALL ON SCHEMA public FROM plain, PUBLIC;'
            ' GRANT USAGE ON SCHEMA "Odd.schema" TO plain'
        )
        PostgresHandler(target.dsn, positions=positions).close()
        target.execute('GRANT ALL ON "Odd.schema"."The ""positions" TO plain')
        plain = target.server.dsn(target.name, user="plain")
        with PostgresHandler(plain, triggers=True, name="other", positions=positions) as one:
            one.advance(LSN(0x100))
        assert target.execute(
            'SELECT consumer, lsn::text FROM "Odd.schema"."The ""positions" ORDER BY consumer'
        ) == [("other", "0/100"), ("pgstream", None)]
        with PostgresHandler(target.dsn, positions="Here") as one:
            one.advance(LSN(0x200))
        assert target.execute('SELECT lsn::text FROM "Here"') == [("0/200",)]
    finally:
        target.execute("DROP OWNED BY plain; DROP ROLE plain")


def test_postgres_what_it_applies_bears_its_origin(any_database: Database) -> None:
    origin = f"from {any_database.name}"
    any_database.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE items")
    options: Any = {"slot": f"slot_{any_database.name}", "until": "now"}
    connect(any_database.dsn, **options).close()

    def origins() -> list[str | None]:
        """Those of the rows that have come to the target."""
        found, name = [], None
        with connect(any_database.dsn, **options) as stream:
            for event in stream:
                if isinstance(event, Begin):
                    name = None
                elif isinstance(event, Origin):
                    name = event.name
                elif isinstance(event, Insert):
                    found.append(name)
            stream.ack()
        return found

    try:
        with PostgresHandler(any_database.dsn, origin=origin) as handler:
            feed(handler, snapshot(0x100, "1", "2"))
            assert origins() == [origin] * 2
            feed(handler, [*inserted(0x200, "3"), FLUSH, *inserted(0x300, "4"), FLUSH])
            assert origins() == [origin] * 2
            # It is one session's at a time, which may write under any name of a consumer.
            with pytest.raises(HandlerError, match=f"another session .* '{origin}'") as info:
                PostgresHandler(any_database.dsn, name="other", origin=origin)
            assert "an origin of its own" in info.value.hint
        with PostgresHandler(any_database.dsn, name="other", origin=origin) as handler:
            feed(handler, [*inserted(0x400, "5"), FLUSH])
            assert origins() == [origin]
        with PostgresHandler(any_database.dsn) as handler:
            feed(handler, [*inserted(0x500, "6"), FLUSH])
            assert origins() == [None]
    finally:
        any_database.execute("SELECT pg_replication_origin_drop(%s)", [origin])


def test_postgres_an_origin_takes_a_right(target: Database) -> None:
    origin = f"from {target.name}"
    plain = f"plain_{target.name}"
    target.execute(f"CREATE ROLE {plain} LOGIN; GRANT ALL ON SCHEMA public TO {plain}")
    dsn = target.server.dsn(target.name, user=plain)
    try:
        with pytest.raises(HandlerError, match=f"replication origin '{origin}'") as info:
            PostgresHandler(dsn, triggers=True, origin=origin)
        assert not target.execute("SELECT to_regclass('pgstream_positions')")[0][0]
        target.execute(info.value.hint.replace("the_role", plain))
        PostgresHandler(dsn, triggers=True, origin=origin).close()
    finally:
        target.execute("SELECT pg_replication_origin_drop(%s)", [origin])
        target.execute(f"DROP OWNED BY {plain}; DROP ROLE {plain}")


@pytest.mark.parametrize(
    ("dsn", "message", "hint"),
    [
        ("host=127.0.0.1 port=1 password=hidden", "host=127.0.0.1 port=1: ", "server running"),
        ("postgresql://me:hidden@/a@b", "the DSN has an '@'", "percent-encoded"),
        ("nonsense", "the DSN cannot be parsed", "percent-encoded"),
    ],
)
def test_postgres_a_target_that_cannot_be_reached(dsn: str, message: str, hint: str) -> None:
    with pytest.raises(HandlerError, match="the target: ") as info:
        PostgresHandler(dsn)
    assert message in info.value.message
    assert hint in info.value.hint
    assert "hidden" not in repr(info.value)


def test_postgres_the_positions_are_made_by_two_at_once(target: Database) -> None:
    PostgresHandler(target.dsn, positions="public.elsewhere").close()
    with target.connect(autocommit=False) as other:
        other.execute("CREATE TABLE pgstream_positions (LIKE elsewhere INCLUDING ALL)")
        with meanwhile(target, lambda: PostgresHandler(target.dsn).close()) as done:
            other.commit()
        done.result()
    assert target.execute("SELECT consumer FROM pgstream_positions") == [("pgstream",)]


def test_postgres_the_positions_are_made_by_many_at_once(target: Database) -> None:
    """At any moment of the other's: which one is a matter of chance, none may fail."""
    together = Barrier(4)

    def make(name: str) -> None:
        together.wait()
        PostgresHandler(target.dsn, name=name).close()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            target.execute("DROP TABLE IF EXISTS pgstream_positions")
            list(pool.map(make, "abcd"))
            assert target.execute("SELECT count(*) FROM pgstream_positions") == [(4,)]


def test_postgres_no_timeout_of_the_target_ends_it(target: Database) -> None:
    target.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")
    names = ("statement", "lock", "transaction", "idle_in_transaction_session", "idle_session")
    options = " ".join(f"-c {name}_timeout=500" for name in names)
    with (
        PostgresHandler(make_conninfo(target.dsn, options=options)) as handler,
        target.connect(autocommit=False) as other,
    ):
        other.execute("LOCK TABLE items")
        with meanwhile(target, lambda: feed(handler, [*inserted(0x100, "1"), FLUSH])) as done:
            time.sleep(0.8)
            other.commit()
        done.result()
        time.sleep(0.8)  # idle
        half = inserted(0x200, *map(str, range(2, 1500)))
        feed(handler, half[:1200])
        assert in_transaction(target)
        time.sleep(0.8)  # idle in a transaction
        feed(handler, [*half[1200:], FLUSH])
    assert target.execute("SELECT count(*) FROM items") == [(1499,)]


def test_postgres_what_is_dropped_counts_no_more(target: Database) -> None:
    """Half a transaction, again and again, is not one that is too large to wait."""
    target.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")
    with PostgresHandler(target.dsn) as handler:
        for _ in range(4):
            feed(handler, inserted(0x100, "1", note="x" * 5_000_000)[:-1])
        assert not in_transaction(target)
        feed(handler, inserted(0x100, "1", "2", "3", "4", note="x" * 5_000_000)[:-1])
        assert in_transaction(target)


def test_postgres_a_transaction_of_many_truncates_does_not_wait(target: Database) -> None:
    target.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")
    event = Truncate((ITEMS,), False, False, LSN(0xF8), 1, LSN(0x100), NOON, 0)
    with PostgresHandler(target.dsn) as handler:
        feed(handler, transaction(0x100, *[event] * 1500)[:-1])
        assert in_transaction(target)


# SQLite


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, "9223372036854775808"),
        (-(2**63) - 1, "-9223372036854775809"),
        (True, 1),
        (0.1, 0.1),
        (-0.0, -0.0),
        (math.inf, math.inf),
        (math.nan, "NaN"),
        (Decimal("1.500"), "1.500"),
        ("a\ud800", '"a\\ud800"'),
        (b"\x00\xff", b"\x00\xff"),
        (date(2026, 1, 1), "2026-01-01"),
        ([1, None, ["x"]], '[1,null,["x"]]'),
        (JSONText('{"a":  1e400}'), '{"a":  1e400}'),
    ],
    ids=repr,
)
def test_sqlite_keeps_values(value: object, expected: object) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (c)")
        connection.execute("INSERT INTO t VALUES (?)", [store(value)])
        [(found,)] = connection.execute("SELECT c FROM t")
    assert repr(found) == repr(expected)


@pytest.mark.parametrize("values", ["typed", "text"])
def test_sqlite_holds_what_the_source_holds(
    database: Database, tmp_path: Path, values: str
) -> None:
    publish(database, workload.SCHEMA)
    workload.run(database, two_phase=True)
    with SQLiteHandler(tmp_path / "target.db", json_text=values == "text") as handler:
        follow(database, handler, values=values, json_loads=JSONText)
    with closing(sqlite3.connect(tmp_path / "target.db")) as here:
        for table in workload.TABLES:
            schema, name = table.split(".")
            with database.connect() as there:
                names, rows = select_text(there, table)
            columns = ", ".join(f'"{column}"' for column in names)
            label = (name if schema == "public" else table).replace('"', '""')
            found = here.execute(f'SELECT {columns} FROM "{label}"').fetchall()
            if values == "text":
                assert sorted(found, key=repr) == rows
            else:
                assert len(found) == len(rows)
                kinds = {type(value) for row in found for value in row}
                assert kinds <= {int, float, str, bytes, type(None)}


DOCUMENTS = [
    *('"123"', "123", '"abc"', '"null"', '"{\\"a\\": 1}"'),
    *('{"a": 1}', "[1]", "true", '"\u00e9"'),
]


@pytest.mark.parametrize(
    "options",
    [{}, {"json_loads": JSONText}, {"json_loads": str}, {"values": "text"}],
    ids=["parsed", "JSONText", "str", "text"],
)
def test_sqlite_keeps_documents_that_are_strings(
    database: Database, tmp_path: Path, options: dict[str, Any]
) -> None:
    publish(database, "CREATE TABLE documents (id serial PRIMARY KEY, d jsonb)")
    for document in DOCUMENTS:
        database.execute(f"INSERT INTO documents (d) VALUES ('{document}')")
    json_text = options in ({"json_loads": str}, {"values": "text"})
    with SQLiteHandler(tmp_path / "t.db", json_text=json_text) as handler:
        follow(database, handler, **{"values": "typed"} | options)
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        found = connection.execute("SELECT d FROM documents ORDER BY rowid").fetchall()
    assert [json.loads(d) for (d,) in found] == [json.loads(document) for document in DOCUMENTS]


def test_sqlite_has_to_be_told_that_documents_are_text(tmp_path: Path) -> None:
    relation = replace(ITEMS, columns=(ITEMS.columns[0], Column("d", 3802, -1, False)))
    row = change(Insert, 0xF8, relation=relation, new={"id": "1", "d": "{}"})
    handler = SQLiteHandler(tmp_path / "t.db")
    with handler, pytest.raises(HandlerError, match="json_text=True"):
        feed(handler, transaction(0x100, row))


def test_sqlite_follows_changes_of_the_table(tmp_path: Path) -> None:
    wider = replace(ITEMS, columns=(*ITEMS.columns, Column("more", 23, -1, False)))
    full = replace(ITEMS, replica_identity="f")
    with SQLiteHandler(tmp_path / "t.db") as handler:
        feed(handler, inserted(0x100, 1))
        feed(
            handler,
            transaction(
                0x200,
                change(Insert, 0x1F8, relation=wider, new={"id": 2, "note": None, "more": 5}),
                change(Insert, 0x1F8, 1, relation=full, new={"id": 3, "note": "a"}),
                change(Insert, 0x1F8, 2, relation=full, new={"id": 3, "note": "a"}),
                change(Delete, 0x1F8, 3, relation=full, old={"id": 3, "note": "a"}),
            ),
        )
        handler.flush()
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        rows = connection.execute("SELECT * FROM items ORDER BY id").fetchall()
    assert rows == [(1, "x", None), (2, None, 5), (3, "a", None)]


def test_sqlite_what_is_rolled_back_is_not_stored(tmp_path: Path) -> None:
    """Nor is the position of what went with it."""
    file = tmp_path / "items.db"
    with SQLiteHandler(file) as handler:
        feed(handler, inserted(0x100, 1))
        missing = change(Update, 0x200, old={"id": 9}, new={"id": 9, "note": "y"})
        with pytest.raises(HandlerError, match="found 0 rows"):
            feed(handler, transaction(0x208, missing))
        handler.flush()
        assert handler.position() is None
        feed(handler, [*inserted(0x100, 1), FLUSH])  # its table is made again
        assert handler.position() == 0x130
        handler.advance(LSN(0x110))
        assert handler.position() == 0x130
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT * FROM items").fetchall() == [(1, "x")]


def test_sqlite_what_it_promises_of_the_file(tmp_path: Path) -> None:
    """What is committed is on the disk, and a row is found by an index of its key."""
    with SQLiteHandler(tmp_path / "items.db") as handler:
        feed(handler, [*inserted(0x100, 1), FLUSH])
        execute = handler._connection.execute
        assert execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        index = "PRAGMA index_info('pgstream key of items')"
        assert execute(index).fetchall() == [(0, 0, "id")]
        columns = tuple(replace(one, is_key=not one.is_key) for one in ITEMS.columns)
        row = change(
            Insert, 0x1F8, relation=replace(ITEMS, columns=columns), new={"id": 2, "note": "y"}
        )
        feed(handler, [*transaction(0x200, row), FLUSH])
        assert execute(index).fetchall() == [(0, 1, "note")]


@pytest.mark.parametrize("names", [("rowid",), ("rowid", "_RowID_"), ("oid", "rowid", "_rowid_")])
def test_sqlite_columns_that_are_called_as_its_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    """By which it finds one of many rows that are the same."""
    columns = tuple(Column(name, 25, -1, False) for name in names)
    relation = replace(ITEMS, replica_identity="f", columns=columns)
    row = dict.fromkeys(names, "1")
    events = [change(Insert, 0xF8, relation=relation, new=row)] * 3
    events.append(change(Delete, 0xF8, relation=relation, old=row))
    with SQLiteHandler(tmp_path / "t.db") as handler:
        if len(names) == 3:
            with pytest.raises(HandlerError, match="all the names"):
                feed(handler, transaction(0x100, *events))
            return
        feed(handler, [*transaction(0x100, *events), FLUSH])
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        assert connection.execute("SELECT count(*) FROM items").fetchall() == [(2,)]


def test_sqlite_tables_that_it_cannot_tell_apart(tmp_path: Path) -> None:
    with SQLiteHandler(tmp_path / "t.db") as handler:
        feed(handler, inserted(0x100, 1))
        for relation in (
            replace(ITEMS, oid=2, table="Items"),
            replace(ITEMS, oid=3, table="pgstream_positions"),
            replace(
                ITEMS, oid=4, table="x", columns=(ITEMS.columns[0], Column("ID", 23, -1, False))
            ),
        ):
            row = change(Insert, 0x1F8, relation=relation, new={"id": 1, "note": "", "ID": 1})
            with pytest.raises(HandlerError, match="capitals"):
                feed(handler, transaction(0x200, row))


def test_sqlite_tables_that_an_earlier_process_has_kept(tmp_path: Path) -> None:
    """Whose a table is stands in the file, with its rows or not at all."""
    capitals = replace(ITEMS, oid=2, table="Items")
    row = change(Insert, 0x1F8, relation=capitals, new={"id": 9, "note": ""})
    with SQLiteHandler(tmp_path / "t.db") as handler:
        feed(handler, transaction(0x80, row))  # and no flush
    with SQLiteHandler(tmp_path / "t.db") as handler:
        feed(handler, [*inserted(0x100, 1), FLUSH])
    with SQLiteHandler(tmp_path / "t.db") as handler:
        with pytest.raises(HandlerError, match="capitals"):
            feed(handler, transaction(0x200, row))
        with pytest.raises(HandlerError, match="capitals"):
            handler(SnapshotBegin(LSN(0x300), (capitals,)))
    with SQLiteHandler(tmp_path / "t.db") as handler:
        feed(handler, [*inserted(0x200, 2), FLUSH])
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        assert connection.execute("SELECT id FROM items").fetchall() == [(1,), (2,)]


def test_sqlite_tables_whose_names_meet_at_the_point(tmp_path: Path) -> None:
    one = replace(ITEMS, oid=2, schema="a.b", table="c")
    two = replace(ITEMS, oid=3, schema="a", table="b.c")
    new = {"id": 1, "note": ""}
    with SQLiteHandler(tmp_path / "t.db") as handler:
        feed(handler, transaction(0x100, change(Insert, 0xF8, relation=one, new=new)))
        with pytest.raises(HandlerError, match="are taken"):
            feed(handler, transaction(0x200, change(Insert, 0x1F8, relation=two, new=new)))


# A file of JSON lines

LINES = [
    *inserted(0x100, 1, 2, 3),
    *transaction(
        0x200,
        Truncate((ITEMS, ITEMS), False, False, LSN(0x1F8), 1, LSN(0x200), NOON, 0),
    ),
    LogicalMessage("p", b'"commit_lsn":"9/9"', False, LSN(0x250), None, None, None, None),
    *inserted(0x300, 1, note={"commit_lsn": "0/1"}),
    CommitPrepared(1, "g", LSN(0x400), LSN(0x410), NOON),
]


def expected_lines(events: list[Event]) -> str:
    stream = io.StringIO()
    feed(JSONLinesHandler(stream), events)
    return stream.getvalue()


def test_lines_are_on_the_disk_when_flush_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines"
    synced: list[str] = []
    with JSONLinesFile(path) as handler:
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(path.read_text()))
        feed(handler, LINES)
        handler.flush()
        assert synced == [expected_lines(LINES)]


@pytest.mark.parametrize("seed", range(20))
def test_a_file_cut_anywhere_becomes_whole_again(tmp_path: Path, seed: int) -> None:
    """What a crash left of the file, and any start of the stream that a server may choose."""
    rng = random.Random(seed)
    path = tmp_path / "lines"
    starts = [i for i, e in enumerate(LINES) if isinstance(e, (Begin, LogicalMessage))]
    done = 0
    for _ in range(6):
        with JSONLinesFile(path) as handler:
            start = rng.choice([s for s in starts if s <= done])
            done = max(done, rng.randint(start, len(LINES)))
            feed(handler, LINES[start:done])
            handler.flush()
        text = path.read_bytes()
        kept = len(text) - rng.randint(0, min(len(text), 100))
        path.write_bytes(text[:kept])
        # The server sends again what was not acknowledged, which is all that may be gone.
        whole = text[:kept].count(b"\n")
        done = next(
            i for i in range(len(LINES) + 1) if expected_lines(LINES[:i]).count("\n") >= whole
        )
    with JSONLinesFile(path) as handler:
        start = rng.choice([s for s in starts if s <= done])
        feed(handler, LINES[start:])
    assert path.read_text() == expected_lines(LINES)


def test_lines_that_come_again_after_a_reconnection_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with JSONLinesFile(path) as handler:
        feed(handler, LINES[:3])
        feed(handler, LINES[:9])
        feed(handler, LINES[5:])
    assert path.read_text() == expected_lines(LINES)


def test_a_transaction_that_began_before_another_is_known(tmp_path: Path) -> None:
    """What stands in the file in the order of the commits is looked for in that order."""
    path = tmp_path / "lines"
    later = [
        replace(event, lsn=LSN(0x100)) if isinstance(event, Insert) else event
        for event in inserted(0x300, 3)
    ]
    events = inserted(0x200, 1, 2) + later
    for _ in range(2):
        with JSONLinesFile(path) as handler:
            feed(handler, events)
    assert path.read_text() == expected_lines(events)


LOOSE = [
    LogicalMessage("p", b"once", False, LSN(0x80), None, None, None, None),
    CommitPrepared(1, "g", LSN(0x80), LSN(0x90), NOON),
    RollbackPrepared(1, "g", LSN(0x70), LSN(0x80), NOON, NOON),
]


@pytest.mark.parametrize("loose", LOOSE, ids=lambda event: type(event).__name__)
def test_what_is_in_no_transaction_is_not_written_again(tmp_path: Path, loose: Event) -> None:
    """It comes again without a Begin that would say so."""
    path = tmp_path / "lines"
    events = [loose, *inserted(0x100, 1, 2, 3), replace(loose, **_later(loose))]
    with JSONLinesFile(path) as handler:
        feed(handler, events[:3])
        feed(handler, events[:1])
        feed(handler, events)
        feed(handler, events[-1:])
    assert path.read_text() == expected_lines(events)


def _later(loose: Event) -> dict[str, LSN]:
    match loose:
        case LogicalMessage():
            return {"lsn": LSN(0x180)}
        case CommitPrepared():
            return {"commit_lsn": LSN(0x180), "end_lsn": LSN(0x190)}
    return {"prepare_end_lsn": LSN(0x170), "end_lsn": LSN(0x180)}


def test_the_lines_of_another_stream_are_added_whole(tmp_path: Path) -> None:
    """Its positions may be below those in the file: nothing of it may be taken for known."""
    path = tmp_path / "lines"
    other = inserted(0x100, 7, 8) + inserted(0x200, 9)
    with JSONLinesFile(path) as handler:
        feed(handler, LINES)
    with JSONLinesFile(path) as handler:
        feed(handler, other)
    assert path.read_text() == expected_lines(LINES) + expected_lines(other)


def test_prepared_lines_that_come_again_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    rows = inserted(0x100, 1, 2)[1:-1]
    events = [BeginPrepare(1, "g", LSN(0x100), LSN(0x110), NOON), *rows]
    with JSONLinesFile(path) as handler:
        feed(handler, [*events[:2], *events])
    assert path.read_text() == expected_lines(events)


def test_from_the_first_line_that_is_another_all_are_written(tmp_path: Path) -> None:
    """Also those that the file has further on."""
    path = tmp_path / "lines"
    first, again = inserted(0x100, 1, 2, 3), inserted(0x100, 1, 9, 3)
    with JSONLinesFile(path) as handler:
        feed(handler, first)
    with JSONLinesFile(path) as handler:
        feed(handler, again)
    assert path.read_text() == expected_lines(first) + expected_lines(again[2:])


def test_a_pipe_takes_every_line(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    events = inserted(0x100, 1, 2)
    with JSONLinesFile(path) as handler:
        feed(handler, [*events, FLUSH, *events, FLUSH])
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
            assert (pipe.read(1 << 16) or b"").decode() == expected_lines(events) * 2


def test_a_last_line_that_is_not_ours_is_left(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("a note without its end")
    with JSONLinesFile(path) as handler:
        feed(handler, inserted(0x100, 1))
    note, line = path.read_text().splitlines()
    assert note == "a note without its end"
    assert json.loads(line)["op"] == "insert"


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    """A second one would cut off what the first is just writing, as if a crash had cut it short."""
    path = tmp_path / "lines"
    with JSONLinesFile(path):
        path.write_text('{"op":"ins')
        with pytest.raises(HandlerError, match=f"cannot open {path}: another process writes to it"):
            JSONLinesFile(path)
        assert path.read_text() == '{"op":"ins'
    JSONLinesFile(path).close()
    assert path.read_text() == ""


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    events = inserted(0x100, 1)
    with JSONLinesFile(tmp_path / "lines") as handler:
        feed(handler, events)
    assert (tmp_path / "lines").read_text() == expected_lines(events)


def test_a_file_larger_than_a_block_is_searched(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    events = inserted(0x100, *range(5000), note="x" * 50)
    with JSONLinesFile(path) as handler:
        feed(handler, events[:4000])
    path.write_bytes(path.read_bytes()[:-100])
    with JSONLinesFile(path) as handler:
        feed(handler, events)
    assert path.read_text() == expected_lines(events)


def test_a_file_that_was_renamed_is_still_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As logrotate does it; and so is one whose relative name says nothing any more."""
    monkeypatch.chdir(tmp_path)
    events = inserted(0x100, *range(5000), note="x" * 50)
    with JSONLinesFile("lines") as handler:
        feed(handler, events[:4000])
        handler.flush()
        (tmp_path / "lines").rename(tmp_path / "old")
        (tmp_path / "lines").write_text("another's")
        feed(handler, events[:4500])
        (tmp_path / "lines").unlink()
        monkeypatch.chdir("/")
        feed(handler, events)
    assert (tmp_path / "old").read_text() == expected_lines(events)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(HandlerError, match="cannot open"):
        JSONLinesFile(tmp_path / "no" / "lines")
    handler = JSONLinesFile("/dev/full")
    with pytest.raises(HandlerError, match="cannot write to /dev/full: No space"):
        feed(handler, [*inserted(0x100, 1), FLUSH])
    with pytest.raises(HandlerError, match="No space"):
        handler.close()
    handler.close()
