"""The streams that are measured: recorded once from a real server, kept in a cache.

*wide*: inserts of ten columns (bigint, int, text, numeric, nullable text, bool,
timestamptz, uuid, jsonb, int[]). *mixed*: transactions of two updates and an insert on
narrow tables, as pgbench makes them. Each in the text and in the binary transfer.
*wide binary, streamed*: the wide rows in the blocks of a streamed transaction.

``python benchmarks/corpora.py`` makes them and says what they are. ``PGSTREAM_BENCH_CACHE``
names another folder than ``~/.cache/pgstream/benchmarks``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import psycopg

import pgstream
from pgstream.capture import CaptureWriter, read_capture
from pgstream.embedded import Server

WIDE_TABLE = """
CREATE TABLE wide (
    id bigint PRIMARY KEY, n int, name text, amount numeric(12,2), note text, ok bool,
    at timestamptz, ref uuid, doc jsonb, tags int[]);
"""
WIDE_ROWS = """
INSERT INTO wide SELECT g, g % 1000, 'name of ' || g, g * 1.25, CASE WHEN g % 3 = 0 THEN 'note' END,
    g % 2 = 0, '2026-11-22 08:12:00+00'::timestamptz + g * interval '1.000123 s',
    md5(g::text)::uuid, jsonb_build_object('id', g, 'tags', jsonb_build_array('a', 'b')),
    ARRAY[g, g + 1, g + 2] FROM generate_series({first}, {last}) g;
"""
MIXED_TABLES = """
CREATE TABLE accounts (aid int PRIMARY KEY, bid int, balance int, filler char(84));
CREATE TABLE tellers (tid int PRIMARY KEY, bid int, balance int);
CREATE TABLE history (tid int, bid int, aid int, delta int, at timestamp);
INSERT INTO accounts SELECT g, 1, 0, '' FROM generate_series(1, 1000) g;
INSERT INTO tellers SELECT g, 1, 0 FROM generate_series(1, 10) g;
"""
# One DO block commits many transactions, which is what makes a stream of small ones quickly.
MIXED_TRANSACTIONS = """
DO $$ BEGIN FOR i IN 1..{count} LOOP
    UPDATE accounts SET balance = balance + i WHERE aid = 1 + i % 1000;
    UPDATE tellers SET balance = balance + i WHERE tid = 1 + i % 10;
    INSERT INTO history VALUES (1 + i % 10, 1, 1 + i % 1000, i, clock_timestamp()::timestamp);
    COMMIT;
END LOOP; END $$
"""
WIDE_COUNT = 100_000
MIXED_COUNT = 20_000  # transactions, of five messages each
PIECE = 64  # payloads that are read at once, as a stream reads them

STREAMS = ("wide text", "wide binary", "mixed text", "mixed binary")
STREAMED = "wide binary, streamed"


def payloads(stream: str) -> list[bytes]:
    """The CopyData payloads of one of ``STREAMS``, or of ``STREAMED``."""
    return list(read_capture(capture(stream)))


def capture(stream: str) -> Path:
    """The capture file of one of these, made if it is not there."""
    path = _path(stream)
    if not path.exists():
        with Server.embedded() as server:
            for other in (*STREAMS, STREAMED):
                if not _path(other).exists():
                    _record(server, other)
    return path


def _path(stream: str) -> Path:
    return cache() / f"{_name(stream)}_{_version()}.capture"


def _name(stream: str) -> str:
    return "_".join(stream.replace(",", "").split())


def cache() -> Path:
    default = Path.home() / ".cache/pgstream/benchmarks"
    folder = Path(os.environ.get("PGSTREAM_BENCH_CACHE") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fill(dsn: str, which: str, scale: int = 1) -> None:
    """Make the tables of a stream, and its changes, ``scale`` times."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        if which == "wide":
            connection.execute(WIDE_TABLE)
            for part in range(scale):
                first = part * WIDE_COUNT + 1
                statement = WIDE_ROWS.format(first=first, last=first + WIDE_COUNT - 1)
                connection.execute(statement.encode())
        else:
            connection.execute(MIXED_TABLES)
            for _ in range(scale):
                connection.execute(MIXED_TRANSACTIONS.format(count=MIXED_COUNT).encode())


def _record(server: Server, stream: str) -> None:
    name = _name(stream)
    which, transfer = name.split("_")[:2]
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        # What a transaction is larger than if it is streamed, where that is asked for.
        admin.execute(f"ALTER DATABASE {name} SET logical_decoding_work_mem = '4MB'".encode())
    dsn = server.dsn(name)
    pgstream.connect(dsn, slot=name, create_publication=True).close()
    fill(dsn, which)
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        path = Path(folder) / name
        with (
            CaptureWriter(path) as writer,
            pgstream.connect(
                dsn,
                slot=name,
                binary=transfer == "binary",
                streaming="on" if stream == STREAMED else "off",
                until="now",
                tap=writer.write,
                status_interval=1,
            ) as events,
        ):
            for _ in events:
                pass
        with contextlib.suppress(FileExistsError):
            path.rename(_path(stream))


def _version() -> str:
    made_from = (WIDE_TABLE, WIDE_ROWS, MIXED_TABLES, MIXED_TRANSACTIONS, WIDE_COUNT, MIXED_COUNT)
    return hashlib.sha256(repr(made_from).encode()).hexdigest()[:8]


if __name__ == "__main__":
    for name in (*STREAMS, STREAMED):
        messages = payloads(name)
        print(f"{name:21} {len(messages):9,} messages {sum(map(len, messages)):12,} bytes")
