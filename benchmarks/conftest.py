"""The streams that are measured: recorded from a real server at the start of each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

import pgstream
from pgstream.embedded import Server

ROWS = 20_000

WIDE = f"""
CREATE TABLE wide (
    id bigint PRIMARY KEY, n int, name text, amount numeric(12,2), note text, ok bool,
    at timestamptz, ref uuid, doc jsonb, tags int[]);
INSERT INTO wide SELECT g, g % 1000, 'name of ' || g, g * 1.25, CASE WHEN g % 3 = 0 THEN 'note' END,
    g % 2 = 0, '2026-11-22 08:12:00+00'::timestamptz + g * interval '1.000123 s',
    md5(g::text)::uuid, jsonb_build_object('id', g, 'tags', jsonb_build_array('a', 'b')),
    ARRAY[g, g + 1, g + 2] FROM generate_series(1, {ROWS}) g;
"""

MIXED = """
CREATE TABLE accounts (aid int PRIMARY KEY, bid int, balance int, filler char(84));
CREATE TABLE tellers (tid int PRIMARY KEY, bid int, balance int);
CREATE TABLE history (tid int, bid int, aid int, delta int, at timestamp);
INSERT INTO accounts SELECT g, 1, 0, '' FROM generate_series(1, 1000) g;
INSERT INTO tellers SELECT g, 1, 0 FROM generate_series(1, 10) g;
"""
TRANSACTION = """
WITH account AS (UPDATE accounts SET balance = balance + {i} WHERE aid = 1 + {i} % 1000),
     teller AS (UPDATE tellers SET balance = balance + {i} WHERE tid = 1 + {i} % 10)
INSERT INTO history VALUES (1 + {i} % 10, 1, 1 + {i} % 1000, {i}, now()::timestamp)
"""


def pytest_report_header() -> str:
    versions = f"psycopg {psycopg.__version__}, libpq {psycopg.pq.version()}"
    return f"pgstream {pgstream.__version__}, {versions}"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server.embedded() as server:
        yield server


@pytest.fixture(scope="session", params=["wide text", "wide binary", "mixed text"])
def payloads(request: pytest.FixtureRequest, server: Server) -> list[bytes]:
    """The CopyData payloads of one stream."""
    which, transfer = request.param.split()
    name = f"{which}_{transfer}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    dsn = server.dsn(name)
    pgstream.connect(dsn, slot=name, create_publication=True).close()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute((WIDE if which == "wide" else MIXED).encode())
        if which == "mixed":
            for i in range(ROWS // 5):
                connection.execute(TRANSACTION.format(i=i).encode())
    recorded: list[bytes] = []
    with pgstream.connect(
        dsn,
        slot=name,
        binary=transfer == "binary",
        until="now",
        tap=lambda payload: recorded.append(bytes(payload)),
    ) as stream:
        for _ in stream:
            pass
    return recorded


RATES: dict[tuple[str, str], float] = {}  # (stream, implementation) -> messages a second


@pytest.fixture
def rate(request: pytest.FixtureRequest, payloads: list[bytes]) -> Callable[[float], None]:
    """Takes the median seconds of one pass over the stream, for the summary."""
    stream, _, implementation = request.node.callspec.id.rpartition("-")

    def note(seconds: float) -> None:
        RATES[stream, implementation] = len(payloads) / seconds

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RATES:
        terminalreporter.write_line("thousand messages a second, median of the rounds:")
    for (stream, implementation), messages in sorted(RATES.items()):
        ratio = messages / RATES.get((stream, "python"), messages)
        terminalreporter.write_line(
            f"  {stream:12} {implementation:7} {messages / 1000:7.0f}  {ratio:5.1f} x python"
        )
