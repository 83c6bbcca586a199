"""Values: how the bytes of a column become a Python value.

One room for each family of types:

``numbers``     bool, int2, int4, int8, oid, xid, float4, float8, numeric, money
``strings``     text and its like, "char", bytea, uuid, bit strings
``documents``   json, jsonb
``datetimes``   date, time, timetz, timestamp, timestamptz
``intervals``   interval
``network``     inet, cidr, macaddr
``geometric``   point, line, lseg, box, path, polygon, circle
``search``      tsvector, tsquery
``server``      tid, cid, xid8, pg_lsn, snapshots, vectors, reg*, jsonpath
``arrays``      arrays of all of these
``ranges``      ranges and multiranges
``composites``  row types
``quoting``     the quotes that ranges and composites share
``rendering``   from a Python value back to PostgreSQL's text
``extensions``  hstore, citext, ltree, cube, pgvector
``oids``        the numbers of the built-in types
``catalog``     the types that are not built in, and the query for them
``failures``    what a loader may raise
``registry``    which loader reads which type
``_loaders``    C versions of the loaders of common types, for the Cython decoder
"""

from .catalog import Catalog, TypeInfo
from .composites import Composite
from .documents import JSONText
from .failures import LOAD_ERRORS, LoaderFailed
from .intervals import Interval
from .registry import Loader, Loaders, Numeric, as_function

__all__ = [
    "LOAD_ERRORS",
    "Catalog",
    "Composite",
    "Interval",
    "JSONText",
    "Loader",
    "LoaderFailed",
    "Loaders",
    "Numeric",
    "TypeInfo",
    "as_function",
]
