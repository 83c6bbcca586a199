"""Quotes in the text of composites and ranges, which follow one rule.

``record_out`` (``src/backend/utils/adt/rowtypes.c``) and ``range_bound_escape``
(``rangetypes.c``): what is empty or holds a character with a meaning stands between double
quotes, with quotes and backslashes doubled.
"""

from __future__ import annotations

import re
from typing import Final

# Possessive: a step for each byte that could be taken back would cost a hundred times the memory.
QUOTED: Final = rb'"[^"\\]*+(?:(?:""|\\.)[^"\\]*+)*+"'
_ESCAPED: Final = re.compile(rb'""|\\(.)', re.DOTALL)


def unquoted(item: bytes) -> bytes:
    """What stands between the quotes, if there are any."""
    if item[:1] != b'"':
        return item
    item = item[1:-1]
    if b'"' in item or b"\\" in item:
        return _ESCAPED.sub(lambda match: match[1] or b'"', item)
    return item
