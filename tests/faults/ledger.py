"""Writers that keep a ledger of what they commit, in the transactions that commit it."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import psycopg

SCHEMA = """
CREATE TABLE ledger (writer int, txn int, item int, items int, note text);
CREATE INDEX ON ledger (writer, txn);
ALTER TABLE ledger REPLICA IDENTITY FULL;
CREATE TABLE balance (writer int PRIMARY KEY, txns int, total numeric(20,2), note text);
ALTER TABLE balance ALTER COLUMN note SET STORAGE EXTERNAL;
"""

WRITERS = 3


class Writers:
    """Threads that write transactions until they are stopped, whatever the server does.

    Each transaction of a writer has the next number, and as many rows as it says itself
    that it has; its last is the writer's balance. Some roll back, whole or to a savepoint.

    Args:
        dsn: The database.
        seed: What they do follows from it.
        large: One transaction in fifty has this many rows.
    """

    def __init__(self, dsn: str, seed: int, *, large: int = 0) -> None:
        self._dsn = dsn
        self._large = large
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=[writer, random.Random(f"{seed} {writer}")])
            for writer in range(WRITERS)
        ]
        self.committed = 0
        self.failures = 0
        self.pause = 0.002

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _write(self, writer: int, rng: random.Random) -> None:
        while not self._stopped.is_set():
            try:
                with psycopg.connect(self._dsn, connect_timeout=5) as connection:
                    self._transactions(connection, writer, rng)
            except (psycopg.OperationalError, psycopg.InternalError):
                self.failures += 1
                time.sleep(0.02)  # the server is away, or full

    def _transactions(
        self, connection: psycopg.Connection[Any], writer: int, rng: random.Random
    ) -> None:
        while not self._stopped.is_set():
            # A commit may have been lost or not when its connection was: the table knows.
            found = connection.execute(
                "SELECT coalesce(max(txn), 0) FROM ledger WHERE writer = %s", [writer]
            ).fetchone()
            assert found is not None
            number = found[0] + 1
            size = rng.choice([1, 1, 2, 3, 5, 20])
            if self._large and rng.random() < 0.02:
                size = self._large
            half = size // 2
            self._insert(connection, writer, number, range(half), size)
            if rng.random() < 0.3:
                connection.execute("SAVEPOINT s")
                self._insert(connection, writer, number, range(half, size), size)
                connection.execute("UPDATE balance SET total = -1 WHERE writer = %s", [writer])
                connection.execute("ROLLBACK TO s")
            self._insert(connection, writer, number, range(half, size), size)
            connection.execute(
                "INSERT INTO balance VALUES (%s, 1, %s, repeat('n', 3000)) ON CONFLICT (writer)"
                " DO UPDATE SET txns = balance.txns + 1, total = balance.total + excluded.total",
                [writer, number],
            )
            if rng.random() < 0.1:
                connection.rollback()
                continue
            connection.commit()
            self.committed += 1
            time.sleep(self.pause * rng.random())

    def _insert(
        self,
        connection: psycopg.Connection[Any],
        writer: int,
        number: int,
        items: range,
        size: int,
    ) -> None:
        connection.execute(
            "INSERT INTO ledger SELECT %s, %s, g, %s, 'note'"
            " FROM generate_series(%s::int, %s::int) g",
            [writer, number, size, items.start, items.stop - 1],
        )
