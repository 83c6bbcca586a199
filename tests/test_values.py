"""Values of every type on real servers: the same from text, binary and COPY binary, and what
psycopg's SELECT gives, but for the exceptions that the documentation lists.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import adapt, sql
from psycopg.types import TypeInfo, numeric
from psycopg.types import datetime as datetimes
from psycopg.types import string as strings
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.hstore import register_hstore
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range, RangeInfo, register_range

import encoder
import pgstream
import values
from pgstream import Insert
from pgstream.embedded import Server
from pgstream.encoding import encode_value
from pgstream.messages import Relation
from pgstream.types import Catalog, Interval, JSONText, oids
from pgstream.types.composites import composite_class
from servers import Database, fresh_database
from test_parity import canonical

# Set on the database, these change what a session without settings of its own would show.
ODD_SETTINGS = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Australia/Lord_Howe",
    "bytea_output": "escape",
    "extra_float_digits": "-5",
    "xmloption": "content",
}


@dataclasses.dataclass
class Recorded:
    """The table as it stands on a server, and its rows from each of the transfers."""

    database: Database
    columns: dict[str, values.Column]
    relation: Relation
    catalog: Catalog
    text: list[bytes]
    binary: list[bytes]

    def type_of(self, name: str) -> str:
        return self.columns[name].type if name in self.columns else "int4"

    def rows(self, decoder: Any) -> list[tuple[Any, ...]]:
        """The rows of the text transfer and of the binary transfer, in pairs by column."""
        streams = []
        for payloads in (self.text, self.binary):
            made = decoder(catalog=self.catalog)
            events = [event for event in made.decode_many(payloads) if isinstance(event, Insert)]
            streams.append([event.new for event in events])
        return list(zip(*streams, strict=True))

    def copied(self, decoder: Any, names: list[str], **options: Any) -> list[dict[str, Any]]:
        """The rows of COPY binary, of these columns."""
        relation = dataclasses.replace(
            self.relation,
            columns=tuple(column for column in self.relation.columns if column.name in names),
        )
        made = decoder(catalog=self.catalog, **options)
        pieces = values.copied(
            self.database,
            f"COPY (SELECT {', '.join(names)} FROM everything ORDER BY id)"
            " TO STDOUT (FORMAT binary)",
        )
        return [row for piece in pieces for row in made.copy_rows(relation, piece)]


def record(database: Database) -> Recorded:
    """Fill the table and record the stream of it, once in text and once in binary."""
    with database.connect() as connection:
        columns = values.create_table(connection)
        connection.execute("CREATE PUBLICATION pgstream_pub FOR TABLE everything")
        slots = [f"{database.name}_{form}" for form in ("text", "binary")]
        for slot in slots:
            pgstream.connect(database.dsn, slot=slot).close()
        values.fill_table(connection, columns)
    recorded: list[list[bytes]] = []
    for slot in slots:
        payloads: list[bytes] = []
        stream = pgstream.connect(
            database.dsn,
            slot=slot,
            binary=slot == slots[1],
            until="now",
            tap=lambda payload, kept=payloads: kept.append(bytes(payload)),  # type: ignore[misc]
        )
        with stream:
            relation = next(event.relation for event in stream if isinstance(event, Insert))
            for _ in stream:
                pass
            catalog = stream.catalog
        recorded.append(payloads)
    return Recorded(database, columns, relation, catalog, *recorded)


@pytest.fixture(scope="module")
def recorded(any_server: Server) -> Iterator[Recorded]:
    with fresh_database(any_server) as database:
        yield record(database)


def differences(
    columns: dict[str, values.Column], one: dict[str, Any], other: dict[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Type and values of the columns that differ in anything, also what ``==`` does not see."""
    return [
        (columns[name].type if name in columns else name, one[name], other[name])
        for name in one
        if canonical(one[name]) != canonical(other[name])
    ]


def test_text_and_binary_are_equal(recorded: Recorded, decoder_impl: Any) -> None:
    rows = recorded.rows(decoder_impl)
    assert len(rows) > 15
    for text, binary in rows:
        assert differences(recorded.columns, text, binary) == []


def test_nothing_is_unknown(recorded: Recorded, decoder_impl: Any) -> None:
    """Every column has a value that is none of the last resorts, bytes or an unexplained type."""
    decoder = decoder_impl(catalog=recorded.catalog)
    decoder.decode_many(recorded.binary)
    assert decoder.unknown_types == frozenset()
    for _, row in recorded.rows(decoder_impl):
        for name, value in row.items():
            if type(value) is bytes:
                assert recorded.columns[name].type == "bytea"


# Types that have no binary form: COPY refuses them, the stream sends them as text.
NO_BINARY = ("aclitem", "isbn", "seg")


def test_copy_binary_is_equal(recorded: Recorded, decoder_impl: Any) -> None:
    names = [name for name, one in recorded.columns.items() if one.type not in NO_BINARY]
    copied = recorded.copied(decoder_impl, ["id", *names])
    rows = [text for text, _ in recorded.rows(decoder_impl)]
    assert len(copied) == len(rows)
    for row, text in zip(copied, rows, strict=True):
        wanted = {name: text[name] for name in row}
        assert differences(recorded.columns, wanted, row) == []


def text_where_python_has_none(base: Any) -> Any:
    """A loader of psycopg's that gives PostgreSQL's text instead of an error."""

    class Loader(base):  # type: ignore[misc]
        def load(self, data: Any) -> Any:
            try:
                return super().load(data)
            except (psycopg.DataError, ValueError, RecursionError):
                return bytes(data).decode()

    return Loader


class MoneyLoader(adapt.Loader):
    """The digits as an integer."""

    def load(self, data: Any) -> int:
        digits = int(re.sub(rb"[^0-9]", b"", bytes(data)))
        return -digits if b"-" in bytes(data) else digits


class CharLoader(adapt.Loader):
    """A byte beyond ASCII as PostgreSQL 15 and later show it."""

    def load(self, data: Any) -> str:
        raw = bytes(data)
        return f"\\{raw[0]:03o}" if len(raw) == 1 and raw[0] >= 0x80 else raw.decode()


class DocumentLoader(adapt.Loader):
    """What json.loads refuses, or what is nested beyond 200, as text."""

    def load(self, data: Any) -> Any:
        try:
            return bytes(data).decode() if b"[" * 201 in bytes(data) else json.loads(bytes(data))
        except ValueError:
            return bytes(data).decode()


def adapt_psycopg(connection: psycopg.Connection[Any]) -> None:
    """Tell psycopg of the types, as a user of it would, and of the exceptions of ours."""
    adapters = connection.adapters
    for name, base in {
        "date": datetimes.DateLoader,
        "time": datetimes.TimeLoader,
        "timetz": datetimes.TimetzLoader,
        "timestamp": datetimes.TimestampLoader,
        "timestamptz": datetimes.TimestamptzLoader,
    }.items():
        adapters.register_loader(name, text_where_python_has_none(base))
    adapters.register_loader("interval", strings.TextLoader)
    adapters.register_loader("money", MoneyLoader)
    adapters.register_loader('"char"', CharLoader)
    adapters.register_loader("json", DocumentLoader)
    adapters.register_loader("jsonb", DocumentLoader)
    adapters.register_loader("xid", numeric.IntLoader)
    info: Any
    for name in ("mood", "year", "words", "tile", "citext", "ltree"):
        info = TypeInfo.fetch(connection, name)
        info.register(connection)
        if name == "year":  # a domain: psycopg has no notion of what is below it
            adapters.register_loader(info.oid, numeric.IntLoader)
        if name == "words":
            adapters.register_loader(info.oid, adapters.get_loader(1009, psycopg.pq.Format.TEXT))
    info = TypeInfo.fetch(connection, "hstore")
    register_hstore(info, connection)
    plain = ("pair", "lonely", "nothing", "deep", "other.pair", '"class"', "mixed")
    for name in (*plain, sql.Identifier("odd Type")):
        info = CompositeInfo.fetch(connection, name)
        if name not in plain:
            info.field_names = ("f1st", "größe", "klass", "a_b", "a_b2")
        factory = None
        if name == "lonely":  # psycopg reads "()" as no field; it is one that is NULL
            factory = namedtuple("lonely", ["one"], defaults=[None])
        if name == '"class"':  # which it refuses, as a name and for its two fields
            factory = namedtuple("klass", ["fi", "fi2"])
        register_composite(info, connection, factory)
    for name in ("floats", "texts", "pairs", "spans", "mixtures"):
        info = RangeInfo.fetch(connection, name)
        register_range(info, connection)


def comparable(value: Any) -> Any:
    """A value without what psycopg has otherwise by intent: an Interval is its text, a
    timestamptz is in UTC, the class of a namedtuple is another.
    """
    if isinstance(value, Interval):
        return comparable(str(value))
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, tuple):
        return "namedtuple", [comparable(item) for item in value]
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, Range):
        bounds = [comparable(value.lower), comparable(value.upper)]
        return "range", value.isempty, *bounds, value.bounds
    if isinstance(value, Multirange):
        return "multirange", [comparable(one) for one in value]
    return type(value).__name__, repr(value)


def test_equal_to_what_psycopg_gives(recorded: Recorded) -> None:
    rows = [text for text, _ in recorded.rows(pgstream.Decoder)]
    compared = 0
    with recorded.database.connect(options="-c timezone=UTC -c extra_float_digits=3") as connection:
        adapt_psycopg(connection)
        cursor = connection.execute("SELECT * FROM everything ORDER BY id")
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        for row, selected in zip(rows, cursor, strict=True):
            for name, wanted in zip(names, selected, strict=True):
                if recorded.type_of(name) == "tagged":  # whose bounds are text here, by intent
                    continue
                assert comparable(row[name]) == comparable(wanted), recorded.type_of(name)
                compared += wanted is not None
    assert compared > 350


def test_fields_are_called_as_psycopg_calls_them(database: Database) -> None:
    names = ("_x", "1st", "a-b", "größe", "a b c", "X")
    fields = ", ".join(f'"{name}" int' for name in names)
    with database.connect() as connection:
        connection.execute(f"CREATE TYPE odd AS ({fields})".encode())
        info = CompositeInfo.fetch(connection, "odd")
        assert info is not None
        register_composite(info, connection)
        [(value,)] = connection.execute("SELECT '(1,2,3,4,5,6)'::odd").fetchall()
    made: Any = composite_class("odd", names)
    assert made._fields == value._fields
    assert made.pg_names == names


# Settings of the database.


def test_odd_settings_of_the_database_change_nothing(
    any_server: Server, recorded: Recorded, decoder_impl: Any
) -> None:
    with fresh_database(any_server) as odd:
        name = sql.Identifier(odd.name)
        settings = ODD_SETTINGS | {"lc_monetary": "C"}
        with odd.connect() as connection:
            for setting, value in settings.items():
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.SQL(setting), value)  # type: ignore[arg-type]
                )
        with odd.connect() as connection:  # they are in force
            assert connection.execute("SELECT interval '1 day 1 hour'::text").fetchone() == (
                "1 1:00:00",
            )
            connection.execute(
                "SET extra_float_digits = 1; SET timezone = UTC; SET datestyle = ISO"
            )
        here = record(odd)
        for at, (text, binary) in enumerate(here.rows(decoder_impl)):
            assert differences(here.columns, text, binary) == []
            assert differences(here.columns, recorded.rows(decoder_impl)[at][0], text) == []


# Objects by their names.


def test_objects_that_are_not_there(server: Server, decoder_impl: Any) -> None:
    """Of those that are there the binary form has no name; here both have the same."""
    named = sorted(oids.NAMED_OBJECTS)
    shown = [f"{number}::oid::{oids.name_of(oid)}" for oid in named for number in (0, 4294967295)]
    columns = [column for oid in named for column in 2 * (oid, oids.TEXT)]
    decoder = decoder_impl()
    described = [encoder.column(f"c{at}", oid) for at, oid in enumerate(columns)]
    relation = decoder.decode(encoder.xlogdata(encoder.relation(1, "s", "t", "d", described)))
    selected = ", ".join(f"{one}, ({one})::text" for one in shown)
    pieces = values.copied(
        Database(server, "postgres"), f"COPY (SELECT {selected}) TO STDOUT (FORMAT binary)"
    )
    [row] = decoder.copy_rows(relation, b"".join(pieces))
    found = list(row.values())
    assert found[::2] == found[1::2]


# JSON.


def encoded(row: dict[str, Any]) -> dict[str, str]:
    return {name: encode_value(value) for name, value in row.items()}


def test_json_is_the_same_and_is_postgresqls(recorded: Recorded) -> None:
    """Strings are PostgreSQL's own text, but for those of ISO 8601."""
    loads = {"json_loads": JSONText, "catalog": recorded.catalog}
    streams = []
    for payloads in (recorded.text, recorded.binary):
        events = pgstream.Decoder(**loads).decode_many(payloads)
        streams.append([encoded(event.new) for event in events if isinstance(event, Insert)])
    assert streams[0] == streams[1]
    compared = 0
    with recorded.database.connect(options="-c timezone=UTC -c extra_float_digits=3") as connection:
        connection.execute("SET intervalstyle = iso_8601")
        result = connection.execute("SELECT * FROM everything ORDER BY id").pgresult
        assert result is not None
        for at, row in enumerate(streams[0]):
            for index, (name, document) in enumerate(row.items()):
                raw = result.get_value(at, index)
                if raw is None:
                    assert document == "null"
                    continue
                shown = raw.decode("latin-1" if recorded.type_of(name) == '"char"' else "utf-8")
                if recorded.type_of(name) in ("json", "jsonb"):
                    assert document == shown.replace("\n", " ").replace("\r", " ")
                    continue
                value = json.loads(document)
                if type(value) is str and recorded.type_of(name) not in NOT_ITS_TEXT:
                    assert iso(value) == iso(shown), recorded.type_of(name)
                    compared += 1
    assert compared > 200


NOT_ITS_TEXT = ("money", '"char"')  # numbers of cents; bytes beyond ASCII, of PostgreSQL 14


def iso(text: str) -> str:
    """Dates and times in ISO 8601 and as PostgreSQL writes them, alike."""
    if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:", text) or re.match(r"\d\d:\d\d:\d\d", text):
        text = text.replace(" ", "T").replace("+00:00", "+00").replace("+00", "Z")
        text = re.sub(r"(\.\d*?)0+(?=\D|$)", r"\1", text)
    return text


# Loaders of the user's own.


def test_registered_loaders_are_used_everywhere(recorded: Recorded, decoder_impl: Any) -> None:
    def shout(raw: bytes) -> str:
        return "!" + raw.decode("utf-8", "replace")

    for payloads, form in ((recorded.text, "text"), (recorded.binary, "binary")):
        decoder = decoder_impl(catalog=recorded.catalog)
        decoder.register_loader("mood", **{form: shout})
        decoder.register_loader("integer", **{form: lambda raw: ("int", raw)})
        decoder.register_loader("other.pair", **{form: lambda raw: "a pair"})
        events = [one for one in decoder.decode_many(payloads) if isinstance(one, Insert)]
        of = {one.type: name for name, one in recorded.columns.items()}
        row = events[0].new
        assert row[of["mood"]] == "!sad"
        assert row[of["mood[]"]] == ["!sad", '!very "happy", really']
        assert row[of['"odd Type"']][3] == "!sad"
        assert row[of["other.pair"]] == "a pair"
        assert row[of["year"]][0] == "int"
        assert row[of["year[]"]][0][0] == "int"
        assert row[of["pair"]].a[0] == "int"
        assert row[of["pair"]].b == "a"
        assert row[of["int4range"]].lower[0] == "int"
        assert row[of["int4multirange[]"]][0][0].lower[0] == "int"
        assert row[of["int2"]] == 0
        assert row[of["span"]].upper[0] == "int"
