"""The order of ordered webhooks: of what waits for one repository only the first is due, the others wait for
it without a time of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from registry.db.types import db_time
from registry.db.webhooks import PENDING, deliveries

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_first = deliveries.alias("first")


async def line_up(connection: AsyncConnection, webhook_id: str) -> None:
    """Have what is due wait where something of its repository goes first. The webhook's row is held."""
    goes_first = (
        select(_first.c.id)
        .where(
            _first.c.webhook_id == webhook_id,
            _first.c.repository == deliveries.c.repository,
            _first.c.state == "pending",
            _first.c.position < deliveries.c.position,
        )
        .correlate(deliveries)
        .exists()
    )
    await connection.execute(
        update(deliveries)
        .where(deliveries.c.webhook_id == webhook_id, deliveries.c.due_at.is_not(None), goes_first)
        .values(due_at=None)
    )


async def let_all_go(connection: AsyncConnection, webhook_id: str) -> None:
    """Make all that wait for another due: the webhook is ordered no more. Its row is held."""
    waiting = (deliveries.c.webhook_id == webhook_id, PENDING, deliveries.c.due_at.is_(None))
    await connection.execute(update(deliveries).where(*waiting).values(due_at=db_time()))
