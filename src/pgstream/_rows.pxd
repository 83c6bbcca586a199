cdef class DictRows:
    cdef tuple names
    cdef dict blank
    cdef bint in_place
    cdef Py_ssize_t *places

    cdef dict fill(self, list values)
    cdef dict make(self, list values)
