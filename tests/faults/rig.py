"""A server, writers, and a consumer that is started again whenever it ends."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from faults.checker import Verdict, check, stored_rows
from faults.ledger import SCHEMA, Writers
from proxy import Proxy
from servers import Database

CONSUMER = Path(__file__).with_name("consumer.py")
SECONDS = float(os.environ.get("PGSTREAM_FAULT_PATIENCE", "120"))


class Rig:
    """One scenario's set-up; a context manager.

    Args:
        database: The source.
        kind: The handler: ``lines``, ``postgres`` or ``sqlite``.
        target: Where it stores.
        folder: For the consumer's messages.
        seed: What happens, and when, follows from it.
        options: For the consumer: ``connect``, ``raises``, ``blocks``, ``seconds``.
        through: A proxy for the consumer's connections.
        large: Rows of the large transactions; none if 0.
        rows: Rows that the source has before there is a slot.

    Attributes:
        random: Decides what is left open.
        options: The consumer's; may be changed for its next start.
        restarts: How often the consumer was started again.
    """

    def __init__(
        self,
        database: Database,
        kind: str,
        target: str,
        folder: Path,
        seed: int,
        *,
        options: dict[str, Any] | None = None,
        through: Proxy | None = None,
        large: int = 0,
        rows: int = 0,
    ) -> None:
        self.database = database
        self.slot = f"faults_{database.name}"
        self.kind = kind
        self.target = target
        self.random = random.Random(seed)
        self.restarts = -1
        self.proxy = through
        self._messages = folder / "messages"
        self.options = options or {}
        self._dsn = through.dsn if through is not None else database.dsn
        self._process: subprocess.Popen[bytes] | None = None
        self.writers = Writers(database.dsn, seed, large=large)
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
            connection.execute("CREATE PUBLICATION pgstream_pub FOR TABLE ledger, balance")
            if rows:
                # Writers begin with numbers of their own, after these.
                connection.execute(
                    "INSERT INTO ledger SELECT g % 3, g / 3, 0, 1, repeat('x', 50)"
                    f" FROM generate_series(0, {rows - 1}) g"
                )
            if not self.options.get("connect", {}).get("snapshot"):
                connection.execute(
                    "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [self.slot]
                )
        if kind == "postgres":
            with psycopg.connect(target, autocommit=True) as connection:
                connection.execute(SCHEMA.encode())

    def __enter__(self) -> Self:
        self.writers.start()
        self.run()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.writers.stop()
        self.kill()
        if error is not None and self._messages.exists():
            print(self._messages.read_text()[-4000:], file=sys.stderr)

    def run(self) -> None:
        """Have the consumer run, whether it runs already or not."""
        if self._process is not None and self._process.poll() is None:
            return
        self.restarts += 1
        command = [sys.executable, str(CONSUMER), self.kind, self._dsn, self.slot, self.target]
        with self._messages.open("ab") as messages:
            self._process = subprocess.Popen(
                [*command, json.dumps(self.options)],
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def kill(self) -> None:
        """SIGKILL the consumer, wherever it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stored(self) -> int:
        return max(0, stored_rows(self.kind, self.target))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something, with the consumer running."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            self.run()
            if time.monotonic() > deadline:
                raise AssertionError(f"after {SECONDS:.0f} s still not: {what}")
            time.sleep(0.02)

    def make_progress(self) -> None:
        """Wait until the consumer has stored something more."""
        before = self.stored()
        self.wait(lambda: self.stored() > before, "something more is stored")

    def messages(self) -> str:
        """What the consumer has said."""
        return self._messages.read_text()

    def sleep(self, longest: float) -> None:
        """Let a random time pass."""
        time.sleep(self.random.uniform(0, longest))

    def verdict(self) -> Verdict:
        """Stop writing, wait until all has arrived or nothing more does, and compare."""
        self.writers.stop()
        with psycopg.connect(self.database.dsn, autocommit=True) as connection:
            [(committed,)] = connection.execute("SELECT count(*) FROM ledger").fetchall()
            [(end,)] = connection.execute("SELECT pg_current_wal_lsn()::text").fetchall()

            def arrived() -> bool:
                # Not by the count alone, which duplicates would make up for.
                found = connection.execute(
                    "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots"
                    " WHERE slot_name = %s",
                    [end, self.slot],
                ).fetchone()
                return found == (True,) and self.stored() >= committed

            with contextlib.suppress(AssertionError):
                self.wait(arrived, "all has arrived")
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS)
        self.kill()
        return check(self.kind, self.database.dsn, self.target)
