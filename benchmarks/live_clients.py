"""The clients that ``bench_live.py`` measures, each run in a process of its own.

A client reads everything up to a position and acknowledges it, at least once a second on
the way. Standard output gets one JSON object: how many messages or rows were counted, the
seconds from before the connection was opened to after it was closed, and the processor time
of this process in between. So the start of the interpreter and the imports are not in it;
the parent measures the whole process besides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import select
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg
from peers import c_loaders, handwritten

import pgstream
import pgstream.cli
from pgstream.config import Config
from pgstream.connector import Connector, replication_conninfo
from pgstream.steps import Connect, Run, drive, perform

STATUS = struct.Struct(">cQQQqB")
KEEPALIVE = ord("k")


def receive_only(task: argparse.Namespace) -> int:
    """What pgstream takes from the socket, with status updates and nothing else.

    The connection of the product, without decoder or positions. Counts every payload.
    """
    config = Config(
        dsn=task.dsn,
        slot=task.slot,
        publication=task.publication,
        binary=task.binary,
        notice=print,
    )
    end, count = pgstream.LSN(task.end), 0
    connection = perform(Connect(replication_conninfo(config)))
    pgconn = connection.pgconn
    connector = Connector(pgconn, config, binary=task.binary)
    perform(Run(connector.prepare(), pgconn))
    perform(Run(connector.start(pgstream.LSN(0)), pgconn))
    reported = time.monotonic()
    while True:
        drive(connector.gather())
        perform(Run(connector.receive(), pgconn, 0.01))
        chunk = connector.take()
        count += len(chunk)
        now = time.monotonic()
        if chunk and chunk[-1][0] == KEEPALIVE and connector.heard >= end:
            break
        if not chunk or now - reported >= 1:
            connector.report(connector.heard, reply=not chunk)
            reported = now
    connector.report(end, end)
    perform(Run(connector.finish(), pgconn))
    connector.close()
    return count


def settings(task: argparse.Namespace) -> dict[str, Any]:
    """What all streams are opened with."""
    return {
        "slot": task.slot,
        "publication": task.publication,
        "binary": task.binary,
        "until": pgstream.LSN(task.end),
        "status_interval": 1.0,
        "create_slot": False,
    }


def connect(task: argparse.Namespace, **more: Any) -> pgstream.Stream:
    return pgstream.connect(task.dsn, **settings(task), **more)


def batches(task: argparse.Namespace) -> int:
    """Typed events in lists of 10,000, each acknowledged when it was counted."""
    count = 0
    with connect(task) as stream:
        for batch in stream.batches(10_000):
            count += len(batch)
            stream.ack()
    return count


def one_by_one(task: argparse.Namespace) -> int:
    """Typed events in a ``for`` loop, acknowledged with each commit."""
    count = 0
    with connect(task) as stream:
        for event in stream:
            count += 1
            if type(event) is pgstream.Commit:
                stream.ack()
    return count


def asyncio_one_by_one(task: argparse.Namespace) -> int:
    """The same for asyncio."""

    async def read() -> int:
        count = 0
        async with pgstream.connect_async(task.dsn, **settings(task)) as stream:
            async for event in stream:
                count += 1
                if type(event) is pgstream.Commit:
                    stream.ack()
        return count

    return asyncio.run(read())


def handler(task: argparse.Namespace) -> int:
    """Typed events handed to a function by ``Stream.run``."""
    count = 0

    def handle(event: object) -> None:
        nonlocal count
        count += 1

    connect(task).run(handle)
    return count


def json_lines(task: argparse.Namespace) -> int:
    """Whole lines as bytes, written to a file and acknowledged with each commit."""
    with open(task.output, "wb") as file, connect(task, changes="json") as stream:
        for item in stream:
            if isinstance(item, bytes):
                file.write(item)
            elif type(item) is pgstream.Commit:
                file.flush()
                stream.ack()
    return -1


def command_line(task: argparse.Namespace) -> int:
    """``pgstream run --format json --output FILE``; the parent counts the lines."""
    sys.argv = ["pgstream", "run", "--dsn", task.dsn, "--slot", task.slot]
    sys.argv += ["--publication", task.publication, "--until-lsn", task.end]
    sys.argv += ["--format", "json", "--output", task.output]
    sys.argv += ["--binary" if task.binary else "--no-binary"]
    try:
        status = pgstream.cli.main()  # type: ignore[func-returns-value]
    except SystemExit as end:
        status = end.code  # type: ignore[assignment]
    if status:
        raise SystemExit(status)
    return -1


def psycopg3(task: argparse.Namespace, take: Callable[[bytes], object] | None = None) -> int:
    """A loop over psycopg's ``pq``, as one writes it by hand; counts the payloads."""
    count = 0
    end = int(pgstream.LSN(task.end))
    connection = psycopg.connect(task.dsn, replication="database", autocommit=True)
    pgconn = connection.pgconn
    options = f"proto_version '1', publication_names '{task.publication}'"
    if task.binary:
        options += ", binary 'true'"
    pgconn.exec_(f"START_REPLICATION SLOT {task.slot} LOGICAL 0/0 ({options})".encode())
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    get, reported, at = pgconn.get_copy_data, time.monotonic(), 0
    while at < end:
        size, data = get(1)
        if size > 0:
            count += 1
            if data[0] == KEEPALIVE:
                at = int.from_bytes(data[1:9], "big")
            elif take is not None:
                take(bytes(data))
            continue
        if size < 0:
            raise SystemExit(f"the stream ended: {pgconn.get_error_message()}")
        now = time.monotonic()
        if now - reported >= 1:
            report(pgconn, 0)
            reported = now
        while not poll.poll(1000):
            report(pgconn, 0)
        pgconn.consume_input()
    report(pgconn, end)
    pgconn.put_copy_end()
    while True:  # until the server has ended its side, too
        size, _ = get(0)
        if size < 0:
            break
    connection.close()
    return count


def report(pgconn: psycopg.pq.abc.PGconn, flushed: int) -> None:
    pgconn.put_copy_data(STATUS.pack(b"r", flushed, flushed, flushed, 0, flushed == 0))
    pgconn.flush()


def psycopg3_handwritten(task: argparse.Namespace) -> int:
    """The same loop with the yardstick's decoder."""
    return psycopg3(task, handwritten.Decoder().decode)


def psycopg3_loaders(task: argparse.Namespace) -> int:
    """The same loop, split by hand, the values by psycopg's loaders in C."""
    return psycopg3(task, c_loaders.Decoder().decode)


CLIENTS = {
    client.__name__: client
    for client in (
        receive_only,
        batches,
        one_by_one,
        asyncio_one_by_one,
        handler,
        json_lines,
        command_line,
        psycopg3,
        psycopg3_handwritten,
        psycopg3_loaders,
    )
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("dsn")
    parser.add_argument("slot")
    parser.add_argument("publication")
    parser.add_argument("end", help="the position to read to")
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("--output", help="the file for JSON Lines")
    return parser.parse_args()


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    task = parse()
    cpu, wall = processor_seconds(), time.perf_counter()
    count = CLIENTS[task.client](task)
    wall, cpu = time.perf_counter() - wall, processor_seconds() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"count": count, "wall": wall, "cpu": cpu, "peak_kib": peak}))


if __name__ == "__main__":
    main()
