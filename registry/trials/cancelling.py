"""Trials that somebody ends before their verdict. Nothing is known of the image then, which is ``error``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.access import require
from registry.content import repositories as repos
from registry.contract.judge import Judgement
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.trials import parts, trial_parts, trials
from registry.errors import ConflictError
from registry.trials.verdicts import finish_part

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.trials.reading import TrialView

CANCELLED = "cancelled by "
"""How the reason of such a verdict begins; who did it follows."""


async def cancel(database: Database, *, actor: Actor, trial: TrialView) -> None:
    """End what is not done of a trial that the actor may see; other trials that wait for the same end
    with it. A worker that is at it learns so from its next heartbeat.

    Raises:
        UnauthorizedError, DeniedError: the actor may not start trials there.
        ConflictError: it has ended, or its image is still being copied.
    """
    require(actor, "trial", trial.repository, trial.visibility)
    in_trial = select(trial_parts.c.part_id).where(trial_parts.c.trial_id == trial.id)
    open_ones = select(parts.c.id).where(parts.c.id.in_(in_trial), parts.c.state != "done")
    async with database.write() as connection:
        here = select(trials.c.repository_id).where(trials.c.id == trial.id)
        repository_id = (await connection.execute(here)).scalar_one_or_none()
        found: list[str] = []
        if repository_id is not None and await repos.lock(connection, repository_id):
            held = open_ones.order_by(parts.c.id).with_for_update(of=parts)
            found = list((await connection.execute(held)).scalars())
        if not found:
            raise ConflictError("nothing of this trial waits or is tried, so that there is nothing to cancel")
        for part_id in found:
            await finish_part(
                connection, part_id, Judgement("error", f"{CANCELLED}{actor.shown}"), record=None
            )
        told = {"trial": trial.id, "digest": trial.digest}
        await record(connection, "trial.cancelled", trial.repository, actor, told)
        await move_epoch(connection, "gate")
