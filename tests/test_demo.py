"""``pgstream demo``, as a user types it: what it shows, and that nothing remains of it."""

from __future__ import annotations

import collections
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgstream import demo

# More than the first round of the workload, so that all kinds of changes are among them.
PAST_THE_FIRST_ROUND = 480
SECONDS = 120


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for temporary files, like /tmp, in which nothing may remain."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as folder:
        os.chmod(folder, 0o1777)
        yield Path(folder)


def assert_nothing_remains(place: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        listing = subprocess.run(["ps", "-wwAo", "args="], capture_output=True, text=True)
        processes = [line for line in listing.stdout.splitlines() if str(place) in line]
        files = list(place.iterdir())
        if not processes and not files:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"these remain: {processes} {files}")
        time.sleep(0.05)


def start(place: Path, *options: str, **arguments: Any) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TMPDIR": str(place),
        **arguments.pop("environment", {}),
    }
    arguments = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | arguments
    command = [sys.executable, "-m", "pgstream", "demo", *options]
    return subprocess.Popen(command, env=environment, text=True, **arguments)


def run(place: Path, *options: str, **arguments: Any) -> tuple[str, str]:
    with start(place, *options, **arguments) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert_nothing_remains(place)
    return out, err


def table_of(err: str) -> dict[str, dict[str, int]]:
    """Read the table of the summary: the number of changes by table and kind."""
    lines = iter(err.splitlines())
    kinds = next(line for line in lines if line.startswith("table ")).split()[1:]
    table = {}
    for line in lines:
        if not line:
            break
        name, *numbers = line.replace(",", "").split()
        table[name] = {k: int(n) for k, n in zip(kinds, numbers, strict=True) if n != "0"}
    return table


def test_json_shows_every_kind_of_change(place: Path, decoder_impl: type) -> None:
    python = decoder_impl.__module__.endswith("_py")
    environment = {"PGSTREAM_IMPL": "python" if python else "cython"}
    options = ("--format", "json", "--events", str(PAST_THE_FIRST_ROUND), "--seconds", "60")
    out, err = run(place, *options, environment=environment)

    changes = [json.loads(line) for line in out.splitlines()]
    assert len(changes) == PAST_THE_FIRST_ROUND
    counted: dict[str, dict[str, int]] = collections.defaultdict(collections.Counter)
    for change in changes:
        counted[f"{change['schema']}.{change['table']}"][change["op"]] += 1
    assert table_of(err) == counted
    assert {op for table in counted.values() for op in table} == {
        "insert",
        "update",
        "delete",
        "truncate",
    }
    assert counted["public.visits"]["truncate"] == 1

    def of(op: str, table: str) -> list[dict[str, Any]]:
        return [c for c in changes if (c["op"], c["table"]) == (op, table)]

    # The whole old row is there, since the table's replica identity is full.
    for change in of("update", "customers"):
        assert change["old"].keys() == change["new"].keys()
        assert change["old"]["address"] != change["new"]["address"]
    # A TOASTed value: not sent where it stayed as it was, sent where it changed.
    assert any(c.get("unchanged") == ["description"] for c in of("update", "products"))
    assert any(len(c["new"].get("description", "")) > 2000 for c in of("update", "products"))
    # A column was added in the middle.
    notes = ["note" in change["new"] for change in of("insert", "orders")]
    assert notes[0] is False
    assert notes[-1] is True
    assert notes == sorted(notes)

    assert f"{PAST_THE_FIRST_ROUND} events in " in err
    assert "slot pgstream_demo: acknowledged up to 0/" in err
    assert "inactive" in err


def test_text(place: Path) -> None:
    out, err = run(place, "--events", "20")
    headers = [line for line in out.splitlines() if line.startswith("[")]
    assert len(headers) == 20
    for header in headers:
        assert re.fullmatch(
            r"\[(INSERT|UPDATE|DELETE)\] table=public\.\w+ lsn=[0-9A-F]+/[0-9A-F]+", header
        )
    assert out.startswith("[INSERT] table=public.customers ")
    assert "\x1b" not in out + err
    assert "20 events in " in err


def test_it_ends_by_itself(place: Path) -> None:
    out, err = run(place, "--seconds", "1.5", "--format", "json")
    tables = table_of(err)
    total = sum(number for kinds in tables.values() for number in kinds.values())
    assert total == len(out.splitlines()) > 0


def test_output_to_a_file(place: Path, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as file:
        run(place, "--events", "5", "--format", "json", stdout=file)
        file.seek(0)
        assert [json.loads(line)["op"] for line in file] != []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(place: Path, how: signal.Signals) -> None:
    with start(place, "--seconds", "100", "--format", "json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["op"] == "insert"
        process.send_signal(how)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    total = sum(number for kinds in table_of(err).values() for number in kinds.values())
    assert total == 1 + len(out.splitlines())
    assert "Traceback" not in err
    assert_nothing_remains(place)


def test_nothing_remains_when_it_is_killed(place: Path) -> None:
    with start(place, "--seconds", "100", "--format", "json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["op"] == "insert"
        process.kill()
        process.communicate(timeout=SECONDS)
    assert_nothing_remains(place)


def test_the_reader_of_its_output_goes_away(place: Path) -> None:
    with start(place, "--seconds", "100", "--format", "json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["op"] == "insert"
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(SECONDS) == 0, err
    assert "Traceback" not in err
    assert "Exception" not in err
    assert_nothing_remains(place)


def test_the_rate_is_one_line_on_a_terminal(place: Path) -> None:
    master, slave = pty.openpty()
    with start(place, "--events", "30", stdout=subprocess.PIPE, stderr=slave) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # all other ends are closed
                break
            if not part:
                break
            seen += part
            assert process.stdout is not None
        out = process.stdout.read() if process.stdout is not None else ""
    os.close(master)
    assert process.returncode == 0, seen.decode()
    assert len(re.findall(rb"\r\x1b\[K +[0-9.]+ s  [0-9,]+ events  [0-9,]+ events/s", seen)) > 1
    assert "\x1b" not in out
    assert_nothing_remains(place)


def test_an_error_of_the_workload_ends_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: demo.Workload, connection: psycopg.Connection[Any]) -> None:
        connection.execute("SELECT nonsense")

    monkeypatch.setattr(demo.Workload, "_order", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(psycopg.errors.UndefinedColumn):
        demo.run_demo(seconds=100, out=out, err=err, colour=False)
    assert_nothing_remains(place)
