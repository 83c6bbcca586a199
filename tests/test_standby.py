"""Standbys: reading from one, and going on at one after a failover, with real pairs."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import pgstream
import servers
from commandline import CommandLine
from conftest import not_available
from pgstream import (
    LSN,
    Commit,
    Event,
    Insert,
    PublicationNotFound,
    ServerError,
    SlotLost,
    SnapshotBegin,
    SnapshotRow,
    creation,
)
from pgstream.config import Config
from pgstream.doctor import examine
from pgstream.embedded import Server
from servers import Database
from waiting import eventually


class Standby(Server):
    """A hot standby of a primary that is stopped when this is created: a copy of its files."""

    def __init__(self, primary: Server, settings: dict[str, str]) -> None:
        super().__init__(primary.installation, settings=settings)
        self._primary = primary

    def _create(self) -> None:
        super()._create()
        configuration = (self.data / "postgresql.conf").read_text()
        shutil.rmtree(self.data)
        shutil.copytree(self._primary.data, self.data)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.data / "postgresql.conf").write_text(configuration)
        (self.data / "standby.signal").touch()
        for path in (self.data, *self.data.rglob("*")):
            self._own(path)


@contextlib.contextmanager
def pair(version: int, **settings: str) -> Iterator[tuple[Server, Standby]]:
    """A primary with a table and its publication, and a standby of it."""
    try:
        installation = servers.installation(version)
    except servers.Unavailable as error:
        not_available(str(error))
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(Server(installation))
        on(
            primary,
            "CREATE TABLE users (id int PRIMARY KEY)",
            "CREATE TABLE other (id int)",
            "CREATE PUBLICATION pgstream_pub FOR TABLE users",
            "SELECT pg_create_physical_replication_slot('standby')",
        )
        primary.stop()
        standby = Standby(
            primary,
            {
                "primary_conninfo": primary.dsn(),
                "primary_slot_name": "standby",
                "hot_standby_feedback": "on",
                "wal_receiver_status_interval": "1s",
                "wal_retrieve_retry_interval": "100ms",  # the primary is not up yet
                **settings,
            },
        )
        stack.enter_context(standby)  # stopped before the primary
        primary.start()
        eventually(lambda: on(primary, "SELECT count(*) FROM pg_stat_replication") == [(1,)])
        yield primary, standby


def on(server: Server, *statements: str) -> list[tuple[object, ...]]:
    """Run statements on a server; return the rows of the last one, if it has any."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def whichever_is_primary(primary: Server, standby: Server) -> str:
    """A DSN that names both."""
    return psycopg.conninfo.make_conninfo(
        primary.dsn(),
        host=f"{primary.directory},{standby.directory}",
        port=f"{primary.port},{standby.port}",
        target_session_attrs="read-write",
    )


def caught_up(primary: Server, standby: Server) -> None:
    """Wait until the standby has replayed all that the primary has written."""
    [(position,)] = on(primary, "SELECT pg_current_wal_flush_lsn()")
    eventually(
        lambda: LSN(str(on(standby, "SELECT pg_last_wal_replay_lsn()")[0][0])) >= LSN(str(position))
    )


def slot_is_synced(primary: Server, standby: Server) -> None:
    """Wait until the standby has the failover slot for good."""
    on(primary, "SELECT pg_log_standby_snapshot()")
    synced = "SELECT count(*) FROM pg_replication_slots WHERE synced AND NOT temporary"
    eventually(lambda: on(standby, synced) == [(1,)])


def flushed(server: Server) -> LSN:
    rows = on(
        server, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_type = 'logical'"
    )
    return LSN(str(rows[0][0]))


def ids(events: list[Event]) -> list[int]:
    return [event.new["id"] for event in events if isinstance(event, Insert)]


@pytest.mark.parametrize("version", [16, 18])
def test_reading_from_a_standby(version: int) -> None:
    with pair(version) as (primary, standby):
        with pytest.raises(PublicationNotFound, match="this server is a standby") as caught:
            pgstream.connect(standby.dsn(), publication="more", create_publication=True)
        assert "on the primary: CREATE PUBLICATION" in caught.value.hint
        said: list[str] = []

        def notice(text: str) -> None:
            said.append(text)
            if "pg_log_standby_snapshot" in text:
                on(primary, "SELECT pg_log_standby_snapshot()")

        # Busy or not, a primary may write that record by itself before it is asked to.
        pgstream.connect(standby.dsn(), notice=notice).close()
        assert said[-1].startswith("created slot pgstream_slot at ")
        on(primary, "INSERT INTO users VALUES (1), (2)")
        caught_up(primary, standby)
        with pgstream.connect(standby.dsn(), until="now") as stream:
            events = list(stream)
            stream.ack()
        assert ids(events) == [1, 2]
        # An idle slot there follows as well.
        stream = pgstream.connect(standby.dsn(), status_interval=0.2)
        reader = threading.Thread(daemon=True, target=stream.run, args=[lambda event: None])
        reader.start()
        on(primary, "INSERT INTO other SELECT g FROM generate_series(1, 1000) g")
        [(target,)] = on(primary, "SELECT pg_current_wal_flush_lsn()")
        eventually(lambda: flushed(standby) >= LSN(str(target)))
        # And so it does when the standby is promoted under it.
        on(standby, "SELECT pg_promote()")
        on(standby, "INSERT INTO users VALUES (3)")
        commit = LSN(str(on(standby, "SELECT pg_current_wal_flush_lsn()")[0][0]))
        eventually(lambda: stream.positions.handled >= commit)
        stream.stop()
        reader.join(30)
        assert not reader.is_alive()


@pytest.mark.parametrize("version", [16, 18])
def test_a_copy_from_a_standby(version: int) -> None:
    """What it has to replay may not wait for the copy, which starts again then."""
    with pair(version, max_standby_streaming_delay="0") as (primary, standby):
        on(primary, "INSERT INTO users SELECT generate_series(1, 20000)")
        caught_up(primary, standby)
        said: list[str] = []

        def notice(text: str) -> None:
            said.append(text)
            if "pg_log_standby_snapshot" in text:
                on(primary, "SELECT pg_log_standby_snapshot()")

        rows: list[int] = []
        with pgstream.connect(standby.dsn(), snapshot=True, notice=notice, until="now") as stream:
            for event in stream:
                if isinstance(event, SnapshotRow):
                    rows.append(event.new["id"])
                if isinstance(event, SnapshotBegin) and not rows:
                    rows.append(0)
                    on(primary, "ALTER TABLE users ADD COLUMN name text")
                    caught_up(primary, standby)
                elif isinstance(event, SnapshotBegin):
                    rows.clear()
                stream.ack()
        assert sorted(rows) == list(range(1, 20001))
        assert any("conflict with recovery" in text for text in said)


def test_a_copy_for_a_failover_slot_on_a_standby() -> None:
    """The server would refuse it once all is copied."""
    with (
        pair(18) as (_, standby),
        pytest.raises(ServerError, match="cannot be copied to other standbys"),
    ):
        pgstream.connect(standby.dsn(), snapshot=True, failover=True)


def test_a_slot_that_a_standby_had_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL 16 has no word for why, and calls it conflicting also where WAL was removed."""
    monkeypatch.setattr(creation, "_PATIENCE", 0.05)
    with pair(16, hot_standby_feedback="off") as (primary, standby):

        def notice(text: str) -> None:
            if "pg_log_standby_snapshot" in text:
                on(primary, "SELECT pg_log_standby_snapshot()")

        pgstream.connect(standby.dsn(), notice=notice).close()
        on(primary, "CREATE TABLE gone ()", "DROP TABLE gone", "VACUUM pg_class")
        lost = "SELECT count(*) FROM pg_replication_slots WHERE wal_status = 'lost'"
        eventually(lambda: on(standby, lost) == [(1,)])
        with pytest.raises(SlotLost, match=r"was invalidated \(it conflicted with recovery\)"):
            pgstream.connect(standby.dsn())
        found = [finding.text for finding in examine(Config(dsn=standby.dsn()))]
        assert any("is lost (it conflicted with recovery)" in text for text in found)


def test_a_standby_that_is_too_old(tmp_path: Path) -> None:
    """What to do, instead of leaving something out; and where the fixes of doctor belong."""
    with pair(14) as (primary, standby):
        cli = CommandLine(tmp_path, {"DATABASE_URL": standby.dsn()})
        said = "pgstream: reading from a standby needs PostgreSQL 16, the server is 14\n"
        for command in (["run"], ["record", "capture"], ["slot", "create"]):
            assert cli(*command, status=1).stderr == f"{said}Hint: connect to the primary\n"
        on(primary, "ALTER TABLE users REPLICA IDENTITY NOTHING")
        caught_up(primary, standby)
        found = cli("doctor", "--publication", "pgstream_pub,other", status=1).stdout
        assert 'fix: CREATE PUBLICATION "other" FOR ALL TABLES;  -- on the primary\n' in found
        assert "REPLICA IDENTITY FULL;  -- on the primary; or give it a primary key\n" in found
        assert "SELECT pg_reload_conf();\n" in found


@pytest.mark.parametrize("version", [18])
def test_what_was_handed_out_and_never_reached_the_standby(version: int) -> None:
    """To acknowledge it later would confirm what the new primary has in its place."""
    with pair(version, sync_replication_slots="on") as (primary, standby):
        both = whichever_is_primary(primary, standby)
        events: list[Event] = []
        errors: list[ServerError] = []
        stream = pgstream.connect(both, failover=True)

        def read() -> None:
            try:
                for event in stream:
                    events.append(event)
                    if 2 not in ids(events):
                        stream.ack()
            except ServerError as error:
                errors.append(error)

        reader = threading.Thread(daemon=True, target=read)
        reader.start()
        on(primary, "INSERT INTO users VALUES (1)")
        eventually(lambda: ids(events) == [1])
        slot_is_synced(primary, standby)
        caught_up(primary, standby)
        on(standby, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        receivers = (
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'walreceiver'"
        )
        eventually(lambda: on(primary, receivers) == [(0,)])
        on(primary, "INSERT INTO users VALUES (2)")
        eventually(lambda: ids(events) == [1, 2] and isinstance(events[-1], Commit))
        primary.stop("immediate")
        on(standby, "SELECT pg_promote()")
        on(standby, "INSERT INTO users VALUES (3)")
        eventually(lambda: bool(errors))
        assert "were handed out, and the server has lost them" in str(errors[0])
        stream.close()
        with pgstream.connect(both, until="now") as stream:
            assert ids(list(stream)) == [3]


@pytest.mark.parametrize("version", [18])
def test_going_on_after_a_failover(version: int) -> None:
    with pair(version, sync_replication_slots="on") as (primary, standby):
        both = whichever_is_primary(primary, standby)
        said: list[str] = []
        pgstream.connect(both).close()  # a slot without it
        stream = pgstream.connect(both, failover=True, notice=said.append)
        assert said == ["slot pgstream_slot is copied to standbys from now on"]
        events: list[Event] = []
        reader = threading.Thread(daemon=True, target=stream.run, args=[events.append])
        reader.start()
        on(primary, "INSERT INTO users VALUES (1)")
        eventually(lambda: ids(events) == [1])
        slot_is_synced(primary, standby)
        with pytest.raises(ServerError, match="before the standby is promoted"):
            pgstream.connect(standby.dsn())
        on(primary, "INSERT INTO users VALUES (2)")
        eventually(lambda: ids(events) == [1, 2])
        caught_up(primary, standby)
        primary.stop("immediate")
        eventually(lambda: stream.status().state == "reconnecting")
        on(standby, "SELECT pg_promote()")
        on(standby, "INSERT INTO users VALUES (3)")
        eventually(lambda: 3 in ids(events))
        stream.stop()
        reader.join(30)
        assert not reader.is_alive()
        assert ids(events) == [1, 2, 3]
        assert stream.status().reconnects >= 1


@pytest.mark.parametrize("snapshot", [False, True])
def test_failover_slots_need_17(any_database: Database, snapshot: bool) -> None:
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    with any_database.connect() as connection:
        version = connection.info.server_version
    slot = f"slot_{any_database.name}"
    options: dict[str, Any] = {"slot": slot, "failover": True, "snapshot": snapshot}
    if version < 170000:
        with pytest.raises(ServerError, match="--failover needs PostgreSQL 17"):
            pgstream.connect(any_database.dsn, **options)
        return
    with pgstream.connect(any_database.dsn, until="now", **options) as stream:
        for _ in stream:
            stream.ack()
    failover = f"SELECT failover FROM pg_replication_slots WHERE slot_name = '{slot}'"
    assert any_database.execute(failover) == [(True,)]
