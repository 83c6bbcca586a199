"""Runs: changes read together, as events or as JSON Lines.

A run says what reading message by message says, errors and the decoder's memory included;
JSON Lines are what the handler of events writes, byte for byte, in both decoders.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given

import pgstream
import sessions
import values
from encoder import NULL, UNCHANGED, begin, column, insert, relation, text, update, xlogdata
from pgstream.capture import CaptureWriter, read_capture
from pgstream.errors import ConfigError, ProtocolError
from pgstream.handlers import JSONLinesHandler
from pgstream.messages import JSONLines, Origin, Type
from pgstream.types import JSONText
from servers import Database
from sessions import examples
from test_parity import RICH, canonical


@pytest.fixture(scope="module")
def modules(decoder_impl: Any) -> tuple[Any, Any]:
    """The decoder of events and the decoder of lines, of each implementation in turn."""
    name = decoder_impl.__module__.replace("_decode", "_json")
    return decoder_impl, importlib.import_module(name).JSONDecoder


def told(error: ProtocolError) -> tuple[Any, ...]:
    return "error", str(error), error.kind, error.offset, error.lsn


def one_by_one(decoder: Any, payloads: Sequence[bytes]) -> Iterator[Any]:
    for payload in payloads:
        try:
            message = decoder.decode(payload)
        except ProtocolError as error:
            yield told(error)
        else:
            if message is not None and type(message) is not Type:
                yield message


def in_runs(decoder: Any, payloads: Sequence[bytes]) -> Iterator[Any]:
    at = 0
    while at < len(payloads):
        before = at
        changes, at, message = decoder.decode_run(payloads, at)
        assert before < at <= len(payloads)
        if hasattr(decoder, "written"):
            assert decoder.written == sum(lines.count(b"\n") for lines in changes)
        yield from changes
        if message is not None:
            yield told(message) if isinstance(message, ProtocolError) else message
        else:
            assert at == len(payloads)


def as_lines(results: Iterator[Any]) -> list[Any]:
    """What a decoder of lines should give for these events: lines joined, all else as it is."""
    written = io.StringIO()
    handler = JSONLinesHandler(written)
    wanted: list[Any] = []
    for result in results:
        if type(result) in (pgstream.Insert, pgstream.Update, pgstream.Delete, pgstream.Truncate):
            handler(result)
        elif not isinstance(result, Origin):
            wanted += [JSONLines(written.getvalue().encode())] if written.getvalue() else []
            written.seek(0)
            written.truncate()
            wanted.append(result)
    return wanted + ([JSONLines(written.getvalue().encode())] if written.getvalue() else [])


def check(modules: tuple[Any, Any], payloads: Sequence[bytes]) -> list[Any]:
    events, lines = modules
    singly = list(one_by_one(events(), payloads))
    assert canonical(list(in_runs(events(), payloads))) == canonical(singly)
    wanted = as_lines(one_by_one(events(json_loads=JSONText), payloads))
    found = list(in_runs(lines(), payloads))
    assert canonical(found) == canonical(wanted)
    return found


def test_every_message(modules: tuple[Any, Any]) -> None:
    found = check(modules, RICH)
    assert sum(isinstance(one, JSONLines) for one in found) > 3


def test_every_damage_to_every_message(modules: tuple[Any, Any]) -> None:
    random = Random(20261125)
    for at, payload in enumerate(RICH):
        for _ in range(8):
            hurt = bytearray(payload)
            if random.random() < 0.3:
                del hurt[random.randrange(len(hurt)) :]
            else:
                hurt[random.randrange(len(hurt))] = random.choice(
                    [0, 1, 2, 0x7F, 0xFF, *b"ntubKON"]
                )
            check(modules, [*RICH[:at], bytes(hurt), *RICH[at + 1 :]])


@examples(60)
@given(sessions.sessions(wild=True))
def test_sessions(modules: tuple[Any, Any], payloads: list[bytes]) -> None:
    check(modules, payloads)


@examples(60)
@given(sessions.damaged_sessions())
def test_damaged_sessions(modules: tuple[Any, Any], payloads: list[bytes]) -> None:
    check(modules, payloads)


def test_columns_of_the_same_name(modules: tuple[Any, Any]) -> None:
    """No server has them; a dict can hold one of them."""
    payloads = [
        xlogdata(begin(1, 2, 3)),
        xlogdata(relation(9, "s", "t", "d", [column("a", 25), column("a", 25)])),
        xlogdata(insert(9, [text("x"), text("y")])),
    ]
    changes = list(in_runs(modules[0](), payloads))
    assert changes[-1].new == {"a": "y"}


@pytest.mark.parametrize("width", [0, 1, 2, 7, 8, 9, 31, 200, 1600])
def test_rows_of_every_width(modules: tuple[Any, Any], width: int) -> None:
    """Each with its own values, whatever a dict of that size looks like in memory."""
    columns = [column(f"c{index}", 25) for index in range(width)]
    payloads = [xlogdata(begin(1, 2, 3)), xlogdata(relation(9, "s", "t", "d", columns))]
    rows = [[f"{row}-{index}" for index in range(width)] for row in range(3)]
    payloads += [xlogdata(insert(9, [text(value) for value in row])) for row in rows]
    found = [one.new for one in in_runs(modules[0](), payloads) if isinstance(one, pgstream.Insert)]
    for new, row in zip(found, rows, strict=True):
        assert list(new.items()) == [(f"c{index}", value) for index, value in enumerate(row)]
        assert new == {f"c{index}": value for index, value in enumerate(row)}
        new["another"] = 1
        assert new.pop("c0", None) == (row[0] if row else None)
        assert "c0" not in new
        assert new["another"] == 1
    check(modules, payloads)


def test_what_was_not_sent_is_named(modules: tuple[Any, Any]) -> None:
    payloads = [
        xlogdata(begin(0x500, 0, 7), 0x10),
        xlogdata(relation(9, "s", "t", "d", [column("id", 23, is_key=True), column("a", 25)])),
        xlogdata(update(9, [text("1"), UNCHANGED]), 0x20),
        xlogdata(update(9, [text("1"), NULL], key=[text("2"), NULL]), 0x30),
    ]
    _, _, lines = list(in_runs(modules[1](), payloads))
    place = b'"commit_lsn":"0/500","ordinal":%d,"xid":7,"commit_time":"2000-01-01T00:00:00Z"'
    assert lines.splitlines() == [
        b'{"op":"update","schema":"s","table":"t","lsn":"0/20",%s,"new":{"id":1},'
        b'"unchanged":["a"]}' % (place % 0),
        b'{"op":"update","schema":"s","table":"t","lsn":"0/30",%s,"old":{"id":2},'
        b'"new":{"id":1,"a":null}}' % (place % 1),
    ]


@pytest.fixture
def everything(any_database: Database) -> Database:
    """A table with a column of each type, published."""
    with any_database.connect() as connection:
        values.create_table(connection)
        connection.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    return any_database


@pytest.mark.parametrize("transfer", ["text", "binary"])
def test_every_type(everything: Database, transfer: str) -> None:
    """A stream of lines is the stream of events, written by their handler."""
    slots = [f"lines_{index}_{everything.name}" for index in range(2)]
    options: dict[str, Any] = {"binary": transfer == "binary", "notice": lambda text: None}
    for slot in slots:
        pgstream.connect(everything.dsn, slot=slot, **options).close()
    with everything.connect() as connection:
        values.fill_table(connection, values.columns_of(connection))
        connection.execute("UPDATE everything SET id = -id - 1")
        connection.execute("DELETE FROM everything WHERE id % 2 = 0")
        connection.execute("TRUNCATE everything")
    options["until"] = "now"
    written = io.StringIO()
    with pgstream.connect(everything.dsn, slot=slots[0], json_loads=JSONText, **options) as stream:
        stream.run(JSONLinesHandler(written))
    with pgstream.connect(everything.dsn, slot=slots[1], changes="json", **options) as stream:
        events = list(stream)
    lines = b"".join(event for event in events if isinstance(event, JSONLines))
    assert lines.decode() == written.getvalue()
    assert lines.count(b"\n") > 20
    assert {type(event) for event in events} == {pgstream.Begin, pgstream.Commit, JSONLines}
    assert stream.status().events_in_flight > lines.count(b"\n")


def test_a_position_and_a_row_factory_need_events(database: Database) -> None:
    class Sink:
        def position(self) -> pgstream.LSN:
            return pgstream.LSN(0)

        def __call__(self, event: object) -> None:
            raise AssertionError

    with pytest.raises(ConfigError, match="row_factory"):
        pgstream.connect(database.dsn, changes="json", row_factory=pgstream.tuple_row)
    with (
        pgstream.connect(
            database.dsn, slot=f"slot_{database.name}", changes="json", create_publication=True
        ) as stream,
        pytest.raises(ConfigError, match="takes events"),
    ):
        stream.run(Sink())


def test_a_capture_as_lines(database: Database, tmp_path: Any) -> None:
    slot, file = f"slot_{database.name}", tmp_path / "capture"
    pgstream.connect(database.dsn, slot=slot, create_publication=True).close()
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    database.execute("INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 5000) g")
    with (
        CaptureWriter(file) as writer,
        pgstream.connect(database.dsn, slot=slot, until="now", tap=writer.write) as stream,
    ):
        list(stream)
    events = list(pgstream.read_payloads(read_capture(file), changes="json"))
    lines = b"".join(event for event in events if isinstance(event, JSONLines))
    assert lines.count(b"\n") == 5000
    assert len([event for event in events if isinstance(event, JSONLines)]) > 1  # bounded pieces
