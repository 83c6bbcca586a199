"""Values of every type, as SQL writes them: the edges of each, for tests on real servers.

Each column of the table ``everything`` holds the values of one type, one a row; the columns
that have fewer are NULL in the rows that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from pgstream import slots
from pgstream.types.catalog import Catalog, catalog_query, parse_catalog
from servers import Database

PRELUDE = """
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
CREATE EXTENSION cube; CREATE EXTENSION isn; CREATE EXTENSION seg;
CREATE SCHEMA other;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'very "happy", really', 'größer');
CREATE DOMAIN year AS int CHECK (VALUE > 1000);
CREATE DOMAIN other.leap AS year;
CREATE DOMAIN words AS text[];
CREATE DOMAIN tile AS box;
CREATE TYPE pair AS (a int, b text);
CREATE TYPE "odd Type" AS ("1st" numeric, "größe" float8, "class" mood, "a b" mood, "a-b" year);
CREATE TYPE deep AS (id bigint, pairs pair[], at tstzrange, "inner" "odd Type", tags hstore);
CREATE TYPE lonely AS (one text);
CREATE TYPE nothing AS ();
CREATE TYPE "class" AS ("ﬁ" int, fi text);
CREATE TYPE other.pair AS (x inet, y interval);
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE TYPE texts AS RANGE (subtype = text, collation = "C");
CREATE TYPE pairs AS RANGE (subtype = pair);
CREATE TYPE spans AS RANGE (subtype = int4multirange);
CREATE TYPE tagged AS RANGE (subtype = hstore);
CREATE TYPE mixed AS (
    words text[], flags bool[], raw bytea, at time, zoned timetz, day date, stamp timestamp,
    key uuid, host inet, number float8, exact numeric, letters texts, word text
);
CREATE TYPE mixtures AS RANGE (subtype = mixed);
CREATE DOMAIN span AS int4range;
"""


@dataclass(frozen=True)
class Column:
    """One type, and SQL expressions for values of it."""

    type: str
    values: tuple[str, ...]

    def of(self, version: int) -> tuple[str, ...]:
        """The values that a server of this version has."""
        return tuple([one for one in self.values if one[:2] != "/*" or version >= int(one[2:4])])


def column(type_: str, *values: str) -> Column:
    """A column; each value is a literal of its type, or an expression after ``sql:``,
    or what :func:`since` gives.
    """
    written = [
        value.removeprefix("sql:")
        if value.startswith(("sql:", "/*"))
        else "'" + value.replace("'", "''") + "'"
        for value in values
    ]
    return Column(type_, tuple(written))


def since(version: int, text: str) -> str:
    """A literal that PostgreSQL takes from this version on."""
    return f"/*{version}*/'{text}'"


INTERVALS = (
    "0",
    "1 year 2 mons 3 days 04:05:06.789",
    "-1 year -2 mons +3 days -04:05:06.5",
    "1 year -11 mons",
    "-1 mon",
    "-11 mons 1 day -00:00:00.000001",
    "100 hours",
    "-3 days",
    "1 mon -1 day",
    "178956970 years 7 mons",
    "-178956970 years -8 mons",
    "2147483647 days",
    "-2147483648 days",
    "2147483 hours",
    since(15, "2562047788:00:54.775807"),
    since(15, "-2562047788:00:54.775807"),
    "00:00:00.5",
    "-00:00:00.5",
    "00:01:00",
)

COLUMNS = [
    column("bool", "t", "f"),
    column("int2", "0", "32767", "-32768"),
    column("int4", "2147483647", "-2147483648"),
    column("int8", "9223372036854775807", "-9223372036854775808"),
    column("oid", "0", "4294967295"),
    column("xid", "0", "4294967295"),
    column(
        "float4", "1.1", "-0", "1e-45", "3.4028235e38", "NaN", "Infinity", "-Infinity", "16777216"
    ),
    column(
        "float8",
        "0.1",
        "-0",
        "5e-324",
        "1.7976931348623157e308",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e23",
        "1e22",
        "123456789012345680",
        "1e15",
        "1e-5",
        "0.0001",
    ),
    column(
        "numeric",
        "0",
        "0.00",
        "-0.10",
        "1e-20",
        "12345.67890",
        "NaN",
        "1e30",
        "10000",
        "1e131071",
        "-1.000000000000000000000000000001",
        "99999999.99999999",
        "Infinity",
        "-Infinity",
        "sql:(('1' || repeat('0', 130000) || '.' || repeat('0', 16382) || '5')::numeric)",
        "sql:(('0.' || repeat('0', 16382) || '1')::numeric)",
    ),
    column("numeric(10,2)", "1", "-99999999.99"),
    column("money", "0", "1234567.89", "-1.5", "92233720368547758.07", "-92233720368547758.08"),
    column(
        "text",
        "",
        "größe",
        " a b ",
        'quote " and \\ backslash',
        "NULL",
        "null",
        "line\nbreak",
        "€\U0001f600",
        "sql:(repeat('x', 5000))",
        "sql:(U&'\\+10FFFF')",
        "{}",
        "'",
    ),
    column("varchar(20)", "", "abc"),
    column("bpchar", "a  "),
    column("char(5)", "", "ab", "  a"),
    column("name", "a name"),
    column(
        '"char"',
        "",
        "a",
        "\\",
        "'",
        'sql:(100::int::"char")',
        'sql:((-1)::int::"char")',
        'sql:((-128)::int::"char")',
        'sql:(1::int::"char")',
    ),
    column(
        "xml",
        "<a>x</a>",
        '<?xml version="1.0"?><a/>',
        '<?xml version="1.0" standalone="yes"?><a/>',
        "a<b/>c",
    ),
    column("refcursor", "cursor", ""),
    column("bytea", "", "\\x00ff", "\\xdeadbeef", "sql:(decode(repeat('ab', 3000), 'hex'))"),
    column("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"),
    column(
        "json",
        '{"a":  1, "a": [1.50, null]}',
        "1e400",
        '"\\u0000"',
        " 1 ",
        "sql:(repeat('[', 600)||repeat(']', 600))",
        "sql:(repeat('[', 50)||repeat(']', 50))",
        "sql:(repeat('9', 5000))",
        '"\\ud83d\\ude00"',
        '{"a":\n1}',
        "[1,\r2]",
        '["\\ud800", {"\\udfff": "\\udfff\\ud800"}]',
    ),
    column(
        "jsonb", '{"b": 1.50, "a": {}}', "null", "[]", '"größe"', "1e300", "[true, false, null]"
    ),
    column("jsonpath", "$.a[*] ? (@ > 1)", "lax $"),
    column(
        "date",
        "2026-11-22",
        "0001-01-01",
        "9999-12-31",
        "10000-01-01",
        "5874897-12-31",
        "4714-11-24 BC",
        "0001-12-31 BC",
        "infinity",
        "-infinity",
        "2000-02-29",
    ),
    column("time", "00:00", "23:59:59.999999", "24:00:00", "08:12:00.5"),
    column(
        "timetz",
        "00:00+00",
        "24:00:00-15:59",
        "12:00:00.25+05:30",
        "23:59:59.999999-00:01:15",
        "08:00-07:52:58",
        "24:00:00+15:59:59",
        "24:00:00+00",
        "24:00:00-00:00:01",
    ),
    column(
        "timestamp",
        "2026-11-22 08:12:00.123456",
        "infinity",
        "-infinity",
        "0044-03-15 12:00 BC",
        "294276-12-31 23:59:59.999999",
        "4714-11-24 00:00 BC",
        "9999-12-31 23:59:59.999999",
        "0001-01-01 00:00",
        "1999-12-31 23:59:59.5",
        "2000-01-01",
    ),
    column(
        "timestamptz",
        "2026-11-22 08:12:00.123456+05:30",
        "infinity",
        "-infinity",
        "0044-03-15 12:00+00 BC",
        "294276-12-31 23:59:59.999999+00",
        "4714-11-24 00:00+00 BC",
        "9999-12-31 23:59:59.999999+00",
        "0001-01-01 00:00+00",
        "9999-12-31 23:00-02",
        "0001-01-01 01:00+02",
    ),
    column("interval", *INTERVALS, since(17, "infinity"), since(17, "-infinity")),
    column("bit(3)", "101", "000"),
    column("bit(8)", "10101010"),
    column("varbit", "", "1", "0000000001", "11111111", "sql:(repeat('01', 500)::varbit)"),
    column(
        "inet",
        "192.168.0.1",
        "192.168.0.1/24",
        "0.0.0.0/0",
        "::1",
        "2001:db8::1/64",
        "::/0",
        "::ffff:1.2.3.4",
        "::ffff:1.2.3.4/104",
        "::ffff:0.0.0.0",
        "::1.2.3.4",
        "::0.1.0.0",
        "::0.0.255.255",
        "::1:ffff:1.2.3.4",
        "1::ffff:1.2.3.4",
        "10.1.2.3/32",
        "ff:ff::/128",
    ),
    column(
        "cidr",
        "192.168.0.0/24",
        "10.1.2.3/32",
        "0.0.0.0/0",
        "2001:db8::/32",
        "::1/128",
        "::ffff:1.2.3.0/120",
    ),
    column("macaddr", "08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"),
    column("macaddr8", "08:00:2b:01:02:03:04:05"),
    column(
        "point",
        "(1.5,-2.5)",
        "(1e22,1e-300)",
        "(NaN,Infinity)",
        "(-0,0)",
        "(1e23,0.1)",
        "(123456789012345.6,1e14)",
        "(1e15,9007199254740993)",
        # of which fewer digits, half-way to the next number, read back as the same
        f"({int(9.8014881812167e16)},{-int(7.82730593656698e16)})",
        f"({int(1.877875169647011e16)},{-int(2.958870129830297e16)})",
    ),
    column("line", "{1,2,3}", "{-0.5,1e-5,0.0001}"),
    column("lseg", "[(1,2),(3,4)]"),
    column("box", "(1,2),(3,4)", "(-1,-2),(-3,-4)"),
    column("path", "[(1,2),(3,4)]", "((1,2),(3,4))", "((0.1,0))"),
    column("polygon", "((1,2),(3,4),(5,6.5))", "((1,1))"),
    column("circle", "<(1,2),3.5>", "<(0,0),Infinity>"),
    column(
        "tsvector",
        "",
        "a:1A,2B fat:3C,4 'it''s':5 'b c' '\\\\x'",
        "sql:(to_tsvector('the quick fox'))",
        "simple größe",
    ),
    column(
        "tsquery",
        "",
        "a",
        "a & b | c",
        "a & (b | c)",
        "!a & !(b | c)",
        "a <-> b <2> c",
        "a <-> (b <2> c)",
        "(a | b) <-> c",
        "a:*AB & 'it''s':D",
        "!!a",
        "!(a <-> b)",
        "(a & b) <3> (c | !d)",
        "a | b | c | d",
        "a & b & c & d",
        "((a <-> b) <-> c) & d",
        "'\\\\x' | größe",
        "a <0> b",
    ),
    column("tid", "(0,1)", "(4294967295,65535)"),
    column("cid", "0", "4294967295"),
    column("xid8", "0", "18446744073709551615"),
    column("pg_lsn", "0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"),
    column("pg_snapshot", "10:20:10,14,15", "1:1:"),
    column("txid_snapshot", "10:20:10,14,15", "1:1:"),
    column("int2vector", "1 2 3", "", "-5"),
    column("oidvector", "1 2 4294967295", ""),
    column("aclitem", "sql:(makeaclitem(10, 10, 'SELECT', true))"),
    column("int4range", "[1,5)", "(,)", "empty", "(,7]", "[3,)"),
    column("int8range", "[1,9223372036854775807)"),
    column("numrange", "(1.50,2]", "[-1,NaN]", "empty", "[1e30,)"),
    column(
        "tsrange", "[2026-01-01,2026-01-02 00:00:00.5)", "[-infinity,infinity]", "[0044-03-15 BC,]"
    ),
    column(
        "tstzrange",
        "(2026-01-01 00:00+00,)",
        "[-infinity,)",
        "[2026-01-01 01:00+02,10000-01-01 00:00+00]",
    ),
    column("daterange", "[2026-01-01,2026-02-01)", "[4714-11-24 BC,infinity)", "empty", "(,)"),
    column("floats", "[1.5,1e22)", "(-Infinity,NaN]", "empty"),
    column(
        "texts",
        "[a,b)",
        '["","a b"]',
        '["a ""quoted"" \\\\ one",größe)',
        "(,)",
        "empty",
        '["(",")"]',
        '[a\\,b,"c,d"]',
        "[NULL,null]",
        '["",""]',
        '["\\\\",)',
    ),
    column("pairs", '["(1,\\"a b\\")","(2,)")', "(,)"),
    column(
        "mixtures",
        "sql:mixtures(ROW(ARRAY['', 'NULL', 'Null', NULL, 'a b', 'q\"', 'b\\', ',', '{', '}', 'x'],"
        " '{t,f}', '\\x00ff', '08:12:00.5', '08:12:00.25+00', '2026-11-22', '2026-11-22 08:12',"
        " 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1/8', '-0', 1e-20,"
        " '[\"a b\",)', '')::mixed, NULL)",
        "sql:mixtures(NULL, ROW('{{a,b},{c,\"d e\"}}', '{}', '', '24:00', '12:00:00-07:52:58',"
        " 'infinity', '0044-03-15 BC', NULL, '::1', 'NaN', 'NaN', 'empty',"
        " NULL)::mixed)",
        "sql:mixtures(NULL, ROW('{}', '{}', NULL, '08:00', '08:00:00+05:30', '0001-01-01',"
        " '9999-12-31 23:59:59.999999', NULL, '10.0.0.0/8', 1e22, '0.00', '(,)', '()')::mixed)",
    ),
    column("spans", '["{[1,3),[5,9)}",)', "({},)", "(,)"),
    column("int4multirange", "{}", "{[1,3),[5,9)}", "{(,)}"),
    column("nummultirange", "{[1.5,2.50],(3,)}"),
    column("tsmultirange", "{[2026-01-01,2026-01-02)}"),
    column("tstzmultirange", "{[2026-01-01 00:00+00,2026-01-02 00:00+00),[2027-01-01 00:00+00,)}"),
    column("datemultirange", "{[2026-01-01,2026-01-02),[2027-01-01,2027-01-02)}"),
    column("int8multirange", "{[1,2)}"),
    column(
        "int4[]",
        "{}",
        "{1,NULL,3}",
        "{{1,2},{3,4}}",
        "[0:1]={1,2}",
        "[-1:0][2:3]={{1,2},{3,4}}",
        "{{{{{{1}}}}}}",
    ),
    column(
        "text[]",
        "{}",
        '{"","NULL",NULL,null,"a b","q\\"q","b\\\\b","c,c","{","}"}',
        "{{a},{b}}",
        '{größe,"\n"}',
    ),
    column("bool[]", "{t,f,NULL}"),
    column("numeric[]", "{1.50,NaN,NULL,Infinity}"),
    column("float8[]", "{0.1,NaN,-Infinity}"),
    column("float4[]", "{0.1,1.1}"),
    column("date[]", '{2026-11-22,infinity,"0044-03-15 BC"}'),
    column("timestamptz[]", '{"2026-11-22 08:12:00+00",-infinity}'),
    column("interval[]", '{"1 mon -1 days",00:00:01}'),
    column("timetz[]", "{12:00+05:30,24:00:00-15:59}"),
    column("bytea[]", '{"\\\\x00ff","\\\\x"}'),
    column("jsonb[]", '{"{\\"a\\": 1}","null"}'),
    column("uuid[]", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"),
    column("inet[]", "{10.0.0.1,10.0.0.1/8}"),
    column("cidr[]", "{10.0.0.0/8}"),
    column(
        "box[]",
        "{(3,4),(1,2);(1,1),(0,0)}",
        "{}",
        "{NULL}",
        "{{(1,1),(0,0);NULL};{(3,3),(0,0);(4,4),(0,0)}}",
        "[0:0]={(1,1),(0,0)}",
    ),
    column("tile[]", "{(3,4),(1,2);NULL}", "{{(1,1),(0,0)};{(2,2),(0,0)}}"),
    column("point[]", '{"(1,2)","(3,4.5)"}'),
    column("circle[]", '{"<(1,2),3>"}'),
    column("money[]", '{"$1,234.50",-1}'),
    column("bit(3)[]", "{101,NULL}"),
    column("varbit[]", '{101,""}'),
    column('"char"[]', '{a,"",b}'),
    column("char(3)[]", "{a,bc}"),
    column("name[]", "{a,b}"),
    column("xml[]", "{<a/>}"),
    column("tsvector[]", '{"a:1 b:2",""}'),
    column("tsquery[]", '{"a & b","!a"}'),
    column("pg_lsn[]", "{0/0,16/B374D848}"),
    column("xid8[]", "{1,2}"),
    column("tid[]", '{"(0,1)"}'),
    column("oidvector[]", '{"1 2","3"}'),
    column("int2vector[]", '{"1 2","3"}'),
    column("macaddr[]", "{08:00:2b:01:02:03}"),
    column("int4range[]", '{"[1,5)",empty,NULL}'),
    column("int4multirange[]", '{"{[1,3),[5,9)}","{}"}'),
    column("mood", "sad", 'very "happy", really', "größer"),
    column("mood[]", '{sad,"very \\"happy\\", really"}'),
    column("year", "2026"),
    column("other.leap", "2024"),
    column("year[]", "{2026,NULL}"),
    column("words", '{a,"b c"}'),
    column("words[]", '{"{a,\\"b c\\"}"}'),
    column("span", "[1,3)"),
    column("pair", "(1,a)", "(,)", '(1,"")', '(-5,"q "" \\\\ , ( )")', "(2,größe)", '(3,"\\\\")'),
    column("pair[]", '{"(1,a)","(,\\"b c\\")",NULL}', "{}"),
    column('"odd Type"', '(1.50,1e22,"very ""happy"", really",sad,2026)', "(,,,,)"),
    column(
        "deep",
        "sql:(ROW(7, ARRAY[(1, 'a b')::pair, NULL], '[2026-01-01 00:00+00,)',"
        " (0.10, 'NaN', 'ok', 'sad', 2026)::\"odd Type\", 'k=>v, n=>NULL')::deep)",
        "sql:(ROW(NULL, NULL, NULL, NULL, NULL)::deep)",
    ),
    column("lonely", "()", '("")', "(a)"),
    column("nothing", "()"),
    column('"class"', "(1,a)"),
    column("other.pair", '(10.0.0.1/8,"1 mon -1 days")'),
    column(
        "hstore",
        "",
        '"a"=>"1", "b"=>NULL',
        '"q\\"q"=>"b\\\\b", ""=>""',
        '"NULL"=>"NULL"',
        '"größe"=>"=>, "',
    ),
    column(
        "tagged",
        'sql:tagged(\'"a"=>"1", "b"=>NULL\', NULL)',
        'sql:tagged(NULL, \'"q\\"q"=>"b\\\\b", ""=>""\')',
        "sql:tagged('', NULL)",
    ),
    column("hstore[]", '{"\\"a\\"=>\\"1\\""}'),
    column("citext", "Größe", ""),
    column("citext[]", '{A,"b c"}'),
    column("ltree", "Top.Science", ""),
    column("lquery", "Top.*{1,2}.a|b"),
    column("ltxtquery", "a & b"),
    column("ltree[]", "{Top.a,Top.b}"),
    column("cube", "(1, 2, 3)", "(0.5, 1),(3, 1e22)", "(1)", "()", "(0),(1)"),
    column("isbn", "978-0-393-04002-9"),
    column("seg", "1.5 .. 2.50"),
]


def columns_of(connection: psycopg.Connection[Any]) -> dict[str, Column]:
    """The table's columns: those that this server can have."""
    try:
        connection.execute("SELECT xml '<a/>'")
        has_xml = True
    except psycopg.errors.FeatureNotSupported:  # built without libxml
        has_xml = False
    return {
        f"c{at}": one for at, one in enumerate(COLUMNS) if has_xml or not one.type.startswith("xml")
    }


def create_table(connection: psycopg.Connection[Any]) -> dict[str, Column]:
    """Make the types and the table, empty; returns its columns."""
    connection.execute(PRELUDE.encode())
    columns = columns_of(connection)
    declared = ", ".join(f"{name} {one.type}" for name, one in columns.items())
    connection.execute(f"CREATE TABLE everything (id int PRIMARY KEY, {declared})".encode())
    return columns


def fill_table(connection: psycopg.Connection[Any], columns: dict[str, Column]) -> None:
    """Insert all values, in one transaction."""
    version = connection.info.server_version // 10000
    with connection.transaction():
        for row in range(max(len(one.of(version)) for one in columns.values())):
            given = {
                name: f"({one.of(version)[row]})::{one.type}"
                for name, one in columns.items()
                if row < len(one.of(version))
            }
            connection.execute(
                f"INSERT INTO everything (id, {', '.join(given)})"
                f" VALUES ({row}, {', '.join(given.values())})".encode()
            )


def catalog_of(connection: psycopg.Connection[Any], publication: str = "pgstream_pub") -> Catalog:
    """The catalog of all that is published."""
    query = catalog_query(publications=[publication])
    return Catalog(parse_catalog(connection.wait(slots.query(connection.pgconn, query))))


def copied(database: Database, statement: str) -> list[bytes]:
    """The pieces that ``COPY … TO STDOUT (FORMAT binary)`` sends."""
    with (
        database.connect() as connection,
        connection.cursor() as cursor,
        cursor.copy(statement.encode()) as copy,
    ):
        return [bytes(piece) for piece in copy]
