"""Administrators: there is always one left that can sign in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.policy import may_administer
from registry.db.accounts import accounts
from registry.errors import ConflictError, DeniedError

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor


async def enabled_administrators(connection: AsyncConnection) -> frozenset[int]:
    """The numbers of all administrators who are not disabled; none of them changes before the transaction
    ends. To be held before any other account: two who take each other's rights at once then come in turn.
    """
    rows = await connection.execute(
        select(accounts.c.id)
        .where(accounts.c.is_admin, accounts.c.disabled_at.is_(None))
        .order_by(accounts.c.id)
        .with_for_update()
    )
    return frozenset(rows.scalars())


async def hold_administrators(connection: AsyncConnection, actor: Actor) -> frozenset[int]:
    """As :func:`enabled_administrators`, for one of them who changes accounts.

    Raises:
        DeniedError: ``actor`` was one when the request came, and is none any more.
    """
    held = await enabled_administrators(connection)
    if may_administer(actor) and actor.account_id not in held:
        raise DeniedError(f"{actor.shown} is no administrator any more")
    return held


def require_another(held: Collection[int], account_id: int, name: str) -> None:
    """Let an administrator go, unless it is the last one.

    Raises:
        ConflictError: it is.
    """
    if set(held) == {account_id}:
        raise ConflictError(f"{name} is the last administrator; make another one first")


def require_unlimited(actor: Actor, what: str) -> None:
    """For what would open more than a limited token does itself.

    Raises:
        DeniedError: the actor came with a limited token.
    """
    if actor.scopes is not None:
        raise DeniedError(
            f"a limited token of {actor.shown} {what}: that would open more than it does itself; use the "
            "password, or a token without limits"
        )
