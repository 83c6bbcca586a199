"""Capture files: the stream as it stood on the wire, kept in a file.

For each CopyData message: the byte ``d``, a big-endian Int32 length that counts
itself, and the payload. Nothing else stands in the file, so captures can be joined
and cut (at message boundaries) with any tool. It is the message format of
PostgreSQL's own protocol ("Message Formats", CopyData).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import IO, Final, Self, TypeAlias

from .durable import sync_name
from .errors import CaptureError
from .messages import Payload
from .types.catalog import Catalog

Path: TypeAlias = str | os.PathLike[str]

_MAX_LENGTH: Final = 2**30
_CHUNK: Final = 2**20
_STDIN: Final = "standard input"
_STDOUT: Final = "standard output"


class CaptureWriter:
    """Writes payloads to a capture file; a context manager that closes it. One that ends with an
    error before anything was written leaves no new file behind.

    Args:
        path: A file that does not exist yet, or is empty; or a pipe or device. ``"-"``
            is standard output.

    Raises:
        CaptureError: if the file cannot be written, or holds something already.
    """

    def __init__(self, path: Path) -> None:
        self._made: Path | None = None  # the file, where it was not there before
        if os.fspath(path) != "-" and not os.path.lexists(path):
            self._made = path
        self._name, self._file = _open(path, os.O_WRONLY | os.O_CREAT, "wb", sys.stdout)
        status = os.fstat(self._file.fileno())
        self._durable = stat.S_ISREG(status.st_mode)
        if self._durable and status.st_size and os.fspath(path) != "-":
            self._file.close()
            raise CaptureError(
                f"{self._name} is not empty, and is not overwritten",
                "record to another file: captures can be joined afterwards, in their order",
            )
        if self._durable and os.fspath(path) != "-":
            try:
                sync_name(path)
            except OSError as error:
                self._file.close()
                raise self._failed(error) from error

    def write(self, payload: Payload) -> None:
        """Append one CopyData payload. It is in the file for good after :meth:`flush`."""
        try:
            self._file.write(b"d" + (len(payload) + 4).to_bytes(4))
            self._file.write(payload)
        except OSError as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        """Write out what is buffered and wait until the disk has it."""
        try:
            self._file.flush()
            if self._durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Flush and close the file. Closing it again does nothing."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            # Where flushing failed, closing fails too; the first error is the one to see.
            with contextlib.suppress(OSError):
                self._file.close()

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"cannot write the capture {self._name}: {_reason(error)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if error is not None and self._made is not None:
            with contextlib.suppress(OSError):
                if os.path.getsize(self._made) == 0:
                    os.unlink(self._made)


def read_capture(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a capture file, in order.

    Memory is taken for one payload at a time, and never more than the file holds.

    Args:
        path: The file; ``"-"`` is standard input.

    Raises:
        CaptureError: if the file cannot be read, or at the first message that is not
            whole and well-formed, with its byte offset in the file. Everything before
            it has been yielded by then.
    """
    with contextlib.closing(read_messages(path)) as messages:
        for _, payload in messages:
            yield payload


def read_messages(path: Path) -> Generator[tuple[int, bytes], None, None]:
    """As :func:`read_capture`, with where each message begins: its byte offset in the file."""
    name, file = _open(path, os.O_RDONLY, "rb", sys.stdin)
    offset = 0
    try:
        with file:
            while header := file.read(5):
                if header[:1] != b"d":
                    raise damaged(name, offset, f"expected the byte 'd', found {header[:1]!r}")
                if len(header) < 5:
                    raise damaged(name, offset, "the file ends inside a message")
                length = int.from_bytes(header[1:])
                if not 4 <= length <= _MAX_LENGTH:
                    raise damaged(name, offset, f"a message cannot be {length} bytes long")
                payload = _read(file, length - 4)
                if len(payload) < length - 4:
                    raise damaged(name, offset, "the file ends inside a message")
                yield offset, payload
                offset += 1 + length
    except OSError as error:
        raise CaptureError(f"cannot read the capture {name}: {_reason(error)}") from error


def write_catalog(path: Path, catalog: Catalog) -> None:
    """Keep the types of a capture beside it, over those that were kept before.

    The file is there whole or not at all, also after a crash. Where there is nothing to keep,
    or the capture is no file of the disk, nothing is written.

    Args:
        path: The capture file.

    Raises:
        CaptureError: if the file cannot be written.
    """
    beside = catalog_path(path)
    if beside is None or not (len(catalog) or os.path.exists(beside)):
        return
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(
            dir=os.path.dirname(beside) or ".", prefix=f"{os.path.basename(beside)}."
        )
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as file:
            os.fchmod(file.fileno(), os.stat(path).st_mode & 0o666)
            file.write(catalog.to_json())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, beside)
        temporary = None
        sync_name(beside)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise CaptureError(f"cannot write {beside}: {_reason(error)}") from error


def read_catalog(path: Path) -> Catalog:
    """The types that are kept beside a capture; none if nothing is kept.

    Args:
        path: The capture file; ``"-"`` has nothing beside it.

    Raises:
        CaptureError: if the file beside it is there and cannot be read, or is damaged.
    """
    beside = catalog_path(path)
    if beside is None:
        return Catalog()
    try:
        with open(beside, "rb") as file:
            return Catalog.from_json(file.read())
    except FileNotFoundError:
        return Catalog()
    except OSError as error:
        raise CaptureError(f"cannot read {beside}: {_reason(error)}") from error
    except ValueError as error:
        raise CaptureError(
            f"{beside} is damaged: {error}",
            "move it away: values of types that are not built in are then text or bytes",
        ) from error


def catalog_path(path: Path) -> str | None:
    """The name of the file beside a capture; ``None`` for what is no file of the disk."""
    name = os.fspath(path)
    if name == "-" or (os.path.exists(name) and not os.path.isfile(name)):
        return None
    return f"{name}.json"


def _open(path: Path, flags: int, mode: str, standard: IO[str]) -> tuple[str, IO[bytes]]:
    """Open ``path``, or a duplicate of the standard stream that ``-`` stands for."""
    name = os.fspath(path)
    try:
        if name == "-":
            name = _STDOUT if standard is sys.stdout else _STDIN
            return name, os.fdopen(os.dup(standard.fileno()), mode)
        return name, os.fdopen(os.open(name, flags, 0o666), mode)
    except (OSError, ValueError) as error:
        raise CaptureError(f"cannot open the capture {name}: {_reason(error)}") from error


def _read(file: IO[bytes], size: int) -> bytes:
    """Read ``size`` bytes, or what there is, taking memory as they come."""
    if size <= _CHUNK:
        return file.read(size)
    payload = bytearray()
    while chunk := file.read(min(size - len(payload), _CHUNK)):
        payload += chunk
    return bytes(payload)


def damaged(name: str, offset: int, what: str) -> CaptureError:
    """The error for a capture that cannot be read on.

    Args:
        name: The file's.
        offset: Where the message begins that is not as it should be.
        what: What is wrong with it.
    """
    hint = "is this a capture, as pgstream record makes it?"
    if offset:
        file = "" if name == _STDIN else f" {shlex.quote(name)}"
        hint = (
            f"all before it is whole, and was read: head -c {offset}{file} > whole.capture keeps"
            " that; record the rest anew, if the slot still has it"
        )
    return CaptureError(f"{name}: byte {offset}: {what}", hint)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
