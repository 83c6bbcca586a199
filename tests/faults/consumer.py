"""A consumer: reads a stream into a durable handler until it is told to stop, or killed.

    python consumer.py KIND DSN SLOT TARGET OPTIONS

KIND is the handler: lines, postgres or sqlite. OPTIONS is JSON: ``connect`` for its
settings, ``raises`` and ``blocks`` for what goes wrong in the handler, and how often.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from typing import Any

import pgstream
from pgstream.handlers import JSONLinesFile, PostgresHandler, SQLiteHandler


def make_handler(kind: str, target: str) -> Any:
    if kind == "lines":
        return JSONLinesFile(target)
    if kind == "postgres":
        return PostgresHandler(target)
    return SQLiteHandler(target)


class Unreliable:
    """A handler in which something goes wrong now and then."""

    def __init__(self, handler: Any, options: dict[str, Any]) -> None:
        self._handler = handler
        self._raises = options.get("raises", 0.0)
        self._blocks = options.get("blocks", 0.0)
        self._seconds = options.get("seconds", 0.0)
        self._random = random.Random()
        self.flush = handler.flush
        self.close = handler.close
        if hasattr(handler, "position"):
            self.position = handler.position
            self.advance = handler.advance

    def __call__(self, event: pgstream.Event) -> None:
        chance = self._random.random()
        if chance < self._raises:
            raise RuntimeError("the handler raises")
        if chance > 1 - self._blocks:
            time.sleep(self._seconds)
        self._handler(event)


def main(kind: str, dsn: str, slot: str, target: str, options_text: str) -> None:
    options = json.loads(options_text)
    settings = {"values": "text"} if kind == "postgres" else {}
    stream = pgstream.connect(dsn, slot=slot, **settings | options.get("connect", {}))
    signal.signal(signal.SIGTERM, lambda *_: stream.stop())
    stream.run(Unreliable(make_handler(kind, target), options))


if __name__ == "__main__":
    main(*sys.argv[1:])
