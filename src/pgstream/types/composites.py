"""Loaders of composite types (``src/backend/utils/adt/rowtypes.c``): namedtuples."""

from __future__ import annotations

import re
import struct
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final
from unicodedata import normalize

from .failures import LOAD_ERRORS
from .quoting import QUOTED, unquoted
from .strings import text

_FIELD: Final = re.compile(QUOTED + rb'|[^,()"\\]*', re.DOTALL)
_NOT_OF_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")
_head = struct.Struct(">Ii")


class Composite(tuple[Any, ...]):
    """The base of the namedtuples that values of composite types become.

    Attributes:
        pg_type: The name of the type.
        pg_names: The fields' names as the database has them. Where one is no name of
            Python's, the attribute is called as psycopg calls it.
    """

    __slots__ = ()
    pg_type: ClassVar[str]
    pg_names: ClassVar[tuple[str, ...]]

    def __reduce__(self) -> tuple[Any, ...]:
        return make_composite, (self.pg_type, self.pg_names, tuple(self))


@lru_cache(maxsize=1024)
def composite_class(name: str, fields: tuple[str, ...]) -> type[Composite]:
    """The class of a composite type's values; the same one for both decoders."""
    # namedtuple() would refuse a type that is called as a keyword of Python is; type() does not.
    base = namedtuple("Composite", map(identifier, fields), rename=True)  # type: ignore[misc]
    made: Any = type(
        identifier(name),
        (base, Composite),
        {"__slots__": (), "__module__": __name__, "pg_type": name, "pg_names": fields},
    )
    return made  # type: ignore[no-any-return]


def make_composite(name: str, fields: tuple[str, ...], values: Sequence[Any]) -> Composite:
    """A value, from what :meth:`Composite.__reduce__` keeps."""
    return tuple.__new__(composite_class(name, fields), values)


def identifier(name: str) -> str:
    """The name as psycopg writes it where Python wants an identifier.

    Python reads identifiers in the form NFKC: two names may be the same one to it.
    """
    name = normalize("NFKC", name)
    if not name.isidentifier():
        if name[:1].isdigit():
            name = "f" + name
        if not name.isidentifier():
            name = _NOT_OF_A_NAME.sub("_", name)
    return "f" + name if name[:1] == "_" or not name else name


class CompositeText:
    """Loads ``(1,"a b",)``: an empty field is NULL.

    A value that does not fit the fields, as after an ALTER TYPE, stays PostgreSQL's text.
    """

    def __init__(self, kind: type[Composite], loaders: Sequence[Callable[[bytes], Any]]) -> None:
        self.kind = kind
        self.loaders = loaders

    def __call__(self, raw: bytes) -> Any:
        items = _fields(raw)
        if not self.loaders and items == [b""]:
            items = []
        if len(items) != len(self.loaders):
            return text(raw)
        try:
            values = [
                load(unquoted(item)) if item else None
                for load, item in zip(self.loaders, items, strict=True)
            ]
        except LOAD_ERRORS:
            return text(raw)
        return tuple.__new__(self.kind, values)


class CompositeBinary:
    """Loads i32 fields, for each: u32 type, i32 length or -1, the value.

    A value of other fields than the catalog's stays as it is.
    """

    def __init__(
        self,
        kind: type[Composite],
        loaders: Sequence[Callable[[bytes], Any]],
        types: Sequence[int],
    ) -> None:
        self.kind = kind
        self.loaders = loaders
        self.types = types

    def __call__(self, raw: bytes) -> Any:
        (count,) = struct.unpack_from(">i", raw)
        if not 0 <= count <= len(raw) // 8:
            raise ValueError("more fields than bytes")
        if count != len(self.types):
            return raw
        at = 4
        values: list[Any] = []
        for index, load in enumerate(self.loaders):
            oid, length = _head.unpack_from(raw, at)
            if oid != self.types[index]:
                return raw
            at += 8
            if length == -1:
                values.append(None)
                continue
            if not 0 <= length <= len(raw) - at:
                raise ValueError("impossible length of a field")
            values.append(load(raw[at : at + length]))
            at += length
        if at != len(raw):
            raise ValueError("something after the last field")
        return tuple.__new__(self.kind, values)


def _fields(raw: bytes) -> list[bytes]:
    """The fields between the parentheses, as they stand."""
    if raw[:1] != b"(":
        raise ValueError("not a composite value")
    items = []
    at = 1
    while True:
        match = _FIELD.match(raw, at)
        assert match is not None  # it matches nothing, too
        items.append(match[0])
        at = match.end() + 1
        after = raw[at - 1 : at]
        if after == b")" and at == len(raw):
            return items
        if after != b",":
            raise ValueError("neither , nor ) after a field")
