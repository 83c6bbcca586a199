"""What a database or a role may set, and values must not depend on."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pgstream
import servers
from pgstream import Insert, SnapshotEnd, SnapshotRow, embedded
from pgstream.embedded import Server
from pgstream.handlers import PostgresHandler
from servers import Database, fresh_database

LOCALES = ("ja_JP", "de_DE")  # no digits behind the point; a comma for it, and a dot between


@pytest.fixture
def abroad() -> Iterator[Server]:
    """A server that has these locales, which are made for it."""
    if shutil.which("localedef") is None:
        pytest.skip("localedef, which makes a locale, is not here")
    with tempfile.TemporaryDirectory(prefix="locales-") as name, pytest.MonkeyPatch.context() as m:
        directory = Path(name)
        directory.chmod(0o755)
        for locale in LOCALES:
            command = ["localedef", "-i", locale, "-f", "UTF-8", str(directory / f"{locale}.UTF-8")]
            if subprocess.run(command, capture_output=True).returncode > 1:  # 1 is for warnings
                pytest.skip(f"localedef cannot make {locale}")
        popen = subprocess.Popen

        def with_locales(*arguments: Any, env: dict[str, str] | None = None, **options: Any) -> Any:
            return popen(*arguments, env=env and env | {"LOCPATH": name}, **options)

        m.setattr(embedded.subprocess, "Popen", with_locales)
        with Server(servers.installation(18), tcp=True) as server:
            yield server


def until_the_second_insert(stream: pgstream.Stream, source: Database) -> list[Any]:
    """The row of the copy, and the two that follow it."""
    found: list[Any] = []
    for event in stream:
        if isinstance(event, (SnapshotRow, Insert)):
            found.append(event.new)
        stream.ack()
        if isinstance(event, SnapshotEnd):
            source.execute("INSERT INTO t SELECT id + 1, v, a FROM t")
            source.execute("INSERT INTO t SELECT id + 2, v, a FROM t WHERE id = 1")
        if len(found) == 3:
            break
    return found


@pytest.mark.parametrize("locale", LOCALES)
def test_money_of_another_locale(abroad: Server, locale: str) -> None:
    """The number of the smallest units, in every transfer, in the copy, and in a target."""
    with fresh_database(abroad) as source, fresh_database(abroad) as target:
        source.execute(f"ALTER DATABASE {source.name} SET lc_monetary = '{locale}.UTF-8'")
        table = "CREATE TABLE t (id int PRIMARY KEY, v money, a money[])"
        for database in (source, target):
            database.execute(table)
        source.execute("CREATE PUBLICATION pgstream_pub FOR TABLE t")
        [(shown,)] = source.execute("SELECT '1234'::money::text")
        assert "$" not in shown  # the locale is in force
        for number, (options, one, many) in enumerate(
            (
                ({}, -123456, [100, -200]),
                ({"binary": False}, -123456, [100, -200]),
                ({"values": "text"}, "-$1,234.56", "{$1.00,-$2.00}"),
            )
        ):
            source.execute(
                "TRUNCATE t; SET LOCAL lc_monetary = 'C';"
                "INSERT INTO t VALUES (1, '-1234.56', '{1,-2}')"
            )
            slot = f"{source.name}_{number}"
            with pgstream.connect(source.dsn, slot=slot, snapshot=True, **options) as stream:
                rows = until_the_second_insert(stream, source)
            assert [(row["v"], row["a"]) for row in rows] == 3 * [(one, many)]
        slot = f"{source.name}_target"
        stream = pgstream.connect(source.dsn, slot=slot, values="text", snapshot=True, until="now")
        stream.run(PostgresHandler(target.dsn, name="money"))
        in_units = "SET lc_monetary = 'C'; SELECT id, v, a::text FROM t ORDER BY id"
        assert target.execute(in_units) == source.execute(in_units)


def test_names_of_objects_mean_the_same_elsewhere(server: Server) -> None:
    with fresh_database(server) as source, fresh_database(server) as target:
        for database in (source, target):
            database.execute(
                "CREATE SCHEMA app; CREATE TABLE app.t (id int); CREATE TABLE t (id int);"
                "CREATE TABLE refs (id int PRIMARY KEY, v regclass)"
            )
        source.execute(
            "CREATE PUBLICATION pgstream_pub FOR TABLE refs;"
            "INSERT INTO refs VALUES (1, 'app.t'), (2, 't')"
        )
        source.execute(f"ALTER DATABASE {source.name} SET search_path = app, public")
        source.execute(f"ALTER DATABASE {source.name} SET quote_all_identifiers = on")
        slot = f"slot_{source.name}"

        def apply() -> None:
            stream = pgstream.connect(
                source.dsn, slot=slot, values="text", snapshot=True, until="now"
            )
            stream.run(PostgresHandler(target.dsn, name="names"))

        apply()
        source.execute("INSERT INTO refs VALUES (3, 'app.t'), (4, 'public.t')")
        apply()
        rows = target.execute(
            "SET search_path = ''; SELECT id, v::text FROM public.refs ORDER BY id"
        )
        assert rows == [(1, "app.t"), (2, "public.t"), (3, "app.t"), (4, "public.t")]
