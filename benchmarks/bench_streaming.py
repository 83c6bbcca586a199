"""A large transaction: sent whole after its commit, and in blocks before it (streaming).

From payloads to typed events, held back until the commit, in memory and on disk. The streams are
of the same rows; that they give the same is seen before anything is timed.
"""

from __future__ import annotations

from collections.abc import Iterator

import corpora
import pytest
from corpora import PIECE
from pytest_benchmark.fixture import BenchmarkFixture
from results import Rate

from pgstream import Event, Insert
from pgstream.config import Config
from pgstream.reading import Reading

CONTENDERS = {
    "sent whole": ("wide binary", Config()),
    "in blocks, in memory": (corpora.STREAMED, Config(streaming="on")),
    "in blocks, on disk": (corpora.STREAMED, Config(streaming="on", memory_limit=2**20)),
}


@pytest.mark.parametrize("contender", CONTENDERS)
def test_streaming(benchmark: BenchmarkFixture, contender: str, rate: Rate) -> None:
    stream, config = CONTENDERS[contender]
    payloads = corpora.payloads(stream)
    whole = corpora.payloads("wide binary")
    pairs = zip(rows(payloads, config), rows(whole, Config()), strict=True)
    assert all(row == expected for row, expected in pairs)

    def read() -> None:
        for _ in runs(payloads, config):
            pass

    benchmark.pedantic(read, rounds=9, warmup_rounds=1)
    if benchmark.stats is not None:
        found = len(whole) / benchmark.stats.stats.median
        rate("streaming", "wide binary, one transaction", contender, found)


def runs(payloads: list[bytes], config: Config) -> Iterator[list[Event]]:
    reading = Reading(config)
    for at in range(0, len(payloads), PIECE):
        yield from reading.events(payloads[at : at + PIECE])
    reading.close()


def rows(payloads: list[bytes], config: Config) -> Iterator[object]:
    """The rows, and where each stands in its transaction."""
    for run in runs(payloads, config):
        yield from ((event.ordinal, event.new) for event in run if isinstance(event, Insert))
