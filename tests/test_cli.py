"""The command line on real servers: what it prints, acknowledges and ends with."""

from __future__ import annotations

import fcntl
import importlib.util
import inspect
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import pgstream
import servers
from commandline import SECONDS, CommandLine
from conftest import not_available
from pgstream.capture import read_capture
from pgstream.cli import streams
from pgstream.cli.output import Output, _end_last_line
from pgstream.cli.signals import Stopper, stopper
from pgstream.embedded import Server
from pgstream.lsn import LSN
from pgstream.messages import LogicalMessage
from servers import Database
from waiting import eventually

TABLES = """
    CREATE TABLE users (id int PRIMARY KEY, name text, born date, extra jsonb);
    CREATE TABLE items (id int PRIMARY KEY, price numeric(10, 2));
    CREATE PUBLICATION pgstream_pub FOR ALL TABLES;
"""


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line, with no database named."""
    return CommandLine(tmp_path)


@pytest.fixture
def shop(database: Database, cli: CommandLine) -> CommandLine:
    """The command line on a database with two tables, their publication and a slot of its own."""
    database.execute(TABLES)
    here = CommandLine(cli.directory, {"DATABASE_URL": url(database), "SLOT_NAME": database.name})
    here("slot", "create")
    return here


def url(database: Database, **parameters: str) -> str:
    """Return the URL of a database over TCP, with its password."""
    dsn = conninfo_to_dict(database.tcp_dsn) | parameters
    return "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**dsn)


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def is_active(database: Database) -> bool:
    [(active,)] = database.execute(
        f"SELECT active FROM pg_replication_slots WHERE slot_name = '{database.name}'"
    )
    return bool(active)


# What is shown


def test_run_shows_json_once(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO users VALUES (1, 'Mujib', '2001-02-03', '{\"a\": [1, 2.50]}')")
    database.execute("UPDATE users SET id = 2; DELETE FROM users; TRUNCATE items, users")
    done = shop("run", "--format", "json", "--until-now")
    insert, update, delete, *truncates = lines_of(done.stdout)
    assert done.stderr == ""
    assert insert.pop("new") == {
        "id": 1,
        "name": "Mujib",
        "born": "2001-02-03",
        "extra": {"a": [1, 2.5]},
    }
    assert '"extra":{"a": [1, 2.50]}' in done.stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", insert.pop("commit_time"))
    assert list(insert) == ["op", "schema", "table", "lsn", "commit_lsn", "ordinal", "xid"]
    assert (update["op"], update["old"]["id"], update["new"]["id"]) == ("update", 1, 2)
    assert (delete["op"], delete["ordinal"], delete["old"]["id"]) == ("delete", 1, 2)
    assert [(t["op"], t["table"], t["ordinal"]) for t in truncates] == [
        ("truncate", "items", 2),
        ("truncate", "users", 3),
    ]
    assert shop("run", "--format", "json", "--until-now").stdout == ""


def test_run_shows_text_without_colour_in_a_pipe(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items VALUES (1, 2.50)")
    done = shop("run", "--until-now")
    header, *rest = done.stdout.splitlines()
    assert re.fullmatch(r"\[INSERT\] table=public\.items lsn=[0-9A-F]+/[0-9A-F]+", header)
    assert rest == ["data={", '  "id": 1,', '  "price": "2.50"', "}"]


def test_run_until_an_lsn(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items VALUES (1)")
    [(lsn,)] = database.execute("SELECT pg_current_wal_insert_lsn()::text")
    database.execute("INSERT INTO items VALUES (2)")
    first = shop("run", "--format", "json", "--until-lsn", str(lsn))
    assert [line["new"]["id"] for line in lines_of(first.stdout)] == [1]
    second = shop("run", "--format", "json", "--until-now")
    assert [line["new"]["id"] for line in lines_of(second.stdout)] == [2]


def test_values_as_text(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO users VALUES (7, NULL, '0044-03-15 BC', '{\"a\":1}')")
    [line] = lines_of(shop("run", "--format", "json", "--values", "text", "--until-now").stdout)
    assert line["new"] == {"id": "7", "name": None, "born": "0044-03-15 BC", "extra": '{"a": 1}'}


def test_numeric_as_a_number(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items VALUES (1, 2.50)")
    shop("record", "capture", "--until-now")
    for output_format, expected in (("json", '"price":2.5}'), ("text", '"price": 2.5\n')):
        options = ("--format", output_format, "--numeric", "float")
        assert expected in shop("replay", "capture", *options).stdout
    assert '"price":"2.50"}' in shop("replay", "capture", "--format", "json").stdout
    settings = {"PGSTREAM_NUMERIC": "float", "PGSTREAM_FORMAT": "json"}
    [line] = lines_of(shop("run", "--until-now", **settings).stdout)
    assert line["new"]["price"] == 2.5


def test_binary_gives_the_same_as_text(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO users VALUES (1, 'ü', 'infinity', '{\"a\": 1.0}')")
    database.execute("INSERT INTO items VALUES (1, 1234.50)")
    shop("record", "capture", "--until-now")
    text = shop("run", "--no-create-slot", "--format", "json", "--until-now", "--binary").stdout
    assert text == shop("replay", "capture", "--format", "json").stdout
    assert len(lines_of(text)) == 2


def test_messages_when_asked_for(shop: CommandLine, database: Database) -> None:
    database.execute("SELECT pg_logical_emit_message(false, 'app', 'hello')")
    [line] = lines_of(shop("run", "--format", "json", "--messages", "--until-now").stdout)
    assert (line["op"], line["prefix"], line["content"]) == ("message", "app", "hello")
    assert "commit_lsn" not in line


def test_what_came_from_elsewhere_is_left_out_when_asked_for(
    shop: CommandLine, database: Database
) -> None:
    database.execute("SELECT pg_replication_origin_create(%s)", [database.name])
    try:
        with database.connect() as replicating:
            replicating.execute("SELECT pg_replication_origin_session_setup(%s)", [database.name])
            replicating.execute("INSERT INTO items VALUES (1)")
        database.execute("INSERT INTO items VALUES (2)")
        shop("record", "every", "--until-now")
        assert len(lines_of(shop("replay", "every", "--format", "json").stdout)) == 2
        shop("record", "own", "--until-now", "--origin", "none")
        own = shop("replay", "own", "--format", "json").stdout
        settings = {"PGSTREAM_ORIGIN": "none", "PGSTREAM_FORMAT": "json"}
        assert shop("run", "--until-now", **settings).stdout == own
        assert [line["new"]["id"] for line in lines_of(own)] == [2]
        assert "Invalid value" in shop("run", "--origin", "here", status=2).stderr
    finally:
        database.execute("SELECT pg_replication_origin_drop(%s)", [database.name])


def test_tables_leave_out_the_rows_of_others(shop: CommandLine, database: Database) -> None:
    database.execute('CREATE SCHEMA "Odd.One"; CREATE TABLE "Odd.One"."a,b" (id int PRIMARY KEY)')
    database.execute(
        'INSERT INTO items VALUES (1); INSERT INTO users VALUES (1); INSERT INTO "Odd.One"."a,b" '
        "VALUES (3); TRUNCATE items, users"
    )
    done = shop(*("run", "--until-now", "--format", "json", "--tables", 'users,"Odd.One"."a,b"'))
    assert [(line["op"], line["table"], line["ordinal"]) for line in lines_of(done.stdout)] == [
        ("insert", "users", 1),
        ("insert", "a,b", 2),
        ("truncate", "users", 4),
    ]


def test_a_table_that_is_not_published_is_refused_before_a_slot_is_made(
    cli: CommandLine, database: Database
) -> None:
    database.execute(TABLES)
    options = ("--dsn", database.dsn, "--slot", database.name, "--until-now", "--tables", "Items")
    done = cli("run", *options, status=1)
    assert_clear(done, "table public.Items is not published by pgstream_pub", "case of letters")
    done = cli("run", *options, "--publication", "mine", "--create-publication", status=1)
    assert_clear(done, 'relation "public.Items" does not exist', "case of its letters")
    done = cli("run", *options, "--publication", "mine", status=1)
    assert_clear(done, "publication 'mine' is not in database")
    assert not database.execute(
        "SELECT FROM pg_replication_slots WHERE database = current_database()"
    )


def test_create_publication_of_tables(cli: CommandLine, database: Database) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    options = ("--dsn", database.dsn, "--slot", database.name, "--publication", "Mine,other")
    done = cli(*("run", *options, "--create-publication", "--tables", "public.b", "--until-now"))
    assert "created publication Mine\n" in done.stderr
    assert f"created slot {database.name} at" in done.stderr
    assert database.execute(
        "SELECT pubname::text, tablename::text FROM pg_publication_tables ORDER BY pubname"
    ) == [("Mine", "b"), ("other", "b")]


@pytest.mark.parametrize(
    ("settings", "coloured"),
    [({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_on_a_terminal(cli: CommandLine, settings: dict[str, str], coloured: bool) -> None:
    message = b"w" + bytes(24) + b"M\x00" + bytes(8) + b"app\x00\x00\x00\x00\x02hi"
    (cli.directory / "capture").write_bytes(b"d" + (len(message) + 4).to_bytes(4) + message)
    terminal, its_end = pty.openpty()
    try:
        cli("replay", "capture", stdout=its_end, **settings)
        shown = os.read(terminal, 4096).decode()
    finally:
        os.close(its_end)
        os.close(terminal)
    assert 'prefix="app" lsn=0/0 transactional=false\r\ncontent="hi"' in shown
    assert ("\x1b[" in shown) == coloured


# Files


def test_output_is_added_to_a_file(shop: CommandLine, database: Database) -> None:
    file = shop.directory / "events.jsonl"
    file.write_text('{"op":"ins')
    for number in (1, 2):
        database.execute(f"INSERT INTO items VALUES ({number})")
        done = shop("run", "--format", "json", "--until-now", "--output", "events.jsonl")
        assert done.stdout == ""
    lines = file.read_text().splitlines()  # what a crash had cut short is cut off
    assert [json.loads(line)["new"]["id"] for line in lines] == [1, 2]


@pytest.mark.parametrize("output_format", ["json", "text"])
def test_standard_output_begins_on_a_line_of_its_own(
    shop: CommandLine, database: Database, output_format: str
) -> None:
    """``>> FILE``: a line that a crash cut short must not take the next one with it."""
    file = shop.directory / "events"
    file.write_text('{"op":"ins')
    for number in (1, 2):
        database.execute(f"INSERT INTO items VALUES ({number})")
        with file.open("ab") as added:
            shop("run", "--format", output_format, "--until-now", stdout=added.fileno())
    lines = file.read_text().splitlines()
    assert lines.pop(0) == '{"op":"ins'
    if output_format == "json":
        assert [json.loads(line)["new"]["id"] for line in lines] == [1, 2]
    else:
        assert lines[0].startswith("[INSERT] ")
        assert "" not in lines


def test_standard_output_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_text("torn")
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        _end_last_line(descriptor, str(tmp_path / "no/such/name"))
    finally:
        os.close(descriptor)
    assert file.read_text() == "torn\n"


def test_text_is_added_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_text("torn")
    for number in (1, 2):
        with Output(str(file), append=True, output_format="text") as shown:
            shown(LogicalMessage("p", b"x", False, LSN(number), None, None, None, None))
    header = '[MESSAGE] prefix="p" lsn=0/{} transactional=false\ncontent="x"\n'
    assert file.read_text() == "torn\n" + header.format(1) + header.format(2)


def test_standard_output_at_the_end_of_a_file(tmp_path: Path) -> None:
    """As in ``{ something; pgstream run; } > FILE``."""
    file = tmp_path / "events"
    file.write_text("torn")
    with file.open("r+b") as opened:
        opened.seek(0, os.SEEK_END)
        _end_last_line(opened.fileno(), str(file))
    assert file.read_text() == "torn\n"


def test_standard_output_in_the_middle_of_a_file(tmp_path: Path) -> None:
    """Only what is added needs a line of its own."""
    file = tmp_path / "events"
    file.write_text("what is there")
    with file.open("r+b") as opened:
        _end_last_line(opened.fileno(), str(file))
    assert file.read_text() == "what is there"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_what_cannot_be_written_is_not_acknowledged(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items VALUES (1)")
    done = shop("run", "--until-now", "--output", "/dev/full", status=1)
    assert done.stderr == "pgstream: cannot write to /dev/full: No space left on device\n"
    assert len(lines_of(shop("run", "--until-now", "--format", "json").stdout)) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_no_command_takes_a_full_disk_for_done(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items VALUES (1)")
    shop("record", "capture", "--until-now")
    commands = [
        *(["--version"], ["--help"], ["run", "--help"], ["slot", "--help"], ["slot", "list"]),
        *(["doctor"], ["replay", "capture"], ["replay", "capture", "--format", "json"]),
        *(["run", "--until-now"], ["run", "--until-now", "--format", "json"]),
    ]
    with Path("/dev/full").open("wb") as full:
        for command in commands:
            done = shop(*command, status=1, stdout=full.fileno(), PYTHONUNBUFFERED="")
            said = "pgstream: cannot write to standard output: No space left on device\n"
            assert done.stderr == said, command
        done = shop("record", "-", "--until-now", status=1, stdout=full.fileno())
        assert done.stderr.endswith(
            "cannot write the capture standard output: No space left on device\n"
        )
        assert done.stderr.count("\n") == 1
    assert len(lines_of(shop("run", "--until-now", "--format", "json").stdout)) == 1


@pytest.mark.parametrize("output_format", ["json", "text"])
@pytest.mark.parametrize("where", ["file", "standard output"])
def test_a_disk_that_fills_up_is_the_reason_that_is_shown(
    shop: CommandLine, database: Database, output_format: str, where: str
) -> None:
    """With a limit to the size of a file in its place."""
    database.execute("INSERT INTO users SELECT i, repeat('x', 1000) FROM generate_series(1, 999) i")
    file = shop.directory / "events"
    output = ["--output", "events"] if where == "file" else []
    command = [sys.executable, "-m", "pgstream", "run", "--until-now", "--format", output_format]
    with file.open("ab") as added:
        done = subprocess.run(
            ["sh", "-c", 'ulimit -f 200 && exec "$@"', "sh", *command, *output],
            stdout=subprocess.PIPE if output else added,
            stderr=subprocess.PIPE,
            cwd=shop.directory,
            env=shop.environment({}),
            timeout=SECONDS,
        )
    assert done.returncode == 1
    name = "events" if output else "standard output"
    assert done.stderr.decode() == f"pgstream: cannot write to {name}: File too large\n"
    rest = shop("run", "--until-now", "--format", "json").stdout
    assert len(lines_of(rest)) == 999  # nothing of it was acknowledged


def with_closed(
    which: str, cli: CommandLine, *arguments: str
) -> subprocess.CompletedProcess[bytes]:
    """Run it from a shell that has closed what ``which`` says."""
    script = f'"$@" {which}'
    return subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-m", "pgstream", *arguments],
        capture_output=True,
        cwd=cli.directory,
        env=cli.environment({}),
        timeout=SECONDS,
    )


def test_standard_output_that_is_closed(shop: CommandLine) -> None:
    for which in (">&-", "<&- >&-"):
        done = with_closed(which, shop, "run", "--until-now")
        assert done.returncode == 1
        assert done.stderr == b"pgstream: cannot open standard output: Bad file descriptor\n"


def test_standard_error_that_is_closed(shop: CommandLine, database: Database) -> None:
    """What is said goes nowhere, and nothing else takes its place."""
    database.execute("INSERT INTO users VALUES (1)")
    done = with_closed("2>&-", shop, "run", "--until-now", "--format", "json", "--snapshot")
    assert (done.returncode, len(lines_of(done.stdout.decode()))) == (0, 1)
    done = with_closed("2>&- >&-", shop, "run", "--until-now")
    assert (done.returncode, done.stderr) == (1, b"")


def test_output_that_cannot_be_opened(shop: CommandLine) -> None:
    done = shop("run", "--until-now", "--output", "no/such/file", status=1)
    assert done.stderr == "pgstream: cannot open no/such/file: No such file or directory\n"


def test_replay_shows_what_run_shows(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 500) AS i")
    database.execute("UPDATE users SET name = NULL WHERE id % 2 = 0; DELETE FROM users")
    done = shop("record", "capture", "--until-now")
    size = (shop.directory / "capture").stat().st_size
    count = int(re.search(r"(\d+) messages", done.stderr)[1])  # type: ignore[index]
    assert f", {size - 5 * count} bytes are in capture" in done.stderr
    assert done.stdout == ""
    # Nothing was acknowledged: all of it comes again.
    live = shop("run", "--until-now", "--format", "json").stdout
    assert len(lines_of(live)) == 1250
    replayed = shop("replay", "capture", "--format", "json").stdout
    assert replayed == live
    capture = (shop.directory / "capture").read_bytes()
    piped = shop("replay", "-", "--format", "json", "--output", "out", input=capture)
    assert piped.stdout == ""
    assert (shop.directory / "out").read_text() == live
    shop("replay", "capture", "--format", "json", "--output", "out")
    assert (shop.directory / "out").read_text() == live
    assert shop("replay", "capture").stdout.count("[INSERT] table=public.users") == 500


def test_a_capture_keeps_the_types_that_it_needs(shop: CommandLine, database: Database) -> None:
    """A binary capture is replayed without the server, as run shows the changes in text."""
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b mood[]);"
        "CREATE TABLE felt (id int PRIMARY KEY, pairs pair[])"
    )
    database.execute("INSERT INTO felt VALUES (1, ARRAY[(1, '{sad,ok}')::pair, NULL])")
    shop("record", "capture", "--binary", "--until-now")
    types = json.loads((shop.directory / "capture.json").read_text())["types"]
    assert {one["name"] for one in types} == {"mood", "_mood", "pair", "_pair"}
    live = shop("run", "--until-now", "--format", "json").stdout
    replayed = shop("replay", "capture", "--format", "json").stdout
    assert replayed == live
    assert lines_of(live)[-1]["new"]["pairs"] == [{"a": 1, "b": ["sad", "ok"]}, None]
    (shop.directory / "capture.json").write_text("{")
    done = shop("replay", "capture", status=1)
    assert_clear(done, "capture.json is damaged", "move it away")
    (shop.directory / "capture.json").unlink()
    replayed = shop("replay", "capture", "--format", "json").stdout
    assert lines_of(replayed)[-1]["new"]["pairs"].startswith("\\x")


def test_the_types_of_a_capture_are_kept_at_once_and_when_they_come_up(
    shop: CommandLine, database: Database
) -> None:
    """A crash may leave what was there by then; what is new is in the file at the end."""
    database.execute("CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE felt (id int, m mood)")
    capture, types = shop.directory / "capture", shop.directory / "capture.json"
    with shop.running("record", "capture", "--ack") as process:
        eventually(lambda: types.exists() and "mood" in types.read_text())
        database.execute("CREATE TYPE kind AS ENUM ('new'); CREATE TABLE had (id int, k kind)")
        database.execute("INSERT INTO had VALUES (1, 'new')")
        eventually(lambda: b"new" in capture.read_bytes())
        process.send(signal.SIGTERM)
        assert process.ended()[0] == 0
    assert {"mood", "kind"} <= {one["name"] for one in json.loads(types.read_text())["types"]}


def test_record_with_ack(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items VALUES (1)")
    shop("record", "capture", "--ack", "--until-now")
    assert shop("run", "--until-now").stdout == ""
    assert len(lines_of(shop("replay", "capture", "--format", "json").stdout)) == 1


def test_record_to_standard_output(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items VALUES (1)")
    with (shop.directory / "capture").open("wb") as capture:
        done = shop("record", "-", "--until-now", stdout=capture.fileno())
    assert done.stderr.endswith(" bytes are in standard output\n")
    assert len(lines_of(shop("replay", "capture", "--format", "json").stdout)) == 1


def test_record_does_not_write_over_a_file(shop: CommandLine, database: Database) -> None:
    (shop.directory / "capture").write_bytes(b"precious")
    done = shop("record", "capture", "--until-now", status=1)
    assert "capture is not empty" in done.stderr
    assert (shop.directory / "capture").read_bytes() == b"precious"


def test_record_without_a_server_leaves_no_file(cli: CommandLine) -> None:
    before = list(cli.directory.iterdir())
    done = cli("record", "capture", "--dsn", f"host={cli.directory}", status=1)
    assert_clear(done, "cannot connect")
    assert list(cli.directory.iterdir()) == before


def test_both_decoders_replay_the_same(shop: CommandLine, database: Database) -> None:
    if importlib.util.find_spec("pgstream._decode") is None:
        not_available("the compiled decoder is not here")
    database.execute(
        "CREATE TABLE kinds (a numeric[], b bytea, c timestamptz, d uuid, e float4, f text[])"
    )
    database.execute(
        "INSERT INTO kinds VALUES ('{1.50,NaN,NULL}', '\\x00ff', '2026-01-01 12:00+05', "
        'gen_random_uuid(), 0.1, \'{"a,b","\\"",NULL,"NULL"}\'), '
        "('[2:3]={1,2}', '', 'infinity', NULL, 'NaN', '{}')"
    )
    shop("record", "capture", "--until-now", "--no-binary")  # for --values text
    for options in (["--format", "json"], ["--format", "text"], ["--values", "text"]):
        cython = shop("replay", "capture", *options, PGSTREAM_IMPL="cython").stdout
        assert cython == shop("replay", "capture", *options, PGSTREAM_IMPL="python").stdout
        assert cython


def test_a_torn_capture_is_shown_up_to_there(shop: CommandLine, database: Database) -> None:
    for number in range(3):
        database.execute(f"INSERT INTO items VALUES ({number})")
    shop("record", "capture", "--until-now")
    whole = lines_of(shop("replay", "capture", "--format", "json").stdout)
    content = (shop.directory / "capture").read_bytes()
    last_commit = content.rindex(b"C", 0, len(content))
    (shop.directory / "torn").write_bytes(content[: last_commit - 20])
    done = shop("replay", "torn", "--format", "json", status=1)
    assert lines_of(done.stdout) == whole
    found = re.match(r"pgstream: torn: byte (\d+): the file ends inside a message\n", done.stderr)
    assert found is not None
    kept = f"head -c {found[1]} torn > whole.capture"
    assert kept in done.stderr.splitlines()[1]
    subprocess.run(kept, shell=True, check=True, cwd=shop.directory)
    assert lines_of(shop("replay", "whole.capture", "--format", "json").stdout) == whole


def test_a_capture_that_is_not_there(cli: CommandLine) -> None:
    done = cli("replay", "nothing", status=1)
    assert done.stderr.startswith("pgstream: cannot open the capture nothing: No such file")


def test_a_malformed_message_is_an_error_after_what_came_before(cli: CommandLine) -> None:
    begin = b"w" + bytes(24) + b"B" + bytes(20)
    unknown = b"w" + bytes(24) + b"?"
    content = b"".join(b"d" + (len(p) + 4).to_bytes(4) + p for p in (begin, unknown))
    (cli.directory / "capture").write_bytes(content)
    for output_format in ("text", "json"):
        done = cli("replay", "capture", "--format", output_format, status=1)
        assert_clear(
            done,
            f"pgstream: capture: byte {len(content) - len(unknown) - 5}: malformed message: ",
            ", byte 25: ",  # in the message
            f"head -c {len(content) - len(unknown) - 5} capture > whole.capture",
        )
    done = cli("replay", "-", input=content, status=1)
    assert done.stderr.startswith("pgstream: standard input: malformed message: ")
    assert "Traceback" in cli("replay", "capture", "--debug", status=1).stderr
    assert "Traceback" in cli("replay", "capture", status=1, PGSTREAM_DEBUG="1").stderr
    assert "Traceback" in cli("--debug", "replay", "capture", status=1).stderr


# Settings


@pytest.mark.parametrize("query", ["", "?replication=database"])
def test_dotenv(cli: CommandLine, database: Database, query: str) -> None:
    database.execute(TABLES.replace("pgstream_pub", "from_dotenv"))
    (cli.directory / ".env").write_text(
        f"# settings\nDATABASE_URL={url(database)}{query}\nSLOT_NAME='{database.name}'\n"
        'export PUBLICATION_NAME="from_dotenv"\nPGSTREAM_FORMAT=json\n'
    )
    cli("run", "--until-now")
    database.execute("INSERT INTO items VALUES (1)")
    [line] = lines_of(cli("run", "--until-now").stdout)
    assert line["new"] == {"id": 1, "price": None}


def test_options_win_over_the_environment_and_that_over_dotenv(
    cli: CommandLine, database: Database
) -> None:
    database.execute(TABLES)
    (cli.directory / ".env").write_text(
        "DATABASE_URL=postgresql://nobody@127.0.0.1:1/nothing\n"
        f"SLOT_NAME={database.name}_dotenv\nPGSTREAM_UNTIL_NOW=1\n"
    )
    cli("run", DATABASE_URL=url(database))
    cli("run", DATABASE_URL=url(database), SLOT_NAME=f"{database.name}_environment")
    cli(
        *("run", "--dsn", url(database), "--slot", f"{database.name}_option"),
        SLOT_NAME=f"{database.name}_environment_2",
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing",
    )
    found = database.execute(
        "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() "
        "ORDER BY 1"
    )
    assert [name.removeprefix(database.name) for (name,) in found] == [
        "_dotenv",
        "_environment",
        "_option",
    ]


def test_switches_in_the_environment(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items VALUES (1)")
    off = {"PGSTREAM_CREATE_SLOT": "0", "SLOT_NAME": f"{database.name}_2"}
    assert "there is no replication slot" in shop("run", "--until-now", status=1, **off).stderr
    assert "Invalid value" in shop("run", status=2, PGSTREAM_UNTIL_NOW="perhaps").stderr
    settings = {"PGSTREAM_UNTIL_NOW": "yes", "PGSTREAM_VALUES": "text", "PGSTREAM_FORMAT": "json"}
    [line] = lines_of(shop("run", **settings, PGSTREAM_TABLES="public.items").stdout)
    assert line["new"] == {"id": "1", "price": None}


def test_an_empty_setting_is_none(cli: CommandLine) -> None:
    for name in ("DATABASE_URL", "PGHOST", "PGSERVICE"):
        assert "No database is named" in cli("run", status=2, **{name: ""}).stderr


def test_a_service_names_a_database(cli: CommandLine) -> None:
    assert 'definition of service "shop" not found' in cli("run", status=1, PGSERVICE="shop").stderr


def test_the_defaults_are_those_of_the_library() -> None:
    library = inspect.signature(pgstream.connect).parameters
    given = {
        option.name: option.default
        for option in streams.run.params
        if option.name in library
        and isinstance(option.default, str | int | float)
        and option.default
    }
    shared = given.keys() & library.keys()
    assert len(shared) > 8
    assert {name: given[name] for name in shared} == {n: library[n].default for n in shared}


def test_libpq_variables_name_a_database(cli: CommandLine, database: Database) -> None:
    database.execute(TABLES)
    dsn = conninfo_to_dict(database.dsn)
    cli(
        *("run", "--until-now", "--slot", database.name),
        PGHOST=str(dsn["host"]),
        PGPORT=str(dsn["port"]),
        PGUSER=str(dsn["user"]),
        PGDATABASE=database.name,
    )


def test_an_unreadable_dotenv(cli: CommandLine) -> None:
    (cli.directory / ".env").write_bytes(b"DATABASE_URL=\xff\xfe")
    assert "cannot read .env: it is not UTF-8 text" in cli("doctor", status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "No database is named"),
        (["doctor"], "No database is named"),
        (["slot", "list"], "No database is named"),
        (["run", "--dsn", "x=y"], "the DSN cannot be parsed"),
        (["run", "--dsn", "postgres://u:sesame@h@i/d"], "the DSN has an '@'"),
        (["run", "--dsn", "host=h", "--slot", "Upper"], "'Upper' cannot be the name"),
        (["run", "--dsn", "host=h", "--slot", "x" * 64], "cannot be the name"),
        (["run", "--dsn", "host=h", "--publication", ","], "no publication is named"),
        (["run", "--dsn", "host=h", "--tables", "a.b.c"], "'a.b.c' is not the name of a table"),
        (["run", "--dsn", "host=h", "--until-lsn", "5"], "not an LSN: '5'"),
        (["run", "--dsn", "host=h", "--until-lsn", "0/1", "--until-now"], "not both"),
        (["run", "--dsn", "host=h", "--format", "xml"], "'xml' is not one of"),
        (["run", "--dsn", "host=h", "--binary", "--values", "text"], "binary transfer"),
        (["run", "--nonsense"], "No such option"),
        (["slot", "drop", "--dsn", "host=h", "a", "--slot", "b"], "not both"),
        (["record"], "Missing argument 'FILE'"),
        (["nonsense"], "No such command"),
    ],
)
def test_wrong_usage(cli: CommandLine, arguments: list[str], said: str) -> None:
    done = cli(*arguments, status=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "sesame" not in done.stderr
    assert done.stdout == ""


def test_version_and_help(cli: CommandLine) -> None:
    assert re.match(r"pgstream \d+\.\d+\.\d+, (cython|python) decoder", cli("--version").stdout)
    for command in ([], ["run"], ["demo"], ["record"], ["replay"], ["doctor"], ["slot", "drop"]):
        shown = cli(*command, "--help").stdout
        assert shown.startswith("Usage: pgstream")
        assert "\b" not in shown  # click's mark for lines that stay as they are


# Ends


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_it_with_what_was_shown_acknowledged(
    shop: CommandLine, database: Database, number: int, status: int
) -> None:
    with shop.running("run", "--format", "json") as process:
        database.execute("INSERT INTO items VALUES (1)")
        assert process.line()["new"]["id"] == 1
        process.send(number)
        found, stdout, stderr = process.ended()
    assert (found, stdout) == (status, "")
    assert re.fullmatch(
        r"pgstream: stopped; the transactions shown are acknowledged, up to \w+/\w+\n", stderr
    )
    assert not is_active(database)
    assert shop("run", "--until-now").stdout == ""


def test_a_signal_before_there_is_a_stream_ends_it_where_it_stands() -> None:
    with pytest.raises(SystemExit) as caught:
        Stopper()(signal.SIGTERM, None)
    assert caught.value.code == 128 + signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        Stopper()(signal.SIGINT, None)


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As a shell has it for what it starts in the background."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with stopper() as handler:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGINT, former)


def test_a_signal_ends_a_recording_that_is_whole(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO items SELECT generate_series(1, 5000)")
    with shop.running("record", "capture") as process:
        capture = shop.directory / "capture"
        eventually(lambda: capture.exists() and capture.stat().st_size)  # it is reading
        process.send(signal.SIGINT)
        status, stdout, stderr = process.ended()
    assert (status, stdout) == (130, "")
    count = len(list(read_capture(capture)))
    assert re.fullmatch(rf"pgstream: {count} messages, \d+ bytes are in capture\n", stderr)


def installed(cli: CommandLine, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run what the installed command runs; ``python -m`` has the package loaded first."""
    [command] = metadata.entry_points(group="console_scripts", name="pgstream")
    code = f"from {command.module} import {command.attr}; {command.attr}()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        cwd=cli.directory,
        env=cli.environment(settings),
        timeout=SECONDS,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("module", ["psycopg", "click", "dotenv", "difflib"])
def test_ctrl_c_while_it_is_being_loaded(cli: CommandLine, module: str) -> None:
    (cli.directory / f"{module}.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    assert installed(cli, "run", PYTHONPATH=str(cli.directory)) == (130, "", "")
    if module != "psycopg":  # the command line alone imports it, when the package is there
        assert cli("run", status=130, PYTHONPATH=str(cli.directory)).stderr == ""


def test_a_decoder_that_there_is_not(cli: CommandLine) -> None:
    status, stdout, stderr = installed(cli, "--version", PGSTREAM_IMPL="nonsense")
    assert (status, stdout) == (1, "")
    assert stderr == (
        "pgstream: PGSTREAM_IMPL is 'nonsense'\n"
        "Hint: set it to 'cython' or 'python', or leave it unset\n"
    )
    assert "Traceback" in installed(cli, "--debug", "run", PGSTREAM_IMPL="nonsense")[2]
    assert installed(cli, "--version", PGSTREAM_IMPL="python")[1].count("python decoder") == 1


def test_ctrl_c_while_the_slot_cannot_be_created(cli: CommandLine, database: Database) -> None:
    """Creating a slot waits for open transactions."""
    database.execute(TABLES)
    options = ("--dsn", database.dsn, "--slot", database.name)
    with (
        database.connect(autocommit=False) as connection,
        cli.running("run", *options) as process,
    ):
        connection.execute("INSERT INTO items VALUES (1)")
        eventually(
            lambda: database.execute(
                "SELECT FROM pg_stat_activity WHERE backend_type = 'walsender' "
                "AND wait_event_type = 'Lock' AND datname = current_database()"
            )
        )
        process.send(signal.SIGINT)
        status, stdout, stderr = process.ended()
    assert (status, stdout) == (130, "")
    assert "Traceback" not in stderr
    eventually(
        lambda: (
            not database.execute(
                "SELECT FROM pg_replication_slots WHERE database = current_database()"
            )
        )
    )


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes have no size to set here")
def test_a_second_ctrl_c_does_not_wait(shop: CommandLine, database: Database) -> None:
    database.execute("INSERT INTO users SELECT i, repeat('x', 1000) FROM generate_series(1, 999) i")
    with shop.running("run") as process:
        pipe = process.stdout.fileno()
        size = fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        eventually(
            lambda: struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))) == (size,)
        )
        process.send(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.popen.wait(0.5)
        process.send(signal.SIGINT)
        assert process.status() == 130
    assert len(lines_of(shop("run", "--until-now", "--format", "json").stdout)) == 999


def test_a_reader_that_goes_away(shop: CommandLine, database: Database) -> None:
    with shop.running("run", "--format", "json") as process:
        database.execute("INSERT INTO items VALUES (1)")
        assert process.line()["new"]["id"] == 1
        process.stdout.close()
        database.execute("INSERT INTO items VALUES (2)")
        assert process.status() == 0
        assert process.stderr.read() == b""
    left = lines_of(shop("run", "--format", "json", "--until-now").stdout)
    assert left[-1]["new"]["id"] == 2


@pytest.mark.parametrize("command", [["replay", "capture"], ["record", "-"]])
def test_a_reader_of_a_capture_that_goes_away(
    shop: CommandLine, database: Database, command: list[str]
) -> None:
    database.execute("INSERT INTO items SELECT generate_series(1, 20000)")
    shop("record", "capture", "--until-now")
    with shop.running(*command) as process:
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.status() == 0
        assert process.stderr.read() == b""


# Faults


def assert_clear(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """An error is one line that says what happened, and one that says what to do."""
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    message, hint = done.stderr.rstrip("\n").split("\n")
    assert message.startswith("pgstream: ")
    assert hint.startswith("Hint: ")
    for text in said:
        assert text in done.stderr


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that may be stopped, without logical WAL."""
    try:
        installation = servers.installation(18)
    except servers.Unavailable as error:
        not_available(str(error))
    with Server(installation, settings={"wal_level": "replica"}) as server:
        yield server


def test_wal_level(cli: CommandLine, own_server: Server) -> None:
    dsn = own_server.dsn()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    for command in (["run"], ["slot", "create"], ["record", "capture"]):
        done = cli(*command, "--dsn", dsn, status=1)
        assert_clear(done, "wal_level is replica", "ALTER SYSTEM SET wal_level = logical")
    problems = cli("doctor", "--dsn", dsn, status=1).stdout
    assert "wal_level is replica" in problems
    assert "fix: ALTER SYSTEM SET wal_level = 'logical';" in problems


def test_no_server(cli: CommandLine, tmp_path: Path) -> None:
    for command in (["run"], ["slot", "list"], ["slot", "create"], ["slot", "drop"]):
        done = cli(*command, "--dsn", f"host={tmp_path} dbname=x", status=1)
        assert_clear(done, f"cannot connect to host={tmp_path} dbname=x", "is the server running")
    done = cli("doctor", "--dsn", f"host={tmp_path}", status=1)
    assert done.stdout.startswith("problem  the server cannot be reached")


def test_a_server_that_goes_away(cli: CommandLine, tmp_path: Path) -> None:
    try:
        installation = servers.installation(18)
    except servers.Unavailable as error:
        not_available(str(error))
    with Server(installation) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
            connection.execute("CREATE TABLE items (id int)")
        cli("slot", "create", "--dsn", server.dsn())
        with cli.running("run", "--dsn", server.dsn(), "--format", "json") as process:
            with psycopg.connect(server.dsn()) as connection:
                connection.execute("INSERT INTO items VALUES (1)")
            assert process.line()["new"] == {"id": 1}
            server.stop("immediate")
            assert "trying again in" in process.stderr.readline().decode()
            server.start()
            with psycopg.connect(server.dsn()) as connection:
                connection.execute("INSERT INTO items VALUES (2)")
            # The acknowledgement of the first may have been lost with the server.
            assert process.line()["new"] in ({"id": 1}, {"id": 2})
            server.stop("immediate")
            process.send(signal.SIGINT)
            status, _, stderr = process.ended()
        assert (status, "Traceback" in stderr) == (130, False)
        server.start()
        with cli.running(
            "run", "--dsn", server.dsn(), "--format", "json", PGSTREAM_RECONNECT_TIMEOUT="0"
        ) as process:
            with psycopg.connect(server.dsn()) as connection:
                connection.execute("INSERT INTO items VALUES (3)")
            while process.line()["new"] != {"id": 3}:
                pass
            server.stop("immediate")
            status, stdout, stderr = process.ended()
    assert (status, stdout) == (1, "")
    assert "Traceback" not in stderr
    assert stderr.startswith("pgstream: ")
    assert stderr.splitlines()[-1].startswith("Hint: start again")


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_password_is_never_shown(cli: CommandLine, database: Database, debug: list[str]) -> None:
    for dsn in (
        url(database, password="s3same"),
        make_conninfo(database.tcp_dsn, password="s3same"),
    ):
        for command in (["run"], ["doctor"], ["slot", "list"]):
            done = cli(*command, *debug, "--dsn", dsn, status=1)
            assert "password authentication failed" in done.stdout + done.stderr
            assert "s3same" not in done.stdout + done.stderr


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize(
    "given",
    ["postgresql://me:s3same@h/d", "postgres://me:s3/s@s3same@h", "host=h password=s3same"],
)
def test_a_dsn_in_the_wrong_place_is_shown_without_its_password(
    cli: CommandLine, database: Database, given: str, debug: list[str]
) -> None:
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    dsn = ("--dsn", database.dsn)
    for status, command in (
        (2, [given]),
        (2, ["run", *dsn, given]),
        (2, ["run", *dsn, "--slot", given]),
        (2, ["run", *dsn, "--until-lsn", given]),
        (2, ["run", *dsn, "--format", given]),
        (2, ["run", *dsn, "--publication", given]),
        (1, ["run", *dsn, "--output", f"{given}/file"]),
        (2, ["doctor", *dsn, "--publication", given]),
        (2, ["slot", "drop", *dsn, given]),
        (1, ["replay", given]),
    ):
        done = cli(*debug, *command, status=status)
        assert "s3" not in done.stdout + done.stderr
        assert "***" in done.stdout + done.stderr


def test_another_database(cli: CommandLine, database: Database) -> None:
    dsn = make_conninfo(database.dsn, dbname="nowhere")
    assert_clear(cli("run", "--dsn", dsn, status=1), 'database "nowhere" does not exist')


def test_a_slot_of_another_database(shop: CommandLine, database: Database) -> None:
    dsn = make_conninfo(database.dsn, dbname="postgres")
    options = ("--dsn", dsn, "--publication", f"{database.name}_pub")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE PUBLICATION {database.name}_pub")
        try:
            done = shop("run", *options, status=1)
            assert_clear(done, f"belongs to database '{database.name}'")
        finally:
            connection.execute(f"DROP PUBLICATION {database.name}_pub")


def test_no_right_to_replicate(cli: CommandLine, database: Database) -> None:
    role = f"{database.name}_reader"
    database.execute(f"CREATE ROLE {role} LOGIN")
    dsn = make_conninfo(database.dsn, user=role)
    try:
        for command in (["run"], ["slot", "create"]):
            done = cli(*command, "--dsn", dsn, status=1)
            assert_clear(done, f'ALTER ROLE "{role}" REPLICATION;')
        done = cli("doctor", "--dsn", dsn, status=1)
        assert f'fix: ALTER ROLE "{role}" REPLICATION;  -- on Amazon RDS: ' in done.stdout
    finally:
        database.execute(f"DROP ROLE {role}")


def test_no_right_to_drop_a_slot(cli: CommandLine, any_database: Database) -> None:
    name = any_database.name
    any_database.execute(f"CREATE ROLE {name} LOGIN")
    any_database.execute(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    try:
        dsn = make_conninfo(any_database.dsn, user=name)
        done = cli("slot", "drop", name, "--dsn", dsn, status=1)
        assert_clear(done, f'let a superuser run: ALTER ROLE "{name}" REPLICATION;')
    finally:
        any_database.execute(f"DROP ROLE {name}")


def test_a_slot_in_use(shop: CommandLine, database: Database) -> None:
    with shop.running("run") as process:
        eventually(lambda: is_active(database))
        [(pid,)] = database.execute(
            f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{database.name}'"
        )
        held = f"slot '{database.name}' is in use by the server process with PID {pid}"
        assert_clear(shop("slot", "drop", status=1), held)
        with shop.running("run", "--until-now") as second:
            assert second.stderr.readline().decode() == f"pgstream: {held}; waiting 5 s for it\n"
            assert second.popen.poll() is None  # it is said at once
            status, stdout, stderr = second.ended()
        assert (status, stdout) == (1, "")
        assert stderr.startswith(f"pgstream: {held}\nHint: stop that consumer, or: SELECT pg_termi")
        assert f"PID {pid}" in shop("slot", "list").stdout
        process.send(signal.SIGTERM)
        assert process.ended()[0] == 0


def test_names_of_the_server_do_not_reach_the_terminal_as_they_are(
    cli: CommandLine, database: Database
) -> None:
    name = "a\x1b[31m\u202eb"
    database.execute(f'CREATE TABLE "{name}" (id int); CREATE PUBLICATION "{name}" FOR ALL TABLES')
    options = ("--dsn", database.dsn, "--publication", name)
    found = cli("doctor", *options, status=1).stdout
    assert found.count("a\\u001b[31m\\u202eb") > 2
    database.execute(f'DROP PUBLICATION "{name}"')
    said = cli("run", *options, status=1).stderr
    for text in (found, said):
        assert all(character == "\n" or character.isprintable() for character in text)


def test_a_publication_that_is_missing(cli: CommandLine, database: Database) -> None:
    done = cli("run", "--dsn", database.dsn, "--publication", '"a, b"', status=1)
    assert_clear(done, 'CREATE PUBLICATION "a, b" FOR ALL TABLES;')
    done = cli("run", "--dsn", database.dsn, "--publication", 'a"b', status=1)
    assert_clear(done, 'CREATE PUBLICATION "a""b" FOR ALL TABLES;')
    assert not database.execute(
        "SELECT FROM pg_replication_slots WHERE database = current_database()"
    )


def test_a_publication_that_is_younger_than_the_changes(
    cli: CommandLine, any_database: Database
) -> None:
    """14 to 17 end the stream; 18 warns and leaves the changes out, which must not pass."""
    options = ("--dsn", any_database.dsn, "--slot", any_database.name)
    done = cli("slot", "create", *options)
    assert "publication pgstream_pub is not there" in done.stderr
    any_database.execute("CREATE TABLE items (id int)")
    any_database.execute("INSERT INTO items VALUES (1)")
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    done = cli("run", *options, "--until-now", status=1)
    assert_clear(done, 'publication "pgstream_pub"', "pgstream slot create")


# Slots


def test_a_slot_for_prepared_transactions(cli: CommandLine, any_database: Database) -> None:
    """PostgreSQL 14 cannot make one: refused, and not made without."""
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    options = ("--dsn", any_database.dsn, "--slot", any_database.name, "--two-phase")
    made = f"SELECT two_phase FROM pg_replication_slots WHERE slot_name = '{any_database.name}'"
    if any_database.execute("SHOW server_version_num")[0][0] < "150000":
        done = cli("slot", "create", *options, status=1)
        assert_clear(done, "--two-phase needs PostgreSQL 15", "leave it out")
        assert any_database.execute(made) == []
    else:
        cli("slot", "create", *options)
        assert any_database.execute(made) == [(True,)]


def test_the_list_of_slots_has_what_they_are_set_to(
    cli: CommandLine, any_database: Database
) -> None:
    """And it is said where --two-phase and --failover change a slot that is there."""
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    [(version,)] = any_database.execute("SELECT current_setting('server_version_num')::int / 10000")
    name = any_database.name
    here = CommandLine(cli.directory, {"DATABASE_URL": any_database.dsn, "SLOT_NAME": name})

    def shown() -> list[str]:
        header, *slots = here("slot", "list").stdout.splitlines()
        assert ("TWO PHASE" in header, "FAILOVER" in header) == (True, version >= 17)
        [mine] = [line.split() for line in slots if line.startswith(f"{name} ")]
        return mine[7:]

    here("slot", "create")
    assert shown() == (["no", "no"] if version >= 17 else ["no"])
    if version >= 15:
        prepared = f"pgstream: slot {name} sends prepared transactions when they are prepared"
        said = here("run", "--two-phase", "--until-now").stderr
        assert said == f"{prepared} from now on, and keeps to that\n"
        assert here("run", "--two-phase", "--until-now").stderr == ""
        assert shown()[0] == "yes"
    if version >= 17:
        said = here("run", "--failover", "--until-now").stderr
        assert said == f"pgstream: slot {name} is copied to standbys from now on\n"
        assert shown() == ["yes", "yes"]


def test_slots(cli: CommandLine, database: Database) -> None:
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    here = CommandLine(cli.directory, {"DATABASE_URL": database.dsn})
    done = here("slot", "create", database.name)
    assert re.fullmatch(rf"pgstream: created slot {database.name} at \w+/\w+\n", done.stderr)
    header, *slots = here("slot", "list").stdout.splitlines()
    assert header.startswith("SLOT ")
    [mine] = [line.split() for line in slots if line.startswith(database.name)]
    assert mine[1:4] == [database.name, "pgoutput", "-"]
    done = here("slot", "create", "--slot", database.name, status=1)
    assert_clear(done, "already exists", f"pgstream run --slot {database.name} reads from it")
    here("slot", "drop", SLOT_NAME=database.name)
    assert_clear(
        here("slot", "drop", database.name, status=1),
        f"there is no replication slot '{database.name}'",
    )
    assert here("slot", "create", "Bad", status=2).stdout == ""


def test_no_create_slot(cli: CommandLine, database: Database) -> None:
    database.execute(TABLES)
    options = ("--dsn", database.dsn, "--slot", database.name)
    done = cli("run", *options, "--no-create-slot", status=1)
    assert_clear(done, "there is no replication slot", "pgstream slot create")
