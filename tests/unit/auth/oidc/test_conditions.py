"""Conditions on claims: what holds, and what only looks as if it did."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.oidc.conditions import Condition, missing, require_conditions
from registry.errors import RequestInvalidError


@pytest.mark.parametrize(
    ("glob", "value", "holds"),
    [
        ("repo:team/*:ref:refs/heads/main", "repo:team/app:ref:refs/heads/main", True),
        ("repo:team/*:ref:refs/heads/main", "repo:team/:ref:refs/heads/main", True),
        ("repo:team/*:ref:refs/heads/main", "repo:team/app:x:ref:refs/heads/main", False),
        ("repo:team/*:ref:refs/heads/main", "repo:team/a/b:ref:refs/heads/main", False),
        ("repo:team/*:ref:refs/heads/main", "repo:team/app:ref:refs/heads/main2", False),
        ("repo:team/*:ref:refs/heads/main", "xrepo:team/app:ref:refs/heads/main", False),
        ("repo:team/*:ref:refs/heads/main", "repo:team/app:ref:refs/heads/main\n", False),
        ("repo:team/**", "repo:team/app:environment:x/y", True),
        ("team/a.c", "team/abc", False),
        ("team/[ab]", "team/a", False),
        ("team/?", "team/a", False),
        ("(a|b)*", "a", False),
        ("v*.*", "v1.2", True),
        ("v*", "v1\n2", True),
        ("**/main", "refs/heads/main", True),
        ("a**b*c", "a/:/b.c", True),
    ],
)
def test_globs(glob: str, value: str, holds: bool) -> None:
    assert Condition("sub", glob=glob).holds({"sub": value}) is holds


@pytest.mark.parametrize(
    ("claims", "holds"),
    [
        ({"ref": "main"}, True),
        ({"ref": ["other", "main"]}, True),
        ({"ref": "main "}, False),
        ({"ref": "Main"}, False),
        ({"ref": None}, False),
        ({"ref": {"main": "main"}}, False),
        ({"ref": [["main"]]}, False),
        ({"ref": [{"a": "main"}, None, 1.5]}, False),
        ({}, False),
    ],
)
def test_what_equals(claims: dict[str, Any], holds: bool) -> None:
    assert Condition("ref", equals="main").holds(claims) is holds


def test_numbers_and_truth_values_are_what_json_writes() -> None:
    assert Condition("n", equals="7").holds({"n": 7})
    assert Condition("n", equals="true").holds({"n": True})
    assert not Condition("n", equals="1").holds({"n": True})
    assert not Condition("n", equals="0").holds({"n": False})


def test_a_star_in_an_equal_text_is_a_star() -> None:
    assert not Condition("sub", equals="repo:team/*").holds({"sub": "repo:team/app"})
    assert Condition("sub", equals="repo:team/*").holds({"sub": "repo:team/*"})


def test_all_have_to_hold() -> None:
    conditions = (Condition("a", equals="1"), Condition("b", glob="x*"))
    assert missing(conditions, {"a": "1", "b": "xy"}) == ()
    assert missing(conditions, {"a": "1", "b": "y"}) == (conditions[1],)
    assert missing(conditions, {}) == conditions


@given(st.text(), st.text())
def test_a_text_matches_itself_and_a_star_crosses_no_border(one: str, two: str) -> None:
    literal = one.replace("*", "")
    assert Condition("c", glob=literal + "*").holds({"c": literal})
    assert not Condition("c", glob="a*b").holds({"c": f"a{one}/{two}b"})
    assert not Condition("c", glob="a*b").holds({"c": f"a{one}:{two}b"})


@pytest.mark.parametrize(
    "condition",
    [
        Condition("sub"),
        Condition("sub", equals="a", glob="a"),
        Condition("", equals="a"),
        Condition("sub", equals=""),
        Condition("sub", glob="*"),
        Condition("sub", glob="**:*/**"),
        Condition("sub", equals="a" * 1001),
        Condition("sub", equals="a\0"),
        Condition("iss", equals="https://issuer.example"),
        Condition("aud", equals="registry"),
    ],
)
def test_conditions_that_say_nothing_are_refused(condition: Condition) -> None:
    with pytest.raises(RequestInvalidError):
        require_conditions([condition], least=0)


def test_how_many_there_may_be() -> None:
    one = Condition("sub", equals="a")
    assert require_conditions([], least=0) == ()
    with pytest.raises(RequestInvalidError):
        require_conditions([], least=1)
    with pytest.raises(RequestInvalidError):
        require_conditions([one] * 21, least=1)
