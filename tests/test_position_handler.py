"""Handlers that store their position with their data: each transaction exactly once."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import pgstream
from pgstream import LSN, Begin, Commit, ConfigError, Event, Insert, SlotMismatch
from pgstream.config import Config
from pgstream.session import Session
from servers import Database

pytestmark = pytest.mark.usefixtures("both_decoders")


class Sink:
    """What is durable: rows and the position, changed together."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.stored: LSN | None = None
        self.asked = 0


class Storing:
    """A handler for it. ``fail_at``: the row at which it dies, as a process does."""

    def __init__(self, sink: Sink, fail_at: int | None = None, after: bool = False) -> None:
        self.sink = sink
        self.fail_at = fail_at
        self.after = after
        self.open: list[int] = []

    def position(self) -> LSN | None:
        self.sink.asked += 1
        return self.sink.stored

    def __call__(self, event: Event) -> None:
        if isinstance(event, Begin):
            self.open = []
        elif isinstance(event, Insert):
            if event.new["id"] == self.fail_at and not self.after:
                raise RuntimeError("killed")
            self.open.append(event.new["id"])
        elif isinstance(event, Commit):
            self.sink.rows += self.open
            self.sink.stored = event.end_lsn
            if self.after and self.fail_at in self.open:
                raise RuntimeError("killed before the acknowledgement")


class Advancing(Storing):
    """One that can be told of an idle stream."""

    def advance(self, lsn: LSN) -> None:
        assert self.sink.stored is None or lsn > self.sink.stored
        self.sink.stored = lsn


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE other (id int)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    pgstream.connect(database.dsn, slot=f"slot_{database.name}").close()
    return database


def run(database: Database, handler: Any, **options: Any) -> None:
    options.setdefault("until", "now")
    pgstream.connect(database.dsn, slot=f"slot_{database.name}", **options).run(handler)


def confirmed(database: Database) -> LSN:
    return LSN(database.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots")[0][0])


@pytest.mark.parametrize("streaming", ["off", "on"])
def test_what_is_stored_is_left_out(shop: Database, streaming: str) -> None:
    for first in (1, 11, 21):
        shop.execute(f"INSERT INTO users SELECT g FROM generate_series({first}, {first + 9}) g")
    sink = Sink()
    with pytest.raises(RuntimeError, match="before the acknowledgement"):
        run(shop, Storing(sink, fail_at=15, after=True), streaming=streaming)
    assert sink.rows == list(range(1, 21))
    assert confirmed(shop) < sink.stored  # type: ignore[operator]
    with pytest.raises(RuntimeError, match="killed"):
        run(shop, Storing(sink, fail_at=25), streaming=streaming)
    run(shop, Storing(sink), streaming=streaming)
    assert sink.rows == list(range(1, 31))
    assert sink.asked == 3
    assert confirmed(shop) == sink.stored


def test_a_lost_connection_changes_nothing(shop: Database) -> None:
    shop.execute("INSERT INTO users SELECT g FROM generate_series(1, 9) g")
    sink = Sink()
    stream = pgstream.connect(shop.dsn, slot=f"slot_{shop.name}")
    handler = Storing(sink)
    reader = threading.Thread(daemon=True, target=stream.run, args=[handler])
    reader.start()
    for number in (10, 11, 12):
        shop.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
            f" WHERE slot_name = 'slot_{shop.name}'"
        )
        shop.execute(f"INSERT INTO users VALUES ({number})")
        deadline = time.monotonic() + 30
        while number not in sink.rows and time.monotonic() < deadline:
            time.sleep(0.02)
    stream.stop()
    reader.join(30)
    assert sink.rows == list(range(1, 13))
    assert stream.status().reconnects >= 1


def test_asyncio_asks_too(shop: Database) -> None:
    sink = Sink()

    class Coroutines:
        def __init__(self) -> None:
            self.handler = Storing(sink)

        async def position(self) -> LSN | None:
            return self.handler.position()

        async def __call__(self, event: Event) -> None:
            self.handler(event)

    for _ in range(2):
        shop.execute("INSERT INTO users SELECT coalesce(max(id), 0) + 1 FROM users")
        stream = pgstream.connect_async(shop.dsn, slot=f"slot_{shop.name}", until="now")
        asyncio.run(stream.run(Coroutines()))
    assert sink.rows == [1, 2]
    assert sink.asked == 2


def test_a_sink_behind_the_slot_is_refused(shop: Database) -> None:
    sink = Sink()
    shop.execute("INSERT INTO users VALUES (1)")
    run(shop, Storing(sink))
    shop.execute("INSERT INTO users VALUES (2)")
    run(shop, lambda event: None)  # someone else
    with pytest.raises(SlotMismatch, match="changes in between do not come") as caught:
        run(shop, Storing(sink))
    assert caught.value.gap == (sink.stored, confirmed(shop))
    assert sink.rows == [1]


def test_a_sink_ahead_of_the_server_is_refused(shop: Database) -> None:
    sink = Sink()
    sink.stored = LSN("FFFF/0")
    with pytest.raises(SlotMismatch, match="the server is at an earlier point"):
        run(shop, Storing(sink))


def test_an_idle_stream_does_not_pass_the_sink(shop: Database) -> None:
    """A sink that was not told would take the slot's position for a gap."""
    sink = Sink()
    shop.execute("INSERT INTO users VALUES (1)")
    run(shop, Storing(sink))
    for _ in range(2):
        shop.execute("INSERT INTO other SELECT g FROM generate_series(1, 1000) g")
        run(shop, Storing(sink))
        assert confirmed(shop) == sink.stored
    shop.execute("INSERT INTO users VALUES (2)")
    run(shop, Storing(sink))
    assert sink.rows == [1, 2]


def test_a_sink_that_can_be_told_lets_an_idle_slot_follow(shop: Database) -> None:
    sink = Sink()
    shop.execute("INSERT INTO users VALUES (1)")
    run(shop, Advancing(sink))
    for _ in range(2):
        shop.execute("INSERT INTO other SELECT g FROM generate_series(1, 1000) g")
        target = LSN(shop.execute("SELECT pg_current_wal_lsn()")[0][0])
        run(shop, Advancing(sink))
        assert confirmed(shop) == sink.stored
        assert sink.stored is not None
        assert sink.stored >= target
    shop.execute("INSERT INTO users VALUES (2)")
    run(shop, Advancing(sink))
    assert sink.rows == [1, 2]


def test_prepared_transactions_are_refused(database: Database) -> None:
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    for options in ({"two_phase": True}, {}):  # the slot keeps to it
        with pytest.raises(ConfigError, match="prepared transactions"):
            run(database, Storing(Sink()), **options)


def test_a_message_outside_transactions_that_is_stored_is_left_out(shop: Database) -> None:
    sink, seen = Sink(), []

    class Noting(Storing):
        def __call__(self, event: Event) -> None:
            seen.append(event)
            super().__call__(event)

    shop.execute("SELECT pg_logical_emit_message(false, 'p', 'before')")
    shop.execute("INSERT INTO users VALUES (1)")
    shop.execute("INSERT INTO users VALUES (2)")
    shop.execute("SELECT pg_logical_emit_message(false, 'p', 'after')")
    shop.execute("INSERT INTO other VALUES (1)")  # such a message alone is not flushed at once
    with pytest.raises(RuntimeError):
        run(shop, Noting(sink, fail_at=1, after=True), messages=True)
    run(shop, Noting(sink), messages=True)
    assert sink.rows == [1, 2]
    said = [event.content for event in seen if isinstance(event, pgstream.LogicalMessage)]
    assert said == [b"before", b"after"]


def test_an_idle_position_is_told_now_and_then() -> None:
    session = Session(Config(status_interval=3))
    positions = session.reading.positions
    positions.follows_idle = False

    def told_at(seconds: float, end: int) -> LSN | None:
        positions.keepalive(LSN(end))
        session._advanced = time.monotonic() - seconds  # since it was told the last time
        return session.idle_position()

    assert [told_at(4, 5), told_at(1, 9), told_at(4, 9)] == [5, None, 9]
    session.stopped = True
    assert told_at(1, 12) == 12
