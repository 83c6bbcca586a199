"""What all tests share: real PostgreSQL servers, fresh databases, and both decoders."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import servers
from pgstream.embedded import Server
from servers import Database, fresh_database


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false")


IN_CI = _is_set("CI")

# A shell may have started this with signals ignored (nohup, a job in the background); the
# processes that tests start would inherit that, and they are tested for what they do at each.
for _number, _action in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _action)


def not_available(reason: str, *, required: bool = IN_CI) -> None:
    """Skip the test, with its reason in the report; in CI nothing is skipped, so fail."""
    if required:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_report_header() -> list[str]:
    try:
        decoder = importlib.import_module("pgstream.decoder").__impl__
    except ImportError as error:
        decoder = f"NOT LOADED ({error})"
    versions = ", ".join(f"{v} ({servers.describe(v)})" for v in servers.VERSIONS)
    return [
        f"pgstream: decoder {decoder}, {platform.python_implementation()} "
        f"{platform.python_version()}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
        f"libpq {psycopg.pq.version()}",
        f"PostgreSQL: {versions}",
    ]


class ServerPool:
    """The running servers of the session, each started when it is first asked for."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._servers: dict[int, Server] = {}
        self._missing: dict[int, str] = {}

    def get(self, version: int) -> Server:
        if version in self._missing:
            not_available(self._missing[version])
        if version not in self._servers:
            try:
                installation = servers.installation(version)
            except servers.Unavailable as error:
                self._missing[version] = f"PostgreSQL {version} cannot be had: {error}"
                not_available(self._missing[version])
            # On TCP as well, so that a proxy can stand between server and client.
            server = Server(installation, tcp=True)
            self._servers[version] = self._stack.enter_context(server)
        return self._servers[version]


@pytest.fixture(scope="session")
def server_pool() -> Iterator[ServerPool]:
    with contextlib.ExitStack() as stack:
        yield ServerPool(stack)


@pytest.fixture(scope="session")
def server(server_pool: ServerPool) -> Server:
    """PostgreSQL 18, one for the session."""
    return server_pool.get(18)


@pytest.fixture(
    scope="session",
    params=[pytest.param(v, marks=pytest.mark.versions, id=f"pg{v}") for v in servers.VERSIONS],
)
def any_server(request: pytest.FixtureRequest, server_pool: ServerPool) -> Server:
    """Each PostgreSQL version in turn."""
    return server_pool.get(request.param)


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """A fresh database on PostgreSQL 18."""
    with fresh_database(server) as database:
        yield database


@pytest.fixture
def any_database(any_server: Server) -> Iterator[Database]:
    """A fresh database on each PostgreSQL version in turn."""
    with fresh_database(any_server) as database:
        yield database


@pytest.fixture(scope="session", params=["cython", "python"])
def decoder_impl(request: pytest.FixtureRequest) -> Any:
    """The Decoder class, of each implementation in turn."""
    module = {"cython": "pgstream._decode", "python": "pgstream._decode_py"}[request.param]
    try:
        return importlib.import_module(module).Decoder
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        required = IN_CI or _is_set("PGSTREAM_REQUIRE_EXT")
        not_available(f"the {request.param} decoder is not compiled", required=required)


@pytest.fixture(scope="module")
def both_decoders(decoder_impl: Any) -> Iterator[None]:
    """Let streams decode with each implementation in turn."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("pgstream.reading", "pgstream.assembly"):
            patch.setattr(f"{module}.Decoder", decoder_impl)
        yield
