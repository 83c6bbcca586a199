# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""C versions of the loaders of common types.

Each stands for the loader of the same name in the rooms beside it, gives the same
values and refuses the same bytes; what has none is called as it is. To add one, write
the function and name it in ``COMPILED``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.datetime cimport date_new, datetime_new, import_datetime, time_new, timedelta_new
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int16_t, int32_t, int64_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from .._objects cimport new_slotted
from ._decimals cimport decimal_is_known, learn_decimal, new_decimal
from ._documents cimport ascii, parse_document

import json
from datetime import UTC
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from uuid import UUID, SafeUUID

from . import datetimes, numbers, strings
from ._documents import Unusual
from .arrays import COMMA, MAX_DIMENSIONS, ArrayBinary, ArrayText, nest
from .documents import MAX_DEPTH, JsonbLoader, JsonLoader, is_too_deep

cdef extern from "Python.h":
    object PyUnicode_DecodeASCII(const char *data, Py_ssize_t size, const char *errors)
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)
    object PyFloat_FromString(object text)
    object _PyLong_FromByteArray(const unsigned char *data, size_t size, int little, int signed)

cdef extern from *:
    """
    #include <structmember.h>

    // Stores where a member of a class with __slots__ stands in an instance that has none yet.
    static inline void pgstream_store(PyObject *member, PyObject *target, PyObject *value) {
        Py_INCREF(value);
        *(PyObject **)((char *)target + ((PyMemberDescrObject *)member)->d_member->offset) = value;
    }
    // The value of each lower-case hex digit, and 16 for every other byte.
    static unsigned char pgstream_hex_value[256];
    static void pgstream_fill_hex(void) {
        int at;
        for (at = 0; at < 256; at++)
            pgstream_hex_value[at] = 16;
        for (at = 0; at < 16; at++)
            pgstream_hex_value[(unsigned char)"0123456789abcdef"[at]] = (unsigned char)at;
    }
    """
    void pgstream_store(object member, object target, object value)
    const unsigned char *HEX_VALUE "pgstream_hex_value"
    void fill_hex "pgstream_fill_hex"()

import_datetime()
fill_hex()
learn_decimal(Decimal("-12345.6789"))

cdef object _UTC = UTC
# Decimal(text) without its argument parsing: a context without bounds rounds nothing.
cdef object _decimal = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN).create_decimal
cdef object _UUID = UUID
cdef object _UUID_INT = UUID.int
cdef object _UUID_IS_SAFE = UUID.is_safe
cdef object _UNKNOWN_SAFETY = SafeUUID.unknown
cdef object _json_loads = json.loads
cdef int _MAX_DIMENSIONS = MAX_DIMENSIONS
cdef Py_ssize_t _MAX_DEPTH = MAX_DEPTH
cdef int64_t _DAY = 86400000000


cdef class Loader:
    """A loader that C code calls: a function, and what it needs to know."""

    def __repr__(self):
        return f"<Loader of {self.python!r}>"


cdef Loader compiled(object python):
    """The C version of a loader; for one that has none, a Loader that calls it."""
    cdef Loader loader
    kind = type(python)
    if kind is not ArrayText and kind is not ArrayBinary and kind is not JsonLoader \
            and kind is not JsonbLoader:
        known = COMPILED.get(python)
        if known is not None:
            return known
        return make(call_python, python)
    if kind is ArrayText and python.delimiter != COMMA:
        return make(call_python, python)
    if kind is ArrayText or kind is ArrayBinary:
        loader = make(array_text if kind is ArrayText else array_binary, python)
        loader.element = compiled(python.element)
        return loader
    loader = make(json_text if kind is JsonLoader else jsonb_binary, python)
    loader.loads = python.loads
    return loader


cdef Loader make(load_function load, object python):
    cdef Loader loader = Loader.__new__(Loader)
    loader.load = load
    loader.python = python
    return loader


cdef object call_python(Loader loader, const unsigned char *data, Py_ssize_t size):
    return loader.python(PyBytes_FromStringAndSize(<const char *>data, size))


# numbers


cdef object bool_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size == 1:
        if data[0] == c"t":
            return True
        if data[0] == c"f":
            return False
    raise ValueError("neither t nor f")


cdef object bool_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size == 1 and data[0] <= 1:
        return data[0] == 1
    raise ValueError("neither 1 nor 0")


cdef object int_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef bint minus = size > 0 and data[0] == c"-"
    cdef Py_ssize_t at = minus
    cdef uint64_t value = 0
    if at == size or size - at > 19:  # 19 digits cannot overflow 64 unsigned bits
        raise ValueError("not an integer")
    while at < size:
        if data[at] < c"0" or data[at] > c"9":
            raise ValueError("not an integer")
        value = value * 10 + (data[at] - c"0")
        at += 1
    if value > <uint64_t>0x7FFFFFFFFFFFFFFF + minus:
        raise ValueError("beyond 64 bits")
    return <int64_t>(0 - value) if minus else <int64_t>value


cdef object int2_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size != 2:
        raise ValueError("not 2 bytes")
    return <int16_t>be16(data)


cdef object int4_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size != 4:
        raise ValueError("not 4 bytes")
    return <int32_t>be32(data)


cdef object int8_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size != 8:
        raise ValueError("not 8 bytes")
    return <int64_t>be64(data)


cdef object oid_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size != 4:
        raise ValueError("not 4 bytes")
    return be32(data)


cdef object float_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    if memchr(data, c"_", size) != NULL:
        raise ValueError("not a number")
    return PyFloat_FromString(PyBytes_FromStringAndSize(<const char *>data, size))


cdef object float8_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size != 8:
        raise ValueError("not 8 bytes")
    cdef uint64_t bits = be64(data)
    cdef double value
    memcpy(&value, &bits, 8)
    return value


cdef object make_decimal(const unsigned char *data, Py_ssize_t size):
    """The Decimal that a minus, digits and a point among them write; None for anything else."""
    cdef Py_ssize_t at = size > 0 and data[0] == c"-"
    cdef Py_ssize_t first = at, point = size
    cdef int digits = 0
    cdef uint64_t coefficient = 0
    while at < size:
        if c"0" <= data[at] <= c"9":
            coefficient = 10 * coefficient + (data[at] - c"0")
            digits += digits > 0 or data[at] != c"0"
        elif data[at] == c"." and point == size and at > first:
            point = at
        else:
            return None
        at += 1
    if at == first or point == size - 1:
        return None
    if digits > 18 or not decimal_is_known:
        return _decimal(PyUnicode_DecodeASCII(<const char *>data, size, NULL))
    return new_decimal(first, coefficient, max(digits, 1), <int>max(size - point - 1, 0))


cdef object numeric_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    value = make_decimal(data, size)
    if value is not None:
        return value
    # NaN, an infinity, or no number; all of them rare.
    return numbers.numeric_text(PyBytes_FromStringAndSize(<const char *>data, size))


cdef object numeric_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef char few[128]
    cdef char *out = few
    cdef bytes many
    cdef Py_ssize_t room = numeric_room(data, size), used
    if room > 128:
        many = PyBytes_FromStringAndSize(NULL, room)
        out = PyBytes_AS_STRING(many)
    used = format_numeric(data, size, out) if room > 0 else -1
    if used < 0:  # NaN, an infinity, or no number; all of them rare
        return numbers.numeric_binary(PyBytes_FromStringAndSize(<const char *>data, size))
    return make_decimal(<const unsigned char *>out, used)


cdef Py_ssize_t numeric_room(const unsigned char *data, Py_ssize_t size) noexcept:
    """How many bytes :func:`format_numeric` may need; -1 for what it cannot write."""
    cdef int weight
    if size < 8 or size != 8 + 2 * <Py_ssize_t>be16(data) or be16(data + 6) > 0x3FFF:
        return -1
    if be16(data + 4) != 0x0000 and be16(data + 4) != 0x4000:
        return -1
    weight = <int16_t>be16(data + 2)
    return 4 * (max(weight, 0) + 1) + be16(data + 6) + 8


cdef Py_ssize_t format_numeric(const unsigned char *data, Py_ssize_t size, char *out) noexcept:
    """Write a number's decimal digits; how many bytes they are, or -1 for what the server
    would not send.
    """
    cdef int count = be16(data), weight = <int16_t>be16(data + 2), scale = be16(data + 6)
    cdef int index, group, digit, left
    cdef Py_ssize_t used = 0
    cdef char four[4]
    if be16(data + 4):
        out[used] = c"-"
        used += 1
    # Digit i stands for group * 10000^(weight - i). Leading zeros are not sent, nor is a zero
    # that has a weight.
    if (count and be16(data + 8) == 0) or (count == 0 and weight > 0):
        return -1
    if weight < 0:
        out[used] = c"0"
        used += 1
    for index in range(weight + 1):
        group = be16(data + 8 + 2 * index) if index < count else 0
        if group > 9999:
            return -1
        put_four(four, group)
        digit = 0
        if index == 0:
            while digit < 3 and four[digit] == c"0":
                digit += 1
        memcpy(out + used, four + digit, 4 - digit)
        used += 4 - digit
    index = weight + 1
    left = scale
    if scale:
        out[used] = c"."
        used += 1
    while left > 0:
        group = be16(data + 8 + 2 * index) if 0 <= index < count else 0
        if group > 9999:
            return -1
        put_four(four, group)
        digit = min(4, left)
        memcpy(out + used, four, digit)
        used += digit
        left -= digit
        while digit < 4:
            if four[digit] != c"0":
                return -1
            digit += 1
        index += 1
    while index < count:  # digits beyond the scale
        if index < 0 or be16(data + 8 + 2 * index) != 0:
            return -1
        index += 1
    return used


cdef inline void put_four(char *out, int group) noexcept:
    out[0] = <char>(c"0" + group // 1000)
    out[1] = <char>(c"0" + group // 100 % 10)
    out[2] = <char>(c"0" + group // 10 % 10)
    out[3] = <char>(c"0" + group % 10)


# strings


cdef inline object utf8(const unsigned char *data, Py_ssize_t size):
    """The text, or the bytes where it is not valid UTF-8."""
    text = ascii(data, size)
    return beyond_ascii(data, size) if text is None else text


cdef object beyond_ascii(const unsigned char *data, Py_ssize_t size):
    """The same for what is not all ASCII: apart, so that ``utf8`` has no errors to prepare for."""
    try:
        return PyUnicode_DecodeUTF8(<const char *>data, size, NULL)
    except UnicodeDecodeError:
        return PyBytes_FromStringAndSize(<const char *>data, size)


cdef object text(Loader loader, const unsigned char *data, Py_ssize_t size):
    return utf8(data, size)


cdef inline int hex_digit(unsigned char byte) noexcept:
    if c"0" <= byte <= c"9":
        return byte - c"0"
    if c"a" <= byte <= c"f":
        return byte - c"a" + 10
    if c"A" <= byte <= c"F":
        return byte - c"A" + 10
    return -1


cdef object bytea_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Py_ssize_t index, count
    cdef int high, low
    cdef char *target
    if size < 2 or data[0] != c"\\" or data[1] != c"x":
        return strings.bytea_text(PyBytes_FromStringAndSize(<const char *>data, size))
    if size & 1:
        raise ValueError("half a byte")
    count = size // 2 - 1
    value = PyBytes_FromStringAndSize(NULL, count)
    target = PyBytes_AS_STRING(value)
    for index in range(count):
        high = hex_digit(data[2 + 2 * index])
        low = hex_digit(data[3 + 2 * index])
        if high < 0 or low < 0:
            raise ValueError("not hex")
        target[index] = <char>((high << 4) | low)
    return value


cdef object bytea_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char *>data, size)


cdef object make_uuid(const unsigned char *data):
    """What ``UUID(bytes=…)`` makes; its checks, all of them passed here, cost a microsecond."""
    value = new_slotted(_UUID)
    pgstream_store(_UUID_INT, value, _PyLong_FromByteArray(data, 16, 0, 0))
    pgstream_store(_UUID_IS_SAFE, value, _UNKNOWN_SAFETY)
    return value


cdef object uuid_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef unsigned char raw[16]
    cdef unsigned char high, low, wrong = 0
    cdef const unsigned char *at = data
    cdef int index
    if size != 36 or data[8] != c"-" or data[13] != c"-" or data[18] != c"-" or data[23] != c"-":
        raise ValueError("not a UUID")
    for index in range(16):
        if index == 4 or index == 6 or index == 8 or index == 10:
            at += 1
        high, low = HEX_VALUE[at[0]], HEX_VALUE[at[1]]
        wrong |= high | low
        raw[index] = <unsigned char>(high << 4) | low
        at += 2
    if wrong & 16:
        raise ValueError("not a UUID")
    return make_uuid(raw)


cdef object uuid_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size != 16:
        raise ValueError("not 16 bytes")
    return make_uuid(data)


# documents


cdef object load_json(Loader loader, const unsigned char *data, Py_ssize_t size):
    if loader.loads is _json_loads:
        try:
            return parse_document(data, size)
        except (Unusual, ValueError):
            pass
    document = utf8(data, size)
    if type(document) is bytes:
        return document
    if size > _MAX_DEPTH and loader.python.parses \
            and is_too_deep(PyBytes_FromStringAndSize(<const char *>data, size)):
        return document
    try:
        return loader.loads(document)
    except ValueError:
        return document


cdef object json_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    return load_json(loader, data, size)


cdef object jsonb_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size < 1 or data[0] != 1:
        raise ValueError("unknown version")
    return load_json(loader, data + 1, size - 1)


# datetimes


cdef int64_t floor_div(int64_t value, int64_t divisor) noexcept:
    cdef int64_t quotient = value // divisor
    return quotient - 1 if value % divisor < 0 else quotient


cdef bint civil(int64_t days, Date *date) noexcept:
    """The date ``days`` after 2000-01-01; False where Python's types do not reach.

    Counted in eras of 400 years that begin on 1 March, as in ``datetimes.py``.
    """
    cdef int64_t era, day_of_era, year_of_era, day_of_year, march_month
    if days < -730119 or days > 2921939:  # 0001-01-01 .. 9999-12-31
        return False
    days += 730425
    era = days // 146097
    day_of_era = days % 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524
                   - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * day_of_year + 2) // 153
    date.day = <int>(day_of_year - (153 * march_month + 2) // 5 + 1)
    date.month = <int>(march_month + 3 if march_month < 10 else march_month - 9)
    date.year = <int>(year_of_era + 400 * era + (date.month <= 2))
    return True


cdef Time clock(int64_t us) noexcept:
    """The time of day ``us`` microseconds after midnight."""
    cdef Time time
    cdef int64_t seconds = us // 1000000
    time.microsecond = <int>(us % 1000000)
    time.hour = <int>(seconds // 3600)
    time.minute = <int>(seconds // 60 % 60)
    time.second = <int>(seconds % 60)
    return time


cdef object datetime_from(int64_t us, object zone):
    """The datetime ``us`` microseconds after 2000-01-01, or None where there is none."""
    cdef Date date
    cdef Time time
    cdef int64_t days = floor_div(us, _DAY)
    if not civil(days, &date):
        return None
    time = clock(us - days * _DAY)
    return datetime_new(date.year, date.month, date.day,
                        time.hour, time.minute, time.second, time.microsecond, zone)


cdef inline int two_digits(const unsigned char *data) noexcept:
    """The number that two digits make; less than -99 if one of them is none."""
    cdef unsigned int tens = data[0] - <unsigned int>c"0", ones = data[1] - <unsigned int>c"0"
    return <int>(10 * tens + ones) if tens <= 9 and ones <= 9 else -10000


cdef bint parse_date(const unsigned char *data, Date *date) noexcept:
    """Read the 10 bytes of ``2026-11-22``; False if they are no date of Python's."""
    cdef int last
    if data[4] != c"-" or data[7] != c"-":
        return False
    date.year = 100 * two_digits(data) + two_digits(data + 2)
    date.month = two_digits(data + 5)
    date.day = two_digits(data + 8)
    if date.year < 1 or date.month < 1 or date.month > 12 or date.day < 1:
        return False
    if date.month == 2:
        last = 29 if date.year % 4 == 0 and (date.year % 100 != 0 or date.year % 400 == 0) else 28
    elif date.month == 4 or date.month == 6 or date.month == 9 or date.month == 11:
        last = 30
    else:
        last = 31
    return date.day <= last


cdef Py_ssize_t parse_time(const unsigned char *data, Py_ssize_t size, Time *time) noexcept:
    """Read ``08:12:00.123456``; the number of bytes read, 0 if they are no time."""
    cdef Py_ssize_t at
    cdef int place = 100000
    if size < 8 or data[2] != c":" or data[5] != c":":
        return 0
    time.hour = two_digits(data)
    time.minute = two_digits(data + 3)
    time.second = two_digits(data + 6)
    time.microsecond = 0
    if not (0 <= time.hour <= 23 and 0 <= time.minute <= 59 and 0 <= time.second <= 59):
        return 0
    if size == 8 or data[8] != c".":
        return 8
    at = 9
    while at < size and at < 15 and c"0" <= data[at] <= c"9":
        time.microsecond += place * (data[at] - c"0")
        place //= 10
        at += 1
    return at if at > 9 else 0


cdef object own_text(const unsigned char *data, Py_ssize_t size):
    return PyUnicode_DecodeASCII(<const char *>data, size, NULL)


cdef object date_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Date date
    if size == 10 and parse_date(data, &date):
        return date_new(date.year, date.month, date.day)
    return own_text(data, size)


cdef object date_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Date date
    if size != 4:
        raise ValueError("not 4 bytes")
    cdef int32_t days = <int32_t>be32(data)
    if civil(days, &date):
        return date_new(date.year, date.month, date.day)
    return datetimes.text_of_date(days)


cdef object time_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Time time
    if size >= 8 and parse_time(data, size, &time) == size:
        return time_new(time.hour, time.minute, time.second, time.microsecond, None)
    return own_text(data, size)


cdef object time_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Time time
    if size != 8:
        raise ValueError("not 8 bytes")
    cdef int64_t us = <int64_t>be64(data)
    if us < 0 or us > _DAY:
        raise ValueError("not within a day")
    if us == _DAY:
        return "24:00:00"
    time = clock(us)
    return time_new(time.hour, time.minute, time.second, time.microsecond, None)


cdef object timestamp_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Date date
    cdef Time time
    if size >= 19 and data[10] == c" " and parse_date(data, &date) \
            and parse_time(data + 11, size - 11, &time) == size - 11:
        return datetime_new(date.year, date.month, date.day,
                            time.hour, time.minute, time.second, time.microsecond, None)
    return own_text(data, size)


cdef object timestamp_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size != 8:
        raise ValueError("not 8 bytes")
    cdef int64_t us = <int64_t>be64(data)
    value = datetime_from(us, None)
    return datetimes.text_of_timestamp(us, "") if value is None else value


cdef object timestamptz_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Date date
    cdef Time time
    cdef Py_ssize_t at
    cdef int offset
    if size < 22 or data[10] != c" " or not parse_date(data, &date):
        return own_text(data, size)
    at = parse_time(data + 11, size - 11, &time)
    if at == 0 or not parse_offset(data + 11 + at, size - 11 - at, &offset):
        return own_text(data, size)
    value = datetime_new(date.year, date.month, date.day,
                         time.hour, time.minute, time.second, time.microsecond, _UTC)
    if offset == 0:
        return value
    try:
        return value - timedelta_new(0, offset, 0)
    except OverflowError:
        return own_text(data, size)


cdef bint parse_offset(const unsigned char *data, Py_ssize_t size, int *seconds) noexcept:
    """Read ``+05``, ``-05:30`` or ``+05:30:15``, east of UTC; False if it is none."""
    cdef int hour, minute = 0, second = 0
    if size != 3 and size != 6 and size != 9:
        return False
    if data[0] != c"+" and data[0] != c"-":
        return False
    hour = two_digits(data + 1)
    if size > 3:
        if data[3] != c":":
            return False
        minute = two_digits(data + 4)
    if size > 6:
        if data[6] != c":":
            return False
        second = two_digits(data + 7)
    if not (0 <= hour <= 19 and 0 <= minute <= 59 and 0 <= second <= 59):
        return False
    seconds[0] = hour * 3600 + minute * 60 + second
    if data[0] == c"-":
        seconds[0] = -seconds[0]
    return True


cdef object timestamptz_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    if size != 8:
        raise ValueError("not 8 bytes")
    cdef int64_t us = <int64_t>be64(data)
    value = datetime_from(us, _UTC)
    return datetimes.text_of_timestamp(us, "+00") if value is None else value


# arrays


cdef object array_text(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Py_ssize_t at = 0
    cdef const unsigned char *equals
    if size > 0 and data[0] == c"[":  # lower bounds other than 1
        equals = <const unsigned char *>memchr(data, c"=", size)
        if equals == NULL:
            raise ValueError("no array here")
        at = equals - data + 1
    value = parse_list(loader.element, data, size, &at, 1)
    if at != size:
        raise ValueError("something after the array")
    return value


cdef list parse_list(Loader element, const unsigned char *data, Py_ssize_t size,
                     Py_ssize_t *position, int depth):
    """The list that begins at ``position``, which is moved behind it."""
    cdef Py_ssize_t at = position[0], start
    cdef list values = []
    if at >= size or data[at] != c"{" or depth > _MAX_DIMENSIONS:
        raise ValueError("no array here")
    at += 1
    if at < size and data[at] == c"}":
        position[0] = at + 1
        return values
    while True:
        if at >= size:
            raise ValueError("truncated")
        if data[at] == c"{":
            position[0] = at
            values.append(parse_list(element, data, size, position, depth + 1))
            at = position[0]
        elif data[at] == c'"':
            start = at + 1
            at = end_of_quoted(data, size, start)
            if memchr(data + start, c"\\", at - start) == NULL:
                values.append(element.load(element, data + start, at - start))
            else:
                values.append(load_escaped(element, data + start, at - start))
            at += 1
        else:
            start = at
            while at < size and data[at] != c"," and data[at] != c"}" and data[at] != c"{" \
                    and data[at] != c'"' and data[at] != c"\\":
                at += 1
            if at == start or at >= size or (data[at] != c"," and data[at] != c"}"):
                raise ValueError("not an element")
            if at - start == 4 and memcmp(data + start, b"NULL", 4) == 0:
                values.append(None)
            else:
                values.append(element.load(element, data + start, at - start))
        if at >= size:
            raise ValueError("truncated")
        if data[at] == c"}":
            position[0] = at + 1
            return values
        if data[at] != c",":
            raise ValueError("neither , nor } after an element")
        at += 1


cdef Py_ssize_t end_of_quoted(const unsigned char *data, Py_ssize_t size,
                              Py_ssize_t at) except -1:
    """The position of the quote that ends the element."""
    while at < size:
        if data[at] == c'"':
            return at
        at += 2 if data[at] == c"\\" else 1
    raise ValueError("truncated")


cdef object load_escaped(Loader element, const unsigned char *data, Py_ssize_t size):
    """Load an element after undoing its escapes."""
    cdef bytes copy = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char *target = <unsigned char *>PyBytes_AS_STRING(copy)
    cdef Py_ssize_t at = 0, used = 0
    while at < size:
        if data[at] == c"\\":
            at += 1
        target[used] = data[at]
        used += 1
        at += 1
    return element.load(element, target, used)


cdef object array_binary(Loader loader, const unsigned char *data, Py_ssize_t size):
    cdef Loader element = loader.element
    cdef int32_t dimensions, extent
    cdef int64_t count
    cdef Py_ssize_t at = 12, room, index
    cdef int32_t length
    cdef list sizes = None
    cdef list flat
    if size < 12:
        raise ValueError("shorter than its header")
    dimensions = <int32_t>be32(data)
    if dimensions < 0 or dimensions > _MAX_DIMENSIONS or size < at + 8 * dimensions:
        raise ValueError("impossible number of dimensions")
    room = (size - at - 8 * dimensions) // 4  # each element has a length, at least
    count = 1 if dimensions else 0
    if dimensions > 1:
        sizes = []
    for index in range(dimensions):
        extent = <int32_t>be32(data + at)
        at += 8
        count *= extent
        if extent < 1 or count > room:
            raise ValueError("more elements than bytes")
        if sizes is not None:
            sizes.append(extent)
    flat = PyList_New(count)
    for index in range(count):
        if at + 4 > size:
            raise ValueError("truncated")
        length = <int32_t>be32(data + at)
        at += 4
        if length == -1:
            value = None
        elif length < 0 or length > size - at:
            raise ValueError("impossible element length")
        else:
            value = element.load(element, data + at, length)
            at += length
        Py_INCREF(value)  # which the list then owns
        PyList_SET_ITEM(flat, index, value)
    if at != size:
        raise ValueError("something after the array")
    return flat if sizes is None else nest(flat, sizes)


COMPILED = {
    numbers.bool_text: make(bool_text, numbers.bool_text),
    numbers.bool_binary: make(bool_binary, numbers.bool_binary),
    numbers.int_text: make(int_text, numbers.int_text),
    numbers.int2_binary: make(int2_binary, numbers.int2_binary),
    numbers.int4_binary: make(int4_binary, numbers.int4_binary),
    numbers.int8_binary: make(int8_binary, numbers.int8_binary),
    numbers.oid_binary: make(oid_binary, numbers.oid_binary),
    numbers.float_text: make(float_text, numbers.float_text),
    numbers.float8_binary: make(float8_binary, numbers.float8_binary),
    numbers.numeric_text: make(numeric_text, numbers.numeric_text),
    numbers.numeric_binary: make(numeric_binary, numbers.numeric_binary),
    strings.text: make(text, strings.text),
    strings.bytea_text: make(bytea_text, strings.bytea_text),
    strings.bytea_binary: make(bytea_binary, strings.bytea_binary),
    bytes: make(bytea_binary, bytes),
    strings.uuid_text: make(uuid_text, strings.uuid_text),
    strings.uuid_binary: make(uuid_binary, strings.uuid_binary),
    datetimes.date_text: make(date_text, datetimes.date_text),
    datetimes.date_binary: make(date_binary, datetimes.date_binary),
    datetimes.time_text: make(time_text, datetimes.time_text),
    datetimes.time_binary: make(time_binary, datetimes.time_binary),
    datetimes.timestamp_text: make(timestamp_text, datetimes.timestamp_text),
    datetimes.timestamp_binary: make(timestamp_binary, datetimes.timestamp_binary),
    datetimes.timestamptz_text: make(timestamptz_text, datetimes.timestamptz_text),
    datetimes.timestamptz_binary: make(timestamptz_binary, datetimes.timestamptz_binary),
}
"""From a loader of the registry to its C version."""
