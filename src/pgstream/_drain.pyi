from psycopg.pq.abc import PGconn

from .messages import Payload

def drain(pgconn: PGconn, limit: int) -> tuple[list[Payload], int]: ...
