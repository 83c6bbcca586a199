"""Binary by default; text where binary cannot be; types that come up on the way."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

import pgstream
from pgstream import (
    Begin,
    ConfigError,
    Event,
    Insert,
    SnapshotEnd,
    SnapshotRow,
    connector,
    session,
)
from pgstream.config import Config
from pgstream.steps import Connect
from pgstream.types.catalog import needs_text
from servers import Database

ROWS = 5


@pytest.fixture
def shop(any_database: Database) -> Database:
    any_database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    pgstream.connect(any_database.dsn, slot=f"slot_{any_database.name}").close()
    return any_database


def open_stream(database: Database, **options: Any) -> pgstream.Stream:
    return pgstream.connect(database.dsn, slot=f"slot_{database.name}", **options)


def rows(events: list[Event]) -> list[Any]:
    return [event.new for event in events if isinstance(event, Insert)]


def transfers(payloads: list[bytes]) -> set[str]:
    """How the last value of each inserted row came: ``t`` or ``b``."""
    return {
        "binary" if b"b\x00\x00\x00" in payload[30:] else "text"
        for payload in payloads
        if payload[25:26] == b"I"
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "binary"),
        ({"binary": True}, "binary"),
        ({"binary": False}, "text"),
        ({"values": "text"}, "text"),
        ({"values": "text", "binary": False}, "text"),
    ],
)
def test_which_transfer_is_asked_for(
    database: Database, options: dict[str, Any], expected: str
) -> None:
    assert Config(**options).transfer == expected
    database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    open_stream(database).close()
    database.execute("INSERT INTO users VALUES (1)")
    seen: list[bytes] = []
    with open_stream(
        database, until="now", tap=lambda payload: seen.append(bytes(payload)), **options
    ) as stream:
        assert rows(list(stream)) == [{"id": "1" if "values" in options else 1}]
    assert transfers(seen) == {expected}


def test_text_values_and_the_binary_transfer_are_refused() -> None:
    with pytest.raises(ConfigError, match="binary transfer"):
        Config(values="text", binary=True)


COLUMNS = {
    "aclitem[]": "ARRAY['postgres=r/postgres'::aclitem]",
    "regclass": "'users'::regclass",
    "made.acl": "ROW(1, 'postgres=r/postgres'::aclitem)::made.acl",
    "made.ref": "ROW(1, 'users'::regclass)::made.ref",
}
TYPES = (
    "CREATE SCHEMA made; CREATE TYPE made.acl AS (n int, item aclitem);"
    "CREATE TYPE made.ref AS (n int, item regclass)"
)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("early", [True, False], ids=["at the start", "in mid-stream"])
def test_what_has_no_binary_form_comes_in_text(shop: Database, column: str, early: bool) -> None:
    """From the same position, said once, with nothing lost."""
    said: list[str] = []
    create = f"{TYPES}; CREATE TABLE odd (id int PRIMARY KEY, v {column})"
    if early:
        shop.execute(create)
    with open_stream(shop, notice=said.append) as stream:
        shop.execute("INSERT INTO users VALUES (1)")
        if not early:
            shop.execute(create)
        shop.execute(
            f"BEGIN; INSERT INTO users VALUES (2); INSERT INTO odd VALUES (3, {COLUMNS[column]});"
            " INSERT INTO users VALUES (4); COMMIT"
        )
        events: list[Event] = []
        for event in stream:
            events.append(event)
            if isinstance(event, pgstream.Commit):
                if {"id": 4} in rows(events):
                    break
                stream.ack()
    [(text,)] = shop.execute("SET search_path = ''; SELECT v::text FROM public.odd")
    begin = max(i for i, event in enumerate(events) if isinstance(event, Begin))
    last = rows(events[begin:])
    assert [row["id"] for row in last] == [2, 3, 4]
    value = last[1]["v"]
    if column == "regclass":
        assert value == text
    elif column == "aclitem[]":
        assert value == ["postgres=r/postgres"]
    elif column == "made.ref":
        assert value == (1, "public.users")
    else:
        assert value == (1, "postgres=r/postgres")
    assert [row["id"] for row in rows(events[:begin])][:1] == [1]
    assert any(isinstance(e, Begin) and e.redelivered for e in events[begin:]) == (
        {"id": 2} in rows(events[:begin])
    )
    [change] = [text for text in said if "changed to the text transfer" in text]
    assert change.endswith(f"a type that has no binary form ({column})")
    assert stream.status().reconnects == 0  # that is no lost connection


def test_types_that_come_up_are_looked_up(shop: Database) -> None:
    with open_stream(shop) as stream:
        assert len(stream.catalog) == 0 or not any(
            info.name == "mood" for info in stream.catalog.values()
        )
        shop.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'fine');"
            "CREATE TYPE pair AS (a int, m mood);"
            "CREATE TABLE new (id int PRIMARY KEY, m mood, p pair[])"
        )
        shop.execute("INSERT INTO new VALUES (1, 'fine', ARRAY[(1, 'sad')::pair])")
        event = next(event for event in stream if isinstance(event, Insert))
        assert event.new == {"id": 1, "m": "fine", "p": [(1, "sad")]}
        assert {"mood", "pair"} <= {info.name for info in stream.catalog.values()}


@pytest.mark.parametrize("binary", [True, False])
def test_an_altered_composite_is_looked_up_with_the_next_changed_table(
    shop: Database, binary: bool
) -> None:
    shop.execute(
        "CREATE TYPE price AS (net int, gross int);"
        "CREATE TABLE sold (id int PRIMARY KEY, p price[])"
    )
    with open_stream(shop, binary=binary) as stream:
        changes = (event for event in stream if isinstance(event, Insert))
        shop.execute("INSERT INTO sold VALUES (1, ARRAY[(100, 119)::price])")
        (value,) = next(changes).new["p"]
        assert (value.net, value.gross) == (100, 119)
        shop.execute(
            "ALTER TYPE price RENAME ATTRIBUTE net TO was_net;"
            "ALTER TYPE price RENAME ATTRIBUTE gross TO net;"
            "ALTER TYPE price RENAME ATTRIBUTE was_net TO gross;"
            "ALTER TABLE sold ADD COLUMN note text"
        )
        shop.execute("INSERT INTO sold VALUES (2, ARRAY[(119, 100)::price])")
        (value,) = next(changes).new["p"]
        assert (value.gross, value.net) == (119, 100)


def test_asyncio_looks_up_and_changes_to_text(shop: Database) -> None:
    async def main() -> Any:
        async with pgstream.connect_async(shop.dsn, slot=f"slot_{shop.name}") as stream:
            shop.execute(
                "CREATE TYPE mood AS ENUM ('sad', 'fine');"
                "CREATE TABLE new (id int PRIMARY KEY, m mood);"
                "CREATE TABLE odd (id int PRIMARY KEY, v aclitem[])"
            )
            shop.execute("INSERT INTO new VALUES (1, 'fine')")
            shop.execute(f"INSERT INTO odd VALUES (2, {COLUMNS['aclitem[]']})")
            events: list[Event] = []
            async for event in stream:
                events.append(event)
                stream.ack()
                if len(rows(events)) == 2:
                    break
            return rows(events)

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [
        {"id": 1, "m": "fine"},
        {"id": 2, "v": ["postgres=r/postgres"]},
    ]


@pytest.mark.parametrize("dropped", [False, True])
def test_a_lookup_that_fails_loses_nothing(database: Database, dropped: bool) -> None:
    """The role may replicate, and not connect otherwise: a new connection of the stream knows
    the types, unless they are gone by then."""
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    name = f"role_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN REPLICATION CONNECTION LIMIT 0")
    said: list[str] = []
    try:
        with pgstream.connect(
            f"{database.dsn} user={name}", slot=f"slot_{database.name}", notice=said.append
        ) as stream:
            database.execute("CREATE TYPE mood AS ENUM ('sad', 'fine')")
            database.execute("CREATE TABLE new (id int PRIMARY KEY, m mood)")
            database.execute("INSERT INTO new VALUES (1, 'fine'), (2, 'sad')")
            if dropped:
                database.execute("DROP TYPE mood CASCADE")
            events: list[Event] = []
            for event in stream:
                events.append(event)
                if isinstance(event, pgstream.Commit) and rows(events):
                    break
            assert stream.status().reconnects == 0
        assert [row["id"] for row in rows(events)] == [1, 2]
        expected = [b"fine", b"sad"] if dropped else ["fine", "sad"]
        assert [row["m"] for row in rows(events)] == expected
        failed = [text for text in said if "cannot look up the types" in text]
        assert ["text or bytes" in text for text in failed] == [False, True][: 1 + dropped]
    finally:
        database.execute(f"SELECT pg_drop_replication_slot('slot_{database.name}')")
        database.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("behind", [False, True], ids=["no server", "a server that is busy"])
def test_a_lookup_that_gets_no_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    """It is given up soon, and the stream's own connection lives through it."""
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    database.execute(f"ALTER DATABASE {database.name} SET wal_sender_timeout = '1s'")
    monkeypatch.setattr(connector, "_CONNECT_SECONDS", 2)
    monkeypatch.setattr(session, "_LOOK_SECONDS", 2)
    perform = pgstream.stream.perform

    def astray(step: Any) -> Any:
        if isinstance(step, Connect) and "replication" not in step.conninfo:
            host, port = silent.getsockname()
            address = "" if behind else f" host={host} port={port}"
            step = Connect(f"{step.conninfo}{address}")
        return perform(step)

    said: list[str] = []

    def notice(text: str) -> None:
        said.append(text)
        if "cannot look up" in text:
            locker.rollback()

    began = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        database.connect(autocommit=False) as locker,
        open_stream(database, notice=notice) as stream,
    ):
        monkeypatch.setattr(pgstream.stream, "perform", astray)
        database.execute("CREATE TYPE mood AS ENUM ('sad', 'fine')")
        database.execute("CREATE TABLE new (id int PRIMARY KEY, m mood)")
        database.execute("INSERT INTO new VALUES (1, 'fine')")
        if behind:
            locker.execute("LOCK TABLE pg_catalog.pg_range")
        event = next(event for event in stream if isinstance(event, Insert))
        assert event.new == {"id": 1, "m": "fine"}
        assert stream.status().reconnects == 0
    assert [text for text in said if "timeout" in text or "no answer" in text]
    assert time.monotonic() - began < 60


def test_names_that_are_not_ascii_in_another_encoding(database: Database) -> None:
    name, slot = f"{database.name}_latin1", f"slot_{database.name}_latin1"
    database.execute(f"CREATE DATABASE {name} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    latin = Database(database.server, name)
    try:
        latin.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
        with pgstream.connect(latin.dsn, slot=slot) as stream:
            with latin.connect(client_encoding="UTF8") as one:
                one.execute('CREATE TYPE size AS ("größe" int)')
                one.execute("CREATE TABLE new (id int PRIMARY KEY, s size)")
                one.execute("INSERT INTO new VALUES (1, ROW(7))")
            event = next(event for event in stream if isinstance(event, Insert))
            assert event.new["s"].pg_names == ("größe",)
        database.execute(f"SELECT pg_drop_replication_slot('{slot}')")
    finally:
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.usefixtures("both_decoders")
@pytest.mark.parametrize(("encoding", "letter"), [("LATIN1", "é"), ("EUC_JP", "あ")])
def test_hstores_in_another_encoding(database: Database, encoding: str, letter: str) -> None:
    """Of their binary form PostgreSQL converts the texts, and not how long it says they are."""
    name, slot = f"{database.name}_other", f"slot_{database.name}_other"
    database.execute(f"CREATE DATABASE {name} ENCODING {encoding} LOCALE 'C' TEMPLATE template0")
    other = Database(database.server, name)
    value = f"'{letter}=>{letter}{letter}, b=>NULL'"
    try:
        with other.connect(client_encoding="UTF8") as connection:
            connection.execute("CREATE EXTENSION hstore; CREATE DOMAIN tags AS hstore")
            connection.execute("CREATE TYPE tagged AS (id int, of tags)")
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, h hstore, tagged tagged[])")
            connection.execute("CREATE PUBLICATION pgstream_pub FOR TABLE t")
            insert = f"INSERT INTO t VALUES (%s, {value}, ARRAY[ROW(7, {value})::tagged])"
            connection.execute(insert.encode(), [1])
            found = []
            with pgstream.connect(other.dsn, slot=slot, snapshot=True) as stream:
                for event in stream:
                    if isinstance(event, (SnapshotRow, Insert)):
                        found.append((event.new["h"], event.new["tagged"]))
                        if len(found) == 2:
                            break
                    if isinstance(event, SnapshotEnd):
                        connection.execute(insert.encode(), [2])
                    stream.ack()
            pairs = {letter: 2 * letter, "b": None}
            assert found == 2 * [(pairs, [(7, pairs)])]
            (oid,) = [oid for oid, info in stream.catalog.items() if info.name == "hstore"]
            assert needs_text(stream.catalog, [oid]) == {oid}
        database.execute(f"SELECT pg_drop_replication_slot('{slot}')")
    finally:
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.usefixtures("both_decoders")
def test_numeric_and_loaders_of_ones_own_pass_through(database: Database) -> None:
    database.execute("CREATE TABLE n (id int PRIMARY KEY, v numeric, t text)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    open_stream(database).close()
    database.execute("INSERT INTO n VALUES (1, 1.50, 'abc')")
    for numeric, expected in (("str", "1.50"), ("float", 1.5)):
        with open_stream(database, until="now", numeric=numeric) as stream:
            stream.register_loader(
                "text",
                text=lambda value: bytes(value).decode().upper(),
                binary=lambda value: bytes(value).decode().upper(),
            )
            assert rows(list(stream)) == [{"id": 1, "v": expected, "t": "ABC"}]


def test_loaders_of_ones_own_outlive_a_connection(database: Database) -> None:
    database.execute("CREATE TABLE n (id int PRIMARY KEY, t text)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    with open_stream(database) as stream:
        stream.register_loader("text", text=bytes, binary=bytes)
        database.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots")
        database.execute("INSERT INTO n VALUES (1, 'abc')")
        event = next(event for event in stream if isinstance(event, Insert))
        assert event.new == {"id": 1, "t": b"abc"}
        assert stream.status().reconnects == 1
