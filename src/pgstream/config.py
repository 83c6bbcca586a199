"""Settings: what :func:`pgstream.connect` takes, checked before anything reaches the server."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from psycopg.conninfo import make_conninfo

from .dsn import parse_dsn
from .errors import ConfigError
from .lsn import LSN
from .messages import Payload
from .redaction import redact, redact_unknown
from .rows import RowFactory, dict_row
from .types import Numeric

if TYPE_CHECKING:
    from .snapshot import SnapshotProgress

log = logging.getLogger("pgstream")

Streaming: TypeAlias = Literal["off", "on", "parallel"]
Origin: TypeAlias = Literal["any", "none"]
Values: TypeAlias = Literal["typed", "text"]
Changes: TypeAlias = Literal["events", "json"]
Table: TypeAlias = tuple[str, str]
"""The schema and the name of a table."""

_SLOT: Final = re.compile(r"[a-z0-9_]{1,63}")
NAME_LIMIT: Final = 63
_MOST_JOBS: Final = 64
_PART: Final = r'"(?:[^"]|"")+"|[^".,\s]+'
_TABLE: Final = re.compile(rf"(?:({_PART})\.)?({_PART})")
_SECONDS: Final = (int, float)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "dsn": (str,),
    "slot": (str,),
    "create_slot": (bool,),
    "create_publication": (bool,),
    "binary": (bool, NoneType),
    "two_phase": (bool,),
    "messages": (bool,),
    "failover": (bool,),
    "state_file": (str, os.PathLike, NoneType),
    "status_interval": _SECONDS,
    "reconnect_timeout": (*_SECONDS, NoneType),
    "handler_timeout": (*_SECONDS, NoneType),
    "silence_timeout": (*_SECONDS, NoneType),
    "snapshot": (bool,),
    "snapshot_jobs": (int,),
    "memory_limit": (int,),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one stream. They are described at :func:`pgstream.connect`.

    Names are taken exactly as they are given: nothing is folded to lower case.

    Raises:
        ConfigError: if a setting cannot be. It never holds any part of ``dsn``.
    """

    dsn: str = field(default="", repr=False)
    slot: str = "pgstream_slot"
    publication: str | Sequence[str] = "pgstream_pub"
    create_slot: bool = True
    create_publication: bool = False
    tables: Sequence[str] = ()
    binary: bool | None = None
    streaming: Streaming = "off"
    two_phase: bool = False
    messages: bool = False
    origin: Origin = "any"
    until: LSN | Literal["now"] | None = None
    failover: bool = False
    status_interval: float = 10.0
    reconnect_timeout: float | None = None
    handler_timeout: float | None = 3600.0
    silence_timeout: float | None = 300.0
    state_file: str | os.PathLike[str] | None = None
    snapshot: bool = False
    snapshot_jobs: int = 2
    progress: Callable[[SnapshotProgress], object] | None = None
    memory_limit: int = 64 * 2**20
    changes: Changes = "events"
    row_factory: RowFactory = dict_row
    values: Values = "typed"
    json_loads: Callable[[str], Any] = json.loads
    numeric: Numeric = "decimal"
    notice: Callable[[str], None] | None = None
    tap: Callable[[Payload], None] | None = None

    conninfo: str = field(init=False, repr=False)
    """``dsn`` as a key=value string, without its ``replication`` parameter."""
    safe_dsn: str = field(init=False)
    """Where ``dsn`` leads to (host, port, dbname, user), for messages."""
    publications: tuple[str, ...] = field(init=False)
    """The names in ``publication``."""
    transfer: Literal["binary", "text"] = field(init=False)
    """What the server is asked for: binary, unless ``binary`` or ``values`` says otherwise."""
    table_names: tuple[Table, ...] = field(init=False)
    """``tables``, parsed."""

    def __post_init__(self) -> None:
        self._check_types()
        parameters = parse_dsn(self.dsn)
        shown = {
            key: parameters[key] for key in ("host", "port", "dbname", "user") if key in parameters
        }
        names = (self.publication,) if isinstance(self.publication, str) else self.publication
        tables = (self.tables,) if isinstance(self.tables, str) else self.tables
        _set(self, "conninfo", make_conninfo(**parameters))
        _set(self, "safe_dsn", make_conninfo(**shown))
        _set(self, "publications", tuple(dict.fromkeys(names)))
        _set(self, "table_names", tuple(dict.fromkeys(map(parse_table, tables))))

        check_slot(self.slot)
        if not self.publications:
            raise ConfigError("no publication is named", "name at least one")
        for name in self.publications:
            check_publication(name)
        _one_of("streaming", self.streaming, get_args(Streaming))
        _one_of("origin", self.origin, get_args(Origin))
        _one_of("values", self.values, get_args(Values))
        _one_of("changes", self.changes, get_args(Changes))
        if self.changes == "json" and self.row_factory is not dict_row:
            raise ConfigError("changes as JSON have no row_factory", "leave out one of the two")
        if self.binary and self.values == "text":
            raise ConfigError(
                "values as text cannot be made from the binary transfer",
                "leave out one of the two",
            )
        is_binary = self.values != "text" if self.binary is None else self.binary
        _set(self, "transfer", "binary" if is_binary else "text")
        _one_of("numeric", self.numeric, get_args(Numeric))
        if self.until is not None and self.until != "now" and not isinstance(self.until, LSN):
            raise ConfigError(f"until is {_shown(self.until)}", "give an LSN, 'now' or None")
        if not (self.status_interval > 0 and math.isfinite(self.status_interval)):
            raise ConfigError(
                f"status_interval is {self.status_interval}", "give a number of seconds above 0"
            )
        if self.reconnect_timeout is not None and not self.reconnect_timeout >= 0:
            raise ConfigError(
                f"reconnect_timeout is {self.reconnect_timeout}",
                "give a number of seconds, 0 for never, None for ever",
            )
        for name in ("handler_timeout", "silence_timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ConfigError(
                    f"{name} is {seconds}", "give a number of seconds above 0, or None for no limit"
                )
        if not 1 <= self.snapshot_jobs <= _MOST_JOBS:
            raise ConfigError(
                f"snapshot_jobs is {self.snapshot_jobs}", f"give a number from 1 to {_MOST_JOBS}"
            )
        if self.memory_limit < 0:
            raise ConfigError(f"memory_limit is {self.memory_limit}", "give a number of bytes")

    def _check_types(self) -> None:
        """Refuse values of another type, which would fail later and say less."""
        for name, wanted in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, wanted):
                kinds = " or ".join(kind.__name__ for kind in wanted)
                shown = type(value).__name__ if name == "dsn" else _shown(value)
                raise ConfigError(f"{name} is {shown}", f"give {kinds.replace('NoneType', 'None')}")
        for name in ("publication", "tables"):
            value = getattr(self, name)
            if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
                raise ConfigError(f"{name} is {_shown(value)}", "give a name, or a list of names")
        for name in ("json_loads", "row_factory", "progress", "notice", "tap"):
            value = getattr(self, name)
            if not callable(value) and (value is not None or name in ("json_loads", "row_factory")):
                raise ConfigError(f"{name} is {_shown(value)}", "give a function")

    def tell(self, text: str, level: int = logging.INFO) -> None:
        """Say what is worth telling a person: to ``notice``, or without it to the log."""
        if self.notice is not None:
            self.notice(text)
        else:
            log.log(level, "%s", text)

    def warn(self, text: str) -> None:
        """The same, for what is a warning of the log."""
        self.tell(text, logging.WARNING)

    def redact(self, text: str) -> str:
        """Return ``text`` with the passwords replaced by ``***``: see :mod:`pgstream.redaction`."""
        tables = [name for table in self.table_names for name in table]
        return redact(self.dsn, text, (self.slot, *self.publications, *tables))


def check_slot(name: str) -> None:
    """Refuse what PostgreSQL does not take as the name of a replication slot.

    Raises:
        ConfigError: if the name is not 1 to 63 of ``a-z``, ``0-9`` and ``_``.
    """
    if not _SLOT.fullmatch(name):
        raise ConfigError(
            f"{_shown(name)} cannot be the name of a replication slot",
            "use 1 to 63 lower-case letters, digits and underscores",
        )


def check_publication(name: str) -> None:
    """Refuse what cannot be the name of a publication.

    Raises:
        ConfigError: if the name is empty, holds a NUL or is longer than 63 bytes.
    """
    _check_identifier("publication", name)


def parse_table(text: str) -> Table:
    """Return the schema and the name of ``schema.table``; the schema is ``public`` if left out.

    A part with a dot, a comma, a quote or a space in it stands in double quotes, with
    quotes inside doubled, as in SQL. Unlike SQL, letters keep their case without them.

    Raises:
        ConfigError: if it is not the name of a table.
    """
    found = _TABLE.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{_shown(text)} is not the name of a table",
            'write schema.table, or "odd.schema"."a table"',
        )
    table = unquote(found[1] or "public"), unquote(found[2])
    for part in table:
        _check_identifier("table", part)
    return table


def split_names(text: str) -> list[str]:
    """Return the parts of a list that is separated by commas; those in double quotes do not count.

    Spaces around a part are dropped, and empty parts left out. Quotes are kept.
    """
    parts = re.findall(r'(?:"(?:[^"]|"")*"|[^,"]|")+', text)
    return [part.strip() for part in parts if part.strip()]


def unquote(name: str) -> str:
    """Return ``name`` without the double quotes around it, if there are any."""
    if len(name) > 2 and name[0] == name[-1] == '"':
        return name[1:-1].replace('""', '"')
    return name


def _check_identifier(what: str, name: str) -> None:
    if redact_unknown(name) != name:  # or it would stand in the server's log
        raise ConfigError(
            f"{_shown(name)} is a DSN, not the name of a {what}", "give it as the dsn"
        )
    if not name or "\0" in name or len(name.encode(errors="surrogatepass")) > NAME_LIMIT:
        raise ConfigError(
            f"{_shown(name)} cannot be the name of a {what}",
            f"a name has 1 to {NAME_LIMIT} bytes and no NUL",
        )


def _shown(value: object) -> str:
    """What was given, without the password of a DSN that was given in its place."""
    return redact_unknown(repr(value))


def _one_of(setting: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{setting} is {_shown(value)}", f"give one of {', '.join(map(repr, allowed))}"
        )


def _set(config: Config, name: str, value: object) -> None:
    # The class is frozen; what is derived from its fields is set once, here.
    object.__setattr__(config, name, value)
