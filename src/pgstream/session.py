"""The course of a stream: connect, prepare, start, read, report, reconnect, leave.

Written once, as generators of steps that do no waiting themselves; ``steps.py`` has the
drivers. What may be confirmed is decided in ``positions.py``, whether the slot is the one
it was in ``identity.py``, what arrives is read in ``reading.py``.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn

from . import faults, slots
from .config import Config
from .connector import Connector, ordinary_conninfo, replication_conninfo
from .creation import create_slot, starting_point
from .errors import (
    ConfigError,
    ConnectionLost,
    NoBinaryForm,
    ServerError,
    SlotMismatch,
    SlotNotFound,
)
from .heartbeat import Heartbeat
from .identity import Anchor
from .lsn import LSN
from .outbox import Outbox
from .positions import State, Status
from .reading import Reading
from .snapshot import InitialCopy
from .steps import TICK, Connect, Course, Deliver, Interrupted, Pause, Run, Steps
from .types import TypeInfo, oids
from .types.catalog import catalog_query, parse_catalog

log = logging.getLogger("pgstream")

_HURRIED_TICK: Final = 0.01  # seconds between looks at the clock where the end is awaited
_SUSPENDED_SECONDS: Final = 2.0  # for which a tick does not last, unless the process was stopped
_REPORT_GAP: Final = 0.1  # seconds between status updates that nothing demands
_SAVE_GAP: Final = 1.0  # seconds between writes of the state file
_FIRST_DELAY: Final = 0.1  # seconds before the first attempt to connect again, at most
_LONGEST_DELAY: Final = 30.0
_LOOK_SECONDS: Final = 10.0  # for which the catalog may be looked at
_STEADY_SECONDS: Final = 30.0  # a connection that held so long ends a series of attempts


class Session:
    """One stream, over as many connections as it takes.

    Args:
        config: The settings of the stream.

    Attributes:
        reading: Reads what arrives; has the positions.
        outbox: What was read and is not handed out yet.
        state: What the stream is doing.
        stopped: Set to have it end at the next step.
        reconnects: How many times the connection was lost and made again.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reading = Reading(config, config.until if isinstance(config.until, LSN) else None)
        self.outbox = Outbox(self.reading.positions)
        self.state: State = "starting"
        self.stopped = False
        self.reconnects = 0
        self._random = random.Random()
        self._anchor: Anchor | None = None
        self._connection: psycopg.BaseConnection[Any] | None = None
        self._connector: Connector | None = None
        self._heartbeat: Heartbeat | None = None
        self._pids: set[int] = set()  # the server processes of our connections
        self._interval = config.status_interval
        self._reported = 0.0
        self._saved = 0.0
        self._advanced = 0.0
        self._sends_prepared = False
        self._pinged = False
        self._heard = LSN(0)
        self._heard_at = 0.0  # when something arrived last, or we began to listen again
        self._away_since: float | None = None  # the user has the word since then
        self._away_events = 0
        self._linked_at = 0.0
        self._trouble: _Trouble | None = None
        self._initial: InitialCopy | None = None  # while it lasts
        self._withdrawn = False
        self._missed: frozenset[int] = frozenset()  # types that could not be looked up once

    def over(self) -> bool:
        """Whether nothing more is to be read."""
        return self.stopped or self.reading.done

    def status(self) -> Status:
        """How the stream stands now. Any thread may ask."""
        positions = self.reading.positions
        connector = self._connector
        server = max(self._heard, positions.received, connector.heard if connector else LSN(0))
        oldest = positions.oldest_commit_time if positions.in_flight else None
        lag = (datetime.now(UTC) - oldest).total_seconds() if oldest is not None else 0.0
        handled = positions.handled
        return Status(
            state=self.state,
            received=positions.received,
            handled=handled,
            flushed=positions.flushed,
            server=server,
            lag_bytes=max(0, server - handled),
            lag_seconds=max(0.0, lag),
            events_in_flight=positions.events_in_flight,
            reconnects=self.reconnects,
        )

    # The sink's position

    def adopt(self, stored: LSN | None) -> None:
        """Begin where a sink stands that keeps its position with its data.

        Args:
            stored: The ``end_lsn`` of the last transaction in the sink; ``None`` if it has none.

        Raises:
            ConfigError: if the slot sends prepared transactions when they are prepared, or
                changes were asked for as JSON.
            SlotMismatch: if the slot does not have all that the sink lacks, or the server
                is behind the sink.
        """
        if self.config.changes == "json":
            raise ConfigError(
                "a handler that keeps its position takes events, not JSON Lines",
                "leave out changes='json'",
            )
        positions, connector = self.reading.positions, self._connector
        if self.config.two_phase or self._sends_prepared:
            raise ConfigError(
                "a handler that keeps its position cannot read prepared transactions: they are"
                " stored when they are prepared, and may be rolled back after that",
                "read from a slot without two_phase",
            )
        positions.follows_idle = False  # the sink would not know of it
        if stored is None:
            return
        if self._initial is not None:
            # It was lost between the sink's end of a copy and the slot's, or the slot is gone.
            self.config.warn(
                f"the handler has stored up to {stored}, but slot {self.config.slot!r} is not"
                " there: the copy starts again, and takes the place of what was stored"
            )
        if stored < positions.handled:
            raise SlotMismatch(
                f"the handler has stored up to {stored}, slot {self.config.slot!r} stands at"
                f" {positions.handled}: changes in between do not come",
                "copy the tables anew, or put back the position that belongs to the data",
                (stored, positions.handled),
            )
        if connector is not None and not connector.system.in_recovery:
            position = connector.system.position
            if stored > max(position, connector.heard):
                raise SlotMismatch(
                    f"the handler has stored up to {stored}, the server is at an earlier point,"
                    f" {position}: it was restored from a backup, or is another one",
                    "copy the tables anew, or name the server that the data came from",
                    (position, stored),
                )
        positions.handled = stored
        self.reading.skip(stored)

    def idle_position(self) -> LSN | None:
        """The position that a sink may be told because nothing before it was for it; ``None``
        if there is none, or it was told one a moment ago."""
        positions, now = self.reading.positions, time.monotonic()
        if positions.follows_idle or positions.in_flight or positions.idle <= positions.handled:
            return None
        if now - self._advanced < self._interval and not self.over():
            return None
        self._advanced = now
        return positions.idle

    # Steps

    def open(self) -> Steps[None]:
        """Connect for the first time. What fails here is not tried again.

        Raises:
            ServerError: if the server cannot be reached, refuses, or lacks something.
        """
        yield from self._link()
        self._away_since = time.monotonic()
        self._heartbeat = Heartbeat(self._beat)
        self._heartbeat.start()

    def abandon(self) -> None:
        """Let go of what :meth:`open` had made by the time it was interrupted."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._unlink()

    def withdraw(self) -> None:
        """Take nothing that was not acknowledged by now for handed out: the next course begins
        with a new connection, on which it comes again."""
        self._withdrawn = True
        self.outbox.clear()
        self.reading.positions.withdraw()

    def course(self) -> Steps[None]:
        """All that follows, up to the end of reading.

        Raises:
            ServerError: what trying again does not help against, or has not helped.
        """
        if self._withdrawn and not self.over():
            self._lose(_interrupted())
            self._withdrawn = False
        while not self.over():
            if self._connector is None:
                with contextlib.suppress(Interrupted):  # whoever waited may come back
                    yield from self._relink()
                continue
            try:
                if self._initial is not None:
                    yield from self._copy(self._connector, self._initial)
                else:
                    yield from self._stream(self._connector)
            except ServerError as error:
                self._lose(error)
            except psycopg.Error as error:  # found out by the one who waits
                self._lose(faults.refused(error, self.config, streaming=True))
            except Interrupted:
                # In the midst of something: all that was not acknowledged comes again.
                self._lose(_interrupted())

    def leave(self) -> Steps[None]:
        """Tell the server the last acknowledgement, and leave the slot in good order."""
        self.stopped = True
        self.state = "closed"
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self.reading.close()
        connector = self._connector
        if connector is None:
            return
        if self._initial is not None:
            yield from self._leave_copy(connector, self._initial)
            return
        try:
            self._report(connector, last=True)
            with contextlib.suppress(ServerError, psycopg.Error):  # what was not told comes again
                yield Run(connector.finish(), connector.pgconn)
        finally:
            self._unlink()

    # Connecting

    def _link(self) -> Steps[None]:
        """Make a connection, and start the stream on it."""
        config = self.config
        try:
            connection = yield Connect(replication_conninfo(config))
        except psycopg.Error as error:
            raise faults.turned_away(error, config) from None
        try:
            pgconn = connection.pgconn
            self._pids.add(pgconn.backend_pid)
            connector = Connector(pgconn, config, binary=self.reading.binary)
            connection.add_notice_handler(connector.on_notice)
            slot: slots.Slot | None = yield Run(connector.prepare(), pgconn)
            position = yield from self._position(connector, slot)
            self.reading.learn(connector.types)
            if config.until == "now" and self.reading.until is None:
                self.reading.until = connector.system.position
            if self._initial is None:
                yield Run(connector.start(position, self._pids), pgconn)
        except psycopg.Error as error:
            connection.pgconn.finish()
            raise faults.refused(error, config) from None
        except BaseException:
            connection.pgconn.finish()
            raise
        now = time.monotonic()
        self._reported = self._heard_at = self._linked_at = now
        self._interval = config.status_interval
        if connector.silence is not None:
            self._interval = min(self._interval, connector.silence / 3)
        self._pinged = False
        self._connection, self._connector = connection, connector
        self.state = "streaming" if self._initial is None else "copying"

    def _position(self, connector: Connector, slot: slots.Slot | None) -> Steps[LSN]:
        """Where to start, after the slot was held against what is known of it."""
        config, pgconn = self.config, connector.pgconn
        anchor = self._anchor
        if anchor is None:
            file = None if config.state_file is None else Path(config.state_file)
            anchor = Anchor(pgconn.db.decode(), config.slot, file)
        positions = self.reading.positions
        anchor.advance(positions.handled)  # also what the server was not told any more
        ends: dict[int, LSN] = {}
        with faults.translated(config):
            if anchor.needs_history(connector.system):
                ends = yield Run(slots.timeline_ends(pgconn, connector.system.timeline), pgconn)
            anchor.check(connector.system, slot, ends, positions.handed_out)
            self._initial = None
            if slot is None and config.snapshot:
                self._initial = InitialCopy(config, connector, self.reading)
                yield from self._initial.create_slot()
                self._anchor = anchor  # it holds when the slot is permanent
                return self._initial.lsn
            if slot is None:
                stands = yield from self._create_slot(connector)
            else:
                stands = slot.confirmed_flush_lsn or LSN(0)
                self._sends_prepared = slot.two_phase
                if config.two_phase and not slot.two_phase:  # the server makes it so at the start
                    self.config.tell(
                        f"slot {config.slot} sends prepared transactions when they are prepared"
                        " from now on, and keeps to that"
                    )
                if config.failover and not slot.failover:
                    yield Run(slots.enable_failover(pgconn, config.slot), pgconn)
                    self.config.tell(f"slot {config.slot} is copied to standbys from now on")
        known = stands if anchor.known is None else max(stands, anchor.known.position)
        anchor.hold(connector.system, known)
        positions.resume(known, stands)
        if config.snapshot and self._anchor is None:
            config.tell(
                f"slot {config.slot} is there already: no copy is made, the stream goes on after"
                f" {positions.handled}"
            )
        self._anchor = anchor
        return positions.handled

    def _create_slot(self, connector: Connector) -> Steps[LSN]:
        config, pgconn = self.config, connector.pgconn
        if not config.create_slot:
            raise SlotNotFound(
                f"there is no replication slot {config.slot!r}",
                f"pgstream slot create --slot {config.slot}",
            )
        command = slots.creation_command(
            pgconn.server_version,
            config.slot,
            two_phase=config.two_phase,
            failover=config.failover,
        )
        start = starting_point((yield from create_slot(pgconn, command, config)))
        self.config.tell(f"created slot {config.slot} at {start}")
        return start

    def _lose(self, error: ServerError) -> None:
        """Let the connection go; raise what trying again does not help against."""
        connector = self._connector
        if connector is not None:
            self._heard = max(self._heard, connector.heard)
        self._unlink()
        if not error.transient or self.config.reconnect_timeout == 0:
            raise error
        self.state = "reconnecting"
        trouble, now = self._trouble, time.monotonic()
        positions = self.reading.positions
        if (
            trouble is None
            or positions.received > trouble.received
            or now - self._linked_at > _STEADY_SECONDS
        ):
            trouble = self._trouble = _Trouble(now, positions.received)
        trouble.failed(error)
        self.outbox.clear()
        self.reading.restart()

    def _relink(self) -> Steps[None]:
        """Connect again, as often as it takes or is allowed."""
        trouble, limit = self._trouble, self.config.reconnect_timeout
        assert trouble is not None
        while not self.over():
            lost_for = time.monotonic() - trouble.since
            if limit is not None and lost_for >= limit:
                raise self._given_up(trouble.error, lost_for)
            delay = trouble.next_delay(self._random)
            if limit is not None:
                delay = min(delay, max(0.0, limit - lost_for))
            self.config.warn(
                f"{_sentence(trouble.error)}; trying again in {delay:.1f} s"
                f" (attempt {trouble.attempts})"
            )
            yield Deliver(())  # whoever gathers a batch need not wait for the connection
            yield from self._sleep(delay)
            if self.over():
                return
            try:
                yield from self._link()
            except ServerError as error:
                if not error.transient:
                    raise
                trouble.failed(error)
                continue
            self.reconnects += 1
            lost_for = time.monotonic() - trouble.since
            goes_on = f"it goes on after {self.reading.positions.handled}"
            if self._initial is not None:
                goes_on = "the copy starts again from its beginning"
            self.config.warn(f"connected again after {lost_for:.1f} s; {goes_on}")
            return

    def _given_up(self, error: ServerError, seconds: float) -> ServerError:
        given_up = ConnectionLost(
            f"gave up connecting again after {seconds:.0f} s (reconnect_timeout);"
            f" the last error: {error.message}",
            error.hint,
        )
        given_up.__cause__ = error
        return given_up

    def _sleep(self, seconds: float) -> Steps[None]:
        """Let time pass, in pieces, so that a stop is noticed."""
        deadline = time.monotonic() + seconds
        while not self.over() and (left := deadline - time.monotonic()) > 0:
            yield Pause(min(left, TICK))

    def _unlink(self) -> None:
        """Close the connection, as it is."""
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.close()
        self._connection = None

    # The initial copy

    def _copy(self, connector: Connector, initial: InitialCopy) -> Steps[None]:
        """Hand out the copy; once it is acknowledged, start the stream where it stands."""
        with contextlib.closing(Course(initial.course())) as course:
            while not self.stopped and (step := course.next()) is not None:
                self._away_events = self.outbox.handed_out
                self._away_since = time.monotonic() if isinstance(step, Deliver) else None
                try:
                    course.answer((yield step))
                except Exception as error:
                    course.fail(error)
                self._away_since = None
        if self.stopped:
            return
        yield from self._keep(connector, initial)
        self._initial = None
        yield Run(connector.start(self.reading.positions.handled, self._pids), connector.pgconn)
        self._reported = self._heard_at = self._linked_at = time.monotonic()
        self.state = "streaming"

    def _keep(self, connector: Connector, initial: InitialCopy) -> Steps[None]:
        yield from initial.keep(lambda: not self.stopped)
        assert self._anchor is not None
        self._anchor.hold(connector.system, initial.lsn)
        self.reading.positions.resume(initial.lsn, initial.lsn)

    def _leave_copy(self, connector: Connector, initial: InitialCopy) -> Steps[None]:
        """Leave before the stream has started; what was acknowledged whole is kept."""
        try:
            if self.reading.positions.copied and not initial.kept:
                yield from self._keep(connector, initial)
            else:
                self.config.tell("left before the copy was acknowledged: nothing of it is kept")
        except ServerError as error:
            self.config.warn(
                f"the copy was acknowledged, but its slot cannot be kept: {_sentence(error)};"
                " it starts again the next time"
            )
        finally:
            self._unlink()

    # Reading

    def _stream(self, connector: Connector) -> Steps[None]:
        """Read; where the binary transfer cannot give it all, change to text, once."""
        try:
            yield from self._read(connector)
            return
        except NoBinaryForm as error:
            if not self.reading.binary:
                raise
            reason = error.message
        yield from self._start_over(reason)

    def _read(self, connector: Connector) -> Steps[None]:
        """Take what arrives, hand out what it means, report what was handled."""
        reading, pgconn = self.reading, connector.pgconn
        idle = False
        while not self.over():
            self._report_if_due(connector, idle=idle)
            tick = TICK if reading.until is None else _HURRIED_TICK
            began = time.monotonic()
            try:
                yield from connector.gather()
                yield Run(connector.receive(), pgconn, min(tick, self._interval / 2))
            except Interrupted:
                if connector.in_hand:
                    raise
                continue  # it has waited, or was just done: what has arrived is still there
            chunk = connector.take()
            idle = not chunk
            now = time.monotonic()
            if chunk or now - began > _SUSPENDED_SECONDS:  # nobody listened: not its silence
                self._heard_at = now
            else:
                self._listen(connector)
            self._away_events = self.outbox.handed_out
            self._away_since = time.monotonic()
            yield Deliver(reading.events(chunk) if chunk else ())
            while reading.wanted:
                self._away_since = time.monotonic()
                if not (yield from self._look_up(connector, reading.wanted)):
                    yield from self._open_anew()
                    return
                self._away_since = time.monotonic()
                yield Deliver(reading.more())
            self._away_since = None
            if reading.needs_text:
                raise NoBinaryForm(self._names(reading.needs_text))
            if chunk:
                self._heard_at = time.monotonic()  # nobody listened meanwhile

    def _look_up(self, connector: Connector, types: frozenset[int]) -> Steps[bool]:
        """Ask what these types are, over a connection of its own: the stream's is busy.

        Returns:
            Whether reading can go on. Where they cannot be looked up so, a new connection for
            the stream may do, which asks before it starts. If that does not know them either, it
            costs no more than the form of the values: PostgreSQL's text, or bytes.
        """
        found: list[TypeInfo] = []
        try:
            connection = yield Connect(ordinary_conninfo(self.config, connector.pgconn))
            try:
                pgconn = connection.pgconn
                rows: list[slots.Row] = yield Run(_looking(pgconn, types), pgconn)
                found = parse_catalog(rows)
            finally:
                connection.pgconn.finish()
        except psycopg.Error as error:
            again = types <= self._missed
            self._missed |= types
            self.config.warn(
                f"cannot look up the types {_listed(types)} of new columns"
                f"{'; their values are text or bytes' * again}:"
                f" {self.config.redact(' '.join(str(error).split()))}"
            )
            if not again:
                return False
        self.reading.learn(found, types)
        return True

    def _start_over(self, reason: str) -> Steps[None]:
        """Read on from what was handled, in text: the binary transfer cannot give it all."""
        self._to_text(reason)
        yield from self._open_anew()

    def _open_anew(self) -> Steps[None]:
        """Leave, and read on from what was handled over a new connection."""
        connector = self._connector
        if connector is not None:
            self._heard = max(self._heard, connector.heard)
            with contextlib.suppress(ServerError, psycopg.Error):  # it may have ended by itself
                yield Run(connector.finish(), connector.pgconn)
        self._unlink()
        self.outbox.clear()
        self.reading.restart()
        try:
            yield from self._link()
        except ServerError as error:
            self._lose(error)

    def _to_text(self, reason: str) -> None:
        self.reading.binary = False
        self.config.tell(f"changed to the text transfer: {reason}")

    def _names(self, types: Iterable[int]) -> str:
        catalog = self.reading.catalog
        names = [
            f"{catalog[oid].schema}.{catalog[oid].name}" if oid in catalog else oids.name_of(oid)
            for oid in sorted(types)
        ]
        return f"a column has a type that has no binary form ({', '.join(names)})"

    def _listen(self, connector: Connector) -> None:
        """Notice a server that does not answer."""
        limit = self.config.silence_timeout
        if limit is None:
            return
        silent = time.monotonic() - self._heard_at
        if silent > limit:
            raise faults.passing(
                ConnectionLost(
                    f"lost the connection to the server: it has not answered for {silent:.0f} s",
                    "start again: it goes on after the last acknowledged transaction",
                )
            )
        if silent > limit / 2 and time.monotonic() - self._reported >= limit / 10:
            self._report(connector, reply=True)

    def _report_if_due(self, connector: Connector, *, idle: bool) -> None:
        """Send a status update, if one is due.

        Args:
            connector: The connection.
            idle: Nothing has arrived for a tick.
        """
        reading, positions = self.reading, self.reading.positions
        since = time.monotonic() - self._reported
        ping = idle and reading.until is not None and not self._pinged
        if (
            ping
            or reading.reply_wanted
            or since >= self._interval
            or (positions.handled > positions.flushed and since >= _REPORT_GAP)
        ):
            self._report(connector, reply=ping)
            self._pinged = ping  # asked again with the next update that is due

    def _report(self, connector: Connector, *, reply: bool = False, last: bool = False) -> None:
        """Send a status update, and with it what was handled."""
        positions, anchor = self.reading.positions, self._anchor
        assert anchor is not None
        handled, now = positions.handled, time.monotonic()
        if anchor.is_kept and not last and now - self._saved < _SAVE_GAP:
            handled = positions.flushed
        if handled > positions.flushed:
            # Before the server is told: it must never know more than we do.
            anchor.advance(handled)
            self._saved = now
        self.reading.reply_wanted = False
        self._reported = now
        connector.report(positions.received, handled, reply=reply)
        positions.flushed = max(positions.flushed, handled)

    def _beat(self) -> float:
        """Called beside the reader: keep the connection alive while a handler blocks, up to a
        bound; flush stands still. Returns after how many seconds to call again."""
        connector, away = self._connector, self._away_since
        now = time.monotonic()
        if connector is None or away is None:
            return self._interval / 2
        positions, limit = self.reading.positions, self.config.handler_timeout
        if self.outbox.handed_out != self._away_events:
            self._away_events = self.outbox.handed_out
            self._away_since = away = now  # it is busy, not stuck
        if limit is not None and now - away > limit:
            self._away_since = None
            reason = (
                f"the handler has not come back for {now - away:.0f} s (handler_timeout); the"
                " connection was given up, so that the server frees the slot"
            )
            log.error("%s", reason)
            connector.hang_up(reason)
        elif self._initial is None and now - self._reported >= self._interval:
            self._reported = now
            connector.report(positions.received)
        due = self._reported + self._interval - now
        if limit is not None:
            due = min(due, away + limit - now + 0.01)
        return max(0.01, min(due, self._interval / 2))


class _Trouble:
    """A series of attempts to connect again.

    Args:
        since: When the connection was lost.
        received: What had been received then.

    Attributes:
        error: How it was lost, or why the last attempt failed.
    """

    error: ServerError

    def __init__(self, since: float, received: LSN) -> None:
        self.since = since
        self.received = received
        self.attempts = 0

    def failed(self, error: ServerError) -> None:
        """Keep the error, without the frames it came through: they hold on to the stream."""
        error.__traceback__ = error.__context__ = None
        self.error = error

    def next_delay(self, chance: random.Random) -> float:
        """Seconds to wait before the next attempt: twice as long each time, up to a bound,
        and less by chance, so that many consumers do not come all at once."""
        longest: float = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(self.attempts, 20))
        self.attempts += 1
        return longest * chance.uniform(0.5, 1.0)


def _looking(pgconn: PGconn, types: frozenset[int]) -> PQGen[list[slots.Row]]:
    """Look types up in the catalog, for a bounded time."""
    if pgconn.parameter_status(b"server_encoding") == b"SQL_ASCII":
        # Names of no known encoding: the server would refuse to take them for UTF-8.
        yield from slots.execute(pgconn, "SET client_encoding = 'SQL_ASCII'")
    yield from slots.begin(pgconn, catalog_query(types).as_string(None))
    rows = yield from slots.answer(pgconn, _LOOK_SECONDS)
    if rows is None:
        raise psycopg.OperationalError(f"no answer within {_LOOK_SECONDS:.0f} s")
    return rows


def _interrupted() -> ServerError:
    return faults.passing(
        ConnectionLost(
            "the stream was interrupted",
            "start again: it goes on after the last acknowledged transaction",
        )
    )


def _listed(types: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(types)))


def _sentence(error: ServerError) -> str:
    return error.message or type(error).__name__
