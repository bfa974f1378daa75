"""How long deliveries are kept, how many may wait, and how it stands with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, and_, delete, func, select, type_coerce, update

from registry.auth.actor import REGISTRY
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.sweeping import AT_ONCE, sweep
from registry.db.types import db_time
from registry.db.webhooks import PENDING, deliveries, webhooks

if TYPE_CHECKING:
    from registry.db.engine import Database

KEEP_DAYS = 14
FINISHED_ROWS = 200_000
"""More that are over go before their time, the oldest first."""
PENDING_ROWS = 500_000
"""A webhook for which more wait is disabled: its receiver cannot follow. The newest are dropped."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How it stands: deliveries that wait, the age in seconds of the oldest, and disabled webhooks."""

    pending: int
    oldest_seconds: float
    disabled: int


async def keep(
    database: Database, *, finished_rows: int = FINISHED_ROWS, pending_rows: int = PENDING_ROWS
) -> int:
    """Remove what is over: after some days, or when there is too much of it. How many rows."""
    over = deliveries.c.finished_at < db_time(-timedelta(days=KEEP_DAYS))
    swept = await sweep(database, deliveries.c.id, over)
    count = select(func.count()).select_from(deliveries).where(deliveries.c.finished_at.is_not(None))
    async with database.read() as connection:
        excess = (await connection.execute(count)).scalar_one() - finished_rows
        waiting = (
            select(deliveries.c.webhook_id)
            .where(PENDING)
            .group_by(deliveries.c.webhook_id)
            .having(func.count() > pending_rows)
        )
        too_many = (await connection.execute(waiting)).scalars().all()
    while excess > 0:
        oldest = (
            select(deliveries.c.id)
            .where(deliveries.c.finished_at.is_not(None))
            .order_by(deliveries.c.finished_at)
            .limit(min(excess, AT_ONCE))
        )
        async with database.write() as connection:
            gone = (await connection.execute(delete(deliveries).where(deliveries.c.id.in_(oldest)))).rowcount
        swept += gone
        excess = excess - gone if gone else 0
    for webhook_id in too_many:
        await _disable(database, webhook_id, pending_rows)
        kept = (
            select(deliveries.c.id)
            .where(deliveries.c.webhook_id == webhook_id, PENDING)
            .order_by(deliveries.c.id)
            .offset(pending_rows)
            .limit(1)
        )
        async with database.read() as connection:
            first = (await connection.execute(kept)).scalar_one_or_none()
        if first is not None:
            beyond = and_(
                deliveries.c.webhook_id == webhook_id,
                PENDING,
                deliveries.c.id >= first,
            )
            swept += await sweep(database, deliveries.c.id, beyond)
    return swept


async def _disable(database: Database, webhook_id: str, pending_rows: int) -> None:
    reason = (
        f"more than {pending_rows} deliveries waited; those beyond were dropped, the feed has their events"
    )
    async with database.write() as connection:
        held = (
            with_place(webhooks, webhooks.c.disabled_at)
            .where(webhooks.c.id == webhook_id)
            .with_for_update(of=webhooks)
        )
        row = (await connection.execute(held)).one_or_none()
        if row is None or row.disabled_at is not None:
            return
        values = {"disabled_at": db_time(), "disabled_reason": reason}
        await connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))
        await record(
            connection, "webhook.disabled", row.place, REGISTRY, {"reason": reason}, target=webhook_id
        )


async def read_backlog(database: Database) -> Backlog:
    """How it stands now."""
    age = type_coerce(db_time(), BigInteger) - type_coerce(func.min(deliveries.c.created_at), BigInteger)
    waiting = select(func.count(), age).where(PENDING)
    disabled = select(func.count()).select_from(webhooks).where(webhooks.c.disabled_at.is_not(None))
    async with database.read() as connection:
        pending, microseconds = (await connection.execute(waiting)).one()
        count = (await connection.execute(disabled)).scalar_one()
    return Backlog(pending, (microseconds or 0) / 1e6, count)
