"""Peak memory against the length of the stream.

``python benchmarks/bench_memory.py`` reads streams of several lengths, each in a process of
its own, and prints the most memory that it ever held (its maximum resident set): once
decoding a recorded stream again and again from a file, once live. What does not grow, leaks
nothing and gathers nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import corpora
import results
from live_server import PUBLICATION, filled
from results import say

HERE = Path(__file__).parent
LIVE = {"live, batches of 10,000": "batches", "live, one by one": "one_by_one"}
DECODING = {"decoding, typed": "typed", "decoding, JSON Lines": "json"}


def decode(way: str, messages: int) -> int:
    """Decode at least so many messages of the recorded wide stream, over and over."""
    from pgstream import _decode, _json
    from pgstream.capture import read_capture

    path = corpora.capture("wide binary")

    def pieces() -> Iterator[list[bytes]]:
        piece: list[bytes] = []
        for _ in range(messages // corpora.WIDE_COUNT + 1):
            for payload in read_capture(path):
                piece.append(payload)
                if len(piece) == 1000:
                    yield piece
                    piece = []
        yield piece

    decode_run = (_json.JSONDecoder() if way == "json" else _decode.Decoder()).decode_run
    left = messages
    for piece in pieces():
        at = 0
        while at < len(piece):
            _, at, _ = decode_run(piece, at)
        left -= len(piece)
        if left <= 0:
            break
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def child(*command: str) -> dict[str, int]:
    done = subprocess.run([sys.executable, *command], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} failed:\n{done.stderr}")
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--millions", type=float, nargs="+", default=[0.5, 1.0, 2.0, 5.0])
    parser.add_argument("--no-live", action="store_true", help="decoding alone")
    parser.add_argument("--child", nargs=2, metavar=("WAY", "MESSAGES"), help=argparse.SUPPRESS)
    task = parser.parse_args()
    if task.child:
        print(json.dumps({"peak_kib": decode(task.child[0], int(task.child[1]))}))
        return
    corpora.capture("wide binary")
    figures: dict[str, dict[str, float]] = {}
    for millions in task.millions:
        count = int(millions * 1e6)
        for name, way in DECODING.items():
            found = child(__file__, "--child", way, str(count))
            figures.setdefault(name, {})[f"{millions:g}"] = found["peak_kib"] / 1024
        if task.no_live:
            continue
        with filled(count) as server, tempfile.TemporaryDirectory() as folder:
            for name, client in LIVE.items():
                say(f"reading {count:,} rows {name} ...")
                with server.slot() as slot:
                    command = [str(HERE / "live_clients.py"), client, server.dsn, slot]
                    command += [PUBLICATION, server.end, "--binary"]
                    found = child(*command, "--output", f"{folder}/lines")
                    if found["count"] < count or not server.confirmed(slot):
                        raise SystemExit(f"{name}: only {found['count']:,} messages were read")
                figures.setdefault(name, {})[f"{millions:g}"] = found["peak_kib"] / 1024
    results.keep("memory", figures)
    headers = ["peak MiB", *(f"{millions:g} M rows" for millions in task.millions)]
    rows = [[name, *(f"{peak:.1f}" for peak in of.values())] for name, of in figures.items()]
    print("\nmemory against the length of the stream\n")
    print(results.table(headers, rows))


if __name__ == "__main__":
    main()
