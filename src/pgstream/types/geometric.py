"""Loaders of geometric types (``src/backend/utils/adt/geo_ops.c``): PostgreSQL's text."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .numbers import text_of_float8


def point_binary(raw: bytes) -> str:
    """Two float8: ``(x,y)``."""
    (point,) = _points(raw, 1)
    return point


def line_binary(raw: bytes) -> str:
    """Three float8: ``{A,B,C}``."""
    return "{" + ",".join(_floats(raw, 3)) + "}"


def lseg_binary(raw: bytes) -> str:
    """Two points: ``[(x,y),(x,y)]``."""
    return "[" + ",".join(_points(raw, 2)) + "]"


def box_binary(raw: bytes) -> str:
    """Two points, the upper right one first: ``(x,y),(x,y)``."""
    return ",".join(_points(raw, 2))


def path_binary(raw: bytes) -> str:
    """u8 1 for a closed path, i32 points, the points: ``((x,y),…)``, open ``[(x,y),…]``."""
    closed, count = struct.unpack_from(">?i", raw)
    points = ",".join(_points(raw[5:], count))
    return f"({points})" if closed else f"[{points}]"


def polygon_binary(raw: bytes) -> str:
    """i32 points, the points: ``((x,y),…)``."""
    (count,) = struct.unpack_from(">i", raw)
    return "(" + ",".join(_points(raw[4:], count)) + ")"


def circle_binary(raw: bytes) -> str:
    """A point and a radius: ``<(x,y),r>``."""
    x, y, radius = _floats(raw, 3)
    return f"<({x},{y}),{radius}>"


def _points(raw: bytes, count: int) -> list[str]:
    numbers = _floats(raw, 2 * count)
    return [f"({numbers[at]},{numbers[at + 1]})" for at in range(0, len(numbers), 2)]


def _floats(raw: bytes, count: int) -> Sequence[str]:
    if count < 0 or len(raw) != 8 * count:
        raise ValueError("not as long as its count of numbers says")
    return [text_of_float8(number) for number in struct.unpack(f">{count}d", raw)]
