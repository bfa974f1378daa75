"""Which tags a rule is about, and which tokens move none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from registry.auth.actor import Actor
from registry.auth.policy import decide, moves_tags
from registry.auth.scopes import parse_token_scope, uncovered
from registry.content.immutability import TagRule, rule_for
from registry.content.tagmatching import TagPattern

RULE = TagRule(
    id=1,
    on="team/",
    by="semver",
    pattern=">=1",
    exceptions=(TagPattern("glob", "*-rc*"), TagPattern("regex", "9.*")),
    reason=None,
    created_by="admin",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
ACTOR = Actor(kind="robot", name="team+ci", account_id=1, roles={"team/": "owner"})


def test_a_rule_is_about_its_tags_but_for_its_exceptions() -> None:
    other = replace(RULE, id=2, by="glob", pattern="latest", exceptions=())
    for tag, number in (
        ("1.0", 1),
        ("v2.3.4", 1),
        ("latest", 2),
        ("0.9", None),
        ("1.0-rc1", None),
        ("9.1", None),
        ("Latest", None),
    ):
        found = rule_for((RULE, other), tag)
        assert (found.id if found else None) == number, tag
    assert rule_for((), "1.0") is None
    assert replace(RULE, reason="they stay").shown == "rule 1 on team/ (semver >=1, they stay)"


@pytest.mark.parametrize(
    ("scopes", "pushes", "moves"),
    [
        (None, True, True),
        (("repository:team/*:pull,push",), True, True),
        (("repository:team/*:pull,create",), True, False),
        (("repository:team/*:create", "repository:team/app:push"), True, True),
        (("repository:team/*:create", "repository:team/other:push"), True, False),
        (("repository:team/*:pull",), False, False),
        (("admin",), False, False),
    ],
)
def test_who_moves_tags(scopes: tuple[str, ...] | None, pushes: bool, moves: bool) -> None:
    """With an API token, and with a registry token that was asked for pushes with it."""
    given = None if scopes is None else tuple(map(parse_token_scope, scopes))
    by_itself = replace(ACTOR, scopes=given)
    asked = replace(
        ACTOR,
        scopes=(parse_token_scope("repository:team/app:push"),),
        credential_scopes=given,
        from_registry_token=True,
    )
    assert decide(by_itself, "push", "team/app", "private").allowed is pushes
    assert (moves_tags(by_itself, "team/app"), moves_tags(asked, "team/app")) == (moves, moves)


def test_no_token_makes_one_that_may_more() -> None:
    push, create = (parse_token_scope(f"repository:team/*:{action}") for action in ("push", "create"))
    assert uncovered([create], [push]) is None
    assert uncovered([push], [create]) == push
    assert uncovered([create], [create]) is None
