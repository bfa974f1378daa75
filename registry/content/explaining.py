"""Why somebody may do something somewhere, or may not: the access policy's answer, taken apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import func, select, union_all

from registry.auth import standing
from registry.auth.access import givers
from registry.auth.actor import ANONYMOUS, Actor, Role
from registry.auth.policy import (
    Action,
    Decision,
    Rule,
    Visibility,
    decide,
    itself_and_above,
    may_audit,
    may_create,
)
from registry.auth.tombstones import given_up_since_made, names_of
from registry.content import repositories as repos
from registry.db.access import grants, group_members, groups, namespaces
from registry.db.accounts import accounts, tokens
from registry.db.content import repositories
from registry.db.types import db_time
from registry.errors import DeniedError, NotFoundError, UnauthorizedError
from registry.oci.names import parse_repository_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.scopes import Scope
    from registry.db.engine import Database
    from registry.settings import Settings

_CHANGES: frozenset[Action] = frozenset({"push", "delete"})


@dataclass(frozen=True, slots=True)
class RoleHeld:
    """A role of the account that counts there. ``on`` has a slash at its end where it is a namespace;
    ``group`` is the group that has it, if it is not the account itself."""

    role: Role
    on: str
    group: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether ``actor`` may, and which rule decided. ``exists`` and ``visibility`` are of the repository;
    both are null where that is not for the asking to know."""

    actor: str
    action: Action
    target: str
    token: str | None
    allowed: bool
    rule: Rule
    reason: str
    roles: tuple[RoleHeld, ...]
    exists: bool | None
    visibility: Visibility | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    """The token in question: what it still covers, what is void of it, and why all of it is."""

    scopes: tuple[Scope, ...] | None
    void: tuple[Scope, ...]
    ended: str | None


async def explain(
    database: Database,
    settings: Settings,
    *,
    caller: Actor,
    account: str,
    action: Action,
    target: str,
    token_id: str | None,
) -> Explanation:
    """May the account do ``action`` on ``target``, and why? ``target`` is a repository, which may not exist,
    or a namespace with a slash at its end; ``account`` may be ``anonymous``.

    Raises:
        UnauthorizedError, DeniedError: the caller is not the account, nor an owner of the target, nor an
            administrator or auditor.
        NameInvalidError: ``target`` is outside the grammar.
        NotFoundError: there is no such account, or it has no such token.
    """
    parse_repository_name(target.removesuffix("/"))
    repository = None if target.endswith("/") else await repos.find(database, target)
    visibility = repository.visibility if repository else None
    reads_all = _require_asker(caller, account, target, visibility)
    shown = reads_all or decide(caller, "pull", target, visibility).sees
    if not shown:
        # As if there were none: what the answer depends on, it would tell.
        repository, visibility = None, None
    async with database.read() as connection:
        actor, disabled = await account_named(connection, account)
        held = await _roles(connection, actor, target)
        token = None if token_id is None else await _token(connection, actor, token_id)
        defaults = await repos.defaults_for(connection, target, settings)
    if token is not None and token_id is not None:
        token = await _without_given_up(database, token_id, token)
        actor = replace(actor, scopes=token.scopes)
    decision = decide(actor, action, target, visibility)
    creates = action == "push" and shown and repository is None and target[-1] != "/"
    if disabled:
        decision = Decision(False, False, "nothing", f"the account {account} is disabled")
    elif token is not None and token.ended is not None:
        decision = Decision(False, False, "token", f"the token {token_id} {token.ended}")
    elif token is not None and any(scope.covers("repository", target, action) for scope in token.void):
        said = f"the token {token_id} was made before the name {target} was given up; make a new one"
        decision = Decision(False, decision.sees, "tombstone", said)
    elif decision.allowed and settings.read_only and action in _CHANGES:
        decision = Decision(False, True, "read-only", "the registry is read-only (SEATRIAL_READ_ONLY)")
    elif decision.allowed and creates and not may_create(actor, target, by_push=defaults.create_on_push):
        said = f"there is no repository {target}, and a push of {account} makes none (create_on_push)"
        decision = Decision(False, True, "create-on-push", said, decision.held)
    return Explanation(
        actor=account,
        action=action,
        target=target,
        token=token_id,
        allowed=decision.allowed,
        rule=decision.rule,
        reason=_reason(decision, target, held),
        roles=tuple(held),
        exists=repository is not None if shown and target[-1] != "/" else None,
        visibility=visibility,
        notes=_notes(action, settings, creates=creates and decision.allowed),
    )


async def account_in_question(database: Database, *, caller: Actor, account: str, target: str) -> Actor:
    """The account with its roles, as it is asked about on the repository ``target``.

    Raises:
        UnauthorizedError, DeniedError: the caller is not the account, nor an owner of the target, nor an
            administrator or auditor.
        NotFoundError: there is no such account, or it is disabled.
    """
    repository = await repos.find(database, target)
    _require_asker(caller, account, target, repository.visibility if repository else None)
    async with database.read() as connection:
        actor, disabled = await account_named(connection, account)
    if disabled:
        raise NotFoundError(f"the account {account} is disabled")
    return actor


def _require_asker(caller: Actor, account: str, target: str, visibility: Visibility | None) -> bool:
    """Let the caller ask; whether as somebody who may know everything."""
    if caller.kind == "anonymous":
        raise UnauthorizedError("sign in to ask who may do what")
    if may_audit(caller):
        return True
    if caller.name != account and not decide(caller, "administer", target, visibility).allowed:
        raise DeniedError(
            f"{caller.shown} may ask about {caller.name}; {givers(target)} may ask about others"
        )
    return False


async def account_named(connection: AsyncConnection, name: str) -> tuple[Actor, bool]:
    """The account with its roles, and whether it is disabled.

    Raises:
        NotFoundError: there is no such account.
    """
    if name == ANONYMOUS.name:
        return ANONYMOUS, False
    query = select(accounts.c.id, accounts.c.kind, accounts.c.disabled_at).where(accounts.c.name == name)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFoundError(f"there is no account {name[:100]}")
    if row.disabled_at is not None:
        return Actor(kind=row.kind, name=name, account_id=row.id), True
    rows = (await connection.execute(standing.BY_ACCOUNT, {"account_id": row.id})).all()
    return standing.actor_of(rows), False


async def _roles(connection: AsyncConnection, actor: Actor, target: str) -> list[RoleHeld]:
    """Those that count on the target, the nearest first."""
    if actor.account_id is None:
        return []
    on = func.coalesce(repositories.c.name, namespaces.c.name + "/").label("on")
    places = list(itself_and_above(target))
    own = select(grants.c.namespace_id, grants.c.repository_id, grants.c.role, grants.c.group_id)
    of_groups = own.join(group_members, group_members.c.group_id == grants.c.group_id)
    held = union_all(
        own.where(grants.c.account_id == actor.account_id),
        of_groups.where(group_members.c.account_id == actor.account_id),
    ).subquery("held")
    query = (
        select(held.c.role, on, groups.c.name.label("group"))
        .distinct()
        .select_from(held)
        .outerjoin(namespaces, namespaces.c.id == held.c.namespace_id)
        .outerjoin(repositories, repositories.c.id == held.c.repository_id)
        .outerjoin(groups, groups.c.id == held.c.group_id)
        .where(on.in_(places))
    )
    rows = (await connection.execute(query)).all()
    found = [RoleHeld(cast("Role", row.role), row.on, row.group) for row in rows]
    return sorted(found, key=lambda one: (places.index(one.on), one.group or ""))


async def _token(connection: AsyncConnection, actor: Actor, token_id: str) -> _Token:
    expired = (tokens.c.expires_at <= db_time()).label("expired")
    row: Any = (
        await connection.execute(
            select(tokens.c.scopes, tokens.c.revoked_at, expired).where(
                tokens.c.id == token_id, tokens.c.account_id == actor.account_id
            )
        )
    ).first()
    if row is None:
        raise NotFoundError(f"{actor.shown} has no token {token_id[:100]}")
    ended = "was revoked" if row.revoked_at is not None else "has expired" if row.expired else None
    return _Token(standing.stored_scopes(row.scopes), (), ended)


async def _without_given_up(database: Database, token_id: str, token: _Token) -> _Token:
    scopes = token.scopes or ()
    void = await given_up_since_made(database, token_id, names_of(scopes))
    if not void:
        return token
    kept = tuple(scope for scope in scopes if scope.name not in void)
    return replace(token, scopes=kept, void=tuple(scope for scope in scopes if scope.name in void))


def _reason(decision: Decision, target: str, held: Sequence[RoleHeld]) -> str:
    if decision.rule == "nothing" and not decision.reason.endswith("disabled"):
        return f"{decision.reason}; {givers(target)} can give it"
    if decision.rule == "role" and decision.held is not None:
        through = {one.group for one in held if (one.role, one.on) == (decision.held.role, decision.held.on)}
        if None not in through and through:
            return f"{decision.reason}, through the group {', '.join(sorted(map(str, through)))}"
    return decision.reason


def _notes(action: Action, settings: Settings, *, creates: bool) -> tuple[str, ...]:
    notes = []
    if creates:
        notes.append("There is no such repository: the push makes it.")
    if action == "pull":
        notes.append("Which images may be pulled is for the gate to say: seatrial gate explain.")
    if settings.read_only:
        notes.append("The registry is read-only: what changes content is refused to everybody.")
    return tuple(notes)
