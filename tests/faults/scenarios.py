"""The faults. Each scenario breaks things for some rounds, and returns what the checker says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.checker import Verdict
from faults.rig import Rig
from pgstream.embedded import Server
from proxy import Proxy
from servers import Database


@dataclass(frozen=True)
class Place:
    """Where a scenario takes place.

    Attributes:
        database: The source: a database of a shared server, or of one of its own.
        server: Its server.
        target: Where ``postgres`` stores: a database of another server.
        folder: For files.
        rounds: How many times things are broken.
        seed: What happens, and when, follows from it.
    """

    database: Database
    server: Server
    target: Database
    folder: Path
    rounds: int
    seed: int

    def rig(self, kind: str, **settings: Any) -> Rig:
        target = self.target.dsn if kind == "postgres" else str(self.folder / "target")
        return Rig(self.database, kind, target, self.folder, self.seed, **settings)


Scenario = Callable[[Place, str], Verdict]


def consumer_killed(place: Place, kind: str) -> Verdict:
    """SIGKILL of the consumer, at any moment: starting, reading, storing, acknowledging."""
    with place.rig(kind) as rig:
        for _ in range(place.rounds):
            if rig.random.random() < 0.5:
                rig.make_progress()
            rig.sleep(0.5)
            rig.kill()
            rig.run()
        return rig.verdict()


def consumer_killed_streaming(place: Place, kind: str) -> Verdict:
    """SIGKILL of the consumer of large transactions, streamed, and rolled back in part."""
    options = {"connect": {"streaming": "on", "memory_limit": 100_000}}
    with place.rig(kind, options=options, large=1500) as rig:
        for _ in range(place.rounds):
            rig.make_progress()
            rig.sleep(0.5)
            rig.kill()
            rig.run()
        return rig.verdict()


def consumer_killed_in_snapshot(place: Place, kind: str) -> Verdict:
    """SIGKILL of the consumer while it copies, and while the stream follows."""
    options = {"connect": {"snapshot": True, "snapshot_jobs": 3}}
    rows = 20_000 if place.rounds < 10 else 300_000
    with place.rig(kind, options=options, rows=rows) as rig:
        for _ in range(place.rounds):
            rig.sleep(1.5)
            rig.kill()
            rig.run()
        rig.make_progress()
        rig.kill()
        return rig.verdict()


def server_crashes(place: Place, kind: str) -> Verdict:
    """The server ends as in a crash, and recovers."""
    with place.rig(kind) as rig:
        for _ in range(place.rounds):
            rig.make_progress()
            rig.sleep(0.3)
            place.server.restart("immediate")
        return rig.verdict()


def server_crashes_in_snapshot(place: Place, kind: str) -> Verdict:
    """The server crashes while the tables are copied."""
    options = {"connect": {"snapshot": True}}
    rows = 20_000 if place.rounds < 10 else 200_000
    with place.rig(kind, options=options, rows=rows) as rig:
        for _ in range(place.rounds):
            rig.sleep(1.5)
            rig.run()
            place.server.restart("immediate")
        return rig.verdict()


def connection_cut(place: Place, kind: str) -> Verdict:
    """The connection is reset, in the middle of whatever goes over it."""
    with Proxy(place.database.tcp_dsn) as proxy, place.rig(kind, through=proxy) as rig:
        for _ in range(place.rounds):
            rig.make_progress()
            rig.sleep(0.1)
            proxy.cut()
        return rig.verdict()


def network_silent(place: Place, kind: str) -> Verdict:
    """Nothing passes, nothing is said to have ended; later the connection is dead."""
    options = {"connect": {"silence_timeout": 1.0}}
    with (
        Proxy(place.database.tcp_dsn) as proxy,
        place.rig(kind, options=options, through=proxy) as rig,
    ):
        for _ in range(place.rounds):
            rig.make_progress()
            proxy.stall()
            before = proxy.connections
            rig.wait(lambda before=before: proxy.connections > before, "a new connection")  # type: ignore[misc]
            proxy.resume()
        return rig.verdict()


def network_bad(place: Place, kind: str) -> Verdict:
    """Delay, little bandwidth, single bytes, and now and then a cut."""
    with Proxy(place.database.tcp_dsn) as proxy, place.rig(kind, through=proxy) as rig:
        for _ in range(place.rounds):
            proxy.delay = rig.random.choice([0.0, 0.02, 0.1])
            proxy.throttle = rig.random.choice([None, 50_000, 500_000])
            proxy.fragment = rig.random.choice([1, 7, 1000])
            rig.sleep(0.7)
            if rig.random.random() < 0.3:
                proxy.cut()
        proxy.delay, proxy.throttle, proxy.fragment = 0.0, None, 65536
        return rig.verdict()


def handler_raises(place: Place, kind: str) -> Verdict:
    """The handler raises, and the process ends; it is started again."""
    with place.rig(kind, options={"raises": 0.002}) as rig:
        rig.wait(lambda: rig.restarts >= place.rounds, "the handler has raised so often")
        # Else it could raise for ever before the rest is through.
        rig.options["raises"] = 0.0
        rig.kill()
        return rig.verdict()


def handler_blocks(place: Place, kind: str) -> Verdict:
    """The handler blocks for longer than the server waits for a word (wal_sender_timeout)."""
    with place.rig(kind, options={"blocks": 0.001, "seconds": 1.5}) as rig:
        for _ in range(place.rounds):
            rig.sleep(0.5)
            rig.make_progress()
        rig.options["blocks"] = 0.0
        rig.kill()
        verdict = rig.verdict()
        assert "lost" not in rig.messages()
        return verdict


def disk_full(place: Place, kind: str) -> Verdict:
    """The server's disk is full; later there is space again."""
    filler = place.server.data / "filler"
    with place.rig(kind) as rig:
        for _ in range(place.rounds):
            rig.make_progress()
            fill(filler)
            before = rig.writers.failures
            deadline = time.monotonic() + 30
            while rig.writers.failures == before and time.monotonic() < deadline:
                fill(filler)
                time.sleep(0.01)
            assert rig.writers.failures > before
            rig.sleep(0.5)
            filler.unlink()
            place.server.stop("immediate")  # it may have given up by itself
            place.server.start()
        return rig.verdict()


def fill(file: Path) -> None:
    """Take all the space that is left."""
    with file.open("ab", buffering=0) as taken:
        for size in (1 << 20, 4096, 1):
            try:
                while taken.write(b"\0" * size):
                    pass
            except OSError:
                continue


@dataclass(frozen=True)
class Case:
    """A scenario with a handler.

    Attributes:
        rows: The rows of the table of faults (docs/faults.md) that it belongs to.
        own_server: It needs a server of its own, on ``"disk"`` or a small one, ``"tmpfs"``.
        share: Rounds, as a part of those that are asked for.
        version: The server's.
    """

    scenario: Scenario
    kind: str
    rows: tuple[int, ...]
    own_server: str = ""
    share: float = 1.0
    version: int = 18

    @property
    def name(self) -> str:
        version = "" if self.version == 18 else f"-pg{self.version}"
        return f"{self.scenario.__name__}-{self.kind}{version}"


CASES = (
    Case(consumer_killed, "lines", (1, 4)),
    Case(consumer_killed, "postgres", (1, 3, 4)),
    Case(consumer_killed, "sqlite", (1, 3, 4)),
    Case(consumer_killed_streaming, "lines", (1, 19, 20), share=0.4),
    Case(consumer_killed_streaming, "sqlite", (1, 19, 20), share=0.2),
    Case(consumer_killed_in_snapshot, "postgres", (10,), share=0.25),
    Case(consumer_killed_in_snapshot, "postgres", (10,), "disk", share=0.25, version=14),
    Case(consumer_killed_in_snapshot, "sqlite", (10,), share=0.25),
    Case(server_crashes, "lines", (10,), own_server="disk", share=0.25),
    Case(server_crashes, "postgres", (10,), own_server="disk", share=0.25),
    Case(server_crashes_in_snapshot, "postgres", (10,), own_server="disk", share=0.1),
    Case(connection_cut, "lines", (8, 9), share=2.0),
    Case(connection_cut, "sqlite", (8, 9), share=2.0),
    Case(network_silent, "lines", (7,), share=0.2),
    Case(network_bad, "postgres", (8,), share=0.5),
    Case(handler_raises, "lines", (2,)),
    Case(handler_raises, "postgres", (2, 3)),
    Case(handler_blocks, "sqlite", (5, 16), share=0.2),
    Case(disk_full, "lines", (11,), own_server="tmpfs", share=0.1),
)
