"""Samples stay few and even, however long a run takes and however late somebody looks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contract.report import MAX_SAMPLES, Sample
from sandbox.runtimes.sampling import FIRST_INTERVAL_SECONDS, Samples


def sampled(times: list[float]) -> list[float]:
    samples = Samples(lambda seconds: Sample(seconds=seconds))
    for one in times:
        samples.tick(one)
    return [one.seconds for one in samples.last(times[-1] if times else 0.0)]


@pytest.mark.parametrize("seconds", [0.0, 1.0, 5.8, 60.0, 3600.0])
def test_a_run_of_any_length(seconds: float) -> None:
    ticks = round(seconds / 0.05)
    found = sampled([0.05 * number for number in range(ticks + 1)])
    assert found[0] == 0
    assert found[-1] == pytest.approx(seconds)
    assert len(found) <= MAX_SAMPLES
    if seconds > 1:
        assert len(found) >= MAX_SAMPLES // 2
        steps = [after - before for before, after in pairwise(found[:-1])]
        assert max(steps) <= 2.1 * min(steps)


def test_at_first_ten_times_a_second() -> None:
    found = sampled([0.01 * number for number in range(101)])
    assert found == pytest.approx([FIRST_INTERVAL_SECONDS * number for number in range(11)])


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=400).map(sorted))
def test_times_go_up_and_the_ends_are_there(times: list[float]) -> None:
    found = sampled(times)
    assert len(found) <= MAX_SAMPLES
    assert (found[0], found[-1]) == (times[0], times[-1])
    assert all(before < after for before, after in pairwise(found))
