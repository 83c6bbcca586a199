"""How far a consumer has come: three positions, kept apart.

Received is not handled, and handled is not yet known to the server. Only what was
handled may move the slot, and only to the end of a transaction.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from .lsn import LSN
from .messages import (
    Begin,
    BeginPrepare,
    Commit,
    CommitPrepared,
    Event,
    LogicalMessage,
    Prepare,
    RollbackPrepared,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
)

BOUNDARIES: Final = frozenset({Commit, Prepare, CommitPrepared, RollbackPrepared})
"""The events after which everything so far is whole; their ``end_lsn`` may be confirmed."""

NOTED: Final = BOUNDARIES | {Begin, BeginPrepare, LogicalMessage, SnapshotEnd}
"""The events that change a position; all others may be passed by."""


State: TypeAlias = Literal["starting", "copying", "streaming", "reconnecting", "closed"]

_FLIGHTS: Final = 4096  # transactions in flight that are told apart


@dataclass(frozen=True)
class Status:
    """How a stream stands, as :meth:`pgstream.Stream.status` saw it.

    Attributes:
        state: ``"starting"`` before the first connection, ``"copying"``, ``"streaming"``,
            ``"reconnecting"`` or ``"closed"``.
        received: What was read from the connection, at least up to here.
        handled: The end of the last transaction that was acknowledged with all before it.
        flushed: The position last told to the server as flushed.
        server: The server's position as last heard.
        lag_bytes: Bytes of WAL between ``handled`` and ``server``.
        lag_seconds: How long ago the oldest transaction that was received and is not
            acknowledged was committed, by the clocks of server and client; 0 if there is none.
        events_in_flight: Events that were received, and belong to what is not acknowledged.
        reconnects: How many times the connection was lost and made again.
    """

    state: State
    received: LSN
    handled: LSN
    flushed: LSN
    server: LSN
    lag_bytes: int
    lag_seconds: float
    events_in_flight: int
    reconnects: int


_WHOLE: Final = BOUNDARIES | {SnapshotBegin, SnapshotRow, SnapshotEnd}


def is_whole(event: Event) -> bool:
    """Whether no transaction is open after this event."""
    if isinstance(event, LogicalMessage):
        return not event.transactional
    return type(event) in _WHOLE


class Positions:
    """The positions of one stream.

    Attributes:
        received: What the server has sent, at least up to here.
        handled: The end of the last transaction that was acknowledged with all before it.
        flushed: The position last told to the server as flushed; after a new connection, where
            its slot stands: what was told last may not have arrived.
        begun: Where the last transaction commits of which anything was handed out.
        idle: The server's position when nothing was in flight last.
        events: How many events were received.
        follows_idle: Whether ``handled`` follows ``idle``. Not where a sink keeps the
            position itself, and has to be told of it first.
        copied: Whether an initial copy was handed out whole, and acknowledged.
    """

    def __init__(self) -> None:
        self.received = LSN(0)
        self.handled = LSN(0)
        self.flushed = LSN(0)
        self.begun = LSN(0)
        self.idle = LSN(0)
        self.events = 0
        self.follows_idle = True
        self.copied = False
        self._copy_delivered = False  # all of an initial copy was handed out
        self._whole = LSN(0)  # the end of the last transaction received whole
        self._delivered = LSN(0)  # the same, of those handed out
        self._open = False  # inside a transaction
        self._loose = 0  # messages outside a transaction, received and not acknowledged
        self._loose_delivered = 0
        self._events_handled = 0
        # What is in flight: the end of a transaction, its commit time, and how many events
        # there were up to its end. The last entry stands for many when there are too many.
        self._flights: deque[tuple[LSN, datetime | None, int]] = deque()
        self._commit_time: datetime | None = None  # of the transaction that is open

    def __repr__(self) -> str:
        return f"<received {self.received}, handled {self.handled}, flushed {self.flushed}>"

    @property
    def in_transaction(self) -> bool:
        """Whether the transaction received last is incomplete."""
        return self._open

    @property
    def in_flight(self) -> bool:
        """Whether anything that was received is not acknowledged yet."""
        return self._open or self._loose > 0 or self._whole > self.handled

    @property
    def events_in_flight(self) -> int:
        """How many events were received and belong to what is not acknowledged yet."""
        return self.events - self._events_handled

    @property
    def oldest_commit_time(self) -> datetime | None:
        """When the oldest transaction in flight was committed; ``None`` if there is none."""
        flights = self._flights
        try:
            return flights[0][1]
        except IndexError:
            return self._commit_time

    @property
    def handed_out(self) -> LSN:
        """The position up to which, at least, something was handed out."""
        return max(self._delivered, LSN(self.begun + 1) if self.begun else self.begun)

    @property
    def unacknowledged(self) -> bool:
        """Whether anything that was handed out could be acknowledged now."""
        return (
            self._delivered > self.handled
            or self._loose_delivered > 0
            or (self._copy_delivered and not self.copied)
        )

    def resume(self, position: LSN, confirmed: LSN) -> None:
        """Begin over a new connection.

        Args:
            position: What lies before is handled.
            confirmed: Where the slot stands: as much of it the server knows.
        """
        self.received = max(self.received, position)
        self.handled = max(self.handled, position)
        self.flushed = confirmed

    def resume_idle(self, position: LSN) -> None:
        """Count as handled what held nothing for us, now that the sink knows as well."""
        if not self.in_flight:
            self.handled = max(self.handled, position)

    def withdraw(self) -> None:
        """Count nothing as handed out that is not acknowledged."""
        self._delivered = self.handled
        self._loose_delivered = 0
        self._copy_delivered = self.copied

    def restart(self) -> None:
        """Forget what was received and not handed out: it comes again, as all does that was
        not acknowledged."""
        self._open = False
        self._commit_time = None
        self._whole = max(self.handled, self._delivered)
        self._loose = self._loose_delivered = 0
        self._copy_delivered = self.copied = False
        self._flights.clear()
        self._events_handled = self.events

    def receive(self, event: Event) -> None:
        """Note an event that was decoded; :attr:`events` does not count it yet."""
        if isinstance(event, Begin):
            self._open = True
            self._commit_time = event.commit_time
        elif isinstance(event, BeginPrepare):
            self._open = True
            self._commit_time = event.prepare_time
        elif isinstance(event, (Commit, Prepare, CommitPrepared, RollbackPrepared)):
            self._open = False
            self._whole = max(self._whole, event.end_lsn)
            self.received = max(self.received, event.end_lsn)
            self._take_off(event.end_lsn)
        elif isinstance(event, LogicalMessage) and not event.transactional:
            self._loose += 1

    def deliver(self, event: Event) -> None:
        """Note an event that is handed to the user."""
        if isinstance(event, Begin):
            self.begun = max(self.begun, event.commit_lsn)
        elif isinstance(event, BeginPrepare):
            self.begun = max(self.begun, event.prepare_lsn)
        elif isinstance(event, (Commit, Prepare, CommitPrepared, RollbackPrepared)):
            self._delivered = max(self._delivered, event.end_lsn)
        elif isinstance(event, LogicalMessage) and not event.transactional:
            self._loose_delivered += 1
        elif isinstance(event, SnapshotEnd):
            self._copy_delivered = True

    def acknowledge(self) -> None:
        """Count all whole transactions that were handed out as handled."""
        self.handled = max(self.handled, self._delivered)
        self._loose -= min(self._loose, self._loose_delivered)
        self._loose_delivered = 0
        self.copied = self._copy_delivered
        self._land()

    def keepalive(self, end_lsn: LSN) -> None:
        """Note that the server has read its WAL up to ``end_lsn``.

        With nothing in flight all of that WAL is dealt with: it held nothing for us. So
        an idle publication does not hold back the WAL of a busy server.
        """
        self.received = max(self.received, end_lsn)
        if not self.in_flight:
            self.idle = max(self.idle, end_lsn)
            if self.follows_idle:
                self.handled = max(self.handled, end_lsn)

    def _take_off(self, end: LSN) -> None:
        flights = self._flights
        entry = (end, self._commit_time, self.events + 1)
        if len(flights) >= _FLIGHTS:
            entry = (end, flights.pop()[1], self.events + 1)
        flights.append(entry)
        self._commit_time = None

    def _land(self) -> None:
        flights = self._flights
        while flights and flights[0][0] <= self.handled:
            self._events_handled = flights.popleft()[2]
        if not self.in_flight:
            self._events_handled = self.events  # messages outside transactions among them
