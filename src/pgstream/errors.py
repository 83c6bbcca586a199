"""The exceptions that pgstream raises.

Each says what happened and where; ``hint``, when it is there, says what to do
next. None of them ever holds a password.
"""

from __future__ import annotations

from .lsn import LSN


class PgstreamError(Exception):
    """The base class of all errors of this package.

    Attributes:
        hint: What to do about it, often a command to paste; empty if unknown.
    """

    def __init__(self, message: str = "", hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message


class ProtocolError(PgstreamError):
    """Bytes that are not a well-formed replication message.

    The decoder that raised it is in the state that it was in before the message.

    Attributes:
        kind: The name of the message that was being read, such as ``"Insert"``.
        offset: Where in the CopyData payload reading failed, in bytes from its start.
        lsn: The WAL position in the message's header, if it was read that far.
    """

    def __init__(
        self, message: str = "", kind: str = "", offset: int = 0, lsn: LSN | None = None
    ) -> None:
        super().__init__(message)
        self.args = (message, kind, offset, lsn)
        self.kind = kind
        self.offset = offset
        self.lsn = lsn

    def __str__(self) -> str:
        where = f" at LSN {self.lsn}" if self.lsn is not None else ""
        return f"{self.kind}{where}, byte {self.offset}: {self.message}"


class ConfigError(PgstreamError):
    """A setting that cannot be: refused before anything reaches the server."""


class CaptureError(PgstreamError):
    """A capture file that cannot be read or written."""


class HandlerError(PgstreamError):
    """A handler of this package cannot store what it was given."""


class ServerError(PgstreamError):
    """The server refused, or its set-up does not allow what was asked for.

    Attributes:
        transient: Whether it may be otherwise in a moment: an open stream then connects
            again by itself.
    """

    transient: bool = False


class ConnectionFailed(ServerError):
    """No connection: unreachable, unknown database, authentication refused."""


class ConnectionLost(ServerError):
    """The connection ended while the stream was open."""


class ReplicationNotAllowed(ServerError):
    """``wal_level`` is not logical, or the role may not replicate."""


class PublicationNotFound(ServerError):
    """A publication is missing, now or at the WAL position being read."""


class SlotNotFound(ServerError):
    """The replication slot is not there."""


class SlotInUse(ServerError):
    """Another connection reads from the slot.

    Attributes:
        pid: The server process that holds it, if known.
    """

    def __init__(self, message: str = "", hint: str = "", pid: int | None = None) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, pid)
        self.pid = pid


class SlotLost(ServerError):
    """The slot cannot be read from any more: it was invalidated by the server."""


class NoBinaryForm(ServerError):
    """The server lacks a function that the transfer needs: in the binary one, that of a type
    without a binary form. A stream then reads on in text by itself."""


class SlotMismatch(ServerError):
    """The slot, or its server, is not the one that this consumer has read from.

    Attributes:
        gap: From where to where changes are missing, or were undone; ``None`` if it is
            another server altogether.
    """

    def __init__(
        self, message: str = "", hint: str = "", gap: tuple[LSN, LSN] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, gap)
        self.gap = gap
