"""Where the functions of the libpq that psycopg has loaded stand in memory.

psycopg's own modules link to it under a name that differs between its distributions;
asked of such a module, the dynamic linker finds what the module itself would call.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Final

import psycopg

_MODULES: Final = {"binary": "psycopg_binary.pq", "c": "psycopg_c.pq"}


def _address(name: str) -> int:
    """The address of a function, 0 if it cannot be found."""
    try:
        if psycopg.pq.__impl__ in _MODULES:
            module = importlib.import_module(_MODULES[psycopg.pq.__impl__])
            library = ctypes.CDLL(module.__file__)
        else:
            library = importlib.import_module("psycopg.pq._pq_ctypes").pq
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    except (OSError, AttributeError, ImportError):
        return 0


GET_COPY_DATA: Final = _address("PQgetCopyData")
FREEMEM: Final = _address("PQfreemem")
