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

import sys

cdef extern from "Python.h":
    ctypedef struct PyDictObject:
        pass


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
        copy = begin_row(self)
        for index in range(len(marks)):
            pgstream_put(copy, self.places[index], marks[index])
        return copy == original and list(copy) == list(self.names) and copy is not original
