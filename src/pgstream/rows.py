"""Row factories: what a row of an event is made into.

The idea and the names are psycopg's. A factory is called once for each shape of
row, with its columns, and returns the function that makes a row from the values
in the order of those columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .messages import Column

RowMaker: TypeAlias = Callable[[Sequence[Any]], Any]
RowFactory: TypeAlias = Callable[[Sequence[Column]], RowMaker]


def dict_row(columns: Sequence[Column]) -> RowMaker:
    """Make each row a dict from column name to value (the default)."""
    names = tuple(column.name for column in columns)

    def make(values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(names, values))  # noqa: B905  # as many, or the tuple was refused

    return make


def tuple_row(columns: Sequence[Column]) -> RowMaker:
    """Make each row a tuple, in the order of the relation's columns.

    A key-only ``old`` row holds the key's columns alone, in their order.
    """
    return tuple
