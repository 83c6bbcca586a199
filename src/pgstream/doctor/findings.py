"""What the doctor says, and the server that it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import psycopg
from psycopg import sql

from ..config import Config
from .published import PublishedTable, published_tables

Level: TypeAlias = Literal["ok", "warning", "problem"]
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``problem``: streaming does not work, or it breaks something else;
            ``warning``: it works, but may not for ever; otherwise ``ok``.
        text: What was found.
        fix: A command to paste: SQL, or a shell's if it begins with ``pgstream`` or
            ``pg_isready``. Empty if there is nothing to do.
    """

    level: Level
    text: str
    fix: str = ""


class Server:
    """A connection, and what several checks need to know."""

    def __init__(self, connection: psycopg.Connection[Row], config: Config) -> None:
        self.connection = connection
        self.config = config
        self.version = connection.info.server_version // 10000
        self.slot: Row | None = None
        self.standby = False
        self._published: list[PublishedTable] | None = None

    def rows(self, query: str, *parameters: object) -> list[Row]:
        return self.connection.execute(query.encode(), parameters or None).fetchall()

    def row(self, query: str, *parameters: object) -> Row:
        return self.rows(query, *parameters)[0]

    def published(self) -> list[PublishedTable]:
        if self._published is None:
            self._published = published_tables(self.connection, self.config.publications)
        return self._published

    def setting(self, name: str) -> str:
        return str(self.row("SELECT current_setting(%s) AS value", name)["value"])


def quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string()
