"""What all containers of a host share, once more on each runtime that is not Debian's runc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.runs.test_shared import (
    hold,
    test_answers_of_the_kernel_that_nobody_reads,
    test_datagrams_that_nobody_reads,
    test_terminals,
)
from tests.kit.runs import Harbour
from tests.kit.runtime_contract import docked

__all__ = [
    "hold",
    "test_answers_of_the_kernel_that_nobody_reads",
    "test_datagrams_that_nobody_reads",
    "test_terminals",
]


@pytest.fixture(scope="module", params=["runc", "crun", "runsc"])
def port(request: pytest.FixtureRequest, tools: Path) -> Iterator[Harbour]:
    """A harbour with the runtime, and a host that must be afterwards what it was."""
    if os.geteuid() != 0:
        pytest.skip("all isolation needs root")
    with docked(request.param, path=f"{tools}:{os.environ['PATH']}") as dock:
        yield dock
