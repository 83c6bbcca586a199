"""The initial copy by itself: what is published, in pieces, as one snapshot shows it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql, waiting

import pgstream
import workload
from pgstream import (
    LSN,
    ConnectionFailed,
    ConnectionLost,
    Insert,
    ProtocolError,
    PublicationNotFound,
    Relation,
    ServerError,
    slots,
)
from pgstream.config import Config
from pgstream.connector import replication_conninfo
from pgstream.messages import Column
from pgstream.snapshot import copy as copy_module
from pgstream.snapshot import plan
from pgstream.snapshot.copy import Batch, Copy
from pgstream.snapshot.progress import Meter
from pgstream.snapshot.rows import TextRows
from pgstream.snapshot.slot import be_patient, make_permanent, temporary_name
from replica import exactly, select, select_text
from servers import Database
from waiting import eventually

SECONDS = 60


class Snapshot:
    """A temporary slot with its exported snapshot, and copies of it."""

    def __init__(
        self, database: Database, decoder: Any = pgstream.Decoder, **settings: Any
    ) -> None:
        self.database = database
        self.config = Config(dsn=database.dsn, slot=f"slot_{database.name}", **settings)
        self.decoder = decoder
        self.link = psycopg.connect(replication_conninfo(self.config), autocommit=True)
        self.run(be_patient(self.link.pgconn))
        self.temporary = temporary_name(self.config.slot)
        command = slots.creation_command(
            self.link.pgconn.server_version, self.temporary, snapshot="export", temporary=True
        )
        [(_, lsn, self.name, _)] = self.run(slots.query(self.link.pgconn, command))
        self.lsn = LSN(lsn)

    def run(self, generator: Any) -> Any:
        return waiting.wait(generator, self.link.pgconn.socket)

    def copy(self) -> Copy:
        config = self.config

        def make_decoder(catalog: Any) -> Any:
            return self.decoder(
                row_factory=config.row_factory, values=config.values, catalog=catalog
            )

        binary = config.transfer == "binary"
        return Copy(config, self.database.dsn, str(self.name), make_decoder, binary=binary)

    def rows(self) -> tuple[dict[str, Relation], dict[str, list[Any]]]:
        """All that a copy gives: the tables by name, and their rows."""
        with contextlib.closing(self.copy()) as copy:
            copy.open()
            relations = {f"{r.schema}.{r.table}": r for r in copy.relations}
            rows: dict[str, list[Any]] = {name: [] for name in relations}
            for batch in batches(copy):
                rows[f"{batch.relation.schema}.{batch.relation.table}"] += batch.rows
        return relations, rows

    def close(self) -> None:
        self.link.close()


def batches(copy: Copy) -> Iterator[Batch]:
    deadline = time.monotonic() + SECONDS
    while (batch := copy.take(0.1)) is not None:
        assert time.monotonic() < deadline
        if batch.rows:
            yield batch


@pytest.fixture
def snapshots() -> Iterator[Callable[..., Snapshot]]:
    with contextlib.ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(
            contextlib.closing(Snapshot(*args, **settings))
        )


SHAPES = """
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE plain (id int PRIMARY KEY, name varchar(10), price numeric(8,2), n positive);
CREATE TABLE covering (a int, b int, c int, PRIMARY KEY (b) INCLUDE (c));
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, a int);
ALTER TABLE deferred REPLICA IDENTITY FULL;
CREATE TABLE deferrable_ (id int PRIMARY KEY DEFERRABLE, a int);
CREATE TABLE full_ (id int PRIMARY KEY, a int); ALTER TABLE full_ REPLICA IDENTITY FULL;
CREATE TABLE nothing_ (id int PRIMARY KEY); ALTER TABLE nothing_ REPLICA IDENTITY NOTHING;
CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, c int);
CREATE UNIQUE INDEX by_index_b ON by_index (b, a);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_b;
CREATE TABLE keyless (a int);
CREATE TABLE dropped (a int, b int, c int PRIMARY KEY, d text);
ALTER TABLE dropped DROP COLUMN b; ALTER TABLE dropped ADD COLUMN "E f" int;
CREATE TABLE generated (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a * 2) STORED, c int);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (extra int) INHERITS (parent);
CREATE TABLE parted (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE part_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE part_2 (part int NOT NULL, gone int, id int NOT NULL);
ALTER TABLE part_2 DROP COLUMN gone;
ALTER TABLE parted ATTACH PARTITION part_2 FOR VALUES IN (2, 3);
CREATE TABLE unfinished (id int NOT NULL) PARTITION BY LIST (id);
CREATE TABLE without_key PARTITION OF unfinished FOR VALUES IN (1);
ALTER TABLE ONLY unfinished ADD PRIMARY KEY (id);
CREATE SCHEMA "odd ""schema, A";
CREATE TABLE "odd ""schema, A"."%order" ("group" int PRIMARY KEY, "Ünï 'quoted'" text);
CREATE TABLE nocolumns ();
INSERT INTO plain VALUES (1, 'a', 1.50, 3), (2, NULL, NULL, NULL);
INSERT INTO covering VALUES (1, 2, 3);
INSERT INTO deferred VALUES (1, 2);
INSERT INTO deferrable_ VALUES (1, 2);
INSERT INTO full_ VALUES (1, 2);
INSERT INTO nothing_ VALUES (1);
INSERT INTO by_index VALUES (1, 2, 3);
INSERT INTO keyless VALUES (1), (1), (NULL);
INSERT INTO dropped VALUES (1, 2, 'x', 3);
INSERT INTO generated (a, c) VALUES (1, 1);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2, 3);
INSERT INTO parted VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO unfinished VALUES (1);
INSERT INTO "odd ""schema, A"."%order" VALUES (1, 'ü€😀');
INSERT INTO nocolumns DEFAULT VALUES; INSERT INTO nocolumns DEFAULT VALUES;
"""


def announced(database: Database, config: Config, insert: str) -> dict[str, Relation]:
    """The relations that the stream sends with what a statement inserts."""
    with pgstream.connect(
        database.dsn, slot=f"other_{database.name}", publication=config.publications
    ):
        pass
    database.execute(insert)
    with pgstream.connect(
        database.dsn,
        slot=f"other_{database.name}",
        publication=config.publications,
        until="now",
    ) as stream:
        return {
            f"{event.relation.schema}.{event.relation.table}": event.relation
            for event in stream
            if isinstance(event, Insert)
        }


AGAIN = """
INSERT INTO plain VALUES (11); INSERT INTO covering VALUES (11, 12, 13);
INSERT INTO deferred VALUES (11, 2); INSERT INTO deferrable_ VALUES (11, 2);
INSERT INTO full_ VALUES (11, 2);
INSERT INTO nothing_ VALUES (11); INSERT INTO by_index VALUES (11, 12, 13);
INSERT INTO keyless VALUES (11); INSERT INTO dropped VALUES (11, 12, 'x', 13);
INSERT INTO generated (a, c) VALUES (11, 1); INSERT INTO parent VALUES (11);
INSERT INTO child VALUES (12, 3); INSERT INTO parted VALUES (11, 1), (12, 2);
INSERT INTO unfinished VALUES (1);
INSERT INTO "odd ""schema, A"."%order" VALUES (11, ''); INSERT INTO nocolumns DEFAULT VALUES;
"""


@pytest.mark.parametrize("root", [False, True], ids=["leaves", "root"])
def test_the_tables_are_as_the_stream_has_them(
    any_database: Database, snapshots: Callable[..., Snapshot], root: bool
) -> None:
    any_database.execute(SHAPES)
    any_database.execute(
        f"CREATE PUBLICATION pgstream_pub FOR ALL TABLES WITH (publish_via_partition_root = {root})"
    )
    snapshot = snapshots(any_database)
    relations, rows = snapshot.rows()
    assert announced(any_database, snapshot.config, AGAIN) == relations
    if root:
        assert sorted(row["id"] for row in rows.pop("public.parted")) == [1, 2, 3]
    else:
        assert rows.pop("public.part_1") == [{"id": 1, "part": 1}]
        assert sorted(row["id"] for row in rows.pop("public.part_2")) == [2, 3]
    assert rows.pop("public.nocolumns") == [{}, {}]
    assert rows.pop("public.generated") == [{"a": 1, "c": 1}]
    assert rows.pop("public.parent") == [{"id": 1}]  # the child's own are its own
    assert rows.pop("public.child") == [{"id": 2, "extra": 3}]
    assert rows.pop('odd "schema, A.%order') == [{"group": 1, "Ünï 'quoted'": "ü€😀"}]
    assert {name: len(found) for name, found in rows.items()} == {
        f"public.{name}": count
        for name, count in (
            ("plain", 2),
            ("covering", 1),
            ("deferred", 1),
            ("deferrable_", 1),
            ("unfinished" if root else "without_key", 1),
            ("full_", 1),
            ("nothing_", 1),
            ("by_index", 1),
            ("keyless", 3),
            ("dropped", 1),
        )
    }


def test_lists_of_columns_and_filters_of_rows(
    any_database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    with any_database.connect() as connection:
        version = connection.info.server_version
    if version < 150000:
        any_database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        any_database.execute("CREATE TABLE unpublished (id int)")
        any_database.execute("CREATE PUBLICATION one FOR TABLE t; CREATE PUBLICATION two")
        relations, rows = snapshots(any_database, publication=["one", "two"]).rows()
        assert list(relations) == ["public.t"]
        assert rows == {"public.t": [{"id": 1}]}
        return
    any_database.execute(
        """
        CREATE TYPE mood AS ENUM ('sad', 'glad');
        CREATE TABLE t (id int PRIMARY KEY, a int, "b c" text, m mood, secret text);
        INSERT INTO t SELECT g, g, 'x' || g, 'sad', 'no' FROM generate_series(1, 10) g;
        CREATE TABLE parted (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
        CREATE TABLE another (id int PRIMARY KEY);
        CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10);
        CREATE TABLE high PARTITION OF parted FOR VALUES FROM (10) TO (20);
        INSERT INTO parted SELECT g, g FROM generate_series(5, 14) g;
        CREATE PUBLICATION one FOR TABLE t (id, "b c", m) WHERE (id <= 2),
            parted WHERE (a > 7) WITH (publish_via_partition_root = true);
        CREATE PUBLICATION two FOR TABLE t (id, m, "b c") WHERE (id >= 9), another;
        CREATE PUBLICATION everything FOR TABLE t (id, "b c", m);
        CREATE PUBLICATION others FOR TABLE t (id);
        """
    )
    relations, rows = snapshots(any_database, publication=["one", "two"]).rows()
    assert list(relations) == ["public.another", "public.parted", "public.t"]
    insert = (
        "INSERT INTO t VALUES (0, 0, '', 'sad', ''); INSERT INTO parted VALUES (15, 15);"
        " INSERT INTO another VALUES (1)"
    )
    config = Config(publication=["one", "two"])
    assert announced(any_database, config, insert) == relations
    assert sorted(row["id"] for row in rows["public.t"]) == [1, 2, 9, 10]
    assert all(set(row) == {"id", "b c", "m"} for row in rows["public.t"])
    assert sorted(row["id"] for row in rows["public.parted"]) == list(range(8, 15))
    # One that publishes all rows publishes all rows.
    _, rows = snapshots(any_database, publication=["one", "everything"]).rows()
    assert len(rows["public.t"]) == 11
    with pytest.raises(ServerError, match=r"different columns of public\.t"):
        snapshots(any_database, publication=["one", "others"]).rows()


def test_a_partition_that_is_published_as_itself_and_as_its_root(
    any_database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    any_database.execute(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        " CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10);"
        " INSERT INTO root VALUES (1); CREATE PUBLICATION leaves FOR TABLE root;"
        " CREATE PUBLICATION whole FOR TABLE root WITH (publish_via_partition_root)"
    )
    snapshot = snapshots(any_database, publication=["leaves", "whole"])
    relations, rows = snapshot.rows()
    assert announced(any_database, snapshot.config, "INSERT INTO root VALUES (2)") == relations
    assert rows == {"public.root": [{"id": 1}]}


@pytest.mark.parametrize("root", [False, True], ids=["leaves", "root"])
def test_a_foreign_table_as_a_partition(
    database: Database, snapshots: Callable[..., Snapshot], root: bool
) -> None:
    """It is copied, though the stream has nothing of it: PostgreSQL's own subscriptions do that."""
    database.execute(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;"
        " CREATE TABLE root (id int) PARTITION BY RANGE (id);"
        " CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10);"
        " CREATE FOREIGN TABLE away PARTITION OF root FOR VALUES FROM (10) TO (20)"
        " SERVER files OPTIONS (program 'echo 11'); INSERT INTO root VALUES (1);"
        " CREATE PUBLICATION pgstream_pub FOR TABLE root"
        f" WITH (publish_via_partition_root = {root})"
    )
    _, rows = snapshots(database).rows()
    if root:
        assert sorted(row["id"] for row in rows.pop("public.root")) == [1, 11]
    else:
        assert rows.pop("public.leaf") == [{"id": 1}]
        assert rows.pop("public.away") == [{"id": 11}]
    assert not rows


def test_generated_columns_where_they_are_published(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    database.execute(SHAPES)
    database.execute(
        "CREATE PUBLICATION pgstream_pub FOR ALL TABLES WITH (publish_generated_columns = stored)"
    )
    snapshot = snapshots(database)
    relations, rows = snapshot.rows()
    assert announced(database, snapshot.config, AGAIN) == relations
    assert rows["public.generated"] == [{"a": 1, "b": 2, "c": 1}]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
def test_rows_are_as_select_shows_them(
    database: Database, decoder_impl: Any, snapshots: Callable[..., Snapshot], binary: bool
) -> None:
    database.execute(workload.SCHEMA)
    workload.run(database, two_phase=False)
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    _, rows = snapshots(database, decoder_impl, binary=binary).rows()
    with database.connect() as connection:
        for table in workload.TABLES:
            names, expected = select(connection, table)
            found = [exactly(tuple(row[name] for name in names)) for row in rows[table]]
            assert sorted(found) == expected
            assert expected


def test_values_as_text(database: Database, snapshots: Callable[..., Snapshot]) -> None:
    database.execute(workload.SCHEMA)
    workload.run(database, two_phase=False)
    database.execute(r"INSERT INTO log (line) VALUES (E'\b\f\n\r\t\v\\ \\N'), ('\N'), ('')")
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    _, rows = snapshots(database, values="text").rows()
    with database.connect() as connection:
        for table in workload.TABLES:
            names, expected = select_text(connection, table)
            found = [tuple(row[name] for name in names) for row in rows[table]]
            assert sorted(found, key=repr) == expected


def test_types_without_a_binary_form(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    database.execute(
        "CREATE TABLE rights (id int PRIMARY KEY, acl aclitem[], n numeric);"
        " INSERT INTO rights VALUES (1, ARRAY['=r/postgres'::aclitem], 1.50), (2, NULL, NULL);"
        " CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (7);"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    _, rows = snapshots(database, binary=True).rows()
    assert rows["public.other"] == [{"id": 7}]
    one, two = sorted(rows["public.rights"], key=lambda row: row["id"])
    assert one["acl"] in ("{=r/postgres}", ["=r/postgres"])
    assert str(one["n"]) == "1.50"
    assert two == {"id": 2, "acl": None, "n": None}


def test_the_name_of_a_type_is_in_no_known_encoding(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    name = f"{database.name}_ascii"
    database.execute(f"CREATE DATABASE {name} ENCODING SQL_ASCII TEMPLATE template0")
    ascii_database = Database(database.server, name)
    try:
        with ascii_database.connect() as connection:
            connection.execute("SET client_encoding = 'SQL_ASCII'")
            connection.execute(b"CREATE TYPE \"\xe9tat\" AS ENUM ('on')")
            connection.execute(b'CREATE TABLE t (id int PRIMARY KEY, e "\xe9tat", v text)')
            connection.execute(r"INSERT INTO t VALUES (1, 'on', E'\xff')")
            for n in range(8):  # more than one connection hands over before any is taken
                connection.execute(f"CREATE TABLE t_{n} AS SELECT * FROM t".encode())
            connection.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
        snapshot = snapshots(ascii_database)
        copy = snapshot.copy()
        copy._conninfo += " client_encoding=UTF8"  # as a stream has it
        with contextlib.closing(copy):
            copy.open()
            eventually(copy._queue.full)
            rows = [row for batch in batches(copy) for row in batch.rows]
        assert rows == 9 * [{"id": 1, "e": "on", "v": b"\xff"}]
        snapshot.close()
        query = f"SELECT FROM pg_replication_slots WHERE database = '{name}'"
        eventually(lambda: not database.execute(query))
    finally:
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_large_table_is_read_in_pieces(
    database: Database,
    snapshots: Callable[..., Snapshot],
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
) -> None:
    monkeypatch.setattr(plan, "_PART_PAGES", 7)
    database.execute(
        "CREATE TABLE large (id int PRIMARY KEY, t text);"
        " INSERT INTO large SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g;"
        " DELETE FROM large WHERE id % 3 = 0; UPDATE large SET t = 'y' WHERE id % 7 = 0;"
        " CREATE TABLE whole (id int) PARTITION BY RANGE (id);"
        " CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (100000);"
        " INSERT INTO whole SELECT generate_series(1, 20000);"
        " CREATE TABLE empty (id int PRIMARY KEY); ANALYZE;"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES WITH (publish_via_partition_root)"
    )
    snapshot = snapshots(database, snapshot_jobs=jobs)
    with contextlib.closing(snapshot.copy()) as copy:
        copy.open()
        assert len(copy._threads) == jobs
        ids: Counter[tuple[str, int]] = Counter()
        fractions = []
        for batch in batches(copy):
            ids.update((batch.relation.table, row["id"]) for row in batch.rows)
            fractions.append(copy.progress().fraction)
        done = copy.progress()
    expected = {("large", n) for n in range(1, 20001) if n % 3}
    expected |= {("whole", n) for n in range(1, 20001)}
    assert set(ids) == expected
    assert set(ids.values()) == {1}
    assert (done.rows, done.tables, done.tables_done) == (len(expected), 3, 3)
    assert done.fraction == 1.0
    assert done.bytes > 200 * 10000
    assert fractions == sorted(fractions)
    assert len(fractions) > 20
    assert 0 < fractions[0] < fractions[len(fractions) // 2] < 1


def test_pieces_of_what_filters_leave(
    database: Database, snapshots: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_PART_PAGES", 2)
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5000);"
        " CREATE PUBLICATION one FOR TABLE t WHERE (id <= 100);"
        " CREATE PUBLICATION two FOR TABLE t WHERE (id > 4900)"
    )
    _, rows = snapshots(database, publication=["one", "two"]).rows()
    expected = [*range(1, 101), *range(4901, 5001)]
    assert sorted(row["id"] for row in rows["public.t"]) == expected


def test_a_publication_that_was_dropped_before_the_slot_was_made(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION one FOR TABLE t")
    with pytest.raises(PublicationNotFound, match="one, two"):
        snapshots(database, publication=["one", "two"]).rows()


def test_all_of_it_is_as_the_snapshot_shows_it(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5000);"
        " CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u SELECT generate_series(1, 5000);"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    snapshot = snapshots(database)
    database.execute("DELETE FROM t WHERE id > 10; INSERT INTO u VALUES (0); CREATE TABLE v ()")
    with contextlib.closing(snapshot.copy()) as copy:
        copy.open()
        database.execute("DELETE FROM u; INSERT INTO t VALUES (-1)")
        found = [(batch.relation.table, batch.rows) for batch in batches(copy)]
    rows = [(table, row["id"]) for table, some in found for row in some]
    assert sorted(rows) == [(table, n) for table in "tu" for n in range(1, 5001)]
    assert max(len(some) for _, some in found) == copy_module._BATCH_ROWS


def test_the_slot_is_temporary_until_it_is_made_permanent(
    any_database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    any_database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    query = (
        "SELECT slot_name, temporary, confirmed_flush_lsn::text FROM pg_replication_slots"
        f" WHERE database = '{any_database.name}'"
    )
    lost = snapshots(any_database)
    assert any_database.execute(query) == [(lost.temporary, True, str(lost.lsn))]
    lost.close()
    eventually(lambda: not any_database.execute(query))
    kept = snapshots(any_database)
    any_database.execute("INSERT INTO t VALUES (1)")
    kept.rows()
    any_database.execute("INSERT INTO t VALUES (2)")
    kept.run(make_permanent(kept.link.pgconn, kept.temporary, kept.config.slot, failover=False))
    kept.close()
    assert any_database.execute(query) == [(kept.config.slot, False, str(kept.lsn))]
    with pgstream.connect(any_database.dsn, slot=kept.config.slot, until="now") as stream:
        assert [event.new["id"] for event in stream if isinstance(event, Insert)] == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        "TRUNCATE t",
        "DROP TABLE t",
        "ALTER TABLE t ALTER COLUMN id TYPE bigint",
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY)",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t RENAME TO u; CREATE TABLE t (id int PRIMARY KEY)",
    ],
)
def test_a_table_that_is_not_what_the_snapshot_shows(
    database: Database, snapshots: Callable[..., Snapshot], change: str
) -> None:
    """It would be read as empty, or not at all; the copy has to start again."""
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    snapshot = snapshots(database)
    database.execute(change)
    with pytest.raises(ServerError, match="copy cannot go on") as info:
        snapshot.rows()
    assert info.value.transient
    eventually(
        lambda: (
            not database.execute(
                f"SELECT FROM pg_stat_activity WHERE datname = '{database.name}'"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )
    )


PUBLISHED = """
CREATE TABLE a (id int PRIMARY KEY, b int, c int); INSERT INTO a VALUES (1, 2, 3);
CREATE TABLE x (id int PRIMARY KEY); INSERT INTO x VALUES (1);
CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10);
CREATE TABLE middle (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (10) TO (20);
INSERT INTO low VALUES (1); INSERT INTO leaf VALUES (11);
CREATE PUBLICATION pgstream_pub FOR TABLE a, root"""


@pytest.mark.parametrize(
    "change",
    [
        "ALTER PUBLICATION pgstream_pub ADD TABLE x",
        "ALTER PUBLICATION pgstream_pub DROP TABLE a",
        "ALTER PUBLICATION pgstream_pub ADD TABLES IN SCHEMA public",
        "ALTER PUBLICATION pgstream_pub SET TABLE a (id), root",
        "ALTER PUBLICATION pgstream_pub SET TABLE a WHERE (id > 1), root",
        "ALTER PUBLICATION pgstream_pub SET (publish_via_partition_root = true)",
        "DROP PUBLICATION pgstream_pub",
        "DROP PUBLICATION pgstream_pub; CREATE PUBLICATION pgstream_pub FOR TABLE a, root",
        "ALTER TABLE root ATTACH PARTITION middle FOR VALUES FROM (10) TO (20)",
        "ALTER TABLE root DETACH PARTITION low",
        "ALTER TABLE a DROP COLUMN b",
        "ALTER TABLE a RENAME b TO d; ALTER TABLE a RENAME c TO b; ALTER TABLE a RENAME d TO c",
    ],
)
@pytest.mark.parametrize("root", [False, True], ids=["leaves", "root"])
def test_what_is_published_otherwise_by_now(
    database: Database, snapshots: Callable[..., Snapshot], change: str, root: bool
) -> None:
    """The server says what it publishes now; the stream begins with what it did then."""
    how = " WITH (publish_via_partition_root)" if root else ""
    if root and "via_partition_root" in change:
        change = change.replace("true", "false")
    database.execute(PUBLISHED + how)
    snapshot = snapshots(database)
    database.execute(change)
    with pytest.raises(ServerError, match="copy cannot go on") as info:
        snapshot.rows()
    assert info.value.transient


def test_a_table_without_partitions_that_was_altered(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    database.execute(
        "CREATE TABLE root (id int, a int) PARTITION BY RANGE (id);"
        " CREATE PUBLICATION pgstream_pub FOR TABLE root WITH (publish_via_partition_root)"
    )
    snapshot = snapshots(database)
    database.execute("ALTER TABLE root RENAME a TO b")
    with pytest.raises(ServerError, match="table root was altered"):
        snapshot.rows()


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE one.t",
        "DROP TABLE one.root",
        "ALTER TABLE one.t SET UNLOGGED",
        "ALTER TABLE leaf SET UNLOGGED",
        "ALTER TABLE one.t SET SCHEMA two",
        "ALTER TABLE one.root SET SCHEMA two",
        "ALTER SCHEMA one RENAME TO three",
    ],
)
@pytest.mark.parametrize("what", ["ALL TABLES", "TABLES IN SCHEMA one"])
def test_a_table_that_is_published_without_being_named(
    database: Database, snapshots: Callable[..., Snapshot], what: str, change: str
) -> None:
    """The server says that it is not published, or where it is now; the stream begins before."""
    database.execute(
        "CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.t (id int PRIMARY KEY);"
        " CREATE TABLE one.root (id int) PARTITION BY RANGE (id);"
        " CREATE TABLE leaf PARTITION OF one.root FOR VALUES FROM (0) TO (10);"
        " INSERT INTO one.t VALUES (1); INSERT INTO one.root VALUES (1);"
        f" CREATE PUBLICATION pgstream_pub FOR {what}"
    )
    snapshot = snapshots(database)
    database.execute(change)
    with pytest.raises(ServerError, match="copy cannot go on") as info:
        snapshot.rows()
    assert info.value.transient


def test_what_has_nothing_that_the_copy_could_lack(
    any_database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    any_database.execute(f"{PUBLISHED}; CREATE TABLE heir () INHERITS (x)")
    snapshot = snapshots(any_database)
    any_database.execute(
        "DROP TABLE heir; CREATE TABLE high PARTITION OF root FOR VALUES FROM (90) TO (99);"
        " CREATE TABLE later (id int); ALTER TABLE x ADD COLUMN y int;"
        " CREATE PUBLICATION other FOR TABLE x; CREATE INDEX ON a (b); ANALYZE"
    )
    relations, rows = snapshot.rows()
    assert list(relations) == ["public.a", "public.low"]
    assert rows["public.low"] == [{"id": 1}]


def test_tables_stay_as_they_are_while_they_are_copied(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    large(database)
    with contextlib.closing(snapshots(database).copy()) as copy:
        copy.open()
        with database.connect() as other, pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SET lock_timeout = '50ms'; TRUNCATE t")


def test_what_inherits_and_is_not_published_is_left_alone(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);"
        " CREATE TABLE heir () INHERITS (t); INSERT INTO heir VALUES (2);"
        " CREATE PUBLICATION pgstream_pub FOR TABLE ONLY t"
    )
    snapshot = snapshots(database)
    with database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE heir")
        assert snapshot.rows()[1] == {"public.t": [{"id": 1}]}


def waits_for_a_lock(database: Database, query: str) -> bool:
    return bool(
        database.execute(
            f"SELECT FROM pg_stat_activity WHERE datname = '{database.name}'"
            f" AND wait_event_type = 'Lock' AND query LIKE '{query}%'"
        )
    )


@contextlib.contextmanager
def queued(database: Database, statement: str) -> Iterator[None]:
    """A statement of another session that waits for a lock as the block begins."""
    thread = threading.Thread(target=database.execute, args=[statement])
    thread.start()
    try:
        eventually(lambda: waits_for_a_lock(database, statement))
        yield
    finally:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_each_connection_holds_all_tables(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    """What rewrites a table waits for the last of them, not for the first."""
    large(database)
    database.execute("CREATE TABLE x (id int); INSERT INTO x SELECT generate_series(1, 100)")
    with contextlib.ExitStack() as stack:
        copy = stack.enter_context(contextlib.closing(snapshots(database).copy()))
        copy.open()
        # Both have a large table to read, which nobody takes from them.
        eventually(lambda: readers(database) == 2)
        holders = "SELECT FROM pg_locks WHERE relation = 'x'::regclass AND granted"
        assert len(database.execute(holders)) == 2
        stack.enter_context(queued(database, "ALTER TABLE x ALTER COLUMN id TYPE bigint"))
        counts = Counter(batch.relation.table for batch in batches(copy) for _ in batch.rows)
    assert counts == {"t": 30000, "u": 30000, "x": 100}


def test_a_rewrite_that_is_queued_between_the_connections(
    database: Database, snapshots: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the first, the second for it: the server sees no deadlock in that."""
    monkeypatch.setattr(plan, "_LOCK_MILLISECONDS", 100)
    large(database)
    with contextlib.ExitStack() as stack:

        def lock_later(connection: Any, stored: Any) -> None:
            stack.enter_context(queued(database, "TRUNCATE t"))
            plan.lock_tables(connection, stored)

        monkeypatch.setattr(copy_module, "lock_tables", lock_later)
        copy = stack.enter_context(contextlib.closing(snapshots(database).copy()))
        with pytest.raises(ServerError, match="lock that keeps readers out") as info:
            copy.open()
        assert info.value.transient


def test_rows_that_a_policy_would_hide_are_an_error(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    role = f"reader_{database.name}"
    database.execute(
        f"CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE {role} LOGIN REPLICATION;"
        f" GRANT SELECT ON t TO {role}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        " INSERT INTO t VALUES (1); CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    try:
        snapshot = snapshots(database)
        copy = Copy(
            snapshot.config,
            database.server.dsn(database.name, user=role),
            str(snapshot.name),
            lambda catalog: pgstream.Decoder(catalog=catalog),
            binary=True,
        )
        with contextlib.closing(copy):
            copy.open()
            with pytest.raises(ServerError, match="row-level security"):
                list(batches(copy))
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_no_timeout_of_the_database_ends_it(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, t text);"
        " INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g;"
        + "".join(f" CREATE TABLE small_{n} AS SELECT 1 AS id;" for n in range(6))
        + " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    with database.connect() as connection:
        for name in (
            "statement_timeout",
            "idle_session_timeout",
            "idle_in_transaction_session_timeout",
            "lock_timeout",
            "transaction_timeout",
        ):
            if name == "statement_timeout":
                continue  # set below: it would end this very connection's statements
            connection.execute(f"ALTER DATABASE {database.name} SET {name} = '300ms'")
        connection.execute(f"ALTER DATABASE {database.name} SET statement_timeout = '300ms'")
    snapshot = snapshots(database, snapshot_jobs=1)
    with contextlib.closing(snapshot.copy()) as copy:
        copy.open()
        counts: Counter[str] = Counter()
        for batch in batches(copy):
            if batch.relation.table not in counts and len(counts) < 2:
                time.sleep(1)  # the server meets all of its timeouts, in and between two tables
            counts[batch.relation.table] += len(batch.rows)
    assert counts == {"t": 20000} | {f"small_{n}": 1 for n in range(6)}
    snapshot.run(
        make_permanent(
            snapshot.link.pgconn, snapshot.temporary, snapshot.config.slot, failover=False
        )
    )


def test_a_slow_consumer_holds_the_server_back(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, t text);"
        " ALTER TABLE t ALTER COLUMN t SET STORAGE EXTERNAL;"
        " INSERT INTO t SELECT g, repeat('x', 100000) FROM generate_series(1, 300) g;"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    snapshot = snapshots(database, snapshot_jobs=1)
    with contextlib.closing(snapshot.copy()) as copy:
        copy.open()
        eventually(copy._queue.full)
        eventually(
            lambda: database.execute(
                "SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite'"
                f" AND datname = '{database.name}' AND query LIKE 'COPY%'"
            )
        )
        held = sum(len(batch.rows) for batch in list(copy._queue.queue) if batch)
        assert held < 60
        sizes = [len(batch.rows) for batch in batches(copy)]
    assert sum(sizes) == 300
    assert max(sizes) <= copy_module._BATCH_BYTES / 100000 + 1


def readers(database: Database) -> int:
    [(count,)] = database.execute(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}'"
        " AND query LIKE 'COPY%'"
    )
    return int(count)


def large(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, t text);"
        " INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 30000) g;"
        " CREATE TABLE u AS SELECT * FROM t; CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )


def test_it_can_be_left_at_any_time(database: Database, snapshots: Callable[..., Snapshot]) -> None:
    large(database)
    copy = snapshots(database).copy()
    copy.open()
    eventually(lambda: readers(database) == 2)
    copy.close()
    eventually(lambda: readers(database) == 0)
    copy.close()


def test_it_can_be_left_when_all_is_read(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    """The queue is full, and has no room for the word that nothing more comes."""
    database.execute(
        "CREATE TABLE t (id int); CREATE TABLE u (id int);"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    copy = snapshots(database, snapshot_jobs=1).copy()
    copy.open()
    [thread] = copy._threads
    eventually(copy._queue.full)
    eventually(lambda: readers(database) == 0)
    copy.close()
    eventually(lambda: not thread.is_alive())


def test_a_connection_that_is_turned_away(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    copy = snapshots(database).copy()
    copy._conninfo += " dbname=nowhere"
    with pytest.raises(ConnectionFailed, match="does not exist") as info:
        copy.open()
    assert not info.value.transient


def test_a_deadlock_with_another_session(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    """It holds an index that the copy comes to, and waits for a table of the copy."""
    large(database)
    database.execute("CREATE TABLE x (id int PRIMARY KEY)")
    copy = snapshots(database, snapshot_jobs=1).copy()
    with database.connect(autocommit=False) as other, contextlib.closing(copy):
        other.execute("SET deadlock_timeout = '1h'; REINDEX INDEX x_pkey")
        copy.open()
        eventually(lambda: readers(database) == 1)
        thread = threading.Thread(target=other.execute, args=["LOCK TABLE t"])
        thread.start()
        eventually(lambda: waits_for_a_lock(database, "LOCK"))
        with pytest.raises(ServerError, match="cannot go on: deadlock") as info:
            list(batches(copy))
        assert info.value.transient
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_it_can_be_left_while_the_server_waits_for_a_lock(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    """A table can be read while one of its indexes is made anew, but no plan be made for it."""
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    copy = snapshots(database).copy()
    with database.connect(autocommit=False) as other:
        other.execute("REINDEX INDEX t_pkey")
        copy.open()
        eventually(lambda: waits_for_a_lock(database, "COPY"))
        [thread] = copy._threads
        began = time.monotonic()
        copy.close()
        assert not thread.is_alive()
        assert time.monotonic() - began < copy_module._JOIN_SECONDS
    eventually(lambda: readers(database) == 0)


def test_the_reading_waits_for_a_lock_as_long_as_it_takes(
    database: Database, snapshots: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables are locked, and nobody who holds an index waits for them."""
    monkeypatch.setattr(plan, "_LOCK_MILLISECONDS", 100)
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);"
        " CREATE PUBLICATION pgstream_pub FOR ALL TABLES"
    )
    with contextlib.closing(snapshots(database).copy()) as copy:
        with database.connect(autocommit=False) as other:
            other.execute("REINDEX INDEX t_pkey")
            copy.open()
            eventually(lambda: waits_for_a_lock(database, "COPY"))
            time.sleep(0.5)
        assert [row for batch in batches(copy) for row in batch.rows] == [{"id": 1}]


def test_a_connection_that_is_lost(database: Database, snapshots: Callable[..., Snapshot]) -> None:
    large(database)
    with contextlib.closing(snapshots(database).copy()) as copy:
        copy.open()
        eventually(lambda: readers(database) == 2)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{database.name}' AND query LIKE 'COPY%' LIMIT 1"
        )
        with pytest.raises(ConnectionLost) as info:
            list(batches(copy))
        assert info.value.transient


def test_a_snapshot_that_has_gone(database: Database, snapshots: Callable[..., Snapshot]) -> None:
    large(database)
    snapshot = snapshots(database)
    copy = snapshot.copy()
    snapshot.close()
    eventually(
        lambda: (
            not database.execute(
                f"SELECT FROM pg_replication_slots WHERE database = '{database.name}'"
            )
        )
    )
    with pytest.raises(ServerError, match="connection of its slot was lost") as info:
        copy.open()
    assert info.value.transient


def test_a_snapshot_whose_session_is_just_ending(
    database: Database, snapshots: Callable[..., Snapshot]
) -> None:
    """Its file is still there."""
    snapshot = snapshots(database)
    path = database.server.data / "pg_snapshots" / str(snapshot.name)
    kept = path.read_bytes()
    snapshot.close()
    eventually(lambda: not path.exists())
    path.write_bytes(kept)
    path.chmod(0o644)
    try:
        with pytest.raises(ServerError, match="connection of its slot was lost") as info:
            snapshot.copy().open()
    finally:
        path.unlink()
    assert info.value.transient


# Text


ITEMS = Relation(
    5, "public", "items", "d", (Column("id", 23, -1, True), Column("note", 25, -1, False))
)


def test_text_rows(decoder_impl: Any) -> None:
    rows = TextRows(decoder_impl(), ITEMS)
    line = rb"1" + b"\t" + rb"\b\f\n\r\t\v\\N\\ \x" + b"\n"
    assert rows([line, b"2\t\\N\n", b"3\t\n", b"4\t\xc3\xa9\n"]) == [
        {"id": 1, "note": "\b\f\n\r\t\v\\N\\ x"},
        {"id": 2, "note": None},
        {"id": 3, "note": ""},
        {"id": 4, "note": "é"},
    ]


def test_text_rows_without_columns(decoder_impl: Any) -> None:
    rows = TextRows(decoder_impl(), Relation(5, "public", "nothing", "d", ()))
    assert rows([b"\n", b"\n"]) == [{}, {}]


@pytest.mark.parametrize("line", [b"\n", b"1\n", b"1\t2\t3\n", b"x\ty\n", b""])
def test_text_rows_that_are_damaged(decoder_impl: Any, line: bytes) -> None:
    with pytest.raises(ProtocolError):
        TextRows(decoder_impl(), ITEMS)([line])


def test_progress_is_measured_in_pages() -> None:
    """As far as a part has come that has more rows than expected, or nobody knows how many."""
    other = Relation(6, "other", "items", "d", ())
    query = sql.SQL("SELECT").format()
    parts = (
        plan.Part(ITEMS, query, 6, 60.0),
        plan.Part(ITEMS, query, 2, 0.0),
        plan.Part(other, query, 2, 20.0),
    )
    meter = Meter(plan.Plan((ITEMS, other), parts))
    seen = []
    for index, rows, last in (
        (0, 30, False),
        (0, 45, False),
        (1, 10, False),
        (0, 5, True),
        (1, 0, True),
        (2, 10, False),
        (2, 10, True),
    ):
        meter.count(index, parts[index], rows, 2 * rows, last=last)
        progress = meter.progress()
        seen.append((round(progress.fraction, 6), progress.tables_done))
    assert seen == [(0.3, 0), (0.6, 0), (0.6, 0), (0.6, 0), (0.8, 1), (0.9, 1), (1.0, 2)]
    assert (progress.rows, progress.bytes, progress.table) == (110, 220, "other.items")


def test_the_pieces_are_bounded() -> None:
    assert copy_module._BATCH_BYTES <= 2**20
    assert copy_module._BATCH_ROWS <= 10_000
