"""Hypothesis strategies for replication sessions: lists of CopyData payloads.

``sessions()``          what a server may send: every message, in an order that it allows
``damaged_sessions()``  the same, hurt: cut, flipped, inserted, dropped, extreme lengths
``KINDS``               the types that have a loader, with both forms of their values
``mutated()``           bytes that were a value once
``examples()``          how many of them a test looks at
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

import encoder

_PROFILES = {"ci": 1, "long": 30}
FACTOR = _PROFILES[os.environ.get("PGSTREAM_TEST_PROFILE", "ci")]


def examples(count: int) -> settings:
    """Settings for ``count`` examples; ``PGSTREAM_TEST_PROFILE=long`` takes 30 times as many.

    No example is too slow: how long one takes says nothing on a machine that others use.
    """
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(max_examples=count * FACTOR, deadline=None, suppress_health_check=slow)


Pair = tuple[bytes, bytes]
"""PostgreSQL's text and binary form of one value."""

# Values.


def _both(value: str) -> Pair:
    return value.encode(), value.encode()


def _integer(layout: str, low: int, high: int) -> SearchStrategy[Pair]:
    edges = st.sampled_from([low, high, 0, 1, -1 if low else 1])
    return (edges | st.integers(low, high)).map(
        lambda number: (str(number).encode(), struct.pack(layout, number))
    )


def float4_text(value: float) -> str:
    """PostgreSQL's text of a float4: the fewest digits that lie nearer to it than to any
    other float4, and of those the nearest, the even one of two (``src/common/f2s.c``).
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0.0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    sign = "-" if value < 0 else ""
    bits: int = struct.unpack(">I", struct.pack(">f", abs(value)))[0]

    def exact(number: int) -> Fraction:
        # Beyond the largest number lies what would be the next one, not infinity.
        exponent, mantissa = number >> 23, number & 0x7FFFFF
        if exponent == 0:
            return Fraction(mantissa) * Fraction(2) ** -149
        return Fraction(mantissa | 0x800000) * Fraction(2) ** (exponent - 150)

    here = exact(bits)
    low = (exact(bits - 1) + here) / 2
    high = (exact(bits + 1) + here) / 2
    exponent = math.floor(math.log10(here)) + 1
    for digits in range(1, 10):
        unit = Fraction(10) ** (exponent - digits)
        below = here // unit
        candidates = [number for number in (below, below + 1) if low < number * unit < high]
        if candidates:
            nearest = min(candidates, key=lambda n: (abs(n * unit - here), n % 2))
            return f"{sign}{nearest}e{exponent - digits}"
    raise AssertionError(f"no 9 digits for {value!r}")


def _float4(value: float) -> Pair:
    return float4_text(value).encode(), struct.pack(">f", value)


def _float8(value: float) -> Pair:
    text = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), repr(value))
    return text.removesuffix(".0").encode(), struct.pack(">d", value)


def numeric_binary(text: str) -> bytes:
    """The binary form of a numeric, from its text."""
    special = {
        "NaN": (0, 0, 0xC000, 0),
        "Infinity": (0, 0, 0xD000, 0x20),
        "-Infinity": (0, 0, 0xF000, 0x20),
    }.get(text)
    if special is not None:
        return struct.pack(">HhHH", *special)
    sign = 0x4000 if text.startswith("-") else 0
    whole, _, decimals = text.removeprefix("-").partition(".")
    scale = len(decimals)
    whole = whole.zfill(-(-len(whole) // 4) * 4)
    decimals = decimals.ljust(-(-scale // 4) * 4, "0")
    digits = [int((whole + decimals)[at : at + 4]) for at in range(0, len(whole + decimals), 4)]
    weight = len(whole) // 4 - 1
    while digits and digits[0] == 0:
        del digits[0]
        weight -= 1
    while digits and digits[-1] == 0:
        del digits[-1]
    if not digits:
        weight = sign = 0
    return struct.pack(">HhHH", len(digits), weight, sign, scale) + struct.pack(
        f">{len(digits)}H", *digits
    )


@st.composite
def _numerics(draw: DrawFn) -> Pair:
    special = draw(st.sampled_from([None] * 6 + ["NaN", "Infinity", "-Infinity", "tiny", "huge"]))
    if special == "tiny":
        text = "0." + "0" * draw(st.integers(0, 16382)) + "1"
    elif special == "huge":
        text = "9" + "0" * draw(st.integers(0, 5000)) + ".50"
    elif special is not None:
        text = special
    else:
        number = draw(st.integers(-(10**30), 10**30) | st.integers(-10000, 10000))
        scale = draw(st.integers(0, 24))
        digits = str(abs(number)).zfill(scale + 1)
        text = digits[: len(digits) - scale] + ("." + digits[len(digits) - scale :]) * (scale > 0)
        if number < 0:
            text = "-" + text
    return text.encode(), numeric_binary(text)


def _bytea(value: bytes) -> Pair:
    return b"\\x" + value.hex().encode(), value


_DAY = 86_400_000_000
_EPOCH = datetime(2000, 1, 1)


def _date(value: date) -> Pair:
    return value.isoformat().encode(), struct.pack(">i", (value - date(2000, 1, 1)).days)


def _clock(value: time | datetime) -> str:
    fraction = f".{value.microsecond:06d}".rstrip("0") if value.microsecond else ""
    return f"{value.hour:02d}:{value.minute:02d}:{value.second:02d}{fraction}"


def _time(value: time) -> Pair:
    since = timedelta(
        hours=value.hour,
        minutes=value.minute,
        seconds=value.second,
        microseconds=value.microsecond,
    )
    return _clock(value).encode(), struct.pack(">q", since // timedelta(microseconds=1))


def _timestamp(zone: str) -> Callable[[datetime], Pair]:
    def pair(value: datetime) -> Pair:
        since = (value - _EPOCH) // timedelta(microseconds=1)
        text = f"{value.date().isoformat()} {_clock(value)}{zone}"
        return text.encode(), struct.pack(">q", since)

    return pair


# What Python's types cannot hold, from a server's own mouth.
BEYOND_DATE: tuple[Pair, ...] = tuple(
    (text.encode(), struct.pack(">i", days))
    for text, days in [
        ("infinity", 2**31 - 1),
        ("-infinity", -(2**31)),
        ("0001-12-31 BC", -730120),
        ("0001-01-01 BC", -730485),
        ("0044-03-15 BC", -746117),
        ("4714-11-24 BC", -2451545),
        ("10000-01-01", 2921940),
        ("5874897-12-31", 2145031948),
    ]
)
BEYOND_TIMESTAMP: tuple[tuple[str, int], ...] = (
    ("infinity", 2**63 - 1),
    ("-infinity", -(2**63)),
    ("0001-12-31 23:59:59.999999{} BC", -730119 * _DAY - 1),
    ("0044-03-15 12:00:00{} BC", -746117 * _DAY + _DAY // 2),
    ("4714-11-24 00:00:00{} BC", -2451545 * _DAY),
    ("10000-01-01 00:00:00{}", 2921940 * _DAY),
    ("294276-12-31 23:59:59.999999{}", 9223371331199999999),
)


def _beyond_timestamp(zone: str) -> SearchStrategy[Pair]:
    return st.sampled_from(
        [(text.format(zone).encode(), struct.pack(">q", us)) for text, us in BEYOND_TIMESTAMP]
    )


# NUL and surrogates cannot be in PostgreSQL's text.
_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)

_documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=5,
).map(json.dumps) | st.sampled_from(
    [
        " { } ",
        '{"a": 1, "a": 2}',
        '"\\u00e9 \\ud83d\\ude00"',
        "9" * 5000,  # more digits than Python reads
        "[" * 3 + "]" * 3,
    ]
)


@dataclass(frozen=True)
class Kind:
    """A type that has a loader. ``array`` is the OID of its array type."""

    name: str
    oid: int
    array: int | None
    pairs: SearchStrategy[Pair]


KINDS: tuple[Kind, ...] = (
    Kind("bool", 16, 1000, st.sampled_from([(b"t", b"\1"), (b"f", b"\0")])),
    Kind("int2", 21, 1005, _integer(">h", -(2**15), 2**15 - 1)),
    Kind("int4", 23, 1007, _integer(">i", -(2**31), 2**31 - 1)),
    Kind("int8", 20, 1016, _integer(">q", -(2**63), 2**63 - 1)),
    Kind("oid", 26, 1028, _integer(">I", 0, 2**32 - 1)),
    Kind("xid", 28, 1011, _integer(">I", 0, 2**32 - 1)),
    Kind("float4", 700, 1021, st.floats(width=32).map(_float4)),
    Kind("float8", 701, 1022, st.floats().map(_float8)),
    Kind("numeric", 1700, 1231, _numerics()),
    Kind("text", 25, 1009, _text.map(_both)),
    Kind("varchar", 1043, 1015, _text.map(_both)),
    Kind("bpchar", 1042, 1014, _text.map(lambda value: _both(value.ljust(12)))),
    Kind("name", 19, 1003, _text.map(_both)),
    Kind("xml", 142, 143, _text.map(lambda value: _both(f"<a>{value}</a>"))),
    Kind("refcursor", 1790, 2201, _text.map(_both)),
    Kind("unknown", 705, None, _text.map(_both)),
    Kind("bytea", 17, 1001, st.binary(max_size=12).map(_bytea)),
    Kind("uuid", 2950, 2951, st.uuids().map(lambda value: (str(value).encode(), value.bytes))),
    Kind("json", 114, 199, _documents.map(_both)),
    Kind(
        "jsonb", 3802, 3807, _documents.map(lambda value: (value.encode(), b"\1" + value.encode()))
    ),
    Kind("date", 1082, 1182, st.dates().map(_date) | st.sampled_from(BEYOND_DATE)),
    Kind(
        "time",
        1083,
        1183,
        st.times().map(_time) | st.just((b"24:00:00", struct.pack(">q", _DAY))),
    ),
    Kind("timestamp", 1114, 1115, st.datetimes().map(_timestamp("")) | _beyond_timestamp("")),
    Kind(
        "timestamptz", 1184, 1185, st.datetimes().map(_timestamp("+00")) | _beyond_timestamp("+00")
    ),
)

NO_LOADER = (1033, 3642, 16999)
"""OIDs of types without a loader: aclitem, gtsvector, and one that is not built in."""


def array_text(elements: Iterable[bytes | None]) -> bytes:
    """A one-dimensional array in the text format."""
    shown = []
    for element in elements:
        if element is None:
            shown.append(b"NULL")
        elif not element or element.upper() == b"NULL" or set(element) & set(b'{},"\\ \t\n\r\v\f'):
            escaped = element.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            shown.append(b'"' + escaped + b'"')
        else:
            shown.append(element)
    return b"{" + b",".join(shown) + b"}"


def array_binary(
    type_oid: int, elements: Iterable[bytes | None], dimensions: Iterable[tuple[int, int]] = ()
) -> bytes:
    """An array in the binary format; one-dimensional unless (size, lower bound) are given."""
    listed = list(elements)
    bounds = list(dimensions) or ([(len(listed), 1)] if listed else [])
    head = struct.pack(">iiI", len(bounds), None in listed, type_oid)
    return head + b"".join(
        [struct.pack(">ii", *bound) for bound in bounds]
        + [
            struct.pack(">i", -1) if element is None else struct.pack(">i", len(element)) + element
            for element in listed
        ]
    )


def arrays_of(kind: Kind) -> SearchStrategy[Pair]:
    """One-dimensional arrays of a type, in both forms."""

    def pair(elements: list[Pair | None]) -> Pair:
        return (
            array_text(element and element[0] for element in elements),
            array_binary(kind.oid, (element and element[1] for element in elements)),
        )

    return st.lists(st.none() | kind.pairs, max_size=4).map(pair)


VALUES: dict[int, SearchStrategy[Pair]] = {kind.oid: kind.pairs for kind in KINDS} | {
    kind.array: arrays_of(kind) for kind in KINDS if kind.array is not None
}
"""From the OID of a type or an array type to values in both forms."""

JUNK = b'\x00\x01\x7f\x80\xff "\\{}[],.:-+_0129aetxENT\n'
EXTREMES = [
    value.to_bytes(size, "big")
    for size, values in {
        1: (0, 1, 0x7F, 0x80, 0xFF),
        2: (0, 0x7FFF, 0x8000, 0xFFFF),
        4: (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF),
        8: (0, 2**63 - 1, 2**63, 2**64 - 1),
    }.items()
    for value in values
]


@st.composite
def mutated(draw: DrawFn, values: SearchStrategy[bytes], hurts: int = 2) -> bytes:
    """Bytes with a few of them changed: most are no value of their type any more."""
    data = bytearray(draw(values))
    for _ in range(draw(st.integers(1, hurts))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["flip", "junk", "insert", "delete", "cut", "extreme"]))
        if how == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "junk" and at < len(data):
            data[at] = draw(st.sampled_from(JUNK))
        elif how == "insert":
            data[at:at] = draw(st.sampled_from(JUNK)).to_bytes()
        elif how == "delete":
            del data[at : at + draw(st.integers(1, 4))]
        elif how == "cut":
            del data[at:]
        else:
            extreme = draw(st.sampled_from(EXTREMES))
            data[at : at + len(extreme)] = extreme
    return bytes(data)


# Sessions.

_names = st.sampled_from(
    [name.encode() for name in ("id", "name", "bio", 'ti"t.le', "größe", "\U0001f600", "")]
) | st.binary(max_size=6).map(lambda name: name.replace(b"\0", b""))
_times = st.integers(-(10**16), 10**17) | st.just(0)
_gids = st.sampled_from(["gid", "a'b", "\N{SNOWMAN}"]) | st.just(b"\xff\xfe")
_TOP_XIDS = (700, 701, 4294967295)
_SUB_XIDS = (710, 711)
_OIDS = (16384, 16385, 16386, 4294967295)


@dataclass(frozen=True)
class Shape:
    """A relation as it was announced; ``arrival`` orders announcements."""

    schema: bytes
    table: bytes
    replica_identity: str
    types: tuple[int, ...]
    keys: tuple[bool, ...]
    columns: tuple[bytes, ...]
    arrival: int = 0


@st.composite
def _shapes(draw: DrawFn) -> Shape:
    """What a Relation says."""
    types = draw(
        st.lists(
            st.sampled_from([*VALUES, *NO_LOADER]) | st.integers(20000, 2**32 - 1), max_size=4
        ).map(tuple)
    )
    identity = draw(st.sampled_from("dnfi"))
    if identity in "di":
        keys = tuple(draw(st.booleans()) for _ in types)
    else:
        keys = (identity == "f",) * len(types)
    modifiers = st.sampled_from([-1, 4, -(2**31), 2**31 - 1])
    columns = tuple(
        encoder.column(draw(_names), type_oid, draw(modifiers), is_key)
        for type_oid, is_key in zip(types, keys, strict=True)
    )
    return Shape(draw(_names), draw(_names), identity, types, keys, columns)


@dataclass
class _Session:
    """A session being drawn. Knows of the relations what a reader has to know."""

    draw: DrawFn
    wild: bool
    payloads: list[bytes] = field(default_factory=list)
    known: dict[int, Shape] = field(default_factory=dict)
    streamed: dict[int, dict[int, Shape]] = field(default_factory=dict)
    lsn: int = 0x16000000
    arrivals: int = 0

    def send(self, message: bytes, lsn: int | None = None) -> None:
        """Wrap a message, move on in the WAL, sometimes say more than was asked."""
        self.lsn += self.draw(st.integers(0, 200))
        start = self.lsn if lsn is None else lsn
        self.payloads.append(encoder.xlogdata(message, start, time=self.draw(_times)))
        if self.draw(st.integers(0, 19)) == 19:
            self.keepalive()

    def keepalive(self) -> None:
        self.payloads.append(
            encoder.keepalive(self.lsn, self.draw(_times), self.draw(st.booleans()))
        )

    # Relations.

    def visible(self, top: int | None) -> dict[int, Shape]:
        return self.known if top is None else self.known | self.streamed[top]

    def announce(self, top: int | None, xid: int | None) -> int:
        """Send a Relation, new, changed or the same again; return its OID."""
        draw = self.draw
        oid = draw(st.sampled_from(_OIDS))
        shape = self.visible(top).get(oid)
        if shape is None or draw(st.booleans()):
            shape = draw(_shapes())
        for type_oid in sorted(set(shape.types)):
            if type_oid >= 10000:
                self.send(encoder.type_(type_oid, draw(_names), draw(_names), xid), lsn=0)
        self.send(
            encoder.relation(
                oid, shape.schema, shape.table, shape.replica_identity, shape.columns, xid
            ),
            lsn=0,
        )
        self.arrivals += 1
        home = self.known if top is None else self.streamed[top]
        home[oid] = replace(shape, arrival=self.arrivals)
        return oid

    def relation(self, top: int | None, xid: int | None) -> int:
        """The OID of a relation that may be named here."""
        visible = self.visible(top)
        if not visible or self.draw(st.integers(0, 3)) == 3:
            return self.announce(top, xid)
        return self.draw(st.sampled_from(sorted(visible)))

    # Rows.

    def value(self, type_oid: int) -> bytes:
        """A cell with a value."""
        draw = self.draw
        if type_oid not in VALUES:
            if draw(st.booleans()):
                return encoder.text(draw(_text))
            return encoder.binary(draw(st.binary(max_size=8)))
        text, binary = draw(VALUES[type_oid])
        if draw(st.booleans()):
            if type_oid in (25, 1043) and draw(st.integers(0, 4)) == 4:
                text += b"\xff\xc3"
            return encoder.text(self.perhaps_mutated(text))
        return encoder.binary(self.perhaps_mutated(binary))

    def perhaps_mutated(self, value: bytes) -> bytes:
        if self.wild and self.draw(st.integers(0, 3)) == 3:
            return self.draw(mutated(st.just(value)))
        return value

    def row(self, shape: Shape, *, unchanged: bool) -> list[bytes]:
        cells = []
        for type_oid in shape.types:
            what = self.draw(st.integers(0, 9))
            if what == 0:
                cells.append(encoder.NULL)
            elif what < 3 and unchanged:
                cells.append(encoder.UNCHANGED)
            else:
                cells.append(self.value(type_oid))
        return cells

    def key(self, shape: Shape) -> list[bytes]:
        """A key-only old row: what stands for the other columns is NULL, and, where a partition
        has another key than its root, for some of the key's.
        """
        return [
            self.value(type_oid) if is_key and self.draw(st.integers(0, 9)) else encoder.NULL
            for type_oid, is_key in zip(shape.types, shape.keys, strict=True)
        ]

    def change(self, top: int | None = None, xid: int | None = None) -> None:
        """Send one change; ``top`` and ``xid`` are those of a streamed transaction."""
        draw = self.draw
        what = draw(st.sampled_from("IIUUDDTMR"))
        if what == "M":
            message = encoder.logical_message(
                draw(st.integers(0, 2**64 - 1)),
                draw(_names),
                draw(st.binary(max_size=9)),
                True,
                top,
            )
            self.send(message)
            return
        if what == "R":
            self.announce(top, xid)
            return
        oid = self.relation(top, xid)
        shape = self.visible(top)[oid]
        if what == "I":
            self.send(encoder.insert(oid, self.row(shape, unchanged=False), xid))
        elif what == "T":
            oids = [oid, *draw(st.lists(st.sampled_from(sorted(self.visible(top))), max_size=2))]
            self.send(encoder.truncate(oids, draw(st.booleans()), draw(st.booleans()), xid))
        else:
            key = old = None
            if shape.replica_identity == "f":
                old = self.row(shape, unchanged=False)
            elif what == "D" or draw(st.booleans()):
                key = self.key(shape)
            if what == "D":
                self.send(encoder.delete(oid, key, old, xid))
            else:
                self.send(encoder.update(oid, self.row(shape, unchanged=True), key, old, xid))

    def changes(self, top: int | None = None) -> None:
        for _ in range(self.draw(st.integers(0, 4))):
            xid = None if top is None else self.draw(st.sampled_from([top, *_SUB_XIDS]))
            self.change(top, xid)

    # Transactions.

    def plain(self) -> None:
        draw = self.draw
        when, xid = draw(_times), draw(st.sampled_from(_TOP_XIDS))
        commit_lsn = self.lsn + 1000
        self.send(encoder.begin(commit_lsn, when, xid))
        if draw(st.integers(0, 5)) == 5:
            self.send(encoder.origin(draw(st.integers(0, 2**64 - 1)), draw(_names)))
        self.changes()
        self.send(encoder.commit(commit_lsn, commit_lsn + 40, when))

    def prepared(self) -> None:
        draw = self.draw
        when, xid, gid = draw(_times), draw(st.sampled_from(_TOP_XIDS)), draw(_gids)
        prepare_lsn, end_lsn = self.lsn + 1000, self.lsn + 1040
        self.send(encoder.begin_prepare(prepare_lsn, end_lsn, when, xid, gid))
        self.changes()
        self.send(encoder.prepare(prepare_lsn, end_lsn, when, xid, gid))

    def decided(self) -> None:
        """COMMIT or ROLLBACK PREPARED, perhaps of what was never seen."""
        draw = self.draw
        when, xid, gid = draw(_times), draw(st.sampled_from(_TOP_XIDS)), draw(_gids)
        if draw(st.booleans()):
            self.send(encoder.commit_prepared(self.lsn, self.lsn + 40, when, xid, gid))
        else:
            self.send(
                encoder.rollback_prepared(self.lsn, self.lsn + 40, when, draw(_times), xid, gid)
            )

    def block(self) -> None:
        """One block of a streamed transaction, the first or a later one."""
        draw = self.draw
        top = draw(st.sampled_from(_TOP_XIDS))
        first = top not in self.streamed
        self.streamed.setdefault(top, {})
        self.send(encoder.stream_start(top, first))
        if first and draw(st.integers(0, 5)) == 5:
            self.send(encoder.origin(0, draw(_names)))
        self.changes(top)
        self.send(encoder.stream_stop())

    def end_of_streamed(self) -> None:
        """What follows the last block, or a subtransaction's abort."""
        draw = self.draw
        if not self.streamed:
            self.block()
        top = draw(st.sampled_from(sorted(self.streamed)))
        when = draw(_times)
        abort_lsn = draw(st.none() | st.just(self.lsn))
        what = draw(st.sampled_from("ccpaA"))
        if what == "a":
            sub = draw(st.sampled_from(_SUB_XIDS))
            self.send(encoder.stream_abort(top, sub, abort_lsn, when))
            return
        shapes = self.streamed.pop(top)
        if what == "c":
            self.send(encoder.stream_commit(top, self.lsn, self.lsn + 40, when))
            for oid, shape in shapes.items():
                known = self.known.get(oid)
                if known is None or known.arrival < shape.arrival:
                    self.known[oid] = shape
        elif what == "p":
            self.send(encoder.stream_prepare(self.lsn, self.lsn + 40, when, top, draw(_gids)))
        else:
            self.send(encoder.stream_abort(top, top, abort_lsn, when))

    def message(self) -> None:
        """A logical message outside any transaction."""
        draw = self.draw
        content = draw(st.binary(max_size=9))
        self.send(encoder.logical_message(self.lsn, draw(_names), content, False))


_STEPS: tuple[Callable[[_Session], Any], ...] = (
    _Session.plain,
    _Session.plain,
    _Session.prepared,
    _Session.decided,
    _Session.block,
    _Session.block,
    _Session.end_of_streamed,
    _Session.end_of_streamed,
    _Session.message,
    _Session.change,  # a change without its Begin
    _Session.keepalive,
)


@st.composite
def sessions(draw: DrawFn, *, wild: bool = False, max_steps: int = 6) -> list[bytes]:
    """A session that a server may send. ``wild``: some values are none of their types."""
    session = _Session(draw, wild)
    for _ in range(draw(st.integers(1, max_steps))):
        draw(st.sampled_from(_STEPS))(session)
    return session.payloads


@st.composite
def damaged_sessions(draw: DrawFn) -> list[bytes]:
    """A session with a few of its payloads hurt, dropped, repeated or out of order."""
    payloads = draw(sessions(wild=True, max_steps=4))
    for _ in range(draw(st.integers(1, 3))):
        if not payloads:
            break
        at = draw(st.integers(0, len(payloads) - 1))
        how = draw(
            st.sampled_from(
                ["mutate", "mutate", "mutate", "drop", "repeat", "swap", "byte", "S", "E", "xid"]
            )
        )
        payload = payloads[at]
        if how == "mutate":
            payloads[at] = draw(mutated(st.just(payload), hurts=3))
        elif how == "drop":
            del payloads[at]
        elif how == "repeat":
            payloads.insert(at, payload)
        elif how == "swap":
            payloads[at], payloads[-1] = payloads[-1], payloads[at]
        elif how == "byte":
            where = draw(st.sampled_from([0, 25]))
            other = draw(st.integers(0, 255) | st.sampled_from(b"wksBCORYIUDTMSEcAbPKrp"))
            payloads[at] = payload[:where] + other.to_bytes() + payload[where + 1 :]
        elif how == "S":
            top = draw(st.sampled_from(_TOP_XIDS))
            payloads.insert(at, encoder.xlogdata(encoder.stream_start(top, draw(st.booleans()))))
        elif how == "E":
            payloads.insert(at, encoder.xlogdata(encoder.stream_stop()))
        else:  # a prefix where there should be none
            payloads[at] = payload[:26] + b"\0\0\2\xbc" + payload[26:]
    return payloads
