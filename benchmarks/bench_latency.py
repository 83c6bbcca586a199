"""Latency: one row at a time, from its commit to the handler.

``python benchmarks/bench_latency.py`` inserts a row, waits until a handler has it, inserts the
next. The clock starts when the INSERT (which commits by itself) returns to the writer, and, to
see the whole, also when it is sent. Beside it stands an idle round trip over the same kind of
connection, ``SELECT 1``. The reader is a thread of its own, as it would be a process of its own.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import threading
import time

import psycopg
import results

import pgstream
from pgstream.embedded import Server, embedded_installation

PERCENTILES = (50, 90, 99)


def measure(server: Server, rows: int, pause: float, warm_up: int = 50) -> dict[str, list[float]]:
    """Seconds, of each row: of a round trip, from sending and from commit to the handler."""
    found: dict[str, list[float]] = {"SELECT 1": [], "from sending": [], "from commit": []}
    arrivals: queue.Queue[tuple[int, float]] = queue.Queue()

    def handle(event: object) -> None:
        if isinstance(event, pgstream.Insert):
            arrivals.put((event.new["id"], time.perf_counter()))

    dsn = server.dsn()
    with psycopg.connect(dsn, autocommit=True) as writer:
        writer.execute("CREATE TABLE one (id int PRIMARY KEY, name text)")
        stream = pgstream.connect(dsn, slot="bench_latency", create_publication=True)
        reader = threading.Thread(target=stream.run, args=(handle,))
        reader.start()
        try:
            for number in range(rows + warm_up):
                began = time.perf_counter()
                writer.execute("SELECT 1")
                trip = time.perf_counter() - began
                time.sleep(pause)
                sent = time.perf_counter()
                writer.execute("INSERT INTO one VALUES (%s, 'a name')", (number,))
                committed = time.perf_counter()
                row, arrived = arrivals.get(timeout=30)
                if row != number:
                    raise SystemExit(f"row {row} arrived where {number} was inserted")
                time.sleep(pause)
                if number >= warm_up:
                    found["SELECT 1"].append(trip)
                    found["from sending"].append(arrived - sent)
                    found["from commit"].append(arrived - committed)
        finally:
            stream.stop()
            reader.join()
    return found


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--pause", type=float, default=0.001, help="seconds between rows")
    task = parser.parse_args()
    with Server(embedded_installation(), settings={"autovacuum": "off"}) as server:
        found = measure(server, task.rows, task.pause)
    figures = {
        name: {str(percent): percentile(values, percent) * 1000 for percent in PERCENTILES}
        for name, values in found.items()
    }
    # Less one median round trip. A row that the handler has before its writer hears of the
    # commit counts as negative.
    trip = figures["SELECT 1"]["50"]
    for name in ("from commit", "from sending"):
        above = {percent: value - trip for percent, value in figures[name].items()}
        figures[f"{name}, above a round trip"] = above
    results.keep("latency", {"rows": task.rows, "milliseconds": figures})
    headers = ["milliseconds", *(f"p{percent}" for percent in PERCENTILES)]
    rows = [[name, *(f"{value:.3f}" for value in of.values())] for name, of in figures.items()]
    print(f"\nlatency, {task.rows:,} rows one at a time\n")
    print(results.table(headers, rows))


if __name__ == "__main__":
    main()
