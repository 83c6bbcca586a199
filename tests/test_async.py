"""The asyncio stream: the same protocol, the other waiter."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pgstream
from pgstream import AsyncStream, Commit, Event, Insert, connector
from servers import Database

pytestmark = pytest.mark.usefixtures("both_decoders")


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    pgstream.connect(database.dsn, slot=f"slot_{database.name}").close()
    database.execute("INSERT INTO users SELECT g FROM generate_series(1, 30) g")
    database.execute("INSERT INTO users VALUES (100)")
    return database


def open_stream(database: Database, **options: Any) -> AsyncStream:
    return pgstream.connect_async(database.dsn, slot=f"slot_{database.name}", **options)


def ids(events: list[Event]) -> list[int]:
    return [event.new["id"] for event in events if isinstance(event, Insert)]


async def read_all(database: Database, **options: Any) -> list[Event]:
    async with open_stream(database, until="now", **options) as stream:
        return [event async for event in stream]


def test_both_streams_give_the_same(shop: Database) -> None:
    events = asyncio.run(read_all(shop))
    with pgstream.connect(shop.dsn, slot=f"slot_{shop.name}", until="now") as stream:
        assert list(stream) == events
    assert ids(events) == [*range(1, 31), 100]


def test_acknowledgement(shop: Database) -> None:
    async def first() -> None:
        async with open_stream(shop) as stream:
            async for event in stream:
                stream.ack()
                if isinstance(event, Commit):
                    break

    asyncio.run(first())
    assert ids(asyncio.run(read_all(shop))) == [100]


def test_batches(shop: Database) -> None:
    async def batches() -> list[int]:
        async with open_stream(shop, until="now") as stream:
            return [len(batch) async for batch in stream.batches(max_events=20)]

    assert asyncio.run(batches()) == [20, 15]


def test_a_busy_stream_lets_others_run_while_more_gathers(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "_BUSY", 0)  # any stream is
    monkeypatch.setattr(connector, "_REST_SECONDS_LOCAL", 0.02)  # it is a Unix socket
    shop.execute("INSERT INTO users SELECT g FROM generate_series(1001, 2000) g")
    slept, sleep = [], asyncio.sleep

    async def watched(seconds: float, *rest: Any) -> Any:
        slept.append(seconds)
        return await sleep(seconds, *rest)

    monkeypatch.setattr(asyncio, "sleep", watched)
    blocked: list[float] = []
    monkeypatch.setattr("pgstream.steps.time.sleep", blocked.append)
    assert len(ids(asyncio.run(read_all(shop)))) == 1031
    assert any(0 < seconds <= 0.02 for seconds in slept)
    assert blocked == []


@pytest.mark.parametrize("fail", [False, True])
def test_run_takes_coroutines(shop: Database, fail: bool) -> None:
    seen: list[Event] = []

    async def handler(event: Event) -> None:
        await asyncio.sleep(0)
        if fail and isinstance(event, Insert) and event.new["id"] == 100:
            raise RuntimeError("sink is down")
        seen.append(event)

    if fail:
        with pytest.raises(RuntimeError, match="sink is down"):
            asyncio.run(open_stream(shop, until="now").run(handler))
    else:
        asyncio.run(open_stream(shop, until="now").run(handler))
    assert ids(seen) == [*range(1, 31), *([] if fail else [100])]
    assert ids(asyncio.run(read_all(shop))) == ([100] if fail else [])


def test_the_loop_is_free_while_nothing_comes(shop: Database) -> None:
    async def idle() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            for _ in range(50):
                await asyncio.sleep(0.001)
                turns += 1

        async with open_stream(shop) as stream:
            events = asyncio.ensure_future(collect(stream))
            await count()
            stream.stop()
            assert ids(await asyncio.wait_for(events, 20)) == [*range(1, 31), 100]
        return turns

    async def collect(stream: AsyncStream) -> list[Event]:
        return [event async for event in stream]

    assert asyncio.run(idle()) == 50


def test_a_wait_for_the_next_event_may_be_cancelled(shop: Database) -> None:
    async def main() -> tuple[list[Event], int]:
        found: list[Event] = []
        timeouts = 0
        async with open_stream(shop) as stream:
            while 101 not in ids(found):
                try:
                    found.append(await asyncio.wait_for(anext(stream), 0.05))
                except TimeoutError:
                    timeouts += 1
                    if timeouts == 5:
                        shop.execute("INSERT INTO users VALUES (101)")
            assert stream.status().reconnects == 0
        return found, timeouts

    found, timeouts = asyncio.run(main())
    assert ids(found) == [*range(1, 31), 100, 101]
    assert timeouts >= 5


def test_closing_ends_the_task_that_reads(shop: Database) -> None:
    async def main() -> None:
        async with open_stream(shop) as stream:
            found: list[Event] = []

            async def read() -> None:
                async for event in stream:
                    found.append(event)  # noqa: PERF401  # it is looked at meanwhile

            reader = asyncio.create_task(read())
            while 100 not in ids(found):
                await asyncio.sleep(0.01)
            await stream.close()
            await asyncio.wait_for(reader, 20)
            assert stream.status().state == "closed"

    asyncio.run(main())
    assert shop.execute("SELECT active FROM pg_replication_slots")[0] == (False,)


def test_cancellation_leaves_in_good_order(shop: Database) -> None:
    seen: list[Event] = []
    committed = asyncio.Event()

    async def consume() -> None:
        async with open_stream(shop) as stream:
            async for event in stream:
                seen.append(event)
                stream.ack()
                if len([e for e in seen if isinstance(e, Commit)]) == 2:
                    committed.set()

    async def main() -> None:
        task = asyncio.ensure_future(consume())
        await asyncio.wait_for(committed.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert shop.execute("SELECT active FROM pg_replication_slots")[0] == (False,)
    assert ids(asyncio.run(read_all(shop))) == []


def test_errors_are_the_same(shop: Database) -> None:
    async def missing() -> None:
        async with open_stream(shop, publication="nowhere"):
            pass

    with pytest.raises(pgstream.PublicationNotFound, match="nowhere"):
        asyncio.run(missing())


def test_a_stream_is_opened_once(shop: Database) -> None:
    async def main() -> None:
        async with open_stream(shop) as stream:
            with pytest.raises(RuntimeError, match="opened before"):
                await stream.__aenter__()
        with pytest.raises(RuntimeError, match="opened before"):
            async with stream:
                pass

    asyncio.run(main())
