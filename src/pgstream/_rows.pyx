# cython: language_level=3, boundscheck=False, wraparound=False
"""Rows as dicts, for the Cython decoder: what ``dict_row`` makes, without its look-ups.

All rows of a relation have the same keys. A copy of a dict with those keys has each of
its values at the same place in memory, so the places are looked for once, and each row is
such a copy with its values stored there.

The places are found, not computed: nothing is assumed of how this version of Python lays
out a dict but that a copy is laid out as its original. Where that cannot be seen to hold,
values are put in by their keys, as everywhere else.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject

import sys

cdef extern from "Python.h":
    ctypedef struct PyDictObject:
        pass

    dict PyDict_Copy(dict original)
    int PyDict_SetItem(object row, object key, object value) except -1
    PyObject *PyList_GET_ITEM(object list, Py_ssize_t index)
    PyObject *PyTuple_GET_ITEM(object tuple, Py_ssize_t index)

cdef extern from *:
    """
    #define pgstream_keys(row) ((char *)((PyDictObject *)(row))->ma_keys)

    // Stores `value` where a value of a fresh dict stands; 1 if the collector must see it.
    static inline int pgstream_put(char *keys, Py_ssize_t place, PyObject *value) {
        PyObject **slot = (PyObject **)(keys + place);
        PyObject *before = *slot;
        Py_INCREF(value);
        *slot = value;
        Py_DECREF(before);
        return PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_HAVE_GC);
    }
    static inline void pgstream_track(PyObject *row) {
        if (!PyObject_GC_IsTracked(row))
            PyObject_GC_Track(row);
    }
    """
    char *pgstream_keys(object row)
    int pgstream_put(char *keys, Py_ssize_t place, PyObject *value)
    void pgstream_track(object row)


cdef class DictRows:
    """Makes the rows of one relation.

    Args:
        names: The names of its columns, in their order.
    """

    def __cinit__(self, tuple names):
        self.places = <Py_ssize_t *>PyMem_Malloc(max(1, len(names)) * sizeof(Py_ssize_t))
        if self.places == NULL:
            raise MemoryError

    def __init__(self, tuple names):
        self.names = names
        self.blank = dict.fromkeys(names)
        self.in_place = 0 < len(self.blank) == len(names) and self.find_places()

    def __dealloc__(self):
        PyMem_Free(self.places)

    def find_places(self):
        """Find where the values stand; False if that cannot be told for certain."""
        cdef dict original, copy
        cdef char *keys
        cdef Py_ssize_t size, place, index
        cdef list marks = [object() for _ in self.names]
        original = dict(zip(self.names, marks))
        # A dict that was put together in parts may be larger than its copy: both are copied
        # from one that was copied already.
        original = PyDict_Copy(original)
        self.blank = PyDict_Copy(self.blank)
        if sys.implementation.name != "cpython" or sys.getsizeof(original) != sys.getsizeof(
            self.blank
        ):
            return False
        keys = pgstream_keys(original)
        size = sys.getsizeof(original) - sizeof(PyDictObject) - 2 * sizeof(void *)
        for index in range(len(marks)):
            found = 0
            for place in range(0, size - <Py_ssize_t>sizeof(void *) + 1, sizeof(void *)):
                if (<void **>(keys + place))[0] == <void *>marks[index]:
                    self.places[index] = place
                    found += 1
            if found != 1:
                return False
        # Seen to hold: a row made this way reads as it should.
        copy = self.fill(marks)
        return copy == original and list(copy) == list(self.names) and copy is not original

    cdef dict fill(self, list values):
        cdef dict row = PyDict_Copy(self.blank)
        cdef char *keys = pgstream_keys(row)
        cdef int tracked = 0
        cdef Py_ssize_t index
        for index in range(len(values)):
            tracked |= pgstream_put(keys, self.places[index], PyList_GET_ITEM(values, index))
        if tracked:
            pgstream_track(row)
        return row

    cdef dict make(self, list values):
        """The row with these values, as many as there are names."""
        cdef dict row
        cdef Py_ssize_t index
        if self.in_place:
            return self.fill(values)
        row = {}
        for index in range(len(values)):
            PyDict_SetItem(row, <object>PyTuple_GET_ITEM(self.names, index),
                           <object>PyList_GET_ITEM(values, index))
        return row
