"""Decimals from their digits, for the Cython loaders.

To make one of a text takes ``decimal`` as long as decoding the rest of a narrow row: it parses
the text, rounds, looks at the context. A number of up to 18 digits needs nothing of that: its
digits are one word of the object. Where that word stands is not assumed, it is looked at in a
Decimal that ``decimal`` made; where it looks different, every text goes to ``decimal``.
"""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <stdint.h>

    // Modules/_decimal/_decimal.c: PyDecObject, and the mpd_t in it.
    typedef struct {
        PyObject_HEAD
        Py_hash_t hash;
        uint8_t flags;  // 1: negative
        Py_ssize_t exponent, digits, length, allocated;
        uint64_t *words;
        uint64_t own[4];
    } pgstream_decimal;

    static PyTypeObject *pgstream_decimal_type = NULL;
    static uint8_t pgstream_decimal_flags;

    // Takes the layout over if `sample`, which is Decimal("-12345.6789"), has it.
    static void pgstream_learn_decimal(PyObject *sample) {
        pgstream_decimal *one = (pgstream_decimal *)sample;
        PyTypeObject *type = Py_TYPE(sample);
        if (type->tp_basicsize == sizeof(pgstream_decimal) && type->tp_itemsize == 0
            && !PyType_HasFeature(type, Py_TPFLAGS_HAVE_GC) && one->hash == -1
            && (one->flags & 15) == 1 && one->exponent == -4 && one->digits == 9
            && one->length == 1 && one->allocated == 4 && one->words == one->own
            && one->own[0] == 123456789) {
            pgstream_decimal_type = type;
            pgstream_decimal_flags = one->flags & ~1;
        }
    }
    static PyObject *pgstream_new_decimal(int negative, uint64_t coefficient, int digits, int scale) {
        pgstream_decimal *made = PyObject_New(pgstream_decimal, pgstream_decimal_type);
        if (made == NULL)
            return NULL;
        made->hash = -1;
        made->flags = pgstream_decimal_flags | (negative != 0);
        made->exponent = -scale;
        made->digits = digits;
        made->length = 1;
        made->allocated = 4;
        made->words = made->own;
        made->own[0] = coefficient;
        return (PyObject *)made;
    }
    """
    void learn_decimal "pgstream_learn_decimal"(object sample)
    bint decimal_is_known "pgstream_decimal_type"
    object new_decimal "pgstream_new_decimal"(
        int negative, uint64_t coefficient, int digits, int scale)
