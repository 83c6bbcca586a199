"""Damaged values of every type: a value or a ProtocolError, the same from both decoders, and
nothing that a few bytes only claim is allocated.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

import encoder
import sessions
import values
from encoder import xlogdata
from pgstream.embedded import Server
from pgstream.errors import ProtocolError
from pgstream.handlers import JSONLinesHandler
from pgstream.types import Catalog, JSONText, TypeInfo
from pgstream.types.documents import is_too_deep
from servers import fresh_database
from test_parity import Twins, outcome, twins
from test_values import Recorded, record

__all__ = ["twins"]  # a fixture

ATTEMPTS = 20 * sessions.FACTOR
HUGE = [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0", b"\0\x0f\xff\xff", b"\0\0\0\0"]


@pytest.fixture(scope="module")
def recorded(server: Server) -> Iterator[Recorded]:
    with fresh_database(server) as database:
        yield record(database)


def cells(payload: bytes) -> list[tuple[bytes, bytes] | None]:
    """Kind and bytes of each value of an Insert outside of streamed transactions."""
    at = 25 + 1 + 4 + 1
    (width,) = struct.unpack_from(">H", payload, at)
    at += 2
    found: list[tuple[bytes, bytes] | None] = []
    for _ in range(width):
        kind = payload[at : at + 1]
        at += 1
        if kind == b"n":
            found.append(None)
            continue
        (size,) = struct.unpack_from(">I", payload, at)
        found.append((kind, payload[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def hurt(value: bytes, random: Random) -> bytes:
    """The value after something happened to it."""
    data = bytearray(value)
    at = random.randrange(len(data) + 1)
    what = random.randrange(6)
    if what == 0:
        del data[at:]
    elif what == 1 and data:
        data[at - 1] ^= 1 << random.randrange(8)
    elif what == 2:
        data[at:at] = random.choice(HUGE)
    elif what == 3:
        data[at : at + 4] = random.choice(HUGE)
    elif what == 4:
        data[at:at] = bytes([random.choice(sessions.JUNK)])
    else:
        del data[at : at + random.randrange(1, 5)]
    return bytes(data)


def test_damage_is_met_alike(recorded: Recorded, twins: Twins) -> None:
    random = Random(20261125)
    columns = recorded.relation.columns
    refused = decoded = 0
    pairs = []
    for column in columns:
        pair = twins.pair(catalog=recorded.catalog)
        described = [encoder.column(column.name, column.type_oid)]
        pair.advance([xlogdata(encoder.relation(1, "s", "t", "d", described))])
        pairs.append(pair)
    for payloads in (recorded.text, recorded.binary):
        for payload in payloads:
            if payload[:1] != b"w" or payload[25:26] != b"I":
                continue
            for pair, cell in zip(pairs, cells(payload), strict=True):
                if cell is None or len(cell[1]) > 5000:
                    continue
                for _ in range(ATTEMPTS):
                    value = hurt(cell[1], random)
                    damaged = cell[0] + len(value).to_bytes(4) + value
                    insert = xlogdata(encoder.insert(1, [damaged]))
                    one = outcome(lambda pair=pair, insert=insert: pair.cython.decode(insert))  # type: ignore[misc]
                    other = outcome(lambda pair=pair, insert=insert: pair.python.decode(insert))  # type: ignore[misc]
                    assert one == other, (cell, value)
                    refused += one[0] == "error"
                    decoded += one[0] != "error"
    assert refused > 1000
    assert decoded > 1000


def test_damaged_copies_are_met_alike(recorded: Recorded, twins: Twins) -> None:
    random = Random(20261125)
    names = [
        name for name, one in recorded.columns.items() if one.type not in ("aclitem", "isbn", "seg")
    ][::3]
    relation = type(recorded.relation)(
        1, "s", "t", "d", tuple(c for c in recorded.relation.columns if c.name in names)
    )
    data = b"".join(
        values.copied(
            recorded.database,
            f"COPY (SELECT {', '.join(names)} FROM everything) TO STDOUT (FORMAT binary)",
        )
    )
    pair = twins.pair(catalog=recorded.catalog)
    assert len(pair.cython.copy_rows(relation, data)) > 15
    refused = 0
    for _ in range(10 * ATTEMPTS):
        damaged = hurt(data, random)
        one = outcome(lambda: pair.cython.copy_rows(relation, damaged))  # noqa: B023
        other = outcome(lambda: pair.python.copy_rows(relation, damaged))  # noqa: B023
        assert one == other
        refused += one[0] == "error"
    assert refused > 50


# Claims.

CATALOG = Catalog(
    [
        TypeInfo(20_000, "s", "pair", "composite", fields=(("a", 1007), ("b", 25))),
        TypeInfo(20_001, "s", "hstore", "base"),
        TypeInfo(20_002, "s", "vector", "base"),
        TypeInfo(20_003, "s", "sparsevec", "base"),
        TypeInfo(20_004, "s", "cube", "base"),
        TypeInfo(20_005, "s", "halfvec", "base"),
    ]
)
MANY = b"\x7f\xff\xff\xff"


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (1007, b"\0\0\0\1" + bytes(4) + (23).to_bytes(4) + MANY + b"\0\0\0\1" + b"\xff" * 4),
        (1007, b"\0\0\0\6" + bytes(4) + (23).to_bytes(4) + (b"\0\1\0\0" + bytes(4)) * 6),
        (1007, b"\0\x0f\0\0" + bytes(4) + (23).to_bytes(4)),
        (22, b"\0\0\0\1" + bytes(4) + (21).to_bytes(4) + MANY + bytes(4)),
        (1700, b"\0\1" + b"\x7f\xff" + b"\0\0" + b"\xff\xff" + b"\0\1"),  # scale 65,535
        (1700, b"\xff\xff\0\0\0\0\0\0"),
        (1560, MANY + b"\xff"),
        (602, b"\1" + MANY),
        (604, MANY),
        (3614, MANY),
        (3614, b"\0\0\0\1a\0\xff\xff"),
        (3615, MANY),
        (5038, MANY + bytes(16)),
        (4451, MANY),
        (3904, b"\0" + MANY),
        (20_000, MANY),
        (20_000, b"\0\0\0\2" + (1007).to_bytes(4) + MANY),
        (20_001, MANY),
        (20_002, b"\xff\xff\0\0"),
        (20_003, MANY * 3),
        (20_004, MANY),
        (20_005, b"\xff\xff\0\0"),
    ],
)
def test_claims_are_checked_before_memory_is_taken(
    decoder_impl: Any, oid: int, value: bytes
) -> None:
    decoder = decoder_impl(catalog=CATALOG)
    relation = encoder.relation(1, "s", "t", "d", [encoder.column("c", oid)])
    decoder.decode(xlogdata(relation))
    insert = xlogdata(encoder.insert(1, [encoder.binary(value)]))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=r"column 'c' \(type \d+\) of s\.t: not a value"):
            decoder.decode(insert)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def load(decoder: Any, oid: int, cell: bytes) -> Any:
    decoder.decode(xlogdata(encoder.relation(1, "s", "t", "d", [encoder.column("c", oid)])))
    return decoder.decode(xlogdata(encoder.insert(1, [cell]))).new["c"]


def test_a_deep_query_is_no_recursion(decoder_impl: Any) -> None:
    """50,000 negations, and as many phrases to the left and to the right."""
    word = b"\1\0\0a\0"
    nots = (50_001).to_bytes(4) + b"\2\1" * 50_000 + word
    assert load(decoder_impl(), 3615, encoder.binary(nots)) == "!" * 50_000 + "'a'"
    left = (100_001).to_bytes(4) + (b"\2\4\0\1" + word) * 50_000 + word
    assert load(decoder_impl(), 3615, encoder.binary(left)) == "'a'" + " <-> 'a'" * 50_000
    right = (100_001).to_bytes(4) + b"\2\4\0\1" * 50_000 + word * 50_001
    shown = load(decoder_impl(), 3615, encoder.binary(right))
    assert shown == "'a' <-> ( " * 49_999 + "'a' <-> 'a'" + " )" * 49_999


@pytest.mark.parametrize("oid", [114, 3802])
@pytest.mark.parametrize("form", ["text", "binary"])
def test_json_is_parsed_to_a_depth(decoder_impl: Any, oid: int, form: str) -> None:
    def cell(document: str) -> bytes:
        prefix = b"\1" if oid == 3802 and form == "binary" else b""
        make: Callable[[bytes], bytes] = getattr(encoder, form)
        return make(prefix + document.encode())

    at_limit = "[" * 100 + '{"a":' * 100 + "1" + "}" * 100 + "]" * 100
    value = load(decoder_impl(), oid, cell(at_limit))
    assert isinstance(value, list)
    beyond = f"[{at_limit}]"
    assert load(decoder_impl(), oid, cell(beyond)) == beyond
    wide = json.dumps(["[" * 600, {'"[\\': "{" * 600}, "[\\", "größe"] * 300, ensure_ascii=False)
    assert load(decoder_impl(), oid, cell(wide)) == json.loads(wide)
    kept = load(decoder_impl(json_loads=JSONText), oid, cell(beyond))
    assert (type(kept), kept) == (JSONText, beyond)
    assert load(decoder_impl(json_loads=str), oid, cell("[1, 2]")) == "[1, 2]"
    # A class of another kind may parse, as a function may.
    assert load(decoder_impl(json_loads=list), oid, cell("[1]")) == ["[", "1", "]"]
    assert load(decoder_impl(json_loads=list), oid, cell(beyond)) == beyond


@pytest.mark.parametrize("frames", [0, 300, 600])
@pytest.mark.parametrize("levels", [60, 100, 200, 201, 450])
def test_how_deep_json_may_be_does_not_depend_on_the_caller(
    decoder_impl: Any, frames: int, levels: int
) -> None:
    def called_at(frames: int) -> Any:
        if frames:
            return called_at(frames - 1)
        return load(decoder_impl(), 114, encoder.text("[" * levels + "]" * levels))

    assert type(called_at(frames)) is (list if levels <= 200 else str)


def test_no_room_to_parse_json_is_the_callers_error(decoder_impl: Any) -> None:
    """And not another value."""
    decoder = decoder_impl()
    document = "[" * 150 + "]" * 150
    load(decoder, 114, encoder.text("1"))
    payload = xlogdata(encoder.insert(1, [encoder.text(document)]))

    def called_to_the_limit() -> Any:
        try:
            return called_to_the_limit()
        except RecursionError:
            return decoder.decode(payload).new["c"]

    with contextlib.suppress(RecursionError):
        assert called_to_the_limit() == json.loads(document)
    assert decoder.decode(payload).new["c"] == json.loads(document)


def test_counting_the_nesting_is_quick() -> None:
    """A step of Python's for each byte would take a second for a few megabytes."""
    raw = json.dumps([{"größe": 1, "b": 'x["\\'}] * 100_000, ensure_ascii=False).encode()
    start = time.process_time()
    assert not is_too_deep(raw)
    assert time.process_time() - start < 0.3


@pytest.mark.parametrize("oid", [114, 3802])
def test_json_with_keys_beyond_ascii(twins: Twins, oid: int) -> None:
    """The Cython decoder keeps the keys that it met, as bytes: none is taken for another."""
    pair = twins.pair()
    pair.decode(xlogdata(encoder.relation(1, "s", "t", "d", [encoder.column("c", oid)])))
    keys = ["ß", "Ã\x9f", "größe", "gr\xc3\xb6ße", "日本", "😀", "a", "\u0100", "\x7f", ""]
    for key in [*keys, *reversed(keys)]:
        document = json.dumps({key: {key: 1}, "b": [key]}, ensure_ascii=False)
        payload = xlogdata(encoder.insert(1, [encoder.text(document)]))
        for decoder in (pair.cython, pair.python):
            assert decoder.decode(payload).new["c"] == json.loads(document)
    for raw in (b'{"\xff": 1}', b'{"\xc3": 1}', b'{"\xed\xa0\x80": 1}', b'{"\xc3\xb6\n": 1}'):
        pair.decode(xlogdata(encoder.insert(1, [encoder.text(raw)])))


def test_json_numbers_of_many_digits(twins: Twins) -> None:
    pair = twins.pair()
    pair.decode(xlogdata(encoder.relation(1, "s", "t", "d", [encoder.column("c", 114)])))
    for digits in range(16, 24):
        for number in (
            "9" * digits,
            "-" + "9" * digits,
            "1" + "0" * (digits - 1),
            "9" * digits + ".5",
        ):
            payload = xlogdata(encoder.insert(1, [encoder.text(number)]))
            for decoder in (pair.cython, pair.python):
                assert repr(decoder.decode(payload).new["c"]) == repr(json.loads(number))


# What numeric becomes.


@pytest.mark.parametrize(
    ("text", "as_float"),
    [("12.50", 12.5), ("0.00", 0.0), ("Infinity", float("inf")), ("-Infinity", float("-inf"))],
)
def test_numeric_as_asked_for(decoder_impl: Any, text: str, as_float: float) -> None:
    for cell in (encoder.text(text), encoder.binary(sessions.numeric_binary(text))):
        assert load(decoder_impl(numeric="str"), 1700, cell) == text
        assert load(decoder_impl(numeric="float"), 1700, cell) == as_float
        assert str(load(decoder_impl(numeric="decimal"), 1700, cell)) == text
        array = sessions.array_binary(1700, [sessions.numeric_binary(text)])
        assert load(decoder_impl(numeric="str"), 1231, encoder.binary(array)) == [text]


def test_numeric_beyond_floats_is_text(decoder_impl: Any) -> None:
    digits = "9" * 400
    for cell in (encoder.text(digits), encoder.binary(sessions.numeric_binary(digits))):
        assert load(decoder_impl(numeric="float"), 1700, cell) == digits


def test_numeric_that_cannot_be(decoder_impl: Any) -> None:
    with pytest.raises(ValueError, match="numeric must be"):
        decoder_impl(numeric="int")


# pgvector, whose types no test server has.


def test_vectors(decoder_impl: Any) -> None:
    floats = struct.pack(">3f", 1.1, -2.5, 1e-30)
    decoder = decoder_impl(catalog=CATALOG)
    assert load(decoder, 20_002, encoder.text("[1.1,-2.5,1e-30]")) == [1.1, -2.5, 1e-30]
    assert load(decoder, 20_002, encoder.binary(b"\0\3\0\0" + floats)) == [1.1, -2.5, 1e-30]
    halves = b"\0\2\0\0" + struct.pack(">2e", 1.1, 0.5)
    assert load(decoder, 20_005, encoder.binary(halves)) == [1.0996094, 0.5]
    assert load(decoder, 20_005, encoder.text("[1.0996094,0.5]")) == [1.0996094, 0.5]
    sparse = struct.pack(">5i2f", 5, 2, 0, 0, 2, 1.5, 1e6)
    assert load(decoder, 20_003, encoder.binary(sparse)) == "{1:1.5,3:1e+06}/5"
    assert load(decoder, 20_003, encoder.text("{1:1.5,3:1e+06}/5")) == "{1:1.5,3:1e+06}/5"
    for text in ("", "1,2", "[1,2", "[,]", "[1;2]"):
        with pytest.raises(ProtocolError):
            load(decoder, 20_002, encoder.text(text))


# Lines.


def lines_of(decoder_impl: Any, payloads: list[bytes]) -> bytes:
    name = decoder_impl.__module__.replace("_decode", "_json")
    decoder = importlib.import_module(name).JSONDecoder()
    decoder.decode(payloads[0])  # the Relation
    changes, at, error = decoder.decode_run(payloads, 1)
    assert (at, error) == (len(payloads), None)
    return b"".join(changes)


def test_lines_of_what_no_server_sends(decoder_impl: Any) -> None:
    """A zero with a weight, and an INSERT without one of its values: as the events have them."""
    columns = [encoder.column("n", 1700), encoder.column("t", 25)]
    payloads = [xlogdata(encoder.relation(1, "s", "t", "d", columns))]
    for weight in (-3, -1, 0, 1, 3):
        for scale in (0, 2):
            zero = encoder.binary(struct.pack(">HhHH", 0, weight, 0, scale))
            payloads.append(xlogdata(encoder.insert(1, [zero, encoder.text("x")])))
    payloads.append(xlogdata(encoder.insert(1, [encoder.text("1"), encoder.UNCHANGED])))
    written = io.StringIO()
    handler = JSONLinesHandler(written)
    for change in decoder_impl().decode_many(payloads)[1:]:
        handler(change)
    assert lines_of(decoder_impl, payloads).decode() == written.getvalue()


def test_a_large_run_leaves_no_large_buffer(decoder_impl: Any) -> None:
    name = decoder_impl.__module__.replace("_decode", "_json")
    decoder = importlib.import_module(name).JSONDecoder()
    decoder.decode(xlogdata(encoder.relation(1, "s", "t", "d", [encoder.column("c", 25)])))
    large = [xlogdata(encoder.insert(1, [encoder.text("x" * 20_000_000)]))]
    small = [xlogdata(encoder.insert(1, [encoder.text("x")]))]
    tracemalloc.start()
    try:
        assert len(decoder.decode_run(large)[0][0]) > 20_000_000
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
        assert decoder.decode_run(small)[0][0].endswith(b'"new":{"c":"x"}}\n')
    finally:
        tracemalloc.stop()
