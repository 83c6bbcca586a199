"""The stream: what users hold. A connector, a decoder, and the acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import chain
from types import TracebackType
from typing import Any, Final, Literal, Self

from .collector import CollectorPause
from .config import Changes, Config, Streaming, Values
from .errors import ConfigError
from .lsn import LSN
from .messages import Event, Payload
from .positions import NOTED, Positions, Status
from .reading import Reading
from .rows import RowFactory, dict_row
from .session import Session
from .snapshot import SnapshotProgress
from .steps import (
    FAILURES,
    Course,
    Deliver,
    Step,
    drive,
    drive_async,
    perform,
    perform_async,
)
from .types import Catalog, Loader, Numeric

_FOR_ASYNCIO: Final = "the handler is one for asyncio: connect_async(...).run takes it"
_YIELDS: Final = "the handler has a yield in it: to call it runs nothing; take the yield out"


def connect(
    dsn: str = "",
    *,
    slot: str = "pgstream_slot",
    publication: str | Sequence[str] = "pgstream_pub",
    create_slot: bool = True,
    create_publication: bool = False,
    tables: Sequence[str] = (),
    binary: bool | None = None,
    streaming: Streaming = "off",
    two_phase: bool = False,
    messages: bool = False,
    origin: Literal["any", "none"] = "any",
    until: LSN | Literal["now"] | None = None,
    failover: bool = False,
    status_interval: float = 10.0,
    reconnect_timeout: float | None = None,
    handler_timeout: float | None = 3600.0,
    silence_timeout: float | None = 300.0,
    state_file: str | os.PathLike[str] | None = None,
    snapshot: bool = False,
    snapshot_jobs: int = 2,
    progress: Callable[[SnapshotProgress], object] | None = None,
    memory_limit: int = 64 * 2**20,
    changes: Changes = "events",
    row_factory: RowFactory = dict_row,
    values: Values = "typed",
    json_loads: Callable[[str], Any] = json.loads,
    numeric: Numeric = "decimal",
    notice: Callable[[str], None] | None = None,
    tap: Callable[[Payload], None] | None = None,
) -> Stream:
    """Open a replication slot and read its changes.

    Args:
        dsn: A PostgreSQL URL or key=value string; libpq's environment variables fill in
            what it leaves out. No ``replication`` parameter is needed.
        slot: The replication slot, which remembers how far this consumer has come.
        publication: The publication or publications whose tables are read.
        create_slot: Create the slot if it is not there. It begins now: what was committed
            before does not come.
        create_publication: Create the publications that are not there.
        tables: What ``create_publication`` publishes, ``schema.table``; all tables if empty. Of
            a publication that is there already they leave nothing out.
        binary: Ask for the binary transfer, which costs the server less; the default, unless
            ``values`` is ``"text"``. Where a column has no binary form, the stream changes to
            text by itself.
        streaming: Let the server send large transactions before they commit. They are
            still yielded whole and after their commit. ``"parallel"`` needs PostgreSQL 16.
        two_phase: Yield prepared transactions at PREPARE TRANSACTION. Needs PostgreSQL
            15; a slot that was read so once keeps to it.
        messages: Yield what ``pg_logical_emit_message`` wrote, too. With ``streaming``, a
            transaction whose messages may have been rolled back in part is an error.
        origin: ``"none"`` leaves out what bears a replication origin: what came to the server
            by replication from elsewhere, and would go round in circles where both sides read
            from each other. Needs PostgreSQL 16. A snapshot has all rows all the same.
        until: End before the first transaction that committed at or after this position;
            ``"now"`` is the server's position at the start.
        failover: Have the slot copied to standbys, so that reading goes on after a failover.
            Needs PostgreSQL 17, and a server that is set up for it.
        status_interval: Seconds between status updates, at most. They are sent more often
            if the server's ``wal_sender_timeout`` wants it.
        reconnect_timeout: For how many seconds to try to connect again when the connection
            is lost; 0 for not at all, ``None`` for ever.
        handler_timeout: Seconds for which a handler may block and keep the connection; beyond
            that it is given up, so that the server frees the slot. ``None`` for no limit.
        silence_timeout: Seconds for which a server may leave a question unanswered before the
            connection counts as lost. ``None`` for no limit.
        state_file: A local file in which the identity of the slot and the acknowledged
            position are kept, so that a later start refuses a slot that was dropped, created
            anew or read by someone else, and a server that was restored from a backup.
        snapshot: Where the slot is not there yet, copy the published tables first, as they
            stand where the slot begins: a SnapshotBegin, a SnapshotRow for each row, a
            SnapshotEnd. The stream follows once SnapshotEnd is acknowledged; until then a
            lost connection, or the end of this process, makes the copy start again. With a slot
            that is there already nothing is copied, and that is told.
        snapshot_jobs: Connections that read the copy at once.
        progress: Called with a :class:`SnapshotProgress` now and then while it lasts.
        memory_limit: Bytes of streamed, unfinished transactions kept in memory; beyond it
            they go to a temporary file.
        changes: ``"events"``, or ``"json"`` to have them as :class:`JSONLines`: bytes of whole
            lines, as :class:`~pgstream.handlers.JSONLinesHandler` writes them, at a fraction
            of the cost. Begin, Commit and all else come as ever, and the rows of a snapshot.
        row_factory: What a row is made into, :func:`dict_row` or :func:`tuple_row`.
        values: ``"typed"``, or ``"text"`` for PostgreSQL's own text of every value.
        json_loads: What parses json and jsonb; ``str`` keeps the text. With ``changes="json"``
            they stay as PostgreSQL has them.
        numeric: What numeric becomes: ``"decimal"``, ``"float"`` or ``"str"``.
        notice: Called with what is worth telling a person, such as a slot created, or each
            attempt to connect again. Without it the latter are warnings of the log ``pgstream``.
        tap: Called with each payload before its events are yielded. What lies beyond
            ``until`` is left out.

    Returns:
        An open stream, to be closed (``with``).

    Raises:
        ConfigError: for a setting that cannot be.
        ServerError: if the server cannot be reached, refuses, or lacks something. A
            connection that is lost later is made again.
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
    binary: bool | None = None,
    streaming: Streaming = "off",
    two_phase: bool = False,
    messages: bool = False,
    origin: Literal["any", "none"] = "any",
    until: LSN | Literal["now"] | None = None,
    failover: bool = False,
    status_interval: float = 10.0,
    reconnect_timeout: float | None = None,
    handler_timeout: float | None = 3600.0,
    silence_timeout: float | None = 300.0,
    state_file: str | os.PathLike[str] | None = None,
    snapshot: bool = False,
    snapshot_jobs: int = 2,
    progress: Callable[[SnapshotProgress], object] | None = None,
    memory_limit: int = 64 * 2**20,
    changes: Changes = "events",
    row_factory: RowFactory = dict_row,
    values: Values = "typed",
    json_loads: Callable[[str], Any] = json.loads,
    numeric: Numeric = "decimal",
    notice: Callable[[str], None] | None = None,
    tap: Callable[[Payload], None] | None = None,
) -> AsyncStream:
    """As :func:`connect`, for asyncio. The connection is made by ``async with``.

    Raises:
        ConfigError: for a setting that cannot be.
    """
    return AsyncStream(Config(**locals()))


class _StreamBase:
    """What both streams do alike: everything but waiting."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._closed = False
        self._session = Session(config)
        self._outbox = self._session.outbox
        self._course = Course(self._session.course())
        self._runs: Iterator[list[Event]] | None = None  # of what is being handed on

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of slot {self.config.slot}, {self._session.state}>"

    @property
    def positions(self) -> Positions:
        """How far this stream has come."""
        return self._session.reading.positions

    def status(self) -> Status:
        """How this stream stands now: positions, lag, connection. Any thread may ask."""
        return self._session.status()

    @property
    def catalog(self) -> Catalog:
        """The types of the published columns that are not built in. It grows as new ones come."""
        return self._session.reading.catalog

    def register_loader(
        self, type: int | str, *, text: Loader | None = None, binary: Loader | None = None
    ) -> None:
        """Load the values of a type with functions of your own, from here on.

        As :meth:`pgstream.Decoder.register_loader`. Give both functions: the stream changes
        to text where a column of any type needs it.
        """
        self._session.reading.register_loader(type, text=text, binary=binary)

    def ack(self) -> None:
        """Acknowledge all that was yielded so far: it is handled and need not come again.

        It takes effect at transaction boundaries: the slot moves to the end of the last
        transaction of which everything was yielded. The server is told a moment later.
        """
        self.positions.acknowledge()

    def _next_step(self) -> Step | bool:
        """Hand on what is there; then what has to be waited for.

        Returns:
            The step to perform and to answer; True if events are in the outbox now, or nothing
            more has arrived; False at the end.
        """
        if self._closed:
            return False
        try:
            if self._runs is None:
                step = self._course.next()
                if type(step) is not Deliver:
                    return step or False
                self._runs = iter(step.runs)
                self._course.answer(None)
            if self._session.stopped:
                self._course.close()
                return False
            run = next(self._runs, None)
            if run is None:
                self._runs = None
            else:
                self._outbox.put(run)
            return True
        except FAILURES:
            self._course.close()
            raise
        except BaseException:
            self._start_again()
            raise

    @contextlib.contextmanager
    def _handing_out(self) -> Iterator[None]:
        """For a generator of events: as :meth:`__next__`, in all of it."""
        try:
            yield
        except GeneratorExit:  # the user has left the loop, with what was yielded
            raise
        except BaseException:
            self._called_off()
            raise

    def _called_off(self) -> None:
        """Something was raised while events were handed out. Unless it came of the course, it is
        ctrl-C, or what another signal handler raises, and there may be an event in hand that was
        not yielded. That must be neither lost nor acknowledged."""
        if self._course.answered:
            self._start_again()

    def _start_again(self) -> None:
        """Have all come again that was not acknowledged, for some of it is in nobody's hands."""
        self._session.withdraw()
        self._course.close()
        self._course = Course(self._session.course())
        self._runs = None

    def stop(self) -> None:
        """End the iteration: at the next event, or within a moment where none comes.

        May be called from a signal handler or another thread.
        """
        self._session.stopped = True


class Stream(_StreamBase):
    """A stream of changes, made by :func:`connect`. Iterate over it; close it.

    Attributes:
        config: The settings.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        try:
            drive(self._session.open())
        except BaseException:
            self._session.abandon()
            raise
        self._reading = threading.RLock()

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
        outbox, session = self._outbox, self._session
        with self._handing_out():
            while True:
                while not session.stopped and (event := outbox.take()) is not None:
                    yield event
                    part = outbox.part
                    while part and not session.stopped:
                        yield part.pop()
                if not self._fill():
                    return

    def __next__(self) -> Event:
        try:
            while self._session.stopped or (event := self._outbox.take()) is None:
                if not self._fill():
                    raise StopIteration
        except BaseException:
            self._called_off()
            raise
        return event

    def _fill(self) -> bool:
        """Read on; False at the end."""
        with self._reading:
            while not isinstance(step := self._next_step(), bool):
                try:
                    self._course.answer(perform(step))
                except FAILURES as error:
                    self._course.fail(error)
            return step

    def batches(self, max_events: int = 10_000, max_seconds: float = 1.0) -> Iterator[list[Event]]:
        """The events in lists, which end at the end of a transaction where that fits.

        Args:
            max_events: The longest list. A longer transaction comes in parts; it counts as
                handled when its last part is acknowledged.
            max_seconds: How long an event waits for others, once its transaction is whole.
        """
        check_batch_size(max_events)
        reading = True
        with self._handing_out():
            while reading:
                with CollectorPause() as pause:
                    while not (batch := self._outbox.batch(max_events, max_seconds)) and reading:
                        pause.gather(bool(self._outbox))
                        reading = self._fill()
                if batch:
                    yield batch
            while batch := self._outbox.batch(max_events, 0):
                yield batch

    def run(self, handler: Callable[[Event], object]) -> None:
        """Hand each event to ``handler`` and acknowledge it when that returns; then close.

        A handler with a method ``flush`` may hold events back: ``flush`` is called when
        nothing more has arrived, and the acknowledgement follows it. A method ``close`` is
        called at the end. An exception of the handler ends the stream, and nothing of the
        transaction it was raised in is acknowledged. A handler with a method ``position``
        keeps the position with its data: see :mod:`pgstream.handlers`.

        Raises:
            ConfigError: if the handler needs other settings than the stream has.
            SlotMismatch: if the handler's position and the slot's do not fit together.
            TypeError: if a call of it, or of any of these methods, would run nothing: it is one
                for asyncio, or a generator.
        """
        flush = getattr(handler, "flush", None)
        position = getattr(handler, "position", None)
        advance = getattr(handler, "advance", None)
        close = getattr(handler, "close", None)
        outbox, session = self._outbox, self._session
        try:
            _check_settings(handler, self.config)
            _check_calls(handler, flush, position, advance, close)
            _check_blocking(handler, flush, position, advance, close)
            if position is not None:
                self._session.adopt(_blocking(position()))
            while self._fill():
                while not session.stopped and (event := outbox.take()) is not None:
                    _blocking(handler(event))
                    if flush is None and type(event) in NOTED:
                        self.ack()
                    part = outbox.part
                    while part and not session.stopped:
                        if (result := handler(part.pop())) is not None:
                            _blocking(result)
                if flush is not None and self.positions.unacknowledged:
                    _blocking(flush())
                    self.ack()
                if advance is not None and (idle := session.idle_position()):
                    _blocking(advance(idle))
                    self.positions.resume_idle(idle)
            if flush is not None:
                _blocking(flush())
                self.ack()
        finally:
            try:
                self.close()
            finally:
                if close is not None:
                    _blocking(close())

    def close(self) -> None:
        """Tell the server the last acknowledgement, leave the slot, close the connection.

        From another thread than the one that reads, it first ends the iteration there.
        """
        self.stop()
        with self._reading:
            if not self._closed:
                self._course.close()  # ends what is under way, such as a copy
                self._closed = True
                drive(self._session.leave())


class AsyncStream(_StreamBase):
    """A stream of changes for asyncio, made by :func:`connect_async`."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._opened = False
        self._reading = asyncio.Lock()

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
        if self._opened:
            raise RuntimeError("the stream was opened before: make another with connect_async()")
        try:
            await drive_async(self._session.open())
        except BaseException:
            self._session.abandon()
            raise
        self._opened = True

    async def __aiter__(self) -> AsyncIterator[Event]:
        """As :meth:`Stream.__iter__`."""
        outbox, session = self._outbox, self._session
        with self._handing_out():
            while True:
                while not session.stopped and (event := outbox.take()) is not None:
                    yield event
                    part = outbox.part
                    while part and not session.stopped:
                        yield part.pop()
                if not await self._fill():
                    return

    async def __anext__(self) -> Event:
        try:
            while self._session.stopped or (event := self._outbox.take()) is None:
                if not await self._fill():
                    raise StopAsyncIteration
        except BaseException:
            self._called_off()
            raise
        return event

    async def _fill(self) -> bool:
        """Read on; False at the end."""
        if not self._opened:
            raise RuntimeError("the stream is not open: iterate inside 'async with'")
        async with self._reading:
            while not isinstance(step := self._next_step(), bool):
                try:
                    self._course.answer(await perform_async(step))
                except FAILURES as error:
                    self._course.fail(error)
            return step

    async def batches(
        self, max_events: int = 10_000, max_seconds: float = 1.0
    ) -> AsyncIterator[list[Event]]:
        """As :meth:`Stream.batches`."""
        check_batch_size(max_events)
        reading = True
        with self._handing_out():
            while reading:
                with CollectorPause() as pause:
                    while not (batch := self._outbox.batch(max_events, max_seconds)) and reading:
                        pause.gather(bool(self._outbox))
                        reading = await self._fill()
                if batch:
                    yield batch
            while batch := self._outbox.batch(max_events, 0):
                yield batch

    async def run(self, handler: Callable[[Event], object]) -> None:
        """As :meth:`Stream.run`; ``handler`` and its methods may be coroutines."""
        flush = getattr(handler, "flush", None)
        position = getattr(handler, "position", None)
        advance = getattr(handler, "advance", None)
        close = getattr(handler, "close", None)
        outbox, session = self._outbox, self._session
        try:
            _check_settings(handler, self.config)
            _check_calls(handler, flush, position, advance, close)
            if not self._opened:
                await self._open()
            if position is not None:
                self._session.adopt(await _finished(position()))
            while await self._fill():
                while not session.stopped and (event := outbox.take()) is not None:
                    await _finished(handler(event))
                    if flush is None and type(event) in NOTED:
                        self.ack()
                    part = outbox.part
                    while part and not session.stopped:
                        await _finished(handler(part.pop()))
                if flush is not None and self.positions.unacknowledged:
                    await _finished(flush())
                    self.ack()
                if advance is not None and (idle := session.idle_position()):
                    await _finished(advance(idle))
                    self.positions.resume_idle(idle)
            if flush is not None:
                await _finished(flush())
                self.ack()
        finally:
            try:
                await self.close()
            finally:
                if close is not None:
                    await _finished(close())

    async def close(self) -> None:
        """As :meth:`Stream.close`; another task that reads comes to its end first."""
        if not self._opened:
            return
        self.stop()
        async with self._reading:
            if not self._closed:
                self._course.close()  # ends what is under way, such as a copy
                self._closed = True
                await drive_async(self._session.leave())


def read_payloads(
    payloads: Iterable[Payload],
    *,
    changes: Changes = "events",
    row_factory: RowFactory = dict_row,
    values: Values = "typed",
    json_loads: Callable[[str], Any] = json.loads,
    memory_limit: int = 64 * 2**20,
    numeric: Numeric = "decimal",
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
        row_factory=row_factory,
        values=values,
        binary=False,  # whatever it is, there is nobody to ask for anything else
        streaming="on",  # it may be
        json_loads=json_loads,
        memory_limit=memory_limit,
        numeric=numeric,
        changes=changes,
    )
    reading = Reading(config, catalog=catalog)
    try:
        yield from chain.from_iterable(reading.events(payloads))
        while reading.wanted:
            reading.learn((), reading.wanted)
            yield from chain.from_iterable(reading.more())
    finally:
        reading.close()


def check_batch_size(max_events: int) -> None:
    """Refuse a batch that could hold nothing."""
    if max_events < 1:
        raise ValueError(f"max_events must be at least 1, not {max_events}")


def _check_settings(handler: Any, config: Config) -> None:
    """Refuse a handler that makes nothing, or the wrong thing, of what this stream gives."""
    for name, wanted in getattr(handler, "requires", {}).items():
        if (given := getattr(config, name)) != wanted:
            raise ConfigError(
                f"{type(handler).__name__} needs {name}={wanted!r}; it is {given!r}",
                f"connect with {name}={wanted!r}",
            )


def _check_calls(handler: Any, *methods: Any) -> None:
    """Refuse a handler that is a generator, before it is given anything."""
    for function in (handler, type(handler).__call__, *methods):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(_YIELDS)


def _check_blocking(handler: Any, *methods: Any) -> None:
    """Refuse a handler for asyncio, before it is given anything."""
    if any(map(inspect.iscoroutinefunction, (handler, type(handler).__call__, *methods))):
        raise TypeError(_FOR_ASYNCIO)


def _blocking(result: Any) -> Any:
    """Refuse a coroutine, which any function may return: nobody would run it, and its event would
    be acknowledged."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(_FOR_ASYNCIO)
    return _no_generator(result)


async def _finished(result: Any) -> Any:
    if result is None:  # what most handlers return, for each event
        return None
    return await result if inspect.isawaitable(result) else _no_generator(result)


def _no_generator(result: Any) -> Any:
    """Refuse a generator, of which nothing has run."""
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(_YIELDS)
    return result
