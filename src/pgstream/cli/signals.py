"""Ctrl-C and SIGTERM: the first ends the stream in good order, the second at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopper:
    """What a signal does.

    Attributes:
        received: The signal that came first, if any did.
        stop: Called at the first signal. Until it is set, the signal ends the program
            where it stands.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.stop: Callable[[], None] | None = None

    @property
    def status(self) -> int:
        """The exit code of a program that ended cleanly: ctrl-C shows, SIGTERM does not."""
        return 130 if self.received == signal.SIGINT else 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            # Whatever hangs, be it a write to a full pipe, must not hold this up.
            os._exit(128 + number)
        self.received = number
        if self.stop is not None:
            self.stop()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)


@contextlib.contextmanager
def stopper() -> Iterator[Stopper]:
    """Handle the signals for as long as the block runs, those that are not ignored."""
    handler = Stopper()
    former = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, old in former.items():
        if old is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield handler
    finally:
        for number, old in former.items():
            signal.signal(number, old)
