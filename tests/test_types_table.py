"""Every row of the table in docs/types.md, held against a real server."""

from __future__ import annotations

from pathlib import Path

import pgstream
from pgstream import Insert
from pgstream.encoding import encode_value
from pgstream.types import JSONText
from servers import Database

TABLE = Path(__file__).parent.parent / "docs" / "types.md"

# What the table calls by what it is.
MADE = {"an enum": "mood", "a domain": "year", "a composite": "pair"}
PRELUDE = """
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube;
CREATE TYPE mood AS ENUM ('sad');
CREATE DOMAIN year AS int;
CREATE TYPE pair AS (a int, b text);
"""


def rows() -> list[tuple[str, str, str, str]]:
    """Type, literal, Python type and JSON of each row."""
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[2].startswith("`"):
            type_, literal, python, document = [cell.strip("`") for cell in cells[1:5]]
            found.append((MADE.get(type_, type_), literal, python, document))
    return found


def test_every_row(database: Database) -> None:
    table = rows()
    assert len(table) > 55
    with database.connect() as connection:
        connection.execute(PRELUDE.encode())
        user = connection.info.user
        declared = ", ".join(f"c{at} {type_}" for at, (type_, *_) in enumerate(table))
        connection.execute(f"CREATE TABLE t ({declared})".encode())
        connection.execute("CREATE PUBLICATION pgstream_pub FOR TABLE t")
        slots = [f"{database.name}_{form}" for form in ("text", "binary")]
        for slot in slots:
            pgstream.connect(database.dsn, slot=slot).close()
        literals = [literal.replace("postgres", user) for _, literal, *_ in table]
        connection.execute(
            f"INSERT INTO t VALUES ({', '.join(['%s'] * len(table))})".encode(), literals
        )
    for slot in slots:
        binary = slot == slots[1]
        for loads in (None, JSONText):
            options = {} if loads is None else {"json_loads": loads}
            with pgstream.connect(
                database.dsn, slot=slot, binary=binary, until="now", **options
            ) as stream:
                (row,) = [event.new for event in stream if isinstance(event, Insert)]
            for value, (type_, literal, python, document) in zip(row.values(), table, strict=True):
                kind = "namedtuple" if hasattr(value, "_fields") else type(value).__name__
                if loads is None:
                    assert kind == python, (type_, literal)
                elif type_ == "aclitem":
                    assert encode_value(value) == document.replace("postgres", user)
                else:
                    assert encode_value(value) == document, (type_, literal)
