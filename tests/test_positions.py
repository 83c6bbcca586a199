"""What may be confirmed to the server, and when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pgstream import (
    LSN,
    Begin,
    BeginPrepare,
    Commit,
    Event,
    LogicalMessage,
    Origin,
    Positions,
    Prepare,
    SnapshotEnd,
)
from pgstream.positions import is_whole

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def begin(at: int) -> Begin:
    return Begin(7, LSN(at), NOW)


def commit(end: int) -> Commit:
    return Commit(7, LSN(end - 10), LSN(end), NOW)


def loose(at: int) -> LogicalMessage:
    return LogicalMessage("p", b"", False, LSN(at), None, None, None, None)


def within(at: int) -> LogicalMessage:
    return LogicalMessage("p", b"", True, LSN(at), 7, None, None, 1)


@pytest.fixture
def positions() -> Positions:
    return Positions()


def pass_on(positions: Positions, *events: Event) -> None:
    for event in events:
        positions.receive(event)
        positions.deliver(event)


def test_received_is_not_handled(positions: Positions) -> None:
    pass_on(positions, begin(90), commit(100))
    assert (positions.received, positions.handled) == (100, 0)
    assert positions.unacknowledged
    positions.acknowledge()
    assert positions.handled == 100
    assert not positions.unacknowledged


def test_only_what_was_handed_out_is_acknowledged(positions: Positions) -> None:
    pass_on(positions, begin(90), commit(100))
    positions.receive(begin(190))
    positions.receive(commit(200))  # received, still to be handed out
    positions.acknowledge()
    assert positions.handled == 100
    assert positions.in_flight


def test_an_acknowledgement_within_a_transaction_covers_those_before(positions: Positions) -> None:
    pass_on(positions, begin(90), commit(100), begin(190))
    positions.acknowledge()
    assert positions.handled == 100


def test_idle_keepalives_advance(positions: Positions) -> None:
    positions.keepalive(LSN(500))
    assert (positions.received, positions.handled) == (500, 500)


def test_keepalives_do_not_advance_over_an_open_transaction(positions: Positions) -> None:
    pass_on(positions, begin(90))
    positions.keepalive(LSN(500))
    assert (positions.received, positions.handled) == (500, 0)


def test_keepalives_do_not_advance_over_what_is_unacknowledged(positions: Positions) -> None:
    pass_on(positions, begin(90), commit(100))
    positions.keepalive(LSN(500))
    assert positions.handled == 0
    positions.acknowledge()
    assert positions.handled == 100
    positions.keepalive(LSN(500))
    assert positions.handled == 500


def test_keepalives_do_not_advance_over_a_message_outside_transactions(
    positions: Positions,
) -> None:
    # The server would not send it again from a later position.
    pass_on(positions, loose(50))
    positions.keepalive(LSN(500))
    assert positions.handled == 0
    positions.acknowledge()
    positions.keepalive(LSN(500))
    assert positions.handled == 500


def test_nothing_goes_backwards(positions: Positions) -> None:
    positions.keepalive(LSN(500))
    pass_on(positions, begin(90), commit(100))
    positions.acknowledge()
    positions.keepalive(LSN(300))
    assert (positions.received, positions.handled) == (500, 500)


def test_a_message_within_a_transaction_counts_with_it(positions: Positions) -> None:
    pass_on(positions, begin(90), within(95), commit(100))
    positions.acknowledge()
    assert not positions.in_flight
    assert not positions.unacknowledged


def test_a_message_is_in_flight_until_it_was_handed_out(positions: Positions) -> None:
    pass_on(positions, loose(50))
    positions.receive(loose(60))
    assert positions.unacknowledged
    for _ in range(2):
        positions.acknowledge()  # of the first alone
        assert positions.in_flight
        assert not positions.unacknowledged
    positions.deliver(loose(60))
    positions.acknowledge()
    assert not positions.in_flight


def test_a_copy_is_acknowledged_when_all_of_it_was_handed_out(positions: Positions) -> None:
    assert not positions.copied
    positions.acknowledge()
    assert (positions.copied, positions.unacknowledged) == (False, False)
    positions.deliver(SnapshotEnd(LSN(100), 3))
    assert (positions.copied, positions.unacknowledged) == (False, True)
    positions.acknowledge()
    assert (positions.copied, positions.unacknowledged) == (True, False)
    positions.restart()  # its slot is gone with the connection
    assert (positions.copied, positions.unacknowledged) == (False, False)


def test_what_is_withdrawn_was_not_handed_out(positions: Positions) -> None:
    pass_on(positions, begin(90), commit(100))
    positions.acknowledge()
    pass_on(positions, begin(190), commit(200), loose(250))
    positions.deliver(SnapshotEnd(LSN(100), 3))
    positions.withdraw()
    assert not positions.unacknowledged
    positions.acknowledge()
    assert (positions.handled, positions.copied) == (100, False)
    assert positions.in_flight


def test_how_far_anything_was_handed_out(positions: Positions) -> None:
    assert positions.handed_out == 0
    pass_on(positions, begin(95))
    assert positions.handed_out == 96  # the commit record, which lies there, or a part of it
    pass_on(positions, commit(100))
    assert positions.handed_out == 100
    pass_on(positions, BeginPrepare(7, "gid", LSN(190), LSN(200), NOW))
    assert positions.handed_out == 191
    positions.deliver(begin(95))  # again, over a new connection
    assert positions.handed_out == 191


@pytest.mark.parametrize(
    ("event", "whole"),
    [
        (begin(90), False),
        (Origin("elsewhere", LSN(0)), False),
        (within(95), False),
        (commit(100), True),
        (loose(50), True),
        (SnapshotEnd(LSN(100), 3), True),
    ],
)
def test_after_which_events_no_transaction_is_open(event: Event, whole: bool) -> None:
    assert is_whole(event) == whole


def test_a_prepared_transaction_ends_at_its_prepare(positions: Positions) -> None:
    pass_on(positions, BeginPrepare(7, "gid", LSN(90), LSN(100), NOW))
    assert positions.in_transaction
    assert positions.oldest_commit_time == NOW
    pass_on(positions, Prepare(7, "gid", LSN(90), LSN(100), NOW))
    assert not positions.in_transaction
    positions.acknowledge()
    assert positions.handled == 100


def test_events_in_flight_are_those_of_transactions_not_acknowledged(positions: Positions) -> None:
    for end in (100, 200):
        for event in (begin(end - 10), commit(end)):
            positions.receive(event)
            positions.events += 1
    assert positions.events_in_flight == 4
    assert positions.oldest_commit_time == NOW
    positions.deliver(commit(100))
    positions.acknowledge()
    assert positions.events_in_flight == 2
    positions.deliver(commit(200))
    positions.acknowledge()
    assert positions.events_in_flight == 0
    assert positions.oldest_commit_time is None


def test_what_is_in_flight_for_ever_takes_no_more_room(positions: Positions) -> None:
    """A recorder acknowledges nothing, and reads millions of transactions."""
    for end in range(100, 1_000_100, 100):
        positions.receive(commit(end))
        positions.events += 1
    assert len(positions._flights) <= 4096
    positions.deliver(commit(1_000_000))
    positions.acknowledge()
    assert positions.events_in_flight == 0


def test_a_restart_forgets_what_was_not_handed_out(positions: Positions) -> None:
    pass_on(positions, begin(90), commit(100))
    positions.receive(begin(190))
    positions.receive(commit(200))
    positions.receive(begin(290))
    positions.receive(loose(295))
    positions.events = 6
    positions.restart()
    assert not positions.in_transaction
    assert positions.oldest_commit_time is None
    assert positions.events_in_flight == 0
    assert positions.in_flight  # the first may still be acknowledged
    assert positions.begun == 90
    positions.keepalive(LSN(95))
    assert positions.handled == 0
    positions.acknowledge()
    assert positions.handled == 100
    assert not positions.in_flight
    positions.keepalive(LSN(500))
    assert positions.handled == 500


def test_it_resumes_where_the_slot_stands(positions: Positions) -> None:
    positions.resume(LSN(300), LSN(250))
    assert (positions.received, positions.handled, positions.flushed) == (300, 300, 250)
    positions.resume(LSN(200), LSN(200))
    assert (positions.handled, positions.flushed) == (300, 200)


def test_a_sink_that_keeps_the_position_is_not_passed(positions: Positions) -> None:
    positions.follows_idle = False
    positions.keepalive(LSN(500))
    assert (positions.handled, positions.idle) == (0, 500)
    positions.resume_idle(LSN(400))
    positions.resume_idle(LSN(300))
    assert positions.handled == 400
    pass_on(positions, begin(590))
    positions.resume_idle(LSN(500))
    assert positions.handled == 400  # something is in flight by now
    pass_on(positions, commit(600))
    positions.acknowledge()
    positions.resume_idle(LSN(500))
    assert positions.handled == 600
