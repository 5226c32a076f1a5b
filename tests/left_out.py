"""The tests that a run skipped, listed at its end, because a skip is easily overlooked."""

from __future__ import annotations

from collections import Counter

import pytest

IMPORT = "could not import"  # how pytest.importorskip begins where a test says nothing itself


def report_left_out(reporter: pytest.TerminalReporter) -> None:
    """Writes how many tests were skipped for each reason; the reason says how to enable them."""
    counts = Counter(_reason(report) for report in reporter.getreports("skipped"))
    if not counts:
        return
    reporter.section("left out", yellow=True)
    for reason, count in counts.most_common():
        remedy = "; `make setup` installs it" if reason.startswith(IMPORT) else ""
        reporter.line(f"{count} test{'s' * (count > 1)}: {reason}{remedy}", yellow=True)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")
