"""Loaders of text, "char", bytea, uuid and bit strings.

``src/backend/utils/adt/{varlena,char,uuid,varbit}.c``
"""

from __future__ import annotations

import re
from binascii import unhexlify
from typing import Final
from uuid import UUID, SafeUUID

_HEX_AS_0: Final = bytes.maketrans(b"123456789abcdef", b"0" * 15)
_UUID_SHAPE: Final = b"00000000-0000-0000-0000-000000000000"
_UNKNOWN: Final = SafeUUID.unknown
_new = object.__new__
_set_int = vars(UUID)["int"].__set__  # a slot; UUID's own setter refuses
_set_is_safe = vars(UUID)["is_safe"].__set__
_ESCAPE = re.compile(rb"\\(\\|[0-3][0-7]{2})")


def text(raw: bytes) -> str | bytes:
    """Text in UTF-8, the same in both formats; bytes where it is not valid UTF-8.

    That happens in a SQL_ASCII database.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def char_text(raw: bytes) -> str | bytes:
    r"""One character of ``"char"``; a byte beyond ASCII as ``\377``.

    PostgreSQL 14 sends such a byte as it is, later versions write it so.
    """
    if len(raw) == 1 and raw[0] >= 0x80:
        return f"\\{raw[0]:03o}"
    return text(raw)


def char_binary(raw: bytes) -> str:
    """One byte; 0 is the empty string."""
    (byte,) = raw
    if byte >= 0x80:
        return f"\\{byte:03o}"
    return chr(byte) if byte else ""


def bit_binary(raw: bytes) -> str:
    """u32 bits, then the bits, the first one on the left, padded to whole bytes: ``0101``."""
    count = int.from_bytes(raw[:4], "big")
    if len(raw) != 4 + (count + 7) // 8:
        raise ValueError("not as long as its count of bits says")
    digits = f"{int.from_bytes(raw[4:], 'big'):0{8 * (len(raw) - 4)}b}"
    return digits[:count]


def bytea_text(raw: bytes) -> bytes:
    r"""``\x`` and hex digits, or the older escape format."""
    if raw[:2] == b"\\x":
        return unhexlify(raw[2:])
    value = _ESCAPE.sub(lambda match: _unescape(match[1]), raw)
    if raw.count(b"\\") != sum(1 + (m[1] == b"\\") for m in _ESCAPE.finditer(raw)):
        raise ValueError("stray backslash")
    return value


def bytea_binary(raw: bytes) -> bytes:
    """The bytes themselves."""
    return raw


def uuid_text(raw: bytes) -> UUID:
    """Hex digits in five groups, lower case."""
    if raw.translate(_HEX_AS_0) != _UUID_SHAPE:
        raise ValueError("not a UUID")
    return _uuid(int(raw.replace(b"-", b""), 16))


def uuid_binary(raw: bytes) -> UUID:
    """16 bytes."""
    if len(raw) != 16:
        raise ValueError("not 16 bytes")
    return _uuid(int.from_bytes(raw, "big"))


def _uuid(number: int) -> UUID:
    """What ``UUID(int=number)`` makes; its checks, all of them passed here, take most of it."""
    value = _new(UUID)
    _set_int(value, number)
    _set_is_safe(value, _UNKNOWN)
    return value


def _unescape(escaped: bytes) -> bytes:
    return b"\\" if escaped == b"\\" else bytes([int(escaped, 8)])
