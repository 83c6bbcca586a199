"""What the command ``pgstream`` calls.

Most of the time until a short command is done goes into importing the package. This module
stands outside of it, so that ctrl-C and an error meanwhile end the command as they do later.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    try:
        from pgstream.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("PGSTREAM_DEBUG") or "--debug" in sys.argv:
            raise
        sys.exit(f"pgstream: {error}")
    run()
