from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.db.content import IMAGE_STATES
from registry.trials.states import bad_policy, depends_on_time, effective_state, holds_until

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Row:
    state: str
    state_reason: str = "as it was"
    state_at: datetime = NOW - 10 * DAY
    grandfathered_until: datetime | None = None
    blocked_reason: str | None = None
    turned_bad_at: datetime | None = None


@pytest.mark.parametrize(
    ("row", "max_age", "state"),
    [
        (Row("pass"), None, "pass"),
        (Row("pass"), 11 * DAY, "pass"),
        (Row("pass"), 10 * DAY, "expired"),
        (Row("warn"), 9 * DAY, "expired"),
        # Only what is admitted can expire: age makes nothing better.
        (Row("fail"), 9 * DAY, "fail"),
        (Row("pending"), 9 * DAY, "pending"),
        (Row("not-applicable"), 9 * DAY, "not-applicable"),
        (Row("grandfathered", grandfathered_until=NOW + DAY), 9 * DAY, "grandfathered"),
        (Row("grandfathered", grandfathered_until=NOW), None, "untried"),
        (Row("grandfathered"), None, "untried"),
        (Row("pass", blocked_reason="broken"), 9 * DAY, "blocked"),
        (Row("grandfathered", grandfathered_until=NOW + DAY, blocked_reason=""), None, "blocked"),
    ],
)
def test_blocked_above_expired_above_the_row(row: Row, max_age: timedelta | None, state: str) -> None:
    assert effective_state(row, now=NOW, max_age=max_age).state == state


def test_reasons_come_from_what_decided() -> None:
    assert effective_state(Row("fail"), now=NOW, max_age=None).reason == "as it was"
    assert effective_state(Row("fail", blocked_reason="no"), now=NOW, max_age=None).reason == "no"
    assert "2026-10-22" in effective_state(Row("pass"), now=NOW, max_age=DAY).reason


def test_time_is_asked_for_only_where_it_matters() -> None:
    assert depends_on_time(Row("grandfathered"), max_age=None)
    assert depends_on_time(Row("pass"), max_age=DAY)
    assert not depends_on_time(Row("pass"), max_age=None)
    assert not depends_on_time(Row("fail"), max_age=DAY)


_TIMES = st.integers(-30, 30).map(lambda days: NOW + days * DAY)


@given(
    row=st.builds(
        Row,
        state=st.sampled_from(IMAGE_STATES),
        state_at=_TIMES,
        grandfathered_until=st.none() | _TIMES,
        blocked_reason=st.none() | st.just("broken"),
    ),
    max_age=st.none() | st.integers(1, 30).map(lambda days: days * DAY),
    later=st.integers(0, 60).map(lambda days: days * DAY),
)
def test_a_state_holds_until_it_is_said_to(row: Row, max_age: timedelta | None, later: timedelta) -> None:
    until = holds_until(row, now=NOW, max_age=max_age)
    if until is None or NOW + later < until:
        assert effective_state(row, now=NOW + later, max_age=max_age) == effective_state(
            row, now=NOW, max_age=max_age
        )


@pytest.mark.parametrize(
    ("action", "days", "state", "kept", "until"),
    [
        ("block", 0, "fail", "", NOW - DAY),
        ("block", 2, "fail", "warn", NOW + DAY),
        ("block", 1, "fail", "", NOW),
        ("block", 2, "error", "warn", NOW + DAY),
        ("block", 2, "pending", "warn", NOW + DAY),
        # It passes again, or is nothing that was judged.
        ("block", 2, "pass", "", None),
        ("block", 2, "untried", "", None),
        ("keep", 0, "fail", "keep", None),
        ("warn", 0, "fail", "warn", None),
        ("keep", 0, "untried", "", None),
        (None, None, "fail", "", NOW - DAY),
    ],
)
def test_an_image_that_turned_bad_a_day_ago(
    action: Any, days: int | None, state: str, kept: str, until: datetime | None
) -> None:
    policy, row = bad_policy(action, days), Row(state, turned_bad_at=NOW - DAY)
    assert (policy.kept(row, now=NOW), policy.until(row)) == (kept, until)
    assert policy.kept(Row(state), now=NOW) == ""
    assert policy.until(Row(state)) is None
    assert depends_on_time(row, max_age=None)
