"""Virtual environments for the peers, one each, made when they are first wanted.

They are kept in the folder ``peers`` of the cache. A peer that cannot be installed is told of
as such, with pip's last line.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import corpora
from results import say


def environment(name: str, *requirements: str, python: str | None = None) -> Path | str:
    """The interpreter of an environment that has ``requirements``, or why there is none.

    Args:
        name: What the environment is called.
        requirements: What is installed, as pip takes it; wheels where there are any.
        python: The least version that the peer takes, as ``3.13``; ours if it is enough.
    """
    interpreter = _interpreter(python)
    if interpreter is None:
        return f"needs Python {python}, which is not here"
    folder = corpora.cache() / "peers" / name
    ready, program = folder / "requirements", folder / "bin" / "python"
    wanted = " ".join([interpreter, *requirements])
    if ready.exists() and ready.read_text() == wanted:
        return program
    say(f"installing {' '.join(requirements)} ...")
    made = _run([interpreter, "-m", "venv", "--clear", str(folder)])
    if not made:
        pip = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        made = _run([*pip, *requirements])
    if made:
        return f"cannot be installed: {made}"
    ready.write_text(wanted)
    return program


def psycopg2() -> Path | str:
    """An environment with psycopg2, and orjson for the yardstick."""
    return environment("psycopg2", "psycopg2-binary", "orjson")


def _interpreter(least: str | None) -> str | None:
    """A Python of at least this version."""
    if least is None or sys.version_info[:2] >= tuple(map(int, least.split("."))):
        return sys.executable
    finder = Path(__file__).parents[2] / "ci" / "pythons.sh"
    found = subprocess.run(["sh", str(finder)], capture_output=True, text=True, check=False)
    for line in found.stdout.splitlines():
        version, _, path = line.partition(" ")
        if tuple(map(int, version.split("."))) >= tuple(map(int, least.split("."))):
            return path
    return None


def _run(command: list[str]) -> str:
    """Run a command; what went wrong, in a line, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    return (lines or done.stderr.splitlines() or ["pip failed"])[-1].strip()
