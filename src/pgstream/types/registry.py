"""From the OID of a type to its loaders.

A loader takes the bytes of one value and returns the Python value; it raises
``ValueError`` (or another of ``LOAD_ERRORS``) for bytes that are no such value.
To add a type: write its loaders in the room of its family and name them in
``_BUILT_IN`` (or, if it belongs to an extension, in ``_BY_NAME``). Both decoders use it from
then on; ``_loaders.pyx`` may hold a C version of a loader, which the Cython decoder then takes
in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MethodType
from typing import Any, Final, Literal, TypeAlias

from . import (
    datetimes,
    extensions,
    geometric,
    intervals,
    network,
    numbers,
    oids,
    search,
    server,
    strings,
)
from .arrays import COMMA, ArrayBinary, ArrayText
from .catalog import Catalog, TypeInfo
from .composites import CompositeBinary, CompositeText, composite_class
from .documents import JsonbLoader, JsonLoader
from .failures import LoaderFailed
from .ranges import MultirangeBinary, MultirangeText, RangeBinary, RangeText

Loader: TypeAlias = Callable[[bytes], Any]
Numeric: TypeAlias = Literal["decimal", "float", "str"]


class UserLoader:
    """A loader of the user's own, whose exceptions are told from those of ours."""

    def __init__(self, load: Loader) -> None:
        self.load = load

    def __call__(self, raw: bytes) -> Any:
        try:
            return self.load(raw)
        except Exception as error:
            raise LoaderFailed from error


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
    oids.MONEY: (numbers.money_text, numbers.int8_binary),
    oids.TEXT: (strings.text, strings.text),
    oids.VARCHAR: (strings.text, strings.text),
    oids.BPCHAR: (strings.text, strings.text),
    oids.NAME: (strings.text, strings.text),
    oids.XML: (strings.text, strings.text),
    oids.UNKNOWN: (strings.text, strings.text),
    oids.REFCURSOR: (strings.text, strings.text),
    oids.CHAR: (strings.char_text, strings.char_binary),
    oids.BYTEA: (strings.bytea_text, strings.bytea_binary),
    oids.UUID: (strings.uuid_text, strings.uuid_binary),
    oids.BIT: (strings.text, strings.bit_binary),
    oids.VARBIT: (strings.text, strings.bit_binary),
    oids.DATE: (datetimes.date_text, datetimes.date_binary),
    oids.TIME: (datetimes.time_text, datetimes.time_binary),
    oids.TIMETZ: (datetimes.timetz_text, datetimes.timetz_binary),
    oids.TIMESTAMP: (datetimes.timestamp_text, datetimes.timestamp_binary),
    oids.TIMESTAMPTZ: (datetimes.timestamptz_text, datetimes.timestamptz_binary),
    oids.INTERVAL: (intervals.interval_text, intervals.interval_binary),
    oids.INET: (network.inet_text, network.inet_binary),
    oids.CIDR: (network.cidr_text, network.cidr_binary),
    oids.MACADDR: (strings.text, network.macaddr_binary),
    oids.MACADDR8: (strings.text, network.macaddr_binary),
    oids.POINT: (strings.text, geometric.point_binary),
    oids.LINE: (strings.text, geometric.line_binary),
    oids.LSEG: (strings.text, geometric.lseg_binary),
    oids.BOX: (strings.text, geometric.box_binary),
    oids.PATH: (strings.text, geometric.path_binary),
    oids.POLYGON: (strings.text, geometric.polygon_binary),
    oids.CIRCLE: (strings.text, geometric.circle_binary),
    oids.TSVECTOR: (strings.text, search.tsvector_binary),
    oids.TSQUERY: (strings.text, search.tsquery_binary),
    oids.TID: (strings.text, server.tid_binary),
    oids.CID: (strings.text, server.cid_binary),
    oids.XID8: (strings.text, server.xid8_binary),
    oids.PG_LSN: (strings.text, server.pg_lsn_binary),
    oids.PG_SNAPSHOT: (strings.text, server.snapshot_binary),
    oids.TXID_SNAPSHOT: (strings.text, server.snapshot_binary),
    oids.INT2VECTOR: (strings.text, server.int2vector_binary),
    oids.OIDVECTOR: (strings.text, server.oidvector_binary),
    oids.JSONPATH: (strings.text, server.jsonpath_binary),
    **dict.fromkeys(oids.NAMED_OBJECTS, (strings.text, server.named_object_binary)),
    **dict.fromkeys((oids.REGOPER, oids.REGOPERATOR), (strings.text, server.cid_binary)),  # 0: none
}

_NUMERIC: Final[dict[str, tuple[Loader, Loader]]] = {
    "decimal": (numbers.numeric_text, numbers.numeric_binary),
    "float": (numbers.numeric_text_as_float, numbers.numeric_binary_as_float),
    "str": (numbers.numeric_text_as_str, numbers.text_of_numeric),
}

_BY_NAME: Final[dict[str, tuple[Loader, Loader]]] = {
    "citext": (strings.text, strings.text),
    "hstore": (extensions.hstore_text, extensions.hstore_binary),
    "ltree": (strings.text, extensions.ltree_binary),
    "lquery": (strings.text, extensions.ltree_binary),
    "ltxtquery": (strings.text, extensions.ltree_binary),
    "cube": (strings.text, extensions.cube_binary),
    "vector": (extensions.vector_text, extensions.vector_binary),
    "halfvec": (extensions.vector_text, extensions.halfvec_binary),
    "sparsevec": (strings.text, extensions.sparsevec_binary),
}

_HSTORE_AS_TEXT: Final[tuple[Loader, Loader]] = (strings.text, extensions.hstore_binary_as_text)

_NO_LOADER: Final[tuple[Loader, Loader]] = (strings.text, bytes)


class Loaders:
    """The loaders of one decoder.

    Args:
        values: ``"typed"``, or ``"text"`` for PostgreSQL's own text of everything.
        json_loads: What parses json and jsonb.
        numeric: What numeric becomes: ``"decimal"``, ``"float"`` or ``"str"``.
        catalog: The types that are not built in.
        of_bounds: For what the bounds of ranges are made of. json and hstore are PostgreSQL's
            text there: the null of a document would be no bound at all, and of a dict nothing
            tells how PostgreSQL writes it.
    """

    def __init__(
        self,
        values: Literal["typed", "text"],
        json_loads: Callable[[str], Any],
        numeric: Numeric = "decimal",
        catalog: Catalog | None = None,
        *,
        of_bounds: bool = False,
    ) -> None:
        if values not in ("typed", "text"):
            raise ValueError(f"values must be 'typed' or 'text', not {values!r}")
        if numeric not in _NUMERIC:
            raise ValueError(f"numeric must be 'decimal', 'float' or 'str', not {numeric!r}")
        self.catalog = Catalog() if catalog is None else catalog
        self._typed = values == "typed"
        json = JsonLoader(json_loads)
        self._scalars = _BUILT_IN | {
            oids.NUMERIC: _NUMERIC[numeric],
            oids.JSON: (json, json),
            oids.JSONB: (json, JsonbLoader(json_loads)),
        }
        self._registered: dict[int | str, tuple[Loader | None, Loader | None]] = {}
        self._resolved: dict[int, tuple[Loader, Loader]] = {}
        self._version = self.catalog.version
        self._of_bounds = of_bounds
        self._bounds = self
        if not of_bounds:
            self._bounds = Loaders(values, str, numeric, self.catalog, of_bounds=True)
            self._bounds._registered = self._registered

    def text(self, oid: int) -> Loader:
        """The loader of a type's text; PostgreSQL's text itself where there is none."""
        return self._of(oid)[0] if self._typed else strings.text

    def binary(self, oid: int) -> Loader | None:
        """The loader of a type's binary form; the bytes themselves where there is none.

        ``None`` where text is wanted, which a binary value cannot give.
        """
        return self._of(oid)[1] if self._typed else None

    def register(self, kind: int | str, text: Loader | None, binary: Loader | None) -> None:
        """Take loaders of the user's own for a type; ``None`` leaves what there is.

        Raises:
            ValueError: if neither is given, or they would never be called.
        """
        if text is None and binary is None:
            raise ValueError("register_loader needs a loader: text, binary, or both")
        if not self._typed:
            raise ValueError("with values='text' no loader is called")
        key = kind if isinstance(kind, int) else oids.oid_of(kind) or kind
        before = self._registered.get(key, (None, None))
        self._registered[key] = (
            before[0] if text is None else UserLoader(text),
            before[1] if binary is None else UserLoader(binary),
        )
        self._resolved.clear()
        self._bounds._resolved.clear()

    def unknown(self, types: Iterable[int]) -> frozenset[int]:
        """The OIDs among these, and among what they are made of, that nothing explains."""
        return frozenset(self.catalog.missing(types))

    def _of(self, oid: int) -> tuple[Loader, Loader]:
        if self._version != self.catalog.version:
            self._version = self.catalog.version
            self._resolved.clear()
        pair = self._resolved.get(oid)
        if pair is None:
            pair = self._resolved[oid] = self._resolve(oid)
        return pair

    def _resolve(self, oid: int) -> tuple[Loader, Loader]:
        info = self.catalog.get(oid)
        if info is not None and self.catalog.is_too_deep(oid):
            info = None
        text, binary = self._known(oid, info)
        keys: list[int | str] = [oid]
        if info is not None:
            keys += [f"{info.schema}.{info.name}", info.name]
        for key in reversed(keys):  # the most exact one counts
            own_text, own_binary = self._registered.get(key, (None, None))
            text, binary = own_text or text, own_binary or binary
        return text, binary

    def _known(self, oid: int, info: TypeInfo | None) -> tuple[Loader, Loader]:
        """The loaders of a type, before those of the user's own."""
        if oid in self._scalars:
            return self._scalars[oid]
        if oid in oids.ARRAY_ELEMENT:
            element = oids.ARRAY_ELEMENT[oid]
            return self._array(element, ord(";") if element == oids.BOX else COMMA)
        if oid in oids.RANGE_SUBTYPE:
            return self._range(oids.RANGE_SUBTYPE[oid])
        if oid in oids.MULTIRANGE_RANGE:
            return self._multirange(oids.MULTIRANGE_RANGE[oid])
        if info is None:
            return _NO_LOADER
        if info.kind == "enum":
            return strings.text, strings.text
        if info.kind == "domain":
            return self._of(info.element)
        if info.kind == "array":
            return self._array(info.element, ord(info.delimiter))
        if info.kind == "range":
            return self._range(info.element)
        if info.kind == "multirange":
            return self._multirange(info.element)
        if info.kind == "composite":
            kind = composite_class(info.name, tuple([name for name, _ in info.fields]))
            pairs = [self._of(part) for part in info.parts]
            return (
                CompositeText(kind, [text for text, _ in pairs]),
                CompositeBinary(kind, [binary for _, binary in pairs], info.parts),
            )
        if info.name == "hstore" and self._of_bounds:
            return _HSTORE_AS_TEXT
        return _BY_NAME.get(info.name, _NO_LOADER)

    def _array(self, element: int, delimiter: int) -> tuple[Loader, Loader]:
        text, binary = self._of(element)
        return ArrayText(text, delimiter), ArrayBinary(binary)

    def _range(self, subtype: int) -> tuple[Loader, Loader]:
        text, binary = self._bounds._of(subtype)
        return RangeText(text), RangeBinary(binary)

    def _multirange(self, element: int) -> tuple[Loader, Loader]:
        text, binary = self._of(element)
        return MultirangeText(text), MultirangeBinary(binary)


def as_function(loader: Loader | None) -> Loader | None:
    """What does the same when it is called: of an object its method, which is quicker."""
    call = getattr(loader, "__call__", None)  # noqa: B004
    return call if isinstance(call, MethodType) else loader
