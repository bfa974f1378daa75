"""Indexes that were there before what they list: what the push of a child means for them.

An index may be pushed before its children (a sparse index), and a child may be deleted and come back. The
caller holds the repository's lock, so no index can come in between the child and the look for its parents.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.db.content import edges, manifests
from registry.db.dialect import batches
from registry.db.trials import parts, trial_parts, trials
from registry.settings import Settings
from registry.trials.images import MAX_DEPTH, Inventory, RunnableImage, images_of_stored
from registry.trials.opening import Opening, TrialPolicy, open_trial
from registry.trials.settling import set_states

PARENTS_MAX = 100
"""How many indexes one push decides about, those without a verdict first."""
LISTED_MAX = 20_000
"""How many entries of theirs it looks at, about: everybody else's push waits for that on SQLite."""
_LEFT = ("untried", "too much lists what was pushed into it to look at all of it then; push this one again")
NOT_TRIED = ("untried", "the repository does not try what is pushed")
_OPEN_STATES = ("untried", "error", "unsupported", "not-applicable")


@dataclass(frozen=True, slots=True)
class _Parent:
    id: int
    digest: str
    state: str


async def settle_parents(
    connection: AsyncConnection, settings: Settings, policy: TrialPolicy, *, child: str, created_by: Actor
) -> None:
    """Open the trials of the indexes above a child that is new here, as far as they are complete now."""
    above = await _above(connection, policy.repository_id, child)
    decided: list[str] = []
    listed = 0
    for parent in above:
        if listed >= LISTED_MAX:
            break
        inventory = await images_of_stored(connection, policy.repository_id, parent.digest)
        listed += inventory.listed
        decided.append(parent.digest)
        state = inventory.untriable or (None if policy.trial_on_push else NOT_TRIED)
        if parent.state not in _OPEN_STATES and (
            inventory.untriable is not None or await _is_tried(connection, policy, parent, inventory)
        ):
            # What stands is a verdict on every image in it, or one is on its way.
            continue
        if state is not None:
            await set_states(connection, policy.repository_id, policy.repository, [(parent.digest, *state)])
            continue
        if parent.state == "not-applicable":
            # Good as long as nothing in it could be run, and no longer.
            untried = (parent.digest, "untried", "")
            await set_states(connection, policy.repository_id, policy.repository, [untried])
        opening = Opening(
            digest=parent.digest,
            images=inventory.images,
            run_spec=policy.run_spec,
            cause="push",
            created_by=created_by,
            again=False,
        )
        await open_trial(connection, settings, policy, opening)
    if len(decided) < len(above) or len(above) == PARENTS_MAX:
        left = await _left(connection, policy.repository_id, child, decided)
        states = [(digest, *_LEFT) for digest in left]
        await set_states(connection, policy.repository_id, policy.repository, states)


async def settle_listing(
    connection: AsyncConnection,
    settings: Settings,
    policy: TrialPolicy,
    *,
    children: Collection[str],
    created_by: Actor,
) -> None:
    """As :func:`settle_parents` for all that came in at once, as far as indexes list it that did not."""
    listed: set[str] = set()
    for batch in batches(children):
        query = (
            select(edges.c.digest, manifests.c.digest.label("parent"))
            .join(manifests, manifests.c.id == edges.c.manifest_id)
            .where(
                manifests.c.repository_id == policy.repository_id,
                edges.c.digest.in_(batch),
                edges.c.kind == "child",
            )
        )
        rows = await connection.execute(query.distinct())
        listed |= {row.digest for row in rows if row.parent not in children}
    for child in sorted(listed):
        await settle_parents(connection, settings, policy, child=child, created_by=created_by)


async def _above(connection: AsyncConnection, repository_id: int, child: str) -> Sequence[_Parent]:
    """The indexes that list the child, and those that list these."""
    found: dict[str, _Parent] = {}
    level = [child]
    for _ in range(MAX_DEPTH):
        parents = [
            parent
            for batch in batches(level)
            for parent in await _parents(connection, repository_id, batch)
            if parent.digest not in found
        ]
        if not parents:
            break
        found |= {parent.digest: parent for parent in parents}
        level = [parent.digest for parent in parents]
    return sorted(found.values(), key=lambda parent: parent.state not in _OPEN_STATES)[:PARENTS_MAX]


async def _left(
    connection: AsyncConnection, repository_id: int, child: str, decided: Sequence[str]
) -> Sequence[str]:
    """Indexes above the child, but for those ``decided`` about, that wait, or are admitted without a verdict
    on it: no part of their trials was it, on the platform that it has now."""
    here = manifests.c.repository_id == repository_id
    this = here & (manifests.c.digest == child)
    platform = (await connection.execute(select(manifests.c.platform).where(this))).scalar_one()
    above = select(manifests.c.digest).where(this).cte("above", recursive=True)
    above = above.union(
        select(manifests.c.digest)
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .join(above, edges.c.digest == above.c.digest)
        .where(here, edges.c.kind == "child")
    )
    judged = (
        select(trials.c.digest)
        .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
        .join(parts, parts.c.id == trial_parts.c.part_id)
        .where(
            trials.c.repository_id == repository_id,
            parts.c.digest == child,
            parts.c.platform == platform,
        )
    )
    unjudged: list[ColumnElement[bool]] = [manifests.c.state.in_(("untried", "not-applicable"))]
    if platform is not None:
        unjudged.append(manifests.c.state.in_(("pass", "warn")) & manifests.c.digest.not_in(judged))
    query = select(manifests.c.digest).where(
        here, or_(*unjudged), manifests.c.digest != child, manifests.c.digest.in_(select(above.c.digest))
    )
    return sorted(set((await connection.execute(query)).scalars()) - set(decided))


async def _parents(
    connection: AsyncConnection, repository_id: int, digests: Sequence[str]
) -> Sequence[_Parent]:
    judged_last = case((manifests.c.state.in_(_OPEN_STATES), 0), else_=1)
    query = (
        select(manifests.c.id, manifests.c.digest, manifests.c.state)
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .where(
            manifests.c.repository_id == repository_id,
            edges.c.digest.in_(digests),
            edges.c.kind == "child",
        )
        .group_by(manifests.c.id)
        .order_by(judged_last, manifests.c.id.desc())
        .limit(PARENTS_MAX)
    )
    return [_Parent(*row) for row in await connection.execute(query)]


async def _is_tried(
    connection: AsyncConnection, policy: TrialPolicy, parent: _Parent, inventory: Inventory
) -> bool:
    query = (
        select(parts.c.digest, parts.c.platform)
        .join(trial_parts, trial_parts.c.part_id == parts.c.id)
        .join(trials, trials.c.id == trial_parts.c.trial_id)
        .where(trials.c.repository_id == policy.repository_id, trials.c.digest == parent.digest)
        .distinct()
    )
    # The platform too: a config that came late may have changed it.
    tried = {RunnableImage(*row) for row in await connection.execute(query)}
    return set(inventory.images) <= tried
