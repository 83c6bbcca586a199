"""The drain in Python: the twin of ``_drain.pyx``, through psycopg."""

from __future__ import annotations

import psycopg
from psycopg.pq.abc import PGconn

from .messages import Payload


def drain(pgconn: PGconn, limit: int) -> tuple[list[Payload], int]:
    """Take up to ``limit`` CopyData messages out of what has arrived; does not wait.

    Returns:
        The payloads, and what stands behind them: 0 for nothing yet, -1 for the end of the
        stream, -2 for an error, which ``pgconn.error_message`` describes, and anything
        above 0 where the limit was reached.
    """
    payloads: list[Payload] = []
    size = 1
    while len(payloads) < limit:
        try:
            size, data = pgconn.get_copy_data(1)
        except psycopg.OperationalError:
            return payloads, -2
        if size <= 0:
            break
        payloads.append(bytes(data))
    return payloads, size
