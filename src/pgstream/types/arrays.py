"""Loaders of arrays (``src/backend/utils/adt/arrayfuncs.c``): lists, nested by dimension."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from . import numbers

MAX_DIMENSIONS: Final = 6  # MAXDIM of the server

COMMA: Final = ord(",")
_LEFT, _RIGHT, _QUOTE, _BACKSLASH = b'{}"\\'
_header = struct.Struct(">iiI").unpack_from
_dimension = struct.Struct(">ii").unpack_from
_one_dimension = struct.Struct(">i8xi4x").unpack_from  # dimensions, their first's size
_NUMBERS: Final[dict[Callable[[bytes], Any], tuple[int, Callable[[bytes], Iterable[Any]]]]] = {
    # a loader of numbers: their size, and what reads them, each with its length before it
    numbers.int2_binary: (2, struct.Struct(">ih").iter_unpack),
    numbers.int4_binary: (4, struct.Struct(">ii").iter_unpack),
    numbers.int8_binary: (8, struct.Struct(">iq").iter_unpack),
    numbers.oid_binary: (4, struct.Struct(">iI").iter_unpack),
    numbers.float8_binary: (8, struct.Struct(">id").iter_unpack),
}
_length = struct.Struct(">i").unpack_from
_is_plain = re.compile(rb'\{[^{}"\\]+\}').fullmatch  # one dimension, nothing quoted
_are_ints = re.compile(rb"\{-?\d{1,18}(?:,-?\d{1,18})*\}").fullmatch  # that fit


class ArrayText:
    """Loads ``{1,2,NULL}``, ``{{"a","b"}}``, ``[0:1]={…}`` with the element's loader.

    Lower bounds are dropped, as psycopg drops them.

    Args:
        element: The element's loader.
        delimiter: The byte between elements: a comma, for box a semicolon.
    """

    def __init__(self, element: Callable[[bytes], Any], delimiter: int = COMMA) -> None:
        self.element = element
        self.delimiter = delimiter
        self._between = bytes([delimiter])
        self._special = bytes([delimiter]) + b'{}"\\'
        self._after = bytes([delimiter, _RIGHT])

    def __call__(self, raw: bytes) -> list[Any]:
        if self.element is numbers.int_text and _are_ints(raw):
            return list(map(int, raw[1:-1].split(b",")))
        if _is_plain(raw):
            items = raw[1:-1].split(self._between)
            if b"" not in items:
                element = self.element
                if b"NULL" not in items:
                    return list(map(element, items))
                return [None if item == b"NULL" else element(item) for item in items]
        start = 0
        if raw[:1] == b"[":  # lower bounds other than 1
            start = raw.index(b"=") + 1
        values, end = self._list(raw, start, 1)
        if end != len(raw):
            raise ValueError("something after the array")
        return values

    def _list(self, raw: bytes, at: int, depth: int) -> tuple[list[Any], int]:
        """The list that begins at ``at``, and the position after it."""
        if raw[at : at + 1] != b"{" or depth > MAX_DIMENSIONS:
            raise ValueError("no array here")
        at += 1
        values: list[Any] = []
        value: Any
        if raw[at : at + 1] == b"}":
            return values, at + 1
        while True:
            first = raw[at]
            if first == _LEFT:
                value, at = self._list(raw, at, depth + 1)
            elif first == _QUOTE:
                item, at = _quoted(raw, at + 1)
                value = self.element(item)
            else:
                item, at = self._unquoted(raw, at)
                value = None if item == b"NULL" else self.element(item)
            values.append(value)
            after = raw[at]
            at += 1
            if after == _RIGHT:
                return values, at
            if after != self.delimiter:
                raise ValueError("neither a delimiter nor } after an element")

    def _unquoted(self, raw: bytes, at: int) -> tuple[bytes, int]:
        """The bare element, and the position of the delimiter after it."""
        start = at
        while raw[at] not in self._special:
            at += 1
        if at == start or raw[at] not in self._after:
            raise ValueError("not an element")
        return raw[start:at], at


class ArrayBinary:
    """Loads i32 dimensions, i32 flags, u32 element type, (i32 size, i32 lower bound) for
    each dimension, then the elements in row-major order, each with an i32 length, -1 for NULL.
    """

    def __init__(self, element: Callable[[bytes], Any]) -> None:
        self.element = element
        self._numbers = _NUMBERS.get(element)

    def __call__(self, raw: bytes) -> list[Any]:
        if self._numbers is not None and len(raw) > 20:
            # Of one dimension, and with no NULL among them, they can be read in one go.
            size, read = self._numbers
            dimensions, count = _one_dimension(raw)
            if dimensions == 1 and len(raw) == 20 + count * (4 + size):
                flat = [number for length, number in read(raw[20:]) if length == size]
                if len(flat) == count:
                    return flat
        if len(raw) < 12:
            raise ValueError("shorter than its header")
        dimensions, _flags, _type = _header(raw)
        at = 12
        if not 0 <= dimensions <= MAX_DIMENSIONS or len(raw) < at + 8 * dimensions:
            raise ValueError("impossible number of dimensions")
        sizes = []
        room = (len(raw) - at - 8 * dimensions) // 4  # each element has a length, at least
        count = 1 if dimensions else 0
        for _ in range(dimensions):
            size, _lower = _dimension(raw, at)
            at += 8
            count *= size
            if size < 1 or count > room:
                raise ValueError("more elements than bytes")
            sizes.append(size)
        flat = []
        element = self.element
        for _ in range(count):
            length = _length(raw, at)[0]  # raises where it is not there
            at += 4
            if length == -1:
                flat.append(None)
                continue
            start = at
            at += length
            if length < 0 or at > len(raw):
                raise ValueError("impossible element length")
            flat.append(element(raw[start:at]))
        if at != len(raw):
            raise ValueError("something after the array")
        return flat if dimensions < 2 else nest(flat, sizes)


def nest(flat: list[Any], sizes: list[int]) -> list[Any]:
    """Fold a flat, row-major list into lists of lists, one level for each of ``sizes``."""
    for size in reversed(sizes[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return flat


def _quoted(raw: bytes, at: int) -> tuple[bytes, int]:
    """The element between quotes, its escapes undone, and the position after the quote."""
    item = bytearray()
    while True:
        byte = raw[at]
        at += 1
        if byte == _QUOTE:
            return bytes(item), at
        if byte == _BACKSLASH:
            byte = raw[at]
            at += 1
        item.append(byte)
