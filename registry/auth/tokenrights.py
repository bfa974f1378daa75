"""Whose API tokens somebody manages, and the rule that a token makes no token stronger than itself.

People manage their own tokens, administrators everybody's, and whoever administers a namespace those of its
robots. With a limited token one manages that token and those made with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.networks import Networks, lie_within
from registry.auth.policy import decide, may_administer
from registry.auth.scopes import Scope, uncovered
from registry.auth.standing import hold_account
from registry.db.access import namespaces
from registry.db.accounts import accounts, tokens
from registry.db.types import db_time
from registry.errors import DeniedError, NotFoundError, RequestInvalidError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor


@dataclass(frozen=True, slots=True)
class Owner:
    """The account that a token is for; ``namespace`` is that of a robot."""

    id: int
    name: str
    kind: str
    is_admin: bool
    is_auditor: bool
    namespace: str | None


OWNERS = (
    select(
        accounts.c.id,
        accounts.c.name,
        accounts.c.kind,
        accounts.c.is_admin,
        accounts.c.is_auditor,
        namespaces.c.name.label("namespace"),
    )
    .select_from(accounts)
    .outerjoin(namespaces, namespaces.c.id == accounts.c.namespace_id)
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the credential that makes a token may itself; ``None`` is no limit. ``made_by`` is the token that
    the new one ends with; one that may do all that its account may stands for the account."""

    made_by: str | None
    scopes: tuple[Scope, ...] | None
    networks: Networks | None
    expires_at: datetime | None


def administers(actor: Actor, owner: Owner) -> bool:
    """Whether the actor manages this account's tokens by another right than that they are his own."""
    if may_administer(actor):
        return True
    if owner.kind != "robot" or owner.namespace is None:
        return False
    return decide(actor, "administer", f"{owner.namespace}/", None).allowed


def require_account_holder(actor: Actor) -> None:
    """Let a user or robot come with a password, a session or an API token: a registry token is for clients.

    A job makes no tokens: they would not end with the rule that lets it in, nor tell whose job made them.

    Raises:
        DeniedError: another kind of account, a registry token, or a job.
    """
    if actor.workload is not None:
        raise DeniedError(f"a job manages no tokens of {actor.shown}; its own is exchanged anew")
    if actor.kind not in ("user", "robot") or actor.from_registry_token:
        raise DeniedError(
            f"{actor.shown} manages no tokens with this credential; sign in with a password or an API token"
        )


async def find_owner(
    connection: AsyncConnection, actor: Actor, account: str | None, *, to_make: bool = False
) -> Owner:
    """The account named, whose tokens the actor manages; his own if none is named.

    ``to_make`` one for it: the account is a user or robot, enabled, and stays so until the transaction ends.

    Raises:
        DeniedError: it is another's, or is not there.
        NotFoundError: it is not there, or disabled, and the actor may know.
    """
    wanted = account or actor.name
    query = OWNERS.where(accounts.c.name == wanted)
    if to_make:
        query = query.where(accounts.c.kind.in_(("user", "robot")), accounts.c.disabled_at.is_(None))
        query = query.with_for_update(read=True, of=accounts)
    row = (await connection.execute(query)).one_or_none()
    owner = None if row is None else Owner(**row._asdict())
    if owner is not None and (owner.id == actor.account_id or administers(actor, owner)):
        return owner
    if may_administer(actor):
        raise NotFoundError(f"there is no account {wanted[:80]!r}{', or it is disabled' if to_make else ''}")
    raise DeniedError(
        f"{actor.shown} manages no tokens of {wanted[:80]}; an administrator can, and for a robot whoever "
        "administers its namespace"
    )


async def bounds_of(connection: AsyncConnection, actor: Actor) -> Bounds:
    """What limits the actor's own credential, as its row says now.

    Raises:
        DeniedError: the token or the password that he came with has just ended.
    """
    if actor.token_id is None:
        if not await hold_account(connection, actor):
            raise DeniedError("the password that this request came with has just ended")
        return Bounds(None, actor.scopes, actor.networks, None)
    query = select(tokens.c.expires_at).where(
        tokens.c.id == actor.token_id,
        tokens.c.revoked_at.is_(None),
        tokens.c.expires_at.is_(None) | (tokens.c.expires_at > db_time()),
    )
    # Held until the new one is there: revoking this one ends what was made with it, and must find it.
    row = (await connection.execute(query.with_for_update(read=True))).one_or_none()
    if row is None:
        raise DeniedError("the token that this request came with has just ended")
    made_by = None if actor.scopes is None else actor.token_id
    return Bounds(made_by, actor.scopes, actor.networks, row.expires_at)


def require_no_stronger(
    bounds: Bounds, actor: Actor, *, scopes: Iterable[Scope] | None, networks: Networks | None
) -> None:
    """Let a credential make a token, or learn the secret of one, that may no more than itself.

    Raises:
        DeniedError: naming what is too much.
    """
    if bounds.scopes is not None:
        if scopes is None:
            raise DeniedError(f"a limited token of {actor.shown} makes no token that may everything")
        missing = uncovered(scopes, bounds.scopes)
        if missing is not None:
            raise DeniedError(
                f"the token of {actor.shown} does not have {missing.text} itself, and a token makes no token "
                "stronger than itself"
            )
    if not lie_within(networks, bounds.networks):
        raise DeniedError(
            f"the token of {actor.shown} is limited to certain networks, and makes no token for others"
        )


def require_fitting(owner: Owner, scopes: Iterable[Scope]) -> None:
    """Refuse scopes that the account could never use.

    Raises:
        RequestInvalidError: naming the scope and what it needs.
    """
    types = {scope.type for scope in scopes}
    if "worker" in types:
        raise RequestInvalidError("a worker's token is made for a worker, not with a scope")
    if "admin" in types and not owner.is_admin:
        raise RequestInvalidError(f"scope 'admin' needs an administrator, and {owner.name} is none")
    if "audit" in types and not (owner.is_admin or owner.is_auditor):
        raise RequestInvalidError(
            f"scope 'audit' needs an auditor or administrator, and {owner.name} is neither"
        )
