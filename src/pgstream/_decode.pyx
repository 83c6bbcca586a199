# cython: language_level=3, boundscheck=False, wraparound=False
"""The decoder in Cython: the twin of ``_decode_py.py``.

The two files are mirror images: the same functions under the same names, in the same
order, with the same docstrings, and the same results, errors included. Whatever
changes here changes there. Only what saves time is each one's own: decode() of the Python
decoder, which reads the frequent messages in one piece and leaves the rest to the functions;
in Cython one reader for a run, and functions for what a Commit shares with its Begin.

Top: the reader, the only code that touches pointers and the only place where bounds are
checked. Below it the decoder's memory, and one function for each message. The layouts
are those of "Logical Replication Message Formats" in the PostgreSQL documentation and of
``src/backend/replication/logical/proto.c``.

A function reads its whole message before it changes the decoder's memory, so that a
malformed message leaves the decoder as it was.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memchr

from ._objects cimport new_int, new_message
from ._rows cimport DictRows, begin_row, put
from .messages cimport (
    Begin, BeginPrepare, Column, Commit, CommitPrepared, Delete, Insert, Keepalive,
    LogicalMessage, Origin, Prepare, Relation, RollbackPrepared, StreamAbort, StreamCommit,
    StreamPrepare, StreamStart, StreamStop, Truncate, Type, Update,
)
from .types._loaders cimport Loader, be32, be64, compiled, datetime_from

import json
from datetime import UTC

from .errors import ProtocolError
from .lsn import LSN
from .messages import UNCHANGED
from .rows import dict_row
from .types import LOAD_ERRORS, LoaderFailed, Loaders

MAX_COLUMNS = 1600  # MaxTupleAttributeNumber less the system's: the server's limit

COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\0"

cdef enum:
    RECENT = 64  # plans that are found without a look-up, by their OIDs
    COPY_END = 0xFFFF
    NULL_CELL = 0x6E
    UNCHANGED_TOAST = 0x75
    TEXT = 0x74
    BINARY = 0x62
    KEY = 0x4B
    OLD = 0x4F
    NEW = 0x4E

cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(object list, Py_ssize_t index)
    int PyGC_Disable()
    int PyGC_Enable()

cdef object _LSN = LSN
cdef object _UTC = UTC
cdef object _UNCHANGED = UNCHANGED
cdef int _MAX_COLUMNS = MAX_COLUMNS


@cython.final
@cython.freelist(8)
@cython.no_gc
cdef class Reader:
    """Reads one payload from front to back, and never past its end."""

    cdef object error(self, reason, Py_ssize_t offset):
        """The error to raise for what stands at ``offset``."""
        return ProtocolError(reason, self.kind, offset, self.lsn())

    cdef object lsn(self):
        """Where the payload stands in the WAL, once its head was read."""
        return new_int(_LSN, be64(self.data + 1)) if self.placed else None

    cdef inline int need(self, Py_ssize_t size) except -1:
        """Raise unless ``size`` bytes are left."""
        if self.end - self.at < size:
            raise self.error(
                f"truncated: {size} bytes wanted, {self.end - self.at} left", self.at
            )
        return 0

    cdef inline int skip(self, Py_ssize_t size) except -1:
        """Pass over ``size`` bytes."""
        self.need(size)
        self.at += size
        return 0

    cdef inline int u8(self) except -1:
        """One byte."""
        self.need(1)
        self.at += 1
        return self.data[self.at - 1]

    cdef inline int u16(self) except -1:
        """Two bytes, unsigned."""
        self.need(2)
        cdef const unsigned char *here = self.data + self.at
        self.at += 2
        return (here[0] << 8) | here[1]

    cdef inline uint32_t u32(self) except? 0xFFFFFFFF:
        """Four bytes, unsigned."""
        self.need(4)
        self.at += 4
        return be32(self.data + self.at - 4)

    cdef inline int32_t i32(self) except? -1:
        """Four bytes, signed."""
        return <int32_t>self.u32()

    cdef object position(self):
        """Eight bytes: an LSN."""
        self.need(8)
        self.at += 8
        return new_int(_LSN, be64(self.data + self.at - 8))

    cdef object timestamp(self):
        """Eight bytes: microseconds since 2000-01-01 UTC."""
        self.need(8)
        self.at += 8
        value = datetime_from(<int64_t>be64(self.data + self.at - 8), _UTC)
        if value is None:
            raise self.error("impossible timestamp", self.at - 8)
        return value

    cdef object string(self):
        """Bytes up to a NUL, as text; bytes that are not UTF-8 are escaped."""
        cdef const unsigned char *here = self.data + self.at
        cdef const unsigned char *end = <const unsigned char *>memchr(
            here, 0, self.end - self.at
        )
        if end == NULL:
            raise self.error("truncated: a string without its end", self.at)
        self.at += end - here + 1
        return (<const char *>here)[: end - here].decode("utf-8", "backslashreplace")

    cdef int flag(self, int wanted) except -1:
        """One byte that can only be ``wanted``."""
        cdef int byte = self.u8()
        if byte != wanted:
            raise self.error(f"byte {byte}, expected {wanted}", self.at - 1)
        return 0

    cdef object block(self):
        """A u32 length and as many bytes."""
        cdef Py_ssize_t size = self.u32()
        self.need(size)
        self.at += size
        return PyBytes_FromStringAndSize(<const char *>self.data + self.at - size, size)

    cdef inline int cell(self) except -1:
        """The kind of a tuple's next column; the value is ``size`` bytes from ``start``."""
        cdef Py_ssize_t left = self.end - self.at
        cdef const unsigned char *here = self.data + self.at
        cdef int kind = here[0] if left > 0 else 0
        if kind == TEXT or kind == BINARY:
            if left >= 5:
                self.size = be32(here + 1)
                if self.size <= left - 5:
                    self.start = self.at + 5
                    self.at = self.start + self.size
                    return kind
            self.at += 1
            self.size = self.u32()  # raises, this or the next
            self.need(self.size)
        self.need(1)
        if kind != NULL_CELL and kind != UNCHANGED_TOAST:
            raise self.error(f"unknown kind of column 0x{kind:02x}", self.at)
        self.at += 1
        return kind

    cdef inline bint field(self) except -1:
        """Whether a copied row's next column has a value; it is ``size`` bytes from ``start``."""
        cdef int32_t size = self.i32()
        if size == -1:
            return False
        if size < 0:
            raise self.error(f"impossible length {size}", self.at - 4)
        self.need(size)
        self.size = size
        self.start = self.at
        self.at += size
        return True

    cdef inline int finish(self) except -1:
        """Raise if anything is left."""
        if self.at != self.end:
            raise self.error(f"{self.end - self.at} bytes too many", self.at)
        return 0


@cython.final
cdef class Plan:
    """How the rows of a relation are read: a loader for each column and format."""

    def __init__(self, relation, arrival, loaders, row_factory):
        columns = relation.columns
        self.relation = relation
        self.oid = relation.oid
        self.arrival = arrival
        self.version = loaders.catalog.version  # of what the loaders were made from
        self.width = len(columns)
        self.text = [compiled(loaders.text(column.type_oid)) for column in columns]
        self.binary = []
        for column in columns:
            loader = loaders.binary(column.type_oid)
            self.binary.append(None if loader is None else compiled(loader))
        self.keys = [index for index, column in enumerate(columns) if column.is_key]
        self.dicts = None
        if row_factory is dict_row:
            self.dicts = DictRows(tuple([column.name for column in columns]))
        self.make = row_factory(columns)
        self.make_key = row_factory(tuple([columns[index] for index in self.keys]))


@cython.final
cdef class Streamed:
    """What is known of a streamed transaction in progress."""

    def __init__(self):
        self.ordinal = 0
        self.plans = {}


cdef class Decoder:
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
        row_factory=dict_row,
        values="typed",
        json_loads=json.loads,
        numeric="decimal",
        catalog=None,
    ):
        self._row_factory = row_factory
        self._loaders = Loaders(values, json_loads, numeric, catalog)
        self._plans = {}
        self._recent = [None] * RECENT
        self._copied = None  # of the relation whose rows were read last
        self._arrivals = 0
        self._xid = None
        self._commit_lsn = None
        self._commit_time = None
        self._us = 0  # the last commit time, as it came
        self._moment = None
        self._gid = None
        self._ordinal = 0
        self._streamed = {}
        self._block = None  # between StreamStart and StreamStop

    @property
    def relations(self):
        """The relations known to all transactions, by OID."""
        return {oid: (<Plan>plan).relation for oid, plan in self._plans.items()}

    @property
    def unknown_types(self):
        """The OIDs of types that the known relations mention, or types that these are made
        of, and that neither is built in nor stands in the catalog. Their values are
        PostgreSQL's text, or bytes in the binary transfer.
        """
        return self._loaders.unknown(
            [
                column.type_oid
                for plans in all_plans(self)
                for plan in plans.values()
                for column in (<Plan>plan).relation.columns
            ]
        )

    def add_types(self, infos):
        """Add types to the catalog, and read the rows of the known relations by them from
        here on.
        """
        self._loaders.catalog.add(infos)
        rebuild_plans(self)

    def register_loader(self, type, *, text=None, binary=None):
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

    cpdef object decode(self, payload):
        """Decode one CopyData payload; no reference to it is kept.

        Returns:
            The message; ``None`` for an outer message that holds nothing of the stream
            (``s``, PostgreSQL 19's answer to a question that is never asked).

        Raises:
            ProtocolError: if it is malformed. The decoder is then as it was before.
        """
        return read_payload(self, Reader.__new__(Reader), payload)

    def decode_many(self, payloads):
        """Decode payloads in order; those that hold nothing are left out.

        Raises:
            ProtocolError: at the first that is malformed.
        """
        cdef list messages = []
        cdef Reader reader = Reader.__new__(Reader)
        for payload in payloads:
            message = read_payload(self, reader, payload)
            if message is not None:
                messages.append(message)
        return messages

    def decode_run(self, payloads, Py_ssize_t start=0):
        """Decode changes from ``payloads[start]`` on, up to a message that is none.

        Returns:
            The changes; the index behind the last payload that was read; and the message
            that ended the run, the error at the one that is malformed, or ``None`` where
            the payloads have ended. Type messages are passed over.
        """
        cdef list changes = []
        cdef Py_ssize_t at = start, count = len(payloads)
        cdef Reader reader = Reader.__new__(Reader)
        # The collector would look at all that was made so far, again and again.
        cdef int collects = PyGC_Disable()
        try:
            while at < count:
                try:
                    message = read_payload(self, reader, payloads[at])
                except ProtocolError as error:
                    return changes, at + 1, error
                at += 1
                kind = type(message)
                if kind is Insert or kind is Update or kind is Delete or kind is Truncate \
                        or kind is Origin:
                    changes.append(message)
                elif message is not None and kind is not Type:
                    return changes, at, message
        finally:
            if collects:
                PyGC_Enable()
        return changes, at, None

    def copy_rows(self, relation, data):
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
        cdef Reader reader = Reader.__new__(Reader)
        cdef Py_buffer view
        reader.kind = "CopyRow"
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            reader.data = <const unsigned char *>view.buf
            reader.end = view.len
            return decode_copy(self, reader, relation)
        finally:
            PyBuffer_Release(&view)


cdef object read_payload(Decoder decoder, Reader reader, payload):
    """Decode a payload with a reader, which may have read others."""
    cdef Py_buffer view
    reader.kind = "CopyData"
    reader.placed = False
    reader.at = 0
    if PyBytes_CheckExact(payload):
        reader.data = <const unsigned char *>PyBytes_AS_STRING(payload)
        reader.end = PyBytes_GET_SIZE(payload)
        return decode_payload(decoder, reader)
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        reader.data = <const unsigned char *>view.buf
        reader.end = view.len
        return decode_payload(decoder, reader)
    finally:
        PyBuffer_Release(&view)


cdef object moment(Decoder decoder, Reader reader):
    """A commit time. That of a Commit is that of its Begin, so the last is kept; which is no
    memory of the stream, and harmless where a message is refused after all.
    """
    reader.need(8)
    cdef int64_t us = <int64_t>be64(reader.data + reader.at)
    if us != decoder._us or decoder._moment is None:
        decoder._moment = reader.timestamp()
        decoder._us = us
    else:
        reader.at += 8
    return decoder._moment


cdef object commit_position(Decoder decoder, Reader reader):
    """The LSN of a Commit's record: the object that its Begin has, if it is the same."""
    reader.need(8)
    if decoder._commit_lsn is None or <uint64_t>decoder._commit_lsn != be64(reader.data + reader.at):
        return reader.position()
    reader.at += 8
    return decoder._commit_lsn


cdef object decode_payload(Decoder decoder, Reader reader):
    """One CopyData payload: ``w`` (start LSN, end LSN, send time, a message), ``k`` or ``s``."""
    cdef int outer = reader.u8()
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


cdef object decode_keepalive(Decoder decoder, Reader reader):
    """``k``: LSN end, timestamp, u8 reply requested."""
    cdef Keepalive message = Keepalive.__new__(Keepalive)
    message.end_lsn = reader.position()
    message.send_time = reader.timestamp()
    message.reply_requested = reader.u8() != 0
    reader.finish()
    return message


cdef object decode_message(Decoder decoder, Reader reader):
    """The pgoutput message of an XLogData: a byte that names it, then its fields."""
    cdef int byte = reader.u8()
    cdef Entry *entry = &DECODERS[byte]
    if entry.decode == NULL:
        raise reader.error(f"unknown message byte 0x{byte:02x}", reader.at - 1)
    reader.kind = <object>entry.name
    if decoder._block is not None and not entry.inside:
        raise reader.error("inside the block of a streamed transaction", reader.at - 1)
    return entry.decode(decoder, reader)


cdef object decode_begin(Decoder decoder, Reader reader):
    """``B``: LSN of the commit record, commit timestamp, u32 xid."""
    cdef Begin message = <Begin>new_message(Begin)
    message.commit_lsn = reader.position()
    message.commit_time = moment(decoder, reader)
    message.xid = reader.u32()
    reader.finish()
    open_transaction(decoder, message.xid, message.commit_lsn, message.commit_time, None)
    message.redelivered = False
    return message


cdef object decode_commit(Decoder decoder, Reader reader):
    """``C``: u8 0, LSN of the commit record, LSN of its end, commit timestamp."""
    cdef Commit message = <Commit>new_message(Commit)
    reader.flag(0)
    message.commit_lsn = commit_position(decoder, reader)
    message.end_lsn = reader.position()
    message.commit_time = moment(decoder, reader)
    reader.finish()
    message.xid = decoder._xid
    open_transaction(decoder, None, None, None, None)
    return message


cdef object decode_origin(Decoder decoder, Reader reader):
    """``O``: LSN of the commit at the origin, string name."""
    cdef Origin message = Origin.__new__(Origin)
    message.commit_lsn = reader.position()
    message.name = reader.string()
    reader.finish()
    return message


cdef object decode_relation(Decoder decoder, Reader reader):
    """``R``: [xid] u32 oid, string schema ("" is pg_catalog), string table, u8 replica
    identity, u16 columns, for each: u8 flags (1 key), string name, u32 type, i32 modifier.
    """
    cdef Relation relation = Relation.__new__(Relation)
    cdef Column column
    cdef Plan known
    cdef int width
    decode_xid(decoder, reader)
    relation.oid = reader.u32()
    relation.schema = reader.string() or "pg_catalog"
    relation.table = reader.string()
    identity = reader.u8()
    if identity not in b"dnfi":
        raise reader.error(f"unknown replica identity 0x{identity:02x}", reader.at - 1)
    width = reader.u16()
    if width > _MAX_COLUMNS:
        raise reader.error(f"{width} columns, {_MAX_COLUMNS} are possible", reader.at - 2)
    columns = []
    for _ in range(width):
        column = Column.__new__(Column)
        column.is_key = (reader.u8() & 1) != 0
        column.name = reader.string()
        column.type_oid = reader.u32()
        column.type_modifier = reader.i32()
        columns.append(column)
    reader.finish()
    relation.replica_identity = chr(identity)
    relation.columns = tuple(columns)
    plans = decoder._plans if decoder._block is None else decoder._block.plans
    decoder._arrivals += 1
    known = plans.get(relation.oid)
    if known is not None and known.relation == relation:
        if known.version == decoder._loaders.catalog.version:
            known.arrival = decoder._arrivals
            return known.relation
        relation = known.relation
    plans[relation.oid] = Plan(
        relation, decoder._arrivals, decoder._loaders, decoder._row_factory
    )
    decoder._recent = [None] * RECENT
    return relation


cdef object decode_type(Decoder decoder, Reader reader):
    """``Y``: [xid] u32 oid, string schema ("" is pg_catalog), string name."""
    cdef Type message = Type.__new__(Type)
    decode_xid(decoder, reader)
    message.oid = reader.u32()
    message.schema = reader.string() or "pg_catalog"
    message.name = reader.string()
    reader.finish()
    return message


cdef object decode_insert(Decoder decoder, Reader reader):
    """``I``: [xid] u32 relation, ``N``, tuple."""
    cdef Insert message = <Insert>new_message(Insert)
    message.xid = decode_xid(decoder, reader)
    cdef Plan plan = read_plan(decoder, reader)
    reader.flag(NEW)
    message.new = read_row(reader, plan, None)
    reader.finish()
    message.relation = plan.relation
    message.lsn = reader.lsn()
    message.commit_lsn = decoder._commit_lsn
    message.commit_time = decoder._commit_time
    message.ordinal = next_ordinal(decoder, 1)
    message.gid = decoder._gid
    return message


cdef object decode_update(Decoder decoder, Reader reader):
    """``U``: [xid] u32 relation, [``K`` or ``O``, old tuple], ``N``, new tuple."""
    cdef Update message = <Update>new_message(Update)
    message.xid = decode_xid(decoder, reader)
    cdef Plan plan = read_plan(decoder, reader)
    cdef list before = None
    cdef int marker = reader.u8()
    message.old = None
    if marker == KEY or marker == OLD:
        before = read_tuple(reader, plan, marker == KEY)
        message.old = make_old(plan, before, marker)
        marker = reader.u8()
    if marker != NEW:
        raise reader.error(f"unknown kind of tuple 0x{marker:02x}", reader.at - 1)
    message.new = read_row(reader, plan, before)
    reader.finish()
    message.relation = plan.relation
    message.lsn = reader.lsn()
    message.commit_lsn = decoder._commit_lsn
    message.commit_time = decoder._commit_time
    message.ordinal = next_ordinal(decoder, 1)
    message.gid = decoder._gid
    return message


cdef object decode_delete(Decoder decoder, Reader reader):
    """``D``: [xid] u32 relation, ``K`` or ``O``, old tuple."""
    cdef Delete message = <Delete>new_message(Delete)
    message.xid = decode_xid(decoder, reader)
    cdef Plan plan = read_plan(decoder, reader)
    cdef int marker = reader.u8()
    if marker != KEY and marker != OLD:
        raise reader.error(f"unknown kind of tuple 0x{marker:02x}", reader.at - 1)
    message.old = make_old(plan, read_tuple(reader, plan, marker == KEY), marker)
    reader.finish()
    message.relation = plan.relation
    message.lsn = reader.lsn()
    message.commit_lsn = decoder._commit_lsn
    message.commit_time = decoder._commit_time
    message.ordinal = next_ordinal(decoder, 1)
    message.gid = decoder._gid
    return message


cdef object decode_truncate(Decoder decoder, Reader reader):
    """``T``: [xid] u32 count, u8 flags (1 cascade, 2 restart identity), u32 relations."""
    cdef Truncate message = Truncate.__new__(Truncate)
    message.xid = decode_xid(decoder, reader)
    cdef Py_ssize_t count = reader.u32()
    cdef int flags = reader.u8()
    cdef list relations = []
    if flags > 3:
        raise reader.error(f"unknown flags 0x{flags:02x}", reader.at - 1)
    reader.need(4 * count)
    for _ in range(count):
        relations.append(read_plan(decoder, reader).relation)
    reader.finish()
    message.relations = tuple(relations)
    message.cascade = (flags & 1) != 0
    message.restart_identity = (flags & 2) != 0
    message.lsn = reader.lsn()
    message.commit_lsn = decoder._commit_lsn
    message.commit_time = decoder._commit_time
    message.ordinal = next_ordinal(decoder, count)
    message.gid = decoder._gid
    return message


cdef object decode_logical_message(Decoder decoder, Reader reader):
    """``M``: [xid] u8 flags (1 transactional), LSN, string prefix, u32 length, bytes."""
    cdef LogicalMessage message = LogicalMessage.__new__(LogicalMessage)
    message.xid = decode_xid(decoder, reader)
    cdef int flags = reader.u8()
    if flags > 1:
        raise reader.error(f"unknown flags 0x{flags:02x}", reader.at - 1)
    message.lsn = reader.position()
    message.prefix = reader.string()
    message.content = reader.block()
    reader.finish()
    message.transactional = flags == 1
    if not flags:
        message.xid = None
        return message  # every field not set is None
    message.commit_lsn = decoder._commit_lsn
    message.commit_time = decoder._commit_time
    message.ordinal = next_ordinal(decoder, 1)
    message.gid = decoder._gid
    return message


cdef object decode_stream_start(Decoder decoder, Reader reader):
    """``S``: u32 xid, u8 1 for the first block of the transaction."""
    cdef StreamStart message = StreamStart.__new__(StreamStart)
    message.xid = reader.u32()
    cdef int first = reader.u8()
    if first > 1:
        raise reader.error(f"unknown flags 0x{first:02x}", reader.at - 1)
    reader.finish()
    message.first = first != 0
    open_transaction(decoder, None, None, None, None)
    if first or message.xid not in decoder._streamed:
        decoder._streamed[message.xid] = Streamed()
    decoder._block = decoder._streamed[message.xid]
    return message


cdef object decode_stream_stop(Decoder decoder, Reader reader):
    """``E``: nothing more."""
    if decoder._block is None:
        raise reader.error("no block of a streamed transaction is open", reader.at - 1)
    reader.finish()
    decoder._block = None
    return StreamStop.__new__(StreamStop)


cdef object decode_stream_commit(Decoder decoder, Reader reader):
    """``c``: u32 xid, u8 0, LSN of the commit record, LSN of its end, commit timestamp.

    The transaction's relations count for all from here on, but for those that another
    transaction has brought since.
    """
    cdef StreamCommit message = StreamCommit.__new__(StreamCommit)
    cdef Streamed streamed
    cdef Plan plan, known
    message.xid = reader.u32()
    reader.flag(0)
    message.commit_lsn = reader.position()
    message.end_lsn = reader.position()
    message.commit_time = reader.timestamp()
    reader.finish()
    streamed = decoder._streamed.pop(message.xid, None)
    if streamed is not None:
        for oid, plan in streamed.plans.items():
            known = decoder._plans.get(oid)
            if known is None or known.arrival < plan.arrival:
                decoder._plans[oid] = plan
        decoder._recent = [None] * RECENT
    return message


cdef object decode_stream_abort(Decoder decoder, Reader reader):
    """``A``: u32 xid, u32 subtransaction's xid, with streaming 'parallel' also LSN and
    timestamp of the abort.
    """
    cdef StreamAbort message = StreamAbort.__new__(StreamAbort)
    message.xid = reader.u32()
    message.subxid = reader.u32()
    message.abort_lsn = None
    message.abort_time = None
    if reader.at != reader.end:
        message.abort_lsn = reader.position()
        message.abort_time = reader.timestamp()
    reader.finish()
    if message.xid == message.subxid:
        decoder._streamed.pop(message.xid, None)
    return message


cdef object decode_begin_prepare(Decoder decoder, Reader reader):
    """``b``: LSN of the prepare record, LSN of its end, timestamp, u32 xid, string gid."""
    cdef BeginPrepare message = BeginPrepare.__new__(BeginPrepare)
    message.prepare_lsn = reader.position()
    message.end_lsn = reader.position()
    message.prepare_time = reader.timestamp()
    message.xid = reader.u32()
    message.gid = reader.string()
    reader.finish()
    open_transaction(
        decoder, message.xid, message.prepare_lsn, message.prepare_time, message.gid
    )
    message.redelivered = False
    return message


cdef object decode_prepare(Decoder decoder, Reader reader):
    """``P``: u8 0, LSN of the prepare record, LSN of its end, timestamp, u32 xid, string gid."""
    cdef Prepare message = Prepare.__new__(Prepare)
    reader.flag(0)
    message.prepare_lsn = reader.position()
    message.end_lsn = reader.position()
    message.prepare_time = reader.timestamp()
    message.xid = reader.u32()
    message.gid = reader.string()
    reader.finish()
    open_transaction(decoder, None, None, None, None)
    return message


cdef object decode_commit_prepared(Decoder decoder, Reader reader):
    """``K``: u8 0, LSN of the commit record, LSN of its end, timestamp, u32 xid, string gid."""
    cdef CommitPrepared message = CommitPrepared.__new__(CommitPrepared)
    reader.flag(0)
    message.commit_lsn = reader.position()
    message.end_lsn = reader.position()
    message.commit_time = reader.timestamp()
    message.xid = reader.u32()
    message.gid = reader.string()
    reader.finish()
    return message


cdef object decode_rollback_prepared(Decoder decoder, Reader reader):
    """``r``: u8 0, LSN of the prepare's end, LSN of the rollback's end, timestamps of the
    prepare and the rollback, u32 xid, string gid.
    """
    cdef RollbackPrepared message = RollbackPrepared.__new__(RollbackPrepared)
    reader.flag(0)
    message.prepare_end_lsn = reader.position()
    message.end_lsn = reader.position()
    message.prepare_time = reader.timestamp()
    message.rollback_time = reader.timestamp()
    message.xid = reader.u32()
    message.gid = reader.string()
    reader.finish()
    return message


cdef object decode_stream_prepare(Decoder decoder, Reader reader):
    """``p``: as ``P``, for a streamed transaction."""
    cdef StreamPrepare message = StreamPrepare.__new__(StreamPrepare)
    reader.flag(0)
    message.prepare_lsn = reader.position()
    message.end_lsn = reader.position()
    message.prepare_time = reader.timestamp()
    message.xid = reader.u32()
    message.gid = reader.string()
    reader.finish()
    decoder._streamed.pop(message.xid, None)
    return message


cdef object decode_xid(Decoder decoder, Reader reader):
    """The xid of a change: u32, sent inside a block alone; else the open transaction's."""
    if decoder._block is None:
        return decoder._xid
    return reader.u32()


cdef Plan read_plan(Decoder decoder, Reader reader):
    """The plan of the relation whose OID follows."""
    cdef uint32_t oid = reader.u32()
    cdef Plan plan = find_plan(decoder, oid)
    if plan is None:
        raise reader.error(f"relation {oid} has not been announced", reader.at - 4)
    return plan


cdef Plan find_plan(Decoder decoder, uint32_t oid):
    """The plan of a relation, if it was announced."""
    cdef Plan plan = None
    if decoder._block is not None:
        plan = decoder._block.plans.get(oid)
        if plan is None:
            plan = decoder._plans.get(oid)
        return plan
    plan = <Plan>PyList_GET_ITEM(decoder._recent, oid % RECENT)
    if plan is None or plan.oid != oid:
        plan = decoder._plans.get(oid)
        decoder._recent[oid % RECENT] = plan
    return plan


cdef list read_tuple(Reader reader, Plan plan, bint key_only, list before=None, dict row=None):
    """The values of a tuple: u16 columns, then for each a kind and perhaps a value.

    With ``key_only`` a NULL is UNCHANGED, and so is all outside the key: what is sent for them
    is no value. An unchanged TOASTed value is taken from ``before`` where that has it; it cannot
    have been NULL, which there stands for a column that a partition's replica identity lacks.
    """
    cdef int width = reader.u16()
    if width != plan.width:
        raise reader.error(
            f"{width} columns, the relation {name_of(plan)} has {plan.width}", reader.at - 2
        )
    cdef list values = PyList_New(width) if row is None else None
    cdef DictRows dicts = plan.dicts
    cdef int index = 0
    cdef int kind = 0
    try:
        for index in range(width):
            kind = reader.cell()
            if key_only and not plan.relation.columns[index].is_key:
                value = _UNCHANGED
            elif kind == NULL_CELL:
                value = _UNCHANGED if key_only else None
            elif kind == UNCHANGED_TOAST:
                value = None if before is None else before[index]
                if value is None:
                    value = _UNCHANGED
            else:
                value = load_value(reader, plan, index, kind)
            if row is None:
                Py_INCREF(value)  # which the list then owns
                PyList_SET_ITEM(values, index, value)
            else:
                put(dicts, row, index, value)
    except LOAD_ERRORS:
        raise not_loaded(reader, plan, index, kind, None) from None
    except LoaderFailed as error:
        raise not_loaded(reader, plan, index, kind, error.__cause__) from error.__cause__
    return values


cdef object read_row(Reader reader, Plan plan, list before):
    """The row that a tuple of all columns makes."""
    cdef dict row
    if plan.dicts is None:
        return plan.make(read_tuple(reader, plan, False, before))
    row = begin_row(plan.dicts)
    read_tuple(reader, plan, False, before, row)
    return row


cdef object decode_copy(Decoder decoder, Reader reader, relation):
    """Rows of a COPY: for each i16 columns and the columns; -1 ends them. Before the first
    may stand a header: a signature, u32 flags, u32 length, and as many bytes.
    """
    cdef Plan plan
    cdef list rows = []
    cdef Py_ssize_t start = len(COPY_SIGNATURE)
    if reader.end >= start and (<const char *>reader.data)[:start] == COPY_SIGNATURE:
        reader.skip(start)
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


cdef list read_copied(Reader reader, Plan plan):
    """The values of a copied row: for each column i32 length, -1 for NULL, and the value."""
    cdef list values = []
    cdef int index = 0
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


cdef inline object load_value(Reader reader, Plan plan, int index, int kind):
    """The value that the reader has found, by its column's loader."""
    # Borrowed: the plan keeps it.
    cdef PyObject *loader = <PyObject *>PyList_GET_ITEM(
        plan.text if kind == TEXT else plan.binary, index
    )
    if <object>loader is None:
        raise bad_value(reader, plan, index, "binary, and values='text' was asked for")
    return (<Loader>loader).load(<Loader>loader, reader.data + reader.start, reader.size)


cdef object not_loaded(Reader reader, Plan plan, int index, int kind, cause):
    """The error to raise for the value that was read last, which its loader refused."""
    what = "text" if kind == TEXT else "binary"
    reason = f"not a value of its type in {what} format"
    if cause is not None:
        reason = f"its registered loader raised {type(cause).__name__}: {cause}"
    return bad_value(reader, plan, index, reason)


cdef object bad_value(Reader reader, Plan plan, int index, reason):
    """The error to raise for the value that was read last."""
    column = plan.relation.columns[index]
    return reader.error(
        f"column {column.name!r} (type {column.type_oid}) of {name_of(plan)}: {reason}",
        reader.start,
    )


cdef object name_of(Plan plan):
    """The relation's name, for an error."""
    return f"{plan.relation.schema}.{plan.relation.table}"


cdef object make_row(Plan plan, list values):
    """The row of all columns."""
    cdef dict row
    cdef Py_ssize_t index
    if plan.dicts is None:
        return plan.make(values)
    row = begin_row(plan.dicts)
    for index in range(len(values)):
        put(plan.dicts, row, index, values[index])
    return row


cdef object make_old(Plan plan, list values, int marker):
    """The old row: the key's columns after ``K``, all of them after ``O``."""
    if marker == KEY:
        return plan.make_key([values[index] for index in plan.keys])
    return make_row(plan, values)


cdef int open_transaction(Decoder decoder, xid, commit_lsn, commit_time, gid) except -1:
    """Remember the transaction that the changes to come belong to; ``None``: no one."""
    decoder._xid = xid
    decoder._commit_lsn = commit_lsn
    decoder._commit_time = commit_time
    decoder._gid = gid
    decoder._ordinal = 0
    return 0


cdef list all_plans(Decoder decoder):
    """The plans of the relations known to all, and those of each streamed transaction."""
    return [decoder._plans, *[(<Streamed>one).plans for one in decoder._streamed.values()]]


cdef int rebuild_plans(Decoder decoder) except -1:
    """Make every plan anew: the loaders of some types have changed."""
    cdef Plan plan
    decoder._copied = None
    decoder._recent = [None] * RECENT
    for plans in all_plans(decoder):
        for oid, plan in list(plans.items()):
            plans[oid] = Plan(
                plan.relation, plan.arrival, decoder._loaders, decoder._row_factory
            )
    return 0


cdef object next_ordinal(Decoder decoder, Py_ssize_t count):
    """Take ``count`` ordinals of the open transaction, and return the first."""
    cdef Py_ssize_t ordinal
    if decoder._block is not None:
        ordinal = decoder._block.ordinal
        decoder._block.ordinal += count
    else:
        ordinal = decoder._ordinal
        decoder._ordinal += count
    return ordinal


cdef struct Entry:
    PyObject *name
    object (*decode)(Decoder, Reader)
    bint inside

cdef Entry[256] DECODERS


cdef void entry(int byte, str name, object (*decode)(Decoder, Reader), bint inside):
    # Kept alive for good: literals of this module.
    NAMES.append(name)
    DECODERS[byte] = Entry(<PyObject *>name, decode, inside)


cdef list NAMES = []
# message byte, name, function, may stand inside the block of a streamed transaction
entry(0x42, "Begin", decode_begin, False)
entry(0x43, "Commit", decode_commit, False)
entry(0x4F, "Origin", decode_origin, True)
entry(0x52, "Relation", decode_relation, True)
entry(0x59, "Type", decode_type, True)
entry(0x49, "Insert", decode_insert, True)
entry(0x55, "Update", decode_update, True)
entry(0x44, "Delete", decode_delete, True)
entry(0x54, "Truncate", decode_truncate, True)
entry(0x4D, "LogicalMessage", decode_logical_message, True)
entry(0x53, "StreamStart", decode_stream_start, False)
entry(0x45, "StreamStop", decode_stream_stop, True)
entry(0x63, "StreamCommit", decode_stream_commit, False)
entry(0x41, "StreamAbort", decode_stream_abort, False)
entry(0x62, "BeginPrepare", decode_begin_prepare, False)
entry(0x50, "Prepare", decode_prepare, False)
entry(0x4B, "CommitPrepared", decode_commit_prepared, False)
entry(0x72, "RollbackPrepared", decode_rollback_prepared, False)
entry(0x70, "StreamPrepare", decode_stream_prepare, False)
