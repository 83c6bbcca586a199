"""The two handlers: what they write for every event and every kind of value."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import click
import pytest

from pgstream.encoding import encode_value
from pgstream.handlers import ConsoleHandler, JSONLinesHandler
from pgstream.lsn import LSN
from pgstream.messages import (
    UNCHANGED,
    Begin,
    BeginPrepare,
    Column,
    Commit,
    CommitPrepared,
    Delete,
    Event,
    Insert,
    JSONLines,
    LogicalMessage,
    Origin,
    Prepare,
    Relation,
    RollbackPrepared,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    Truncate,
    Update,
)
from pgstream.types import JSONText
from pgstream.visible import visible

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
USERS = Relation(
    16384,
    "public",
    "users",
    "d",
    (Column("id", 23, -1, True), Column("name", 25, -1, False), Column("bio", 25, -1, False)),
)
ITEMS = replace(USERS, oid=16385, table="items")
PLACE: dict[str, Any] = {
    "lsn": LSN("0/16C75410"),
    "xid": 733,
    "commit_lsn": LSN("0/16C75440"),
    "commit_time": NOON,
    "ordinal": 0,
}
KEY = (
    '"schema":"public","table":"users","lsn":"0/16C75410","commit_lsn":"0/16C75440",'
    '"ordinal":0,"xid":733,"commit_time":"2026-11-22T12:00:00.123456Z"'
)
INSERT = Insert(USERS, {"id": 1, "name": "Mujib", "bio": None}, **PLACE)
UPDATE = Update(USERS, {"name": "Mujib"}, {"id": 1, "name": "Bum", "bio": UNCHANGED}, **PLACE)
DELETE = Delete(USERS, {"id": 1}, **PLACE)
TRUNCATE = Truncate((USERS, ITEMS), True, False, **PLACE | {"ordinal": 5})
MESSAGE = LogicalMessage("app", b"hello", True, **PLACE)
LOOSE = LogicalMessage("app", b"\xff", False, LSN(255), None, None, None, None)
COMMIT_PREPARED = CommitPrepared(734, "gid 'x'", LSN(1), LSN(2), NOON)
ROLLBACK_PREPARED = RollbackPrepared(735, "g", LSN(1), LSN(2), NOON, NOON + timedelta(seconds=1))
BRACKETS: list[Event] = [
    Begin(733, LSN(1), NOON),
    Commit(733, LSN(1), LSN(2), NOON),
    Origin("elsewhere", LSN(1)),
    BeginPrepare(733, "g", LSN(1), LSN(2), NOON),
    Prepare(733, "g", LSN(1), LSN(2), NOON),
    SnapshotBegin(LSN(1), (USERS,)),
    SnapshotEnd(LSN(1), 1),
]
SNAPSHOT_ROW = SnapshotRow(USERS, {"id": 1, "name": "Mujib", "bio": None}, LSN("0/16C75410"), 7)

Shown = Callable[..., str]


def json_lines(*events: Event) -> str:
    stream = io.StringIO()
    handler = JSONLinesHandler(stream)
    for event in events:
        handler(event)
    return stream.getvalue()


def console(*events: Event, colour: bool = False) -> str:
    stream = io.StringIO()
    handler = ConsoleHandler(stream, colour)
    for event in events:
        handler(event)
    return stream.getvalue()


# Values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (-(2**63), "-9223372036854775808"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e22, "1e+22"),
        (5e-324, "5e-324"),
        (float("nan"), '"NaN"'),
        (float("inf"), '"Infinity"'),
        (float("-inf"), '"-Infinity"'),
        (Decimal("1.500"), '"1.500"'),
        (Decimal("0E-10"), '"0.0000000000"'),
        (Decimal("1E+5"), '"100000"'),
        (Decimal("-" + "9" * 5000 + ".5"), '"-' + "9" * 5000 + '.5"'),
        (Decimal("NaN"), '"NaN"'),
        (Decimal("-Infinity"), '"-Infinity"'),
        ("", '""'),
        ('"\\/\n\t\0é\u2028😀', '"\\"\\\\/\\n\\t\\u0000é\u2028😀"'),
        ("a\ud800b\udfff", '"a\\ud800b\\udfff"'),
        (b"", '"\\\\x"'),
        (b"\x00\xffA", '"\\\\x00ff41"'),
        (bytearray(b"\x01"), '"\\\\x01"'),
        (date(1, 1, 1), '"0001-01-01"'),
        (time(1, 2, 3), '"01:02:03"'),
        (time(1, 2, 3, 400, tzinfo=timezone(timedelta(hours=-5))), '"01:02:03.000400-05:00"'),
        (datetime(9999, 12, 31, 23, 59, 59, 999999), '"9999-12-31T23:59:59.999999"'),
        (datetime(2026, 1, 1, tzinfo=UTC), '"2026-01-01T00:00:00Z"'),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))), '"2026-01-01T00:00:00+02:00"'),
        ("infinity", '"infinity"'),
        (UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
        (LSN(2**32), '"1/0"'),
        ([], "[]"),
        ([1, None, [Decimal("1.0"), []], "x"], '[1,null,["1.0",[]],"x"]'),
        ({"a": [1, {}], "": {"é": None}}, '{"a":[1,{}],"":{"é":null}}'),
        ({b"k\xff": b"\xff"}, '{"\\\\x6bff":"\\\\xff"}'),  # hstore in a SQL_ASCII database
        (JSONText('{"a": 1.0e400,\n "a":\r\n 2}'), '{"a": 1.0e400,  "a":   2}'),
        ([JSONText("{}"), None], "[{},null]"),
        (timedelta(seconds=1), '"0:00:01"'),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_value(value: object, expected: str) -> None:
    encoded = encode_value(value)
    assert encoded == expected
    assert "\n" not in encoded
    encoded.encode()
    json.loads(encoded)


def test_a_subclass_is_encoded_as_its_base() -> None:
    class Name(str):
        pass

    class Half(float):
        def __repr__(self) -> str:
            return f"Half({float(self)})"

    assert encode_value(Name("x")) == '"x"'
    assert encode_value([Half(1.5), Half("nan")]) == '[1.5,"NaN"]'


def test_documents_nest_deeper_than_python_recurses() -> None:
    value: Any = 1
    for _ in range(50_000):
        value = [{"a": value}]
    encoded = encode_value(value)
    assert encoded == '[{"a":' * 50_000 + "1" + "}]" * 50_000


# JSON Lines


def test_json_insert() -> None:
    expected = f'{{"op":"insert",{KEY},"new":{{"id":1,"name":"Mujib","bio":null}}}}\n'
    assert json_lines(INSERT) == expected


def test_json_update_leaves_out_unchanged_columns_and_names_them() -> None:
    expected = (
        f'{{"op":"update",{KEY},"old":{{"name":"Mujib"}},"new":{{"id":1,"name":"Bum"}},'
        '"unchanged":["bio"]}\n'
    )
    assert json_lines(UPDATE) == expected


def test_json_update_without_an_old_row() -> None:
    event = replace(UPDATE, old=None, new={"id": 1})
    assert json_lines(event) == f'{{"op":"update",{KEY},"new":{{"id":1}}}}\n'


def test_json_delete() -> None:
    assert json_lines(DELETE) == f'{{"op":"delete",{KEY},"old":{{"id":1}}}}\n'


def test_json_row_without_columns() -> None:
    assert json_lines(replace(INSERT, new={})) == f'{{"op":"insert",{KEY},"new":{{}}}}\n'


def test_json_truncate_has_a_line_and_an_ordinal_for_each_table() -> None:
    lines = [json.loads(line) for line in json_lines(TRUNCATE).splitlines()]
    assert [(line["table"], line["ordinal"]) for line in lines] == [("users", 5), ("items", 6)]
    assert list(lines[0]) == [
        *("op", "schema", "table", "lsn", "commit_lsn", "ordinal", "xid", "commit_time"),
        *("cascade", "restart_identity"),
    ]
    assert [(line["cascade"], line["restart_identity"]) for line in lines] == [(True, False)] * 2


def test_json_message() -> None:
    assert json_lines(MESSAGE) == (
        '{"op":"message","lsn":"0/16C75410","commit_lsn":"0/16C75440","ordinal":0,"xid":733,'
        '"commit_time":"2026-11-22T12:00:00.123456Z",'
        '"prefix":"app","content":"hello","transactional":true}\n'
    )


def test_json_message_outside_a_transaction() -> None:
    assert json_lines(LOOSE) == (
        '{"op":"message","lsn":"0/FF","prefix":"app","content":"\\\\xff","transactional":false}\n'
    )


def test_json_content_that_looks_like_hex_can_be_told_from_hex() -> None:
    line = json.loads(json_lines(replace(MESSAGE, content=b"\\x41")))
    assert line["content"] == "\\x" + b"\\x41".hex()


def test_json_prepared() -> None:
    line = json_lines(replace(INSERT, gid='a "gid"'))
    assert line.startswith(f'{{"op":"insert",{KEY},"gid":"a \\"gid\\"","new":{{')
    assert json_lines(COMMIT_PREPARED) == (
        '{"op":"commit_prepared","commit_lsn":"0/1","xid":734,'
        '"commit_time":"2026-11-22T12:00:00.123456Z","gid":"gid \'x\'"}\n'
    )
    assert json_lines(ROLLBACK_PREPARED) == (
        '{"op":"rollback_prepared","prepare_end_lsn":"0/1","end_lsn":"0/2","xid":735,'
        '"prepare_time":"2026-11-22T12:00:00.123456Z",'
        '"rollback_time":"2026-11-22T12:00:01.123456Z","gid":"g"}\n'
    )


def test_json_row_of_a_snapshot() -> None:
    assert json_lines(SNAPSHOT_ROW) == (
        '{"op":"snapshot","schema":"public","table":"users","lsn":"0/16C75410","ordinal":7,'
        '"new":{"id":1,"name":"Mujib","bio":null}}\n'
    )


@pytest.mark.parametrize("show", [json_lines, console])
def test_brackets_show_nothing(show: Shown) -> None:
    assert show(*BRACKETS) == ""


def test_json_leaves_out_what_a_row_outside_a_transaction_does_not_have() -> None:
    event = replace(INSERT, xid=None, commit_lsn=None, commit_time=None)
    assert list(json.loads(json_lines(event))) == ["op", "schema", "table", "lsn", "ordinal", "new"]


def test_json_follows_the_transaction_and_the_relation() -> None:
    """What is kept from one event to the next is not kept too long."""
    renamed = replace(USERS, table="people")
    lines = json_lines(
        INSERT,
        replace(INSERT, relation=renamed, commit_lsn=LSN(16), ordinal=1),
        INSERT,
        replace(INSERT, commit_time=NOON + timedelta(days=1)),
    ).splitlines()
    found = [
        (line["table"], line["commit_lsn"], line["ordinal"], line["commit_time"][:10])
        for line in map(json.loads, lines)
    ]
    assert found == [
        ("users", "0/16C75440", 0, "2026-11-22"),
        ("people", "0/10", 1, "2026-11-22"),
        ("users", "0/16C75440", 0, "2026-11-22"),
        ("users", "0/16C75440", 0, "2026-11-23"),
    ]


@pytest.mark.parametrize("kind", ["insert", "update", "delete", "snapshot"])
def test_json_a_large_value_is_copied_as_seldom_as_can_be(kind: str) -> None:
    """Once as JSON, once in its line, once for the file."""
    size = 4_000_000
    row = {"id": 1, "name": "x" * size, "bio": None}
    event = {
        "insert": Insert(relation=USERS, new=row, **PLACE),
        "update": Update(relation=USERS, old=None, new=row, **PLACE),
        "delete": Delete(relation=USERS, old=row, **PLACE),
        "snapshot": SnapshotRow(USERS, row, LSN(1), 0),
    }[kind]
    with open(os.devnull, "w", encoding="utf-8") as file:
        handler = JSONLinesHandler(file)
        tracemalloc.start()
        try:
            handler(event)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3.1 * size


def test_json_names_that_need_escapes() -> None:
    relation = replace(USERS, schema='a"b', table="c\nd")
    [line] = json_lines(replace(INSERT, relation=relation, new={'"\n': 1})).splitlines()
    event = json.loads(line)
    assert (event["schema"], event["table"], event["new"]) == ('a"b', "c\nd", {'"\n': 1})


# Text


def test_console_insert() -> None:
    assert console(INSERT) == (
        "[INSERT] table=public.users lsn=0/16C75410\n"
        'data={\n  "id": 1,\n  "name": "Mujib",\n  "bio": null\n}\n'
    )


def test_console_row_of_a_snapshot() -> None:
    assert console(SNAPSHOT_ROW) == (
        "[SNAPSHOT] table=public.users lsn=0/16C75410\n"
        'data={\n  "id": 1,\n  "name": "Mujib",\n  "bio": null\n}\n'
    )


def test_console_update() -> None:
    assert console(UPDATE) == (
        "[UPDATE] table=public.users lsn=0/16C75410\n"
        'old={\n  "name": "Mujib"\n}\n'
        'data={\n  "id": 1,\n  "name": "Bum"\n}\n'
        'unchanged=["bio"]\n'
    )


def test_console_update_without_an_old_row() -> None:
    assert console(replace(UPDATE, old=None, new={})) == (
        "[UPDATE] table=public.users lsn=0/16C75410\ndata={}\n"
    )


def test_console_delete() -> None:
    assert console(DELETE) == '[DELETE] table=public.users lsn=0/16C75410\nold={\n  "id": 1\n}\n'


def test_console_truncate() -> None:
    assert console(TRUNCATE) == (
        "[TRUNCATE] table=public.users lsn=0/16C75410 cascade=true restart_identity=false\n"
        "[TRUNCATE] table=public.items lsn=0/16C75410 cascade=true restart_identity=false\n"
    )


def test_console_messages_and_prepared_transactions() -> None:
    assert console(
        MESSAGE, LOOSE, replace(DELETE, gid="g"), COMMIT_PREPARED, ROLLBACK_PREPARED
    ) == (
        '[MESSAGE] prefix="app" lsn=0/16C75410\ncontent="hello"\n'
        '[MESSAGE] prefix="app" lsn=0/FF transactional=false\ncontent="\\\\xff"\n'
        '[DELETE] table=public.users lsn=0/16C75410 gid="g"\nold={\n  "id": 1\n}\n'
        "[COMMIT PREPARED] lsn=0/1 gid=\"gid 'x'\"\n"
        '[ROLLBACK PREPARED] lsn=0/2 gid="g"\n'
    )


def test_console_colours_differ_by_kind_and_only_colours_differ() -> None:
    events: list[Event] = [
        INSERT,
        UPDATE,
        DELETE,
        TRUNCATE,
        MESSAGE,
        COMMIT_PREPARED,
        ROLLBACK_PREPARED,
    ]
    coloured = console(*events, colour=True)
    assert "\x1b" not in console(*events)
    codes = {console(event, colour=True).partition("[I")[0][:5] for event in events[:5]}
    assert len(codes) == 5
    assert coloured.count("\x1b[0m") == 8
    assert click.unstyle(coloured) == console(*events)


@pytest.mark.parametrize("control", ["\x1b[31m", "\x9b31m", "\x7f", "\x0b", "\r", "\n", "\x00"])
def test_nothing_in_the_database_reaches_the_terminal_as_a_control_character(control: str) -> None:
    relation = replace(USERS, schema=control, table=control)
    text = console(
        Insert(relation, {control: control}, **PLACE, gid=control),
        replace(UPDATE, new={control: UNCHANGED}, old={control: [control]}),
        replace(MESSAGE, prefix=control, content=control.encode()),
    )
    assert all(character == "\n" or character.isprintable() for character in text)
    assert control not in text.replace("\n", "")


@pytest.mark.parametrize(
    "character",
    [
        *("\x80", "\x85", "\x9d", "\xad", "\u061c", "\u180e", "\u200b", "\u200e", "\u200f"),
        *("\u2028", "\u2029", *"\u202a\u202b\u202c\u202d\u202e", *"\u2066\u2067\u2068\u2069"),
        *("\u2060", "\ufeff", "\ufff9", "\U0001bca0", "\U0001d173", "\U000e0001", "\U000e0041"),
    ],
    ids=lambda character: f"U+{ord(character):04X}",
)
def test_what_turns_the_text_or_is_not_seen_is_shown_as_an_escape(character: str) -> None:
    text = console(
        Insert(
            replace(USERS, table=f"a{character}b"),
            {f"c{character}": f"d{character}", "json": JSONText(f'["e{character}"]')},
            **PLACE,
        ),
        replace(MESSAGE, prefix=character, content=character.encode()),
    )
    escape = json.dumps(character)[1:-1]
    assert text.count(escape) == 6
    assert all(one == "\n" or one.isprintable() for one in text)
    row = json.loads(text.partition("data=")[2].partition("\n[")[0])
    assert row == {f"c{character}": f"d{character}", "json": [f"e{character}"]}


def test_lines_of_json_are_shown_with_the_same_escapes() -> None:
    assert console(JSONLines(b'{"new":{"a":"\x7f"}}\n')) == '{"new":{"a":"\\u007f"}}\n'


def test_no_control_character_is_left_but_tab_and_line_feed() -> None:
    controls = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
    assert [control for control in controls if control in visible("".join(controls))] == [
        "\t",
        "\n",
    ]


def test_what_scripts_are_written_with_is_shown() -> None:
    name = "می\u200cروم 👩\u200d👧 \u0600"
    assert f'"name": "{name}"' in console(replace(INSERT, new={"name": name}))


# Both


@pytest.mark.parametrize("handler_class", [JSONLinesHandler, ConsoleHandler])
def test_flush_flushes(handler_class: Callable[[Any], Any]) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    handler = handler_class(stream)
    handler(INSERT)
    assert raw.getvalue() == b""
    handler.flush()
    assert raw.getvalue().endswith(b"}\n")
    stream.detach()
