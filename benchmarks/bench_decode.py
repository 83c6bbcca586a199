"""Decoding a recorded stream: CopyData payloads to typed events, and to PostgreSQL's text.

Beside our two decoders runs the yardstick, ``peers/handwritten.py``. The rows that they make of
the first 20,000 messages are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from corpora import PIECE
from peers import handwritten
from pytest_benchmark.fixture import BenchmarkFixture
from results import Rate, Yardstick

from pgstream import Delete, Insert, Update, _decode, _decode_py

CONTENDERS: dict[str, Callable[[], Any]] = {
    "handwritten": handwritten.Decoder,
    "cython": _decode.Decoder,
    "cython, one by one": _decode.Decoder,
    "cython, values as text": lambda: _decode.Decoder(values="text"),
    "python twin": _decode_py.Decoder,
    "python twin, one by one": _decode_py.Decoder,
}
ONE_BY_ONE = ("handwritten", "cython, one by one", "python twin, one by one")
CHECKED = 20_000  # messages


@pytest.mark.parametrize("contender", CONTENDERS)
def test_decode(
    benchmark: BenchmarkFixture, stream: str, payloads: list[bytes], contender: str, rate: Rate
) -> None:
    if contender.endswith("as text") and stream.endswith("binary"):
        pytest.skip("PostgreSQL's text is asked for in the text transfer")
    make = CONTENDERS[contender]
    check(make(), payloads[:CHECKED], values="text" if contender.endswith("as text") else "typed")
    pieces = [payloads[at : at + PIECE] for at in range(0, len(payloads), PIECE)]

    def one_by_one(decode: Callable[[bytes], Any], some: list[bytes]) -> None:
        for payload in some:  # an event is dropped before the next is made
            decode(payload)

    def in_runs() -> None:
        decode_run = make().decode_run
        for piece in pieces:
            at = 0
            while at < len(piece):
                _, at, _ = decode_run(piece, at)

    def read() -> None:
        if contender in ONE_BY_ONE:
            one_by_one(make().decode, payloads)
        else:
            in_runs()

    part = payloads[:CHECKED]
    yardstick = Yardstick(lambda: one_by_one(handwritten.Decoder().decode, part), len(part))
    benchmark.pedantic(read, setup=yardstick, rounds=15, warmup_rounds=1)
    if benchmark.stats is not None:
        found = len(payloads) / benchmark.stats.stats.median
        multiple = yardstick.multiple(len(payloads), benchmark.stats.stats.data)
        rate("decode", stream, contender, found, multiple)


def check(contender: Any, payloads: list[bytes], values: Any) -> None:
    """Every row of the contender equals the one that the Python decoder makes."""
    expected = _decode_py.Decoder(values=values)
    changes = 0
    for event, found in zip(map(expected.decode, payloads), found_by(contender, payloads)):  # noqa: B905
        if isinstance(event, Insert | Update | Delete):
            changes += 1
            assert found == (getattr(event, "old", None), getattr(event, "new", None))
    assert changes > 1000


def found_by(contender: Any, payloads: list[bytes]) -> Iterator[tuple[Any, Any] | None]:
    """For each payload the old and the new row that the contender makes of it."""
    for payload in payloads:
        found = contender.decode(payload)
        if isinstance(contender, handwritten.Decoder):
            yield found[4:] if found is not None and len(found) == 6 else None
        else:
            yield getattr(found, "old", None), getattr(found, "new", None)
