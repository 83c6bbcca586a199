"""What the benchmarks share: the recorded streams, and the tables of rates at the end."""

from __future__ import annotations

import corpora
import pytest
import results
from results import Rate

# benchmark -> what is read -> contender -> messages a second
RATES: dict[str, dict[str, dict[str, float]]] = {}
MULTIPLES: dict[str, dict[str, dict[str, float]]] = {}  # in the same way


def pytest_report_header() -> str:
    return ", ".join(f"{name} {version}" for name, version in results.versions().items())


@pytest.fixture(scope="session", params=corpora.STREAMS)
def stream(request: pytest.FixtureRequest) -> str:
    """The name of each recorded stream in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def payloads(stream: str) -> list[bytes]:
    """The CopyData payloads of the stream."""
    return corpora.payloads(stream)


@pytest.fixture(scope="session")
def rate() -> Rate:
    """Takes what a contender reads, and how many messages of it a second, for the tables."""

    def note(
        benchmark: str, read: str, contender: str, messages: float, multiple: float | None = None
    ) -> None:
        RATES.setdefault(benchmark, {}).setdefault(read, {})[contender] = messages
        if multiple is not None:
            MULTIPLES.setdefault(benchmark, {}).setdefault(read, {})[contender] = multiple

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for benchmark, rates in RATES.items():
        results.keep(benchmark, rates)
        title = f"{benchmark}: thousand messages a second (median)"
        headers = [benchmark, "contender", "k/s"]
        multiples = MULTIPLES.get(benchmark, {})
        if multiples:
            results.keep(f"{benchmark}_multiples", multiples)
            title += "; the multiple of the hand-written one, measured in turn with it"
            headers.append("multiple")
        rows = []
        for read, contenders in rates.items():
            for contender, messages in contenders.items():
                row = [read, contender, f"{messages / 1000:,.1f}"]
                if multiples:
                    row.append(f"{multiples[read][contender]:.2f}")
                rows.append(row)
        terminalreporter.write_line(f"\n{title}\n")
        terminalreporter.write_line(results.table(headers, rows))
