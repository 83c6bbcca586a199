"""psycopg2's ``consume_stream``, with and without the yardstick's decoder, in its own environment.

As ``live_clients.py``: reads everything, acknowledges it, prints one JSON object. psycopg2
handles keepalives by itself and gives the callback nothing to see of them, so it ends after
the number of messages that are to come.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import time
from pathlib import Path

import psycopg2
from psycopg2.extras import LogicalReplicationConnection, StopReplication


def yardstick():
    path = Path(__file__).with_name("handwritten.py")
    spec = importlib.util.spec_from_file_location("handwritten", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Decoder().decode


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    client, dsn, slot, publication, end, expected = sys.argv[1:]
    high, low = (int(part, 16) for part in end.split("/"))
    position, left = high << 32 | low, int(expected)
    decode = yardstick() if client == "decode" else None
    header = b"w" + bytes(24)
    used, began = cpu(), time.perf_counter()
    connection = psycopg2.connect(dsn, connection_factory=LogicalReplicationConnection)
    cursor = connection.cursor()
    options = {"proto_version": "1", "publication_names": publication}
    cursor.start_replication(slot_name=slot, options=options, decode=False, status_interval=1)

    def take(message) -> None:
        nonlocal left
        if decode is not None:
            decode(header + message.payload)
        left -= 1
        if not left:
            raise StopReplication

    try:
        cursor.consume_stream(take)
    except StopReplication:
        cursor.send_feedback(write_lsn=position, flush_lsn=position, force=True)
    cursor.close()
    connection.close()
    found = {"count": int(expected) - left, "wall": time.perf_counter() - began}
    print(json.dumps(found | {"cpu": cpu() - used}))


main()
