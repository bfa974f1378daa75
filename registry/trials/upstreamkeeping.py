"""How long images of other registries are kept that were copied to be tried: as long as their trials.

The rows go; the next collection takes what they were made of.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, or_, select

from registry.auth.actor import REGISTRY
from registry.content import repositories as repos
from registry.content.manifests import remove_rows
from registry.db.content import attestations, manifests, repositories
from registry.db.dialect import portions
from registry.db.engine import move_epoch
from registry.db.outbox import record_all
from registry.db.sweeping import AT_ONCE
from registry.db.trials import parts, trials
from registry.db.types import db_time
from registry.db.upstreams import upstream_copies, upstreams

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database


async def sweep(database: Database, *, days: int) -> int:
    """Remove the copies that were not tried for so many days; how many manifests."""
    removed = 0
    while True:
        query = _over(days).with_only_columns(upstreams.c.id).distinct()
        async with database.read_once() as connection:
            found = (await connection.execute(query)).scalars().all()
        done = 0
        for upstream_id in sorted(found):
            async with database.write() as connection:
                done += await sweep_one(connection, upstream_id, days=days)
        removed += done
        if not done:
            return removed


async def sweep_one(connection: AsyncConnection, upstream_id: str, *, days: int) -> int:
    """As :func:`sweep`, for some of one upstream."""
    # Who asks for a trial holds it too: what is about to be copied is not taken away.
    held = select(upstreams.c.repository_id).where(upstreams.c.id == upstream_id).with_for_update()
    repository_id = (await connection.execute(held)).scalar_one_or_none()
    if repository_id is None:
        return 0
    await repos.lock(connection, repository_id)
    here = manifests.c.repository_id == repository_id
    rows = (await connection.execute(_over(days).where(here).limit(AT_ONCE))).all()
    if not rows:
        # Somebody may have begun a copy since it was looked for, whose blobs no manifest names yet.
        return 0
    for portion in portions(rows):
        digests = [row.digest for row in portion]
        about = (attestations.c.repository_id == repository_id, attestations.c.digest.in_(digests))
        attested = select(attestations.c.id).where(*about)
        these = manifests.c.id.in_([row.id for row in portion])
        await remove_rows(connection, or_(manifests.c.attestation_id.in_(attested), these))
        await connection.execute(delete(attestations).where(*about))
    name = select(repositories.c.name).where(repositories.c.id == repository_id)
    repository = (await connection.execute(name)).scalar_one()
    told = [{"digest": row.digest} for row in rows]
    await record_all(connection, "manifest.deleted", repository, REGISTRY, told)
    await move_epoch(connection, "content")
    return len(rows)


def _over(days: int) -> Select[Any]:
    """Copies of an upstream at which nobody is, and of which none was tried since then."""
    since = db_time(-timedelta(days=days))
    tried = exists().where(
        trials.c.repository_id == manifests.c.repository_id,
        trials.c.digest == manifests.c.digest,
        or_(trials.c.state != "done", trials.c.created_at >= since),
    )
    run = exists().where(
        parts.c.repository_id == manifests.c.repository_id,
        parts.c.digest == manifests.c.digest,
        or_(parts.c.state != "done", parts.c.finished_at >= since),
    )
    copied = exists().where(
        upstream_copies.c.upstream_id == upstreams.c.id, upstream_copies.c.run_after.is_not(None)
    )
    return (
        select(manifests.c.id, manifests.c.digest)
        .join(upstreams, upstreams.c.repository_id == manifests.c.repository_id)
        .where(manifests.c.attestation_id.is_(None), manifests.c.pushed_at < since, ~tried, ~run, ~copied)
    )
