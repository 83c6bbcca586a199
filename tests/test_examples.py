"""The examples run, and do what they say."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replica import select_text
from servers import Database, fresh_database

EXAMPLES = Path(__file__).parents[1] / "examples"

USERS = "CREATE TABLE users (id int PRIMARY KEY, name text, paid numeric(10,2), doc jsonb)"


def run(name: str, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments, "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.fixture
def source(database: Database) -> Iterator[Database]:
    database.execute(f"{USERS}; CREATE PUBLICATION pgstream_pub FOR TABLE users")
    database.execute(
        "INSERT INTO users VALUES (1, 'Ada', 1.50, '{\"a\":  [1]}'), (2, 'Bob', NULL, NULL)"
    )
    yield database
    # Slots have names of their own; the next example makes the same.
    for slot in ("copy_to_postgres", "tables_in_sqlite"):
        database.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            f" WHERE slot_name = '{slot}'"
        )


CHANGES = """
UPDATE users SET paid = paid + 1 WHERE id = 1;
DELETE FROM users WHERE id = 2;
INSERT INTO users VALUES (3, 'Cy', 0.10, NULL)
"""


def test_copy_to_postgres(source: Database) -> None:
    with fresh_database(source.server) as target:
        target.execute(USERS)
        assert "copying 1 table, as it stands" in run("copy_to_postgres.py", source.dsn, target.dsn)
        source.execute(CHANGES)
        assert "copying" not in run("copy_to_postgres.py", source.dsn, target.dsn)
        with source.connect() as one, target.connect() as two:
            assert select_text(two, "public.users") == select_text(one, "public.users")


def test_tables_in_sqlite(source: Database, tmp_path: Path) -> None:
    file = tmp_path / "users.db"
    assert "copying 1 table, as it stands" in run("tables_in_sqlite.py", source.dsn, str(file))
    source.execute(CHANGES)
    run("tables_in_sqlite.py", source.dsn, str(file))
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT * FROM users ORDER BY id").fetchall()
    assert rows == [(1, "Ada", "2.50", '{"a": [1]}'), (3, "Cy", "0.10", None)]


@pytest.mark.parametrize("name", ["copy_to_postgres.py", "tables_in_sqlite.py"])
def test_an_example_says_what_it_takes(name: str) -> None:
    assert f"python examples/{name} SOURCE " in run(name, status=1)


def test_an_example_says_what_it_lacks(source: Database) -> None:
    with fresh_database(source.server) as target:
        said = run("copy_to_postgres.py", source.dsn, target.dsn, status=1)
    assert "public.users is not in the target database\nHint: create it there" in said
    assert "Traceback" not in said
    said = run("tables_in_sqlite.py", source.dsn, "/no/such/file", status=1)
    assert "Traceback" not in said


def test_every_example_is_tested() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert f'run("{example.name}"' in tested
