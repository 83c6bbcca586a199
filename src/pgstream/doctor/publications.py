"""Checks of the publications: whether they are there, of what, and since when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .findings import Finding, Row, Server, quoted

_TABLES_NAMED: Final = 10


def check_publications(server: Server) -> Iterator[Finding]:
    for name in server.config.publications:
        found = server.rows(
            "SELECT *, age(xmin) AS age FROM pg_publication WHERE pubname = %s", name
        )
        if found:
            yield from _check_publication(server, found[0])
            yield from _check_publication_age(server, found[0])
        else:
            yield Finding(
                "problem",
                f"publication {name} does not exist",
                f"CREATE PUBLICATION {quoted(name)} FOR ALL TABLES;",
            )


def _check_publication(server: Server, publication: Row) -> Iterator[Finding]:
    name = publication["pubname"]
    tables = server.rows(
        "SELECT schemaname AS schema, tablename AS table FROM pg_publication_tables "
        "WHERE pubname = %s ORDER BY 1, 2",
        name,
    )
    if not tables and not publication["puballtables"]:
        yield Finding(
            "warning",
            f"publication {name} has no table",
            f"ALTER PUBLICATION {quoted(name)} ADD TABLE schema.table;",
        )
        return
    names = [f"{row['schema']}.{row['table']}" for row in tables]
    if len(names) > _TABLES_NAMED:
        names[_TABLES_NAMED:] = [f"and {len(names) - _TABLES_NAMED} more"]
    text = f"publication {name} has " + ("all tables" if publication["puballtables"] else "")
    text += (" (" + ", ".join(names) + ")") if publication["puballtables"] else ", ".join(names)
    missing = [
        op for op in ("insert", "update", "delete", "truncate") if not publication[f"pub{op}"]
    ]
    if missing:
        text += f", but does not publish {' and '.join(missing)}"
    yield Finding("ok", text)


def _check_publication_age(server: Server, publication: Row) -> Iterator[Finding]:
    """Compare what wrote the publication with the oldest catalog state that the slot may need.

    Publications are looked up as they were at the position being decoded.
    """
    slot = server.slot
    if slot is None or slot["catalog_age"] is None:
        return
    name, position = publication["pubname"], slot["confirmed_flush_lsn"]
    # age() counts transactions backwards from now, and so minds the wrap-around.
    if 0 <= publication["age"] <= slot["catalog_age"]:
        consequence = (
            "changes from before that are left out by the server, and the stream stops there"
            if server.version >= 18
            else "changes from before that end the stream with 'publication does not exist'"
        )
        yield Finding(
            "warning",
            f"publication {name} may have been created or altered after {position}, where slot "
            f"{slot['slot_name']} stands: {consequence}",
            f"pgstream slot drop {slot['slot_name']} && pgstream slot create {slot['slot_name']}"
            "  # gives up what was not read yet",
        )
        return
    membership = "SELECT min(age(xmin)) AS age FROM pg_publication_rel WHERE prpubid = %s"
    parameters = [publication["oid"]]
    if server.version >= 15:
        membership = (
            f"SELECT least(({membership}), (SELECT min(age(xmin)) "
            "FROM pg_publication_namespace WHERE pnpubid = %s)) AS age"
        )
        parameters *= 2
    age = server.row(membership, *parameters)["age"]
    if age is not None and 0 <= age <= slot["catalog_age"]:
        yield Finding(
            "warning",
            f"tables may have been added to publication {name} after {position}, where slot "
            f"{slot['slot_name']} stands: their changes from before that are left out",
        )


def check_unlogged(server: Server) -> Iterator[Finding]:
    unlogged = server.rows(
        "SELECT nspname AS schema, relname AS table FROM pg_class "
        "JOIN pg_namespace AS namespace ON namespace.oid = relnamespace "
        "WHERE relkind = 'r' AND relpersistence = 'u' "
        "AND EXISTS (SELECT FROM pg_publication WHERE pubname = ANY (%s) AND puballtables) "
        "ORDER BY 1, 2",
        list(server.config.publications),
    )
    for row in unlogged:
        yield Finding(
            "warning",
            f"table {row['schema']}.{row['table']} is unlogged: its changes are not in the WAL",
            f"ALTER TABLE {quoted(row['schema'], row['table'])} SET LOGGED;",
        )
