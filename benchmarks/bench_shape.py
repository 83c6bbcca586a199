"""What a row costs, against the number of its columns and the size of its values.

The payloads are made here, without a server: one table, inserts in the text transfer.
*columns*: int4 and a text of eight letters in turn. *bytes*: one text value of that size.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import pytest
from peers import handwritten
from pytest_benchmark.fixture import BenchmarkFixture
from results import Rate

from pgstream import LSN, Insert, _decode, _json

COLUMNS = (1, 2, 5, 10, 20, 50, 100)
SIZES = (1, 10, 100, 1000, 10_000, 100_000)
BYTES = 20_000_000  # of payloads in one pass, at most
MESSAGES = 20_000  # in one pass, at most
PIECE_BYTES = 2**17  # read at once, as libpq's buffer holds them


def header(message: bytes) -> bytes:
    return b"w" + pack(">QQQ", 0x1000, 0x1000, 0) + message


def stream(types: list[int], values: list[bytes]) -> list[bytes]:
    """Begin, Relation, and inserts of one row."""
    relation = b"R" + pack(">I", 16384) + b"public\0shape\0d" + pack(">H", len(types))
    for number, oid in enumerate(types):
        relation += b"\0" + f"column{number}\0".encode() + pack(">Ii", oid, -1)
    insert = b"I" + pack(">I", 16384) + b"N" + pack(">H", len(values))
    for value in values:
        insert += b"t" + pack(">I", len(value)) + value
    begin = b"B" + pack(">QQI", 0x2000, 0, 700)
    count = max(10, min(MESSAGES, BYTES // len(insert)))
    # Each a bytes object of its own, as they come from a connection.
    return [header(begin), header(relation), *(header(insert) for _ in range(count))]


def columns(count: int) -> list[bytes]:
    types = [(23, 25)[number % 2] for number in range(count)]
    return stream(types, [(b"12345", b"a letter")[number % 2] for number in range(count)])


def size(length: int) -> list[bytes]:
    return stream([25], [b"x" * length])


def by_hand(payloads: list[bytes]) -> None:
    decode = handwritten.Decoder().decode
    for payload in payloads:
        decode(payload)


def in_runs(make: Callable[[], _decode.Decoder]) -> Callable[[list[bytes]], None]:
    def read(payloads: list[bytes]) -> None:
        decode_run = make().decode_run
        count = max(1, PIECE_BYTES // len(payloads[-1]))
        for start in range(0, len(payloads), count):
            piece, at = payloads[start : start + count], 0
            while at < len(piece):
                _, at, _ = decode_run(piece, at)

    return read


CONTENDERS: dict[str, Callable[[list[bytes]], None]] = {
    "handwritten": by_hand,
    "cython": in_runs(_decode.Decoder),
    "cython, JSON Lines": in_runs(_json.JSONDecoder),
}


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("count", COLUMNS)
def test_columns(benchmark: BenchmarkFixture, count: int, contender: str, rate: Rate) -> None:
    run(benchmark, columns(count), f"{count} columns", contender, rate)


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("length", SIZES)
def test_size(benchmark: BenchmarkFixture, length: int, contender: str, rate: Rate) -> None:
    run(benchmark, size(length), f"{length} bytes", contender, rate)


def run(
    benchmark: BenchmarkFixture, payloads: list[bytes], read: str, contender: str, rate: Rate
) -> None:
    check(payloads)
    benchmark.pedantic(CONTENDERS[contender], args=(payloads,), rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        rate("shape", read, contender, len(payloads) / benchmark.stats.stats.median)


def check(payloads: list[bytes]) -> None:
    """The payloads are what they should be: both decoders read the same row from them."""
    ours, yardstick = _decode.Decoder(), handwritten.Decoder()
    for payload in payloads[:3]:
        event, found = ours.decode(payload), yardstick.decode(payload)
    assert isinstance(event, Insert)
    assert event.lsn == LSN(0x1000)
    assert found is not None
    assert found[-1] == event.new
