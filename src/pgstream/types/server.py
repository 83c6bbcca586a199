"""Loaders of the server's own types: PostgreSQL's text, from either format.

``src/backend/utils/adt/{tid,xid,xid8funcs,pg_lsn,int,oid,regproc,jsonpath}.c``
"""

from __future__ import annotations

import struct

from . import strings


def tid_binary(raw: bytes) -> str:
    """u32 block, u16 offset: ``(0,1)``."""
    block, offset = struct.unpack(">IH", raw)
    return f"({block},{offset})"


def cid_binary(raw: bytes) -> str:
    """u32."""
    return str(struct.unpack(">I", raw)[0])


def xid8_binary(raw: bytes) -> str:
    """u64."""
    return str(struct.unpack(">Q", raw)[0])


def pg_lsn_binary(raw: bytes) -> str:
    """u64: ``0/16C752F8``."""
    high, low = struct.unpack(">II", raw)
    return f"{high:X}/{low:X}"


def snapshot_binary(raw: bytes) -> str:
    """i32 transactions in progress, u64 xmin, u64 xmax, u64 for each: ``10:20:10,14,15``."""
    count, low, high = struct.unpack_from(">iQQ", raw)
    if len(raw) != 20 + 8 * count:
        raise ValueError("not as long as its count says")
    running = struct.unpack_from(f">{count}Q", raw, 20)
    return f"{low}:{high}:{','.join(map(str, running))}"


def int2vector_binary(raw: bytes) -> str:
    """An array of int2, its lower bound 0: ``1 2 3``."""
    return _vector(raw, 2, "h")


def oidvector_binary(raw: bytes) -> str:
    """An array of oid, its lower bound 0: ``1 2 3``."""
    return _vector(raw, 4, "I")


def named_object_binary(raw: bytes) -> str:
    """u32: the OID of an object of which the text transfer gives the name; ``-`` for none.

    This is what PostgreSQL shows for an object that is not there.
    """
    (oid,) = struct.unpack(">I", raw)
    return str(oid) if oid else "-"


def jsonpath_binary(raw: bytes) -> str | bytes:
    """A version byte, 1, then the text; bytes where it is not UTF-8, as of all text."""
    if raw[:1] != b"\x01":
        raise ValueError("unknown version")
    return strings.text(raw[1:])


def _vector(raw: bytes, size: int, code: str) -> str:
    dimensions, _nulls, _type = struct.unpack_from(">iiI", raw)
    if dimensions == 0 and len(raw) == 12:
        return ""
    count, _lower = struct.unpack_from(">ii", raw, 12)
    if dimensions != 1 or len(raw) != 20 + (4 + size) * count:
        raise ValueError("not as long as its count says")
    numbers = []
    for length, number in struct.iter_unpack(f">i{code}", raw[20:]):
        if length != size:
            raise ValueError("impossible element length")
        numbers.append(str(number))
    return " ".join(numbers)
