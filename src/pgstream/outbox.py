"""What was read and is not in the user's hands yet, one by one or in batches."""

from __future__ import annotations

import time
from collections import deque

from .messages import Event
from .positions import NOTED, Positions, is_whole


class Outbox:
    """Events in order, on their way to the user.

    Args:
        positions: Is told of each event that is handed out and changes a position.

    Attributes:
        part: The events behind the one that :meth:`take` handed out last, the next one at the
            end. None of them changes a position, so that to hand one out is to pop it.
    """

    def __init__(self, positions: Positions) -> None:
        self.part: list[Event] = []
        self._positions = positions
        # What is behind it. Of each list none but the first event may change a position.
        self._parts: deque[list[Event]] = deque()
        self._behind = 0  # how many events that are
        self._put = 0  # how many there were in all, handed out or not
        self._since = 0.0  # when the oldest of them came

    def __len__(self) -> int:
        return len(self.part) + self._behind

    @property
    def handed_out(self) -> int:
        """How many events the user was given."""
        return self._put - len(self)

    def put(self, run: list[Event]) -> None:
        """Add events that were read; the list is given away."""
        if not run:
            return
        if not self:
            self._since = time.monotonic()
        self._put += len(run)
        self._behind += len(run)
        if not NOTED.isdisjoint(map(type, run)):
            start = 0
            for index, kind in enumerate(map(type, run)):
                if kind in NOTED and index:
                    self._parts.append(run[start:index])
                    start = index
            del run[:start]
        self._parts.append(run)

    def take(self) -> Event | None:
        """Hand out the next event; ``None`` if there is none."""
        if not self.part:
            if not self._parts:
                return None
            self.part = self._next_part()
            self.part.reverse()
        return self.part.pop()

    def batch(self, max_events: int, max_seconds: float) -> list[Event] | None:
        """Hand out a batch: whole transactions, or a part of one too large. ``None`` if it is
        not due yet.

        Args:
            max_events: More than this many are never handed out at once.
            max_seconds: How long an event waits once its transaction is whole.
        """
        size = len(self)
        if size < max_events and time.monotonic() - self._since < max_seconds:
            return None
        before = len(self.part)
        count = before if self.part and is_whole(self.part[0]) else 0
        for part in self._parts:
            if before >= max_events:
                break
            if is_whole(part[-1]):  # and with it all behind the first: rows of a copy
                count = before + len(part)
            elif is_whole(part[0]):
                count = before + 1
            before += len(part)
        count = min(count, max_events)
        if not count:
            if size < max_events:
                return None
            count = max_events
        self._since = time.monotonic()
        return self._cut(count)

    def clear(self) -> None:
        """Drop what is here: it comes again."""
        self._put = self.handed_out
        self._behind = 0
        self.part.clear()
        self._parts.clear()

    def _next_part(self) -> list[Event]:
        """The next of the parts, whose first event is handed out right after this."""
        part = self._parts.popleft()
        self._behind -= len(part)
        if type(part[0]) in NOTED:
            self._positions.deliver(part[0])
        return part

    def _cut(self, count: int) -> list[Event]:
        """The first ``count`` events, which are here no more."""
        batch = self.part[::-1]
        self.part.clear()
        while len(batch) < count:
            batch += self._next_part()
        if rest := batch[count:]:
            del batch[count:]
            self._parts.appendleft(rest)
            self._behind += len(rest)
        return batch
