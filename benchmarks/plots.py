"""The plots of the report: small, and the same file for the same figures."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
import results

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "pgstream",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
    }
)

from bench_live import OVER  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402  # after the choice of the backend

OURS, OTHERS = "#1f5fa8", "#9aa5b1"
COLOURS = (OURS, "#d9822b", "#3a9d5d", "#8e5bb5")


def draw(folder: Path) -> None:
    """Draw every plot whose figures are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (
        ("decoders", decoders),
        ("live", live),
        ("shape", shape),
        ("memory", memory),
    ):
        figure = make()
        if figure is not None:
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def decoders() -> Figure | None:
    """Throughput by decoder, wide text and binary."""
    peers, decode = results.load("peers"), results.load("decode")
    rates: dict[str, dict[str, float]] = {}
    for stream in ("wide text", "wide binary"):
        of = rates.setdefault(stream, {})
        for name, found in (peers["figures"]["streams"].get(stream, {}) if peers else {}).items():
            if not isinstance(found, str):
                of[f"{name}, {found['form']}"] = found["rate"] / 1000
        for name, rate in (decode["figures"].get(stream, {}) if decode else {}).items():
            if name in ("cython", "cython, values as text"):
                form = "text" if name.endswith("text") else "typed"
                of[f"pgstream, Cython, in runs, {form}"] = rate / 1000
            elif not peers:
                of[name] = rate / 1000
    if not any(rates.values()):
        return None
    bars = sum(len(of) for of in rates.values())
    figure = Figure(figsize=(7, 1.2 + 0.27 * bars), layout="constrained")
    axes = figure.subplots(
        len(rates), 1, sharex=True, height_ratios=[max(1, len(of)) for of in rates.values()]
    )
    for axis, (stream, of) in zip(axes, rates.items(), strict=True):
        names = sorted(of, key=lambda name: of[name])
        ours = [name.startswith(("pgstream,", "cython", "python")) for name in names]
        colours = [OURS if mine else OTHERS for mine in ours]
        drawn = axis.barh(names, [of[name] for name in names], color=colours)
        axis.bar_label(drawn, fmt="{:,.0f}", padding=3)
        axis.set_title(stream, loc="left")
    axes[-1].set_xlabel("thousand messages a second, one thread")
    axes[-1].margins(x=0.12)
    return figure


def live() -> Figure | None:
    """Processor time a row, by client."""
    kept = results.load("live")
    if kept is None:
        return None
    rows = kept["figures"]["rows"]
    spent: dict[str, dict[str, float]] = {}
    for client in kept["figures"]["clients"]:
        if client["cpu"]:
            seconds = statistics.median(client["cpu"])
            way = f"{OVER[client['over']]}, {client['transfer']} transfer"
            spent.setdefault(way, {})[client["name"]] = seconds / rows * 1e6
    bars = sum(len(of) for of in spent.values())
    figure = Figure(figsize=(7, 1.2 + 0.27 * bars), layout="constrained")
    axes = figure.subplots(
        len(spent), 1, sharex=True, squeeze=False, height_ratios=[len(of) for of in spent.values()]
    )[:, 0]
    for axis, (way, of) in zip(axes, spent.items(), strict=True):
        names = sorted(of, key=lambda name: -of[name])
        colours = [OURS if name.startswith("pgstream") else OTHERS for name in names]
        drawn = axis.barh(names, [of[name] for name in names], color=colours)
        axis.bar_label(drawn, fmt="{:.1f}", padding=3)
        axis.set_title(way, loc="left")
    axes[-1].set_xlabel("client CPU, microseconds a row")
    axes[-1].margins(x=0.1)
    return figure


def shape() -> Figure | None:
    """Cost of a row against its columns, and against the size of its value."""
    kept = results.load("shape")
    if kept is None:
        return None
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, unit in zip(axes, ("columns", "bytes"), strict=True):
        points: dict[str, list[tuple[int, float]]] = {}
        for read, of in kept["figures"].items():
            number, found = read.split()
            if found == unit:
                for contender, rate in of.items():
                    points.setdefault(contender, []).append((int(number), 1e9 / rate))
        for (contender, of_it), colour in zip(points.items(), (OTHERS, *COLOURS), strict=False):
            axis.loglog(*zip(*sorted(of_it), strict=True), "o-", ms=3, label=contender, c=colour)
        axis.set_xlabel("columns" if unit == "columns" else "bytes of the value")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("nanoseconds a row")
    axes[0].legend(frameon=False)
    return figure


def memory() -> Figure | None:
    """Peak memory against the length of the stream."""
    kept = results.load("memory")
    if kept is None:
        return None
    figures: dict[str, dict[str, Any]] = kept["figures"]
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    for (name, of), colour in zip(figures.items(), COLOURS, strict=False):
        axis.plot(
            [float(millions) for millions in of], list(of.values()), "o-", c=colour, label=name
        )
    axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)
    axis.set_xlabel("million rows")
    axis.set_ylabel("peak resident memory, MiB")
    axis.legend(frameon=False, loc="lower right")
    axis.grid(alpha=0.3)
    return figure
