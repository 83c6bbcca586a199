"""The two decoders hold together: the same events, or the same error and the same state.

Mostly on damaged input, since that is where twins drift apart.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, SafeUUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import encoder
import sessions
from encoder import NULL, UNCHANGED, binary, column, text, xlogdata
from pgstream.errors import ProtocolError
from pgstream.lsn import LSN
from pgstream.messages import Column, Origin, Relation
from pgstream.rows import RowMaker, dict_row, tuple_row
from sessions import examples

# What is equal.


def canonical(value: Any) -> Any:
    """A value with everything that ``==`` does not look at: the types, -0.0, NaN, 1.0 and 1.00."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return kind, [(name, canonical(getattr(value, name))) for name in names]
    if isinstance(value, dict):
        return kind, [(canonical(key), canonical(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, [canonical(item) for item in value]
    if isinstance(value, UUID):
        return kind, value.int, value.is_safe
    if isinstance(value, datetime):
        return kind, repr(value), value.fold
    return kind, repr(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, False),
        (1, 1.0),
        (1, LSN(1)),
        (0.0, -0.0),
        (math.nan, Decimal("NaN")),
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal(0), Decimal("-0")),
        ("a", b"a"),
        ([1], (1,)),
        ([1], [True]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1.0}),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1)),
        (
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        ),
        (datetime(2026, 1, 1), datetime(2026, 1, 1, fold=1)),
        (UUID(int=1), UUID(int=1, is_safe=SafeUUID.safe)),
        (Origin("a", LSN(1)), Origin("a", 1)),  # type: ignore[arg-type]
        (Column("a", 1, -1, True), Column("a", 1, -1, 1)),  # type: ignore[arg-type]
    ],
)
def test_canonical_tells_apart_what_is_equal(one: Any, other: Any) -> None:
    assert canonical(one) != canonical(other)
    assert canonical(one) == canonical(one)
    assert canonical(other) == canonical(other)


def test_canonical_of_equal_values() -> None:
    assert canonical({"a": [math.nan, Decimal("1.0")]}) == canonical(
        {"a": [math.nan, Decimal("1.0")]}
    )


# The pair.


@dataclasses.dataclass(frozen=True)
class Twins:
    """The Decoder class of both implementations."""

    cython: Any
    python: Any

    def pair(self, **options: Any) -> Pair:
        return Pair(self.cython(**options), self.python(**options))


def outcome(decode: Callable[[], Any]) -> Any:
    """What came of it, an event or a ProtocolError. Other exceptions are not caught."""
    try:
        return canonical(decode())
    except ProtocolError as caught:
        error = caught
    assert type(error) is ProtocolError
    assert error.__cause__ is None
    assert error.kind
    assert error.offset >= 0
    return (
        "error",
        error.message,
        error.kind,
        error.offset,
        type(error.offset),
        canonical(error.lsn),
        canonical(error.args),
        str(error),
    )


class Pair:
    """A decoder of each implementation, fed alike."""

    def __init__(self, cython: Any, python: Any) -> None:
        self.cython = cython
        self.python = python
        self._compared: tuple[list[Relation], list[Relation]] = ([], [])

    def decode(self, payload: Any) -> Any:
        """Decode one payload with both; what came of it, the same in both."""
        one = outcome(lambda: self.cython.decode(payload))
        other = outcome(lambda: self.python.decode(payload))
        assert one == other
        self.compare_relations()
        return one

    def decode_all(self, payloads: Iterable[Any]) -> list[Any]:
        return [self.decode(payload) for payload in payloads]

    def advance(self, payloads: Iterable[bytes]) -> None:
        """Decode payloads that were compared before."""
        self.cython.decode_many(payloads)
        self.python.decode_many(payloads)

    def compare_relations(self) -> None:
        one, other = self.cython.relations, self.python.relations
        assert list(one) == list(other)
        # Relations are frozen: those that have been compared need not be again.
        now = list(one.values()), list(other.values())
        if not all(map(_all_the_same, now, self._compared)):
            assert canonical(one) == canonical(other)
            self._compared = now


def _all_the_same(listed: list[Any], before: list[Any]) -> bool:
    return len(listed) == len(before) and all(map(operator.is_, listed, before))


def is_error(result: Any) -> bool:
    return result[0] == "error"


@pytest.fixture(scope="session")
def twins() -> Twins:
    name = "pgstream._decode"
    try:
        cython = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        if {"CI", "PGSTREAM_REQUIRE_EXT"} & set(os.environ):
            pytest.fail("the Cython decoder is not compiled", pytrace=False)
        pytest.skip("the Cython decoder is not compiled: there is nothing to compare")
    return Twins(cython.Decoder, importlib.import_module("pgstream._decode_py").Decoder)


# A session with a message of every kind, the same in every run.

US = 848_650_320_123_456
COLUMNS = (
    column("id", 23, is_key=True),
    column("big", 20),
    column("text", 25),
    column("num", 1700),
    column("f4", 700),
    column("f8", 701),
    column("when", 1184),
    column("day", 1082),
    column("uuid", 2950),
    column("doc", 3802),
    column("raw", 17),
    column("ok", 16),
    column("list", 1007),
    column("other", 16999),
)
TEXTS = [
    text(value)
    for value in (
        "-7",
        "9223372036854775807",
        "größe",
        "-12345.6780",
        "1.1",
        "-1e-300",
        "2026-11-22 08:12:00.5+00",
        "2026-11-22",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        '{"a": [1, 2.5]}',
        "\\x00ff",
        "t",
        '{1,NULL,"3"}',
        "happy",
    )
]
BINARIES = [
    binary(value)
    for value in (
        b"\xff\xff\xff\xf9",
        b"\x7f" + b"\xff" * 7,
        "größe".encode(),
        sessions.numeric_binary("-12345.6780"),
        bytes.fromhex("3f8ccccd"),
        bytes.fromhex("81a56e1fc2f8f359"),
        US.to_bytes(8, "big"),
        (9822).to_bytes(4, "big"),
        bytes.fromhex("a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        b'\x01{"a": [1, 2.5]}',
        b"\x00\xff",
        b"\x01",
        sessions.array_binary(23, [b"\0\0\0\1", None, b"\0\0\0\3"]),
        b"happy",
    )
]
OTHER = 16385


def _changes(width: int, xid: int | None) -> list[bytes]:
    """Changes of a relation with the first columns, ``width`` of them."""
    texts, binaries = TEXTS[:width], BINARIES[:width]
    key = [texts[0], *[NULL] * (width - 1)]
    changed = [UNCHANGED, *binaries[1:-1], UNCHANGED]
    return [
        encoder.type_(16999, "public", "mood", xid),
        encoder.relation(16384, "public", "users", "d", COLUMNS[:width], xid),
        encoder.relation(OTHER, "", "other", "f", [column("a", 1009)], xid),
        encoder.insert(16384, texts, xid),
        encoder.insert(16384, binaries, xid),
        encoder.update(16384, texts, xid=xid),
        encoder.update(16384, changed, key=key, xid=xid),
        encoder.update(OTHER, [UNCHANGED], old=[text('{"a b",NULL}')], xid=xid),
        encoder.delete(16384, key=key, xid=xid),
        encoder.delete(OTHER, old=[NULL], xid=xid),
        encoder.truncate([16384, OTHER], True, True, xid),
        encoder.logical_message(0x16C75300, "prefix", b"\0content", True, xid),
    ]


RICH: list[bytes] = [
    encoder.keepalive(0x16C752F8, US, True),
    encoder.primary_status(1, 2, 3, US),
    *[
        xlogdata(message, 0x16C752F8 + 64 * index, time=US)
        for index, message in enumerate(
            [
                encoder.begin(0x500, US, 733),
                encoder.origin(0x55, "elsewhere"),
                *_changes(len(COLUMNS), None),
                encoder.commit(0x500, 0x530, US),
                encoder.logical_message(0x16C75300, "", b"", False),
                encoder.begin_prepare(0x600, 0x630, US, 734, "gid"),
                encoder.insert(OTHER, [text("{}")]),
                encoder.prepare(0x600, 0x630, US, 734, "gid"),
                encoder.commit_prepared(0x640, 0x670, US, 734, "gid"),
                encoder.rollback_prepared(0x630, 0x680, US, US, 735, "gid"),
                encoder.stream_start(700, True),
                encoder.origin(0, "elsewhere"),
                *_changes(3, 701),
                encoder.stream_stop(),
                encoder.stream_abort(700, 701),
                encoder.stream_start(800, True),
                encoder.relation(16384, "public", "users", "n", [column("a", 25)], 800),
                encoder.insert(16384, [text("x")], 800),
                encoder.relation(OTHER, "", "later undone", "n", [], 800),
                encoder.stream_stop(),
                # As it was, but said after the block: it outlives the commit of 800.
                encoder.relation(OTHER, "", "other", "f", [column("a", 1009)]),
                encoder.stream_commit(800, 0x700, 0x730, US),
                encoder.stream_start(700, False),
                encoder.insert(16384, TEXTS[:3], 700),
                encoder.stream_stop(),
                encoder.stream_prepare(0x800, 0x830, US, 700, "gid"),
                encoder.stream_start(900, True),
                encoder.stream_stop(),
                encoder.stream_abort(900, 900, 0x900, US),
            ]
        )
    ],
]

# Sent after a session: shows what a decoder remembers of it.
_ROW = [NULL]
PROBES: list[bytes] = [
    xlogdata(message, 0x999)
    for message in [
        encoder.stream_stop(),
        *[encoder.insert(oid, _ROW) for oid in (1, 16384, 16385, 16386, 4294967295)],
        encoder.logical_message(1, "", b""),
        encoder.stream_start(700, False),
        *[encoder.insert(oid, _ROW, 711) for oid in (16384, 16385, 16386, 4294967295)],
        encoder.logical_message(1, "", b"", True, 700),
        encoder.stream_stop(),
        encoder.stream_commit(700, 1, 2, 0),
        encoder.stream_commit(701, 1, 2, 0),
        encoder.stream_commit(4294967295, 1, 2, 0),
        encoder.commit(1, 2, 0),
    ]
]


def test_rich_session_has_every_message(twins: Twins) -> None:
    results = twins.pair().decode_all(RICH)
    assert not [result for result in results if is_error(result)]
    kinds = {payload[:1] if payload[:1] != b"w" else payload[25:26] for payload in RICH}
    assert kinds == {bytes([byte]) for byte in b"ksBCORYIUDTMSEcAbPKrp"}


@pytest.mark.parametrize("at", range(len(RICH)), ids=lambda at: f"{at}-{RICH[at][25:26].decode()}")
def test_truncated_at_every_offset(twins: Twins, at: int) -> None:
    """A message cut short is a ProtocolError, and changes nothing."""
    pair = twins.pair()
    pair.advance(RICH[:at])
    payload = RICH[at]
    whole = {len(payload)}
    if payload[:1] == b"s":
        whole.update(range(1, len(payload)))  # nothing in it is read
    elif payload[25:26] == b"A":
        whole.add(34)  # the short form
    for end in range(len(payload)):
        if end in whole:
            continue
        result = pair.decode(payload[:end])
        assert is_error(result)
        assert result[3] <= end
    clean = twins.pair().decode_all(RICH + PROBES)
    assert pair.decode_all(RICH[at:] + PROBES) == clean[at:]


def _hurt(payload: bytes) -> Iterable[bytes]:
    """A payload with every byte flipped in several ways, one at a time."""
    for at, byte in enumerate(payload):
        for flipped in (1 << at % 8, 0xFF):
            yield payload[:at] + bytes([byte ^ flipped]) + payload[at + 1 :]


def _extreme(payload: bytes) -> Iterable[bytes]:
    """A payload with extreme numbers written over every offset, one at a time."""
    for at in range(len(payload)):
        lengths = (b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\x80\0\0\0")
        for extreme in (b"\xff" * 2, lengths[at % 3]):
            if at + len(extreme) <= len(payload):
                yield payload[:at] + extreme + payload[at + len(extreme) :]


def _shifted(payload: bytes) -> Iterable[bytes]:
    """A payload with a byte taken away or put in at every offset, one at a time."""
    for at in range(len(payload) + 1):
        yield payload[:at] + payload[at + 1 :]
        yield payload[:at] + b"\0" + payload[at:]


@pytest.mark.parametrize("damage", [_hurt, _extreme, _shifted])
def test_every_damage_to_a_rich_session(
    twins: Twins, damage: Callable[[bytes], Iterable[bytes]]
) -> None:
    """An error leaves the decoders as they were; what is accepted, both understand alike."""
    clean = twins.pair().decode_all(RICH + PROBES)
    pair = twins.pair()
    for at, payload in enumerate(RICH):
        for damaged in damage(payload):
            if not is_error(pair.decode(damaged)):
                pair.decode_all([*RICH[at + 1 : at + 3], *PROBES[:4]])
                pair = twins.pair()
                pair.advance(RICH[:at])
        assert pair.decode(payload) == clean[at]
    assert pair.decode_all(PROBES) == clean[len(RICH) :]


def test_every_message_byte(twins: Twins) -> None:
    for prefix in ([], RICH[2:5], [xlogdata(encoder.stream_start(700, True))]):
        for byte in range(256):
            for tail in (b"", b"\0", bytes(64)):
                pair = twins.pair()
                pair.decode_all(prefix)
                pair.decode(bytes([byte]) + tail)
                pair.decode(xlogdata(bytes([byte]) + tail))
                pair.decode_all(PROBES)


def test_every_pair_of_messages(twins: Twins) -> None:
    """Each message after each other, whether the order is allowed or not."""
    for first in RICH:
        for second in RICH:
            pair = twins.pair()
            pair.decode_all([first, second, *PROBES[:6]])


# Random sessions.


def _lists(columns: Sequence[Column]) -> RowMaker:
    return lambda values: [len(columns), *values]


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "row_factory": st.sampled_from([dict_row, tuple_row, _lists]),
        "values": st.sampled_from(["typed", "text"]),
        "json_loads": st.just(str),
    },
)


@examples(300)
@given(sessions.sessions())
def test_valid_sessions(twins: Twins, payloads: list[bytes]) -> None:
    pair = twins.pair()
    results = pair.decode_all(payloads)
    assert not [result for result in results if is_error(result)]
    pair.decode_all(PROBES)
    one, other = twins.cython(), twins.python()
    assert canonical(one.decode_many(payloads)) == canonical(other.decode_many(payloads))


@examples(200)
@given(sessions.sessions(wild=True), OPTIONS)
def test_sessions_with_odd_values(
    twins: Twins, payloads: list[bytes], options: dict[str, Any]
) -> None:
    pair = twins.pair(**options)
    pair.decode_all([*payloads, *PROBES])


@examples(400)
@given(sessions.damaged_sessions(), OPTIONS)
def test_damaged_sessions(twins: Twins, payloads: list[bytes], options: dict[str, Any]) -> None:
    pair = twins.pair(**options)
    pair.decode_all([*payloads, *PROBES])
    one, other = twins.cython(**options), twins.python(**options)
    assert outcome(lambda: one.decode_many(payloads)) == outcome(
        lambda: other.decode_many(payloads)
    )
    assert Pair(one, other).decode_all(PROBES)


@examples(150)
@given(sessions.damaged_sessions())
def test_what_is_refused_leaves_no_trace(twins: Twins, payloads: list[bytes]) -> None:
    """A session reads as it does without the payloads that were refused."""
    pair = twins.pair()
    results = pair.decode_all([*payloads, *PROBES])
    accepted = [
        (payload, result)
        for payload, result in zip([*payloads, *PROBES], results, strict=True)
        if not is_error(result)
    ]
    again = twins.pair().decode_all([payload for payload, _ in accepted])
    assert again == [result for _, result in accepted]


@examples(500)
@given(st.sampled_from(b"wksBCORYIUDTMSEcAbPKrp"), st.binary(max_size=60), st.booleans())
def test_random_bytes(twins: Twins, byte: int, tail: bytes, in_block: bool) -> None:
    pair = twins.pair()
    pair.decode_all(RICH[2:8])
    if in_block:
        pair.decode(xlogdata(encoder.stream_start(700, True)))
    pair.decode(bytes([byte]) + tail)
    pair.decode(xlogdata(bytes([byte]) + tail))
    pair.decode(xlogdata(bytes([byte]) + b"\0\0\x40\0" + tail))
    pair.decode_all(PROBES)


@examples(100)
@given(sessions.sessions(), st.sampled_from([bytearray, memoryview]))
def test_other_buffers(twins: Twins, payloads: list[bytes], buffer: Any) -> None:
    results = twins.pair().decode_all(payloads)
    assert twins.pair().decode_all([buffer(payload) for payload in payloads]) == results


@pytest.mark.parametrize(
    "payload",
    [None, 7, "w", [119], object(), memoryview(bytes(100))[::2], memoryview(b"wxyz")[::-1]],
    ids=["None", "int", "str", "list", "object", "strided", "reversed"],
)
def test_what_is_no_contiguous_buffer(twins: Twins, payload: Any) -> None:
    kinds = []
    for decoder in (twins.cython(), twins.python()):
        with pytest.raises((TypeError, BufferError)) as caught:
            decoder.decode(payload)
        kinds.append(caught.type)
    assert kinds[0] is kinds[1]


# What the Python decoder reads by itself is what its functions for each message make of it.


def closely(**options: Any) -> Any:
    """A Python decoder that reads nothing by itself."""
    module = importlib.import_module("pgstream._decode_py")

    class Closely(module.Decoder):  # type: ignore[misc, name-defined]
        def decode(self, payload: Any) -> Any:
            return module.decode_payload(self, module.Reader(payload))

    return Closely(**options)


@pytest.mark.parametrize("row_factory", [dict_row, tuple_row, _lists])
def test_what_is_frequent_is_read_at_a_glance(
    row_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("pgstream._decode_py")
    decoder, other = module.Decoder(row_factory=row_factory), closely(row_factory=row_factory)
    read_closely = []
    decode_payload = module.decode_payload

    def noted(decoder: Any, reader: Any) -> Any:
        read_closely.append(decoder)
        return decode_payload(decoder, reader)

    monkeypatch.setattr(module, "decode_payload", noted)
    for payload in RICH:
        read_closely.clear()
        message = decoder.decode(payload)
        assert (not read_closely) == (payload[25:26] in (b"I", b"U", b"D", b"B", b"C"))
        assert canonical(message) == canonical(other.decode(payload))
    pair = Pair(decoder, other)
    pair.decode_all(PROBES)


@examples(200)
@given(sessions.sessions(wild=True) | sessions.damaged_sessions(), OPTIONS)
def test_at_a_glance_and_closely(payloads: list[bytes], options: dict[str, Any]) -> None:
    module = importlib.import_module("pgstream._decode_py")
    pair = Pair(module.Decoder(**options), closely(**options))
    pair.decode_all([*payloads, *PROBES])


# Values.

_TYPES = sorted([*sessions.VALUES, *sessions.NO_LOADER])


class Values:
    """Cells of one type, decoded by both."""

    def __init__(self, twins: Twins, type_oid: int) -> None:
        self.pair = twins.pair()
        columns = [column("c", type_oid)]
        self.pair.decode(xlogdata(encoder.relation(1, "s", "t", "d", columns)))

    def compare(self, cell: bytes) -> None:
        payload = xlogdata(encoder.insert(1, [cell]))
        one = outcome(lambda: self.pair.cython.decode(payload))
        other = outcome(lambda: self.pair.python.decode(payload))
        assert one == other


@pytest.mark.parametrize("type_oid", _TYPES)
def test_every_short_value(twins: Twins, type_oid: int) -> None:
    values = Values(twins, type_oid)
    alphabet = sorted(set(sessions.JUNK))
    short = [b"", *(bytes([byte]) for byte in range(256))]
    short += [bytes([first, second]) for first in alphabet for second in alphabet]
    for value in short:
        values.compare(text(value))
        values.compare(binary(value))
        values.compare(text(b"{" + value + b"}"))


EDGES = [
    *[
        "{" * depth + element + "}" * depth
        for depth in range(1, 9)
        for element in ("1", "NULL", "")
    ],
    *[
        f"{sign}{'0' * zeros}{digits}"
        for sign in ("", "-")
        for zeros in (0, 1, 18, 19)
        for digits in "01"
    ],
    *[
        str(number)
        for bits in (15, 16, 31, 32, 63, 64)
        for number in range(2**bits - 2, 2**bits + 2)
    ],
    *[str(-number) for bits in (15, 31, 63) for number in range(2**bits - 1, 2**bits + 2)],
    *[
        "1.",
        ".1",
        "-.1",
        "1e5",
        "1E5",
        "+1",
        " 1",
        "1 ",
        "0x1",
        "1_0",
        "1.0.0",
        "-",
        "--1",
        "00.10",
    ],
    *[
        "NaN",
        "nan",
        "-NaN",
        "sNaN",
        "NaN1",
        "inf",
        "Inf",
        "-inf",
        "Infinity",
        "-Infinity",
        "+Infinity",
    ],
    *[
        "t",
        "f",
        "true",
        "T",
        "\\x",
        "\\x0",
        "\\x00",
        "\\xAbCd",
        "\\000",
        "\\377",
        "\\400",
        "\\\\",
        "\\",
    ],
    *[
        "2026-02-29",
        "2024-02-29",
        "1900-02-29",
        "2000-02-29",
        "0000-01-01",
        "0001-01-01",
        "9999-12-31",
    ],
    *["2026-13-01", "2026-00-01", "2026-04-31", "2026-01-00", "10000-01-01", "0001-01-01 BC"],
    *[
        "23:59:59",
        "24:00:00",
        "23:60:00",
        "23:59:60",
        "00:00:00.",
        "00:00:00.0000001",
        "00:00:00.100000",
    ],
    *[
        f"{day} 00:00:00{zone}"
        for day in ("0001-01-01", "9999-12-31")
        for zone in ("", "+00", "-01", "+19")
    ],
    *[
        f"2026-11-22 08:12:00{zone}"
        for zone in ("+5", "+05:3", "+05:30", "+05:30:15", "-00", "+20", "+05:60")
    ],
    *[
        "{}",
        "[0:1]={1,2}",
        "[1:2]=",
        "[={1}",
        "{{1},{2,3}}",
        "{{},{}}",
        "{1,{2}}",
        '{"NULL",NULL,null}',
    ],
    *['{"a\\"b"}', '{"\\"}', "{1,}", "{,1}", "{1} ", "{ 1}", '{"1" }', "{1 2}", "{1,2", "{}}"],
    *[
        "[]",
        "null",
        '"x"',
        '{"a":1,"a":2}',
        "NaN",
        "[1,]",
        "1e400",
        "9" * 5000,
        "[" * 50 + "]" * 50,
    ],
]


@pytest.mark.parametrize("type_oid", _TYPES)
def test_values_at_the_edges(twins: Twins, type_oid: int) -> None:
    values = Values(twins, type_oid)
    for value in EDGES:
        values.compare(text(value))
        values.compare(binary(value.encode()))
        values.compare(text("{" + value + "}"))


@pytest.mark.parametrize("type_oid", sorted(sessions.VALUES))
@examples(25)
@given(data=st.data())
def test_damaged_values(twins: Twins, type_oid: int, data: st.DataObject) -> None:
    values = Values(twins, type_oid)
    for one, other in data.draw(st.lists(sessions.VALUES[type_oid], min_size=1, max_size=3)):
        values.compare(text(one))
        values.compare(binary(other))
        for _ in range(4):
            values.compare(text(data.draw(sessions.mutated(st.just(one)))))
            values.compare(binary(data.draw(sessions.mutated(st.just(other)))))


@pytest.mark.parametrize("type_oid", [1082, 1083, 1114, 1184])
@examples(300)
@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**31), 2**31 - 1))
def test_every_moment(twins: Twins, type_oid: int, number: int) -> None:
    values = Values(twins, type_oid)
    values.compare(binary(number.to_bytes(8, "big", signed=True)))
    if -(2**31) <= number < 2**31:
        values.compare(binary(number.to_bytes(4, "big", signed=True)))


@examples(300)
@given(st.binary(min_size=4, max_size=4), st.binary(min_size=8, max_size=8))
def test_every_float(twins: Twins, single: bytes, double: bytes) -> None:
    Values(twins, 700).compare(binary(single))
    Values(twins, 701).compare(binary(double))


@examples(300)
@given(
    st.integers(0, 12),
    st.integers(-(2**15), 2**15 - 1) | st.integers(-4, 4),
    st.sampled_from([0, 0x4000, 0xC000, 0xD000, 0xF000, 1]),
    st.integers(0, 2**16 - 1) | st.integers(0, 40),
    st.lists(st.integers(0, 9999) | st.just(0) | st.integers(0, 2**16 - 1), max_size=12),
)
def test_every_numeric(
    twins: Twins, extra: int, weight: int, sign: int, scale: int, digits: list[int]
) -> None:
    count = len(digits) if extra else extra
    data = b"".join(
        (
            count.to_bytes(2, "big"),
            weight.to_bytes(2, "big", signed=True),
            sign.to_bytes(2, "big"),
            scale.to_bytes(2, "big"),
            *(digit.to_bytes(2, "big") for digit in digits),
        )
    )
    Values(twins, 1700).compare(binary(data))


_MOMENTS = "2026|-|11|22| |08|:|12|.5|+00|-07:52:58| BC|24|60|10000|0000|02|29|30|infinity|T|Z|00"
_FRAGMENTS = st.lists(
    st.sampled_from([*_MOMENTS.split("|"), "0001", ".1234567", "+19:59", "-20"]), max_size=14
).map("".join)


@examples(400)
@given(_FRAGMENTS, st.sampled_from([1082, 1083, 1114, 1184]))
def test_dates_and_times_in_pieces(twins: Twins, value: str, type_oid: int) -> None:
    values = Values(twins, type_oid)
    values.compare(text(value))
    values.compare(text("2026-11-22 " + value))
    values.compare(text("2026-11-22 08:12:00" + value))


@examples(300)
@given(
    st.lists(
        st.sampled_from(["{", "}", ",", '"', "\\", "1", "NULL", "[0:1]=", " ", "t"]), max_size=14
    ),
    st.sampled_from([1007, 1009, 1000, 3807]),
)
def test_arrays_in_pieces(twins: Twins, pieces: list[str], type_oid: int) -> None:
    Values(twins, type_oid).compare(text("".join(pieces)))
    Values(twins, type_oid).compare(text("{" + "".join(pieces) + "}"))
