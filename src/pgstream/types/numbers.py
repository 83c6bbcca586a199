"""Loaders of numbers, bool and money.

``src/backend/utils/adt/{bool,int,int8,float,numeric,cash}.c``
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from math import copysign, inf, isinf, nextafter
from typing import Final

_INT8_MIN: Final = -(2**63)
_INT8_MAX: Final = 2**63 - 1

_unpack_int2 = struct.Struct(">h").unpack
_unpack_int4 = struct.Struct(">i").unpack
_unpack_int8 = struct.Struct(">q").unpack
_unpack_uint4 = struct.Struct(">I").unpack
_float4 = struct.Struct(">f")
_unpack_float8 = struct.Struct(">d").unpack
_numeric_header = struct.Struct(">HhHH")
# By size: header and digits of the numerics that are usual, for arithmetic of small integers.
_SHORT_NUMERIC: Final = {
    8 + 2 * count: struct.Struct(f">HhHH{count}H").unpack for count in range(10)
}

_FLOAT4_MIN_NORMAL: Final = 2.0**-126
_FLOAT4_MAX: Final = 0x7F7FFFFF  # as bits

_DIGITS: Final = re.compile(rb"[0-9]+")
_MINUS_SIGN: Final = "\N{MINUS SIGN}".encode()
_NUMERIC_TEXT: Final = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?|NaN|-?Infinity")
_MAX_SCALE: Final = 0x3FFF
_NUMERIC_SPECIAL: Final = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}


def bool_text(raw: bytes) -> bool:
    """``t`` or ``f``."""
    if raw == b"t":
        return True
    if raw == b"f":
        return False
    raise ValueError("neither t nor f")


def bool_binary(raw: bytes) -> bool:
    """One byte, 1 or 0."""
    if raw == b"\x01":
        return True
    if raw == b"\x00":
        return False
    raise ValueError("neither 1 nor 0")


def int_text(raw: bytes) -> int:
    """Decimal digits of int2, int4, int8, oid or xid."""
    if len(raw) < 19 and raw.isdigit():  # most of them, which fit
        return int(raw)
    digits = raw[1:] if raw[:1] == b"-" else raw
    if not digits.isdigit() or len(digits) > 19:
        raise ValueError("not an integer")
    value = int(raw)
    if not _INT8_MIN <= value <= _INT8_MAX:
        raise ValueError("beyond 64 bits")
    return value


def int2_binary(raw: bytes) -> int:
    """Two bytes, signed."""
    value: int = _unpack_int2(raw)[0]
    return value


def int4_binary(raw: bytes) -> int:
    """Four bytes, signed."""
    value: int = _unpack_int4(raw)[0]
    return value


def int8_binary(raw: bytes) -> int:
    """Eight bytes, signed."""
    value: int = _unpack_int8(raw)[0]
    return value


def oid_binary(raw: bytes) -> int:
    """Four bytes, unsigned: oid and xid."""
    value: int = _unpack_uint4(raw)[0]
    return value


def float_text(raw: bytes) -> float:
    """The shortest decimal that reads back as the same number, or NaN, ±Infinity."""
    if b"_" in raw:
        raise ValueError("not a number")
    return float(raw)


def float4_binary(raw: bytes) -> float:
    """Four bytes, IEEE: the double that PostgreSQL's own text of it reads as.

    Widening the 32 bits would turn 1.1 into 1.100000023841858, which no one stored and
    which the text transfer does not give. So this looks for the shortest decimal between
    the midpoints to the two neighbours, as the server does (``src/common/f2s.c``).
    """
    value: float = _float4.unpack(raw)[0]
    if value - value != 0.0 or value == 0.0:  # NaN, infinities, zeros
        return value
    bits = int.from_bytes(raw, "big") & 0x7FFFFFFF
    magnitude = abs(value)
    low = (_float4_of(bits - 1) + magnitude) / 2
    high = (_float4_of(bits + 1) + magnitude) / 2 if bits < _FLOAT4_MAX else inf
    # Up to 6 digits are always unique to a normal number; a subnormal has fewer.
    for digits in range(6 if magnitude >= _FLOAT4_MIN_NORMAL else 1, 10):
        text = f"{magnitude:.{digits - 1}e}"
        nearest = float(text)
        if low < nearest < high:
            return copysign(nearest, value)
        if bits & 0x7FFFFF == 0:
            # A power of two has its lower neighbour at half the distance: the nearest
            # decimal may lie below the midpoint while the next one up is inside.
            mantissa, _, exponent = text.partition("e")
            above = int(mantissa.replace(".", "")) + 1
            further = float(f"{above}e{int(exponent) - digits + 1}")
            if low < further < high:
                return copysign(further, value)
    return value


def float8_binary(raw: bytes) -> float:
    """Eight bytes, IEEE."""
    value: float = _unpack_float8(raw)[0]
    return value


def numeric_text(raw: bytes) -> Decimal:
    """Decimal digits, the scale kept, or NaN, ±Infinity."""
    # Decimal would take more, and where its context says so, turn the rest into NaN.
    whole, point, decimals = raw.partition(b".")
    plain = whole.isdigit() and (decimals.isdigit() or not point)
    if not plain and not _NUMERIC_TEXT.fullmatch(raw):
        raise ValueError("not a number")
    return Decimal(raw.decode())


def numeric_binary(raw: bytes) -> Decimal:
    """Base-10000 digits: u16 count, i16 weight, u16 sign, u16 display scale, the digits."""
    layout = _SHORT_NUMERIC.get(len(raw))
    if layout is not None:
        count, weight, sign, scale, *groups = layout(raw)
        if count == len(groups) and sign in (0, 0x4000) and scale < 40 and -10 < weight < 10:
            number = 0
            for group in groups:
                if group > 9999:
                    raise ValueError("digit beyond 9999")
                number = number * 10_000 + group
            surplus = 4 * (count - 1 - weight) - scale  # decimals sent beyond its scale
            if surplus > 0:
                number, rest = divmod(number, 10**surplus)
                if rest:
                    raise ValueError("digits beyond its scale")
            elif surplus:
                number *= 10**-surplus
            return Decimal(f"{'-' if sign else ''}{number}E-{scale}")
    return Decimal(text_of_numeric(raw))


def numeric_text_as_str(raw: bytes) -> str:
    """PostgreSQL's text of a numeric, for ``numeric="str"``."""
    if not _NUMERIC_TEXT.fullmatch(raw):
        raise ValueError("not a number")
    return raw.decode()


def numeric_text_as_float(raw: bytes) -> float | str:
    """The nearest float, for ``numeric="float"``; text beyond the largest one."""
    return _float_of_numeric(numeric_text_as_str(raw))


def numeric_binary_as_float(raw: bytes) -> float | str:
    """As :func:`numeric_text_as_float`, from the binary form."""
    return _float_of_numeric(text_of_numeric(raw))


def text_of_numeric(raw: bytes) -> str:
    """PostgreSQL's text of a numeric in its binary form."""
    if len(raw) < 8:
        raise ValueError("shorter than its header")
    count, weight, sign, scale = _numeric_header.unpack_from(raw)
    if len(raw) != 8 + 2 * count:
        raise ValueError("not as long as its digit count says")
    if sign in _NUMERIC_SPECIAL:
        return _NUMERIC_SPECIAL[sign]
    if sign not in (0x0000, 0x4000):
        raise ValueError("unknown sign")
    if scale > _MAX_SCALE:
        raise ValueError("impossible scale")
    groups = struct.unpack_from(f">{count}H", raw, 8)
    if any(group > 9999 for group in groups):
        raise ValueError("digit beyond 9999")
    # Digit i stands for group * 10000^(weight - i).
    digits = "".join([f"{group:04d}" for group in groups])
    point = 4 * (weight + 1)
    if point <= 0:
        digits = "0" * (4 - point) + digits
        point = 4
    digits = digits.ljust(point + scale, "0")
    if digits[point + scale :].strip("0"):
        raise ValueError("digits beyond its scale")
    whole = digits[:point].lstrip("0") or "0"
    minus = "-" if sign else ""
    return f"{minus}{whole}.{digits[point : point + scale]}" if scale else minus + whole


def money_text(raw: bytes) -> int:
    """``$1,234.50``, ``-$1.00``, ``($1.00)``, ``1.234,50 €``: the number of the smallest units.

    The locale of the server decides where the point stands and how many digits follow it,
    and always the same number of them: so the digits are the number.
    """
    digits = b"".join(_DIGITS.findall(raw))
    if not 1 <= len(digits) <= 19:
        raise ValueError("not an amount")
    value = int(digits)
    if b"-" in raw or b"(" in raw or _MINUS_SIGN in raw:
        value = -value
    if not _INT8_MIN <= value <= _INT8_MAX:
        raise ValueError("beyond 64 bits")
    return value


def text_of_float8(value: float) -> str:
    """PostgreSQL's text of a float8 (``src/common/d2s.c``)."""
    return _text_of_float(_shortest(value), 15) if value - value == 0.0 else _special(value)


def text_of_float4(raw: bytes) -> str:
    """PostgreSQL's text of a float4 in its binary form."""
    value = float4_binary(raw)
    return _text_of_float(repr(value), 6) if value - value == 0.0 else _special(value)


def _special(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _shortest(value: float) -> str:
    """The fewest digits that only ``value`` is nearest to.

    Python also takes digits that lie half-way to the next number, where reading them back
    rounds the right way; PostgreSQL does not. Only integers beyond 2^53 have such digits.
    """
    text = repr(value)
    if abs(value) < 2.0**53:
        return text
    exact, shown = int(value), int(Decimal(text))
    neighbour = nextafter(value, inf if shown > exact else -inf)
    if shown == exact or 2 * shown != exact + int(neighbour):
        return text
    return next(
        text
        for text in (f"{value:.{digits}e}" for digits in range(17))
        if 2 * abs(int(Decimal(text)) - exact) < abs(int(neighbour) - exact)
    )


def _text_of_float(shortest: str, limit: int) -> str:
    """The same number, with an exponent where PostgreSQL writes one."""
    sign, digits, exponent = Decimal(shortest).as_tuple()
    minus = "-" if sign else ""
    shown = "".join(map(str, digits)).rstrip("0")
    if not shown:
        return minus + "0"
    first = len(digits) - 1 + int(exponent)  # the power of ten of the first digit
    if not -4 <= first < limit:
        fraction = f".{shown[1:]}" if len(shown) > 1 else ""
        return f"{minus}{shown[0]}{fraction}e{'-' if first < 0 else '+'}{abs(first):02d}"
    if first < 0:
        return f"{minus}0.{'0' * (-first - 1)}{shown}"
    whole, fraction = shown[: first + 1].ljust(first + 1, "0"), shown[first + 1 :]
    return f"{minus}{whole}.{fraction}" if fraction else minus + whole


def _float_of_numeric(text: str) -> float | str:
    value = float(text)
    return text if isinf(value) and "Inf" not in text else value


def _float4_of(bits: int) -> float:
    value: float = _float4.unpack(bits.to_bytes(4, "big"))[0]
    return value
