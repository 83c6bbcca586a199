"""Capture files: written, read back, joined, and damaged in every way."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from pgstream.capture import CaptureWriter, read_capture
from pgstream.errors import CaptureError

PAYLOADS = [b"k" + bytes(17), b"", b"w" + bytes(range(256)) * 9000, b"w"]
WHOLE = b"".join(b"d" + (len(p) + 4).to_bytes(4) + p for p in PAYLOADS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a capture"


def read_until_error(path: Path) -> tuple[list[bytes], str | None]:
    """Return what was read before the error, and its message."""
    payloads: list[bytes] = []
    try:
        for payload in read_capture(path):
            payloads.append(payload)  # noqa: PERF402
    except CaptureError as error:
        return payloads, error.message
    return payloads, None


def test_what_was_written_is_read(path: Path) -> None:
    with CaptureWriter(path) as writer:
        for payload in PAYLOADS:
            writer.write(memoryview(payload))
    assert path.read_bytes() == WHOLE
    assert list(read_capture(path)) == PAYLOADS


def test_flushed_is_in_the_file_while_it_is_open(path: Path) -> None:
    with CaptureWriter(path) as writer:
        writer.write(b"one")
        writer.flush()
        assert list(read_capture(path)) == [b"one"]
        writer.write(b"two")
    assert list(read_capture(path)) == [b"one", b"two"]


def test_captures_can_be_joined(path: Path) -> None:
    path.write_bytes(WHOLE + WHOLE)
    assert list(read_capture(path)) == PAYLOADS + PAYLOADS


def test_an_empty_file_is_an_empty_capture(path: Path) -> None:
    path.touch()
    assert list(read_capture(path)) == []
    with CaptureWriter(path) as writer:
        writer.write(b"x")
    assert list(read_capture(path)) == [b"x"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_before_anything_was_written_leaves_nothing(
    path: Path, error: type[BaseException]
) -> None:
    def record(*payloads: bytes) -> None:
        with CaptureWriter(path) as writer:
            for payload in payloads:
                writer.write(payload)
            raise error

    with pytest.raises(error):
        record()
    assert not path.exists()
    with pytest.raises(error):
        record(b"x")
    assert list(read_capture(path)) == [b"x"]


def test_an_empty_file_that_was_there_stays(path: Path) -> None:
    path.touch()
    with pytest.raises(ValueError, match="x"), CaptureWriter(path):
        raise ValueError("x")
    assert path.exists()


def test_what_is_there_is_not_overwritten(path: Path) -> None:
    path.write_bytes(WHOLE)
    with pytest.raises(CaptureError, match="is not empty"):
        CaptureWriter(path)
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize("kept", range(1, 40))
def test_a_torn_tail_is_named_after_what_is_whole(path: Path, kept: int) -> None:
    first = b"d\x00\x00\x00\x16" + PAYLOADS[0]
    path.write_bytes((first + b"d\x00\x00\x00\x24" + bytes(32))[:kept])
    payloads, message = read_until_error(path)
    assert payloads == ([PAYLOADS[0]] if kept >= 23 else [])
    if kept == 23:
        assert message is None
    else:
        assert message == f"{path}: byte {23 if kept > 23 else 0}: the file ends inside a message"


@pytest.mark.parametrize("length", [0, 3, 2**30 + 1, 2**31, 2**32 - 1])
def test_a_length_that_cannot_be_is_refused(path: Path, length: int) -> None:
    path.write_bytes(b"d\x00\x00\x00\x05x" + b"d" + length.to_bytes(4) + bytes(100))
    payloads, message = read_until_error(path)
    assert payloads == [b"x"]
    assert message == f"{path}: byte 6: a message cannot be {length} bytes long"


def test_what_to_do_about_a_damaged_capture(path: Path) -> None:
    path.write_bytes(WHOLE[:100])
    with pytest.raises(CaptureError) as caught:
        list(read_capture(path))
    offset = 23 + 5
    assert f"head -c {offset} '{path}' > whole.capture" in caught.value.hint
    path.write_bytes(WHOLE[:offset])
    assert list(read_capture(path)) == PAYLOADS[:2]
    path.write_text("something else")
    with pytest.raises(CaptureError, match="Hint: is this a capture"):
        list(read_capture(path))


def test_another_byte_than_d_is_refused(path: Path) -> None:
    path.write_bytes(b"d\x00\x00\x00\x05xD\x00\x00\x00\x05x")
    payloads, message = read_until_error(path)
    assert payloads == [b"x"]
    assert message == f"{path}: byte 6: expected the byte 'd', found b'D'"


def test_a_length_that_the_file_does_not_hold_takes_no_memory(path: Path) -> None:
    path.write_bytes(b"d" + (2**30).to_bytes(4) + bytes(100))
    tracemalloc.start()
    try:
        assert read_until_error(path) == ([], f"{path}: byte 0: the file ends inside a message")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(CaptureError, match=r"cannot open the capture .*: No such file"):
        list(read_capture(path))
    with pytest.raises(CaptureError, match=r"cannot open the capture .*: No such file"):
        CaptureWriter(path / "below")


def test_a_directory_is_not_a_capture(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="Is a directory"):
        list(read_capture(tmp_path))
    with pytest.raises(CaptureError, match="Is a directory"):
        CaptureWriter(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_an_error() -> None:
    writer = CaptureWriter("/dev/full")
    writer.write(b"x")
    with pytest.raises(CaptureError, match="cannot write the capture /dev/full: No space left"):
        writer.flush()
    with pytest.raises(CaptureError, match="No space left"):
        writer.close()
    writer.close()


def test_standard_streams() -> None:
    copy = (
        "from pgstream.capture import CaptureWriter, read_capture\n"
        "with CaptureWriter('-') as writer:\n"
        "    for payload in read_capture('-'): writer.write(payload)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", copy], input=WHOLE, capture_output=True, check=True, env=os.environ
    )
    assert done.stdout == WHOLE
    assert done.stderr == b""


def test_closing_the_reader_closes_the_file(path: Path) -> None:
    path.write_bytes(WHOLE)
    reader = read_capture(path)
    assert next(reader) == PAYLOADS[0]
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    reader.close()  # type: ignore[attr-defined]
    if before:
        assert len(os.listdir("/proc/self/fd")) == before - 1
