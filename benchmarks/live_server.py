"""The server for the benchmarks that read live: one fill of wide rows, a slot to be copied.

Each client reads the same WAL from a fresh copy of one slot, so that the order in which they
run does not matter, and none of them reads what another has left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import corpora
import psycopg
from results import say

from pgstream.embedded import Server, embedded_installation

PUBLICATION = "bench"
TRANSACTION = 1000  # rows
SETTINGS = {
    # Nothing but the walsender is to use the processor while a client is measured.
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "100GB",
    "bgwriter_lru_maxpages": "0",
}


@dataclass
class Filled:
    """A server with changes to read.

    Attributes:
        server: The server.
        rows: How many rows were inserted,
        transactions: in how many transactions.
        inside: A position in the last transaction, before its commit.
        end: The position behind them, as PostgreSQL prints it.
    """

    server: Server
    rows: int
    transactions: int
    inside: str
    end: str

    @property
    def dsn(self) -> str:
        """Over its Unix socket."""
        return self.server.dsn()

    @property
    def tcp_dsn(self) -> str:
        """Over TCP, on this machine."""
        return self.server.tcp_dsn()

    @contextlib.contextmanager
    def slot(self) -> Iterator[str]:
        """A fresh copy of the slot, dropped afterwards."""
        name = "bench_copy"
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            admin.execute("SELECT pg_copy_logical_replication_slot('bench_origin', %s)", (name,))
        try:
            yield name
        finally:
            with psycopg.connect(self.dsn, autocommit=True) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
                    " WHERE slot_name = %s AND active",
                    (name,),
                )
                admin.execute("SELECT pg_drop_replication_slot(%s)", (name,))

    def confirmed(self, slot: str) -> bool:
        """Whether the client of ``slot`` has acknowledged the last transaction."""
        with psycopg.connect(self.dsn) as admin:
            found = admin.execute(
                "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots"
                " WHERE slot_name = %s",
                (self.inside, slot),
            ).fetchone()
        return found is not None and bool(found[0])


@contextlib.contextmanager
def filled(rows: int) -> Iterator[Filled]:
    """Start a server, and insert ``rows`` wide rows in transactions of 1,000."""
    with Server(embedded_installation(), tcp=True, settings=SETTINGS) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute(corpora.WIDE_TABLE.encode())
            admin.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE wide".encode())
            admin.execute("SELECT pg_create_logical_replication_slot('bench_origin', 'pgoutput')")
            say(f"inserting {rows:,} wide rows ...")
            transactions = 0
            for first in range(1, rows + 1, TRANSACTION):
                last = min(first + TRANSACTION - 1, rows)
                with admin.transaction():
                    admin.execute(corpora.WIDE_ROWS.format(first=first, last=last).encode())
                    inside = _position(admin)
                transactions += 1
            admin.execute("CHECKPOINT")
            end = _position(admin)
            # Something behind it, so that to have come to the end can be seen.
            admin.execute("SELECT pg_switch_wal()")
        yield Filled(server, rows, transactions, inside, end)


def _position(admin: psycopg.Connection[Any]) -> str:
    found = admin.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    assert found is not None
    return str(found[0])
