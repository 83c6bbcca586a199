"""JSON Lines, for programs: what ``lines.py`` writes, as a handler."""

from __future__ import annotations

from ..lines import LineWriter


class JSONLinesHandler(LineWriter):
    """Writes each change as one JSON object, followed by a newline.

    The members stand in this order, and those that have no value are left out:
    ``op``, ``schema``, ``table``, ``lsn``, ``commit_lsn``, ``ordinal``, ``xid``,
    ``commit_time``, ``gid``, then ``old``, ``new``, ``unchanged``. Begin, Commit
    and Origin write nothing: each line carries what is to be known of its
    transaction. A TRUNCATE of several tables writes a line for each. A row of a
    snapshot has ``lsn`` and ``ordinal`` alone to say where it stands.

    Rows must be mappings from column name to value, as they are by default.

    Args:
        stream: Where the lines go. Its encoding must be UTF-8. It is flushed by
            :meth:`flush` alone, and stays open.
    """

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()
