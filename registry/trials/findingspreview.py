"""What a findings policy would make of images that are there, if it counted: nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.policy import may_audit
from registry.content.administration import require_place
from registry.content.blocks import below
from registry.contract.judge import Verdict
from registry.db.content import manifests, repositories
from registry.trials.findingsjudge import judge
from registry.trials.findingspolicies import RESTS_ON_FINDINGS
from registry.trials.judging import look

if TYPE_CHECKING:
    from registry.auth.actor import Actor
    from registry.contract.findingspolicy import FindingsPolicy
    from registry.db.engine import Database
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

IMAGES_MAX = 20
"""So many images one page is about: the scan of each is read."""


@dataclass(frozen=True, slots=True)
class Previewed:
    """An image, its ``state`` now, and what a policy alone would make of its newest scan; from ``refuses_at``
    on it would be no pass any more, when a grace is over."""

    repository: str
    digest: str
    state: str
    verdict: Verdict
    reason: str
    findings_count: int
    refuses_at: datetime | None
    cursor: str


async def preview(
    database: Database,
    store: BlobStore,
    *,
    actor: Actor,
    on: str,
    wanted: FindingsPolicy,
    limit: int,
    after: int,
    parsers: Threads,
) -> Sequence[Previewed]:
    """At most ``limit`` images of a place that have a verdict, those with an id above ``after``.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place.
    """
    place = await require_place(
        database, actor=actor, action="pull" if may_audit(actor) else "configure", on=on
    )
    name = repositories.c.name
    within = below(name, place.key) if place.is_namespace else name == place.key
    query = (
        select(manifests.c.id, name, manifests.c.digest, manifests.c.state)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .where(within, manifests.c.runnable, RESTS_ON_FINDINGS, manifests.c.id > after)
        .order_by(manifests.c.id)
        .limit(min(limit, IMAGES_MAX))
    )
    async with database.read_once() as connection:
        images = (await connection.execute(query)).all()
    found = []
    for manifest_id, repository, digest, state in images:
        looked = await look(database, store, manifest_id, parsers=parsers, for_policy=True)
        if looked is None:
            continue
        outcome = await parsers.run(judge, wanted, looked.report, looked.now)
        found.append(
            Previewed(
                repository,
                digest,
                state,
                outcome.verdict,
                outcome.sentence,
                len(outcome.reasons),
                outcome.refuses_at,
                str(manifest_id),
            )
        )
    return found
