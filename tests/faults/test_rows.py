"""Faults that are not a matter of chance, and the table that names a test for each fault."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pgstream
from pgstream import (
    UNCHANGED,
    Begin,
    Commit,
    CommitPrepared,
    Delete,
    Event,
    Insert,
    RollbackPrepared,
    Truncate,
    Update,
)
from pgstream.capture import CaptureWriter, read_capture
from servers import Database

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs/faults.md").read_text(encoding="utf-8")


def events_of(database: Database, statements: str = "", **settings: Any) -> list[Event]:
    """The changes that statements make, each its own transaction where it says so."""
    slot = f"slot_{database.name}"
    if not statements:
        pgstream.connect(database.dsn, slot=slot, **settings).close()
        return []
    with database.connect() as connection:
        for statement in statements.split(";\n"):
            connection.execute(statement.encode())
    with pgstream.connect(database.dsn, slot=slot, until="now", **settings) as stream:
        events = []
        for event in stream:
            events.append(event)
            stream.ack()
    return [event for event in events if not isinstance(event, Begin | Commit)]


@pytest.mark.parametrize("identity", ["DEFAULT", "USING INDEX t_n", "FULL", "NOTHING"])
def test_a_large_value_that_is_left_alone_is_never_null(
    any_database: Database, identity: str
) -> None:
    """23: TOAST, each replica identity, and a change of the key."""
    any_database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, small text, large text);"
        " CREATE UNIQUE INDEX t_n ON t (n);"
        " ALTER TABLE t ALTER COLUMN large SET STORAGE EXTERNAL;"
        f" ALTER TABLE t REPLICA IDENTITY {identity};"
        " INSERT INTO t VALUES (1, 10, 'a', repeat('x', 9000)), (2, 20, 'b', NULL);"
        " CREATE PUBLICATION pgstream_pub FOR TABLE t"
        + (" WITH (publish = 'insert')" if identity == "NOTHING" else "")
    )
    events_of(any_database)
    if identity == "NOTHING":
        # PostgreSQL publishes its INSERTs alone, and those whole.
        [insert] = events_of(any_database, "INSERT INTO t VALUES (3, 30, 'c', repeat('y', 9000))")
        assert isinstance(insert, Insert)
        assert insert.new["large"] == "y" * 9000
        return
    one, both, other, gone = events_of(
        any_database,
        "UPDATE t SET small = 'changed' WHERE id = 1;\n"
        "UPDATE t SET id = 11, n = 110 WHERE id = 1;\n"
        "UPDATE t SET small = 'changed' WHERE id = 2;\n"
        "DELETE FROM t WHERE id = 11",
    )
    assert isinstance(one, Update)
    assert isinstance(both, Update)
    assert isinstance(other, Update)
    assert isinstance(gone, Delete)
    whole = "x" * 9000
    # Under FULL the old row has the value, and it is filled in from there.
    left_alone: object = whole if identity == "FULL" else UNCHANGED
    assert one.new == {"id": 1, "n": 10, "small": "changed", "large": left_alone}
    assert both.new == {"id": 11, "n": 110, "small": "changed", "large": left_alone}
    assert other.new == {"id": 2, "n": 20, "small": "changed", "large": None}
    before = {"id": 1, "n": 10, "small": "changed", "large": whole}
    after = {"id": 11, "n": 110, "small": "changed", "large": whole}
    names = {"DEFAULT": ["id"], "USING INDEX t_n": ["n"], "FULL": list(before)}[identity]
    assert both.old == {name: before[name] for name in names}
    assert gone.old == {name: after[name] for name in names}
    assert (one.old is None) == (identity != "FULL")


def test_each_row_comes_under_the_columns_it_had(any_database: Database, tmp_path: Path) -> None:
    """22: DDL between and inside transactions, read live, again, and from a capture."""
    any_database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text);"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    events_of(any_database)
    statements = """
INSERT INTO t VALUES (1, 'one');
ALTER TABLE t ADD COLUMN b int DEFAULT 5;
INSERT INTO t VALUES (2, 'two', 2);
BEGIN;
INSERT INTO t VALUES (3, 'three', 3);
ALTER TABLE t RENAME COLUMN a TO c;
INSERT INTO t VALUES (4, 'four', 4);
ALTER TABLE t DROP COLUMN b;
INSERT INTO t VALUES (5, 'five');
ALTER TABLE t ALTER COLUMN c TYPE int USING 0;
INSERT INTO t VALUES (6, 6);
COMMIT;
ALTER TABLE t RENAME TO u;
INSERT INTO u VALUES (7, 7)"""
    expected = [
        ("t", {"id": 1, "a": "one"}),
        ("t", {"id": 2, "a": "two", "b": 2}),
        ("t", {"id": 3, "a": "three", "b": 3}),
        ("t", {"id": 4, "c": "four", "b": 4}),
        ("t", {"id": 5, "c": "five"}),
        ("t", {"id": 6, "c": 6}),
        ("u", {"id": 7, "c": 7}),
    ]
    with any_database.connect() as connection:
        for statement in statements.strip().split(";\n"):
            connection.execute(statement.encode())

    def rows(events: Any) -> list[Any]:
        # Rewriting the table copies its rows within the server; none of that is a change.
        return [(e.relation.table, e.new) for e in events if isinstance(e, Insert)]

    slot = f"slot_{any_database.name}"
    capture = tmp_path / "capture"
    with (
        CaptureWriter(capture) as writer,
        pgstream.connect(any_database.dsn, slot=slot, until="now", tap=writer.write) as stream,
    ):
        assert rows(stream) == expected  # not acknowledged: all of it comes again
    with pgstream.connect(any_database.dsn, slot=slot, until="now") as stream:
        assert rows(stream) == expected
    assert rows(pgstream.read_payloads(read_capture(capture))) == expected


@pytest.mark.parametrize("version", [15, 18])
def test_prepared_transactions_are_exact(server_pool: Any, version: int) -> None:
    """21: prepared, committed, rolled back; each once, and their ends under their names."""
    from servers import fresh_database

    with fresh_database(server_pool.get(version)) as database:
        database.execute(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
        )
        events_of(database, two_phase=True)
        events = events_of(
            database,
            "BEGIN;\nINSERT INTO t VALUES (1);\nPREPARE TRANSACTION 'kept';\n"
            "BEGIN;\nINSERT INTO t VALUES (2);\nPREPARE TRANSACTION 'dropped';\n"
            "INSERT INTO t VALUES (3);\nROLLBACK PREPARED 'dropped';\nCOMMIT PREPARED 'kept'",
            two_phase=True,
        )
        rows = [(e.new["id"], e.gid) for e in events if isinstance(e, Insert)]
        assert rows == [(1, "kept"), (2, "dropped"), (3, None)]
        ends = [
            (type(e), e.gid) for e in events if isinstance(e, CommitPrepared | RollbackPrepared)
        ]
        assert ends == [(RollbackPrepared, "dropped"), (CommitPrepared, "kept")]


def test_partitions_filters_lists_and_truncate(database: Database) -> None:
    """24: what a publication leaves out is left out, and TRUNCATE tells all that it did."""
    database.execute(
        "CREATE TABLE p (id int PRIMARY KEY, a int, b text) PARTITION BY RANGE (id);"
        " CREATE TABLE low PARTITION OF p FOR VALUES FROM (0) TO (100);"
        " CREATE TABLE high PARTITION OF p FOR VALUES FROM (100) TO (200);"
        " CREATE TABLE f (id int PRIMARY KEY, a int, secret text);"
        " CREATE TABLE one (id int PRIMARY KEY);"
        " CREATE TABLE two (id int REFERENCES one, PRIMARY KEY (id));"
        " CREATE PUBLICATION pgstream_pub FOR TABLE p, f (id, a) WHERE (id > 10), one, two"
    )
    events_of(database)
    events = events_of(
        database,
        "INSERT INTO p VALUES (1, 1, 'x'), (101, 1, 'y');\n"
        "ALTER TABLE p DETACH PARTITION high;\n"
        "INSERT INTO high VALUES (102, 2, 'not published any more');\n"
        "INSERT INTO p VALUES (2, 2, 'z');\n"
        "INSERT INTO f VALUES (5, 5, 's'), (15, 15, 's');\n"
        "UPDATE f SET id = 16 WHERE id = 5;\n"
        "UPDATE f SET id = 6 WHERE id = 15;\n"
        "INSERT INTO one VALUES (1);\n"
        "INSERT INTO two VALUES (1);\n"
        "TRUNCATE one RESTART IDENTITY CASCADE",
    )
    rows = [(type(e).__name__, e.relation.table, getattr(e, "new", None)) for e in events[:-1]]  # type: ignore[union-attr]
    assert rows == [
        ("Insert", "low", {"id": 1, "a": 1, "b": "x"}),
        ("Insert", "high", {"id": 101, "a": 1, "b": "y"}),
        ("Insert", "low", {"id": 2, "a": 2, "b": "z"}),
        ("Insert", "f", {"id": 15, "a": 15}),
        # Into the filter it is an INSERT, out of it a DELETE.
        ("Insert", "f", {"id": 16, "a": 5}),
        ("Delete", "f", None),
        ("Insert", "one", {"id": 1}),
        ("Insert", "two", {"id": 1}),
    ]
    truncate = events[-1]
    assert isinstance(truncate, Truncate)
    assert {relation.table for relation in truncate.relations} == {"one", "two"}
    assert (truncate.cascade, truncate.restart_identity) == (True, True)


MEASURE = """
import resource, sys
import pgstream
rows = 0
with pgstream.connect(sys.argv[1], slot=sys.argv[2], until="now", streaming=sys.argv[3],
                      memory_limit=4 * 2**20) as stream:
    for batch in stream.batches(1000):
        rows += sum(isinstance(event, pgstream.Insert) for event in batch)
        stream.ack()
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("streaming", ["off", "on"])
def test_a_transaction_larger_than_the_memory_it_may_take(
    database: Database, streaming: str
) -> None:
    """19: held at once its events would take more than a hundred megabytes."""
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, line text);"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    events_of(database)
    peaks = []
    for rows in (100, 200_000):
        database.execute(
            f"TRUNCATE t; INSERT INTO t SELECT g, repeat('x', 300)"
            f" FROM generate_series(1, {rows}) g"
        )
        command = [sys.executable, "-c", MEASURE, database.dsn, f"slot_{database.name}", streaming]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        found, peak = map(int, done.stdout.split())
        assert found == rows
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 40 * 1024


def names_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_of_the_faults_names_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \| .* \|$", TABLE, re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 26))
    for row in re.findall(r"^\| \d+ \| .* \|$", TABLE, re.MULTILINE):
        assert re.search(r"`[\w/]+\.py::\w+`", row), row


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", TABLE))))
def test_the_test_is_there(name: str) -> None:
    file, test = name.split("::")
    assert test in names_in(file)
