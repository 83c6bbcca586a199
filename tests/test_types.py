"""Values: PostgreSQL's text and binary forms, and what they become in Python."""

from __future__ import annotations

import copy
import decimal
import importlib
import json
import math
import pickle
import struct
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import encoder
import sessions
from pgstream.errors import ProtocolError
from pgstream.types import Loaders, oids

BOOL, INT2, INT4, INT8, OID, XID = 16, 21, 23, 20, 26, 28
FLOAT4, FLOAT8, NUMERIC = 700, 701, 1700
TEXT, VARCHAR, BPCHAR, NAME, XML, UNKNOWN_TYPE, REFCURSOR = 25, 1043, 1042, 19, 142, 705, 1790
BYTEA, UUID_TYPE, JSON, JSONB = 17, 2950, 114, 3802
DATE, TIME, TIMESTAMP, TIMESTAMPTZ = 1082, 1083, 1114, 1184

VALUE_AT = 38  # the offset of the first value of an Insert in its payload

KINDS = pytest.mark.parametrize("kind", sessions.KINDS, ids=lambda kind: kind.name)
ARRAYS = pytest.mark.parametrize(
    "kind", [kind for kind in sessions.KINDS if kind.array], ids=lambda kind: kind.name
)


def load(decoder_impl: Any, type_oid: int, cell: bytes) -> Any:
    """What a decoder makes of one cell of a type."""
    decoder = decoder_impl()
    columns = [encoder.column("c", type_oid)]
    decoder.decode(encoder.xlogdata(encoder.relation(1, "s", "t", "d", columns)))
    return decoder.decode(encoder.xlogdata(encoder.insert(1, [cell]))).new["c"]


def refuse(decoder_impl: Any, type_oid: int, cell: bytes) -> None:
    """The cell has to be refused, at the first byte of its value."""
    with pytest.raises(ProtocolError) as caught:
        load(decoder_impl, type_oid, cell)
    assert (caught.value.kind, caught.value.offset) == ("Insert", VALUE_AT)
    assert f"'c' (type {type_oid})" in caught.value.message


def same(value: Any, wanted: Any) -> bool:
    """Equal in type and in every detail that ``==`` does not see (-0.0, NaN, 1.0 and 1.00)."""
    return type(value) is type(wanted) and repr(value) == repr(wanted)


def hexed(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts))


# type, text, binary, value: the forms as a server sends them.
FORMS: list[tuple[int, str, bytes, Any]] = [
    (BOOL, "t", b"\x01", True),
    (BOOL, "f", b"\x00", False),
    (INT2, "0", b"\x00\x00", 0),
    (INT2, "-1", b"\xff\xff", -1),
    (INT2, "32767", b"\x7f\xff", 32767),
    (INT2, "-32768", b"\x80\x00", -32768),
    (INT4, "1", b"\x00\x00\x00\x01", 1),
    (INT4, "2147483647", b"\x7f\xff\xff\xff", 2147483647),
    (INT4, "-2147483648", b"\x80\x00\x00\x00", -2147483648),
    (INT8, "-2", b"\xff" * 7 + b"\xfe", -2),
    (INT8, "9223372036854775807", b"\x7f" + b"\xff" * 7, 9223372036854775807),
    (INT8, "-9223372036854775808", b"\x80" + bytes(7), -9223372036854775808),
    (OID, "0", bytes(4), 0),
    (OID, "4294967295", b"\xff" * 4, 4294967295),
    (XID, "2147483648", b"\x80\x00\x00\x00", 2147483648),
    (FLOAT4, "1.1", hexed("3f8ccccd"), 1.1),
    (FLOAT4, "-1.1", hexed("bf8ccccd"), -1.1),
    (FLOAT4, "0.1", hexed("3dcccccd"), 0.1),
    (FLOAT4, "0", bytes(4), 0.0),
    (FLOAT4, "-0", hexed("80000000"), -0.0),
    (FLOAT4, "1.6777216e+07", hexed("4b800000"), 16777216.0),
    (FLOAT4, "3.4028235e+38", hexed("7f7fffff"), 3.4028235e38),
    (FLOAT4, "1.1754944e-38", hexed("00800000"), 1.1754944e-38),
    (FLOAT4, "1e-45", hexed("00000001"), 1e-45),
    (FLOAT4, "NaN", hexed("7fc00000"), math.nan),
    (FLOAT4, "Infinity", hexed("7f800000"), math.inf),
    (FLOAT4, "-Infinity", hexed("ff800000"), -math.inf),
    (FLOAT8, "1.5", hexed("3ff8000000000000"), 1.5),
    (FLOAT8, "0.1", hexed("3fb999999999999a"), 0.1),
    (FLOAT8, "0", bytes(8), 0.0),
    (FLOAT8, "-0", hexed("8000000000000000"), -0.0),
    (FLOAT8, "1e+22", hexed("4480f0cf064dd592"), 1e22),
    (FLOAT8, "1.7976931348623157e+308", hexed("7fefffffffffffff"), 1.7976931348623157e308),
    (FLOAT8, "5e-324", hexed("0000000000000001"), 5e-324),
    (FLOAT8, "NaN", hexed("7ff8000000000000"), math.nan),
    (FLOAT8, "Infinity", hexed("7ff0000000000000"), math.inf),
    (FLOAT8, "-Infinity", hexed("fff0000000000000"), -math.inf),
    (NUMERIC, "0", hexed("0000 0000 0000 0000"), Decimal(0)),
    (NUMERIC, "0.00", hexed("0000 0000 0000 0002"), Decimal("0.00")),
    (NUMERIC, "1", hexed("0001 0000 0000 0000 0001"), Decimal(1)),
    (NUMERIC, "1.0", hexed("0001 0000 0000 0001 0001"), Decimal("1.0")),
    (NUMERIC, "1.50", hexed("0002 0000 0000 0002 0001 1388"), Decimal("1.50")),
    (NUMERIC, "-12345.678", hexed("0003 0001 4000 0003 0001 0929 1a7c"), Decimal("-12345.678")),
    (NUMERIC, "10000", hexed("0001 0001 0000 0000 0001"), Decimal(10000)),
    (NUMERIC, "100000000.0", hexed("0001 0002 0000 0001 0001"), Decimal("100000000.0")),
    (NUMERIC, "0.0001", hexed("0001 ffff 0000 0004 0001"), Decimal("0.0001")),
    (NUMERIC, "0.000000012", hexed("0002 fffe 0000 0009 0001 07d0"), Decimal("0.000000012")),
    (NUMERIC, "0.00000001", hexed("0001 fffe 0000 0008 0001"), Decimal("0.00000001")),
    (NUMERIC, "-0.1", hexed("0001 ffff 4000 0001 03e8"), Decimal("-0.1")),
    (NUMERIC, "NaN", hexed("0000 0000 c000 0000"), Decimal("NaN")),
    (NUMERIC, "Infinity", hexed("0000 0000 d000 0020"), Decimal("Infinity")),
    (NUMERIC, "-Infinity", hexed("0000 0000 f000 0020"), Decimal("-Infinity")),
    (
        NUMERIC,
        "0." + "0" * 16382 + "1",  # the largest scale
        hexed("0001 f000 0000 3fff 000a"),
        Decimal("0." + "0" * 16382 + "1"),
    ),
    (
        NUMERIC,
        "1" + "0" * 131068,  # 131069 digits before the point
        hexed("0001 7fff 0000 0000 0001"),
        Decimal("1" + "0" * 131068),
    ),
    (TEXT, "", b"", ""),
    (TEXT, "größe \U0001f600", "größe \U0001f600".encode(), "größe \U0001f600"),
    (TEXT, "a\n\t\\\"'", b"a\n\t\\\"'", "a\n\t\\\"'"),
    (VARCHAR, "x", b"x", "x"),
    (BPCHAR, "x   ", b"x   ", "x   "),
    (NAME, "pg_class", b"pg_class", "pg_class"),
    (XML, "<a/>", b"<a/>", "<a/>"),
    (UNKNOWN_TYPE, "?", b"?", "?"),
    (REFCURSOR, "c1", b"c1", "c1"),
    (BYTEA, "\\x", b"", b""),
    (BYTEA, "\\x00ff", b"\x00\xff", b"\x00\xff"),
    (BYTEA, "\\xdeadbeef", hexed("deadbeef"), hexed("deadbeef")),
    (
        UUID_TYPE,
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        hexed("a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ),
    (UUID_TYPE, "00000000-0000-0000-0000-000000000000", bytes(16), UUID(int=0)),
    (UUID_TYPE, "ffffffff-ffff-ffff-ffff-ffffffffffff", b"\xff" * 16, UUID(int=2**128 - 1)),
    (JSON, '{"a" : [1, 2.50, null]}', b'{"a" : [1, 2.50, null]}', {"a": [1, 2.5, None]}),
    (JSON, '{"a":1,"a":2}', b'{"a":1,"a":2}', {"a": 2}),
    (JSON, "null", b"null", None),
    (JSON, "true", b"true", True),
    (JSON, ' "x" ', b' "x" ', "x"),
    (JSONB, '{"a": 1}', b'\x01{"a": 1}', {"a": 1}),
    (JSONB, "[]", b"\x01[]", []),
    (JSONB, '"\\u0001"', b'\x01"\\u0001"', "\x01"),
    (DATE, "2000-01-01", bytes(4), date(2000, 1, 1)),
    (DATE, "1999-12-31", b"\xff" * 4, date(1999, 12, 31)),
    (DATE, "2026-11-22", struct.pack(">i", 9822), date(2026, 11, 22)),
    (DATE, "2024-02-29", struct.pack(">i", 8825), date(2024, 2, 29)),
    (DATE, "0001-01-01", struct.pack(">i", -730119), date(1, 1, 1)),
    (DATE, "9999-12-31", struct.pack(">i", 2921939), date(9999, 12, 31)),
    (TIME, "00:00:00", bytes(8), time(0)),
    (TIME, "08:12:00.1", struct.pack(">q", 29_520_100_000), time(8, 12, 0, 100_000)),
    (TIME, "23:59:59.999999", struct.pack(">q", 86_399_999_999), time(23, 59, 59, 999_999)),
    (TIMESTAMP, "2000-01-01 00:00:00", bytes(8), datetime(2000, 1, 1)),
    (
        TIMESTAMP,
        "1999-12-31 23:59:59.999999",
        b"\xff" * 8,
        datetime(1999, 12, 31, 23, 59, 59, 999999),
    ),
    (
        TIMESTAMP,
        "2026-11-22 08:12:00.123456",
        struct.pack(">q", 848_650_320_123_456),
        datetime(2026, 11, 22, 8, 12, 0, 123456),
    ),
    (
        TIMESTAMP,
        "0001-01-01 00:00:00",
        struct.pack(">q", -63_082_281_600_000_000),
        datetime(1, 1, 1),
    ),
    (
        TIMESTAMP,
        "9999-12-31 23:59:59.999999",
        struct.pack(">q", 252_455_615_999_999_999),
        datetime(9999, 12, 31, 23, 59, 59, 999999),
    ),
    (TIMESTAMPTZ, "2000-01-01 00:00:00+00", bytes(8), datetime(2000, 1, 1, tzinfo=UTC)),
    (
        TIMESTAMPTZ,
        "2026-11-22 08:12:00.12+00",
        struct.pack(">q", 848_650_320_120_000),
        datetime(2026, 11, 22, 8, 12, 0, 120000, tzinfo=UTC),
    ),
    # What Python's types cannot hold: PostgreSQL's text.
    (DATE, "infinity", hexed("7fffffff"), "infinity"),
    (DATE, "-infinity", hexed("80000000"), "-infinity"),
    (DATE, "0001-12-31 BC", struct.pack(">i", -730120), "0001-12-31 BC"),
    (DATE, "0044-03-15 BC", struct.pack(">i", -746117), "0044-03-15 BC"),
    (DATE, "0001-02-29 BC", struct.pack(">i", -730426), "0001-02-29 BC"),
    (DATE, "4714-11-24 BC", struct.pack(">i", -2451545), "4714-11-24 BC"),
    (DATE, "10000-01-01", struct.pack(">i", 2921940), "10000-01-01"),
    (DATE, "5874897-12-31", struct.pack(">i", 2145031948), "5874897-12-31"),
    (TIME, "24:00:00", struct.pack(">q", 86_400_000_000), "24:00:00"),
    (TIMESTAMP, "infinity", hexed("7fffffffffffffff"), "infinity"),
    (TIMESTAMP, "-infinity", hexed("8000000000000000"), "-infinity"),
    (
        TIMESTAMP,
        "0001-12-31 23:59:59.999999 BC",
        struct.pack(">q", -63_082_281_600_000_001),
        "0001-12-31 23:59:59.999999 BC",
    ),
    (
        TIMESTAMP,
        "4714-11-24 00:00:00 BC",
        struct.pack(">q", -211_813_488_000_000_000),
        "4714-11-24 00:00:00 BC",
    ),
    (
        TIMESTAMP,
        "10000-01-01 00:00:00",
        struct.pack(">q", 252_455_616_000_000_000),
        "10000-01-01 00:00:00",
    ),
    (
        TIMESTAMP,
        "294276-12-31 23:59:59.999999",
        struct.pack(">q", 9_223_371_331_199_999_999),
        "294276-12-31 23:59:59.999999",
    ),
    (TIMESTAMPTZ, "infinity", hexed("7fffffffffffffff"), "infinity"),
    (TIMESTAMPTZ, "-infinity", hexed("8000000000000000"), "-infinity"),
    (
        TIMESTAMPTZ,
        "0044-03-15 12:00:00.5+00 BC",
        struct.pack(">q", -746117 * 86_400_000_000 + 43_200_500_000),
        "0044-03-15 12:00:00.5+00 BC",
    ),
    (
        TIMESTAMPTZ,
        "294276-12-31 23:59:59.999999+00",
        struct.pack(">q", 9_223_371_331_199_999_999),
        "294276-12-31 23:59:59.999999+00",
    ),
    (JSON, "9" * 5000, b"9" * 5000, "9" * 5000),
    (JSONB, "[" + "9" * 5000 + "]", b"\x01[" + b"9" * 5000 + b"]", "[" + "9" * 5000 + "]"),
]

_FORM_IDS = [f"{type_oid}-{form[:20]}-{i}" for i, (type_oid, form, _, _) in enumerate(FORMS)]
forms = pytest.mark.parametrize(("type_oid", "text", "binary", "value"), FORMS, ids=_FORM_IDS)


@forms
def test_text_and_binary(
    decoder_impl: Any, type_oid: int, text: str, binary: bytes, value: Any
) -> None:
    assert same(load(decoder_impl, type_oid, encoder.text(text)), value)
    assert same(load(decoder_impl, type_oid, encoder.binary(binary)), value)


@pytest.mark.parametrize(
    ("type_oid", "text", "binary", "value"), [form for form in FORMS if form[0] != UNKNOWN_TYPE]
)
def test_in_an_array(
    decoder_impl: Any, type_oid: int, text: str, binary: bytes, value: Any
) -> None:
    array = {element: array for array, element in oids.ARRAY_ELEMENT.items()}[type_oid]
    cell = encoder.text(sessions.array_text([text.encode(), None, text.encode()]))
    assert same(load(decoder_impl, array, cell), [value, None, value])
    cell = encoder.binary(sessions.array_binary(type_oid, [binary, None, binary]))
    assert same(load(decoder_impl, array, cell), [value, None, value])


@KINDS
@sessions.examples(60)
@given(data=st.data())
def test_both_forms_of_a_value_are_equal(
    decoder_impl: Any, kind: sessions.Kind, data: st.DataObject
) -> None:
    text, binary = data.draw(kind.pairs)
    from_text = load(decoder_impl, kind.oid, encoder.text(text))
    assert same(from_text, load(decoder_impl, kind.oid, encoder.binary(binary)))


@ARRAYS
@sessions.examples(60)
@given(data=st.data())
def test_both_forms_of_an_array_are_equal(
    decoder_impl: Any, kind: sessions.Kind, data: st.DataObject
) -> None:
    text, binary = data.draw(sessions.arrays_of(kind))
    from_text = load(decoder_impl, kind.array, encoder.text(text))
    assert type(from_text) is list
    assert same(from_text, load(decoder_impl, kind.array, encoder.binary(binary)))


# Text forms that a server may send besides those above.

TEXTS: list[tuple[int, bytes, Any]] = [
    (FLOAT8, b"1e-5", 1e-5),
    (FLOAT4, b"1e+22", 1e22),
    (NUMERIC, b"-0.00", Decimal("-0.00")),
    (BYTEA, b"", b""),  # bytea_output = escape
    (BYTEA, b"abc", b"abc"),
    (BYTEA, b"a\\\\b\\000\\377\\134", b"a\\b\x00\xff\\"),
    (BYTEA, b"\\xDEADbeef", b"\xde\xad\xbe\xef"),
    (TIMESTAMPTZ, b"2026-11-22 08:12:00+05:30", datetime(2026, 11, 22, 2, 42, tzinfo=UTC)),
    (TIMESTAMPTZ, b"2026-11-22 08:12:00-08", datetime(2026, 11, 22, 16, 12, tzinfo=UTC)),
    (TIMESTAMPTZ, b"1880-01-01 00:00:00-07:52:58", datetime(1880, 1, 1, 7, 52, 58, tzinfo=UTC)),
    (TIMESTAMPTZ, b"0001-01-01 00:00:00+01", "0001-01-01 00:00:00+01"),
    (TIMESTAMPTZ, b"9999-12-31 23:59:59-01", "9999-12-31 23:59:59-01"),
    (DATE, b"22/11/2026", "22/11/2026"),  # another DateStyle
    (TEXT, b"\xff", b"\xff"),
    (TEXT, b"\xed\xa0\x80", b"\xed\xa0\x80"),
    (TEXT, b"a\x00b", "a\x00b"),
    (JSON, b'"\xff"', b'"\xff"'),
    (JSON, b"[" * 100_000 + b"]" * 100_000, "[" * 100_000 + "]" * 100_000),
    (18, b"\\377", "\\377"),  # "char"
    (18, b"\xff", "\\377"),  # from PostgreSQL 14
    (600, b"(1.5,-2.5)", "(1.5,-2.5)"),  # point
    (16999, b"happy", "happy"),
    (0, b"x", "x"),
    (2**32 - 1, b"x", "x"),
]


@pytest.mark.parametrize(("type_oid", "text", "value"), TEXTS)
def test_other_texts(decoder_impl: Any, type_oid: int, text: bytes, value: Any) -> None:
    assert same(load(decoder_impl, type_oid, encoder.text(text)), value)


@pytest.mark.parametrize("type_oid", [0, 1033, 3642, 16999, 2**32 - 1])
@pytest.mark.parametrize("data", [b"", b"text", b"\x00\xff"])
def test_binary_of_a_type_without_a_loader_is_bytes(
    decoder_impl: Any, type_oid: int, data: bytes
) -> None:
    assert same(load(decoder_impl, type_oid, encoder.binary(data)), data)


@pytest.mark.parametrize("type_oid", [TEXT, VARCHAR, BPCHAR, NAME, XML])
def test_binary_text_that_is_not_utf8_is_bytes(decoder_impl: Any, type_oid: int) -> None:
    assert same(load(decoder_impl, type_oid, encoder.binary(b"a\xff")), b"a\xff")


@pytest.mark.parametrize(
    ("type_oid", "text", "binary"),
    [
        (3614, b"'a\xff':1A 'b'", b"\0\0\0\2a\xff\0\0\1\xc0\1b\0\0\0"),
        (3614, b"'\xc3\xb6' '\xff'''", b"\0\0\0\2\xc3\xb6\0\0\0\xff'\0\0\0"),
        (3615, b"'a\xff' & !'b'", b"\0\0\0\4\2\2\2\1\1\0\0b\0\1\0\0a\xff\0"),
        (4072, b'$."a\xff"', b'\1$."a\xff"'),
    ],
)
def test_text_of_the_server_that_is_not_utf8_is_bytes(
    decoder_impl: Any, type_oid: int, text: bytes, binary: bytes
) -> None:
    """In a SQL_ASCII database, whichever type holds it: an error would come at every start."""
    assert same(load(decoder_impl, type_oid, encoder.text(text)), text)
    assert same(load(decoder_impl, type_oid, encoder.binary(binary)), text)


def test_json_that_is_not_utf8_is_bytes_in_binary_too(decoder_impl: Any) -> None:
    assert same(load(decoder_impl, JSON, encoder.binary(b'"\xff"')), b'"\xff"')
    assert same(load(decoder_impl, JSONB, encoder.binary(b'\x01"\xff"')), b'"\xff"')


def test_json_keeps_the_order_of_its_keys(decoder_impl: Any) -> None:
    value = load(decoder_impl, JSON, encoder.text('{"b": 1, "a": 2}'))
    assert list(value) == ["b", "a"]


# Numbers.


@sessions.examples(300)
@given(st.integers(0, 2**32 - 1) | st.sampled_from([e << 23 for e in range(256)]))
def test_float4_is_the_double_of_its_text(decoder_impl: Any, bits: int) -> None:
    data = struct.pack(">I", bits)
    text = sessions.float4_text(struct.unpack(">f", data)[0])
    value = load(decoder_impl, FLOAT4, encoder.binary(data))
    assert same(value, float(text))
    assert same(value, load(decoder_impl, FLOAT4, encoder.text(text)))


@pytest.mark.parametrize("exponent", range(256))
def test_float4_at_the_powers_of_two(decoder_impl: Any, exponent: int) -> None:
    """There the distance to the next smaller number is half that to the next greater one."""
    for bits in (exponent << 23, (exponent << 23) + 1, (exponent << 23) + 0x7FFFFF):
        data = struct.pack(">I", bits)
        text = sessions.float4_text(struct.unpack(">f", data)[0])
        assert same(load(decoder_impl, FLOAT4, encoder.binary(data)), float(text))


def test_float4_half_way_between_two(decoder_impl: Any) -> None:
    """PostgreSQL does not print a decimal that lies half-way to the next number, short as it
    may be: 6.71089e7 reads as 67108896 by the rule of even digits alone.
    """
    data = struct.pack(">f", 67108896.0)
    assert load(decoder_impl, FLOAT4, encoder.text("6.7108896e+07")) == 67108896.0
    assert load(decoder_impl, FLOAT4, encoder.binary(data)) == 67108896.0


def test_decimals_do_not_depend_on_the_context(decoder_impl: Any) -> None:
    text = "-123456789012345678901234567890.1234567890"
    with decimal.localcontext(prec=3, Emax=5, Emin=-5) as context:
        for signal in context.traps:
            context.traps[signal] = False
        from_text = load(decoder_impl, NUMERIC, encoder.text(text))
        binary = sessions.numeric_binary(text)
        from_binary = load(decoder_impl, NUMERIC, encoder.binary(binary))
        refuse(decoder_impl, NUMERIC, encoder.text("one"))
        for signal in context.traps:
            context.traps[signal] = True
        assert same(load(decoder_impl, NUMERIC, encoder.text(text)), from_text)
        assert same(load(decoder_impl, NUMERIC, encoder.binary(binary)), from_binary)
    assert same(from_text, Decimal(text))
    assert same(from_binary, Decimal(text))


@given(st.booleans(), st.integers(0, 10**24), st.integers(0, 24))
@example(True, 10**18 - 1, 0)
@example(False, 10**18, 18)
@example(True, 0, 3)
@example(False, 5, 20)
def test_a_decimal_is_one_like_all_others(
    decoder_impl: Any, negative: bool, number: int, scale: int
) -> None:
    """Also where it was not made by ``Decimal``, but of its digits."""
    digits = f"{number:0{scale + 1}d}"
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    text = f"{'-' if negative else ''}{whole}{'.' if scale else ''}{fraction}"
    wanted = Decimal(text)
    forms = [encoder.text(text)]
    if number or not negative:  # the server has no -0
        forms.append(encoder.binary(sessions.numeric_binary(text)))
    for cell in forms:
        value = load(decoder_impl, NUMERIC, cell)
        assert same(value, wanted)
        assert value.as_tuple() == wanted.as_tuple()
        assert hash(value) == hash(wanted)
        assert sys.getsizeof(value) == sys.getsizeof(wanted)
        for other in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), +value - 0):
            assert other == wanted
        for result in (value * 3, value.sqrt() if value >= 0 else -value, value.scaleb(-3)):
            assert type(result) is Decimal
        assert value + wanted == 2 * wanted
        assert f"{value:,.2f}" == f"{wanted:,.2f}"
        assert value.normalize().as_tuple() == wanted.normalize().as_tuple()


def test_numeric_scale_is_kept(decoder_impl: Any) -> None:
    for text in ("0", "0.0", "0.000", "10", "10.0", "10.00"):
        cell = encoder.binary(sessions.numeric_binary(text))
        assert str(load(decoder_impl, NUMERIC, cell)) == text


# Arrays.


def test_arrays_of_text(decoder_impl: Any) -> None:
    values: list[tuple[str, list[Any]]] = [
        ("{}", []),
        ('{""}', [""]),
        ("{NULL}", [None]),
        ('{"NULL"}', ["NULL"]),
        ('{"null",null}', ["null", "null"]),
        ("{a,b c,NULL}", ["a", "b c", None]),
        (r'{"a\"b","c\\d","{}",","}', ['a"b', "c\\d", "{}", ","]),
        ("{größe,\U0001f600}", ["größe", "\U0001f600"]),
        ("[0:1]={a,b}", ["a", "b"]),
        ("[-3:-3]={a}", ["a"]),
        ("{{a,b},{c,NULL}}", [["a", "b"], ["c", None]]),
        ("[1:1][0:1]={{a,b}}", [["a", "b"]]),
        ("{{{{{{a}}}}}}", [[[[[["a"]]]]]]),
    ]
    for text, value in values:
        assert same(load(decoder_impl, 1009, encoder.text(text)), value)


def test_arrays_in_binary(decoder_impl: Any) -> None:
    ints = [struct.pack(">i", number) for number in range(1, 7)]
    values: list[tuple[bytes, list[Any]]] = [
        (sessions.array_binary(INT4, []), []),
        (sessions.array_binary(INT4, ints), [1, 2, 3, 4, 5, 6]),
        (sessions.array_binary(INT4, [None]), [None]),
        (sessions.array_binary(INT4, ints[:2], [(2, 0)]), [1, 2]),
        (sessions.array_binary(INT4, ints, [(2, 1), (3, -5)]), [[1, 2, 3], [4, 5, 6]]),
        (
            sessions.array_binary(INT4, ints, [(3, 1), (1, 1), (2, 1)]),
            [[[1, 2]], [[3, 4]], [[5, 6]]],
        ),
        (sessions.array_binary(INT4, ints[:1], [(1, 1)] * 6), [[[[[[1]]]]]]),
        # The element type of an array of a domain is the domain.
        (sessions.array_binary(16999, ints[:1]), [1]),
    ]
    for data, value in values:
        assert same(load(decoder_impl, 1007, encoder.binary(data)), value)


def test_every_array_type_has_a_loader(decoder_impl: Any) -> None:
    for array in oids.ARRAY_ELEMENT:
        assert load(decoder_impl, array, encoder.text("{NULL}")) == [None]
        empty = sessions.array_binary(oids.ARRAY_ELEMENT[array], [])
        assert load(decoder_impl, array, encoder.binary(empty)) == []


# Malformed values.

BAD_TEXTS: list[tuple[int, list[bytes]]] = [
    (BOOL, [b"", b"true", b"T", b"1", b"tt", b"\xff"]),
    (
        INT4,
        [b"", b"-", b"+1", b" 1", b"1 ", b"1\n", b"1.0", b"0x1", b"1_0", b"--1", b"one", b"1\x00"],
    ),
    (INT8, [b"9223372036854775808", b"-9223372036854775809", b"9" * 20, b"9" * 5000]),
    (INT4, ["\N{ARABIC-INDIC DIGIT ONE}".encode(), "\N{SUPERSCRIPT TWO}".encode(), b"\xff"]),
    (FLOAT8, [b"", b"x", b"1_0", b"1,5", b"1.5x", b"0x1p3", b"1\x00", b"\xff", b"- 1"]),
    (FLOAT4, [b"", b"one", b"1__0"]),
    (NUMERIC, [b"", b"x", b"1.2.3", b"--1", b"1,5", b"\xff", b"1\x00"]),
    (NUMERIC, ["\N{ARABIC-INDIC DIGIT ONE}".encode(), b"1_0", b"sNaN", b"NaN1"]),
    (BYTEA, [b"\\x0", b"\\xzz", b"\\x0 1", b"\\", b"\\1", b"\\400", b"a\\b"]),
    (
        UUID_TYPE,
        [
            b"",
            b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
            b"a0eebc999c0b4ef8bb6d6bb9bd380a11",
            b"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
            b"a0eebc99-9c0b-4ef8-bb6d6-bb9bd380a11",
            b"+0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ],
    ),
    (DATE, [b"\xff", "größe".encode()]),
    (TIME, [b"\xff"]),
    (TIMESTAMP, [b"\xff"]),
    (TIMESTAMPTZ, [b"2026-11-22 08:12:00+00\xff"]),
    (
        1007,
        [
            b"",
            b"1",
            b"{",
            b"}",
            b"{1",
            b"{1,",
            b"{,}",
            b"{1,}",
            b"{,1}",
            b"{1}}",
            b"{1}x",
            b"x{1}",
            b"{1}{2}",
            b'{"1}',
            b'{"1"2}',
            b'{1"2"}',
            b"{1{2}}",
            b"{{1}2}",
            b"{x}",
            b"{1\\}",
            b'{"1\\',
            b'{"\\',
            b'{"',
            b"[0:1]",
            b"[0:1]=",
            b"[0:1",
            b"{{{{{{{1}}}}}}}",
            b"{" * 100_000,
        ],
    ),
    (1009, [b"{a", b'{"a"b}', b"{a\\b}"]),
    (3807, [b"{" * 7 + b"}" * 7]),
]

BAD_BINARIES: list[tuple[int, list[bytes]]] = [
    (BOOL, [b"", b"\x02", b"\xff", b"\x00\x00", b"t"]),
    (INT2, [b"", b"\x00", bytes(3), bytes(4)]),
    (INT4, [b"", bytes(3), bytes(5), bytes(8)]),
    (INT8, [b"", bytes(4), bytes(7), bytes(9)]),
    (OID, [b"", bytes(3), bytes(5)]),
    (XID, [b"", bytes(8)]),
    (FLOAT4, [b"", bytes(3), bytes(8)]),
    (FLOAT8, [b"", bytes(4), bytes(9)]),
    (
        NUMERIC,
        [
            b"",
            bytes(7),
            bytes(9),
            hexed("0001 0000 0000 0000"),
            hexed("0000 0000 0000 0000 0001"),
            hexed("ffff 0000 0000 0000"),
            hexed("0001 0000 0001 0000 0001"),
            hexed("0000 0000 e000 0000"),
            hexed("0001 0000 0000 0000 2710"),
            hexed("0001 0000 0000 0000 ffff"),
        ],
    ),
    (UUID_TYPE, [b"", bytes(15), bytes(17), b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    (JSONB, [b"", b"\x00{}", b"\x02{}", b"{}"]),
    (DATE, [b"", bytes(3), bytes(5), bytes(8)]),
    (TIME, [b"", bytes(4), bytes(9), b"\xff" * 8, struct.pack(">q", 86_400_000_001)]),
    (TIMESTAMP, [b"", bytes(7), bytes(9)]),
    (TIMESTAMPTZ, [b"", bytes(4), bytes(9)]),
    (
        1007,
        [
            b"",
            bytes(11),
            bytes(13),
            struct.pack(">iiI", -1, 0, INT4),
            struct.pack(">iiI", 7, 0, INT4) + struct.pack(">ii", 1, 1) * 7 + bytes(8),
            struct.pack(">iiI", 2**31 - 1, 0, INT4),
            struct.pack(">iiIii", 1, 0, INT4, 0, 1),
            struct.pack(">iiIii", 1, 0, INT4, -1, 1),
            struct.pack(">iiIii", 1, 0, INT4, 1, 1),
            struct.pack(">iiIii", 1, 0, INT4, 2**31 - 1, 1) + bytes(64),
            struct.pack(">iiI", 6, 0, INT4) + struct.pack(">ii", 2**31 - 1, 1) * 6,
            struct.pack(">iiIiii", 1, 0, INT4, 1, 1, 4),
            struct.pack(">iiIiii", 1, 0, INT4, 1, 1, -2),
            struct.pack(">iiIiii", 1, 0, INT4, 1, 1, 2**31 - 1),
            struct.pack(">iiIiii", 1, 0, INT4, 1, 1, 3) + bytes(3),
            struct.pack(">iiIiiii", 1, 0, INT4, 1, 1, 4, 7) + b"x",
            struct.pack(">iiIiiii", 1, 0, INT4, 2, 1, 4, 7),
            struct.pack(">iiIiiiiii", 2, 0, INT4, 1, 1, 2, 1, -1, 4),
        ],
    ),
    (1000, [sessions.array_binary(BOOL, [b"\x02"])]),
    (3807, [sessions.array_binary(JSONB, [b"{}"])]),
]


@pytest.mark.parametrize(
    ("type_oid", "text"), [(oid, text) for oid, texts in BAD_TEXTS for text in texts]
)
def test_malformed_text(decoder_impl: Any, type_oid: int, text: bytes) -> None:
    refuse(decoder_impl, type_oid, encoder.text(text))


@pytest.mark.parametrize(
    ("type_oid", "data"), [(oid, data) for oid, listed in BAD_BINARIES for data in listed]
)
def test_malformed_binary(decoder_impl: Any, type_oid: int, data: bytes) -> None:
    refuse(decoder_impl, type_oid, encoder.binary(data))


@KINDS
@sessions.examples(60)
@given(data=st.data())
def test_a_value_or_a_protocol_error(
    decoder_impl: Any, kind: sessions.Kind, data: st.DataObject
) -> None:
    """Whatever stands in the place of a value, nothing else comes of it."""
    type_oid = data.draw(st.sampled_from([kind.oid, kind.array or kind.oid]))
    pairs = sessions.VALUES[type_oid]
    form = data.draw(st.sampled_from([0, 1]))
    value = data.draw(sessions.mutated(pairs.map(lambda pair: pair[form])) | st.binary(max_size=40))
    cell = (encoder.text, encoder.binary)[form](value)
    try:
        load(decoder_impl, type_oid, cell)
    except ProtocolError:
        refuse(decoder_impl, type_oid, cell)


def test_sessions_knows_every_type_that_has_a_loader_in_c() -> None:
    """So that the tests with random values reach all of them."""
    registered = Loaders("typed", json.loads)
    compiled = importlib.import_module("pgstream.types._loaders").COMPILED
    named = [value for name, value in vars(oids).items() if name.isupper()]
    in_c = {
        oid
        for oid in named
        if isinstance(oid, int)
        and oid != oids.FIRST_OF_OTHERS
        and {registered.text(oid), registered.binary(oid)} <= compiled.keys() | {bytes}
    }
    in_c -= oids.WITHOUT_BINARY
    assert in_c <= {kind.oid for kind in sessions.KINDS}
    assert len(in_c) > 15
    for kind in sessions.KINDS:
        assert kind.array is None or oids.ARRAY_ELEMENT[kind.array] == kind.oid


def test_json_matches_the_standard_library(decoder_impl: Any) -> None:
    document = '{"a": [1, -0.0, 1e5, "\\u00e9", null, true], "": {}}'
    assert same(load(decoder_impl, JSON, encoder.text(document)), json.loads(document))
