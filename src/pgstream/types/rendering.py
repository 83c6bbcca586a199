"""From a Python value back to PostgreSQL's text of it: for the bounds of ranges in JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final

from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from .composites import Composite
from .numbers import text_of_float8

# White space of the C locale alone, as PostgreSQL looks at bytes.
_RANGE_MEANING: Final = re.compile(r'["\\()\[\],\s]', re.ASCII)
_ARRAY_MEANING: Final = re.compile(r'["\\{},\s]', re.ASCII)
_RECORD_MEANING: Final = re.compile(r'["\\(),\s]', re.ASCII)


def text_of_range(value: Range[Any]) -> str:
    """``[1,5)``, ``(,"a b"]`` or ``empty``."""
    if value.isempty:
        return "empty"
    lower = "" if value.lower is None else _doubled(text_of(value.lower), _RANGE_MEANING)
    upper = "" if value.upper is None else _doubled(text_of(value.upper), _RANGE_MEANING)
    opening = "[" if value.lower_inc else "("
    return f"{opening}{lower},{upper}{']' if value.upper_inc else ')'}"


def text_of_multirange(value: Multirange[Any]) -> str:
    """``{[1,3),[5,9)}``."""
    return "{" + ",".join(map(text_of_range, value)) + "}"


def text_of_address(value: IPv6Address | IPv6Interface | IPv6Network) -> str:
    """``2001:db8::1``, ``::ffff:10.0.0.1/104``.

    How Python writes an address that ends in one of version 4 depends on its own version.
    """
    address, slash, bits = str(value).partition("/")
    number = int(IPv6Address(address))
    before = number >> 32
    if before == 0xFFFF or (before == 0 and number >= 0x10000):
        address = f"::{'ffff:' if before else ''}{IPv4Address(number & 0xFFFFFFFF)}"
    return address + slash + bits


def text_of(value: Any) -> str:
    """PostgreSQL's text of a value that a loader has made.

    What one Python type stands for two of PostgreSQL's for, it is the text of the more common
    one: a float is a float8, money a number.
    """
    render = _RENDERERS.get(type(value))
    if render is None:
        render = next((_RENDERERS[base] for base in type(value).__mro__ if base in _RENDERERS), str)
    return render(value)


def _array(values: list[Any]) -> str:
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    text = text_of(value)
    if type(value) is list:
        return text
    if text and text.upper() != "NULL" and not _ARRAY_MEANING.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _record(value: Composite) -> str:
    fields = ["" if item is None else _doubled(text_of(item), _RECORD_MEANING) for item in value]
    return f"({','.join(fields)})"


def _doubled(text: str, meaning: re.Pattern[str]) -> str:
    """The text, between quotes if need be, with quotes and backslashes doubled."""
    if text and not meaning.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '""') + '"'


def _bool(value: bool) -> str:
    return "t" if value else "f"


def _bytes(value: bytes) -> str:
    return "\\x" + value.hex()


def _timestamp(value: datetime) -> str:
    text = _fraction(value.replace(tzinfo=None).isoformat(" "))
    return f"{text}+00" if value.tzinfo is UTC else text


def _time(value: time) -> str:
    text = _fraction(value.replace(tzinfo=None).isoformat())
    if value.tzinfo is None:
        return text
    offset = value.isoformat()[len(value.replace(tzinfo=None).isoformat()) :]
    return text + offset.removesuffix(":00")


def _fraction(text: str) -> str:
    """Without the zeros that PostgreSQL does not write."""
    return text.rstrip("0") if "." in text else text


_RENDERERS: Final[dict[type, Callable[[Any], str]]] = {
    bool: _bool,
    int: str,
    float: text_of_float8,
    Decimal: "{:f}".format,
    str: str,
    bytes: _bytes,
    date: date.isoformat,
    datetime: _timestamp,
    time: _time,
    IPv6Address: text_of_address,
    IPv6Interface: text_of_address,
    IPv6Network: text_of_address,
    list: _array,
    Range: text_of_range,
    Multirange: text_of_multirange,
    Composite: _record,
}
