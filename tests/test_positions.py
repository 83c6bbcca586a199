"""What may be confirmed to the server, and when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pgstream import LSN, Begin, Commit, LogicalMessage, Positions, Prepare

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def begin(at: int) -> Begin:
    return Begin(7, LSN(at), NOW)


def commit(end: int) -> Commit:
    return Commit(7, LSN(end - 10), LSN(end), NOW)


def loose(at: int) -> LogicalMessage:
    return LogicalMessage("p", b"", False, LSN(at), None, None, None, None)


@pytest.fixture
def positions() -> Positions:
    return Positions()


def pass_on(positions: Positions, *events: Begin | Commit | LogicalMessage | Prepare) -> None:
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


def test_a_prepared_transaction_ends_at_its_prepare(positions: Positions) -> None:
    pass_on(positions, Prepare(7, "gid", LSN(90), LSN(100), NOW))
    positions.acknowledge()
    assert positions.handled == 100
