"""OIDs of the built-in types (``src/include/catalog/pg_type.dat``, ``pg_range.dat``)."""

from typing import Final

FIRST_OF_OTHERS: Final = 10_000
"""From here on an OID is the server's own choice, and only its catalog explains it."""

BOOL: Final = 16
BYTEA: Final = 17
CHAR: Final = 18
NAME: Final = 19
INT8: Final = 20
INT2: Final = 21
INT2VECTOR: Final = 22
INT4: Final = 23
REGPROC: Final = 24
TEXT: Final = 25
OID: Final = 26
TID: Final = 27
XID: Final = 28
CID: Final = 29
OIDVECTOR: Final = 30
JSON: Final = 114
XML: Final = 142
POINT: Final = 600
LSEG: Final = 601
PATH: Final = 602
BOX: Final = 603
POLYGON: Final = 604
LINE: Final = 628
CIDR: Final = 650
FLOAT4: Final = 700
FLOAT8: Final = 701
UNKNOWN: Final = 705
CIRCLE: Final = 718
MACADDR8: Final = 774
MONEY: Final = 790
MACADDR: Final = 829
INET: Final = 869
ACLITEM: Final = 1033
BPCHAR: Final = 1042
VARCHAR: Final = 1043
DATE: Final = 1082
TIME: Final = 1083
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184
INTERVAL: Final = 1186
TIMETZ: Final = 1266
BIT: Final = 1560
VARBIT: Final = 1562
NUMERIC: Final = 1700
REFCURSOR: Final = 1790
REGPROCEDURE: Final = 2202
REGOPER: Final = 2203
REGOPERATOR: Final = 2204
REGCLASS: Final = 2205
REGTYPE: Final = 2206
UUID: Final = 2950
TXID_SNAPSHOT: Final = 2970
PG_LSN: Final = 3220
TSVECTOR: Final = 3614
TSQUERY: Final = 3615
GTSVECTOR: Final = 3642
REGCONFIG: Final = 3734
REGDICTIONARY: Final = 3769
JSONB: Final = 3802
INT4RANGE: Final = 3904
NUMRANGE: Final = 3906
TSRANGE: Final = 3908
TSTZRANGE: Final = 3910
DATERANGE: Final = 3912
INT8RANGE: Final = 3926
JSONPATH: Final = 4072
REGNAMESPACE: Final = 4089
REGROLE: Final = 4096
REGCOLLATION: Final = 4191
INT4MULTIRANGE: Final = 4451
NUMMULTIRANGE: Final = 4532
TSMULTIRANGE: Final = 4533
TSTZMULTIRANGE: Final = 4534
DATEMULTIRANGE: Final = 4535
INT8MULTIRANGE: Final = 4536
PG_SNAPSHOT: Final = 5038
XID8: Final = 5069

BY_NAME: Final = {name.lower(): oid for name, oid in globals().items() if type(oid) is int}
"""From the name of a type in ``pg_type`` to its OID; the constants above bear these names."""
del BY_NAME["first_of_others"]

SQL_NAME: Final = {
    "bigint": INT8,
    "bit varying": VARBIT,
    "boolean": BOOL,
    "char": BPCHAR,  # the type named char has to be quoted
    '"char"': CHAR,
    "character": BPCHAR,
    "character varying": VARCHAR,
    "dec": NUMERIC,
    "decimal": NUMERIC,
    "double precision": FLOAT8,
    "float": FLOAT8,
    "int": INT4,
    "integer": INT4,
    "real": FLOAT4,
    "smallint": INT2,
    "time with time zone": TIMETZ,
    "time without time zone": TIME,
    "timestamp with time zone": TIMESTAMPTZ,
    "timestamp without time zone": TIMESTAMP,
}
"""What SQL calls a type otherwise than ``pg_type``."""

ARRAY_ELEMENT: Final = {
    143: XML,
    199: JSON,
    210: 71,  # row types of the system's tables: pg_type, pg_attribute, pg_proc, pg_class
    270: 75,
    271: XID8,
    272: 81,
    273: 83,
    629: LINE,
    651: CIDR,
    719: CIRCLE,
    775: MACADDR8,
    791: MONEY,
    1000: BOOL,
    1001: BYTEA,
    1002: CHAR,
    1003: NAME,
    1005: INT2,
    1006: INT2VECTOR,
    1007: INT4,
    1008: REGPROC,
    1009: TEXT,
    1010: TID,
    1011: XID,
    1012: CID,
    1013: OIDVECTOR,
    1014: BPCHAR,
    1015: VARCHAR,
    1016: INT8,
    1017: POINT,
    1018: LSEG,
    1019: PATH,
    1020: BOX,
    1021: FLOAT4,
    1022: FLOAT8,
    1027: POLYGON,
    1028: OID,
    1034: ACLITEM,
    1040: MACADDR,
    1041: INET,
    1115: TIMESTAMP,
    1182: DATE,
    1183: TIME,
    1185: TIMESTAMPTZ,
    1187: INTERVAL,
    1231: NUMERIC,
    1270: TIMETZ,
    1561: BIT,
    1563: VARBIT,
    2201: REFCURSOR,
    2207: REGPROCEDURE,
    2208: REGOPER,
    2209: REGOPERATOR,
    2210: REGCLASS,
    2211: REGTYPE,
    2949: TXID_SNAPSHOT,
    2951: UUID,
    3221: PG_LSN,
    3643: TSVECTOR,
    3644: GTSVECTOR,
    3645: TSQUERY,
    3735: REGCONFIG,
    3770: REGDICTIONARY,
    3807: JSONB,
    3905: INT4RANGE,
    3907: NUMRANGE,
    3909: TSRANGE,
    3911: TSTZRANGE,
    3913: DATERANGE,
    3927: INT8RANGE,
    4073: JSONPATH,
    4090: REGNAMESPACE,
    4097: REGROLE,
    4192: REGCOLLATION,
    5039: PG_SNAPSHOT,
    6150: INT4MULTIRANGE,
    6151: NUMMULTIRANGE,
    6152: TSMULTIRANGE,
    6153: TSTZMULTIRANGE,
    6155: DATEMULTIRANGE,
    6157: INT8MULTIRANGE,
}
"""From the OID of an array type to that of its element."""

RANGE_SUBTYPE: Final = {
    INT4RANGE: INT4,
    NUMRANGE: NUMERIC,
    TSRANGE: TIMESTAMP,
    TSTZRANGE: TIMESTAMPTZ,
    DATERANGE: DATE,
    INT8RANGE: INT8,
}
"""From the OID of a range type to that of its bounds."""

MULTIRANGE_RANGE: Final = {
    INT4MULTIRANGE: INT4RANGE,
    NUMMULTIRANGE: NUMRANGE,
    TSMULTIRANGE: TSRANGE,
    TSTZMULTIRANGE: TSTZRANGE,
    DATEMULTIRANGE: DATERANGE,
    INT8MULTIRANGE: INT8RANGE,
}
"""From the OID of a multirange type to that of its ranges."""

NAMED_OBJECTS: Final = frozenset(
    {
        REGPROC,
        REGPROCEDURE,
        REGOPER,
        REGOPERATOR,
        REGCLASS,
        REGTYPE,
        REGCONFIG,
        REGDICTIONARY,
        REGNAMESPACE,
        REGROLE,
        REGCOLLATION,
    }
)
"""Types whose text is the name of an object and whose binary form is but its OID."""

WITHOUT_BINARY: Final = frozenset({ACLITEM, GTSVECTOR})
"""Types without a send function: text is all that there is."""


def oid_of(name: str) -> int | None:
    """The OID of a built-in type: of ``int4``, ``integer``, ``pg_catalog.int4``; of its arrays
    ``int4[]`` and ``_int4``. ``None`` if none is called so.
    """
    bare = name.removeprefix("pg_catalog.")
    element = bare.removesuffix("[]").removeprefix("_")
    # Behind a schema SQL has no names of its own: pg_catalog.char is the type named char.
    oid = SQL_NAME.get(element) if bare == name and bare[:1] != "_" else None
    oid = BY_NAME.get(element) if oid is None else oid
    return oid if element == bare else _ARRAY_OF.get(oid)


def name_of(oid: int) -> str:
    """The name of a built-in type, for people: ``int4``, ``int4[]``; else the OID itself."""
    name = _NAME.get(ARRAY_ELEMENT.get(oid, oid))
    if name is None:
        return f"OID {oid}"
    return f"{name}[]" if oid in ARRAY_ELEMENT else name


_NAME: Final = {oid: name for name, oid in BY_NAME.items()}
_ARRAY_OF: Final[dict[int | None, int]] = {
    element: array for array, element in ARRAY_ELEMENT.items()
}
