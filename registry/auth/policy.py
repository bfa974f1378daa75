"""The access policy: pure functions from actor, action and repository to a decision with its reason.

What an account may comes from three things: what it is (administrator, auditor), the highest role it holds on
the repository or a namespace above it, and the repository's visibility. A token only takes away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from registry.auth.actor import Actor, Role

Action = Literal["pull", "push", "trial", "delete", "configure", "administer"]
"""``trial``: start and cancel trials. ``configure``: settings, run spec, gate, blocks. ``administer``: roles,
robots, rename, transfer, and deleting the whole."""
Visibility = Literal["public", "internal", "private"]

ROLES: tuple[Role, ...] = get_args(Role)
LEAST_ROLE: Mapping[Action, Role] = MappingProxyType(
    {
        "pull": "reader",
        "push": "writer",
        "trial": "writer",
        "delete": "maintainer",
        "configure": "maintainer",
        "administer": "owner",
    }
)
"""The least role for each action."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``sees`` tells whether the actor may know that the repository exists."""

    allowed: bool
    sees: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """A role, and what it was given on: a repository, or a namespace with a slash at its end."""

    role: Role
    on: str


def decide(actor: Actor, action: Action, name: str, visibility: Visibility | None) -> Decision:
    """May ``actor`` do ``action`` in the repository ``name``? ``visibility`` is ``None`` where there is none.

    A repository that does not exist is decided like a private one, so that the answer tells nothing.
    """
    if actor.kind == "worker":
        # A worker is a stranger: its account opens nothing, only the pull token of a live lease does.
        held = actor.lease is not None and actor.lease.repository == name
        return Decision(
            held and action == "pull", held, "a worker reads the image of its lease and nothing else"
        )
    pulls = _account_may(actor, "pull", name, visibility) is not None and _token_may(actor, "pull", name)
    # The token first: what it says does not depend on whether the repository exists.
    if not _token_may(actor, action, name):
        return Decision(False, pulls, f"the token of {actor.shown} does not cover {action} on {name}")
    reason = _account_may(actor, action, name, visibility)
    if reason is None:
        return Decision(
            False, pulls, f"{actor.shown} has no {action} right on {name}; an administrator can do it"
        )
    return Decision(True, True, f"{actor.shown} may {action} on {name}: {reason}")


def role_on(actor: Actor, name: str) -> Held | None:
    """The highest role that ``actor`` holds on the repository ``name``, or on a namespace above it.

    ``name`` may also be a namespace, with a slash at its end. Of equal ones the nearest is named.
    """
    if not actor.roles:
        return None
    found = [Held(role, on) for on in _itself_and_above(name) if (role := actor.roles.get(on)) is not None]
    return max(found, key=lambda held: ROLES.index(held.role), default=None)


def role_allows(role: Role, action: Action) -> bool:
    """Whether ``role`` is enough for ``action``."""
    return ROLES.index(role) >= ROLES.index(LEAST_ROLE[action])


def namespace_of(name: str) -> str | None:
    """The namespace of a repository: the path before the last part of its name; ``None`` at the top."""
    return name.rpartition("/")[0] or None


def pullable(actor: Actor) -> tuple[Visibility, ...]:
    """Which visibilities the actor's account may pull from, whatever its roles, for a query; a token may
    cover less of them."""
    kinds: tuple[Visibility, ...] = ("public", "internal", "private")
    return tuple(kind for kind in kinds if _anywhere(actor, "pull", kind) is not None)


def pull_patterns(actor: Actor) -> frozenset[str]:
    """Names, and patterns with ``*``, that the actor's token covers for pull, whatever its account may."""
    if actor.scopes is None:
        return frozenset({"*"})
    return frozenset(
        scope.name for scope in actor.scopes if scope.type == "repository" and "pull" in scope.actions
    )


def may_administer(actor: Actor) -> bool:
    """Whether the actor manages accounts, tokens and repositories with this credential."""
    return actor.is_admin and (actor.scopes is None or any(scope.type == "admin" for scope in actor.scopes))


def may_audit(actor: Actor) -> bool:
    """Whether the actor reads the audit trail, and accounts, groups and roles, with this credential."""
    covers = actor.scopes is None or any(scope.type in ("admin", "audit") for scope in actor.scopes)
    return covers and (actor.is_admin or actor.is_auditor)


def _account_may(actor: Actor, action: Action, name: str, visibility: Visibility | None) -> str | None:
    """Why the account may, or ``None``."""
    reason = _anywhere(actor, action, visibility)
    if reason is not None:
        return reason
    held = role_on(actor, name)
    if held is not None and role_allows(held.role, action):
        return f"{held.role} on {held.on}"
    return None


def _anywhere(actor: Actor, action: Action, visibility: Visibility | None) -> str | None:
    """Why the account may in every repository of this visibility, or ``None``."""
    if actor.is_admin:
        return "administrator"
    if action != "pull":
        return None
    if actor.is_auditor:
        return "auditor"
    if visibility == "public":
        return "public"
    if visibility == "internal" and actor.kind in ("user", "robot"):
        return "internal, and signed in"
    return None


def _token_may(actor: Actor, action: Action, name: str) -> bool:
    return actor.scopes is None or any(scope.covers("repository", name, action) for scope in actor.scopes)


def _itself_and_above(name: str) -> Iterator[str]:
    yield name
    path = name.rstrip("/")
    while "/" in path:
        path = path.rpartition("/")[0]
        yield f"{path}/"
