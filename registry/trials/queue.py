"""The queue: parts are its entries, leases say who tries them, and the database's clock decides."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, and_, cast, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.bindings import Binding
from registry.content import repositories as repos
from registry.contract.judge import Judgement
from registry.db.accounts import workers
from registry.db.content import repositories
from registry.db.engine import Database, move_epoch
from registry.db.trials import is_leased, parts, trial_parts, trials
from registry.db.types import db_time
from registry.errors import ConflictError
from registry.settings import Settings
from registry.trials.caps import within_caps
from registry.trials.room import find_too_large
from registry.trials.scheduling import due_parts, is_large, large_at_once, next_part, waiting_kinds
from registry.trials.verdicts import Reporter, finish_part, put_back
from registry.trials.waiting import looks
from registry.trials.wanted import WANTED, drop

REAP_BATCH = 50
DROPS_MAX = 50
"""How many parts that nobody wants any more one look drops."""
_EXPIRED = (parts.c.state == "leased", parts.c.lease_expires_at <= db_time())
_BINDING = select(workers.c.drain_at, workers.c.namespaces, workers.c.labels, workers.c.slots)
_NAME = (
    select(repositories.c.name)
    .where(repositories.c.id == parts.c.repository_id)
    .correlate(parts)
    .scalar_subquery()
)
_OF_PART = (
    "id", "attempts", "repository_id", "digest", "platform", "run_spec", "image_spec_allowed", "image_specs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claimed:
    """A part that a worker holds a lease on."""

    lease: str
    part: str
    trial: str
    attempt: int
    repository_id: int
    repository: str
    digest: str
    platform: str
    run_spec: str | None
    image_spec_allowed: bool
    image_specs: str | None


@dataclass(frozen=True, slots=True)
class _Abilities:
    """What a worker says that it can run. ``mechanisms``: ``None``: it does not say, and is taken to have
    none that could be demanded. ``disk_bytes`` is what one more image may take now, ``disk_most_bytes`` with
    nothing else there; ``None``: it does not say, and is taken to have enough."""

    platforms: Sequence[str]
    mechanisms: Sequence[str] | None
    disk_bytes: int | None
    disk_most_bytes: int | None


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
    mechanisms: Sequence[str] | None,
    disk_bytes: int | None,
    disk_most_bytes: int | None,
    slots: int,
    address: str | None,
    wait_seconds: float,
    is_gone: Callable[[], bool],
    require_still_let_in: Callable[[], Awaitable[object]],
) -> Claimed | Nothing:
    """Lease the part whose turn it is (:mod:`registry.trials.scheduling`), that the worker can run and that
    it is bound to; waits for one to come up. ``mechanisms`` are the isolation that its runs can have,
    ``disk_bytes`` how much disk it has for the image and ``disk_most_bytes`` how much it can ever have,
    ``slots`` as many leases as it says that it has room for: its binding may allow fewer.

    A worker that hung up while it waited gets none: the lease would only have to run out. What its row and
    its token say is looked at again each time: ``require_still_let_in`` raises where the token, or the
    address, is no longer good.
    """
    can = _Abilities(platforms, mechanisms, disk_bytes, disk_most_bytes)
    is_first = True
    async for _ in looks(database, seconds=wait_seconds):
        async with database.read_once() as connection:
            bound = (await connection.execute(_standing(worker, can))).one_or_none()
        if is_first and bound is not None and bound.is_stale:
            await _seen(database, worker, can, address)
        is_first = False
        # First, since who is revoked is drained as well, and should hear which of the two it is.
        await require_still_let_in()
        if bound is None or bound.drain_at is not None:
            return Nothing(drain=True)
        if bound.is_any_lost:
            await reap(database, settings)
        if is_gone():
            break
        claimed = await _try_claim(database, settings, worker, can, slots=slots, binding=Binding.of(bound))
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
            .where(is_leased(lease, worker.account_id))
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
    async with database.read_once() as connection:
        query = (
            select(parts.c.id, parts.c.repository_id)
            .where(*_EXPIRED)
            .order_by(parts.c.lease_expires_at)
            .limit(REAP_BATCH)
        )
        lost = (await connection.execute(query)).all()
    reaped = 0
    for part_id, repository_id in lost:
        async with database.write() as connection:
            await repos.lock(connection, repository_id)
            query_part = select(parts.c.id, parts.c.attempts, parts.c.worker).where(
                parts.c.id == part_id, *_EXPIRED
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
    database: Database,
    settings: Settings,
    worker: Reporter,
    can: _Abilities,
    *,
    slots: int,
    binding: Binding,
) -> Claimed | None:
    # Looked at without the writer's lock first: most looks find nothing.
    async with database.read_once() as connection:
        runnable = await waiting_kinds(connection, can.platforms, can.mechanisms or ())
        if runnable is None:
            return None
        runnable = await within_caps(connection, settings, runnable)
    may_have = partial(next_part, runnable, disk_bytes=can.disk_bytes)
    if not await _is_there_any(database, may_have(binding, also_large=True)):
        # What no worker can hold goes to one that has nothing else to do.
        waiting = next_part(runnable, binding, disk_bytes=None, also_large=True)
        async with database.read_once() as connection:
            too_large = await find_too_large(connection, waiting)
        may_have = partial(next_part, and_(runnable, parts.c.id == too_large), disk_bytes=None)
        if too_large is None or not await _is_there_any(database, may_have(binding, also_large=True)):
            await _drop_others(database, due_parts(runnable, binding))
            return None
    lease = secrets.token_urlsafe(32)
    async with database.write() as connection:
        # One claim of a worker at a time: it counts its leases, and its binding is the one that holds now.
        bound = (await connection.execute(_bound(worker).with_for_update())).one_or_none()
        if bound is None or bound.drain_at is not None:
            return None
        binding = Binding.of(bound)
        held = select(func.count(), func.count().filter(is_large())).where(
            parts.c.lease_account_id == worker.account_id, parts.c.state == "leased"
        )
        leases, large = (await connection.execute(held)).one()
        room = min(slots, binding.slots or slots)
        if leases >= room:
            return None
        mine = may_have(binding, also_large=large < large_at_once(room))
        row = (
            await connection.execute(
                update(parts)
                .where(parts.c.id == mine.with_for_update(skip_locked=True, of=parts).scalar_subquery())
                .values(
                    state="leased",
                    attempts=parts.c.attempts + 1,
                    lease=lease,
                    lease_account_id=worker.account_id,
                    lease_expires_at=db_time(timedelta(seconds=settings.lease_seconds)),
                    worker=worker.name,
                )
                .returning(*(parts.c[name] for name in _OF_PART), _NAME.label("repository"))
            )
        ).first()
        if row is None:
            return None
        trial_id = await _start_trials(connection, row.id)
    return Claimed(
        lease=lease,
        part=row.id,
        trial=trial_id,
        attempt=row.attempts,
        repository_id=row.repository_id,
        repository=row.repository,
        digest=row.digest,
        platform=row.platform,
        run_spec=row.run_spec,
        image_spec_allowed=row.image_spec_allowed,
        image_specs=row.image_specs,
    )


async def _is_there_any(database: Database, query: Select[Any]) -> bool:
    """Whether there is a part to claim; those on the way to it that nobody wants any more are dropped. One
    that comes between this look and the claim is run all the same."""
    # Asked of the one part: of all that wait, PostgreSQL would read every tag and edge that there is.
    is_first = parts.c.id == query.correlate(None).scalar_subquery()
    look = select(parts.c.id, parts.c.repository_id, WANTED.label("wanted")).where(is_first)
    for _ in range(DROPS_MAX):
        async with database.read_once() as connection:
            found = (await connection.execute(look)).first()
        if found is None or found.wanted:
            return found is not None
        await drop(database, found.id, found.repository_id)
    # Whoever waits is woken by what was dropped, and looks again.
    return False


async def _drop_others(database: Database, due: Select[Any]) -> None:
    """Drop what nobody wants of the first that no worker is given: it would wait for ever."""
    first = due.limit(DROPS_MAX).subquery()
    unwanted = select(parts.c.id, parts.c.repository_id).join(first, first.c.id == parts.c.id).where(~WANTED)
    async with database.read_once() as connection:
        found = (await connection.execute(unwanted)).all()
    for part in found:
        await drop(database, part.id, part.repository_id)


async def _start_trials(connection: AsyncConnection, part_id: str) -> str:
    """Mark the trials that wait for the part as running; returns the newest of them."""
    waiting = trials.alias("waiting")
    # Locked in their order, as everywhere.
    linked = (
        select(waiting.c.id)
        .join(trial_parts, trial_parts.c.trial_id == waiting.c.id)
        .where(trial_parts.c.part_id == part_id, waiting.c.state != "done")
        .order_by(waiting.c.id)
        .with_for_update(of=waiting)
    )
    started = update(trials).where(trials.c.id.in_(linked)).values(state="running").returning(trials.c.id)
    return max((await connection.execute(started)).scalars(), default="")


def _standing(worker: Reporter, can: _Abilities) -> Select[Any]:
    """What a look of a worker begins with: its binding, whether its row is old or says something else than
    the worker does, and whether the lease of any has expired."""
    stale = or_(
        workers.c.last_seen_at.is_(None),
        workers.c.last_seen_at < db_time(timedelta(seconds=-10)),
        *(workers.c[name].is_distinct_from(value) for name, value in _said(can).items()),
        workers.c.disk_most_bytes.is_distinct_from(can.disk_most_bytes),
        _moved(can.disk_bytes),
    )
    lost = select(parts.c.id).where(*_EXPIRED).exists()
    return _bound(worker).add_columns(stale.label("is_stale"), lost.label("is_any_lost"))


def _said(can: _Abilities) -> dict[str, str | None]:
    has = None if can.mechanisms is None else json.dumps(sorted(set(can.mechanisms)))
    return {"platforms": json.dumps(list(can.platforms)), "mechanisms": has}


async def _seen(database: Database, worker: Reporter, can: _Abilities, address: str | None) -> None:
    """Write that the worker is here, and what it said of itself."""
    async with database.write() as connection:
        await connection.execute(
            update(workers)
            .where(workers.c.account_id == worker.account_id)
            .values(
                last_seen_at=db_time(),
                address=address,
                disk_bytes=can.disk_bytes,
                disk_most_bytes=can.disk_most_bytes,
                **_said(can),
            )
        )


def _moved(disk_bytes: int | None) -> ColumnElement[bool]:
    """Whether a worker's disk is another one than its row says; a little always changes."""
    if disk_bytes is None:
        return workers.c.disk_bytes.is_not(None)
    before = cast(workers.c.disk_bytes, Float)
    return or_(before.is_(None), func.abs(before - float(disk_bytes)) * 16 > float(disk_bytes))


def _bound(worker: Reporter) -> Select[Any]:
    """What the worker's row says now, if it is still there."""
    return _BINDING.where(workers.c.account_id == worker.account_id)
