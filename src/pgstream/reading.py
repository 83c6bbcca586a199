"""Payloads in, events out: assembly, decoder and positions, without a connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from .assembly import Assembly
from .config import Config
from .decoder import Decoder, JSONDecoder
from .errors import PgstreamError, ProtocolError
from .lsn import LSN
from .messages import (
    Begin,
    BeginPrepare,
    CommitPrepared,
    Event,
    Keepalive,
    LogicalMessage,
    Payload,
    Relation,
    RollbackPrepared,
    StreamAbort,
)
from .positions import BOUNDARIES, NOTED, Positions
from .types import Catalog, Loader, TypeInfo
from .types.catalog import needs_text

PIECE: Final = 64  # payloads read at once, at most: their events fit into the nearer caches
_PIECE_BYTES: Final = 2**20  # of what was held back, or about so many bytes of it


class Reading:
    """Reads one stream, over as many connections as it takes.

    Args:
        config: The settings of the stream.
        until: Where reading ends, if it does.
        catalog: The types that are not built in; :meth:`learn` adds to it.

    Attributes:
        catalog: The same.
        wanted: OIDs of types that came up and are not known. :meth:`events` ends early where
            they did, before the rows that need them; :meth:`learn` and :meth:`more` go on.
        needs_text: Whether it ended early because what follows cannot come in binary.
        binary: Whether the transfer is binary.
        positions: How far it has come.
        done: Everything before ``until`` was read.
        reply_wanted: The server has asked for a status update.
    """

    def __init__(
        self, config: Config, until: LSN | None = None, catalog: Catalog | None = None
    ) -> None:
        self.positions = Positions()
        self.catalog = Catalog() if catalog is None else catalog
        self.wanted: frozenset[int] = frozenset()
        self.needs_text: frozenset[int] = frozenset()
        self.binary = config.transfer == "binary"
        self._asked: set[int] = set()  # OIDs that were looked up, found or not
        self._loaders: list[tuple[int | str, Loader | None, Loader | None]] = []
        self.done = False
        self.until = until
        self.reply_wanted = False
        self._config = config
        self._tap = config.tap
        self._untapped: Payload | None = None
        self._due: Iterator[list[Payload]] = iter(())
        self._piece: list[Payload] = []  # of what is due, read up to this index
        self._at = 0
        self._stored: LSN | None = None  # what the sink has, up to here
        self._skipping = False  # inside a transaction that the sink has
        self._seen: LSN | None = None  # what was handed out before, up to here
        self._relations: dict[int, Relation] = {}  # those whose types were looked at, by OID
        self._unexplained: Relation | None = None  # the one whose rows wait for :meth:`more`
        self._begin()

    def _begin(self) -> None:
        self._assembly = Assembly(self._config.memory_limit)
        self._decoder = self.make_decoder(self.catalog)

    def make_decoder(self, catalog: Catalog) -> Decoder:
        """A decoder with the settings and the loaders of this stream, which knows these types."""
        config = self._config
        if config.changes == "json":
            kind: type[Decoder] = JSONDecoder
            settings: dict[str, Any] = {}
        else:
            kind = Decoder
            settings = {"row_factory": config.row_factory, "json_loads": config.json_loads}
        decoder = kind(values=config.values, numeric=config.numeric, catalog=catalog, **settings)
        for type, text, binary in self._loaders:
            decoder.register_loader(type, text=text, binary=binary)
        return decoder

    def restart(self) -> None:
        """Read on over a new connection, on which all that was not acknowledged comes again."""
        self._assembly.close()
        self._due = iter(())
        self._piece = []
        self._at = 0
        self._untapped = None
        self._skipping = False
        self._seen = self.positions.begun
        self.wanted = self.needs_text = frozenset()
        self._relations.clear()
        self._unexplained = None
        self.reply_wanted = False
        self.positions.restart()
        self._begin()

    def skip(self, stored: LSN) -> None:
        """Leave out the transactions that end at or before ``stored``."""
        self._stored = stored

    def register_loader(
        self, type: int | str, *, text: Loader | None = None, binary: Loader | None = None
    ) -> None:
        """As :meth:`pgstream.Decoder.register_loader`, for all connections."""
        self._decoder.register_loader(type, text=text, binary=binary)
        self._loaders.append((type, text, binary))

    def learn(self, types: Iterable[TypeInfo], asked: Iterable[int] = ()) -> None:
        """Take types into the catalog.

        Args:
            types: What is known of them.
            asked: OIDs that are not to be wanted again, whether they were found or not.
        """
        self._asked.update(asked)
        self.wanted = frozenset()
        self._decoder.add_types(types)

    def events(self, payloads: Iterable[Payload]) -> Iterator[list[Event]]:
        """The events that these payloads complete, in runs: lists, in order.

        Raises:
            ProtocolError: at a payload that is malformed, after the events before it.
        """
        if self._tap is not None:
            self._due = self._tapped(payloads)
        elif isinstance(payloads, list) and self._config.streaming == "off":
            # No transaction comes in parts.
            self._due = (payloads[at : at + PIECE] for at in range(0, len(payloads), PIECE))
        else:
            self._due = _pieces(self._assembly.feed(payloads))
        return self.more()

    def more(self) -> Iterator[list[Event]]:
        """The rest of the events, after :meth:`events` ended early."""
        positions = self.positions
        run: list[Event] = []
        relation, self._unexplained = self._unexplained, None
        if relation is not None and self._is_unexplained(relation):
            return  # its new types can come in text alone
        while True:
            if self._at == len(self._piece):
                if run:  # before the next piece, which may be one of very many, or an error
                    yield run
                    run = []
                if not self._next_piece():
                    return
            changes, self._at, message = self._decoder.decode_run(self._piece, self._at)
            if changes and not self._skipping:
                decoder = self._decoder
                positions.events += (
                    decoder.written if isinstance(decoder, JSONDecoder) else len(changes)
                )
                run.extend(changes)
            kind = type(message)
            beyond = kind in NOTED and self.until is not None and self._is_beyond(message)
            if self._untapped is not None and not beyond:
                self._tap_now()
            if message is None:
                continue
            if kind in NOTED:
                if beyond:
                    self.done = True
                    break
                noted: Any = message
                if self._stored is not None or self._skipping:
                    left_out = self._skipping
                    left_out |= self._skips(noted)
                    if left_out:
                        continue
                if self._seen is not None:
                    noted = self._marked(noted)
                positions.receive(noted)
                positions.events += 1
                run.append(noted)
            elif isinstance(message, Relation):
                if self._is_unexplained(message):
                    break
            elif isinstance(message, StreamAbort):
                # Without having streamed anything, PostgreSQL 18 says so of the subtransactions
                # of a large transaction that it finds aborted before it has sent any of it.
                continue
            else:
                if run:  # what came before it is handled first
                    yield run
                    run = []
                if isinstance(message, ProtocolError):
                    raise message
                if not isinstance(message, Keepalive):
                    raise ProtocolError("not asked for", type(message).__name__)
                self._keepalive(message)
                if self.done:
                    return
        if run:
            yield run

    def close(self) -> None:
        """Drop what is held back."""
        self._assembly.close()

    def _next_piece(self) -> bool:
        self._at = 0
        self._piece = next(self._due, [])
        return bool(self._piece)

    def _tapped(self, payloads: Iterable[Payload]) -> Iterator[list[Payload]]:
        """The payloads that are due, and to the tap all that have arrived."""
        for arrived in payloads:
            self._untapped = arrived
            try:
                yield from _pieces(self._assembly.feed([arrived]))
            except ProtocolError:
                self._tap_now()
                raise
            if self._untapped is not None:
                self._tap_now()  # held back by the assembly

    def _tap_now(self) -> None:
        payload, self._untapped = self._untapped, None
        if self._tap is not None and payload is not None:
            self._tap(payload)

    def _is_unexplained(self, relation: Relation) -> bool:
        """Whether its rows have to wait: for what is known of their types, or for text.

        No message tells that a composite type was altered, so they are looked up with every
        table that is new or has changed.
        """
        if self._config.values == "text":
            return False
        types = [column.type_oid for column in relation.columns]
        wanted = self.catalog.missing(types) - self._asked
        if self._relations.get(relation.oid) != relation:
            self._relations[relation.oid] = relation
            wanted |= self.catalog.composites(types)
        self.wanted = frozenset(wanted)
        if self.wanted:
            self._unexplained = relation
        elif self.binary:
            self.needs_text = frozenset(needs_text(self.catalog, types))
        return bool(self.wanted or self.needs_text)

    def _keepalive(self, message: Keepalive) -> None:
        self.positions.keepalive(message.end_lsn)
        self.reply_wanted |= message.reply_requested
        if self.until is not None and message.end_lsn >= self.until:
            self.done |= not self.positions.in_transaction

    def _skips(self, message: Event) -> bool:
        """Whether the sink has what begins here; with ``_skipping`` it goes on to the end."""
        if self._skipping:
            self._skipping = type(message) not in BOUNDARIES
            return self._skipping
        assert self._stored is not None
        if isinstance(message, Begin):
            # A commit record that begins before the end of another ends there or before.
            self._skipping = message.commit_lsn < self._stored
            if not self._skipping:
                self._stored = None  # transactions come in the order of their commits
            return self._skipping
        return isinstance(message, LogicalMessage) and message.lsn < self._stored

    def _marked(self, message: Event) -> Event:
        """The message, marked if it begins a transaction that was handed out before."""
        assert self._seen is not None
        if isinstance(message, Begin):
            if message.commit_lsn <= self._seen:
                return Begin(message.xid, message.commit_lsn, message.commit_time, True)
            self._seen = None
        elif isinstance(message, BeginPrepare):
            if message.prepare_lsn <= self._seen:
                return BeginPrepare(
                    message.xid,
                    message.gid,
                    message.prepare_lsn,
                    message.end_lsn,
                    message.prepare_time,
                    True,
                )
            self._seen = None
        return message

    def _is_beyond(self, message: object) -> bool:
        """Whether a transaction begins here that committed at or after ``until``."""
        assert self.until is not None
        if isinstance(message, (Begin, CommitPrepared)):
            return message.commit_lsn >= self.until
        if isinstance(message, BeginPrepare):
            return message.prepare_lsn >= self.until
        return isinstance(message, RollbackPrepared) and message.end_lsn > self.until


def _pieces(payloads: Iterable[Payload]) -> Iterator[list[Payload]]:
    """Payloads in lists that bound what is read ahead."""
    piece: list[Payload] = []
    size = 0
    try:
        for payload in payloads:
            piece.append(payload)
            size += len(payload)
            if size >= _PIECE_BYTES or len(piece) >= PIECE:
                yield piece
                piece, size = [], 0
    except PgstreamError:
        if piece:  # what came before the error is read first
            yield piece
        raise
    if piece:
        yield piece
