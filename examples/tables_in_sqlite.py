"""Keep some tables in a SQLite file, for reports that should not load the server.

    python examples/tables_in_sqlite.py SOURCE FILE [--once]

SOURCE is a DSN, and its publication ``pgstream_pub`` says what is kept. The tables are made
in FILE as they come. Stop and start it at any time, or kill it: each transaction of the
source is in the file once, whole or not at all. With ``--once`` it ends when it has caught
up; then FILE can be read like this:

    sqlite3 FILE 'SELECT count(*) FROM users'
"""

import signal
import sys

import pgstream
from pgstream.handlers import SQLiteHandler
from pgstream.types import JSONText


def main(source: str, file: str, once: str = "") -> None:
    with pgstream.connect(
        source,
        slot="tables_in_sqlite",
        snapshot=True,
        json_loads=JSONText,  # documents as PostgreSQL has them
        until="now" if once else None,
        notice=lambda text: print(text, file=sys.stderr),
    ) as stream:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stream.stop())
        stream.run(SQLiteHandler(file))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except pgstream.PgstreamError as error:
        sys.exit(str(error))  # what happened, and what to do; nothing is lost
