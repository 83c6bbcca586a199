"""JSON Lines from payloads, in Python: the twin of ``_json.pyx``, by way of the events."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from ._decode_py import CHANGES, Decoder
from .errors import ProtocolError
from .lines import LineWriter
from .messages import Change, JSONLines, Keepalive, Message, Payload, Type
from .types import JSONText


class JSONDecoder(Decoder):
    """A decoder whose :meth:`decode_run` makes JSON Lines of the changes.

    Exactly what :class:`~pgstream.handlers.JSONLinesHandler` writes for the events, with
    json and jsonb as they stand.

    Args:
        settings: The decoder's own: ``values``, ``numeric``, ``catalog``.

    Attributes:
        written: How many lines the last run holds.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(json_loads=JSONText, **settings)
        self.written = 0
        self._text = io.StringIO()
        self._write = LineWriter(self._text)

    def decode_run(
        self, payloads: Sequence[Payload], start: int = 0
    ) -> tuple[list[Change], int, Message | Keepalive | ProtocolError | None]:
        """As :meth:`Decoder.decode_run`, with the changes as one JSONLines, or none."""
        at = start
        while at < len(payloads):
            try:
                message = self.decode(payloads[at])
            except ProtocolError as error:
                return self._lines(), at + 1, error
            at += 1
            if type(message) in CHANGES:
                self._write(message)  # type: ignore[arg-type]
            elif message is not None and type(message) is not Type:
                return self._lines(), at, message
        return self._lines(), at, None

    def _lines(self) -> list[Change]:
        lines = self._text.getvalue()
        self.written = lines.count("\n")
        self._text.seek(0)
        self._text.truncate()
        return [JSONLines(lines.encode())] if lines else []
