"""Lost connections: made again, with nothing lost, and whole transactions only."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import pgstream
from pgstream import (
    LSN,
    Begin,
    Commit,
    ConnectionFailed,
    ConnectionLost,
    Event,
    Insert,
    SlotLost,
    SlotNotFound,
    Stream,
    connector,
    faults,
)
from pgstream.config import Config
from pgstream.embedded import Server, embedded_installation
from pgstream.session import Session
from proxy import Proxy
from servers import Database
from waiting import eventually


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    pgstream.connect(database.dsn, slot=f"slot_{database.name}").close()
    return database


@pytest.fixture
def proxy(shop: Database) -> Iterator[Proxy]:
    with Proxy(shop.tcp_dsn) as proxy:
        yield proxy


def open_stream(database: Database, dsn: str | None = None, **options: Any) -> Stream:
    return pgstream.connect(dsn or database.dsn, slot=f"slot_{database.name}", **options)


def insert(database: Database, first: int, last: int) -> None:
    database.execute(f"INSERT INTO users SELECT g FROM generate_series({first}, {last}) g")


def ids(events: list[Event]) -> list[int]:
    return [event.new["id"] for event in events if isinstance(event, Insert)]


def until(stream: Stream, last: int, events: list[Event] | None = None) -> list[Event]:
    """Read to the end of the transaction in which ``last`` was inserted."""
    events = [] if events is None else events
    for event in stream:
        events.append(event)
        if isinstance(event, Commit) and last in ids(events):
            break
    return events


def terminate(database: Database) -> int:
    """End the server process that reads from the slot; return its PID."""
    [(pid, _)] = database.execute(
        "SELECT active_pid, pg_terminate_backend(active_pid) FROM pg_replication_slots"
        f" WHERE slot_name = 'slot_{database.name}'"
    )
    return int(pid)


def test_a_connection_that_held_ends_a_series_of_attempts() -> None:
    session = Session(Config())

    def attempts_after(seconds: float) -> int:
        session._linked_at = time.monotonic() - seconds
        session._lose(faults.passing(ConnectionLost("gone")))
        assert session._trouble is not None
        session._trouble.attempts += 1
        return session._trouble.attempts

    assert [attempts_after(seconds) for seconds in (1, 29, 31, 1)] == [1, 2, 1, 2]


def flushed(database: Database) -> LSN:
    """Where the slot stands."""
    [(position,)] = database.execute(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots"
        f" WHERE slot_name = 'slot_{database.name}'"
    )
    return LSN(position)


def slot_is_active(database: Database) -> bool:
    rows = database.execute(
        f"SELECT active FROM pg_replication_slots WHERE slot_name = 'slot_{database.name}'"
    )
    return bool(rows and rows[0][0])


@pytest.mark.usefixtures("both_decoders")
def test_a_lost_connection_is_made_again(shop: Database) -> None:
    said: list[str] = []
    with open_stream(shop, notice=said.append) as stream:
        insert(shop, 1, 2)
        assert ids(until(stream, 2)) == [1, 2]
        stream.ack()
        terminate(shop)
        insert(shop, 3, 3)
        events = until(stream, 3)
        stream.ack()
        status = stream.status()
    assert ids(events) == [3]
    assert not any(event.redelivered for event in events if isinstance(event, Begin))
    assert status.reconnects == 1
    assert status.state == "streaming"
    assert "terminating connection" in said[0]
    assert "trying again in 0.1 s (attempt 1)" in said[0]
    assert said[1].startswith("connected again after")
    with open_stream(shop, until="now") as stream:
        assert list(stream) == []


def test_what_is_told_without_a_callback_is_logged(
    shop: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pgstream"), open_stream(shop) as stream:
        terminate(shop)
        insert(shop, 1, 1)
        until(stream, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "trying again" in caplog.text


@pytest.mark.usefixtures("both_decoders")
def test_a_transaction_that_was_cut_in_half_starts_again_and_is_marked(
    shop: Database, proxy: Proxy
) -> None:
    insert(shop, 1, 1)
    insert(shop, 1001, 60_000)  # more than libpq takes before it is asked for more
    seen: list[Event] = []
    with open_stream(shop, proxy.dsn) as stream:
        for event in stream:
            seen.append(event)
            if isinstance(event, Commit):
                stream.ack()
            if ids(seen[-1:]) == [2000]:
                proxy.cut()
                break
        again = until(stream, 60_000)
    begin = next(i for i, event in enumerate(again) if isinstance(event, Begin))
    first, second = ids(seen) + ids(again[:begin]), again[begin:]
    assert first == [1, *range(1001, 1001 + len(first) - 1)]
    assert len(first) < 59_000
    assert isinstance(second[0], Begin)
    assert second[0].redelivered
    assert ids(second) == list(range(1001, 60_001))


def test_a_transaction_that_was_not_acknowledged_comes_again_marked(shop: Database) -> None:
    with open_stream(shop) as stream:
        insert(shop, 1, 1)
        first = until(stream, 1)
        _while_down(shop, "INSERT INTO users VALUES (2)")
        second = until(stream, 2)
        stream.ack()
    marks = [event.redelivered for event in first + second if isinstance(event, Begin)]
    assert (ids(second), marks) == ([1, 2], [False, True, False])
    assert first == second[:3]  # the mark is no part of what an event is
    with open_stream(shop, until="now") as stream:
        assert list(stream) == []


def test_an_acknowledgement_after_the_loss_counts(shop: Database) -> None:
    """What was handed out over the lost connection may be acknowledged over the next one."""
    with open_stream(shop) as stream:
        insert(shop, 1, 1)
        first = until(stream, 1)
        _while_down(shop, "INSERT INTO users VALUES (2)")
        again = next(stream)
        assert isinstance(again, Begin)
        assert again.redelivered
        stream.ack()
        commit = first[-1]
        assert isinstance(commit, Commit)
        assert stream.positions.handled == commit.end_lsn
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [2]


def test_an_acknowledgement_that_did_not_arrive_is_sent_again(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once; until then it does not count as told."""
    stood: list[tuple[LSN, LSN]] = []

    def notice(text: str) -> None:
        if "connected again" in text:
            stood.append((stream.positions.flushed, flushed(shop)))
            monkeypatch.undo()

    with open_stream(shop, notice=notice) as stream:
        monkeypatch.setattr(connector.Connector, "report", lambda *arguments, **options: None)
        insert(shop, 1, 1)
        commit = until(stream, 1)[-1]
        assert isinstance(commit, Commit)
        stream.ack()
        reader = threading.Thread(daemon=True, target=lambda: next(stream, None))
        reader.start()
        eventually(lambda: stream.positions.flushed >= commit.end_lsn)
        terminate(shop)
        eventually(lambda: flushed(shop) >= commit.end_lsn, 5)
        stream.stop()
        reader.join(30)
    [(told, stands)] = stood
    assert told == stands < commit.end_lsn


def test_a_batch_that_was_begun_is_dropped(shop: Database) -> None:
    """It comes again, and would be in the next batch twice."""
    insert(shop, 1, 5)
    with open_stream(shop) as stream:

        def lose_it_while_it_is_held() -> None:
            eventually(lambda: stream.positions.events == 7)
            terminate(shop)
            eventually(lambda: stream.positions.events == 14)
            stream.stop()

        other = threading.Thread(daemon=True, target=lose_it_while_it_is_held)
        other.start()
        seen = [
            event for batch in stream.batches(max_events=1000, max_seconds=3600) for event in batch
        ]
        other.join()
    assert ids(seen) == [1, 2, 3, 4, 5]
    assert stream.status().reconnects == 1


def test_a_batch_in_parts_starts_again(shop: Database) -> None:
    insert(shop, 1, 50_000)
    with open_stream(shop) as stream:
        batches = stream.batches(max_events=100, max_seconds=0.01)
        first = next(batches)
        terminate(shop)
        rest: list[Event] = []
        for batch in batches:
            rest += batch
            stream.ack()
            if isinstance(batch[-1], Commit):
                break
    start = next(i for i, event in enumerate(rest) if isinstance(event, Begin))
    assert ids(first) == list(range(1, 100))
    assert isinstance(rest[start], Begin)
    assert rest[start].redelivered  # type: ignore[union-attr]
    assert ids(rest[start:]) == list(range(1, 50_001))


def test_asyncio_connects_again(shop: Database) -> None:
    async def main() -> tuple[list[Event], int]:
        events: list[Event] = []
        async with pgstream.connect_async(shop.dsn, slot=f"slot_{shop.name}") as stream:
            insert(shop, 1, 1)
            async for event in stream:
                events.append(event)
                if isinstance(event, Commit) and ids(events) == [1]:
                    terminate(shop)
                    insert(shop, 2, 2)
                if isinstance(event, Commit) and ids(events)[-1] == 2:
                    stream.ack()
                    break
            return events, stream.status().reconnects

    events, reconnects = asyncio.run(asyncio.wait_for(main(), 60))
    assert ids(events) == [1, 1, 2]
    assert [e.redelivered for e in events if isinstance(e, Begin)] == [False, True, False]
    assert reconnects == 1


def test_a_server_that_restarts_is_waited_for() -> None:
    with Server(embedded_installation()) as own:
        with psycopg.connect(own.dsn(), autocommit=True) as admin:
            admin.execute("CREATE TABLE users (id int PRIMARY KEY)")
        said: list[str] = []
        events: list[Event] = []
        stream = pgstream.connect(own.dsn(), create_publication=True, notice=said.append)

        def handler(event: Event) -> None:
            events.append(event)
            if ids(events) == [1, 2, 3]:
                stream.stop()

        reader = threading.Thread(daemon=True, target=stream.run, args=[handler])
        reader.start()
        for number, mode in ((1, "fast"), (2, "immediate"), (3, "")):
            with psycopg.connect(own.dsn(), autocommit=True) as admin:
                admin.execute(f"INSERT INTO users VALUES ({number})".encode())
            eventually(lambda: number in ids(events))  # noqa: B023
            eventually(lambda: not stream.positions.in_flight or number == 3)  # noqa: B023
            if mode:
                said.clear()
                own.stop(mode)  # type: ignore[arg-type]
                eventually(lambda: any("attempt 2)" in text for text in said))
                own.start()
        reader.join(60)
        assert not reader.is_alive()
    assert ids(events) == [1, 2, 3]
    assert any("connected again after" in text for text in said)


def test_trying_ends_when_it_is_to_end(shop: Database, proxy: Proxy) -> None:
    with open_stream(shop, proxy.dsn, reconnect_timeout=0.3) as stream:
        proxy.refuse = True
        proxy.cut()
        with pytest.raises(ConnectionLost, match=r"gave up connecting again after \d+ s"):
            next(stream)


def test_a_stop_ends_trying(shop: Database, proxy: Proxy) -> None:
    with open_stream(shop, proxy.dsn) as stream:
        proxy.refuse = True
        proxy.cut()
        reader = threading.Thread(daemon=True, target=lambda: list(stream))
        reader.start()
        eventually(lambda: stream.status().state == "reconnecting")
        stream.stop()
        reader.join(30)
        assert not reader.is_alive()


def test_the_collector_runs_while_the_server_is_away(shop: Database, proxy: Proxy) -> None:
    with open_stream(shop, proxy.dsn) as stream:
        batches = stream.batches(max_events=10_000, max_seconds=60)
        reader = threading.Thread(daemon=True, target=lambda: list(batches))
        reader.start()
        shop.execute("INSERT INTO users VALUES (1)")
        eventually(lambda: not gc.isenabled())  # a batch gathers
        proxy.refuse = True
        proxy.cut()
        eventually(lambda: stream.status().state == "reconnecting" and gc.isenabled())
        stream.stop()
        reader.join(30)
        assert not reader.is_alive()


def test_an_interrupted_attempt_to_connect_is_made_again(
    shop: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = pgstream.stream.perform
    interrupts = 0

    def interrupted(step: Any) -> Any:
        nonlocal interrupts
        if isinstance(step, (pgstream.steps.Connect, pgstream.steps.Pause)) and interrupts < 4:
            interrupts += 1
            raise KeyboardInterrupt
        return perform(step)

    with open_stream(shop, proxy.dsn) as stream:
        proxy.cut()
        shop.execute("INSERT INTO users VALUES (1)")
        monkeypatch.setattr(pgstream.stream, "perform", interrupted)
        found: list[Event] = []
        while not any(isinstance(event, Insert) for event in found):
            with contextlib.suppress(KeyboardInterrupt):
                found.append(next(stream))
        assert interrupts == 4
        assert stream.status().reconnects == 1


def test_what_trying_again_does_not_help_is_raised(database: Database) -> None:
    name, secret = f"role_{database.name}", "s3cr€t word"
    with database.connect() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN REPLICATION".encode())
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    try:
        dsn = psycopg.conninfo.make_conninfo(database.dsn, user=name, password=secret)
        with open_stream(database, dsn) as stream:
            database.execute(f"ALTER ROLE {name} NOREPLICATION")
            terminate(database)
            with pytest.raises(pgstream.ReplicationNotAllowed) as caught:
                next(stream)
        assert secret not in str(caught.value)
    finally:
        database.execute(f"SELECT pg_drop_replication_slot('slot_{database.name}')")
        database.execute(f"DROP ROLE {name}")


def test_a_password_that_is_wrong_now_is_raised(shop: Database) -> None:
    error = psycopg.OperationalError('FATAL:  password authentication failed for user "me"')
    config = pgstream.config.Config(dsn="host=db")
    assert not pgstream.faults.turned_away(error, config).transient
    error = psycopg.OperationalError("FATAL:  the database system is starting up")
    assert pgstream.faults.turned_away(error, config).transient


def test_a_first_connection_is_not_tried_again(shop: Database, proxy: Proxy) -> None:
    proxy.refuse = True
    with pytest.raises(ConnectionFailed):
        open_stream(shop, proxy.dsn)
    assert proxy.connections == 1


def test_a_slot_dropped_meanwhile_is_refused(shop: Database) -> None:
    with open_stream(shop) as stream:
        insert(shop, 1, 1)
        until(stream, 1)
        stream.ack()
        handled = stream.positions.handled
        _while_down(shop, f"SELECT pg_drop_replication_slot('slot_{shop.name}')")
        with pytest.raises(SlotNotFound, match=f"gone: changes after {handled} are lost"):
            next(stream)


def test_a_slot_created_anew_meanwhile_is_refused(shop: Database) -> None:
    with open_stream(shop) as stream:
        insert(shop, 1, 1)
        until(stream, 1)
        stream.ack()
        handled = stream.positions.handled
        _while_down(
            shop,
            f"SELECT pg_drop_replication_slot('slot_{shop.name}')",
            "INSERT INTO users VALUES (2)",
            f"SELECT pg_create_logical_replication_slot('slot_{shop.name}', 'pgoutput')",
        )
        with pytest.raises(pgstream.SlotMismatch, match="created anew") as caught:
            next(stream)
    assert caught.value.gap is not None
    assert caught.value.gap[0] == handled < caught.value.gap[1]


def test_a_slot_read_by_another_meanwhile_is_refused(shop: Database) -> None:
    with open_stream(shop) as stream:
        insert(shop, 1, 1)
        _while_down(
            shop,
            f"SELECT pg_replication_slot_advance('slot_{shop.name}', pg_current_wal_lsn())",
        )
        with pytest.raises(pgstream.SlotMismatch, match="another consumer"):
            list(stream)


def _while_down(database: Database, *statements: str) -> None:
    """End the connection, and run this before it is made again: the reader is not reading."""
    terminate(database)
    eventually(lambda: not slot_is_active(database))
    for statement in statements:
        database.execute(statement)


def test_a_slot_invalidated_in_mid_stream_is_no_loop() -> None:
    settings = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with (
        Server(embedded_installation(), settings=settings) as own,
        psycopg.connect(own.dsn(), autocommit=True) as admin,
        pgstream.connect(own.dsn(), create_publication=True) as stream,
    ):
        admin.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        next(stream)  # in flight from now on, so that the slot stands still
        for _ in range(4):
            admin.execute("SELECT pg_switch_wal(), pg_logical_emit_message(false, 'x', 'x')")
        admin.execute("CHECKPOINT")
        with pytest.raises(SlotLost):
            for _ in stream:
                pass


def test_our_own_dead_connection_is_waited_for(shop: Database, proxy: Proxy) -> None:
    """The server does not know yet that it is dead, and holds the slot for it."""
    said: list[str] = []
    dsn = proxy.dsn_with(options="-c wal_sender_timeout=4s")
    with pytest.MonkeyPatch.context() as patch, open_stream(shop, dsn, notice=said.append) as one:
        patch.setattr(connector, "_HELD_SECONDS", 0.2)
        insert(shop, 1, 1)
        until(one, 1)
        one.ack()
        [(pid,)] = shop.execute(
            f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'slot_{shop.name}'"
        )
        proxy.lose()  # the client's side is gone, the server's stands as it was
        insert(shop, 2, 2)
        assert ids(until(one, 2)) == [2]
    held = [text for text in said if "our own former connection" in text]
    assert held
    assert f"PID {pid}" in held[0]
