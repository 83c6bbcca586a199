"""Row factories: what a row of an event is made into."""

from __future__ import annotations

from pgstream.messages import Column
from pgstream.rows import dict_row, tuple_row

COLUMNS = (Column("id", 23, -1, True), Column("email", 25, -1, False))


def test_dict_row_keeps_the_order_of_the_columns() -> None:
    row = dict_row(COLUMNS)([1, "a@example.com"])
    assert type(row) is dict
    assert list(row.items()) == [("id", 1), ("email", "a@example.com")]


def test_dict_row_makes_a_new_dict_each_time() -> None:
    make = dict_row(COLUMNS)
    first, second = make([1, "a"]), make([1, "a"])
    first["id"] = 2
    assert second == {"id": 1, "email": "a"}


def test_tuple_row_keeps_the_order_of_the_columns() -> None:
    row = tuple_row(COLUMNS)([1, "a@example.com"])
    assert type(row) is tuple
    assert row == (1, "a@example.com")


def test_no_columns() -> None:
    assert dict_row(())([]) == {}
    assert tuple_row(())([]) == ()
