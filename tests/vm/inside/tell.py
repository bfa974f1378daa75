"""A plug-in of pytest's: what each check came to, on the line that the machine is read by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Record = Callable[[str, object], None]
"""Pytest's ``record_property``: what was seen."""
_LINE = Path("/dev/ttyS1")


def say(*words: str) -> None:
    """One record."""
    with _LINE.open("w", encoding="utf-8") as line:
        line.write(" ".join(" ".join(words).split()) + "\n")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The outcome of a check, and what it recorded as seen."""
    if report.when == "call" or not report.passed:
        seen = "; ".join(f"{name}: {value}" for name, value in report.user_properties)
        say("case", report.nodeid.replace(" ", "_"), report.outcome, f"({report.duration:.1f} s) {seen}")
