"""Handlers: what is done with the events of a stream.

A handler is anything that can be called with an event. What it has finished with
when it returns counts as handled, and may be acknowledged to the server. Some
methods are used where a handler has them; for asyncio each may be a coroutine:

``flush()``
    The handler keeps events back (in a buffer, in a file's) and this makes them
    durable. Nothing is acknowledged before it has returned.
``close()``
    Called once, when the stream has ended.
``position()``
    Called once, before the first event. The handler stores its position with its
    data: the ``end_lsn`` of the last transaction that it has stored, in the same
    transaction of the sink. It returns that, or ``None`` if it has stored nothing.
    The stream begins there and leaves out what was stored, so that each transaction
    takes effect exactly once. A position that the slot has passed already, and one
    that the server has not reached, are refused.
``advance(lsn)``
    For a handler with ``position()``: called now and then while nothing comes. No
    transaction before ``lsn`` is for it, so it stores ``lsn`` as its position.
    Without this method the slot stands still while only other tables change, and
    the server keeps its WAL.

It may say what it rests on:

``requires``
    The settings that the stream must have for it, by name, such as ``{"values":
    "text"}``. With others nothing is read.

An exception from any of these stops the stream, and what was not flushed is not
acknowledged.

When a connection is lost in the middle of a transaction, that transaction comes
again from its beginning: a :class:`~pgstream.Begin` (with ``redelivered`` set)
where a Commit could have been. A handler that has a transaction of its own open
rolls that back first. What is handed out again has the same
``(commit_lsn, ordinal)``.

=============================  =======================================
:class:`ConsoleHandler`        text for people, in colour on a terminal
:class:`JSONLinesHandler`      one JSON object a line, for programs
:class:`JSONLinesFile`         the same in a file, on the disk before it is acknowledged
:class:`PostgresHandler`       another PostgreSQL, exactly once
:class:`SQLiteHandler`         a SQLite file, exactly once
=============================  =======================================
"""

from __future__ import annotations

from typing import Protocol

from ..messages import Event
from .console import ConsoleHandler
from .jsonlines import JSONLinesHandler
from .jsonlinesfile import JSONLinesFile
from .postgres import PostgresHandler
from .sqlite import SQLiteHandler


class Handler(Protocol):
    """What :meth:`pgstream.Stream.run` takes: a function of one event will do."""

    def __call__(self, event: Event, /) -> object:
        """Do what is to be done with ``event``; the result is not looked at."""


__all__ = [
    "ConsoleHandler",
    "Handler",
    "JSONLinesFile",
    "JSONLinesHandler",
    "PostgresHandler",
    "SQLiteHandler",
]
