"""Images that are admitted without a verdict for a time: they were there before the gate, or come from
elsewhere."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.db.content import manifests
from registry.db.engine import move_epoch
from registry.db.types import db_time
from registry.trials.states import WITHOUT_VERDICT


async def grandfather_all(connection: AsyncConnection, repository_id: int, days: int) -> int:
    """Let the images that a repository holds stay admitted for ``days`` more, as its gate is turned on.

    Images that were judged keep their verdict; those being tried get one all the same. Returns how many it
    concerned.
    """
    if days == 0:
        return 0
    within = manifests.c.repository_id == repository_id
    done = await grandfather(
        connection, within, db_time(timedelta(days=days)), "it was there before the gate"
    )
    await move_epoch(connection, "gate")
    return done


async def grandfather(
    connection: AsyncConnection,
    within: ColumnElement[bool],
    until: datetime | ColumnElement[datetime],
    reason: str,
) -> int:
    """Admit images that have no verdict until then; how many these are. The caller holds the repository's
    lock, and moves the gate's epoch where they were there before."""
    done = await connection.execute(
        update(manifests)
        .where(within, manifests.c.state.in_(WITHOUT_VERDICT))
        .values(state="grandfathered", state_reason=reason, state_at=db_time(), grandfathered_until=until)
    )
    return done.rowcount
