"""How many passwords somebody may guess."""

from __future__ import annotations

import pytest

from registry.auth.attempts import FailedAttempts, place_of
from registry.errors import TooManyRequestsError


class Clock:
    """A clock that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_one_name_from_one_place_is_stopped_and_comes_back() -> None:
    clock = Clock()
    failures = FailedAttempts(3, clock=clock)
    for _ in range(3):
        failures.require_tries("192.0.2.1", "bob")
        failures.note("192.0.2.1", "bob")
    with pytest.raises(TooManyRequestsError) as caught:
        failures.require_tries("192.0.2.1", "bob")
    assert caught.value.headers == {"Retry-After": "61"}
    failures.require_tries("192.0.2.1", "eve")
    failures.require_tries("192.0.2.2", "bob")
    clock.now += 60
    failures.require_tries("192.0.2.1", "bob")


def test_many_names_from_one_place_are_stopped() -> None:
    failures = FailedAttempts(3)
    for i in range(30):
        failures.note("2001:db8::1", f"name{i}")
    for address in ("2001:db8::1", "2001:db8::ffff:1"):
        with pytest.raises(TooManyRequestsError):
            failures.require_tries(address, "another")
    failures.require_tries("2001:db8:1::1", "another")


def test_invented_names_take_no_memory() -> None:
    failures = FailedAttempts(1_000_000)
    for i in range(50_000):
        failures.note(f"192.0.2.{i % 250}", f"{i}" + "x" * 100)
    assert len(failures._failures) <= 20_002
    assert place_of("::ffff:192.0.2.1") == place_of("192.0.2.1")
