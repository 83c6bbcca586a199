# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""JSON Lines from payloads, in Cython: no Python object is made for any value.

The twin, ``_json_py.py``, makes them by way of the events, and so does this where anything
is out of the ordinary: a writer that meets what it cannot write at a glance says so, the
line is dropped, and the message goes the other way. So a writer need not know of errors,
and there is one place that decides what is one.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.datetime cimport (
    datetime_day, datetime_hour, datetime_microsecond, datetime_minute, datetime_month,
    datetime_second, datetime_year, import_datetime,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport int16_t, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from ._decode cimport Decoder, Plan, Reader, find_plan, not_loaded
from .types._loaders cimport (
    Date, Loader, Time, be16, be32, be64, civil, clock, compiled, floor_div, format_numeric,
    numeric_room, parse_date, parse_offset, parse_time,
)

import io

from .encoding import encode_str, encode_value
from .errors import ProtocolError
from .lines import LineWriter
from .messages import Delete, Insert, JSONLines, Origin, Truncate, Type, Update
from .types import LOAD_ERRORS, JSONText, LoaderFailed, numbers, datetimes, strings
from .types.arrays import COMMA, MAX_DIMENSIONS, ArrayBinary, ArrayText
from .types.documents import JsonbLoader, JsonLoader

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *text, char **end, PyObject *overflow) except? -1.0
    char *PyOS_double_to_string(double value, char format, int precision, int flags, int *kind) except NULL
    int Py_DTSF_ADD_DOT_0

cdef extern from *:
    """
    static const char pgstream_digits[] = "0123456789abcdef";
    static char pgstream_pairs[200];  // 00 to 99
    static void pgstream_fill_pairs(void) {
        int number;
        for (number = 0; number < 100; number++) {
            pgstream_pairs[2 * number] = (char)('0' + number / 10);
            pgstream_pairs[2 * number + 1] = (char)('0' + number % 10);
        }
    }
    // What JSON wants written otherwise: 1 for control characters, the letter of an escape, 2
    // for bytes beyond ASCII, which have to be UTF-8.
    static unsigned char pgstream_escape[256];
    static void pgstream_fill_escapes(void) {
        int byte;
        for (byte = 0; byte < 256; byte++)
            pgstream_escape[byte] = byte < 32 ? 1 : byte >= 128 ? 2 : 0;
        pgstream_escape['"'] = '"';
        pgstream_escape['\\\\'] = '\\\\';
        pgstream_escape['\\n'] = 'n';
        pgstream_escape['\\r'] = 'r';
        pgstream_escape['\\t'] = 't';
        pgstream_escape['\\b'] = 'b';
        pgstream_escape['\\f'] = 'f';
    }
    // Whether eight bytes hold one that JSON wants written otherwise: control, quote,
    // backslash, beyond ASCII. The usual tricks with borrows find a zero among eight bytes.
    static inline int pgstream_special(const unsigned char *data) {
        const unsigned long long ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
        unsigned long long eight, quote, slash;
        memcpy(&eight, data, 8);
        quote = eight ^ (ones * 0x22);
        slash = eight ^ (ones * 0x5C);
        return (((eight - ones * 0x20) | (quote - ones) | (slash - ones) | eight) & tops) != 0;
    }
    // An instance of a subclass of bytes that adds nothing, its bytes copied once.
    static PyObject *pgstream_bytes_of(PyObject *type, const char *data, Py_ssize_t size) {
        PyTypeObject *subclass = (PyTypeObject *)type;
        PyBytesObject *made = (PyBytesObject *)subclass->tp_alloc(subclass, size);
        if (made != NULL) {
            memcpy(made->ob_sval, data, size);
            made->ob_sval[size] = 0;
        #if PY_VERSION_HEX < 0x030F0000
            _Py_COMP_DIAG_PUSH
            _Py_COMP_DIAG_IGNORE_DEPR_DECLS
            made->ob_shash = -1;
            _Py_COMP_DIAG_POP
        #endif
        }
        return (PyObject *)made;
    }
    """
    bint is_special "pgstream_special"(const unsigned char *data)
    object bytes_of "pgstream_bytes_of"(object type, const char *data, Py_ssize_t size)
    const char *HEX "pgstream_digits"
    const char *PAIRS "pgstream_pairs"
    void fill_pairs "pgstream_fill_pairs"()
    unsigned char *ESCAPE "pgstream_escape"
    void fill_escapes "pgstream_fill_escapes"()

cdef enum:
    INSERT = 0x49
    UPDATE = 0x55
    DELETE = 0x44
    KEY = 0x4B
    OLD = 0x4F
    NEW = 0x4E
    NULL_CELL = 0x6E
    UNCHANGED_TOAST = 0x75
    TEXT = 0x74
    BINARY = 0x62
    HEADER = 25
    NUMBER = 40
    FIRST = 1 << 16  # bytes of an output
    KEPT = 1 << 22   # that it may have from one run to the next

cdef int64_t _DAY = 86400000000
cdef int _MAX_DIMENSIONS = MAX_DIMENSIONS

cdef dict _KINDS = {INSERT: "Insert", UPDATE: "Update", DELETE: "Delete"}

fill_escapes()
fill_pairs()
import_datetime()


cdef class Output:
    """A buffer that grows."""

    cdef char *data
    cdef Py_ssize_t used
    cdef Py_ssize_t size
    cdef const unsigned char *refused  # the value on which a loader of the user's own failed

    def __cinit__(self):
        self.size = FIRST
        self.data = <char *>PyMem_Malloc(self.size)
        if self.data == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef inline char *room(self, Py_ssize_t count) except NULL:
        """Where ``count`` bytes may be written; :attr:`used` is the caller's to move."""
        if self.size - self.used < count:
            self.grow(count)
        return self.data + self.used

    cdef int grow(self, Py_ssize_t count) except -1:
        cdef Py_ssize_t size = self.size
        cdef char *data
        while size - self.used < count:
            size *= 2
        data = <char *>PyMem_Realloc(self.data, size)
        if data == NULL:
            raise MemoryError
        self.data = data
        self.size = size
        return 0

    cdef int shrink(self) except -1:
        """Give back what one large run has taken; nothing is written by then."""
        cdef char *data = <char *>PyMem_Realloc(self.data, FIRST)
        if data == NULL:
            raise MemoryError
        self.data = data
        self.size = FIRST
        return 0

    cdef inline int put(self, const char *data, Py_ssize_t count) except -1:
        memcpy(self.room(count), data, count)
        self.used += count
        return 0

    cdef inline int byte(self, char byte) except -1:
        self.room(1)[0] = byte
        self.used += 1
        return 0

    cdef int put_bytes(self, bytes data) except -1:
        return self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


# Writes one value: `size` bytes at `data`. False where it cannot be done at a glance; what
# was written by then is dropped by the caller.
ctypedef bint (*write_function)(
    Output out, Writer writer, const unsigned char *data, Py_ssize_t size
) except -1


cdef class Writer:
    """Writes the values of one type in one format."""

    cdef write_function write
    cdef Loader loader      # what reads them, for a writer that has no better way
    cdef Writer element     # of an array


cdef class Shape:
    """How the lines of a relation are written."""

    cdef bint plain         # no two columns of the same name, of which a row would have one
    cdef bytes insert       # up to the LSN
    cdef bytes update
    cdef bytes delete
    cdef list names         # as JSON, between a comma and a colon
    cdef list text          # writers
    cdef list binary
    cdef list is_key


cdef class JSONDecoder(Decoder):
    """A decoder whose :meth:`decode_run` makes JSON Lines of the changes.

    Exactly what :class:`~pgstream.handlers.JSONLinesHandler` writes for the events, with
    json and jsonb as they stand.

    Args:
        settings: The decoder's own: ``values``, ``numeric``, ``catalog``.

    Attributes:
        written: How many lines the last run holds.
    """

    cdef readonly Py_ssize_t written
    cdef Output out
    cdef object text
    cdef object write
    cdef object last_commit_lsn  # of the transaction that these are for:
    cdef object last_xid
    cdef Output shared           # what stands between the LSN and the ordinal,
    cdef Py_ssize_t head         # so many bytes, and then between the ordinal and the rows

    def __init__(self, **settings):
        Decoder.__init__(self, json_loads=JSONText, **settings)
        self.out = Output()
        self.text = io.StringIO()
        self.write = LineWriter(self.text)
        self.shared = Output()
        self.head = 0

    def decode_run(self, payloads, Py_ssize_t start=0):
        """As :meth:`Decoder.decode_run`, with the changes as one JSONLines, or none."""
        cdef Py_ssize_t at = start, count = len(payloads), mark = self.out.used
        self.written = 0
        while True:
            try:
                self.write_changes(payloads, &at, &mark)
                self.out.used = mark
                if at >= count:
                    return self.lines(), at, None
                message = self.decode(payloads[at])
            except LoaderFailed as failure:
                self.out.used = mark
                return self.lines(), at + 1, failed(self, payloads[at], failure)
            except ProtocolError as error:
                return self.lines(), at + 1, error
            at += 1
            kind = type(message)
            if kind is Insert or kind is Update or kind is Delete or kind is Truncate:
                self.write_event(message)
            elif message is not None and kind is not Type and kind is not Origin:
                return self.lines(), at, message
            mark = self.out.used

    cdef int write_changes(self, payloads, Py_ssize_t *at, Py_ssize_t *end) except -1:
        """Write lines up to a payload that has to go the other way, at which both places stand
        then: ``at`` among the payloads, ``end`` in the output.
        """
        cdef Py_ssize_t count = len(payloads)
        while at[0] < count:
            payload = payloads[at[0]]
            if not PyBytes_CheckExact(payload) or not write_change(
                self, <const unsigned char *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)
            ):
                break
            at[0] += 1
            end[0] = self.out.used
            self.written += 1
        return 0

    cdef list lines(self):
        cdef Output out = self.out
        if not out.used:
            return []
        found = bytes_of(JSONLines, out.data, out.used)
        out.used = 0
        if out.size > KEPT:
            out.shrink()
        return [found]

    cdef int write_event(self, event) except -1:
        """The other way: through the event, and the handler of events."""
        self.write(event)
        lines = self.text.getvalue()
        self.written += lines.count("\n")
        self.out.put_bytes((<str>lines).encode())
        self.text.seek(0)
        self.text.truncate()
        return 0

    cdef int transaction(self) except -1:
        """Note what all lines of the open transaction share."""
        cdef Output out = self.shared
        cdef Date date
        cdef Time time
        self.last_commit_lsn = self._commit_lsn
        self.last_xid = self._xid
        out.used = 0
        out.byte(c'"')
        if self._commit_lsn is not None:
            out.put(b',"commit_lsn":"', 15)
            put_lsn(out, self._commit_lsn)
            out.byte(c'"')
        out.put(b',"ordinal":', 11)
        self.head = out.used
        if self._xid is not None:
            out.put(b',"xid":', 7)
            put_int(out, self._xid)
        if self._commit_time is not None:  # in UTC, as all of them are
            out.put(b',"commit_time":', 15)
            moment = self._commit_time
            date = Date(datetime_year(moment), datetime_month(moment), datetime_day(moment))
            time = Time(datetime_hour(moment), datetime_minute(moment), datetime_second(moment),
                        datetime_microsecond(moment))
            put_clock(out, &date, &time, True)
        if self._gid is not None:
            out.put_bytes(f',"gid":{encode_str(self._gid)}'.encode())
        return 0


cdef Shape shape_of(JSONDecoder decoder, Plan plan):
    """How the lines of this relation are written, made once for each Relation."""
    cdef Shape shape
    if plan.lines is not None:
        return <Shape>plan.lines
    shape = Shape()
    relation = plan.relation
    columns = relation.columns
    loaders = decoder._loaders
    table = f',"schema":{encode_str(relation.schema)},"table":{encode_str(relation.table)}'
    shape.plain = len({column.name for column in columns}) == len(columns)
    shape.insert = f'{{"op":"insert"{table},"lsn":"'.encode()
    shape.update = f'{{"op":"update"{table},"lsn":"'.encode()
    shape.delete = f'{{"op":"delete"{table},"lsn":"'.encode()
    shape.names = [f",{encode_str(column.name)}:".encode() for column in columns]
    shape.text = [writer_of(loaders.text(column.type_oid)) for column in columns]
    shape.binary = [writer_of(loaders.binary(column.type_oid)) for column in columns]
    shape.is_key = [column.is_key for column in columns]
    plan.lines = shape
    return shape


cdef Writer writer_of(loader):
    """What writes the values that this loader reads; None where there is no loader."""
    cdef Writer writer
    if loader is None:
        return None
    writer = Writer()
    writer.loader = compiled(loader)
    writer.write = write_loaded
    kind = type(loader)
    if kind is ArrayText or kind is ArrayBinary:
        if kind is ArrayBinary or loader.delimiter == COMMA:
            writer.element = writer_of(loader.element)
            writer.write = write_array_text if kind is ArrayText else write_array_binary
    elif kind is JsonLoader or kind is JsonbLoader:
        if loader.loads is JSONText:
            writer.write = write_json if kind is JsonLoader else write_jsonb
    else:
        known = WRITERS.get(loader)
        if known is not None:
            writer.write = (<Writer>known).write
    return writer


cdef Writer like(write_function write):
    """A Writer that only shows which function writes."""
    cdef Writer writer = Writer()
    writer.write = write
    return writer


WRITERS = {
    numbers.bool_text: like(write_bool_text),
    numbers.bool_binary: like(write_bool),
    numbers.int_text: like(write_int_text),
    numbers.int2_binary: like(write_int2),
    numbers.int4_binary: like(write_int4),
    numbers.int8_binary: like(write_int8),
    numbers.oid_binary: like(write_oid),
    numbers.float_text: like(write_float_text),
    numbers.float8_binary: like(write_float8),
    numbers.numeric_text: like(write_numeric_text),
    numbers.numeric_binary: like(write_numeric),
    strings.text: like(write_text),
    strings.bytea_text: like(write_bytea_text),
    strings.bytea_binary: like(write_bytea),
    bytes: like(write_bytea),
    strings.uuid_text: like(write_uuid_text),
    strings.uuid_binary: like(write_uuid),
    datetimes.date_text: like(write_date_text),
    datetimes.date_binary: like(write_date),
    datetimes.time_text: like(write_time_text),
    datetimes.time_binary: like(write_time),
    datetimes.timestamp_text: like(write_timestamp_text),
    datetimes.timestamp_binary: like(write_timestamp),
    datetimes.timestamptz_text: like(write_timestamptz_text),
    datetimes.timestamptz_binary: like(write_timestamptz),
}
"""From a loader to its writer, for the types that have one."""


# lines


cdef bint write_change(JSONDecoder decoder, const unsigned char *data, Py_ssize_t size) except -1:
    """The line of an Insert, Update or Delete; False where it has to go the other way."""
    cdef const unsigned char *end = data + size
    cdef const unsigned char *at
    cdef const unsigned char *row
    cdef Output out = decoder.out
    cdef Plan plan
    cdef Shape shape
    cdef unsigned char kind
    cdef Py_ssize_t unchanged = 0, missing = 0
    cdef bint has_old = False
    if size < HEADER + 6 or data[0] != c"w" or decoder._block is not None:
        return False
    kind = data[HEADER]
    if kind != INSERT and kind != UPDATE and kind != DELETE:
        return False
    plan = find_plan(decoder, be32(data + HEADER + 1))
    if plan is None:
        return False
    shape = shape_of(decoder, plan)
    if not shape.plain:
        return False
    if decoder.head == 0 or decoder.last_commit_lsn is not decoder._commit_lsn \
            or decoder.last_xid is not decoder._xid:
        decoder.transaction()
    out.put_bytes(
        shape.insert if kind == INSERT else shape.update if kind == UPDATE else shape.delete
    )
    put_lsn(out, be64(data + 1))
    out.put(decoder.shared.data, decoder.head)
    put_int(out, decoder._ordinal)
    out.put(decoder.shared.data + decoder.head, decoder.shared.used - decoder.head)
    at = data + HEADER + 5
    if kind != INSERT and (at[0] == KEY or at[0] == OLD):
        has_old = True
        out.put(b',"old":{', 8)
        at = write_tuple(out, plan, shape, at + 1, end, at[0] == KEY, &missing)
        if at == NULL or missing:
            return False
        out.byte(c"}")
    if kind != DELETE:
        if at >= end or at[0] != NEW:
            return False
        out.put(b',"new":{', 8)
        row = at + 1
        at = write_tuple(out, plan, shape, row, end, False, &unchanged)
        if at == NULL or (unchanged and (has_old or kind == INSERT)):
            return False
        out.byte(c"}")
        if unchanged:
            write_unchanged(out, shape, row)
    elif not has_old:
        return False
    if at != end:
        return False
    out.put(b"}\n", 2)
    decoder._ordinal += 1
    return True


cdef object failed(JSONDecoder decoder, bytes payload, failure):
    """The error to raise for a line on which a loader of the user's own has failed.

    The message does not go the other way: there the loader would be called a second time.
    """
    cdef Reader reader = Reader.__new__(Reader)
    cdef Plan plan
    cdef Py_ssize_t place
    cdef int index, kind
    reader.data = <const unsigned char *>PyBytes_AS_STRING(payload)
    reader.end = PyBytes_GET_SIZE(payload)
    reader.kind = _KINDS[payload[HEADER]]
    reader.placed = True
    place = decoder.out.refused - reader.data
    plan = find_plan(decoder, be32(reader.data + HEADER + 1))
    reader.at = HEADER + 5
    while True:  # once for each tuple
        reader.skip(3)  # a marker, and how many columns there are
        for index in range(plan.width):
            kind = reader.cell()
            if reader.at >= place and (kind == TEXT or kind == BINARY):
                error = not_loaded(reader, plan, index, kind, failure.__cause__)
                error.__cause__ = failure.__cause__
                return error


cdef const unsigned char *write_tuple(
    Output out, Plan plan, Shape shape, const unsigned char *at, const unsigned char *end,
    bint key_only, Py_ssize_t *unchanged,
) except? NULL:
    """The members of a row; where it ends, or NULL. Counts the values that were not sent."""
    cdef Py_ssize_t index, size
    cdef unsigned char kind
    cdef bint first = True
    cdef Writer writer
    cdef bytes name
    if end - at < 2 or be16(at) != plan.width:
        return NULL
    at += 2
    for index in range(plan.width):
        if at >= end:
            return NULL
        kind = at[0]
        at += 1
        size = 0
        if kind == TEXT or kind == BINARY:
            if end - at < 4:
                return NULL
            size = be32(at)
            at += 4
            if size > end - at:
                return NULL
        elif kind != NULL_CELL and kind != UNCHANGED_TOAST:
            return NULL
        if key_only and not shape.is_key[index]:
            at += size
            continue
        if kind == UNCHANGED_TOAST or (key_only and kind == NULL_CELL):
            unchanged[0] += 1
            continue
        name = <bytes>shape.names[index]
        out.put(PyBytes_AS_STRING(name) + first, PyBytes_GET_SIZE(name) - first)
        first = False
        if kind == NULL_CELL:
            out.put(b"null", 4)
            continue
        writer = <Writer>(shape.text[index] if kind == TEXT else shape.binary[index])
        if writer is None or not writer.write(out, writer, at, size):
            return NULL
        at += size
    return at


cdef int write_unchanged(Output out, Shape shape, const unsigned char *at) except -1:
    """The names of the columns that were not sent, of a row that was read already."""
    cdef Py_ssize_t index
    cdef bytes name
    cdef bint first = True
    cdef unsigned char kind
    out.put(b',"unchanged":[', 14)
    at += 2
    for index in range(len(shape.names)):
        kind = at[0]
        at += 1
        if kind == UNCHANGED_TOAST:
            name = shape.names[index]
            out.put(PyBytes_AS_STRING(name) + first, PyBytes_GET_SIZE(name) - first - 1)
            first = False
        elif kind != NULL_CELL:
            at += 4 + be32(at)
    out.byte(c"]")
    return 0


# numbers


cdef int put_int(Output out, int64_t value) except -1:
    cdef char digits[20]
    cdef int at = 20
    cdef uint64_t rest = <uint64_t>value
    if value < 0:
        rest = 0 - rest
    while rest >= 10:
        at -= 2
        memcpy(digits + at, PAIRS + 2 * (rest % 100), 2)
        rest //= 100
    if rest or at == 20:
        at -= 1
        digits[at] = <char>(c"0" + rest)
    if value < 0:
        out.byte(c"-")
    return out.put(digits + at, 20 - at)


cdef int put_hex_upper(Output out, uint32_t value) except -1:
    cdef char digits[8]
    cdef int at = 8
    while True:
        at -= 1
        digits[at] = HEX[value & 15]
        if digits[at] > c"9":
            digits[at] -= 32
        value >>= 4
        if value == 0:
            break
    return out.put(digits + at, 8 - at)


cdef int put_lsn(Output out, uint64_t lsn) except -1:
    put_hex_upper(out, <uint32_t>(lsn >> 32))
    out.byte(c"/")
    return put_hex_upper(out, <uint32_t>lsn)


cdef bint write_bool_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    if size != 1 or (data[0] != c"t" and data[0] != c"f"):
        return False
    return put_bool(out, data[0] == c"t")


cdef bint write_bool(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    if size != 1 or data[0] > 1:
        return False
    return put_bool(out, data[0] == 1)


cdef bint put_bool(Output out, bint value) except -1:
    if value:
        out.put(b"true", 4)
    else:
        out.put(b"false", 5)
    return True


cdef bint write_int_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t at = size > 0 and data[0] == c"-", first = at
    while at < size and c"0" <= data[at] <= c"9":
        at += 1
    if at < size or at == first or at - first > 18 or (data[first] == c"0" and size > 1):
        return False
    out.put(<const char *>data, size)
    return True


cdef bint write_int2(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    if size != 2:
        return False
    put_int(out, <int16_t>be16(data))
    return True


cdef bint write_int4(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    if size != 4:
        return False
    put_int(out, <int32_t>be32(data))
    return True


cdef bint write_int8(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    if size != 8:
        return False
    put_int(out, <int64_t>be64(data))
    return True


cdef bint write_oid(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    if size != 4:
        return False
    put_int(out, be32(data))
    return True


cdef bint put_float(Output out, double value) except -1:
    cdef char *text
    cdef Py_ssize_t size = 0
    if not isfinite(value):
        return False
    text = PyOS_double_to_string(value, c"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    while text[size]:
        size += 1
    try:
        out.put(text, size)
    finally:
        PyMem_Free(text)
    return True


cdef bint write_float_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef char copy[NUMBER + 1]
    cdef Py_ssize_t at
    if size == 0 or size > NUMBER:
        return False
    for at in range(size):
        if not (c"0" <= data[at] <= c"9" or data[at] == c"-" or data[at] == c"+"
                or data[at] == c"." or data[at] == c"e"):
            return False
    memcpy(copy, data, size)
    copy[size] = 0
    try:
        return put_float(out, PyOS_string_to_double(copy, NULL, NULL))
    except ValueError:
        return False


cdef bint write_float8(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef uint64_t bits
    cdef double value
    if size != 8:
        return False
    bits = be64(data)
    memcpy(&value, &bits, 8)
    return put_float(out, value)


cdef bint write_numeric_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t first = size > 0 and data[0] == c"-", at = first, point
    while at < size and c"0" <= data[at] <= c"9":
        at += 1
    if at == first or (data[first] == c"0" and at > first + 1):
        return False
    if at < size:
        point = at
        if data[at] != c".":
            return False
        at += 1
        while at < size and c"0" <= data[at] <= c"9":
            at += 1
        if at < size or at == point + 1:
            return False
    return put_quoted(out, data, size)


cdef bint write_numeric(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t room = numeric_room(data, size), used
    cdef char *target
    if room < 0:
        return False
    target = out.room(room + 2)
    used = format_numeric(data, size, target + 1)
    if used < 0:
        return False
    target[0] = target[used + 1] = c'"'
    out.used += used + 2
    return True


# strings


cdef bint put_quoted(Output out, const unsigned char *data, Py_ssize_t size) except -1:
    """What needs no escapes."""
    cdef char *target = out.room(size + 2)
    target[0] = target[size + 1] = c'"'
    memcpy(target + 1, data, size)
    out.used += size + 2
    return True


cdef bint is_utf8(const unsigned char *data, Py_ssize_t size) noexcept:
    """Whether Python would take it: no surrogates, nothing longer than it need be."""
    cdef Py_ssize_t at = 0, more
    cdef uint32_t point, least
    while at < size:
        if data[at] < 0x80:
            at += 1
            continue
        if 0xC2 <= data[at] <= 0xDF:
            more, point, least = 1, data[at] & 0x1F, 0x80
        elif 0xE0 <= data[at] <= 0xEF:
            more, point, least = 2, data[at] & 0x0F, 0x800
        elif 0xF0 <= data[at] <= 0xF4:
            more, point, least = 3, data[at] & 0x07, 0x10000
        else:
            return False
        if size - at <= more:
            return False
        while more:
            at += 1
            more -= 1
            if data[at] & 0xC0 != 0x80:
                return False
            point = (point << 6) | (data[at] & 0x3F)
        if point < least or point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            return False
        at += 1
    return True


cdef bint write_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t at = 0
    cdef unsigned char escape
    cdef bint checked = False
    # One byte becomes up to six. A long text gets room as it comes, for nearly all need little.
    cdef char *target = out.room(size + 64)
    cdef char *end = out.data + out.size - 16
    target[0] = c'"'
    target += 1
    while at < size:
        if target + (size - at) >= end:
            out.used = target - out.data
            target = out.room(6 * (size - at) + 64)
            end = out.data + out.size - 16
        if size - at >= 8 and not is_special(data + at):
            memcpy(target, data + at, 8)
            target += 8
            at += 8
            continue
        escape = ESCAPE[data[at]]
        if escape == 0:
            target[0] = <char>data[at]
            target += 1
        elif escape == 2:
            if not checked and not is_utf8(data, size):
                return False
            checked = True
            target[0] = <char>data[at]
            target += 1
        elif escape == 1:
            memcpy(target, b"\\u00", 4)
            target[4] = HEX[data[at] >> 4]
            target[5] = HEX[data[at] & 15]
            target += 6
        else:
            target[0] = c"\\"
            target[1] = <char>escape
            target += 2
        at += 1
    target[0] = c'"'
    out.used = target + 1 - out.data
    return True


cdef bint write_bytea_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t at
    cdef char *target
    if size < 2 or size & 1 or data[0] != c"\\" or data[1] != c"x":
        return False
    for at in range(2, size):
        if not (c"0" <= data[at] <= c"9" or c"a" <= data[at] <= c"f"):
            return False
    target = out.room(size + 3)
    memcpy(target, b'"\\', 2)
    memcpy(target + 2, data, size)
    target[size + 2] = c'"'
    out.used += size + 3
    return True


cdef bint write_bytea(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef char *target = out.room(2 * size + 5)
    cdef Py_ssize_t at
    memcpy(target, b'"\\\\x', 4)
    for at in range(size):
        target[4 + 2 * at] = HEX[data[at] >> 4]
        target[5 + 2 * at] = HEX[data[at] & 15]
    target[4 + 2 * size] = c'"'
    out.used += 2 * size + 5
    return True


cdef bint write_uuid_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t at
    if size != 36:
        return False
    for at in range(36):
        if at == 8 or at == 13 or at == 18 or at == 23:
            if data[at] != c"-":
                return False
        elif not (c"0" <= data[at] <= c"9" or c"a" <= data[at] <= c"f"):
            return False
    return put_quoted(out, data, 36)


cdef bint write_uuid(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef char *target
    cdef int at
    if size != 16:
        return False
    target = out.room(38)
    target[0] = target[37] = c'"'
    target += 1
    for at in range(16):
        if at == 4 or at == 6 or at == 8 or at == 10:
            target[0] = c"-"
            target += 1
        target[0] = HEX[data[at] >> 4]
        target[1] = HEX[data[at] & 15]
        target += 2
    out.used += 38
    return True


cdef bint write_json(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef char *target = out.room(size)
    cdef Py_ssize_t at
    cdef bint checked = False
    for at in range(size):
        if data[at] == c"\n" or data[at] == c"\r":
            target[at] = c" "  # between tokens: inside a string it would be escaped
            continue
        if data[at] >= 0x80 and not checked:
            if not is_utf8(data, size):
                return False
            checked = True
        target[at] = <char>data[at]
    out.used += size
    return True


cdef bint write_jsonb(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    return size > 0 and data[0] == 1 and write_json(out, writer, data + 1, size - 1)


# datetimes


cdef inline void put_number(char *target, int value, int digits) noexcept:
    while digits:
        digits -= 1
        target[digits] = <char>(c"0" + value % 10)
        value //= 10


cdef inline char *put_date(char *target, Date *date) noexcept:
    put_number(target, date.year, 4)
    target[4] = target[7] = c"-"
    put_number(target + 5, date.month, 2)
    put_number(target + 8, date.day, 2)
    return target + 10


cdef inline char *put_time(char *target, Time *time) noexcept:
    put_number(target, time.hour, 2)
    target[2] = target[5] = c":"
    put_number(target + 3, time.minute, 2)
    put_number(target + 6, time.second, 2)
    if time.microsecond == 0:
        return target + 8
    target[8] = c"."
    put_number(target + 9, time.microsecond, 6)
    return target + 15


cdef bint write_date_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Date date
    return size == 10 and parse_date(data, &date) and put_quoted(out, data, size)


cdef bint write_date(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Date date
    cdef char *target
    if size != 4 or not civil(<int32_t>be32(data), &date):
        return False
    target = out.room(12)
    target[0] = target[11] = c'"'
    put_date(target + 1, &date)
    out.used += 12
    return True


cdef bint put_clock(Output out, Date *date, Time *time, bint utc) except -1:
    """A time of day, after a date if there is one."""
    cdef char *start = out.room(32)
    cdef char *target = start + 1
    start[0] = c'"'
    if date != NULL:
        target = put_date(target, date)
        target[0] = c"T"
        target += 1
    target = put_time(target, time)
    if utc:
        target[0] = c"Z"
        target += 1
    target[0] = c'"'
    out.used += target + 1 - start
    return True


cdef bint write_time_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Time time
    return size >= 8 and parse_time(data, size, &time) == size and put_clock(out, NULL, &time, False)


cdef bint write_time(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef int64_t us
    cdef Time time
    if size != 8:
        return False
    us = <int64_t>be64(data)
    if us < 0 or us >= _DAY:
        return False
    time = clock(us)
    return put_clock(out, NULL, &time, False)


cdef bint write_timestamp_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Date date
    cdef Time time
    return (size >= 19 and data[10] == c" " and parse_date(data, &date)
            and parse_time(data + 11, size - 11, &time) == size - 11
            and put_clock(out, &date, &time, False))


cdef bint write_timestamp(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    return size == 8 and put_moment(out, <int64_t>be64(data), False)


cdef bint write_timestamptz_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Date date
    cdef Time time
    cdef Py_ssize_t at
    cdef int offset
    if size < 22 or data[10] != c" " or not parse_date(data, &date):
        return False
    at = parse_time(data + 11, size - 11, &time)
    if at == 0 or not parse_offset(data + 11 + at, size - 11 - at, &offset) or offset != 0:
        return False
    return put_clock(out, &date, &time, True)


cdef bint write_timestamptz(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    return size == 8 and put_moment(out, <int64_t>be64(data), True)


cdef bint put_moment(Output out, int64_t us, bint utc) except -1:
    cdef Date date
    cdef Time time
    cdef int64_t days = floor_div(us, _DAY)
    if not civil(days, &date):
        return False
    time = clock(us - days * _DAY)
    return put_clock(out, &date, &time, utc)


# arrays, and all else


cdef bint write_array_text(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef const unsigned char *at = data
    cdef const unsigned char *end = data + size
    if size > 0 and data[0] == c"[":  # lower bounds other than 1
        at = <const unsigned char *>memchr(data, c"=", size)
        if at == NULL:
            return False
        at += 1
    return write_list(out, writer.element, &at, end, 1) and at == end


cdef bint write_list(
    Output out, Writer element, const unsigned char **place, const unsigned char *end, int depth
) except -1:
    """The list that begins at the place, which is moved behind it."""
    cdef const unsigned char *at = place[0]
    cdef const unsigned char *start
    if at >= end or at[0] != c"{" or depth > _MAX_DIMENSIONS:
        return False
    at += 1
    out.byte(c"[")
    if at < end and at[0] == c"}":
        place[0] = at + 1
        out.byte(c"]")
        return True
    while True:
        if at >= end:
            return False
        if at[0] == c"{":
            place[0] = at
            if not write_list(out, element, place, end, depth + 1):
                return False
            at = place[0]
        elif at[0] == c'"':
            at += 1
            start = at
            while at < end and at[0] != c'"' and at[0] != c"\\":
                at += 1
            if at >= end or at[0] != c'"':
                return False  # an escape: rare enough
            if not element.write(out, element, start, at - start):
                return False
            at += 1
        else:
            start = at
            while at < end and at[0] != c"," and at[0] != c"}" and at[0] != c"{" \
                    and at[0] != c'"' and at[0] != c"\\":
                at += 1
            if at == start or at >= end or (at[0] != c"," and at[0] != c"}"):
                return False
            if at - start == 4 and memcmp(start, b"NULL", 4) == 0:
                out.put(b"null", 4)
            elif not element.write(out, element, start, at - start):
                return False
        if at >= end:
            return False
        if at[0] == c"}":
            place[0] = at + 1
            out.byte(c"]")
            return True
        if at[0] != c",":
            return False
        out.byte(c",")
        at += 1


cdef bint write_array_binary(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    cdef int32_t dimensions, length
    cdef Py_ssize_t count, index
    cdef const unsigned char *at = data + 20
    cdef const unsigned char *end = data + size
    if size < 12:
        return False
    dimensions = <int32_t>be32(data)
    if dimensions == 0 and size == 12:
        out.put(b"[]", 2)
        return True
    if dimensions != 1 or size < 20:
        return False  # several dimensions: rare enough
    count = <int32_t>be32(data + 12)
    if count < 1 or count > (size - 20) // 4:
        return False
    for index in range(count):
        out.byte(c"," if index else c"[")
        if end - at < 4:
            return False
        length = <int32_t>be32(at)
        at += 4
        if length == -1:
            out.put(b"null", 4)
            continue
        if length < 0 or length > end - at:
            return False
        if not writer.element.write(out, writer.element, at, length):
            return False
        at += length
    out.byte(c"]")
    return at == end


cdef bint write_loaded(Output out, Writer writer, const unsigned char *data, Py_ssize_t size) except -1:
    """The value that the loader makes, as the handler of events writes it."""
    try:
        value = writer.loader.load(writer.loader, data, size)
    except LoaderFailed:
        out.refused = data
        raise
    except LOAD_ERRORS:
        return False  # it is raised again on the other way, with all that is to be said of it
    out.put_bytes((<str>encode_value(value)).encode())
    return True
