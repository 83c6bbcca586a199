"""The demo: a PostgreSQL server of its own, a shop that is busy, and its changes as they come."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, Literal, Self, TextIO

import psycopg

from .embedded import Server
from .handlers.console import ConsoleHandler
from .handlers.jsonlines import JSONLinesHandler
from .lsn import LSN
from .messages import Commit, Delete, Event, Insert, Truncate, Update
from .slots import find_slots
from .stream import connect
from .types import JSONText

_SLOT: Final = "pgstream_demo"
_KINDS: Final = ("insert", "update", "delete", "truncate")

_SCHEMA: Final = """
CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL, email text NOT NULL, address jsonb, newsletter boolean NOT NULL,
    since timestamptz NOT NULL DEFAULT now());
ALTER TABLE customers REPLICA IDENTITY FULL;  -- updates and deletes show the whole old row
CREATE TABLE products (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL, price numeric(10, 2) NOT NULL, stock int NOT NULL, tags text[],
    description text);
ALTER TABLE products ALTER description SET STORAGE EXTERNAL;  -- TOASTed, not compressed
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL, status text NOT NULL, placed timestamptz NOT NULL DEFAULT now());
CREATE TABLE order_items (
    order_id bigint, line int, product_id bigint NOT NULL, quantity int NOT NULL,
    price numeric(10, 2) NOT NULL, PRIMARY KEY (order_id, line));
CREATE TABLE visits (
    id bigint GENERATED ALWAYS AS IDENTITY, page text NOT NULL, milliseconds float8 NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE PUBLICATION pgstream_demo FOR ALL TABLES;
"""

_NAMES: Final = ("Ada", "Bum", "Chidi", "Dilşad", "Edith", "Fatou", "Grace", "Héctor", "Ines")
_CITIES: Final = ("Aarhus", "Dhaka", "Kraków", "Lagos", "Lima", "Osaka", "Torino", "Zürich")
_GOODS: Final = ("teapot", "lamp", "kettle", "notebook", "umbrella", "backpack")
_WORDS: Final = ("a", "sturdy", "quiet", "little", "thing", "that", "lasts", "and", "pleases")


class Workload:
    """What goes on in the shop: transactions in a thread of its own, until it is left.

    A context manager. The transactions come in rounds of eleven, four of them a second,
    one of which is a burst; the first round changes everything that can be changed.

    Args:
        dsn: The database, which must be empty.
        failed: Called (in the thread) when the shop has to close for an error.

    Attributes:
        error: That error.
    """

    PAUSE: Final = 0.25
    BURST: Final = 400

    def __init__(self, dsn: str, failed: Callable[[], None]) -> None:
        self.error: Exception | None = None
        self._dsn = dsn
        self._failed = failed
        self._random = random.Random(18)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pgstream-demo-workload")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        self._thread.join()

    @classmethod
    def prepare(cls, dsn: str) -> None:
        """Create the tables and their publication, and put the goods on the shelves."""
        with psycopg.connect(dsn) as connection:
            connection.execute(_SCHEMA)
            connection.cursor().executemany(
                "INSERT INTO products (name, price, stock, tags, description) "
                "VALUES (%s, %s, 500, %s, %s)",
                [
                    (name, f"{9 + 5 * i}.90", ["home", name], _description(name))
                    for i, name in enumerate(_GOODS)
                ],
            )

    def _run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                self._rounds(connection)
        except Exception as error:
            self.error = error
            self._failed()

    def _rounds(self, connection: psycopg.Connection[Any]) -> None:
        first = True
        while True:
            for step in (
                self._register,
                self._order,
                self._order,
                self._ship,
                self._move_house,
                self._visit,
                self._order,
                self._cancel,
                self._describe,
                self._rush,
                self._forget_visits,
            ):
                with connection.transaction():
                    step(connection)
                if self._closed.wait(self.PAUSE):
                    return
            if first:
                # From here on the rows of orders have a column more.
                connection.execute("ALTER TABLE orders ADD COLUMN note text DEFAULT 'be quick'")
                first = False

    def _register(self, connection: psycopg.Connection[Any]) -> None:
        name, city = self._random.choice(_NAMES), self._random.choice(_CITIES)
        connection.execute(
            "INSERT INTO customers (name, email, address, newsletter) VALUES (%s, %s, %s, %s)",
            [name, f"{name.lower()}@example.com", json.dumps({"city": city}), city < "M"],
        )

    def _order(self, connection: psycopg.Connection[Any]) -> None:
        """A new order. The stock of its products changes; their descriptions do not."""
        connection.execute(
            "INSERT INTO orders (customer_id, status) SELECT max(id), 'new' FROM customers"
        )
        basket = self._random.sample(range(1, len(_GOODS) + 1), self._random.randint(1, 3))
        for line, product in enumerate(basket, start=1):
            quantity = self._random.randint(1, 4)
            connection.execute(
                "INSERT INTO order_items SELECT max(o.id), %s, p.id, %s, p.price "
                "FROM orders o, products p WHERE p.id = %s GROUP BY p.id, p.price",
                [line, quantity, product],
            )
            connection.execute(
                "UPDATE products SET stock = stock - %s WHERE id = %s", [quantity, product]
            )

    def _ship(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("UPDATE orders SET status = 'shipped' WHERE status = 'new'")

    def _move_house(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            "UPDATE customers SET address = %s WHERE id = (SELECT max(id) FROM customers)",
            [json.dumps({"city": self._random.choice(_CITIES), "floor": 3})],
        )

    def _visit(self, connection: psycopg.Connection[Any], count: int = 3) -> None:
        connection.execute(
            "INSERT INTO visits (page, milliseconds) "
            "SELECT '/products/' || 1 + i %% %s, round((i * 7.3)::numeric %% 40, 1) "
            "FROM generate_series(1, %s) AS i",
            [len(_GOODS), count],
        )

    def _cancel(self, connection: psycopg.Connection[Any]) -> None:
        newest = "(SELECT max(id) FROM orders)"
        connection.execute(f"DELETE FROM order_items WHERE order_id = {newest}")
        connection.execute(f"DELETE FROM orders WHERE id = {newest}")

    def _describe(self, connection: psycopg.Connection[Any]) -> None:
        name = self._random.choice(_GOODS)
        connection.execute(
            "UPDATE products SET description = %s WHERE name = %s",
            [_description(f"new {name}"), name],
        )

    def _rush(self, connection: psycopg.Connection[Any]) -> None:
        """The burst: everyone looks at everything, and all prices change."""
        self._visit(connection, self.BURST)
        connection.execute("UPDATE products SET price = price * 1.01")

    def _forget_visits(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("TRUNCATE visits RESTART IDENTITY")


def _description(name: str) -> str:
    """Return a text that is long enough (2 kB) to be stored outside of its row."""
    words = random.Random(name)
    return f"The {name}: " + " ".join(words.choice(_WORDS) for _ in range(420))


class Progress:
    """Counts the changes, and says on ``err`` how it goes.

    On a terminal that is one line, written again and again; elsewhere a line from time
    to time. A context manager, which takes the line away in the end.
    """

    def __init__(self, err: TextIO) -> None:
        self.total = 0
        self.busiest = 0
        self._err = err
        self._terminal = err.isatty()
        self._interval = 0.1 if self._terminal else 5.0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._last_second: deque[float] = deque()
        self._started = self._shown = self._ended = time.monotonic()
        self._line_is_there = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hide()
        self._ended = time.monotonic()

    def count(self, event: Event) -> None:
        """Count the changes of an event: one for each row, and each truncated table."""
        match event:
            case Insert() | Update() | Delete():
                tables = [event.relation]
            case Truncate():
                tables = list(event.relations)
            case _:
                return
        now = time.monotonic()
        kind = type(event).__name__.lower()
        for table in tables:
            self._counts[f"{table.schema}.{table.table}", kind] += 1
            self._last_second.append(now)
            self.total += 1
        self.busiest = max(self.busiest, self._rate(now))

    def show(self, flushed: LSN) -> None:
        """Show the rate, if it is time to; ``flushed`` is what the server was told."""
        now = time.monotonic()
        if now - self._shown < self._interval:
            return
        self._shown = now
        line = (
            f"{now - self._started:5.1f} s  {self.total:,} events  {self._rate(now):,} events/s"
            f"  acknowledged {flushed}"
        )
        if self._terminal:
            self._err.write(f"\r\x1b[K{line}")
            self._line_is_there = True
        else:
            self._err.write(f"{line}\n")
        self._err.flush()

    def hide(self) -> None:
        """Take the line away, so that an event can stand in its place."""
        if self._line_is_there:
            self._err.write("\r\x1b[K")
            self._err.flush()
            self._line_is_there = False

    def summary(self) -> str:
        """Return what was counted, once it has ended."""
        seconds = self._ended - self._started
        lines = [
            f"{self.total:,} events in {seconds:.1f} s: {self.total / seconds:,.0f} events/s, "
            f"{self.busiest:,} in the busiest second",
            "",
            f"{'table':24}" + "".join(f"{kind:>10}" for kind in _KINDS),
        ]
        for table in sorted({table for table, _ in self._counts}):
            numbers = (self._counts[table, kind] for kind in _KINDS)
            lines.append(f"{table:24}" + "".join(f"{number:>10,}" for number in numbers))
        return "\n".join(lines)

    def _rate(self, now: float) -> int:
        while self._last_second and self._last_second[0] < now - 1:
            self._last_second.popleft()
        return len(self._last_second)


def run_demo(
    *,
    seconds: float | None = 20.0,
    events: int | None = None,
    out: TextIO,
    err: TextIO,
    output_format: Literal["text", "json"] = "text",
    colour: bool,
) -> None:
    """Start a server, let a shop be busy on it, show its changes, and remove everything.

    It ends by itself after ``seconds`` of streaming or ``events`` changes, whichever is
    first (``None``: no limit), and at SIGINT or SIGTERM.

    Args:
        seconds: For how long to show changes, not counting the start of the server.
        events: How many changes to show, exactly.
        out: Where the changes go, and nothing else.
        err: Where everything goes that is said to a person.
        output_format: For people (``text``) or one JSON object a line (``json``).
        colour: Whether to colour the text.

    Raises:
        PgstreamError: if there is no PostgreSQL to start, or it fails.
    """

    def say(text: str) -> None:
        err.write(f"{text}\n")
        err.flush()

    say("Starting a PostgreSQL server in a temporary directory ...")
    with Server.embedded() as server:
        dsn = server.dsn()
        Workload.prepare(dsn)
        say(f"It runs. To look at it from elsewhere meanwhile: psql '{dsn}'")
        handler = JSONLinesHandler(out) if output_format == "json" else ConsoleHandler(out, colour)
        one_terminal = out.isatty()
        stream = connect(dsn, slot=_SLOT, publication=_SLOT, json_loads=JSONText)
        with (
            stream,
            _stopped_by_signals(stream.stop),
            Workload(dsn, stream.stop) as workload,
            _stopped_after(seconds, stream.stop),
            Progress(err) as progress,
        ):
            for event in stream:
                if one_terminal:
                    progress.hide()
                handler(event)
                progress.count(event)
                if isinstance(event, Commit):
                    handler.flush()
                    stream.ack()
                    progress.show(stream.positions.flushed)
                if events is not None and progress.total >= events:
                    break
            handler.flush()
        if workload.error is not None:
            raise workload.error
        say(f"\n{progress.summary()}\n\n{_slot_status(dsn)}")
    say("The server and its files are removed.")


def _slot_status(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        found = connection.wait(find_slots(connection.pgconn, _SLOT))
    if not found:
        return f"slot {_SLOT}: gone"
    [slot] = found
    confirmed, lag = slot.confirmed_flush_lsn or LSN(0), slot.lag or 0
    return (
        f"slot {_SLOT}: acknowledged up to {confirmed}, the WAL ends at {LSN(confirmed + lag)}, "
        f"{lag:,} bytes further; {'inactive' if slot.active_pid is None else 'active'}"
    )


@contextlib.contextmanager
def _stopped_after(seconds: float | None, stop: Callable[[], None]) -> Iterator[None]:
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the stream; a second one does what it always does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    before = {
        number: former
        for number in (signal.SIGINT, signal.SIGTERM)
        if (former := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        stop()

    try:
        for number in before:
            signal.signal(number, on_signal)
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
