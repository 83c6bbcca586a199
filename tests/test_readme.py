"""Every snippet of the README runs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import click
import pytest

import pgstream
from pgstream.capture import CaptureWriter
from pgstream.cli.streams import run
from pgstream.embedded import Server, embedded_installation
from servers import Database

README = Path(__file__).parents[1] / "README.md"
FORMATS = README.parent / "docs" / "formats.md"
TYPES = README.parent / "docs" / "types.md"


def snippets(file: Path) -> list[tuple[str, str]]:
    """The language and the text of each."""
    return re.findall(r"^```(\w+)\n(.*?)^```", file.read_text(), re.MULTILINE | re.DOTALL)


BLOCKS = snippets(README)

# What `make` does is what runs this test.
COMMANDS = [
    line.split("#")[0].strip()
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if not line.startswith("make ")
]


def blocks(language: str) -> list[str]:
    return [block for found, block in BLOCKS if found == language]


@pytest.fixture
def environment(database: Database) -> dict[str, str]:
    own = {"DATABASE_URL": database.dsn, "SLOT_NAME": f"slot_{database.name}"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return (
        {k: v for k, v in os.environ.items() if not k.startswith("PGSTREAM_")}
        | own
        | {"PATH": path}
    )


def test_nothing_is_left_out() -> None:
    assert [language for language, _ in BLOCKS] == ["python", "sh", "sh", "sql", "sh", "python"]


def test_the_settings_are_those_that_there_are() -> None:
    """In all three spellings, each of which the others lead to."""
    lines = [line.split("|") for line in README.read_text().splitlines()]
    rows = [line[1:4] for line in lines if len(line) == 6 and " `--" in line[2]]
    options = {
        (option.envvar, "/".join((*option.opts, *option.secondary_opts)))
        for option in run.params
        if isinstance(option, click.Option) and option.envvar not in (None, "PGSTREAM_DEBUG")
    }
    listed = [re.findall(r"`(.*?)`", f"{names} {spelled}") for names, spelled, _ in rows]
    pairs = [(row[i], row[i + len(row) // 2]) for row in listed for i in range(len(row) // 2)]
    assert sorted(pairs) == sorted(options)
    keywords = {name for _, _, cell in rows for name in re.findall(r"`(.*?)`", cell)}
    assert keywords <= set(inspect.signature(pgstream.connect).parameters)
    assert inspect.signature(pgstream.connect).parameters == (
        inspect.signature(pgstream.connect_async).parameters
    )


def test_the_example(database: Database, environment: dict[str, str]) -> None:
    """It shows what is inserted and changed, and acknowledges it."""
    del environment["SLOT_NAME"]  # the example takes the defaults
    database.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
    process = subprocess.Popen(
        [sys.executable, "-c", blocks("python")[0]],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    killer = threading.Timer(60, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        while not database.execute("SELECT 1 FROM pg_replication_slots WHERE active"):
            assert process.poll() is None
        database.execute("INSERT INTO users VALUES (1, 'Mujib')")
        database.execute("UPDATE users SET name = 'Bum'")
        database.execute("DELETE FROM users")
        assert [process.stdout.readline() for _ in range(3)] == [
            "insert users {'id': 1, 'name': 'Mujib'}\n",
            "change users {'id': 1, 'name': 'Bum'}\n",
            "change users {'id': 1}\n",
        ]
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def test_the_decoder_alone() -> None:
    exec(compile(blocks("python")[1], str(README), "exec"), {})


def test_the_snippet_of_the_types() -> None:
    [(_, snippet)] = snippets(TYPES)
    exec(compile(snippet, str(TYPES), "exec"), {})


def test_the_snippet_of_the_formats(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    slot = f"slot_{database.name}"
    pgstream.connect(database.dsn, slot=slot, create_publication=True).close()
    database.execute("INSERT INTO users VALUES (1)")
    monkeypatch.chdir(tmp_path)
    with (
        CaptureWriter("stream.capture") as capture,
        pgstream.connect(database.dsn, slot=slot, until="now", tap=capture.write) as stream,
    ):
        events = list(stream)
    [(_, snippet)] = snippets(FORMATS)
    exec(compile(snippet, str(FORMATS), "exec"), {})
    assert capsys.readouterr().out.splitlines() == [str(event) for event in events]


def test_the_commands(database: Database, environment: dict[str, str]) -> None:
    database.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
    outputs = {}
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            command = command.replace("--slot pgstream_slot", f"--slot {environment['SLOT_NAME']}")
            if "doctor" in command:  # before anything is set up, it says what is missing
                expected = 1
            else:
                expected = 0
                database.execute("INSERT INTO users SELECT coalesce(max(id), 0) + 1 FROM users")
            done = subprocess.run(
                ["sh", "-c", command],
                env=environment,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == expected, (command, done.stderr)
            outputs[command] = done.stdout
        assert '"op":"insert"' in (Path(folder) / "changes.jsonl").read_text()
        assert '"op":"insert"' in outputs["pgstream replay stream.capture --format json"]
    assert database.execute(
        "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
    ) == [(0,)]


def test_the_set_up(tmp_path: Path) -> None:
    """A server as initdb makes it is ready after the SQL of the README and a restart."""
    with Server(embedded_installation(), settings={"wal_level": "replica"}) as server:
        database = Database(server, "postgres")
        # wal_level stands in our postgresql.conf; ALTER SYSTEM wins over that.
        for statement in re.sub(r"--.*", "", blocks("sql")[0]).split(";"):
            if statement.strip():
                database.execute(statement)
        server.restart()
        dsn = database.dsn.replace("user=postgres", "user=reader")
        done = subprocess.run(
            [sys.executable, "-m", "pgstream", "run", "--dsn", dsn, "--until-now"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
