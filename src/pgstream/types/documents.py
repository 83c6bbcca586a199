"""Loaders of json and jsonb (``src/backend/utils/adt/{json,jsonb}.c``)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from .failures import LoaderFailed

MAX_DEPTH: Final = 200
"""Documents nested more deeply stay text.

Counted, and not left to Python's recursion limit: what is a value must not depend on how
deep in the program the decoder is called, or on which decoder it is. So it is far below that
limit, and where a program comes so close to the limit that ``json.loads`` has no room for as
many, the RecursionError is its own.
"""

# Of a text from an index on: the value and its end.
_scan: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # as quoting.QUOTED
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


class JSONText(str):
    """The text of a JSON value as it stands, to be spliced into JSON output unparsed.

    A decoder made with ``json_loads=JSONText`` gives these for json and jsonb.
    """

    __slots__ = ()


class UserLoads:
    """A ``json_loads`` of the user's own, whose failures are told from refusals of a document."""

    def __init__(self, loads: Callable[[str], Any]) -> None:
        self._loads = loads

    def __call__(self, document: str) -> Any:
        try:
            return self._loads(document)
        except ValueError:
            raise
        except RecursionError:
            raise ValueError("nested too deeply for this json_loads") from None
        except Exception as error:
            raise LoaderFailed from error


class JsonLoader:
    """Loads json, and jsonb's text form, with ``loads``.

    What ``loads`` refuses with a ValueError though PostgreSQL holds it (an integer of 5,000
    digits) stays PostgreSQL's text, and so does what is nested beyond :data:`MAX_DEPTH`.
    Anything else that ``loads`` of the user's own raises is an error of its own.
    """

    def __init__(self, loads: Callable[[str], Any]) -> None:
        self._is_json_loads = loads is json.loads
        # A kind of str keeps the text as it is, however deep.
        self.parses = not (isinstance(loads, type) and issubclass(loads, str))
        self.loads = UserLoads(loads) if self.parses and not self._is_json_loads else loads

    def __call__(self, raw: bytes) -> Any:
        try:
            document = raw.decode()
        except UnicodeDecodeError:
            return raw
        if len(raw) > MAX_DEPTH and self.parses and is_too_deep(raw):
            return document
        if self._is_json_loads:
            # Half of its time goes into its options, and into white space that is not there.
            try:
                value, end = _scan(document, 0)
                if end == len(document):
                    return value
            except (StopIteration, ValueError):
                pass
        try:
            return self.loads(document)
        except ValueError:
            return document


class JsonbLoader(JsonLoader):
    """Loads jsonb's binary form: a version byte, 1, then the text."""

    def __call__(self, raw: bytes) -> Any:
        if raw[:1] != b"\x01":
            raise ValueError("unknown version")
        return JsonLoader.__call__(self, raw[1:])


def is_too_deep(raw: bytes) -> bool:
    """Whether brackets nest beyond :data:`MAX_DEPTH`; those inside strings do not count."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for byte in _STRING.sub(b"", raw).translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        else:
            depth -= 1
    return False
