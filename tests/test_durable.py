"""Files that are made: when what is in them is acknowledged, their names are on the disk."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pgstream import LSN, ServerError
from pgstream.capture import CaptureWriter, write_catalog
from pgstream.cli import output
from pgstream.cli.output import Output
from pgstream.durable import sync_name
from pgstream.handlers import JSONLinesFile
from pgstream.identity import Anchor
from pgstream.messages import LogicalMessage
from pgstream.slots import System
from pgstream.types.catalog import Catalog, TypeInfo

MOOD = TypeInfo(20_000, "public", "mood", "enum")
SYSTEM = System("7", 1, LSN(1), False)


def make_capture(path: Path) -> None:
    CaptureWriter(path).close()


def make_catalog(path: Path) -> None:
    path.touch()
    write_catalog(path, Catalog([MOOD]))


def make_lines(path: Path) -> None:
    JSONLinesFile(path).close()


def make_text(path: Path) -> None:
    Output(str(path), append=True, output_format="text").close()


def make_replayed(path: Path) -> None:
    Output(str(path), append=False, output_format="json").close()


def make_state(path: Path) -> None:
    Anchor("database", "slot", path).hold(SYSTEM, LSN(1))


MAKERS = [make_capture, make_catalog, make_lines, make_text, make_replayed, make_state]


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """The directories that are synced, and the names in each of them at that time."""
    found: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            found.append((status.st_ino, sorted(os.listdir(fd))))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    return found


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_the_name_of_a_new_file_is_on_the_disk(
    tmp_path: Path, folders: list[tuple[int, list[str]]], make: Callable[[Path], None]
) -> None:
    make(tmp_path / "new")
    assert folders == [(tmp_path.stat().st_ino, sorted(os.listdir(tmp_path)))]


def test_a_state_is_on_the_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may have the name first, and a crash then leave an empty file."""
    path = tmp_path / "state"
    synced: list[tuple[bytes, int, bool]] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            synced.append((os.pread(fd, 1000, 0), len(os.listdir(tmp_path)), path.exists()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    make_state(path)
    assert synced == [(path.read_bytes(), 1, False)]


def test_what_cannot_be_a_state_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    anchor = Anchor("database", "slot")
    anchor._file = tmp_path / "state"
    with pytest.raises(ServerError, match="cannot write the state file"):
        anchor.hold(SYSTEM, LSN(1))
    assert anchor.known is None
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("standard", [True, False])
@pytest.mark.parametrize("output_format", ["text", "json"])
def test_what_is_shown_is_on_the_disk_when_flush_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standard: bool, output_format: output.Format
) -> None:
    """Standard output, too, where it is a file."""
    path = tmp_path / "shown"
    monkeypatch.setattr(output, "_standard", lambda: os.open(path, os.O_WRONLY | os.O_CREAT))
    synced: list[int] = []
    with Output(None if standard else str(path), append=True, output_format=output_format) as shown:
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(path.stat().st_size))
        shown(LogicalMessage("p", b"x", False, LSN(1), None, None, None, None))
        shown.flush()
        assert synced == [path.stat().st_size]
        assert synced[0] > 0


def test_the_name_that_counts_is_that_of_the_file(
    tmp_path: Path, folders: list[tuple[int, list[str]]]
) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    (tmp_path / "link").symlink_to(place / "file")
    make_lines(tmp_path / "link")
    assert folders == [(place.stat().st_ino, ["file"])]


def test_what_is_no_file_has_no_name_to_sync(folders: list[tuple[int, list[str]]]) -> None:
    for make in (make_capture, make_lines, make_text):
        make(Path(os.devnull))
    assert folders == []


def test_a_file_system_that_syncs_no_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> Callable[[int], None]:
        def fsync(fd: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    for number in (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOENT):
        monkeypatch.setattr(os, "fsync", refuse(number))
        sync_name(tmp_path / "file")
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        sync_name(tmp_path / "file")


def test_a_directory_is_open_no_longer_than_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        opened.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    sync_name(tmp_path / "file")
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(opened[0])
