"""The queue as an operator looks into it: what is tried, what waits and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select, union_all

from registry.auth.access import require_admin
from registry.db.accounts import accounts, workers
from registry.db.content import repositories
from registry.db.trials import parts, trial_parts, trials
from registry.trials.demands import parse_demand
from registry.trials.platforms import is_run
from registry.trials.present import ASKING
from registry.trials.reading import why_held_of

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.settings import Settings

NO_WORKER = "waits for a worker: none asks for jobs"


@dataclass(frozen=True, slots=True)
class QueuedPart:
    """A part of a trial that has no verdict yet: it is ``leased`` by a worker that tries it, or ``queued``,
    and waits for its turn, or for something else, which ``why`` says. ``asked_by`` is null where the registry
    itself asked; ``trial`` is the newest one that waits for it."""

    trial: str
    repository: str
    digest: str
    platform: str
    state: str
    attempts: int
    asked_by: str | None
    created_at: datetime
    worker: str | None
    lease_expires_at: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Queue:
    """How many parts wait and are tried, since when the oldest of each is there, and the first of them: those
    that are tried, then those that wait, in their order."""

    queued: int
    queued_since: datetime | None
    leased: int
    leased_since: datetime | None
    items: Sequence[QueuedPart]


async def read_queue(
    database: Database, settings: Settings, *, actor: Actor, worker: str | None, limit: int
) -> Queue:
    """The queue, with at most ``limit`` parts; with ``worker`` those that this one tries.

    Raises:
        UnauthorizedError, DeniedError: the actor is no administrator.
    """
    require_admin(actor)
    async with database.read() as connection:
        counts = await connection.execute(_COUNTS)
        standing = {state: (count, since) for state, count, since in counts}
        held = _PARTS.where(*_LEASED).order_by(parts.c.urgency, parts.c.turn)
        if worker is not None:
            held = held.where(accounts.c.name == worker)
        rows = list((await connection.execute(held.limit(limit))).all())
        if worker is None and len(rows) < limit:
            waiting = _PARTS.where(*_QUEUED)
            waiting = waiting.order_by(parts.c.urgency, parts.c.turn, parts.c.id)
            rows += (await connection.execute(waiting.limit(limit - len(rows)))).all()
        why = await _why(connection, settings, [row for row in rows if row.state == "queued"])
    queued, leased = (standing.get(state, (0, None)) for state in ("queued", "leased"))
    items = [_part(row, why.get(row.id, "")) for row in rows]
    return Queue(queued[0], queued[1], leased[0], leased[1], items)


async def _why(connection: AsyncConnection, settings: Settings, queued: Sequence[Any]) -> dict[str, str]:
    """For each of these that no worker is given now: why, in words."""
    if not queued:
        return {}
    query = select(workers.c.platforms).join(accounts, accounts.c.id == workers.c.account_id).where(*ASKING)
    there = [parse_demand(row.platforms) for row in await connection.execute(query)]
    if not there:
        return {row.id: NO_WORKER for row in queued}
    names = {row.id: row.repository for row in queued}
    held = dict(await why_held_of(connection, settings, queued, names))
    for row in queued:
        if not any(is_run(row.platform, platforms) for platforms in there):
            held.setdefault(row.id, f"waits for a worker that runs {row.platform}: none of {len(there)} does")
        elif row.reason:
            held.setdefault(row.id, f"is tried again: {row.reason}")
    return held


# Each has an index, unlike what is not done: of all parts most are.
_QUEUED = (parts.c.state == "queued",)
_LEASED = (parts.c.state == "leased", parts.c.lease_expires_at.is_not(None))
_COUNTS = union_all(
    *(
        select(literal(state), func.count(), func.min(parts.c.created_at)).where(*which)
        for state, which in (("queued", _QUEUED), ("leased", _LEASED))
    )
)
_NEWEST = (
    select(func.max(trials.c.id))
    .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
    .where(trial_parts.c.part_id == parts.c.id, trials.c.state != "done")
    .correlate(parts)
    .scalar_subquery()
)
_PARTS: Select[Any] = (
    select(
        *(
            parts.c[name]
            for name in ("id", "digest", "platform", "state", "attempts", "asked_by", "created_at")
        ),
        *(parts.c[name] for name in ("lease_expires_at", "required", "reason")),
        repositories.c.name.label("repository"),
        accounts.c.name.label("worker"),
        func.coalesce(_NEWEST, "").label("trial_id"),
    )
    .join(repositories, repositories.c.id == parts.c.repository_id)
    .outerjoin(accounts, accounts.c.id == parts.c.lease_account_id)
)


def _part(row: Any, why: str) -> QueuedPart:
    return QueuedPart(
        trial=row.trial_id,
        repository=row.repository,
        digest=row.digest,
        platform=row.platform,
        state=row.state,
        attempts=row.attempts,
        asked_by=row.asked_by,
        created_at=row.created_at,
        worker=row.worker,
        lease_expires_at=row.lease_expires_at,
        why=why,
    )
