"""What the compiled decoder makes, and the garbage collector: it has little to look at, and
still finds every cycle that can be closed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import encoder
from encoder import NULL, column, text
from pgstream.messages import Begin, Commit, Delete, Insert, Update

OID = 16384
COLUMNS = [
    column("id", 20, is_key=True),
    column("ref", 2950),
    column("at", 1184),
    column("doc", 3802),
    column("note", 25),
]
REF = "5cbdfd0d-fa22-a3fc-a726-6376887f549b"


class Mark:
    """Something that tells whether what holds it is gone."""


@pytest.fixture
def collecting() -> Iterator[None]:
    """Nobody but the test runs the collector."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def messages(decoder: Any, doc: bytes) -> list[Any]:
    row = [text("1"), text(REF), text("2026-11-22 08:12:00+00"), doc, NULL]
    sent = [
        encoder.relation(OID, "public", "t", "d", COLUMNS),
        encoder.begin(0x500, 0, 733),
        encoder.insert(OID, row),
        encoder.update(OID, row, old=row),
        encoder.delete(OID, old=row),
        encoder.commit(0x500, 0x530, 0),
    ]
    made = decoder.decode_many([encoder.xlogdata(message, start=0x123456789) for message in sent])
    assert [type(one) for one in made[1:]] == [Begin, Insert, Update, Delete, Commit]
    return list(made[1:])


@pytest.mark.parametrize("decoder_impl", ["cython"], indirect=True)  # the other's are plain
def test_the_collector_has_nothing_to_do_with_plain_rows(decoder_impl: Any) -> None:
    for message in messages(decoder_impl(), NULL):
        assert not gc.is_tracked(message)
        for field in ("lsn", "commit_lsn", "end_lsn"):
            assert not gc.is_tracked(getattr(message, field, None))
        for row in (getattr(message, "old", None), getattr(message, "new", None)):
            if row is not None:
                assert not gc.is_tracked(row)
                assert not any(map(gc.is_tracked, row.values()))


@pytest.mark.usefixtures("collecting")
@pytest.mark.parametrize("doc", [text('{"a": [1]}'), text("{}"), text("[]")])
def test_a_cycle_through_a_row_is_found(decoder_impl: Any, doc: bytes) -> None:
    marks = []
    for message in messages(decoder_impl(), doc):
        for row in (getattr(message, "old", None), getattr(message, "new", None)):
            if row is not None:
                mark, value = Mark(), row["doc"]
                marks.append(weakref.ref(mark))
                if isinstance(value, dict):
                    value |= {"parent": row, "mark": mark}
                else:
                    value += [row, mark]
    del message, row, value, mark
    gc.collect()
    assert [mark() for mark in marks] == [None] * 4


def test_what_is_not_looked_at_is_freed(decoder_impl: Any) -> None:
    made = messages(decoder_impl(), text('{"a": [1]}'))
    insert = made[1]
    mark = Mark()
    gone = weakref.ref(mark)
    insert.new["note"] = mark
    del mark, made, insert
    assert gone() is None
