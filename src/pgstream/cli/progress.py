"""The progress of the initial copy: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from ..snapshot import SnapshotProgress

_LINE_SECONDS: Final = 10.0
_WIDTH: Final = 24


class ProgressReport:
    """Shows how far a copy has come.

    Args:
        say: Says a line to a person.
        bar: Draw a bar on ``stream`` instead.
        stream: Standard error by default.
    """

    def __init__(
        self, say: Callable[[str], None], *, bar: bool, stream: TextIO | None = None
    ) -> None:
        self._say = say
        self._stream = (stream or sys.stderr) if bar else None
        self._said = time.monotonic()
        self._drawn = 0

    def __call__(self, progress: SnapshotProgress) -> None:
        """Show it, if it is time to."""
        if self._stream is not None:
            filled = round(progress.fraction * _WIDTH)
            text = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {describe(progress)}"
            self._stream.write("\r" + text.ljust(self._drawn))
            self._drawn = len(text)
            self._stream.flush()
        elif time.monotonic() - self._said >= _LINE_SECONDS:
            self._said = time.monotonic()
            self._say(f"copying: {describe(progress)}")

    def clear(self) -> None:
        """Take the bar away, for what is said next."""
        if self._stream is not None and self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0


def describe(progress: SnapshotProgress) -> str:
    """Percent, rows, size, time left, on one line."""
    parts = [
        f"{progress.fraction:4.0%}",
        f"{progress.rows:,} rows",
        _size(progress.bytes),
        f"{progress.tables_done} of {progress.tables} tables",
    ]
    if progress.eta is not None and progress.fraction < 1.0:
        parts.append(f"{_duration(progress.eta)} left")
    return ", ".join(parts).strip()


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
