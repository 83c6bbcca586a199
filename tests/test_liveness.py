"""Slow handlers, stuck readers, silent networks: who hears from whom, and for how long."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import pgstream
from pgstream import LSN, Begin, Commit, Event, Insert, SnapshotBegin, SnapshotRow, Stream
from pgstream.heartbeat import Heartbeat
from proxy import Proxy
from servers import Database
from waiting import eventually

SHORT = "-c wal_sender_timeout=1s"


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
    database.execute("CREATE TABLE other (id int)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    pgstream.connect(database.dsn, slot=f"slot_{database.name}").close()
    return database


def open_stream(database: Database, dsn: str | None = None, **options: Any) -> Stream:
    return pgstream.connect(dsn or database.dsn, slot=f"slot_{database.name}", **options)


def slot_row(database: Database, column: str) -> Any:
    [(value,)] = database.execute(
        f"SELECT {column} FROM pg_replication_slots WHERE slot_name = 'slot_{database.name}'"
    )
    return value


def reader_pid(database: Database) -> int | None:
    pid = slot_row(database, "active_pid")
    return None if pid is None else int(pid)


def ids(events: list[Event]) -> list[int]:
    return [event.new["id"] for event in events if isinstance(event, Insert)]


def read_one(stream: Stream) -> list[Event]:
    events: list[Event] = []
    for event in stream:
        events.append(event)
        if isinstance(event, Commit):
            break
    return events


def test_a_handler_that_blocks_keeps_its_connection(shop: Database) -> None:
    """For several times wal_sender_timeout; the slot does not move meanwhile."""
    shop.execute("INSERT INTO users VALUES (1)")
    before = slot_row(shop, "confirmed_flush_lsn")
    with open_stream(shop, f"{shop.dsn} options='{SHORT}'") as stream:
        events = read_one(stream)
        pid = reader_pid(shop)
        shop.execute("INSERT INTO other VALUES (1)")
        time.sleep(3.5)
        assert reader_pid(shop) == pid
        assert slot_row(shop, "confirmed_flush_lsn") == before
        stream.ack()
        shop.execute("INSERT INTO users VALUES (2)")
        events += read_one(stream)
        assert ids(events) == [1, 2]
        assert stream.status().reconnects == 0


def test_a_status_update_without_a_position_leaves_it(shop: Database) -> None:
    """As the one that goes out beside a handler, which may not know what was handled."""
    shown = (
        "SELECT write_lsn::text, flush_lsn::text FROM pg_stat_replication"
        f" JOIN pg_replication_slots ON active_pid = pid WHERE database = '{shop.name}'"
    )
    with open_stream(shop) as stream:
        connector = stream._session._connector
        assert connector is not None
        connector.report(LSN(0x300), LSN(0x200))
        eventually(lambda: shop.execute(shown) == [("0/300", "0/200")])
        connector.report(LSN(0x400))
        eventually(lambda: shop.execute(shown)[0][0] == "0/400")
        assert shop.execute(shown) == [("0/400", "0/200")]


def test_a_handler_that_blocks_asyncio_keeps_its_connection(shop: Database) -> None:
    async def main() -> tuple[int | None, int | None, int]:
        dsn = f"{shop.dsn} options='{SHORT}'"
        async with pgstream.connect_async(dsn, slot=f"slot_{shop.name}") as stream:
            shop.execute("INSERT INTO users VALUES (1)")
            async for event in stream:
                if isinstance(event, Commit):
                    break
            pid = reader_pid(shop)
            time.sleep(3.5)  # not the loop's sleep: everything in the loop stands still
            return pid, reader_pid(shop), stream.status().reconnects

    before, after, reconnects = asyncio.run(main())
    assert before is not None
    assert before == after
    assert reconnects == 0


def test_a_stuck_reader_frees_the_slot(shop: Database, caplog: pytest.LogCaptureFixture) -> None:
    """And reads on when it comes back: what it did not acknowledge comes again."""
    shop.execute("INSERT INTO users VALUES (1)")
    with open_stream(shop, handler_timeout=0.5) as stream:
        first = read_one(stream)
        assert slot_row(shop, "active")
        eventually(lambda: not slot_row(shop, "active"))
        assert "has not come back for" in caplog.text
        again = read_one(stream)
        stream.ack()
        assert again == first
        assert stream.status().reconnects == 1


def test_a_busy_reader_is_not_stuck(shop: Database) -> None:
    """One chunk that takes long, event by event, is no reader that does not come back."""
    shop.execute("INSERT INTO users SELECT g FROM generate_series(1, 30) g")
    with open_stream(shop, handler_timeout=1.0) as stream:
        pid = reader_pid(shop)
        for event in stream:
            time.sleep(0.1)
            if isinstance(event, Commit):
                break
        assert reader_pid(shop) == pid


def test_a_server_that_does_not_answer_is_given_up(shop: Database) -> None:
    said: list[str] = []
    with (
        Proxy(shop.tcp_dsn) as proxy,
        open_stream(shop, proxy.dsn, silence_timeout=1.0, notice=said.append) as stream,
    ):
        shop.execute("INSERT INTO users VALUES (1)")
        assert ids(read_one(stream)) == [1]
        stream.ack()
        events: list[Event] = []
        reader = threading.Thread(daemon=True, target=lambda: events.extend(read_one(stream)))
        reader.start()
        proxy.stall()
        eventually(lambda: any("has not answered for" in text for text in said))
        proxy.cut()  # the server must not keep the dead connection's slot for long
        proxy.resume()
        shop.execute("INSERT INTO users VALUES (2)")
        reader.join(60)
        assert ids(events) == [2]


def test_a_server_that_is_only_idle_is_not_given_up(shop: Database) -> None:
    """It is asked, and answers."""
    with open_stream(shop, silence_timeout=0.6) as stream:
        threading.Timer(3.0, stream.stop).start()
        assert list(stream) == []
        assert stream.status().reconnects == 0


def test_bytes_one_by_one_late_and_slowly(shop: Database) -> None:
    shop.execute("INSERT INTO users SELECT g, repeat('n', 20) FROM generate_series(1, 200) g")
    with Proxy(shop.tcp_dsn) as proxy:
        proxy.delay = 0.01
        proxy.fragment = 1
        with open_stream(shop, proxy.dsn, until="now") as stream:
            assert ids(list(stream)) == list(range(1, 201))
        proxy.fragment = 65536
        proxy.throttle = 40_000
        with open_stream(shop, proxy.dsn, until="now") as stream:
            assert ids(list(stream)) == list(range(1, 201))
        assert proxy.passed > 2 * 200 * 40


def test_the_slot_follows_while_only_others_change(any_database: Database) -> None:
    any_database.execute("CREATE TABLE users (id int); CREATE TABLE other (id int)")
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    with open_stream(any_database, status_interval=0.2) as stream:
        # It acknowledges: 14 sends the transactions of others, with nothing in them.
        reader = threading.Thread(daemon=True, target=stream.run, args=[lambda event: None])
        reader.start()
        for _ in range(3):
            any_database.execute("INSERT INTO other SELECT g FROM generate_series(1, 1000) g")
            target = LSN(any_database.execute("SELECT pg_current_wal_lsn()")[0][0])
            eventually(
                lambda: LSN(slot_row(any_database, "confirmed_flush_lsn")) >= target  # noqa: B023
            )
        stream.stop()
        reader.join(20)
        assert not reader.is_alive()


def test_status(shop: Database) -> None:
    shop.execute("INSERT INTO users VALUES (1), (2)")
    with open_stream(shop) as stream:
        assert repr(stream) == f"<Stream of slot slot_{shop.name}, streaming>"
        before = stream.status()
        assert (before.state, before.events_in_flight, before.lag_seconds) == ("streaming", 0, 0)
        assert before.handled == before.flushed == LSN(slot_row(shop, "confirmed_flush_lsn"))
        next(stream)
        inside = stream.status()
        assert inside.events_in_flight >= 1
        assert inside.lag_seconds > 0
        events = read_one(stream)
        commit = events[-1]
        assert isinstance(commit, Commit)
        whole = stream.status()
        assert whole.events_in_flight == 4
        assert whole.received >= commit.end_lsn
        assert whole.server >= commit.end_lsn
        assert whole.lag_bytes == whole.server - before.handled > 0
        stream.ack()
        acked = stream.status()
        assert (acked.events_in_flight, acked.lag_seconds) == (0, 0)
        assert acked.handled == commit.end_lsn > acked.flushed
    closed = stream.status()
    assert closed.state == "closed"
    assert closed.flushed == commit.end_lsn


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only what nothing refers to goes, and at once."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def let_go(streams: list[Any]) -> None:
    """Drop the last reference to the one stream there, which must end it."""
    held = weakref.ref(streams[0]._session)
    with pytest.warns(ResourceWarning):
        streams.clear()
    assert held() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("how", ["iter", "batches", "reconnect"])
def test_a_stream_that_nobody_holds_is_not_kept(shop: Database, how: str) -> None:
    streams = [open_stream(shop)]
    if how == "reconnect":
        shop.execute(f"SELECT pg_terminate_backend({reader_pid(shop)})")
    shop.execute("INSERT INTO users VALUES (1)")
    if how == "batches":
        assert ids(next(streams[0].batches(max_seconds=0.01))) == [1]
    else:
        assert ids(read_one(streams[0])) == [1]
    let_go(streams)
    eventually(lambda: not slot_row(shop, "active"))


@pytest.mark.usefixtures("no_collector")
def test_a_stream_that_nobody_holds_is_not_kept_by_asyncio(shop: Database) -> None:
    async def main() -> None:
        streams = [pgstream.connect_async(shop.dsn, slot=f"slot_{shop.name}")]
        await streams[0].__aenter__()
        shop.execute("INSERT INTO users VALUES (1)")
        assert isinstance(await anext(streams[0]), Begin)
        let_go(streams)

    asyncio.run(main())
    eventually(lambda: not slot_row(shop, "active"))


@pytest.mark.usefixtures("no_collector")
def test_a_copy_that_nobody_holds_is_not_kept(shop: Database) -> None:
    shop.execute("INSERT INTO users SELECT g FROM generate_series(1, 10) g")
    streams = [pgstream.connect(shop.dsn, slot=f"copy_{shop.name}", snapshot=True)]
    seen = [type(next(streams[0])) for _ in range(3)]
    assert seen == [SnapshotBegin, SnapshotRow, SnapshotRow]
    let_go(streams)


def test_a_heartbeat_that_is_stopped_has_ended() -> None:
    class Slow:
        ended = False

        def beat(self) -> float:
            begun.set()
            time.sleep(0.3)
            self.ended = True
            return 60.0

    begun = threading.Event()
    slow = Slow()
    heartbeat = Heartbeat(slow.beat)
    heartbeat.stop()  # before it has begun
    heartbeat = Heartbeat(slow.beat)
    heartbeat.start()
    begun.wait()
    heartbeat.stop()
    assert slow.ended


def test_a_heartbeat_may_stop_itself() -> None:
    """Where its beat is the last that held a stream, it is the one to let it go."""

    class Last:
        stopped = False

        def beat(self) -> float:
            heartbeat.stop()
            self.stopped = True
            return 0.0

    last = Last()
    heartbeat = Heartbeat(last.beat)
    heartbeat.start()
    eventually(lambda: last.stopped)
    eventually(lambda: not heartbeat._thread.is_alive())
