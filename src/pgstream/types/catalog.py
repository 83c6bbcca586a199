"""What the stream mentions and only the server's catalog explains: the types that are not
built in.

A Relation names the type of a column by its OID. For an enum, a composite or an extension's
type that is a number of that server's own; its name, its kind and the types that it is made
of stand in ``pg_type`` and its neighbours. :func:`catalog_query` asks for them,
:func:`parse_catalog` reads the answer, and :class:`Catalog` keeps them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, TypeGuard, get_args

from psycopg import sql

from . import oids

Kind: TypeAlias = Literal["base", "array", "enum", "domain", "composite", "range", "multirange"]

_KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
_MAX_OID: Final = 2**32 - 1

MAX_NESTING: Final = 64
"""Types are made of types this many times, at most. A server has no types that are made of
themselves; a damaged file of them may."""


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """One type.

    Attributes:
        kind: What it is; ``base`` also for what none of the others fits.
        element: The OID of an array's elements, a domain's base type, a range's bounds, or a
            multirange's ranges; else 0.
        delimiter: What stands between the elements of an array.
        fields: Of a composite: names and OIDs of types, in order.
        has_binary: Whether it has a send function. Without one its values come as text
            in the binary transfer too, and arrays of it not at all. hstore's cannot be read
            where the database has an encoding that the server converts from.
    """

    oid: int
    schema: str
    name: str
    kind: Kind
    element: int = 0
    delimiter: str = ","
    fields: tuple[tuple[str, int], ...] = ()
    has_binary: bool = True

    @property
    def parts(self) -> tuple[int, ...]:
        """The OIDs of the types that it is made of."""
        if self.kind == "composite":
            return tuple([oid for _, oid in self.fields])
        return (self.element,) if self.element else ()


class Catalog(Mapping[int, TypeInfo]):
    """The types that are known, by OID. Decoders that share it see what is added, for a table
    that they know already from its next Relation on.

    Attributes:
        version: How often something was added.
    """

    def __init__(self, infos: Iterable[TypeInfo] = ()) -> None:
        self._types: dict[int, TypeInfo] = {}
        self.version = 0
        self.add(infos)

    def __getitem__(self, oid: int) -> TypeInfo:
        return self._types[oid]

    def __iter__(self) -> Iterator[int]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def __repr__(self) -> str:
        return f"<Catalog of {len(self)} types>"

    def add(self, infos: Iterable[TypeInfo]) -> None:
        """Take these in; the latest word on a type counts."""
        self._types.update((info.oid, info) for info in infos)
        self.version += 1

    def missing(self, types: Iterable[int]) -> set[int]:
        """The OIDs, of these and of all that they are made of, that only a catalog explains
        and this one does not.
        """
        reached = self._closure(types)
        return {oid for oid in reached if oid >= oids.FIRST_OF_OTHERS and oid not in self._types}

    def composites(self, types: Iterable[int]) -> set[int]:
        """The OIDs, of these and of all that they are made of, of composite types."""
        reached = self._closure(types)
        return {oid for oid in reached if oid in self and self[oid].kind == "composite"}

    def is_too_deep(self, oid: int) -> bool:
        """Whether a type is made of types beyond :data:`MAX_NESTING`, or of itself."""
        layer = {oid}
        for _ in range(MAX_NESTING):
            layer = {part for one in layer if one in self._types for part in self._types[one].parts}
            if not layer:
                return False
        return True

    def to_json(self) -> str:
        """The types as a JSON document, one to a line."""
        lines = ",\n".join(
            json.dumps(asdict(self._types[oid]), ensure_ascii=False) for oid in sorted(self)
        )
        return f'{{"types": [\n{lines}\n]}}\n'

    @classmethod
    def from_json(cls, document: str | bytes) -> Catalog:
        """The catalog that :meth:`to_json` wrote.

        Raises:
            ValueError: if it is not one.
        """
        try:
            parsed = json.loads(document)
        except RecursionError:
            raise ValueError("not a catalog: nested too deeply") from None
        if not isinstance(parsed, dict) or not isinstance(parsed.get("types"), list):
            raise ValueError('not a catalog: no list of "types"')
        return cls([_info_of(entry) for entry in parsed["types"]])

    def _closure(self, types: Iterable[int]) -> set[int]:
        """These types and all that they are made of."""
        reached: set[int] = set()
        pending = list(types)
        while pending:
            oid = pending.pop()
            if oid not in reached:
                reached.add(oid)
                pending += parts_of(self, oid)
        return reached


def parts_of(catalog: Mapping[int, TypeInfo], oid: int) -> tuple[int, ...]:
    """The OIDs of the types that a type is made of, as far as is known."""
    for table in (oids.ARRAY_ELEMENT, oids.RANGE_SUBTYPE, oids.MULTIRANGE_RANGE):
        if oid in table:
            return (table[oid],)
    return catalog[oid].parts if oid in catalog else ()


def needs_text(catalog: Catalog, types: Iterable[int]) -> set[int]:
    """Those of these types of columns that the text transfer alone can give.

    A value of a type without a send function comes as text by itself, in the middle of a
    binary row; but an array, composite or range of such a type makes the server refuse the
    transaction. And where the text is the name of an object (``regclass``), the binary form
    is but its OID. An hstore counts the bytes of its texts before they are converted to UTF-8.
    """
    found = set()
    for oid in types:
        reached = catalog._closure([oid])
        if not reached.isdisjoint(oids.NAMED_OBJECTS) or any(
            _is_sendless(catalog, part) and catalog[part].name == "hstore" for part in reached
        ):
            found.add(oid)
            continue
        bare = oid
        while bare in catalog and catalog[bare].kind == "domain" and bare in reached:
            reached.discard(bare)
            bare = catalog[bare].element
        reached.discard(bare)
        if any(part in oids.WITHOUT_BINARY or _is_sendless(catalog, part) for part in reached):
            found.add(oid)
    return found


def catalog_query(
    types: Iterable[int] | None = None, publications: Sequence[str] | None = None
) -> sql.Composed:
    """The query for types and all that they are made of, for :func:`parse_catalog`.

    It has no parameters, so that a replication connection can run it, and works on
    PostgreSQL 14 and later.

    Args:
        types: OIDs of types. What the server does not know is left out.
        publications: Publications, for the types of all columns of their tables.
    """
    names = sql.SQL(", ").join([sql.Literal(name) for name in publications or [""]])
    # 0 is the OID of nothing.
    listed = sql.SQL(", ").join([sql.SQL(str(int(oid))) for oid in sorted({0, *(types or ())})])
    return _CATALOG.format(publications=names, types=listed)


def parse_catalog(rows: Iterable[Sequence[str | None]]) -> list[TypeInfo]:
    """The types that the rows of :func:`catalog_query` describe, all values as text."""
    infos = []
    for oid, schema, name, kind, element, delimiter, has_binary, fields in rows:
        infos.append(
            TypeInfo(
                int(oid or 0),
                schema or "",
                name or "",
                _kind_of(kind),
                int(element or 0),
                delimiter if _is_delimiter(delimiter) else ",",
                _fields_of(fields),
                has_binary == "t",
            )
        )
    return infos


# This reads the catalog's tables and calls none of the functions over publications: they fill
# the caches of the server's process, and a replication connection would go on to decode older
# WAL by what they hold. A publication that names schemas is found by what it depends on, for
# its own table of them (6237, PostgreSQL 15 and later) is not on 14.
# An array is what is subscripted as one: point and name have elements too, and are none.
# Of the built-in types nothing is asked, but row types of the system's tables.
_CATALOG: Final = sql.SQL(
    "WITH RECURSIVE named AS ("
    "SELECT oid, puballtables FROM pg_catalog.pg_publication WHERE pubname IN ({publications})"
    "), published (oid) AS ("
    "SELECT c.oid FROM pg_catalog.pg_class c"
    " WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384"
    " AND ((SELECT pg_catalog.bool_or(puballtables) FROM named)"
    " OR c.oid IN (SELECT r.prrelid FROM pg_catalog.pg_publication_rel r"
    " JOIN named ON named.oid = r.prpubid)"
    " OR c.relnamespace IN (SELECT s.refobjid FROM named"
    " JOIN pg_catalog.pg_depend p ON p.refclassid = 6104 AND p.refobjid = named.oid"
    " JOIN pg_catalog.pg_depend s ON s.classid = p.classid AND s.objid = p.objid"
    " WHERE p.classid = 6237 AND s.refclassid = 2615))"
    " UNION SELECT i.inhrelid FROM published"
    " JOIN pg_catalog.pg_inherits i ON i.inhparent = published.oid"
    "), reached (oid) AS ("
    "SELECT oid FROM pg_catalog.pg_type WHERE oid IN ({types})"
    " UNION SELECT a.atttypid FROM published"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = published.oid"
    " WHERE a.attnum > 0 AND NOT a.attisdropped"
    " UNION"
    " SELECT part.oid FROM reached"
    " JOIN pg_catalog.pg_type t ON t.oid = reached.oid"
    " CROSS JOIN LATERAL ("
    "SELECT t.typelem"
    " WHERE t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc"
    " UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'"
    " UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a"
    " WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped"
    " UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid"
    " UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid"
    ") AS part (oid)"
    ") SELECT t.oid, n.nspname, t.typname,"
    " CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite'"
    " WHEN 'r' THEN 'range' WHEN 'm' THEN 'multirange' ELSE"
    " CASE WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc"
    " THEN 'array' ELSE 'base' END END,"
    " CASE t.typtype WHEN 'd' THEN t.typbasetype"
    " WHEN 'r' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)"
    " WHEN 'm' THEN (SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid)"
    " WHEN 'b' THEN CASE"
    " WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc"
    " THEN t.typelem ELSE 0 END"
    " ELSE 0 END,"
    " t.typdelim,"
    " t.typsend <> 0 AND (t.typname <> 'hstore'"
    " OR pg_catalog.getdatabaseencoding() IN ('UTF8', 'SQL_ASCII')),"
    " CASE t.typtype WHEN 'c' THEN ("
    "SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, a.atttypid::bigint)"
    " ORDER BY a.attnum) FROM pg_catalog.pg_attribute a"
    " WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END"
    " FROM reached JOIN pg_catalog.pg_type t ON t.oid = reached.oid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
    " WHERE t.oid >= 10000 OR t.typtype = 'c' ORDER BY t.oid"
)


def _fields_of(document: str | None) -> tuple[tuple[str, int], ...]:
    try:
        return tuple([(name, int(part)) for name, part in json.loads(document or "[]")])
    except ValueError:  # names in no known encoding, of a SQL_ASCII database
        return ()


def _is_sendless(catalog: Catalog, oid: int) -> bool:
    info = catalog.get(oid)
    return info is not None and not info.has_binary


def _kind_of(kind: Any) -> Kind:
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"not a kind of type: {kind!r}")
    return kind  # type: ignore[return-value]


def _info_of(entry: Any) -> TypeInfo:
    """One type of a JSON document, every member checked: the file may be anything."""
    if not isinstance(entry, dict):
        raise ValueError(f"not a type: {entry!r}")
    fields = entry.get("fields", [])
    if not isinstance(fields, list) or not all(
        isinstance(field, list) and len(field) == 2 for field in fields
    ):
        raise ValueError(f"not the fields of a type: {fields!r}")
    has_binary = entry.get("has_binary", True)
    if not isinstance(has_binary, bool):
        raise ValueError(f"neither true nor false: {has_binary!r}")
    delimiter = _text(entry.get("delimiter", ","))
    if not _is_delimiter(delimiter):
        raise ValueError(f"not a delimiter: {delimiter!r}")
    return TypeInfo(
        _oid(entry.get("oid")),
        _text(entry.get("schema")),
        _text(entry.get("name")),
        _kind_of(entry.get("kind")),
        _oid(entry.get("element", 0)),
        delimiter,
        tuple([(_text(name), _oid(oid)) for name, oid in fields]),
        has_binary,
    )


def _is_delimiter(text: str | None) -> TypeGuard[str]:
    return text is not None and len(text) == 1 and text.isascii()


def _oid(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_OID:
        raise ValueError(f"not an OID: {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a name: {value!r}")
    return value
