"""Every message of the stream, defined once for both decoders.

Plain frozen dataclasses. Compiled with ``messages.pxd`` beside it, the same
source gives extension types with read-only fields, which the Cython decoder
fills directly. Equality, ``match``, repr and pickle are the same either way.
The decoder keeps those out of the garbage collector's sight, which makes batches
cheap: a message that is put into its own row would never be freed.

Layouts: "Logical Replication Message Formats" and "Streaming Replication
Protocol" in the PostgreSQL documentation; ``src/backend/replication/logical/proto.c``
in the server.

Fields that several messages share:

``lsn``
    Where the record of the change stands in the WAL.
``xid``
    The transaction id, 32 bits, as the server sends it.
``commit_lsn``
    Where the commit record stands; for a prepared transaction, the prepare
    record. ``(commit_lsn, ordinal)`` is the key of a change, for deduplication.
    ``None`` where a streamed transaction has not ended yet.
``commit_time``
    When it was committed (or prepared), UTC. With a replication origin it is the
    origin's time, so it is not monotonic.
``end_lsn``
    The position after the commit record: what may be confirmed to the server once
    the transaction is handled.
``ordinal``
    The position in the transaction, from 0.
``gid``
    The name of the prepared transaction that the change belongs to, else ``None``.
"""

from __future__ import annotations

import copyreg
import enum
import functools
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from types import FunctionType
from typing import Any, Final, TypeAlias

from .lsn import LSN


class Unchanged(enum.Enum):
    """The type of :data:`UNCHANGED`."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"

    def __str__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED
"""Stands for a TOASTed value that an UPDATE did not change and the server did not
send, and in an old row for a value of the key that it did not send (that of a partition with
another key). It is not ``None``: the column has a value, which this event does not know."""


@dataclass(frozen=True)
class Begin:
    """``B``: a transaction follows, whole and committed.

    ``redelivered``: this stream has handed it out before, in part or whole, and lost its
    connection before it was acknowledged. It comes from its beginning; equality does not
    look at this field.
    """

    xid: int
    commit_lsn: LSN
    commit_time: datetime
    redelivered: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Commit:
    """``C``: the end of the transaction that the last Begin opened."""

    xid: int | None
    commit_lsn: LSN
    end_lsn: LSN
    commit_time: datetime


@dataclass(frozen=True)
class Origin:
    """``O``: the transaction was replayed here from another server.

    ``commit_lsn`` is the position at the origin; 0/0 in a streamed transaction.
    """

    name: str
    commit_lsn: LSN


@dataclass(frozen=True)
class Column:
    """A column of a relation. ``type_modifier`` is -1 where there is none.

    ``is_key``: part of the replica identity (all columns under FULL).
    """

    name: str
    type_oid: int
    type_modifier: int
    is_key: bool


@dataclass(frozen=True)
class Relation:
    """``R``: a table as it stood when the changes that follow were made.

    ``replica_identity`` is ``pg_class.relreplident``: ``d`` default (primary key),
    ``n`` nothing, ``f`` full, ``i`` index. ``columns`` are the published ones.
    """

    oid: int
    schema: str
    table: str
    replica_identity: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Type:
    """``Y``: the name of a type that is not built in. For a domain, its base type's."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True)
class Insert:
    """``I``: ``new`` is the row, a dict from column name to value by default."""

    relation: Relation
    new: Any
    lsn: LSN
    xid: int | None
    commit_lsn: LSN | None
    commit_time: datetime | None
    ordinal: int
    gid: str | None = None


@dataclass(frozen=True)
class Update:
    """``U``: ``new`` is the row after; ``old`` what the server sent of the row before.

    ``old`` holds all columns under REPLICA IDENTITY FULL, the replica identity's
    columns when one of them changed, and is ``None`` otherwise.
    """

    relation: Relation
    old: Any
    new: Any
    lsn: LSN
    xid: int | None
    commit_lsn: LSN | None
    commit_time: datetime | None
    ordinal: int
    gid: str | None = None


@dataclass(frozen=True)
class Delete:
    """``D``: ``old`` holds the replica identity's columns, all of them under FULL."""

    relation: Relation
    old: Any
    lsn: LSN
    xid: int | None
    commit_lsn: LSN | None
    commit_time: datetime | None
    ordinal: int
    gid: str | None = None


@dataclass(frozen=True)
class Truncate:
    """``T``: all published tables that one TRUNCATE emptied.

    It takes one ordinal for each relation: that of ``relations[i]`` is ``ordinal + i``.
    """

    relations: tuple[Relation, ...]
    cascade: bool
    restart_identity: bool
    lsn: LSN
    xid: int | None
    commit_lsn: LSN | None
    commit_time: datetime | None
    ordinal: int
    gid: str | None = None


@dataclass(frozen=True)
class LogicalMessage:
    """``M``: what ``pg_logical_emit_message`` wrote.

    One that is not ``transactional`` stands outside any transaction: it comes ahead of
    the transaction that wrote it, even if that rolls back, and has no ``xid``,
    ``commit_lsn``, ``commit_time`` or ``ordinal``.
    """

    prefix: str
    content: bytes
    transactional: bool
    lsn: LSN
    xid: int | None
    commit_lsn: LSN | None
    commit_time: datetime | None
    ordinal: int | None
    gid: str | None = None


@dataclass(frozen=True)
class StreamStart:
    """``S``: a block of a transaction in progress. ``first``: its first block."""

    xid: int
    first: bool


@dataclass(frozen=True)
class StreamStop:
    """``E``: the end of the block."""


@dataclass(frozen=True)
class StreamCommit:
    """``c``: a streamed transaction committed."""

    xid: int
    commit_lsn: LSN
    end_lsn: LSN
    commit_time: datetime


@dataclass(frozen=True)
class StreamAbort:
    """``A``: a streamed transaction, or with ``subxid != xid`` a part of it, rolled back.

    ``abort_lsn`` and ``abort_time`` are sent with ``streaming 'parallel'`` alone.
    """

    xid: int
    subxid: int
    abort_lsn: LSN | None
    abort_time: datetime | None


@dataclass(frozen=True)
class BeginPrepare:
    """``b``: a transaction follows that was prepared, not committed.

    ``redelivered`` is as in :class:`Begin`.
    """

    xid: int
    gid: str
    prepare_lsn: LSN
    end_lsn: LSN
    prepare_time: datetime
    redelivered: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Prepare:
    """``P``: the end of the transaction that the last BeginPrepare opened."""

    xid: int
    gid: str
    prepare_lsn: LSN
    end_lsn: LSN
    prepare_time: datetime


@dataclass(frozen=True)
class CommitPrepared:
    """``K``: COMMIT PREPARED of a transaction whose changes came with its Prepare."""

    xid: int
    gid: str
    commit_lsn: LSN
    end_lsn: LSN
    commit_time: datetime


@dataclass(frozen=True)
class RollbackPrepared:
    """``r``: ROLLBACK PREPARED. It may name a transaction that was never seen.

    ``prepare_end_lsn`` is the Prepare's ``end_lsn``; ``end_lsn`` the rollback's own.
    """

    xid: int
    gid: str
    prepare_end_lsn: LSN
    end_lsn: LSN
    prepare_time: datetime
    rollback_time: datetime


@dataclass(frozen=True)
class StreamPrepare:
    """``p``: a streamed transaction was prepared."""

    xid: int
    gid: str
    prepare_lsn: LSN
    end_lsn: LSN
    prepare_time: datetime


@dataclass(frozen=True)
class SnapshotBegin:
    """A copy of all published tables follows, as they stood at ``lsn``.

    It comes again, with another ``lsn``, where a copy was cut short and starts over:
    what came of the one before is void.
    """

    lsn: LSN
    relations: tuple[Relation, ...]


@dataclass(frozen=True)
class SnapshotRow:
    """A row of the copy. ``(lsn, ordinal)`` is its key; rows of different tables mix.

    ``lsn`` is that of the SnapshotBegin, the same for all rows.
    """

    relation: Relation
    new: Any
    lsn: LSN
    ordinal: int


@dataclass(frozen=True)
class SnapshotEnd:
    """The copy is whole: ``rows`` rows. The stream goes on with what committed after ``lsn``."""

    lsn: LSN
    rows: int


@dataclass(frozen=True)
class Keepalive:
    """``k``: the server has read its WAL up to ``end_lsn``.

    ``reply_requested``: it will drop the connection unless a status update comes soon.
    """

    end_lsn: LSN
    send_time: datetime
    reply_requested: bool


class JSONLines(bytes):
    """Changes as JSON Lines, in UTF-8: one line or many, all of them whole.

    They stand between a Begin and a Commit in place of the changes, where these were asked
    for as JSON.
    """

    __slots__ = ()


Payload: TypeAlias = bytes | bytearray | memoryview
"""The payload of one CopyData message, as any contiguous buffer."""

RowEvent: TypeAlias = Insert | Update | Delete
"""A change of one row."""

Change: TypeAlias = Insert | Update | Delete | Truncate | Origin | JSONLines
"""What may stand between the brackets of a transaction and changes no position."""

Event: TypeAlias = (
    Begin
    | Commit
    | Origin
    | Insert
    | Update
    | Delete
    | Truncate
    | LogicalMessage
    | BeginPrepare
    | Prepare
    | CommitPrepared
    | RollbackPrepared
    | SnapshotBegin
    | SnapshotRow
    | SnapshotEnd
    | JSONLines
)
"""What a stream yields: committed (or prepared) changes and their brackets; before them,
where a snapshot was asked for, its rows."""

Message: TypeAlias = (
    Event | Relation | Type | StreamStart | StreamStop | StreamCommit | StreamAbort | StreamPrepare
)
"""What a decoder makes of an XLogData payload."""


def _reduce(message: Any) -> tuple[type[Any], tuple[Any, ...]]:
    return type(message), tuple(getattr(message, name) for name in message.__match_args__)


def _storing(cls: type[Any]) -> Any:
    """The constructor of a dataclass, made to store into the instance's dict.

    The one that ``dataclass`` writes for a frozen class calls ``object.__setattr__`` for each
    field, which takes more than twice as long. An extension type needs neither.
    """
    names = [one.name for one in fields(cls)]
    lines = [f"def __init__(self, {', '.join(names)}):", "    stored = self.__dict__"]
    lines += [f"    stored[{name!r}] = {name}" for name in names]
    namespace: dict[str, Any] = {}
    exec("\n".join(lines), namespace)
    namespace["__init__"].__defaults__ = cls.__init__.__defaults__
    return functools.wraps(cls.__init__)(namespace["__init__"])


for _class in list(globals().values()):
    if isinstance(_class, type) and is_dataclass(_class):
        # By class and fields, so that a pickle passes between compiled and plain installations.
        copyreg.pickle(_class, _reduce)
        if isinstance(_class.__init__, FunctionType):
            _class.__init__ = _storing(_class)  # type: ignore[method-assign]
del _class
