"""DSNs: what one says, or why it cannot be parsed. Nothing that may be a password is repeated."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from .errors import ConfigError
from .redaction import PUBLIC

_PORT: Final = re.compile(r"(?:[0-9]{1,5})?(?:,(?:[0-9]{1,5})?)*")
# What no name has, but a DSN that was put in its place, or that has commas for spaces.
_SETTINGS: Final = re.compile(r"://|(?:password|secret)\s*=", re.IGNORECASE)

# How libpq begins to say what is wrong. It goes on with a piece of the DSN, which may be one of
# the password.
_REASONS: Final = (
    'missing "="',
    "unterminated quoted string",
    "invalid connection option",
    "invalid URI query parameter",
    'missing key/value separator "=" in URI query parameter',
    'extra key/value separator "=" in URI query parameter',
    "invalid percent-encoded token",
    "forbidden value %00",
    "unexpected spaces",
    'end of string reached when looking for matching "]" in IPv6 host address',
    "IPv6 host address may not be empty",
    "unexpected character",
)
_NAMED: Final = re.compile(r':? "([A-Za-z_]+)"\s*')


def parse_dsn(dsn: str) -> dict[str, Any]:
    """Return the parameters of a DSN, without ``replication``.

    Raises:
        ConfigError: if it cannot be parsed, with libpq's reason. Of the DSN it holds at most
            the name of a parameter.
    """
    hint = (
        "write postgresql://user:password@host:port/dbname, with special characters in the "
        "password percent-encoded, or 'host=… port=… dbname=… user=… password=…'"
    )
    if "\0" in dsn:
        raise ConfigError("the DSN holds a NUL byte", hint)
    if any("\ud800" <= character <= "\udfff" for character in dsn):
        raise ConfigError("the DSN is not UTF-8 text", hint)
    scheme, separator, rest = dsn.partition("://")
    if separator and "+" in scheme and scheme.startswith("postgres"):
        raise ConfigError("the DSN names a driver", "write postgresql:// without '+driver'")
    is_url = bool(separator) and scheme in ("postgres", "postgresql")
    if not is_url and re.fullmatch(r"\w+", scheme) and separator:
        raise ConfigError("the DSN is the URL of something else than PostgreSQL", hint)
    reason: str | None = None
    try:
        parameters = conninfo_to_dict(dsn)
    except psycopg.Error as error:
        reason = _reason(dsn, str(error))
    if reason is not None:  # out here, or libpq's words would be the context of ours
        raise ConfigError(f"the DSN cannot be parsed{reason}", hint)
    if is_url:
        # libpq would take a part of such a password for a host or a database, and show it. For it
        # the password ends at the first "@", also behind a "?", if no "/" comes before.
        user, found, place = rest.partition("@")
        if not found or "/" in user:
            place = rest
        if "@" in place.partition("?")[0]:
            raise ConfigError("the DSN has an '@' or '/' where there can be none", hint)
    for name in PUBLIC:
        if _SETTINGS.search(str(parameters.get(name, ""))):
            raise ConfigError(f"the DSN has other settings where the {name} stands", hint)
    if not _PORT.fullmatch(str(parameters.get("port", ""))):
        raise ConfigError("the port in the DSN is not a number", hint)
    parameters.pop("replication", None)
    return parameters


def _reason(dsn: str, said: str) -> str:
    """Return what libpq said, as far as it may be shown."""
    reason = next((reason for reason in _REASONS if said.startswith(reason)), "")
    if not reason:
        return ""
    named = _NAMED.fullmatch(said, len(reason))
    name = f" {named[1]!r}" if named and _is_a_name(dsn, named[1]) else ""
    return f": {reason}{name}"


def _is_a_name(dsn: str, word: str) -> bool:
    """Whether a word is a parameter's name for sure, and not what follows a character in a password
    that should have been escaped: ``password=my secret=x``, ``//me:pass/word?secret=x@host``.
    """
    before, found, _ = dsn.rpartition(word)
    if not found or "password" in before or "secret" in before:
        return False
    if "://" not in dsn:
        return "@" not in dsn
    authority, _, rest = dsn.partition("://")[2].partition("/")
    if "@" in rest or "?" in authority:
        return False
    return "@" in authority or re.fullmatch(r"[^:]*(?::[0-9]*)?", authority) is not None
