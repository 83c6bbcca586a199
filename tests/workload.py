"""A workload that meets what makes streams hard, for rebuilding tables from its changes."""

from __future__ import annotations

import psycopg

from servers import Database

TABLES = [
    "public.accounts",
    "public.log",
    "public.codes",
    "public.evolving",
    'odd "schema, A.order',
]

SCHEMA = """
CREATE TABLE accounts (
    id int PRIMARY KEY, name text, balance numeric, note text, opened timestamptz,
    tags text[], doc jsonb, ratio float8, small real, ok bool, day date, ref uuid, raw bytea);
ALTER TABLE accounts ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE TABLE log (at timestamp, line text, n bigint);
ALTER TABLE log REPLICA IDENTITY FULL;
CREATE TABLE codes (code text NOT NULL, value int);
CREATE UNIQUE INDEX codes_code ON codes (code);
ALTER TABLE codes REPLICA IDENTITY USING INDEX codes_code;
CREATE TABLE evolving (id int PRIMARY KEY, a int, b text);
CREATE SCHEMA "odd ""schema, A";
CREATE TABLE "odd ""schema, A"."order" ("group" int PRIMARY KEY, "Ünï 'quoted'" text);
CREATE TABLE nothing ();
"""

BIG = "x" * 9000


def run(database: Database, *, two_phase: bool) -> None:
    """Run all of it; the large transactions interleave on connections of their own."""
    with database.connect() as one:
        one.execute(
            "INSERT INTO accounts SELECT g, 'name ' || g, g * 1.50, repeat('n', g * 500),"
            " '2026-11-22 08:12:00+00'::timestamptz + g * interval '1 hour 0.000123 s',"
            " ARRAY['a', NULL, 'b \"c\", \\', 'NULL'], jsonb_build_object('g', g, 'x', null),"
            " g / 3.0, g * 1.1, g % 2 = 0, date '2026-01-01' + g, gen_random_uuid(),"
            " decode(md5(g::text), 'hex') FROM generate_series(1, 20) g"
        )
        one.execute("INSERT INTO accounts (id) VALUES (21)")
        one.execute("UPDATE accounts SET name = 'changed' WHERE id > 10")  # note: unchanged TOAST
        one.execute("UPDATE accounts SET id = id + 100 WHERE id > 15")  # K, and unchanged TOAST
        one.execute("UPDATE accounts SET balance = 'NaN', ratio = '-Infinity' WHERE id = 3")
        one.execute("DELETE FROM accounts WHERE id = 4")
        one.execute("INSERT INTO log SELECT now(), 'line ' || g, g FROM generate_series(1, 9) g")
        one.execute("INSERT INTO log VALUES (now(), repeat('l', 9000), 99), (NULL, NULL, NULL)")
        one.execute("UPDATE log SET n = n + 1 WHERE n > 5")  # the large line: filled from old
        one.execute("DELETE FROM log WHERE n = 2")
        one.execute("INSERT INTO codes VALUES ('a', 1), ('b', 2), ('c', 3)")
        one.execute("UPDATE codes SET code = 'z' WHERE code = 'a'")
        one.execute("UPDATE codes SET value = 20 WHERE code = 'b'")
        one.execute("DELETE FROM codes WHERE code = 'c'")
        one.execute("INSERT INTO nothing DEFAULT VALUES")
        one.execute('INSERT INTO "odd ""schema, A"."order" VALUES (1, \'ü€😀\'), (2, \'\')')
        one.execute("INSERT INTO evolving VALUES (1, 1, 'one'), (2, 2, 'two')")
        one.execute("ALTER TABLE evolving ADD COLUMN c numeric")
        one.execute("UPDATE evolving SET c = 1.25 WHERE id = 1")
        one.execute("ALTER TABLE evolving DROP COLUMN a")
        with one.transaction():
            one.execute("INSERT INTO evolving VALUES (3, 'three', 3)")
            one.execute("ALTER TABLE evolving ADD COLUMN d text")
            one.execute("INSERT INTO evolving VALUES (4, 'four', 4, 'd')")
        one.execute("INSERT INTO codes SELECT 't' || g, g FROM generate_series(1, 5) g")
        one.execute("SELECT pg_logical_emit_message(true, 'test', 'in a transaction')")
        _interleaved(database)
        one.execute("CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone VALUES (1)")
        one.execute("TRUNCATE gone, codes RESTART IDENTITY CASCADE")
        one.execute("INSERT INTO codes VALUES ('after', 1)")
        if two_phase:
            _prepared(one)


def _interleaved(database: Database) -> None:
    """Two large transactions and a rolled back one at once, with savepoints kept and not."""
    with (
        database.connect(autocommit=False) as one,
        database.connect(autocommit=False) as two,
        database.connect(autocommit=False) as lost,
    ):
        for part in range(4):
            _insert(one, 1000 + part * 1000, 300)
            _insert(two, 10_000 + part * 1000, 300)
            _insert(lost, 50_000 + part * 1000, 300)
            one.execute("SAVEPOINT outer_one")
            _insert(one, 20_000 + part * 1000, 200)
            one.execute("SAVEPOINT inner_one")
            _insert(one, 20_500 + part * 1000, 200)
            one.execute("ROLLBACK TO inner_one" if part % 2 else "RELEASE inner_one")
            one.execute("UPDATE accounts SET name = name || '!' WHERE id = 1000")
            one.execute("ROLLBACK TO outer_one" if part == 2 else "RELEASE outer_one")
            two.execute("SAVEPOINT s")
            two.execute("DELETE FROM accounts WHERE id BETWEEN 10000 AND 10100")
            two.execute("ROLLBACK TO s")
            two.execute("UPDATE log SET line = line || '+' WHERE n = 1")
        lost.rollback()
        two.commit()
        one.commit()


def _prepared(one: psycopg.Connection[tuple[object, ...]]) -> None:
    for gid, start, rows, end in (
        ("small", 60_000, 3, "COMMIT PREPARED 'small'"),
        ("it''s large", 61_000, 900, "COMMIT PREPARED 'it''s large'"),
        ("dropped", 63_000, 900, "ROLLBACK PREPARED 'dropped'"),
    ):
        one.execute("BEGIN")
        _insert(one, start, rows)
        one.execute("UPDATE codes SET value = value + 1")
        one.execute(f"PREPARE TRANSACTION '{gid}'")
        one.execute("INSERT INTO log (line) VALUES ('between')")
        one.execute(end)


def _insert(connection: psycopg.Connection[tuple[object, ...]], start: int, rows: int) -> None:
    connection.execute(
        "INSERT INTO accounts (id, name, balance) SELECT %s + g, repeat('s', 200), g"
        " FROM generate_series(0, %s) g",
        [start, rows - 1],
    )
