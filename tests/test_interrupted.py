"""Streams whose reader was called off, by ctrl-C or a task's cancellation, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

import pgstream
from pgstream import Begin, Commit, Event, Insert, Stream, connector, reading
from pgstream.outbox import Outbox
from pgstream.reading import Reading
from pgstream.session import Session
from pgstream.steps import Connect, Run
from servers import Database

TRANSACTIONS = 20
ROWS = 30


@pytest.fixture
def shop(database: Database) -> Database:
    """As many transactions as are read in several pieces, all of them to come."""
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    open_stream(database).close()
    for first in range(0, TRANSACTIONS * ROWS, ROWS):
        database.execute(
            f"INSERT INTO users SELECT g FROM generate_series({first}, {first + ROWS - 1}) g"
        )
    return database


class Surprise(Exception):
    """What a signal handler may raise as well."""


both_errors = pytest.mark.parametrize("error", [KeyboardInterrupt, Surprise])


def open_stream(database: Database, **options: Any) -> Stream:
    return pgstream.connect(database.dsn, slot=f"slot_{database.name}", **options)


def ids(events: list[Event]) -> list[int]:
    return [event.new["id"] for event in events if isinstance(event, Insert)]


def is_all(events: list[Event]) -> bool:
    return ids(events) == list(range(TRANSACTIONS * ROWS))


def read(stream: Stream) -> Iterator[Event]:
    """All events, with a new iteration after each interrupt, and each transaction acknowledged."""
    while True:
        with contextlib.suppress(KeyboardInterrupt, Surprise):
            for event in stream:
                if isinstance(event, Commit):
                    stream.ack()
                yield event
            return


@both_errors
def test_a_wait_that_has_just_ended(
    shop: Database, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """What it brought is not in the hands of the one who was called off."""
    perform, interrupts = pgstream.stream.perform, 0

    def interrupted(step: Any) -> Any:
        nonlocal interrupts
        answer = perform(step)
        if isinstance(step, Run) and interrupts < 5:
            interrupts += 1
            raise error
        return answer

    with open_stream(shop, until="now") as stream:
        monkeypatch.setattr(pgstream.stream, "perform", interrupted)
        assert is_all(list(read(stream)))
        assert stream.status().reconnects == 0
    assert interrupts == 5


@pytest.mark.parametrize("error", [asyncio.CancelledError, Surprise])
def test_a_wait_that_has_just_ended_for_asyncio(
    shop: Database, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """psycopg lets other tasks run once it is done, and there the task may be cancelled."""
    perform, cancels = pgstream.stream.perform_async, 0

    async def cancelled(step: Any) -> Any:
        nonlocal cancels
        answer = await perform(step)
        if isinstance(step, Run) and cancels < 5:
            cancels += 1
            raise error
        return answer

    async def main() -> list[Event]:
        found: list[Event] = []
        slot = f"slot_{shop.name}"
        async with pgstream.connect_async(shop.dsn, slot=slot, until="now") as stream:
            monkeypatch.setattr(pgstream.stream, "perform_async", cancelled)
            while True:
                with contextlib.suppress(error):
                    found.extend([event async for event in stream])
                    assert stream.status().reconnects == 0
                    return found

    assert is_all(asyncio.run(main()))
    assert cancels == 5


@both_errors
def test_payloads_on_their_way(
    shop: Database, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """They are libpq's no more, and nowhere else yet: they come again, over a new connection."""
    drain, interrupts = connector.drain, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal interrupts
        answer = drain(*arguments)
        if answer[0] and interrupts < 3:
            interrupts += 1
            raise error
        return answer

    with open_stream(shop, until="now") as stream:
        monkeypatch.setattr(connector, "drain", interrupted)
        assert is_all(list(read(stream)))
        assert stream.status().reconnects == 3
    assert interrupts == 3


ITERATIONS = {
    "iter": lambda stream: iter(stream),
    "next": lambda stream: iter(lambda: next(stream, None), None),
    "batches": lambda stream: chain.from_iterable(stream.batches(50, 0.01)),
}


@both_errors
@pytest.mark.parametrize("how", ITERATIONS)
def test_events_on_their_way(
    shop: Database, monkeypatch: pytest.MonkeyPatch, how: str, error: type[BaseException]
) -> None:
    """Taken out of the outbox, and not yielded: they come again, and are not acknowledged."""
    name = "batch" if how == "batches" else "take"
    hand_out, calls = getattr(Outbox, name), 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        answer = hand_out(*arguments)
        calls += bool(answer)
        if answer and calls in (2, 4, 7):
            raise error
        return answer

    found: list[Event] = []
    with open_stream(shop, until="now") as stream:
        monkeypatch.setattr(Outbox, name, interrupted)
        for _ in range(4):
            try:
                for event in ITERATIONS[how](stream):
                    found.append(event)
                    if isinstance(event, Commit):
                        stream.ack()
            except error:
                handled = stream.positions.handled
                stream.ack()
                assert stream.positions.handled == handled
        assert stream.status().reconnects == 3
    begins = [i for i, event in enumerate(found) if isinstance(event, Begin)] + [len(found)]
    whole = [part for part in map(slice, begins, begins[1:]) if isinstance(found[part][-1], Commit)]
    assert is_all([event for part in whole for event in found[part]])


@both_errors
@pytest.mark.parametrize("where", ["more", "_read"])
def test_events_that_are_being_read(
    shop: Database, monkeypatch: pytest.MonkeyPatch, where: str, error: type[BaseException]
) -> None:
    owner: type = {"more": Reading, "_read": Session}[where]
    name = {"more": "more", "_read": "_report_if_due"}[where]
    method, calls = getattr(owner, name), 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        answer = method(*arguments, **options)
        calls += 1
        if calls == 3:
            raise error
        return answer

    with open_stream(shop, until="now") as stream:
        monkeypatch.setattr(owner, name, interrupted)
        assert set(ids(list(read(stream)))) == set(range(TRANSACTIONS * ROWS))
        assert stream.status().reconnects == 1


@pytest.mark.parametrize("by_the_server", [True, False], ids=["by the server", "by us"])
@pytest.mark.parametrize("kind", [Connect, Run])
def test_the_change_to_the_text_transfer(
    shop: Database, monkeypatch: pytest.MonkeyPatch, by_the_server: bool, kind: type
) -> None:
    """Whoever finds out; interrupted while it leaves, or while it connects."""
    if by_the_server:
        monkeypatch.setattr(reading, "needs_text", lambda *arguments: set())
    perform, changing, interrupts = pgstream.stream.perform, False, 0

    def interrupted(step: Any) -> Any:
        nonlocal interrupts
        if changing and isinstance(step, kind) and not interrupts:
            interrupts += 1
            raise KeyboardInterrupt
        return perform(step)

    def notice(text: str) -> None:
        nonlocal changing
        changing |= "changed to the text transfer" in text

    with open_stream(shop, notice=notice) as stream:
        shop.execute("CREATE TABLE odd (id int PRIMARY KEY, v aclitem[])")
        shop.execute("ALTER PUBLICATION pgstream_pub ADD TABLE odd")
        shop.execute("INSERT INTO odd VALUES (-1, ARRAY['=r/postgres'::aclitem])")
        monkeypatch.setattr(pgstream.stream, "perform", interrupted)
        found = []
        for event in read(stream):
            found.append(event)
            if -1 in ids(found):
                break
    assert ids(found) == [*range(TRANSACTIONS * ROWS), -1]
    assert interrupts == 1


def test_a_stop_after_an_interrupt_loses_no_acknowledgement(shop: Database) -> None:
    with open_stream(shop) as stream:
        while not isinstance(next(stream), Commit):
            pass
        stream.ack()
        stream._start_again()  # as an interrupt makes it
        stream.stop()
        assert list(stream) == []
        handled = stream.positions.handled
    [(flushed,)] = shop.execute(
        "SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
        f" WHERE slot_name = 'slot_{shop.name}'"
    )
    assert flushed == str(handled)
