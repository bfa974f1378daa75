from __future__ import annotations

import random

import pytest

from registry.contract.expectations import LogExpectation
from sandbox.probes.base import Ending, View
from sandbox.probes.log import LogMatch

SLOW = "[ab]*a[ab]{900}c"


def met(pattern: str, log: bytes) -> bool | None:
    view = View(seconds=1, pid=0, ending=Ending(0, None), over="", log=lambda: bytearray(log))
    observation = LogMatch(LogExpectation(match=pattern)).poll(view)
    assert observation is not None
    return observation.met


@pytest.mark.parametrize(
    ("pattern", "log", "found"),
    [
        ("^b$", b"a\nb\n", True),
        ("^b$", b"a\nb", True),
        ("^b$", b"ab\n", False),
        ("x", b"", False),
        ("x$", b"a" * 16_000 + b"x\n", True),
        ("x", b"a" * 17_000 + b"x\n", False),
    ],
)
def test_a_line_matches(pattern: str, log: bytes, found: bool) -> None:
    assert met(pattern, log) is found


def test_output_that_takes_too_long_is_unknown() -> None:
    """Else the supervisor would look at nothing else for minutes, and the wall clock would not hold."""
    line = bytes(random.Random(1).choices(b"ab", k=16_000)) + b"\n"
    assert met(SLOW, line * 60) is None


def test_when_the_time_of_the_run_is_used_up_nothing_more_is_looked_for() -> None:
    log = bytearray(b"\n" * 100_000)
    view = View(seconds=9, pid=0, ending=None, over="timeout", log=lambda: log, left=lambda: -0.1)
    observation = LogMatch(LogExpectation(match="x")).poll(view)
    assert observation is not None
    assert observation.met is None
    assert observation.seen.endswith("the time of the run was used up")
