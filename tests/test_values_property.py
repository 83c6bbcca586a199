"""Values of every family, drawn at random, written to a real server and read back.

All examples of a family go through one stream, a row each: what the text transfer, the binary
transfer and COPY make of them has to be equal, and for the families whose Python values are
drawn, equal to what was drawn. ``PGSTREAM_TEST_PROFILE=long`` draws thirty times as many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from psycopg.types.range import Range

import encoder
import pgstream
import sessions
import values
from encoder import xlogdata
from pgstream import Insert, Interval
from pgstream.encoding import encode_value
from pgstream.types import Catalog
from servers import Database, fresh_database
from test_parity import canonical

COPY = "COPY (SELECT * FROM t ORDER BY id) TO STDOUT (FORMAT binary)"
COUNT = 60 * sessions.FACTOR

Drawn = tuple[str, Any]
"""A literal, and the value that it should become; ``...`` where only the transfers are compared."""

_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
_finite = st.floats(allow_nan=False, allow_infinity=False)
_int4 = st.integers(-(2**31), 2**31 - 1)


def plain(strategy: SearchStrategy[Any]) -> SearchStrategy[Drawn]:
    """Values whose ``str`` is their literal."""
    return strategy.map(lambda value: (str(value), value))


def _numeric(value: tuple[int, int]) -> Drawn:
    number = Decimal(value[0]).scaleb(-value[1])
    return f"{number:f}", number


def _money(cents: int) -> Drawn:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}", cents


def _float(value: float) -> str:
    return repr(value).replace("inf", "Infinity")


def _quoted(item: Any, null: str = "NULL") -> str:
    if item is None:
        return null
    return '"' + str(item).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _array(items: list[Any]) -> str:
    return "{" + ",".join([_quoted(item) for item in items]) + "}"


def _listed(items: list[Any]) -> Drawn:
    return _array(items), items


def _boxes(boxes: list[tuple[float, float, float, float]]) -> Drawn:
    return "{" + ";".join([f"({a!r},{b!r}),({c!r},{d!r})" for a, b, c, d in boxes]) + "}", ...


def _interval(fields: tuple[int, int, int]) -> Drawn:
    months, days, us = fields
    sign, us_text = ("-" if us < 0 else ""), abs(us)
    clock = f"{sign}{us_text // 3_600_000_000}:{us_text // 60_000_000 % 60}"
    seconds = f"{us_text // 1_000_000 % 60}.{us_text % 1_000_000:06d}"
    return f"{months} mons {days} days {clock}:{seconds}", Interval(months, days, us)


def _times(zone: timezone | None) -> SearchStrategy[time]:
    return st.times().map(lambda moment: moment.replace(tzinfo=zone))


def _with_zone(moment: time, east: int) -> Drawn:
    value = moment.replace(tzinfo=timezone(timedelta(seconds=east)))
    return value.isoformat(), value


def _range(bounds: tuple[int | None, int | None]) -> Drawn:
    low, high = bounds
    if low is not None and high is not None and low >= high:
        return "empty", Range(empty=True)
    text = f"[{'' if low is None else low},{'' if high is None else high})"
    return text, Range(low, high, ("(" if low is None else "[") + ")")


def _composite(fields: tuple[int | None, str | None]) -> Drawn:
    number, text = fields
    return f"({'' if number is None else number},{_quoted(text, '')})", fields


def _hstore(pairs: dict[str, str | None]) -> Drawn:
    text = ", ".join([f"{_quoted(key)}=>{_quoted(value)}" for key, value in pairs.items()])
    return text, pairs


def _point(numbers: tuple[float, float]) -> Drawn:
    return f"({numbers[0]!r},{numbers[1]!r})", ...


_words = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs", "Z", "C"]),
    min_size=1,
    max_size=5,
).map(lambda word: "'" + word.replace("\\", "\\\\").replace("'", "''") + "'")


def _queries() -> SearchStrategy[str]:
    leaf = st.tuples(_words, st.sampled_from(["", ":A", ":*", ":*BD"])).map("".join)
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            inner.map(lambda one: f"!({one})"),
            st.tuples(inner, st.sampled_from(["&", "|", "<->", "<3>", "<0>"]), inner).map(
                lambda parts: f"({parts[0]}) {parts[1]} ({parts[2]})"
            ),
        ),
        max_leaves=8,
    )


def _lexemes(words: list[tuple[str, list[tuple[int, str]]]]) -> Drawn:
    shown = [
        word + (":" + ",".join([f"{at}{mark}" for at, mark in places]) if places else "")
        for word, places in words
    ]
    return " ".join(shown), ...


FAMILIES: dict[str, tuple[str, SearchStrategy[Drawn]]] = {
    "int8": ("int8", plain(st.integers(-(2**63), 2**63 - 1))),
    "float8": ("float8", st.floats().map(lambda value: (_float(value), value))),
    "float4": ("float4", st.floats(width=32).map(lambda value: (_float(value), ...))),
    "numeric": (
        "numeric",
        st.tuples(st.integers(-(10**40), 10**40), st.integers(0, 60)).map(_numeric),
    ),
    "int2": ("int2", plain(st.integers(-(2**15), 2**15 - 1))),
    "money": ("money", st.integers(-(2**63), 2**63 - 1).map(_money)),
    "text": ("text", _text.map(lambda value: (value, value))),
    "bytea": ("bytea", st.binary(max_size=20).map(lambda value: ("\\x" + value.hex(), value))),
    "bit": ("varbit", st.text("01", max_size=40).map(lambda value: (value, value))),
    "date": ("date", plain(st.dates())),
    "time": ("time", plain(_times(None))),
    "timetz": (
        "timetz",
        st.tuples(st.times(), st.integers(-57_599, 57_599)).map(
            lambda drawn: _with_zone(drawn[0], drawn[1])
        ),
    ),
    "timestamp": ("timestamp", plain(st.datetimes())),
    "timestamptz": (
        "timestamptz",
        st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC)).map(
            lambda value: (str(value), value)
        ),
    ),
    "interval": (
        "interval",
        st.tuples(_int4, _int4, st.integers(-(2**52), 2**52)).map(_interval),
    ),
    "inet": ("inet", plain(st.ip_addresses())),
    "point": ("point", st.tuples(_finite, _finite).map(_point)),
    "box": (
        "box[]",
        st.lists(st.tuples(st.integers(-9, 9), st.floats(-1e30, 1e30)), min_size=2, max_size=2).map(
            lambda corners: (
                "{" + ",".join(map(str, [f"({x},{y!r})" for x, y in corners])) + "}",
                ...,
            )
        ),
    ),
    "tsquery": ("tsquery", _queries().map(lambda query: (query, ...))),
    "tsvector": (
        "tsvector",
        st.lists(
            st.tuples(
                _words,
                st.lists(st.tuples(st.integers(1, 16_383), st.sampled_from("ABC")), max_size=3),
            ),
            max_size=4,
        ).map(_lexemes),
    ),
    "jsonb": (
        "jsonb",
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**40), 2**40) | _text,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
            max_leaves=6,
        ).map(lambda value: (json.dumps(value), value)),
    ),
    "array": (
        "text[]",
        st.lists(st.none() | _text, max_size=4).map(lambda value: (_array(value), value)),
    ),
    "ints": (
        "int4[]",
        st.lists(st.none() | _int4, max_size=4).map(lambda value: (_array(value), value)),
    ),
    "int8range": ("int8range", st.tuples(st.none() | _int4, st.none() | _int4).map(_range)),
    "texts": (
        "texts",
        st.lists(_text, min_size=2, max_size=2)
        .map(lambda bounds: sorted(bounds, key=str.encode))
        .map(lambda bounds: (f"[{_quoted(bounds[0])},{_quoted(bounds[1])}]", ...)),
    ),
    "composite": ("pair", st.tuples(st.none() | _int4, st.none() | _text).map(_composite)),
    "composites": (
        "pair[]",
        st.lists(st.tuples(st.none() | _int4, st.none() | _text).map(_composite), max_size=3).map(
            lambda items: (_array([text for text, _ in items]), [value for _, value in items])
        ),
    ),
    "hstore": ("hstore", st.dictionaries(_text, st.none() | _text, max_size=3).map(_hstore)),
}


@pytest.fixture(scope="module")
def typed_database(server: Any) -> Iterator[Database]:
    with fresh_database(server) as database:
        database.execute(values.PRELUDE)
        yield database


def draw(strategy: SearchStrategy[Drawn]) -> list[Drawn]:
    """What Hypothesis draws, all at once: a server is asked once for all of it."""
    drawn: list[Drawn] = []

    @settings(
        max_examples=COUNT,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(one: Drawn) -> None:
        drawn.append(one)

    collect()
    return drawn


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_read(typed_database: Database, family: str) -> None:
    type_, strategy = FAMILIES[family]
    drawn = draw(strategy)
    database = typed_database
    slots = [f"{database.name}_{form}" for form in ("text", "binary")]
    with database.connect() as connection:
        connection.execute(f"CREATE TABLE t (id serial, v {type_})".encode())
        connection.execute("CREATE PUBLICATION p FOR TABLE t")
        try:
            for slot in slots:
                pgstream.connect(database.dsn, slot=slot, publication="p").close()
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO t (v) VALUES (%s::text::{type_})".encode(),
                    [(literal,) for literal, _ in drawn],
                )
            rows = []
            for slot in slots:
                with pgstream.connect(
                    database.dsn, slot=slot, publication="p", binary=slot == slots[1], until="now"
                ) as stream:
                    events = [event for event in stream if isinstance(event, Insert)]
                    catalog: Catalog = stream.catalog
                rows.append([event.new["v"] for event in events])
            relation = events[0].relation
            copied = [
                row["v"]
                for piece in values.copied(database, COPY)
                for row in pgstream.Decoder(catalog=catalog).copy_rows(relation, piece)
            ]
            as_text = connection.execute("SELECT v::text FROM t ORDER BY id").fetchall()
        finally:
            connection.execute("DROP PUBLICATION p; DROP TABLE t")
            for slot in slots:
                connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
    assert len(rows[0]) == len(drawn) >= COUNT // 2
    for at, (literal, wanted) in enumerate(drawn):
        text, binary, copy = rows[0][at], rows[1][at], copied[at]
        assert canonical(text) == canonical(binary) == canonical(copy), literal
        assert encode_value(text) == encode_value(binary)
        if wanted is ...:
            if isinstance(text, str):
                assert text == as_text[at][0]
        elif isinstance(wanted, float) and math.isnan(wanted):
            assert math.isnan(text)
        else:
            assert text == wanted, literal


ENDS_OF_MONTHS = """
COPY (
    SELECT day, day::text, stamp, stamp::text
    FROM generate_series(0, 146096) AS days
    CROSS JOIN LATERAL (SELECT {first}::date + days AS day) AS a
    CROSS JOIN LATERAL (SELECT day + time '23:59:59.5' AS stamp) AS b
    WHERE extract(day FROM day) = 1 OR extract(day FROM day + 1) = 1
) TO STDOUT (FORMAT binary)
"""


@pytest.mark.parametrize("first", ["'0401-01-01 BC'", "'10000-01-01'"])
def test_months_that_python_does_not_have(
    typed_database: Database, decoder_impl: Any, first: str
) -> None:
    """The first and the last day of each, over 400 years: then the leap years come again."""
    decoder = decoder_impl()
    types = [1082, 25, 1114, 25]
    columns = [encoder.column(f"c{at}", oid) for at, oid in enumerate(types)]
    relation = decoder.decode(xlogdata(encoder.relation(1, "s", "t", "d", columns)))
    pieces = values.copied(typed_database, ENDS_OF_MONTHS.format(first=first))
    rows = decoder.copy_rows(relation, b"".join(pieces))
    assert len(rows) == 2 * 12 * 400
    for row in rows:
        day, day_text, stamp, stamp_text = row.values()
        assert (day, stamp) == (day_text, stamp_text)
