"""The decoders of other packages, each behind one function: a message in, its new row out.

Runs in the environment of the package, started by ``bench_peers.py``: reads a capture file,
compares the rows of the first changes with the expected ones, then times passes over all
messages. Prints one JSON object.
"""

from __future__ import annotations

import json
import pickle
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HEADER = 25  # of each XLogData payload, which these decoders do not take
Row = dict[str, Any]
Decode = Callable[[bytes], Any]


def walbox() -> tuple[Decode, Callable[[Any], Row]]:
    from walbox.pgoutput import Decoder

    return Decoder().decode, lambda message: message.new


def other_pgstream() -> tuple[Decode, Callable[[Any], Row]]:
    from pgstream.decoder import PgOutputDecoder

    return PgOutputDecoder().decode, lambda event: event["row"]


def deltaflow() -> tuple[Decode, Callable[[Any], Row]]:
    from deltaflow.replication.changes import TransactionAssembler
    from deltaflow.replication.pgoutput import decode_message

    # Its changes come out with the transaction, or in parts of it: of one, here.
    assembler = TransactionAssembler(max_changes=1)

    def plain(value: Any) -> Any:
        kind = type(value).__name__
        if kind == "Jsonb":
            return json.loads(value.text)
        return list(value) if kind == "PgArray" else value

    def row(part: Any) -> Row:
        return {name: plain(value) for name, value in part.changes[-1].new.items()}

    return lambda message: assembler.feed(0, decode_message(message)), row


def walflux() -> tuple[Decode, Callable[[Any], Row]]:
    from walflux.protocol import Relation, decode_message

    names: dict[int, list[str]] = {}

    def decode(data: bytes) -> Any:
        message = decode_message(data)
        if isinstance(message, Relation):
            names[message.rel_id] = [column.name for column in message.columns]
            return None
        new = getattr(message, "new", None)
        return None if new is None else dict(zip(names[message.rel_id], new, strict=True))

    return decode, lambda row: row


def pypgoutput() -> tuple[Decode, Callable[[Any], Row]]:
    from pypgoutput import decoders

    kinds = {
        ord("B"): decoders.Begin,
        ord("C"): decoders.Commit,
        ord("R"): decoders.Relation,
        ord("I"): decoders.Insert,
        ord("U"): decoders.Update,
        ord("D"): decoders.Delete,
    }
    names: dict[int, list[str]] = {}

    def decode(data: bytes) -> Row | None:
        message = kinds[data[0]](data)
        if data[0] == ord("R"):
            names[message.relation_id] = [column.name for column in message.columns]
        elif data[0] in b"IU":
            cells = message.new_tuple.column_data
            found = names[message.relation_id]
            return {name: cell.col_data for name, cell in zip(found, cells, strict=True)}
        return None

    return decode, lambda row: row


def read(path: str) -> Iterator[bytes]:
    """The messages of a capture, without the headers of replication."""
    data = Path(path).read_bytes()
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at + 1)
        if data[at + 5] == ord("w"):
            yield data[at + 5 + HEADER : at + 1 + length]
        at += 1 + length


def check(name: str, messages: list[bytes], expected: dict[str, list[Row]]) -> str:
    """What the rows are, ``typed`` or ``text``; anything else is a SystemExit."""
    decode, row = globals()[name]()
    found = []
    for message in messages:
        event = decode(message)
        if message[0] in b"IU":
            if event is None:
                raise SystemExit("wrong: gives nothing for a change")
            found.append(row(event))
        if len(found) == len(expected["typed"]):
            break
    for form, rows in expected.items():
        if found == rows:
            return form
    for form, rows in expected.items():
        if all(list(one) == list(other) for one, other in zip(found, rows, strict=True)):
            columns = {
                column
                for one, other in zip(found, rows, strict=True)
                for column in other
                if one[column] != other[column]
            }
            if len(columns) < len(rows[0]):
                print(f"differs from {form} in: {', '.join(sorted(columns))}", file=sys.stderr)
    raise SystemExit("wrong: the rows are neither the typed values nor PostgreSQL's text")


def main() -> None:
    name, capture, expected_path, rounds = sys.argv[1:]
    messages = list(read(capture))
    expected = pickle.loads(Path(expected_path).read_bytes())
    try:
        form = check(name, messages, expected)
    except Exception as error:
        raise SystemExit(f"fails: {type(error).__name__}: {error}") from None
    seconds = []
    for _ in range(int(rounds)):
        decode, _ = globals()[name]()
        began = time.perf_counter()
        for message in messages:
            decode(message)
        seconds.append(time.perf_counter() - began)
    rate = len(messages) / statistics.median(seconds)
    print(json.dumps({"form": form, "rate": rate}))


if __name__ == "__main__":
    main()
