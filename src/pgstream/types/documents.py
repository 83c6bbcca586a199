"""Loaders of json and jsonb (``src/backend/utils/adt/{json,jsonb}.c``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class JSONText(str):
    """The text of a JSON value as it stands, to be spliced into JSON output unparsed.

    A decoder made with ``json_loads=JSONText`` gives these for json and jsonb.
    """

    __slots__ = ()


class JsonLoader:
    """Loads json, and jsonb's text form, with ``loads``.

    What ``loads`` refuses though PostgreSQL holds it (an integer of 5,000 digits, deep
    nesting) stays PostgreSQL's text.
    """

    def __init__(self, loads: Callable[[str], Any]) -> None:
        self.loads = loads

    def __call__(self, raw: bytes) -> Any:
        try:
            document = raw.decode()
        except UnicodeDecodeError:
            return raw
        try:
            return self.loads(document)
        except (ValueError, RecursionError):
            return document


class JsonbLoader(JsonLoader):
    """Loads jsonb's binary form: a version byte, 1, then the text."""

    def __call__(self, raw: bytes) -> Any:
        if raw[:1] != b"\x01":
            raise ValueError("unknown version")
        return super().__call__(raw[1:])
