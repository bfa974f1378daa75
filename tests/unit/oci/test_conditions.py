from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import PreconditionFailedError, RequestInvalidError
from registry.oci.conditions import NO_CONDITIONS, Conditions, EntityTags, parse_entity_tags

A, B = "sha256:aaaa", "sha256:bbbb"


@pytest.mark.parametrize(
    ("text", "strong", "weak"),
    [
        (f'"{A}"', {A}, set()),
        (f'W/"{A}"', set(), {A}),
        (f'"{A}", W/"{B}"', {A}, {B}),
        (f' , "{A}" ,,\t"{B}",', {A, B}, set()),
        ('"a,b","c"', {"a,b", "c"}, set()),
        ('""', {""}, set()),
        ('"é"', {"é"}, set()),
    ],
)
def test_lists_of_entity_tags(text: str, strong: set[str], weak: set[str]) -> None:
    assert parse_entity_tags(text) == EntityTags(False, frozenset(strong), frozenset(weak))


@pytest.mark.parametrize(
    "text",
    ["", ",", A, f'"{A}', f'{A}"', f'w/"{A}"', f'W/ "{A}"', f'"{A}" "{B}"', f'*, "{A}"', '"a b"', "**"],
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_entity_tags(text)


@pytest.mark.parametrize("filler", [" ", "\t", '"', "a", '"a" ', ",", "W/"])
def test_long_nonsense_takes_no_time(filler: str) -> None:
    with pytest.raises(RequestInvalidError):
        parse_entity_tags('"a",' + filler * 60_000 + "x")


def test_a_star_is_anything_that_is_there() -> None:
    star = parse_entity_tags(" * ")
    assert star.is_any
    assert [star.has_strongly(A), star.has_weakly(A)] == [True, True]
    assert [star.has_strongly(None), star.has_weakly(None)] == [False, False]


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "current", "holds"),
    [
        (f'"{A}"', None, A, True),
        (f'"{A}"', None, B, False),
        (f'"{A}", "{B}"', None, B, True),
        (f'W/"{A}"', None, A, False),
        (f'"{A}"', None, None, False),
        ("*", None, A, True),
        ("*", None, None, False),
        (None, "*", None, True),
        (None, "*", A, False),
        (None, f'"{A}"', A, False),
        (None, f'W/"{A}"', A, False),
        (None, f'"{A}"', B, True),
        (None, f'"{A}"', None, True),
        (f'"{A}"', f'"{B}"', A, True),
        (f'"{A}"', f'"{A}"', A, False),
        (None, None, A, True),
    ],
)
def test_what_holds(
    if_match: str | None, if_none_match: str | None, current: str | None, holds: bool
) -> None:
    conditions = Conditions(
        parse_entity_tags(if_match) if if_match else None,
        parse_entity_tags(if_none_match) if if_none_match else None,
    )
    assert bool(conditions) == (if_match is not None or if_none_match is not None)
    if holds:
        conditions.require(current, "tag x")
        return
    with pytest.raises(PreconditionFailedError, match=r"tag x (does not exist|stands at)"):
        conditions.require(current, "tag x")
    assert not NO_CONDITIONS


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tags = parse_entity_tags(text)
    except RequestInvalidError:
        return
    assert tags.is_any or tags.strong or tags.weak
