"""The contract: every promise names its test, and the tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TEXT = (HERE.parent / "docs/guarantees.md").read_text(encoding="utf-8")
PROMISES = [
    " ".join(item.split())
    for item in re.findall(r"^- (.*?)(?=^- |^#|^$)", TEXT, re.MULTILINE | re.DOTALL)
]


def names_in(file: str) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_names_its_test(promise: str) -> None:
    assert re.search(r"`test_\w+\.py::test_\w+`", promise)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+\.py::\w+)`", TEXT))))
def test_the_test_is_there(name: str) -> None:
    file, test = name.split("::")
    assert test in names_in(file)


def test_there_are_promises() -> None:
    assert len(PROMISES) > 30
