"""What the benchmarks share: the recorded streams, and the table of rates at the end."""

from __future__ import annotations

import platform
from collections.abc import Callable

import corpora
import psycopg
import pytest

import pgstream

RATES: dict[str, dict[str, float]] = {}  # stream -> contender -> messages a second
YARDSTICK = "handwritten"


def pytest_report_header() -> str:
    return (
        f"pgstream {pgstream.__version__}, {platform.python_implementation()} "
        f"{platform.python_version()}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
        f"libpq {psycopg.pq.version()}"
    )


@pytest.fixture(scope="session", params=corpora.STREAMS)
def stream(request: pytest.FixtureRequest) -> str:
    """The name of each recorded stream in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def payloads(stream: str) -> list[bytes]:
    """The CopyData payloads of the stream."""
    return corpora.payloads(stream)


@pytest.fixture
def rate(stream: str) -> Callable[[str, float], None]:
    """Takes how many messages a second a contender reads of the stream, for the summary."""

    def note(contender: str, messages: float) -> None:
        RATES.setdefault(stream, {})[contender] = messages

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not RATES:
        return
    terminalreporter.write_line("")
    terminalreporter.write_line("thousand messages a second (median), and the multiple of the")
    terminalreporter.write_line("hand-written decoder on the same stream:")
    for stream, rates in RATES.items():
        for contender, messages in rates.items():
            multiple = f"{messages / rates[YARDSTICK]:6.2f} x" if YARDSTICK in rates else ""
            terminalreporter.write_line(
                f"  {stream:12} {contender:24} {messages / 1000:8.0f} {multiple}"
            )
