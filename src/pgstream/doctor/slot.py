"""Checks of the slot: whether it is there, can be read, and how far behind it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..config import NAME_LIMIT
from ..slots import CONFLICT
from .findings import Finding, Row, Server

_GIB: Final = 2**30
_DAY: Final = 86_400


def check_slot(server: Server) -> Iterator[Finding]:
    name = server.config.slot
    found = server.rows(
        "SELECT slots.*, current_database() AS here, age(catalog_xmin) AS catalog_age, "
        "(position - confirmed_flush_lsn)::bigint AS behind, "
        "(position - restart_lsn)::bigint AS held "
        "FROM pg_replication_slots AS slots, (SELECT CASE WHEN pg_is_in_recovery() "
        "THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS position) AS wal "
        "WHERE slot_name = %s",
        name,
    )
    if not found:
        names = list(server.config.publications)
        present = server.rows("SELECT FROM pg_publication WHERE pubname = ANY (%s)", names)
        first = "" if len(present) == len(names) else "  # when the publications are there, below"
        yield Finding(
            "warning",
            f"slot {name} is not there yet: only what is committed after it was created is read",
            f"pgstream slot create {name}{first}",
        )
        return
    server.slot = slot = found[0]
    another = f"{name[: NAME_LIMIT - 2]}_2"
    beside = f"pgstream slot create {another}  # and read from it: this one is another reader's"
    if slot["plugin"] != "pgoutput":
        plugin = slot["plugin"] or "none, it is a physical slot"
        yield Finding(
            "problem", f"slot {name} has another output plugin than pgoutput: {plugin}", beside
        )
    elif slot["database"] != slot["here"]:
        yield Finding(
            "problem",
            f"slot {name} belongs to the database {slot['database']}, not to {slot['here']}",
            beside,
        )
    elif slot["wal_status"] == "lost" or slot.get("invalidation_reason") or slot.get("conflicting"):
        reason = slot.get("invalidation_reason") or (
            CONFLICT if slot.get("conflicting") and slot["restart_lsn"] else "its WAL was removed"
        )
        yield Finding(
            "problem",
            f"slot {name} is lost ({reason}): what was not read before cannot be read any more",
            f"pgstream slot drop {name} && pgstream run --slot {name} --snapshot"
            "  # a copy of the tables, for there is a gap",
        )
    else:
        yield from _check_slot_lag(server, slot)


def _check_slot_lag(server: Server, slot: Row) -> Iterator[Finding]:
    text = f"slot {slot['slot_name']} is "
    idle = 0
    if slot["active"]:
        text += f"being read by the server process {slot['active_pid']}"
    elif slot.get("inactive_since") is None:
        text += "not being read"
    else:
        idle = server.row(
            "SELECT extract(epoch FROM now() - %s::timestamptz)::bigint AS seconds",
            slot["inactive_since"],
        )["seconds"]
        text += f"not being read since {slot['inactive_since']:%Y-%m-%d %H:%M:%S %Z}"
    text += f", {_size(slot['behind'])} behind, and holds {_size(slot['held'])} of WAL"
    fix = f"pgstream run --slot {slot['slot_name']}"
    if slot["wal_status"] == "unreserved":
        yield Finding(
            "warning", f"{text}; it is lost at the next checkpoint unless it is read", fix
        )
    elif slot["wal_status"] == "extended":
        yield Finding("warning", f"{text}, more than max_wal_size", fix)
    elif not slot["active"] and (slot["held"] > _GIB or idle > _DAY):
        yield Finding("warning", text, fix)
    else:
        yield Finding("ok", text)


def _size(count: int | None) -> str:
    if count is None:
        return "an unknown amount"
    for unit in ("bytes", "kB", "MB"):
        if abs(count) < 10 * 1024:
            return f"{count} {unit}"
        count //= 1024
    return f"{count} GB"
