"""Every combination of who asks for what where, and what he is told: one table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.auth.access import require
from registry.auth.actor import ANONYMOUS, Actor, Lease
from registry.auth.policy import LEAST_ROLE, Action, Visibility
from registry.auth.scopes import parse_token_scope
from registry.errors import DeniedError, UnauthorizedError

NAME = "team/app"
PLACES: tuple[Visibility | None, ...] = ("public", "internal", "private", None)
USER = Actor(kind="user", name="bob", account_id=2)
ADMIN = Actor(kind="user", name="admin", account_id=1, is_admin=True)
WORKER = Actor(kind="worker", name="w", account_id=3)


def api_token(account: Actor, *scopes: str) -> Actor:
    """With an API token of these scopes."""
    return replace(account, scopes=tuple(parse_token_scope(scope) for scope in scopes), token_id="t")


def asked(account: Actor, *, granted: str = "", refused: str = "") -> Actor:
    """With a registry token that was asked for these actions: some it has, others were refused."""
    scopes = (parse_token_scope(f"repository:{NAME}:{granted}"),) if granted else ()
    pairs = frozenset((NAME, action) for action in refused.split(",") if action)
    return replace(
        account, scopes=scopes, credential_scopes=account.scopes, from_registry_token=True, refused=pairs
    )


def leased(repository: str) -> Actor:
    """A worker with the pull token of a lease."""
    lease = Lease("l", repository, "sha256:" + "0" * 64)
    scope = parse_token_scope(f"repository:{repository}:pull")
    return replace(WORKER, lease=lease, scopes=(scope,), from_registry_token=True)


NO_RIGHT, READING, WRITING = (
    f"{{actor}} has no {{action}} right on team/app{being}; it takes the role {{least}}, which an owner of "
    "the namespace or an administrator can give"
    for being in ("", ", being reader of team", ", being writer of team/app")
)
NO_SCOPE = "the token of {actor} does not cover {action} on team/app; ask for one that does"
SIGN_IN = "sign in to {action} team/app"
NOT_ASKED = "this token was not asked for {action} on team/app"
NOT_LEASED = "worker w reads the image of its lease and nothing else"
OK = ""
READER = api_token(ADMIN, "repository:team/*:pull")
ELSEWHERE = api_token(ADMIN, "repository:elsewhere/*:pull,push,delete")
TABLE: dict[str, tuple[Actor, dict[str, tuple[str, str, str, str]]]] = {
    # who: the actor, and per action what he is told in a public, an internal, a private, and in no repository
    "nobody": (
        ANONYMOUS,
        {
            "pull": (OK, SIGN_IN, SIGN_IN, SIGN_IN),
            "push": (SIGN_IN,) * 4,
            "delete": (SIGN_IN,) * 4,
        },
    ),
    "nobody, with a token that has nothing": (
        asked(ANONYMOUS, refused="pull"),
        {"pull": (SIGN_IN,) * 4, "push": (SIGN_IN,) * 4, "delete": (SIGN_IN,) * 4},
    ),
    "a user": (
        USER,
        {
            "pull": (OK, OK, NO_RIGHT, NO_RIGHT),
            "push": (NO_RIGHT,) * 4,
            "delete": (NO_RIGHT,) * 4,
        },
    ),
    "a user, who asked for all of it": (
        asked(USER, granted="pull", refused="push,delete"),
        {"pull": (OK, OK, NO_RIGHT, NO_RIGHT), "push": (NO_RIGHT,) * 4, "delete": (NO_RIGHT,) * 4},
    ),
    "a user, who asked for less": (
        asked(USER, granted="pull"),
        {"pull": (OK, OK, NO_RIGHT, NO_RIGHT), "push": (NOT_ASKED,) * 4, "delete": (NOT_ASKED,) * 4},
    ),
    "a user, who asked for something else": (
        asked(USER),
        {"pull": (NOT_ASKED,) * 4, "push": (NOT_ASKED,) * 4, "delete": (NOT_ASKED,) * 4},
    ),
    "a reader": (
        replace(USER, roles={"team/": "reader"}),
        {"pull": (OK,) * 4, "push": (READING,) * 4, "delete": (READING,) * 4},
    ),
    "a writer": (
        replace(USER, roles={"team/app": "writer"}),
        {"pull": (OK,) * 4, "push": (OK,) * 4, "delete": (WRITING,) * 4},
    ),
    "a maintainer": (
        replace(USER, roles={"team/": "maintainer", "team/app": "reader"}),
        {"pull": (OK,) * 4, "push": (OK,) * 4, "delete": (OK,) * 4},
    ),
    "an owner of something else": (
        replace(USER, roles={"tea/": "owner", "team/ap": "owner", "team/app/": "owner"}),
        {"pull": (OK, OK, NO_RIGHT, NO_RIGHT), "push": (NO_RIGHT,) * 4, "delete": (NO_RIGHT,) * 4},
    ),
    "an auditor": (
        replace(USER, is_auditor=True),
        {"pull": (OK,) * 4, "push": (NO_RIGHT,) * 4, "delete": (NO_RIGHT,) * 4},
    ),
    "the administrator": (ADMIN, {"pull": (OK,) * 4, "push": (OK,) * 4, "delete": (OK,) * 4}),
    "the administrator, who asked for less": (
        asked(ADMIN, granted="pull"),
        {"pull": (OK,) * 4, "push": (NOT_ASKED,) * 4, "delete": (NOT_ASKED,) * 4},
    ),
    "a token that reads": (
        READER,
        {"pull": (OK,) * 4, "push": (NO_SCOPE,) * 4, "delete": (NO_SCOPE,) * 4},
    ),
    "a token that reads, asked for all of it": (
        asked(READER, granted="pull", refused="push,delete"),
        {"pull": (OK,) * 4, "push": (NO_SCOPE,) * 4, "delete": (NO_SCOPE,) * 4},
    ),
    "a token for elsewhere": (
        ELSEWHERE,
        {"pull": (NO_SCOPE,) * 4, "push": (NO_SCOPE,) * 4, "delete": (NO_SCOPE,) * 4},
    ),
    "a user's token that says more than he may": (
        api_token(USER, "repository:*:pull,push,delete"),
        {"pull": (OK, OK, NO_RIGHT, NO_RIGHT), "push": (NO_RIGHT,) * 4, "delete": (NO_RIGHT,) * 4},
    ),
    "a worker": (
        WORKER,
        {"pull": (NOT_LEASED,) * 4, "push": (NOT_LEASED,) * 4, "delete": (NOT_LEASED,) * 4},
    ),
    "a worker with a lease here": (
        leased(NAME),
        {"pull": (OK,) * 4, "push": (NOT_LEASED,) * 4, "delete": (NOT_LEASED,) * 4},
    ),
    "a worker with a lease elsewhere": (
        leased("team/other"),
        {"pull": (NOT_LEASED,) * 4, "push": (NOT_LEASED,) * 4, "delete": (NOT_LEASED,) * 4},
    ),
}


@pytest.mark.parametrize("action", ["pull", "push", "delete"])
@pytest.mark.parametrize("who", TABLE)
def test_what_each_is_told(who: str, action: Action) -> None:
    actor, told = TABLE[who]
    for place, expected in zip(PLACES, told[action], strict=True):
        try:
            require(actor, action, NAME, place)
            said, kind = OK, None
        except (UnauthorizedError, DeniedError) as error:
            said, kind = error.message, type(error)
        assert said == expected.format(actor=actor.shown, action=action, least=LEAST_ROLE[action]), place
        # 401 only to those whom another token could help.
        helped = expected in (SIGN_IN, NOT_ASKED)
        assert kind is (None if expected == OK else UnauthorizedError if helped else DeniedError), place
    assert told[action][2] == told[action][3], "what is private looks as if it were not there"
