"""Interval, and its loaders (``src/backend/utils/adt/timestamp.c``)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

_FIELDS: Final = struct.Struct(">qii")
_INFINITY: Final = (2**63 - 1, 2**31 - 1, 2**31 - 1)
_MINUS_INFINITY: Final = (-(2**63), -(2**31), -(2**31))

_TEXT: Final = re.compile(
    rb"(?:([+-]?\d{1,9}) years?)?"
    rb"(?:(?:^| )([+-]?\d{1,2}) mons?)?"
    rb"(?:(?:^| )([+-]?\d{1,10}) days?)?"
    rb"(?:(?:^| )([+-]?)(\d{2,10}):([0-5]\d):([0-5]\d)(?:\.(\d{1,6}))?)?"
)


@dataclass(frozen=True, slots=True)
class Interval:
    """What PostgreSQL keeps of an interval: three numbers, which do not make one another.

    A month has no fixed number of days, nor a day of hours: so that nothing is lost, this
    is no ``timedelta``. Two are equal if all three numbers are; PostgreSQL's own comparison,
    which takes a month for 30 days, is not made.
    """

    months: int = 0
    days: int = 0
    microseconds: int = 0

    def __str__(self) -> str:
        """PostgreSQL's text, in the IntervalStyle ``postgres``."""
        parts: list[str] = []
        negative = False  # the last part: a positive one after it needs a sign
        years, months = _truncated(self.months, 12)
        for number, unit in ((years, "year"), (months, "mon"), (self.days, "day")):
            if number:
                sign = "+" if negative and number > 0 else ""
                parts.append(f"{sign}{number} {unit}{'' if number == 1 else 's'}")
                negative = number < 0
        if self.microseconds or not parts:
            sign = "-" if self.microseconds < 0 else "+" if negative else ""
            seconds, fraction = divmod(abs(self.microseconds), 1_000_000)
            minutes, seconds = divmod(seconds, 60)
            hours, minutes = divmod(minutes, 60)
            clock = f"{sign}{hours:02d}:{minutes:02d}:{seconds:02d}"
            parts.append(f"{clock}.{fraction:06d}".rstrip("0") if fraction else clock)
        return " ".join(parts)

    def isoformat(self) -> str:
        """The ISO 8601 duration, as PostgreSQL writes it in the IntervalStyle ``iso_8601``.

        Each part has a sign of its own: ``P1Y2M-3DT-4H``.
        """
        years, months = _truncated(self.months, 12)
        minutes, us = _truncated(self.microseconds, 60_000_000)
        hours, minutes = _truncated(minutes, 60)
        date = [(years, "Y"), (months, "M"), (self.days, "D")]
        clock = [(hours, "H"), (minutes, "M")]
        text = "P" + "".join([f"{number}{unit}" for number, unit in date if number])
        after = "".join([f"{number}{unit}" for number, unit in clock if number])
        if us:
            seconds, fraction = divmod(abs(us), 1_000_000)
            digits = f".{fraction:06d}".rstrip("0") if fraction else ""
            after += f"{'-' if us < 0 else ''}{seconds}{digits}S"
        if after:
            return f"{text}T{after}"
        return text if len(text) > 1 else "PT0S"


def interval_text(raw: bytes) -> Interval | str:
    """``1 year 2 mons -3 days +04:05:06.5``; ``infinity`` (17 and later) stays text."""
    if raw in (b"infinity", b"-infinity"):
        return raw.decode()
    match = _TEXT.fullmatch(raw)
    if match is None or not raw:
        raise ValueError("not an interval in the style 'postgres'")
    years, months, days, sign, hours, minutes, seconds, fraction = match.groups()
    us = 0
    if hours is not None:
        us = (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1_000_000
        us += int((fraction or b"0").ljust(6, b"0"))
    return Interval(
        int(years or 0) * 12 + int(months or 0),
        int(days or 0),
        -us if sign == b"-" else us,
    )


def interval_binary(raw: bytes) -> Interval | str:
    """Eight bytes of microseconds, four of days, four of months."""
    fields = _FIELDS.unpack(raw)
    if fields == _INFINITY:
        return "infinity"
    if fields == _MINUS_INFINITY:
        return "-infinity"
    us, days, months = fields
    return Interval(months, days, us)


def _truncated(number: int, by: int) -> tuple[int, int]:
    """Quotient and remainder, both with the sign of the number."""
    quotient, remainder = divmod(abs(number), by)
    return (quotient, remainder) if number >= 0 else (-quotient, -remainder)
