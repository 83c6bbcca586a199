"""``doctor`` and ``slot``: the commands that look at a server's set-up, and at its slots."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click
import psycopg

from .. import faults, slots
from ..config import Config
from ..connector import replication_conninfo
from ..creation import create_slot, starting_point
from ..doctor import examine
from ..errors import SlotNotFound
from ..steps import drive
from .messages import presentable, say
from .options import debug_option, dsn_option, publication_option, slot_option

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command(short_help="Say what is missing or dangerous in a set-up.")
@debug_option
@dsn_option
@slot_option
@publication_option
def doctor(dsn: str, slot: str, publication: list[str]) -> int:
    """Say what is missing or dangerous in the server's set-up, with the fix to paste.

    Ends with status 1 if there is a problem, and with 0 if there are warnings alone.
    """
    status = 0
    for finding in examine(Config(dsn=dsn, slot=slot, publication=publication)):
        label = click.style(f"{finding.level:8}", fg=_COLOURS[finding.level], bold=True)
        click.echo(f"{label} {presentable(finding.text)}")
        if finding.fix:
            click.echo(f"{'':8}   fix: {presentable(finding.fix)}")
        if finding.level == "problem":
            status = 1
    return status


@click.group()
def slot() -> None:
    """List, create and drop replication slots."""


name_argument = click.argument("name", required=False, metavar="[NAME]")


def _chosen(slot: str, name: str | None) -> str:
    """Return the slot that is meant: NAME stands for --slot, which other commands have."""
    if name is None:
        return slot
    source = click.get_current_context().get_parameter_source("slot")
    if source is click.core.ParameterSource.COMMANDLINE and slot != name:
        raise click.UsageError("Give the slot as NAME or with --slot, not both.")
    return name


@slot.command(name="list", short_help="Show the slots, and how far behind they are.")
@debug_option
@dsn_option
def list_slots(dsn: str) -> int:
    """Show the logical slots of the server: who reads them, and how far behind.

    TWO PHASE: it sends prepared transactions when they are prepared. FAILOVER (PostgreSQL 17):
    it is copied to standbys; "copy" is such a copy.
    """
    with _connected(Config(dsn=dsn)) as connection:
        version = connection.pgconn.server_version
        found = connection.wait(slots.find_slots(connection.pgconn))
    if not found:
        say("there is no logical slot")
        return 0
    has_failover = version >= 170000
    header = ("SLOT", "DATABASE", "PLUGIN", "READ BY", "FLUSHED", "BYTES BEHIND", "WAL")
    rows = [(*header, "TWO PHASE", *(["FAILOVER"] if has_failover else []))]
    rows += [
        (
            row.name,
            row.database,
            row.plugin,
            "-" if row.active_pid is None else f"PID {row.active_pid}",
            "-" if row.confirmed_flush_lsn is None else str(row.confirmed_flush_lsn),
            "-" if row.lag is None else str(row.lag),
            row.wal_status or "-",
            "yes" if row.two_phase else "no",
            *([_failover(row)] if has_failover else []),
        )
        for row in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for line in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo(presentable("  ".join(cells).rstrip()))
    return 0


def _failover(slot: slots.Slot) -> str:
    if slot.synced:
        return "copy"
    return "yes" if slot.failover else "no"


@slot.command()
@debug_option
@dsn_option
@slot_option
@publication_option
@name_argument
@click.option(
    "--two-phase",
    is_flag=True,
    envvar="PGSTREAM_TWO_PHASE",
    help="Let it send prepared transactions when they are prepared (PostgreSQL 15).",
)
@click.option(
    "--failover",
    is_flag=True,
    envvar="PGSTREAM_FAILOVER",
    help="Let it be copied to standbys, for a failover (PostgreSQL 17).",
)
def create(
    dsn: str,
    slot: str,
    name: str | None,
    publication: list[str],
    two_phase: bool,
    failover: bool,
) -> int:
    """Create the slot. It has every change that is committed from then on.

    That waits until all transactions that are open now have ended, and says which.
    """
    slot = _chosen(slot, name)
    config = Config(dsn=dsn, slot=slot, publication=publication, two_phase=two_phase, notice=say)
    with _connected(config, replication=True) as connection:
        pgconn = connection.pgconn
        [(wal_level,)] = connection.wait(slots.query(pgconn, "SHOW wal_level"))
        faults.require_logical(wal_level)
        [(standby,)] = connection.wait(slots.query(pgconn, "SELECT pg_is_in_recovery()"))
        if standby == "t":
            faults.require_readable_standby(pgconn.server_version)
        for missing in connection.wait(slots.missing_publications(pgconn, config.publications)):
            say(
                f"publication {missing} is not there. It must be older than what is read with it: "
                "create it, then drop this slot and create it anew"
            )
        command = slots.creation_command(
            pgconn.server_version, slot, two_phase=two_phase, failover=failover
        )
        start = starting_point(drive(create_slot(pgconn, command, config)))
    say(f"created slot {slot} at {start}")
    return 0


@slot.command()
@debug_option
@dsn_option
@slot_option
@name_argument
def drop(dsn: str, slot: str, name: str | None) -> int:
    """Drop the slot. What was not read from it before is lost to its reader."""
    slot = _chosen(slot, name)
    config = Config(dsn=dsn, slot=slot)
    with _connected(config) as connection:
        found = connection.wait(slots.find_slots(connection.pgconn, slot))
        if not found:
            raise SlotNotFound(
                f"there is no replication slot {slot!r}", "pgstream slot list shows what there is"
            )
        try:
            connection.wait(slots.drop_slot(connection.pgconn, slot))
        except psycopg.errors.ObjectInUse:
            raise faults.in_use(slot, found[0].active_pid) from None
    say(f"dropped slot {slot}")
    return 0


@contextlib.contextmanager
def _connected(config: Config, *, replication: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """Connect, and translate what goes wrong."""
    conninfo = replication_conninfo(config) if replication else config.conninfo
    try:
        connection = psycopg.connect(conninfo, autocommit=True)
    except psycopg.Error as error:
        raise faults.turned_away(error, config) from None
    with connection, faults.translated(config):
        yield connection
