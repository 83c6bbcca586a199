cdef extern from "Python.h":
    dict PyDict_Copy(dict original)
    int PyDict_SetItem(object row, object key, object value) except -1

cdef extern from *:
    """
    #define pgstream_keys(row) ((char *)((PyDictObject *)(row))->ma_keys)

    // Stores `value` where a value of a fresh dict stands. As with every dict, the collector
    // sees it from the first value on that could be part of a cycle.
    static inline void pgstream_put(PyObject *row, Py_ssize_t place, PyObject *value) {
        PyObject **slot = (PyObject **)(pgstream_keys(row) + place);
        PyObject *before = *slot;
        Py_INCREF(value);
        *slot = value;
        Py_DECREF(before);
        if (PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_HAVE_GC)
            && (PyObject_GC_IsTracked(value) || PyDict_Check(value))
            && !PyObject_GC_IsTracked(row))
            PyObject_GC_Track(row);
    }
    """
    char *pgstream_keys(object row)
    void pgstream_put(object row, Py_ssize_t place, object value)


cdef class DictRows:
    cdef tuple names
    cdef dict blank
    cdef bint in_place
    cdef Py_ssize_t *places


cdef inline dict begin_row(DictRows rows):
    """A row whose values are None yet; ``put`` gives it others."""
    return PyDict_Copy(rows.blank)


cdef inline int put(DictRows rows, dict row, Py_ssize_t index, object value) except -1:
    """Set the value of one column."""
    if rows.in_place:
        pgstream_put(row, rows.places[index], value)
        return 0
    return PyDict_SetItem(row, rows.names[index], value)
