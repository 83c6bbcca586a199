"""Values as JSON: what is written for what a decoder makes, as lines and as text for people.

The exact counterpart of the loaders in :mod:`pgstream.types`. Numbers that JSON
readers would round (``numeric``) and what JSON has no form for (dates, UUIDs,
NaN) become strings; text that stands for itself stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from itertools import repeat
from typing import Any, Final
from uuid import UUID

from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from .lsn import LSN
from .messages import UNCHANGED, LogicalMessage
from .types import Composite, Interval, JSONText
from .types.rendering import text_of_address, text_of_multirange, text_of_range

_quote: Final = json.JSONEncoder(ensure_ascii=False).encode
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NEWLINES: Final = str.maketrans("\n\r", "  ")


def encode_str(text: str) -> str:
    """Return ``text`` as a JSON string.

    A lone surrogate, which no encoding of the output could take (a parsed JSON
    document may hold one), is written as its escape.
    """
    quoted = _quote(text)
    if not quoted.isascii() and _SURROGATE.search(quoted):
        quoted = _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    return quoted


def encode_bool(value: bool) -> str:
    """Return ``true`` or ``false``."""
    return "true" if value else "false"


def encode_time(moment: datetime) -> str:
    """Return ``moment`` as an ISO 8601 string; ``Z`` for UTC."""
    text = moment.isoformat()
    return f'"{text[:-6]}Z"' if text.endswith("+00:00") else f'"{text}"'


def encode_content(message: LogicalMessage) -> str:
    """Return what the message says: its text, or PostgreSQL's hex if it is not UTF-8.

    Text that looks like that hex is written as hex itself, so that a reader can
    always tell the two apart.
    """
    content = message.content
    if not content.startswith(b"\\x"):
        try:
            return encode_str(content.decode())
        except UnicodeDecodeError:
            pass
    return _bytes(content)


def encode_value(value: Any) -> str:
    """Return a column's value as JSON, on one line.

    Any value that a decoder makes can be encoded; one of another class (from a
    ``json_loads`` of the user's own) is written as the string that ``str`` gives.
    """
    encode = _ENCODERS.get(type(value))
    if encode is None:
        encode = next(
            (_ENCODERS[base] for base in type(value).__mro__ if base in _ENCODERS), _other
        )
    return encode(value)


def encode_row(row: Any, keys: KeyCache) -> tuple[list[str], list[str]]:
    """Return the members of a row, and the names of its unchanged columns, as JSON.

    Args:
        row: a mapping from column name to value.
        keys: what stands before the value of each column.
    """
    members: list[str] = []
    unchanged: list[str] = []
    for name, value in row.items():
        # Looked up here and not in encode_value alone: a call less for each value.
        encode = _ENCODERS.get(type(value))
        if encode is not None:
            members.append(keys[name] + encode(value))
        elif value is UNCHANGED:
            unchanged.append(encode_str(name))
        else:
            members.append(keys[name] + encode_value(value))
    return members, unchanged


class KeyCache(dict[str, str]):
    """From a column's name to what stands before its value: the name as JSON, a colon.

    Args:
        colon: The colon, with the space that is wanted behind it.
    """

    def __init__(self, colon: str = ":") -> None:
        super().__init__()
        self._colon = colon

    def __missing__(self, name: str) -> str:
        self[name] = key = encode_str(name) + self._colon
        return key


def _none(value: None) -> str:
    return "null"


def _float(value: float) -> str:
    if value - value == 0:  # finite
        return float.__repr__(value)  # what a subclass shows may be no number
    return '"NaN"' if value != value else '"Infinity"' if value > 0 else '"-Infinity"'


def _decimal(value: Decimal) -> str:
    text = str(value)
    # PostgreSQL never prints an exponent, and Decimal does beyond six zeros.
    return f'"{value:f}"' if "E" in text else f'"{text}"'


def _bytes(value: bytes | bytearray) -> str:
    return f'"\\\\x{value.hex()}"'


def _json(value: JSONText) -> str:
    # Inside a JSON string a line break is always escaped, so these stand between tokens.
    return value.translate(_NEWLINES) if "\n" in value or "\r" in value else value


def _iso(value: date | time | Interval) -> str:
    return f'"{value.isoformat()}"'


def _plain(value: Any) -> str:
    # What str() makes of it needs no escapes.
    return f'"{value}"'


def _address(value: IPv6Address | IPv6Interface | IPv6Network) -> str:
    return f'"{text_of_address(value)}"'


def _range(value: Range[Any]) -> str:
    return encode_str(text_of_range(value))


def _multirange(value: Multirange[Any]) -> str:
    return encode_str(text_of_multirange(value))


def _list(values: list[Any] | tuple[Any, ...]) -> str:
    if any(isinstance(value, (list, tuple, dict)) for value in values):
        return _container(values)
    return "[" + ",".join([encode_value(value) for value in values]) + "]"


def _container(value: Any) -> str:
    """Encode a nested array or a parsed document.

    With a stack of its own, since documents may nest deeper than Python recurses.
    """
    parts: list[str] = []
    open_ones: list[tuple[Iterator[tuple[str, Any]], str]] = []

    def enter(container: Any) -> None:
        if isinstance(container, Composite):
            parts.append("{")
            named = zip(map(encode_str, container.pg_names), container, strict=True)
            open_ones.append((((name + ":", item) for name, item in named), "}"))
        elif isinstance(container, dict):
            parts.append("{")
            members = ((encode_str(_key(key)) + ":", item) for key, item in container.items())
            open_ones.append((members, "}"))
        else:
            parts.append("[")
            open_ones.append((zip(repeat(""), container, strict=False), "]"))

    enter(value)
    while open_ones:
        items, closing = open_ones[-1]
        for key, item in items:
            if parts[-1] not in ("[", "{"):
                parts.append(",")
            parts.append(key)
            if isinstance(item, (list, dict, tuple)):
                enter(item)
                break
            parts.append(encode_value(item))
        else:
            open_ones.pop()
            parts.append(closing)
    return "".join(parts)


def _key(key: Any) -> str:
    # A key of hstore that is not UTF-8 is bytes.
    return f"\\x{key.hex()}" if isinstance(key, bytes) else str(key)


def _other(value: Any) -> str:
    return encode_str(str(value))


_ENCODERS: Final[dict[type, Callable[[Any], str]]] = {
    type(None): _none,
    bool: encode_bool,
    int: int.__repr__,
    float: _float,
    str: encode_str,
    bytes: _bytes,
    bytearray: _bytes,
    Decimal: _decimal,
    JSONText: _json,
    datetime: encode_time,
    date: _iso,
    time: _iso,
    Interval: _iso,
    UUID: _plain,
    LSN: _plain,
    IPv4Address: _plain,
    IPv4Interface: _plain,
    IPv4Network: _plain,
    IPv6Address: _address,
    IPv6Interface: _address,
    IPv6Network: _address,
    Range: _range,
    Multirange: _multirange,
    Composite: _container,
    list: _list,
    tuple: _list,
    dict: _container,
}
