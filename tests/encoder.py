"""An encoder of every message of the stream: what the server's side writes.

One function for each message, named as the message class is, and returning the bytes of
the pgoutput message without its XLogData header; ``xlogdata`` puts that before it. Sources:
"Logical Replication Message Formats" and "Streaming Replication Protocol" in the PostgreSQL
documentation.

``xid`` is the prefix that stands inside a block of a streamed transaction, and is left out
where it is ``None``. Names may be given as ``str`` (UTF-8) or as ``bytes``. Times are
microseconds since 2000-01-01 00:00 UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import pack

Name = str | bytes
Cell = bytes


def _cstring(name: Name) -> bytes:
    return (name.encode() if isinstance(name, str) else name) + b"\0"


def _xid_prefix(xid: int | None) -> bytes:
    return b"" if xid is None else pack("!I", xid)


# The payloads of CopyData.


def xlogdata(message: bytes, start: int = 0, end: int | None = None, time: int = 0) -> bytes:
    """``w``: one pgoutput message with its WAL position (twice) and the server's clock."""
    return b"w" + pack("!QQq", start, start if end is None else end, time) + message


def keepalive(end_lsn: int, time: int = 0, reply_requested: bool = False) -> bytes:
    """``k``: the end of the server's WAL, its clock, and whether it wants an answer."""
    return b"k" + pack("!QqB", end_lsn, time, reply_requested)


def primary_status(last_lsn: int, oldest_xid: int = 0, next_xid: int = 0, time: int = 0) -> bytes:
    """``s`` of PostgreSQL 19: the answer to a status request."""
    return b"s" + pack("!QQQq", last_lsn, oldest_xid, next_xid, time)


# Transactions.


def begin(commit_lsn: int, commit_time: int, xid: int) -> bytes:
    """``B``."""
    return b"B" + pack("!QqI", commit_lsn, commit_time, xid)


def commit(commit_lsn: int, end_lsn: int, commit_time: int, flags: int = 0) -> bytes:
    """``C``."""
    return b"C" + pack("!BQQq", flags, commit_lsn, end_lsn, commit_time)


def origin(commit_lsn: int, name: Name) -> bytes:
    """``O``."""
    return b"O" + pack("!Q", commit_lsn) + _cstring(name)


# Relations and types.


def column(name: Name, type_oid: int, type_modifier: int = -1, is_key: bool = False) -> bytes:
    """One column of a Relation."""
    return pack("!B", is_key) + _cstring(name) + pack("!Ii", type_oid, type_modifier)


def relation(
    oid: int,
    schema: Name,
    table: Name,
    replica_identity: str,
    columns: Sequence[bytes],
    xid: int | None = None,
) -> bytes:
    """``R``; its columns are made by ``column``."""
    return b"".join(
        (
            b"R",
            _xid_prefix(xid),
            pack("!I", oid),
            _cstring(schema),
            _cstring(table),
            replica_identity.encode(),
            pack("!H", len(columns)),
            *columns,
        )
    )


def type_(oid: int, schema: Name, name: Name, xid: int | None = None) -> bytes:
    """``Y``."""
    return b"Y" + _xid_prefix(xid) + pack("!I", oid) + _cstring(schema) + _cstring(name)


# Tuples and the changes that hold them.

NULL: Cell = b"n"
UNCHANGED: Cell = b"u"


def text(value: str | bytes) -> Cell:
    """A value in the text format."""
    data = value.encode() if isinstance(value, str) else value
    return b"t" + pack("!I", len(data)) + data


def binary(value: bytes) -> Cell:
    """A value in the binary format."""
    return b"b" + pack("!I", len(value)) + value


def tuple_data(cells: Sequence[Cell]) -> bytes:
    """A row; its cells are ``NULL``, ``UNCHANGED``, or made by ``text`` and ``binary``."""
    return pack("!H", len(cells)) + b"".join(cells)


def insert(oid: int, new: Sequence[Cell], xid: int | None = None) -> bytes:
    """``I``."""
    return b"I" + _xid_prefix(xid) + pack("!I", oid) + b"N" + tuple_data(new)


def update(
    oid: int,
    new: Sequence[Cell],
    key: Sequence[Cell] | None = None,
    old: Sequence[Cell] | None = None,
    xid: int | None = None,
) -> bytes:
    """``U``, with the old row as a key (``K``), or whole (``O``), or without it."""
    parts = [b"U", _xid_prefix(xid), pack("!I", oid)]
    if key is not None:
        parts += [b"K", tuple_data(key)]
    if old is not None:
        parts += [b"O", tuple_data(old)]
    parts += [b"N", tuple_data(new)]
    return b"".join(parts)


def delete(
    oid: int,
    key: Sequence[Cell] | None = None,
    old: Sequence[Cell] | None = None,
    xid: int | None = None,
) -> bytes:
    """``D``, with the old row as a key (``K``) or whole (``O``)."""
    kind, cells = (b"O", old) if key is None else (b"K", key)
    assert cells is not None
    return b"D" + _xid_prefix(xid) + pack("!I", oid) + kind + tuple_data(cells)


def truncate(
    oids: Iterable[int],
    cascade: bool = False,
    restart_identity: bool = False,
    xid: int | None = None,
) -> bytes:
    """``T``."""
    listed = list(oids)
    flags = cascade | restart_identity << 1
    head = b"T" + _xid_prefix(xid) + pack("!IB", len(listed), flags)
    return head + b"".join(pack("!I", oid) for oid in listed)


def logical_message(
    lsn: int, prefix: Name, content: bytes, transactional: bool = True, xid: int | None = None
) -> bytes:
    """``M``."""
    return b"".join(
        (
            b"M",
            _xid_prefix(xid),
            pack("!BQ", transactional, lsn),
            _cstring(prefix),
            pack("!I", len(content)),
            content,
        )
    )


# Streamed transactions.


def stream_start(xid: int, first: bool) -> bytes:
    """``S``."""
    return b"S" + pack("!IB", xid, first)


def stream_stop() -> bytes:
    """``E``."""
    return b"E"


def stream_commit(
    xid: int, commit_lsn: int, end_lsn: int, commit_time: int, flags: int = 0
) -> bytes:
    """``c``."""
    return b"c" + pack("!IBQQq", xid, flags, commit_lsn, end_lsn, commit_time)


def stream_abort(xid: int, subxid: int, abort_lsn: int | None = None, abort_time: int = 0) -> bytes:
    """``A``: the long form, of ``streaming 'parallel'``, where ``abort_lsn`` is given."""
    message = b"A" + pack("!II", xid, subxid)
    return message if abort_lsn is None else message + pack("!Qq", abort_lsn, abort_time)


# Prepared transactions.


def begin_prepare(prepare_lsn: int, end_lsn: int, prepare_time: int, xid: int, gid: Name) -> bytes:
    """``b``."""
    return b"b" + pack("!QQqI", prepare_lsn, end_lsn, prepare_time, xid) + _cstring(gid)


def prepare(
    prepare_lsn: int, end_lsn: int, prepare_time: int, xid: int, gid: Name, flags: int = 0
) -> bytes:
    """``P``."""
    head = pack("!BQQqI", flags, prepare_lsn, end_lsn, prepare_time, xid)
    return b"P" + head + _cstring(gid)


def commit_prepared(
    commit_lsn: int, end_lsn: int, commit_time: int, xid: int, gid: Name, flags: int = 0
) -> bytes:
    """``K``."""
    head = pack("!BQQqI", flags, commit_lsn, end_lsn, commit_time, xid)
    return b"K" + head + _cstring(gid)


def rollback_prepared(
    prepare_end_lsn: int,
    end_lsn: int,
    prepare_time: int,
    rollback_time: int,
    xid: int,
    gid: Name,
    flags: int = 0,
) -> bytes:
    """``r``."""
    head = pack("!BQQqqI", flags, prepare_end_lsn, end_lsn, prepare_time, rollback_time, xid)
    return b"r" + head + _cstring(gid)


def stream_prepare(
    prepare_lsn: int, end_lsn: int, prepare_time: int, xid: int, gid: Name, flags: int = 0
) -> bytes:
    """``p``."""
    head = pack("!BQQqI", flags, prepare_lsn, end_lsn, prepare_time, xid)
    return b"p" + head + _cstring(gid)
