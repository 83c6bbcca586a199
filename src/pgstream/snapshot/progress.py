"""How far a copy has come, as far as can be known."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .plan import Part, Plan


@dataclass(frozen=True)
class SnapshotProgress:
    """How far the initial copy has come.

    Attributes:
        rows: Rows handed out.
        bytes: Their size as the server sent them.
        fraction: The part of the whole that is done, from 0 to 1: an estimate, of the
            sizes of the tables and of the rows that the planner expects in them.
        seconds: Since the copy began.
        tables: Tables to copy.
        tables_done: Those that were handed out whole.
        table: The table that rows came from last.
    """

    rows: int
    bytes: int
    fraction: float
    seconds: float
    tables: int
    tables_done: int
    table: str

    @property
    def eta(self) -> float | None:
        """Seconds until it is done, if it goes on like this; ``None`` where nobody can tell."""
        if not 0.0 < self.fraction <= 1.0 or self.seconds < 1.0:
            return None
        return self.seconds / self.fraction - self.seconds


class Meter:
    """Counts what is handed out of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._began = time.monotonic()
        self._rows = 0
        self._bytes = 0
        self._table = ""
        self._tables = len(plan.relations)
        self._left = {
            relation.oid: sum(part.relation is relation for part in plan.parts)
            for relation in plan.relations
        }
        self._pages = sum(part.pages for part in plan.parts)
        self._seen = [0] * len(plan.parts)
        self._finished = 0  # pages of the parts that are done
        self._share = 0.0  # pages of the parts that are not, as far as they have come

    def count(self, index: int, part: Part, rows: int, size: int, *, last: bool) -> None:
        """Note rows of a part; ``last``: there are no more of it."""
        self._rows += rows
        self._bytes += size
        self._table = f"{part.relation.schema}.{part.relation.table}"
        self._share -= self._come(index, part)
        self._seen[index] += rows
        if last:
            self._finished += part.pages
            self._left[part.relation.oid] -= 1
        else:
            self._share += self._come(index, part)

    def _come(self, index: int, part: Part) -> float:
        """Pages of a part that is under way, as far as it has come."""
        if part.expected_rows <= 0 or self._seen[index] <= 0:
            return 0.0
        return part.pages * min(1.0, self._seen[index] / part.expected_rows)

    def progress(self) -> SnapshotProgress:
        """How far it has come now."""
        done = self._finished + self._share
        return SnapshotProgress(
            rows=self._rows,
            bytes=self._bytes,
            fraction=min(1.0, done / self._pages) if self._pages else 1.0,
            seconds=time.monotonic() - self._began,
            tables=self._tables,
            tables_done=sum(not left for left in self._left.values()),
            table=self._table,
        )
