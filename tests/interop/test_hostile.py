"""Some of the hostile runs once more, on runsc: what gVisor does otherwise is said where it is expected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.runs.test_images import test_nothing_is_won, test_what_is_seen_from_inside
from tests.hostile.runs.test_outcomes import (
    test_a_command_of_another_format,
    test_a_killed_child_is_reported_beside_exit_0,
    test_a_withheld_capability_is_named,
    test_daemons_are_gone_with_the_run,
    test_fork_bomb,
    test_log_flood,
    test_memory_bomb,
)
from tests.kit.runs import Harbour
from tests.kit.runtime_contract import docked

__all__ = [
    "test_a_command_of_another_format",
    "test_a_killed_child_is_reported_beside_exit_0",
    "test_a_withheld_capability_is_named",
    "test_daemons_are_gone_with_the_run",
    "test_fork_bomb",
    "test_log_flood",
    "test_memory_bomb",
    "test_nothing_is_won",
    "test_what_is_seen_from_inside",
]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="all isolation needs root")


@pytest.fixture(scope="module")
def port(tools: Path) -> Iterator[Harbour]:
    """A harbour with runsc, and a host that must be afterwards what it was."""
    with docked("runsc", path=f"{tools}:{os.environ['PATH']}") as dock:
        yield dock
