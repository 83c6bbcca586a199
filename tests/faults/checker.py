"""What a handler holds, against what was committed."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

LEDGER = "SELECT writer, txn, item, items, note FROM ledger"
BALANCE = "SELECT writer, txns, total::text, note FROM balance"


@dataclass
class Verdict:
    """What is wrong with what a handler holds; nothing should be."""

    committed: int = 0  # rows
    missing: int = 0
    twice: int = 0
    others: int = 0  # rows that were never committed
    out_of_order: int = 0
    balances: bool = True

    @property
    def is_clean(self) -> bool:
        return self.balances and not (
            self.missing or self.twice or self.others or self.out_of_order
        )


def stored_rows(kind: str, target: str) -> int:
    """How many rows of the ledger the handler holds; -1 if it cannot be asked."""
    try:
        if kind == "lines":
            with open(target, "rb") as lines:
                return sum(b'"table":"ledger"' in line for line in lines)
        if kind == "postgres":
            with psycopg.connect(target) as connection:
                found = connection.execute("SELECT count(*) FROM ledger").fetchone()
        else:
            with closing(sqlite3.connect(f"file:{target}?mode=ro", uri=True)) as file:
                found = file.execute("SELECT count(*) FROM ledger").fetchone()
    except (OSError, sqlite3.Error, psycopg.Error):
        return -1
    return int(found[0]) if found else -1


def check(kind: str, source: str, target: str) -> Verdict:
    """Compare. Every value counts, and for the lines their order."""
    with psycopg.connect(source) as connection:
        committed = Counter(connection.execute(LEDGER).fetchall())
        balances = sorted(connection.execute(BALANCE).fetchall())
    verdict = Verdict(committed=committed.total())
    if kind == "lines":
        rows, held_balances = _lines(target, verdict)
    elif kind == "postgres":
        with psycopg.connect(target) as connection:
            rows = connection.execute(LEDGER).fetchall()
            held_balances = sorted(connection.execute(BALANCE).fetchall())
    else:
        with closing(sqlite3.connect(target)) as file:
            rows = file.execute(LEDGER).fetchall()
            held_balances = sorted(
                file.execute("SELECT writer, txns, total, note FROM balance").fetchall()
            )
    held = Counter(rows)
    verdict.missing = (committed - held).total()
    extra = held - committed
    verdict.twice = sum(count for row, count in extra.items() if row in committed)
    verdict.others = extra.total() - verdict.twice
    verdict.balances = held_balances == balances
    return verdict


def _lines(target: str, verdict: Verdict) -> tuple[list[Any], list[Any]]:
    """The rows that the lines tell of, applied in their order."""
    ledger: list[tuple[Any, ...]] = []
    balance: dict[int, tuple[Any, ...]] = {}
    last = (-1, -1)
    open_txn: dict[int, tuple[int, int]] = {}
    for text in Path(target).read_text().splitlines():
        line = json.loads(text)
        if line["op"] != "snapshot":
            high, low = line["commit_lsn"].split("/")
            place = (int(high, 16) << 32 | int(low, 16), line["ordinal"])
            if place <= last:
                verdict.out_of_order += 1
            last = place
        new = line["new"]
        if line["table"] == "ledger":
            row = tuple(new[name] for name in ("writer", "txn", "item", "items", "note"))
            ledger.append(row)
            # The items of a transaction in their order, and its number after the last one's.
            before = open_txn.get(row[0])
            if line["op"] != "snapshot":
                follows = (row[1], row[2]) if before is None else before
                if before is not None and (row[1], row[2]) <= follows:
                    verdict.out_of_order += 1
                open_txn[row[0]] = (row[1], row[2])
        else:
            note = new.get("note", balance.get(new["writer"], (None,) * 4)[3])
            balance[new["writer"]] = (new["writer"], new["txns"], new["total"], note)
    return ledger, sorted(balance.values())
