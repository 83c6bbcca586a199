"""Loaders of full text search types (``src/backend/utils/adt/{tsvector,tsquery}.c``).

PostgreSQL's text, from either format; bytes where it is not UTF-8, as of all text.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from . import strings

_WEIGHTS: Final = ("", "C", "B", "A")  # D, the lowest, is not written
_NOT, _AND, _OR, _PHRASE = 1, 2, 3, 4
_PRIORITY: Final = {_NOT: 4, _AND: 2, _OR: 1, _PHRASE: 3}
_VALUE, _OPERATOR = 1, 2
_LOWEST, _HIGHEST = 0, 5


def tsvector_binary(raw: bytes) -> str | bytes:
    """i32 lexemes, for each: a string, u16 positions, for each: u16, its top two bits the
    weight.
    """
    (count,) = struct.unpack_from(">i", raw)
    if not 0 <= count <= len(raw) // 3:
        raise ValueError("more lexemes than bytes")
    at = 4
    lexemes = []
    for _ in range(count):
        word, at = _string(raw, at)
        (positions,) = struct.unpack_from(">H", raw, at)
        at += 2
        places = struct.unpack_from(f">{positions}H", raw, at)
        at += 2 * positions
        marks = [f"{place & 0x3FFF}{_WEIGHTS[place >> 14]}" for place in places]
        lexemes.append(quoted(word) + (":" + ",".join(marks) if marks else ""))
    if at != len(raw):
        raise ValueError("something after the last lexeme")
    return _text(" ".join(lexemes))


class _Item(NamedTuple):
    """A word of a query, or an operator over those that follow it."""

    text: str  # of a word
    operator: int  # 0 for a word
    distance: int
    priority: int


def tsquery_binary(raw: bytes) -> str | bytes:
    """i32 items in prefix order, an operator's *right* operand first. A word: u8 1, u8
    weights, u8 prefix, a string; an operator: u8 2, u8 which, for a phrase u16 distance.
    """
    items = _items(raw)
    if not items:
        return ""
    ends = _ends(items)
    written: list[str] = []
    # What is still to be written, the next one last: text, or the item at an index with
    # the priority of the operator above it, and whether it is right of a phrase operator.
    pending: list[str | tuple[int, int, bool]] = [(0, _LOWEST, False)]
    while pending:
        task = pending.pop()
        if isinstance(task, str):
            written.append(task)
            continue
        index, above, right_of_phrase = task
        item = items[index]
        if not item.operator:
            written.append(item.text)
            continue
        phrase = item.operator == _PHRASE
        opening, closing = "", ""
        if item.priority < above or (phrase and right_of_phrase):
            opening, closing = "( ", " )"
        if item.operator == _NOT:
            pending += [closing, (index + 1, item.priority, False), opening + "!"]
            continue
        right, left = index + 1, ends[index + 1]
        pending += [
            closing,
            (right, item.priority, phrase),
            _sign(item),
            (left, item.priority, False),
            opening,
        ]
    return _text("".join(written))


def quoted(word: str) -> str:
    """A word between quotes; quotes and backslashes in it are doubled."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _items(raw: bytes) -> list[_Item]:
    (count,) = struct.unpack_from(">i", raw)
    if not 0 <= count <= len(raw) // 2:
        raise ValueError("more items than bytes")
    at = 4
    items = []
    for _ in range(count):
        kind, what = raw[at], raw[at + 1]
        at += 2
        if kind == _VALUE:
            prefix = raw[at]
            word, at = _string(raw, at + 1)
            marks = "*" if prefix else ""
            marks += "".join(
                [mark for bit, mark in zip("8421", "ABCD", strict=True) if what & int(bit)]
            )
            items.append(_Item(quoted(word) + (f":{marks}" if marks else ""), 0, 0, _HIGHEST))
        elif kind == _OPERATOR and what in _PRIORITY:
            distance = 0
            if what == _PHRASE:
                (distance,) = struct.unpack_from(">H", raw, at)
                at += 2
            items.append(_Item("", what, distance, _PRIORITY[what]))
        else:
            raise ValueError("unknown kind of item")
    if at != len(raw):
        raise ValueError("something after the last item")
    return items


def _ends(items: list[_Item]) -> list[int]:
    """For each item the index after the last one that belongs to it."""
    ends = [0] * len(items)
    for index in reversed(range(len(items))):
        end = index + 1
        for _ in range(
            0 if not items[index].operator else 1 if items[index].operator == _NOT else 2
        ):
            if end >= len(items):
                raise ValueError("an operator without its operands")
            end = ends[end]
        ends[index] = end
    if ends[0] != len(items):
        raise ValueError("more than one query")
    return ends


def _sign(item: _Item) -> str:
    if item.operator == _AND:
        return " & "
    if item.operator == _OR:
        return " | "
    return " <-> " if item.distance == 1 else f" <{item.distance}> "


def _string(raw: bytes, at: int) -> tuple[str, int]:
    """The bytes up to a NUL, each as the character of its number, and the position after it.

    Only the whole value can say whether it is text: :func:`_text`.
    """
    end = raw.index(b"\0", at)
    return raw[at:end].decode("latin-1"), end + 1


def _text(written: str) -> str | bytes:
    """The text whose bytes these characters stand for; the bytes if it is not UTF-8."""
    return strings.text(written.encode("latin-1"))
