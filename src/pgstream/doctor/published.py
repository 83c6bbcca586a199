"""What publications take from each table, and what finds its rows again.

The catalogs alone are asked, as any role may; what the server makes of it is judged as its
RelationBuildPublicationDesc and CheckCmdReplicaIdentity judge it, for each publication alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import class_row

# A row for each publication and each table that holds rows, a partition for one, with what it
# is published as: itself, or the root of its partitions. Names come quoted where SQL wants it.
_QUERY: Final = """
SELECT publication.pubname::text AS publication, publication.pubupdate AS updates,
    publication.pubdelete AS deletes,
    root.relnamespace::regnamespace || '.' || quote_ident(root.relname) AS root,
    leaf.relnamespace::regnamespace || '.' || quote_ident(leaf.relname) AS table,
    root.relreplident::text AS root_identity, leaf.relreplident::text AS identity,
    (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_index JOIN pg_attribute
        ON attrelid = indrelid AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1])
        WHERE indrelid = leaf.oid AND indisvalid AND indimmediate
            AND CASE leaf.relreplident
                WHEN 'd' THEN indisprimary WHEN 'i' THEN indisreplident ELSE false END) AS key,
    {listed} AS listed, {condition} AS condition,
    coalesce({filtered}, '{{}}') AS filtered, {lists} AS lists,
    coalesce((SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = leaf.oid AND attnum > 0 AND NOT attisdropped
            AND attgenerated <> '' AND {unpublished}), '{{}}') AS unpublished,
    EXISTS (SELECT FROM pg_attribute
        WHERE attrelid = leaf.oid AND attgenerated = 'v' AND NOT attisdropped) AS has_virtual
FROM pg_publication_tables AS named
JOIN pg_publication AS publication USING (pubname)
JOIN pg_namespace AS namespace ON namespace.nspname = named.schemaname
JOIN pg_class AS root ON root.relnamespace = namespace.oid AND root.relname = named.tablename
LEFT JOIN pg_publication_rel AS member
    ON member.prpubid = publication.oid AND member.prrelid = root.oid
LEFT JOIN pg_partition_tree(root.oid) AS tree ON tree.isleaf
JOIN pg_class AS leaf ON leaf.oid = coalesce(tree.relid, root.oid)
WHERE publication.pubname = ANY (%s) AND (publication.pubupdate OR publication.pubdelete)
    AND leaf.relkind = 'r' AND leaf.relpersistence = 'p'
ORDER BY 5, 1
"""
_BEFORE_15: Final = {
    "listed": "NULL::text[]",
    "condition": "NULL::text",
    "filtered": "NULL::text[]",
    "lists": "false",
}
_FROM_15: Final = {
    "listed": "(SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute "
    "WHERE attrelid = root.oid AND attnum = ANY (member.prattrs))",
    "condition": "pg_get_expr(member.prqual, root.oid)",
    # The columns of a condition stand in no other catalog apart from those of the list.
    "filtered": "(SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute "
    "WHERE attrelid = root.oid AND attnum IN (SELECT found[1]::int2 "
    "FROM regexp_matches(member.prqual::text, ':varattno ([0-9]+)', 'g') AS found))",
    "lists": "EXISTS (SELECT FROM pg_publication_rel AS other WHERE other.prattrs IS NOT NULL "
    "AND (other.prrelid = leaf.oid "
    "OR other.prrelid IN (SELECT relid FROM pg_partition_ancestors(leaf.oid))))",
}


@dataclass(frozen=True)
class PublishedTable:
    """A table in a publication that publishes its UPDATEs, its DELETEs or both.

    Attributes:
        publication: The publication.
        updates: It publishes UPDATE.
        deletes: It publishes DELETE.
        root: What it is published as: itself, or the partitioned table that it belongs to.
        table: The table, or partition, that holds the rows.
        root_identity: ``relreplident`` of ``root``.
        identity: ``relreplident`` of ``table``.
        key: The columns of the index that is its replica identity, if there is one.
        listed: The columns that the publication lists of ``root``; ``None`` for all.
        condition: The publication's WHERE.
        filtered: The columns in it.
        lists: A publication of this database lists columns of the table.
        unpublished: Its generated columns that are left out unless they are listed.
        has_virtual: It has a virtual generated column, which no publication takes.
    """

    publication: str
    updates: bool
    deletes: bool
    root: str
    table: str
    root_identity: str
    identity: str
    key: list[str] | None
    listed: list[str] | None
    condition: str | None
    filtered: list[str]
    lists: bool
    unpublished: list[str]
    has_virtual: bool

    @property
    def is_full(self) -> bool:
        return self.identity == "f"

    @property
    def has_identity(self) -> bool:
        return self.is_full or self.key is not None

    @property
    def not_listed(self) -> list[str]:
        """The columns of the key that the publication does not list."""
        return [] if self.listed is None else _without(self.key, self.listed)

    @property
    def filtered_not_in_key(self) -> list[str]:
        """The columns in WHERE that are not part of the replica identity."""
        return [] if self.is_full else _without(self.filtered, self.key)

    @property
    def identity_not_published(self) -> list[str]:
        """The generated columns of the replica identity that are left out."""
        if self.is_full:
            return self.unpublished
        if self.listed is not None:
            return []
        return [name for name in self.key or () if name in self.unpublished]


def published_tables(
    connection: psycopg.Connection[Any], publications: Sequence[str]
) -> list[PublishedTable]:
    """Return the tables of which these publications publish UPDATE or DELETE, and their rows."""
    version = connection.info.server_version // 10000
    parts = _FROM_15 if version >= 15 else _BEFORE_15
    stored = "(attgenerated = 'v' OR publication.pubgencols <> 's')" if version >= 18 else "true"
    query = _QUERY.format(**parts, unpublished=stored)
    with connection.cursor(row_factory=class_row(PublishedTable)) as cursor:
        return cursor.execute(query.encode(), [list(publications)]).fetchall()


def _without(names: Sequence[str] | None, others: Sequence[str] | None) -> list[str]:
    return [name for name in names or () if name not in (others or ())]
