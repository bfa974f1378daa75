"""Indexes that were there before what they list: what the push of a child means for them.

An index may be pushed before its children (a sparse index), and a child may be deleted and come back. The
caller holds the repository's lock, so no index can come in between the child and the look for its parents.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import case, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.db.content import edges, manifests
from registry.db.dialect import batches
from registry.db.trials import parts, trial_parts, trials
from registry.settings import Settings
from registry.trials.images import MAX_DEPTH, Inventory, RunnableImage, images_of_stored
from registry.trials.opening import Opening, TrialPolicy, open_trial, tags_of
from registry.trials.settling import set_states

PARENTS_MAX = 100
"""How many indexes one push or promotion decides about, those without a verdict first."""
LISTED_MAX = 20_000
"""How many entries of theirs it looks at, about: everybody else's push waits for that on SQLite."""
_LEFT = ("untried", "too much lists what was pushed into it to look at all of it then; push this one again")
_OPEN_STATES = ("untried", "error", "unsupported", "not-applicable")


@dataclass(frozen=True, slots=True)
class _Parent:
    id: int
    digest: str
    state: str


async def settle_parents(
    connection: AsyncConnection,
    settings: Settings,
    policy: TrialPolicy,
    *,
    children: Collection[str],
    created_by: Actor,
) -> None:
    """Open the trials of the indexes above children that are new here, as far as they are complete now; each
    is looked at once, however many of the children it lists."""
    above = await _above(connection, policy.repository_id, children)
    decided: list[str] = []
    listed = 0
    for parent in above:
        if listed >= LISTED_MAX:
            break
        inventory = await images_of_stored(connection, policy.repository_id, parent.digest)
        listed += inventory.listed
        decided.append(parent.digest)
        why = policy.why_not_tried(await tags_of(connection, policy, parent.id))
        state = inventory.untriable or (("untried", why) if why else None)
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
        left = await _left(connection, policy.repository_id, children)
        states = [(digest, *_LEFT) for digest in sorted(left - set(decided))]
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
    if listed:
        await settle_parents(connection, settings, policy, children=sorted(listed), created_by=created_by)


async def _above(
    connection: AsyncConnection, repository_id: int, children: Collection[str]
) -> Sequence[_Parent]:
    """The indexes that list any of the children, and those that list these."""
    found: dict[str, _Parent] = {}
    level = list(children)
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


async def _left(connection: AsyncConnection, repository_id: int, children: Collection[str]) -> set[str]:
    """Indexes above the children that wait, or are admitted without a verdict on one of them: no part of
    their trials was it, on the platform that it has now."""
    here = manifests.c.repository_id == repository_id
    found: set[str] = set()
    for batch in batches(children):
        these = select(
            manifests.c.digest, manifests.c.digest.label("child"), manifests.c.platform.label("platform")
        )
        below = these.where(here, manifests.c.digest.in_(batch)).cte("above", recursive=True)
        above = below.union(
            select(manifests.c.digest, below.c.child, below.c.platform)
            .join(edges, edges.c.manifest_id == manifests.c.id)
            .join(below, edges.c.digest == below.c.digest)
            .where(here, edges.c.kind == "child")
        )
        is_judged = exists().where(
            trials.c.repository_id == repository_id,
            trials.c.digest == manifests.c.digest,
            trial_parts.c.trial_id == trials.c.id,
            parts.c.id == trial_parts.c.part_id,
            parts.c.digest == above.c.child,
            parts.c.platform == above.c.platform,
        )
        unjudged = or_(
            manifests.c.state.in_(("untried", "not-applicable")),
            manifests.c.state.in_(("pass", "warn")) & above.c.platform.is_not(None) & ~is_judged,
        )
        query = select(manifests.c.digest).join(above, above.c.digest == manifests.c.digest)
        rows = await connection.execute(query.where(here, manifests.c.digest != above.c.child, unjudged))
        found |= set(rows.scalars())
    return found


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
