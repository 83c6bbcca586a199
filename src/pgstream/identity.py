"""Whether the slot is still the one that this consumer has read from.

What was acknowledged must be on the server, and what was not must still be to come. Both
are known from four things, kept in memory and, if asked for, in a small local file: the
server's system identifier, its timeline, the database, and the position up to which it was
told that everything is handled. Names alone say nothing: a slot can be dropped and created
anew, a server restored from a backup.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .durable import sync_name
from .errors import ConfigError, ServerError, SlotMismatch, SlotNotFound
from .lsn import LSN
from .slots import Slot, System


@dataclass(frozen=True)
class Identity:
    """What a consumer knows of the slot that it reads from.

    Attributes:
        system_identifier: That of the server.
        timeline: The server's when it was connected last.
        database: The name of the database.
        slot: The name of the slot.
        position: What the server may have been told as flushed, at most.
    """

    system_identifier: str
    timeline: int
    database: str
    slot: str
    position: LSN


class Anchor:
    """Keeps an :class:`Identity`, and compares servers with it.

    Args:
        database: The name of the database that is read from.
        slot: The name of the slot.
        file: Where it is kept; ``None`` for in memory alone.

    Raises:
        ConfigError: if the file cannot be read, or is another slot's.
    """

    def __init__(self, database: str, slot: str, file: Path | None = None) -> None:
        self._database = database
        self._slot = slot
        self._file = file
        self.known = _load(file) if file is not None else None
        if self.known is not None and (self.known.database, self.known.slot) != (database, slot):
            raise ConfigError(
                f"the state file {file} belongs to slot {self.known.slot!r} of database"
                f" {self.known.database!r}, not to {slot!r} of {database!r}",
                "give each slot a state file of its own",
            )

    @property
    def is_kept(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def needs_history(self, system: System) -> bool:
        """Whether :meth:`check` has to know where the server's former timelines ended."""
        return self.known is not None and system.timeline > self.known.timeline

    def check(
        self, system: System, slot: Slot | None, ends: dict[int, LSN], handed_out: LSN
    ) -> None:
        """Refuse a server or a slot that would leave something out, or was restored.

        Args:
            system: The server that is connected now.
            slot: The slot there, if it is there.
            ends: Where the server's former timelines ended.
            handed_out: How far the user was given changes, acknowledged or not.

        Raises:
            SlotNotFound: if the slot was there and is gone.
            SlotMismatch: if it, or its server, is another one, or stands where it cannot stand
                after what was read.
        """
        known = self.known
        if known is None:
            return
        position, name = known.position, known.slot
        if system.identifier != known.system_identifier:
            raise SlotMismatch(
                f"this is another server: its system identifier is {system.identifier}, slot"
                f" {name!r} was read on {known.system_identifier} up to {position}",
                "connect to that server" + self._file_hint(),
            )
        fork = _fork(known.timeline, system, ends)
        if fork is not None and fork < position:
            raise SlotMismatch(
                f"the server has left the history that was read: its timeline {system.timeline}"
                f" begins at {fork}, before the acknowledged position {position}; changes from"
                f" {fork} to {position} were acknowledged and are not in this database any more",
                self._anew(),
                (fork, position),
            )
        if not system.in_recovery and system.position < position:
            raise SlotMismatch(
                f"the server is at an earlier point, {system.position}, than what was"
                f" acknowledged, {position}: it was restored from a backup",
                self._anew(),
                (system.position, position),
            )
        # What was not acknowledged comes again where it is still there. Where it is not, it may
        # have been used already; and it must not be confirmed to this server later.
        end = system.position if fork is None else fork
        if end < handed_out and (fork is not None or not system.in_recovery):
            raise SlotMismatch(
                f"changes from {end} to {handed_out} were handed out, and the server has lost"
                " them: it was restored from a backup, or another took its place before it had"
                " them",
                "undo what was made of them, then start again: it goes on after what was"
                f" acknowledged, {position}",
                (end, handed_out),
            )
        if slot is None:
            raise SlotNotFound(
                f"replication slot {name!r} is gone: changes after {position} are lost to it",
                ("" if self._file is None else f"remove {self._file}, then ")
                + "start with a copy of the tables: --snapshot",
            )
        confirmed = slot.confirmed_flush_lsn
        if confirmed is not None and confirmed > position:
            raise SlotMismatch(
                f"slot {name!r} stands at {confirmed}, this consumer has acknowledged up to"
                f" {position}: it was created anew, or another consumer has read from it; changes"
                f" from {position} to {confirmed} do not come",
                self._anew(),
                (position, confirmed),
            )

    def hold(self, system: System, position: LSN) -> None:
        """Note the server that passed the check, and the position that holds from now on."""
        self._set(
            Identity(system.identifier, system.timeline, self._database, self._slot, position)
        )

    def advance(self, position: LSN) -> None:
        """Note that the server is about to be told this position."""
        if self.known is not None and position > self.known.position:
            self._set(replace(self.known, position=position))

    def _set(self, identity: Identity) -> None:
        if identity != self.known and self._file is not None:
            _save(self._file, identity)
        self.known = identity

    def _anew(self) -> str:
        return "copy the tables anew, with a new slot" + self._file_hint()

    def _file_hint(self) -> str:
        if self._file is None:
            return ""
        return f", or remove {self._file} to begin where the slot stands"


def _fork(timeline: int, system: System, ends: dict[int, LSN]) -> LSN | None:
    """Where the server's history left the timeline that was read; ``None`` if it has not."""
    if system.timeline == timeline:
        return None
    return ends.get(timeline, LSN(0))  # not among its ancestors: they share nothing we know of


def _load(file: Path) -> Identity | None:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"cannot read the state file {file}: {error.strerror}",
            "it holds what was acknowledged: let this user read and replace it, or name another"
            " file to begin where the slot stands",
        ) from None
    try:
        fields = json.loads(content)
        return Identity(
            system_identifier=str(fields["system_identifier"]),
            timeline=int(fields["timeline"]),
            database=str(fields["database"]),
            slot=str(fields["slot"]),
            position=LSN(str(fields["position"])),
        )
    except (ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{file} is not a state file of pgstream",
            "name another file; remove this one only if nothing was missed",
        ) from None


def _save(file: Path, identity: Identity) -> None:
    """Put it in the file: all of it or nothing, and on the disk when this returns."""
    file = Path(os.path.realpath(file))  # a link stays one, and its file where it has to outlast us
    text = json.dumps(asdict(identity) | {"position": str(identity.position)}, indent=2) + "\n"
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as written:
                written.write(text)
                written.flush()
                os.fsync(written.fileno())
            os.replace(name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        sync_name(file)
    except OSError as error:
        raise ServerError(
            f"cannot write the state file {file}: {error.strerror}",
            "what was acknowledged since is not confirmed to the server, and comes again",
        ) from error
