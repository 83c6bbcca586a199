"""The yardstick: what a careful engineer writes for the job in an afternoon, in Python.

One function, ``struct``, slices, a dict of converters by type OID, orjson. It knows the
messages of protocol 1 and the types of the measured streams, and trusts its input. It
gives what a pipeline needs of a change: its kind, its table, where it stands, its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from struct import Struct
from typing import Any
from uuid import UUID

import orjson

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(2000, 1, 1)
_u64 = Struct(">Q").unpack_from
_u32 = Struct(">I").unpack_from
_u16 = Struct(">H").unpack_from
_begin = Struct(">QqI").unpack_from
_commit = Struct(">BQQq").unpack_from
_column = Struct(">Ii").unpack_from
_int4 = Struct(">i").unpack
_int8 = Struct(">q").unpack
_numeric = Struct(">HhHH").unpack_from
_array = Struct(">iiI").unpack_from


def _text_array(raw: bytes) -> list[int]:
    return [int(item) for item in raw[1:-1].split(b",")] if len(raw) > 2 else []


def _numeric_binary(raw: bytes) -> Decimal:
    count, weight, sign, scale = _numeric(raw)
    digits = 0
    for index in range(count):
        digits = digits * 10000 + _u16(raw, 8 + 2 * index)[0]
    exponent = 4 * (weight - count + 1)
    value = Decimal(digits).scaleb(exponent).quantize(Decimal(1).scaleb(-scale))
    return -value if sign else value


def _array_binary(raw: bytes) -> list[int]:
    if not _array(raw)[0]:
        return []
    return list(Struct(">" + "4xi" * _u32(raw, 12)[0]).unpack(raw[20:]))


TEXT: dict[int, Callable[[bytes], Any]] = {
    16: lambda raw: raw == b"t",
    20: int,
    23: int,
    25: bytes.decode,
    1042: bytes.decode,
    1700: lambda raw: Decimal(raw.decode()),
    1114: lambda raw: datetime.fromisoformat(raw.decode()),
    1184: lambda raw: datetime.fromisoformat(raw.decode()),
    2950: lambda raw: UUID(raw.decode()),
    3802: orjson.loads,
    1007: _text_array,
}
BINARY: dict[int, Callable[[bytes], Any]] = {
    16: lambda raw: raw == b"\1",
    20: lambda raw: _int8(raw)[0],
    23: lambda raw: _int4(raw)[0],
    25: bytes.decode,
    1042: bytes.decode,
    1700: _numeric_binary,
    1114: lambda raw: _NAIVE_EPOCH + timedelta(microseconds=_int8(raw)[0]),
    1184: lambda raw: _EPOCH + timedelta(microseconds=_int8(raw)[0]),
    2950: lambda raw: UUID(bytes=raw),
    3802: lambda raw: orjson.loads(raw[1:]),
    1007: _array_binary,
}


class Decoder:
    """Call ``decode`` with each payload; changes are ``(op, table, lsn, xid, old, new)``."""

    def __init__(self) -> None:
        self.relations: dict[int, tuple[str, list[tuple[str, Any, Any]]]] = {}
        self.xid = 0

    def converters(self, oid: int) -> tuple[Any, Any]:
        """What makes a value of the text and of the binary form of a type."""
        return TEXT.get(oid, bytes.decode), BINARY.get(oid, bytes)

    def decode(self, data: bytes) -> tuple[Any, ...] | None:
        if data[0] != 119:  # w
            return None
        kind = data[25]
        if kind == 73 or kind == 85 or kind == 68:  # I U D
            table, columns = self.relations[_u32(data, 26)[0]]
            at = 30
            old = new = None
            while at < len(data):
                marker = data[at]
                at += 3
                row = {}
                for name, text, binary in columns:
                    cell = data[at]
                    at += 1
                    if cell == 116:  # t
                        size = _u32(data, at)[0]
                        at += 4
                        row[name] = text(data[at : at + size])
                        at += size
                    elif cell == 98:  # b
                        size = _u32(data, at)[0]
                        at += 4
                        row[name] = binary(data[at : at + size])
                        at += size
                    elif cell == 110:  # n
                        row[name] = None
                if marker == 78:
                    new = row
                else:
                    old = row
            return chr(kind), table, _u64(data, 1)[0], self.xid, old, new
        if kind == 66:  # B
            lsn, moment, self.xid = _begin(data, 26)
            return "B", lsn, _EPOCH + timedelta(microseconds=moment), self.xid
        if kind == 67:  # C
            _, lsn, end, moment = _commit(data, 26)
            return "C", lsn, end, _EPOCH + timedelta(microseconds=moment)
        if kind == 82:  # R
            oid = _u32(data, 26)[0]
            at = data.index(0, 30)
            schema = data[30:at].decode()
            end = data.index(0, at + 1)
            table = data[at + 1 : end].decode()
            count = _u16(data, end + 2)[0]
            at = end + 4
            columns = []
            for _ in range(count):
                end = data.index(0, at + 1)
                type_oid, _ = _column(data, end + 1)
                name = data[at + 1 : end].decode()
                columns.append((name, *self.converters(type_oid)))
                at = end + 9
            self.relations[oid] = f"{schema}.{table}", columns
        return None
