"""The peak memory of a consumer of one very large transaction.

    python benchmarks/memory_large_transaction.py [--rows 10000000] [--version 18]

Starts a PostgreSQL of its own, commits one transaction of so many rows, and reads it in a
process of its own for each way of reading: streaming off and on, events one by one and in
batches. Prints the largest resident set of each, beside that of a process that has but
connected. Needs about 2 GB of disk for ten million rows.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import psycopg

import pgstream
from pgstream.embedded import Server

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import servers  # where each version comes from

WAYS = ("idle", "off", "off batches", "on", "on batches")


def read(dsn: str, slot: str, way: str) -> None:
    """Read it all, and print the rows and the peak of this process in KiB."""
    streaming = "on" if way.startswith("on") else "off"
    rows = 0
    if way != "idle":
        with pgstream.connect(dsn, slot=slot, until="now", streaming=streaming) as stream:  # type: ignore[arg-type]
            if way.endswith("batches"):
                for batch in stream.batches(max_events=10_000):
                    rows += sum(isinstance(event, pgstream.Insert) for event in batch)
                    stream.ack()
            else:
                for event in stream:
                    rows += isinstance(event, pgstream.Insert)
                    stream.ack()
    print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--version", type=int, default=18)
    options = parser.parse_args()
    with Server(servers.installation(options.version)) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE large (id bigint PRIMARY KEY, name text, amount numeric);"
                "CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
            )
            for number, _ in enumerate(WAYS):
                connection.execute(
                    f"SELECT pg_create_logical_replication_slot('way_{number}', 'pgoutput')"
                )
            connection.execute(
                "INSERT INTO large SELECT g, 'name ' || g, g * 1.01"
                f" FROM generate_series(1, {options.rows}) g"
            )
        print(f"one transaction of {options.rows:,} rows, PostgreSQL {options.version}")
        for number, way in enumerate(WAYS):
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, __file__, "--read", server.dsn(), f"way_{number}", way],
                capture_output=True,
                text=True,
                check=True,
            )
            rows, peak = map(int, done.stdout.split())
            assert rows == (0 if way == "idle" else options.rows), (way, rows)
            print(
                f"  streaming {way:12} {peak / 1024:8.0f} MiB {time.monotonic() - began:8.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "--read":
        read(*sys.argv[2:])
    else:
        main()
