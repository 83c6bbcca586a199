"""What a loader may raise."""

from __future__ import annotations

import struct
from typing import Final

LOAD_ERRORS: Final = (ValueError, ArithmeticError, LookupError, struct.error)
"""What a built-in loader may raise for bytes that are not a value of its type."""


class LoaderFailed(Exception):  # never leaves the decoders
    """A loader of the user's own raised; its exception is the cause."""
