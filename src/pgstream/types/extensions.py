"""Loaders of the types of well-known extensions, which are found by their names.

hstore, citext, ltree and cube (``contrib/`` of PostgreSQL), pgvector.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from .numbers import float4_binary, float_text, text_of_float4, text_of_float8
from .strings import text

_STRING: Final = rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'  # possessive, as quoting.QUOTED is
_PAIR: Final = re.compile(_STRING + b"=>(?:NULL|" + _STRING + rb")(?:, |\Z)", re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_SPARSE: Final = struct.Struct(">iii")


def hstore_text(raw: bytes) -> dict[str | bytes, str | bytes | None]:
    """``"a"=>"1", "b"=>NULL``."""
    pairs: dict[str | bytes, str | bytes | None] = {}
    at = 0
    while at < len(raw):
        match = _PAIR.match(raw, at)
        if match is None:
            raise ValueError("not a pair")
        key, value = match.groups()
        pairs[_unescaped(key)] = None if value is None else _unescaped(value)
        at = match.end()
    return pairs


def hstore_binary(raw: bytes) -> dict[str | bytes, str | bytes | None]:
    """i32 pairs, for each: i32 length, key, i32 length or -1, value."""
    return {text(key): None if value is None else text(value) for key, value in _pairs(raw)}


def hstore_binary_as_text(raw: bytes) -> str | bytes:
    """PostgreSQL's text of an hstore in its binary form."""
    pairs = [
        _quoted(key) + b"=>" + (b"NULL" if value is None else _quoted(value))
        for key, value in _pairs(raw)
    ]
    return text(b", ".join(pairs))


def ltree_binary(raw: bytes) -> str | bytes:
    """A version byte, 1, then the text: ltree, lquery, ltxtquery."""
    if raw[:1] != b"\x01":
        raise ValueError("unknown version")
    return text(raw[1:])


def cube_binary(raw: bytes) -> str:
    """u32, its top bit for a point, the rest dimensions; float8 for a corner, or for two."""
    (header,) = struct.unpack_from(">I", raw)
    dimensions, is_point = header & 0x7FFFFFFF, header >> 31
    count = dimensions * (1 if is_point else 2)
    if len(raw) != 4 + 8 * count:
        raise ValueError("not as long as its dimensions say")
    numbers = [text_of_float8(number) for number in struct.unpack_from(f">{count}d", raw, 4)]
    corner = f"({', '.join(numbers[:dimensions])})"
    return corner if is_point else f"{corner},({', '.join(numbers[dimensions:])})"


def vector_text(raw: bytes) -> list[float]:
    """``[1,2.5,3]``: vector and halfvec."""
    if raw[:1] != b"[" or raw[-1:] != b"]":
        raise ValueError("not a vector")
    return [float_text(item) for item in raw[1:-1].split(b",")] if len(raw) > 2 else []


def vector_binary(raw: bytes) -> list[float]:
    """u16 dimensions, u16 0, float4 for each: the doubles that PostgreSQL's text reads as."""
    count = _dimensions(raw, 4)
    return [float4_binary(raw[at : at + 4]) for at in range(4, 4 + 4 * count, 4)]


def halfvec_binary(raw: bytes) -> list[float]:
    """u16 dimensions, u16 0, a half-precision float for each."""
    count = _dimensions(raw, 2)
    halves = struct.unpack_from(f">{count}e", raw, 4)
    # pgvector writes a half as the float4 that it is.
    return [float4_binary(struct.pack(">f", half)) for half in halves]


def sparsevec_binary(raw: bytes) -> str:
    """i32 dimensions, i32 elements, i32 0, their i32 indices from 0, their float4:
    ``{1:1.5,3:2}/5``, which counts from 1.
    """
    dimensions, count, _unused = _SPARSE.unpack_from(raw)
    if len(raw) != 12 + 8 * count:
        raise ValueError("not as long as its count says")
    indices = struct.unpack_from(f">{count}i", raw, 12)
    start = 12 + 4 * count
    elements = [
        f"{index + 1}:{text_of_float4(raw[start + 4 * at : start + 4 * at + 4])}"
        for at, index in enumerate(indices)
    ]
    return f"{{{','.join(elements)}}}/{dimensions}"


def _dimensions(raw: bytes, size: int) -> int:
    count: int = struct.unpack_from(">HH", raw)[0]
    if len(raw) != 4 + size * count:
        raise ValueError("not as long as its dimensions say")
    return count


def _unescaped(item: bytes) -> str | bytes:
    return text(_ESCAPED.sub(rb"\1", item) if b"\\" in item else item)


def _quoted(item: bytes) -> bytes:
    return b'"' + item.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _pairs(raw: bytes) -> list[tuple[bytes, bytes | None]]:
    (count,) = struct.unpack_from(">i", raw)
    if not 0 <= count <= len(raw) // 8:
        raise ValueError("more pairs than bytes")
    at = 4
    pairs = []
    for _ in range(count):
        key, at = _item(raw, at)
        if key is None:
            raise ValueError("a pair without a key")
        value, at = _item(raw, at)
        pairs.append((key, value))
    if at != len(raw):
        raise ValueError("something after the last pair")
    return pairs


def _item(raw: bytes, at: int) -> tuple[bytes | None, int]:
    (length,) = struct.unpack_from(">i", raw, at)
    at += 4
    if length == -1:
        return None, at
    if not 0 <= length <= len(raw) - at:
        raise ValueError("impossible length")
    return raw[at : at + length], at + length
