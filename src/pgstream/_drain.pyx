# cython: language_level=3, boundscheck=False, wraparound=False
"""The drain in Cython: libpq's own functions, called by address.

What has arrived is taken out of libpq's buffer in one loop, without a Python call for
each message. The twin, ``_drain_py.py``, does it through psycopg.

Source: "Functions Associated with the COPY Command" in libpq's documentation.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uintptr_t

from .libpq import FREEMEM, GET_COPY_DATA

ctypedef int (*get_copy_data)(void *connection, char **buffer, int asynchronous) noexcept
ctypedef void (*freemem)(void *buffer) noexcept

cdef get_copy_data PQgetCopyData = <get_copy_data><uintptr_t>GET_COPY_DATA
cdef freemem PQfreemem = <freemem><uintptr_t>FREEMEM

if PQgetCopyData == NULL or PQfreemem == NULL:
    raise ImportError("psycopg's libpq cannot be called by address", name="pgstream.libpq")


def drain(pgconn, Py_ssize_t limit):
    """Take up to ``limit`` CopyData messages out of what has arrived; does not wait.

    Returns:
        The payloads, and what stands behind them: 0 for nothing yet, -1 for the end of the
        stream, -2 for an error, which ``pgconn.error_message`` describes, and anything
        above 0 where the limit was reached.
    """
    cdef list payloads = []
    cdef char *buffer = NULL
    cdef int size = 1
    cdef void *connection = <void *><uintptr_t>(pgconn.pgconn_ptr or 0)
    if connection == NULL:
        return payloads, -2
    while len(payloads) < limit:
        size = PQgetCopyData(connection, &buffer, 1)
        if size <= 0:
            break
        try:
            payloads.append(PyBytes_FromStringAndSize(buffer, size))
        finally:
            PQfreemem(buffer)
    return payloads, size
