"""A thread that keeps time while the reader is elsewhere: in a handler that blocks.

It serves asyncio as well: a task there would stand still with the loop when a handler
blocks, which is when it is needed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable


class Heartbeat:
    """Calls ``beat`` again and again, beside the reader.

    Args:
        beat: A bound method that does not wait, and returns after how many seconds to call
            it again. It is held weakly: a stream that nobody holds any more is not kept.
    """

    def __init__(self, beat: Callable[[], float]) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=_run,
            args=(weakref.WeakMethod(beat), self._stopped),
            name="pgstream heartbeat",
            daemon=True,
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; ``beat`` is not called any more when this returns."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()


def _run(held: weakref.WeakMethod[Callable[[], float]], stopped: threading.Event) -> None:
    seconds = 0.0
    while not stopped.wait(seconds):
        beat = held()
        if beat is None:
            return
        seconds = beat()
        del beat
