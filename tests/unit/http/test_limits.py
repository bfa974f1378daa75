"""How slowly a body may arrive."""

from __future__ import annotations

import pytest

from registry.errors import RequestTimeoutError
from registry.http.limits import Pace


def test_a_trickle_is_given_up_when_a_window_has_passed() -> None:
    pace = Pace(60, 256)
    for _ in range(59):
        pace.note(1, 1)
    with pytest.raises(RequestTimeoutError, match="too slowly: 60 bytes in 60 seconds; 256 a second"):
        pace.note(1, 1)


def test_each_window_counts_for_itself() -> None:
    pace = Pace(60, 256)
    pace.note(10_000_000, 60)
    pace.note(0, 59)
    with pytest.raises(RequestTimeoutError):
        pace.note(100, 1)


def test_time_that_nobody_waited_does_not_count() -> None:
    pace = Pace(60, 256)
    for _ in range(10_000):
        pace.note(1, 0)
    pace.note(60 * 256, 60)


def test_nothing_is_too_slow_without_a_least_rate() -> None:
    pace = Pace(60, 0)
    pace.note(0, 600)
