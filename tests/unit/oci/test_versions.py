"""Tags as versions: the order of the standard, byte by byte, and ranges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.versions import NO_VERSION, parse_version_range, version_key

# Semantic Versioning 2.0.0, 11, and what tags have besides.
ASCENDING = (
    "0",
    "0.0.1",
    "v0.9.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.1.0",
    "1.0.0-alpha.beta",
    "1.0.0-alpha1",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2",
    "1.9.0",
    "1.10.0",
    "2",
    "10.0.0",
    "2026.11.30",
    "9" * 40,
    "1" + "0" * 60,
)


def test_the_order_is_that_of_the_standard() -> None:
    keys = [version_key(tag) for tag in ASCENDING]
    for (lower, upper), (one, other) in zip(pairwise(keys), pairwise(ASCENDING), strict=True):
        assert lower.encode() < upper.encode(), (one, other)
    assert min(keys) > NO_VERSION > ""


def test_what_is_the_same_version() -> None:
    for tag, same in (("1.2", "1.2.0"), ("v1", "1.0.0"), ("01.02.03", "1.2.3"), ("1.2.3_build.5", "1.2.3")):
        assert version_key(tag) == version_key(same)


@pytest.mark.parametrize("tag", ["latest", "", "1.2.3.4", "v", "1.", "x1", "1.2.3-", "sha256-" + "0" * 64])
def test_what_is_none(tag: str) -> None:
    assert version_key(tag) == NO_VERSION


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), st.lists(st.integers(0, 10**9), min_size=3))
def test_numbers_are_compared_as_numbers(one: list[int], other: list[int]) -> None:
    keys = [version_key(".".join(map(str, numbers[:3]))) for numbers in (one, other)]
    assert (keys[0] < keys[1]) == (one < other[:3])


def test_ranges() -> None:
    for text, inside, outside in (
        ("*", ("1", "1.0.0-rc.1"), ("latest",)),
        ("stable", ("1", "v2.3.4"), ("1.0.0-rc.1", "latest")),
        (">=1.2.0 <2", ("1.2", "1.99.99", "2.0.0-rc.1"), ("1.1.9", "2", "latest")),
        (">=1.2.0 <2 stable", ("1.2",), ("2.0.0-rc.1",)),
        ("=1.2", ("v1.2.0",), ("1.2.1",)),
        (">1 <=1.1", ("1.0.1", "1.1.0"), ("1.0.0", "1.1.1")),
    ):
        test = parse_version_range(text)
        assert [tag for tag in (*inside, *outside) if test(tag)] == list(inside), text


@pytest.mark.parametrize("text", ["", "  ", "1.2", "^1.2", ">=latest", ">=", "*1", ">=1" * 100])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"characters|empty|comparison"):
        parse_version_range(text)
