"""How far a consumer has come: three positions, kept apart.

Received is not handled, and handled is not yet known to the server. Only what was
handled may move the slot, and only to the end of a transaction.
"""

from __future__ import annotations

from typing import Final

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
)

BOUNDARIES: Final = frozenset({Commit, Prepare, CommitPrepared, RollbackPrepared})
"""The events after which everything so far is whole; their ``end_lsn`` may be confirmed."""

NOTED: Final = BOUNDARIES | {Begin, BeginPrepare, LogicalMessage}
"""The events that change a position; all others may be passed by."""


def is_whole(event: Event) -> bool:
    """Whether no transaction is open after this event."""
    if isinstance(event, LogicalMessage):
        return not event.transactional
    return type(event) in BOUNDARIES


class Positions:
    """The positions of one stream.

    Attributes:
        received: What the server has sent, at least up to here.
        handled: The end of the last transaction that was acknowledged with all before it.
        flushed: The position last told to the server as flushed.
    """

    def __init__(self) -> None:
        self.received = LSN(0)
        self.handled = LSN(0)
        self.flushed = LSN(0)
        self._whole = LSN(0)  # the end of the last transaction received whole
        self._delivered = LSN(0)  # the same, of those handed out
        self._open = False  # inside a transaction
        self._loose = 0  # messages outside a transaction, received and not acknowledged
        self._loose_delivered = 0

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
    def unacknowledged(self) -> bool:
        """Whether anything that was handed out could be acknowledged now."""
        return self._delivered > self.handled or self._loose_delivered > 0

    def receive(self, event: Event) -> None:
        """Note an event that was decoded."""
        if isinstance(event, (Begin, BeginPrepare)):
            self._open = True
        elif isinstance(event, (Commit, Prepare, CommitPrepared, RollbackPrepared)):
            self._open = False
            self._whole = max(self._whole, event.end_lsn)
            self.received = max(self.received, event.end_lsn)
        elif isinstance(event, LogicalMessage) and not event.transactional:
            self._loose += 1

    def deliver(self, event: Event) -> None:
        """Note an event that is handed to the user."""
        if isinstance(event, (Commit, Prepare, CommitPrepared, RollbackPrepared)):
            self._delivered = max(self._delivered, event.end_lsn)
        elif isinstance(event, LogicalMessage) and not event.transactional:
            self._loose_delivered += 1

    def acknowledge(self) -> None:
        """Count all whole transactions that were handed out as handled."""
        self.handled = max(self.handled, self._delivered)
        self._loose -= self._loose_delivered
        self._loose_delivered = 0

    def keepalive(self, end_lsn: LSN) -> None:
        """Note that the server has read its WAL up to ``end_lsn``.

        With nothing in flight all of that WAL is dealt with: it held nothing for us. So
        an idle publication does not hold back the WAL of a busy server.
        """
        self.received = max(self.received, end_lsn)
        if not self.in_flight:
            self.handled = max(self.handled, end_lsn)
