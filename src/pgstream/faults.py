"""What the server refused, as this package's errors: what happened and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from .config import Config
from .errors import (
    ConnectionFailed,
    ConnectionLost,
    NoBinaryForm,
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

GRANT_REPLICATION: Final = (
    "ALTER ROLE {role} REPLICATION;  -- on Amazon RDS: GRANT rds_replication TO {role};"
)
_REPLICATION_HINT: Final = f"let a superuser run: {GRANT_REPLICATION}"

_TOO_LARGE_HINT: Final = (
    "a row that takes 1 GB or more cannot be sent: as text (binary=False, values='text') a bytea"
    " takes twice its size; docs/operations.md says how to leave a transaction out"
)

# What the server says when it turns a connection away. libpq gives the text alone, in the
# language of the server; what is not recognised is passed on as it is. The last field says
# whether trying again may help a stream that was connected before.
_TURNED_AWAY: Final = (
    ("password authentication failed", ConnectionFailed, "check the user and the password", False),
    (
        "no password supplied",
        ConnectionFailed,
        "give a password in the URL or in PGPASSWORD",
        False,
    ),
    ("pg_hba.conf", ConnectionFailed, "allow this client in the server's pg_hba.conf", False),
    ("CONNECT privilege", ConnectionFailed, "GRANT CONNECT ON DATABASE … TO {role};", False),
    ("does not exist", ConnectionFailed, "check the database and the user in the URL", False),
    (
        "max_wal_senders",
        ConnectionFailed,
        "end another replication connection, or raise max_wal_senders and restart the server",
        True,
    ),
    (
        "walsender",
        ReplicationNotAllowed,
        _REPLICATION_HINT,
        False,
    ),
    (
        "WAL sender",
        ReplicationNotAllowed,
        _REPLICATION_HINT,
        False,
    ),
    ("certificate", ConnectionFailed, "check sslmode, sslrootcert and sslcert in the URL", False),
    ("starting up", ConnectionFailed, "try again in a moment", True),
    ("shutting down", ConnectionFailed, "try again when the server is back", True),
    ("recovery mode", ConnectionFailed, "try again in a moment", True),
    ("Connection refused", ConnectionFailed, "is the server running, and is this its port?", True),
    ("No such file", ConnectionFailed, "is the server running, and is this its socket?", True),
    ("could not translate host name", ConnectionFailed, "check the host in the URL", True),
    ("failed to resolve host", ConnectionFailed, "check the host in the URL", True),
)


def turned_away(error: psycopg.Error, config: Config) -> ServerError:
    """The error for a connection that could not be made."""
    said = " ".join(str(error).split())
    text = config.redact(said)
    kind: type[ServerError] = ConnectionFailed
    hint = "check the URL"
    transient = True  # what is not recognised: the same URL has worked before
    for phrase, its_kind, its_hint, its_transience in _TURNED_AWAY:
        if phrase in said:  # the password may be a word of it
            kind, hint, transient = its_kind, its_hint, its_transience
            break
    user = getattr(getattr(error, "pgconn", None), "user", None)
    role = _role(user.decode() if isinstance(user, bytes) else "")
    where = config.safe_dsn or "the default server"
    failure = kind(f"cannot connect to {where}: {text}", hint.format(role=role))
    failure.transient = transient
    return failure


def _role(name: str) -> str:
    return sql.Identifier(name).as_string() if name else "…"


def passing(error: ServerError) -> ServerError:
    """The same error, as one that may be gone in a moment."""
    error.transient = True
    return error


def refused(error: psycopg.Error, config: Config, *, streaming: bool = False) -> ServerError:
    """The error for what the server answered to a command, or ended the stream with."""
    said = error.diag.message_primary or str(error).strip()
    text = config.redact(said)
    if error.diag.message_detail:
        text += f" ({config.redact(error.diag.message_detail)})"
    state = error.sqlstate or ""
    if state == "42883" and streaming:  # "no binary output function available for type …"
        return NoBinaryForm(text, error.diag.message_hint or "")
    if state == "42704" and streaming:
        return PublicationNotFound(text, PUBLICATION_HINT)
    if state == "42704" and config.slot in said:  # other things may be missing, too
        return SlotNotFound(text, f"pgstream slot create --slot {config.slot}")
    if state == "42710" and config.slot in said:
        return ServerError(
            text,
            f"pgstream run --slot {config.slot} reads from it;"
            f" pgstream slot drop {config.slot} drops it, with what was not read from it",
        )
    if streaming and (state == "54000" or "invalid memory alloc request size" in said):
        return ServerError(text, _TOO_LARGE_HINT)
    if state in ("42P01", "3F000"):  # a table, a schema
        return ServerError(
            text, "name it as PostgreSQL holds it, schema.table, with the case of its letters"
        )
    if state == "42501" and "replication slots" in said:
        user = conninfo_to_dict(config.conninfo).get("user") or ""
        return ReplicationNotAllowed(text, _REPLICATION_HINT.format(role=_role(str(user))))
    if state == "42501":
        return ReplicationNotAllowed(text, "ask the owner of the database for this right")
    if state == "53400":
        return ServerError(
            text, "drop a slot (pgstream slot list), or raise max_replication_slots and restart"
        )
    if state == "58P01" or (state == "55000" and config.slot in said):
        # Its WAL has gone, or the server has invalidated it.
        return SlotLost(text, "pgstream doctor says how the slot stands")
    if state.startswith(("57P", "08")) or not state:
        return passing(ConnectionLost(text, "start again when the server is back"))
    hint = config.redact(error.diag.message_hint or "")
    if state.startswith("53") or (streaming and state == "57014"):
        # Its disk is full, or its memory, or its connections; or someone cancelled it.
        return passing(ServerError(text, hint or "free what the server has run out of"))
    return ServerError(text, hint)


def in_use(slot: str, pid: int | None, *, ours: bool = False) -> SlotInUse:
    """The error for a slot that another connection reads from.

    Args:
        slot: The slot.
        pid: The server process that holds it, if known.
        ours: It is that of our own former connection, which the server has not missed yet.
    """
    if ours:
        error = SlotInUse(
            f"slot {slot!r} is still held by our own former connection, the server process with"
            f" PID {pid}, which the server has not found dead yet",
            f"it ends after wal_sender_timeout at the latest; or: SELECT"
            f" pg_terminate_backend({pid});",
            pid,
        )
        error.transient = True
        return error
    by = f" by the server process with PID {pid}" if pid is not None else ""
    return SlotInUse(
        f"slot {slot!r} is in use{by}",
        f"stop that consumer, or: SELECT pg_terminate_backend({pid});"
        if pid is not None
        else "stop the other consumer",
        pid,
    )


def require_version(server: int, major: int, option: str, hint: str = "leave it out") -> None:
    """Refuse an option that the server is too old for."""
    if server < major * 10000:
        raise ServerError(
            f"{option} needs PostgreSQL {major}, the server is {server // 10000}", hint
        )


def require_readable_standby(server: int) -> None:
    """Refuse a standby that is too old to have logical slots."""
    require_version(server, 16, "reading from a standby", "connect to the primary")


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
