"""Each fault, over and over under load: nothing is lost, nothing stored twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import servers
from conftest import not_available
from faults import report
from faults.scenarios import CASES, Case, Place
from pgstream.embedded import Server
from servers import Database, fresh_database

ROUNDS = int(os.environ.get("PGSTREAM_FAULT_ROUNDS", "2"))
SEED = int(os.environ.get("PGSTREAM_FAULT_SEED", "1"))

SETTINGS = {
    "wal_sender_timeout": "1s",
    "logical_decoding_work_mem": "64kB",
    "max_connections": "100",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with Server(servers.installation(18), tcp=True, settings=SETTINGS) as server:
        yield server


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = Path(tempfile.mkdtemp(prefix="pgstream-small-"))
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
        )
        if mounted.returncode != 0:
            # Not a matter of how the tests are set up: containers may not mount.
            not_available(f"cannot mount a tmpfs: {mounted.stderr.strip()}", required=False)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def source(case: Case, shared: Server) -> Iterator[tuple[Database, Server]]:
    """The database of a case, and its server."""
    if not case.own_server:
        with fresh_database(shared) as database:
            yield database, shared
        return
    with contextlib.ExitStack() as stack:
        if case.own_server == "tmpfs":
            folder = stack.enter_context(small_disk("150M"))
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(tempfile, "tempdir", str(folder))
        settings = SETTINGS | {"max_wal_size": "64MB", "min_wal_size": "32MB"}
        # A crash of the server alone loses nothing that was written; no fsync is needed.
        server = Server(servers.installation(case.version), tcp=True, settings=settings)
        stack.enter_context(server)
        yield Database(server, "postgres"), server


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.name for case in CASES])
def test_nothing_is_lost(index: int, shared: Server, server: Server, tmp_path: Path) -> None:
    case = CASES[index]
    rounds = max(2, round(ROUNDS * case.share))
    seed = SEED * 1000 + index
    print(f"PGSTREAM_FAULT_SEED={SEED} PGSTREAM_FAULT_ROUNDS={ROUNDS} {case.name}: {rounds} rounds")
    began = time.monotonic()
    with source(case, shared) as (database, its_server), fresh_database(server) as target:
        place = Place(database, its_server, target, tmp_path, rounds, seed)
        verdict = case.scenario(place, case.kind)
    report.note(case, rounds, SEED, verdict, time.monotonic() - began)
    assert verdict.committed > 0
    assert verdict.is_clean, verdict
