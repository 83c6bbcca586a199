from libc.stdint cimport int32_t, int64_t, uint32_t

from ._rows cimport DictRows

cdef class Reader:
    cdef const unsigned char *data
    cdef Py_ssize_t at
    cdef Py_ssize_t end
    cdef Py_ssize_t start
    cdef Py_ssize_t size
    cdef object kind
    cdef bint placed       # whether its head was read, which has its LSN

    cdef object error(self, reason, Py_ssize_t offset)
    cdef object lsn(self)
    cdef int need(self, Py_ssize_t size) except -1
    cdef int skip(self, Py_ssize_t size) except -1
    cdef int u8(self) except -1
    cdef int u16(self) except -1
    cdef uint32_t u32(self) except? 0xFFFFFFFF
    cdef int32_t i32(self) except? -1
    cdef object position(self)
    cdef object timestamp(self)
    cdef object string(self)
    cdef int flag(self, int wanted) except -1
    cdef object block(self)
    cdef int cell(self) except -1
    cdef bint field(self) except -1
    cdef int finish(self) except -1

cdef class Plan:
    cdef object relation
    cdef uint32_t oid
    cdef Py_ssize_t arrival
    cdef Py_ssize_t version
    cdef int width
    cdef list text
    cdef list binary
    cdef list keys
    cdef DictRows dicts
    cdef object make
    cdef object make_key
    cdef object lines      # how its lines are written, for the decoder that makes JSON

cdef class Streamed:
    cdef Py_ssize_t ordinal
    cdef dict plans

cdef class Decoder:
    cdef object _row_factory
    cdef object _loaders
    cdef dict _plans
    cdef list _recent
    cdef Plan _copied
    cdef Py_ssize_t _arrivals
    cdef object _xid
    cdef object _commit_lsn
    cdef object _commit_time
    cdef int64_t _us
    cdef object _moment
    cdef object _gid
    cdef Py_ssize_t _ordinal
    cdef dict _streamed
    cdef Streamed _block

    cpdef object decode(self, payload)

cdef Plan find_plan(Decoder decoder, uint32_t oid)
cdef object not_loaded(Reader reader, Plan plan, int index, int kind, cause)
