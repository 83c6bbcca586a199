"""docs/operations.md does what it says; the links of all pages lead somewhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

import pgstream
from commandline import CommandLine
from pgstream import LSN
from pgstream.handlers import PostgresHandler
from servers import Database, fresh_database
from test_readme import snippets
from waiting import eventually

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operations.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

USERS = "CREATE TABLE users (id int PRIMARY KEY, name text)"


def block(language: str, word: str) -> str:
    """The only snippet in this language that has the word."""
    [found] = [text for kind, text in snippets(PAGE) if kind == language and word in text]
    return found


def shell(script: str, environment: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        env={k: v for k, v in os.environ.items() if not k.startswith("PGSTREAM_")}
        | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def source(database: Database) -> Database:
    database.execute(f"{USERS}; CREATE PUBLICATION pgstream_pub FOR TABLE users")
    return database


def test_the_queries(any_database: Database) -> None:
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    slot = f"slot_{any_database.name}"
    with pgstream.connect(any_database.dsn, slot=slot):
        rows = any_database.execute(block("sql", "until_lost"))
        [(pid, *_)] = [row[1:] for row in rows if row[0] == slot]
        found = any_database.execute(block("sql", "client_addr").replace("4711", str(pid)))
        assert [row[:2] for row in found] == [(pid, "pgstream")]
    with any_database.connect(autocommit=False) as connection:
        connection.execute("SELECT pg_current_xact_id()")
        pids = [row[0] for row in any_database.execute(block("sql", "backend_xid"))]
        assert connection.info.backend_pid in pids


def test_starting_over(source: Database, tmp_path: Path) -> None:
    slot = f"slot_{source.name}"
    pgstream.connect(source.dsn, slot=slot).close()
    source.execute("INSERT INTO users VALUES (1, 'a')")
    [script] = re.findall(r"pgstream slot drop.*\n.*\n", block("sh", "--snapshot"))
    script = script.replace("drop pgstream_slot", f"drop {slot}")
    script = script.replace("--snapshot", "--snapshot --until-now")
    shell(script, {"DATABASE_URL": source.dsn, "SLOT_NAME": slot}, tmp_path)
    [line] = (tmp_path / "changes.jsonl").read_text().splitlines()
    assert json.loads(line)["op"] == "snapshot"


def test_leaving_a_transaction_out(source: Database, tmp_path: Path) -> None:
    """What is left out is in a file, and the handler goes on behind it."""
    slot = f"slot_{source.name}"
    environment = {"DATABASE_URL": source.dsn, "SLOT_NAME": slot}

    with fresh_database(source.server) as target:
        target.execute(USERS)

        def follow(until: LSN | Literal["now"] = "now") -> None:
            options = {"values": "text", "snapshot": True, "until": until}
            with pgstream.connect(source.dsn, slot=slot, **options) as stream:
                stream.run(PostgresHandler(target.dsn))

        source.execute("INSERT INTO users VALUES (1, 'a')")
        follow()
        target.execute("DELETE FROM users")
        source.execute("INSERT INTO users VALUES (2, 'c')")
        source.execute("UPDATE users SET name = 'b' WHERE id = 1")
        source.execute("INSERT INTO users VALUES (3, 'd')")
        with pytest.raises(pgstream.HandlerError, match="found 0 rows") as caught:
            follow()
        [environment["LSN_OF_THE_ERROR"]] = re.findall(r"at (\w+/\w+)", caught.value.message)
        line = json.loads(shell(block("sh", "stuck.capture"), environment, tmp_path))
        commit = LSN(line["commit_lsn"])
        follow(commit)
        assert target.execute("SELECT * FROM users") == [(2, "c")]
        leave_out = block("sh", "left_out.jsonl").replace("0/108DBB89", str(LSN(commit + 1)))
        shell(leave_out, environment, tmp_path)
        [line] = (tmp_path / "left_out.jsonl").read_text().splitlines()
        assert json.loads(line)["new"] == {"id": 1, "name": "b"}
        with pytest.raises(pgstream.SlotMismatch):
            follow()
        target.execute(block("sql", "SET lsn = NULL"))
        follow()
        assert target.execute("SELECT * FROM users") == [(2, "c"), (3, "d")]


def test_rotating_a_file(source: Database, tmp_path: Path) -> None:
    """What comes between the new name and the end is in the old file, all else in the new one."""
    slot = f"slot_{source.name}"
    cli = CommandLine(tmp_path, {"DATABASE_URL": source.dsn, "SLOT_NAME": slot})
    options = ("run", "--format", "json", "--output", "changes.jsonl")
    cli(*options, "--until-now")
    file, old = tmp_path / "changes.jsonl", tmp_path / "changes.1.jsonl"
    with cli.running(*options) as process:
        source.execute("INSERT INTO users VALUES (1, 'a')")
        eventually(lambda: file.read_text().count("\n") == 1)
        file.rename(old)
        source.execute("INSERT INTO users VALUES (2, 'b')")
        eventually(lambda: old.read_text().count("\n") == 2)
        process.send(signal.SIGTERM)
        assert process.ended()[0] == 0
    source.execute("INSERT INTO users VALUES (3, 'c')")
    cli(*options, "--until-now")
    lines = [[json.loads(line) for line in name.read_text().splitlines()] for name in (old, file)]
    assert [[line["new"]["id"] for line in one] for one in lines] == [[1, 2], [3]]


def test_adding_a_table(source: Database, tmp_path: Path) -> None:
    """Rows that were there, and those written meanwhile: each is in the target once."""
    orders = "CREATE TABLE orders (id int PRIMARY KEY)"
    before, command, after = re.split(
        r"-- now, in a shell: (.*)\n", block("sql", "ADD TABLE orders")
    )
    source.execute(f"{orders}; INSERT INTO orders SELECT generate_series(1, 1000)")
    with fresh_database(source.server) as target:
        target.execute(f"{USERS}; {orders}")

        def follow() -> None:
            options = {"values": "text", "snapshot": True, "until": "now"}
            with pgstream.connect(source.dsn, slot=f"slot_{source.name}", **options) as stream:
                stream.run(PostgresHandler(target.dsn))

        follow()
        stopped = threading.Event()

        def write() -> None:
            with source.connect() as connection:
                number = 1000
                while not stopped.is_set():
                    number += 1
                    connection.execute("INSERT INTO orders VALUES (%s)", [number])
                    connection.execute("UPDATE orders SET id = -id WHERE id = %s", [number - 3])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            with source.connect() as connection:
                connection.execute(before.encode())
                programs = f"{source.server.installation / 'bin'}{os.pathsep}{os.environ['PATH']}"
                environment = {"PATH": programs, "SOURCE": source.dsn, "TARGET": target.dsn}
                shell(command, environment, tmp_path)
                connection.execute(after.encode())
            stopped.wait(0.5)
        finally:
            stopped.set()
            writer.join()
        follow()
        rows = "SELECT id FROM orders ORDER BY id"
        assert target.execute(rows) == source.execute(rows)


def test_the_failover_settings(database: Database) -> None:
    text = re.sub(r"--.*", "", block("sql", "sync_replication_slots"))
    for statement in filter(str.strip, text.split(";")):
        database.execute(statement)
        [name] = re.findall(r"SET (\w+) =", statement)
        database.execute(f"ALTER SYSTEM RESET {name}")


def test_the_monitor(source: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    source.execute("INSERT INTO users VALUES (1, 'a')")
    monkeypatch.setenv("DATABASE_URL", source.dsn)
    text = block("python", "stream.status()")
    call = 'connect(os.environ["DATABASE_URL"]'
    assert call in text
    text = text.replace(call, f'{call}, until="now", slot="slot_{source.name}"')
    exec(compile(text.replace("wait(10)", "wait(0.001)"), str(PAGE), "exec"), {})


def test_both_ways(database: Database) -> None:
    """Two databases that follow each other; what was applied does not come back."""
    with fresh_database(database.server) as other:
        sides = {"here": database, "there": other}
        for side in sides.values():
            side.execute(f"{USERS}; CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
            pgstream.connect(side.dsn, slot=f"slot_{side.name}").close()

        def follow(name: str) -> list[bytes]:
            seen: list[bytes] = []

            def connect(dsn: str, **settings: Any) -> pgstream.Stream:
                slot = f"slot_{sides[name].name}"
                return pgstream.connect(
                    dsn, until="now", slot=slot, tap=lambda p: seen.append(p[25:26]), **settings
                )

            code = compile(block("python", f"connect({name},"), str(PAGE), "exec")
            dsns = {known: side.dsn for known, side in sides.items()}
            exec(code, {"connect": connect, "PostgresHandler": PostgresHandler, **dsns})
            return seen

        try:
            for round_ in range(3):
                database.execute(f"INSERT INTO users VALUES ({round_}, 'here')")
                other.execute(f"INSERT INTO users VALUES ({round_ + 10}, 'there')")
                database.execute("UPDATE users SET name = name || '+' WHERE name LIKE 'here%'")
                other.execute("UPDATE users SET name = name || '-' WHERE name LIKE 'there%'")
                for name in sides:
                    follow(name)
            rows = "SELECT * FROM users ORDER BY id"
            expected = [(0, "here+++"), (1, "here++"), (2, "here+")]
            expected += [(10, "there---"), (11, "there--"), (12, "there-")]
            assert database.execute(rows) == other.execute(rows) == expected
            # Nothing is left that would go around: not even the rows that keep the positions.
            assert not {b"I", b"U", b"D"}.intersection(follow("here") + follow("there"))
        finally:
            for name in sides:
                database.execute("SELECT pg_replication_origin_drop(%s)", [name])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in anchors, target


def test_the_role_of_a_target(source: Database) -> None:
    """The rights that the table names are enough."""
    role = f"writer_{source.name}"
    with fresh_database(source.server) as target:
        target.execute(
            f"{USERS}; CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}"
        )
        target.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON users TO {role}")
        source.execute("INSERT INTO users VALUES (1, 'a')")
        dsn = psycopg.conninfo.make_conninfo(target.dsn, user=role)
        try:
            with pytest.raises(pgstream.HandlerError, match="session_replication_role"):
                PostgresHandler(dsn)
            target.execute(f"GRANT SET ON PARAMETER session_replication_role TO {role}")
            options = {"values": "text", "snapshot": True, "until": "now"}
            with pgstream.connect(source.dsn, slot=f"slot_{source.name}", **options) as stream:
                stream.run(PostgresHandler(dsn))
            assert target.execute("SELECT * FROM users") == [(1, "a")]
        finally:
            target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
