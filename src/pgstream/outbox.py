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
        handed_out: How many events the user was given.
    """

    def __init__(self, positions: Positions) -> None:
        self.handed_out = 0
        self._positions = positions
        self._put = 0  # how many events there were in all, handed out or not
        self._next: deque[Event] = deque()  # the run from which the last one was taken
        self._runs: deque[list[Event]] = deque()  # those behind it, none of them empty
        # Those that change a position, each with how many are handed out before it.
        self._noted: deque[tuple[int, Event]] = deque()
        self._since = 0.0  # when the oldest of them came

    def __len__(self) -> int:
        return self._put - self.handed_out

    def put(self, run: list[Event]) -> None:
        """Add events that were read; the list is given away."""
        if not run:
            return
        if not self:
            self._since = time.monotonic()
        if not NOTED.isdisjoint(map(type, run)):
            self._noted.extend(
                [
                    (index, event)
                    for index, event in enumerate(run, self._put)
                    if type(event) in NOTED
                ]
            )
        self._runs.append(run)
        self._put += len(run)

    def take(self) -> Event | None:
        """Hand out the next event; ``None`` if there is none.

        Every event that is not in a batch comes through here, so it asks for little.
        """
        if not self._next:
            if not self._runs:
                return None
            self._next.extend(self._runs.popleft())
        noted = self._noted
        if noted and noted[0][0] == self.handed_out:
            self._positions.deliver(noted.popleft()[1])
        self.handed_out += 1
        return self._next.popleft()

    def batch(self, max_events: int, max_seconds: float) -> list[Event] | None:
        """Hand out a batch: whole transactions, or a part of one too large. ``None`` if it is
        not due yet.

        Args:
            max_events: More than this many are never handed out at once.
            max_seconds: How long an event waits once its transaction is whole.
        """
        noted, size = self._noted, len(self)
        if size < max_events and time.monotonic() - self._since < max_seconds:
            return None
        count = 0
        for index, event in noted:
            if index - self.handed_out >= max_events:
                break
            if is_whole(event):
                count = index - self.handed_out + 1
        if not count:
            if size < max_events:
                return None
            count = max_events
        self.handed_out += count
        while noted and noted[0][0] < self.handed_out:
            self._positions.deliver(noted.popleft()[1])
        self._since = time.monotonic()
        return self._cut(count)

    def clear(self) -> None:
        """Drop what is here: it comes again."""
        self._put = self.handed_out
        self._next.clear()
        self._runs.clear()
        self._noted.clear()

    def _cut(self, count: int) -> list[Event]:
        """The first ``count`` events, which are here no more."""
        batch = list(self._next)
        self._next.clear()
        while len(batch) < count:
            batch += self._runs.popleft()
        self._next.extend(batch[count:])
        del batch[count:]
        return batch
