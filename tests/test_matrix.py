"""The whole path on PostgreSQL 14 to 18: every protocol version, text and binary.

A workload runs, its stream is recorded, and the tables that its changes rebuild must be
those that the server holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

import pgstream
import workload
from pgstream.capture import CaptureWriter, read_capture
from replica import Replica, select, select_text
from servers import Database

# name, options of connect(), oldest server
MODES: dict[str, tuple[dict[str, Any], int]] = {
    "v1": ({}, 14),
    "v1-binary": ({"binary": True}, 14),
    "v2-streaming": ({"streaming": "on"}, 14),
    "v2-streaming-binary": ({"streaming": "on", "binary": True}, 14),
    "v3-two-phase": ({"two_phase": True}, 15),
    "v3-streaming": ({"streaming": "on", "two_phase": True}, 15),
    "v4-parallel": ({"streaming": "parallel"}, 16),
    "v4-parallel-two-phase-binary": (
        {"streaming": "parallel", "two_phase": True, "binary": True},
        16,
    ),
}


def record(database: Database, file: Path, **options: Any) -> None:
    """Run the workload, and record the stream of it."""
    two_phase = options.get("two_phase", False)
    options.setdefault("binary", False)  # so that it can be replayed with --values text
    # So that what is large for this test is large for the server too.
    dsn = f"{database.dsn} options='-c logical_decoding_work_mem=64kB'"
    slot = f"matrix_{os.getpid()}"
    database.execute(workload.SCHEMA)
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    pgstream.connect(dsn, slot=slot, two_phase=two_phase).close()
    workload.run(database, two_phase=two_phase)
    with CaptureWriter(file) as capture:
        stream = pgstream.connect(
            dsn, slot=slot, messages=True, until="now", tap=capture.write, **options
        )
        with stream:
            for _ in stream:
                stream.ack()


def replay(file: Path, implementation: str, *options: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "pgstream", "replay", str(file), "--format", "json", *options],
        env=os.environ | {"PGSTREAM_IMPL": implementation},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def rebuild_from_lines(lines: bytes) -> dict[str, list[dict[str, Any]]]:
    """The tables that JSON Lines rebuild, read by nothing of this package."""
    tables: dict[str, list[dict[str, Any]]] = {}
    prepared: dict[str, list[Any]] = {}
    pending = [json.loads(line) for line in lines.splitlines()]
    while pending:
        change = pending.pop(0)
        op, gid = change["op"], change.get("gid")
        if op == "commit_prepared":
            pending = prepared.pop(gid, []) + pending
            continue
        if op == "rollback_prepared":
            prepared.pop(gid, None)
            continue
        if op == "message":
            continue
        if gid is not None:
            del change["gid"]
            prepared.setdefault(gid, []).append(change)
            continue
        rows = tables.setdefault(f"{change['schema']}.{change['table']}", [])
        if op == "truncate":
            rows.clear()
            continue
        old = change.get("old")
        if op == "insert":
            rows.append(change["new"])
            continue
        key = KEYS[change["table"]] or list(old)
        known = old if old is not None else change["new"]
        row = next(row for row in rows if all(row.get(k) == known[k] for k in key))
        if op == "delete":
            rows.remove(row)
        else:
            row.update(change["new"])
    return tables


KEYS = {
    "accounts": ["id"],
    "log": [],  # REPLICA IDENTITY FULL
    "codes": ["code"],
    "evolving": ["id"],
    "order": ["group"],
}


@pytest.fixture(params=MODES, scope="session")
def mode(request: pytest.FixtureRequest) -> tuple[dict[str, Any], int]:
    return MODES[request.param]


def test_the_tables_are_rebuilt(
    any_database: Database, mode: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    options, oldest = mode
    with any_database.connect() as connection:
        version = connection.info.server_version // 10000
        if version < oldest:
            with pytest.raises(pgstream.PgstreamError, match=r"needs PostgreSQL 1[56]"):
                pgstream.connect(any_database.dsn, **options)
            return
        file = tmp_path / "stream"
        record(any_database, file, **options)
        if "streaming" in options:
            assert b"S" in {payload[25:26] for payload in read_capture(file)}, "nothing streamed"

        replica = Replica()
        replica.apply(pgstream.read_payloads(read_capture(file)))
        for table in workload.TABLES:
            columns, rows = select(connection, table)
            assert replica.rows(table, columns) == rows, table
            assert rows, table

        assert replay(file, "cython") == replay(file, "python")
        if options.get("binary"):
            return
        lines = replay(file, "cython", "--values", "text")
        assert lines == replay(file, "python", "--values", "text")
        connection.execute("SET datestyle = ISO; SET timezone = UTC; SET extra_float_digits = 3")
        tables = rebuild_from_lines(lines)
        for table in workload.TABLES:
            columns, rows = select_text(connection, table)
            rebuilt = [tuple(row.get(name) for name in columns) for row in tables[table]]
            assert sorted(rebuilt, key=repr) == rows, table


def test_all_protocols_give_the_same_events(any_database: Database, tmp_path: Path) -> None:
    """Streamed or not, the same WAL gives the same events: also their order and ordinals."""
    dsn = f"{any_database.dsn} options='-c logical_decoding_work_mem=64kB'"
    file = tmp_path / "stream"
    record(any_database, file)  # its slot is read to the end now, but the others are not
    any_database.execute("TRUNCATE accounts, codes, evolving")
    with any_database.connect() as connection:
        version = connection.info.server_version // 10000
    modes = ["off", "on"] + (["parallel"] if version >= 16 else [])
    slots = [f"same_{mode}_{os.getpid()}" for mode in modes]
    for slot in slots:
        pgstream.connect(dsn, slot=slot).close()
    with any_database.connect() as connection:
        connection.execute("INSERT INTO evolving VALUES (1, 'one', 1, 'd')")
    workload._interleaved(any_database)
    seen = []
    for mode, slot in zip(modes, slots, strict=True):
        # With so little memory nearly all that is held back goes to disk.
        with pgstream.connect(
            dsn, slot=slot, streaming=mode, until="now", memory_limit=10_000
        ) as stream:
            seen.append(list(stream))
    assert len(seen[0]) > 2000
    for mode, events in zip(modes, seen, strict=True):
        assert events == seen[0], mode


def test_both_decoders_refuse_a_damaged_capture_alike(database: Database, tmp_path: Path) -> None:
    """The same output before the damage, and the same error at it."""
    whole = tmp_path / "whole"
    record(database, whole, streaming="on", binary=True)
    payloads = list(read_capture(whole))
    random = Random(20261122)
    refused = 0
    for _ in range(8):
        damaged = tmp_path / "damaged"
        victim = random.randrange(len(payloads))
        payload = bytearray(payloads[victim])
        if len(payload) > 26 and random.random() < 0.8:
            payload[random.randrange(25, len(payload))] ^= 1 << random.randrange(8)
        else:
            del payload[random.randrange(len(payload)) :]
        damaged.unlink(missing_ok=True)
        with CaptureWriter(damaged) as capture:
            for index, original in enumerate(payloads):
                capture.write(payload if index == victim else original)
        outcomes = [
            subprocess.run(
                [sys.executable, "-m", "pgstream", "replay", str(damaged), "--format", "json"],
                env=os.environ | {"PGSTREAM_IMPL": implementation},
                capture_output=True,
                check=False,
            )
            for implementation in ("cython", "python")
        ]
        one, other = [(done.returncode, done.stdout, done.stderr) for done in outcomes]
        assert one == other
        assert one[0] in (0, 1), one[2]
        refused += one[0]
        assert (one[0] == 1) == bool(one[2]), one[2]
        assert b"Traceback" not in one[2]
    assert refused
