"""JSON Lines from recorded payloads to a file.

One unit is the yardstick's rows dumped by orjson. Before anything is timed the lines of our
three ways are compared byte for byte, and the yardstick's with them value for value. The
file is one of memory where there is such a thing, so that no disk is measured.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import orjson
import pytest
from corpora import PIECE
from peers import handwritten_json
from pytest_benchmark.fixture import BenchmarkFixture
from results import Rate, Yardstick

from pgstream import _decode, _decode_py, _json, _json_py
from pgstream.handlers import JSONLinesHandler
from pgstream.types import JSONText

PART = 40  # pieces that the yardstick writes before each pass of a contender

Pieces = list[list[bytes]]


def by_hand(pieces: Pieces, file: BinaryIO) -> None:
    write = handwritten_json.Writer(file).write
    for piece in pieces:
        for payload in piece:
            write(payload)


def from_payloads(decoder: type[_json.JSONDecoder] | type[_json_py.JSONDecoder]) -> Way:
    def write(pieces: Pieces, file: BinaryIO) -> None:
        decode_run = decoder().decode_run
        for piece in pieces:
            at = 0
            while at < len(piece):
                lines, at, _ = decode_run(piece, at)
                file.writelines(lines)

    return write


def from_events(pieces: Pieces, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
    handle = JSONLinesHandler(text)
    decode_run = _decode.Decoder(json_loads=JSONText).decode_run
    for piece in pieces:
        at = 0
        while at < len(piece):
            events, at, _ = decode_run(piece, at)
            for event in events:
                handle(event)
    text.flush()
    text.detach()


Way = Callable[[Pieces, BinaryIO], None]
CONTENDERS: dict[str, Way] = {
    "handwritten + orjson": by_hand,
    "cython": from_payloads(_json.JSONDecoder),
    "cython events + JSONLinesHandler": from_events,
    "python twin": from_payloads(_json_py.JSONDecoder),
}


@pytest.fixture
def path() -> Iterator[Path]:
    memory = "/dev/shm"
    where = memory if os.path.isdir(memory) and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder) / "lines"


@pytest.fixture(scope="module")
def expected(payloads: list[bytes]) -> bytes:
    """The lines, by way of the events of the Python decoder."""
    text = io.StringIO()
    handle = JSONLinesHandler(text)
    for event in map(_decode_py.Decoder(json_loads=JSONText).decode, payloads):
        if event is not None:
            handle(event)  # type: ignore[arg-type]  # it passes over what is no change
    return text.getvalue().encode()


@pytest.mark.parametrize("contender", CONTENDERS)
def test_json(
    benchmark: BenchmarkFixture,
    stream: str,
    payloads: list[bytes],
    expected: bytes,
    path: Path,
    contender: str,
    rate: Rate,
) -> None:
    way = CONTENDERS[contender]
    pieces = [payloads[at : at + PIECE] for at in range(0, len(payloads), PIECE)]

    def write() -> None:
        with path.open("wb") as file:
            way(pieces, file)

    write()
    check(path, expected, by_value=way is by_hand)
    part = pieces[:PART]

    def write_by_hand() -> None:
        with path.open("wb") as file:
            by_hand(part, file)

    yardstick = Yardstick(write_by_hand, sum(map(len, part)))
    benchmark.pedantic(write, setup=yardstick, rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        found = len(payloads) / benchmark.stats.stats.median
        multiple = yardstick.multiple(len(payloads), benchmark.stats.stats.data)
        rate("json", stream, contender, found, multiple)


def check(path: Path, expected: bytes, *, by_value: bool) -> None:
    lines = path.read_bytes()
    assert lines.count(b"\n") > 1000
    if by_value:
        pairs = zip(lines.splitlines(), expected.splitlines(), strict=True)
        assert all(orjson.loads(found) == orjson.loads(line) for found, line in pairs)
    else:
        assert lines == expected
