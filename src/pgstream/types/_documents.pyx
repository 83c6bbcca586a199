# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Plain JSON, read from its bytes.

What ``json.loads`` makes of most documents, for a fraction of its cost. A document that
holds anything out of the ordinary is left to ``json.loads`` itself: an escape or a control
character in a key, a number of more than 18 digits, deep nesting, whatever is malformed.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

import json

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 highest)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    PyObject *PyList_GET_ITEM(object list, Py_ssize_t index)
    double PyOS_string_to_double(const char *text, char **end, PyObject *overflow) except? -1.0

cdef extern from *:
    """
    #define PGSTREAM_DEPTH 64
    #define PGSTREAM_KEYS 512
    #define PGSTREAM_NUMBER 40
    """
    enum: DEPTH "PGSTREAM_DEPTH"  # of nesting
    enum: KEYS "PGSTREAM_KEYS"  # that are remembered
    enum: NUMBER "PGSTREAM_NUMBER"  # characters of a number

cdef object _loads = json.loads
cdef list _SINGLE = [chr(code) for code in range(128)]  # texts of one character
cdef list _keys = [""] * KEYS  # those met last, by hash: documents of a table share theirs


class Unusual(Exception):
    """A document that is left to ``json.loads``."""


cdef object _UNUSUAL = Unusual()

cdef struct Cursor:
    const unsigned char *at
    const unsigned char *end


cdef object parse_document(const unsigned char *data, Py_ssize_t size):
    """What ``json.loads`` makes of the document.

    Raises:
        Unusual: if that has to be asked.
    """
    cdef Cursor cursor
    cursor.at = data
    cursor.end = data + size
    value = parse_value(&cursor, 0)
    skip_space(&cursor)
    if cursor.at != cursor.end:
        raise _UNUSUAL
    return value


cdef object ascii(const unsigned char *data, Py_ssize_t size):
    """The text, made by copying its bytes; None where it is not all ASCII, as most text is."""
    cdef Py_ssize_t at = 0
    cdef uint64_t eight, bits = 0
    if size >= 8:
        while at < size - 8:
            memcpy(&eight, data + at, 8)
            bits |= eight
            at += 8
        memcpy(&eight, data + size - 8, 8)  # may overlap the one before
        if (bits | eight) & 0x8080808080808080ULL:
            return None
    elif size > 1:
        for at in range(size):
            bits |= data[at]
        if bits & 0x80:
            return None
    elif size == 1:
        return None if data[0] & 0x80 else <object>PyList_GET_ITEM(_SINGLE, data[0])
    else:
        return ""
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(text), data, size)
    return text


cdef object ascii_or_utf8(const unsigned char *data, Py_ssize_t size):
    """The text.

    Raises:
        UnicodeDecodeError: if it is not valid UTF-8.
    """
    text = ascii(data, size)
    if text is None:
        text = PyUnicode_DecodeUTF8(<const char *>data, size, NULL)
    return text


cdef inline void skip_space(Cursor *cursor) noexcept:
    while cursor.at < cursor.end and (
        cursor.at[0] == c" " or cursor.at[0] == c"\n" or cursor.at[0] == c"\t"
        or cursor.at[0] == c"\r"
    ):
        cursor.at += 1


cdef object parse_value(Cursor *cursor, int depth):
    """The value that begins at the cursor, which is moved behind it."""
    cdef unsigned char first
    skip_space(cursor)
    if cursor.at == cursor.end:
        raise _UNUSUAL
    first = cursor.at[0]
    if first == c'"':
        cursor.at += 1
        return parse_string(cursor)
    if first == c"{":
        cursor.at += 1
        return parse_object(cursor, depth + 1)
    if first == c"[":
        cursor.at += 1
        return parse_array(cursor, depth + 1)
    if first == c"-" or c"0" <= first <= c"9":
        return parse_number(cursor)
    if is_word(cursor, b"true", 4):
        return True
    if is_word(cursor, b"false", 5):
        return False
    if is_word(cursor, b"null", 4):
        return None
    raise _UNUSUAL


cdef inline bint is_word(Cursor *cursor, const char *word, Py_ssize_t size) noexcept:
    if cursor.end - cursor.at >= size and memcmp(cursor.at, word, size) == 0:
        cursor.at += size
        return True
    return False


cdef dict parse_object(Cursor *cursor, int depth):
    cdef dict members = {}
    cdef unsigned char after
    if depth > DEPTH:
        raise _UNUSUAL
    skip_space(cursor)
    if cursor.at < cursor.end and cursor.at[0] == c"}":
        cursor.at += 1
        return members
    while True:
        skip_space(cursor)
        if cursor.at == cursor.end or cursor.at[0] != c'"':
            raise _UNUSUAL
        cursor.at += 1
        key = parse_key(cursor)
        skip_space(cursor)
        if cursor.at == cursor.end or cursor.at[0] != c":":
            raise _UNUSUAL
        cursor.at += 1
        members[key] = parse_value(cursor, depth)
        skip_space(cursor)
        if cursor.at == cursor.end:
            raise _UNUSUAL
        after = cursor.at[0]
        cursor.at += 1
        if after == c"}":
            return members
        if after != c",":
            raise _UNUSUAL


cdef list parse_array(Cursor *cursor, int depth):
    cdef list items = []
    cdef unsigned char after
    if depth > DEPTH:
        raise _UNUSUAL
    skip_space(cursor)
    if cursor.at < cursor.end and cursor.at[0] == c"]":
        cursor.at += 1
        return items
    while True:
        items.append(parse_value(cursor, depth))
        skip_space(cursor)
        if cursor.at == cursor.end:
            raise _UNUSUAL
        after = cursor.at[0]
        cursor.at += 1
        if after == c"]":
            return items
        if after != c",":
            raise _UNUSUAL


cdef object parse_string(Cursor *cursor):
    """The string whose opening quote was read."""
    cdef const unsigned char *start = cursor.at
    cdef bint escaped = False
    while True:
        if cursor.at >= cursor.end or cursor.at[0] < 0x20:
            raise _UNUSUAL
        if cursor.at[0] == c'"':
            break
        if cursor.at[0] == c"\\":
            escaped = True
            cursor.at += 1
        cursor.at += 1
    cursor.at += 1
    if escaped:  # with its quotes, it is a document of its own
        return _loads(ascii_or_utf8(start - 1, cursor.at - start + 1))
    return ascii_or_utf8(start, cursor.at - start - 1)


cdef object parse_key(Cursor *cursor):
    """The same for a key: one in ASCII that was met before is not made again."""
    cdef const unsigned char *start = cursor.at
    cdef Py_ssize_t size
    cdef uint32_t hashed = 2166136261  # FNV-1a
    cdef unsigned char bits = 0
    while cursor.at < cursor.end and cursor.at[0] != c'"':
        if cursor.at[0] < 0x20 or cursor.at[0] == c"\\":
            raise _UNUSUAL
        bits |= cursor.at[0]
        hashed = (hashed ^ cursor.at[0]) * 16777619
        cursor.at += 1
    if cursor.at == cursor.end:
        raise _UNUSUAL
    size = cursor.at - start
    cursor.at += 1
    if bits & 0x80:  # what is remembered is compared as bytes, which works for ASCII alone
        return PyUnicode_DecodeUTF8(<const char *>start, size, NULL)
    known = _keys[hashed % KEYS]
    if PyUnicode_GET_LENGTH(known) == size and memcmp(PyUnicode_DATA(known), start, size) == 0:
        return known
    key = ascii_or_utf8(start, size)
    if size <= 64:
        _keys[hashed % KEYS] = key
    return key


cdef object parse_number(Cursor *cursor):
    """An integer of up to 18 digits, or a float."""
    cdef const unsigned char *start = cursor.at
    cdef const unsigned char *digits
    cdef bint minus = start[0] == c"-"
    cdef uint64_t value = 0
    cdef char copy[NUMBER + 1]
    cdef char *end = NULL
    cdef double number
    cursor.at += minus
    digits = cursor.at
    while cursor.at < cursor.end and c"0" <= cursor.at[0] <= c"9" and cursor.at - digits < 19:
        value = value * 10 + (cursor.at[0] - c"0")
        cursor.at += 1
    if cursor.at == digits or cursor.at - digits > 18 \
            or (digits[0] == c"0" and cursor.at - digits > 1):
        raise _UNUSUAL
    if cursor.at == cursor.end or not (
        cursor.at[0] == c"." or cursor.at[0] == c"e" or cursor.at[0] == c"E"
    ):
        return -<int64_t>value if minus else <int64_t>value
    if cursor.at[0] == c".":
        cursor.at += 1
        digits = cursor.at
        while cursor.at < cursor.end and c"0" <= cursor.at[0] <= c"9":
            cursor.at += 1
        if cursor.at == digits:
            raise _UNUSUAL
    if cursor.at < cursor.end and (cursor.at[0] == c"e" or cursor.at[0] == c"E"):
        cursor.at += 1
        if cursor.at < cursor.end and (cursor.at[0] == c"+" or cursor.at[0] == c"-"):
            cursor.at += 1
        digits = cursor.at
        while cursor.at < cursor.end and c"0" <= cursor.at[0] <= c"9":
            cursor.at += 1
        if cursor.at == digits:
            raise _UNUSUAL
    if cursor.at - start > NUMBER:
        raise _UNUSUAL
    memcpy(copy, start, cursor.at - start)
    copy[cursor.at - start] = 0
    number = PyOS_string_to_double(copy, &end, NULL)
    return number
