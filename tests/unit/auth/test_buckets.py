"""How many wrong passwords are borne, and from whom."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from registry.auth.buckets import Bucket, buckets_of, place_of, retry_after, site_of

LIMIT = 10


class Failures:
    """Buckets with a clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._empty_at: dict[str, float] = {}

    def wait(self, name: str, address: str, *, known: bool = False) -> float:
        """How long this one has to wait for the next try."""
        left = {key: at - self.now for key, at in self._empty_at.items()}
        return buckets_of(name, address, limit=LIMIT).wait_seconds(left, known=known)

    def fail(self, name: str, address: str, *, known: bool = False, count: int = 1) -> int:
        """Try a wrong password so often; how many were looked at."""
        looked_at = 0
        for _ in range(count):
            if self.wait(name, address, known=known) > 0:
                continue
            looked_at += 1
            for bucket in buckets_of(name, address, limit=LIMIT).counted(known=known):
                left = self._empty_at.get(bucket.key, self.now) - self.now
                self._empty_at[bucket.key] = self.now + bucket.after_failure(left)
        return looked_at


def addresses() -> Iterator[str]:
    return (f"10.{a}.{b}.{c}" for a, b, c in itertools.product(range(250), repeat=3))


def test_one_name_from_one_place_is_stopped_and_comes_back() -> None:
    failures = Failures()
    assert failures.fail("bob", "192.0.2.1", count=100) == LIMIT
    assert 0 < failures.wait("bob", "192.0.2.1") <= 60
    assert failures.wait("eve", "192.0.2.1") == 0
    assert failures.wait("bob", "192.0.2.2") == 0
    failures.now += failures.wait("bob", "192.0.2.1")
    assert failures.fail("bob", "192.0.2.1", count=100) == 1
    failures.now += LIMIT * 60
    assert failures.fail("bob", "192.0.2.1", count=100) == LIMIT


def test_many_names_from_one_place_are_stopped() -> None:
    failures = Failures()
    assert sum(failures.fail(f"name{i}", "192.0.2.1") for i in range(1000)) == 2 * LIMIT
    assert failures.wait("another", "192.0.2.1") > 0
    assert failures.wait("another", "192.0.2.2") == 0
    # Who has signed in from there before does not suffer from it, nor do others from what he mistypes.
    assert failures.wait("bob", "192.0.2.1", known=True) == 0
    fresh = Failures()
    fresh.fail("bob", "192.0.2.1", known=True, count=100)
    assert fresh.wait("bob", "192.0.2.1", known=True) > 0
    assert fresh.wait("another", "192.0.2.1") == 0


def test_an_account_that_is_guessed_at_from_everywhere_stays_open() -> None:
    failures = Failures()
    looked_at = sum(
        failures.fail("bob", address, count=100) for address in itertools.islice(addresses(), 100)
    )
    assert looked_at == 5 * LIMIT + 95 * 3, (
        "the account's own share, and three for each place that comes later"
    )
    for address in itertools.islice(addresses(), 100):
        assert failures.wait("bob", address) > 0
    assert failures.wait("bob", "192.0.2.1", known=True) == 0
    assert failures.wait("bob", "192.0.2.1") == 0, "nor is anybody elsewhere who comes for the first time"
    assert failures.fail("bob", "192.0.2.1", count=5) == 3
    # Hours later all of them have the account's own share together, and then one guess a minute.
    for hours, share in ((2, 5 * LIMIT), (1 / 60, 1), (1 / 60, 1)):
        failures.now += hours * 3600
        assert (
            sum(failures.fail("bob", address, count=100) for address in itertools.islice(addresses(), 100))
            == share
        )


@pytest.mark.parametrize(("prefix", "most"), [(64, 2 * LIMIT), (48, 8 * LIMIT)])
def test_an_ipv6_network_is_one_place(prefix: int, most: int) -> None:
    failures = Failures()
    looked_at = 0
    for i in range(1000):
        address = f"2001:db8:1::{i:x}" if prefix == 64 else f"2001:db8:1:{i:x}::1"
        looked_at += failures.fail(f"name{i}", address)
    assert looked_at == most
    assert failures.wait("another", "2001:db8:1::ffff") > 0
    assert failures.wait("another", "2001:db8:2::1") == 0


def test_places() -> None:
    assert place_of("::ffff:192.0.2.1") == place_of("192.0.2.1") == site_of("192.0.2.1") == "192.0.2.1"
    assert place_of("2001:db8::1") == "2001:db8::/64"
    assert site_of("2001:db8:0:7::1") == "2001:db8::/48"
    assert place_of(None) == ""


def test_a_bucket_is_never_fuller_than_full() -> None:
    bucket = Bucket("k", "pair", 3, 10.0)
    left = 0.0
    for _ in range(50):
        left = bucket.after_failure(left)
    assert (left, bucket.wait_seconds(left)) == (30.0, 10.0)
    assert retry_after(9.2) == "11"


def test_names_of_any_kind_have_a_key() -> None:
    keys = {buckets_of(name, "192.0.2.1", limit=1).pair.key for name in ("", "a", "a\0", "\udc80", "x" * 64)}
    assert len(keys) == 5
    long = [buckets_of("x" * 64 + end, "192.0.2.1", limit=1).pair.key for end in ("", "a", "b" * 10_000)]
    assert len(set(long)) == 1
