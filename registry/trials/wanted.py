"""Whether anybody still waits for a part that is queued: what no tag names any more is not run."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, case, func, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import FromClause

from registry.content import repositories as repos
from registry.contract.judge import Judgement
from registry.db.content import edges, manifests, repositories, tags
from registry.db.engine import Database, move_epoch
from registry.db.trials import parts, trial_parts, trials
from registry.trials.scheduling import QUEUED
from registry.trials.verdicts import finish_part

DROPPED = "dropped: when its turn came, no tag named it any more"
"""The reason of a verdict ``error``: nothing is known, since nobody waited for it."""


def _named(manifest: FromClause) -> ColumnElement[bool]:
    return select(tags.c.name).where(tags.c.manifest_id == manifest.c.id).exists()


def _wanted() -> ColumnElement[bool]:
    image = manifests.alias("tried")
    index = manifests.alias("listing")
    listed = edges.alias("listed")
    its_trials = trials.alias("its_trials")
    tagged_once = (
        select(its_trials.c.id)
        .where(
            its_trials.c.repository_id == index.c.repository_id,
            its_trials.c.digest == index.c.digest,
            its_trials.c.by_tag.is_(True),
        )
        .exists()
    )
    # One subquery for both questions, is there an index above and is one of them wanted: PostgreSQL plans
    # each of them anew with each claim, which takes longer than to answer it.
    above = (
        select(func.max(case((or_(_named(index), ~tagged_once), 1), else_=0)))
        .join(listed, listed.c.manifest_id == index.c.id)
        .where(
            listed.c.digest == image.c.digest,
            # Written out, so that the index of children is found, few as they are beside layers.
            listed.c.kind == literal_column("'child'"),
            index.c.repository_id == image.c.repository_id,
        )
        .scalar_subquery()
    )
    alone = case((trials.c.by_tag.is_not(True), 1), else_=0)
    return (
        select(trials.c.id)
        .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
        .join(image, and_(image.c.repository_id == trials.c.repository_id, image.c.digest == trials.c.digest))
        .join(repositories, repositories.c.id == image.c.repository_id)
        .where(
            trial_parts.c.part_id == parts.c.id,
            trials.c.state != "done",
            or_(
                trials.c.cause != "push",
                repositories.c.gate == "hold",
                _named(image),
                func.coalesce(above, alone) == 1,
            ),
        )
        .exists()
    )


WANTED = _wanted()
"""Whether a trial waits for a part that somebody still wants.

That is each that was asked for, and of what was pushed: what was pushed by digest alone, what a tag names,
or an index that is one of these. Where the gate holds tags, where a tag stood counts as well: its readers get
the last image that is admitted. An image that was deleted is none.
"""


async def drop(database: Database, part_id: str, repository_id: int) -> None:
    """End a queued part, and the trials that wait for it, unless somebody wants it after all."""
    async with database.write() as connection:
        await repos.lock(connection, repository_id)
        query = select(parts.c.id).where(parts.c.id == part_id, QUEUED, ~WANTED)
        if (await connection.execute(query.with_for_update(of=parts))).first() is None:
            return
        await finish_part(connection, part_id, Judgement("error", DROPPED), record=None)
        await move_epoch(connection, "gate")


async def want_by_digest(connection: AsyncConnection, repository_id: int, digest: str) -> None:
    """Run what waits of an image, which was pushed by digest now, whatever tag names it. The caller holds the
    repository's lock."""
    await connection.execute(
        update(trials)
        .where(
            trials.c.repository_id == repository_id,
            trials.c.digest == digest,
            trials.c.state != "done",
            trials.c.by_tag.is_(True),
        )
        .values(by_tag=None)
    )


async def was_dropped(connection: AsyncConnection, manifest_id: int) -> bool:
    """Whether an image has no verdict because its trial was dropped, or of an index that of one platform."""
    query = (
        select(manifests.c.id)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .join(
            trials,
            and_(
                trials.c.repository_id == manifests.c.repository_id,
                trials.c.digest == manifests.c.digest,
                trials.c.policy_version == repositories.c.policy_version,
            ),
        )
        .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
        .join(parts, parts.c.id == trial_parts.c.part_id)
        .where(
            manifests.c.id == manifest_id,
            manifests.c.state == "error",
            parts.c.verdict == "error",
            parts.c.reason == DROPPED,
        )
        .limit(1)
    )
    return (await connection.execute(query)).first() is not None
