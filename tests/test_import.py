"""What a program loads that says ``import pgstream``: psycopg, and little besides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

implementations = pytest.mark.parametrize("implementation", ["", "python"])


def loaded(name: str, implementation: str, directory: Path) -> set[str]:
    """The modules that are there once a fresh process has imported ``name``."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {name}; print(*sys.modules)"],
        capture_output=True,
        check=True,
        cwd=directory,
        env=os.environ | {"PGSTREAM_IMPL": implementation},
        text=True,
    )
    return set(done.stdout.split())


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@implementations
def test_the_library_loads_no_more_than_it_needs(implementation: str, tmp_path: Path) -> None:
    there = loaded("pgstream", implementation, tmp_path)
    besides = there - loaded("psycopg", implementation, tmp_path)
    assert packages(besides) - sys.stdlib_module_names == {"pgstream"}
    assert not packages(besides) & {"sqlite3", "_sqlite3", "hashlib"}
    ours = {module.split(".")[1] for module in besides if module.startswith("pgstream.")}
    assert {"stream", "encoding"} <= ours
    assert not ours & {"handlers", "cli", "capture", "demo", "doctor", "embedded"}


@implementations
def test_the_handlers_need_no_command_line(implementation: str, tmp_path: Path) -> None:
    there = loaded("pgstream.handlers", implementation, tmp_path)
    assert {"pgstream.handlers.console", "pgstream.handlers.sqlite"} <= there
    assert not packages(there) & {"click", "dotenv", "sqlite3", "_sqlite3"}


def test_the_command_loads_what_only_the_demo_needs_with_the_demo(tmp_path: Path) -> None:
    there = loaded("pgstream.cli", "", tmp_path)
    assert {"pgstream.cli.streams", "click"} <= there
    assert not there & {"pgstream.demo", "pgstream.embedded", "sqlite3"}
