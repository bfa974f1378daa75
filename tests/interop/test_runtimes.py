"""The contract of runtimes, with those that Debian has not: a current runc, and runsc (gVisor)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.runs import Harbour
from tests.kit.runtime_contract import RuntimeContract, docked


@pytest.fixture(scope="module", params=["runc", "runsc"])
def dock(request: pytest.FixtureRequest, tools: Path) -> Iterator[Harbour]:
    """A harbour with one that ``scripts/tools.sh`` built."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with docked(request.param, path=f"{tools}:{os.environ['PATH']}") as place:
        yield place


class TestContract(RuntimeContract):
    """runc 1.5.2 and runsc."""
