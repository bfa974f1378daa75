"""What a token covers, as ranges of names: nothing is lost, nothing is read twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.actor import Actor
from registry.auth.policy import decide, pull_patterns
from registry.auth.scopes import Scope, parse_token_scope
from registry.content.nameranges import NameRange, ranges


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], []),
        (["*"], [NameRange("")]),
        (["*", "team/*", "a*b"], [NameRange("")]),
        (["team/*", "base/*"], [NameRange("base/"), NameRange("team/")]),
        (["team/*", "team/a/*", "team/*/x"], [NameRange("team/")]),
        (["team/**"], [NameRange("team/")]),
        (["team/*/app", "team/x/*"], [NameRange("team/", ("team/*/app", "team/x/*"))]),
        (["*/app", "team/*"], [NameRange("", ("*/app", "team/*"))]),
        (["ab*", "a-*"], [NameRange("a-"), NameRange("ab")]),
    ],
)
def test_ranges(patterns: list[str], expected: list[NameRange]) -> None:
    assert ranges(patterns) == expected


def test_where_a_range_ends() -> None:
    assert [NameRange(prefix).end for prefix in ("", "team/", "az")] == [None, "team0", "a{"]


NAMES = st.text("ab/-_", min_size=1, max_size=6)


@given(st.lists(st.text("ab/-_*", min_size=1, max_size=5), max_size=6), st.lists(NAMES, max_size=30))
def test_every_name_that_is_covered_lies_in_one_range(patterns: list[str], names: list[str]) -> None:
    scopes = tuple(Scope("repository", pattern, frozenset({"pull"})) for pattern in patterns)
    actor = Actor(kind="user", name="u", is_admin=True, scopes=scopes)
    found = ranges(pattern for pattern in pull_patterns(actor) if "*" in pattern)
    assert found == sorted(found, key=lambda part: part.prefix)
    for name in names:
        inside = [part for part in found if name.startswith(part.prefix)]
        assert len(inside) <= 1
        for part in inside:
            assert part.prefix <= name
            assert part.end is None or name < part.end
        if decide(actor, "pull", name, "private").allowed:
            assert inside or name in patterns


def test_what_a_token_covers_for_pull() -> None:
    texts = ("repository:a/*:pull", "repository:b:push", "repository:c:pull,push", "admin")
    scopes = tuple(parse_token_scope(text) for text in texts)
    assert pull_patterns(Actor(kind="user", name="u", scopes=scopes)) == {"a/*", "c"}
    assert pull_patterns(Actor(kind="user", name="u")) == {"*"}
