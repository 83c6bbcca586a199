"""The stream: what users hold. A connector, a decoder, and the acknowledgement."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen

from . import faults
from .assembly import Assembly
from .config import Config, Streaming, Values
from .connector import Connector, replication_conninfo
from .decoder import Decoder
from .errors import PgstreamError, ProtocolError
from .lsn import LSN
from .messages import (
    Begin,
    BeginPrepare,
    CommitPrepared,
    Event,
    Keepalive,
    Payload,
    Relation,
    RollbackPrepared,
    Type,
)
from .positions import NOTED, Positions, is_whole
from .rows import RowFactory, dict_row
from .types import Catalog

T = TypeVar("T")

_UNSEEN: Final = frozenset({Relation, Type, type(None)})  # what the decoder alone needs

_TICK: Final = 0.1  # seconds between looks at the clock while nothing arrives
_HURRIED_TICK: Final = 0.01  # the same where the end is awaited
_REPORT_GAP: Final = 0.1  # seconds between status updates that nothing demands


def connect(
    dsn: str = "",
    *,
    slot: str = "pgstream_slot",
    publication: str | Sequence[str] = "pgstream_pub",
    create_slot: bool = True,
    create_publication: bool = False,
    tables: Sequence[str] = (),
    binary: bool = False,
    streaming: Streaming = "off",
    two_phase: bool = False,
    messages: bool = False,
    until: LSN | Literal["now"] | None = None,
    status_interval: float = 10.0,
    memory_limit: int = 64 * 2**20,
    row_factory: RowFactory = dict_row,
    values: Values = "typed",
    json_loads: Callable[[str], Any] = json.loads,
    notice: Callable[[str], None] | None = None,
    tap: Callable[[Payload], None] | None = None,
) -> Stream:
    """Open a replication slot and read its changes.

    Args:
        dsn: A PostgreSQL URL or key=value string; libpq's environment variables fill in
            what it leaves out. No ``replication`` parameter is needed.
        slot: The replication slot, which remembers how far this consumer has come.
        publication: The publication or publications whose tables are read.
        create_slot: Create the slot if it is not there. It then starts now.
        create_publication: Create the publications that are not there.
        tables: What such a publication publishes, ``schema.table``; all tables if empty.
        binary: Ask for the binary transfer. Types without a binary loader are ``bytes``.
        streaming: Let the server send large transactions before they commit. They are
            still yielded whole and after their commit. ``"parallel"`` needs PostgreSQL 16.
        two_phase: Yield prepared transactions at PREPARE TRANSACTION. Needs PostgreSQL
            15; a slot that was read so once keeps to it.
        messages: Yield what ``pg_logical_emit_message`` wrote, too. With ``streaming``, a
            transaction whose messages may have been rolled back in part is an error.
        until: End before the first transaction that committed at or after this position;
            ``"now"`` is the server's position at the start.
        status_interval: Seconds between status updates, at most.
        memory_limit: Bytes of streamed, unfinished transactions kept in memory; beyond it
            they go to a temporary file.
        row_factory: What a row is made into, :func:`dict_row` or :func:`tuple_row`.
        values: ``"typed"``, or ``"text"`` for PostgreSQL's own text of every value.
        json_loads: What parses json and jsonb.
        notice: Called with what is worth telling a person, such as a slot created.
        tap: Called with each payload before its events are yielded. What lies beyond
            ``until`` is left out.

    Returns:
        An open stream, to be closed (``with``).

    Raises:
        ConfigError: for a setting that cannot be.
        ServerError: if the server cannot be reached, refuses, or lacks something.
    """
    return Stream(Config(**locals()))


def connect_async(
    dsn: str = "",
    *,
    slot: str = "pgstream_slot",
    publication: str | Sequence[str] = "pgstream_pub",
    create_slot: bool = True,
    create_publication: bool = False,
    tables: Sequence[str] = (),
    binary: bool = False,
    streaming: Streaming = "off",
    two_phase: bool = False,
    messages: bool = False,
    until: LSN | Literal["now"] | None = None,
    status_interval: float = 10.0,
    memory_limit: int = 64 * 2**20,
    row_factory: RowFactory = dict_row,
    values: Values = "typed",
    json_loads: Callable[[str], Any] = json.loads,
    notice: Callable[[str], None] | None = None,
    tap: Callable[[Payload], None] | None = None,
) -> AsyncStream:
    """As :func:`connect`, for asyncio. The connection is made by ``async with``.

    Raises:
        ConfigError: for a setting that cannot be.
    """
    return AsyncStream(Config(**locals()))


class Reading:
    """Payloads in, events out: assembly, decoder and positions, without a connection.

    Args:
        config: The settings of the stream.
        until: Where reading ends, if it does.
        catalog: The types that are not built in.
    """

    def __init__(
        self, config: Config, until: LSN | None = None, catalog: Catalog | None = None
    ) -> None:
        self.positions = Positions()
        self.done = False
        self.until = until
        self.reply_wanted = False
        self._tap = config.tap
        self._assembly = Assembly(config.memory_limit)
        self._decoder = Decoder(
            row_factory=config.row_factory,
            values=config.values,
            json_loads=config.json_loads,
            catalog=catalog,
        )

    def events(self, payloads: Iterable[Payload]) -> Iterator[Event]:
        """The events that these payloads complete.

        Raises:
            ProtocolError: at a payload that is malformed, after the events before it.
        """
        decode, feed, positions = self._decoder.decode, self._assembly.feed, self.positions
        for arrived in payloads:
            untapped = self._tap is not None
            try:
                for payload in feed(arrived):
                    message: Any = decode(payload)
                    kind = type(message)
                    if kind in NOTED and self.until is not None and self._is_beyond(message):
                        self.done = True
                        return
                    if untapped:
                        self._tap_into(arrived)
                        untapped = False
                    if kind in NOTED:
                        positions.receive(message)
                    elif kind is Keepalive:
                        self._keepalive(message)
                        if self.done:
                            return
                        continue
                    elif kind in _UNSEEN:
                        continue
                    yield message
            except ProtocolError:
                if untapped:
                    self._tap_into(arrived)  # a capture shows what could not be read
                raise
            if untapped:
                self._tap_into(arrived)  # held back by the assembly

    def close(self) -> None:
        """Drop what is held back."""
        self._assembly.close()

    def _tap_into(self, payload: Payload) -> None:
        if self._tap is not None:
            self._tap(payload)

    def _keepalive(self, message: Keepalive) -> None:
        self.positions.keepalive(message.end_lsn)
        self.reply_wanted |= message.reply_requested
        if self.until is not None and message.end_lsn >= self.until:
            self.done |= not self.positions.in_transaction

    def _is_beyond(self, message: object) -> bool:
        """Whether a transaction begins here that committed at or after ``until``."""
        assert self.until is not None
        if isinstance(message, (Begin, CommitPrepared)):
            return message.commit_lsn >= self.until
        if isinstance(message, BeginPrepare):
            return message.prepare_lsn >= self.until
        return isinstance(message, RollbackPrepared) and message.end_lsn > self.until


class _StreamBase:
    """What both streams do alike: everything but waiting."""

    _connector: Connector
    _reading: Reading

    def __init__(self, config: Config) -> None:
        self.config = config
        self._opened = False
        self._closed = False
        self._stopped = False
        self._held: list[Event] = []  # begun as a batch, not handed out yet
        self._held_since = 0.0
        self._reported = 0.0
        self._pinged = False

    @property
    def positions(self) -> Positions:
        """How far this stream has come."""
        return self._reading.positions

    @property
    def catalog(self) -> Catalog:
        """The types of the publications' columns that are not built in."""
        return self._connector.catalog

    def ack(self) -> None:
        """Acknowledge all that was yielded so far: it is handled and need not come again.

        It takes effect at transaction boundaries: the slot moves to the end of the last
        transaction of which everything was yielded. The server is told a moment later.
        """
        self.positions.acknowledge()

    def stop(self) -> None:
        """End the iteration: at the next event, or within a moment where none comes.

        May be called from a signal handler or another thread.
        """
        self._stopped = True

    def _attach(self, pgconn: psycopg.pq.abc.PGconn) -> None:
        self._connector = Connector(pgconn, self.config)

    def _started(self) -> None:
        self._reading = Reading(self.config, self._connector.until, self._connector.catalog)
        self._reported = time.monotonic()
        interval = self.config.status_interval
        if self._connector.silence is not None:
            interval = min(interval, self._connector.silence / 2)
        self._interval = interval
        self._overdue = self._reported + interval
        self._opened = True

    @property
    def _tick(self) -> float:
        if self._reading.until is not None:
            return _HURRIED_TICK
        return min(_TICK, self._interval / 2)

    def _over(self) -> bool:
        """Whether nothing more is to be read."""
        return self._stopped or self._closed or self._reading.done

    def _report(self, *, idle: bool) -> PQGen[None] | None:
        """The status update that is due now, if one is.

        Args:
            idle: Nothing has arrived for a tick.
        """
        positions = self.positions
        since = time.monotonic() - self._reported
        ping = idle and self._reading.until is not None and not self._pinged
        if not (
            ping
            or self._reading.reply_wanted
            or since >= self._interval
            or (positions.handled > positions.flushed and since >= _REPORT_GAP)
        ):
            return None
        return self._status(ping=ping)

    def _status(self, *, ping: bool = False) -> PQGen[None]:
        positions = self.positions
        self._reading.reply_wanted = False
        self._reported = time.monotonic()
        self._overdue = self._reported + self._interval
        self._pinged = ping  # asked again with the next update that is due
        handled = positions.handled
        yield from self._connector.report(positions.received, handled, reply=ping)
        positions.flushed = handled

    def _finish(self) -> PQGen[None]:
        """Tell the server the last acknowledgement and leave."""
        yield from self._status()
        yield from self._connector.finish()

    def _collect(
        self, event: Event | None, max_events: int, max_seconds: float
    ) -> list[Event] | None:
        """Hold an event back for a batch; the batch, if one is due.

        Args:
            event: ``None`` if nothing has arrived.
            max_events: More than this many are never handed out at once.
            max_seconds: How long an event waits once its transaction is whole.
        """
        if event is not None:
            if not self._held:
                self._held_since = time.monotonic()
            self._held.append(event)
            if len(self._held) < max_events and not is_whole(event):
                return None
        late = time.monotonic() - self._held_since >= max_seconds
        if not late and len(self._held) < max_events:
            return None
        return self._cut(max_events)

    def _cut(self, max_events: int) -> list[Event] | None:
        """Take a batch from what is held: whole transactions, or a part of one too large."""
        held = self._held
        cut = len(held)
        while cut and not is_whole(held[cut - 1]):
            cut -= 1
        if not cut:
            if len(held) < max_events:
                return None
            cut = max_events
        batch = held[:cut]
        del held[:cut]
        self._held_since = time.monotonic()
        for event in batch:
            if type(event) in NOTED:
                self.positions.deliver(event)
        return batch


class Stream(_StreamBase):
    """A stream of changes, made by :func:`connect`. Iterate over it; close it.

    Attributes:
        config: The settings.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        try:
            self._connection = psycopg.Connection.connect(
                replication_conninfo(config), autocommit=True
            )
        except psycopg.Error as error:
            raise faults.turned_away(error, config) from None
        self._attach(self._connection.pgconn)
        self._connection.add_notice_handler(self._connector.on_notice)
        try:
            self._wait(self._connector.prepare(), _TICK)
            self._wait(self._connector.start(), _TICK)
        except BaseException:
            self._connection.close()
            raise
        self._started()
        self._source = self._generate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        """The events, one by one, as they come. ``break`` and go on later as you like."""
        return self

    def __next__(self) -> Event:
        if self._held:
            event = self._held.pop(0)
            self._reading.positions.deliver(event)
            return event
        for next_event in self._source:
            if next_event is not None:
                if type(next_event) in NOTED:
                    self._reading.positions.deliver(next_event)
                return next_event
        raise StopIteration

    def batches(self, max_events: int = 10_000, max_seconds: float = 1.0) -> Iterator[list[Event]]:
        """The events in lists, which end at the end of a transaction where that fits.

        Args:
            max_events: The longest list. A longer transaction comes in parts; it counts as
                handled when its last part is acknowledged.
            max_seconds: How long an event waits for others, once its transaction is whole.
        """
        check_batch_size(max_events)
        for event in self._source:
            batch = self._collect(event, max_events, max_seconds)
            if batch is not None:
                yield batch
        batch = self._cut(max_events)
        if batch is not None:
            yield batch

    def run(self, handler: Callable[[Event], object]) -> None:
        """Hand each event to ``handler`` and acknowledge it when that returns; then close.

        A handler with a method ``flush`` may hold events back: ``flush`` is called when
        nothing more has arrived, and the acknowledgement follows it. A method ``close`` is
        called at the end. An exception of the handler ends the stream, and nothing of the
        transaction it was raised in is acknowledged.
        """
        flush = getattr(handler, "flush", None)
        try:
            for event in self._source:
                if event is not None:
                    handler(event)
                    if type(event) in NOTED:
                        self.positions.deliver(event)
                        if flush is None:
                            self.ack()
                elif flush is not None and self.positions.unacknowledged:
                    flush()
                    self.ack()
            if flush is not None:
                flush()
                self.ack()
        finally:
            self.close()
            close = getattr(handler, "close", None)
            if close is not None:
                close()

    def close(self) -> None:
        """Tell the server the last acknowledgement, leave the slot, close the connection."""
        if self._closed:
            return
        self._closed = True
        self._reading.close()
        try:
            self._wait(self._finish(), _TICK)
        except (PgstreamError, psycopg.Error):
            pass  # the connection is gone; what was not told comes again
        finally:
            self._connection.close()

    def _generate(self) -> Iterator[Event | None]:
        """The events; None whenever nothing more has arrived."""
        idle = False
        while not self._over():
            report = self._report(idle=idle)
            if report is not None:
                self._wait(report, _TICK)
            chunk = self._wait(self._connector.receive(), self._tick)
            idle = not chunk
            for event in self._reading.events(chunk):
                yield event
                if self._stopped or self._closed:
                    return
                if time.monotonic() >= self._overdue:  # the handler takes its time
                    self._wait(self._status(), _TICK)
            yield None

    def _wait(self, generator: PQGen[T], tick: float) -> T:
        # Not Connection.wait: on ctrl-C that cancels the command, which is the stream.
        return waiting.wait(generator, self._connector.pgconn.socket, interval=tick)


class AsyncStream(_StreamBase):
    """A stream of changes for asyncio, made by :func:`connect_async`."""

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _open(self) -> None:
        try:
            self._connection = await psycopg.AsyncConnection.connect(
                replication_conninfo(self.config), autocommit=True
            )
        except psycopg.Error as error:
            raise faults.turned_away(error, self.config) from None
        self._attach(self._connection.pgconn)
        self._connection.add_notice_handler(self._connector.on_notice)
        try:
            await self._wait(self._connector.prepare(), _TICK)
            await self._wait(self._connector.start(), _TICK)
        except BaseException:
            await self._connection.close()
            raise
        self._started()
        self._source = self._generate()

    def __aiter__(self) -> AsyncIterator[Event]:
        """As :meth:`Stream.__iter__`."""
        return self

    async def __anext__(self) -> Event:
        if self._held:
            event = self._held.pop(0)
            self._reading.positions.deliver(event)
            return event
        async for next_event in self._source:
            if next_event is not None:
                if type(next_event) in NOTED:
                    self._reading.positions.deliver(next_event)
                return next_event
        raise StopAsyncIteration

    async def batches(
        self, max_events: int = 10_000, max_seconds: float = 1.0
    ) -> AsyncIterator[list[Event]]:
        """As :meth:`Stream.batches`."""
        check_batch_size(max_events)
        async for event in self._source:
            batch = self._collect(event, max_events, max_seconds)
            if batch is not None:
                yield batch
        batch = self._cut(max_events)
        if batch is not None:
            yield batch

    async def run(self, handler: Callable[[Event], object]) -> None:
        """As :meth:`Stream.run`; ``handler``, its ``flush`` and ``close`` may be coroutines."""
        flush = getattr(handler, "flush", None)
        try:
            if not self._opened:
                await self._open()
            async for event in self._source:
                if event is not None:
                    await _finished(handler(event))
                    if type(event) in NOTED:
                        self.positions.deliver(event)
                        if flush is None:
                            self.ack()
                elif flush is not None and self.positions.unacknowledged:
                    await _finished(flush())
                    self.ack()
            if flush is not None:
                await _finished(flush())
                self.ack()
        finally:
            await self.close()
            close = getattr(handler, "close", None)
            if close is not None:
                await _finished(close())

    async def close(self) -> None:
        """As :meth:`Stream.close`."""
        if self._closed or not self._opened:
            return
        self._closed = True
        self._reading.close()
        try:
            await self._wait(self._finish(), _TICK)
        except (PgstreamError, psycopg.Error):
            pass  # the connection is gone; what was not told comes again
        finally:
            await self._connection.close()

    async def _generate(self) -> AsyncIterator[Event | None]:
        """The events; None whenever nothing more has arrived."""
        idle = False
        while not self._over():
            report = self._report(idle=idle)
            if report is not None:
                await self._wait(report, _TICK)
            chunk = await self._wait(self._connector.receive(), self._tick)
            idle = not chunk
            for event in self._reading.events(chunk):
                yield event
                if self._stopped or self._closed:
                    return
                if time.monotonic() >= self._overdue:  # the handler takes its time
                    await self._wait(self._status(), _TICK)
            yield None

    async def _wait(self, generator: PQGen[T], tick: float) -> T:
        # Not AsyncConnection.wait: on cancellation that cancels the command, the stream.
        return await waiting.wait_async(generator, self._connector.pgconn.socket, interval=tick)


def read_payloads(
    payloads: Iterable[Payload],
    *,
    row_factory: RowFactory = dict_row,
    values: Values = "typed",
    json_loads: Callable[[str], Any] = json.loads,
    memory_limit: int = 64 * 2**20,
    catalog: Catalog | None = None,
) -> Iterator[Event]:
    """The events of a recorded stream, without a server: what :func:`connect` would yield.

    Args:
        payloads: What the stream brought, as :func:`~pgstream.capture.read_capture` reads it.
        catalog: The types that are not built in; without them their values are PostgreSQL's
            text, or bytes in the binary transfer. The other arguments are :func:`connect`'s.

    Raises:
        ProtocolError: at a payload that is malformed, after the events before it.
    """
    config = Config(
        row_factory=row_factory, values=values, json_loads=json_loads, memory_limit=memory_limit
    )
    reading = Reading(config, catalog=catalog)
    try:
        yield from reading.events(payloads)
    finally:
        reading.close()


def check_batch_size(max_events: int) -> None:
    """Refuse a batch that could hold nothing."""
    if max_events < 1:
        raise ValueError(f"max_events must be at least 1, not {max_events}")


async def _finished(result: object) -> None:
    if inspect.isawaitable(result):
        await result
