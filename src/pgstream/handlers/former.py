"""The row before a change, by which a handler finds it where it keeps its copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import HandlerError
from ..messages import UNCHANGED, Delete, Insert, Update


def former_values(event: Update | Delete, key: Sequence[str]) -> Mapping[str, Any]:
    """What is known of a row before its change: the values that were sent, by their columns. An
    UPDATE that sends none of them has left the key as it was.
    """
    if isinstance(event, Update) and event.old is None:
        row: Mapping[str, Any] = {name: event.new[name] for name in key}
    else:
        row = event.old
    return {name: value for name, value in row.items() if value is not UNCHANGED}


def not_told(event: Update | Delete, label: str, missing: str) -> HandlerError:
    """The error to raise where these values would be needed, and were not sent."""
    return HandlerError(
        f"the change at {event.lsn} of {label} does not say of which row it is: the source has not"
        f" sent its {missing}",
        "ALTER TABLE … REPLICA IDENTITY FULL at the source, each partition of its own; then"
        " copy the tables anew (snapshot)",
    )


def not_sent(event: Insert, label: str, missing: Sequence[str]) -> HandlerError:
    """The error to raise where a row is new here, and not all of it was sent: an UPDATE that lets
    it pass the publication's row filter comes as an INSERT, without the large values that it left
    alone.
    """
    return HandlerError(
        f"the INSERT at {event.lsn} of {label} lacks the value of {', '.join(map(repr, missing))}:"
        " an UPDATE has let the row pass the row filter, and left that value alone",
        "ALTER TABLE … REPLICA IDENTITY FULL at the source, each partition of its own; then"
        " copy the tables anew (snapshot)",
    )
