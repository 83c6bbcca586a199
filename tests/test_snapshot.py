"""The initial copy and the stream that follows: every row once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

import pgstream
from commandline import CommandLine
from pgstream import (
    LSN,
    Commit,
    Event,
    Insert,
    PublicationNotFound,
    ServerError,
    SlotNotFound,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotProgress,
    SnapshotRow,
)
from pgstream.cli.progress import ProgressReport
from pgstream.embedded import Server
from pgstream.handlers import PostgresHandler, SQLiteHandler
from replica import select_text
from servers import Database, fresh_database
from waiting import eventually

SECONDS = 30


def slot(database: Database) -> str:
    return f"slot_{database.name}"


def slots(database: Database) -> list[tuple[str, bool, str]]:
    return database.execute(
        "SELECT slot_name, temporary, confirmed_flush_lsn::text FROM pg_replication_slots"
        f" WHERE database = '{database.name}'"
    )  # type: ignore[return-value]


def follow(database: Database, **settings: Any) -> pgstream.Stream:
    return pgstream.connect(
        database.dsn, **{"slot": slot(database), "snapshot": True, "until": "now"} | settings
    )


def fill(database: Database, rows: int = 3000) -> None:
    database.execute(
        "CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(12,2), note text);"
        " CREATE TABLE log (at timestamptz, line text); ALTER TABLE log REPLICA IDENTITY FULL;"
        f" INSERT INTO accounts SELECT g, g, repeat('x', 100) FROM generate_series(1, {rows}) g;"
        f" INSERT INTO log SELECT now(), 'line ' || g FROM generate_series(1, {rows}) g;"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )


class Writer:
    """Changes the tables for as long as the block lasts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.rounds = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        eventually(lambda: self.rounds > 5)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _write(self) -> None:
        with self._database.connect(autocommit=False) as connection:
            while not self._stopped.is_set():
                n = self.rounds
                connection.execute(
                    "UPDATE accounts SET balance = balance + 1 WHERE id %% 50 = %s", [n % 50]
                )
                connection.execute("DELETE FROM accounts WHERE id = (SELECT min(id) FROM accounts)")
                connection.execute(
                    "INSERT INTO accounts SELECT max(id) + 1, 0.10, 'new' FROM accounts"
                )
                connection.execute("INSERT INTO log VALUES (clock_timestamp(), %s)", [str(n)])
                connection.execute("DELETE FROM log WHERE line = %s", [f"line {n}"])
                connection.commit()
                self.rounds += 1


@pytest.fixture
def target(server: Server) -> Iterator[Database]:
    with fresh_database(server) as database:
        database.execute(
            "CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(12,2), note text);"
            " CREATE TABLE log (at timestamptz, line text)"
        )
        yield database


def same(source: Database, target: Database) -> None:
    with source.connect() as one, target.connect() as two:
        for table in ("public.accounts", "public.log"):
            there, here = select_text(one, table), select_text(two, table)
            assert here == there
            assert len(there[1]) > 100


def test_the_copy_and_the_stream_are_the_table(any_database: Database, target: Database) -> None:
    fill(any_database)
    told: list[str] = []
    with Writer(any_database), PostgresHandler(target.dsn) as handler:
        follow(any_database, values="text", notice=told.append).run(handler)
        with_copy = handler.position()
    with PostgresHandler(target.dsn) as handler:
        follow(any_database, values="text").run(handler)
    same(any_database, target)
    [(name, temporary, _)] = slots(any_database)
    assert (name, temporary) == (slot(any_database), False)
    assert with_copy is not None
    assert [text.split(",")[0] for text in told] == ["copying 2 tables", "the copy is done"]


def test_the_events_of_a_copy(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgstream.snapshot.course._PROGRESS_SECONDS", 3600.0)
    fill(database, 5000)
    seen: list[SnapshotProgress] = []
    with follow(database, until=None, progress=seen.append, snapshot_jobs=3) as stream:
        assert stream.status().state == "copying"
        assert [temporary for _, temporary, _ in slots(database)] == [True]
        events: list[Event] = []
        for event in stream:
            events.append(event)
            if isinstance(event, SnapshotEnd):
                stream.ack()
                database.execute("INSERT INTO log VALUES (now(), 'after')")
            if isinstance(event, Commit):
                stream.ack()
                break
        assert stream.status().state == "streaming"
    begin, *rows, end = events[:-3]
    assert isinstance(begin, SnapshotBegin)
    assert [relation.table for relation in begin.relations] == ["accounts", "log"]
    assert end == SnapshotEnd(begin.lsn, 10_000)
    assert all(isinstance(row, SnapshotRow) and row.lsn == begin.lsn for row in rows)
    assert [row.ordinal for row in rows] == list(range(10_000))  # type: ignore[union-attr]
    insert = events[-2]
    assert isinstance(insert, Insert)
    assert insert.relation == begin.relations[1]
    assert insert.new["line"] == "after"
    assert len(seen) == 2  # the first, and the last
    assert (seen[1].rows, seen[1].fraction, seen[1].tables_done) == (10_000, 1.0, 2)


def test_a_copy_that_is_done_is_not_repeated(database: Database) -> None:
    fill(database)
    with follow(database) as stream:
        for _ in stream:
            stream.ack()
    database.execute("INSERT INTO log VALUES (now(), 'later')")
    with follow(database) as stream:
        assert [type(event).__name__ for event in stream] == ["Begin", "Insert", "Commit"]


def test_a_copy_is_not_kept_before_it_is_acknowledged(database: Database) -> None:
    fill(database)
    told: list[str] = []
    for leave_at in (SnapshotBegin, SnapshotRow, SnapshotEnd):
        with follow(database, notice=told.append) as stream:
            for event in stream:
                if not isinstance(event, SnapshotEnd):
                    stream.ack()  # of what is not whole
                if type(event) is leave_at:
                    break
        eventually(lambda: slots(database) == [])
        assert told[-1] == "left before the copy was acknowledged: nothing of it is kept"
    with follow(database) as stream:
        assert isinstance(next(stream), SnapshotBegin)


def test_what_was_acknowledged_last_is_kept(database: Database) -> None:
    fill(database)
    with follow(database) as stream:
        for event in stream:
            if isinstance(event, SnapshotEnd):
                stream.ack()
                break
    database.execute("INSERT INTO log VALUES (now(), 'later')")
    assert slots(database) == [(slot(database), False, str(event.lsn))]
    with follow(database) as stream:
        assert [type(event).__name__ for event in stream] == ["Begin", "Insert", "Commit"]


def test_a_slot_whose_name_has_no_room_for_more(database: Database) -> None:
    """The temporary slot has a name of its own, which is no longer."""
    fill(database)
    name = f"{slot(database):x<63}"
    with follow(database, slot=name) as stream:
        for _ in stream:
            stream.ack()
    assert [kept for kept, _, _ in slots(database)] == [name]


def test_batches(database: Database) -> None:
    fill(database)
    with follow(database) as stream:
        sizes = []
        events: list[Event] = []
        for batch in stream.batches(max_events=1000, max_seconds=0.05):
            sizes.append(len(batch))
            events += batch
            stream.ack()
    assert max(sizes) == 1000
    assert len(sizes) >= 6
    assert sum(isinstance(event, SnapshotRow) for event in events) == 6000
    assert len(slots(database)) == 1


def test_asyncio(database: Database) -> None:
    fill(database)

    async def main() -> tuple[list[Event], int]:
        ticks = 0

        async def ticking() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        beside = asyncio.create_task(ticking())
        events = []
        async with pgstream.connect_async(
            database.dsn, slot=slot(database), snapshot=True, until="now"
        ) as stream:
            async for event in stream:
                events.append(event)
                stream.ack()
                await asyncio.sleep(0)
        beside.cancel()
        return events, ticks

    events, ticks = asyncio.run(main())
    assert isinstance(events[0], SnapshotBegin)
    assert sum(isinstance(event, SnapshotRow) for event in events) == 6000
    assert [temporary for _, temporary, _ in slots(database)] == [False]
    assert ticks > 3


def test_asyncio_can_be_left_in_the_middle(database: Database) -> None:
    fill(database, 20_000)

    async def main() -> None:
        async with pgstream.connect_async(
            database.dsn, slot=slot(database), snapshot=True
        ) as stream:
            async for event in stream:
                if isinstance(event, SnapshotRow):
                    break

    asyncio.run(main())
    eventually(lambda: slots(database) == [])
    readers = (
        f"SELECT FROM pg_stat_activity WHERE datname = '{database.name}'"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    eventually(lambda: database.execute(readers) == [])


@pytest.mark.parametrize("lost", ["slot", "reader"])
def test_a_lost_connection_starts_the_copy_again(
    database: Database, target: Database, lost: str
) -> None:
    fill(database, 20_000)
    told: list[str] = []
    begun: list[LSN] = []
    kind = "walsender" if lost == "slot" else "client backend"

    class Lossy(PostgresHandler):
        def __call__(self, event: Event, /) -> None:
            if isinstance(event, SnapshotBegin):
                begun.append(event.lsn)
            if isinstance(event, SnapshotRow) and event.ordinal == 100 and len(begun) < 3:
                [(count,)] = database.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    f" WHERE datname = '{database.name}' AND backend_type = '{kind}'"
                    " AND pid <> pg_backend_pid()"
                )
                assert count >= 1
            super().__call__(event)

    with Lossy(target.dsn) as handler:
        follow(database, values="text", notice=told.append).run(handler)
    same(database, target)
    assert len(begun) == 3
    assert begun == sorted(set(begun))
    assert sum("the copy starts again from its beginning" in text for text in told) == 2
    assert [name for name, *_ in slots(database)] == [slot(database)]


def test_a_slot_that_is_lost_before_the_copy_begins(any_database: Database) -> None:
    """Its snapshot is gone, the slot that is asked for was never there."""
    fill(any_database)
    told: list[str] = []
    with follow(any_database, notice=told.append) as stream:
        any_database.execute(
            "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
            f" WHERE database = '{any_database.name}'"
        )
        rows = 0
        for event in stream:
            rows += isinstance(event, SnapshotRow)
            stream.ack()
    assert rows == 6000
    assert "the connection of its slot was lost" in told[0]
    assert [temporary for _, temporary, _ in slots(any_database)] == [False]


def test_a_slot_that_is_lost_is_noticed_while_rows_still_come(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgstream.snapshot.course._PING_SECONDS", 0.0)
    fill(database, 20_000)
    told: list[str] = []
    with follow(database, notice=told.append) as stream:
        begun = rows = 0
        for event in stream:
            begun += isinstance(event, SnapshotBegin)
            if isinstance(event, SnapshotRow) and begun == 1:
                rows += 1
                if rows == 1:
                    database.execute(
                        "SELECT pg_terminate_backend(active_pid, 10000)"
                        f" FROM pg_replication_slots WHERE database = '{database.name}'"
                    )
            stream.ack()
    assert begun == 2
    assert rows < 20_000
    assert any("lost the connection that holds the slot of the copy" in text for text in told)


def test_the_slot_is_in_use_while_the_copy_lasts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends the session of a slot that was idle for idle_replication_slot_timeout."""
    monkeypatch.setattr("pgstream.snapshot.course._PING_SECONDS", 0.0)
    fill(database)
    query = f"SELECT inactive_since FROM pg_replication_slots WHERE database = '{database.name}'"
    seen = []
    with follow(database) as stream:

        def later() -> None:
            try:
                eventually(lambda: database.execute(query)[0] > seen[-1], SECONDS)
                seen.extend(database.execute(query))
            finally:
                stream.ack()

        thread = threading.Thread(target=later)
        for event in stream:
            if isinstance(event, SnapshotBegin | SnapshotEnd):
                seen += database.execute(query)
            if isinstance(event, SnapshotEnd):
                thread.start()
        thread.join()
    assert len(seen) == 3
    assert seen[0] < seen[1] < seen[2]


def test_no_timeout_of_the_database_ends_the_session_of_the_slot(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in a transaction until it is used for the first time, and in none after that."""
    monkeypatch.setattr("pgstream.snapshot.course._PING_SECONDS", 0.0)
    fill(database)
    for name in ("idle_session", "idle_in_transaction_session", "transaction"):
        database.execute(f"ALTER DATABASE {database.name} SET {name}_timeout = '300ms'")
    begun = 0
    with follow(database) as stream:
        for event in stream:
            begun += isinstance(event, SnapshotBegin)
            assert begun == 1
            if isinstance(event, SnapshotBegin | SnapshotEnd):
                time.sleep(1)
            stream.ack()


def test_a_late_acknowledgement_of_a_copy_that_was_lost_counts_for_nothing(
    database: Database,
) -> None:
    fill(database)
    with follow(database) as stream:
        ends = 0
        for event in stream:
            if isinstance(event, SnapshotEnd):
                ends += 1
                if ends == 1:
                    database.execute(
                        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                        f" WHERE database = '{database.name}'"
                    )
                stream.ack()
    assert ends == 2
    assert [temporary for _, temporary, _ in slots(database)] == [False]


def test_the_stream_waits_for_the_acknowledgement_and_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgstream.snapshot.course._PATIENCE", 0.01)
    fill(database)
    told: list[str] = []
    with follow(database, notice=told.append) as stream:

        def later() -> None:
            eventually(lambda: any("stream.ack()" in text for text in told))
            stream.ack()

        thread = threading.Thread(target=later)
        thread.start()
        assert isinstance(list(stream)[-1], SnapshotEnd)
        thread.join()
    assert sum("stream.ack()" in text for text in told) == 1
    assert [temporary for _, temporary, _ in slots(database)] == [False]


def test_a_slot_that_has_gone_is_not_a_reason_to_copy(database: Database, tmp_path: Path) -> None:
    """It is known to have been there: what came after its position is lost to it."""
    fill(database)
    state = tmp_path / "state"
    with follow(database, state_file=state) as stream:
        for _ in stream:
            stream.ack()
    database.execute(f"SELECT pg_drop_replication_slot('{slot(database)}')")
    with pytest.raises(SlotNotFound, match="is gone"):
        follow(database, state_file=state)


def test_the_position_of_the_copy_is_stored_with_it(database: Database, tmp_path: Path) -> None:
    """A handler that was killed between its commit and the slot's: both start again."""
    fill(database)
    path = tmp_path / "target.db"

    class Killed(Exception):
        pass

    class Dies(SQLiteHandler):
        def __call__(self, event: Event, /) -> None:
            super().__call__(event)
            if isinstance(event, SnapshotEnd):
                raise Killed

    with pytest.raises(Killed):
        follow(database).run(Dies(path))
    assert slots(database) == []
    with SQLiteHandler(path) as handler:
        stored = handler.position()
        assert stored is not None
    database.execute("DELETE FROM accounts WHERE id < 100")
    told: list[str] = []
    follow(database, notice=told.append).run(SQLiteHandler(path))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*), min(id) FROM accounts").fetchone() == (
            2901,
            100,
        )
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (3000,)
    assert any("starts again" in text for text in told)


def test_two_phase(database: Database, target: Database) -> None:
    fill(database)
    with follow(database, two_phase=True) as stream:
        for _ in stream:
            stream.ack()
    database.execute("BEGIN; INSERT INTO log VALUES (now(), 'p'); PREPARE TRANSACTION 'g'")
    with follow(database, two_phase=True) as stream:
        kinds = [type(event).__name__ for event in stream]
    assert kinds == ["BeginPrepare", "Insert", "Prepare"]


def test_a_server_that_restarts(server_pool: Any, target: Database) -> None:
    with Server(server_pool.get(18).installation) as server:
        database = Database(server, "postgres")
        fill(database, 20_000)
        begun = 0

        class Restarts(PostgresHandler):
            def __call__(self, event: Event, /) -> None:
                nonlocal begun
                begun += isinstance(event, SnapshotBegin)
                if isinstance(event, SnapshotRow) and event.ordinal == 500 and begun == 1:
                    server.restart("immediate")
                super().__call__(event)

        with Restarts(target.dsn) as handler:
            follow(database, values="text").run(handler)
        assert begun == 2
        same(database, target)


def test_a_server_that_restarts_before_the_copy_begins(server_pool: Any) -> None:
    with Server(server_pool.get(18).installation) as server:
        database = Database(server, "postgres")
        fill(database)
        with follow(database) as stream:
            server.restart("fast")
            begun = 0
            for event in stream:
                begun += isinstance(event, SnapshotBegin)
                stream.ack()
        assert begun == 1
        assert [temporary for _, temporary, _ in slots(database)] == [False]


def test_a_url_that_names_two_servers(server_pool: Any) -> None:
    """The first of them comes back when the slot is on the second."""
    installation = server_pool.get(18).installation
    with Server(installation) as one, Server(installation) as two:
        fill(Database(two, "postgres"))
        one.stop()
        both = make_conninfo(
            two.dsn(), host=f"{one.directory},{two.directory}", port=f"{one.port},{two.port}"
        )
        with pgstream.connect(both, snapshot=True, until="now") as stream:
            one.start()
            rows = 0
            for event in stream:
                rows += isinstance(event, SnapshotRow)
                stream.ack()
        assert rows == 6000


def test_a_table_that_is_published_just_before_the_copy(any_database: Database) -> None:
    """The stream has its changes from then on, and so the copy has to be of then or later."""
    fill(any_database)
    any_database.execute(
        "CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1);"
        " CREATE PUBLICATION few FOR TABLE accounts"
    )
    found = []
    with follow(any_database, publication="few", until=None) as stream:
        any_database.execute("INSERT INTO late VALUES (2)")
        any_database.execute("ALTER PUBLICATION few ADD TABLE late")
        any_database.execute("INSERT INTO late VALUES (3)")
        for event in stream:
            if isinstance(event, SnapshotRow | Insert) and event.relation.table == "late":
                found.append(event.new["id"])
            if isinstance(event, SnapshotEnd):
                stream.ack()
                any_database.execute("INSERT INTO late VALUES (4)")
            if isinstance(event, Commit):
                break
    assert found == [1, 2, 3, 4]


def test_a_publication_that_is_dropped_just_before_the_copy(database: Database) -> None:
    fill(database)
    with follow(database) as stream:
        database.execute("DROP PUBLICATION pgstream_pub")
        with pytest.raises(PublicationNotFound):
            next(stream)


def test_a_table_that_another_session_holds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy starts again; its new slot waits for that session, and says for which."""
    monkeypatch.setattr("pgstream.snapshot.plan._LOCK_MILLISECONDS", 50)
    monkeypatch.setattr("pgstream.creation._PATIENCE", 0.01)
    fill(database)
    told: list[str] = []
    with database.connect(autocommit=False) as other:

        def notice(text: str) -> None:
            told.append(text)
            if f"PID {other.info.backend_pid}" in text:
                other.rollback()

        with follow(database, notice=notice) as stream:
            other.execute("LOCK TABLE log")
            rows = 0
            for event in stream:
                rows += isinstance(event, SnapshotRow)
                stream.ack()
    assert rows == 6000
    assert any("lock that keeps readers out" in text for text in told)


def test_the_command_line(database: Database, tmp_path: Path) -> None:
    fill(database)
    settings = {"DATABASE_URL": database.dsn, "SLOT_NAME": slot(database)}
    pgstream_run = CommandLine(tmp_path, settings)
    arguments = ("run", "--snapshot", "--format", "json", "--until-now")
    done = pgstream_run(*arguments, "--tables", "log", PGSTREAM_SNAPSHOT_JOBS="3")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(line["op"], line["table"]) for line in lines} == {("snapshot", "log")}
    assert len(lines) == 3000
    assert "copying 2 tables" in done.stderr
    assert "the copy is done, 6000 rows; created slot" in done.stderr
    database.execute("INSERT INTO log VALUES (now(), 'later')")
    done = pgstream_run(*arguments, "--output", "lines")
    assert f"slot {slot(database)} is there already: no copy is made, the" in done.stderr
    [line] = (tmp_path / "lines").read_text().splitlines()
    assert json.loads(line)["op"] == "insert"


PROGRESS = SnapshotProgress(
    rows=1_234_567,
    bytes=2_500_000_000,
    fraction=0.25,
    seconds=1000.0,
    tables=3,
    tables_done=1,
    table="public.t",
)


def test_progress_on_a_terminal() -> None:
    stream = io.StringIO()
    report = ProgressReport(lambda text: None, bar=True, stream=stream)
    report(PROGRESS)
    shown = "[######..................] 25%, 1,234,567 rows, 2.5 GB, 1 of 3 tables, 50:00 left"
    assert stream.getvalue() == "\r" + shown
    report(replace(PROGRESS, fraction=1.0, tables_done=3))
    report.clear()
    *_, last, cleared, _ = stream.getvalue().split("\r")
    assert last.rstrip() == "[########################] 100%, 1,234,567 rows, 2.5 GB, 3 of 3 tables"
    assert cleared.isspace()


def test_progress_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    report = ProgressReport(said.append, bar=False)
    report(PROGRESS)
    assert said == []  # not at every call
    monkeypatch.setattr("pgstream.cli.progress._LINE_SECONDS", 0.0)
    report(PROGRESS)
    assert said == ["copying: 25%, 1,234,567 rows, 2.5 GB, 1 of 3 tables, 50:00 left"]
    assert replace(PROGRESS, fraction=0.0).eta is None


def test_a_server_without_a_second_slot(server_pool: Any) -> None:
    installation = server_pool.get(18).installation
    with Server(installation, settings={"max_replication_slots": "2"}) as server:
        database = Database(server, "postgres")
        fill(database)
        take = "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')"
        database.execute(take)
        with pytest.raises(ServerError, match="needs two replication slots"):
            follow(database)
        database.execute("SELECT pg_drop_replication_slot('taken')")
        told: list[str] = []

        def notice(text: str) -> None:
            told.append(text)
            if "no replication slot left" in text:
                database.execute("SELECT pg_drop_replication_slot('taken')")

        with follow(database, notice=notice) as stream:
            for event in stream:
                if isinstance(event, SnapshotBegin):
                    database.execute(take)
                stream.ack()
        assert sum("no replication slot left" in text for text in told) == 1
        assert [name for name, *_ in slots(database)] == [slot(database)]


def test_a_copy_that_cannot_be_kept_on_leaving(server_pool: Any) -> None:
    installation = server_pool.get(18).installation
    with Server(installation, settings={"max_replication_slots": "2"}) as server:
        database = Database(server, "postgres")
        fill(database)
        told: list[str] = []
        with follow(database, notice=told.append) as stream:
            for event in stream:
                if isinstance(event, SnapshotBegin):
                    database.execute(
                        "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')"
                    )
                if isinstance(event, SnapshotEnd):
                    stream.ack()
                    break
        assert "acknowledged, but its slot cannot be kept: all replication slots" in told[-1]
        assert [name for name, *_ in slots(database)] == ["taken"]
