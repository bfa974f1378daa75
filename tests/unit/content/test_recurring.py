"""When something is due next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from registry.content.recurring import following, parse_time
from registry.errors import RequestInvalidError

DUE = datetime(2026, 2, 27, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("every_hours", "late_hours", "next_hours"), [(24, 0, 24), (24, 0.2, 24), (24, 24, 48), (1, 100.5, 101)]
)
def test_every_so_many_hours(every_hours: int, late_hours: float, next_hours: int) -> None:
    now = DUE + timedelta(hours=late_hours)
    assert following(DUE, now, every_hours=every_hours, at_minute=None) == DUE + timedelta(hours=next_hours)


@pytest.mark.parametrize(
    ("now", "at"),
    [
        ("2026-02-27T02:29:59", "2026-02-27T02:30:00"),
        ("2026-02-27T02:30:00", "2026-02-28T02:30:00"),
        ("2026-02-28T23:59:59.9", "2026-03-01T02:30:00"),
    ],
)
def test_each_day_at_a_time(now: str, at: str) -> None:
    when = datetime.fromisoformat(now).replace(tzinfo=UTC)
    found = following(DUE, when, every_hours=None, at_minute=parse_time("02:30"))
    assert found == datetime.fromisoformat(at).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "2:30", "24:00", "02:60", "02:30Z", "0230", "\N{ARABIC-INDIC DIGIT ZERO}2:30", "02:30\n"]
)
def test_what_is_no_time_of_day(text: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_time(text)
