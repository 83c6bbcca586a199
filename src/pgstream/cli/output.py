"""Where events are shown: standard output or a file, as text or as JSON Lines."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import stat
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Literal, Self, TextIO

from ..config import Table
from ..durable import sync_name
from ..errors import HandlerError, PgstreamError
from ..handlers import ConsoleHandler, JSONLinesFile, JSONLinesHandler
from ..messages import Delete, Event, Insert, SnapshotRow, Truncate, Update

Format = Literal["text", "json"]


class Output:
    """A handler that shows events; a context manager that closes what it opened.

    A file is on the disk when :meth:`flush` returns. One that others read from a pipe
    is not: what they make of it is theirs.

    Args:
        path: A file, or ``None`` or ``"-"`` for standard output.
        append: Whether a file that is there is kept, and added to.
        output_format: ``"text"`` or ``"json"``.
        tables: Rows of other tables are left out; empty for all tables.

    Raises:
        PgstreamError: if the file cannot be opened.
    """

    def __init__(
        self,
        path: str | None,
        *,
        append: bool,
        output_format: Format,
        tables: Collection[Table] = (),
    ) -> None:
        self._tables = frozenset(tables)
        self._name = "standard output" if path in (None, "-") else str(path)
        self._file: JSONLinesFile | None = None
        if path not in (None, "-") and append and output_format == "json":
            self._handler: Callable[[Event], None] = JSONLinesFile(path)
            self._file = self._handler
            return
        try:
            self._fd = _standard() if path is None or path == "-" else _open(path, append)
            self._durable = stat.S_ISREG(os.fstat(self._fd).st_mode)
        except OSError as error:
            raise PgstreamError(f"cannot open {self._name}: {error.strerror}") from error
        self._stream = open(  # noqa: SIM115
            self._fd, "w", encoding="utf-8", newline="\n", closefd=self._fd != 1
        )
        self._handler = (
            JSONLinesHandler(self._stream)
            if output_format == "json"
            else ConsoleHandler(self._stream, colour=wants_colour(self._stream))
        )

    def __call__(self, event: Event) -> None:
        try:
            if not self._tables:
                self._handler(event)
            elif isinstance(event, Truncate):
                # Each on its own: what stands for a table is its own ordinal.
                for index, relation in enumerate(event.relations):
                    if (relation.schema, relation.table) in self._tables:
                        self._handler(
                            dataclasses.replace(
                                event, relations=(relation,), ordinal=event.ordinal + index
                            )
                        )
            elif not isinstance(event, Insert | Update | Delete | SnapshotRow) or (
                (event.relation.schema, event.relation.table) in self._tables
            ):
                self._handler(event)
        except HandlerError as error:
            raise _closed(error) from error
        except OSError as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        if self._file is not None:
            try:
                self._file.flush()
            except HandlerError as error:
                raise _closed(error) from error
            return
        try:
            self._stream.flush()
            if self._durable:
                os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Flush and close. Closing it again does nothing."""
        if self._file is not None:
            try:
                self._file.close()
            except HandlerError as error:
                raise _closed(error) from error
        elif not self._stream.closed:
            try:
                self.flush()
            finally:
                self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An error that is on its way says more than one that comes of closing.
        with contextlib.suppress(PgstreamError) if error else contextlib.nullcontext():
            self.close()

    def _failed(self, error: OSError) -> PgstreamError:
        silence(self._fd)
        self._durable = False  # what stands in its place cannot be synced, and needs not be
        if isinstance(error, BrokenPipeError):
            return OutputClosed(f"the reader of {self._name} went away")
        return PgstreamError(f"cannot write to {self._name}: {error.strerror}")


class OutputClosed(PgstreamError):
    """Whoever read the output wants no more of it."""


def _closed(error: HandlerError) -> PgstreamError:
    """The error of a file, told apart where its reader went away."""
    if isinstance(error.__cause__, BrokenPipeError):
        return OutputClosed("the reader of the output went away")
    return error


def silence(fd: int) -> None:
    """Let what is still buffered for a file that cannot be written go nowhere, quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != fd:  # as it is where that was closed
        os.dup2(nowhere, fd)
        os.close(nowhere)


def wants_colour(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that shows colours, and the user has not refused them."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _open(path: str, append: bool) -> int:
    flags = os.O_APPEND if append else os.O_TRUNC
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)
    _end_last_line(fd, path)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        sync_name(path)
    return fd


def _standard() -> int:
    """Standard output, which may be a file that the shell adds to (``>> FILE``)."""
    _end_last_line(1, "/proc/self/fd/1")
    return 1


def _end_last_line(fd: int, name: str) -> None:
    """Begin on a line of our own. One that a crash cut short was not acknowledged: it comes again.

    Args:
        fd: Where it is written to.
        name: What it can be opened by once more, since it may be open for writing alone.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return
    adds = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    if not adds and os.lseek(fd, 0, os.SEEK_CUR) != status.st_size:
        return
    try:
        with open(name, "rb") as file:
            file.seek(-1, os.SEEK_END)
            ends = file.read(1) == b"\n"
    except OSError:
        # It may not be read. An empty line too many costs nothing, a line that is glued to
        # what a crash left of another is lost.
        ends = False
    if not ends:
        os.write(fd, b"\n")
