"""How a trial begins: parts found or made for each platform, in the transaction of its cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import uuid_utils
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.content import repositories as repos
from registry.db.content import repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.trials import parts, runs, trial_parts, trials
from registry.db.types import db_time
from registry.oci.platform import UNKNOWN_PLATFORM
from registry.settings import Settings
from registry.trials.images import RunnableImage
from registry.trials.platforms import is_run
from registry.trials.specs import spec_digest
from registry.trials.verdicts import settle_image, settle_trial

UNKNOWN = frozenset({"error", "unsupported"})
"""Verdicts of a part that say nothing about the image, so that the same question is worth asking again."""


@dataclass(frozen=True, slots=True)
class TrialPolicy:
    """What a repository says about its trials."""

    repository_id: int
    repository: str
    trial_on_push: bool
    image_spec_allowed: bool
    run_spec: str | None
    policy_version: int


@dataclass(frozen=True, slots=True)
class Opening:
    """One trial to open. ``run_spec`` is canonical JSON; ``again`` asks even where a verdict stands."""

    digest: str
    images: Sequence[RunnableImage]
    run_spec: str | None
    cause: Literal["push", "request"]
    created_by: str
    again: bool


async def trial_policy(connection: AsyncConnection, repository_id: int) -> TrialPolicy:
    """Read what the repository says."""
    query = select(
        repositories.c.id,
        repositories.c.name,
        repositories.c.trial_on_push,
        repositories.c.image_spec_allowed,
        repositories.c.run_spec,
        repositories.c.policy_version,
    ).where(repositories.c.id == repository_id)
    return TrialPolicy(*(await connection.execute(query)).one())


async def open_trial(
    connection: AsyncConnection, settings: Settings, policy: TrialPolicy, opening: Opening
) -> str:
    """Make a trial with a part for each image and bring the states in line; returns its id.

    Rows are locked in one order everywhere: repository, parts, trials.
    """
    await repos.lock(connection, policy.repository_id)
    part_ids = [
        await _find_or_make_part(connection, settings, policy, opening, image)
        for image in sorted(opening.images)
    ]
    trial_id = str(uuid_utils.uuid7())
    await connection.execute(
        insert(trials).values(
            id=trial_id,
            repository_id=policy.repository_id,
            digest=opening.digest,
            spec_digest=spec_digest(opening.run_spec),
            policy_version=policy.policy_version,
            cause=opening.cause,
            state="queued",
            created_by=opening.created_by,
            created_at=db_time(),
        )
    )
    await connection.execute(
        insert(trial_parts), [{"trial_id": trial_id, "part_id": part_id} for part_id in part_ids]
    )
    for part_id in part_ids:
        await settle_image(connection, part_id)
    await settle_trial(connection, trial_id)
    return trial_id


async def requeue(connection: AsyncConnection, part_ids: Sequence[str]) -> None:
    """Ask finished parts again; those that are queued or run stay as they are. Their rows are locked."""
    await connection.execute(delete(runs).where(runs.c.part_id.in_(part_ids)))
    await connection.execute(
        update(parts)
        .where(parts.c.id.in_(part_ids), parts.c.state == "done")
        .values(
            state="queued",
            attempts=0,
            run_after=db_time(),
            verdict=None,
            reason="",
            worker=None,
            record=None,
            finished_at=None,
        )
    )


async def _find_or_make_part(
    connection: AsyncConnection,
    settings: Settings,
    policy: TrialPolicy,
    opening: Opening,
    image: RunnableImage,
) -> str:
    supported = is_run(image.platform, settings.trial_platforms)
    key = {
        "repository_id": policy.repository_id,
        "digest": image.digest,
        "platform": image.platform,
        "spec_digest": spec_digest(opening.run_spec),
        "policy_version": policy.policy_version,
    }
    values = key | {
        "id": str(uuid_utils.uuid7()),
        "run_spec": opening.run_spec,
        "image_spec_allowed": policy.image_spec_allowed,
        "run_after": db_time(),
        "created_at": db_time(),
        "state": "queued" if supported else "done",
    }
    if not supported:
        values |= {
            "verdict": "unsupported",
            "reason": _why_not_run(image.platform),
            "finished_at": db_time(),
        }
    await connection.execute(insert_ignoring_conflict(connection, parts, values))
    found = select(parts.c.id, parts.c.state, parts.c.verdict).where(
        *(parts.c[name] == value for name, value in key.items())
    )
    part = (await connection.execute(found.with_for_update())).one()
    if part.state == "done" and supported and (opening.again or part.verdict in UNKNOWN):
        await requeue(connection, [part.id])
    return str(part.id)


def _why_not_run(platform: str) -> str:
    if platform == UNKNOWN_PLATFORM:
        return "its image config cannot be read, or names no platform"
    return f"no worker of this registry runs {platform}"
