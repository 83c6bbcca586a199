"""Runs the benchmarks and reports on them.

``python benchmarks/report.py --short`` (``make bench``) compares decoding, JSON Lines and one
live transfer, in a few minutes, and prints the tables and how the results stand to the targets.
Without ``--short`` (``make bench-report``) everything is measured, which takes about half an hour,
and written to ``docs/benchmarks.md``, between its two markers, with plots in ``docs/plots``.
``--render`` writes them again from what was measured last.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import results
from bench_live import OURS, OVER, TRANSFERS
from bench_peers import tables as peer_tables
from results import say

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "benchmarks.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NONE = "not measured"

STREAMS = """\
*wide*: inserts of ten columns (bigint, int, text, numeric, nullable text, bool, timestamptz,
uuid, jsonb, int[]), jsonb parsed. *mixed*: transactions of two updates and an insert on narrow
tables, as pgbench makes them. Text and binary are the two transfers of pgoutput."""


def run(*command: str) -> None:
    """Run one benchmark; the report goes on without it if it fails, and says so."""
    say(f"\n$ {' '.join(command)}")
    done = subprocess.run([sys.executable, *command], cwd=HERE.parent, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with exit code {done.returncode}")


def measure(task: argparse.Namespace) -> None:
    """Run what is to be reported on."""
    pytest = ("-m", "pytest", "-q", "--benchmark-quiet")
    if task.short:
        most = "not (test_json and twin)"  # which takes long and has no target
        run(*pytest, "-k", most, "benchmarks/bench_decode.py", "benchmarks/bench_json.py")
        short, rows = ("--short", "--transfer", "binary"), str(task.rows or 200_000)
        run("benchmarks/bench_live.py", *short, "--rows", rows, "--rounds", str(task.rounds))
        return
    for name in ("decode", "json", "streaming", "shape", "gc"):
        run(*pytest, f"benchmarks/bench_{name}.py")
    rows, rounds = str(task.rows or 300_000), str(task.rounds)
    run("benchmarks/bench_live.py", "--rows", rows, "--rounds", rounds)
    run("benchmarks/bench_latency.py")
    run("benchmarks/bench_memory.py", "--millions", *map(str, task.millions))
    run("benchmarks/bench_peers.py")


# The targets


def ratio(benchmark: str, stream: str, contender: str) -> float | None:
    """The multiple of the yardstick that a contender reads, measured in turn with it."""
    kept = results.load(f"{benchmark}_multiples")
    found: float | None = kept["figures"].get(stream, {}).get(contender) if kept else None
    return found


def live(over: str, what: str, client: str) -> float | None:
    """The ratio of a client to ``pg_recvlogical``, binary."""
    kept = results.load("live")
    if kept is None:
        return None
    found = {
        c["name"]: c
        for c in kept["figures"]["clients"]
        if (c["over"], c["transfer"]) == (over, "binary")
    }
    base = found.get("pg_recvlogical")
    measured = found.get(next(name for name, called in OURS.items() if called == client))
    if base and measured and not base["problem"] and not measured["problem"]:
        return results.median_ratio(measured[what], base[what])
    return None


def latency(percent: str) -> float | None:
    kept = results.load("latency")
    if kept is None:
        return None
    above = kept["figures"]["milliseconds"].get("from commit, above a round trip", {})
    value: float | None = above.get(percent)
    return value


def longest_run() -> tuple[str, float | None]:
    """The length of the longest live run in million rows, and its most memory in MB."""
    kept = results.load("memory")
    live_runs = [of for name, of in (kept or {"figures": {}})["figures"].items() if "live" in name]
    if not live_runs:
        return "five", None
    longest = max(live_runs[0], key=float)
    return longest, max(of[longest] for of in live_runs) * 2**20 / 1e6


def targets() -> Iterator[tuple[str, float | None, float, float | None, bool]]:
    """What is aimed at: a name, the result, target, stretch, whether more is better."""
    for stream, target, stretch in (
        ("wide binary", 5, 7),
        ("wide text", 5, 6),
        ("mixed text", 5, 8),
    ):
        for way, contender in (("in runs", "cython"), ("one by one", "cython, one by one")):
            name = f"typed dict events, {stream}, {way}, x hand-written"
            yield name, ratio("decode", stream, contender), target, stretch, True
    found = ratio("decode", "wide text", "cython, values as text")
    yield "values as text, wide text, in runs, x hand-written", found, 12, 15, True
    found = ratio("json", "wide binary", "cython")
    yield "JSON Lines to the file, wide binary, x hand-written + orjson", found, 15, 30, True
    for stream in ("wide binary", "wide text", "mixed text"):
        for way, contender in (
            ("in runs", "python twin"),
            ("one by one", "python twin, one by one"),
        ):
            name = f"Python twin, typed, {stream}, {way}, x hand-written"
            yield name, ratio("decode", stream, contender), 0.8, 1, True
    for over, where in OVER.items():
        for what, client, told, target, stretch in (
            ("wall", "one_by_one", "wall time, typed, one by one", 0.95, 0.75),
            ("wall", "batches", "wall time, typed, batches of 10,000", 0.95, 0.75),
            ("cpu", "receive_only", "CPU, receiving only", 0.5, 0.35),
            ("cpu", "one_by_one", "CPU, typed, one by one", 1.1, 0.85),
            ("cpu", "batches", "CPU, typed, batches of 10,000", 1.1, 0.85),
            ("cpu", "json_lines", "CPU, JSON Lines to a file", 0.7, 0.5),
        ):
            name = f"live, {where}: {told}, of pg_recvlogical's"
            yield name, live(over, what, client), target, stretch, False
    yield "latency above a round trip, p50, ms", latency("50"), 1, None, False
    yield "latency above a round trip, p99, ms", latency("99"), 5, None, False
    millions, found = longest_run()
    yield f"memory of a live run of {millions} million rows, MB", found, 100, None, False


def target_table(*, all_of_them: bool) -> str:
    """The results beside the targets; without ``all_of_them``, of the short comparison alone."""
    rows = []
    for name, found, target, stretch, more in targets():
        if not all_of_them and name.startswith(("latency", "memory")):
            continue
        sign = "≥" if more else "≤"
        verdict = NONE
        if found is not None:
            better = [
                bound is not None and (found >= bound if more else found <= bound)
                for bound in (target, stretch)
            ]
            verdict = "stretch met" if better[1] else "met" if better[0] else "missed"
        shown = NONE if found is None else f"{found:.2f}"
        further = "" if stretch is None else f"{sign} {stretch:g}"
        rows.append([name, shown, f"{sign} {target:g}", further, verdict])
    return results.table(["what", "result", "target", "stretch", ""], rows)


# The page


def rates_table(benchmark: str) -> str:
    """Contenders by streams: thousand messages a second, and the multiple of the yardstick."""
    kept = results.load(benchmark)
    if kept is None:
        return f"{NONE}."
    figures = kept["figures"]
    contenders = list(dict.fromkeys(name for of in figures.values() for name in of))
    rows = []
    for contender in contenders:
        row = [contender]
        for stream, of in figures.items():
            if contender not in of:
                row.append("-")
                continue
            text = f"{of[contender] / 1000:,.0f}"
            multiple = ratio(benchmark, stream, contender)
            if multiple is not None:
                text += f" ({multiple:.2f})"
            row.append(text)
        rows.append(row)
    return results.table(["", *figures], rows)


def shape_table() -> str:
    kept = results.load("shape")
    if kept is None:
        return f"{NONE}."
    figures = kept["figures"]
    contenders = list(next(iter(figures.values())))
    rows = [
        [read, *(f"{1e9 / of[contender]:,.0f}" for contender in contenders)]
        for read, of in figures.items()
    ]
    return results.table(["nanoseconds a row", *contenders], rows)


def plain_table(benchmark: str, first: str, key: str | None, digits: int) -> str:
    """Names by columns, of a benchmark that keeps its figures so."""
    kept = results.load(benchmark)
    if kept is None:
        return f"{NONE}."
    figures: dict[str, dict[str, float]] = kept["figures"][key] if key else kept["figures"]
    headers = list(next(iter(figures.values())))
    rows = [[name, *(f"{v:.{digits}f}" for v in of.values())] for name, of in figures.items()]
    if benchmark == "latency":
        headers = [f"p{header}" for header in headers]
    return results.table([first, *headers], rows)


def ahead() -> str:
    """Who was faster than ours in these runs, at which job."""
    lines = []
    kept = results.load("peers")
    for stream, of in (kept["figures"]["streams"] if kept else {}).items():
        measured = {name: found["rate"] for name, found in of.items() if not isinstance(found, str)}
        ours = measured.get("pgstream, Cython, one by one", 0)
        for name, rate in measured.items():
            if rate > ours:
                lines.append(f"- decoding {stream}: {name}, {rate / ours:.2f} times ours")
    kept = results.load("live")
    for over, transfer in itertools.product(OVER, TRANSFERS):
        clients = [
            client
            for client in (kept["figures"]["clients"] if kept else ())
            if (client["over"], client["transfer"]) == (over, transfer) and not client["problem"]
        ]
        for what, told in (("wall", "less wall time"), ("cpu", "less processor time")):
            ours = {client["name"]: client[what] for client in clients if client["name"] in OURS}
            for client in clients:
                name = client["name"]
                values = name.endswith(("decode", "loaders")) and not name.endswith("no decode")
                job = "typed events in batches" if values else "receiving only"
                mine = ours.get(f"pgstream, {job}")
                if name in ours or mine is None:
                    continue
                times = f"{results.median_ratio(client[what], mine):.2f}"
                if times < "1.00":
                    lines.append(
                        f"- live, {OVER[over]}, {transfer}, {job}: {name}, {told} ({times})"
                    )
    return "\n".join(lines) or "Nobody was, in these runs."


def page() -> str:
    """What stands between the markers."""
    kept = next((k for name in ("decode", "live") if (k := results.load(name))), None)
    versions, machine = (
        (kept["versions"], kept["machine"]) if kept else (results.versions(), results.machine())
    )
    live_kept, peers = results.load("live"), results.load("peers")
    live_tables = "".join(
        f"\n\n{way}:\n\n{table}"
        for way, table in (live_kept["figures"]["tables"] if live_kept else ())
    )
    rows = f"{live_kept['figures']['rows']:,}" if live_kept else "-"
    rounds = live_kept["figures"]["rounds"] if live_kept else "-"
    peer_text = (
        peer_tables(peers["figures"]["streams"], peers["figures"]["python"]) if peers else NONE
    )
    return f"""\
Measured with {", ".join(f"{name} {version}" for name, version in versions.items())};
{machine["cores"]} cores ({machine["cpu"]}), {machine.get("memory", "")}, {machine["system"]}.

## Against the targets

Each ratio is taken side by side: of two figures of one round, and of those the median.

{target_table(all_of_them=True)}

## From CopyData payloads to typed events

`python -m pytest benchmarks/bench_decode.py`: thousand messages a second, one thread, the median
of fifteen passes; in brackets the multiple of the hand-written decoder, which reads a part of the
same stream before each of those passes.
{STREAMS}

{rates_table("decode")}

`cython` and the twin take runs of 64 payloads, as a stream does (`decode_run`), and keep the
events of a run until it is whole; `one by one` is a call of `decode` for each, whose event is
dropped before the next, as the hand-written decoder is called. The twin is measured beside the
compiled classes of `messages.py`; where nothing is compiled, an event takes longer to make, which
narrow rows feel most.

## Others that pip can install

`make bench-peers`: each in an environment of its own, its rows compared before it is timed;
all take one message at a time. Those that give text make no values of it.

{peer_text}

![thousand messages a second, by decoder](plots/decoders.svg)

## JSON Lines

`python -m pytest benchmarks/bench_json.py`: from payloads to a file in memory, thousand messages
a second; in brackets the multiple of the hand-written decoder with orjson.

{rates_table("json")}

## Live

`python benchmarks/bench_live.py`: {rows} wide rows, {rounds} rounds, each client from a fresh
copy of one slot, in turn; over TCP to the same machine, and over the server's Unix socket.
Processor time is the client's, without the start of the interpreter; with it in the column after
the ratio. Ratios are to `pg_recvlogical -f /dev/null` in the same round, which decodes nothing; all
figures are medians of the rounds. Between two readings of a busy stream asyncio rests for a whole
millisecond, the least that its timers know; a Unix socket is full in half of that.{live_tables}

![processor time a row, live](plots/live.svg)

## Latency

`python benchmarks/bench_latency.py`: one row at a time, from the moment its writer knows of the
commit to the handler, in milliseconds; and from the sending of the INSERT, in which the server's
own work is included. Above a round trip: less the median of `SELECT 1`.

{plain_table("latency", "milliseconds", "milliseconds", 3)}

## A large transaction

`python -m pytest benchmarks/bench_streaming.py`: thousand rows a second of one transaction of
100,000 wide rows, from payloads to typed events: sent whole after its commit, and sent in blocks
(`streaming="on"`) that are held back until then, in memory or, beyond `memory_limit`, in a file.

{rates_table("streaming")}

## Columns and sizes

`python -m pytest benchmarks/bench_shape.py`: inserts made up for the purpose, text transfer; int4
and text of eight letters in turn, then one text value.

{shape_table()}

![nanoseconds a row against columns and value size](plots/shape.svg)

## Memory

`python benchmarks/bench_memory.py`: the maximum resident set of the process in MiB, by million
rows.

{plain_table("memory", "peak MiB", None, 1)}

![peak memory against the length of the stream](plots/memory.svg)

## The garbage collector

`python -m pytest benchmarks/bench_gc.py`: thousand messages a second where events are dropped at
once, and where they are kept in batches of 10,000.

{rates_table("gc")}

## Where others are ahead

{ahead()}

Decoders written in Go or Rust are not measured here, as pip installs none that can be called
by itself. One that only borrows from the message, or hands out its bytes, makes no values and
so does less than any of the above; it will be faster, and what it gives is not the same."""


def render() -> None:
    """Write the page and the plots."""
    import plots

    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, marked, after = rest.partition(END)
    if not marked:
        raise SystemExit(f"{PAGE} has no markers {BEGIN} and {END}")
    PAGE.write_text(f"{before}{BEGIN}\n{page()}\n{END}{after}", encoding="utf-8")
    plots.draw(DOCS / "plots")
    say(f"wrote {PAGE}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a few minutes, and only print")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--rows", type=int, help="rows of a live run (300,000; short 200,000)")
    parser.add_argument("--rounds", type=int, default=5, help="of the live comparison")
    parser.add_argument(
        "--millions", type=float, nargs="+", default=[0.5, 1.0, 2.0, 5.0], help="for memory"
    )
    task = parser.parse_args()
    if not task.render:
        measure(task)
    if not task.short:
        render()
    versions = ", ".join(f"{name} {version}" for name, version in results.versions().items())
    print(f"\n{versions}\n\n{target_table(all_of_them=not task.short)}")


if __name__ == "__main__":
    main()
