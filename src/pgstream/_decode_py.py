"""The decoder in Python: the twin of ``_decode.pyx``.

The two files are mirror images: the same functions under the same names, in the same
order, with the same docstrings, and the same results, errors included. Whatever
changes here changes there. Only what saves time is each one's own: decode() of the Python
decoder, which reads the frequent messages in one piece and leaves the rest to the functions;
in Cython one reader for a run, and functions for what a Commit shares with its Begin.

Top: the reader. It and decode() alone cut the bytes, and are the only places where bounds are
checked. Below it the decoder's memory, and one function for each message. The layouts
are those of "Logical Replication Message Formats" in the PostgreSQL documentation and of
``src/backend/replication/logical/proto.c``.

A function reads its whole message before it changes the decoder's memory, so that a
malformed message leaves the decoder as it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from struct import Struct
from typing import Any, Final, Literal

from .errors import ProtocolError
from .lsn import LSN
from .messages import (
    UNCHANGED,
    Begin,
    BeginPrepare,
    Change,
    Column,
    Commit,
    CommitPrepared,
    Delete,
    Insert,
    Keepalive,
    LogicalMessage,
    Message,
    Origin,
    Payload,
    Prepare,
    Relation,
    RollbackPrepared,
    StreamAbort,
    StreamCommit,
    StreamPrepare,
    StreamStart,
    StreamStop,
    Truncate,
    Type,
    Update,
)
from .rows import RowFactory, dict_row
from .types import (
    LOAD_ERRORS,
    Catalog,
    Loader,
    LoaderFailed,
    Loaders,
    Numeric,
    TypeInfo,
    as_function,
    strings,
)
from .types.datetimes import MICROSECOND, POSTGRES_EPOCH_UTC
from .types.numbers import int_text

MAX_COLUMNS: Final = 1600  # MaxTupleAttributeNumber less the system's: the server's limit

NULL_CELL, UNCHANGED_TOAST, TEXT, BINARY = b"nutb"
KEY, OLD, NEW = b"KON"
BEGIN, COMMIT, INSERT, UPDATE, DELETE = b"BCIUD"
OF_ROWS: Final = frozenset(b"IUD")
COPY_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
COPY_END: Final = 0xFFFF

CHANGES: Final = frozenset({Insert, Update, Delete, Truncate, Origin})

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from
_i32 = Struct(">i").unpack_from
_u64 = Struct(">Q").unpack_from
_i64 = Struct(">q").unpack_from
# What decode() reads in one piece, the first three from the payload's first byte on. The head:
# w, start LSN, message byte; of a change its relation, marker and columns.
_head = Struct(">BQ16xBIBH").unpack_from
_begin = Struct(">26xQqI").unpack
_commit = Struct(">26xBQQq").unpack
_tuple = Struct(">BH").unpack_from  # marker, columns
_cell = Struct(">BI").unpack_from  # kind, size of the value
_in_block = Struct(">IBH").unpack_from  # of a change in a block, after its xid
HEAD: Final = 33  # bytes
PADDING: Final = bytes(4)  # so that a size can be read of a NULL at the end, which has none

_new_int = int.__new__
_decode = bytes.decode


class Unusual(Exception):
    """A message is none of those that decode() reads by itself."""


class Reader:
    """Reads one payload from front to back, and never past its end."""

    __slots__ = ("at", "data", "end", "failed_at", "failure", "kind", "placed", "size", "start")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)
        self.kind = "CopyData"
        self.placed = False  # whether its head was read, which has its LSN
        self.start = 0  # of the last cell's value
        self.size = 0
        # Of a value that decode() met: its loader has failed, and is not called again.
        self.failed_at = -1
        self.failure: LoaderFailed | None = None

    def error(self, reason: str, offset: int) -> ProtocolError:
        """The error to raise for what stands at ``offset``."""
        return ProtocolError(reason, self.kind, offset, self.lsn())

    def lsn(self) -> LSN | None:
        """Where the payload stands in the WAL, once its head was read."""
        return _new_int(LSN, _u64(self.data, 1)[0]) if self.placed else None

    def need(self, size: int) -> None:
        """Raise unless ``size`` bytes are left."""
        if self.end - self.at < size:
            raise self.error(f"truncated: {size} bytes wanted, {self.end - self.at} left", self.at)

    def skip(self, size: int) -> None:
        """Pass over ``size`` bytes."""
        self.need(size)
        self.at += size

    def u8(self) -> int:
        """One byte."""
        self.need(1)
        value = self.data[self.at]
        self.at += 1
        return value

    def u16(self) -> int:
        """Two bytes, unsigned."""
        self.need(2)
        value: int = _u16(self.data, self.at)[0]
        self.at += 2
        return value

    def u32(self) -> int:
        """Four bytes, unsigned."""
        self.need(4)
        value: int = _u32(self.data, self.at)[0]
        self.at += 4
        return value

    def i32(self) -> int:
        """Four bytes, signed."""
        self.need(4)
        value: int = _i32(self.data, self.at)[0]
        self.at += 4
        return value

    def position(self) -> LSN:
        """Eight bytes: an LSN."""
        self.need(8)
        value: int = _u64(self.data, self.at)[0]
        self.at += 8
        return int.__new__(LSN, value)

    def timestamp(self) -> datetime:
        """Eight bytes: microseconds since 2000-01-01 UTC."""
        self.need(8)
        us: int = _i64(self.data, self.at)[0]
        try:
            value = POSTGRES_EPOCH_UTC + MICROSECOND * us
        except OverflowError:
            raise self.error("impossible timestamp", self.at) from None
        self.at += 8
        return value

    def string(self) -> str:
        """Bytes up to a NUL, as text; bytes that are not UTF-8 are escaped."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise self.error("truncated: a string without its end", self.at)
        value = self.data[self.at : end].decode("utf-8", "backslashreplace")
        self.at = end + 1
        return value

    def flag(self, wanted: int) -> None:
        """One byte that can only be ``wanted``."""
        if self.u8() != wanted:
            raise self.error(f"byte {self.data[self.at - 1]}, expected {wanted}", self.at - 1)

    def block(self) -> bytes:
        """A u32 length and as many bytes."""
        size = self.u32()
        self.need(size)
        self.at += size
        return self.data[self.at - size : self.at]

    def cell(self) -> int:
        """The kind of a tuple's next column; the value is ``size`` bytes from ``start``."""
        self.need(1)
        kind = self.data[self.at]
        if kind in (NULL_CELL, UNCHANGED_TOAST):
            self.at += 1
            return kind
        if kind != TEXT and kind != BINARY:
            raise self.error(f"unknown kind of column 0x{kind:02x}", self.at)
        self.at += 1
        self.size = self.u32()
        self.need(self.size)
        self.start = self.at
        self.at += self.size
        return kind

    def field(self) -> bool:
        """Whether a copied row's next column has a value; it is ``size`` bytes from ``start``."""
        size = self.i32()
        if size == -1:
            return False
        if size < 0:
            raise self.error(f"impossible length {size}", self.at - 4)
        self.need(size)
        self.size = size
        self.start = self.at
        self.at += size
        return True

    def finish(self) -> None:
        """Raise if anything is left."""
        if self.at != self.end:
            raise self.error(f"{self.end - self.at} bytes too many", self.at)


class Plan:
    """How the rows of a relation are read: a loader for each column and format."""

    __slots__ = (
        "arrival",
        "binary",
        "cells",
        "dicts",
        "key_names",
        "keys",
        "make",
        "make_key",
        "relation",
        "text",
        "version",
        "width",
    )

    def __init__(
        self, relation: Relation, arrival: int, loaders: Loaders, row_factory: RowFactory
    ) -> None:
        columns = relation.columns
        self.relation = relation
        self.arrival = arrival
        self.version = loaders.catalog.version  # of what the loaders were made from
        self.width = len(columns)
        self.text = [loaders.text(column.type_oid) for column in columns]
        self.binary = [loaders.binary(column.type_oid) for column in columns]
        self.keys = [index for index, column in enumerate(columns) if column.is_key]
        # For decode(): the loaders by names, which differ unless the message was damaged.
        names = [column.name for column in columns]
        self.cells: Any = None  # over which none can go
        if len(set(names)) == len(names):
            text, binary = map(glanced, self.text), map(glanced, self.binary)
            self.cells = list(zip(names, text, binary, strict=True))
        self.key_names = [names[index] for index in self.keys]
        self.dicts = row_factory is dict_row
        self.make = row_factory(columns)
        self.make_key = row_factory(tuple(columns[index] for index in self.keys))


class Streamed:
    """What is known of a streamed transaction in progress."""

    __slots__ = ("ordinal", "plans")

    def __init__(self) -> None:
        self.ordinal = 0
        self.plans: dict[int, Plan] = {}


class Decoder:
    """Turns CopyData payloads of a replication stream into messages. Does no I/O.

    It remembers what the protocol makes a reader remember: the relations, the open
    transaction, the streamed transactions. Use one for each connection.

    Args:
        row_factory: What a row is made into, :func:`dict_row` or :func:`tuple_row`.
        values: ``"typed"``, or ``"text"`` for PostgreSQL's own text of every value.
        json_loads: What parses json and jsonb. ``str`` keeps them as text.
        numeric: What numeric becomes: ``"decimal"``, ``"float"`` or ``"str"``.
        catalog: The types that are not built in. It may be shared, and filled later; what another
            decoder adds counts here from the next Relation of a table on.
    """

    def __init__(
        self,
        *,
        row_factory: RowFactory = dict_row,
        values: Literal["typed", "text"] = "typed",
        json_loads: Callable[[str], Any] = json.loads,
        numeric: Numeric = "decimal",
        catalog: Catalog | None = None,
    ) -> None:
        self._row_factory = row_factory
        self._loaders = Loaders(values, json_loads, numeric, catalog)
        self._plans: dict[int, Plan] = {}
        self._copied: Plan | None = None  # of the relation whose rows were read last
        self._arrivals = 0
        self._xid: int | None = None
        self._commit_lsn: LSN | None = None
        self._commit_time: datetime | None = None
        self._us = 0  # the commit time of the Begin that decode() read last, as it came
        self._moment = POSTGRES_EPOCH_UTC  # and made of it
        self._gid: str | None = None
        self._ordinal = 0
        self._streamed: dict[int, Streamed] = {}
        self._block: Streamed | None = None  # between StreamStart and StreamStop

    @property
    def relations(self) -> dict[int, Relation]:
        """The relations known to all transactions, by OID."""
        return {oid: plan.relation for oid, plan in self._plans.items()}

    @property
    def unknown_types(self) -> frozenset[int]:
        """The OIDs of types that the known relations mention, or types that these are made
        of, and that neither is built in nor stands in the catalog. Their values are
        PostgreSQL's text, or bytes in the binary transfer.
        """
        return self._loaders.unknown(
            [
                column.type_oid
                for plans in all_plans(self)
                for plan in plans.values()
                for column in plan.relation.columns
            ]
        )

    def add_types(self, infos: Iterable[TypeInfo]) -> None:
        """Add types to the catalog, and read the rows of the known relations by them from
        here on.
        """
        self._loaders.catalog.add(infos)
        rebuild_plans(self)

    def register_loader(
        self, type: int | str, *, text: Loader | None = None, binary: Loader | None = None
    ) -> None:
        """Load the values of a type with functions of your own, from here on; inside arrays,
        composites, ranges and domains too.

        Args:
            type: The OID, or the name, ``schema.name`` or SQL's name for a built-in type. A
                type that is not built in is found by its name once the catalog has it.
            text: What makes a value of the bytes of PostgreSQL's text.
            binary: What makes a value of the bytes of the binary form.

        Raises:
            ValueError: if neither is given, or values are kept as text.
        """
        self._loaders.register(type, text, binary)
        rebuild_plans(self)

    def decode(self, payload: Payload) -> Message | Keepalive | None:
        """Decode one CopyData payload; no reference to it is kept.

        Returns:
            The message; ``None`` for an outer message that holds nothing of the stream
            (``s``, PostgreSQL 19's answer to a question that is never asked).

        Raises:
            ProtocolError: if it is malformed. The decoder is then as it was before.
        """
        if type(payload) is not bytes:
            with memoryview(payload) as view:
                if not view.c_contiguous:
                    raise BufferError("a payload must be contiguous")
                payload = view.tobytes()
        # The frequent messages are read here, in one piece: the calls of a Reader take most of
        # the time. Whatever is out of the ordinary goes to the functions below, which read the
        # payload from its start, and find the error if there is one. So nothing is changed
        # before all has been read.
        end = len(payload)
        try:
            outer, lsn, kind, oid, marker, width = _head(payload)
            if outer != 0x77:
                raise Unusual
            block = self._block
            if kind in OF_ROWS:
                at = HEAD
                if block is None:
                    xid = self._xid
                    plan = self._plans[oid]
                else:
                    xid = oid
                    oid, marker, width = _in_block(payload, HEAD - 3)
                    at += 4
                    plan = block.plans.get(oid) or self._plans[oid]
                old: Any = None  # what is known of the old row
                new: Any = None
                padded = payload if payload[-1] < NULL_CELL else payload + PADDING
                while True:  # once for each tuple
                    if width != plan.width:
                        raise Unusual
                    row: dict[str, Any] = {}
                    for name, text, binary in plan.cells:
                        cell, size = _cell(padded, at)
                        if cell == TEXT:
                            start = at + 5
                            at = start + size
                            value = payload[start:at]
                            if text is int_text and size < 19 and value.isdigit():
                                row[name] = int(value)
                                continue
                            load = text
                        elif cell == BINARY:
                            start = at + 5
                            at = start + size
                            value = payload[start:at]
                            load = binary
                        elif cell == NULL_CELL:
                            row[name] = UNCHANGED if marker == KEY else None
                            at += 1
                            continue
                        elif cell == UNCHANGED_TOAST:
                            known = None if old is None else old.get(name)
                            row[name] = UNCHANGED if known is None else known
                            at += 1
                            continue
                        else:
                            raise Unusual
                        if at > end:  # a loader gets no part of a value
                            raise Unusual
                        try:  # here, so that no other loader of the row is called again
                            row[name] = load(value)
                        except UnicodeDecodeError:
                            if load is not _decode:
                                raise
                            row[name] = value
                    if marker == NEW and kind != DELETE:
                        new = row
                        break
                    if old is not None or kind == INSERT:
                        raise Unusual
                    if marker == OLD:
                        old = row
                        make_old = plan.make
                    elif marker == KEY:
                        old = {name: row[name] for name in plan.key_names}
                        make_old = plan.make_key
                    else:
                        raise Unusual
                    if kind == DELETE:
                        break
                    marker, width = _tuple(payload, at)
                    at += 3
                if at != end:
                    raise Unusual
            elif kind == BEGIN and block is None:
                number, us, xid = _begin(payload)
                begun = _new_int(LSN, number)
                # It is near the last, and arithmetic of small numbers is quicker.
                time = self._moment + MICROSECOND * (us - self._us)
                self._us, self._moment = us, time
                self._xid, self._commit_lsn, self._commit_time = xid, begun, time
                self._gid, self._ordinal = None, 0
                return Begin(xid, begun, time)
            elif kind == COMMIT and block is None:
                flags, number, end_number, us = _commit(payload)
                opened: Any = self._commit_lsn
                if flags or us != self._us or number != opened:  # not those of its Begin
                    raise Unusual
                xid = self._xid
                self._xid = self._commit_lsn = self._commit_time = self._gid = None
                self._ordinal = 0
                return Commit(xid, opened, _new_int(LSN, end_number), self._moment)
            else:
                raise Unusual
        except LoaderFailed as error:  # the functions below say of what, without a second call
            reader = Reader(payload)
            reader.failed_at, reader.failure = start, error
            return decode_payload(self, reader)
        except (Unusual, TypeError, *LOAD_ERRORS):  # None is no loader, and nothing to go over
            return decode_payload(self, Reader(payload))
        relation = plan.relation
        lsn = _new_int(LSN, lsn)
        gid = self._gid
        if not plan.dicts:
            if old is not None:
                old = make_old(list(old.values()))
            if new is not None:
                new = plan.make(list(new.values()))
        if block is None:
            ordinal = self._ordinal
            self._ordinal = ordinal + 1
        else:
            ordinal = block.ordinal
            block.ordinal = ordinal + 1
        if kind == INSERT:
            return Insert(
                relation, new, lsn, xid, self._commit_lsn, self._commit_time, ordinal, gid
            )
        if kind == UPDATE:
            return Update(
                relation, old, new, lsn, xid, self._commit_lsn, self._commit_time, ordinal, gid
            )
        return Delete(relation, old, lsn, xid, self._commit_lsn, self._commit_time, ordinal, gid)

    def decode_many(self, payloads: Iterable[Payload]) -> list[Message | Keepalive]:
        """Decode payloads in order; those that hold nothing are left out.

        Raises:
            ProtocolError: at the first that is malformed.
        """
        messages = []
        for payload in payloads:
            message = self.decode(payload)
            if message is not None:
                messages.append(message)
        return messages

    def decode_run(
        self, payloads: Sequence[Payload], start: int = 0
    ) -> tuple[list[Change], int, Message | Keepalive | ProtocolError | None]:
        """Decode changes from ``payloads[start]`` on, up to a message that is none.

        Returns:
            The changes; the index behind the last payload that was read; and the message
            that ended the run, the error at the one that is malformed, or ``None`` where
            the payloads have ended. Type messages are passed over.
        """
        changes: list[Change] = []
        at = start
        count = len(payloads)
        try:
            while at < count:
                message: Any = self.decode(payloads[at])
                at += 1
                if type(message) in CHANGES:
                    changes.append(message)
                elif message is not None and type(message) is not Type:
                    return changes, at, message
        except ProtocolError as error:
            return changes, at + 1, error
        return changes, at, None

    def copy_rows(self, relation: Relation, data: Payload) -> list[Any]:
        """Decode a piece of what ``COPY … (FORMAT binary)`` sends: whole rows, perhaps with
        the header before them or the trailer after them.

        Args:
            relation: What is copied: its columns are those of the rows, in their order.
            data: The bytes; no reference to them is kept.

        Returns:
            The rows, as events have them.

        Raises:
            ProtocolError: if they are malformed.
        """
        reader = Reader(bytes(data))
        reader.kind = "CopyRow"
        return decode_copy(self, reader, relation)


def glanced(loader: Loader | None) -> Loader | None:
    """What decode() calls for a loader: the same, or for text what is quicker, and refuses what
    is not UTF-8."""
    return _decode if loader is strings.text else as_function(loader)


def decode_payload(decoder: Decoder, reader: Reader) -> Message | Keepalive | None:
    """One CopyData payload: ``w`` (start LSN, end LSN, send time, a message), ``k`` or ``s``."""
    outer = reader.u8()
    if outer == 0x77:
        reader.kind = "XLogData"
        reader.skip(8)
        reader.skip(8)
        reader.skip(8)
        reader.placed = True
        return decode_message(decoder, reader)
    if outer == 0x6B:
        reader.kind = "Keepalive"
        return decode_keepalive(decoder, reader)
    if outer == 0x73:
        return None
    raise reader.error(f"unknown message byte 0x{outer:02x}", 0)


def decode_keepalive(decoder: Decoder, reader: Reader) -> Keepalive:
    """``k``: LSN end, timestamp, u8 reply requested."""
    end_lsn = reader.position()
    send_time = reader.timestamp()
    reply_requested = reader.u8() != 0
    reader.finish()
    return Keepalive(end_lsn, send_time, reply_requested)


def decode_message(decoder: Decoder, reader: Reader) -> Message:
    """The pgoutput message of an XLogData: a byte that names it, then its fields."""
    byte = reader.u8()
    entry = DECODERS.get(byte)
    if entry is None:
        raise reader.error(f"unknown message byte 0x{byte:02x}", reader.at - 1)
    reader.kind, decode, inside = entry
    if decoder._block is not None and not inside:
        raise reader.error("inside the block of a streamed transaction", reader.at - 1)
    return decode(decoder, reader)


def decode_begin(decoder: Decoder, reader: Reader) -> Begin:
    """``B``: LSN of the commit record, commit timestamp, u32 xid."""
    commit_lsn = reader.position()
    commit_time = reader.timestamp()
    xid = reader.u32()
    reader.finish()
    open_transaction(decoder, xid, commit_lsn, commit_time, None)
    return Begin(xid, commit_lsn, commit_time)


def decode_commit(decoder: Decoder, reader: Reader) -> Commit:
    """``C``: u8 0, LSN of the commit record, LSN of its end, commit timestamp."""
    reader.flag(0)
    commit_lsn = reader.position()
    end_lsn = reader.position()
    commit_time = reader.timestamp()
    reader.finish()
    xid = decoder._xid
    open_transaction(decoder, None, None, None, None)
    return Commit(xid, commit_lsn, end_lsn, commit_time)


def decode_origin(decoder: Decoder, reader: Reader) -> Origin:
    """``O``: LSN of the commit at the origin, string name."""
    commit_lsn = reader.position()
    name = reader.string()
    reader.finish()
    return Origin(name, commit_lsn)


def decode_relation(decoder: Decoder, reader: Reader) -> Relation:
    """``R``: [xid] u32 oid, string schema ("" is pg_catalog), string table, u8 replica
    identity, u16 columns, for each: u8 flags (1 key), string name, u32 type, i32 modifier.
    """
    decode_xid(decoder, reader)
    oid = reader.u32()
    schema = reader.string() or "pg_catalog"
    table = reader.string()
    identity = reader.u8()
    if identity not in b"dnfi":
        raise reader.error(f"unknown replica identity 0x{identity:02x}", reader.at - 1)
    width = reader.u16()
    if width > MAX_COLUMNS:
        raise reader.error(f"{width} columns, {MAX_COLUMNS} are possible", reader.at - 2)
    columns = []
    for _ in range(width):
        is_key = (reader.u8() & 1) != 0
        name = reader.string()
        type_oid = reader.u32()
        type_modifier = reader.i32()
        columns.append(Column(name, type_oid, type_modifier, is_key))
    reader.finish()
    relation = Relation(oid, schema, table, chr(identity), tuple(columns))
    plans = decoder._plans if decoder._block is None else decoder._block.plans
    decoder._arrivals += 1
    known = plans.get(oid)
    if known is not None and known.relation == relation:
        if known.version == decoder._loaders.catalog.version:
            known.arrival = decoder._arrivals
            return known.relation
        relation = known.relation
    plans[oid] = Plan(relation, decoder._arrivals, decoder._loaders, decoder._row_factory)
    return relation


def decode_type(decoder: Decoder, reader: Reader) -> Type:
    """``Y``: [xid] u32 oid, string schema ("" is pg_catalog), string name."""
    decode_xid(decoder, reader)
    oid = reader.u32()
    schema = reader.string() or "pg_catalog"
    name = reader.string()
    reader.finish()
    return Type(oid, schema, name)


def decode_insert(decoder: Decoder, reader: Reader) -> Insert:
    """``I``: [xid] u32 relation, ``N``, tuple."""
    xid = decode_xid(decoder, reader)
    plan = read_plan(decoder, reader)
    reader.flag(NEW)
    new = read_row(reader, plan, None)
    reader.finish()
    return Insert(
        plan.relation,
        new,
        reader.lsn(),  # type: ignore[arg-type]  # the header was read
        xid,
        decoder._commit_lsn,
        decoder._commit_time,
        next_ordinal(decoder, 1),
        decoder._gid,
    )


def decode_update(decoder: Decoder, reader: Reader) -> Update:
    """``U``: [xid] u32 relation, [``K`` or ``O``, old tuple], ``N``, new tuple."""
    xid = decode_xid(decoder, reader)
    plan = read_plan(decoder, reader)
    old = None
    before = None
    marker = reader.u8()
    if marker in (KEY, OLD):
        before = read_tuple(reader, plan, marker == KEY)
        old = make_old(plan, before, marker)
        marker = reader.u8()
    if marker != NEW:
        raise reader.error(f"unknown kind of tuple 0x{marker:02x}", reader.at - 1)
    new = read_row(reader, plan, before)
    reader.finish()
    return Update(
        plan.relation,
        old,
        new,
        reader.lsn(),  # type: ignore[arg-type]
        xid,
        decoder._commit_lsn,
        decoder._commit_time,
        next_ordinal(decoder, 1),
        decoder._gid,
    )


def decode_delete(decoder: Decoder, reader: Reader) -> Delete:
    """``D``: [xid] u32 relation, ``K`` or ``O``, old tuple."""
    xid = decode_xid(decoder, reader)
    plan = read_plan(decoder, reader)
    marker = reader.u8()
    if marker != KEY and marker != OLD:
        raise reader.error(f"unknown kind of tuple 0x{marker:02x}", reader.at - 1)
    old = make_old(plan, read_tuple(reader, plan, marker == KEY), marker)
    reader.finish()
    return Delete(
        plan.relation,
        old,
        reader.lsn(),  # type: ignore[arg-type]
        xid,
        decoder._commit_lsn,
        decoder._commit_time,
        next_ordinal(decoder, 1),
        decoder._gid,
    )


def decode_truncate(decoder: Decoder, reader: Reader) -> Truncate:
    """``T``: [xid] u32 count, u8 flags (1 cascade, 2 restart identity), u32 relations."""
    xid = decode_xid(decoder, reader)
    count = reader.u32()
    flags = reader.u8()
    if flags > 3:
        raise reader.error(f"unknown flags 0x{flags:02x}", reader.at - 1)
    reader.need(4 * count)
    relations = tuple([read_plan(decoder, reader).relation for _ in range(count)])
    reader.finish()
    return Truncate(
        relations,
        (flags & 1) != 0,
        (flags & 2) != 0,
        reader.lsn(),  # type: ignore[arg-type]
        xid,
        decoder._commit_lsn,
        decoder._commit_time,
        next_ordinal(decoder, count),
        decoder._gid,
    )


def decode_logical_message(decoder: Decoder, reader: Reader) -> LogicalMessage:
    """``M``: [xid] u8 flags (1 transactional), LSN, string prefix, u32 length, bytes."""
    xid = decode_xid(decoder, reader)
    flags = reader.u8()
    if flags > 1:
        raise reader.error(f"unknown flags 0x{flags:02x}", reader.at - 1)
    lsn = reader.position()
    prefix = reader.string()
    content = reader.block()
    reader.finish()
    if not flags:
        return LogicalMessage(prefix, content, False, lsn, None, None, None, None, None)
    return LogicalMessage(
        prefix,
        content,
        True,
        lsn,
        xid,
        decoder._commit_lsn,
        decoder._commit_time,
        next_ordinal(decoder, 1),
        decoder._gid,
    )


def decode_stream_start(decoder: Decoder, reader: Reader) -> StreamStart:
    """``S``: u32 xid, u8 1 for the first block of the transaction."""
    xid = reader.u32()
    first = reader.u8()
    if first > 1:
        raise reader.error(f"unknown flags 0x{first:02x}", reader.at - 1)
    reader.finish()
    open_transaction(decoder, None, None, None, None)
    if first or xid not in decoder._streamed:
        decoder._streamed[xid] = Streamed()
    decoder._block = decoder._streamed[xid]
    return StreamStart(xid, first != 0)


def decode_stream_stop(decoder: Decoder, reader: Reader) -> StreamStop:
    """``E``: nothing more."""
    if decoder._block is None:
        raise reader.error("no block of a streamed transaction is open", reader.at - 1)
    reader.finish()
    decoder._block = None
    return StreamStop()


def decode_stream_commit(decoder: Decoder, reader: Reader) -> StreamCommit:
    """``c``: u32 xid, u8 0, LSN of the commit record, LSN of its end, commit timestamp.

    The transaction's relations count for all from here on, but for those that another
    transaction has brought since.
    """
    xid = reader.u32()
    reader.flag(0)
    commit_lsn = reader.position()
    end_lsn = reader.position()
    commit_time = reader.timestamp()
    reader.finish()
    streamed = decoder._streamed.pop(xid, None)
    if streamed is not None:
        for oid, plan in streamed.plans.items():
            known = decoder._plans.get(oid)
            if known is None or known.arrival < plan.arrival:
                decoder._plans[oid] = plan
    return StreamCommit(xid, commit_lsn, end_lsn, commit_time)


def decode_stream_abort(decoder: Decoder, reader: Reader) -> StreamAbort:
    """``A``: u32 xid, u32 subtransaction's xid, with streaming 'parallel' also LSN and
    timestamp of the abort.
    """
    xid = reader.u32()
    subxid = reader.u32()
    abort_lsn = None
    abort_time = None
    if reader.at != reader.end:
        abort_lsn = reader.position()
        abort_time = reader.timestamp()
    reader.finish()
    if xid == subxid:
        decoder._streamed.pop(xid, None)
    return StreamAbort(xid, subxid, abort_lsn, abort_time)


def decode_begin_prepare(decoder: Decoder, reader: Reader) -> BeginPrepare:
    """``b``: LSN of the prepare record, LSN of its end, timestamp, u32 xid, string gid."""
    prepare_lsn = reader.position()
    end_lsn = reader.position()
    prepare_time = reader.timestamp()
    xid = reader.u32()
    gid = reader.string()
    reader.finish()
    open_transaction(decoder, xid, prepare_lsn, prepare_time, gid)
    return BeginPrepare(xid, gid, prepare_lsn, end_lsn, prepare_time)


def decode_prepare(decoder: Decoder, reader: Reader) -> Prepare:
    """``P``: u8 0, LSN of the prepare record, LSN of its end, timestamp, u32 xid, string gid."""
    reader.flag(0)
    prepare_lsn = reader.position()
    end_lsn = reader.position()
    prepare_time = reader.timestamp()
    xid = reader.u32()
    gid = reader.string()
    reader.finish()
    open_transaction(decoder, None, None, None, None)
    return Prepare(xid, gid, prepare_lsn, end_lsn, prepare_time)


def decode_commit_prepared(decoder: Decoder, reader: Reader) -> CommitPrepared:
    """``K``: u8 0, LSN of the commit record, LSN of its end, timestamp, u32 xid, string gid."""
    reader.flag(0)
    commit_lsn = reader.position()
    end_lsn = reader.position()
    commit_time = reader.timestamp()
    xid = reader.u32()
    gid = reader.string()
    reader.finish()
    return CommitPrepared(xid, gid, commit_lsn, end_lsn, commit_time)


def decode_rollback_prepared(decoder: Decoder, reader: Reader) -> RollbackPrepared:
    """``r``: u8 0, LSN of the prepare's end, LSN of the rollback's end, timestamps of the
    prepare and the rollback, u32 xid, string gid.
    """
    reader.flag(0)
    prepare_end_lsn = reader.position()
    end_lsn = reader.position()
    prepare_time = reader.timestamp()
    rollback_time = reader.timestamp()
    xid = reader.u32()
    gid = reader.string()
    reader.finish()
    return RollbackPrepared(xid, gid, prepare_end_lsn, end_lsn, prepare_time, rollback_time)


def decode_stream_prepare(decoder: Decoder, reader: Reader) -> StreamPrepare:
    """``p``: as ``P``, for a streamed transaction."""
    reader.flag(0)
    prepare_lsn = reader.position()
    end_lsn = reader.position()
    prepare_time = reader.timestamp()
    xid = reader.u32()
    gid = reader.string()
    reader.finish()
    decoder._streamed.pop(xid, None)
    return StreamPrepare(xid, gid, prepare_lsn, end_lsn, prepare_time)


def decode_xid(decoder: Decoder, reader: Reader) -> int | None:
    """The xid of a change: u32, sent inside a block alone; else the open transaction's."""
    if decoder._block is None:
        return decoder._xid
    return reader.u32()


def read_plan(decoder: Decoder, reader: Reader) -> Plan:
    """The plan of the relation whose OID follows."""
    oid = reader.u32()
    plan = find_plan(decoder, oid)
    if plan is None:
        raise reader.error(f"relation {oid} has not been announced", reader.at - 4)
    return plan


def find_plan(decoder: Decoder, oid: int) -> Plan | None:
    """The plan of a relation, if it was announced."""
    if decoder._block is not None:
        plan = decoder._block.plans.get(oid)
        if plan is not None:
            return plan
    return decoder._plans.get(oid)


def read_tuple(
    reader: Reader, plan: Plan, key_only: bool, before: list[Any] | None = None
) -> list[Any]:
    """The values of a tuple: u16 columns, then for each a kind and perhaps a value.

    With ``key_only`` a NULL is UNCHANGED, and so is all outside the key: what is sent for them
    is no value. An unchanged TOASTed value is taken from ``before`` where that has it; it cannot
    have been NULL, which there stands for a column that a partition's replica identity lacks.
    """
    width = reader.u16()
    if width != plan.width:
        raise reader.error(
            f"{width} columns, the relation {name_of(plan)} has {plan.width}", reader.at - 2
        )
    values: list[Any] = []
    index = 0
    kind = 0
    try:
        for index in range(width):
            kind = reader.cell()
            if key_only and not plan.relation.columns[index].is_key:
                values.append(UNCHANGED)
            elif kind == NULL_CELL:
                values.append(UNCHANGED if key_only else None)
            elif kind == UNCHANGED_TOAST:
                known = None if before is None else before[index]
                values.append(UNCHANGED if known is None else known)
            else:
                values.append(load_value(reader, plan, index, kind))
    except LOAD_ERRORS:
        raise not_loaded(reader, plan, index, kind, None) from None
    except LoaderFailed as error:
        raise not_loaded(reader, plan, index, kind, error.__cause__) from error.__cause__
    return values


def read_row(reader: Reader, plan: Plan, before: list[Any] | None) -> Any:
    """The row that a tuple of all columns makes."""
    return plan.make(read_tuple(reader, plan, False, before))


def decode_copy(decoder: Decoder, reader: Reader, relation: Relation) -> list[Any]:
    """Rows of a COPY: for each i16 columns and the columns; -1 ends them. Before the first
    may stand a header: a signature, u32 flags, u32 length, and as many bytes.
    """
    rows: list[Any] = []
    if reader.data.startswith(COPY_SIGNATURE):
        reader.skip(len(COPY_SIGNATURE))
        reader.skip(4)
        reader.skip(reader.u32())
    plan = decoder._copied
    version = decoder._loaders.catalog.version
    if plan is None or plan.version != version or plan.relation != relation:
        plan = Plan(relation, 0, decoder._loaders, decoder._row_factory)
        decoder._copied = plan
    while reader.at != reader.end:
        width = reader.u16()
        if width == COPY_END:
            reader.finish()
        elif width == plan.width:
            rows.append(make_row(plan, read_copied(reader, plan)))
        else:
            raise reader.error(
                f"{width} columns, the relation {name_of(plan)} has {plan.width}", reader.at - 2
            )
    return rows


def read_copied(reader: Reader, plan: Plan) -> list[Any]:
    """The values of a copied row: for each column i32 length, -1 for NULL, and the value."""
    values: list[Any] = []
    index = 0
    try:
        for index in range(plan.width):
            if reader.field():
                values.append(load_value(reader, plan, index, BINARY))
            else:
                values.append(None)
    except LOAD_ERRORS:
        raise not_loaded(reader, plan, index, BINARY, None) from None
    except LoaderFailed as error:
        raise not_loaded(reader, plan, index, BINARY, error.__cause__) from error.__cause__
    return values


def load_value(reader: Reader, plan: Plan, index: int, kind: int) -> Any:
    """The value that the reader has found, by its column's loader."""
    if reader.failure is not None and reader.start == reader.failed_at:
        raise reader.failure
    loader = plan.text[index] if kind == TEXT else plan.binary[index]
    if loader is None:
        raise bad_value(reader, plan, index, "binary, and values='text' was asked for")
    return loader(reader.data[reader.start : reader.start + reader.size])


def not_loaded(
    reader: Reader, plan: Plan, index: int, kind: int, cause: BaseException | None
) -> ProtocolError:
    """The error to raise for the value that was read last, which its loader refused."""
    what = "text" if kind == TEXT else "binary"
    reason = f"not a value of its type in {what} format"
    if cause is not None:
        reason = f"its registered loader raised {type(cause).__name__}: {cause}"
    return bad_value(reader, plan, index, reason)


def bad_value(reader: Reader, plan: Plan, index: int, reason: str) -> ProtocolError:
    """The error to raise for the value that was read last."""
    column = plan.relation.columns[index]
    return reader.error(
        f"column {column.name!r} (type {column.type_oid}) of {name_of(plan)}: {reason}",
        reader.start,
    )


def name_of(plan: Plan) -> str:
    """The relation's name, for an error."""
    return f"{plan.relation.schema}.{plan.relation.table}"


def make_row(plan: Plan, values: list[Any]) -> Any:
    """The row of all columns."""
    return plan.make(values)


def make_old(plan: Plan, values: list[Any], marker: int) -> Any:
    """The old row: the key's columns after ``K``, all of them after ``O``."""
    if marker == KEY:
        return plan.make_key([values[index] for index in plan.keys])
    return make_row(plan, values)


def open_transaction(
    decoder: Decoder,
    xid: int | None,
    commit_lsn: LSN | None,
    commit_time: datetime | None,
    gid: str | None,
) -> None:
    """Remember the transaction that the changes to come belong to; ``None``: no one."""
    decoder._xid = xid
    decoder._commit_lsn = commit_lsn
    decoder._commit_time = commit_time
    decoder._gid = gid
    decoder._ordinal = 0


def all_plans(decoder: Decoder) -> list[dict[int, Plan]]:
    """The plans of the relations known to all, and those of each streamed transaction."""
    return [decoder._plans, *[one.plans for one in decoder._streamed.values()]]


def rebuild_plans(decoder: Decoder) -> None:
    """Make every plan anew: the loaders of some types have changed."""
    decoder._copied = None
    for plans in all_plans(decoder):
        for oid, plan in list(plans.items()):
            plans[oid] = Plan(plan.relation, plan.arrival, decoder._loaders, decoder._row_factory)


def next_ordinal(decoder: Decoder, count: int) -> int:
    """Take ``count`` ordinals of the open transaction, and return the first."""
    if decoder._block is not None:
        ordinal = decoder._block.ordinal
        decoder._block.ordinal += count
    else:
        ordinal = decoder._ordinal
        decoder._ordinal += count
    return ordinal


DECODERS: Final[dict[int, tuple[str, Callable[[Decoder, Reader], Message], bool]]] = {
    # message byte: (name, function, may stand inside the block of a streamed transaction)
    0x42: ("Begin", decode_begin, False),
    0x43: ("Commit", decode_commit, False),
    0x4F: ("Origin", decode_origin, True),
    0x52: ("Relation", decode_relation, True),
    0x59: ("Type", decode_type, True),
    0x49: ("Insert", decode_insert, True),
    0x55: ("Update", decode_update, True),
    0x44: ("Delete", decode_delete, True),
    0x54: ("Truncate", decode_truncate, True),
    0x4D: ("LogicalMessage", decode_logical_message, True),
    0x53: ("StreamStart", decode_stream_start, False),
    0x45: ("StreamStop", decode_stream_stop, True),
    0x63: ("StreamCommit", decode_stream_commit, False),
    0x41: ("StreamAbort", decode_stream_abort, False),
    0x62: ("BeginPrepare", decode_begin_prepare, False),
    0x50: ("Prepare", decode_prepare, False),
    0x4B: ("CommitPrepared", decode_commit_prepared, False),
    0x72: ("RollbackPrepared", decode_rollback_prepared, False),
    0x70: ("StreamPrepare", decode_stream_prepare, False),
}
