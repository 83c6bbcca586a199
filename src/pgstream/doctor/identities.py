"""Checks of the replica identities: what the server refuses to writers, or sends incomplete."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from .findings import Finding, Server, quoted
from .published import PublishedTable


def check_identities(server: Server) -> Iterator[Finding]:
    """Look for tables whose UPDATE and DELETE fail because of how they are published."""
    tables = server.published()
    found = []
    for _, group in groupby(tables, key=lambda table: table.table):
        found += list(_refusals(server, list(group)))
    if tables and not found:
        yield Finding("ok", "each published table has a replica identity")
    yield from found


def _refusals(server: Server, published: list[PublishedTable]) -> Iterator[Finding]:
    """Say what the server makes of one table, in each of its publications."""
    table, full = published[0].table, _takes_full(server, published)
    if not published[0].has_identity:
        yield Finding(
            "problem",
            f"table {table} has no replica identity: since it is published, {_failing(published)}",
            _identify(published, "FULL", "or give it a primary key")
            if full
            else _identify(published, "DEFAULT", "with a primary key, of columns that are sent"),
        )
        return
    for each in published:
        publication, consequence = each.publication, _failing([each])
        if each.is_full and each.listed is not None:
            yield Finding(
                "problem",
                f"table {table} has the replica identity FULL, with which a list of columns, as "
                f"publication {publication} has it, is not taken: {consequence}",
                _identify([each], "DEFAULT", "with a primary key, of columns that are listed"),
            )
        elif each.not_listed:
            yield Finding(
                "problem",
                f"publication {publication} does not list {', '.join(each.not_listed)} of "
                f"table {table}, of its replica identity: {consequence}",
                _list_more(server, each),
            )
        elif each.identity_not_published and server.version >= 18:
            yield Finding(
                "problem",
                f"publication {publication} does not publish the generated "
                f"{', '.join(each.identity_not_published)} of table {table}, of its replica "
                f"identity: {consequence}",
                _identify([each], "DEFAULT", "with a primary key")
                if each.has_virtual
                else f"ALTER PUBLICATION {quoted(publication)} "
                "SET (publish_generated_columns = stored);  -- of all its tables",
            )
        if each.filtered_not_in_key:
            yield Finding(
                "problem",
                f"publication {publication} has {', '.join(each.filtered_not_in_key)} in the WHERE "
                f"of table {table}, outside of its replica identity: {consequence}",
                _identify([each], "FULL", "or an index that holds what WHERE names")
                if full
                else _identify([each], "USING INDEX …", "one that holds what WHERE names, too"),
            )


def _takes_full(server: Server, published: list[PublishedTable]) -> bool:
    """Say whether REPLICA IDENTITY FULL is no mistake for this table."""
    unpublished = server.version >= 18 and any(each.unpublished for each in published)
    return not unpublished and not published[0].lists


def _failing(published: list[PublishedTable]) -> str:
    if not any(each.deletes for each in published):
        return "UPDATE on it fails"
    if not any(each.updates for each in published):
        return "DELETE on it fails"
    return "UPDATE and DELETE on it fail"


def _identify(published: list[PublishedTable], identity: str, comment: str = "") -> str:
    """Change the identity of a table, and of what it is published as: they are to be the same."""
    table = published[0].table
    roots = dict.fromkeys(each.root for each in published if each.root != table)
    statements = [f"ALTER TABLE {name} REPLICA IDENTITY {identity};" for name in (*roots, table)]
    return " ".join(statements) + (f"  -- {comment}" if comment else "")


def _list_more(server: Server, published: PublishedTable) -> str:
    """List the columns of the replica identities, too, of all partitions if there are some."""
    if server.version < 18 and not set(published.not_listed).isdisjoint(published.unpublished):
        return _identify([published], "DEFAULT", "with a primary key, of columns that are listed")
    publication, root = published.publication, published.root
    names = dict.fromkeys(published.listed or ())
    for other in server.published():
        if (other.publication, other.root) == (publication, root):
            names |= dict.fromkeys(other.not_listed)
    # A list cannot be altered. In one transaction, so that no change falls between the two.
    alter = f"ALTER PUBLICATION {quoted(publication)}"
    add = f"{alter} ADD TABLE ONLY {root} ({', '.join(map(quoted, names))})"
    if published.condition is not None:
        add += f" WHERE ({published.condition})"
    return f"BEGIN; {alter} DROP TABLE ONLY {root}; {add}; COMMIT;"


def check_partitions(server: Server) -> Iterator[Finding]:
    """Look for partitions whose old rows are not what the table that they are published as says."""
    named = set()
    for each in server.published():
        root, leaf = each.root, each.table
        if each.identity == each.root_identity or (root, leaf) in named:
            continue
        named.add((root, leaf))
        if each.root_identity == "d":
            fix = f"ALTER TABLE {leaf} REPLICA IDENTITY DEFAULT;"
        elif not _takes_full(server, [each]):
            fix = _identify([each], "DEFAULT", "with a primary key, of columns that are sent")
        elif each.root_identity == "f":
            fix = f"ALTER TABLE {leaf} REPLICA IDENTITY FULL;"
        else:
            fix = _identify([each], "FULL")
        yield Finding(
            "warning",
            f"partition {leaf} has another replica identity than {root}, as which it is published:"
            " old rows of it lack values, or have NULL for them",
            fix,
        )
