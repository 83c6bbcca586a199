"""Streamed transactions come out as the transactions that protocol 1 would have sent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import encoder
from encoder import column, relation, text
from pgstream import Begin, Commit, Insert, LogicalMessage, Prepare, ProtocolError, ServerError
from pgstream.assembly import Assembly
from pgstream.decoder import Decoder
from pgstream.messages import Relation

pytestmark = pytest.mark.usefixtures("both_decoders")

INT, TEXT = 23, 25
COLUMNS = [column("id", INT, -1, True), column("name", TEXT)]
WIDER = [*COLUMNS, column("more", INT)]


def wal(*messages: bytes, start: int = 100) -> list[bytes]:
    return [encoder.xlogdata(message, start) for message in messages]


def row(number: int, xid: int | None = None, oid: int = 1) -> bytes:
    return encoder.insert(oid, [text(str(number)), text("x" * (number % 50))], xid)


def announce(xid: int | None = None, oid: int = 1, columns: list[bytes] | None = None) -> bytes:
    return relation(oid, "public", f"t{oid}", "d", columns or COLUMNS, xid=xid)


def block(xid: int, *messages: bytes, first: bool = False) -> list[bytes]:
    return [encoder.stream_start(xid, first), *messages, encoder.stream_stop()]


def events(payloads: list[bytes], memory_limit: int = 2**20, at_once: int = 3) -> list[Any]:
    """What a decoder makes of these payloads, so many of which arrive at once."""
    assembly, decoder = Assembly(memory_limit), Decoder()
    out = []
    try:
        for start in range(0, len(payloads), at_once):
            for released in assembly.feed(payloads[start : start + at_once]):
                message = decoder.decode(released)
                if not isinstance(message, Relation):
                    out.append(message)
    finally:
        assembly.close()
    return out


def numbers(seen: list[Any]) -> list[int]:
    return [event.new["id"] for event in seen if isinstance(event, Insert)]


def test_a_streamed_transaction_comes_at_its_commit() -> None:
    seen = events(
        wal(
            *block(7, announce(7), row(1, 7), first=True),
            *block(7, row(2, 8)),
            encoder.stream_commit(7, 900, 950, 1_000_000),
        )
    )
    begin, one, two, commit = seen
    assert isinstance(begin, Begin)
    assert isinstance(commit, Commit)
    assert isinstance(one, Insert)
    assert isinstance(two, Insert)
    assert (begin.xid, begin.commit_lsn) == (7, 900)
    assert (commit.xid, commit.commit_lsn, commit.end_lsn) == (7, 900, 950)
    assert begin.commit_time == commit.commit_time == one.commit_time
    # As in protocol 1: the xid is the transaction's, not the subtransaction's.
    assert [(e.xid, e.commit_lsn, e.ordinal, e.lsn) for e in (one, two)] == [
        (7, 900, 0, 100),
        (7, 900, 1, 100),
    ]


def test_nothing_comes_before_the_commit() -> None:
    assert events(wal(*block(7, announce(7), row(1, 7), first=True))) == []


def message(content: bytes) -> bytes:
    """As the server sends it: with the top transaction's xid, whoever emitted it."""
    return encoder.logical_message(50, "p", content, xid=7)


@pytest.mark.parametrize("memory_limit", [0, 2**20])
@pytest.mark.parametrize(
    ("payloads", "doubtful"),
    [
        # What stands before the abort is no message: none of the subtransaction's is left.
        ([message(b"kept"), row(1, 7), "abort 9"], False),
        ([message(b"kept"), row(1, 7), row(2, 9), message(b"x"), "abort 9", "abort 10"], False),
        ([row(1, 7), "abort 9", message(b"kept")], False),
        # It may be the parent's or the subtransaction's.
        ([row(1, 7), message(b"?"), "abort 9"], True),
        ([row(1, 7), message(b"?"), row(2, 9), message(b"x"), "abort 9", "abort 10"], True),
    ],
)
def test_messages_in_doubt_are_not_given_out(
    payloads: list[Any], doubtful: bool, memory_limit: int
) -> None:
    stream = wal(*block(7, announce(7), first=True))
    for payload in payloads:
        if isinstance(payload, str):
            stream += wal(encoder.stream_abort(7, int(payload.split()[1])))
        else:
            stream += wal(*block(7, payload))
    committed = [*stream, *wal(encoder.stream_commit(7, 900, 950, 0))]
    if doubtful:
        with pytest.raises(ServerError, match="streaming off"):
            events(committed, memory_limit)
    else:
        seen = events(committed, memory_limit)
        assert [e.content for e in seen if isinstance(e, LogicalMessage)] == [b"kept"][
            : sum(b"kept" in p for p in payloads if isinstance(p, bytes))
        ]
        assert numbers(seen) == [1]
    assert events([*stream, *wal(encoder.stream_abort(7, 7))], memory_limit) == []


@pytest.mark.parametrize(("first", "expected"), [(False, [1, 2]), (True, [2])])
def test_a_transaction_that_starts_afresh_drops_what_came_before(
    first: bool, expected: list[int]
) -> None:
    seen = events(
        wal(
            *block(7, announce(7), row(1, 7)),
            *block(7, announce(7), row(2, 7), first=first),
            encoder.stream_commit(7, 1, 2, 0),
        )
    )
    assert numbers(seen) == expected


@pytest.mark.parametrize("size", range(27))
def test_what_is_too_short_for_a_message_is_left_to_the_decoder(size: int) -> None:
    payload = encoder.xlogdata(b"\0\0", 100)[:size]
    assert list(Assembly(0).feed([payload])) == [payload]


def test_an_abort_drops_all() -> None:
    payloads = wal(
        *block(7, announce(7), row(1, 7), first=True),
        encoder.stream_abort(7, 7),
        encoder.stream_commit(7, 900, 950, 0),  # nothing of it is left
    )
    assert numbers(events(payloads)) == []


@pytest.mark.parametrize("memory_limit", [0, 150, 2**20])
def test_an_aborted_subtransaction_is_dropped_from_its_first_change_on(memory_limit: int) -> None:
    message = encoder.logical_message(50, "p", b"of the subtransaction", xid=7)
    payloads = wal(
        *block(7, announce(7), row(1, 7), row(2, 8), row(3, 9), first=True),
        *block(7, message, row(4, 8)),  # a message carries the top transaction's xid
        encoder.stream_abort(7, 9),
        encoder.stream_abort(7, 8),
        *block(7, announce(7), row(5, 7), row(6, 10)),
        encoder.stream_abort(7, 11),  # one of which nothing came
        encoder.stream_commit(7, 900, 950, 0),
    )
    seen = events(payloads, memory_limit)
    assert numbers(seen) == [1, 5, 6]
    assert not [event for event in seen if isinstance(event, LogicalMessage)]


def test_interleaved_transactions_come_in_the_order_of_their_commits() -> None:
    payloads = wal(
        *block(7, announce(7), row(1, 7), first=True),
        *block(8, announce(8), row(2, 8), first=True),
        encoder.begin(500, 0, 9),
        announce(),
        row(3),
        encoder.commit(500, 550, 0),
        *block(7, row(4, 7)),
        encoder.stream_commit(8, 600, 650, 0),
        encoder.stream_commit(7, 700, 750, 0),
    )
    seen = events(payloads)
    assert numbers(seen) == [3, 2, 1, 4]
    assert [event.end_lsn for event in seen if isinstance(event, Commit)] == [550, 650, 750]


def test_a_streamed_prepared_transaction_comes_at_its_prepare() -> None:
    payloads = wal(
        *block(7, announce(7), row(1, 7), first=True),
        encoder.stream_prepare(800, 850, 0, 7, "gid"),
    )
    _, one, prepare = events(payloads)
    assert isinstance(one, Insert)
    assert isinstance(prepare, Prepare)
    assert (one.gid, one.commit_lsn) == ("gid", 800)
    assert (prepare.gid, prepare.end_lsn) == ("gid", 850)


def test_relations_count_for_their_transaction_alone_until_it_commits() -> None:
    wide_row = encoder.insert(1, [text("2"), text("b"), text("3")], 7)
    payloads = wal(
        encoder.begin(100, 0, 5),
        announce(),
        row(1),
        encoder.commit(100, 150, 0),
        *block(7, announce(7, columns=WIDER), wide_row, first=True),
        encoder.begin(200, 0, 6),
        row(3),  # still of two columns
        encoder.commit(200, 250, 0),
        encoder.stream_commit(7, 300, 350, 0),
        encoder.begin(400, 0, 8),
        encoder.insert(1, [text("4"), text("d"), text("5")]),
        encoder.commit(400, 450, 0),
    )
    rows = [event.new for event in events(payloads) if isinstance(event, Insert)]
    assert [sorted(row) for row in rows] == [
        ["id", "name"],
        ["id", "name"],
        ["id", "more", "name"],
        ["id", "more", "name"],
    ]


def wide(number: int, xid: int | None = None, oid: int = 1) -> bytes:
    return encoder.insert(oid, [text(str(number)), text("b"), text("3")], xid)


def test_a_relation_that_came_again_meanwhile_is_not_undone_by_the_commit() -> None:
    tables = (1, 2)
    payloads = wal(
        *block(7, *[announce(7, oid) for oid in tables], row(1, 7), row(2, 7, 2), first=True),
        encoder.begin(200, 0, 6),
        *[announce(oid=oid, columns=WIDER) for oid in tables],
        wide(3),
        encoder.commit(200, 250, 0),
        encoder.stream_commit(7, 300, 350, 0),
        encoder.begin(400, 0, 8),
        wide(4),
        wide(5, oid=2),
        encoder.commit(400, 450, 0),
    )
    rows = [event.new for event in events(payloads) if isinstance(event, Insert)]
    assert [len(row) for row in rows] == [3, 2, 2, 3, 3]


def test_a_relation_that_came_again_in_the_transaction_is_the_newest() -> None:
    payloads = wal(
        *block(7, announce(7), row(1, 7), first=True),
        encoder.begin(200, 0, 6),
        announce(),
        row(2),
        encoder.commit(200, 250, 0),
        *block(7, announce(7, columns=WIDER), wide(3, 7)),
        encoder.stream_commit(7, 300, 350, 0),
        encoder.begin(400, 0, 8),
        wide(4),
        encoder.commit(400, 450, 0),
    )
    rows = [event.new for event in events(payloads) if isinstance(event, Insert)]
    assert [len(row) for row in rows] == [2, 2, 3, 3]


def test_a_relation_of_a_transaction_that_committed_first_is_not_undone_either() -> None:
    payloads = wal(
        *block(7, announce(7), row(1, 7), first=True),
        *block(
            8,
            announce(8, columns=WIDER),
            encoder.insert(1, [text("2"), text("b"), text("3")], 8),
            first=True,
        ),
        encoder.stream_commit(8, 300, 350, 0),
        encoder.stream_commit(7, 400, 450, 0),
        encoder.begin(500, 0, 9),
        encoder.insert(1, [text("4"), text("d"), text("5")]),
        encoder.commit(500, 550, 0),
    )
    rows = [event.new for event in events(payloads) if isinstance(event, Insert)]
    assert [len(row) for row in rows] == [3, 2, 3]


def test_a_stray_abort_is_passed_over() -> None:
    payloads = wal(
        encoder.begin(100, 0, 5),
        announce(),
        row(1),
        encoder.commit(100, 150, 0),
        encoder.stream_abort(99, 99),
        encoder.stream_abort(98, 97, 5, 0),
    )
    assert numbers(events(payloads)) == [1]


@pytest.mark.parametrize(
    ("messages", "kind"),
    [
        ([encoder.stream_start(7, True), encoder.stream_start(8, True)], "StreamStart"),
        ([encoder.stream_stop()], "StreamStop"),
        ([encoder.stream_start(7, True), encoder.begin(1, 0, 2)], "Begin"),
        ([encoder.stream_start(7, True), b"I\0\0"], "Insert"),
        ([encoder.stream_start(7, True), b"?"], "XLogData"),
        ([encoder.stream_commit(7, 1, 2, 0)[:-1]], "StreamCommit"),
        ([encoder.stream_abort(7, 7) + b"\0"], "StreamAbort"),
    ],
)
def test_disorder_is_an_error(messages: list[bytes], kind: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        events(wal(*messages))
    assert caught.value.kind == kind


def test_what_goes_to_disk_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def temporary_file(**options: Any) -> IO[bytes]:
        files.append(make(dir=tmp_path, **options))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    assembly = Assembly(100)
    payloads = wal(*block(7, announce(7), *(row(n, 7) for n in range(50)), first=True))

    def arriving() -> Iterator[bytes]:
        for index, payload in enumerate(payloads):
            assert len(files) == (index > 2)  # not once all have come
            yield payload

    assert list(assembly.feed(arriving())) == []
    assert len(files) == 1
    files[0].seek(0, 2)
    assert files[0].tell() > 50 * 30
    assembly.close()
    assert files[0].closed
    assert list(tmp_path.iterdir()) == []


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What transactions do, step by step: insert, abort of a subtransaction, end."""
    steps = []
    for _ in range(draw(st.integers(1, 40))):
        what = draw(st.sampled_from(["insert", "insert", "insert", "rollback", "commit", "abort"]))
        steps.append((what, draw(st.integers(1, 3)), draw(st.integers(0, 2))))
    return steps


@given(histories(), st.sampled_from([0, 60, 200, 2**20]), st.integers(1, 20))
def test_any_history_gives_what_was_committed(
    history: list[tuple[str, int, int]], memory_limit: int, at_once: int
) -> None:
    """A model of savepoints beside it: each transaction nests its subtransactions in order."""
    payloads: list[bytes] = []
    model: dict[int, list[tuple[int, int]]] = {}  # top -> (depth, number)
    fresh: dict[tuple[int, int], int] = {}  # (top, depth) -> xid of its subtransaction
    announced: set[int] = set()
    expected: list[int] = []
    next_xid = 1000
    for number, (what, top, depth) in enumerate(history):
        rows = model.setdefault(top, [])
        if what == "insert":
            # A change at this depth: what is deeper has been released into it.
            for deeper in range(depth + 1, 3):
                fresh.pop((top, deeper), None)
            next_xid += 1
            xid = top if depth == 0 else fresh.setdefault((top, depth), next_xid)
            header = [] if top in announced else [announce(top)]
            announced.add(top)
            payloads += wal(*block(top, *header, row(number, xid), first=not rows))
            rows.append((xid, number))
        elif what == "rollback" and depth and (top, depth) in fresh:
            victim = fresh.pop((top, depth))
            first = next(i for i, (xid, _) in enumerate(rows) if xid == victim)
            for child in dict.fromkeys(xid for xid, _ in reversed(rows[first:])):
                payloads += wal(encoder.stream_abort(top, child))
            del rows[first:]
            for deeper in range(depth, 3):
                fresh.pop((top, deeper), None)
            announced.discard(top)
        elif what in ("commit", "abort") and rows:
            if what == "commit":
                payloads += wal(encoder.stream_commit(top, number, number + 1, 0))
                expected += [n for _, n in rows]
            else:
                payloads += wal(encoder.stream_abort(top, top))
            del model[top]
            announced.discard(top)
            for key in [key for key in fresh if key[0] == top]:
                del fresh[key]
    assert numbers(events(payloads, memory_limit, at_once)) == expected
