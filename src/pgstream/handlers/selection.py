"""The choice of tables: which events are left when only some tables are wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from ..config import Table
from ..messages import Delete, Event, Insert, Truncate, Update


def selected(event: Event, tables: Collection[Table]) -> Iterator[Event]:
    """The event, or what is left of it: changes of other tables are left out.

    Args:
        event: Any event; what belongs to no table stays.
        tables: The schema and name of each table that is wanted; all tables if empty.
    """
    if not tables:
        yield event
    elif isinstance(event, Truncate):
        # Each on its own: what stands for a table is its own ordinal.
        for index, relation in enumerate(event.relations):
            if (relation.schema, relation.table) in tables:
                yield dataclasses.replace(
                    event, relations=(relation,), ordinal=event.ordinal + index
                )
    elif not isinstance(event, Insert | Update | Delete) or (
        (event.relation.schema, event.relation.table) in tables
    ):
        yield event
