"""Changes as JSON Lines: one object for each, on one line."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TextIO

from .encoding import KeyCache, encode_bool, encode_content, encode_row, encode_str, encode_time
from .lsn import LSN
from .messages import (
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


class LineWriter:
    """Writes each change as the lines that :class:`~pgstream.handlers.JSONLinesHandler` describes.

    It stands outside of the handlers since the decoders of JSON Lines write with it, too.

    Args:
        stream: Where the lines go. Nothing here flushes it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._keys = KeyCache()
        self._tables: dict[int, tuple[Relation, str]] = {}
        self._commit_lsn: LSN | None = None
        self._commit_time: datetime | None = None
        self._commit = ("", "")

    def __call__(self, event: Event, /) -> None:
        """Write the line, or lines, of ``event``."""
        match event:
            case JSONLines():
                self._stream.write(event.decode())
            case Insert():
                self._write("insert", event.relation, event, self._row("new", event.new))
            case Update():
                self._write("update", event.relation, event, self._update(event))
            case Delete():
                self._write("delete", event.relation, event, self._row("old", event.old))
            case Truncate():
                flags = (
                    f',"cascade":{encode_bool(event.cascade)}'
                    f',"restart_identity":{encode_bool(event.restart_identity)}'
                )
                for index, relation in enumerate(event.relations):
                    self._write("truncate", relation, event, flags, event.ordinal + index)
            case LogicalMessage():
                said = (
                    f',"prefix":{encode_str(event.prefix)},"content":{encode_content(event)}'
                    f',"transactional":{encode_bool(event.transactional)}'
                )
                self._write("message", None, event, said)
            case CommitPrepared():
                self._stream.write(
                    f'{{"op":"commit_prepared","commit_lsn":"{event.commit_lsn!s}"'
                    f',"xid":{event.xid},"commit_time":{encode_time(event.commit_time)}'
                    f',"gid":{encode_str(event.gid)}}}\n'
                )
            case SnapshotRow():
                self._stream.write(
                    f'{{"op":"snapshot"{self._table(event.relation)},"lsn":"{event.lsn!s}"'
                    f',"ordinal":{event.ordinal}{self._row("new", event.new)}}}\n'
                )
            case RollbackPrepared():
                self._stream.write(
                    f'{{"op":"rollback_prepared","prepare_end_lsn":"{event.prepare_end_lsn!s}"'
                    f',"end_lsn":"{event.end_lsn!s}","xid":{event.xid}'
                    f',"prepare_time":{encode_time(event.prepare_time)}'
                    f',"rollback_time":{encode_time(event.rollback_time)}'
                    f',"gid":{encode_str(event.gid)}}}\n'
                )

    def _row(self, name: str, row: Any) -> str:
        """Return the member of this name that is a row. Nothing else of the row is kept while
        the line is made of it: a copy of a large value is a large one."""
        return f',"{name}":{{{",".join(encode_row(row, self._keys)[0])}}}'

    def _update(self, event: Update) -> str:
        members, unchanged = encode_row(event.new, self._keys)
        text = f',"new":{{{",".join(members)}}}'
        del members
        if event.old is not None:
            text = self._row("old", event.old) + text
        if unchanged:
            text += f',"unchanged":[{",".join(unchanged)}]'
        return text

    def _write(
        self,
        op: str,
        relation: Relation | None,
        event: Insert | Update | Delete | Truncate | LogicalMessage,
        rest: str,
        ordinal: int | None = None,
    ) -> None:
        """Write the members that all changes share, and then ``rest``."""
        table = "" if relation is None else self._table(relation)
        commit_lsn, commit_time = self._transaction(event.commit_lsn, event.commit_time)
        if ordinal is None:
            ordinal = event.ordinal
        place = "" if ordinal is None else f',"ordinal":{ordinal}'
        xid = "" if event.xid is None else f',"xid":{event.xid}'
        gid = "" if event.gid is None else f',"gid":{encode_str(event.gid)}'
        self._stream.write(
            f'{{"op":"{op}"{table},"lsn":"{event.lsn!s}"{commit_lsn}{place}{xid}{commit_time}{gid}'
            f"{rest}}}\n"
        )

    def _table(self, relation: Relation) -> str:
        """Return the members that name the table, encoded once for each Relation."""
        known = self._tables.get(relation.oid)
        if known is not None and known[0] is relation:
            return known[1]
        text = f',"schema":{encode_str(relation.schema)},"table":{encode_str(relation.table)}'
        self._tables[relation.oid] = relation, text
        return text

    def _transaction(self, lsn: LSN | None, moment: datetime | None) -> tuple[str, str]:
        """Return the members that name the transaction, encoded once for each."""
        if lsn is not self._commit_lsn or moment is not self._commit_time:
            self._commit_lsn, self._commit_time = lsn, moment
            self._commit = (
                "" if lsn is None else f',"commit_lsn":"{lsn!s}"',
                "" if moment is None else f',"commit_time":{encode_time(moment)}',
            )
        return self._commit
