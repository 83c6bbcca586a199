"""From the OID of a type to its loaders.

A loader takes the bytes of one value and returns the Python value; it raises
``ValueError`` (or another of :data:`LOAD_ERRORS`) for bytes that are no such value.
To add a type: write its loaders in the room of its family and name them in
``_BUILT_IN``. Both decoders use it from then on; ``_loaders.pyx`` may hold a C
version of a loader, which the Cython decoder then takes in its place.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from . import datetimes, numbers, oids, strings
from .arrays import ArrayBinary, ArrayText
from .documents import JsonbLoader, JsonLoader

Loader: TypeAlias = Callable[[bytes], Any]

LOAD_ERRORS: Final = (ValueError, ArithmeticError, LookupError, struct.error)
"""What a built-in loader may raise for bytes that are not a value of its type."""

_BUILT_IN: Final[dict[int, tuple[Loader, Loader]]] = {
    # oid: (text, binary)
    oids.BOOL: (numbers.bool_text, numbers.bool_binary),
    oids.INT2: (numbers.int_text, numbers.int2_binary),
    oids.INT4: (numbers.int_text, numbers.int4_binary),
    oids.INT8: (numbers.int_text, numbers.int8_binary),
    oids.OID: (numbers.int_text, numbers.oid_binary),
    oids.XID: (numbers.int_text, numbers.oid_binary),
    oids.FLOAT4: (numbers.float_text, numbers.float4_binary),
    oids.FLOAT8: (numbers.float_text, numbers.float8_binary),
    oids.NUMERIC: (numbers.numeric_text, numbers.numeric_binary),
    oids.TEXT: (strings.text, strings.text),
    oids.VARCHAR: (strings.text, strings.text),
    oids.BPCHAR: (strings.text, strings.text),
    oids.NAME: (strings.text, strings.text),
    oids.XML: (strings.text, strings.text),
    oids.UNKNOWN: (strings.text, strings.text),
    oids.REFCURSOR: (strings.text, strings.text),
    oids.BYTEA: (strings.bytea_text, strings.bytea_binary),
    oids.UUID: (strings.uuid_text, strings.uuid_binary),
    oids.DATE: (datetimes.date_text, datetimes.date_binary),
    oids.TIME: (datetimes.time_text, datetimes.time_binary),
    oids.TIMESTAMP: (datetimes.timestamp_text, datetimes.timestamp_binary),
    oids.TIMESTAMPTZ: (datetimes.timestamptz_text, datetimes.timestamptz_binary),
}


class Loaders:
    """The loaders of one decoder.

    Args:
        values: ``"typed"``, or ``"text"`` for PostgreSQL's own text of everything.
        json_loads: What parses json and jsonb.
    """

    def __init__(self, values: Literal["typed", "text"], json_loads: Callable[[str], Any]) -> None:
        if values not in ("typed", "text"):
            raise ValueError(f"values must be 'typed' or 'text', not {values!r}")
        self._typed = values == "typed"
        json = JsonLoader(json_loads)
        self._loaders = _BUILT_IN | {
            oids.JSON: (json, json),
            oids.JSONB: (json, JsonbLoader(json_loads)),
        }
        for array, element in oids.ARRAY_ELEMENT.items():
            text, binary = self._loaders[element]
            self._loaders[array] = (ArrayText(text), ArrayBinary(binary))

    def text(self, oid: int) -> Loader:
        """The loader of a type's text; PostgreSQL's text itself where there is none."""
        if self._typed and oid in self._loaders:
            return self._loaders[oid][0]
        return strings.text

    def binary(self, oid: int) -> Loader | None:
        """The loader of a type's binary form; the bytes themselves where there is none.

        ``None`` where text is wanted, which a binary value cannot give.
        """
        if not self._typed:
            return None
        return self._loaders[oid][1] if oid in self._loaders else bytes
