"""Text for a terminal: what it would act on, or not show, as an escape that is seen."""

from __future__ import annotations

import json
import re
from typing import Final

# Control characters but for the tab and the line feed; characters that turn the direction of
# what follows, end a line, or are not seen at all. The two that join letters stay: scripts and
# emojis are written with them.
_UNSEEN: Final = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f"
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Return ``text`` with such characters escaped as in JSON, of which it may be a part."""
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)
