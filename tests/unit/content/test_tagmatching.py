"""Which tags a pattern means, in a time that does not depend on what it looks like."""

from __future__ import annotations

import pytest

from registry.content.tagmatching import MatchKind, parse_matcher
from registry.errors import RequestInvalidError


@pytest.mark.parametrize(
    ("kind", "pattern", "meant", "others"),
    [
        ("glob", "v1.*", ("v1.", "v1.2"), ("v1", "V1.2", "xv1.2", "v102")),
        ("glob", "*", ("a",), ()),
        ("glob", "*-rc*", ("1-rc", "1-rc.2"), ("1",)),
        ("glob", "1.2", ("1.2",), ("1x2", "1.2.3")),
        ("regex", "v[0-9]+", ("v1",), ("v", "v1x", "xv1")),
        ("regex", "a|b", ("a", "b"), ("ab", "ax")),
        ("semver", ">=1", ("1.2.3",), ("0.9", "latest")),
    ],
)
def test_what_is_meant(
    kind: MatchKind, pattern: str, meant: tuple[str, ...], others: tuple[str, ...]
) -> None:
    means = parse_matcher(kind, pattern)
    assert [tag for tag in (*meant, *others) if means(tag)] == list(meant)


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("glob", ""),
        ("glob", "a[b]"),
        ("glob", "a/b"),
        ("glob", "*" * 201),
        ("regex", "("),
        ("regex", "(?=a)"),
        ("regex", r"(a)\1"),
        ("regex", "((a{1000}){1000}){1000}"),
        ("semver", "latest"),
    ],
)
def test_what_is_no_pattern(kind: MatchKind, pattern: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_matcher(kind, pattern)


@pytest.mark.parametrize(
    ("kind", "pattern"), [("regex", "(a*)*b"), ("regex", "(a|a)*c"), ("glob", "*a" * 60 + "b")]
)
def test_none_takes_for_ever(kind: MatchKind, pattern: str) -> None:
    """A matcher that tries every way would be at it for years."""
    assert not parse_matcher(kind, pattern)("a" * 128)
