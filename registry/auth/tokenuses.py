"""The last use of API tokens. Lists are right to within the minute."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import case, or_, select, update

from registry.auth.uses import NOTED_SECONDS, Use, Uses
from registry.db.accounts import tokens
from registry.db.dialect import batches
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Update

    from registry.db.engine import Database


def token_uses(database: Database) -> Uses:
    """Those that one process notes. A token's row is written once in a minute at most, over all processes."""

    async def write(uses: Mapping[str, Use]) -> None:
        for batch in batches(sorted(uses)):
            async with database.write() as connection:
                await connection.execute(_noting({token_id: uses[token_id] for token_id in batch}))

    return Uses("token", write)


def _noting(uses: Mapping[str, Use]) -> Update:
    """One statement for all of them. What another process has written within the minute stays, and what one
    is writing right now is passed over: it says the same."""
    due = (
        select(tokens.c.id)
        .where(
            tokens.c.id.in_(list(uses)),
            or_(
                tokens.c.last_used_at.is_(None),
                tokens.c.last_used_at < db_time(-timedelta(seconds=NOTED_SECONDS)),
            ),
        )
        .order_by(tokens.c.id)
        .with_for_update(skip_locked=True)
    )
    return (
        update(tokens)
        .where(tokens.c.id.in_(due))
        .values(
            last_used_at=db_time(),
            last_used_address=case({key: use.address for key, use in uses.items()}, value=tokens.c.id),
            last_used_client=case({key: use.client for key, use in uses.items()}, value=tokens.c.id),
        )
    )
