"""The catalog: the query for types that are not built in, and what decoders do without one."""

from __future__ import annotations

import copy
import importlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import psycopg
import pytest

import encoder
import sessions
import values
from encoder import xlogdata
from pgstream import slots
from pgstream.capture import read_catalog, write_catalog
from pgstream.encoding import encode_value
from pgstream.errors import CaptureError, ProtocolError
from pgstream.messages import Column, Relation
from pgstream.types import oids
from pgstream.types.catalog import (
    MAX_NESTING,
    Catalog,
    TypeInfo,
    catalog_query,
    needs_text,
    parse_catalog,
)
from servers import Database

MOOD = TypeInfo(20_000, "public", "mood", "enum")
MOODS = TypeInfo(20_001, "public", "_mood", "array", 20_000)
PAIR = TypeInfo(20_002, "public", "pair", "composite", fields=(("a", 23), ("größe", 20_001)))


def by_name(catalog: Catalog) -> dict[str, TypeInfo]:
    return {info.name: info for info in catalog.values()}


def test_the_query_finds_all_that_types_are_made_of(any_database: Database) -> None:
    with any_database.connect() as connection:
        connection.execute(values.PRELUDE.encode())
        connection.execute("CREATE TABLE one (a deep, b span[])")
        connection.execute("CREATE PUBLICATION p FOR TABLE one")
        found = by_name(values.catalog_of(connection, "p"))
        row = connection.execute("SELECT 'deep'::regtype::oid::int8, 'pair'::regtype::oid::int8")
        deep, pair = next(iter(row))
    assert found.keys() == {
        "deep", "_pair", "pair", "odd Type", "mood", "year", "hstore", "_span", "span"
    }  # fmt: skip
    assert found["deep"].oid == deep
    assert found["deep"].kind == "composite"
    assert [name for name, _ in found["deep"].fields] == ["id", "pairs", "at", "inner", "tags"]
    assert found["_pair"] == TypeInfo(
        found["_pair"].oid, "public", "_pair", "array", pair, has_binary=True
    )
    assert found["mood"].kind == "enum"
    assert (found["year"].kind, found["year"].element) == ("domain", 23)
    assert found["hstore"].kind == "base"
    assert (found["span"].kind, found["span"].element) == ("domain", 3904)


@pytest.mark.parametrize("what", ["ALL TABLES", "TABLE parted, a.one", "TABLES IN SCHEMA a, b"])
def test_the_query_finds_what_is_published(any_database: Database, what: str) -> None:
    with any_database.connect() as connection:
        if "SCHEMA" in what and connection.info.server_version < 150000:
            return
        connection.execute(
            "CREATE SCHEMA a; CREATE SCHEMA b;"
            "CREATE TYPE a.used AS ENUM (); CREATE TYPE used_by_partition AS ENUM ();"
            "CREATE TYPE unused AS ENUM (); CREATE TYPE dropped AS ENUM ();"
            "CREATE TABLE a.one (a a.used, b dropped); ALTER TABLE a.one DROP b;"
            "CREATE TABLE parted (id int, a used_by_partition) PARTITION BY LIST (id);"
            "CREATE TABLE b.part PARTITION OF parted FOR VALUES IN (1);"
            "CREATE UNLOGGED TABLE not_published (a unused);"
            "CREATE VIEW v AS SELECT a FROM not_published"
        )
        connection.execute(f"CREATE PUBLICATION p FOR {what}".encode())
        assert by_name(values.catalog_of(connection, "p")).keys() == {"used", "used_by_partition"}
        assert len(values.catalog_of(connection, "no such publication")) == 0


def test_the_query_by_oid(any_database: Database) -> None:
    with any_database.connect() as connection:
        connection.execute(values.PRELUDE.encode())
        row = connection.execute(
            "SELECT array_agg(oid::int8) FROM pg_type WHERE typname IN ('texts', '_seg', 'pair')"
            " AND typnamespace = 'public'::regnamespace"
        )
        wanted = next(iter(row))[0]
        query = catalog_query([*wanted, 99_999_999, 23])
        found = Catalog(parse_catalog(connection.wait(slots.query(connection.pgconn, query))))
        nothing = connection.wait(slots.query(connection.pgconn, catalog_query()))
    assert nothing == []
    names = by_name(found)
    assert names.keys() == {"texts", "_seg", "seg", "pair"}
    assert (names["texts"].kind, names["texts"].element) == ("range", 25)
    assert not names["seg"].has_binary
    assert names["_seg"].has_binary
    assert needs_text(found, wanted) == {names["_seg"].oid}


def test_what_has_no_binary_form(database: Database) -> None:
    """What is or holds a container of such a type, and what is but an OID in binary."""
    columns = {
        "aclitem": False, "aclitem[]": True, "seg": False, "seg[]": True, "regclass": True,
        "regtype[]": True, "has_acl": True, "has_deep_acl": True, "acls": True, "int4": False,
        "segment": False, "segment[]": True, "pair": False, "named": True, "acl_range": True,
        "deep": False, "text[]": False, "gtsvector": False, "part": False,
    }  # fmt: skip
    with database.connect() as connection:
        connection.execute(values.PRELUDE.encode())
        connection.execute(
            "CREATE TYPE has_acl AS (a int, b aclitem);"
            "CREATE TYPE has_deep_acl AS (a has_acl[]);"
            "CREATE DOMAIN acls AS aclitem[];"
            "CREATE DOMAIN segment AS seg;"
            "CREATE DOMAIN part AS segment;"
            "CREATE DOMAIN named AS regclass;"
            "CREATE TYPE acl_range AS RANGE (subtype = seg)"
        )
        declared = ", ".join(f"c{at} {name}" for at, name in enumerate(columns))
        connection.execute(f"CREATE TABLE t ({declared})".encode())
        connection.execute("CREATE PUBLICATION p FOR TABLE t")
        types = dict(
            connection.execute(
                "SELECT attname, atttypid::int8 FROM pg_attribute"
                " WHERE attrelid = 't'::regclass AND attnum > 0"
            ).fetchall()
        )
        catalog = values.catalog_of(connection, "p")
    found = needs_text(catalog, types.values())
    assert {name: types[f"c{at}"] in found for at, name in enumerate(columns)} == columns


def test_missing_goes_through_what_is_known() -> None:
    catalog = Catalog([PAIR])
    assert catalog.missing([23, 1009, 20_002, 4_000_000_000]) == {20_001, 4_000_000_000}
    catalog.add([MOODS])
    assert catalog.missing([20_002]) == {20_000}
    catalog.add([MOOD])
    assert catalog.missing([20_002]) == set()


def relation_payload(*types: int) -> bytes:
    columns = [encoder.column(f"c{at}", oid) for at, oid in enumerate(types)]
    return xlogdata(encoder.relation(1, "public", "t", "d", columns))


def row_of(decoder: Any, *cells: bytes) -> list[Any]:
    return list(decoder.decode(xlogdata(encoder.insert(1, list(cells)))).new.values())


PAIR_TEXT = encoder.text('(1,"{sad,NULL}")')
PAIR_BINARY = encoder.binary(
    b"\0\0\0\2"
    + (23).to_bytes(4)
    + b"\0\0\0\4\0\0\0\1"
    + (20_001).to_bytes(4)
    + len(sessions.array_binary(20_000, [b"sad", None])).to_bytes(4)
    + sessions.array_binary(20_000, [b"sad", None])
)


def test_types_may_come_later(decoder_impl: Any) -> None:
    decoder = decoder_impl()
    decoder.decode(relation_payload(20_002))
    decoder.decode(xlogdata(encoder.stream_start(7, True)))
    decoder.decode(xlogdata(encoder.relation(2, "s", "u", "d", [encoder.column("a", 20_005)], 7)))
    decoder.decode(xlogdata(encoder.stream_stop()))
    assert decoder.unknown_types == {20_002, 20_005}
    assert row_of(decoder, PAIR_TEXT) == ['(1,"{sad,NULL}")']
    assert row_of(decoder, PAIR_BINARY) == [PAIR_BINARY[5:]]
    relation = decoder.relations[1]
    decoder.add_types([PAIR])
    assert decoder.unknown_types == {20_001, 20_005}
    decoder.add_types([MOODS, MOOD])
    assert decoder.unknown_types == {20_005}
    assert decoder.relations[1] is relation
    for cell in (PAIR_TEXT, PAIR_BINARY):
        (value,) = row_of(decoder, cell)
        assert value == (1, ["sad", None])
        assert value.größe == ["sad", None]


def test_composites_can_be_pickled(decoder_impl: Any) -> None:
    odd = TypeInfo(
        20_002, "s", "an odd name", "composite", fields=(("1st", 23), ("class", 25), ("a b", 25))
    )
    decoder = decoder_impl(catalog=Catalog([odd]))
    decoder.decode(relation_payload(20_002))
    (value,) = row_of(decoder, encoder.text("(1,x,)"))
    again = pickle.loads(pickle.dumps(value))
    assert (again, type(again)) == (value, type(value))
    assert copy.deepcopy(value) == value == (1, "x", None)
    assert value._fields == ("f1st", "_1", "a_b")  # "class" is a keyword
    assert encode_value(value) == '{"1st":1,"class":"x","a b":null}'


def test_an_odd_delimiter_is_no_error(decoder_impl: Any) -> None:
    row = ("20000", "s", "_odd", "array", "23", "\\377", "t", None)
    decoder = decoder_impl(catalog=Catalog(parse_catalog([row])))
    decoder.decode(relation_payload(20_000))
    assert row_of(decoder, encoder.text("{1}")) == [[1]]


def test_a_shared_catalog(decoder_impl: Any) -> None:
    catalog = Catalog()
    one, other = decoder_impl(catalog=catalog), decoder_impl(catalog=catalog)
    one.add_types([PAIR, MOODS, MOOD])
    other.decode(relation_payload(20_002))
    assert other.unknown_types == frozenset()
    assert row_of(other, PAIR_BINARY) == [(1, ["sad", None])]


def test_a_shared_catalog_that_another_decoder_fills(decoder_impl: Any) -> None:
    """What is known of a table is made anew with its next Relation, and with its next rows
    where none comes.
    """
    catalog = Catalog()
    one, other = decoder_impl(catalog=catalog), decoder_impl(catalog=catalog)
    relation = other.decode(relation_payload(20_002))
    copied = Relation(1, "public", "t", "d", (Column("c0", 20_002, -1, False),))
    row = b"\0\1" + PAIR_BINARY[1:]
    assert other.copy_rows(copied, row) == [{"c0": PAIR_BINARY[5:]}]
    one.add_types([PAIR, MOODS, MOOD])
    assert row_of(other, PAIR_BINARY) == [PAIR_BINARY[5:]]
    assert other.decode(relation_payload(20_002)) is relation
    assert row_of(other, PAIR_BINARY) == [(1, ["sad", None])]
    assert other.copy_rows(copied, row) == [{"c0": (1, ["sad", None])}]


@pytest.mark.parametrize(
    "altered",
    [
        TypeInfo(20_002, "public", "pair", "composite", fields=(("a", 23),)),
        TypeInfo(20_002, "public", "pair", "composite", fields=(("a", 1082), ("b", 20_001))),
        TypeInfo(20_002, "public", "pair", "composite", fields=(("a", 23), ("b", 25), ("c", 23))),
        TypeInfo(20_002, "public", "pair", "composite"),
        TypeInfo(20_002, "public", "pair", "base"),
    ],
)
def test_an_altered_type_is_no_error(decoder_impl: Any, altered: TypeInfo) -> None:
    decoder = decoder_impl(catalog=Catalog([altered, MOODS, MOOD]))
    decoder.decode(relation_payload(20_002))
    (text,) = row_of(decoder, PAIR_TEXT)
    assert text == '(1,"{sad,NULL}")' or (type(text) is not str and altered.fields[0][1] == 1082)
    assert row_of(decoder, PAIR_BINARY) == [PAIR_BINARY[5:]]


def test_types_made_of_themselves_are_not_followed(decoder_impl: Any) -> None:
    """No server has them, but a damaged file may."""
    chain = [
        TypeInfo(30_000 + at, "s", f"t{at}", "domain", 30_001 + at) for at in range(3 * MAX_NESTING)
    ]
    last = chain[-1].oid
    loop = [
        TypeInfo(40_000, "s", "loop", "array", 40_001),
        TypeInfo(40_001, "s", "pool", "composite", fields=(("a", 40_000), ("b", 23))),
        TypeInfo(40_002, "s", "self", "domain", 40_002),
    ]
    catalog = Catalog([*chain, *loop, TypeInfo(last + 1, "s", "end", "enum")])
    decoder = decoder_impl(catalog=catalog)
    decoder.decode(relation_payload(30_000, last, 40_000, 40_001, 40_002))
    texts = [encoder.text(text) for text in ("a", "b", "{}", "(,1)", "x")]
    assert row_of(decoder, *texts) == ["a", "b", "{}", "(,1)", "x"]
    needs_text(catalog, catalog)
    assert decoder.unknown_types == frozenset()


# The file beside a capture.


def test_json_and_back(tmp_path: Path) -> None:
    catalog = Catalog([PAIR, MOODS, MOOD, TypeInfo(20_009, "s", "seg", "base", has_binary=False)])
    again = Catalog.from_json(catalog.to_json())
    assert dict(again) == dict(catalog)
    assert json.loads(catalog.to_json())["types"][0]["name"] == "mood"
    capture = tmp_path / "capture"
    capture.touch(mode=0o640)
    assert len(read_catalog(capture)) == 0
    write_catalog(capture, Catalog())
    assert [path.name for path in tmp_path.iterdir()] == ["capture"]
    write_catalog(capture, catalog)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capture", "capture.json"]
    assert dict(read_catalog(capture)) == dict(catalog)
    write_catalog(capture, Catalog())  # what was there before is not that capture's
    assert len(read_catalog(capture)) == 0


def test_nothing_stands_beside_a_pipe(tmp_path: Path) -> None:
    write_catalog("-", Catalog([MOOD]))
    write_catalog("/dev/null", Catalog([MOOD]))
    assert not Path("-.json").exists()
    assert len(read_catalog("-")) == 0


@pytest.mark.parametrize(
    "document",
    [
        b"", b"{", b"[]", b'{"types": {}}', b"\xff", b'{"types": [1]}', b'{"types": [{}]}',
        b'{"types": [{"oid": -1, "schema": "s", "name": "n", "kind": "enum"}]}',
        b'{"types": [{"oid": true, "schema": "s", "name": "n", "kind": "enum"}]}',
        b'{"types": [{"oid": 4294967296, "schema": "s", "name": "n", "kind": "enum"}]}',
        b'{"types": [{"oid": 1, "schema": "s", "name": 5, "kind": "enum"}]}',
        b'{"types": [{"oid": 1, "schema": "s", "name": "n", "kind": "pseudo"}]}',
        b'{"types": [{"oid": 1, "schema": "s", "name": "n", "kind": ["enum"]}]}',
        b'{"types": [{"oid": 1, "schema": "s", "name": "n", "kind": "array", "delimiter": ""}]}',
        b'{"types": [{"oid": 1, "schema": "s", "name": "n", "kind": "enum", "has_binary": 1}]}',
        b'{"types": [{"oid": 1, "schema": "s", "name": "n", "kind": "enum", "fields": [["a"]]}]}',
        b'{"types": ' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_file_says_so(tmp_path: Path, document: bytes) -> None:
    (tmp_path / "capture.json").write_bytes(document)
    with pytest.raises(CaptureError, match=r"capture\.json is damaged: .*") as caught:
        read_catalog(tmp_path / "capture")
    assert "move it away" in caught.value.hint


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"cannot write .*capture\.json: No such file"):
        write_catalog(tmp_path / "nowhere" / "capture", Catalog([MOOD]))


# COPY.

RELATION = Relation(1, "public", "t", "d", (Column("a", 23, -1, True), Column("b", 25, -1, False)))
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
ROWS = b"\0\2\0\0\0\4\0\0\0\1\0\0\0\1x" + b"\0\2\xff\xff\xff\xff\0\0\0\0"
END = b"\xff\xff"


def test_copy_rows(decoder_impl: Any) -> None:
    decoder = decoder_impl()
    wanted = [{"a": 1, "b": "x"}, {"a": None, "b": ""}]
    for data in (ROWS, HEADER + ROWS, ROWS + END, HEADER + ROWS + END):
        assert decoder.copy_rows(RELATION, data) == wanted
        assert decoder.copy_rows(RELATION, memoryview(bytearray(data))) == wanted
    for data in (b"", HEADER, END, HEADER + END):
        assert decoder.copy_rows(RELATION, data) == []
    extended = HEADER[:15] + b"\0\0\0\3abc" + ROWS
    assert decoder.copy_rows(RELATION, extended) == wanted
    assert decoder.relations == {}


def test_copy_rows_follows_the_loaders(decoder_impl: Any) -> None:
    decoder = decoder_impl()
    assert decoder.copy_rows(RELATION, ROWS)[0]["b"] == "x"
    decoder.register_loader("text", binary=lambda raw: len(raw))
    assert decoder.copy_rows(RELATION, ROWS)[0]["b"] == 1


@pytest.mark.parametrize(
    ("data", "offset", "message"),
    [
        (HEADER[:18], 15, "truncated: 4 bytes wanted, 3 left"),
        (HEADER[:15] + b"\xff\xff\xff\xff", 19, "truncated: 4294967295 bytes wanted, 0 left"),
        (b"\0", 0, "truncated: 2 bytes wanted, 1 left"),
        (b"\0\3", 0, "3 columns, the relation public.t has 2"),
        (END + b"\0", 2, "1 bytes too many"),
        (b"\0\2\0\0\0\4\0", 6, "truncated: 4 bytes wanted, 1 left"),
        (b"\0\2\xff\xff\xff\xfe", 2, "impossible length -2"),
        (
            b"\0\2\0\0\0\3abc",
            6,
            "column 'a' (type 23) of public.t: not a value of its type in binary format",
        ),
    ],
)  # fmt: skip
def test_malformed_copy(decoder_impl: Any, data: bytes, offset: int, message: str) -> None:
    decoder = decoder_impl()
    with pytest.raises(ProtocolError) as caught:
        decoder.copy_rows(RELATION, data)
    error = caught.value
    assert (error.kind, error.offset, error.message, error.lsn) == (
        "CopyRow",
        offset,
        message,
        None,
    )
    assert decoder.copy_rows(RELATION, ROWS)[0] == {"a": 1, "b": "x"}


def test_copy_cannot_give_text(decoder_impl: Any) -> None:
    with pytest.raises(ProtocolError, match="binary, and values='text' was asked for"):
        decoder_impl(values="text").copy_rows(RELATION, ROWS)


# Loaders of the user's own.


def test_a_loader_that_raises(decoder_impl: Any) -> None:
    def broken(raw: bytes) -> Any:
        raise KeyError("no such thing")

    decoder = decoder_impl()
    decoder.register_loader(23, text=broken)
    decoder.decode(relation_payload(23, 1007))
    for cells in ([encoder.text("1"), encoder.NULL], [encoder.NULL, encoder.text("{NULL,1}")]):
        with pytest.raises(ProtocolError) as caught:
            row_of(decoder, *cells)
        assert isinstance(caught.value.__cause__, KeyError)
        assert "its registered loader raised KeyError: 'no such thing'" in caught.value.message
        assert "of public.t" in caught.value.message
    assert row_of(decoder, encoder.binary(b"\0\0\0\1"), encoder.NULL) == [1, None]


def decoders_of(decoder_impl: Any, **settings: Any) -> list[Any]:
    """One decoder of events and one of JSON Lines."""
    name = decoder_impl.__module__.replace("_decode", "_json")
    return [decoder_impl(**settings), importlib.import_module(name).JSONDecoder(**settings)]


T, B = encoder.text, encoder.binary


@pytest.mark.parametrize(
    ("change", "offset"),
    [
        (encoder.insert(1, [encoder.NULL, T("bad")]), 39),
        (encoder.insert(1, [T("{NULL,bad}"), encoder.NULL]), 38),
        (encoder.insert(1, [T("{ok,bad}"), T("\0")]), 38),
        (encoder.insert(1, [encoder.NULL, B(b"bad")]), 39),
        (encoder.update(1, [T("{ok}"), T("bad")]), 47),
        (encoder.update(1, [encoder.NULL, T("ok")], old=[encoder.NULL, T("bad")]), 39),
        (encoder.update(1, [encoder.NULL, T("bad")], old=[encoder.NULL, T("ok")]), 50),
        (encoder.update(1, [encoder.NULL, T("bad")], key=[T("{ok}"), encoder.NULL]), 52),
        (encoder.delete(1, old=[encoder.NULL, T("bad")]), 39),
    ],
)
def test_a_loader_that_fails_once(decoder_impl: Any, change: bytes, offset: int) -> None:
    """It is not tried again behind the back of its owner, and the error says where it was."""
    for decoder in decoders_of(decoder_impl):
        failed: list[bytes] = []

        def load(raw: bytes, failed: list[bytes] = failed) -> str:
            if raw == b"bad" and not failed:
                failed.append(raw)
                raise ConnectionError("just now")
            return "fine"

        decoder.register_loader(23, text=load, binary=load)
        columns = [encoder.column("a", 1007, is_key=True), encoder.column("b", 23)]
        decoder.decode(xlogdata(encoder.relation(1, "public", "t", "f", columns)))
        good = xlogdata(encoder.insert(1, [encoder.NULL, T("good")]))
        changes, at, error = decoder.decode_run([good, xlogdata(change, 7), good])
        assert (len(changes), at, failed) == (1, 2, [b"bad"])
        assert isinstance(error, ProtocolError)
        assert isinstance(error.__cause__, ConnectionError)
        wanted = {b"I": "Insert", b"U": "Update", b"D": "Delete"}[change[:1]]
        assert (error.kind, error.offset, error.lsn) == (wanted, offset, 7)
        assert "its registered loader raised ConnectionError: just now" in error.message
        changes, at, error = decoder.decode_run([xlogdata(change)])
        assert (len(changes), at, error) == (1, 1, None)


def test_one_text_that_is_not_utf8_calls_no_loader_again(decoder_impl: Any) -> None:
    seen: list[bytes] = []
    decoder = decoder_impl()
    decoder.register_loader(23, text=seen.append)
    decoder.decode(relation_payload(23, 25, 25))
    cells = [T("1"), T(b"\xff"), B(b"\xfe")]
    assert row_of(decoder, *cells) == [None, b"\xff", b"\xfe"]
    assert seen == [b"1"]


def test_a_row_maker_that_fails_once(decoder_impl: Any) -> None:
    failed: list[Any] = []

    def factory(columns: Any) -> Any:
        def make(values: list[Any]) -> tuple[Any, ...]:
            if not failed:
                failed.append(values)
                raise ValueError("just now")
            return tuple(values)

        return make

    decoder = decoder_impl(row_factory=factory)
    decoder.decode(relation_payload(23))
    payload = xlogdata(encoder.insert(1, [T("1")]))
    with pytest.raises(ValueError, match="just now"):
        decoder.decode(payload)
    assert decoder.decode(payload).new == (1,)


@pytest.mark.parametrize("error", [TypeError, KeyError, MemoryError, OverflowError])
@pytest.mark.parametrize("cell", [encoder.text("1"), encoder.binary(b"1")])
def test_json_loads_that_fails(decoder_impl: Any, error: type[Exception], cell: bytes) -> None:
    def loads(document: str) -> Any:
        raise error("mine")

    decoder = decoder_impl(json_loads=loads)
    decoder.decode(relation_payload(114))
    with pytest.raises(ProtocolError, match=f"raised {error.__name__}") as caught:
        row_of(decoder, cell)
    assert type(caught.value.__cause__) is error


@pytest.mark.parametrize("error", [ValueError, RecursionError])
def test_what_json_loads_refuses_is_text(decoder_impl: Any, error: type[Exception]) -> None:
    def loads(document: str) -> Any:
        raise error

    decoder = decoder_impl(json_loads=loads)
    decoder.decode(relation_payload(114))
    assert row_of(decoder, encoder.text("1")) == ["1"]


@pytest.mark.parametrize("cell", [encoder.text(b"whole"), encoder.binary(b"whole")])
def test_a_loader_gets_no_part_of_a_value(decoder_impl: Any, cell: bytes) -> None:
    seen: list[bytes] = []
    decoder = decoder_impl()
    decoder.register_loader(23, text=seen.append, binary=seen.append)
    decoder.decode(relation_payload(23))
    payload = xlogdata(encoder.insert(1, [cell]))
    for size in range(len(payload)):
        with pytest.raises(ProtocolError):
            decoder.decode(payload[:size])
    assert seen == []
    decoder.decode(payload)
    assert seen == [b"whole"]


def test_loaders_that_would_never_be_called(decoder_impl: Any) -> None:
    with pytest.raises(ValueError, match="needs a loader"):
        decoder_impl().register_loader("text")
    with pytest.raises(ValueError, match="no loader is called"):
        decoder_impl(values="text").register_loader("text", text=bytes)


def test_the_most_exact_name_counts(decoder_impl: Any) -> None:
    other = TypeInfo(20_010, "other", "mood", "enum")
    decoder = decoder_impl(catalog=Catalog([MOOD, other]))
    decoder.decode(relation_payload(20_000, 20_010))
    decoder.register_loader("other.mood", text=lambda raw: "exact")
    decoder.register_loader("mood", text=lambda raw: "any")
    assert row_of(decoder, encoder.text("a"), encoder.text("a")) == ["any", "exact"]
    decoder.register_loader(20_000, text=lambda raw: "number")
    assert row_of(decoder, encoder.text("a"), encoder.text("a")) == ["number", "exact"]


def test_every_built_in_type_is_found_by_its_names(any_database: Database) -> None:
    rows = any_database.execute(
        "SELECT oid::int, typname, format_type(oid, NULL) FROM pg_type WHERE oid < 10000"
        " AND typtype IN ('b', 'r', 'm') AND typarray <> 0"
        " UNION ALL SELECT typarray::int, '_' || typname, format_type(typarray, NULL)"
        " FROM pg_type WHERE oid < 10000 AND typtype IN ('b', 'r', 'm') AND typarray <> 0"
    )
    assert len(rows) > 120
    for oid, name, sql_name in rows:
        assert oids.oid_of(f"pg_catalog.{name}") == oid
        assert oids.oid_of(sql_name) == oid
        assert oids.oid_of(f"pg_catalog.{oids.name_of(oid)}") == oid
        if name != "char":  # which SQL takes for the other one
            assert oids.oid_of(name) == oid


@pytest.mark.parametrize(
    ("name", "oid"),
    [
        ("int", 23),
        ("decimal", 1700),
        ("float[]", 1022),
        ("char", 1042),
        ('"char"', 18),
        ("pg_catalog.char[]", 1002),
        ("_char", 1002),
        ("_integer", None),
        ("int4[][]", None),
        ("public.int4", None),
        ("first_of_others", None),
        ("", None),
        ("[]", None),
        ("_", None),
    ],
)
def test_names_of_built_in_types(name: str, oid: int | None) -> None:
    assert oids.oid_of(name) == oid


def test_names_for_people() -> None:
    assert [oids.name_of(oid) for oid in (23, 1034, 99)] == ["int4", "aclitem[]", "OID 99"]


@pytest.mark.parametrize(
    ("name", "oid"),
    [("pg_snapshot", 5038), ("char", 1042), ('"char"', 18), ("decimal", 1700), ("_int4", 1007)],
)
def test_a_built_in_type_by_its_name(decoder_impl: Any, name: str, oid: int) -> None:
    decoder = decoder_impl()
    decoder.register_loader(name, text=lambda raw: "loaded")
    decoder.decode(relation_payload(oid))
    assert row_of(decoder, encoder.text("1")) == ["loaded"]


def test_what_psycopg_has_registered_is_of_no_account(
    decoder_impl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg's registry is the process's, and may hold the types of another database."""
    registry = psycopg.types.TypesRegistry(psycopg.postgres.types)
    registry.add(psycopg.types.TypeInfo("mood", 17_777, 17_778))
    monkeypatch.setattr(psycopg.postgres, "types", registry)
    decoder = decoder_impl(catalog=Catalog([MOOD]))
    decoder.register_loader("mood", text=lambda raw: "loaded")
    decoder.decode(relation_payload(20_000))
    assert row_of(decoder, encoder.text("sad")) == ["loaded"]


# Ranges of documents.

BOUNDS = Catalog(
    [
        TypeInfo(20_000, "s", "of_jsonb", "range", 3802),
        TypeInfo(20_001, "s", "hstore", "base"),
        TypeInfo(20_002, "s", "of_hstore", "range", 20_001),
        TypeInfo(20_003, "s", "pair", "composite", fields=(("a", 3802), ("b", 3807))),
        TypeInfo(20_004, "s", "of_pair", "range", 20_003),
        TypeInfo(20_005, "s", "multi", "multirange", 20_000),
    ]
)


def bounds(*bounds: bytes) -> bytes:
    """``[…,…)`` in binary."""
    return b"\2" + b"".join([len(bound).to_bytes(4) + bound for bound in bounds])


def fields(*listed: tuple[int, bytes]) -> bytes:
    """A composite in binary."""
    return len(listed).to_bytes(4) + b"".join(
        [oid.to_bytes(4) + len(field).to_bytes(4) + field for oid, field in listed]
    )


@pytest.mark.parametrize(
    ("oid", "text", "binary", "lower", "upper"),
    [
        (20_000, "[null,1.50)", bounds(b"\1null", b"\1" + b"1.50"), "null", "1.50"),
        (
            20_000,
            '["{""a"": [null]}",{})',
            bounds(b'\1{"a": [null]}', b"\1{}"),
            '{"a": [null]}',
            "{}",
        ),
        (
            20_002,
            '["""a""=>NULL, ""\\\\""""=>""\\\\\\\\""","""b""=>""2""")',
            bounds(
                b"\0\0\0\2\0\0\0\1a\xff\xff\xff\xff\0\0\0\1" + b'"\0\0\0\1\\',
                b"\0\0\0\1\0\0\0\1b\0\0\0\1" + b"2",
            ),
            '"a"=>NULL, "\\""=>"\\\\"',
            '"b"=>"2"',
        ),
        (
            20_004,
            '["(null,""{null,""""[1]""""}"")","(1,{})")',
            bounds(
                fields(
                    (3802, b"\1null"),
                    (3807, sessions.array_binary(3802, [b"\1null", b"\1[1]"])),
                ),
                fields((3802, b"\1" + b"1"), (3807, sessions.array_binary(3802, []))),
            ),
            ("null", ["null", "[1]"]),
            ("1", []),
        ),
    ],
)
def test_documents_as_bounds_are_text(
    decoder_impl: Any, oid: int, text: str, binary: bytes, lower: Any, upper: Any
) -> None:
    """A null would be no bound, and of a dict nothing tells how PostgreSQL writes it."""
    for cell in (encoder.text(text), encoder.binary(binary)):
        events, lines = decoders_of(decoder_impl, catalog=BOUNDS)
        events.decode(relation_payload(oid))
        (value,) = row_of(events, cell)
        assert (value.lower, value.upper, value.bounds) == (lower, upper, "[)")
        lines.decode(relation_payload(oid))
        ((line,), _, error) = lines.decode_run([xlogdata(encoder.insert(1, [cell]))])
        assert error is None
        shown = json.loads(line)["new"]["c0"]
        if oid != 20_004:  # where an array's null is quoted, for want of need
            assert shown == text
        assert encode_value(value) == json.dumps(shown)


def test_white_space_in_the_text_of_ranges(decoder_impl: Any) -> None:
    """PostgreSQL quotes what is white space in ASCII, and Python counts more as such."""
    catalog = Catalog([TypeInfo(20_000, "s", "of_text", "range", 25)])
    decoder = decoder_impl(catalog=catalog)
    decoder.decode(relation_payload(20_000))
    for text in ("[a\u00a0b,c\u2003d]", "[a\x1cb,)", '["a\tb","c d"]', '["a\vb",)'):
        (value,) = row_of(decoder, encoder.text(text))
        assert json.loads(encode_value(value)) == text


def test_arrays_of_rows_of_the_systems_tables(decoder_impl: Any) -> None:
    """Their OIDs are built in, unlike those of all other composites."""
    for array, element in ((210, 71), (270, 75), (272, 81), (273, 83)):
        info = TypeInfo(element, "pg_catalog", "row", "composite", fields=(("a", 23),))
        decoder = decoder_impl(catalog=Catalog([info]))
        decoder.decode(relation_payload(array))
        assert row_of(decoder, encoder.text("{(1)}")) == [[(1,)]]
        cell = sessions.array_binary(element, [fields((23, b"\0\0\0\1"))])
        assert row_of(decoder, encoder.binary(cell)) == [[(1,)]]


def test_documents_in_multiranges(decoder_impl: Any) -> None:
    decoder = decoder_impl(catalog=BOUNDS)
    decoder.decode(relation_payload(20_005))
    (value,) = row_of(decoder, encoder.text('{["null","1")}'))
    assert (value[0].lower, value[0].upper) == ("null", "1")


def test_loaders_of_ones_own_count_in_bounds(decoder_impl: Any) -> None:
    decoder = decoder_impl(catalog=BOUNDS)
    decoder.decode(relation_payload(20_000))
    assert row_of(decoder, encoder.text('["null",)'))[0].lower == "null"
    decoder.register_loader("jsonb", text=len)
    assert row_of(decoder, encoder.text('["null",)'))[0].lower == 4


def test_multiranges_of_what_is_no_range(decoder_impl: Any) -> None:
    """What a loader of one's own makes of the ranges need not be what Multirange takes."""
    decoder = decoder_impl()
    decoder.register_loader("int4range", text=bytes.decode, binary=len)
    decoder.decode(relation_payload(oids.INT4MULTIRANGE))
    assert row_of(decoder, encoder.text("{[1,3),[5,)}")) == [["[1,3)", "[5,)"]]
    cell = struct.pack(">iiBi", 2, 1, 1, 1) + b"\x18"  # an empty range, and one without bounds
    assert row_of(decoder, encoder.binary(cell)) == [[1, 1]]
