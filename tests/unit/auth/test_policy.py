"""The whole access matrix, and what each refusal looks like from outside."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import get_args

import pytest

from registry.auth.access import require, require_admin, require_catalog, require_sign_in
from registry.auth.actor import ANONYMOUS, Actor, Lease, Role
from registry.auth.policy import (
    HIDDEN,
    Action,
    Visibility,
    decide,
    may_administer,
    may_create,
    reads_trials,
    role_on,
)
from registry.auth.scopes import Scope, parse_token_scope
from registry.errors import DeniedError, SeatrialError, UnauthorizedError

NAME = "team/app"
ADMIN = Actor(kind="user", name="admin", account_id=1, is_admin=True)
USER = Actor(kind="user", name="bob", account_id=2)
WORKER = Actor(kind="worker", name="w1", account_id=3, scopes=(parse_token_scope("worker"),))
LEASED = replace(
    WORKER, scopes=(Scope("repository", NAME, frozenset({"pull"})),), lease=Lease("l", NAME, "sha256:0"),
    from_registry_token=True,
)  # fmt: skip
ACTIONS: tuple[Action, ...] = ("pull", "push", "delete")
VISIBILITIES: tuple[Visibility | None, ...] = ("public", "internal", "private", None)


def scoped(actor: Actor, *scopes: str) -> Actor:
    return replace(actor, scopes=tuple(parse_token_scope(scope) for scope in scopes))


def expected(actor: Actor, action: Action, visibility: Visibility | None) -> bool:
    """The matrix in other words than the code's."""
    if actor is ADMIN:
        return True
    if actor is LEASED:
        return action == "pull"
    reads = {ANONYMOUS: ("public",), USER: ("public", "internal"), WORKER: ()}
    return action == "pull" and visibility in reads[actor]


@pytest.mark.parametrize("actor", [ADMIN, USER, WORKER, LEASED, ANONYMOUS], ids=lambda actor: actor.shown)
@pytest.mark.parametrize(("action", "visibility"), list(itertools.product(ACTIONS, VISIBILITIES)))
def test_the_matrix(actor: Actor, action: Action, visibility: Visibility | None) -> None:
    decision = decide(actor, action, NAME, visibility)
    assert decision.allowed == expected(actor, action, visibility)
    assert decision.sees == expected(actor, "pull", visibility)
    assert decision.reason


@pytest.mark.parametrize(("action", "visibility"), list(itertools.product(ACTIONS, VISIBILITIES)))
def test_a_token_only_takes_away(action: Action, visibility: Visibility | None) -> None:
    for account in (ADMIN, USER):
        for scope in (
            "repository:team/app:pull",
            "repository:team/*:pull,push",
            "repository:other:delete",
            "admin",
        ):
            limited = scoped(account, scope)
            if decide(limited, action, NAME, visibility).allowed:
                assert decide(account, action, NAME, visibility).allowed
                assert any(one.covers("repository", NAME, action) for one in limited.scopes or ())


@pytest.mark.parametrize(
    ("roles", "name", "expected"),
    [
        ({"team/": "reader"}, "team/app", ("reader", "team/")),
        ({"team/": "reader"}, "team/sub/app", ("reader", "team/")),
        ({"team/": "reader", "team/sub/": "owner"}, "team/sub/app", ("owner", "team/sub/")),
        ({"team/": "owner", "team/sub/app": "reader"}, "team/sub/app", ("owner", "team/")),
        ({"team/": "writer", "team/app": "writer"}, "team/app", ("writer", "team/app")),
        ({"team/": "owner"}, "team/", ("owner", "team/")),
        ({"team/": "owner"}, "team/sub/", ("owner", "team/")),
        ({"team/sub/": "owner"}, "team/", None),
        ({"team/": "owner"}, "team", None),
        ({"team/": "owner"}, "teams/app", None),
        ({"app": "owner"}, "team/app", None),
        ({}, "team/app", None),
    ],
)
def test_the_highest_role_on_it_or_above_counts(
    roles: dict[str, Role], name: str, expected: tuple[Role, str] | None
) -> None:
    held = role_on(replace(USER, roles=roles), name)
    assert (held and (held.role, held.on)) == expected


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        ("reader", {"pull"}),
        ("writer", {"pull", "push", "trial"}),
        ("maintainer", {"pull", "push", "trial", "delete", "configure"}),
        ("owner", {"pull", "push", "trial", "delete", "configure", "administer"}),
    ],
)
def test_what_each_role_may(role: Role, actions: set[str]) -> None:
    holder = replace(USER, roles={"team/": role})
    for action in get_args(Action):
        assert decide(holder, action, NAME, "private").allowed == (action in actions)
        limited = scoped(holder, "repository:team/app:pull")
        assert decide(limited, action, NAME, "private").allowed == (action == "pull")


def test_a_lease_opens_its_own_repository_only() -> None:
    assert not decide(LEASED, "pull", "team/other", "public").allowed
    assert not decide(LEASED, "pull", "team/app2", "private").sees


def refusal(actor: Actor, action: Action, visibility: Visibility | None) -> SeatrialError | None:
    try:
        require(actor, action, NAME, visibility)
    except SeatrialError as error:
        return error
    return None


def asked(actor: Actor, *refused: Action) -> Actor:
    """As with a registry token that was asked for these actions, and did not get them."""
    pairs = frozenset((NAME, action) for action in refused)
    return replace(actor, scopes=(), from_registry_token=True, refused=pairs)


ACTORS = [
    ANONYMOUS,
    USER,
    WORKER,
    scoped(USER, "repository:other:pull"),
    scoped(USER, "repository:team/*:pull,push"),
    asked(USER),
    asked(USER, "pull", "push"),
    asked(ANONYMOUS, "pull"),
]


@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("action", ACTIONS)
def test_private_looks_as_if_it_did_not_exist(actor: Actor, action: Action) -> None:
    private, missing = refusal(actor, action, "private"), refusal(actor, action, None)
    assert private is not None
    assert missing is not None
    assert (type(private), private.message, private.detail) == (
        type(missing),
        missing.message,
        missing.detail,
    )


@pytest.mark.parametrize(
    ("actor", "error"),
    [
        (ANONYMOUS, UnauthorizedError),
        (asked(ANONYMOUS, "push"), UnauthorizedError),
        (asked(ADMIN), UnauthorizedError),
        (asked(USER, "pull"), UnauthorizedError),
        (asked(USER, "pull", "push"), DeniedError),
        (USER, DeniedError),
        (scoped(ADMIN, "repository:team/app:pull"), DeniedError),
        (WORKER, DeniedError),
        (LEASED, DeniedError),
    ],
)
def test_who_is_told_to_sign_in_and_who_is_told_no(actor: Actor, error: type[SeatrialError]) -> None:
    found = refusal(actor, "push", "public")
    assert type(found) is error
    assert isinstance(found.detail, list)
    assert found.detail[0] == {"Type": "repository", "Name": NAME, "Action": "push"}


def test_a_refusal_says_who_lacks_what_and_who_can_give_it() -> None:
    found = refusal(USER, "push", "public")
    assert found is not None
    assert found.message == (
        "bob has no push right on team/app; it takes the role writer, which an owner of the namespace or "
        "an administrator can give"
    )
    reader = refusal(replace(USER, roles={"team/": "reader"}), "delete", "public")
    assert reader is not None
    assert reader.message == (
        "bob has no delete right on team/app, being reader of team; it takes the role maintainer, which an "
        "owner of the namespace or an administrator can give"
    )
    limited = refusal(scoped(ADMIN, "repository:team/app:pull"), "push", "public")
    assert limited is not None
    assert limited.message == "the token of admin does not cover push on team/app; ask for one that does"


def test_administering_takes_the_account_and_the_scope() -> None:
    assert may_administer(ADMIN)
    assert may_administer(scoped(ADMIN, "admin"))
    assert not may_administer(scoped(ADMIN, "repository:*:pull,push,delete"))
    assert not may_administer(USER)
    assert not may_administer(scoped(USER, "admin"))
    require_admin(ADMIN)
    with pytest.raises(UnauthorizedError):
        require_admin(ANONYMOUS)
    for actor in (USER, WORKER, scoped(ADMIN, "repository:*:pull")):
        with pytest.raises(DeniedError):
            require_admin(actor)


def test_the_base_takes_any_credential_but_none() -> None:
    with pytest.raises(UnauthorizedError):
        require_sign_in(ANONYMOUS)
    require_sign_in(replace(ANONYMOUS, from_registry_token=True))
    require_sign_in(USER)


def test_the_catalog_is_not_limited_to_the_names_a_token_was_asked_for() -> None:
    catalog = Scope("registry", "catalog", frozenset({"*"}))
    own = scoped(ADMIN, "repository:team/*:pull").scopes
    asked = replace(ADMIN, scopes=(catalog,), from_registry_token=True, credential_scopes=own)
    assert require_catalog(asked).scopes == own
    assert require_catalog(USER) is USER
    for actor in (ANONYMOUS, replace(USER, scopes=(), from_registry_token=True)):
        with pytest.raises(UnauthorizedError):
            require_catalog(actor)
    with pytest.raises(DeniedError):
        require_catalog(LEASED)


def test_what_is_hidden_is_open_to_leases_alone_and_its_trials_to_writers() -> None:
    hidden = f"team/{HIDDEN}hub"
    roles: tuple[Role, ...] = get_args(Role)
    people = [replace(USER, roles={"team/": role}) for role in roles]
    auditor = replace(USER, is_auditor=True)
    for actor, (action, visibility) in itertools.product(
        (ADMIN, auditor, ANONYMOUS, USER, WORKER, *people), itertools.product(get_args(Action), VISIBILITIES)
    ):
        writes = actor is ADMIN or (actor in people and actor.roles["team/"] != "reader")
        assert decide(actor, action, hidden, visibility).allowed == (action == "trial" and writes)
        assert reads_trials(actor, hidden, visibility) == (writes or actor is auditor)
        assert not may_create(actor, hidden, by_push=True)
    lease = replace(LEASED, lease=Lease("l", hidden, "sha256:0"))
    assert decide(lease, "pull", hidden, "private").allowed
    assert not decide(lease, "push", hidden, "private").allowed
    assert not decide(LEASED, "pull", hidden, "private").allowed
    assert not reads_trials(scoped(auditor, "repository:other/*:pull"), hidden, "private")
    for name in (f"team/{HIDDEN}hub/app", "team/hub", f"x{HIDDEN}/app"):
        assert decide(ADMIN, "pull", name, "private").allowed
    with pytest.raises(DeniedError, match="copies of another registry"):
        require(ADMIN, "push", hidden, None)
