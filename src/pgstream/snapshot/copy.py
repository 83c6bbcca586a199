"""The connections and threads that read the tables, and the queue that they fill."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg
from psycopg import generators, sql, waiting
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from .. import faults
from ..config import Config
from ..decoder import Decoder
from ..errors import ConnectionLost, ServerError
from ..messages import Relation
from ..slots import check, rows_of
from ..types.catalog import Catalog, catalog_query, needs_text, parse_catalog
from .plan import Part, Plan, SnapshotStale, check_unchanged, lock_tables, make_plan
from .progress import Meter, SnapshotProgress
from .rows import TextRows

T = TypeVar("T")

_BATCH_BYTES: Final = 256 * 1024  # of what the server sent
_BATCH_ROWS: Final = 2000
_TICK: Final = 0.2  # seconds between looks at whether it is to stop
_JOIN_SECONDS: Final = 2.0  # to wait for the threads, which see it within a tick

# A database or a role may have set any of these. Rows that a policy would hide are an
# error: left out in silence they would be missing for good.
_SESSION: Final = (
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off"
)


@dataclass(frozen=True)
class Batch:
    """Rows of one table, as they are handed out."""

    relation: Relation
    rows: list[Any]


@dataclass(frozen=True)
class _Read:
    """What a thread has read of a part; ``last``: there is no more of it."""

    index: int
    part: Part
    rows: list[Any]
    size: int
    last: bool


class Copy:
    """One copy of all published tables, as one snapshot shows them.

    It blocks where it waits: an asyncio caller runs its methods in threads, but for
    ``close()``, which is over soon.

    Args:
        config: The settings of the stream; ``snapshot_jobs`` connections read at once.
        conninfo: How to connect, the settings of the session included.
        snapshot: The name of the exported snapshot.
        make_decoder: Makes a decoder with the settings of the stream, and these types.
        binary: Read values in binary, as the stream does.

    Attributes:
        relations: What is copied, once it is open.
    """

    def __init__(
        self,
        config: Config,
        conninfo: str,
        snapshot: str,
        make_decoder: Callable[[Catalog], Decoder],
        *,
        binary: bool,
    ) -> None:
        self.relations: tuple[Relation, ...] = ()
        self._config = config
        self._conninfo = conninfo
        self._snapshot = snapshot
        self._make_decoder = make_decoder
        self._catalog = Catalog()
        self._binary = binary
        self._ascii = False  # the server does not know the encoding of its texts
        self._meter = Meter(Plan())
        self._parts: Iterator[tuple[int, Part]] = iter(())
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._working = 0
        self._queue: queue.Queue[_Read | BaseException | None] = queue.Queue(
            2 * config.snapshot_jobs
        )
        self._stopped = threading.Event()

    def open(self) -> None:
        """Connect, take on the snapshot, find out what there is to copy, begin to read.

        Raises:
            ServerError: if the server refuses; ``transient`` if it may not the next time.
        """
        with contextlib.ExitStack() as stack, self._failures():
            first = stack.enter_context(contextlib.closing(self._connect()))
            plan = make_plan(first, self._config.publications)
            with contextlib.closing(self._link()) as outside:
                check_unchanged(first, outside, self._config.publications, plan)
            self._learn_types(first, plan)
            connections = [first]
            while len(connections) < min(self._config.snapshot_jobs, len(plan.parts)):
                connections.append(stack.enter_context(contextlib.closing(self._connect())))
                lock_tables(connections[-1], plan.stored)
            stack.pop_all()
        self.relations = plan.relations
        self._meter = Meter(plan)
        self._parts = iter(enumerate(plan.parts))
        self._working = len(connections)
        self._threads = [
            threading.Thread(target=self._work, args=[connection], daemon=True, name="snapshot")
            for connection in connections
        ]
        for thread in self._threads:
            thread.start()

    def take(self, seconds: float) -> Batch | None:
        """The next rows; none of them if nothing has come for so long, ``None`` at the end.

        Raises:
            ServerError: what ended the reading.
        """
        deadline = time.monotonic() + seconds
        while self._working:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return _NOTHING
            if item is None:
                self._working -= 1
            elif isinstance(item, _Read):
                self._meter.count(item.index, item.part, len(item.rows), item.size, last=item.last)
                return Batch(item.part.relation, item.rows)
            else:
                raise item
        return None

    def progress(self) -> SnapshotProgress:
        """How far it has come with what was handed out."""
        return self._meter.progress()

    def close(self) -> None:
        """Stop reading, wherever it stands: within a fraction of a second, as a rule. Does
        nothing if it is closed."""
        self._stopped.set()
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads.clear()

    # Before the threads

    def _connect(self) -> psycopg.Connection[Any]:
        connection = self._link()
        try:
            self._take_on_snapshot(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _link(self) -> psycopg.Connection[Any]:
        try:
            connection = psycopg.connect(self._conninfo, autocommit=True)
        except psycopg.Error as error:
            raise faults.turned_away(error, self._config) from None
        try:
            connection.execute(_SESSION)
            if connection.info.server_version >= 170000:
                connection.execute("SET transaction_timeout = 0")
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_on_snapshot(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        name = sql.Literal(self._snapshot)
        try:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(name))
        except (
            psycopg.errors.UndefinedObject,
            psycopg.errors.InvalidParameterValue,  # the same, before 17
            psycopg.errors.ObjectNotInPrerequisiteState,  # its session is just ending
        ) as error:
            raise SnapshotStale(
                f"the connection of its slot was lost: {error.diag.message_primary}"
            ) from None

    def _learn_types(self, connection: psycopg.Connection[Any], plan: Plan) -> None:
        types = {column.type_oid for table in plan.relations for column in table.columns}
        encoding = connection.execute("SHOW server_encoding").fetchone()
        self._ascii = encoding == ("SQL_ASCII",)
        self._ask_for_bytes(connection)
        result = connection.pgconn.exec_(catalog_query(types).as_bytes(connection))
        check([result])
        self._catalog.add(parse_catalog(rows_of(result)))
        # Where the stream has to be text, the copy is: so the same value is the same in both.
        self._binary = self._binary and not needs_text(self._catalog, types)

    def _ask_for_bytes(self, connection: psycopg.Connection[Any]) -> None:
        """Have texts of no known encoding sent as they are: the server refuses to take them
        for UTF-8."""
        if self._ascii:
            connection.execute("SET client_encoding = 'SQL_ASCII'")

    # In the threads

    def _work(self, connection: psycopg.Connection[Any]) -> None:
        try:
            with contextlib.closing(connection), self._failures():
                self._ask_for_bytes(connection)
                decoder = self._make_decoder(self._catalog)
                while not self._stopped.is_set():
                    with self._lock:
                        index, part = next(self._parts, (-1, None))
                    if part is None:
                        break
                    self._read(connection, decoder, index, part)
        except _Stopped:
            pass
        except BaseException as error:
            self._say(error)
        else:
            self._say(None)

    def _read(
        self, connection: psycopg.Connection[Any], decoder: Decoder, index: int, part: Part
    ) -> None:
        pieces: list[bytes] = []
        size = 0
        as_text = None if self._binary else TextRows(decoder, part.relation)

        def rows() -> list[Any]:
            if as_text is not None:
                return as_text(pieces)
            return decoder.copy_rows(part.relation, b"".join(pieces))

        pgconn = connection.pgconn
        statement = part.statement(binary=self._binary).as_bytes(connection)
        pgconn.send_query(statement)
        check(self._wait(pgconn, generators.execute(pgconn)))
        while (piece := self._next(pgconn)) is not None:
            pieces.append(piece)
            size += len(piece)
            if size >= _BATCH_BYTES or len(pieces) >= _BATCH_ROWS:
                self._put(_Read(index, part, rows(), size, last=False))
                pieces.clear()
                size = 0
        self._put(_Read(index, part, rows(), size, last=True))

    def _next(self, pgconn: PGconn) -> bytes | None:
        """The next piece of the COPY, which is a row; ``None`` at its end."""
        while True:
            size, data = pgconn.get_copy_data(1)
            if size > 0:
                return bytes(data)
            if size < 0:
                check(self._wait(pgconn, generators.fetch_many(pgconn)))
                return None
            self._wait(pgconn, _readable(pgconn))

    def _wait(self, pgconn: PGconn, generator: PQGen[T]) -> T:
        """Wait for what the generator waits for, until it is to stop."""
        return waiting.wait(self._until_stopped(generator), pgconn.socket, interval=_TICK)

    def _until_stopped(self, generator: PQGen[T]) -> PQGen[T]:
        try:
            state = next(generator)
            while True:
                ready = yield state
                if not ready and self._stopped.is_set():
                    raise _Stopped
                state = generator.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    def _say(self, end: BaseException | None) -> None:
        """Hand over how it ended, if anyone still listens."""
        with contextlib.suppress(_Stopped):
            self._put(end)

    def _put(self, item: _Read | BaseException | None) -> None:
        """Hand something over; wait while the queue is full, until it is to stop."""
        while True:
            try:
                self._queue.put(item, timeout=_TICK)
                return
            except queue.Full:
                if self._stopped.is_set():
                    raise _Stopped from None

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Raise what stands in the way of the copy as an error of this package."""
        try:
            yield
        except SnapshotStale as error:
            raise faults.passing(
                ServerError(f"the copy cannot go on: {error}", "it starts again")
            ) from None
        except (
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,  # a standby had to replay what changes a table
        ) as error:
            reason = self._config.redact(error.diag.message_primary or "deadlock")
            raise faults.passing(
                ServerError(f"the copy cannot go on: {reason}", "it starts again")
            ) from None
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError) and not error.sqlstate:
                raise faults.passing(
                    ConnectionLost(
                        "lost a connection that the copy was read over: "
                        + self._config.redact(" ".join(str(error).split())),
                        "the copy starts again",
                    )
                ) from None
            raise faults.refused(error, self._config) from None


def _readable(pgconn: PGconn) -> PQGen[None]:
    """Wait for what arrives, or for a tick."""
    yield Wait.R
    pgconn.consume_input()


class _Stopped(Exception):
    """The copy is to stop."""


_NOTHING: Final = Batch(Relation(0, "", "", "n", ()), [])
