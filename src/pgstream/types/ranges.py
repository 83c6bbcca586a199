"""Loaders of ranges and multiranges (``src/backend/utils/adt/{rangetypes,multirangetypes}.c``).

They give psycopg's Range and Multirange, with the bounds that the subtype's loader gives.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final

from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from .quoting import QUOTED, unquoted

_BOUND: Final = b"(" + QUOTED + rb'|[^,"\\()\[\]]*)'
_RANGE: Final = re.compile(rb"([\[(])" + _BOUND + b"," + _BOUND + rb"([\])])", re.DOTALL)

_EMPTY, _LOWER_INC, _UPPER_INC, _LOWER_INF, _UPPER_INF = 0x01, 0x02, 0x04, 0x08, 0x10
_KNOWN: Final = _EMPTY | _LOWER_INC | _UPPER_INC | _LOWER_INF | _UPPER_INF


class RangeText:
    """Loads ``[1,5)``, ``(,"a b"]`` or ``empty``."""

    def __init__(self, element: Callable[[bytes], Any]) -> None:
        self.element = element

    def __call__(self, raw: bytes) -> Range[Any]:
        if raw == b"empty":
            return Range(empty=True)
        match = _RANGE.fullmatch(raw)
        if match is None:
            raise ValueError("not a range")
        opening, lower, upper, closing = match.groups()
        return Range(self._bound(lower), self._bound(upper), (opening + closing).decode())

    def _bound(self, item: bytes) -> Any:
        return self.element(unquoted(item)) if item else None


class MultirangeText:
    """Loads ``{[1,3),[5,9)}`` with the range's loader."""

    def __init__(self, element: Callable[[bytes], Any]) -> None:
        self.element = element

    def __call__(self, raw: bytes) -> Multirange[Any] | list[Any]:
        if raw == b"{}":
            return Multirange()
        ranges: list[Any] = []
        at = 0
        after = raw[:1]
        if after != b"{":
            raise ValueError("not a multirange")
        while after != b"}":
            match = _RANGE.match(raw, at + 1)
            if match is None:
                raise ValueError("not a range")
            ranges.append(self.element(match[0]))
            at = match.end()
            after = raw[at : at + 1]
            if after not in (b",", b"}"):
                raise ValueError("neither , nor } after a range")
        if at + 1 != len(raw):
            raise ValueError("something after the multirange")
        return multirange_of(ranges)


class RangeBinary:
    """Loads u8 flags, then for each bound that there is, the lower first: i32 length, bytes."""

    def __init__(self, element: Callable[[bytes], Any]) -> None:
        self.element = element

    def __call__(self, raw: bytes) -> Range[Any]:
        flags = raw[0]
        if flags & ~_KNOWN:
            raise ValueError("unknown flags")
        if flags & _EMPTY:
            if len(raw) != 1:
                raise ValueError("bounds of an empty range")
            return Range(empty=True)
        at = 1
        lower = upper = None
        if not flags & _LOWER_INF:
            lower, at = self._bound(raw, at)
        if not flags & _UPPER_INF:
            upper, at = self._bound(raw, at)
        if at != len(raw):
            raise ValueError("something after the range")
        opening = "[" if flags & _LOWER_INC else "("
        return Range(lower, upper, opening + ("]" if flags & _UPPER_INC else ")"))

    def _bound(self, raw: bytes, at: int) -> tuple[Any, int]:
        (length,) = struct.unpack_from(">i", raw, at)
        end = at + 4 + length
        if length < 0 or end > len(raw):
            raise ValueError("impossible length of a bound")
        return self.element(raw[at + 4 : end]), end


class MultirangeBinary:
    """Loads i32 ranges, for each: i32 length, the range."""

    def __init__(self, element: Callable[[bytes], Any]) -> None:
        self.element = element

    def __call__(self, raw: bytes) -> Multirange[Any] | list[Any]:
        (count,) = struct.unpack_from(">i", raw)
        if not 0 <= count <= len(raw) // 5:
            raise ValueError("more ranges than bytes")
        at = 4
        ranges = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", raw, at)
            end = at + 4 + length
            if length < 0 or end > len(raw):
                raise ValueError("impossible length of a range")
            ranges.append(self.element(raw[at + 4 : end]))
            at = end
        if at != len(raw):
            raise ValueError("something after the ranges")
        return multirange_of(ranges)


def multirange_of(ranges: list[Any]) -> Multirange[Any] | list[Any]:
    """The Multirange; a list where a loader of the user's own makes something else of ranges."""
    if all(isinstance(one, Range) for one in ranges):
        return Multirange(ranges)
    return ranges
