"""Streamed transactions: held back until they commit, then released as ordinary ones.

The server sends a large transaction in blocks before it knows how it ends. The blocks
are kept as the payloads that came, in memory up to a limit and then on disk. At the
commit they go on as the transaction that protocol version 1 would have sent: a Begin,
the changes, a Commit. What reads payloads behind an :class:`Assembly` never meets
streaming, and learns of the transaction's relations at its commit, when they begin to count.

Source: "Logical Streaming Replication Protocol" in the PostgreSQL documentation;
``src/backend/replication/logical/worker.c`` for the truncation at an abort.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Final

from .decoder import Decoder
from .errors import ServerError
from .messages import Payload, StreamAbort, StreamCommit, StreamPrepare, StreamStart

HEADER: Final = 25  # of an XLogData, before the pgoutput message
_u32 = struct.Struct(">I")

_XLOGDATA: Final = 0x77
_MESSAGE: Final = 0x4D
_RELATION: Final = 0x52
_STREAM_START: Final = 0x53
_STREAM_STOP: Final = 0x45
_STREAM_COMMIT: Final = 0x63
_STREAM_ABORT: Final = 0x41
_STREAM_PREPARE: Final = 0x70
_ORIGIN: Final = 0x4F
_BRACKETS: Final = frozenset({_STREAM_START, _STREAM_STOP})
_ENDS: Final = frozenset({_STREAM_COMMIT, _STREAM_ABORT, _STREAM_PREPARE})
_INSIDE: Final = frozenset(b"RYIUDTMO")  # what may stand in a block: with its xid, but for O

_LENGTH: Final = 4  # bytes before each payload that is kept


class Assembly:
    """Takes payloads as they arrive, gives payloads without streaming.

    Args:
        memory_limit: How many bytes of unfinished transactions are kept in memory.
            Beyond it the largest goes to a temporary file.
    """

    def __init__(self, memory_limit: int) -> None:
        self._memory_limit = memory_limit
        self._control = Decoder(values="text")  # reads what brackets the blocks
        self._held: dict[int, _Transaction] = {}
        self._block: _Transaction | None = None
        self._arrivals = 0
        self._gathered = 0  # bytes in memory, or more: those that were released since

    def feed(self, payloads: Iterable[Payload]) -> Iterator[Payload]:
        """What is due now that these payloads have come: themselves, fewer, or more.

        Raises:
            ProtocolError: if one, or the order of messages, is malformed.
        """
        for payload in payloads:
            kind = payload[HEADER] if len(payload) > HEADER and payload[0] == _XLOGDATA else 0
            if kind in _ENDS:
                yield from self._end(payload)
            elif kind and (self._block is not None or kind in _BRACKETS):
                self._in_block(bytes(payload), kind)
                self._gathered += len(payload)
                if self._gathered > self._memory_limit:
                    self._spill()
            else:
                if kind == _RELATION and self._held:
                    self._relation_outside(bytes(payload))
                yield payload

    def close(self) -> None:
        """Drop what is held, and its files."""
        for transaction in self._held.values():
            transaction.close()
        self._held.clear()
        self._block = None

    def _in_block(self, payload: bytes, kind: int) -> None:
        block = self._block
        if block is None or kind not in _INSIDE:
            message = self._control.decode(payload)  # refuses what cannot stand here
            if isinstance(message, StreamStart):
                if message.first or message.xid not in self._held:
                    self._drop(message.xid)  # the server starts it afresh
                    self._held[message.xid] = _Transaction()
                self._block = self._held[message.xid]
            else:
                self._block = None
        elif kind == _ORIGIN:
            block.append(payload)
        elif len(payload) < HEADER + 5:
            self._control.decode(payload)  # raises: truncated
        else:
            start = block.size
            payload = block.append_change(payload)
            if kind == _RELATION:
                self._arrivals += 1
                oid = payload[HEADER + 1 : HEADER + 5]
                block.relations[oid] = self._arrivals, payload
                block.newer.pop(oid, None)
            elif kind == _MESSAGE:
                block.note_message(start)

    def _end(self, payload: Payload) -> Iterator[Payload]:
        message = self._control.decode(payload)
        data = bytes(payload)
        header, body = data[:HEADER], data[HEADER + 1 :]
        if isinstance(message, StreamAbort):
            if message.xid == message.subxid:
                self._drop(message.xid)
            elif message.xid in self._held:
                self._held[message.xid].truncate(message.subxid)
        elif isinstance(message, StreamCommit):
            # xid, flags, commit LSN, end LSN, time -> B: commit LSN, time, xid; C: flags, …
            begin = header + b"B" + body[5:13] + body[21:29] + body[:4]
            yield from self._release(message.xid, begin, header + b"C" + body[4:])
        elif isinstance(message, StreamPrepare):
            # flags, LSNs, time, xid, gid -> b: the same without the flags; P: the same
            yield from self._release(message.xid, header + b"b" + body[1:], header + b"P" + body)

    def _release(self, xid: int, begin: bytes, end: bytes) -> Iterator[bytes]:
        transaction = self._held.pop(xid, None) or _Transaction()
        try:
            if transaction.doubtful:
                raise ServerError(
                    f"transaction {xid} has logical messages of which some may have been rolled"
                    " back with a subtransaction: streamed, the server does not tell them apart",
                    "read it with streaming off; nothing of it was acknowledged",
                )
            yield begin
            yield from transaction.payloads()
            yield end
            # The relations above now count for all, but for those that came again since.
            yield from transaction.newer.values()
        finally:
            transaction.close()
        for other in self._held.values():
            for oid, (arrival, relation) in transaction.relations.items():
                if arrival > other.relations.get(oid, (-1, b""))[0]:
                    other.newer[oid] = relation

    def _relation_outside(self, payload: bytes) -> None:
        self._arrivals += 1
        for transaction in self._held.values():
            transaction.newer[payload[HEADER + 1 : HEADER + 5]] = payload

    def _drop(self, xid: int) -> None:
        transaction = self._held.pop(xid, None)
        if transaction is not None:
            transaction.close()

    def _spill(self) -> None:
        held = self._held.values()
        while (in_memory := sum(one.in_memory for one in held)) > self._memory_limit:
            max(held, key=lambda one: one.in_memory).spill()
        self._gathered = in_memory


class _Transaction:
    """The payloads of one unfinished transaction, in order: first a file's, then memory's.

    Each takes a u32 length and its bytes, so that a position among them is a number of
    bytes, on either side.
    """

    def __init__(self) -> None:
        self.size = 0
        self.marks: dict[bytes, int] = {}  # subtransaction -> where its first payload stands
        self.relations: dict[bytes, tuple[int, bytes]] = {}  # OID -> arrival, payload
        self.newer: dict[bytes, bytes] = {}  # OID -> Relation that came later, elsewhere
        self.doubtful = False
        self._messages: list[tuple[int, int]] = []  # where runs of logical messages stand
        self._payloads: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._on_disk = 0

    @property
    def in_memory(self) -> int:
        """How many bytes of it are."""
        return self.size - self._on_disk

    def append(self, payload: bytes) -> None:
        """Add a payload."""
        self._payloads.append(payload)
        self.size += _LENGTH + len(payload)

    def append_change(self, payload: bytes) -> bytes:
        """Add a payload without the xid that it has in a block; return what was added."""
        subxid = payload[HEADER + 1 : HEADER + 5]
        if subxid not in self.marks:
            self.marks[subxid] = self.size
        payload = payload[: HEADER + 1] + payload[HEADER + 5 :]
        self._payloads.append(payload)
        self.size += _LENGTH + len(payload)
        return payload

    def note_message(self, start: int) -> None:
        """Note that the last payload, which stands at ``start``, is a logical message."""
        if self._messages and self._messages[-1][1] == start:
            start = self._messages.pop()[0]
        self._messages.append((start, self.size))

    def truncate(self, subxid: int) -> None:
        """Drop everything from the first payload of a subtransaction on.

        What follows it in between belongs to it or to its children: an outer transaction
        does nothing while an inner one is open. A message that the subtransaction
        emitted carries the top transaction's xid, so only the order can tell. Where it
        did nothing but emit messages, not even that: then those at the end are in doubt.
        """
        start = self.marks.get(_u32.pack(subxid))
        if start is None:
            self.doubtful |= bool(self._messages) and self._messages[-1][1] == self.size
            return
        self._messages = [(at, min(end, start)) for at, end in self._messages if at < start]
        self.marks = {xid: at for xid, at in self.marks.items() if at < start}
        self.relations.clear()  # the server sends them again after an abort
        while self._payloads and self.size > start:
            self.size -= _LENGTH + len(self._payloads.pop())
        if self._file is not None and self.size > start:
            self._file.truncate(start)
            self._file.seek(start)
            self.size = self._on_disk = start

    def spill(self) -> None:
        """Move what is in memory to the file."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="pgstream-")  # noqa: SIM115  # closed below
        for payload in self._payloads:
            self._file.write(_u32.pack(len(payload)))
            self._file.write(payload)
        self._payloads.clear()
        self._on_disk = self.size

    def payloads(self) -> Iterator[bytes]:
        """All payloads, in order."""
        if self._file is not None:
            self._file.seek(0)
            while length := self._file.read(_LENGTH):
                yield self._file.read(_u32.unpack(length)[0])
        yield from self._payloads

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
