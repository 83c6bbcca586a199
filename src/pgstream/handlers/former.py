"""What a source leaves out of a row, and a handler that keeps a copy has to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..errors import HandlerError
from ..messages import UNCHANGED, Delete, Insert, Update

_SEND_ALL: Final = (
    "ALTER TABLE … REPLICA IDENTITY FULL at the source, each partition of its own; then"
    " copy the tables anew (snapshot)"
)


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
        _SEND_ALL,
    )


def check_sent(event: Insert, label: str, columns: Iterable[str]) -> None:
    """Refuse a row that is new here, and of which not all was sent: an UPDATE that lets it pass the
    publication's row filter comes as an INSERT, without the large values that it left alone.
    """
    if missing := [name for name in columns if event.new[name] is UNCHANGED]:
        raise HandlerError(
            f"the INSERT at {event.lsn} of {label} lacks the value of"
            f" {', '.join(map(repr, missing))}: an UPDATE has let the row pass the row filter, and"
            " left that value alone",
            _SEND_ALL,
        )
