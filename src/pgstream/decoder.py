"""Which decoder is used: the Cython one where it is compiled, else its Python twin.

``PGSTREAM_IMPL=cython`` or ``python`` forces one, and fails where it is not there.
``__impl__`` says which one it is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import ConfigError

_wanted = os.environ.get("PGSTREAM_IMPL", "")
if _wanted not in ("", "cython", "python"):
    raise ConfigError(
        f"PGSTREAM_IMPL is {_wanted!r}", "set it to 'cython' or 'python', or leave it unset"
    )

if TYPE_CHECKING:
    from ._decode import Decoder
    from ._json import JSONDecoder

    __impl__: str
elif _wanted == "python":
    from ._decode_py import Decoder
    from ._json_py import JSONDecoder

    __impl__ = "python"
else:
    try:
        from ._decode import Decoder
        from ._json import JSONDecoder

        __impl__ = "cython"
    except ImportError as error:
        if _wanted == "cython":
            raise ImportError(
                f"PGSTREAM_IMPL=cython, but the compiled decoder cannot be loaded: {error}. "
                "Reinstall with a C compiler and PGSTREAM_REQUIRE_EXT=1, or unset PGSTREAM_IMPL."
            ) from error
        # One that is there but broken must not be hidden by a slower one.
        if error.name != f"{__package__}._decode" or not isinstance(error, ModuleNotFoundError):
            raise
        from ._decode_py import Decoder
        from ._json_py import JSONDecoder

        __impl__ = "python"

__all__ = ["Decoder", "JSONDecoder", "__impl__"]
