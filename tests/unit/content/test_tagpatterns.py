"""Patterns of tags."""

from __future__ import annotations

import pytest

from registry.content.tagpatterns import means_any, parse_tag_patterns
from registry.errors import RequestInvalidError


@pytest.mark.parametrize(
    ("patterns", "tags", "means"),
    [
        (None, ["1"], True),
        (None, [], False),
        (["*"], ["1"], True),
        (["*"], [], False),
        (["v*"], ["v", "x"], True),
        (["v*"], ["V1"], False),
        (["v*"], ["xv1"], False),
        (["v*.*"], ["v1.2"], True),
        (["v*.*"], ["v12"], False),
        (["1.2"], ["1x2"], False),
        (["1.2", "a_*"], ["a_b"], True),
        (["a_*"], ["axb"], False),
    ],
)
def test_what_is_meant(patterns: list[str] | None, tags: list[str], means: bool) -> None:
    assert means_any(patterns, tags) is means


@pytest.mark.parametrize("given", [[], [""], ["a b"], ["-x"], ["a[b]"], ["é*"], ["a\n"], ["x"] * 33])
def test_what_is_no_pattern(given: list[str]) -> None:
    with pytest.raises(RequestInvalidError):
        parse_tag_patterns(given)


def test_each_pattern_counts_once() -> None:
    assert parse_tag_patterns(["b", "*", "b"]) == ("b", "*")


def test_many_stars_take_no_time() -> None:
    (pattern,) = parse_tag_patterns(["*a" * 60 + "*"])
    assert not means_any([pattern], ["a" * 59 + "b" * 69])
