"""Text for people: a header for each change, and its row as indented JSON."""

from __future__ import annotations

from typing import Any, Final, TextIO

from ..encoding import KeyCache, encode_content, encode_row, encode_str
from ..messages import (
    CommitPrepared,
    Delete,
    Event,
    Insert,
    JSONLines,
    LogicalMessage,
    Relation,
    RollbackPrepared,
    SnapshotRow,
    Truncate,
    Update,
)
from ..visible import visible

# ANSI's numbers, which a terminal knows without a library.
_RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN = range(31, 37)
_COLOURS: Final = {
    "INSERT": _GREEN,
    "UPDATE": _YELLOW,
    "DELETE": _RED,
    "TRUNCATE": _MAGENTA,
    "MESSAGE": _CYAN,
    "COMMIT PREPARED": _BLUE,
    "ROLLBACK PREPARED": _BLUE,
    "SNAPSHOT": _GREEN,
}


class ConsoleHandler:
    """Writes each change for people to read.

    A header such as ``[INSERT] table=public.users lsn=0/16C752F8``, then ``old=``
    and ``data=`` with the row as indented JSON, its columns in the table's order.
    Columns that the server did not send, since they did not change, are named in
    ``unchanged=``. Begin, Commit and Origin write nothing. Nothing that stands in
    the database can reach the terminal as a control character, or turn the direction
    of the text: such characters are shown as escapes.

    Rows must be mappings from column name to value, as they are by default.

    Args:
        stream: Where the text goes. It is flushed by :meth:`flush` alone, and
            stays open.
        colour: Whether to colour the headers, with ANSI codes.
    """

    def __init__(self, stream: TextIO, colour: bool = False) -> None:
        self._stream = stream
        self._colour = colour
        self._keys = KeyCache(": ")

    def __call__(self, event: Event, /) -> None:
        """Write the text of ``event``."""
        match event:
            case JSONLines():
                self._stream.write(visible(event.decode()))
            case Insert():
                self._write("INSERT", _place(event.relation, event), data=event.new)
            case Update():
                place = _place(event.relation, event)
                self._write("UPDATE", place, old=event.old, data=event.new)
            case Delete():
                self._write("DELETE", _place(event.relation, event), old=event.old)
            case Truncate():
                flags = f"cascade={event.cascade} restart_identity={event.restart_identity}".lower()
                for relation in event.relations:
                    self._write("TRUNCATE", f"{_place(relation, event)} {flags}")
            case LogicalMessage():
                place = f"prefix={encode_str(event.prefix)} lsn={event.lsn!s}{_gid(event.gid)}"
                if not event.transactional:
                    place += " transactional=false"
                self._write("MESSAGE", place)
                self._stream.write(f"content={visible(encode_content(event))}\n")
            case CommitPrepared():
                self._write("COMMIT PREPARED", f"lsn={event.commit_lsn!s}{_gid(event.gid)}")
            case SnapshotRow():
                place = f"table={_table(event.relation)} lsn={event.lsn!s}"
                self._write("SNAPSHOT", place, data=event.new)
            case RollbackPrepared():
                self._write("ROLLBACK PREPARED", f"lsn={event.end_lsn!s}{_gid(event.gid)}")

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def _write(self, kind: str, place: str, *, old: Any = None, data: Any = None) -> None:
        label = f"[{kind}]"
        if self._colour:
            label = f"\x1b[{_COLOURS[kind]};1m{label}\x1b[0m"
        lines = [f"{label} {visible(place)}\n"]
        if old is not None:
            lines.append(f"old={self._row(old)[0]}\n")
        if data is not None:
            text, unchanged = self._row(data)
            lines.append(f"data={text}\n")
            if unchanged:
                lines.append(f"unchanged=[{visible(', '.join(unchanged))}]\n")
        self._stream.write("".join(lines))

    def _row(self, row: Any) -> tuple[str, list[str]]:
        members, unchanged = encode_row(row, self._keys)
        lines = [f"  {visible(member)}" for member in members]
        return ("{\n" + ",\n".join(lines) + "\n}" if lines else "{}"), unchanged


def _place(relation: Relation, event: Insert | Update | Delete | Truncate) -> str:
    return f"table={_table(relation)} lsn={event.lsn!s}{_gid(event.gid)}"


def _table(relation: Relation) -> str:
    return f"{_name(relation.schema)}.{_name(relation.table)}"


def _name(name: str) -> str:
    """Return ``name``, as a JSON string if it could be mistaken for something else."""
    return name if name.isprintable() and " " not in name else encode_str(name)


def _gid(gid: str | None) -> str:
    return "" if gid is None else f" gid={encode_str(gid)}"
