"""The command itself: which commands there are, exit codes, error messages."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

import click
import psycopg

from .. import __version__, decoder
from ..errors import ConfigError, PgstreamError
from ..redaction import redact
from . import admin, streams
from .environment import load_dotenv
from .messages import presentable, say
from .options import Session, debug_option
from .output import silence

INTERRUPTED = 130
_NO_SETTINGS = ("PGSTREAM_IMPL", "PGSTREAM_REQUIRE_EXT")  # of the library and its build
_OTHER_NAMES = {
    "PGSTREAM_DSN": "DATABASE_URL",
    "PGSTREAM_SLOT": "SLOT_NAME",
    "PGSTREAM_PUBLICATION": "PUBLICATION_NAME",
}


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    click.echo(
        f"pgstream {__version__}, {decoder.__impl__} decoder, psycopg {psycopg.__version__} "
        f"({psycopg.pq.__impl__}), libpq {psycopg.pq.version() // 10000}"
    )
    context.exit()


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Settings come from the options, then the environment, then a file .env in the
current directory: DATABASE_URL, SLOT_NAME, PUBLICATION_NAME, and PGSTREAM_ with the
option's name for the rest (PGSTREAM_FORMAT=json).

\b
Exit codes: 0 done, also when stopped by SIGTERM or when the reader of a pipe went
away; 1 failed; 2 wrong usage; 130 interrupted by ctrl-C.""",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@debug_option
def cli() -> None:
    """Change data capture from PostgreSQL: every committed change, as it is committed."""


for _command in (
    streams.run,
    streams.demo,
    streams.record,
    streams.replay,
    admin.doctor,
    admin.slot,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: The words after the command's name; those of this process by default.
    """
    if sys.__stderr__ is None:  # it is closed, and no other file must take its number
        silence(2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    session = Session()
    try:
        load_dotenv()
        _warn_of_unknown_settings()
        status = cli.main(arguments, prog_name="pgstream", standalone_mode=False, obj=session)
    except click.exceptions.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(presentable(shown.getvalue()), err=True, nl=False)  # it may repeat an argument
        status = error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except PgstreamError as error:
        _report(str(error), session)
        status = 2 if isinstance(error, ConfigError) else 1
    except psycopg.Error as error:
        _report(redact(session.dsn, str(error).strip()), session)
        status = 1
    except SystemExit as end:
        if end.code != 1:
            raise
        status = 0  # called so, click ends with 1 for one thing: the reader has seen enough
    except OSError as error:
        # What names no file comes of writing to standard output, by click's --help as well.
        text = f"cannot write to standard output: {error.strerror}"
        _report(text if error.filename is None else str(error), session)
        silence(1)  # or what is still buffered would fail again at the end
        status = 1
    sys.exit(status)


def _warn_of_unknown_settings() -> None:
    """Name the variables that look like settings and are none: a typo would count for nothing."""
    known = set(_NO_SETTINGS)
    pending: list[click.Command] = [cli]
    while pending:
        command = pending.pop()
        known.update(str(option.envvar) for option in command.params if option.envvar)
        if isinstance(command, click.Group):
            pending += command.commands.values()
    for name in sorted(os.environ):
        if name.startswith("PGSTREAM_") and name not in known:
            near = "".join(get_close_matches(name, {*known, *_OTHER_NAMES}, 1))
            meant = f": is {_OTHER_NAMES.get(near, near)} meant?" if near else ""
            say(f"{name} is no setting{meant}")


def _report(message: str, session: Session) -> None:
    if session.debug:
        click.echo(presentable(traceback.format_exc()), err=True, nl=False)
    say(message)
