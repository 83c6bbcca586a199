"""Values: how the bytes of a column become a Python value.

One room for each family of types:

``numbers``    bool, int2, int4, int8, oid, xid, float4, float8, numeric
``strings``    text and its like, bytea, uuid
``documents``  json, jsonb
``datetimes``  date, time, timestamp, timestamptz
``arrays``     arrays of all of these
``oids``       their numbers
``registry``   which loader reads which type
``_loaders``   C versions of the loaders of common types, for the Cython decoder
"""

from .documents import JSONText
from .registry import LOAD_ERRORS, Loader, Loaders

__all__ = ["LOAD_ERRORS", "JSONText", "Loader", "Loaders"]
