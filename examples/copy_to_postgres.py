"""Keep a copy of some tables in another PostgreSQL, every change exactly once.

    python examples/copy_to_postgres.py SOURCE TARGET [--once]

SOURCE and TARGET are DSNs. The publication ``pgstream_pub`` says what is copied; its tables
must be in the target, with the same names and columns, and nobody else should write to
them. All rows are copied first, then every change follows. Stop and start it at any time,
or kill it: the position is stored in the target, in the transaction of the changes.
With ``--once`` it ends when it has caught up.
"""

import signal
import sys

import pgstream
from pgstream.handlers import PostgresHandler


def main(source: str, target: str, once: str = "") -> None:
    with pgstream.connect(
        source,
        slot="copy_to_postgres",
        snapshot=True,
        values="text",  # PostgreSQL's own text: exact for every type
        until="now" if once else None,
        notice=lambda text: print(text, file=sys.stderr),
    ) as stream:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stream.stop())
        stream.run(PostgresHandler(target, name="copy_to_postgres"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except pgstream.PgstreamError as error:
        sys.exit(str(error))  # what happened, and what to do; nothing is lost
