from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

# Big-endian numbers.

cdef inline uint16_t be16(const unsigned char *data) noexcept:
    return <uint16_t>((data[0] << 8) | data[1])

cdef inline uint32_t be32(const unsigned char *data) noexcept:
    return ((<uint32_t>data[0] << 24) | (<uint32_t>data[1] << 16)
            | (<uint32_t>data[2] << 8) | data[3])

cdef inline uint64_t be64(const unsigned char *data) noexcept:
    return (<uint64_t>be32(data) << 32) | be32(data + 4)

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

# What the writers of JSON share with the loaders.

cdef struct Date:
    int year
    int month
    int day

cdef struct Time:
    int hour
    int minute
    int second
    int microsecond

cdef int64_t floor_div(int64_t value, int64_t divisor) noexcept
cdef bint civil(int64_t days, Date *date) noexcept
cdef Time clock(int64_t us) noexcept
cdef bint parse_date(const unsigned char *data, Date *date) noexcept
cdef Py_ssize_t parse_time(const unsigned char *data, Py_ssize_t size, Time *time) noexcept
cdef bint parse_offset(const unsigned char *data, Py_ssize_t size, int *seconds) noexcept
cdef Py_ssize_t numeric_room(const unsigned char *data, Py_ssize_t size) noexcept
cdef Py_ssize_t format_numeric(const unsigned char *data, Py_ssize_t size, char *out) noexcept
