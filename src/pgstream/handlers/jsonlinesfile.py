"""JSON Lines in a file: on the disk before it is acknowledged, and no line twice."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from os import PathLike, fspath
from typing import TYPE_CHECKING, Final

from ..durable import sync_name
from ..errors import HandlerError
from ..lsn import LSN
from ..messages import (
    Begin,
    BeginPrepare,
    CommitPrepared,
    Event,
    JSONLines,
    LogicalMessage,
    RollbackPrepared,
)
from .jsonlines import JSONLinesHandler

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK: Final = 1 << 16
_OURS: Final = b'{"op":"'

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_LSN: Final = rb'"([0-9A-F]+/[0-9A-F]+)"'
# Where a line stands in the stream: its commit, or its own position where there is none.
_PLACE: Final = re.compile(
    rb'\{"op":"[a-z_]+"(?:,"schema":%(s)b,"table":%(s)b)?(?:,"lsn":%(l)b)?(?:,"commit_lsn":%(l)b)?'
    rb'(?:,"prepare_end_lsn":%(s)b,"end_lsn":%(l)b)?' % {b"s": _STRING, b"l": _LSN}
)


class JSONLinesFile:
    """Adds each change to a file, one JSON object a line; see :class:`JSONLinesHandler`.

    The disk has the lines when :meth:`flush` returns, and only then are they
    acknowledged. When it opens a file again, a last line that a crash cut short is cut
    off. What the crash left unacknowledged comes again from the server; those of its
    lines that the file holds already, byte for byte, are not written a second time. So
    the file has every line once, without a position of its own to go wrong: a stream
    from elsewhere, or of other settings, matches nothing in it, and is added whole.

    Args:
        path: The file; made if it is not there. Others may read it meanwhile, but not write.

    Raises:
        HandlerError: if it cannot be opened, read or written, or has a writer.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = fspath(path)
        self._buffer = io.StringIO()
        self._encode = JSONLinesHandler(self._buffer)
        self._known: Iterator[bytes] | None = None  # lines of the file that may come again
        self._last: LSN = LSN(0)  # where the last transaction, or what is in none, stands
        self._first = True
        try:
            self._fd = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
            )
            self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
            self._file = open(self._fd, "ab", buffering=1 << 18)  # noqa: SIM115
            if self._regular:
                self._claim()
            self._size = self._cut() if self._regular else 0
            if self._regular:
                sync_name(self._path)
        except OSError as error:
            raise self._failed("open", error) from error

    def __call__(self, event: Event, /) -> None:
        """Write the line, or lines, of ``event``."""
        lines = event if isinstance(event, JSONLines) else self._lines_of(event)
        try:
            if (place := _begins_at(event)) is not None:
                self._begin(place)
            if not lines:
                return
            if self._first:
                self._first = False
                if self._size:
                    self._known = self._lines_from(lines[: lines.index(b"\n") + 1])
            if self._known is None:
                self._file.write(lines)
            else:
                for line in lines.splitlines(keepends=True):
                    self._write_unless_known(line)
        except OSError as error:
            raise self._failed("write to", error) from error

    def _lines_of(self, event: Event) -> bytes:
        self._encode(event)
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text.encode()

    def flush(self) -> None:
        """Return when the disk has every line."""
        try:
            self._file.flush()
            if self._regular:
                os.fsync(self._fd)
        except OSError as error:
            raise self._failed("write to", error) from error

    def close(self) -> None:
        """Flush and close. Closing it again does nothing."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                with contextlib.suppress(OSError):  # flush has said it
                    self._file.close()

    def __enter__(self) -> JSONLinesFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _begin(self, place: LSN) -> None:
        """After a reconnection, what was not acknowledged comes again; look for it, too."""
        if place <= self._last and self._regular:
            self._file.flush()
            self._size = os.fstat(self._fd).st_size
            self._first = True
        self._last = place

    def _claim(self) -> None:
        """Be its only writer: what another has written in part looks as if a crash had cut it."""
        try:
            import fcntl

            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise HandlerError(
                f"cannot open {self._path}: another process writes to it",
                "end that one first, or write to another file",
            ) from None
        except (ImportError, OSError):  # a system that has no locks, or a file system
            pass

    def _cut(self) -> int:
        """Cut off a torn last line, and return the size. What is not ours is left."""
        size = os.fstat(self._fd).st_size
        end = size
        while end > 0:
            start = max(0, end - _BLOCK)
            found = os.pread(self._fd, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        torn = os.pread(self._fd, len(_OURS), end)
        if torn and (torn == _OURS[: len(torn)]):
            os.ftruncate(self._fd, end)
            return end
        if torn:
            os.write(self._fd, b"\n")
            return size + 1
        return size

    # What the file holds already

    def _write_unless_known(self, line: bytes) -> None:
        if self._known is not None:
            if next(self._known, None) == line:
                return
            # Not what was written then: from here on everything is.
            self._known = None
        self._file.write(line)

    def _lines_from(self, line: bytes) -> Iterator[bytes] | None:
        """The lines of the file from the last one on that is equal to this; ``None`` if none is.

        Read from the end, up to a line that stands before it in the stream.
        """
        place = _place(line)
        end = self._size
        rest = b""
        while end > 0:
            start = max(0, end - _BLOCK)
            block = os.pread(self._fd, end - start, start) + rest
            lines = block.splitlines(keepends=True)
            first = 1 if start else 0  # the first may be the end of one
            at = start + len(block)
            for known in reversed(lines[first:]):
                at -= len(known)
                if known == line:
                    return self._read(at)
                if place is None or (found := _place(known)) is None or found < place:
                    return None
            rest = lines[0] if start and lines else b""
            end = start
        return None

    def _read(self, offset: int) -> Iterator[bytes]:
        yield from io.BufferedReader(_Part(self._fd, offset, self._size), _BLOCK)

    def _failed(self, verb: str, error: OSError) -> HandlerError:
        return HandlerError(f"cannot {verb} {self._path}: {error.strerror}")


class _Part(io.RawIOBase):
    """A part of an open file. Its name may be another file's by now: it is not asked for."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd = fd
        self._at = start
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with memoryview(buffer) as room:
            size = os.preadv(self._fd, [room[: self._end - self._at]], self._at)
        self._at += size
        return size


def _begins_at(event: Event) -> LSN | None:
    """Where in the stream that stands which an event begins: a transaction, or what is in none."""
    match event:
        case Begin() | CommitPrepared():
            return event.commit_lsn
        case BeginPrepare():
            return event.prepare_lsn
        case RollbackPrepared():
            return event.end_lsn
        case LogicalMessage(transactional=False):
            return event.lsn
    return None


def _place(line: bytes) -> LSN | None:
    found = _PLACE.match(line)
    if found is None:
        return None
    lsn = found[2] or found[3] or found[1]
    return LSN(lsn.decode()) if lsn else None
