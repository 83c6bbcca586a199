"""What is missing or dangerous in a server's set-up, and the command that puts it right.

Each check stands on its own: one that cannot be made (a right is missing, a managed
service hides a view) says so, and does not keep the others from being made. Nothing
is changed on the server.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import psycopg
from psycopg.rows import dict_row

from ..config import Config
from .findings import Finding, Server
from .identities import check_identities, check_partitions
from .publications import check_publications, check_unlogged
from .server import (
    check_free_senders,
    check_free_slots,
    check_prepared,
    check_role,
    check_server,
    check_timeout,
    check_wal_level,
    check_wal_limit,
)
from .slot import check_slot

__all__ = ["Finding", "examine"]

_CONNECT_SECONDS: Final = 10

_CHECKS: Final[tuple[tuple[str, Callable[[Server], Iterator[Finding]]], ...]] = (
    ("the server", check_server),
    ("wal_level", check_wal_level),
    ("the role", check_role),
    ("the slot", check_slot),
    ("the number of slots", check_free_slots),
    ("the number of WAL senders", check_free_senders),
    ("wal_sender_timeout", check_timeout),
    ("the limit of the WAL", check_wal_limit),
    ("prepared transactions", check_prepared),
    ("the publications", check_publications),
    ("replica identities", check_identities),
    ("partitions", check_partitions),
    ("unlogged tables", check_unlogged),
)


def examine(config: Config) -> Iterator[Finding]:
    """Yield the findings about the server, the publications and the slot of ``config``.

    Never raises for what the server says or fails to do: that is a finding too.
    """
    try:
        connection = psycopg.connect(
            config.conninfo,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=_CONNECT_SECONDS,
            application_name="pgstream doctor",
        )
    except psycopg.Error as error:
        yield Finding(
            "problem",
            f"the server cannot be reached: {_reason(config, error)}",
            f"pg_isready --dbname={shlex.quote(config.safe_dsn)}",
        )
        return
    with connection:
        server = Server(connection, config)
        for subject, check in _CHECKS:
            try:
                for finding in check(server):
                    yield _on_the_primary(finding) if server.standby else finding
            except psycopg.Error as error:
                yield Finding(
                    "warning", f"{subject} could not be looked at: {_reason(config, error)}"
                )
                if connection.closed:
                    return


def _on_the_primary(finding: Finding) -> Finding:
    """The finding about a standby, which takes no SQL but for its own settings."""
    if not finding.fix or finding.fix.startswith(("ALTER SYSTEM ", "pgstream ")):
        return finding
    statement, comment, rest = finding.fix.rpartition("  -- ")
    if not comment:
        return replace(finding, fix=f"{finding.fix}  -- on the primary")
    return replace(finding, fix=f"{statement}  -- on the primary; {rest}")


def _reason(config: Config, error: psycopg.Error) -> str:
    """Return what the server or libpq said, on one line and without the password."""
    message = error.diag.message_primary or str(error)
    return " ".join(config.redact(message).split())
