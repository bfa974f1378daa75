"""Images that had passed and turn bad: since when, and who is told from when on they will be refused."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import REGISTRY
from registry.db import outbox
from registry.db.content import manifests, repositories
from registry.db.dialect import batches
from registry.db.types import db_time
from registry.trials.states import BAD, bad_policy


async def turn(
    connection: AsyncConnection,
    repository_id: int,
    repository: str,
    *,
    bad: Collection[str],
    good: Collection[str],
) -> None:
    """Remember which images turned bad just now, and which are good again."""
    here = manifests.c.repository_id == repository_id
    for batch in batches(sorted(good)):
        await connection.execute(
            update(manifests)
            .where(here, manifests.c.digest.in_(batch), manifests.c.turned_bad_at.is_not(None))
            .values(turned_bad_at=None, block_told_at=None)
        )
    for batch in batches(sorted(bad)):
        this = (here, manifests.c.digest.in_(batch))
        await connection.execute(update(manifests).where(*this).values(turned_bad_at=db_time()))
    if bad:
        await tell_deadlines(connection, repository_id, repository, of=bad)


async def tell_deadlines(
    connection: AsyncConnection, repository_id: int, repository: str, *, of: Collection[str] | None = None
) -> None:
    """Tell of each image that turned bad, or of those ``of`` them, from when on it will be refused: once for
    each such time, however often it is looked at."""
    policy_of = select(repositories.c.turned_bad, repositories.c.turned_bad_days, db_time())
    action, days, now = (await connection.execute(policy_of.where(repositories.c.id == repository_id))).one()
    policy = bad_policy(action, days)
    if policy.action != "block" or not policy.days:
        return
    life = timedelta(days=policy.days)
    query = select(
        manifests.c.digest, manifests.c.state_reason, manifests.c.turned_bad_at, manifests.c.block_told_at
    ).where(
        manifests.c.repository_id == repository_id,
        manifests.c.turned_bad_at > now - life,
        manifests.c.state.in_(BAD),
    )
    # By the rows that are turned where they are known: a repository may hold many others.
    parts = [query] if of is None else [query.where(manifests.c.digest.in_(one)) for one in batches(of)]
    rows = [row for part in parts for row in await connection.execute(part.order_by(manifests.c.id))]
    due = [(row, row.turned_bad_at + life) for row in rows if row.block_told_at != row.turned_bad_at + life]
    if not due:
        return
    this = (manifests.c.repository_id == repository_id, manifests.c.digest == bindparam("this"))
    await connection.execute(
        update(manifests).where(*this).values(block_told_at=bindparam("told")),
        [{"this": row.digest, "told": until} for row, until in due],
    )
    told = [{"digest": row.digest, "reason": row.state_reason, "at": until.isoformat()} for row, until in due]
    await outbox.record_all(connection, "image.will_block", repository, REGISTRY, told)
