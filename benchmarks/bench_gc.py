"""What Python's garbage collector costs where events are kept: batches of 10,000, then dropped.

The collector looks at everything that was made whenever enough of it lives. The same
is measured with the collector off, which is the least that it can be, and with it on as
``Stream.batches`` has it: paused while a batch gathers.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
from corpora import PIECE
from pytest_benchmark.fixture import BenchmarkFixture
from results import Rate

from pgstream import Insert, Update, _decode
from pgstream.collector import CollectorPause

BATCH = 10_000


def in_runs(payloads: list[bytes], keep: int) -> int:
    decode_run, batch, changes = _decode.Decoder().decode_run, [], 0
    for start in range(0, len(payloads), PIECE):
        piece, at = payloads[start : start + PIECE], 0
        while at < len(piece):
            events, at, _ = decode_run(piece, at)
            changes += len(events)
            if keep:
                batch.extend(events)
                if len(batch) >= keep:
                    batch = []
    return changes


def one_by_one(payloads: list[bytes], keep: int) -> int:
    decode, batch, changes = _decode.Decoder().decode, [], 0
    for payload in payloads:
        event = decode(payload)
        if type(event) is Insert or type(event) is Update:
            changes += 1
            if keep:
                batch.append(event)
                if len(batch) >= keep:
                    batch = []
    return changes


def as_batches(payloads: list[bytes], keep: int) -> int:
    decode_run, changes, start = _decode.Decoder().decode_run, 0, 0
    while start < len(payloads):
        gathering: list[object] = []
        with CollectorPause() as pause:
            pause.gather(True)
            while len(gathering) < keep and start < len(payloads):
                piece, at = payloads[start : start + PIECE], 0
                start += PIECE
                while at < len(piece):
                    events, at, _ = decode_run(piece, at)
                    gathering.extend(events)
        batch = gathering  # here the one before is let go
        changes += len(batch)
    return changes


WAYS: dict[str, Callable[[list[bytes], int], int]] = {
    "decode_run": in_runs,
    "decode, one by one": one_by_one,
}


@pytest.mark.parametrize("collector", ["on", "off"])
@pytest.mark.parametrize("keep", [0, BATCH], ids=["dropped at once", "kept"])
@pytest.mark.parametrize("way", WAYS)
def test_gc(
    benchmark: BenchmarkFixture,
    stream: str,
    payloads: list[bytes],
    way: str,
    keep: int,
    collector: str,
    rate: Rate,
) -> None:
    expected = changes_of(payloads)

    def read() -> None:
        assert WAYS[way](payloads, keep) == expected

    if collector == "off":
        gc.disable()
    try:
        benchmark.pedantic(read, rounds=5, warmup_rounds=1)
    finally:
        gc.enable()
    if benchmark.stats is not None:
        kept = f"kept in batches of {BATCH:,}" if keep else "dropped at once"
        name = f"{way}, {kept}, collector {collector}"
        rate("gc", stream, name, len(payloads) / benchmark.stats.stats.median)


def test_gc_as_batches(
    benchmark: BenchmarkFixture, stream: str, payloads: list[bytes], rate: Rate
) -> None:
    expected = changes_of(payloads)

    def read() -> None:
        assert as_batches(payloads, BATCH) == expected

    benchmark.pedantic(read, rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        name = f"decode_run, kept in batches of {BATCH:,}, collector as Stream.batches() has it"
        rate("gc", stream, name, len(payloads) / benchmark.stats.stats.median)


def changes_of(payloads: list[bytes]) -> int:
    """How many changes of rows there are."""
    return sum(payload[25] in b"IU" for payload in payloads if payload[0] == ord("w"))
