"""Options that commands share, and what they are turned into."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from ..config import split_names, unquote
from ..lsn import LSN

Function = TypeVar("Function", bound=Callable[..., Any])

_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE")


@dataclass
class Session:
    """What one call of the command has to remember until it reports an error."""

    debug: bool = False
    dsn: str = ""


def _set_debug(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        context.find_root().ensure_object(Session).debug = True


def _dsn(context: click.Context, _: click.Parameter, dsn: str | None) -> str:
    if dsn is None and not any(os.environ.get(name) for name in _LIBPQ):
        raise click.UsageError(
            "No database is named. Give --dsn, or set DATABASE_URL, in the environment or in "
            ".env, to something like postgresql://user:password@host:5432/dbname.",
            context,
        )
    context.find_root().ensure_object(Session).dsn = dsn or ""
    return dsn or ""


def _publications(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    return [unquote(name) for name in split_names(text)]


def _lsn(context: click.Context, parameter: click.Parameter, text: str | None) -> LSN | None:
    try:
        return None if text is None else LSN(text)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def _tables(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
    return split_names(text)


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_set_debug,
    envvar="PGSTREAM_DEBUG",
    help="Show tracebacks of errors.",
)
dsn_option = click.option(
    "--dsn",
    metavar="URL",
    callback=_dsn,
    envvar="DATABASE_URL",
    show_envvar=True,
    help="The database: a URL or key=value string. Without one, libpq's PG* variables count.",
)
slot_option = click.option(
    "--slot",
    metavar="SLOT",
    default="pgstream_slot",
    show_default=True,
    envvar="SLOT_NAME",
    show_envvar=True,
    help="The replication slot.",
)
publication_option = click.option(
    "--publication",
    metavar="P[,P]",
    default="pgstream_pub",
    show_default=True,
    callback=_publications,
    envvar="PUBLICATION_NAME",
    show_envvar=True,
    help="The publications.",
)
format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="PGSTREAM_FORMAT",
    help="text for people, json for one JSON object a line.",
)
values_option = click.option(
    "--values",
    type=click.Choice(["typed", "text"]),
    default="typed",
    show_default=True,
    envvar="PGSTREAM_VALUES",
    help="typed for numbers, arrays, JSON; text for PostgreSQL's own text of every value.",
)
numeric_option = click.option(
    "--numeric",
    type=click.Choice(["decimal", "float", "str"]),
    default="decimal",
    show_default=True,
    envvar="PGSTREAM_NUMERIC",
    help="float for numeric as a number, which is not exact; decimal and str show it as a string "
    "that is.",
)


def stream_options(function: Function) -> Function:
    """Add the options of everything that reads from a server."""
    for option in reversed(_STREAM_OPTIONS):
        function = option(function)
    return function


_STREAM_OPTIONS = (
    debug_option,
    dsn_option,
    slot_option,
    publication_option,
    click.option(
        "--create-slot/--no-create-slot",
        default=True,
        show_default=True,
        envvar="PGSTREAM_CREATE_SLOT",
        help="Create the slot if it is missing.",
    ),
    click.option(
        "--create-publication",
        is_flag=True,
        envvar="PGSTREAM_CREATE_PUBLICATION",
        help="Create the publication if it is missing: for all tables, or for --tables.",
    ),
    click.option(
        "--tables",
        metavar="T[,T]",
        default="",
        callback=_tables,
        envvar="PGSTREAM_TABLES",
        help="What --create-publication publishes; run leaves out the rows of all other tables. "
        "Each is schema.table, as PostgreSQL holds it; in double quotes where a dot or comma is "
        "part of the name.",
    ),
    click.option(
        "--until-lsn",
        metavar="LSN",
        callback=_lsn,
        envvar="PGSTREAM_UNTIL_LSN",
        help="Stop after the last transaction that was committed before this position.",
    ),
    click.option(
        "--until-now",
        is_flag=True,
        envvar="PGSTREAM_UNTIL_NOW",
        help="Stop at the position where the server is at the start.",
    ),
    click.option(
        "--binary/--no-binary",
        default=None,
        envvar="PGSTREAM_BINARY",
        help="Ask for the binary transfer, which costs the server less; the default, unless "
        "--values is text. Where a column has no binary form, text is asked for by itself.",
    ),
    click.option(
        "--messages",
        is_flag=True,
        envvar="PGSTREAM_MESSAGES",
        help="Include what pg_logical_emit_message wrote. With --streaming, a transaction whose "
        "messages may have been rolled back in part is refused.",
    ),
    click.option(
        "--origin",
        type=click.Choice(["any", "none"]),
        default="any",
        show_default=True,
        envvar="PGSTREAM_ORIGIN",
        help="none leaves out what came to the server by replication from elsewhere "
        "(PostgreSQL 16).",
    ),
    click.option(
        "--streaming",
        type=click.Choice(["off", "on", "parallel"]),
        default="off",
        show_default=True,
        envvar="PGSTREAM_STREAMING",
        help="Let the server send large transactions before they are committed; they are "
        "held back until then. parallel needs PostgreSQL 16.",
    ),
    click.option(
        "--two-phase",
        is_flag=True,
        envvar="PGSTREAM_TWO_PHASE",
        help="Show prepared transactions when they are prepared (PostgreSQL 15). The slot "
        "keeps this setting.",
    ),
    click.option(
        "--failover",
        is_flag=True,
        envvar="PGSTREAM_FAILOVER",
        help="Have the slot copied to standbys, for a failover (PostgreSQL 17).",
    ),
    click.option(
        "--state-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        envvar="PGSTREAM_STATE_FILE",
        help="Keep the slot's identity and the acknowledged position in this file, and refuse "
        "a slot or a server that does not fit it.",
    ),
    click.option(
        "--reconnect-timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0),
        envvar="PGSTREAM_RECONNECT_TIMEOUT",
        help="For how long to try to connect again when the connection is lost; 0 for not at "
        "all. Without it, for ever.",
    ),
    click.option(
        "--silence-timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=300.0,
        show_default=True,
        envvar="PGSTREAM_SILENCE_TIMEOUT",
        help="For how long the server may leave a question unanswered before the connection "
        "counts as lost.",
    ),
    click.option(
        "--handler-timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=3600.0,
        show_default=True,
        envvar="PGSTREAM_HANDLER_TIMEOUT",
        help="For how long writing may be held up before the connection is given up, so that "
        "the server frees the slot.",
    ),
)
