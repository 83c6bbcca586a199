"""Slots that vanished, were made anew or read by others; servers put back in time."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

import pgstream
from commandline import CommandLine
from pgstream import LSN, Commit, ConfigError, ServerError, SlotMismatch, SlotNotFound, Stream
from pgstream.embedded import Server, embedded_installation
from pgstream.identity import Anchor, Identity
from pgstream.slots import Slot, System
from servers import Database


@pytest.fixture
def shop(any_database: Database) -> Database:
    any_database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    return any_database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def open_stream(database: Database, **options: Any) -> Stream:
    return pgstream.connect(database.dsn, slot=f"slot_{database.name}", **options)


def read_all(database: Database, **options: Any) -> list[int]:
    with open_stream(database, until="now", **options) as stream:
        seen = [event.new["id"] for event in stream if isinstance(event, pgstream.Insert)]
        stream.ack()
    return seen


def acknowledge_all(stream: Stream) -> None:
    for _ in stream:
        stream.ack()


def kept(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_the_file_follows_what_is_acknowledged(shop: Database, file: Path) -> None:
    assert read_all(shop, state_file=file) == []
    start = LSN(kept(file)["position"])
    shop.execute("INSERT INTO users VALUES (1)")
    assert read_all(shop, state_file=str(file)) == [1]
    assert LSN(kept(file)["position"]) > start
    [(system,)] = shop.execute("SELECT system_identifier::text FROM pg_control_system()")
    assert kept(file) | {"position": ""} == {
        "system_identifier": system,
        "timeline": 1,
        "database": shop.name,
        "slot": f"slot_{shop.name}",
        "position": "",
    }
    [(flushed,)] = shop.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots")
    assert LSN(flushed) == LSN(kept(file)["position"])
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # nothing is left over


def test_the_file_of_a_link(file: Path) -> None:
    """It may stand where it outlasts the machine; a link that is replaced would not lead there."""
    (file.parent / "kept").mkdir()
    file.symlink_to("kept/state.json")
    Anchor("d", "s", file).hold(SYSTEM, LSN(1))
    assert file.is_symlink()
    assert kept(file.parent / "kept" / "state.json")["position"] == "0/1"
    assert len(list(file.parent.rglob("*"))) == 3


def test_the_file_is_written_once_a_second(
    database: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the server is not told more than it holds."""
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    with open_stream(database, state_file=file) as stream:
        session = stream._session
        assert session._connector is not None
        database.execute("INSERT INTO users VALUES (1)")
        while not isinstance(next(stream), Commit):
            pass
        session._saved = time.monotonic()
        before = kept(file)["position"]
        stream.ack()
        session._report(session._connector)
        assert kept(file)["position"] == before == str(stream.status().flushed)
        monkeypatch.setattr("pgstream.session._SAVE_GAP", 0)
        session._report(session._connector)
        handled = str(stream.status().handled)
        assert kept(file)["position"] == handled == str(stream.status().flushed) != before


def test_a_slot_that_vanished_is_refused(shop: Database, file: Path) -> None:
    read_all(shop, state_file=file)
    position = kept(file)["position"]
    shop.execute(f"SELECT pg_drop_replication_slot('slot_{shop.name}')")
    with pytest.raises(SlotNotFound, match=f"gone: changes after {position} are lost") as caught:
        open_stream(shop, state_file=file)
    assert str(file) in caught.value.hint
    assert shop.execute("SELECT * FROM pg_replication_slots") == []  # none was made in its place
    file.unlink()
    assert read_all(shop, state_file=file) == []


def test_a_slot_that_was_made_anew_is_refused(shop: Database, file: Path) -> None:
    read_all(shop, state_file=file)
    position = LSN(kept(file)["position"])
    shop.execute(f"SELECT pg_drop_replication_slot('slot_{shop.name}')")
    shop.execute("INSERT INTO users VALUES (1)")
    open_stream(shop).close()
    [(stands,)] = shop.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots")
    with pytest.raises(SlotMismatch, match="created anew") as caught:
        open_stream(shop, state_file=file)
    assert caught.value.gap == (position, LSN(stands))
    assert f"from {position} to {stands}" in caught.value.message


def test_a_slot_that_another_consumer_read_is_refused(shop: Database, file: Path) -> None:
    read_all(shop, state_file=file)
    shop.execute("INSERT INTO users VALUES (1)")
    assert read_all(shop) == [1]
    with pytest.raises(SlotMismatch, match="another consumer has read from it"):
        open_stream(shop, state_file=file)


def test_a_server_that_was_put_back_is_refused(tmp_path: Path, file: Path) -> None:
    """A cold copy of its files, put in their place: the slot stands where it stood."""
    with Server(embedded_installation()) as own:
        with psycopg.connect(own.dsn(), autocommit=True) as admin:
            admin.execute("CREATE TABLE users (id int PRIMARY KEY)")
        pgstream.connect(own.dsn(), create_publication=True, state_file=file).close()
        own.stop()
        backup = tmp_path / "backup"
        shutil.copytree(own.data, backup)
        own.start()
        with psycopg.connect(own.dsn(), autocommit=True) as admin:
            admin.execute("INSERT INTO users SELECT g FROM generate_series(1, 1000) g")
        with pgstream.connect(own.dsn(), state_file=file, until="now") as stream:
            for _ in stream:
                stream.ack()
        position = LSN(kept(file)["position"])
        own.stop()
        for path in own.data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(backup, own.data, dirs_exist_ok=True)
        for path in (own.data, *own.data.rglob("*")):
            owner = own.data.parent.stat()
            shutil.chown(path, owner.st_uid, owner.st_gid)
        own.start()
        with pytest.raises(SlotMismatch, match="restored from a backup") as caught:
            pgstream.connect(own.dsn(), state_file=file)
        assert caught.value.gap is not None
        assert caught.value.gap[1] == position > caught.value.gap[0]


def test_another_server_is_refused(shop: Database, file: Path) -> None:
    read_all(shop, state_file=file)
    state = kept(file)
    file.write_text(json.dumps(state | {"system_identifier": "7000000000000000001"}))
    with pytest.raises(SlotMismatch, match="this is another server") as caught:
        open_stream(shop, state_file=file)
    assert state["system_identifier"] in caught.value.message
    assert caught.value.gap is None


def test_the_file_of_another_slot_is_refused(shop: Database, file: Path) -> None:
    read_all(shop, state_file=file)
    with pytest.raises(ConfigError, match="give each slot a state file of its own"):
        pgstream.connect(shop.dsn, slot="another", state_file=file)
    with pytest.raises(ConfigError, match="of 'another'"):
        Anchor("another", f"slot_{shop.name}", file)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"slot": 1', '{"position": "x"}', "\xff"])
def test_a_file_that_is_something_else_is_refused(file: Path, content: str) -> None:
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=f"{file} is not a state file of pgstream"):
        Anchor("db", "slot", file)
    assert file.read_bytes() == content.encode("latin-1")


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigError) as caught:
        Anchor("db", "slot", file)
    assert caught.value.message == f"cannot read the state file {file}: Is a directory"
    assert "it holds what was acknowledged" in caught.value.hint
    file.rmdir()
    file.write_text("{}")
    file.chmod(0)
    if os.access(file, os.R_OK):
        return  # root may read it in spite of that
    with pytest.raises(ConfigError, match=f"cannot read the state file {file}: Permission denied"):
        Anchor("db", "slot", file)


def test_a_file_that_cannot_be_written_stops_the_confirmation(
    shop: Database, tmp_path: Path
) -> None:
    """The server is never told more than the file knows."""
    folder = tmp_path / "gone"
    folder.mkdir()
    with open_stream(shop, state_file=folder / "state.json") as stream:
        [(before,)] = shop.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots")
        shop.execute("INSERT INTO users VALUES (1)")
        shutil.rmtree(folder)
        with pytest.raises(ServerError, match="cannot write the state file"):
            acknowledge_all(stream)
    assert shop.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots") == [(before,)]


def test_a_file_that_cannot_be_written_is_told_of_at_the_end(
    shop: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    stream = open_stream(shop, state_file=folder / "state.json")
    shop.execute("INSERT INTO users VALUES (1)")
    for event in stream:
        if isinstance(event, Commit):
            break
    shutil.rmtree(folder)
    stream.ack()
    with pytest.raises(ServerError, match="cannot write the state file"):
        stream.close()
    stream.close()


SYSTEM = System("7", 1, LSN(1000), False)
SLOT = Slot("s", "pgoutput", "d", None, LSN(500), LSN(400), "reserved", False, 0)


def anchor(position: int, timeline: int = 1) -> Anchor:
    held = Anchor("d", "s")
    held.known = Identity("7", timeline, "d", "s", LSN(position))
    return held


def test_a_slot_behind_is_read_from_what_was_acknowledged() -> None:
    """A server that crashed may have forgotten the last confirmations: nothing is missing."""
    anchor(700).check(SYSTEM, SLOT, {}, LSN(0))


def test_a_promoted_standby_goes_on() -> None:
    promoted = System("7", 2, LSN(1000), False)
    anchor(700).check(promoted, SLOT, {1: LSN(800)}, LSN(0))
    anchor(800).check(promoted, SLOT, {1: LSN(800)}, LSN(0))


def test_a_timeline_that_left_before_what_was_acknowledged_is_refused() -> None:
    with pytest.raises(SlotMismatch, match="has left the history") as caught:
        anchor(700).check(
            System("7", 3, LSN(1000), False), SLOT, {1: LSN(600), 2: LSN(900)}, LSN(0)
        )
    assert caught.value.gap == (600, 700)


def test_an_older_timeline_is_refused() -> None:
    with pytest.raises(SlotMismatch, match="has left the history"):
        anchor(700, timeline=2).check(SYSTEM, SLOT, {}, LSN(0))


@pytest.mark.parametrize(
    ("server", "ends"),
    [
        (System("7", 2, LSN(1000), False), {1: LSN(800)}),
        (System("7", 1, LSN(800), False), {}),
        (System("7", 2, LSN(1000), True), {1: LSN(800)}),
    ],
    ids=["a failover", "a backup", "a standby of another primary"],
)
def test_what_was_handed_out_and_is_lost_is_not_confirmed(
    server: System, ends: dict[int, LSN]
) -> None:
    anchor(700).check(server, SLOT, ends, LSN(800))
    with pytest.raises(SlotMismatch, match="were handed out, and the server has lost") as caught:
        anchor(700).check(server, SLOT, ends, LSN(801))
    assert caught.value.gap == (800, 801)


def test_a_standby_may_be_behind_for_a_moment() -> None:
    anchor(2000).check(System("7", 1, LSN(1000), True), SLOT, {}, LSN(3000))


def test_the_command_keeps_the_file(tmp_path: Path, database: Database) -> None:
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    slot = f"slot_{database.name}"
    cli = CommandLine(tmp_path, {"DATABASE_URL": database.dsn, "SLOT_NAME": slot})
    cli("run", "--until-now", "--state-file", "state.json")
    assert kept(tmp_path / "state.json")["slot"] == slot
    database.execute(f"SELECT pg_drop_replication_slot('{slot}')")
    done = cli("run", "--until-now", status=1, PGSTREAM_STATE_FILE="state.json")
    assert "is gone: changes after" in done.stderr
    assert "remove state.json, then start with a copy of the tables: --snapshot\n" in done.stderr
    (tmp_path / "state.json").unlink()
    cli("run", "--until-now", "--snapshot", PGSTREAM_STATE_FILE="state.json")
