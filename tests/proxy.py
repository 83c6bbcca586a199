"""A TCP proxy between a client and PostgreSQL that does to their bytes what networks do."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


@dataclass(eq=False)
class _Direction:
    """Bytes on their way from one socket to the other, each with the time it is due."""

    source: socket.socket
    target: socket.socket
    from_server: bool
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    size: int = 0
    ended: bool = False  # the source has sent its last byte
    closed: bool = False  # and so has the target been told
    free_at: float = 0.0  # when a throttled line has room again


class Proxy:
    """Listens on a port of its own and passes everything on to a server.

    All of it may be changed at any time, from any thread.

    Args:
        dsn: A DSN of the server, for TCP.

    Attributes:
        delay: Seconds that each byte takes on its way.
        throttle: Bytes a second in each direction, at most; ``None`` for no limit.
        fragment: Pass on this many bytes at a time, at most.
        refuse: Close new connections at once.
        connections: How many connections were accepted.
        passed: How many bytes came from the server.
    """

    def __init__(self, dsn: str) -> None:
        parameters = conninfo_to_dict(dsn)
        self._server = str(parameters["host"]), int(str(parameters["port"]))
        self.delay = 0.0
        self.throttle: int | None = None
        self.fragment = 65536
        self.refuse = False
        self.connections = 0
        self.passed = 0
        self._stalled = False
        self._cut = False
        self._lost = False
        self._orphans: list[socket.socket] = []
        self._stopped = False
        self._directions: list[_Direction] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = True
        self._poke()
        self._thread.join()
        for direction in self._directions:
            direction.source.close()
        for socket_ in (self._listener, self._wake, self._woken, *self._orphans):
            socket_.close()

    def dsn_with(self, **parameters: Any) -> str:
        """The DSN that leads here, with these parameters."""
        return make_conninfo(self.dsn, **parameters)

    def cut(self) -> None:
        """Break all connections, now: both sides see a reset."""
        self._cut = True
        self._poke()
        while self._cut and self._thread.is_alive():
            time.sleep(0.001)

    def lose(self) -> None:
        """Break the clients' side of all connections; the server's stands as if nothing was."""
        self._lost = True
        self._poke()
        while self._lost and self._thread.is_alive():
            time.sleep(0.001)

    def stall(self) -> None:
        """Pass nothing on any more, and close nothing: the silence of a dead network."""
        self._stalled = True

    def resume(self) -> None:
        """Pass on again, what was held up first."""
        self._stalled = False
        self._poke()

    def _poke(self) -> None:
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopped:
                for key, _ in selector.select(self._patience()):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif key.fileobj is self._woken:
                        self._woken.recv(4096)
                    else:
                        self._take(selector, key.data)
                if self._lost:
                    self._leave_orphans(selector)
                    self._lost = False
                if self._cut:
                    self._reset(selector)
                    self._cut = False
                if not self._stalled:
                    for direction in list(self._directions):
                        self._pass_on(selector, direction)
                self._listen_again(selector)

    def _patience(self) -> float:
        return 0.002 if any(direction.waiting for direction in self._directions) else 0.05

    def _accept(self, selector: selectors.BaseSelector) -> None:
        client, _ = self._listener.accept()
        self.connections += 1
        if self.refuse:
            client.close()
            return
        try:
            server = socket.create_connection(self._server, timeout=10)
        except OSError:
            client.close()
            return
        for socket_ in (client, server):
            socket_.setblocking(False)
            socket_.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target in ((client, server), (server, client)):
            direction = _Direction(source, target, from_server=source is server)
            self._directions.append(direction)
            selector.register(source, selectors.EVENT_READ, direction)

    def _take(self, selector: selectors.BaseSelector, direction: _Direction) -> None:
        if direction not in self._directions:
            return  # closed a moment ago
        if self._stalled or direction.size > 1 << 20:
            selector.unregister(direction.source)  # so that the sender feels it
            return
        try:
            data = direction.source.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            direction.ended = True
            selector.unregister(direction.source)
            return
        direction.waiting.append((time.monotonic() + self.delay, data))
        direction.size += len(data)

    def _listen_again(self, selector: selectors.BaseSelector) -> None:
        if self._stalled:
            return
        for direction in self._directions:
            if (
                not direction.ended
                and direction.size <= 1 << 20
                and direction.source.fileno() not in selector.get_map()
            ):
                selector.register(direction.source, selectors.EVENT_READ, direction)

    def _pass_on(self, selector: selectors.BaseSelector, direction: _Direction) -> None:
        while direction.waiting:
            due, data = direction.waiting[0]
            now = time.monotonic()
            if now < due or now < direction.free_at:
                return
            size = self.fragment
            if self.throttle is not None:
                size = min(size, max(1, self.throttle // 100))
            try:
                sent = direction.target.send(data[:size])
            except BlockingIOError:
                return
            except OSError:
                self._drop(selector, direction)
                return
            if self.throttle is not None:
                direction.free_at = now + sent / self.throttle
            direction.size -= sent
            if direction.from_server:
                self.passed += sent
            if sent == len(data):
                direction.waiting.popleft()
            else:
                direction.waiting[0] = due, data[sent:]
        if direction.ended and not direction.closed:
            direction.closed = True
            with contextlib.suppress(OSError):
                direction.target.shutdown(socket.SHUT_WR)
            other = next(d for d in self._directions if d.source is direction.target)
            if other.closed:
                self._drop(selector, direction)

    def _drop(self, selector: selectors.BaseSelector, direction: _Direction) -> None:
        for one in [d for d in self._directions if direction.source in (d.source, d.target)]:
            self._directions.remove(one)
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(one.source)
            one.source.close()

    def _leave_orphans(self, selector: selectors.BaseSelector) -> None:
        for direction in list(self._directions):
            self._directions.remove(direction)
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(direction.source)
            if direction.from_server:
                self._orphans.append(direction.source)
            else:
                direction.source.close()

    def _reset(self, selector: selectors.BaseSelector) -> None:
        for direction in list(self._directions):
            with contextlib.suppress(OSError):
                # Lingering for no time is what makes the close a reset.
                direction.source.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                )
        for direction in list(self._directions):
            if direction in self._directions:
                self._drop(selector, direction)
