"""``run``, ``record``, ``replay`` and ``demo``: the commands that show or keep events."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import click
import psycopg

from .. import connect, read_payloads
from ..capture import (
    CaptureWriter,
    damaged,
    read_capture,
    read_catalog,
    read_messages,
    write_catalog,
)
from ..config import Changes, Config, Values, parse_table
from ..decoder import Decoder
from ..errors import CaptureError, ProtocolError, ServerError
from ..lsn import LSN
from ..messages import Event, Payload
from ..types import JSONText, Numeric
from .messages import say
from .options import (
    debug_option,
    format_option,
    numeric_option,
    stream_options,
    values_option,
)
from .output import Format, Output, OutputClosed, silence, wants_colour
from .progress import ProgressReport
from .signals import Stopper, stopper


@click.command(short_help="Show changes as they are committed.")
@stream_options
@format_option
@values_option
@numeric_option
@click.option(
    "--output",
    metavar="FILE",
    envvar="PGSTREAM_OUTPUT",
    help="Add the events to this file instead of showing them. They are acknowledged "
    "once the disk has them.",
)
@click.option(
    "--snapshot",
    is_flag=True,
    envvar="PGSTREAM_SNAPSHOT",
    help="Where the slot is not there yet, show first all rows that the published tables have.",
)
@click.option(
    "--snapshot-jobs",
    metavar="N",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    envvar="PGSTREAM_SNAPSHOT_JOBS",
    help="Connections that read them at once.",
)
def run(
    output_format: Format, values: Values, output: str | None, tables: list[str], **settings: Any
) -> int:
    """Show changes as they are committed, and acknowledge what was shown."""
    # Events on the same terminal would tear a bar.
    report = ProgressReport(say, bar=sys.stderr.isatty() and not (output is None and _on_screen()))

    def notice(text: str) -> None:
        report.clear()
        say(text)

    named = [parse_table(table) for table in tables]
    with (
        stopper() as signals,
        Output(output, append=True, output_format=output_format, tables=named) as shown,
    ):
        try:
            flushed = _follow(
                signals,
                shown,
                values=values,
                tables=tables,
                changes=_changes(output_format, tables),
                progress=report,
                notice=notice,
                **settings,
            )
        except OutputClosed:
            return 0
        finally:
            report.clear()
    if signals.received is not None:
        say(f"stopped; the transactions shown are acknowledged, up to {flushed}")
    return signals.status


@click.command(short_help="Keep the stream in a file, for replay.")
@click.argument("file", type=click.Path(dir_okay=False))
@stream_options
@click.option(
    "--ack",
    is_flag=True,
    envvar="PGSTREAM_ACK",
    help="Acknowledge what the disk has, so that it is not sent again. Without this nothing "
    "is, and the server keeps its WAL.",
)
def record(file: str, ack: bool, **settings: Any) -> int:
    """Keep the stream, as it stands on the wire, in FILE (- for standard output).

    FILE must not be there yet, or be empty: captures are joined by joining the files. All
    that the publication has is kept; --tables counts for --create-publication alone. The
    types that are not built in are kept in FILE.json.
    """
    with stopper() as signals:
        try:
            with CaptureWriter(file) as writer:
                recorder = _Recorder(writer)
                _follow(
                    signals, recorder if ack else None, tap=recorder.tap, capture=file, **settings
                )
        except CaptureError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                return 0
            raise
    say(f"{recorder.messages} messages, {recorder.size} bytes are in {_name(file, 'output')}")
    return signals.status


@click.command(short_help="Show the changes in a capture file.")
@click.argument("file", type=click.Path(dir_okay=False))
@debug_option
@format_option
@values_option
@numeric_option
@click.option(
    "--output",
    metavar="FILE",
    envvar="PGSTREAM_OUTPUT",
    help="Write the events to this file, over what it holds, instead of showing them.",
)
def replay(
    file: str, output_format: Format, values: Values, numeric: Numeric, output: str | None
) -> int:
    """Show the changes in the capture FILE (- for standard input). Needs no server."""
    if output is not None and _is_same(file, output):
        raise click.UsageError("The output would be written over the capture: name another file.")
    with (
        stopper() as signals,
        Output(output, append=False, output_format=output_format) as shown,
    ):
        try:
            events = read_payloads(
                read_capture(file),
                values=values,
                numeric=numeric,
                json_loads=JSONText,
                changes=_changes(output_format),
                catalog=read_catalog(file),
            )
            for event in events:
                shown(event)
            shown.flush()
        except OutputClosed:
            return 0
        except ProtocolError as error:
            raise _located(file, error) from error
    return signals.status


@click.command(short_help="Show it all on a PostgreSQL of its own.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    envvar="PGSTREAM_SECONDS",
    help="For how long to show changes.",
)
@click.option(
    "--events",
    type=click.IntRange(min=1),
    envvar="PGSTREAM_EVENTS",
    help="Stop after this many changes.",
)
@debug_option
@format_option
def demo(seconds: float, events: int | None, output_format: Format) -> int:
    """Show the changes of a small shop, on a PostgreSQL of its own that is removed again."""
    from ..demo import run_demo  # here, for it needs all that starts a server

    out = open(1, "w", encoding="utf-8", newline="\n", closefd=False)  # noqa: SIM115
    try:
        run_demo(
            seconds=seconds,
            events=events,
            out=out,
            err=sys.stderr,
            output_format=output_format,
            colour=wants_colour(out),
        )
        out.flush()
    except BrokenPipeError:
        silence(1)
    return 0


def _located(file: str, error: ProtocolError) -> CaptureError:
    """The error for a malformed message, with where it stands in the capture.

    Messages are read ahead, so it is looked for by reading them again.
    """
    decoder = Decoder()
    if os.path.isfile(file):  # what came through a pipe is gone
        for offset, payload in read_messages(file):
            try:
                decoder.decode(payload)
            except ProtocolError as found:
                if (found.kind, found.offset, found.lsn) == (error.kind, error.offset, error.lsn):
                    return damaged(file, offset, f"malformed message: {error}")
    return CaptureError(f"{_name(file, 'input')}: malformed message: {error}")


def _name(file: str, stream: str) -> str:
    return f"standard {stream}" if file == "-" else file


def _is_same(file: str, other: str) -> bool:
    try:
        return os.path.samefile(file, other)
    except OSError:  # one of them is not there
        return False


def _check_published(config: Config) -> None:
    """Refuse a table that no publication has: what is not shown is acknowledged, too.

    Over a connection of its own, before a slot is made. Where there can be none, or where a
    publication is missing, nothing is refused: that has an error of its own, or is made.
    """
    names = list(config.publications)
    try:
        with psycopg.connect(config.conninfo, autocommit=True) as connection:
            present = connection.execute(
                "SELECT FROM pg_catalog.pg_publication WHERE pubname = ANY (%s)", (names,)
            ).rowcount
            found = connection.execute(
                "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables"
                " WHERE pubname = ANY (%s)",
                (names,),
            )
            published = set(found)
    except psycopg.Error:
        return
    if present < len(names):
        return
    for table in config.table_names:
        if table not in published:
            raise ServerError(
                f"table {'.'.join(table)} is not published by {', '.join(config.publications)}:"
                " none of its changes would be shown",
                "mind the case of letters in --tables; pgstream doctor says what is published",
            )


def _on_screen() -> bool:
    return os.isatty(1)  # which may be closed


def _changes(output_format: Format, tables: Collection[str] = ()) -> Changes:
    """What changes are best made into: lines at once, unless they have to be chosen from."""
    return "json" if output_format == "json" and not tables else "events"


class _Recorder:
    """Keeps payloads; as a handler it has them on the disk before they are acknowledged."""

    def __init__(self, writer: CaptureWriter) -> None:
        self.messages = 0
        self.size = 0
        self._writer = writer

    def tap(self, payload: Payload) -> None:
        self._writer.write(payload)
        self.messages += 1
        self.size += len(payload)

    def __call__(self, event: Event) -> None:
        pass  # its payload went through the tap

    def flush(self) -> None:
        self._writer.flush()


def _follow(
    signals: Stopper,
    handler: Callable[[Event], object] | None,
    *,
    publication: list[str],
    until_lsn: LSN | None,
    until_now: bool,
    capture: str | None = None,
    notice: Callable[[str], None] = say,
    **settings: Any,
) -> LSN:
    """Read from the server until told to stop; without a handler nothing is acknowledged.

    Args:
        capture: The file that is recorded to: beside it the types are kept.

    Returns:
        The position that the server was told as flushed.
    """
    if until_lsn is not None and until_now:
        raise click.UsageError("Give one of --until-lsn and --until-now, not both.")
    if settings["tables"] and capture is None:
        _check_published(
            Config(dsn=settings["dsn"], publication=publication, tables=settings["tables"])
        )
    with connect(
        publication=publication,
        until="now" if until_now else until_lsn,
        json_loads=JSONText,
        notice=notice,
        **settings,
    ) as stream:
        signals.stop = stream.stop
        if capture is not None:  # at once: the capture may be all that a crash leaves
            write_catalog(capture, stream.catalog)
        if handler is not None:
            stream.run(handler)
        else:
            deque(stream, maxlen=0)
        if capture is not None:  # types that came up on the way
            write_catalog(capture, stream.catalog)
    return stream.positions.flushed
