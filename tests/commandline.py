"""The command line, run as users run it: in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

SECONDS = 60


@dataclass(frozen=True)
class Process:
    """A running ``pgstream``."""

    popen: subprocess.Popen[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def line(self) -> Any:
        """Wait for a line of JSON."""
        return json.loads(self.stdout.readline())

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end; return its status, the rest of its output, and its messages."""
        stdout, stderr = self.popen.communicate(timeout=SECONDS)
        return self.popen.returncode, stdout.decode(), stderr.decode()

    def status(self) -> int:
        """Wait for its end without reading from it; return its status."""
        return self.popen.wait(SECONDS)


@dataclass(frozen=True)
class CommandLine:
    """``pgstream``, in a directory, with an environment that holds no setting of ours."""

    directory: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self,
        *arguments: str,
        status: int = 0,
        input: bytes | None = None,
        stdout: int = subprocess.PIPE,
        **settings: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, which must have this status."""
        done = subprocess.run(
            self._command(arguments),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self.environment(settings),
            timeout=SECONDS,
        )
        output, messages = (done.stdout or b"").decode(), done.stderr.decode()
        assert done.returncode == status, f"status {done.returncode}\n{output}\n{messages}"
        return subprocess.CompletedProcess(done.args, status, output, messages)

    @contextlib.contextmanager
    def running(self, *arguments: str, **settings: str) -> Iterator[Process]:
        """Start it; when the block ends, so does it."""
        with subprocess.Popen(
            self._command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self.environment(settings),
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield Process(process, process.stdout, process.stderr)
            finally:
                process.kill()

    @staticmethod
    def _command(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "pgstream", *arguments]

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the environment that it runs in."""
        ours = ("PG", "DATABASE_URL", "SLOT_NAME", "PUBLICATION_NAME")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        if implementation := os.environ.get("PGSTREAM_IMPL"):
            environment["PGSTREAM_IMPL"] = implementation
        return {**environment, **self.settings, **settings}
