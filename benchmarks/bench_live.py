"""Reading live, beside ``pg_recvlogical -f /dev/null``: wall time and the client's processor time.

``python benchmarks/bench_live.py`` starts a server, inserts wide rows, and has each client
read them all, in turn, for several rounds: each from a fresh copy of one slot, in a process of
its own. A client counts only if it got everything: the messages or lines are counted, and the
server must know the end as acknowledged. The figures are medians over the rounds; so are the
ratios, each to ``pg_recvlogical`` over the same connection with the same transfer in that round.

The server is reached over TCP, as most are, and over its Unix socket. The two are different
tasks: a message through TCP costs the server, and a reader that takes each as it comes, about
twice as much as one through a Unix socket, which holds a few hundred of them and no more.

The processor time is that from before the connection is opened to after it is closed.
``pg_recvlogical`` needs none before that; an interpreter takes a while to start, which a long
stream pays once: the last column is the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import results
from live_server import PUBLICATION, Filled, filled
from peers import environments
from results import say

HERE = Path(__file__).parent
BASE = "pg_recvlogical"

# How a row of the table is called, and the client that makes it.
OURS = {
    "pgstream, receiving only": "receive_only",
    "pgstream, typed events in batches": "batches",
    "pgstream, typed events one by one": "one_by_one",
    "pgstream, typed events one by one, asyncio": "asyncio_one_by_one",
    "pgstream, typed events to a handler": "handler",
    "pgstream, JSON Lines, connect(changes='json')": "json_lines",
    "pgstream, JSON Lines, command line": "command_line",
}
PEERS = {
    "psycopg 3 loop, no decode": "psycopg3",
    "psycopg 3 loop + hand-written decode": "psycopg3_handwritten",
    "psycopg 3 loop + psycopg's C loaders": "psycopg3_loaders",
}
PSYCOPG2 = {
    "psycopg2 consume_stream, no decode": "receive",
    "psycopg2 consume_stream + hand-written decode": "decode",
}
OVER = {"tcp": "TCP", "unix": "Unix socket"}
TRANSFERS = ("binary", "text")
SHORT = ("receive_only", "batches", "one_by_one", "json_lines", "command_line", "psycopg3")
LINES = ("json_lines", "command_line")  # clients that write to a file


@dataclass
class Client:
    """One row of the table.

    Attributes:
        name: How it is called.
        over: A key of OVER: how it reaches the server.
        transfer: ``text`` or ``binary``.
        command: What is run; slot and position are filled in.
        lines: Whether it writes JSON Lines to a file.
        wall, cpu, process: Seconds, of each round.
        problem: Why it is not in the table.
    """

    name: str
    over: str
    transfer: str
    command: list[str]
    lines: bool = False
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    problem: str = ""


def clients(
    server: Filled, over: str, transfer: str, *, short: bool, output: str
) -> Iterator[Client]:
    """Everyone who takes part, over one kind of connection and with one transfer."""
    dsn = server.tcp_dsn if over == "tcp" else server.dsn
    command = [str(server.server.installation / "bin" / "pg_recvlogical"), "--start"]
    command += ["--dbname", dsn, "--slot", "{slot}"]
    command += ["--file", os.devnull, "--no-loop", "--endpos", server.end]
    command += ["-o", "proto_version=1", "-o", f"publication_names={PUBLICATION}"]
    command += ["-o", "binary=true"] if transfer == "binary" else []
    yield Client(BASE, over, transfer, command)
    for name, client in (OURS | PEERS).items():
        if short and client not in SHORT:
            continue
        command = [sys.executable, str(HERE / "live_clients.py"), client, dsn]
        command += ["{slot}", PUBLICATION, server.end, "--output", output]
        command += ["--binary"] if transfer == "binary" else []
        yield Client(name, over, transfer, command, client in LINES)
    if not short and transfer == "text":
        python = environments.psycopg2()
        for name, client in PSYCOPG2.items():
            if isinstance(python, str):
                yield Client(name, over, transfer, [], problem=python)
                continue
            command = [str(python), str(HERE / "peers" / "psycopg2_live.py"), client]
            command += [dsn, "{slot}", PUBLICATION, server.end]
            command += [str(server.rows + 2 * server.transactions + 1)]
            yield Client(name, over, transfer, command)


def measure(client: Client, server: Filled, output: Path) -> None:
    """One run; its figures are added to the client's, or the problem is noted."""
    output.unlink(missing_ok=True)
    with server.slot() as slot, tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as told:
        command = [slot if word == "{slot}" else word for word in client.command]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=told, stdin=subprocess.DEVNULL)
        # A client that waits for what does not come is not waited for in turn.
        overdue = threading.Timer(120 + server.rows / 1000, process.kill)
        overdue.start()
        _, status, used = os.wait4(process.pid, 0)
        overdue.cancel()
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        told.seek(0)
        if process.returncode:
            lines = told.read().decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"exit code {process.returncode}"
            client.problem = last
            return
        if not server.confirmed(slot):
            client.problem = "did not acknowledge everything"
            return
        cpu = process_cpu = used.ru_utime + used.ru_stime
        if client.name != BASE:
            figures = json.loads(said.read().splitlines()[-1])
            wall, cpu = figures["wall"], figures["cpu"]
            if client.lines:
                problem = missing_lines(output, server.rows)
            else:
                problem = missing_messages(figures["count"], server)
            if problem:
                client.problem = problem
                return
    client.wall.append(wall)
    client.cpu.append(cpu)
    client.process.append(process_cpu)


def missing_messages(count: int, server: Filled) -> str:
    """What is wrong with a count of messages: of events, or with Relation and keepalives."""
    least = server.rows + 2 * server.transactions
    if least <= count <= least * 1.01 + 1000:
        return ""
    return f"got {count:,} messages, {least:,} and a few keepalives were sent"


def missing_lines(output: Path, rows: int) -> str:
    """What is wrong with a file of JSON Lines."""
    count, last = 0, b""
    with output.open("rb") as file:
        for count, last in enumerate(file, 1):  # noqa: B007
            pass
    if count != rows:
        return f"wrote {count:,} lines, {rows:,} rows were sent"
    found = json.loads(last)["new"]["id"]
    return "" if found == rows else f"the last line is row {found}, not {rows}"


def tables(found: list[Client], rows: int) -> list[tuple[str, str]]:
    """For each connection and transfer their names and their table."""
    made = []
    for over, transfer in dict.fromkeys((client.over, client.transfer) for client in found):
        lines = []
        mine = [client for client in found if (client.over, client.transfer) == (over, transfer)]
        base = next(client for client in mine if client.name == BASE)
        for client in mine:
            if client.problem or base.problem:
                lines.append([client.name, *["-"] * 6])
                continue
            wall, cpu, process = map(statistics.median, (client.wall, client.cpu, client.process))
            lines.append(
                [
                    client.name,
                    f"{rows / wall / 1000:.0f}",
                    f"{results.median_ratio(client.wall, base.wall):.2f}",
                    f"{cpu / rows * 1e6:.2f}",
                    f"{results.median_ratio(client.cpu, base.cpu):.2f}",
                    f"{process / rows * 1e6:.2f}",
                    f"{max(client.wall) / min(client.wall):.2f}",
                ]
            )
        headers = ["client", "k rows/s", "wall, ratio", "CPU µs/row", "CPU, ratio"]
        headers += ["whole process µs/row", "slowest/fastest round"]
        text = results.table(headers, lines)
        for client in mine:
            if client.problem:
                text += f"\n\nNot measured: {client.name}: {client.problem}"
        made.append((f"{OVER[over]}, {transfer} transfer", text))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--over", choices=OVER, help="both by default")
    parser.add_argument("--transfer", choices=TRANSFERS, help="both by default")
    parser.add_argument("--short", action="store_true", help="fewer peers")
    task = parser.parse_args()
    ways = [
        (over, transfer)
        for over in ([task.over] if task.over else OVER)
        for transfer in ([task.transfer] if task.transfer else TRANSFERS)
    ]
    memory = "/dev/shm"
    where = memory if os.path.isdir(memory) and os.access(memory, os.W_OK) else None
    with filled(task.rows) as server, tempfile.TemporaryDirectory(dir=where) as folder:
        output = Path(folder) / "lines"
        found = [
            client
            for over, transfer in ways
            for client in clients(server, over, transfer, short=task.short, output=str(output))
        ]
        say("one round first that does not count ...")
        for client in found:
            if not client.problem:
                measure(client, server, output)
            client.wall.clear()
            client.cpu.clear()
            client.process.clear()
        for number in range(1, task.rounds + 1):
            say(f"round {number} of {task.rounds} ...")
            for client in found:
                if not client.problem:
                    measure(client, server, output)
    made = tables(found, task.rows)
    results.keep(
        "live",
        {
            "rows": task.rows,
            "rounds": task.rounds,
            "tables": made,
            "clients": [vars(client) | {"command": ""} for client in found],
        },
    )
    for way, text in made:
        print(f"\nlive, {way}, {task.rows:,} wide rows, {task.rounds} rounds\n")
        print(text)


if __name__ == "__main__":
    main()
