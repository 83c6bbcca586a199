"""What ``COPY`` sends, as the rows that events have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from struct import Struct
from typing import Any, Final

from ..decoder import Decoder
from ..messages import Insert, Relation

_HEADER: Final = b"w" + bytes(24)
_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_COLUMN: Final = Struct(">Ii")

_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPED: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class TextRows:
    """Rows of ``COPY … (FORMAT text)``, for tables whose types have no binary form.

    Each goes through the decoder as the INSERT that would have brought it, so that it is
    read by the same loaders as the rows of the stream.

    Args:
        decoder: The decoder, for this alone.
        relation: The table.
    """

    def __init__(self, decoder: Decoder, relation: Relation) -> None:
        self._decode = decoder.decode
        self._start = _HEADER + b"I" + _U32.pack(relation.oid) + b"N"
        self._start += _U16.pack(len(relation.columns))
        self._columns = len(relation.columns)
        decoder.decode(_relation(relation))

    def __call__(self, lines: Iterable[bytes]) -> list[Any]:
        """The rows of these lines, each as the server sent it, the newline included."""
        return [self._row(line) for line in lines]

    def _row(self, line: bytes) -> Any:
        # A line without columns is empty, and so is one with one column, an empty text.
        fields = line.removesuffix(b"\n").split(b"\t") if self._columns else []
        cells = [self._start]
        for field in fields:
            if field == b"\\N":
                cells.append(b"n")
            else:
                value = _ESCAPE.sub(_unescape, field) if b"\\" in field else field
                cells.append(b"t" + _U32.pack(len(value)) + value)
        message = self._decode(b"".join(cells))
        assert isinstance(message, Insert)
        return message.new


def _unescape(found: re.Match[bytes]) -> bytes:
    return _ESCAPED.get(found[1], found[1])


def _relation(relation: Relation) -> bytes:
    """The Relation message that would have announced the rows."""
    parts = [_HEADER, b"R", _U32.pack(relation.oid)]
    for name in (relation.schema, relation.table):
        parts += [name.encode(), b"\0"]
    parts += [relation.replica_identity.encode(), _U16.pack(len(relation.columns))]
    for column in relation.columns:
        parts += [bytes([column.is_key]), column.name.encode(), b"\0"]
        parts.append(_COLUMN.pack(column.type_oid, column.type_modifier))
    return b"".join(parts)
