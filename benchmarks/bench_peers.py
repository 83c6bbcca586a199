"""What else pip can install, on the same recorded streams, each in an environment of its own.

``python benchmarks/bench_peers.py`` installs the peers under the cache, has each decode the
first changes and compares the rows, then times those that are right, in turn with the
yardstick and ours. A peer that cannot be installed, fails, or gives something else than the
values (typed, or PostgreSQL's text) is told of and not timed.

Packages whose decoder cannot be called without their own connection are not here.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import corpora
import results
from peers import c_loaders, environments, handwritten
from results import say

from pgstream import Insert, Update, _decode, _decode_py

CHECKED = 3000  # changes

# Adapter in peers/decoders.py, what pip installs, the least Python.
PEERS = {
    "walbox": ("walbox", ["walbox", "psycopg[binary]"], "3.13"),
    "deltaflow-pg": ("deltaflow", ["deltaflow-pg"], "3.12"),
    "pypgoutput": ("pypgoutput", ["pypgoutput==0.0.3"], None),
    "walflux": ("walflux", ["walflux"], "3.12"),
    "pgstream (another project of that name)": ("other_pgstream", ["pgstream", "asyncpg"], "3.13"),
}
NOT_HERE = {
    "pgoutput-decoder": "decodes inside its own connection only",
    "mq-bridge": "decodes inside its own connection only",
}
OURS: dict[str, Callable[[], Any]] = {
    "hand-written Python": handwritten.Decoder,
    "hand-split + psycopg's C loaders": c_loaders.Decoder,
    "pgstream, Cython, one by one": _decode.Decoder,
    "pgstream, Python": _decode_py.Decoder,
}


def expected_rows(stream: str, payloads: list[bytes]) -> dict[str, list[dict[str, Any]]]:
    """The new rows of the first changes: typed, and in a text stream PostgreSQL's text."""
    found = {}
    for form in ("typed", "text") if stream.endswith("text") else ("typed",):
        events = map(_decode_py.Decoder(values=form).decode, payloads)  # type: ignore[arg-type]
        changes = (event.new for event in events if isinstance(event, Insert | Update))
        found[form] = list(islice(changes, CHECKED))
    return found


def time_ours(make: Callable[[], Any], payloads: list[bytes], expected: Any, rounds: int) -> Any:
    """The rate of one that runs in this process, or what is wrong with it."""
    decoder, found = make(), []
    for payload in payloads:
        event = decoder.decode(payload)
        if payload[0] == ord("w") and payload[HEADER] in b"IU":
            found.append(event[-1] if isinstance(event, tuple) else event.new)
        if len(found) == CHECKED:
            break
    if found != expected["typed"]:
        return "wrong: the rows are not the typed values"
    seconds = []
    for _ in range(rounds):
        decode = make().decode
        began = time.perf_counter()
        for payload in payloads:
            decode(payload)
        seconds.append(time.perf_counter() - began)
    return {"form": "typed", "rate": len(payloads) / statistics.median(seconds)}


HEADER = 25


def time_peer(adapter: str, python: Path | str, stream: str, rows: Path, rounds: int) -> Any:
    """The rate of one that runs in its environment, or what is wrong with it."""
    if isinstance(python, str):
        return python
    script = Path(__file__).with_name("peers") / "decoders.py"
    command = [str(python), str(script), adapter, str(corpora.capture(stream)), str(rows)]
    # Not in this folder's tree: the peer named pgstream must not find ours.
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [*command, str(rounds)], capture_output=True, text=True, check=False, cwd=elsewhere
        )
    if done.returncode:
        return "; ".join(done.stderr.strip().splitlines()[-2:]) or f"exit {done.returncode}"
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", nargs="+", default=["wide text", "wide binary", "mixed text"])
    task = parser.parse_args()
    pythons: dict[str, Path | str] = {}
    for name, (adapter, requirements, least) in PEERS.items():
        pythons[name] = environments.environment(adapter, *requirements, python=least)
    figures: dict[str, dict[str, Any]] = {}
    for stream in task.streams:
        say(f"{stream} ...")
        payloads = corpora.payloads(stream)
        expected = expected_rows(stream, payloads)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows"
            path.write_bytes(pickle.dumps(expected))
            of_stream = figures.setdefault(stream, {})
            for name, make in OURS.items():
                of_stream[name] = time_ours(make, payloads, expected, task.rounds)
            for name, (adapter, _, _) in PEERS.items():
                of_stream[name] = time_peer(adapter, pythons[name], stream, path, task.rounds)
    pythons_of = {name: version(python) for name, python in pythons.items()}
    results.keep("peers", {"streams": figures, "python": pythons_of, "absent": NOT_HERE})
    print(tables(figures, pythons_of))


def version(python: Path | str) -> str:
    """Which Python a peer runs on."""
    if isinstance(python, str):
        return "-"
    code = "import platform; print(platform.python_version())"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tables(figures: dict[str, dict[str, Any]], pythons: dict[str, str]) -> str:
    """The table, and below it who is not in it."""
    names = list(dict.fromkeys(name for of in figures.values() for name in of))
    rows, left_out = [], []
    for name in names:
        row = [name, pythons.get(name, ".".join(map(str, sys.version_info[:3])))]
        forms = set()
        for stream, of in figures.items():
            found = of.get(name, "not run")
            if isinstance(found, str):
                row.append("-")
                left_out.append(f"- {name}, {stream}: {found}")
            else:
                row.append(f"{found['rate'] / 1000:,.0f}")
                forms.add(found["form"])
        row.insert(1, ", ".join(sorted(forms)) or "-")
        rows.append(row)
    left_out += [f"- {name}: {why}" for name, why in NOT_HERE.items()]
    headers = ["decoder, k messages/s", "gives", "Python", *figures]
    return results.table(headers, rows) + "\n\nNot measured:\n\n" + "\n".join(left_out)


if __name__ == "__main__":
    main()
