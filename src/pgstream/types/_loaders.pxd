from libc.stdint cimport int64_t

cdef class Loader

# Reads one value: `size` bytes at `data`, which the caller has bounded.
ctypedef object (*load_function)(Loader loader, const unsigned char *data, Py_ssize_t size)

cdef class Loader:
    cdef load_function load
    cdef object python     # what it stands for: a loader of the registry
    cdef Loader element    # of an array
    cdef object loads      # of json

cdef Loader compiled(object python)
cdef object datetime_from(int64_t us, object zone)
