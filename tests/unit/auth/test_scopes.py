"""Scopes: what clients ask for never grows, and what is no scope is dropped or refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.scopes import (
    ACTIONS,
    CLIENT_ACTIONS,
    MAX_SCOPES,
    Scope,
    parse_requested_scopes,
    parse_token_scope,
    uncovered,
)
from registry.errors import RequestInvalidError

COMPONENT = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-)[a-z0-9]{1,5})?", fullmatch=True)
NAMES = st.lists(COMPONENT, min_size=1, max_size=3).map("/".join)
ACTION_SETS = st.sets(st.sampled_from(sorted(ACTIONS)), min_size=1).map(frozenset)


@given(NAMES, ACTION_SETS)
def test_asking_and_writing_are_inverse(name: str, actions: frozenset[str]) -> None:
    scope = Scope("repository", name, actions)
    assert parse_token_scope(str(scope)) == scope
    asked = actions & CLIENT_ACTIONS
    assert parse_requested_scopes([str(scope)]) == ((replace(scope, actions=asked),) if asked else ())


@given(st.lists(st.text(max_size=60), max_size=10))
def test_whatever_is_asked_for_becomes_plain_names_and_known_actions(texts: list[str]) -> None:
    for scope in parse_requested_scopes(texts):
        assert scope.type in ("repository", "registry")
        if scope.type == "repository":
            assert re.fullmatch(r"[a-z0-9._/-]+", scope.name)
            assert scope.actions
            assert scope.actions <= CLIENT_ACTIONS


@given(st.text(max_size=80))
def test_a_token_scope_is_known_or_refused(text: str) -> None:
    try:
        scope = parse_token_scope(text)
    except RequestInvalidError:
        return
    assert scope.type in ("repository", "admin", "audit", "worker")


@given(NAMES, NAMES, ACTION_SETS)
def test_a_name_without_star_covers_itself_alone(name: str, other: str, actions: frozenset[str]) -> None:
    scope = Scope("repository", name, actions)
    for action in ACTIONS:
        assert scope.includes_action("repository", other, action) == (other == name and action in actions)
        means = {action, "create"} if action == "push" else {action}
        assert scope.covers("repository", other, action) == (other == name and bool(means & actions))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("repository:a:pull repository:b:push", ["a", "b"]),
        ("repository(plugin):a/b:pull", ["a/b"]),
        ("repository:a:pull,fly", ["a"]),
        ("repository:a:*", ["a"]),
        ("repository:../x:pull", []),
        ("repository:A:pull", []),
        ("repository:*:pull", []),
        ("repository:a/*:pull", []),
        ("repository:[a-z]:pull", []),
        ("repository:a?:pull", []),
        ("repository::pull", []),
        ("repository:host:5000/a:pull", []),
        ("repository:a:fly", []),
        ("repository:a:", []),
        ("repository:a", []),
        ("repo:a:pull", []),
        ("admin", []),
        ("worker", []),
        ("registry:catalog:*", ["catalog"]),
        ("registry:catalog:pull", []),
        ("registry:other:*", []),
        ("repository:a\nb:pull", []),
        ("\x00", []),
    ],
)
def test_what_may_be_asked_for(text: str, names: list[str]) -> None:
    assert [scope.name for scope in parse_requested_scopes([text])] == names


def test_star_asks_for_all_that_clients_know() -> None:
    assert parse_requested_scopes(["repository:a:*"])[0].actions == CLIENT_ACTIONS


def test_too_many_are_refused() -> None:
    assert len(parse_requested_scopes(["repository:a:pull"] * MAX_SCOPES)) == MAX_SCOPES
    with pytest.raises(RequestInvalidError, match="101 scopes"):
        parse_requested_scopes([" ".join(["repository:a:pull"] * (MAX_SCOPES + 1))])


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("team/*", "team/app", True),
        ("team/*", "team/a/b", True),
        ("team/*", "team", False),
        ("team/*", "teams/app", False),
        ("*", "anything/at/all", True),
        ("a*z", "abcz", True),
        ("team.x", "teamyx", False),
    ],
)
def test_stars_in_a_token_of_ones_own(pattern: str, name: str, covered: bool) -> None:
    scope = parse_token_scope(f"repository:{pattern}:pull")
    assert scope.covers("repository", name, "pull") is covered
    assert not scope.covers("registry", name, "pull")
    assert not scope.covers("repository", name, "push")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pull",
        "repository:a",
        "repository:a:",
        "repository:A:pull",
        "repository:a:pull,",
        "registry:catalog:*",
    ],
)
def test_what_is_no_token_scope(text: str) -> None:
    with pytest.raises(RequestInvalidError, match="is not a scope"):
        parse_token_scope(text)


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_a_star_is_any_text(pattern: str, name: str) -> None:
    scope = Scope("repository", pattern, frozenset({"pull"}))
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    assert scope.covers("repository", name, "pull") is expected


def test_many_stars_take_no_time() -> None:
    scope = Scope("repository", "*a" * 100 + "*b", frozenset({"pull"}))
    assert not scope.covers("repository", "a" * 255, "pull")
    assert scope.covers("repository", "a" * 254 + "b", "pull")


PATTERNS = st.text(alphabet="ab/*", min_size=1, max_size=7)


@given(PATTERNS, PATTERNS, st.lists(st.text(alphabet="abc/", max_size=3), min_size=8, max_size=8))
def test_what_a_pattern_includes_it_matches(outer: str, inner: str, fillings: list[str]) -> None:
    """Of every name that the inner pattern covers, whatever stands for its stars."""
    scope = Scope("repository", outer, frozenset({"pull"}))
    if not scope.includes(Scope("repository", inner, frozenset({"pull"}))):
        # And if it does not, there is a name that tells: "c" stands in no pattern.
        assert not scope.covers("repository", inner.replace("*", "c"), "pull")
        return
    name = "".join(fillings.pop() if character == "*" else character for character in inner)
    assert scope.covers("repository", name, "pull")


SCOPES = st.lists(st.builds(Scope, st.just("repository"), PATTERNS, ACTION_SETS), min_size=1, max_size=4).map(
    tuple
)


@given(SCOPES, SCOPES, st.text(alphabet="abc/", max_size=6), st.sampled_from(sorted(ACTIONS)))
def test_a_token_that_is_covered_opens_nothing_more(
    wanted: tuple[Scope, ...], held: tuple[Scope, ...], name: str, action: str
) -> None:
    if uncovered(wanted, held) is not None:
        return
    if any(scope.covers("repository", name, action) for scope in wanted):
        assert any(scope.covers("repository", name, action) for scope in held)


@pytest.mark.parametrize(
    ("wanted", "held", "missing"),
    [
        ("repository:team/app:pull", "repository:team/*:pull,push", None),
        ("repository:team/*:pull", "repository:team/*:pull", None),
        ("repository:team/a*:pull", "repository:team/*:pull", None),
        ("repository:*:pull", "repository:team/*:pull", "repository:*:pull"),
        ("repository:team*:pull", "repository:team/*:pull", "repository:team*:pull"),
        ("repository:team/app:pull,push", "repository:team/*:pull", "repository:team/app:push"),
        ("admin", "repository:*:pull,push,delete,trial,configure,administer", "admin:*:*"),
        ("repository:team/app:pull", "admin", "repository:team/app:pull"),
        ("audit", "admin", "audit:*:*"),
        ("worker", "admin", None),
        ("worker", "repository:*:pull", "worker:*:*"),
    ],
)
def test_what_a_token_lacks_is_named(wanted: str, held: str, missing: str | None) -> None:
    found = uncovered([parse_token_scope(wanted)], [parse_token_scope(held)])
    assert (None if found is None else str(found)) == missing


def test_two_scopes_together_cover_the_actions_of_one() -> None:
    held = [parse_token_scope("repository:team/*:pull"), parse_token_scope("repository:*:push")]
    assert uncovered([parse_token_scope("repository:team/app:pull,push")], held) is None
