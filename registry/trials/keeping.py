"""How long trials are kept, with their runs and logs. What a standing verdict rests on, or a statement names,
stays however old it is.

Steps are short, and another replica may take the same ones: each looks again, under the repository's lock, at
what it removes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, exists, or_, select, tuple_

from registry.content import repositories as repos
from registry.db.content import attestations, manifests, repositories
from registry.db.sweeping import AT_ONCE
from registry.db.trials import parts, trial_parts, trials
from registry.db.types import db_time

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table

    from registry.db.engine import Database


@dataclass(frozen=True, slots=True)
class Keeping:
    """Trials younger than ``days`` are kept, and the ``newest`` of each image that is there. A repository's
    row may say other days."""

    days: int
    newest: int


async def sweep(database: Database, keeping: Keeping) -> int:
    """Remove the trials that are over, and the parts, with runs and logs, that none is left for; how many
    rows of both."""
    said = select(repositories.c.trial_keep_days).where(repositories.c.trial_keep_days.is_not(None))
    async with database.read_once() as connection:
        of_their_own = (await connection.execute(said.distinct())).scalars().all()
    removed = 0
    for days in (None, *sorted(of_their_own)):
        one = keeping if days is None else replace(keeping, days=days)
        removed += await _remove(database, trials, _of(trials, days) & _over(one))
        removed += await _remove(database, parts, _of(parts, days) & _left_over(one))
    return removed


def _of(table: Table, days: int | None) -> ColumnElement[bool]:
    """Of the repositories that say these days, or none."""
    says = repositories.c.trial_keep_days
    if days is None:
        return table.c.repository_id.not_in(select(repositories.c.id).where(says.is_not(None)))
    return table.c.repository_id.in_(select(repositories.c.id).where(says == days))


async def _remove(database: Database, table: Table, over: ColumnElement[bool]) -> int:
    removed = 0
    while True:
        query = select(table.c.id, table.c.repository_id).where(over).limit(AT_ONCE)
        async with database.read_once() as connection:
            found = (await connection.execute(query)).all()
        done = 0
        for repository_id in sorted({row.repository_id for row in found}):
            ids = [row.id for row in found if row.repository_id == repository_id]
            async with database.write() as connection:
                # What makes a trial holds it too, and may have found the part just now.
                await repos.lock(connection, repository_id)
                gone = await connection.execute(delete(table).where(table.c.id.in_(ids), over))
            done += gone.rowcount
        removed += done
        if len(found) < AT_ONCE or not done:
            return removed


def _over(keeping: Keeping) -> ColumnElement[bool]:
    later = trials.alias("later")
    same_image = and_(
        later.c.repository_id == trials.c.repository_id,
        later.c.digest == trials.c.digest,
        tuple_(later.c.created_at, later.c.id) > tuple_(trials.c.created_at, trials.c.id),
    )
    enough = select(later.c.id).where(same_image).order_by(later.c.created_at, later.c.id)
    # A later one that asked the same and is done: this one's verdict stands nowhere any more.
    same_question = and_(
        later.c.spec_digest == trials.c.spec_digest,
        later.c.policy_version == trials.c.policy_version,
        later.c.state == "done",
    )
    return and_(
        trials.c.state == "done",
        trials.c.created_at < db_time(-timedelta(days=keeping.days)),
        or_(
            ~_is_there(trials),
            and_(
                exists(enough.offset(keeping.newest - 1).limit(1).correlate(trials)),
                exists(select(later.c.id).where(same_image, same_question).correlate(trials)),
            ),
        ),
    )


def _left_over(keeping: Keeping) -> ColumnElement[bool]:
    linked = select(trial_parts.c.part_id).where(trial_parts.c.part_id == parts.c.id)
    return and_(
        parts.c.state == "done",
        parts.c.finished_at < db_time(-timedelta(days=keeping.days)),
        ~exists(linked.correlate(parts)),
        ~_is_there(parts),
    )


def _is_there(table: Table) -> ColumnElement[bool]:
    """Whether the repository has the image, or something attested of it."""
    kept = [
        exists(
            select(one.c.id)
            .where(one.c.repository_id == table.c.repository_id, one.c.digest == table.c.digest)
            .correlate(table)
        )
        for one in (manifests, attestations)
    ]
    return or_(*kept)
