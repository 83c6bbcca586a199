"""The table of faults, rounds and losses, for docs/faults.md."""

from __future__ import annotations

import os
import re
from pathlib import Path

from faults.checker import Verdict
from faults.scenarios import Case

BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"
HEADER = """\
| fault | handler | rounds | seed | rows committed | missing | twice | out of order | seconds |
|---|---|---|---|---|---|---|---|---|
"""

_lines: list[str] = []


def note(case: Case, rounds: int, seed: int, verdict: Verdict, seconds: float) -> None:
    """Add a line; with PGSTREAM_FAULT_REPORT set, write the table into that file."""
    fault = (case.scenario.__doc__ or "").split("\n")[0].rstrip(".")
    if case.version != 18:
        fault += f" (PostgreSQL {case.version})"
    _lines.append(
        f"| {fault} | `{case.kind}` | {rounds} | {seed} | {verdict.committed:,} |"
        f" {verdict.missing} | {verdict.twice} | {verdict.out_of_order} | {seconds:.0f} |\n"
    )
    file = os.environ.get("PGSTREAM_FAULT_REPORT")
    if file:
        path = Path(file)
        text = path.read_text(encoding="utf-8")
        table = f"{BEGIN}{HEADER}{''.join(_lines)}{END}"
        pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
        path.write_text(re.sub(pattern, lambda _: table, text, flags=re.DOTALL), encoding="utf-8")
