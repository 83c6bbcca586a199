"""Decoding a recorded stream: both decoders, from CopyData payloads to typed events.

The results are compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pgstream import Insert, _decode, _decode_py

DECODERS: dict[str, Any] = {"cython": _decode.Decoder, "python": _decode_py.Decoder}


@pytest.mark.parametrize("implementation", DECODERS)
def test_decode(
    benchmark: BenchmarkFixture,
    payloads: list[bytes],
    implementation: str,
    rate: Callable[[float], None],
) -> None:
    expected = _decode_py.Decoder().decode_many(payloads)
    assert sum(isinstance(message, Insert) for message in expected) > 1000
    assert DECODERS[implementation]().decode_many(payloads) == expected
    del expected

    def decode() -> None:
        decoder = DECODERS[implementation]()
        for payload in payloads:  # one at a time: an event is dropped before the next is made
            decoder.decode(payload)

    benchmark.pedantic(decode, rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        rate(benchmark.stats.stats.median)
