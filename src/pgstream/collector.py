"""Python's garbage collector, and the events of a batch."""

from __future__ import annotations

import gc
from types import TracebackType
from typing import Self


class CollectorPause:
    """Keeps the collector off while a batch gathers, whose events it would look at again and
    again: that takes half the time of reading them. A context manager.

    The collector looks at young objects once many more were allocated than freed. When a
    batch is handed out, the user lets go of the one before, and the two even out; what the
    user keeps is looked at as ever. For that, nothing that the collector counts may be
    allocated between here and the user's loop, where both batches are alive: so leaving this
    block allocates nothing.
    """

    def __init__(self) -> None:
        self._collects = gc.isenabled()

    def __enter__(self) -> Self:
        return self

    def gather(self, gathering: bool) -> None:
        """Say whether there are events already: while nothing has come, the collector runs."""
        if self._collects and gathering:
            gc.disable()
        elif self._collects:
            gc.enable()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.gather(False)
