"""Creating a slot, and saying what it waits for.

The server creates a logical slot once every transaction that is open has ended, prepared
ones included. That may take for ever, and the server does not say for whom it waits.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.pq.abc import PGconn

from . import slots
from .config import Config
from .connector import ordinary_conninfo
from .lsn import LSN
from .steps import Connect, Run, Steps

_PATIENCE: Final = 2.0  # seconds until the first word of what is waited for
_AGAIN: Final = 10.0  # seconds until it is looked at again


def create_slot(pgconn: PGconn, command: str, config: Config) -> Steps[list[slots.Row]]:
    """Run a command that creates a slot; say who holds it up, if someone does.

    Args:
        pgconn: A replication connection.
        command: See :func:`pgstream.slots.creation_command`.
        config: The settings, for a second connection that looks, and for saying it.

    Returns:
        The rows of the answer: the slot's name, its starting point, the snapshot's name.

    Raises:
        psycopg.Error: what the server answered.
    """
    yield Run(slots.begin(pgconn, command), pgconn)
    patience, told = _PATIENCE, ""
    while True:
        rows: list[slots.Row] | None = yield Run(slots.answer(pgconn, patience), pgconn)
        if rows is not None:
            return rows
        blocker = yield from _look(pgconn, config)
        if blocker is not None and blocker != told:
            told = blocker
            config.tell(f"creating slot {config.slot} waits for {blocker}")
        patience = _AGAIN


def starting_point(rows: list[slots.Row]) -> LSN:
    """The position from which on the created slot has every change."""
    return LSN(str(rows[0][1]))


def _look(pgconn: PGconn, config: Config) -> Steps[str | None]:
    """Ask over a second connection; to know nothing is no reason to fail."""
    try:
        connection = yield Connect(ordinary_conninfo(config, pgconn))
    except psycopg.Error:
        return None
    try:
        blocker: str | None = yield Run(
            slots.who_blocks(connection.pgconn, pgconn.backend_pid), connection.pgconn
        )
        return blocker
    except psycopg.Error:
        return None
    finally:
        connection.pgconn.finish()
