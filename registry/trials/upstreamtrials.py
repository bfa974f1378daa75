"""Trials of images of other registries: asked for, and the copies that they wait for.

The trial's row is there from the beginning, without a digest and without parts. Its copy's row is the queue:
one process at a time is at it, under a lease by the database's clock, and what ends it ends or opens the
trial in the same transaction. Who is killed with it is followed by another, who goes on with what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update
from uuid_utils import uuid7

from registry.auth.access import require_writable
from registry.auth.actor import REGISTRY
from registry.content import repositories as repos
from registry.content.blocks import below
from registry.db.content import manifests, repositories
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.trials import trials
from registry.db.types import db_time
from registry.db.upstreams import upstream_copies, upstreams
from registry.errors import ConflictError, DeniedError, RequestInvalidError, TooManyRequestsError
from registry.oci.names import split_repository_reference
from registry.trials.caps import require_room
from registry.trials.images import RunnableImage
from registry.trials.opening import Opening, open_trial, trial_policy
from registry.trials.requests import require_few_specs
from registry.trials.specs import spec_digest
from registry.trials.states import REASON_MAX
from registry.trials.upstreams import find_usable

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.contract.runspec import RunSpec
    from registry.db.engine import Database
    from registry.oci.digest import Digest
    from registry.settings import Settings
    from registry.trials.upstreams import Upstream

OPEN_MAX = 100
"""So many images of one upstream may wait to be copied."""
LEASE = timedelta(seconds=60)
PAUSES = (timedelta(seconds=5), timedelta(seconds=20), timedelta(seconds=60))
"""How long a copy waits before it is begun again, where what it failed for may pass."""
ATTEMPTS = 1 + len(PAUSES)
"""So often a copy is begun at most, also where processes are killed at it."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that this process is at. ``repository`` is the hidden one's name, ``image`` what was asked for
    there: ``NAME:TAG`` or ``NAME@DIGEST``."""

    trial_id: str
    lease: str
    upstream_id: str
    repository_id: int
    repository: str
    image: str
    run_spec: str | None
    attempts: int
    created_by: str


async def start(
    database: Database, settings: Settings, *, actor: Actor, upstream: str, image: str, spec: RunSpec | None
) -> str:
    """Have an image of another registry tried; returns the id of the trial.

    Raises:
        NotFoundError: no such upstream that the actor may use.
        NameInvalidError, TagInvalidError, DigestInvalidError: not an image.
        DeniedError: an image that may not be tried, or the registry is read-only.
        RequestInvalidError: the spec names secrets or services.
        TooManyRequestsError: as many wait already as may, or a cap on trials is reached.
    """
    require_writable(read_only=settings.read_only)
    async with database.write() as connection:
        found = await find_usable(connection, actor, upstream)
        return await start_in(connection, settings, found, image=image, spec=spec, created_by=actor)


async def start_in(
    connection: AsyncConnection,
    settings: Settings,
    upstream: Upstream,
    *,
    image: str,
    spec: RunSpec | None,
    created_by: Actor,
) -> str:
    """As :func:`start`, in the caller's transaction and for whoever it lets.

    Raises:
        NameInvalidError, TagInvalidError, DigestInvalidError, DeniedError, RequestInvalidError,
        TooManyRequestsError: as there.
    """
    name, tag, digest = split_repository_reference(image)
    if not upstream.allows(name):
        raise DeniedError(f"{upstream.name} was not added for {name}; see its repositories")
    if spec is not None and (spec.secrets() or spec.services):
        raise RequestInvalidError(
            "a run spec for an image of another registry can name no secrets or services"
        )
    # One after the other: who counts sees what those before made.
    await connection.execute(select(upstreams.c.id).where(upstreams.c.id == upstream.id).with_for_update())
    waiting = select(func.count()).where(
        upstream_copies.c.upstream_id == upstream.id, upstream_copies.c.run_after.is_not(None)
    )
    if (await connection.execute(waiting)).scalar_one() >= OPEN_MAX:
        raise TooManyRequestsError(
            f"{OPEN_MAX} images of {upstream.name} wait to be copied already", headers={"Retry-After": "60"}
        )
    policy = await trial_policy(connection, upstream.repository_id)
    await require_room(connection, settings, repository=policy.repository, actor=created_by)
    run_spec = spec.canonical() if spec else None
    trial_id, named = str(uuid7()), f"{name}@{digest}" if digest else f"{name}:{tag or 'latest'}"
    await connection.execute(
        insert(trials).values(
            id=trial_id,
            repository_id=policy.repository_id,
            digest="",
            spec_digest=spec_digest(run_spec),
            policy_version=policy.policy_version,
            cause="request",
            state="queued",
            created_by=created_by.shown,
            workload=created_by.workload_text,
            created_at=db_time(),
        )
    )
    await connection.execute(
        insert(upstream_copies).values(
            trial_id=trial_id,
            upstream_id=upstream.id,
            image=named,
            run_spec=run_spec,
            run_after=db_time(),
            attempts=0,
        )
    )
    said = {"trial": trial_id, "upstream": upstream.name, "image": named}
    await record(connection, "trial.started", policy.repository, created_by, said, target=named)
    return trial_id


async def take(database: Database) -> Copy | None:
    """A copy that is due, under a lease. Of a namespace that lies in no other one is made at a time: who has
    that makes as many within as he likes."""
    async with database.read_once() as connection:
        if (await connection.execute((await _due(connection)).limit(1))).first() is None:
            return None
    async with database.write() as connection:
        # The rows alone are locked: two replicas at once may take two of a namespace, which hurts nobody.
        query = (
            (await _due(connection))
            .order_by(upstream_copies.c.run_after, upstream_copies.c.trial_id)
            .limit(1)
        )
        row = (
            await connection.execute(query.with_for_update(of=upstream_copies, skip_locked=True))
        ).one_or_none()
        if row is None:
            return None
        lease = str(uuid7())
        await connection.execute(
            update(upstream_copies)
            .where(upstream_copies.c.trial_id == row.trial_id)
            .values(lease=lease, attempts=row.attempts + 1, run_after=db_time(LEASE))
        )
        begun = {"state": "running", "reason": ""}
        await connection.execute(update(trials).where(trials.c.id == row.trial_id).values(begun))
    return Copy(**{**row._asdict(), "lease": lease, "attempts": row.attempts + 1})


async def keep(database: Database, copy: Copy) -> bool:
    """Go on with a copy for another while; false: it is not this process's any more."""
    async with database.write() as connection:
        kept = await connection.execute(
            update(upstream_copies).where(*_held(copy)).values(run_after=db_time(LEASE))
        )
    return kept.rowcount == 1


async def give_back(database: Database, copy: Copy) -> None:
    """Leave a copy to whoever comes next: this process ends."""
    async with database.write() as connection:
        given = await connection.execute(
            update(upstream_copies)
            .where(*_held(copy))
            .values(run_after=db_time(), lease=None, attempts=copy.attempts - 1)
            .returning(upstream_copies.c.trial_id)
        )
        if given.first() is not None:
            await connection.execute(
                update(trials).where(trials.c.id == copy.trial_id).values(state="queued")
            )


async def try_later(
    database: Database, copy: Copy, reason: str, *, asked_seconds: float | None = None
) -> None:
    """Begin a copy again after a pause, or a longer one that the other registry asks for, and say so; where
    it was begun as often as may be, :func:`fail`."""
    if copy.attempts >= ATTEMPTS:
        await fail(database, copy, f"{reason}; it was tried {ATTEMPTS} times")
        return
    pause = max(PAUSES[copy.attempts - 1], timedelta(seconds=asked_seconds or 0.0))
    said = f"tried again within {pause.total_seconds():g} s or a little more: {reason}"
    async with database.write() as connection:
        left = await connection.execute(
            update(upstream_copies)
            .where(*_held(copy))
            .values(run_after=db_time(pause), lease=None)
            .returning(upstream_copies.c.trial_id)
        )
        if left.first() is not None:
            waits = {"state": "queued", "reason": said[:REASON_MAX]}
            await connection.execute(update(trials).where(trials.c.id == copy.trial_id).values(waits))


async def fail(database: Database, copy: Copy, reason: str) -> None:
    """End a trial whose image could not be copied, with an error."""
    async with database.write() as connection:
        if not await _end(connection, copy):
            return
        reason = reason[:REASON_MAX]
        await connection.execute(
            update(trials)
            .where(trials.c.id == copy.trial_id)
            .values(state="done", verdict="error", reason=reason, finished_at=db_time())
        )
        told = {"trial": copy.trial_id, "image": copy.image, "verdict": "error", "reason": reason}
        name = select(repositories.c.name).where(repositories.c.id == copy.repository_id)
        repository = (await connection.execute(name)).scalar_one()
        await record(connection, "trial.finished", repository, REGISTRY, told)


async def open_copied(
    database: Database, settings: Settings, copy: Copy, *, digest: Digest, images: Sequence[Digest]
) -> None:
    """Queue what was copied: ``digest`` is what the upstream has under the reference, an image or an index,
    and ``images`` are those of it that are in the hidden repository.

    Raises:
        ConflictError: none of them can be run, or it was tried under as many run specs as may be.
    """
    async with database.write() as connection:
        if not await repos.lock(connection, copy.repository_id) or not await _end(connection, copy):
            return
        policy = await trial_policy(connection, copy.repository_id)
        if copy.run_spec is not None:
            await require_few_specs(connection, copy.repository_id, str(digest), run_spec=copy.run_spec)
        held = select(manifests.c.digest, manifests.c.platform).where(
            manifests.c.repository_id == copy.repository_id,
            manifests.c.digest.in_(list(map(str, images))),
            manifests.c.platform.is_not(None),
        )
        found = [RunnableImage(*row) for row in await connection.execute(held)]
        if not found:
            raise ConflictError("nothing of what was copied can be run, or it is gone again")
        opening = Opening(
            digest=str(digest),
            images=found,
            run_spec=copy.run_spec,
            cause="request",
            created_by=replace(REGISTRY, name=copy.created_by),
            again=True,
            trial_id=copy.trial_id,
        )
        await open_trial(connection, settings, policy, opening)
        await move_epoch(connection, "gate")


async def _end(connection: AsyncConnection, copy: Copy) -> bool:
    ended = await connection.execute(
        update(upstream_copies)
        .where(*_held(copy))
        .values(run_after=None, lease=None)
        .returning(upstream_copies.c.trial_id)
    )
    return ended.first() is not None


def _held(copy: Copy) -> Sequence[Any]:
    return upstream_copies.c.trial_id == copy.trial_id, upstream_copies.c.lease == copy.lease


async def _due(connection: AsyncConnection) -> Select[Any]:
    busy = (
        select(repositories.c.name)
        .join(upstreams, upstreams.c.repository_id == repositories.c.id)
        .join(upstream_copies, upstream_copies.c.upstream_id == upstreams.c.id)
        .where(upstream_copies.c.lease.is_not(None), upstream_copies.c.run_after > db_time())
    )
    tops = {name.partition("/")[0] for name in (await connection.execute(busy)).scalars()}
    return (
        select(
            upstream_copies.c.trial_id,
            upstream_copies.c.upstream_id,
            upstreams.c.repository_id,
            repositories.c.name.label("repository"),
            upstream_copies.c.image,
            upstream_copies.c.run_spec,
            upstream_copies.c.attempts,
            trials.c.created_by,
        )
        .join(trials, trials.c.id == upstream_copies.c.trial_id)
        .join(upstreams, upstreams.c.id == upstream_copies.c.upstream_id)
        .join(repositories, repositories.c.id == upstreams.c.repository_id)
        .where(
            upstream_copies.c.run_after.is_not(None),
            upstream_copies.c.run_after <= db_time(),
            *(~below(repositories.c.name, f"{top}/") for top in sorted(tops)),
        )
    )
