"""Passwords out of texts that are to be shown.

A mask says something, too: where the reader knows what stands behind it, he has read the
password. ``database "***" does not exist`` beside ``dbname=shop`` gives away one that equals the
database's name, and ``c***nnot connect`` one of a single letter. So a password is masked

- wherever it stands as one, in a URL or after a keyword, whatever it is;
- elsewhere, unless it is part of a name that is public, such as the database's: eight
  characters or more anywhere, four or more as a word, fewer in quotes, as libpq and the server
  put what they were given.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import groupby
from typing import Any, Final
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

MASK: Final = "***"
SECRETS: Final = (
    "password",
    "sslpassword",
    "oauth_client_secret",
    "scram_client_key",  # this one and the next are as good as the password
    "scram_server_key",
)
PUBLIC: Final = ("host", "hostaddr", "port", "dbname", "user")
_LONG: Final = 8
_WORD: Final = 4
_QUOTES: Final = "[\"'`«»„“”\u2018\u2019]"
_KEYWORDS: Final = "(?i:password|client_secret|client_key|server_key)"
# Whatever may be a password, up to the last "@"; but for those of our own examples.
_ANY_PASSWORD: Final = re.compile(
    r"(://[^:/\s]*:(?!password@)).*(?=@)"
    rf"|({_KEYWORDS}\s*=\s*)(?!…)(?:'(?:[^'\\]|\\.)*'|\S+)"
)
_URL_PASSWORD: Final = re.compile(r"://[^:@/]*:([^@]*)@")


def redact(dsn: str, text: str, public: Collection[str] = ()) -> str:
    """Return ``text`` with the passwords of ``dsn`` and of the environment as ``***``.

    Args:
        dsn: A PostgreSQL URL or key=value string. Where it cannot be parsed, all of it is masked.
        text: What is to be shown.
        public: Names that are shown in any case. So are libpq's keywords, and where the DSN
            leads to.
    """
    defaults = {
        option.keyword.decode(): (option.val or b"").decode(errors="replace")
        for option in Conninfo.get_defaults()
    }
    secrets = {defaults.get(key, "") for key in SECRETS}
    names = {*public, *defaults}
    try:
        parameters: dict[str, Any] = conninfo_to_dict(dsn)
    except psycopg.Error:
        # Nobody could connect with it. What it holds is unknown: all of it may be secret.
        secrets.add(dsn)
    else:
        secrets.update(str(parameters.get(key) or "") for key in SECRETS)
        for key in PUBLIC:  # of several hosts each is one
            names.update(str(parameters.get(key) or defaults.get(key, "")).split(","))
    forms = {form for secret in secrets for form in _forms(secret)}
    forms.update(_URL_PASSWORD.findall(dsn))

    shown = [found.span() for name in names - {""} for found in _word(name).finditer(text)]
    hidden = [False] * len(text)
    for form in forms - {""}:
        spans = [found.span(1) for found in _placed(form).finditer(text)]
        spans += [
            (start, end)
            for start, end in (found.span() for found in _loose(form).finditer(text))
            if not any(first <= start and end <= last for first, last in shown)
        ]
        for start, end in spans:
            hidden[start:end] = [True] * (end - start)
    pieces = groupby(zip(text, hidden, strict=True), key=lambda pair: pair[1])
    return "".join(
        MASK if masked else "".join(character for character, _ in piece) for masked, piece in pieces
    )


def redact_unknown(text: str) -> str:
    """Return ``text`` with the passwords of all DSNs in it as ``***``, whosever they are: one may
    have been given where something else was asked for."""
    return _ANY_PASSWORD.sub(rf"\1\2{MASK}", text)


def _forms(secret: str) -> tuple[str, ...]:
    """The secret as it is, as it stands in a URL, and in quotes after a keyword."""
    escaped = secret.replace("\\", "\\\\").replace("'", "\\'")
    return secret, quote(secret, safe=""), escaped


def _pattern(form: str) -> str:
    # A message may have been put on one line since.
    return r"\s+".join(map(re.escape, re.split(r"\s+", form)))


def _word(name: str) -> re.Pattern[str]:
    before = r"(?<!\w)" if re.match(r"\w", name) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", name) else ""
    return re.compile(before + _pattern(name) + after)


def _placed(form: str) -> re.Pattern[str]:
    """Where it stands as a password: ``://user:form@``, ``password=form``, ``PGPASSWORD=form``."""
    before = rf"""://[^:@/\s]*:|{_KEYWORDS}\s*=\s*["']?"""
    return re.compile(rf"(?:{before})({_pattern(form)})(?!\w)")


def _loose(form: str) -> re.Pattern[str]:
    """Where it stands by itself."""
    if len(form) >= _LONG:
        return re.compile(_pattern(form))
    if len(form) >= _WORD:
        return _word(form)
    return re.compile(f"(?<={_QUOTES}){_pattern(form)}(?={_QUOTES})")
