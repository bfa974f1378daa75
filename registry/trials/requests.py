"""Trials that a person or a rule asks for, beyond the one that a push makes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import REGISTRY, Actor
from registry.auth.policy import is_hidden
from registry.content import repositories as repos
from registry.contract.runspec import RunSpec
from registry.db.content import manifests, repositories
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.trials import trials
from registry.db.types import db_time
from registry.errors import ConflictError, RequestInvalidError
from registry.settings import Settings
from registry.trials.caps import require_room
from registry.trials.images import RunnableImage, images_of_stored
from registry.trials.opening import Opening, TrialPolicy, open_trial, trial_policy
from registry.trials.scheduling import PUSHED, SCHEDULED
from registry.trials.secrets import require_may_name
from registry.trials.services import with_digests
from registry.trials.settling import set_states
from registry.trials.specs import spec_digest

RETRY_PAUSE = timedelta(minutes=10)
SPECS_MAX = 1000
"""Under how many run specs an image is tried: the last trial under each is kept as long as the image."""


async def start(
    database: Database,
    settings: Settings,
    *,
    repository_id: int,
    digest: str,
    spec: RunSpec | None,
    created_by: Actor,
) -> str:
    """Try an image again, or under another run spec; returns the id of the trial.

    Its verdict decides the image's state unless the repository has a run spec of its own and this is another.

    Raises:
        ConflictError: nothing in the image can be run, what it lists is missing, or it was tried under as
            many run specs as may be.
        DeniedError, RequestInvalidError: the spec names secrets or services that ``created_by`` may not name,
            or that are not there.
        TooManyRequestsError: a cap is reached (:mod:`registry.trials.caps`).
    """
    if spec is not None:
        await _require_choosable(database, repository_id, spec)
        spec = await with_digests(database, settings, actor=created_by, spec=spec)
    async with database.write() as connection:
        trial_id = await _start(
            connection, settings, repository_id=repository_id, digest=digest, spec=spec, created_by=created_by
        )
        await move_epoch(connection, "gate")
    return trial_id


async def _require_choosable(database: Database, repository_id: int, spec: RunSpec) -> None:
    """Let a spec for what was copied from another registry name nothing of this one, as when it was copied:
    who makes that image is a stranger."""
    async with database.read_once() as connection:
        named = select(repositories.c.name).where(repositories.c.id == repository_id)
        name = (await connection.execute(named)).scalar_one_or_none()
    if name is not None and is_hidden(name) and (spec.secrets() or spec.services):
        raise RequestInvalidError(
            "a run spec for an image of another registry can name no secrets or services"
        )


async def start_in(
    connection: AsyncConnection,
    settings: Settings,
    *,
    repository_id: int,
    digest: str,
    spec: RunSpec | None,
    created_by: Actor,
) -> str:
    """As :func:`start`, in the caller's transaction, which moves the gate's epoch. Who starts several locks
    their repositories in the order of their numbers.

    Raises:
        ConflictError: nothing in the image can be run, what it lists is missing, or it was tried under as
            many run specs as may be.
        DeniedError, RequestInvalidError: the spec names secrets that ``created_by`` may not name, or that are
            not there; or services, which only who may pull them can choose.
        TooManyRequestsError: a cap is reached (:mod:`registry.trials.caps`).
    """
    if spec is not None and spec.services:
        raise RequestInvalidError(
            f"the run spec names the service {spec.services[0].name}, and {created_by.shown} pulls no "
            "images: set the run spec for the repository, and leave it out here"
        )
    return await _start(
        connection, settings, repository_id=repository_id, digest=digest, spec=spec, created_by=created_by
    )


async def _start(
    connection: AsyncConnection,
    settings: Settings,
    *,
    repository_id: int,
    digest: str,
    spec: RunSpec | None,
    created_by: Actor,
) -> str:
    await repos.lock(connection, repository_id)
    policy = await trial_policy(connection, repository_id)
    await require_room(connection, settings, repository=policy.repository, actor=created_by)
    inventory = await images_of_stored(connection, repository_id, digest)
    if inventory.untriable is not None:
        raise ConflictError(f"{digest} cannot be tried: {inventory.untriable[1]}")
    return await _open(
        connection,
        settings,
        policy,
        digest=digest,
        images=inventory.images,
        created_by=created_by,
        spec=spec,
    )


async def try_again(database: Database, settings: Settings, *, repository_id: int, digest: str) -> None:
    """Queue an image whose verdict has expired, unless that has been done a short while ago."""
    async with database.read() as connection:
        if await _tried_lately(connection, repository_id, digest):
            return
    async with database.write() as connection:
        # Again under the lock: many readers may find the same verdict too old at once.
        await repos.lock(connection, repository_id)
        if await _tried_lately(connection, repository_id, digest):
            return
        await ask_anew(connection, settings, repository_id, digest, urgency=SCHEDULED)
        await move_epoch(connection, "gate")


async def try_pending_anew(connection: AsyncConnection, settings: Settings, repository_id: int) -> None:
    """Ask again, under the repository's present policy, about images that still wait for a verdict.

    The verdicts on their way answer a question of before, and would leave these images pending for ever. The
    caller holds the repository's lock.
    """
    is_open = select(trials.c.digest).where(trials.c.repository_id == repository_id, trials.c.state != "done")
    waiting = select(manifests.c.digest).where(
        manifests.c.repository_id == repository_id,
        # Admitted meanwhile, as it was pushed before the gate.
        (manifests.c.state == "pending")
        | ((manifests.c.state == "grandfathered") & manifests.c.digest.in_(is_open)),
    )
    for digest in (await connection.execute(waiting.order_by(manifests.c.id))).scalars().all():
        await ask_anew(connection, settings, repository_id, digest)


async def ask_anew(
    connection: AsyncConnection,
    settings: Settings,
    repository_id: int,
    digest: str,
    *,
    urgency: int = PUSHED,
) -> None:
    """Try an image again, or say why that cannot be done: what an index lists may have been deleted.

    The caller holds the repository's lock, and moves the gate's epoch.
    """
    policy = await trial_policy(connection, repository_id)
    inventory = await images_of_stored(connection, repository_id, digest)
    if inventory.untriable is not None:
        await set_states(connection, repository_id, policy.repository, [(digest, *inventory.untriable)])
        return
    await _open(
        connection,
        settings,
        policy,
        digest=digest,
        images=inventory.images,
        created_by=REGISTRY,
        urgency=urgency,
    )


async def _open(
    connection: AsyncConnection,
    settings: Settings,
    policy: TrialPolicy,
    *,
    digest: str,
    images: Sequence[RunnableImage],
    created_by: Actor,
    spec: RunSpec | None = None,
    urgency: int = PUSHED,
) -> str:
    if spec is not None:
        await require_may_name(connection, created_by, repository_name=policy.repository, spec=spec)
        await require_few_specs(connection, policy.repository_id, digest, run_spec=spec.canonical())
    opening = Opening(
        digest=digest,
        images=images,
        run_spec=spec.canonical() if spec else policy.run_spec,
        cause="request",
        created_by=created_by,
        again=True,
        urgency=urgency,
    )
    trial_id = await open_trial(connection, settings, policy, opening)
    await record(
        connection, "trial.started", policy.repository, created_by, {"trial": trial_id}, target=digest
    )
    return trial_id


async def require_few_specs(
    connection: AsyncConnection, repository_id: int, digest: str, *, run_spec: str
) -> None:
    """Let an image be tried under one more run spec (canonical JSON). The caller holds the repository's lock.

    Raises:
        ConflictError: it was tried under as many as may be.
    """
    known = (
        select(trials.c.spec_digest)
        .where(trials.c.repository_id == repository_id, trials.c.digest == digest)
        .distinct()
    )
    found = set((await connection.execute(known)).scalars())
    if len(found) >= SPECS_MAX and spec_digest(run_spec) not in found:
        raise ConflictError(
            f"{digest} was tried under {len(found)} run specs, and what came of each is kept as long as the "
            "image; use one of them, or delete the image and push it again"
        )


async def _tried_lately(connection: AsyncConnection, repository_id: int, digest: str) -> bool:
    policy = await trial_policy(connection, repository_id)
    query = select(trials.c.id).where(
        trials.c.repository_id == repository_id,
        trials.c.digest == digest,
        trials.c.spec_digest == spec_digest(policy.run_spec),
        (trials.c.state != "done") | (trials.c.created_at > db_time(-RETRY_PAUSE)),
    )
    return (await connection.execute(query.limit(1))).first() is not None
