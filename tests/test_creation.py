"""Creating a slot waits for open transactions, and says which."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from psycopg.pq.abc import PGconn

import pgstream
from commandline import CommandLine
from pgstream import creation
from pgstream.config import Config
from pgstream.connector import ordinary_conninfo
from servers import Database


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "_PATIENCE", 0.2)
    monkeypatch.setattr(creation, "_AGAIN", 0.2)


@pytest.fixture
def published(any_database: Database) -> Database:
    any_database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    return any_database


def connect_while_blocked(database: Database, release: Any) -> list[str]:
    """Connect; call ``release`` once it is said what that waits for; return what was said."""
    said: list[str] = []

    def notice(text: str) -> None:
        said.append(text)
        if "waits for" in text:
            release()

    pgstream.connect(database.dsn, slot=f"slot_{database.name}", notice=notice).close()
    return said


@pytest.mark.usefixtures("impatient")
def test_an_open_transaction_is_named(published: Database) -> None:
    with published.connect(autocommit=False, application_name="the long one") as holder:
        holder.execute("INSERT INTO users VALUES (1)")
        said = connect_while_blocked(published, holder.commit)
        pid = holder.info.backend_pid
    assert len(said) == 2
    assert said[0].startswith(
        f"creating slot slot_{published.name} waits for the transaction of PID {pid} (user"
        f" 'postgres', application 'the long one'), open since "
    )
    assert said[1].startswith("created slot")


@pytest.mark.usefixtures("impatient")
def test_a_transaction_is_named_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def look(config: Config, pgconn: PGconn) -> str:
        nonlocal looks
        looks += 1
        if looks == 3:
            holder.commit()
        return ordinary_conninfo(config, pgconn)

    monkeypatch.setattr(creation, "ordinary_conninfo", look)
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    said: list[str] = []
    with database.connect(autocommit=False) as holder:
        holder.execute("INSERT INTO users VALUES (1)")
        pgstream.connect(database.dsn, slot=f"slot_{database.name}", notice=said.append).close()
    assert [text.split()[0] for text in said] == ["creating", "created"]


@pytest.mark.usefixtures("impatient")
def test_a_prepared_transaction_is_named(published: Database) -> None:
    gid = f"forgotten {published.name}"
    published.execute(f"BEGIN; INSERT INTO users VALUES (1); PREPARE TRANSACTION '{gid}'")
    said = connect_while_blocked(published, lambda: published.execute(f"ROLLBACK PREPARED '{gid}'"))
    assert f"waits for the prepared transaction '{gid}' of postgres, since " in said[0]


def test_the_command_says_it_too(tmp_path: Path, database: Database) -> None:
    cli = CommandLine(tmp_path)
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    with database.connect(autocommit=False) as holder:
        holder.execute("INSERT INTO users VALUES (1)")
        slot = f"slot_{database.name}"
        with cli.running("slot", "create", slot, DATABASE_URL=database.dsn) as process:
            line = process.stderr.readline().decode()
            assert f"waits for the transaction of PID {holder.info.backend_pid} " in line
            holder.commit()
            status, _, messages = process.ended()
    assert status == 0
    assert f"created slot {slot}" in messages


@pytest.mark.usefixtures("impatient")
def test_who_cannot_look_still_waits(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second connection is refused: the first goes on."""
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    name = f"role_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN REPLICATION CONNECTION LIMIT 0")
    try:
        with database.connect(autocommit=False) as holder:
            holder.execute("INSERT INTO users VALUES (1)")
            threading.Timer(1.0, holder.commit).start()
            said: list[str] = []
            dsn = f"{database.dsn} user={name}"
            pgstream.connect(dsn, slot=f"slot_{database.name}", notice=said.append).close()
        assert [text.split(" at ")[0] for text in said] == [f"created slot slot_{database.name}"]
    finally:
        database.execute(f"DROP ROLE {name}")
