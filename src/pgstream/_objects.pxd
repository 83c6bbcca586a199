"""Objects made without their constructors, for the Cython modules.

They are made out of sight of the garbage collector, so that it has nothing to do with them and
a batch of thousands costs it little. What it looks for are cycles. An LSN and a UUID hold nothing
that could lead back to them; of a message it is the row alone, see ``messages.py``.
"""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    // An instance of a class whose members are all objects, each of them set to `value`.
    static inline PyObject *pgstream_new(PyObject *class, PyObject *value) {
        PyTypeObject *type = (PyTypeObject *)class;
        PyObject *made = PyObject_GC_New(PyObject, type);
        PyObject **member, **end;
        if (made == NULL)
            return NULL;
        member = (PyObject **)(made + 1);
        end = (PyObject **)((char *)made + type->tp_basicsize);
        for (; member < end; member++) {
            Py_XINCREF(value);
            *member = value;
        }
        return made;
    }
    #define pgstream_new_message(class) pgstream_new((PyObject *)(class), Py_None)
    #define pgstream_new_slotted(class) pgstream_new(class, NULL)

    // int.__new__(subclass, value). That makes an int first and copies it, at twice the cost
    // of an event; so where the layout of an int is known, its digits are written in place.
    static inline PyObject *pgstream_new_int(PyObject *subclass, unsigned long long value) {
    #if PYLONG_BITS_IN_DIGIT == 30 && PY_VERSION_HEX < 0x030F0000
        Py_ssize_t count = 0, at;
        unsigned long long rest;
        PyLongObject *made;
        for (rest = value; rest; rest >>= 30)
            count++;
        made = PyObject_GC_NewVar(PyLongObject, (PyTypeObject *)subclass, count ? count : 1);
        if (made == NULL)
            return NULL;
    #if PY_VERSION_HEX < 0x030C0000
        Py_SET_SIZE(made, count);
        for (at = 0; at < count; at++, value >>= 30)
            made->ob_digit[at] = (digit)(value & PyLong_MASK);
    #else
        made->long_value.lv_tag = count ? (uintptr_t)count << 3 : 1;
        for (at = 0; at < count; at++, value >>= 30)
            made->long_value.ob_digit[at] = (digit)(value & PyLong_MASK);
    #endif
        return (PyObject *)made;
    #else
        PyObject *made = NULL, *number = PyLong_FromUnsignedLongLong(value);
        PyObject *arguments = number == NULL ? NULL : PyTuple_Pack(1, number);
        if (arguments != NULL)
            made = PyLong_Type.tp_new((PyTypeObject *)subclass, arguments, NULL);
        Py_XDECREF(arguments);
        Py_XDECREF(number);
        return made;
    #endif
    }
    """
    object new_message "pgstream_new_message"(type message)
    object new_slotted "pgstream_new_slotted"(object type)
    object new_int "pgstream_new_int"(object subclass, uint64_t value)
