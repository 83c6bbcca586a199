"""The doctor's findings, on servers with and without each ailment."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pgstream
import servers
from conftest import not_available
from pgstream.config import Config
from pgstream.doctor import Finding, examine
from pgstream.embedded import Server
from servers import Database

HEALTHY = """
    CREATE TABLE users (id int PRIMARY KEY);
    CREATE PUBLICATION pgstream_pub FOR TABLE users;
"""


def config_of(database: Database, **settings: Any) -> Config:
    return Config(**{"dsn": database.dsn, "slot": database.name} | settings)


def findings(database: Database, **settings: Any) -> list[Finding]:
    return list(examine(config_of(database, **settings)))


def create_slot(database: Database, plugin: str = "pgoutput") -> None:
    database.execute(f"SELECT pg_create_logical_replication_slot('{database.name}', '{plugin}')")


def one(found: list[Finding], text: str) -> Finding:
    """Return the one finding with this text in it."""
    [finding] = [finding for finding in found if text in finding.text]
    return finding


def texts(found: list[Finding]) -> str:
    return "\n".join(finding.text for finding in found)


@pytest.fixture
def healthy(database: Database) -> Database:
    database.execute(HEALTHY)
    create_slot(database)
    return database


def test_a_healthy_set_up_on_every_version(any_database: Database) -> None:
    any_database.execute(HEALTHY)
    create_slot(any_database)
    found = findings(any_database)
    worse = [finding for finding in found if finding.level != "ok"]
    # The one thing that no server has by default.
    assert worse == [one(found, "max_slot_wal_keep_size is unlimited")]
    assert worse[0].fix == (
        "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();"
    )
    [(number,)] = any_database.execute("SELECT current_setting('server_version')")
    assert f"PostgreSQL {number}, database {any_database.name}, role postgres" in texts(found)
    assert one(found, "publication pgstream_pub").text.endswith("has public.users")
    assert one(found, "wal_level").text == "wal_level is logical"
    assert f"slot {any_database.name} is not being read" in texts(found)


def test_every_ailment_on_every_version(any_database: Database) -> None:
    """The queries of all checks run on all versions, whatever they find."""
    create_slot(any_database)
    any_database.execute(
        """
        CREATE TABLE bare (x int);
        CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
        CREATE TABLE parts (id int NOT NULL) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9);
        CREATE PUBLICATION late FOR TABLE parts WITH (publish_via_partition_root = true);
        CREATE PUBLICATION everything FOR ALL TABLES;
        """
    )
    any_database.execute("BEGIN; INSERT INTO bare VALUES (1); PREPARE TRANSACTION 'it''s'")
    found = findings(any_database, publication=["late", "everything", "missing"])
    assert "could not be looked at" not in texts(found)
    assert [finding.fix for finding in found if finding.level == "problem"] == [
        'CREATE PUBLICATION "missing" FOR ALL TABLES;',
        "ALTER TABLE public.bare REPLICA IDENTITY FULL;  -- or give it a primary key",
        "ALTER TABLE public.parts REPLICA IDENTITY FULL; "
        "ALTER TABLE public.part REPLICA IDENTITY FULL;  -- or give it a primary key",
    ]
    assert one(found, "fleeting is unlogged").fix == 'ALTER TABLE "public"."fleeting" SET LOGGED;'
    prepared = one(found, "the prepared transaction 'it''s'")
    assert prepared.level == "warning"
    assert prepared.fix.startswith("COMMIT PREPARED 'it''s';")
    [(silent,)] = any_database.execute(
        "SELECT current_setting('server_version_num')::int >= 180000"
    )
    for name in ("late", "everything"):
        late = one(found, f"publication {name} may have been created or altered after")
        assert late.level == "warning"
        assert ("left out" in late.text) == silent


def test_fixes_can_be_pasted(database: Database) -> None:
    """What is offered as SQL is SQL, and cures."""
    database.execute(
        'CREATE TABLE "odd "" one" (x int); CREATE UNLOGGED TABLE u (id int PRIMARY KEY)'
    )
    for _ in range(3):
        found = findings(database)
        for finding in found:
            if finding.fix.startswith(("CREATE PUBLICATION", "ALTER TABLE")):
                database.execute(finding.fix)
    levels = {finding.level for finding in findings(database) if "slot" not in finding.text}
    assert levels == {"ok"}


# The server


def test_unreachable(healthy: Database) -> None:
    dsn = make_conninfo(healthy.tcp_dsn, password="s3same")
    [finding] = findings(healthy, dsn=dsn)
    assert finding.level == "problem"
    assert "password authentication failed" in finding.text
    assert "s3same" not in finding.text + finding.fix
    assert finding.fix.startswith("pg_isready --dbname='host=127.0.0.1 port=")


def test_a_role_that_may_not_replicate(healthy: Database) -> None:
    role = f"{healthy.name}_reader"
    healthy.execute(f"CREATE ROLE {role} LOGIN")
    dsn = make_conninfo(healthy.dsn, user=role)
    try:
        finding = one(findings(healthy, dsn=dsn), "may not replicate")
        grant = f'ALTER ROLE "{role}" REPLICATION;'
        aws = f'  -- on Amazon RDS: GRANT rds_replication TO "{role}";'
        assert (finding.level, finding.fix) == ("problem", grant + aws)
        healthy.execute(finding.fix)
        assert one(findings(healthy, dsn=dsn), "may replicate").level == "ok"
    finally:
        healthy.execute(f"DROP ROLE {role}")


def test_a_check_that_cannot_be_made_does_not_stop_the_others(healthy: Database) -> None:
    role = f"{healthy.name}_reader"
    healthy.execute(
        f"CREATE ROLE {role} LOGIN REPLICATION; "
        "REVOKE SELECT ON pg_catalog.pg_prepared_xacts FROM public"
    )
    try:
        found = findings(healthy, dsn=make_conninfo(healthy.dsn, user=role))
        finding = one(found, "prepared transactions could not be looked at: permission denied")
        assert finding.level == "warning"
        assert one(found, "each published table has a replica identity").level == "ok"
    finally:
        healthy.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("name", "value", "text", "level"),
    [
        ("wal_sender_timeout", "0", "wal_sender_timeout is 0:", "warning"),
        ("wal_sender_timeout", "5s", "wal_sender_timeout is 5s: less than 20 s", "warning"),
        ("wal_sender_timeout", "2min", "wal_sender_timeout is 2min", "ok"),
    ],
)
def test_timeouts(healthy: Database, name: str, value: str, text: str, level: str) -> None:
    healthy.execute(f"ALTER DATABASE {healthy.name} SET {name} = '{value}'")
    assert one(findings(healthy), text).level == level


@pytest.fixture(scope="module")
def sick_server() -> Iterator[Server]:
    """A server with little room."""
    settings = {
        "max_replication_slots": "1",
        "max_wal_senders": "1",
        "max_slot_wal_keep_size": "1MB",
        "min_wal_size": "32MB",
        "max_wal_size": "32MB",
        "idle_replication_slot_timeout": "10d",
    }
    try:
        installation = servers.installation(18)
    except servers.Unavailable as error:
        not_available(str(error))
    with Server(installation, settings=settings) as server:
        yield server


def test_no_room_and_a_lost_slot(sick_server: Server) -> None:
    config = Config(dsn=sick_server.dsn(), slot="mine")

    def found(**changes: Any) -> list[Finding]:
        return list(examine(replace(config, **changes)))

    with psycopg.connect(sick_server.dsn(), autocommit=True) as connection:
        assert one(found(), "max_slot_wal_keep_size is 1MB").level == "ok"
        assert one(found(), "idle_replication_slot_timeout is 10d").level == "warning"
        tight = one(found(), "0 of 1 replication slots")
        assert tight.level == "warning"
        assert "an initial copy needs two" in tight.text
        missing = one(found(), "slot mine is not there yet")
        assert missing.level == "warning"
        assert missing.fix.startswith("pgstream slot create mine  # when the publications")

        connection.execute("SELECT pg_create_logical_replication_slot('mine', 'pgoutput')")
        assert one(found(), "1 of 1 replication slots").level == "ok"
        full = one(found(slot="another"), "1 of 1 replication slots")
        assert full.level == "problem"
        assert full.fix.startswith("ALTER SYSTEM SET max_replication_slots = 11;")

        with psycopg.connect(make_conninfo(sick_server.dsn(), replication="database")):
            full = one(found(), "1 of 1 WAL senders")
            assert full.level == "problem"
            assert full.fix.startswith("ALTER SYSTEM SET max_wal_senders = 11;")

        for _ in range(4):
            connection.execute("SELECT pg_logical_emit_message(false, '', 'x')")
            connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")
        lost = one(found(), "slot mine is lost (wal_removed)")
        assert lost.level == "problem"
        assert lost.fix.startswith("pgstream slot drop mine && pgstream run --slot mine --snapshot")


def test_wal_level(sick_server: Server) -> None:
    with Server(sick_server.installation, settings={"wal_level": "replica"}) as server:
        finding = one(list(examine(Config(dsn=server.dsn()))), "wal_level is replica")
    assert finding.level == "problem"
    assert finding.fix.startswith("ALTER SYSTEM SET wal_level = 'logical';")


# The slot


def test_a_slot_with_another_plugin(database: Database) -> None:
    database.execute(HEALTHY)
    try:
        create_slot(database, "test_decoding")
    except psycopg.errors.UndefinedFile:
        not_available("the server has no other plugin")
    finding = one(findings(database), "has another output plugin than pgoutput: test_decoding")
    assert finding.level == "problem"
    assert finding.fix.startswith(f"pgstream slot create {database.name}_2  # ")


def test_a_physical_slot(database: Database) -> None:
    database.execute(f"SELECT pg_create_physical_replication_slot('{database.name}')")
    try:
        finding = one(findings(database), "none, it is a physical slot")
        assert finding.level == "problem"
        assert finding.fix.startswith(f"pgstream slot create {database.name}_2  # ")
    finally:
        database.execute(f"SELECT pg_drop_replication_slot('{database.name}')")


def test_a_slot_of_another_database(healthy: Database) -> None:
    dsn = make_conninfo(healthy.dsn, dbname="postgres")
    finding = one(findings(healthy, dsn=dsn), "belongs to the database")
    assert finding.level == "problem"
    assert finding.fix.startswith(f"pgstream slot create {healthy.name}_2  # ")
    assert f"belongs to the database {healthy.name}, not to postgres" in finding.text


def test_a_slot_that_is_being_read(healthy: Database) -> None:
    with pgstream.connect(healthy.dsn, slot=healthy.name):
        finding = one(findings(healthy), "is being read by the server process")
        [(pid,)] = healthy.execute(
            f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{healthy.name}'"
        )
    assert finding.level == "ok"
    assert f"process {pid}, " in finding.text


def test_a_prepared_transaction_blocks_a_slot_that_is_missing(database: Database) -> None:
    database.execute(HEALTHY)
    database.execute("BEGIN; INSERT INTO users VALUES (1); PREPARE TRANSACTION 'forgotten'")
    finding = one(findings(database), "the prepared transaction 'forgotten'")
    assert finding.level == "problem"
    assert "a slot cannot be created before it ends" in finding.text
    database.execute(finding.fix)
    assert "forgotten" not in texts(findings(database))


# The publication


def test_a_publication_that_is_older_than_the_slot_is_not_suspected(healthy: Database) -> None:
    assert "may have been" not in texts(findings(healthy))
    healthy.execute("ALTER PUBLICATION pgstream_pub SET (publish = 'insert, update')")
    finding = one(findings(healthy), "may have been created or altered")
    assert finding.level == "warning"
    assert finding.fix.startswith(f"pgstream slot drop {healthy.name} && pgstream slot create")
    assert "does not publish delete and truncate" in texts(findings(healthy))


def test_tables_that_were_added_after_the_slot_was_created(healthy: Database) -> None:
    healthy.execute("CREATE TABLE more (id int PRIMARY KEY)")
    healthy.execute("ALTER PUBLICATION pgstream_pub ADD TABLE more")
    finding = one(findings(healthy), "tables may have been added to publication pgstream_pub")
    assert (finding.level, finding.fix) == ("warning", "")


def test_schemas_that_were_added_after_the_slot_was_created(healthy: Database) -> None:
    healthy.execute("ALTER PUBLICATION pgstream_pub ADD TABLES IN SCHEMA public")
    assert one(findings(healthy), "tables may have been added").level == "warning"


def test_the_suspicion_ends_when_the_slot_has_moved_on(healthy: Database) -> None:
    healthy.execute("CREATE TABLE more (id int PRIMARY KEY)")
    healthy.execute("ALTER PUBLICATION pgstream_pub ADD TABLE more")
    deadline = time.monotonic() + 60
    while "may have been" in texts(findings(healthy)):
        assert time.monotonic() < deadline
        # The slot's oldest transaction moves with what the server logs at a checkpoint.
        healthy.execute("CHECKPOINT")
        healthy.execute("INSERT INTO users VALUES ((SELECT count(*) FROM users))")
        with pgstream.connect(healthy.dsn, slot=healthy.name, until="now") as stream:
            for _ in stream:
                stream.ack()


def test_many_tables_are_not_all_named(database: Database) -> None:
    for number in range(14):
        database.execute(f"CREATE TABLE t{number:02d} (id int PRIMARY KEY)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    finding = one(findings(database), "publication pgstream_pub has all tables")
    assert finding.text.endswith("public.t08, public.t09, and 4 more)")


def test_the_slot_comes_after_its_publication(database: Database) -> None:
    """One that is older than its publication cannot be read."""
    missing = f"slot {database.name} is not there"
    create = f"pgstream slot create {database.name}"
    first = one(findings(database), missing)
    assert first.fix == f"{create}  # when the publications are there, below"
    database.execute(one(findings(database), "publication pgstream_pub does not exist").fix)
    assert one(findings(database), missing).fix == create


def test_a_publication_without_tables(database: Database) -> None:
    database.execute("CREATE PUBLICATION pgstream_pub")
    finding = one(findings(database), "publication pgstream_pub has no table")
    assert (finding.level, finding.fix) == (
        "warning",
        'ALTER PUBLICATION "pgstream_pub" ADD TABLE schema.table;',
    )


IDENTITIES: dict[str, tuple[str, bool]] = {
    "primary key": ("CREATE TABLE t (id int PRIMARY KEY)", True),
    "none": ("CREATE TABLE t (id int)", False),
    "full": ("CREATE TABLE t (id int); ALTER TABLE t REPLICA IDENTITY FULL", True),
    "nothing": (
        "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING",
        False,
    ),
    "index": (
        "CREATE TABLE t (id int NOT NULL UNIQUE); "
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_key",
        True,
    ),
    "dropped index": (
        "CREATE TABLE t (id int NOT NULL UNIQUE); "
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_key; "
        "ALTER TABLE t DROP CONSTRAINT t_id_key",
        False,
    ),
    "deferrable primary key": ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", False),
    "partitioned": (
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); "
        "CREATE TABLE part PARTITION OF t DEFAULT",
        True,
    ),
}


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize(("statements", "identified"), IDENTITIES.values(), ids=IDENTITIES)
def test_replica_identities_are_judged_as_the_server_does(
    database: Database, statements: str, identified: bool, root: bool
) -> None:
    database.execute(statements)
    database.execute(
        "CREATE PUBLICATION pgstream_pub FOR TABLE t "
        f"WITH (publish_via_partition_root = {str(root).lower()})"
    )
    found = [f for f in findings(database) if "replica identity" in f.text]
    assert [finding.level for finding in found] == ["ok" if identified else "problem"]

    def update() -> None:
        database.execute("UPDATE t SET id = id")

    if identified:
        update()
    else:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            update()
        database.execute(found[0].fix)
        update()


# Each possible set-up of a table, judged by the server itself.

IDENTITY_OF: dict[str, str] = {
    "no key": "",
    "primary key": "ALTER TABLE {0} ADD PRIMARY KEY (id)",
    "full": "ALTER TABLE {0} REPLICA IDENTITY FULL",
    "full beside a key": "ALTER TABLE {0} ADD PRIMARY KEY (id), REPLICA IDENTITY FULL",
    "nothing": "ALTER TABLE {0} ADD PRIMARY KEY (id), REPLICA IDENTITY NOTHING",
    "index": "ALTER TABLE {0} ADD PRIMARY KEY (id); CREATE UNIQUE INDEX {0}_x ON {0} (b) "
    "INCLUDE (c); ALTER TABLE {0} REPLICA IDENTITY USING INDEX {0}_x",
    "two columns": "ALTER TABLE {0} ADD PRIMARY KEY (b, id)",
}
LISTS = ("", "(id)", "(c, b)", "(id, b, c)")
FILTERS = ("", "WHERE (id > 0)", "WHERE (c IS NULL AND b IN (1, 2))", "WHERE (true)")
SHAPES = ("table", "partition", "root")
ACTIONS = ("update, delete", "insert", "update", "insert, delete, truncate")


@dataclass(frozen=True)
class Case:
    """A table and its publication, both of this name."""

    name: str
    statements: list[str]
    table: str

    def __str__(self) -> str:
        return "; ".join(self.statements)


def _case(
    name: str,
    identity: str,
    columns: str,
    where: str,
    shape: str,
    generated: str,
    stored: bool,
    actions: str,
) -> Case:
    leaf = name if shape == "table" else f"{name}_p"
    options = {
        "publish": actions,
        "publish_via_partition_root": str(shape == "root").lower(),
    }
    if stored:
        options["publish_generated_columns"] = "stored"
    more = f", g int GENERATED ALWAYS AS (id) {generated}" if generated else ""
    key = IDENTITY_OF[identity]
    if generated == "STORED" and identity == "two columns":
        key = "ALTER TABLE {0} ADD PRIMARY KEY (id, g)"
    if stored and generated == "STORED" and columns == "(id, b, c)":
        columns = "(id, b, c, g)"
    statements = []
    if shape == "table":
        statements.append(f"CREATE TABLE {name} (id int NOT NULL, b int NOT NULL, c int{more})")
    else:
        # The columns of the partition stand in another order.
        statements += [
            f"CREATE TABLE {name} (id int NOT NULL, b int NOT NULL, c int{more}) "
            "PARTITION BY RANGE (id)",
            f"CREATE TABLE {leaf} (c int, x int, b int NOT NULL, id int NOT NULL{more})",
            f"ALTER TABLE {leaf} DROP COLUMN x",
            f"ALTER TABLE {name} ATTACH PARTITION {leaf} DEFAULT",
        ]
    if key:
        statements.append(key.format(leaf))
    named = leaf if shape == "partition" else name
    settings = ", ".join(f"{option} = '{value}'" for option, value in options.items())
    statements.append(
        f"CREATE PUBLICATION {name} FOR TABLE {named} {columns} {where} WITH ({settings})"
    )
    return Case(name, statements, leaf)


def _cases(version: int) -> list[Case]:
    """Some of all combinations that this version has, the same ones each time."""
    kinds = product(
        IDENTITY_OF,
        LISTS if version >= 15 else ("",),
        FILTERS if version >= 15 else ("",),
        SHAPES,
        ("", "STORED", "VIRTUAL") if version >= 18 else ("", "STORED"),
        (False, True) if version >= 18 else (False,),
        ACTIONS,
    )
    some = random.Random(version).sample(list(kinds), 160)
    return [_case(f"t{number:03d}", *kind) for number, kind in enumerate(some)]


def _refused(connection: psycopg.Connection[Any], table: str) -> set[str]:
    """What the server refuses to writers."""
    refused = set()
    for verb, statement in {
        "UPDATE": f"UPDATE {table} SET id = id",
        "DELETE": f"DELETE FROM {table}",
    }.items():
        try:
            connection.execute(statement.encode())
        except (
            psycopg.errors.ObjectNotInPrerequisiteState,
            psycopg.errors.InvalidColumnReference,
        ):
            refused.add(verb)
    return refused


def _told(found: list[Finding], table: str) -> set[str]:
    """What doctor says is refused to them."""
    pattern = rf"\btable public\.{table}\b.*: .*?(UPDATE)?(?: and )?(DELETE)? on it fails?$"
    matches = [re.search(pattern, finding.text) for finding in found]
    return {verb for match in matches if match for verb in match.groups() if verb}


def test_every_way_to_publish_a_table_is_judged_as_the_server_does(any_database: Database) -> None:
    with any_database.connect() as connection:
        cases = _cases(connection.info.server_version // 10000)
        for case in cases:
            for statement in case.statements:
                connection.execute(statement.encode())

        def judge() -> list[Finding]:
            found = findings(any_database, publication=[case.name for case in cases])
            assert "could not be looked at" not in texts(found)
            for case in cases:
                assert _told(found, case.table) == _refused(connection, case.table), str(case)
            return [finding for finding in found if re.search(" public.t[0-9]", finding.text)]

        found = judge()
        assert {finding.level for finding in found} == {"ok", "warning", "problem"}
        # What is offered cures, unless it asks for a key or an index that is to be made.
        for _ in range(4):
            for finding in found:
                if finding.fix and "…" not in finding.fix:
                    connection.execute(finding.fix.encode())
            found = judge()
        fixes = [finding.fix for finding in found if finding.fix]
        assert [fix for fix in fixes if "…" not in fix and "with a primary key" not in fix] == []


def test_all_tables_with_generated_columns_in_an_identity(any_database: Database) -> None:
    """From PostgreSQL 18 on they are to be published; before, nobody minds."""
    any_database.execute(
        "CREATE TABLE t (id int, g int GENERATED ALWAYS AS (id) STORED PRIMARY KEY);"
        "CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    found = [finding for finding in findings(any_database) if "replica identity" in finding.text]
    with any_database.connect() as connection:
        assert _told(found, "t") == _refused(connection, "t")
        if connection.info.server_version >= 180000:
            assert "does not publish the generated g of table public.t" in found[0].text
            connection.execute(found[0].fix.encode())
        assert _refused(connection, "t") == set()
    assert one(findings(any_database), "each published table has a replica identity").level == "ok"


def test_a_schema_does_not_excuse_a_filter(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, x int);"
        "CREATE PUBLICATION pgstream_pub FOR TABLES IN SCHEMA public, TABLE t WHERE (x > 0)"
    )
    finding = one(findings(database), "has x in the WHERE of table public.t, outside of its")
    with database.connect() as connection:
        assert _refused(connection, "t") == {"UPDATE", "DELETE"}
        connection.execute(finding.fix.encode())
        assert _refused(connection, "t") == set()
    assert "outside of" not in texts(findings(database))


def test_a_list_is_completed_in_one_transaction_and_keeps_all_else(database: Database) -> None:
    """Also of odd names, of other tables, and for the partitions with keys of their own."""
    database.execute(
        """
        CREATE SCHEMA "S p";
        CREATE TABLE other (id int PRIMARY KEY);
        CREATE TABLE "S p"."Root" (id int NOT NULL, "a ""key" int NOT NULL, b int NOT NULL, c text)
            PARTITION BY LIST (id);
        CREATE TABLE one PARTITION OF "S p"."Root" (PRIMARY KEY (id, "a ""key")) FOR VALUES IN (1);
        CREATE TABLE two PARTITION OF "S p"."Root" (PRIMARY KEY (id, b)) FOR VALUES IN (2);
        CREATE PUBLICATION "The pub" FOR TABLE other, "S p"."Root" (id, c) WHERE (id <> 3)
            WITH (publish_via_partition_root = true);
        """
    )
    found = findings(database, publication="The pub")
    first = one(found, 'does not list a "key of table public.one, of its replica identity')
    second = one(found, "does not list b of table public.two, of its replica identity")
    assert first.fix == second.fix
    assert first.fix.startswith("BEGIN; ")
    assert first.fix.endswith("; COMMIT;")
    database.execute(first.fix)
    tables = database.execute(
        "SELECT tablename, attnames, rowfilter FROM pg_publication_tables ORDER BY 1 DESC"
    )
    assert tables == [
        ("other", ["id"], None),
        ("Root", ["id", 'a "key', "b", "c"], "(id <> 3)"),
    ]
    assert one(findings(database, publication="The pub"), "each published table").level == "ok"


def test_a_partition_that_is_not_in_the_wal_needs_no_identity(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int) PARTITION BY LIST (id); CREATE UNLOGGED TABLE p PARTITION OF t "
        "DEFAULT; CREATE PUBLICATION pgstream_pub FOR TABLE t "
        "WITH (publish_via_partition_root = true)"
    )
    with database.connect() as connection:
        assert _refused(connection, "p") == set()
    assert _told(findings(database), "p") == set()


def test_tables_of_which_inserts_alone_are_published_need_no_identity(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int); CREATE PUBLICATION pgstream_pub FOR TABLE t "
        "WITH (publish = 'insert, truncate')"
    )
    assert "replica identity" not in texts(findings(database))


@pytest.mark.parametrize("identity", ["FULL", "USING INDEX root_id_key"])
def test_a_partition_with_another_identity_than_its_root(database: Database, identity: str) -> None:
    database.execute(
        'CREATE SCHEMA "S p"; CREATE TABLE root (id int NOT NULL UNIQUE) PARTITION BY RANGE (id);'
        f"ALTER TABLE root REPLICA IDENTITY {identity};"
        'CREATE TABLE "S p"."Part" PARTITION OF root (PRIMARY KEY (id)) DEFAULT;'
        "CREATE PUBLICATION pgstream_pub FOR TABLE root"
    )
    # Published as itself it is what it says; published as its root, what that says.
    assert "another replica identity" not in texts(findings(database))
    database.execute("ALTER PUBLICATION pgstream_pub SET (publish_via_partition_root = true)")
    found = one(findings(database), 'partition "S p"."Part" has another replica identity')
    assert found.level == "warning"
    database.execute(found.fix)
    assert "another replica identity" not in texts(findings(database))
