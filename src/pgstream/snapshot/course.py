"""The course of a copy: the slot, the rows, the acknowledgement, the permanent slot."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import psycopg

from .. import faults, slots
from ..config import Config
from ..connector import Connector, ordinary_conninfo
from ..creation import create_slot, starting_point
from ..errors import ConnectionLost, ServerError
from ..lsn import LSN
from ..messages import Event, SnapshotBegin, SnapshotEnd, SnapshotRow
from ..reading import Reading
from ..steps import TICK, Call, Deliver, Pause, Run, Steps
from .copy import Batch, Copy
from .slot import be_patient, make_permanent, slots_left, temporary_name, use

_PING_SECONDS: Final = 10.0  # between looks at whether the connection of the slot lives
_PROGRESS_SECONDS: Final = 0.2  # between reports of progress, at least
_PATIENCE: Final = 5.0  # seconds until it is said that the acknowledgement is waited for


class InitialCopy:
    """One attempt at the copy, on one replication connection.

    Args:
        config: The settings of the stream.
        connector: The replication connection, prepared.
        reading: Makes the decoders; has the positions.

    Attributes:
        lsn: The position that the snapshot shows, once the slot is made.
        kept: The slot is permanent.
    """

    def __init__(self, config: Config, connector: Connector, reading: Reading) -> None:
        self.lsn = LSN(0)
        self.kept = False
        self._config = config
        self._connector = connector
        self._reading = reading
        self._temporary = temporary_name(config.slot)
        self._snapshot = ""
        self._rows = 0
        self._pinged = time.monotonic()

    def create_slot(self) -> Steps[None]:
        """Make the temporary slot, and the snapshot with it.

        Raises:
            psycopg.Error: what the server answered.
            ServerError: if it could not make the slot permanent in the end.
        """
        pgconn, config = self._connector.pgconn, self._config
        if config.failover:  # which is asked for at the end
            faults.require_version(pgconn.server_version, 17, "--failover")
            if self._connector.system.in_recovery:
                raise faults.passing(
                    ServerError(
                        "a slot on a standby cannot be copied to other standbys",
                        "leave out --failover, or connect to the primary",
                    )
                )
        yield Run(be_patient(pgconn), pgconn)
        left: int = yield Run(slots_left(pgconn), pgconn)
        if left < 2:
            raise ServerError(
                f"the copy needs two replication slots for a moment, the server has {left} left",
                "drop a slot (pgstream slot list), or raise max_replication_slots and restart",
            )
        command = slots.creation_command(
            pgconn.server_version, self._temporary, snapshot="export", temporary=True
        )
        rows = yield from create_slot(pgconn, command, config)
        self.lsn = starting_point(rows)
        self._snapshot = str(rows[0][2])

    def course(self) -> Steps[None]:
        """Hand out the whole copy, and wait until it is acknowledged.

        Raises:
            ServerError: what ended it; ``transient`` if it may be tried again.
        """
        copy = Copy(
            self._config,
            ordinary_conninfo(self._config, self._connector.pgconn),
            self._snapshot,
            self._reading.make_decoder,
            binary=self._reading.binary,
        )
        try:
            yield Call(copy.open)
            count = len(copy.relations)
            what = "1 table, as it stands" if count == 1 else f"{count} tables, as they stand"
            self._config.tell(f"copying {what} at {self.lsn}")
            yield Deliver([[SnapshotBegin(self.lsn, copy.relations)]])
            yield from self._hand_out(copy)
        finally:
            copy.close()
        yield Deliver([[SnapshotEnd(self.lsn, self._rows)]])
        yield from self._acknowledgement()

    def keep(self, patient: Callable[[], bool]) -> Steps[None]:
        """Make the slot permanent: from now on the copy is never repeated.

        Args:
            patient: Whether to go on waiting where the server has no slot left.

        Raises:
            ServerError: if the server refuses.
        """
        pgconn, config, told = self._connector.pgconn, self._config, False
        with faults.translated(config):
            # Asked first: an error would drop the temporary slot, and all would be in vain.
            while not (yield Run(slots_left(pgconn), pgconn)) and patient():
                if not told:
                    config.tell(
                        "the copy is done, but the server has no replication slot left"
                        " (max_replication_slots): drop one, and it goes on"
                    )
                    told = True
                yield from self._ping()
                yield Pause(TICK)
            yield Run(
                make_permanent(pgconn, self._temporary, config.slot, failover=config.failover),
                pgconn,
            )
        self.kept = True
        rows = "1 row" if self._rows == 1 else f"{self._rows} rows"
        config.tell(f"the copy is done, {rows}; created slot {config.slot} at {self.lsn}")

    def _hand_out(self, copy: Copy) -> Steps[None]:
        report, reported = self._config.progress, 0.0
        while (batch := (yield Call(partial(copy.take, TICK)))) is not None:
            yield Deliver([self._events(batch)])
            if report is not None and time.monotonic() - reported >= _PROGRESS_SECONDS:
                report(copy.progress())
                reported = time.monotonic()
            yield from self._ping()
        if report is not None:
            report(copy.progress())

    def _events(self, batch: Batch) -> list[Event]:
        relation, lsn, first = batch.relation, self.lsn, self._rows
        self._rows += len(batch.rows)
        self._reading.positions.events += len(batch.rows)
        return [
            SnapshotRow(relation, row, lsn, ordinal)
            for ordinal, row in enumerate(batch.rows, first)
        ]

    def _acknowledgement(self) -> Steps[None]:
        positions, since, told = self._reading.positions, time.monotonic(), False
        yield Deliver(())
        while not positions.copied:
            if not told and time.monotonic() - since > _PATIENCE:
                self._config.tell("the snapshot waits for its acknowledgement: stream.ack()")
                told = True
            yield from self._ping()
            yield Run(self._connector.idle(), self._connector.pgconn)
            yield Deliver(())

    def _ping(self) -> Steps[None]:
        """Use the connection of the slot, and the slot, lest someone on the way take the one for
        dead, or the server give up the other; and see whether that has happened."""
        if time.monotonic() - self._pinged < _PING_SECONDS:
            return
        pgconn = self._connector.pgconn
        try:
            yield Run(use(pgconn, self._temporary), pgconn)
        except psycopg.Error as error:
            raise faults.passing(
                ConnectionLost(
                    "lost the connection that holds the slot of the copy: "
                    + self._config.redact(" ".join(str(error).split())),
                    "the copy starts again",
                )
            ) from None
        self._pinged = time.monotonic()
