"""LSN: a position in the write-ahead log."""

from __future__ import annotations

import operator
import re
from typing import Final

_TEXT: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)
_MAX: Final = 2**64 - 1


class LSN(int):
    """A log sequence number: an unsigned 64-bit byte position in the WAL.

    It is an ``int`` (so it orders, hashes and subtracts as one) that prints as
    PostgreSQL prints a ``pg_lsn``: ``LSN(0x16C752F8)`` is ``0/16C752F8``.

    Args:
        value: PostgreSQL's text (``"0/16C752F8"``; either half may be padded
            with zeros, as PostgreSQL 19 does) or an integer from 0 to 2^64 - 1.

    Raises:
        ValueError: if the text is not an LSN, or the number does not fit.
        TypeError: if it is neither text nor an integer.
    """

    __slots__ = ()

    def __new__(cls, value: int | str = 0) -> LSN:
        if isinstance(value, str):
            match = _TEXT.fullmatch(value)
            if match is None:
                raise ValueError(f"not an LSN: {value!r} (expected something like '0/16C752F8')")
            return int.__new__(cls, (int(match[1], 16) << 32) | int(match[2], 16))
        value = operator.index(value)  # int() would cut a fraction off
        if not 0 <= value <= _MAX:
            raise ValueError(f"not an LSN: {value} does not fit in 64 unsigned bits")
        return int.__new__(cls, value)

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"LSN('{self}')"

    def __format__(self, spec: str) -> str:
        """Format as PostgreSQL's text; the ``spec`` is that of a string."""
        return format(str(self), spec)
