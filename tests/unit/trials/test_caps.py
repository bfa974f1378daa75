"""Until when seconds of runs count, and when so few are left that more may come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from registry.trials.caps import counts_until, free_at

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.mark.parametrize(("now", "until"), [(0, 65), (4.99, 65), (5, 70), (-0.01, 60)])
def test_seconds_count_for_an_hour_and_the_rest_of_their_five_minutes(now: float, until: float) -> None:
    assert counts_until(after(now)) == after(until)


@pytest.mark.parametrize(
    ("spent", "cap", "minutes"),
    [
        ([], 10, None),
        ([(5, 9.9)], 10, None),
        ([(5, 10)], 10, 5),
        ([(10, 6), (5, 6)], 10, 5),
        ([(5, 1), (10, 20), (15, 3)], 10, 10),
        ([(5, 10), (10, 10)], 10, 10),
    ],
)
def test_when_there_is_room_again(spent: list[tuple[float, float]], cap: int, minutes: float | None) -> None:
    at = free_at([(after(until), seconds) for until, seconds in spent], cap)
    assert at == (None if minutes is None else after(minutes))
