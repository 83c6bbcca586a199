"""A guard that does not depend on the machine: instructions for each message, counted by callgrind.

``python benchmarks/instructions.py`` runs our decoders over the first messages of the recorded
streams under valgrind, each once, and once more with two more passes of one of them: the
difference is what its messages cost, without the start of the interpreter. It fails if a count
is above its bound in ``instructions.json`` by more than the margin. ``--update`` writes what was
counted as the new bounds.

The counts depend on the build of CPython, hence a bound for each minor version, and none where
none is written down.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

BOUNDS = Path(__file__).with_name("instructions.json")
MARGIN = 0.10
MESSAGES = 3000
EXTRA = 2  # passes
COLLECTED = re.compile(r"Collected : (\d+)")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# What is counted: the stream, and how it is read.
CASES = {
    "typed, wide text": ("wide text", "typed"),
    "typed, wide binary": ("wide binary", "typed"),
    "typed, mixed text": ("mixed text", "typed"),
    "values as text, wide text": ("wide text", "text"),
    "JSON Lines, wide binary": ("wide binary", "json"),
}


def child(counted: str, folder: str) -> None:
    """What runs under valgrind: each case once, and one of them twice more."""
    from pgstream import _decode, _json

    makers: dict[str, Callable[[], Any]] = {
        "typed": _decode.Decoder,
        "text": lambda: _decode.Decoder(values="text"),
        "json": _json.JSONDecoder,
    }
    for name, (stream, way) in CASES.items():
        with open(Path(folder) / stream, "rb") as file:
            payloads = pickle.load(file)
        for _ in range(1 + EXTRA * (name == counted)):
            decode_run, at = makers[way]().decode_run, 0
            while at < len(payloads):
                _, at, _ = decode_run(payloads, at)


def total(counted: str, folder: str) -> int:
    """The instructions of a whole process that counts one of the cases, or none."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, __file__, "--child", counted, folder]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "0", "PGSTREAM_IMPL": "cython"},
    )
    said = COLLECTED.search(done.stderr)
    if done.returncode or said is None:
        raise SystemExit(f"valgrind failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return int(said[1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help="write the bounds anew")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    task = parser.parse_args()
    if task.child:
        child(*task.child)
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is not installed (on Debian: apt-get install valgrind)", file=sys.stderr)
        return 2
    import corpora
    import results

    with tempfile.TemporaryDirectory() as folder:
        for stream in {stream for stream, _ in CASES.values()}:
            payloads = list(islice(corpora.read_capture(corpora.capture(stream)), MESSAGES))
            assert len(payloads) == MESSAGES
            (Path(folder) / stream).write_bytes(pickle.dumps(payloads))
        results.say("counting; a minute or two ...")
        # Counts do not depend on what else the machine does, so they may run side by side.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            totals = list(pool.map(lambda name: total(name, folder), ["none", *CASES]))
    found = {
        name: (with_more - totals[0]) / EXTRA / MESSAGES
        for name, with_more in zip(CASES, totals[1:], strict=True)
    }
    bounds = json.loads(BOUNDS.read_text()) if BOUNDS.exists() else {}
    if task.update:
        bounds[VERSION] = {name: round(value) for name, value in found.items()}
        BOUNDS.write_text(json.dumps(bounds, indent=2, sort_keys=True) + "\n")
    known = bounds.get(VERSION, {})
    rows, above = [], []
    for name, value in found.items():
        bound = known.get(name)
        change = f"{value / bound - 1:+.1%}" if bound else ""
        rows.append([name, f"{value:,.0f}", f"{bound:,}" if bound else "none", change])
        if bound and value > bound * (1 + MARGIN):
            above.append(name)
    print(f"\ninstructions for each message, CPython {VERSION}\n")
    print(results.table(["stream", "counted", "bound", "change"], rows))
    if not known:
        print(f"\nNo bounds for CPython {VERSION}: nothing is checked. --update writes them.")
    if above:
        print(f"\nMore than {MARGIN:.0%} above the bound: {'; '.join(above)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
