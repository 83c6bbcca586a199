"""The file ``.env``, which adds to the environment that options come from."""

from __future__ import annotations

import io
import re
from pathlib import Path

import dotenv
from dotenv.parser import parse_stream

from ..errors import ConfigError


def load_dotenv(directory: Path | None = None) -> None:
    """Add what ``.env`` sets to the environment of this process; what is there already wins.

    Args:
        directory: Where ``.env`` is looked for; the current directory by default.

    Raises:
        ConfigError: if there is a ``.env`` that cannot be read, with the line that is at fault.
    """
    file = (directory or Path()) / ".env"
    try:
        if not file.is_file():
            return
        text = file.read_text(encoding="utf-8")
        for binding in parse_stream(io.StringIO(text)):
            if binding.error:  # a quote that is not closed takes the lines after it along
                blank = re.match(r"\s*", binding.original.string)
                line = binding.original.line + (blank[0].count("\n") if blank else 0)
                raise ConfigError(
                    f"{file}, line {line}: this is not NAME=value",
                    "close the quotes around the value, and begin comments with #",
                )
        dotenv.load_dotenv(stream=io.StringIO(text), override=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {file}: {reason}") from None
