"""Handlers: what is done with the events of a stream.

A handler is anything that can be called with an event. What it has finished with
when it returns counts as handled, and may be acknowledged to the server. Two
methods are used where a handler has them:

``flush()``
    The handler keeps events back (in a buffer, in a file's) and this makes them
    durable. Nothing is acknowledged before it has returned.
``close()``
    Called once, when the stream has ended.

An exception from any of the three stops the stream, and what was not flushed is
not acknowledged.

=============================  =======================================
:class:`ConsoleHandler`        text for people, in colour on a terminal
:class:`JSONLinesHandler`      one JSON object a line, for programs
=============================  =======================================
"""

from __future__ import annotations

from typing import Protocol

from ..messages import Event
from .console import ConsoleHandler
from .jsonlines import JSONLinesHandler


class Handler(Protocol):
    """What :meth:`pgstream.Stream.run` takes: a function of one event will do."""

    def __call__(self, event: Event, /) -> object:
        """Do what is to be done with ``event``; the result is not looked at."""


__all__ = ["ConsoleHandler", "Handler", "JSONLinesHandler"]
