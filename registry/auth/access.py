"""Access as an answer to the caller: lets pass, or raises what the caller is told.

Whoever is nobody may sign in: 401. Who used a registry token that was not asked for this can fetch a wider
one: 401. Who is known and refused is told so: 403. A repository that is not visible and one that does not
exist get the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from registry.auth.actor import Actor
from registry.auth.policy import (
    HIDDEN_SAYS,
    LEAST_ROLE,
    Action,
    Decision,
    Visibility,
    decide,
    is_hidden,
    may_administer,
    may_audit,
    may_manage_own,
)
from registry.auth.scopes import Scope
from registry.errors import DeniedError, UnauthorizedError

LOOKING = "look at accounts, groups and roles of others"


def require(actor: Actor, action: Action, name: str, visibility: Visibility | None) -> None:
    """Let ``actor`` do ``action`` in repository ``name``; ``visibility`` is ``None`` where there is none.

    ``name`` may be a namespace, with a slash at its end.

    Raises:
        UnauthorizedError: another credential or a wider token could help; ``detail`` names what is missing,
            from which the challenge is made.
        DeniedError: the actor is known and may not.
    """
    decision = decide(actor, action, name, visibility)
    if decision.allowed:
        return
    detail = [{"Type": "repository", "Name": name, "Action": action}]
    shown = name.rstrip("/")
    if actor.kind == "anonymous":
        raise UnauthorizedError(f"sign in to {action} {shown}", detail=detail)
    covered = any(scope.covers("repository", name, action) for scope in actor.scopes or ())
    could_ask = actor.from_registry_token and actor.kind != "worker"
    if could_ask and not covered and (name, action) not in actor.refused:
        raise UnauthorizedError(f"this token was not asked for {action} on {shown}", detail=detail)
    raise DeniedError(_refusal(actor, action, name, decision), detail=detail)


def require_writable(*, read_only: bool) -> None:
    """Let content change, for an actor who has the right to: not where ``read_only`` is set.

    Raises:
        DeniedError: it is.
    """
    if read_only:
        raise DeniedError(
            "this registry is read-only (SEATRIAL_READ_ONLY): pulls work, pushes, deletes and tag moves do "
            "not; try again when its operator has ended that"
        )


def require_catalog(actor: Actor) -> Actor:
    """Let ``actor`` list repositories; the actor to filter the list with, who is not limited to the names a
    registry token was asked for.

    Raises:
        UnauthorizedError: nobody, or a registry token that was not asked for ``registry:catalog:*``.
        DeniedError: a worker.
    """
    if actor.kind == "worker":
        raise DeniedError("a worker lists nothing")
    catalog = any(scope.covers("registry", "catalog", "*") for scope in actor.scopes or ())
    if actor.from_registry_token and catalog:
        return actor.by_credential
    if actor.from_registry_token or actor.kind == "anonymous":
        raise UnauthorizedError(
            "sign in to list repositories",
            detail=[{"Type": "registry", "Name": "catalog", "Action": "*"}],
        )
    return actor


def require_known_for_changes(actor: Actor, asked: Iterable[Scope]) -> None:
    """Refuse nobody's wish for a token that changes something: with an empty one the client's next request
    would be a HEAD, whose answer has no room for a sentence.

    Raises:
        UnauthorizedError: ``asked`` has a push or a delete, and the actor is nobody.
    """
    if actor.kind != "anonymous":
        return
    for scope in asked:
        for action in ("push", "delete"):
            if action in scope.actions:
                raise UnauthorizedError(f"sign in to {action} {scope.name}")


def require_sign_in(actor: Actor) -> None:
    """For ``/v2/`` itself: any valid credential will do, also a token for nobody; none at all will not.

    Raises:
        UnauthorizedError: no credential.
    """
    if actor.kind == "anonymous" and not actor.from_registry_token:
        raise UnauthorizedError("sign in, or ask for a token")


def require_admin(actor: Actor) -> None:
    """Let ``actor`` manage accounts, tokens, workers and repositories.

    Raises:
        UnauthorizedError: nobody.
        DeniedError: no administrator, or with a token that has not the scope ``admin``.
    """
    if actor.kind == "anonymous":
        raise UnauthorizedError("sign in as an administrator")
    if not may_administer(actor):
        raise DeniedError(
            f"{actor.shown} may not do this; an administrator can, by password or a token of scope admin"
        )


def require_auditor(actor: Actor, what: str = "read the audit trail") -> None:
    """Let ``actor`` read the audit trail, or look at the accounts, groups and roles of others.

    Raises:
        UnauthorizedError: nobody.
        DeniedError: neither administrator nor auditor, or with a token that has neither the scope ``audit``
            nor ``admin``.
    """
    if actor.kind == "anonymous":
        raise UnauthorizedError("sign in as an auditor or an administrator")
    if not may_audit(actor):
        raise DeniedError(
            f"{actor.shown} may not {what}; an auditor or an administrator can, by password or "
            "a token of scope audit or admin"
        )


def whose(actor: Actor, account: str | None, what: str) -> str | None:
    """Whose ``what`` the actor means, who may name an account: ``None`` is everybody's, for administrators.

    Raises:
        UnauthorizedError: nobody.
        DeniedError: the account is another's, or the actor's token has not the scope ``account``.
    """
    if may_administer(actor):
        return account
    if account not in (None, actor.name):
        require_admin(actor)
    if actor.kind == "anonymous":
        raise UnauthorizedError(f"sign in to see your {what}")
    if not may_manage_own(actor):
        raise DeniedError(
            f"a limited token of {actor.shown} sees and ends no {what}; a session, the password, or a token "
            "of scope account does"
        )
    return actor.name


def givers(name: str) -> str:
    """Who can give a right on a repository, or on a namespace with a slash at its end."""
    return "an owner of the namespace or an administrator" if "/" in name else "an administrator"


def _refusal(actor: Actor, action: Action, name: str, decision: Decision) -> str:
    # By what the actor is and not by what the repository is: the sentence must not tell whether it exists.
    if actor.kind == "worker":
        return f"{actor.shown} reads the image of its lease and nothing else"
    shown = name.rstrip("/")
    if is_hidden(name):
        return f"{actor.shown} may not {action} {shown}: {HIDDEN_SAYS}"
    limits = actor.by_credential.scopes
    if limits is not None and not any(scope.covers("repository", name, action) for scope in limits):
        return f"the token of {actor.shown} does not cover {action} on {shown}; ask for one that does"
    held = f", being {decision.held.role} of {decision.held.on.rstrip('/')}" if decision.held else ""
    return (
        f"{actor.shown} has no {action} right on {shown}{held}; it takes the role {LEAST_ROLE[action]}, "
        f"which {givers(name)} can give"
    )
