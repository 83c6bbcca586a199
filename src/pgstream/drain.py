"""Which drain is used: the Cython one where it is compiled and finds libpq, else its twin.

``PGSTREAM_IMPL=python`` forces the twin, as it does for the decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import decoder

if TYPE_CHECKING or decoder.__impl__ == "python":
    from ._drain_py import drain
else:
    try:
        from ._drain import drain
    except ImportError as error:
        # Anything else about it that is broken must not be hidden by a slower one.
        if error.name != f"{__package__}.libpq":
            raise
        from ._drain_py import drain

__all__ = ["drain"]
