"""The yardstick's JSON Lines: its rows, dumped by orjson, with the members of ours.

orjson writes UUIDs and times by itself, and Decimals as ``str`` gives them.
"""

from __future__ import annotations

from typing import BinaryIO

import orjson
from peers.handwritten import Decoder

_OPERATIONS = {"I": "insert", "U": "update", "D": "delete"}
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


class Writer:
    """Call ``write`` with each payload; the lines go to ``file``."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.decode = Decoder().decode
        self.ordinal = 0
        self.commit_lsn = ""
        self.commit_time: object = None

    def write(self, payload: bytes) -> None:
        found = self.decode(payload)
        if found is None:
            return
        kind = found[0]
        if kind == "B":
            _, lsn, self.commit_time, _ = found
            self.commit_lsn = f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
            self.ordinal = 0
        elif kind != "C":
            _, table, lsn, xid, old, new = found
            schema, _, table = table.partition(".")
            line = {
                "op": _OPERATIONS[kind],
                "schema": schema,
                "table": table,
                "lsn": f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}",
                "commit_lsn": self.commit_lsn,
                "ordinal": self.ordinal,
                "xid": xid,
                "commit_time": self.commit_time,
            }
            if old is not None:
                line["old"] = old
            if new is not None:
                line["new"] = new
            self.ordinal += 1
            self.file.write(orjson.dumps(line, str, _OPTIONS))
