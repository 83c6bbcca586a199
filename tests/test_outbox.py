"""What was read and is not handed out yet, whichever way it is taken."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgstream import LSN, Begin, Commit, Origin, Relation, SnapshotBegin, SnapshotEnd, SnapshotRow
from pgstream.messages import Event
from pgstream.outbox import Outbox
from pgstream.positions import NOTED, Positions

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Told(Positions):
    """Positions that remember what they were told of."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Event] = []

    def deliver(self, event: Any) -> None:
        self.told.append(event)


def events(shape: str) -> list[Event]:
    """An event for each letter: (, ) and . for a begin, a commit and anything else."""
    made: dict[str, Any] = {
        "(": lambda: Begin(1, LSN(10), NOW),
        ")": lambda: Commit(1, LSN(10), LSN(20), NOW),
        ".": lambda: Origin("elsewhere", LSN(0)),
    }
    return [made[letter]() for letter in shape]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.text("().", max_size=12)),
        st.tuples(st.just("take"), st.integers(1, 9)),
        st.tuples(st.just("pop"), st.integers(1, 9)),
        st.tuples(st.just("batch"), st.integers(1, 15)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=30,
)


def same(found: list[Event], expected: list[Event]) -> bool:
    return list(map(id, found)) == list(map(id, expected))


@given(actions)
def test_all_ways_to_take_give_the_same_events_in_order(todo: list[tuple[str, Any]]) -> None:
    positions = Told()
    outbox, waiting, noted = Outbox(positions), deque[Event](), list[Event]()
    given_out = 0

    def expect(found: list[Event]) -> None:
        nonlocal given_out
        given_out += len(found)
        expected = [waiting.popleft() for _ in found]
        assert same(found, expected)
        noted.extend(event for event in expected if type(event) in NOTED)

    for action, argument in todo:
        if action == "put":
            run = events(argument)
            waiting.extend(run)
            outbox.put(run)
        elif action == "take":
            for _ in range(argument):
                event = outbox.take()
                assert (event is None) == (not waiting)
                expect([] if event is None else [event])
        elif action == "pop":
            for _ in range(min(argument, len(outbox.part))):
                expect([outbox.part.pop()])
        elif action == "batch":
            batch = outbox.batch(argument, 0)
            if batch is None:
                # Nothing is whole, and not too much to wait for the rest.
                assert len(waiting) < argument
                assert not any(type(event) is Commit for event in waiting)
            else:
                assert 0 < len(batch) <= argument
                window = enumerate(list(waiting)[:argument], 1)
                whole = [count for count, event in window if type(event) is Commit]
                # As many whole transactions as fit, or a part of one that does not.
                assert len(batch) == (whole[-1] if whole else argument)
                expect(batch)
        else:
            outbox.clear()
            waiting.clear()
        assert len(outbox) == len(waiting)
        assert outbox.handed_out == given_out
        assert same(positions.told, noted)


def test_a_batch_that_is_not_whole_waits() -> None:
    outbox = Outbox(Told())
    outbox.put(events("(."))
    assert outbox.batch(10, 0) is None
    outbox.put(events(")(.."))
    assert outbox.batch(10, 60) is None
    assert [type(event) for event in outbox.batch(10, 0) or ()] == [Begin, Origin, Commit]
    assert outbox.batch(10, 0) is None


def test_a_batch_that_is_full_does_not_wait() -> None:
    outbox = Outbox(Told())
    for shape in ("()", "(.", ".)"):  # whole, or a part of what is too large
        outbox.put(events(shape))
        assert len(outbox.batch(2, 60) or ()) == 2


def test_a_batch_waits_since_the_oldest_came(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    outbox = Outbox(Told())

    def taken_at(seconds: float, max_events: int = 9) -> int:
        nonlocal now
        now = seconds
        return len(outbox.batch(max_events, 1.0) or ())

    outbox.put(events("()"))
    assert taken_at(100.5) == 0
    outbox.put(events("()"))
    assert taken_at(100.75) == 0
    assert taken_at(101.0) == 4
    now = 200.0
    outbox.put(events("()()"))
    assert taken_at(200.75, max_events=3) == 2
    assert taken_at(201.5) == 0  # the rest, since others went
    assert taken_at(201.75) == 2


def test_what_is_cleared_does_not_come() -> None:
    outbox = Outbox(Told())
    outbox.put(events("(...)()"))
    outbox.take()
    assert outbox.part
    outbox.clear()
    assert (len(outbox), outbox.handed_out, outbox.take()) == (0, 1, None)
    outbox.put(events("()"))
    assert len(outbox.batch(9, 0) or ()) == 2
    assert outbox.handed_out == 3


@pytest.mark.parametrize("taken", [0, 3])
def test_the_rows_of_a_copy_come_in_full_batches(taken: int) -> None:
    table = Relation(1, "public", "t", "d", ())
    rows: list[Event] = [SnapshotRow(table, {}, LSN(5), number) for number in range(25)]
    outbox = Outbox(Told())
    outbox.put([SnapshotBegin(LSN(5), (table,)), *rows[:12]])
    outbox.put([*rows[12:], SnapshotEnd(LSN(5), 25)])
    for _ in range(taken):
        outbox.take()
    sizes = [len(outbox.batch(10, 0) or ()) for _ in range(3)]
    assert sizes == [10, 10, 7 - taken]


@pytest.mark.parametrize("others", [3, 700])
def test_what_changes_a_position_is_told_when_it_is_handed_out(others: int) -> None:
    positions = Told()
    outbox = Outbox(positions)
    outbox.put(events("(" + "." * others + ")"))
    assert type(outbox.take()) is Begin
    assert len(positions.told) == 1
    for left in range(others, 0, -1):
        assert len(outbox.part) == left
        outbox.part.pop()
    assert len(positions.told) == 1
    assert type(outbox.take()) is Commit
    assert len(positions.told) == 2
