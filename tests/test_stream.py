"""The stream as its user holds it: iteration, acknowledgement, batches, handlers."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import pgstream
from pgstream import (
    LSN,
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Event,
    Insert,
    LogicalMessage,
    Origin,
    ProtocolError,
    ServerError,
    Stream,
    Truncate,
    Update,
    tuple_row,
)
from pgstream.config import Config
from pgstream.reading import Reading
from servers import Database
from waiting import eventually

pytestmark = pytest.mark.usefixtures("both_decoders")


@pytest.fixture
def shop(database: Database) -> Database:
    """A table, a publication of it, and a slot that stands before all changes."""
    database.execute("CREATE TABLE users (id int PRIMARY KEY, name text, bio text)")
    database.execute("ALTER TABLE users ALTER COLUMN bio SET STORAGE EXTERNAL")
    database.execute("CREATE TABLE unpublished (id int)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    open_stream(database).close()
    return database


def open_stream(database: Database, **options: Any) -> Stream:
    options.setdefault("slot", f"slot_{database.name}")
    return pgstream.connect(database.dsn, **options)


def flushed(database: Database) -> LSN:
    rows = database.execute(
        "SELECT confirmed_flush_lsn FROM pg_replication_slots"
        f" WHERE slot_name = 'slot_{database.name}'"
    )
    return LSN(rows[0][0])


def insert(database: Database, *ids: int) -> None:
    for number in ids:
        database.execute(f"INSERT INTO users VALUES ({number}, 'n')")


def ids(events: list[Event]) -> list[int]:
    return [event.new["id"] for event in events if isinstance(event, Insert)]


def test_a_stream_that_has_ended_stays_so(shop: Database) -> None:
    shop.execute("INSERT INTO users VALUES (1, 'Mujib')")
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [1]
        assert list(stream) == []
        assert list(stream.batches()) == []
        with pytest.raises(StopIteration):
            next(stream)


def test_changes_become_events(shop: Database) -> None:
    shop.execute("INSERT INTO users VALUES (1, 'Mujib', repeat('b', 9000))")
    shop.execute("UPDATE users SET name = 'Bum'")
    shop.execute("UPDATE users SET id = 2")
    shop.execute("DELETE FROM users")
    shop.execute("TRUNCATE users RESTART IDENTITY CASCADE")
    with open_stream(shop, until="now") as stream:
        events = list(stream)
    assert [type(event) for event in events if not isinstance(event, Begin | Commit)] == [
        Insert,
        Update,
        Update,
        Delete,
        Truncate,
    ]
    _, inserted, commit, _, updated, _, _, moved, _, _, deleted, _, _, truncated, _ = events
    assert isinstance(inserted, Insert)
    assert isinstance(commit, Commit)
    assert isinstance(updated, Update)
    assert isinstance(moved, Update)
    assert isinstance(deleted, Delete)
    assert isinstance(truncated, Truncate)
    assert (inserted.relation.schema, inserted.relation.table) == ("public", "users")
    assert inserted.new == {"id": 1, "name": "Mujib", "bio": "b" * 9000}
    assert inserted.xid == commit.xid
    assert inserted.commit_lsn == commit.commit_lsn
    assert inserted.lsn < commit.commit_lsn < commit.end_lsn
    assert updated.old is None
    assert updated.new == {"id": 1, "name": "Bum", "bio": UNCHANGED}
    assert moved.old == {"id": 1}
    assert deleted.old == {"id": 2}
    assert truncated.cascade
    assert truncated.restart_identity
    assert [relation.table for relation in truncated.relations] == ["users"]


def test_what_is_acknowledged_does_not_come_again(shop: Database) -> None:
    insert(shop, 1, 2)
    with open_stream(shop, until="now") as stream:
        for event in stream:
            stream.ack()
            if isinstance(event, Commit):
                break
    assert flushed(shop) == event.end_lsn  # told to the server on the way out
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [2]


def test_what_is_not_acknowledged_comes_again(shop: Database) -> None:
    insert(shop, 1)
    for _ in range(2):
        with open_stream(shop, until="now") as stream:
            assert ids(list(stream)) == [1]


def test_an_acknowledgement_takes_effect_at_the_boundary(shop: Database) -> None:
    shop.execute("INSERT INTO users VALUES (1), (2)")
    with open_stream(shop) as stream:
        for event in stream:
            stream.ack()
            if isinstance(event, Insert) and event.new["id"] == 2:
                break
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [1, 2]


def test_closing_leaves_the_slot_inactive(shop: Database) -> None:
    insert(shop, *range(5))
    stream = open_stream(shop)
    next(iter(stream))
    assert shop.execute("SELECT active FROM pg_replication_slots")[0] == (True,)
    stream.close()
    stream.close()  # again is nothing
    assert shop.execute("SELECT active FROM pg_replication_slots")[0] == (False,)
    assert list(stream) == []


def test_closing_in_the_middle_of_much_ends_in_good_order(shop: Database) -> None:
    shop.execute("INSERT INTO users SELECT g FROM generate_series(1, 20000) g")
    with open_stream(shop) as stream:
        next(iter(stream))
    assert shop.execute("SELECT active FROM pg_replication_slots")[0] == (False,)
    with open_stream(shop, until="now") as stream:
        assert len(ids(list(stream))) == 20000


def test_closing_from_another_thread_ends_the_iteration(shop: Database) -> None:
    insert(shop, 1)
    stream = open_stream(shop)
    found: list[Event] = []
    reader = threading.Thread(target=lambda: found.extend(stream), daemon=True)
    reader.start()
    deadline = time.monotonic() + 30
    while ids(found) != [1] and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)  # it waits for more
    stream.close()
    reader.join(30)
    assert not reader.is_alive()
    assert stream.status().state == "closed"
    assert shop.execute("SELECT active FROM pg_replication_slots")[0] == (False,)


def test_an_interrupted_wait_loses_nothing(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    insert(shop, 1)
    with open_stream(shop) as stream:
        events = iter(stream)
        while not isinstance(next(events), Commit):
            pass
        perform = pgstream.stream.perform

        def interrupted(step: Any) -> Any:
            if isinstance(step, pgstream.steps.Run):
                monkeypatch.setattr(pgstream.stream, "perform", perform)
                next(step.generator)  # it waits
                raise KeyboardInterrupt
            return perform(step)

        monkeypatch.setattr(pgstream.stream, "perform", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        insert(shop, 2)
        assert ids([next(stream) for _ in range(3)]) == [2]
        assert stream.status().reconnects == 0


def test_iteration_goes_on_after_break(shop: Database) -> None:
    insert(shop, *range(10))
    seen: list[Event] = []
    with open_stream(shop, until="now") as stream:
        for event in stream:
            seen.append(event)
            if len(seen) == 5:
                break
        seen += next(stream.batches(max_events=4))
        seen += list(stream)
    assert ids(seen) == list(range(10))


def test_batches_hold_whole_transactions_where_they_fit(shop: Database) -> None:
    for first, count in ((0, 3), (10, 3), (20, 30), (60, 1)):
        shop.execute(
            f"INSERT INTO users SELECT g FROM generate_series({first}, {first + count - 1}) g"
        )
    with open_stream(shop, until="now") as stream:
        batches = list(stream.batches(max_events=10, max_seconds=60))
    assert [len(batch) for batch in batches] == [10, 10, 10, 10, 5]
    assert [ids(batch) for batch in batches[:1]] == [[0, 1, 2, 10, 11, 12]]
    assert ids([event for batch in batches for event in batch]) == [
        0,
        1,
        2,
        10,
        11,
        12,
        *range(20, 50),
        60,
    ]


def test_a_batch_in_parts_counts_with_its_last_part(shop: Database) -> None:
    insert(shop, 1)
    shop.execute("INSERT INTO users SELECT g FROM generate_series(10, 29) g")
    with open_stream(shop) as stream:
        batches = stream.batches(max_events=10, max_seconds=0.01)
        handled = []
        sizes = []
        for _ in range(4):
            sizes.append(len(next(batches)))
            stream.ack()
            handled.append(stream.positions.handled)
        assert sizes == [3, 10, 10, 2]
        assert handled[0] == handled[1] == handled[2] < handled[3]
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == []


def test_a_batch_does_not_wait_for_others(shop: Database) -> None:
    insert(shop, 1)
    with open_stream(shop) as stream:
        assert ids(next(stream.batches(max_events=1000, max_seconds=0.05))) == [1]
        insert(shop, 2)
        assert ids(next(stream.batches(max_events=1000, max_seconds=0.05))) == [2]


def test_the_collector_rests_only_while_a_batch_gathers(shop: Database) -> None:
    states = []
    with open_stream(shop, notice=lambda text: None) as stream:
        fill = stream._fill

        def watched() -> bool:
            states.append((bool(stream._outbox), gc.isenabled()))
            return fill()

        stream._fill = watched  # type: ignore[method-assign]
        batches = stream.batches(max_events=1000, max_seconds=0.3)
        insert(shop, 1, 2)
        assert ids(next(batches)) == [1, 2]
        assert gc.isenabled()
        batches.close()  # type: ignore[attr-defined]
    assert (True, False) in states
    assert (True, True) not in states
    assert (False, False) not in states
    assert gc.isenabled()


def test_the_collector_does_not_look_at_batches_that_are_let_go(shop: Database) -> None:
    shop.execute("INSERT INTO users SELECT n, 'n' FROM generate_series(1, 20000) n")
    passes = 0

    def count(phase: str, info: dict[str, int]) -> None:
        nonlocal passes
        passes += phase == "start"

    batches, kept = 0, []
    with open_stream(shop, until="now") as stream:
        for batch in stream.batches(max_events=1000):
            batches += 1
            if batches == 2:
                gc.callbacks.append(count)
            if batches == 18:
                gc.callbacks.remove(count)
            if batches > 18:
                kept.append(batch)
    assert batches == 21
    assert len(kept) == 3
    assert passes < 4  # a batch is more than the collector waits for, and there were 16


def test_a_slow_consumer_lets_a_bounded_number_of_rows_gather(shop: Database) -> None:
    """They are taken out of the socket meanwhile, in order, and no more than so many."""
    shop.execute("INSERT INTO users SELECT n, 'n' FROM generate_series(1, 40000) n")
    found, most = [], 0
    with open_stream(shop, until="now", streaming="off") as stream:
        for event in stream:
            if isinstance(event, Insert):
                found.append(event.new["id"])
                if len(found) % 250 == 0:
                    time.sleep(0.001 if most > 256 else 0.02)  # the server goes on sending
                    connector = stream._session._connector
                    assert connector is not None
                    most = max(most, sum(map(len, connector._backlog)))
    assert found == list(range(1, 40001))
    assert 256 < most < 12_000


@pytest.mark.parametrize("size", [0, -1])
def test_an_impossible_batch_size_is_refused(shop: Database, size: int) -> None:
    with open_stream(shop) as stream, pytest.raises(ValueError, match="at least 1"):
        next(stream.batches(max_events=size))


def test_run_acknowledges_after_the_handler(shop: Database) -> None:
    insert(shop, 1, 2)
    seen: list[Event] = []
    open_stream(shop, until="now").run(seen.append)
    assert ids(seen) == [1, 2]
    with open_stream(shop, until="now") as stream:
        assert list(stream) == []


def test_a_handler_that_raises_keeps_its_transaction(shop: Database) -> None:
    insert(shop, 1)
    shop.execute("INSERT INTO users VALUES (2), (3)")

    def handler(event: Event) -> None:
        if isinstance(event, Insert) and event.new["id"] == 3:
            raise RuntimeError("sink is down")

    with pytest.raises(RuntimeError, match="sink is down"):
        open_stream(shop).run(handler)
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [2, 3]


def test_a_handler_that_raises_at_the_commit_keeps_its_transaction(shop: Database) -> None:
    insert(shop, 1, 2)
    commits = 0

    def handler(event: Event) -> None:
        nonlocal commits
        commits += isinstance(event, Commit)
        if commits == 2:
            raise RuntimeError("at the commit")

    with pytest.raises(RuntimeError, match="at the commit"):
        open_stream(shop).run(handler)
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [2]


async def of_asyncio(*_: object) -> None:
    raise AssertionError("not run")


class Telling:
    """A handler with every method, which keeps the names of its calls. The call of this name
    returns a coroutine; which it is can be told from the function only if it is ``declared``.
    """

    def __init__(self, name: str, *, declared: bool) -> None:
        self.called: list[str] = []
        self._name = name
        if declared:
            setattr(self, name, of_asyncio)

    def __call__(self, event: Event) -> object:
        return self._tell(type(event).__name__.lower())

    def flush(self) -> object:
        return self._tell("flush")

    def position(self) -> object:
        return self._tell("position")

    def advance(self, lsn: LSN) -> object:
        return self._tell("advance")

    def close(self) -> object:
        return self._tell("close")

    def _tell(self, name: str) -> object:
        self.called.append(name)
        return of_asyncio() if name == self._name else None


@pytest.mark.parametrize("where", ["flush", "position", "advance", "close"])
def test_a_handler_with_a_method_of_asyncio_is_refused(shop: Database, where: str) -> None:
    """Nobody would run it, and what it was to do would count as done."""
    insert(shop, 1)
    handler = Telling(where, declared=True)
    with pytest.raises(TypeError, match="connect_async"):
        open_stream(shop, until="now").run(handler)
    assert set(handler.called) <= {"close"}
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [1]


@pytest.mark.parametrize("is_function", [True, False])
def test_a_handler_of_asyncio_is_refused(shop: Database, is_function: bool) -> None:
    class Handler(Telling):
        async def __call__(self, event: Event) -> None:
            raise AssertionError("not run")

    insert(shop, 1)
    handler = Handler("", declared=False)
    with pytest.raises(TypeError, match="connect_async"):
        open_stream(shop, until="now").run(of_asyncio if is_function else handler)
    assert handler.called == ([] if is_function else ["close"])
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [1]


@pytest.mark.parametrize("where", ["begin", "commit", "flush", "position"])
def test_a_coroutine_that_a_handler_returns_is_refused(shop: Database, where: str) -> None:
    """It is known when it is there, and its transaction is not acknowledged."""
    insert(shop, 1)
    handler = Telling(where, declared=False)
    with pytest.raises(TypeError, match="connect_async"):
        open_stream(shop, until="now").run(handler)
    assert handler.called[-2:] == [where, "close"]
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [1]


def test_a_coroutine_for_one_row_is_refused(shop: Database) -> None:
    """In the midst of others, which are handed on with less ado than the ends of a transaction."""
    shop.execute("INSERT INTO users SELECT generate_series(1, 99)")

    def handler(event: Event) -> object:
        return of_asyncio() if isinstance(event, Insert) and event.new["id"] == 50 else None

    with pytest.raises(TypeError, match="connect_async"):
        open_stream(shop, until="now").run(handler)
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == list(range(1, 100))


def test_a_handler_that_yields_is_refused(shop: Database) -> None:
    """A call of it would run nothing, and its events would be acknowledged."""
    insert(shop, 1)

    def generator(event: Event) -> Iterator[None]:
        yield None

    async def for_asyncio(event: Event) -> AsyncIterator[None]:
        yield None

    for handler in (generator, lambda event: generator(event)):
        with pytest.raises(TypeError, match="yield"):
            open_stream(shop, until="now").run(handler)
    for handler in (for_asyncio, generator, lambda event: for_asyncio(event)):
        slot = f"slot_{shop.name}"
        with pytest.raises(TypeError, match="yield"):
            asyncio.run(pgstream.connect_async(shop.dsn, slot=slot, until="now").run(handler))
    with open_stream(shop, until="now") as reading:
        assert ids(list(reading)) == [1]


def test_a_coroutine_that_advance_returns_is_refused(shop: Database) -> None:
    shop.execute("INSERT INTO unpublished VALUES (1)")
    before = flushed(shop)
    handler = Telling("advance", declared=False)
    with pytest.raises(TypeError, match="connect_async"):
        open_stream(shop, until="now").run(handler)
    assert handler.called == ["position", "advance", "close"]
    assert flushed(shop) == before


def test_a_coroutine_that_close_returns_is_refused(shop: Database) -> None:
    insert(shop, 1)
    handler = Telling("close", declared=False)
    with pytest.raises(TypeError, match="connect_async"):
        open_stream(shop, until="now").run(handler)
    assert handler.called[-1] == "close"


class Buffered:
    """A handler that holds events back until its flush."""

    def __init__(self, fail: bool = False) -> None:
        self.fail = fail
        self.held: list[Event] = []
        self.written: list[Event] = []
        self.closed = False

    def __call__(self, event: Event) -> None:
        self.held.append(event)

    def flush(self) -> None:
        if self.fail:
            raise OSError("disk full")
        self.written += self.held
        self.held.clear()

    def close(self) -> None:
        self.closed = True


def test_a_handler_that_buffers_is_flushed_before_the_acknowledgement(shop: Database) -> None:
    insert(shop, 1, 2)
    handler = Buffered(fail=True)
    with pytest.raises(OSError, match="disk full"):
        open_stream(shop, until="now").run(handler)
    assert handler.closed
    handler = Buffered()
    open_stream(shop, until="now").run(handler)
    assert ids(handler.written) == [1, 2]
    assert handler.held == []
    with open_stream(shop, until="now") as stream:
        assert list(stream) == []


def test_a_buffering_handler_is_flushed_while_the_stream_is_idle(shop: Database) -> None:
    insert(shop, 1)
    handler = Buffered()
    stream = open_stream(shop)
    thread = threading.Thread(target=stream.run, args=[handler])
    thread.start()
    eventually(lambda: ids(handler.written) == [1])
    eventually(lambda: flushed(shop) >= handler.written[-1].end_lsn)  # type: ignore[union-attr]
    stream.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_stop_ends_an_idle_iteration(shop: Database) -> None:
    with open_stream(shop) as stream:
        threading.Timer(0.2, stream.stop).start()
        assert list(stream) == []


def test_stop_ends_a_busy_iteration_at_the_next_event(shop: Database) -> None:
    insert(shop, *range(50))
    with open_stream(shop) as stream:
        seen = []
        for event in stream:
            seen.append(event)
            if len(seen) == 4:
                stream.stop()
        assert len(seen) == 4


def test_until_a_position(shop: Database) -> None:
    insert(shop, 1)
    between = LSN(shop.execute("SELECT pg_current_wal_lsn()")[0][0])
    insert(shop, 2)
    with open_stream(shop, until=between) as stream:
        for _ in stream:
            stream.ack()
        assert stream.positions.handled <= between
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [2]


def test_until_now_ends_on_an_idle_server(shop: Database) -> None:
    shop.execute("INSERT INTO unpublished SELECT g FROM generate_series(1, 1000) g")
    with open_stream(shop, until="now") as stream:
        assert list(stream) == []


def test_an_idle_publication_does_not_hold_back_wal(shop: Database) -> None:
    with open_stream(shop, status_interval=0.2) as stream:
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        for _ in range(3):
            shop.execute("INSERT INTO unpublished SELECT g FROM generate_series(1, 1000) g")
            target = LSN(shop.execute("SELECT pg_current_wal_lsn()")[0][0])
            eventually(lambda target=target: flushed(shop) >= target)  # type: ignore[misc]
        stream.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_keepalives_do_not_pass_what_is_unacknowledged(shop: Database) -> None:
    insert(shop, 1)
    before = flushed(shop)
    with open_stream(shop, status_interval=0.1) as stream:
        commit = next(event for event in stream if isinstance(event, Commit))
        shop.execute("INSERT INTO unpublished SELECT g FROM generate_series(1, 1000) g")
        end = LSN(shop.execute("SELECT pg_current_wal_lsn()")[0][0])
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        eventually(lambda: stream.positions.received >= end)
        assert flushed(shop) == before
        stream.ack()
        eventually(lambda: flushed(shop) >= commit.end_lsn)
        stream.stop()
        thread.join(20)


def test_the_server_is_answered_in_time(shop: Database) -> None:
    """An idle stream outlives wal_sender_timeout many times."""
    dsn = f"{shop.dsn} options='-c wal_sender_timeout=1500ms'"
    with pgstream.connect(dsn, slot=f"slot_{shop.name}") as stream:
        threading.Timer(4.0, stream.stop).start()
        assert list(stream) == []
        insert(shop, 1)
    with open_stream(shop, until="now") as stream:
        assert ids(list(stream)) == [1]


def test_the_server_is_answered_while_a_handler_takes_its_time(shop: Database) -> None:
    shop.execute("INSERT INTO users SELECT g FROM generate_series(1, 20) g")
    dsn = f"{shop.dsn} options='-c wal_sender_timeout=1500ms'"
    with pgstream.connect(dsn, slot=f"slot_{shop.name}") as stream:
        seen = []
        for event in stream:
            seen.append(event)
            threading.Event().wait(0.15)  # the sink's time: all in all three seconds
            if len(ids(seen)) == 20 and isinstance(event, Commit):
                insert(shop, 100)  # comes on the same connection, or not at all
            if ids(seen)[-1:] == [100]:
                break


def test_logical_messages(shop: Database) -> None:
    shop.execute("SELECT pg_logical_emit_message(false, 'loose', 'a')")
    shop.execute("BEGIN; SELECT pg_logical_emit_message(true, 'kept', 'b'::bytea); COMMIT")
    with open_stream(shop, until="now", messages=True) as stream:
        events = list(stream)
        loose, _, kept, _ = events
        stream.ack()
    assert isinstance(loose, LogicalMessage)
    assert isinstance(kept, LogicalMessage)
    assert (loose.prefix, loose.content, loose.transactional, loose.xid) == (
        "loose",
        b"a",
        False,
        None,
    )
    assert (kept.prefix, kept.content, kept.transactional, kept.ordinal) == ("kept", b"b", True, 0)
    with open_stream(shop, until="now") as stream:
        assert list(stream) == []


def test_messages_that_were_rolled_back_do_not_come(shop: Database) -> None:
    """Streamed, they may be in doubt; then the transaction is refused, not guessed at."""
    shop.execute(
        "BEGIN; INSERT INTO users SELECT g FROM generate_series(1, 2000) g; SAVEPOINT s;"
        "SELECT pg_logical_emit_message(true, 'p', repeat('m', 100)) FROM"
        " generate_series(1, 2000) g; ROLLBACK TO s;"
        "INSERT INTO users SELECT g FROM generate_series(2001, 4000) g; COMMIT"
    )
    dsn = f"{shop.dsn} options='-c logical_decoding_work_mem=64kB'"
    options: dict[str, Any] = {"slot": f"slot_{shop.name}", "until": "now", "messages": True}
    with (
        pgstream.connect(dsn, streaming="on", **options) as stream,
        pytest.raises(pgstream.ServerError, match="streaming off"),
    ):
        next(stream)
    with pgstream.connect(dsn, **options) as stream:
        events = list(stream)
    assert len(ids(events)) == 4000
    assert not [event for event in events if isinstance(event, LogicalMessage)]


def test_a_message_outside_transactions_is_a_batch_of_its_own(shop: Database) -> None:
    shop.execute("SELECT pg_logical_emit_message(false, 'loose', 'a')")
    with open_stream(shop, messages=True) as stream:
        assert len(next(stream.batches(max_seconds=0.05))) == 1


@pytest.fixture
def elsewhere(any_database: Database) -> Iterator[Database]:
    """Rows 1 and 4 are this server's own; 2, 3 and the messages came by replication."""
    name = any_database.name
    any_database.execute(
        "CREATE TABLE users (id int PRIMARY KEY); CREATE PUBLICATION pgstream_pub FOR TABLE users"
    )
    pgstream.connect(any_database.dsn, slot=f"slot_{name}").close()
    any_database.execute("SELECT pg_replication_origin_create(%s)", [name])
    try:
        any_database.execute("INSERT INTO users VALUES (1)")
        with any_database.connect() as replicating:
            replicating.execute("SELECT pg_replication_origin_session_setup(%s)", [name])
            replicating.execute("INSERT INTO users VALUES (2)")
            replicating.execute("SELECT pg_logical_emit_message(true, 'p', 'm')")
            replicating.execute("SELECT pg_logical_emit_message(false, 'p', 'm')")
            replicating.execute("INSERT INTO users SELECT g FROM generate_series(3, 2002) g")
        any_database.execute("INSERT INTO users VALUES (4000)")
        yield any_database
    finally:
        any_database.execute("SELECT pg_replication_origin_drop(%s)", [name])


@pytest.mark.parametrize("streaming", ["off", "on"])
def test_what_came_from_elsewhere_can_be_left_out(elsewhere: Database, streaming: str) -> None:
    dsn = f"{elsewhere.dsn} options='-c logical_decoding_work_mem=64kB'"
    options: dict[str, Any] = {
        "slot": f"slot_{elsewhere.name}",
        "until": "now",
        "messages": True,
        "streaming": streaming,
    }

    async def read() -> list[Event]:
        async with pgstream.connect_async(dsn, origin="none", **options) as stream:
            return [event async for event in stream]

    with pgstream.connect(dsn, **options) as stream:
        every = list(stream)
    with pgstream.connect(dsn, origin="any", **options) as stream:
        assert list(stream) == every
    assert ids(every) == [1, 2, *range(3, 2003), 4000]
    assert len([event for event in every if isinstance(event, LogicalMessage)]) == 2
    assert {event.name for event in every if isinstance(event, Origin)} == {elsewhere.name}
    if elsewhere.execute("SHOW server_version_num")[0][0] < "160000":
        with pytest.raises(ServerError, match="--origin none needs PostgreSQL 16") as refused:
            pgstream.connect(dsn, origin="none", slot="not_made")
        assert refused.value.hint == "leave it out"
        with pytest.raises(ServerError, match="--origin none needs PostgreSQL 16"):
            asyncio.run(read())
        assert not elsewhere.execute("SELECT FROM pg_replication_slots WHERE slot_name='not_made'")
    else:
        with pgstream.connect(dsn, origin="none", **options) as stream:
            own = list(stream)
        assert ids(own) == [1, 4000]
        assert not [event for event in own if isinstance(event, LogicalMessage | Origin)]
        assert asyncio.run(read()) == own


def test_row_factory_and_text_values(shop: Database) -> None:
    insert(shop, 1)
    with open_stream(shop, until="now", row_factory=tuple_row, values="text") as stream:
        assert [e.new for e in stream if isinstance(e, Insert)] == [("1", "n", None)]


def test_the_tap_sees_every_payload(shop: Database) -> None:
    insert(shop, 1)
    seen: list[bytes] = []
    with open_stream(shop, until="now", tap=lambda payload: seen.append(bytes(payload))) as stream:
        events = list(stream)
    assert list(pgstream.read_payloads(seen)) == events


@pytest.mark.parametrize("streaming", ["off", "on"])
def test_what_is_tapped_can_be_joined(shop: Database, streaming: str) -> None:
    """Reading up to a position leaves out all that lies beyond, also from the tap."""
    dsn = f"{shop.dsn} options='-c logical_decoding_work_mem=64kB'"
    many = "INSERT INTO users SELECT g, repeat('n', 100) FROM generate_series({}, {}) g"
    shop.execute(many.format(1, 1000))
    between = LSN(shop.execute("SELECT pg_current_wal_lsn()")[0][0])
    shop.execute(many.format(1001, 2000))
    tapped: list[bytes] = []
    for until in (between, "now"):
        with pgstream.connect(
            dsn,
            slot=f"slot_{shop.name}",
            streaming=streaming,  # type: ignore[arg-type]
            until=until,  # type: ignore[arg-type]
            tap=lambda payload: tapped.append(bytes(payload)),
        ) as stream:
            for _ in stream:
                stream.ack()
        if streaming == "on":
            assert b"S" in {payload[25:26] for payload in tapped}
    assert ids(list(pgstream.read_payloads(tapped))) == list(range(1, 2001))


def test_the_tap_sees_what_cannot_be_read(shop: Database) -> None:
    insert(shop, 1)
    seen: list[bytes] = []

    def tap(payload: Any) -> None:
        seen.append(bytes(payload))

    with open_stream(shop, until="now", tap=tap) as stream:
        list(stream)
    damaged = [payload[:-1] if payload[25:26] == b"I" else payload for payload in seen]
    again: list[bytes] = []
    config = Config(tap=lambda payload: again.append(bytes(payload)))
    with pytest.raises(ProtocolError):
        list(Reading(config).events(damaged))
    assert again == damaged[: len(again)]
    assert again[-1][25:26] == b"I"


def test_odd_session_settings_change_nothing(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.execute(
        "CREATE TABLE v (id int PRIMARY KEY, at timestamptz, d date, f float8, b bytea,"
        " i interval);"
        "ALTER PUBLICATION pgstream_pub ADD TABLE v;"
        "INSERT INTO v VALUES (1, '2026-01-02 03:04:05.678+05:30', '2026-01-02',"
        " 0.1 + 0.2::float8, '\\x00ff5c', '1 year 2 days 3.5 s')"
    )

    def row() -> Any:
        with open_stream(shop, until="now") as stream:
            return next(event.new for event in stream if isinstance(event, Insert))

    plain = row()
    for setting in (
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Kolkata'",
        "intervalstyle = sql_standard",
        "extra_float_digits = -3",
        "bytea_output = escape",
        "client_encoding = 'LATIN1'",
    ):
        shop.execute(f"ALTER DATABASE {shop.name} SET {setting}")
    assert row() == plain
    monkeypatch.setenv("PGOPTIONS", "-c datestyle=German -c timezone=America/St_Johns")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert row() == plain


def test_text_that_is_not_utf8_becomes_bytes(database: Database) -> None:
    name = f"{database.name}_ascii"
    database.execute(f"CREATE DATABASE {name} ENCODING SQL_ASCII TEMPLATE template0")
    ascii_database = Database(database.server, name)
    try:
        ascii_database.execute("CREATE TABLE t (id int, v text); CREATE PUBLICATION p FOR TABLE t")
        slot = f"slot_{name}"
        pgstream.connect(ascii_database.dsn, slot=slot, publication="p").close()
        ascii_database.execute(r"INSERT INTO t VALUES (1, E'\xff\xfe'), (2, 'plain')")
        with pgstream.connect(
            ascii_database.dsn, slot=slot, publication="p", until="now"
        ) as stream:
            values = [event.new["v"] for event in stream if isinstance(event, Insert)]
        assert values == [b"\xff\xfe", "plain"]
        database.execute(f"SELECT pg_drop_replication_slot('{slot}')")
    finally:
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_float4_is_what_postgresql_prints(shop: Database) -> None:
    """The powers of two are where shortest decimals are hardest."""
    shop.execute(
        "CREATE TABLE f (id int PRIMARY KEY, v float4);"
        "ALTER PUBLICATION pgstream_pub ADD TABLE f;"
        "INSERT INTO f SELECT g, ('1e0'::float8 * power(2::numeric, g))::float4"
        " FROM generate_series(-125, 127) g;"
        "INSERT INTO f VALUES (200, '1e-45'), (201, '1.1754942e-38'), (202, 'NaN'), (203, '-0'),"
        " (204, '3.4028235e38'), (205, '-Infinity'), (206, '8388609'), (207, '1.1');"
        "INSERT INTO f SELECT 1000 + g, (random() * 10 ^ (random() * 60 - 30))::float4"
        " FROM generate_series(1, 20000) g"
    )

    def values(**options: Any) -> Iterator[str]:
        with open_stream(shop, until="now", **options) as stream:
            for event in stream:
                if isinstance(event, Insert):
                    yield f"{event.new['id']} {event.new['v']!r}"

    assert list(values(binary=True)) == list(values())


@pytest.mark.parametrize("options", [{}, {"changes": "json"}, {"streaming": "on"}])
@pytest.mark.parametrize("prepared", [False, True])
def test_a_large_transaction_that_was_rolled_back(
    any_database: Database, options: dict[str, Any], prepared: bool
) -> None:
    """PostgreSQL 18 sends StreamAbort for its subtransactions, also where nothing is streamed."""
    database = any_database
    database.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    database.execute(f"ALTER DATABASE {database.name} SET logical_decoding_work_mem = '64kB'")
    open_stream(database).close()
    with database.connect() as connection:
        connection.execute("BEGIN")
        for one in range(3):
            connection.execute("SAVEPOINT inner_one")
            connection.execute("INSERT INTO users VALUES (%s, 'inner')", [one])
            connection.execute("RELEASE inner_one")
        connection.execute(
            "INSERT INTO users SELECT g, repeat('x', 200) FROM generate_series(10, 2000) g"
        )
        if prepared:
            connection.execute(f"PREPARE TRANSACTION '{database.name}'")
            connection.execute(f"ROLLBACK PREPARED '{database.name}'")
        else:
            connection.execute("ROLLBACK")
    insert(database, 5000)
    with open_stream(database, until="now", **options) as stream:
        events = [event for event in stream if isinstance(event, (Insert, pgstream.JSONLines))]
    if "changes" in options:
        assert b"".join(map(bytes, events)).count(b"5000") == 1
    else:
        assert ids(events) == [5000]
