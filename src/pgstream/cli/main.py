"""The command itself: which commands there are, exit codes, error messages."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click
import psycopg

from .. import __version__, config, decoder
from ..errors import ConfigError, PgstreamError
from . import admin, streams
from .options import Session, debug_option

INTERRUPTED = 130


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
    session = Session()
    try:
        config.load_dotenv()
        status = cli.main(arguments, prog_name="pgstream", standalone_mode=False, obj=session)
    except click.exceptions.ClickException as error:
        error.show()
        status = error.exit_code
    except click.exceptions.Abort:
        status = INTERRUPTED
    except PgstreamError as error:
        _report(str(error), session)
        status = 2 if isinstance(error, ConfigError) else 1
    except psycopg.Error as error:
        _report(config.redact(session.dsn, str(error).strip()), session)
        status = 1
    except OSError as error:
        _report(str(error), session)
        status = 1
    sys.exit(status)


def _report(message: str, session: Session) -> None:
    if session.debug:
        traceback.print_exc()
    click.echo(f"pgstream: {message}", err=True)
