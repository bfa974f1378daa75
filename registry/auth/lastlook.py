"""The last look at rights: in the transaction that uses them.

A right is asked when a request comes, and may be gone when its transaction begins: a password was hashed
meanwhile, or another wrote first. So the transaction begins with a look at what the actor was when it was
asked. On SQLite, which has one writer, nothing can change after it. On PostgreSQL what another transaction
takes, and has not committed by then, counts for the next request: the two are as if this one had come first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth import standing
from registry.auth.policy import ROLES
from registry.db.events import epochs
from registry.errors import DeniedError, UnauthorizedError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database, First


def last_look(database: Database, actor: Actor, *, epoch: int) -> First:
    """What the transaction of a request begins with; ``epoch`` is the access epoch, read before ``actor``.

    The transaction then raises:
        UnauthorizedError: the account, or the token, is disabled, deleted, revoked or expired by now.
        DeniedError: the actor has lost a right since, whether it is needed here or not.
    """

    async def look(connection: AsyncConnection) -> None:
        now = (await connection.execute(select(epochs.c.access))).scalar_one()
        if now == epoch:
            return
        # Where epochs may be old for a while, whoever tries again must not be answered by the same old one.
        database.forget_epochs()
        named = {"account_id": actor.account_id, "token_id": actor.token_id}
        query = standing.BY_ACCOUNT if actor.token_id is None else standing.BY_TOKEN
        rows = (await connection.execute(query, named)).all()
        found = standing.actor_of(rows) if rows else None
        if found is None or found.credentials_after != actor.credentials_after:
            raise UnauthorizedError("what this request came with has just ended; nothing was done")
        standing.require_place(found, actor.address)
        if _has_lost(actor, found):
            raise DeniedError(
                f"{actor.shown} has just lost a right, and nothing was done; send the request again if it is "
                "not about that"
            )

    return look


def _has_lost(before: Actor, now: Actor) -> bool:
    if (before.is_admin and not now.is_admin) or (before.is_auditor and not now.is_auditor):
        return True
    return any(
        on not in now.roles or ROLES.index(now.roles[on]) < ROLES.index(role)
        for on, role in before.roles.items()
    )
