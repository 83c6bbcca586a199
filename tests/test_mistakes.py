"""What people mistype and mix up: it is said, and costs no data."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

import pgstream
from commandline import CommandLine
from pgstream import ConfigError
from servers import Database


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> CommandLine:
    """The command line, with a slot that stands before one change."""
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    settings = {"DATABASE_URL": database.dsn, "SLOT_NAME": database.name}
    cli = CommandLine(tmp_path, settings)
    cli("slot", "create")
    database.execute("INSERT INTO users VALUES (1)")
    return cli


def test_a_replay_is_not_written_over_its_capture(shop: CommandLine) -> None:
    shop("record", "a.capture", "--until-now")
    before = (shop.directory / "a.capture").read_bytes()
    (shop.directory / "link").symlink_to("a.capture")
    for output in ("a.capture", "./a.capture", "link"):
        done = shop("replay", "a.capture", "--output", output, status=2)
        assert "written over the capture" in done.stderr
    assert (shop.directory / "a.capture").read_bytes() == before
    assert '"id":1' in shop("replay", "a.capture", "--format", "json").stdout


@pytest.mark.parametrize("table", ["public.usres", "public.Users", "other.users"])
def test_a_table_that_is_not_published_is_refused(shop: CommandLine, table: str) -> None:
    """What is not shown is acknowledged, and would be gone."""
    done = shop("run", "--tables", f"public.users,{table}", "--until-now", status=1)
    assert f"table {table} is not published by pgstream_pub" in done.stderr
    assert done.stdout == ""
    done = shop("run", "--tables", "users", "--until-now", "--format", "json")
    assert '"id":1' in done.stdout


def test_settings_that_are_none_are_named(shop: CommandLine) -> None:
    mistakes = {"PGSTREAM_SLOT": "mine", "PGSTREAM_SLOTS": "mine", "PGSTREAM_FROMAT": "json"}
    done = shop("run", "--until-now", **mistakes)
    assert "PGSTREAM_SLOTS is no setting: is SLOT_NAME meant?" in done.stderr
    assert "PGSTREAM_SLOT is no setting: is SLOT_NAME meant?" in done.stderr
    assert "PGSTREAM_FROMAT is no setting: is PGSTREAM_FORMAT meant?" in done.stderr
    done = shop("run", "--until-now", PGSTREAM_FORMAT="json", PGSTREAM_STREAMING="on")
    assert "no setting" not in done.stderr


@pytest.mark.parametrize("arguments", [("slot", "list"), ("doctor",), ("--help",), ("--version",)])
def test_a_reader_that_went_away_is_no_error(shop: CommandLine, arguments: tuple[str, ...]) -> None:
    with shop.running(*arguments) as process:
        process.stdout.close()
        assert process.status() == 0
        assert b"Broken pipe" not in process.stderr.read()


def test_a_process_that_was_stopped_does_not_blame_the_server(shop: CommandLine) -> None:
    with shop.running("run", "--silence-timeout", "3", "--format", "json") as process:
        assert process.line()["new"] == {"id": 1}
        process.send(signal.SIGSTOP)
        time.sleep(4)
        process.send(signal.SIGCONT)
        time.sleep(0.5)
        process.send(signal.SIGINT)
        status, _, said = process.ended()
    assert status == 130
    assert "has not answered" not in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dsn": None}, "dsn is NoneType"),
        ({"dsn": b"secret"}, "dsn is bytes"),
        ({"slot": None}, "slot is None"),
        ({"publication": None}, "publication is None"),
        ({"publication": ["a", 5]}, "publication is"),
        ({"tables": 5}, "tables is 5"),
        ({"binary": "yes"}, "binary is 'yes'"),
        ({"reconnect_timeout": "5"}, "reconnect_timeout is '5'"),
        ({"json_loads": 5}, "json_loads is 5"),
        ({"row_factory": None}, "row_factory is None"),
        ({"notice": "print"}, "notice is 'print'"),
    ],
)
def test_settings_of_another_type_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        pgstream.connect(**settings)
    assert "secret" not in str(caught.value)
    assert "give " in str(caught.value)


def test_one_table_may_stand_by_itself(database: Database) -> None:
    database.execute("CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE u (id int)")
    with pgstream.connect(
        database.dsn, slot=database.name, tables="public.users", create_publication=True
    ):
        found = database.execute("SELECT tablename FROM pg_publication_tables")
    assert found == [("users",)]
