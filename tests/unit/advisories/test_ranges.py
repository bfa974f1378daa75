"""Ranges of versions, by each ecosystem's own order."""

from __future__ import annotations

import pytest

from registry.advisories.ranges import is_range, parse_range


@pytest.mark.parametrize(
    ("text", "ecosystem", "version", "holds"),
    [
        ("<1.2.3", "npm", "1.2.3-rc.1", True),
        ("<1.2.3", "npm", "1.2.3", False),
        ("<=1.2.3", "npm", "1.2.3", True),
        (">=4, <4.17.19", "npm", "4.17.15", True),
        (">=4,<4.17.19", "npm", "3.9.9", False),
        ("<2.10.1", "PyPI", "2.10.1rc1", True),
        ("<1.10", "PyPI", "1.9", True),
        ("<3.0.17-1~deb12u3", "Debian:12", "3.0.17-1~deb12u2", True),
        ("<1:2.0", "Debian:12", "9.9", True),
        (">1.2", "Alpine:v3.20", "1.2-r1", True),
        ("=1.0", "PyPI", "1.0.0", True),
        ("<1", "npm", "no version at all", None),
        ("<no-version", "PyPI", "1.0", None),
        ("<1", "Nobody's", "0.1", None),
    ],
)
def test_a_range_goes_by_the_order_of_the_ecosystem(
    text: str, ecosystem: str, version: str, holds: bool | None
) -> None:
    assert parse_range(text).holds(ecosystem, version) is holds


@pytest.mark.parametrize("text", ["<", "1.2", "< 1 2", "<1,", "<1" + ",<1" * 10, "~1", "<" + "9" * 301])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bound"):
        parse_range(text)


def test_what_is_meant_as_one() -> None:
    assert [is_range(text) for text in ("<1", " >=1", "=1", "1.0", "v1", "")] == [True] * 3 + [False] * 3
    assert str(parse_range(" >= 1.0 , <2")) == ">=1.0,<2"
