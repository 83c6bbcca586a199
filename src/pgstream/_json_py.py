"""JSON Lines from payloads, in Python: the twin of ``_json.pyx``, by way of the events."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

from ._decode_py import CHANGES, Decoder
from .errors import ProtocolError
from .handlers.jsonlines import JSONLinesHandler
from .handlers.selection import selected
from .messages import Keepalive, Message, Payload, Type
from .types import JSONText


class JSONDecoder(Decoder):
    """A decoder whose :meth:`decode_run` makes JSON Lines of the changes.

    Exactly what :class:`~pgstream.handlers.JSONLinesHandler` writes for the events, with
    json and jsonb as they stand.

    Args:
        tables: The schema and name of each table whose changes are kept; all if empty.
        settings: The decoder's own: ``values``, ``numeric``, ``catalog``.
    """

    def __init__(self, *, tables: Collection[tuple[str, str]] = (), **settings: Any) -> None:
        super().__init__(json_loads=JSONText, **settings)
        self._text = io.StringIO()
        self._write = JSONLinesHandler(self._text)
        self._tables = frozenset(tables)

    def decode_run(  # type: ignore[override]  # bytes where the other has changes
        self, payloads: Sequence[Payload], start: int = 0
    ) -> tuple[list[bytes], int, Message | Keepalive | ProtocolError | None]:
        """As :meth:`Decoder.decode_run`, with the changes as lines: one ``bytes``, or none."""
        at = start
        while at < len(payloads):
            try:
                message = self.decode(payloads[at])
            except ProtocolError as error:
                return self._lines(), at + 1, error
            at += 1
            if type(message) in CHANGES:
                for event in selected(message, self._tables):  # type: ignore[arg-type]
                    self._write(event)
            elif message is not None and type(message) is not Type:
                return self._lines(), at, message
        return self._lines(), at, None

    def _lines(self) -> list[bytes]:
        lines = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return [lines.encode()] if lines else []
