cdef object ascii(const unsigned char *data, Py_ssize_t size)
cdef object parse_document(const unsigned char *data, Py_ssize_t size)
cdef object ascii_or_utf8(const unsigned char *data, Py_ssize_t size)
