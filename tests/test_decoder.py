"""What the decoders make of each message; both pass the same tests.

The layouts and rules are those of "Logical Replication Message Formats" and "Logical
Streaming Replication Protocol" in the PostgreSQL documentation.
"""

from __future__ import annotations

import array
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

import encoder
from encoder import NULL, UNCHANGED, binary, column, text
from pgstream import messages
from pgstream.errors import PgstreamError, ProtocolError
from pgstream.lsn import LSN
from pgstream.messages import (
    Begin,
    BeginPrepare,
    Column,
    Commit,
    CommitPrepared,
    Delete,
    Insert,
    Keepalive,
    LogicalMessage,
    Origin,
    Prepare,
    Relation,
    RollbackPrepared,
    StreamAbort,
    StreamCommit,
    StreamPrepare,
    StreamStart,
    StreamStop,
    Truncate,
    Type,
    Update,
)
from pgstream.rows import RowMaker, dict_row, tuple_row
from pgstream.types import JSONText

US = 848_650_320_123_456  # microseconds from 2000-01-01
TIME = datetime(2026, 11, 22, 8, 12, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 8, 12, 1, 123456, tzinfo=UTC)

USERS_OID = 16384
USERS_COLUMNS = [column("id", 23, is_key=True), column("name", 25), column("bio", 25)]
R_USERS = encoder.relation(USERS_OID, "public", "users", "d", USERS_COLUMNS)
USERS = Relation(
    USERS_OID,
    "public",
    "users",
    "d",
    (Column("id", 23, -1, True), Column("name", 25, -1, False), Column("bio", 25, -1, False)),
)
BEGIN = encoder.begin(0x500, US, 733)
COMMIT = encoder.commit(0x500, 0x530, US)
HEADER = 25  # bytes of XLogData before the message


def row(key: int, name: str = "a", bio: str = "b") -> list[bytes]:
    return [text(str(key)), text(name), text(bio)]


class Wire:
    """A decoder, and a short way to send it messages."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    def send(self, *wanted: bytes, lsn: int = 0x100) -> Any:
        """Decode messages; what the last one gave."""
        result = None
        for message in wanted:
            result = self.decoder.decode(encoder.xlogdata(message, lsn))
        return result

    def refuse(self, message: bytes, lsn: int = 0x100) -> ProtocolError:
        """Decode a message that has to be refused, and is told where it stands."""
        error = refused(self.decoder, encoder.xlogdata(message, lsn))
        assert error.lsn == lsn
        return error


def refused(decoder: Any, payload: Any) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decoder.decode(payload)
    assert type(caught.value) is ProtocolError
    assert caught.value.__cause__ is None
    return caught.value


@pytest.fixture
def wire(decoder_impl: Any) -> Wire:
    return Wire(decoder_impl())


@pytest.fixture
def users(wire: Wire) -> Wire:
    """A decoder that knows the relation ``users``."""
    wire.send(R_USERS, lsn=0)
    return wire


# Outer messages.


@pytest.mark.parametrize("reply_requested", [False, True])
def test_keepalive(wire: Wire, reply_requested: bool) -> None:
    message = wire.decoder.decode(encoder.keepalive(0x16C752F8, US, reply_requested))
    assert message == Keepalive(LSN("0/16C752F8"), TIME, reply_requested)
    assert type(message.end_lsn) is LSN
    assert message.send_time.tzinfo is UTC
    assert message.reply_requested is reply_requested


def test_status_of_the_primary_is_nothing(wire: Wire) -> None:
    assert wire.decoder.decode(encoder.primary_status(0x100, 1, 2, US)) is None


def test_lsn_is_the_start_of_the_header(users: Wire) -> None:
    payload = encoder.xlogdata(encoder.insert(USERS_OID, row(1)), 0x700, 0x900, US)
    event = users.decoder.decode(payload)
    assert event.lsn == LSN(0x700)
    assert type(event.lsn) is LSN


@pytest.mark.parametrize(
    ("payload", "kind", "offset", "reason"),
    [
        (b"", "CopyData", 0, "truncated"),
        (b"x", "CopyData", 0, "unknown message byte 0x78"),
        (b"\0", "CopyData", 0, "unknown message byte 0x00"),
        (b"w", "XLogData", 1, "truncated"),
        (b"w" + bytes(7), "XLogData", 1, "truncated"),
        (b"w" + bytes(8), "XLogData", 9, "truncated"),
        (b"w" + bytes(16), "XLogData", 17, "truncated"),
        (b"w" + bytes(23), "XLogData", 17, "truncated"),
        (b"k", "Keepalive", 1, "truncated"),
        (b"k" + bytes(8), "Keepalive", 9, "truncated"),
        (b"k" + bytes(16), "Keepalive", 17, "truncated"),
        (b"k" + bytes(18), "Keepalive", 18, "1 bytes too many"),
    ],
)
def test_malformed_frame(wire: Wire, payload: bytes, kind: str, offset: int, reason: str) -> None:
    error = refused(wire.decoder, payload)
    assert (error.kind, error.offset, error.lsn) == (kind, offset, None)
    assert reason in error.message


def test_header_without_a_message(wire: Wire) -> None:
    error = wire.refuse(b"")
    assert (error.kind, error.offset) == ("XLogData", HEADER)


def test_unknown_message_byte(wire: Wire) -> None:
    error = wire.refuse(b"Z", lsn=0x16C752F8)
    assert (error.kind, error.offset) == ("XLogData", HEADER)
    assert str(error) == (f"XLogData at LSN 0/16C752F8, byte {HEADER}: unknown message byte 0x5a")


def test_error_is_one_of_the_package(wire: Wire) -> None:
    with pytest.raises(PgstreamError):
        wire.decoder.decode(b"?")


# Transactions.


def test_begin_and_commit(wire: Wire) -> None:
    begin = wire.send(BEGIN)
    assert begin == Begin(733, LSN(0x500), TIME)
    assert begin.commit_time.tzinfo is UTC
    commit = wire.send(COMMIT)
    assert commit == Commit(733, LSN(0x500), LSN(0x530), TIME)
    assert {type(begin.commit_lsn), type(commit.commit_lsn), type(commit.end_lsn)} == {LSN}


def test_commit_without_its_begin_has_no_xid(wire: Wire) -> None:
    assert wire.send(COMMIT).xid is None
    assert wire.send(BEGIN, COMMIT).xid == 733
    assert wire.send(COMMIT).xid is None


def test_greatest_numbers(wire: Wire) -> None:
    top = 2**64 - 1
    assert wire.send(encoder.begin(top, US, 2**32 - 1)) == Begin(2**32 - 1, LSN(top), TIME)
    assert wire.send(encoder.commit(top, top, US)) == Commit(2**32 - 1, LSN(top), LSN(top), TIME)


@pytest.mark.parametrize(
    "encode",
    [
        lambda flags: encoder.commit(1, 2, US, flags),
        lambda flags: encoder.stream_commit(700, 1, 2, US, flags),
        lambda flags: encoder.prepare(1, 2, US, 700, "g", flags),
        lambda flags: encoder.commit_prepared(1, 2, US, 700, "g", flags),
        lambda flags: encoder.rollback_prepared(1, 2, US, US, 700, "g", flags),
        lambda flags: encoder.stream_prepare(1, 2, US, 700, "g", flags),
    ],
    ids=["C", "c", "P", "K", "r", "p"],
)
def test_flags_that_have_to_be_zero(wire: Wire, encode: Callable[[int], bytes]) -> None:
    kind = type(wire.send(encode(0))).__name__
    for flags in (1, 128, 255):
        error = wire.refuse(encode(flags))
        offset = HEADER + (5 if kind == "StreamCommit" else 1)
        assert (error.kind, error.offset) == (kind, offset)


@pytest.mark.parametrize("us", [2**63 - 1, -(2**63), 252455616000000000, -63082281600000001])
def test_impossible_timestamp(wire: Wire, us: int) -> None:
    error = wire.refuse(encoder.begin(1, us, 2))
    assert (error.kind, error.offset) == ("Begin", HEADER + 9)
    assert "timestamp" in error.message
    error = refused(wire.decoder, encoder.keepalive(1, us))
    assert (error.kind, error.offset, error.lsn) == ("Keepalive", 9, None)


def test_first_and_last_possible_timestamp(wire: Wire) -> None:
    first = wire.send(encoder.begin(1, -63082281600000000, 2)).commit_time
    assert first == datetime(1, 1, 1, tzinfo=UTC)
    last = wire.send(encoder.begin(1, 252455615999999999, 2)).commit_time
    assert last == datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def test_send_time_of_a_header_is_not_read(wire: Wire) -> None:
    payload = encoder.xlogdata(BEGIN, 0x100, time=2**63 - 1)
    assert wire.decoder.decode(payload) == Begin(733, LSN(0x500), TIME)


def test_origin(wire: Wire) -> None:
    assert wire.send(BEGIN, encoder.origin(0x55, "elsewhere")) == Origin("elsewhere", LSN(0x55))


def test_changes_carry_their_transaction(users: Wire) -> None:
    users.send(BEGIN)
    first = users.send(encoder.insert(USERS_OID, row(1)), lsn=0x200)
    second = users.send(encoder.insert(USERS_OID, row(2)), lsn=0x240)
    values = {"id": 1, "name": "a", "bio": "b"}
    assert first == Insert(USERS, values, LSN(0x200), 733, LSN(0x500), TIME, 0)
    values = {"id": 2, "name": "a", "bio": "b"}
    assert second == Insert(USERS, values, LSN(0x240), 733, LSN(0x500), TIME, 1)
    assert list(second.new) == ["id", "name", "bio"]


def test_ordinals(users: Wire) -> None:
    users.send(encoder.relation(7, "public", "other", "d", []), BEGIN)
    ordinals = [
        users.send(message).ordinal
        for message in (
            encoder.insert(USERS_OID, row(1)),
            encoder.update(USERS_OID, row(1)),
            encoder.delete(USERS_OID, key=[text("1"), NULL, NULL]),
            encoder.truncate([USERS_OID, 7]),
            encoder.logical_message(0x300, "p", b""),
            encoder.insert(7, []),
        )
    ]
    assert ordinals == [0, 1, 2, 3, 5, 6]
    users.send(COMMIT, BEGIN)
    assert users.send(encoder.insert(7, [])).ordinal == 0


def test_relation_type_and_origin_take_no_ordinal(users: Wire) -> None:
    users.send(BEGIN, encoder.origin(0, "o"), encoder.type_(20000, "public", "mood"), R_USERS)
    assert users.send(encoder.insert(USERS_OID, row(1))).ordinal == 0


def test_change_without_its_begin(users: Wire) -> None:
    values = {"id": 1, "name": "a", "bio": "b"}
    for ordinal in range(2):
        event = users.send(encoder.insert(USERS_OID, row(1)))
        assert event == Insert(USERS, values, LSN(0x100), None, None, None, ordinal)
    users.send(BEGIN, COMMIT)
    event = users.send(encoder.insert(USERS_OID, row(1)))
    assert event == Insert(USERS, values, LSN(0x100), None, None, None, 0)


# Relations and types.


def test_relation(wire: Wire) -> None:
    relation = wire.send(R_USERS, lsn=0)
    assert relation == USERS
    assert wire.decoder.relations == {USERS_OID: USERS}
    assert type(relation.columns) is tuple
    assert [type(column.is_key) for column in relation.columns] == [bool] * 3


@pytest.mark.parametrize("identity", "dnfi")
def test_replica_identity(wire: Wire, identity: str) -> None:
    assert wire.send(encoder.relation(1, "s", "t", identity, [])).replica_identity == identity


@pytest.mark.parametrize("identity", ["x", "D", "\0"])
def test_unknown_replica_identity(wire: Wire, identity: str) -> None:
    error = wire.refuse(encoder.relation(1, "s", "t", identity, []))
    assert (error.kind, error.offset) == ("Relation", HEADER + 9)


def test_empty_namespace_is_pg_catalog(wire: Wire) -> None:
    assert wire.send(encoder.relation(1, "", "t", "d", [])).schema == "pg_catalog"
    assert wire.send(encoder.type_(2, "", "int4")) == Type(2, "pg_catalog", "int4")


def test_names_may_hold_anything(wire: Wire) -> None:
    name = 'a.b "c"\n\N{SNOWMAN}\U0001f600'
    relation = wire.send(encoder.relation(1, name, name, "d", [column(name, 23)]))
    assert (relation.schema, relation.table, relation.columns[0].name) == (name, name, name)
    assert wire.send(encoder.insert(1, [text("5")])).new == {name: 5}
    assert wire.send(encoder.type_(1, name, name)) == Type(1, name, name)


def test_names_that_are_not_utf8_are_escaped(wire: Wire) -> None:
    relation = wire.send(encoder.relation(1, b"\xff", b"a\xc3", "d", [column(b"\x80b", 23)]))
    assert (relation.schema, relation.table) == ("\\xff", "a\\xc3")
    assert relation.columns[0].name == "\\x80b"
    assert wire.send(encoder.origin(0, b"o\xfe")).name == "o\\xfe"
    assert wire.send(encoder.logical_message(0, b"\xfd", b"", False)).prefix == "\\xfd"
    assert wire.send(encoder.begin_prepare(0, 0, 0, 1, b"g\xff")).gid == "g\\xff"
    assert wire.send(encoder.type_(1, b"\xed\xa0\x80", b"")).schema == "\\xed\\xa0\\x80"


def test_type(wire: Wire) -> None:
    assert wire.send(BEGIN, encoder.type_(16999, "public", "mood")) == Type(16999, "public", "mood")


def test_type_modifiers_are_signed_and_oids_are_not(wire: Wire) -> None:
    columns = [column("a", 2**32 - 1, -(2**31)), column("b", 1043, 68)]
    relation = wire.send(encoder.relation(2**32 - 1, "s", "t", "d", columns))
    assert relation.oid == 2**32 - 1
    assert relation.columns == (
        Column("a", 2**32 - 1, -(2**31), False),
        Column("b", 1043, 68, False),
    )


def test_other_flags_of_a_column_are_not_the_key(wire: Wire) -> None:
    columns = [b"\x02" + column("a", 23)[1:], b"\xff" + column("b", 23)[1:]]
    relation = wire.send(encoder.relation(1, "s", "t", "d", columns))
    assert [column.is_key for column in relation.columns] == [False, True]


def test_relation_that_comes_again(users: Wire) -> None:
    first = users.decoder.relations[USERS_OID]
    assert users.send(R_USERS) == first
    changed = encoder.relation(USERS_OID, "public", "users", "d", [column("id", 20)])
    assert users.send(changed) != first
    assert users.send(encoder.insert(USERS_OID, [text("1")])).new == {"id": 1}
    assert users.decoder.relations[USERS_OID].columns == (Column("id", 20, -1, False),)
    error = users.refuse(encoder.insert(USERS_OID, row(1)))
    assert (error.kind, error.offset) == ("Insert", HEADER + 6)


def test_events_keep_the_relation_of_their_time(users: Wire) -> None:
    before = users.send(encoder.insert(USERS_OID, row(1)))
    users.send(encoder.relation(USERS_OID, "public", "people", "d", []))
    assert before.relation == USERS


def test_relations_is_a_copy(users: Wire) -> None:
    users.decoder.relations.clear()
    assert users.decoder.relations == {USERS_OID: USERS}
    with pytest.raises(AttributeError):
        users.decoder.relations = {}


def test_relation_without_columns(wire: Wire) -> None:
    wire.send(encoder.relation(1, "public", "z", "f", []))
    assert wire.send(encoder.insert(1, [])).new == {}
    update = wire.send(encoder.update(1, [], old=[]))
    assert (update.old, update.new) == ({}, {})
    assert wire.send(encoder.delete(1, old=[])).old == {}


def test_as_many_columns_as_the_server_allows(wire: Wire) -> None:
    columns = [column(f"c{i}", 23) for i in range(1600)]
    assert len(wire.send(encoder.relation(1, "s", "t", "d", columns)).columns) == 1600
    new = wire.send(encoder.insert(1, [text(str(i)) for i in range(1600)])).new
    assert new == {f"c{i}": i for i in range(1600)}


@pytest.mark.parametrize("width", [1601, 0x7FFF, 0x8000, 0xFFFF])
def test_more_columns_than_the_server_allows(wire: Wire, width: int) -> None:
    message = encoder.relation(1, "s", "t", "d", [])[:-2] + width.to_bytes(2, "big")
    error = wire.refuse(message)
    assert (error.kind, error.offset) == ("Relation", HEADER + 10)
    message = encoder.relation(1, "s", "t", "d", [column("c", 23)] * width)
    error = wire.refuse(message)
    assert (error.kind, error.offset) == ("Relation", HEADER + 10)
    assert wire.decoder.relations == {}


@pytest.mark.parametrize(
    "message",
    [
        encoder.insert(99, []),
        encoder.update(99, []),
        encoder.delete(99, key=[]),
        encoder.truncate([99]),
    ],
    ids="IUDT",
)
def test_relation_that_was_not_announced(users: Wire, message: bytes) -> None:
    error = users.refuse(message)
    assert error.kind in ("Insert", "Update", "Delete", "Truncate")
    assert error.offset == HEADER + (6 if error.kind == "Truncate" else 1)
    assert "99" in error.message


# Rows.


def test_null(users: Wire) -> None:
    event = users.send(encoder.insert(USERS_OID, [text("1"), NULL, NULL]))
    assert event.new == {"id": 1, "name": None, "bio": None}


def test_empty_values(users: Wire) -> None:
    assert users.send(encoder.insert(USERS_OID, [text("1"), text(""), binary(b"")])).new == {
        "id": 1,
        "name": "",
        "bio": "",
    }


def test_text_and_binary_in_one_row(users: Wire) -> None:
    cells = [binary(b"\0\0\0\x07"), text("text"), binary(b"binary")]
    assert users.send(encoder.insert(USERS_OID, cells)).new == {
        "id": 7,
        "name": "text",
        "bio": "binary",
    }


def test_text_that_is_not_utf8_is_bytes(users: Wire) -> None:
    cells = [text("1"), text(b"a\xff"), binary(b"\xc3")]
    assert users.send(encoder.insert(USERS_OID, cells)).new == {
        "id": 1,
        "name": b"a\xff",
        "bio": b"\xc3",
    }


def test_update_without_an_old_row(users: Wire) -> None:
    users.send(BEGIN)
    event = users.send(encoder.update(USERS_OID, row(1)))
    values = {"id": 1, "name": "a", "bio": "b"}
    assert event == Update(USERS, None, values, LSN(0x100), 733, LSN(0x500), TIME, 0)


def test_update_of_the_key(users: Wire) -> None:
    event = users.send(encoder.update(USERS_OID, row(2), key=[text("1"), NULL, NULL]))
    assert event.old == {"id": 1}
    assert event.new == {"id": 2, "name": "a", "bio": "b"}


def test_update_under_full_identity(users: Wire) -> None:
    old = [text("1"), NULL, text("x")]
    event = users.send(encoder.update(USERS_OID, row(2), old=old))
    assert event.old == {"id": 1, "name": None, "bio": "x"}
    assert event.new == {"id": 2, "name": "a", "bio": "b"}


def test_delete(users: Wire) -> None:
    users.send(BEGIN)
    event = users.send(encoder.delete(USERS_OID, key=[text("1"), NULL, NULL]))
    assert event == Delete(USERS, {"id": 1}, LSN(0x100), 733, LSN(0x500), TIME, 0)
    event = users.send(encoder.delete(USERS_OID, old=row(1)))
    assert event.old == {"id": 1, "name": "a", "bio": "b"}


def test_key_of_several_columns_keeps_their_order(wire: Wire) -> None:
    columns = [column("a", 25, is_key=True), column("b", 25), column("c", 25, is_key=True)]
    wire.send(encoder.relation(1, "s", "t", "i", columns))
    event = wire.send(encoder.delete(1, key=[text("A"), NULL, text("C")]))
    assert list(event.old.items()) == [("a", "A"), ("c", "C")]


def test_null_in_a_key_column_is_no_value(wire: Wire) -> None:
    """A key holds none: the key that was sent is another one, that of a partition."""
    columns = [column(name, 25, is_key=True) for name in "abc"]
    wire.send(encoder.relation(1, "s", "t", "i", columns))
    old = {"a": "A", "b": messages.UNCHANGED, "c": messages.UNCHANGED}
    key = [text("A"), NULL, NULL]
    assert wire.send(encoder.delete(1, key=key)).old == old
    event = wire.send(encoder.update(1, [text("B"), UNCHANGED, NULL], key=key))
    assert event.old == old
    assert event.new == {"a": "B", "b": messages.UNCHANGED, "c": None}


def test_what_stands_beside_the_key_is_no_value(users: Wire) -> None:
    event = users.send(encoder.delete(USERS_OID, key=[text("1"), text("x"), binary(b"y")]))
    assert event.old == {"id": 1}


def test_unchanged_toast(users: Wire) -> None:
    event = users.send(encoder.update(USERS_OID, [text("1"), text("a"), UNCHANGED]))
    assert event.new["bio"] is messages.UNCHANGED
    assert event.old is None


def test_unchanged_toast_is_filled_in_from_a_whole_old_row(users: Wire) -> None:
    new = [text("1"), UNCHANGED, UNCHANGED]
    event = users.send(encoder.update(USERS_OID, new, old=[text("1"), NULL, text("long")]))
    # A NULL is not TOASTed: the old row is not whole, but the key of a partition.
    assert event.new == {"id": 1, "name": messages.UNCHANGED, "bio": "long"}
    assert event.old == {"id": 1, "name": None, "bio": "long"}


def test_unchanged_toast_in_the_key_is_filled_in_from_the_key(users: Wire) -> None:
    new = [UNCHANGED, text("a"), UNCHANGED]
    event = users.send(encoder.update(USERS_OID, new, key=[text("1"), NULL, NULL]))
    assert event.old == {"id": 1}
    # What a key-only row has beside the key is not NULL: it says nothing.
    assert event.new == {"id": 1, "name": "a", "bio": messages.UNCHANGED}


def test_unchanged_toast_in_an_old_row(users: Wire) -> None:
    old = [text("1"), UNCHANGED, NULL]
    event = users.send(encoder.update(USERS_OID, [text("1"), UNCHANGED, NULL], old=old))
    assert event.old["name"] is messages.UNCHANGED
    assert event.new["name"] is messages.UNCHANGED


@pytest.mark.parametrize(
    ("message", "kind", "offset"),
    [
        (encoder.insert(USERS_OID, row(1)[:2]), "Insert", 6),
        (encoder.insert(USERS_OID, [*row(1), NULL]), "Insert", 6),
        (encoder.update(USERS_OID, row(1), key=[NULL]), "Update", 6),
        (encoder.update(USERS_OID, []), "Update", 6),
        (encoder.update(USERS_OID, [], key=[NULL] * 3), "Update", 12),
        (encoder.delete(USERS_OID, old=[]), "Delete", 6),
    ],
)
def test_as_many_cells_as_columns(users: Wire, message: bytes, kind: str, offset: int) -> None:
    error = users.refuse(message)
    assert (error.kind, error.offset) == (kind, HEADER + offset)
    assert "public.users" in error.message


def _marked(message: bytes, marker: bytes) -> bytes:
    return message[:5] + marker + message[6:]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (_marked(encoder.insert(USERS_OID, row(1)), b"K"), "Insert"),
        (_marked(encoder.insert(USERS_OID, row(1)), b"O"), "Insert"),
        (_marked(encoder.insert(USERS_OID, row(1)), b"x"), "Insert"),
        (_marked(encoder.update(USERS_OID, row(1)), b"x"), "Update"),
        (_marked(encoder.delete(USERS_OID, old=row(1)), b"N"), "Delete"),
        (_marked(encoder.delete(USERS_OID, old=row(1)), b"\0"), "Delete"),
    ],
)
def test_unknown_marker_of_a_tuple(users: Wire, message: bytes, kind: str) -> None:
    error = users.refuse(message)
    assert (error.kind, error.offset) == (kind, HEADER + 5)


def test_update_whose_second_tuple_is_no_new_row(users: Wire) -> None:
    old = encoder.update(USERS_OID, [], key=[NULL] * 3)[:11]
    for marker in (b"K", b"O", b"x"):
        error = users.refuse(old + marker + encoder.tuple_data(row(1)))
        assert (error.kind, error.offset) == ("Update", HEADER + 11)
    error = users.refuse(old)
    assert (error.kind, error.offset) == ("Update", HEADER + 11)


@pytest.mark.parametrize("kind", [b"N", b"x", b"\0", b"\xff"])
def test_unknown_kind_of_cell(users: Wire, kind: bytes) -> None:
    error = users.refuse(encoder.insert(USERS_OID, [NULL, kind, NULL]))
    assert (error.kind, error.offset) == ("Insert", HEADER + 9)


@pytest.mark.parametrize("size", [2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
@pytest.mark.parametrize("format_", [b"t", b"b"])
def test_value_longer_than_the_message(users: Wire, format_: bytes, size: int) -> None:
    cell = format_ + size.to_bytes(4, "big") + b"1"
    error = users.refuse(encoder.insert(USERS_OID, [NULL, NULL, cell]))
    assert (error.kind, error.offset) == ("Insert", HEADER + 15)
    assert "truncated" in error.message


def test_malformed_value(users: Wire) -> None:
    error = users.refuse(encoder.insert(USERS_OID, [text("one"), NULL, NULL]), lsn=0x777)
    assert (error.kind, error.offset, error.lsn) == ("Insert", HEADER + 13, LSN(0x777))
    for part in ("'id'", "23", "public.users", "text"):
        assert part in error.message
    error = users.refuse(encoder.insert(USERS_OID, [binary(b"12345"), NULL, NULL]))
    assert (error.kind, error.offset) == ("Insert", HEADER + 13)
    assert "binary" in error.message


def test_malformed_value_of_an_old_row(users: Wire) -> None:
    error = users.refuse(encoder.update(USERS_OID, row(1), key=[text("x"), NULL, NULL]))
    assert (error.kind, error.offset) == ("Update", HEADER + 13)
    error = users.refuse(encoder.delete(USERS_OID, old=[text("x"), NULL, NULL]))
    assert (error.kind, error.offset) == ("Delete", HEADER + 13)


@pytest.mark.parametrize(
    "message",
    [
        BEGIN,
        COMMIT,
        encoder.origin(1, "o"),
        R_USERS,
        encoder.type_(1, "s", "t"),
        encoder.insert(USERS_OID, row(1)),
        encoder.update(USERS_OID, row(1)),
        encoder.delete(USERS_OID, old=row(1)),
        encoder.truncate([USERS_OID]),
        encoder.logical_message(1, "p", b"c"),
        encoder.stream_start(7, True),
        encoder.stream_commit(7, 1, 2, US),
        encoder.stream_abort(7, 7, 1, US),
        encoder.begin_prepare(1, 2, US, 7, "g"),
        encoder.prepare(1, 2, US, 7, "g"),
        encoder.commit_prepared(1, 2, US, 7, "g"),
        encoder.rollback_prepared(1, 2, US, US, 7, "g"),
        encoder.stream_prepare(1, 2, US, 7, "g"),
    ],
    ids="BCORYIUDTMScAbPKrp",
)
def test_bytes_too_many(users: Wire, message: bytes) -> None:
    error = users.refuse(message + b"\0\0")
    assert error.offset == HEADER + len(message)
    assert "2 bytes too many" in error.message
    assert type(users.send(message)).__name__ == error.kind


# Truncate and logical messages.


@pytest.mark.parametrize("cascade", [False, True])
@pytest.mark.parametrize("restart_identity", [False, True])
def test_truncate(users: Wire, cascade: bool, restart_identity: bool) -> None:
    users.send(encoder.relation(7, "public", "other", "d", []), BEGIN)
    event = users.send(encoder.truncate([7, USERS_OID], cascade, restart_identity))
    other = users.decoder.relations[7]
    assert event == Truncate(
        (other, USERS), cascade, restart_identity, LSN(0x100), 733, LSN(0x500), TIME, 0
    )
    assert (event.cascade, event.restart_identity) == (cascade, restart_identity)
    assert type(event.cascade) is type(event.restart_identity) is bool
    assert type(event.relations) is tuple


@pytest.mark.parametrize("count", [2, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_truncate_of_more_relations_than_bytes(users: Wire, count: int) -> None:
    message = b"T" + count.to_bytes(4, "big") + b"\0" + USERS_OID.to_bytes(4, "big")
    error = users.refuse(message)
    assert (error.kind, error.offset) == ("Truncate", HEADER + 6)
    assert "truncated" in error.message


def test_truncate_of_a_relation_that_was_not_announced(users: Wire) -> None:
    error = users.refuse(encoder.truncate([USERS_OID, 99, USERS_OID]))
    assert (error.kind, error.offset) == ("Truncate", HEADER + 10)


def test_unknown_flags_of_truncate(users: Wire) -> None:
    message = encoder.truncate([USERS_OID])
    error = users.refuse(message[:5] + b"\x04" + message[6:])
    assert (error.kind, error.offset) == ("Truncate", HEADER + 5)


def test_logical_message(wire: Wire) -> None:
    wire.send(BEGIN)
    event = wire.send(encoder.logical_message(0x300, "prefix", b"\0\xff"), lsn=0x999)
    assert event == LogicalMessage("prefix", b"\0\xff", True, LSN(0x300), 733, LSN(0x500), TIME, 0)
    assert type(event.lsn) is LSN
    assert type(event.content) is bytes


def test_logical_message_outside_a_transaction(wire: Wire) -> None:
    event = wire.send(encoder.logical_message(0x300, "", b"", False))
    assert event == LogicalMessage("", b"", False, LSN(0x300), None, None, None, None)
    wire.send(BEGIN)
    assert wire.send(encoder.logical_message(0x300, "", b"", False)).xid is None
    assert wire.send(encoder.logical_message(0x300, "", b"")).ordinal == 0


@pytest.mark.parametrize("size", [4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_logical_message_longer_than_its_bytes(wire: Wire, size: int) -> None:
    message = encoder.logical_message(0x300, "pp", b"abc")
    error = wire.refuse(message[:13] + size.to_bytes(4, "big") + message[17:])
    assert (error.kind, error.offset) == ("LogicalMessage", HEADER + 17)
    error = wire.refuse(message[:13] + b"\0\0\0\2" + message[17:])
    assert (error.kind, error.offset) == ("LogicalMessage", HEADER + 19)


def test_unknown_flags_of_a_logical_message(wire: Wire) -> None:
    message = encoder.logical_message(0x300, "p", b"")
    error = wire.refuse(message[:1] + b"\x02" + message[2:])
    assert (error.kind, error.offset) == ("LogicalMessage", HEADER + 1)


# Prepared transactions.


def test_prepared_transaction(users: Wire) -> None:
    begin = users.send(encoder.begin_prepare(0x500, 0x530, US, 733, "a'b"))
    assert begin == BeginPrepare(733, "a'b", LSN(0x500), LSN(0x530), TIME)
    event = users.send(encoder.insert(USERS_OID, row(1)))
    values = {"id": 1, "name": "a", "bio": "b"}
    assert event == Insert(USERS, values, LSN(0x100), 733, LSN(0x500), TIME, 0, "a'b")
    for message in (
        encoder.update(USERS_OID, row(1)),
        encoder.delete(USERS_OID, old=row(1)),
        encoder.truncate([USERS_OID]),
        encoder.logical_message(0x300, "p", b""),
    ):
        event = users.send(message)
        assert (event.gid, event.xid, event.commit_lsn) == ("a'b", 733, LSN(0x500))
    end = users.send(encoder.prepare(0x500, 0x530, US, 733, "a'b"))
    assert end == Prepare(733, "a'b", LSN(0x500), LSN(0x530), TIME)
    event = users.send(encoder.insert(USERS_OID, row(1)))
    assert (event.gid, event.xid, event.commit_lsn, event.ordinal) == (None, None, None, 0)


def test_gid_ends_with_its_transaction(users: Wire) -> None:
    users.send(encoder.begin_prepare(1, 2, US, 700, "g"), encoder.prepare(1, 2, US, 700, "g"))
    users.send(BEGIN)
    assert users.send(encoder.insert(USERS_OID, row(1))).gid is None


def test_commit_prepared(wire: Wire) -> None:
    event = wire.send(encoder.commit_prepared(0x600, 0x630, US, 733, "g"))
    assert event == CommitPrepared(733, "g", LSN(0x600), LSN(0x630), TIME)


def test_rollback_prepared(wire: Wire) -> None:
    message = encoder.rollback_prepared(0x530, 0x630, US, US + 1_000_000, 733, "g")
    assert wire.send(message) == RollbackPrepared(733, "g", LSN(0x530), LSN(0x630), TIME, LATER)


def test_longest_gid(wire: Wire) -> None:
    gid = "x" * 199
    assert wire.send(encoder.commit_prepared(1, 2, US, 7, gid)).gid == gid


# Streamed transactions.


def test_stream_block(users: Wire) -> None:
    assert users.send(encoder.stream_start(700, True)) == StreamStart(700, True)
    event = users.send(encoder.insert(USERS_OID, row(1), xid=701))
    values = {"id": 1, "name": "a", "bio": "b"}
    assert event == Insert(USERS, values, LSN(0x100), 701, None, None, 0)
    assert users.send(encoder.stream_stop()) == StreamStop()
    start = users.send(encoder.stream_start(700, False))
    assert start == StreamStart(700, False)
    assert start.first is False
    assert users.send(encoder.insert(USERS_OID, row(1), xid=702)).ordinal == 1


def test_every_change_of_a_block_has_an_xid(wire: Wire) -> None:
    wire.send(encoder.stream_start(700, True))
    assert wire.send(encoder.type_(20000, "s", "t", xid=701)) == Type(20000, "s", "t")
    columns = [column("id", 23, is_key=True)]
    relation = wire.send(encoder.relation(1, "s", "t", "d", columns, xid=701))
    assert relation == Relation(1, "s", "t", "d", (Column("id", 23, -1, True),))
    one = [text("1")]
    events = [
        wire.send(encoder.insert(1, one, xid=701)),
        wire.send(encoder.update(1, one, key=one, xid=702)),
        wire.send(encoder.delete(1, key=one, xid=703)),
        wire.send(encoder.truncate([1, 1], xid=704)),
        wire.send(encoder.logical_message(0x300, "p", b"c", xid=700)),
    ]
    assert [event.xid for event in events] == [701, 702, 703, 704, 700]
    assert [event.ordinal for event in events] == [0, 1, 2, 3, 5]
    assert {(event.commit_lsn, event.commit_time, event.gid) for event in events} == {
        (None, None, None)
    }
    assert wire.send(encoder.origin(0, "o")) == Origin("o", LSN(0))


def test_ordinals_count_through_the_blocks_of_each_transaction(users: Wire) -> None:
    def block(top: int, first: bool) -> list[int]:
        users.send(encoder.stream_start(top, first))
        found = [users.send(encoder.insert(USERS_OID, row(1), xid=top)).ordinal for _ in range(2)]
        users.send(encoder.stream_stop())
        return found

    assert block(700, True) == [0, 1]
    assert block(800, True) == [0, 1]
    assert users.send(BEGIN, encoder.insert(USERS_OID, row(1))).ordinal == 0
    assert users.send(COMMIT) == Commit(733, LSN(0x500), LSN(0x530), TIME)
    assert block(700, False) == [2, 3]
    users.send(encoder.stream_abort(700, 701))
    assert block(700, False) == [4, 5]
    assert block(800, False) == [2, 3]
    users.send(encoder.stream_commit(700, 1, 2, US))
    assert block(700, True) == [0, 1]


def test_first_block_begins_anew(users: Wire) -> None:
    """After a reconnection the server sends a transaction again from its first block."""
    users.send(encoder.stream_start(700, True))
    assert users.send(encoder.insert(USERS_OID, row(1), xid=700)).ordinal == 0
    users.send(encoder.stream_stop(), encoder.stream_start(700, True))
    assert users.send(encoder.insert(USERS_OID, row(1), xid=700)).ordinal == 0


def test_later_block_of_an_unknown_transaction(users: Wire) -> None:
    users.send(encoder.stream_start(700, False))
    assert users.send(encoder.insert(USERS_OID, row(1), xid=700)).ordinal == 0


def test_block_leaves_nothing_to_what_follows(users: Wire) -> None:
    users.send(encoder.stream_start(700, True), encoder.stream_stop())
    event = users.send(encoder.insert(USERS_OID, row(1)))
    assert (event.xid, event.commit_lsn, event.ordinal) == (None, None, 0)


def test_not_transactional_message_in_a_block(wire: Wire) -> None:
    wire.send(encoder.stream_start(700, True))
    event = wire.send(encoder.logical_message(0x300, "p", b"", False, xid=700))
    assert (event.xid, event.ordinal) == (None, None)


def test_stream_commit(wire: Wire) -> None:
    event = wire.send(encoder.stream_commit(700, 0x500, 0x530, US))
    assert event == StreamCommit(700, LSN(0x500), LSN(0x530), TIME)


def test_stream_abort_of_both_lengths(wire: Wire) -> None:
    assert wire.send(encoder.stream_abort(700, 701)) == StreamAbort(700, 701, None, None)
    assert wire.send(encoder.stream_abort(700, 700, 0x600, US)) == StreamAbort(
        700, 700, LSN(0x600), TIME
    )


@pytest.mark.parametrize("length", range(10, 25))
def test_stream_abort_of_another_length(wire: Wire, length: int) -> None:
    error = wire.refuse(encoder.stream_abort(700, 700, 0x600, US)[:length])
    assert (error.kind, error.offset) == ("StreamAbort", HEADER + (9 if length < 17 else 17))


def test_stream_prepare(wire: Wire) -> None:
    event = wire.send(encoder.stream_prepare(0x500, 0x530, US, 700, "g"))
    assert event == StreamPrepare(700, "g", LSN(0x500), LSN(0x530), TIME)


NARROW = encoder.relation(USERS_OID, "public", "users", "d", [column("id", 25)])
NARROW_IN_BLOCK = encoder.relation(USERS_OID, "public", "users", "d", [column("id", 25)], xid=700)


def test_relation_of_a_block_is_its_transactions_own(users: Wire) -> None:
    users.send(encoder.stream_start(700, True), NARROW_IN_BLOCK)
    assert users.send(encoder.insert(USERS_OID, [text("x")], xid=700)).new == {"id": "x"}
    assert users.decoder.relations == {USERS_OID: USERS}
    users.send(encoder.stream_stop())
    assert users.send(encoder.insert(USERS_OID, row(1))).relation == USERS
    users.send(encoder.stream_start(800, True))
    assert users.send(encoder.insert(USERS_OID, row(1), xid=800)).relation == USERS
    users.send(encoder.stream_stop(), encoder.stream_start(700, False))
    assert users.send(encoder.insert(USERS_OID, [text("x")], xid=701)).new == {"id": "x"}


def test_relation_of_a_block_counts_for_all_after_its_commit(users: Wire) -> None:
    users.send(encoder.stream_start(700, True), NARROW_IN_BLOCK, encoder.stream_stop())
    users.send(encoder.stream_commit(700, 1, 2, US))
    assert users.send(encoder.insert(USERS_OID, [text("x")])).new == {"id": "x"}
    assert users.decoder.relations[USERS_OID].columns == (Column("id", 25, -1, False),)


@pytest.mark.parametrize(
    "end",
    [
        encoder.stream_abort(700, 700),
        encoder.stream_abort(700, 700, 0x600, US),
        encoder.stream_prepare(1, 2, US, 700, "g"),
    ],
    ids=["A", "A-parallel", "p"],
)
def test_relation_of_a_block_is_dropped_with_it(users: Wire, end: bytes) -> None:
    users.send(encoder.stream_start(700, True), NARROW_IN_BLOCK, encoder.stream_stop(), end)
    assert users.decoder.relations == {USERS_OID: USERS}
    users.send(encoder.stream_commit(700, 1, 2, US))
    assert users.decoder.relations == {USERS_OID: USERS}
    users.send(encoder.stream_start(700, False))
    assert users.send(encoder.insert(USERS_OID, row(1), xid=700)).relation == USERS


def test_relation_of_a_block_outlives_an_aborted_subtransaction(users: Wire) -> None:
    users.send(encoder.stream_start(700, True), NARROW_IN_BLOCK, encoder.stream_stop())
    users.send(encoder.stream_abort(700, 701), encoder.stream_start(700, False))
    assert users.send(encoder.insert(USERS_OID, [text("x")], xid=700)).new == {"id": "x"}


def test_newer_relation_is_not_undone_by_an_older_transaction(users: Wire) -> None:
    users.send(encoder.stream_start(700, True), NARROW_IN_BLOCK, encoder.stream_stop())
    users.send(R_USERS)  # the same as before, but said later
    users.send(encoder.stream_commit(700, 1, 2, US))
    assert users.decoder.relations == {USERS_OID: USERS}


def test_later_of_two_streamed_relations_stays(wire: Wire) -> None:
    for top, name in ((700, "early"), (800, "late")):
        wire.send(encoder.stream_start(top, True))
        wire.send(encoder.relation(1, "s", name, "d", [], xid=top), encoder.stream_stop())
    wire.send(encoder.stream_commit(800, 1, 2, US), encoder.stream_commit(700, 3, 4, US))
    assert wire.decoder.relations[1].table == "late"


@pytest.mark.parametrize(
    "message",
    [
        BEGIN,
        COMMIT,
        encoder.stream_start(800, True),
        encoder.stream_start(700, False),
        encoder.stream_commit(700, 1, 2, US),
        encoder.stream_abort(700, 701),
        encoder.begin_prepare(1, 2, US, 7, "g"),
        encoder.prepare(1, 2, US, 7, "g"),
        encoder.commit_prepared(1, 2, US, 7, "g"),
        encoder.rollback_prepared(1, 2, US, US, 7, "g"),
        encoder.stream_prepare(1, 2, US, 700, "g"),
    ],
    ids=["B", "C", "S", "S-same", "c", "A", "b", "P", "K", "r", "p"],
)
def test_what_cannot_stand_in_a_block(users: Wire, message: bytes) -> None:
    users.send(encoder.stream_start(700, True))
    error = users.refuse(message)
    assert error.offset == HEADER
    assert "streamed" in error.message
    # The block is still open.
    assert users.send(encoder.insert(USERS_OID, row(1), xid=701)).xid == 701
    users.send(encoder.stream_stop())
    assert type(users.send(message)).__name__ == error.kind


def test_stream_stop_outside_a_block(wire: Wire) -> None:
    error = wire.refuse(encoder.stream_stop())
    assert (error.kind, error.offset) == ("StreamStop", HEADER)


def test_unknown_flags_of_stream_start(wire: Wire) -> None:
    error = wire.refuse(b"S" + bytes(4) + b"\x02")
    assert (error.kind, error.offset) == ("StreamStart", HEADER + 5)
    assert wire.refuse(encoder.stream_stop()).kind == "StreamStop"


def test_keepalive_within_a_block(users: Wire) -> None:
    users.send(encoder.stream_start(700, True))
    assert type(users.decoder.decode(encoder.keepalive(1))) is Keepalive
    assert users.send(encoder.insert(USERS_OID, row(1), xid=700)).xid == 700


# After an error.


def test_error_takes_no_ordinal(users: Wire) -> None:
    users.send(BEGIN)
    users.send(encoder.insert(USERS_OID, row(1)))
    users.refuse(encoder.insert(USERS_OID, row(2))[:-1])
    users.refuse(encoder.insert(USERS_OID, row(2)) + b"\0")
    users.refuse(encoder.insert(USERS_OID, [text("x"), NULL, NULL]))
    users.refuse(encoder.truncate([USERS_OID, 99]))
    users.refuse(encoder.logical_message(1, "p", b"abc")[:-1])
    event = users.send(encoder.insert(USERS_OID, row(2)))
    assert (event.ordinal, event.xid) == (1, 733)


def test_malformed_commit_ends_nothing(users: Wire) -> None:
    users.send(BEGIN)
    users.refuse(COMMIT[:-1])
    assert users.send(encoder.insert(USERS_OID, row(1))).xid == 733
    users.refuse(COMMIT + b"\0")
    assert users.send(COMMIT).xid == 733


def test_malformed_begin_opens_nothing(users: Wire) -> None:
    users.refuse(BEGIN + b"\0")
    users.refuse(encoder.begin_prepare(1, 2, US, 7, "g") + b"\0")
    event = users.send(encoder.insert(USERS_OID, row(1)))
    assert (event.xid, event.gid) == (None, None)


def test_malformed_relation_changes_nothing(users: Wire) -> None:
    users.refuse(NARROW[:-1])
    users.refuse(NARROW + b"\0")
    assert users.decoder.relations == {USERS_OID: USERS}
    assert users.send(encoder.insert(USERS_OID, row(1))).relation == USERS


def test_malformed_end_of_a_streamed_transaction_drops_nothing(users: Wire) -> None:
    users.send(encoder.stream_start(700, True), NARROW_IN_BLOCK, encoder.stream_stop())
    users.refuse(encoder.stream_commit(700, 1, 2, US)[:-1])
    users.refuse(encoder.stream_abort(700, 700)[:-1])
    users.refuse(encoder.stream_abort(700, 700) + b"\0")
    users.refuse(encoder.stream_prepare(1, 2, US, 700, "g")[:-1])
    assert users.decoder.relations == {USERS_OID: USERS}
    users.send(encoder.stream_commit(700, 1, 2, US))
    assert users.decoder.relations[USERS_OID].columns == (Column("id", 25, -1, False),)


def test_malformed_bounds_of_a_block(users: Wire) -> None:
    users.refuse(encoder.stream_start(700, True)[:-1])
    users.refuse(encoder.stream_start(700, True) + b"\0")
    assert users.send(encoder.insert(USERS_OID, row(1))).xid is None
    users.send(encoder.stream_start(700, True))
    users.refuse(encoder.stream_stop() + b"\0")
    assert users.send(encoder.insert(USERS_OID, row(1), xid=700)).xid == 700


# Buffers.


@pytest.mark.parametrize(
    "buffer",
    [
        bytes,
        bytearray,
        memoryview,
        lambda payload: memoryview(bytearray(payload)),
        lambda payload: memoryview(b"--" + payload + b"--")[2:-2],
        lambda payload: array.array("b", payload),
        type("Bytes", (bytes,), {}),
    ],
    ids=["bytes", "bytearray", "view", "view-writable", "view-slice", "array", "subclass"],
)
def test_any_buffer(users: Wire, buffer: Callable[[bytes], Any]) -> None:
    payload = encoder.xlogdata(encoder.insert(USERS_OID, row(1)), 0x100)
    event = users.decoder.decode(buffer(payload))
    assert event.new == {"id": 1, "name": "a", "bio": "b"}
    error = refused(users.decoder, buffer(payload[:-1]))
    assert (error.kind, error.offset) == ("Insert", len(payload) - 1)


@pytest.mark.parametrize("payload", [None, 5, 0, "w", [0x77], object()])
def test_what_is_no_buffer(wire: Wire, payload: Any) -> None:
    with pytest.raises(TypeError):
        wire.decoder.decode(payload)
    with pytest.raises(TypeError):
        wire.decoder.decode_many([payload])


def test_buffer_is_not_kept(users: Wire) -> None:
    columns = [column("t", 25), column("b", 17), column("j", 114), column("u", 16999)]
    users.send(encoder.relation(1, "s", "t", "d", columns))
    cells = [text("text"), binary(b"bytea"), text('"json"'), binary(b"unknown")]
    buffers = [
        bytearray(encoder.xlogdata(message))
        for message in (
            encoder.insert(1, cells),
            encoder.logical_message(1, "prefix", b"content", False),
            encoder.relation(2, "schema", "table", "d", [column("column", 23)]),
            encoder.origin(1, "origin"),
        )
    ]
    events = [users.decoder.decode(buffer) for buffer in buffers]
    shown = [repr(event) for event in events]
    for buffer in buffers:
        buffer[:] = b"\xff" * len(buffer)
        buffer.extend(b"more")  # refused while anything holds the buffer
        buffer.clear()
    assert [repr(event) for event in events] == shown
    assert events[0].new == {"t": "text", "b": b"bytea", "j": "json", "u": b"unknown"}
    assert [type(value) for value in events[0].new.values()] == [str, bytes, str, bytes]


def test_buffer_is_not_kept_after_an_error(users: Wire) -> None:
    buffer = bytearray(encoder.xlogdata(encoder.insert(USERS_OID, row(1))[:-1]))
    error = refused(users.decoder, buffer)
    buffer.clear()
    assert error.kind == "Insert"


def test_no_reference_to_the_payload(users: Wire) -> None:
    payload = encoder.xlogdata(encoder.insert(USERS_OID, row(1)))
    before = sys.getrefcount(payload)
    events = [users.decoder.decode(payload), *users.decoder.decode_many([payload, payload])]
    refused(users.decoder, payload[:-1])
    assert [event.new["id"] for event in events] == [1, 1, 1]
    assert sys.getrefcount(payload) == before


# Many payloads.


def test_decode_many(wire: Wire) -> None:
    payloads = [
        encoder.keepalive(1, US),
        encoder.xlogdata(R_USERS),
        encoder.primary_status(1),
        encoder.xlogdata(BEGIN),
        bytearray(encoder.xlogdata(encoder.insert(USERS_OID, row(1)))),
        memoryview(encoder.xlogdata(COMMIT)),
    ]
    events = wire.decoder.decode_many(payloads)
    assert type(events) is list
    assert [type(event) for event in events] == [Keepalive, Relation, Begin, Insert, Commit]
    assert events[3].xid == 733
    assert wire.decoder.decode_many(payload for payload in payloads) == events
    assert wire.decoder.decode_many([]) == []


def test_decode_many_stops_at_the_first_error(users: Wire) -> None:
    payloads = [encoder.xlogdata(BEGIN), b"?", encoder.xlogdata(COMMIT)]
    with pytest.raises(ProtocolError) as caught:
        users.decoder.decode_many(payloads)
    assert caught.value.kind == "CopyData"
    # What came before it has been decoded, what comes after it has not.
    assert users.send(encoder.insert(USERS_OID, row(1))).xid == 733


# Row factories.

THREE = [column("a", 23, is_key=True), column("b", 25), column("c", 25, is_key=True)]
CELLS = [text("1"), text("x"), text("y")]
KEY = [text("0"), NULL, text("z")]


def test_dict_row_is_the_default(decoder_impl: Any) -> None:
    for wire in (Wire(decoder_impl()), Wire(decoder_impl(row_factory=dict_row))):
        wire.send(encoder.relation(1, "s", "t", "i", THREE))
        event = wire.send(encoder.update(1, CELLS, key=KEY))
        assert type(event.new) is type(event.old) is dict
        assert list(event.new.items()) == [("a", 1), ("b", "x"), ("c", "y")]
        assert list(event.old.items()) == [("a", 0), ("c", "z")]


def test_tuple_row(decoder_impl: Any) -> None:
    wire = Wire(decoder_impl(row_factory=tuple_row))
    wire.send(encoder.relation(1, "s", "t", "i", THREE))
    event = wire.send(encoder.update(1, CELLS, key=KEY))
    assert type(event.new) is type(event.old) is tuple
    assert (event.old, event.new) == ((0, "z"), (1, "x", "y"))
    assert wire.send(encoder.update(1, [UNCHANGED, NULL, UNCHANGED], old=CELLS)).new == (
        1,
        None,
        "y",
    )
    assert wire.send(encoder.delete(1, old=CELLS)).old == (1, "x", "y")
    assert wire.send(encoder.insert(1, CELLS)).new == (1, "x", "y")


def test_row_factory_of_ones_own(decoder_impl: Any) -> None:
    shapes: list[tuple[str, ...]] = []

    def factory(columns: Sequence[Column]) -> RowMaker:
        assert all(type(column) is Column for column in columns)
        shapes.append(tuple(column.name for column in columns))
        return lambda values: (len(columns), list(values))

    wire = Wire(decoder_impl(row_factory=factory))
    wire.send(encoder.relation(1, "s", "t", "i", THREE))
    assert sorted(shapes) == [("a", "b", "c"), ("a", "c")]
    event = wire.send(encoder.update(1, CELLS, key=KEY))
    assert (event.old, event.new) == ((2, [0, "z"]), (3, [1, "x", "y"]))
    wire.send(encoder.insert(1, CELLS), encoder.relation(1, "s", "t", "i", THREE))
    assert len(shapes) == 2  # once for each shape of row


def test_what_a_row_factory_raises_is_not_hidden(decoder_impl: Any) -> None:
    def factory(columns: Sequence[Column]) -> RowMaker:
        def make(values: Sequence[Any]) -> Any:
            raise LookupError("mine")

        return make

    wire = Wire(decoder_impl(row_factory=factory))
    wire.send(encoder.relation(1, "s", "t", "i", THREE), BEGIN)
    for message in (
        encoder.insert(1, CELLS),
        encoder.update(1, CELLS, key=KEY),
        encoder.delete(1, key=KEY),
        encoder.delete(1, old=CELLS),
    ):
        with pytest.raises(LookupError, match="mine"):
            wire.send(message)
    assert wire.send(encoder.truncate([1])).ordinal == 0


# Options.


def test_values_as_text(decoder_impl: Any) -> None:
    wire = Wire(decoder_impl(values="text"))
    oids = [16, 23, 1700, 17, 114, 1184, 1007, 25, 16999]
    columns = [column(f"c{oid}", oid) for oid in oids]
    wire.send(encoder.relation(1, "s", "t", "f", columns))
    values = ["t", "7", "1.50", "\\x00", '{"a":1}', "2026-11-22 08:12:00+00", "{1,2}", "", "x"]
    event = wire.send(encoder.insert(1, [text(value) for value in values]))
    assert list(event.new.values()) == values
    event = wire.send(
        encoder.update(1, [UNCHANGED] * 9, old=[text(b"\xff"), *[text("not a value")] * 8])
    )
    assert list(event.new.values()) == [b"\xff", *["not a value"] * 8]
    assert event.new == event.old


@pytest.mark.parametrize("type_oid", [23, 25, 16999])
def test_binary_value_where_text_is_wanted(decoder_impl: Any, type_oid: int) -> None:
    wire = Wire(decoder_impl(values="text"))
    wire.send(encoder.relation(1, "s", "t", "d", [column("c", type_oid)]))
    error = wire.refuse(encoder.insert(1, [binary(b"1234")]))
    assert (error.kind, error.offset) == ("Insert", HEADER + 13)
    assert "values='text'" in error.message


def test_unknown_choice_of_values(decoder_impl: Any) -> None:
    with pytest.raises(ValueError, match="'typed' or 'text'"):
        decoder_impl(values="bytes")


def test_options_are_named(decoder_impl: Any) -> None:
    with pytest.raises(TypeError):
        decoder_impl(dict_row)
    with pytest.raises(TypeError):
        decoder_impl(rows=dict_row)


def test_json_loads(decoder_impl: Any) -> None:
    wire = Wire(decoder_impl(json_loads=lambda document: ("parsed", document)))
    columns = [column("a", 114), column("b", 3802), column("c", 3802), column("d", 3807)]
    wire.send(encoder.relation(1, "s", "t", "d", columns))
    cells = [text("1"), text("2"), binary(b"\x013"), text('{4,"[5]"}')]
    assert wire.send(encoder.insert(1, cells)).new == {
        "a": ("parsed", "1"),
        "b": ("parsed", "2"),
        "c": ("parsed", "3"),
        "d": [("parsed", "4"), ("parsed", "[5]")],
    }


def test_json_text(decoder_impl: Any) -> None:
    wire = Wire(decoder_impl(json_loads=JSONText))
    wire.send(encoder.relation(1, "s", "t", "d", [column("a", 114), column("b", 3802)]))
    new = wire.send(encoder.insert(1, [text(' {"a" :1}'), binary(b"\x01[]")])).new
    assert new == {"a": ' {"a" :1}', "b": "[]"}
    assert {type(value) for value in new.values()} == {JSONText}


def test_what_json_loads_refuses_is_text(decoder_impl: Any) -> None:
    def refuse(document: str) -> Any:
        raise ValueError(document)

    wire = Wire(decoder_impl(json_loads=refuse))
    wire.send(encoder.relation(1, "s", "t", "d", [column("a", 114), column("b", 3802)]))
    new = wire.send(encoder.insert(1, [text("{}"), binary(b"\x01[]")])).new
    assert new == {"a": "{}", "b": "[]"}


def test_other_errors_of_json_loads_are_not_hidden(decoder_impl: Any) -> None:
    def fail(document: str) -> Any:
        raise RuntimeError(document)

    wire = Wire(decoder_impl(json_loads=fail))
    wire.send(encoder.relation(1, "s", "t", "d", [column("a", 114)]), BEGIN)
    with pytest.raises(ProtocolError, match="raised RuntimeError: boom"):
        wire.send(encoder.insert(1, [text("boom")]))
    assert wire.send(encoder.insert(1, [NULL])).ordinal == 0


def test_json_loads_is_that_of_the_standard_library_by_default(decoder_impl: Any) -> None:
    wire = Wire(decoder_impl())
    wire.send(encoder.relation(1, "s", "t", "d", [column("a", 114)]))
    document = '{"a": [1, 2.5, null, true, "x"], "a\\u00e9": {}}'
    assert wire.send(encoder.insert(1, [text(document)])).new["a"] == json.loads(document)


# Decoders do not share anything.


def test_two_decoders(decoder_impl: Any) -> None:
    one, other = Wire(decoder_impl()), Wire(decoder_impl())
    one.send(R_USERS, BEGIN)
    assert other.refuse(encoder.insert(USERS_OID, row(1))).kind == "Insert"
    assert other.decoder.relations == {}
    other.send(NARROW)
    assert other.send(encoder.insert(USERS_OID, [text("1")])).xid is None
    assert one.send(encoder.insert(USERS_OID, row(1))).xid == 733
