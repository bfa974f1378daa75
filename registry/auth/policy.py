"""The access policy: pure functions from actor, action and repository to a decision with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from registry.auth.actor import Actor

Action = Literal["pull", "push", "delete"]
Visibility = Literal["public", "internal", "private"]


@dataclass(frozen=True, slots=True)
class Decision:
    """``sees`` tells whether the actor may know that the repository exists."""

    allowed: bool
    sees: bool
    reason: str


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
    pulls = _account_may(actor, "pull", visibility) and _token_may(actor, "pull", name)
    # The token first: what it says does not depend on whether the repository exists.
    if not _token_may(actor, action, name):
        return Decision(False, pulls, f"the token of {actor.shown} does not cover {action} on {name}")
    if not _account_may(actor, action, visibility):
        return Decision(
            False, pulls, f"{actor.shown} has no {action} right on {name}; an administrator can do it"
        )
    return Decision(True, True, f"{actor.shown} may {action} on {name}")


def pullable(actor: Actor) -> tuple[Visibility, ...]:
    """Which visibilities the actor's account may pull from, for a query; a token may cover less of them."""
    kinds: tuple[Visibility, ...] = ("public", "internal", "private")
    return tuple(kind for kind in kinds if _account_may(actor, "pull", kind))


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


def _account_may(actor: Actor, action: Action, visibility: Visibility | None) -> bool:
    if actor.is_admin:
        return True
    if action != "pull" or visibility in (None, "private"):
        return False
    return visibility == "public" or actor.kind == "user"


def _token_may(actor: Actor, action: Action, name: str) -> bool:
    return actor.scopes is None or any(scope.covers("repository", name, action) for scope in actor.scopes)
