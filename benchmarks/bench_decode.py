"""Decoding a recorded stream: CopyData payloads to typed events, and to PostgreSQL's text.

Beside our two decoders runs the yardstick, ``peers/handwritten.py``. The results of all are
compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peers import handwritten
from pytest_benchmark.fixture import BenchmarkFixture

from pgstream import Delete, Insert, Update, _decode, _decode_py

CONTENDERS: dict[str, Callable[[], Any]] = {
    "handwritten": handwritten.Decoder,
    "cython": _decode.Decoder,
    "cython, text": lambda: _decode.Decoder(values="text"),
    "python": _decode_py.Decoder,
}


@pytest.mark.parametrize("contender", CONTENDERS)
def test_decode(
    benchmark: BenchmarkFixture,
    stream: str,
    payloads: list[bytes],
    contender: str,
    rate: Callable[[str, float], None],
) -> None:
    if contender == "cython, text" and stream.endswith("binary"):
        pytest.skip("PostgreSQL's text is asked for in the text transfer")
    check(contender, payloads)

    def decode() -> None:
        decode = CONTENDERS[contender]().decode
        for payload in payloads:  # one at a time: an event is dropped before the next is made
            decode(payload)

    benchmark.pedantic(decode, rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        rate(contender, len(payloads) / benchmark.stats.stats.median)


def check(contender: str, payloads: list[bytes]) -> None:
    """Every row of this contender equals the one that the Python decoder makes."""
    values = "text" if contender == "cython, text" else "typed"
    expected = _decode_py.Decoder(values=values)
    other = CONTENDERS[contender]()
    changes = 0
    for payload in payloads:
        event, found = expected.decode(payload), other.decode(payload)
        if isinstance(event, Insert | Update | Delete):
            changes += 1
            if contender == "handwritten":
                old, new = found[4:]
                found_rows = (old, new)
            else:
                found_rows = (getattr(found, "old", None), getattr(found, "new", None))
            assert found_rows == (getattr(event, "old", None), getattr(event, "new", None))
    assert changes > 1000
