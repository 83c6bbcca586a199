"""Bad set-ups and broken connections: each a typed error that says what to do."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest

import pgstream
from pgstream import (
    Commit,
    ConnectionFailed,
    ConnectionLost,
    Insert,
    PublicationNotFound,
    ReplicationNotAllowed,
    ServerError,
    SlotInUse,
    SlotLost,
    SlotNotFound,
    connector,
)
from pgstream.config import Config
from pgstream.embedded import Server, embedded_installation
from pgstream.errors import NoBinaryForm
from pgstream.faults import refused
from servers import Database
from waiting import eventually

SECRET = "s3cr€t/pass word"


@pytest.fixture
def published(any_database: Database) -> Database:
    any_database.execute("CREATE TABLE users (id int PRIMARY KEY)")
    any_database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE users")
    return any_database


def slot(database: Database) -> str:
    return f"slot_{database.name}"


@contextlib.contextmanager
def role(database: Database, attributes: str) -> Iterator[str]:
    """A role with the secret as its password; yields its name."""
    name = f"role_{database.name}"
    with database.connect() as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN {attributes} PASSWORD '{SECRET}'".encode())
    try:
        yield name
    finally:
        database.execute(f"DROP ROLE {name}")


def acknowledge_all(stream: pgstream.Stream) -> None:
    for _ in stream:
        stream.ack()


def spelled_out(error: BaseException) -> str:
    """All that could reach a log of it."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


def test_nobody_listens() -> None:
    with pytest.raises(ConnectionFailed, match="is the server running") as caught:
        pgstream.connect(f"postgresql://me:{quote(SECRET, safe='')}@127.0.0.1:1/db")
    assert "port=1" in str(caught.value)
    for secret in (SECRET, quote(SECRET, safe="")):
        assert secret not in spelled_out(caught.value)


def test_wrong_password(published: Database) -> None:
    dsn = psycopg.conninfo.make_conninfo(published.tcp_dsn, password=SECRET)
    with pytest.raises(ConnectionFailed, match="check the user and the password") as caught:
        pgstream.connect(dsn)
    assert SECRET not in spelled_out(caught.value)


def test_wrong_database(published: Database) -> None:
    with pytest.raises(ConnectionFailed, match=r"does not exist.*\nHint: check the database"):
        pgstream.connect(published.server.dsn("nowhere"))


def test_no_replication_right(published: Database) -> None:
    with role(published, "NOREPLICATION") as name:
        dsn = psycopg.conninfo.make_conninfo(published.dsn, user=name, password=SECRET)
        with pytest.raises(ReplicationNotAllowed, match=f'ROLE "{name}" REPLICATION') as caught:
            pgstream.connect(dsn)
    assert SECRET not in spelled_out(caught.value)


def test_what_is_to_be_pasted_quotes_the_role(database: Database) -> None:
    name = f'Reader of "{database.name}"'
    quoted = '"' + name.replace('"', '""') + '"'
    database.execute(f"CREATE ROLE {quoted} LOGIN")
    try:
        with pytest.raises(ReplicationNotAllowed) as caught:
            pgstream.connect(psycopg.conninfo.make_conninfo(database.dsn, user=name))
        assert caught.value.hint.endswith(f"Amazon RDS: GRANT rds_replication TO {quoted};")
        database.execute(caught.value.hint.removeprefix("let a superuser run: "))
        database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
        pgstream.connect(
            psycopg.conninfo.make_conninfo(database.dsn, user=name), slot=slot(database)
        ).close()
    finally:
        database.execute(f"DROP ROLE {quoted}")


def test_a_role_with_the_right_reads(published: Database) -> None:
    """SELECT on the tables is not needed."""
    with role(published, "REPLICATION") as name:
        dsn = psycopg.conninfo.make_conninfo(published.dsn, user=name, password=SECRET)
        pgstream.connect(dsn, slot=slot(published)).close()
        published.execute("INSERT INTO users VALUES (1)")
        with pgstream.connect(dsn, slot=slot(published), until="now") as stream:
            assert [event.new for event in stream if isinstance(event, Insert)] == [{"id": 1}]


def test_a_role_that_may_not_connect(published: Database) -> None:
    published.execute(f"REVOKE CONNECT ON DATABASE {published.name} FROM PUBLIC")
    with role(published, "REPLICATION") as name:
        dsn = psycopg.conninfo.make_conninfo(published.dsn, user=name, password=SECRET)
        with pytest.raises(ConnectionFailed, match="CONNECT privilege") as caught:
            pgstream.connect(dsn, slot=slot(published))
        assert not caught.value.transient
        published.execute(caught.value.hint.replace("…", published.name))
        pgstream.connect(dsn, slot=slot(published)).close()
        published.execute(f"DROP OWNED BY {name}")


def test_wal_level_is_not_logical() -> None:
    with (
        Server(embedded_installation(), settings={"wal_level": "replica"}) as server,
        pytest.raises(ReplicationNotAllowed, match="ALTER SYSTEM SET wal_level = logical"),
    ):
        pgstream.connect(server.dsn())


def test_no_slot_left() -> None:
    with Server(embedded_installation(), settings={"max_replication_slots": "1"}) as server:
        pgstream.connect(server.dsn(), slot="one", create_publication=True).close()
        with pytest.raises(ServerError, match="max_replication_slots"):
            pgstream.connect(server.dsn(), slot="two")


def test_publication_is_missing(published: Database) -> None:
    with pytest.raises(PublicationNotFound) as caught:
        pgstream.connect(
            published.dsn, publication=["pgstream_pub", "No Such"], tables=["public.users"]
        )
    assert "'No Such'" in caught.value.message
    assert 'CREATE PUBLICATION "No Such" FOR TABLE "public"."users"' in caught.value.hint
    assert published.execute("SELECT * FROM pg_replication_slots") == []  # nothing was begun


def test_publication_of_a_slot_is_missing(published: Database) -> None:
    """One that is made now is too young for the slot."""
    pgstream.connect(published.dsn, slot=slot(published)).close()
    published.execute("DROP PUBLICATION pgstream_pub")
    with pytest.raises(PublicationNotFound, match="'pgstream_pub' is not in database") as caught:
        pgstream.connect(published.dsn, slot=slot(published))
    assert "pgstream slot drop" in caught.value.hint


def test_publication_is_created_when_asked(published: Database) -> None:
    said: list[str] = []
    pgstream.connect(
        published.dsn,
        slot=slot(published),
        publication='od"d, pub',
        create_publication=True,
        tables=["users"],
        notice=said.append,
    ).close()
    assert said[0] == 'created publication od"d, pub'
    assert said[1].startswith(f"created slot {slot(published)} at ")
    published.execute("INSERT INTO users VALUES (1)")
    with pgstream.connect(
        published.dsn, slot=slot(published), publication='od"d, pub', until="now"
    ) as stream:
        assert len(list(stream)) == 3


def test_publication_is_younger_than_the_slot(published: Database) -> None:
    """14 to 17 refuse at the first change; 18 only warns, and skips the change."""
    pgstream.connect(published.dsn, slot=slot(published)).close()
    published.execute("INSERT INTO users VALUES (1)")
    published.execute("CREATE PUBLICATION late FOR TABLE users")
    stream = pgstream.connect(published.dsn, slot=slot(published), publication="late", until="now")
    with stream, pytest.raises(PublicationNotFound, match="older than the WAL"):
        acknowledge_all(stream)
    # Nothing was passed over: under its old name the change is still there.
    with pgstream.connect(published.dsn, slot=slot(published), until="now") as stream:
        assert [event.new for event in stream if isinstance(event, Insert)] == [{"id": 1}]


def test_a_row_that_the_server_cannot_send(database: Database) -> None:
    """A message is shorter than 1 GB; bits take eight times their size as text, a bytea twice."""
    database.execute("CREATE TABLE large (bits varbit)")
    database.execute("CREATE PUBLICATION pgstream_pub FOR TABLE large")
    pgstream.connect(database.dsn, slot=slot(database)).close()
    database.execute(
        "WITH one AS (SELECT B'0'::bit(72000000)::varbit AS bits), four AS MATERIALIZED"
        " (SELECT bits || bits || bits || bits AS bits FROM one)"
        " INSERT INTO large SELECT bits || bits || bits || bits FROM four"
    )
    stream = pgstream.connect(database.dsn, slot=slot(database), binary=False, until="now")
    with stream, pytest.raises(ServerError, match="1 GB") as info:
        acknowledge_all(stream)
    assert not info.value.transient


def test_slot_is_missing(published: Database) -> None:
    with pytest.raises(SlotNotFound, match=f"pgstream slot create --slot {slot(published)}"):
        pgstream.connect(published.dsn, slot=slot(published), create_slot=False)


def test_slot_is_in_use(published: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "_HELD_SECONDS", 0.2)
    with pgstream.connect(published.dsn, slot=slot(published)):
        (pid,) = published.execute("SELECT active_pid FROM pg_replication_slots")[0]
        said: list[str] = []
        with pytest.raises(SlotInUse, match=f"PID {pid}") as caught:
            pgstream.connect(published.dsn, slot=slot(published), notice=said.append)
    assert caught.value.pid == pid
    held = f"slot '{slot(published)}' is in use by the server process with PID {pid}"
    assert said == [f"{held}; waiting 0.2 s for it"]


def test_a_slot_that_is_let_go_is_waited_for(published: Database) -> None:
    holder = pgstream.connect(published.dsn, slot=slot(published))
    (pid,) = published.execute("SELECT active_pid FROM pg_replication_slots")[0]
    published.execute(f"SELECT pg_terminate_backend({pid})")
    pgstream.connect(published.dsn, slot=slot(published)).close()
    holder.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("SELECT pg_create_physical_replication_slot('{slot}')", "physical"),
        ("SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')", "test_decoding"),
    ],
)
def test_slot_of_another_kind(database: Database, make: str, message: str) -> None:
    database.execute("CREATE PUBLICATION pgstream_pub FOR ALL TABLES")
    try:
        database.execute(make.format(slot=slot(database)))
    except psycopg.errors.UndefinedFile:
        pytest.skip("this installation has no test_decoding")
    try:
        with pytest.raises(ServerError, match=message):
            pgstream.connect(database.dsn, slot=slot(database))
    finally:
        database.execute(f"SELECT pg_drop_replication_slot('{slot(database)}')")


def test_slot_of_another_database(published: Database) -> None:
    """Said before what that database lacks."""
    pgstream.connect(published.dsn, slot=slot(published)).close()
    with pytest.raises(ServerError, match=f"belongs to database '{published.name}'"):
        pgstream.connect(published.server.dsn(), slot=slot(published))


def test_slot_was_invalidated() -> None:
    settings = {
        "max_slot_wal_keep_size": "1MB",
        "min_wal_size": "32MB",
        "max_wal_size": "32MB",
    }
    with (
        Server(embedded_installation(), settings=settings) as server,
        psycopg.connect(server.dsn(), autocommit=True) as admin,
    ):
        pgstream.connect(server.dsn(), create_publication=True).close()
        for _ in range(4):
            admin.execute("SELECT pg_switch_wal(), pg_logical_emit_message(false, 'x', 'x')")
        admin.execute("CHECKPOINT")
        assert admin.execute("SELECT wal_status FROM pg_replication_slots").fetchone() == ("lost",)
        with pytest.raises(SlotLost, match=r"\(wal_removed\): changes after 0/\w+ are lost"):
            pgstream.connect(server.dsn())


def test_slot_was_idle_for_too_long() -> None:
    with (
        Server(embedded_installation(), settings={"idle_replication_slot_timeout": "1s"}) as server,
        psycopg.connect(server.dsn(), autocommit=True) as admin,
    ):
        pgstream.connect(server.dsn(), create_publication=True).close()

        def lost() -> bool:
            admin.execute("CHECKPOINT")  # which looks for idle slots
            status = admin.execute("SELECT wal_status FROM pg_replication_slots").fetchone()
            return status == ("lost",)

        eventually(lost)
        with pytest.raises(SlotLost, match=r"was invalidated \(idle_timeout\)"):
            pgstream.connect(server.dsn())


def test_slot_names_are_refused_before_the_server_sees_them() -> None:
    with pytest.raises(pgstream.ConfigError, match="cannot be the name of a replication slot"):
        pgstream.connect("host=192.0.2.1", slot="x; DROP TABLE users")


def test_the_server_goes_away(server: Server) -> None:
    """What had come before is handed on; the rest comes after the next start."""
    with Server(embedded_installation()) as own:
        with psycopg.connect(own.dsn(), autocommit=True) as admin:
            admin.execute("CREATE TABLE users (id int PRIMARY KEY)")
            pgstream.connect(own.dsn(), create_publication=True).close()
            admin.execute("INSERT INTO users VALUES (1)")
        seen = []
        stream = pgstream.connect(own.dsn(), reconnect_timeout=0)
        with stream:
            for event in stream:
                seen.append(event)
                stream.ack()
                if isinstance(event, Commit):
                    own.stop("immediate")
                    break
            with pytest.raises(ConnectionLost, match="start again"):
                next(stream)
            assert list(stream) == []  # it has ended, and says no more
        assert len(seen) == 3
        own.start()
        with psycopg.connect(own.dsn(), autocommit=True) as admin:
            admin.execute("INSERT INTO users VALUES (2)")
        with pgstream.connect(own.dsn(), until="now") as stream:
            # The acknowledgement of the first may have been lost with the server.
            assert [e.new["id"] for e in stream if isinstance(e, Insert)] in ([1, 2], [2])


def test_the_connection_is_terminated(published: Database) -> None:
    with pgstream.connect(published.dsn, slot=slot(published), reconnect_timeout=0) as stream:
        (pid,) = published.execute("SELECT active_pid FROM pg_replication_slots")[0]
        published.execute(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(ConnectionLost, match="terminating"):
            next(stream)


def test_a_password_that_is_a_word_of_the_message() -> None:
    with pytest.raises(ConnectionFailed, match="is the server running") as caught:
        pgstream.connect("host=127.0.0.1 port=1 password=refused")
    assert "refused" not in str(caught.value)


@pytest.mark.parametrize(
    ("state", "said", "streaming", "kind", "hint", "transient"),
    [
        ("42883", "no binary output function", True, NoBinaryForm, "", False),
        ("42883", "function f() does not exist", False, ServerError, "", False),
        ("42704", 'publication "p" does not exist', True, PublicationNotFound, "older", False),
        ("42704", 'slot "one" does not exist', False, SlotNotFound, "slot create", False),
        ("42704", 'type "t" does not exist', False, ServerError, "", False),
        ("42710", 'slot "one" already exists', False, ServerError, "slot drop one", False),
        ("42710", 'publication "p" already exists', False, ServerError, "", False),
        ("54000", "out of memory", True, ServerError, "1 GB", False),
        ("54000", "too many columns", False, ServerError, "", False),
        ("42P01", 'relation "t" does not exist', False, ServerError, "schema.table", False),
        ("3F000", 'schema "s" does not exist', False, ServerError, "schema.table", False),
        ("42501", "to use replication slots", False, ReplicationNotAllowed, "ALTER ROLE", False),
        ("42501", "for table t", False, ReplicationNotAllowed, "owner of the database", False),
        ("53400", "all replication slots are in use", False, ServerError, "drop a slot", False),
        ("58P01", "requested WAL segment", True, SlotLost, "doctor", False),
        ("55000", 'can no longer access slot "one"', True, SlotLost, "doctor", False),
        ("55000", "not now", True, ServerError, "", False),
        ("57P01", "terminating connection", True, ConnectionLost, "server is back", True),
        ("08006", "connection failure", True, ConnectionLost, "server is back", True),
        ("53100", "could not write", False, ServerError, "run out of", True),
        ("57014", "canceling statement", True, ServerError, "run out of", True),
        ("57014", "canceling statement", False, ServerError, "", False),
    ],
)
def test_what_the_server_refused(
    database: Database,
    state: str,
    said: str,
    streaming: bool,
    kind: type[ServerError],
    hint: str,
    transient: bool,
) -> None:
    config = Config(dsn=psycopg.conninfo.make_conninfo(password=SECRET), slot="one")
    statement = f"DO $$ BEGIN RAISE '{said}' USING ERRCODE = '{state}', DETAIL = '{SECRET}'; END $$"
    with database.connect() as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute(statement.encode())
    error = refused(raised.value, config, streaming=streaming)
    assert type(error) is kind
    assert error.message == f"{said} (***)"
    assert hint in error.hint
    assert bool(hint) == bool(error.hint)
    assert error.transient is transient
