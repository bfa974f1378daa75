"""What a push or a move sets off, in its transaction: the state of the image, its trial, what is attested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.content.effects import ManifestPushed
from registry.db.content import attestations, manifests, repositories
from registry.db.engine import move_epoch
from registry.db.trials import trials
from registry.db.types import db_time
from registry.errors import ManifestInvalidError
from registry.settings import Settings
from registry.trials.attesting import attest_states, sign_again
from registry.trials.findingspolicies import judge_again, judge_moved, of_image
from registry.trials.grandfathering import grandfather
from registry.trials.identities import NOBODY, Trust
from registry.trials.images import images_of_push, images_of_stored
from registry.trials.imagespecs import note_image_spec
from registry.trials.opening import Opening, TrialPolicy, open_trial, tags_of, trial_policy
from registry.trials.ownname import require_not_our_own
from registry.trials.parents import settle_parents
from registry.trials.scheduling import PUSHED, SCHEDULED
from registry.trials.signatures import match_moved, note_signature
from registry.trials.wanted import want_by_digest, was_dropped


@dataclass(frozen=True, slots=True)
class TrialEffects:
    """The registry's :class:`~registry.content.effects.Effects`."""

    settings: Settings
    trust: Trust = NOBODY

    async def manifest_pushed(self, connection: AsyncConnection, pushed: ManifestPushed) -> None:
        """Decide the state of a new image and make its trial; one that was there already keeps its state.
        Indexes that list it and were there before it are decided anew.

        Raises:
            ManifestInvalidError: an index beyond the limits of :mod:`registry.trials.images`.
            DeniedError: it is a statement in the registry's name.
        """
        await require_not_our_own(connection, pushed)
        await self._try_image(connection, pushed)
        subject = pushed.manifest.subject
        if pushed.bundle is not None and subject is not None and pushed.created:
            await judge_again(connection, of_image(pushed.repository_id, str(subject.digest)))
        await note_signature(connection, pushed, self.trust)
        await note_image_spec(connection, pushed)

    async def referrer_deleted(
        self, connection: AsyncConnection, repository_id: int, subject_digest: str
    ) -> None:
        """Have the image judged again: a statement of VEX may have gone."""
        await judge_again(connection, of_image(repository_id, subject_digest))

    async def repositories_renamed(self, connection: AsyncConnection, within: ColumnElement[bool]) -> None:
        """Have images judged by the findings policy that counts there."""
        await judge_moved(connection, within)

    async def repositories_moved(self, connection: AsyncConnection, within: ColumnElement[bool]) -> None:
        """Find the signatures that are required where they lie now, and have what is attested signed under
        the new names."""
        await match_moved(connection, within)
        moved = select(repositories.c.id).where(within)
        await sign_again(connection, attestations.c.repository_id.in_(moved))

    async def _try_image(self, connection: AsyncConnection, pushed: ManifestPushed) -> None:
        policy = await trial_policy(connection, pushed.repository_id)
        why = policy.why_not_tried(pushed.tags)
        if not pushed.created:
            if not pushed.tags:
                await want_by_digest(connection, pushed.repository_id, str(pushed.digest))
            is_due = not why and await _is_due(connection, policy, pushed.manifest_id)
            if not (is_due or await self._was_incomplete(connection, pushed)):
                return
        inventory = await images_of_push(connection, pushed)
        if inventory.excess:
            raise ManifestInvalidError(inventory.excess)
        if inventory.untriable is not None:
            await _set_state(connection, pushed.manifest_id, *inventory.untriable)
        elif why:
            await _set_state(connection, pushed.manifest_id, "untried", why)
        else:
            if pushed.created:
                await _set_state(connection, pushed.manifest_id, "pending", "")
            opening = Opening(
                digest=str(pushed.digest),
                images=inventory.images,
                run_spec=policy.run_spec,
                cause="push",
                created_by=pushed.actor,
                again=False,
                urgency=PUSHED if pushed.grandfathered_until is None else SCHEDULED,
                by_tag=bool(pushed.tags),
            )
            await open_trial(connection, self.settings, policy, opening)
        if pushed.created and pushed.grandfathered_until is not None:
            this = manifests.c.id == pushed.manifest_id
            await grandfather(connection, this, pushed.grandfathered_until, "it was brought from elsewhere")
        await settle_parents(
            connection, self.settings, policy, children=[str(pushed.digest)], created_by=pushed.actor
        )

    async def tag_moved(
        self, connection: AsyncConnection, repository_id: int, manifest_id: int, actor: Actor
    ) -> None:
        """Open the trial of an image that had no tag that is tried, or again of one that was dropped."""
        policy = await trial_policy(connection, repository_id)
        if policy.why_not_tried(await tags_of(connection, policy, manifest_id)):
            return
        if not await _is_due(connection, policy, manifest_id):
            return
        named = select(manifests.c.digest).where(manifests.c.id == manifest_id)
        digest = (await connection.execute(named)).scalar_one()
        inventory = await images_of_stored(connection, repository_id, digest)
        if inventory.untriable is not None:
            return
        opening = Opening(
            digest=digest,
            images=inventory.images,
            run_spec=policy.run_spec,
            cause="push",
            created_by=actor,
            again=False,
            by_tag=True,
        )
        await open_trial(connection, self.settings, policy, opening)
        await move_epoch(connection, "gate")

    async def images_blocked(
        self, connection: AsyncConnection, repository_id: int, digests: Sequence[str]
    ) -> None:
        """Have a word attested that says so, in the place of what was said of them."""
        await attest_states(connection, repository_id, digests)

    async def _was_incomplete(self, connection: AsyncConnection, pushed: ManifestPushed) -> bool:
        """Whether this may have been pushed before what it is made of, and can be looked at anew.

        A version that does not know of such indexes may have taken the last child of one.
        """
        again = {"untried"}
        if not pushed.manifest.is_index:
            if not self.settings.sparse_images:
                return False
            again |= {"error", "unsupported"}
        state = select(manifests.c.state).where(manifests.c.id == pushed.manifest_id)
        return (await connection.execute(state)).scalar_one() in again


async def _is_due(connection: AsyncConnection, policy: TrialPolicy, manifest_id: int) -> bool:
    """Whether an image that was there has no verdict, and none is on its way: it was never tried, as no tag
    named it that is, or its trial was dropped."""
    query = select(manifests.c.state, manifests.c.digest).where(manifests.c.id == manifest_id)
    state, digest = (await connection.execute(query)).one()
    if state == "grandfathered" and policy.trial_tags is not None:
        here = (trials.c.repository_id == policy.repository_id, trials.c.digest == digest)
        tried = await connection.execute(select(trials.c.id).where(*here).limit(1))
        return tried.first() is None
    return state == "untried" or await was_dropped(connection, manifest_id)


async def _set_state(connection: AsyncConnection, manifest_id: int, state: str, reason: str) -> None:
    await connection.execute(
        update(manifests)
        .where(manifests.c.id == manifest_id)
        .values(state=state, state_reason=reason, state_at=db_time())
    )
