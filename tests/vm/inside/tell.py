"""A plug-in of pytest's: what each check came to, on the line that the machine is read by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest._code.code import ExceptionChainRepr

Record = Callable[[str, object], None]
"""Pytest's ``record_property``: what was seen."""
_LINE = Path("/dev/ttyS1")


def say(*words: str) -> None:
    """One record."""
    with _LINE.open("w", encoding="utf-8") as line:
        line.write(" ".join(words).replace("\n", " ").replace("\r", " ") + "\n")


def keep(kind: str, document: dict[str, Any]) -> None:
    """What doctor said on a host of that kind (see scripts/hosts.py), for whoever started the machine."""
    say("keep", kind, json.dumps(document))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The outcome of a check, and what it recorded as seen."""
    if report.when == "call" or not report.passed:
        seen = "; ".join(f"{name}: {value}" for name, value in report.user_properties)
        if isinstance(report.longrepr, ExceptionChainRepr) and report.longrepr.reprcrash is not None:
            crash = report.longrepr.reprcrash
            seen += f" line {crash.lineno}: {crash.message[:2000]}"
        say("case", report.nodeid.replace(" ", "_"), report.outcome, f"({report.duration:.1f} s) {seen}")
