"""The connection: bytes from the server, status updates to it. No decoding, no policy.

Everything that may wait is a short generator that yields psycopg's wait states, or steps, so
that one protocol serves a blocking and an asyncio caller; ``steps.py`` holds the two waiters.
Once the stream has started a second thread sends status updates, too. libpq does not allow
two threads at one connection, so each takes the lock for calls that do not wait.

Source: "Streaming Replication Protocol" in the PostgreSQL documentation, and
``src/backend/replication/walsender.c``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Collection
from typing import Any, Final, NoReturn

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait

from . import faults, slots
from .config import Config
from .drain import drain
from .errors import (
    ConnectionLost,
    PublicationNotFound,
    ServerError,
    SlotLost,
)
from .lsn import LSN
from .messages import Payload
from .steps import Pause, Steps
from .types import TypeInfo
from .types.catalog import catalog_query, parse_catalog

OLDEST_SERVER: Final = 140000

# What the walsender's session makes of a value in text depends on these; a database or a
# role may set them otherwise. Where a name of an object stands for it (``regclass``), it comes
# with its schema, so that it means the same elsewhere.
_PINNED: Final = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "search_path": "",
    "quote_all_identifiers": "off",
}

# So that a peer that has silently gone is noticed in about a minute.
_KEEPALIVE: Final = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_CONNECT_SECONDS: Final = 10

_STATUS: Final = struct.Struct(">cQQQqB")
_POSTGRES_EPOCH: Final = 946_684_800  # 2000-01-01 in Unix seconds
_XLOGDATA: Final = ord("w")
_KEEPALIVE_MESSAGE: Final = ord("k")
_CHUNK: Final = 4096  # payloads taken out of libpq at once, at most
_PIECE: Final = 256  # payloads handed on at once, at most
_BACKLOG: Final = 16  # pieces that are taken in before they are handed on, or about so many
_BUFFER: Final = 2**17 - 2**10  # bytes that libpq can take from the socket at once
_BUSY: Final = 20  # payloads in a millisecond from which on the stream is busy
_REST_SECONDS: Final = 0.0005  # between two readings of a busy stream, at least
_REST_SECONDS_LOCAL: Final = 0.0003  # over a Unix socket, which is full in half a millisecond
_GATHER_SECONDS: Final = 0.001  # for which a busy stream may make up one piece
_HELD_SECONDS: Final = 5.0  # how long a slot that another connection holds is waited for
_END_SECONDS: Final = 5.0  # how long the server may take to end the stream


def replication_conninfo(config: Config) -> str:
    """The connection string of a replication connection, session settings pinned."""
    given = conninfo_to_dict(config.conninfo)
    options = given.get("options") or os.environ.get("PGOPTIONS", "")
    pinned = " ".join(f"-c {name}={value}" for name, value in _PINNED.items())
    defaults: dict[str, str] = {}
    if "service" not in given and "PGSERVICE" not in os.environ:  # which may set them
        defaults |= _KEEPALIVE
        if "PGCONNECT_TIMEOUT" not in os.environ:
            defaults["connect_timeout"] = str(_CONNECT_SECONDS)
    return make_conninfo(
        config.conninfo,
        replication="database",
        client_encoding="UTF8",
        fallback_application_name="pgstream",
        options=f"{options} {pinned}".strip(),
        **{name: value for name, value in defaults.items() if name not in given},
    )


def ordinary_conninfo(config: Config, pgconn: PGconn) -> str:
    """The same, for a connection that is not one of replication, to the server that ``pgconn`` is
    connected to: the DSN may name several, and a name may have several addresses."""
    parameters: dict[str, Any] = conninfo_to_dict(replication_conninfo(config))
    del parameters["replication"]
    return make_conninfo(
        **parameters
        | {"host": pgconn.host.decode(), "port": pgconn.port.decode()}
        | {"hostaddr": pgconn.hostaddr.decode() or None}  # None: over a Unix socket
    )


class Connector:
    """One replication connection of a stream.

    Args:
        pgconn: An open connection, made with :func:`replication_conninfo`.
        config: The settings of the stream.
        binary: Whether to ask for the binary transfer.

    Attributes:
        system: What the server says of itself, once it was asked.
        silence: Seconds after which the server wants to hear from us, at the latest;
            ``None`` if it does not care.
        heard: The server's position, as last heard.
        types: The types of the publications' columns that are not built in.
        in_hand: Whether :meth:`receive` has stopped, or was called off, with payloads that are
            neither libpq's any more nor here yet.
    """

    system: slots.System

    def __init__(self, pgconn: PGconn, config: Config, *, binary: bool) -> None:
        self.pgconn = pgconn
        self.config = config
        self.binary = binary
        self.types: list[TypeInfo] = []
        self.silence: float | None = None
        self.heard = LSN(0)
        self.in_hand = False
        self._lock = threading.Lock()
        self._flushed = LSN(0)  # what the server was told over this connection
        self._unsent = False  # libpq holds bytes that the socket did not take yet
        self._skipped: str | None = None  # what the server says of data it leaves out
        self._broken: psycopg.OperationalError | None = None
        self._ended = False  # no more CopyData will come
        self._left = False
        local = pgconn.host[:1] in (b"/", b"@")
        self._pace = _Pace(_REST_SECONDS_LOCAL if local else _REST_SECONDS)
        self._backlog: deque[list[Payload]] = deque()  # taken in, and not handed on yet

    def on_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """Take a notice of the server; one that tells of skipped data becomes an error."""
        # PostgreSQL 18 skips a publication that is not there at the position being
        # decoded, and with it the changes: with this warning and nothing else.
        if notice.sqlstate == "55000":
            self._skipped = notice.message_primary or ""

    # Before the stream

    def prepare(self) -> PQGen[slots.Slot | None]:
        """Check the server's set-up, make the publications where asked, find the slot.

        Raises:
            ServerError: if something is missing, with what to do about it.
        """
        with faults.translated(self.config):
            yield from self._check_server()
            self.system = yield from slots.identify(self.pgconn)
            if self.system.in_recovery:
                faults.require_readable_standby(self.pgconn.server_version)
            found = yield from slots.find_slots(self.pgconn, self.config.slot)
            slot = found[0] if found else None
            if slot is not None:  # first: in another database there are other publications
                self._check_slot(slot)
            yield from self._check_publications(slot)
            if self.config.values == "typed":
                yield from self._read_types()
            return slot

    def _read_types(self) -> PQGen[None]:
        publications = self.config.publications
        rows = yield from slots.query(self.pgconn, catalog_query(publications=publications))
        self.types = parse_catalog(rows)

    def _check_server(self) -> PQGen[None]:
        version = self.pgconn.server_version
        if version < OLDEST_SERVER:
            raise ServerError(
                f"the server is PostgreSQL {version // 10000}",
                "pgstream reads from PostgreSQL 14 and later",
            )
        self._options()  # refuses what this version cannot do before anything is created
        rows = yield from slots.query(
            self.pgconn,
            "SELECT name, setting FROM pg_catalog.pg_settings"
            " WHERE name IN ('wal_level', 'wal_sender_timeout', 'server_encoding')",
        )
        settings = {name: setting for name, setting in rows}  # noqa: C416
        faults.require_logical(settings["wal_level"])
        if settings["server_encoding"] == "SQL_ASCII":
            # Bytes of no known encoding: asked for UTF-8, the server would refuse those
            # that are not, and the stream could never pass them.
            yield from slots.query(self.pgconn, "SET client_encoding = 'SQL_ASCII'")
        timeout = int(settings["wal_sender_timeout"] or 0) / 1000
        self.silence = timeout or None

    def _check_publications(self, slot: slots.Slot | None) -> PQGen[None]:
        config = self.config
        missing = yield from slots.missing_publications(self.pgconn, config.publications)
        for name in missing:
            statement = slots.create_publication_sql(name, config.table_names)
            if self.system.in_recovery:
                raise PublicationNotFound(
                    f"publication {name!r} is not in database {self._database()!r},"
                    " and this server is a standby",
                    f"on the primary: {statement.as_string(None)};",
                )
            if not config.create_publication:
                create = f"{statement.as_string(None)};  -- or let --create-publication do it"
                raise PublicationNotFound(
                    f"publication {name!r} is not in database {self._database()!r}",
                    create if slot is None else faults.PUBLICATION_HINT,
                )
            yield from slots.query(self.pgconn, statement)
            self.config.tell(f"created publication {name}")

    def _check_slot(self, slot: slots.Slot) -> None:
        if slot.plugin != "pgoutput":
            kind = f"uses the plugin {slot.plugin!r}" if slot.plugin else "is a physical one"
            raise ServerError(
                f"slot {slot.name!r} {kind}, pgstream reads pgoutput", "name another slot"
            )
        if slot.database != self._database():
            raise ServerError(
                f"slot {slot.name!r} belongs to database {slot.database!r},"
                f" this is {self._database()!r}",
                "connect to that database, or name another slot",
            )
        if slot.synced and self.system.in_recovery:
            raise faults.passing(
                ServerError(
                    f"slot {slot.name!r} is kept in step with the primary's on this standby, and"
                    " cannot be read before the standby is promoted",
                    "connect to the primary",
                )
            )
        if slot.wal_status == "lost":
            raise SlotLost(
                f"slot {slot.name!r} was invalidated ({slot.invalidation_reason or 'wal_removed'}):"
                f" changes after {slot.confirmed_flush_lsn} are lost to it",
                f"pgstream slot drop {slot.name}, then start with a copy of the tables: --snapshot",
            )

    def start(self, position: LSN, ours: Collection[int] = ()) -> PQGen[None]:
        """Start the stream. A slot that is held is waited for, briefly, and that is told: after
        a disconnect the server takes a moment to notice.

        Args:
            position: What lies before is not sent again; 0/0 for where the slot stands.
            ours: Server processes that were ours. One that holds the slot is waited for by
                trying again, for as long as that is done.

        Raises:
            SlotInUse: if it is still held, with the process that holds it.
        """
        config = self.config
        options = ", ".join(f"{name} {literal(value)}" for name, value in self._options().items())
        command = f"START_REPLICATION SLOT {config.slot} LOGICAL {position} ({options})"
        deadline = time.monotonic() + _HELD_SECONDS
        pause = 0.05
        told = released = False
        while True:
            with faults.translated(config):
                try:
                    yield from self._start(command)
                    return
                except psycopg.errors.ObjectInUse:
                    late = time.monotonic() > deadline
                    if late or not told:
                        found = yield from slots.find_slots(self.pgconn, config.slot)
                        pid = found[0].active_pid if found else None
                        error = faults.in_use(config.slot, pid, ours=pid in ours)
                        if late and found and pid is None and not released:
                            released = True  # in this moment: once more
                            continue
                        if late:
                            raise error from None
                        if pid is not None:
                            told = True
                            self.config.tell(f"{error.message}; waiting {_HELD_SECONDS:g} s for it")
                yield from self._pause(pause)
            pause = min(2 * pause, 1.0)

    def _start(self, command: str) -> PQGen[None]:
        # libpq's buffer grows to what it once had to hold, and stays. With the 16 KiB that it
        # begins with, each 16 KiB of the stream would take a system call.
        yield from slots.query(self.pgconn, f"SELECT pg_catalog.repeat(' ', {_BUFFER})")
        result = yield from slots.execute(self.pgconn, command)
        if result.status != ExecStatus.COPY_BOTH:
            raise ServerError(f"unexpected answer to START_REPLICATION: {result.status}")

    def _options(self) -> dict[str, str]:
        """The options of pgoutput: the lowest protocol version that has what is asked for."""
        config, version = self.config, self.pgconn.server_version
        protocol = 1
        options = {}
        if self.binary:
            options["binary"] = "true"
        if config.messages:
            options["messages"] = "true"
        if config.origin == "none":
            faults.require_version(version, 16, "--origin none")
            options["origin"] = "none"
        if config.streaming == "on":
            protocol = 2
            options["streaming"] = "true"
        if config.two_phase:
            faults.require_version(version, 15, "--two-phase")
            protocol = 3
            options["two_phase"] = "true"
        if config.streaming == "parallel":
            faults.require_version(version, 16, "--streaming parallel")
            protocol = 4
            options["streaming"] = "parallel"
        names = ",".join(quoted(name) for name in config.publications)
        return {"proto_version": str(protocol), "publication_names": names} | options

    # The stream

    def gather(self) -> Steps[None]:
        """Let a busy stream make up one piece, for a moment: each costs us about as much as
        decoding twenty rows. What is under way is read without asking whether it has come."""
        deadline = time.monotonic() + _GATHER_SECONDS
        more = self._pace.is_busy and not self._backlog
        while more and self._broken is None and time.monotonic() < deadline:
            rest = self._pace.rest()
            if rest > 0:
                yield Pause(rest)
            self._take_in(Ready.R)
            more = self._drain() and len(self._backlog) == 1

    def receive(self) -> PQGen[None]:
        """Receive payloads, for :meth:`take`; wait for one tick of the waiter if there are none.

        It hands over nothing itself: whoever waits for it may be called off when it is done.

        Raises:
            ServerError: if the server ended the stream, with its reason.
        """
        self.in_hand = True
        if self._backlog:
            self._read_ahead()
        waited = False
        while not self._backlog and not self._drain():
            if self._skipped is not None:
                # What came with it must not be handed on: what follows must not be confirmed.
                raise PublicationNotFound(
                    f"the server leaves out changes: {self._skipped}", faults.PUBLICATION_HINT
                )
            if self._ended:
                yield from self._raise_reason()
            if self._broken is not None:
                self._lost(str(self._broken))
            if waited:
                break
            self.in_hand = False
            ready: int = yield Wait.RW if self._unsent else Wait.R
            self.in_hand = True
            waited = not ready & Ready.R
            if ready:
                self._take_in(ready)
        self.in_hand = False

    def take(self) -> list[Payload]:
        """The payloads that were received, the first of them where there are many."""
        return self._backlog.popleft() if self._backlog else []

    def _read_ahead(self) -> None:
        """Take in what arrived while earlier payloads were handled.

        The server sends a transaction in one go once it has read all of it. The socket holds a
        few hundred rows: if they were left there, it would wait for us to handle them, and then
        we for it to read on.
        """
        if len(self._backlog) < _BACKLOG and self._broken is None and self._pace.rest() <= 0:
            self._take_in(Ready.R)
            self._drain()

    def _take_in(self, ready: int) -> None:
        """Let libpq read, and write what the socket did not take; neither waits."""
        self._pace.reads()
        try:
            with self._lock:
                if self._unsent:
                    self._unsent = self.pgconn.flush() != 0
                if ready & Ready.R:
                    self.pgconn.consume_input()
        except psycopg.OperationalError as error:
            # What had come before is handed on first, and may hold the reason.
            self._broken = error

    def _drain(self) -> bool:
        """Add what libpq has received and can give to the backlog; whether there was any."""
        if self._ended:
            return False
        with self._lock:
            chunk, size = drain(self.pgconn, _CHUNK)
            if size == -2:
                reason = self.pgconn.get_error_message("utf-8")
                self._broken = psycopg.OperationalError(reason)
        self._ended = size == -1
        self._pace.took(len(chunk))
        if not chunk or self._skipped is not None:
            return False
        self._hear(chunk[-1])
        start = 0
        if self._backlog:  # the last piece may have room
            start = _PIECE - len(self._backlog[-1])
            self._backlog[-1].extend(chunk[:start])
        self._backlog.extend(chunk[at : at + _PIECE] for at in range(start, len(chunk), _PIECE))
        return True

    def _hear(self, payload: Payload) -> None:
        """Note the server's position, which stands in the header of what it sends."""
        at = {_XLOGDATA: 9, _KEEPALIVE_MESSAGE: 1}.get(payload[0]) if len(payload) > 16 else None
        if at is not None:
            self.heard = max(self.heard, LSN(int.from_bytes(payload[at : at + 8], "big")))

    def report(self, received: LSN, flushed: LSN | None = None, *, reply: bool = False) -> None:
        """Send a standby status update, without waiting. Any thread may.

        Args:
            received: What has arrived; shown in ``pg_stat_replication``, moves nothing.
            flushed: The end of what is handled: the slot moves here. By default it stays.
            reply: Ask for a keepalive in return.
        """
        now = round((time.time() - _POSTGRES_EPOCH) * 1_000_000)
        with self._lock:
            if self._left:
                return
            flush = self._flushed = max(self._flushed, flushed or LSN(0))
            message = _STATUS.pack(b"r", max(received, flush), flush, flush, now, reply)
            try:
                self.pgconn.put_copy_data(message)
                self._unsent = self.pgconn.flush() != 0
            except psycopg.OperationalError as error:
                self._broken = error  # receive() hands on what came before, then raises

    def hang_up(self, reason: str) -> None:
        """Give the connection up, so that the server sees it gone. Any thread may."""
        with self._lock:
            if self._left:
                return
            self._broken = psycopg.OperationalError(reason)
            with (
                contextlib.suppress(OSError, psycopg.Error),
                socket.socket(fileno=os.dup(self.pgconn.socket)) as twin,
            ):
                twin.shutdown(socket.SHUT_RDWR)

    def finish(self) -> PQGen[None]:
        """End the stream in good order: the server has released the slot when this returns.
        A server that does not answer is not waited for longer than a few seconds.
        """
        deadline = time.monotonic() + _END_SECONDS
        pgconn = self.pgconn
        with self._lock:
            self._left = True  # from here on no other thread touches it
        pgconn.put_copy_end()
        while pgconn.flush() != 0 and time.monotonic() < deadline:
            # The server may be waiting for us to read before it reads.
            if (yield Wait.RW) & Ready.R:
                pgconn.consume_input()
        while (size := pgconn.get_copy_data(1)[0]) >= 0:
            # What still arrives was not asked for any more; it comes again.
            if time.monotonic() > deadline:
                return
            if size == 0 and (yield Wait.R):
                pgconn.consume_input()
        while time.monotonic() < deadline:
            if pgconn.is_busy():
                if (yield Wait.R):
                    pgconn.consume_input()
            elif pgconn.get_result() is None:
                return

    def close(self) -> None:
        """Close the connection, as it is."""
        with self._lock:
            self._left = True
            self.pgconn.finish()

    def idle(self) -> PQGen[None]:
        """Wait for one tick of the waiter, before the stream is started."""
        if (yield Wait.R):
            self.pgconn.consume_input()

    def _pause(self, seconds: float) -> PQGen[None]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (yield Wait.R):
                self.pgconn.consume_input()

    def _raise_reason(self) -> PQGen[None]:
        """Find out why the server ended the stream, and raise it."""
        with faults.translated(self.config, streaming=True):
            slots.check((yield from generators.fetch_many(self.pgconn)))
        self._lost("the server ended the stream, as it does when it shuts down")

    def _lost(self, reason: str) -> NoReturn:
        raise faults.passing(
            ConnectionLost(
                f"lost the connection to the server:"
                f" {self.config.redact(' '.join(reason.split()))}",
                "start again: it goes on after the last acknowledged transaction",
            )
        ) from None

    def _database(self) -> str:
        return self.pgconn.db.decode()


class _Pace:
    """Larger gulps from a busy stream.

    The server sends each message by itself, and one that finds us waiting wakes us: that
    costs both sides more than the message does. So a busy stream is not read again before a
    moment has passed, in which more gathers. On any other we wait, and nothing is delayed.

    Args:
        rest: Seconds between two readings of a busy stream, at least.

    Attributes:
        is_busy: Whether much has come lately.
    """

    def __init__(self, rest: float) -> None:
        self.is_busy = False
        self._rest = rest
        self._since = 0.0
        self._count = 0
        self._read = 0.0  # when the socket was read last

    def took(self, count: int) -> None:
        """Note how many payloads there were."""
        self._count += count
        now = time.monotonic()
        if now - self._since >= 0.002:
            self.is_busy = self._count >= _BUSY * 1000 * (now - self._since)
            self._since, self._count = now, 0

    def rest(self) -> float:
        """How many seconds more are left to gather in; 0 or less if it is time to read."""
        return self._read + self._rest - time.monotonic()

    def reads(self) -> None:
        """Note that the socket is read."""
        self._read = time.monotonic()


def literal(text: str) -> str:
    """A string of the replication grammar, which knows no escapes but the doubled quote."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """An identifier, exactly as it is."""
    return '"' + name.replace('"', '""') + '"'
