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
HIDDEN = "seatrial__upstream__"
"""How the last part of a name begins whose repository holds what was copied to be tried."""
_MANAGING: frozenset[Action] = frozenset({"configure", "administer"})
_SEEING: tuple[Action, ...] = ("pull", "configure")
"""Whoever may do one of these is told that a repository exists."""


HIDDEN_SAYS = "it holds copies of another registry's images: nobody but workers pulls from it or changes it"
Rule = Literal[
    "lease",
    "token",
    "administrator",
    "auditor",
    "public",
    "internal",
    "role",
    "hidden",
    "nothing",
    "tombstone",
    "read-only",
    "create-on-push",
]
"""What decided; ``hidden``: nobody has it there. ``nothing``: no rule gives the right. The last three are not
:func:`decide`'s: a token that names what was given up since, the mode of the whole registry, and what a push
may make."""


@dataclass(frozen=True, slots=True)
class Held:
    """A role, and what it was given on: a repository, or a namespace with a slash at its end."""

    role: Role
    on: str


@dataclass(frozen=True, slots=True)
class Decision:
    """``sees`` tells whether the actor may know that the repository exists. ``held`` is the highest role of
    its account there, whether or not that decided."""

    allowed: bool
    sees: bool
    rule: Rule
    reason: str
    held: Held | None = None


def decide(actor: Actor, action: Action, name: str, visibility: Visibility | None) -> Decision:
    """May ``actor`` do ``action`` in the repository ``name``? ``visibility`` is ``None`` where there is none.

    A repository that does not exist is decided like a private one, so that the answer tells nothing.
    """
    if actor.kind == "worker":
        # A worker is a stranger: its account opens nothing, only the pull token of a live lease does.
        leased = actor.lease is not None and name in actor.lease.repositories
        said = "a worker reads the image of its lease and nothing else"
        return Decision(leased and action == "pull", leased, "lease", said)
    held = role_on(actor, name)
    if is_hidden(name) and action != "trial":
        return Decision(False, False, "hidden", HIDDEN_SAYS, held)
    covered = _token_may(actor, action, name)
    rule = _account_may(actor, action, held, visibility)
    if covered and rule is not None:
        by = f"{held.role} on {held.on}" if rule == "role" and held is not None else rule
        return Decision(True, True, rule, f"{actor.shown} may {action} on {name}: {by}", held)
    sees = any(
        _account_may(actor, seeing, held, visibility) and _token_may(actor, seeing, name)
        for seeing in _SEEING
    )
    # The token first: what it says does not depend on whether the repository exists.
    if not covered:
        said = f"the token of {actor.shown} does not cover {action} on {name}"
        return Decision(False, sees, "token", said, held)
    said = f"{actor.shown} has no {action} right on {name}, which takes the role {LEAST_ROLE[action]}"
    return Decision(False, sees, "nothing", said, held)


def is_hidden(name: str) -> bool:
    """Whether the repository ``name`` is one that nobody pulls from, pushes to or changes: it holds copies of
    another registry's images, for the workers that try them."""
    return name.rpartition("/")[2].startswith(HIDDEN)


def reads_trials(actor: Actor, name: str, visibility: Visibility | None) -> bool:
    """Whether the actor is told what was tried in the repository ``name``: who may pull from it; of what is
    hidden, who may start trials there, and auditors."""
    if not is_hidden(name):
        return decide(actor, "pull", name, visibility).allowed
    audits = actor.is_auditor and _token_may(actor, "pull", name)
    return audits or decide(actor, "trial", name, visibility).allowed


def moves_tags(actor: Actor, name: str) -> bool:
    """Whether the actor's credential lets tags of a repository be moved that there are: not where it covers
    ``create`` alone. What its account may is not asked."""
    scopes = actor.by_credential.scopes
    return scopes is None or any(scope.includes_action("repository", name, "push") for scope in scopes)


def may_create(actor: Actor, name: str, *, by_push: bool) -> bool:
    """Whether the account may make the repository ``name``, which does not exist: whoever has ``configure``
    there, and where ``by_push`` is allowed, whoever has ``push``. At the top, only administrators."""
    if is_hidden(name):
        return False
    if actor.is_admin:
        return True
    held = role_on(actor, name)
    return held is not None and role_allows(held.role, "push" if by_push else "configure")


def role_on(actor: Actor, name: str) -> Held | None:
    """The highest role that ``actor`` holds on the repository ``name``, or on a namespace above it.

    ``name`` may also be a namespace, with a slash at its end. Of equal ones the nearest is named.
    """
    if not actor.roles:
        return None
    found = [Held(role, on) for on in itself_and_above(name) if (role := actor.roles.get(on)) is not None]
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
    return actor.is_admin and (actor.scopes is None or _has_admin_scope(actor))


def may_audit(actor: Actor) -> bool:
    """Whether the actor reads the audit trail, and accounts, groups and roles, with this credential."""
    covers = actor.scopes is None or any(scope.type in ("admin", "audit") for scope in actor.scopes)
    return covers and (actor.is_admin or actor.is_auditor)


def may_manage_own(actor: Actor) -> bool:
    """Whether the actor sees and ends sessions and refresh tokens of its own account with this credential."""
    return actor.scopes is None or any(scope.type == "account" for scope in actor.scopes)


def _account_may(
    actor: Actor, action: Action, held: Held | None, visibility: Visibility | None
) -> Rule | None:
    """By which rule the account may, or ``None``."""
    rule = _anywhere(actor, action, visibility)
    if rule is None and held is not None and role_allows(held.role, action):
        return "role"
    return rule


def _anywhere(actor: Actor, action: Action, visibility: Visibility | None) -> Rule | None:
    """By which rule the account may in every repository of this visibility, or ``None``."""
    if actor.is_admin:
        return "administrator"
    if action != "pull":
        return None
    if actor.is_auditor:
        return "auditor"
    if visibility == "public":
        return "public"
    if visibility == "internal" and actor.kind in ("user", "robot"):
        return "internal"
    return None


def _token_may(actor: Actor, action: Action, name: str) -> bool:
    if actor.scopes is None or any(scope.covers("repository", name, action) for scope in actor.scopes):
        return True
    # The scope ``admin`` manages repositories, and reads or changes no content.
    return action in _MANAGING and actor.is_admin and _has_admin_scope(actor)


def _has_admin_scope(actor: Actor) -> bool:
    return any(scope.type == "admin" for scope in actor.scopes or ())


def itself_and_above(name: str) -> Iterator[str]:
    """What a role on which counts in ``name``: itself, and each namespace above, the nearest first."""
    yield name
    path = name.rstrip("/")
    while "/" in path:
        path = path.rpartition("/")[0]
        yield f"{path}/"


def namespaces_above(name: str) -> list[str]:
    """The names of the namespaces that a repository lies in, the nearest first."""
    return [on.removesuffix("/") for on in itself_and_above(name) if on.endswith("/")]
