"""The queue: parts are its entries, leases say who tries them, and the database's clock decides."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.content import repositories as repos
from registry.contract.judge import Judgement
from registry.db.accounts import workers
from registry.db.content import manifests, repositories
from registry.db.dialect import batches
from registry.db.engine import Database, move_epoch
from registry.db.trials import parts, trial_parts, trials
from registry.db.types import db_time
from registry.errors import ConflictError
from registry.settings import Settings
from registry.trials.platforms import is_run
from registry.trials.verdicts import Reporter, finish_part, put_back
from registry.trials.waiting import looks

REAP_BATCH = 50


@dataclass(frozen=True, slots=True)
class Claimed:
    """A part that a worker holds a lease on."""

    lease: str
    part: str
    trial: str
    attempt: int
    repository: str
    digest: str
    platform: str
    run_spec: str | None
    image_spec_allowed: bool


@dataclass(frozen=True, slots=True)
class Nothing:
    """No work for this worker; ``drain`` tells it to end."""

    drain: bool


async def claim(
    database: Database,
    settings: Settings,
    *,
    worker: Reporter,
    platforms: Sequence[str],
    address: str | None,
    wait_seconds: float,
    is_gone: Callable[[], bool],
) -> Claimed | Nothing:
    """Lease the part that has waited longest and that the worker can run; waits for one to come up.

    A worker that hung up while it waited gets none: the lease would only have to run out.
    """
    await _seen(database, worker, platforms, address)
    async for _ in looks(database, seconds=wait_seconds):
        if await _is_drained(database, worker):
            return Nothing(drain=True)
        await reap(database, settings)
        if is_gone():
            break
        claimed = await _try_claim(database, settings, worker, platforms)
        if claimed is not None:
            return claimed
    return Nothing(drain=False)


async def renew(database: Database, settings: Settings, *, worker: Reporter, lease: str) -> float:
    """Let a live lease live ``lease_seconds`` from now, and return those.

    Raises:
        ConflictError: the lease is not a live one of this worker.
    """
    async with database.write() as connection:
        renewed = await connection.execute(
            update(parts)
            .where(
                parts.c.lease == lease,
                parts.c.lease_account_id == worker.account_id,
                parts.c.state == "leased",
                parts.c.lease_expires_at > db_time(),
            )
            .values(lease_expires_at=db_time(timedelta(seconds=settings.lease_seconds)))
        )
        if renewed.rowcount == 0:
            raise ConflictError("this lease is not a live one of this worker; end its run")
        await connection.execute(
            update(workers).where(workers.c.account_id == worker.account_id).values(last_seen_at=db_time())
        )
    return settings.lease_seconds


async def reap(database: Database, settings: Settings) -> int:
    """Take back the leases of workers that fell silent; returns how many.

    A part whose attempts are used up ends with ``error``, the others are queued again.
    """
    expired = (parts.c.state == "leased", parts.c.lease_expires_at <= db_time())
    async with database.read_once() as connection:
        query = (
            select(parts.c.id, parts.c.repository_id)
            .where(*expired)
            .order_by(parts.c.lease_expires_at)
            .limit(REAP_BATCH)
        )
        lost = (await connection.execute(query)).all()
    reaped = 0
    for part_id, repository_id in lost:
        async with database.write() as connection:
            await repos.lock(connection, repository_id)
            query_part = select(parts.c.id, parts.c.attempts, parts.c.worker).where(
                parts.c.id == part_id, *expired
            )
            part = (await connection.execute(query_part.with_for_update())).first()
            if part is None:
                continue
            reaped += 1
            if part.attempts < settings.trial_attempts:
                await put_back(connection, part.id, part.attempts, reason=f"worker {part.worker} fell silent")
            else:
                await finish_part(connection, part.id, _lost(part.attempts, part.worker), record=None)
            await move_epoch(connection, "gate")
    return reaped


def _lost(attempts: int, worker: str) -> Judgement:
    times = "the worker was lost" if attempts == 1 else f"the worker was lost in each of {attempts} attempts"
    return Judgement("error", f"worker-lost: {times}, the last one {worker}")


async def _try_claim(
    database: Database, settings: Settings, worker: Reporter, platforms: Sequence[str]
) -> Claimed | None:
    due = (parts.c.state == "queued", parts.c.run_after <= db_time())
    # Looked at without the writer's lock first: most looks find nothing.
    async with database.read_once() as connection:
        waiting = (await connection.execute(select(parts.c.platform).where(*due).distinct())).scalars().all()
    mine = [platform for platform in waiting if is_run(platform, platforms)]
    if not mine:
        return None
    blocked = (
        select(manifests.c.id)
        .where(
            manifests.c.repository_id == parts.c.repository_id,
            manifests.c.digest == parts.c.digest,
            manifests.c.blocked_reason.is_not(None),
        )
        .exists()
    )
    chosen = (
        select(parts.c.id)
        .where(*due, parts.c.platform.in_(mine), ~blocked)
        .order_by(parts.c.run_after, parts.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=parts)
        .scalar_subquery()
    )
    lease = secrets.token_urlsafe(32)
    async with database.write() as connection:
        row = (
            await connection.execute(
                update(parts)
                .where(parts.c.id == chosen)
                .values(
                    state="leased",
                    attempts=parts.c.attempts + 1,
                    lease=lease,
                    lease_account_id=worker.account_id,
                    lease_expires_at=db_time(timedelta(seconds=settings.lease_seconds)),
                    worker=worker.name,
                )
                .returning(parts)
            )
        ).first()
        if row is None:
            return None
        trial_id = await _start_trials(connection, row.id)
        name = select(repositories.c.name).where(repositories.c.id == row.repository_id)
        repository = (await connection.execute(name)).scalar_one()
    return Claimed(
        lease=lease,
        part=row.id,
        trial=trial_id,
        attempt=row.attempts,
        repository=repository,
        digest=row.digest,
        platform=row.platform,
        run_spec=row.run_spec,
        image_spec_allowed=row.image_spec_allowed,
    )


async def _start_trials(connection: AsyncConnection, part_id: str) -> str:
    """Mark the trials that wait for the part as running; returns the newest of them."""
    linked = (
        select(trials.c.id)
        .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
        .where(trial_parts.c.part_id == part_id, trials.c.state != "done")
        .order_by(trials.c.id)
        .with_for_update(of=trials)
    )
    open_trials = (await connection.execute(linked)).scalars().all()
    for batch in batches(open_trials):
        await connection.execute(update(trials).where(trials.c.id.in_(batch)).values(state="running"))
    return open_trials[-1] if open_trials else ""


async def _seen(database: Database, worker: Reporter, platforms: Sequence[str], address: str | None) -> None:
    """Write when the worker was last here; not more often than anybody looks."""
    row = workers.c.account_id == worker.account_id
    said = json.dumps(list(platforms))
    stale = or_(
        workers.c.last_seen_at.is_(None),
        workers.c.last_seen_at < db_time(timedelta(seconds=-10)),
        workers.c.platforms != said,
    )
    async with database.read_once() as connection:
        due = (await connection.execute(select(workers.c.account_id).where(row, stale))).first()
    if due is not None:
        async with database.write() as connection:
            await connection.execute(
                update(workers).where(row).values(last_seen_at=db_time(), address=address, platforms=said)
            )


async def _is_drained(database: Database, worker: Reporter) -> bool:
    query = select(workers.c.drain_at).where(workers.c.account_id == worker.account_id)
    async with database.read_once() as connection:
        return (await connection.execute(query)).scalar_one_or_none() is not None
