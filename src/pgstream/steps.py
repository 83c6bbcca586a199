"""Steps: what the course of a stream asks of the code that waits for it.

What a stream does, and in which order, is written once, as generators of steps that never
wait (``session.py``). A driver takes each step, does the waiting that it stands for, and
sends back what came of it: one for blocking code, one for asyncio. That is all in which the
two differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from inspect import GEN_SUSPENDED, getgeneratorstate
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn

from .errors import PgstreamError
from .messages import Event

T = TypeVar("T")

TICK = 0.1  # seconds between looks at the clock while nothing arrives

FAILURES = (PgstreamError, psycopg.Error)
"""What a step fails with. Anything else was raised while somebody waited for it, as by a signal
handler, and calls the wait off."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a connection; the answer is psycopg's connection, of one kind or the other."""

    conninfo: str


@dataclass(frozen=True, slots=True)
class Run:
    """Run a generator over a connection; the answer is what it returns."""

    generator: PQGen[Any]
    pgconn: PGconn
    tick: float = TICK


@dataclass(frozen=True, slots=True)
class Pause:
    """Let this many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """Call what blocks for a moment; the answer is what it returns. For asyncio a thread
    does it."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand events to the user, in runs, and let them do what they do; none if nothing has come."""

    runs: Iterable[list[Event]]


Step: TypeAlias = Connect | Run | Pause | Call | Deliver
Steps: TypeAlias = Generator[Step, Any, T]


class Interrupted(Exception):
    """Whoever waited for a step was called away: by ctrl-C, a task's cancellation, or what a
    signal handler raised."""

    def __init__(self) -> None:
        super().__init__("the stream was interrupted")


def perform(step: Step) -> Any:
    """Do what a step asks for, waiting as long as it takes."""
    match step:
        case Run(generator, pgconn, tick):
            # Not Connection.wait: on ctrl-C that cancels the command, which is the stream.
            return waiting.wait(generator, pgconn.socket, interval=tick)
        case Pause(seconds):
            return time.sleep(seconds)
        case Connect(conninfo):
            return psycopg.Connection.connect(conninfo, autocommit=True)
        case Call(function):
            return function()
    raise TypeError(f"nobody is here to take {step}")


async def perform_async(step: Step) -> Any:
    """As :func:`perform`, for asyncio."""
    match step:
        case Run(generator, pgconn, tick):
            return await waiting.wait_async(generator, pgconn.socket, interval=tick)
        case Pause(seconds):
            return await asyncio.sleep(seconds)
        case Connect(conninfo):
            return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        case Call(function):
            return await asyncio.to_thread(function)
    raise TypeError(f"nobody is here to take {step}")


class Course:
    """Steps under way: takes the answer to the last one, gives the next one. A step that was not
    answered was interrupted, and the steps decide what follows.

    Args:
        steps: What is to be done.

    Attributes:
        result: What the steps returned, once they are at their end.
        answered: Whether the last step was; what came of it may be with whoever took it.
    """

    def __init__(self, steps: Steps[Any]) -> None:
        self.result: Any = None
        self.answered = False
        self._steps = steps
        self._answer: Any = None
        self._error: Exception | None = None

    def next(self) -> Step | None:
        """The next step; ``None`` at the end."""
        answer, error = self._answer, self._error
        suspended = getgeneratorstate(self._steps) == GEN_SUSPENDED  # neither new nor at the end
        if suspended and error is None and not self.answered:
            error = Interrupted()
        self._answer = self._error = None
        self.answered = False
        try:
            return self._steps.send(answer) if error is None else self._steps.throw(error)
        except StopIteration as end:
            self.result = end.value
            return None

    def answer(self, answer: Any) -> None:
        """What came of the step."""
        self._answer = answer
        self.answered = True

    def fail(self, error: Exception) -> None:
        """The step failed; the steps decide what follows."""
        self._error = error

    def close(self) -> None:
        """Leave it at that; what the steps hold is let go."""
        self.answered = False
        self._steps.close()


def drive(steps: Steps[T]) -> T:
    """Take all steps, blocking; return what they return."""
    with contextlib.closing(Course(steps)) as course:
        while (step := course.next()) is not None:
            try:
                course.answer(perform(step))
            except Exception as error:
                course.fail(error)
        result: T = course.result
        return result


async def drive_async(steps: Steps[T]) -> T:
    """As :func:`drive`, for asyncio."""
    with contextlib.closing(Course(steps)) as course:
        while (step := course.next()) is not None:
            try:
                course.answer(await perform_async(step))
            except Exception as error:
                course.fail(error)
        result: T = course.result
        return result
