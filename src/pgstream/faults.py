"""What the server refused, as this package's errors: what happened and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from .config import Config
from .errors import (
    ConnectionFailed,
    ConnectionLost,
    PublicationNotFound,
    ReplicationNotAllowed,
    ServerError,
    SlotInUse,
    SlotLost,
    SlotNotFound,
)

PUBLICATION_HINT: Final = (
    "a publication must be older than the WAL that is read: create it, then drop the slot"
    " and create it anew (pgstream slot drop, pgstream slot create), and copy the tables"
)

# What the server says when it turns a connection away. libpq gives the text alone, in the
# language of the server; what is not recognised is passed on as it is.
_TURNED_AWAY: Final = (
    ("password authentication failed", ConnectionFailed, "check the user and the password"),
    ("no password supplied", ConnectionFailed, "give a password in the URL or in PGPASSWORD"),
    ("pg_hba.conf", ConnectionFailed, "allow this client in the server's pg_hba.conf"),
    ("does not exist", ConnectionFailed, "check the database and the user in the URL"),
    (
        "walsender",
        ReplicationNotAllowed,
        "let a superuser run: ALTER ROLE {user} REPLICATION;",
    ),
    (
        "WAL sender",
        ReplicationNotAllowed,
        "let a superuser run: ALTER ROLE {user} REPLICATION;",
    ),
    (
        "max_wal_senders",
        ConnectionFailed,
        "end another replication connection, or raise max_wal_senders and restart the server",
    ),
    ("starting up", ConnectionFailed, "try again in a moment"),
    ("shutting down", ConnectionFailed, "try again when the server is back"),
    ("Connection refused", ConnectionFailed, "is the server running, and is this its port?"),
    ("No such file", ConnectionFailed, "is the server running, and is this its socket?"),
    ("could not translate host name", ConnectionFailed, "check the host in the URL"),
    ("failed to resolve host", ConnectionFailed, "check the host in the URL"),
)


def turned_away(error: psycopg.Error, config: Config) -> ServerError:
    """The error for a connection that could not be made."""
    text = " ".join(config.redact(str(error)).split())
    kind: type[ServerError] = ConnectionFailed
    hint = "check the URL"
    for phrase, its_kind, its_hint in _TURNED_AWAY:
        if phrase in text:
            kind, hint = its_kind, its_hint
            break
    user = getattr(getattr(error, "pgconn", None), "user", None)
    name = user.decode() if isinstance(user, bytes) and user else "…"
    where = config.safe_dsn or "the default server"
    return kind(f"cannot connect to {where}: {text}", hint.format(user=name))


def refused(error: psycopg.Error, config: Config, *, streaming: bool = False) -> ServerError:
    """The error for what the server answered to a command, or ended the stream with."""
    text = config.redact(error.diag.message_primary or str(error).strip())
    if error.diag.message_detail:
        text += f" ({config.redact(error.diag.message_detail)})"
    state = error.sqlstate or ""
    if state == "42704" and streaming:
        return PublicationNotFound(text, PUBLICATION_HINT)
    if state == "42704":
        return SlotNotFound(text, f"pgstream slot create --slot {config.slot}")
    if state == "42501":
        return ReplicationNotAllowed(text, "ask the owner of the database for this right")
    if state == "53400":
        return ServerError(
            text, "drop a slot (pgstream slot list), or raise max_replication_slots and restart"
        )
    if state == "58P01" or (state == "55000" and config.slot in text):
        # Its WAL has gone, or the server has invalidated it.
        return SlotLost(text, "pgstream doctor says how the slot stands")
    if state.startswith(("57P", "08")) or not state:
        return ConnectionLost(text, "start again when the server is back")
    return ServerError(text, error.diag.message_hint or "")


def in_use(slot: str, pid: int | None) -> SlotInUse:
    """The error for a slot that another connection reads from."""
    by = f" by the server process with PID {pid}" if pid is not None else ""
    return SlotInUse(
        f"slot {slot!r} is in use{by}",
        f"stop that consumer, or: SELECT pg_terminate_backend({pid});"
        if pid is not None
        else "stop the other consumer",
        pid,
    )


def require_version(server: int, major: int, option: str) -> None:
    """Refuse an option that the server is too old for."""
    if server < major * 10000:
        raise ServerError(
            f"{option} needs PostgreSQL {major}, the server is {server // 10000}",
            "leave it out",
        )


def require_logical(wal_level: str | None) -> None:
    """Refuse a server whose WAL does not hold what logical decoding needs."""
    if wal_level != "logical":
        raise ReplicationNotAllowed(
            f"wal_level is {wal_level}, logical replication needs logical",
            "ALTER SYSTEM SET wal_level = logical;  -- and restart the server",
        )


@contextmanager
def translated(config: Config, *, streaming: bool = False) -> Iterator[None]:
    """Raise what psycopg raises inside as an error of this package."""
    try:
        yield
    except psycopg.Error as error:
        raise refused(error, config, streaming=streaming) from None
