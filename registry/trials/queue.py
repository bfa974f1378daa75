"""The queue: parts are its entries, leases say who tries them, and the database's clock decides."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Select, and_, bindparam, case, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.bindings import Binding
from registry.content import repositories as repos
from registry.contract.judge import Judgement
from registry.contract.scan import SCANS
from registry.db.accounts import workers
from registry.db.content import repositories
from registry.db.engine import Database, move_epoch
from registry.db.trials import is_leased, parts, trial_parts, trial_seconds, trials
from registry.db.types import db_time
from registry.errors import ConflictError
from registry.settings import Settings
from registry.trials.caps import within_caps
from registry.trials.findingspolicies import has_policy
from registry.trials.room import find_too_large
from registry.trials.scanned import ASKED, OFF, UNABLE, Scanned
from registry.trials.scheduling import due_parts, has_slot, next_part, queued_kinds, runnable_kinds
from registry.trials.specs import SCAN_ALONE_DIGEST, limits_digest
from registry.trials.verdicts import Reporter, finish_part, put_back
from registry.trials.waiting import looks
from registry.trials.wanted import WANTED, drop

REAP_BATCH = 50
SEEN_SECONDS = 10
"""That a worker is here is written so often, while it asks for jobs."""
DROPS_MAX = 50
"""How many parts that nobody wants any more one look drops."""
_EXPIRED = (parts.c.state == "leased", parts.c.lease_expires_at <= db_time())
_BINDING = select(workers.c.drain_at, workers.c.namespaces, workers.c.labels, workers.c.slots).where(
    workers.c.account_id == bindparam("worker")
)
_BINDING_NOW = _BINDING.with_for_update()
_LOOK = _BINDING.add_columns(
    *(workers.c[name] for name in ("platforms", "mechanisms", "disk_bytes", "disk_most_bytes")),
    workers.c.last_seen_at,
    db_time().label("now"),
    select(parts.c.id).where(*_EXPIRED).exists().label("is_any_lost"),
    select(trial_seconds.c.place).exists().label("is_any_spent"),
    queued_kinds(parts.c.platform).label("queued_platforms"),
    queued_kinds(parts.c.required).label("queued_demands"),
)
"""What a look of a worker begins with: its row, and of the queue what is asked of all of it. One statement,
the same one each time: the way to PostgreSQL costs more than most that is asked there."""
_NAME = (
    select(repositories.c.name)
    .where(repositories.c.id == parts.c.repository_id)
    .correlate(parts)
    .scalar_subquery()
)
_SCANS = select(repositories.c.scan).where(repositories.c.id == parts.c.repository_id).correlate(parts)
_IS_SCANNED = or_(
    _SCANS.scalar_subquery(),
    parts.c.spec_digest == SCAN_ALONE_DIGEST,
    has_policy(_NAME, parts.c.repository_id),
)
"""Whether the image of a part is: where its spec asks for nothing else, or its findings are judged, whatever
its repository wants."""
_WAITING = trials.alias("waiting")
_START_TRIALS = (
    update(trials)
    .where(
        trials.c.id.in_(
            # Locked in their order, as everywhere.
            select(_WAITING.c.id)
            .join(trial_parts, trial_parts.c.trial_id == _WAITING.c.id)
            .where(trial_parts.c.part_id == bindparam("part"), _WAITING.c.state != "done")
            .order_by(_WAITING.c.id)
            .with_for_update(of=_WAITING)
        )
    )
    .values(state="running")
    .returning(trials.c.id)
)
_OF_PART = (
    "id", "attempts", "repository_id", "digest", "platform", "run_spec", "image_spec_allowed", "image_specs",
    "scan",
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
    scan: bool
    """Whether the image is to be scanned as well."""


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
        found = await _look(database, worker)
        if is_first and found is not None and _is_stale(found, can):
            await _seen(database, worker, can, address)
        is_first = False
        # First, since who is revoked is drained as well, and should hear which of the two it is.
        await require_still_let_in()
        if found is not None and found.is_any_lost:
            await reap(database, settings)
            found = await _look(database, worker)
        if found is None or found.drain_at is not None:
            return Nothing(drain=True)
        if is_gone():
            break
        claimed = await _try_claim(database, settings, worker, can, slots=slots, found=found)
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
    database: Database, settings: Settings, worker: Reporter, can: _Abilities, *, slots: int, found: Any
) -> Claimed | None:
    runnable = runnable_kinds(
        found.queued_platforms,
        found.queued_demands,
        platforms=can.platforms,
        mechanisms=can.mechanisms or (),
    )
    if runnable is None:
        return None
    if found.is_any_spent:
        async with database.read_once() as connection:
            runnable = await within_caps(connection, settings, runnable)
    may_have = partial(next_part, runnable, disk_bytes=can.disk_bytes)
    binding = Binding.of(found)
    # Looked at without the writer's lock first: most looks find nothing.
    if not await _is_there_any(database, may_have(binding)):
        # What no worker can hold goes to one that has nothing else to do.
        waiting = next_part(runnable, binding, disk_bytes=None)
        async with database.read_once() as connection:
            too_large = await find_too_large(connection, waiting)
        may_have = partial(next_part, and_(runnable, parts.c.id == too_large), disk_bytes=None)
        if too_large is None or not await _is_there_any(database, may_have(binding)):
            await _drop_others(database, due_parts(runnable, binding))
            return None
    lease = secrets.token_urlsafe(32)
    async with database.write() as connection:
        # One claim of a worker at a time: its leases are counted, and its binding is the one that holds now.
        bound = (await connection.execute(_BINDING_NOW, {"worker": worker.account_id})).one_or_none()
        if bound is None or bound.drain_at is not None:
            return None
        binding = Binding.of(bound)
        mine = may_have(binding).where(has_slot(worker.account_id, min(slots, binding.slots or slots)))
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
                    limits_digest=limits_digest(settings),
                    scan=case((_IS_SCANNED, _scan_by(can).stored()), else_=OFF.stored()),
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
        scan=row.scan == ASKED.stored(),
    )


def _scan_by(can: _Abilities) -> Scanned:
    return ASKED if SCANS in (can.mechanisms or ()) else UNABLE


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
    started = await connection.execute(_START_TRIALS, {"part": part_id})
    return max(started.scalars(), default="")


async def _look(database: Database, worker: Reporter) -> Any:
    """The row of ``_LOOK``; ``None``: the worker is gone."""
    async with database.read_once() as connection:
        return (await connection.execute(_LOOK, {"worker": worker.account_id})).one_or_none()


def _is_stale(found: Any, can: _Abilities) -> bool:
    """Whether a worker's row is old, or says something else than the worker does."""
    said = (found.platforms, found.mechanisms, found.disk_most_bytes)
    return (
        found.last_seen_at is None
        or found.now - found.last_seen_at > timedelta(seconds=SEEN_SECONDS)
        or said != (*_said(can).values(), can.disk_most_bytes)
        or _has_moved(found.disk_bytes, can.disk_bytes)
    )


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


def _has_moved(before: int | None, disk_bytes: int | None) -> bool:
    """Whether a worker's disk is another one than its row says; a little always changes."""
    if before is None or disk_bytes is None:
        return before is not disk_bytes
    return abs(before - disk_bytes) * 16 > disk_bytes
