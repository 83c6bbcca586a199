"""Loaders of dates and times (``src/backend/utils/adt/{date,timestamp}.c``).

What Python's types cannot hold (infinity, BC, years beyond 9999, 24:00:00) stays
PostgreSQL's text, in the ISO DateStyle, from either format.
"""

from __future__ import annotations

import re
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final

_CLOCK: Final = rb"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?"
_OFFSET: Final = rb"[+-][01]\d(?::[0-5]\d(?::[0-5]\d)?)?"
_TIMETZ = re.compile(b"(" + _CLOCK + rb")([+-])(\d\d)(?::([0-5]\d)(?::([0-5]\d))?)?")
_TIMESTAMPTZ = re.compile(rb"\d{4}-\d\d-\d\d " + _CLOCK + _OFFSET)

# What Python's parsers take is more than what PostgreSQL writes. Whether a text has the right
# shape shows when all its digits are made zeros. Of their values those parsers are judges,
# but for an hour 24, which not every version of them refuses.
_DIGITS_AS_0: Final = bytes.maketrans(b"123456789", b"0" * 9)
_DATE: Final = b"0000-00-00"
_TIMES: Final = frozenset([b"00:00:00", *[b"00:00:00." + b"0" * digits for digits in range(1, 7)]])
_TIMESTAMPS: Final = frozenset([_DATE + b" " + clock for clock in _TIMES])
_TIMESTAMPS_UTC: Final = frozenset([timestamp + b"+00" for timestamp in _TIMESTAMPS])

_from_iso = datetime.fromisoformat

_unpack_date = struct.Struct(">i").unpack
_unpack_time = struct.Struct(">q").unpack
_unpack_timetz = struct.Struct(">qi").unpack

POSTGRES_EPOCH: Final = datetime(2000, 1, 1)
POSTGRES_EPOCH_UTC: Final = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)  # a product of it is quicker than its constructor
_EPOCH_DAYS: Final = date(2000, 1, 1).toordinal()
_DAY: Final = 86_400_000_000
_SPECIAL_DATE: Final = {2**31 - 1: "infinity", -(2**31): "-infinity"}
_SPECIAL_TIMESTAMP: Final = {2**63 - 1: "infinity", -(2**63): "-infinity"}


def date_text(raw: bytes) -> date | str:
    """``2026-11-22``."""
    if raw.translate(_DIGITS_AS_0) == _DATE:
        try:
            return date.fromisoformat(raw.decode())
        except ValueError:
            pass
    return _own_text(raw)


def date_binary(raw: bytes) -> date | str:
    """Four bytes: days since 2000-01-01."""
    if len(raw) != 4:
        raise ValueError("not 4 bytes")
    days: int = _unpack_date(raw)[0]
    try:
        return date.fromordinal(_EPOCH_DAYS + days)
    except (ValueError, OverflowError):
        return text_of_date(days)


def time_text(raw: bytes) -> time | str:
    """``08:12:00.123456``, the fraction without trailing zeros."""
    if raw.translate(_DIGITS_AS_0) in _TIMES and raw[:2] != b"24":
        try:
            return time.fromisoformat(raw.decode())
        except ValueError:
            pass
    return _own_text(raw)


def time_binary(raw: bytes) -> time | str:
    """Eight bytes: microseconds since midnight, 24:00:00 included."""
    if len(raw) != 8:
        raise ValueError("not 8 bytes")
    us: int = _unpack_time(raw)[0]
    if not 0 <= us <= _DAY:
        raise ValueError("not within a day")
    if us == _DAY:
        return "24:00:00"
    return (POSTGRES_EPOCH + MICROSECOND * us).time()


def timetz_text(raw: bytes) -> time | str:
    """``08:12:00.123456+05:30``, the offset east of UTC."""
    match = _TIMETZ.fullmatch(raw)
    if match is None:
        return _own_text(raw)
    clock, sign, hours, minutes, seconds = match.groups()
    offset = int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    if offset >= 86_400:
        return _own_text(raw)
    return time.fromisoformat(clock.decode()).replace(
        tzinfo=_zone(-offset if sign == b"-" else offset)
    )


def timetz_binary(raw: bytes) -> time | str:
    """Eight bytes: microseconds since midnight; four: seconds *west* of UTC."""
    us, west = _unpack_timetz(raw)
    if not (0 <= us <= _DAY and -86_400 < west < 86_400):
        raise ValueError("not within a day")
    if us == _DAY:
        return "24:00:00" + _text_of_offset(-west)
    moment: time = (POSTGRES_EPOCH + MICROSECOND * us).time()
    return moment.replace(tzinfo=_zone(-west))


def timestamp_text(raw: bytes) -> datetime | str:
    """``2026-11-22 08:12:00.123456``."""
    if raw.translate(_DIGITS_AS_0) in _TIMESTAMPS and raw[11:13] != b"24":
        try:
            return _from_iso(raw.decode())
        except ValueError:
            pass
    return _own_text(raw)


def timestamp_binary(raw: bytes) -> datetime | str:
    """Eight bytes: microseconds since 2000-01-01 00:00."""
    us: int = _unpack_time(raw)[0]
    try:
        return POSTGRES_EPOCH + MICROSECOND * us
    except OverflowError:
        return text_of_timestamp(us, "")


def timestamptz_text(raw: bytes) -> datetime | str:
    """``2026-11-22 08:12:00.123456+00``, brought to UTC whatever the offset."""
    if raw.translate(_DIGITS_AS_0) in _TIMESTAMPS_UTC and raw[11:13] != b"24":
        try:
            value = _from_iso(raw.decode())
        except ValueError:
            return _own_text(raw)
        if value.tzinfo is UTC:  # the offset is 0, and not just of that shape
            return value
    if _TIMESTAMPTZ.fullmatch(raw):
        try:
            return _from_iso(raw.decode()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    return _own_text(raw)


def timestamptz_binary(raw: bytes) -> datetime | str:
    """Eight bytes: microseconds since 2000-01-01 00:00 UTC."""
    us: int = _unpack_time(raw)[0]
    try:
        return POSTGRES_EPOCH_UTC + MICROSECOND * us
    except OverflowError:
        return text_of_timestamp(us, "+00")


def text_of_date(days: int) -> str:
    """PostgreSQL's text of a date, ``days`` from 2000-01-01."""
    special = _SPECIAL_DATE.get(days)
    if special is not None:
        return special
    year, month, day = _civil(days)
    if year > 0:
        return f"{year:04d}-{month:02d}-{day:02d}"
    return f"{1 - year:04d}-{month:02d}-{day:02d} BC"


def text_of_timestamp(us: int, zone: str) -> str:
    """PostgreSQL's text of a timestamp, ``us`` microseconds from 2000-01-01."""
    special = _SPECIAL_TIMESTAMP.get(us)
    if special is not None:
        return special
    days, us = divmod(us, _DAY)
    seconds, us = divmod(us, 1_000_000)
    fraction = f".{us:06d}".rstrip("0") if us else ""
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}{zone}"
    year, month, day = _civil(days)
    if year > 0:
        return f"{year:04d}-{month:02d}-{day:02d} {clock}"
    return f"{1 - year:04d}-{month:02d}-{day:02d} {clock} BC"


def _zone(east: int) -> timezone:
    return timezone(timedelta(seconds=east))


def _text_of_offset(east: int) -> str:
    """PostgreSQL's text of an offset: minutes and seconds where there are any."""
    minutes, seconds = divmod(abs(east), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{'-' if east < 0 else '+'}{hours:02d}"
    if minutes or seconds:
        text += f":{minutes:02d}"
    return f"{text}:{seconds:02d}" if seconds else text


def _own_text(raw: bytes) -> str:
    """What is not a date of Python's stays as it came; all that the server writes is ASCII."""
    return raw.decode("ascii")


def _civil(days: int) -> tuple[int, int, int]:
    """Year (0 is 1 BC), month and day of the proleptic Gregorian calendar.

    Counted in eras of 400 years that begin on 1 March, so that a leap day is the last
    of its year.
    """
    era, day_of_era = divmod(days + 730_425, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * march_month + 2) // 5 + 1
    month = march_month + 3 if march_month < 10 else march_month - 9
    year = year_of_era + 400 * era + (month <= 2)
    return year, month, day
