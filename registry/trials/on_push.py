"""What a push sets off: the state of the image and its trial, in the transaction of the push."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.content.effects import ManifestPushed
from registry.db.content import manifests
from registry.db.types import db_time
from registry.settings import Settings
from registry.trials.images import images_of_push
from registry.trials.opening import Opening, open_trial, trial_policy


@dataclass(frozen=True, slots=True)
class TrialOnPush:
    """The registry's :class:`~registry.content.effects.PushEffects`."""

    settings: Settings

    async def manifest_pushed(self, connection: AsyncConnection, pushed: ManifestPushed) -> None:
        """Decide the state of a new image and make its trial; one that was there already keeps its state.

        Raises:
            ManifestInvalidError: an index beyond the limits of :mod:`registry.trials.images`.
        """
        if not pushed.created:
            return
        images = await images_of_push(connection, pushed)
        if not images:
            await _set_state(connection, pushed.manifest_id, "not-applicable", "nothing in it can be run")
            return
        policy = await trial_policy(connection, pushed.repository_id)
        if not policy.trial_on_push:
            await _set_state(
                connection, pushed.manifest_id, "untried", "the repository does not try what is pushed"
            )
            return
        await _set_state(connection, pushed.manifest_id, "pending", "")
        opening = Opening(
            digest=str(pushed.digest),
            images=images,
            run_spec=policy.run_spec,
            cause="push",
            created_by=pushed.actor.shown,
            again=False,
        )
        await open_trial(connection, self.settings, policy, opening)


async def _set_state(connection: AsyncConnection, manifest_id: int, state: str, reason: str) -> None:
    await connection.execute(
        update(manifests)
        .where(manifests.c.id == manifest_id)
        .values(state=state, state_reason=reason, state_at=db_time())
    )
