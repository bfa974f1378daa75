"""What a findings policy made of images, as people and programs read it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from registry.db.content import edges, manifests
from registry.db.dialect import batches
from registry.db.findings import image_findings
from registry.trials.coming import parse_coming
from registry.trials.findingsjudge import TOLD_MAX

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

_IMAGES_MAX = 20
"""So many images of an index are looked at for one refusal."""
_NAMED = ("id", "rule", "package", "version", "fixed_version", "severity", "where")


@dataclass(frozen=True, slots=True)
class FindingsView:
    """What a policy made of an image's newest scan: the findings that decide, the worst first, of
    ``reasons_count``, and those that somebody excused, of ``excused_count``. ``coming`` are those that count
    for more from the time ``at`` on, when their grace is over, the next first, of ``coming_count``; from
    ``refuses_at`` on it is no pass any more. Who may only pull is shown as many as a refusal names."""

    verdict: str
    reason: str
    policy_digest: str
    judged_at: datetime
    reasons: Sequence[Mapping[str, Any]]
    reasons_count: int
    excused: Sequence[Mapping[str, Any]]
    excused_count: int
    coming: Sequence[Mapping[str, Any]]
    coming_count: int
    refuses_at: datetime | None

    def shortened(self) -> FindingsView:
        """For who may only pull."""
        return replace(
            self,
            reasons=self.reasons[:TOLD_MAX],
            excused=self.excused[:TOLD_MAX],
            coming=self.coming[:TOLD_MAX],
        )


async def findings_in(
    connection: AsyncConnection, images: Collection[tuple[int, str]]
) -> Mapping[tuple[int, str], FindingsView]:
    """Of images, by the number of their repository and their digest; those that were judged by no policy are
    left out."""
    found = {}
    repository_ids = {repository_id for repository_id, _ in images}
    for batch in batches(digest for _, digest in images):
        query = (
            select(manifests.c.repository_id, manifests.c.digest, *_COLUMNS)
            .join(image_findings, image_findings.c.manifest_id == manifests.c.id)
            .where(manifests.c.repository_id.in_(repository_ids), manifests.c.digest.in_(batch))
        )
        for row in await connection.execute(query):
            found[row.repository_id, row.digest] = _view(row)
    return found


async def why_refused(
    connection: AsyncConnection, repository_id: int, digest: str
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """The findings that decide of an image, or of those that an index lists: as many as a refusal names, and
    how many there are."""
    listed = (
        select(edges.c.digest)
        .join(manifests, manifests.c.id == edges.c.manifest_id)
        .where(
            manifests.c.repository_id == repository_id, manifests.c.digest == digest, edges.c.kind == "child"
        )
    )
    query = (
        select(*_COLUMNS)
        .join(manifests, manifests.c.id == image_findings.c.manifest_id)
        .where(
            manifests.c.repository_id == repository_id,
            or_(manifests.c.digest == digest, manifests.c.digest.in_(listed)),
            image_findings.c.verdict.in_(("fail", "error")),
        )
        .order_by(image_findings.c.verdict, manifests.c.id)
        .limit(_IMAGES_MAX)
    )
    views = [_view(row) for row in await connection.execute(query)]
    named = [
        {name: one[name] for name in _NAMED if one[name]}
        for view in views
        for one in view.reasons
        if one["verdict"] == view.verdict
    ]
    return named[:TOLD_MAX], sum(view.reasons_count for view in views)


def _view(row: Row[Any]) -> FindingsView:
    decisive, let_pass = json.loads(row.reasons), json.loads(row.excused)
    coming, coming_count, refuses_at = parse_coming(row.coming)
    return FindingsView(
        row.verdict,
        row.reason,
        row.policy_digest,
        row.judged_at,
        decisive["first"],
        decisive["count"],
        let_pass["first"],
        let_pass["count"],
        coming,
        coming_count,
        None if refuses_at is None else datetime.fromisoformat(refuses_at),
    )


_COLUMNS = tuple(
    image_findings.c[name]
    for name in ("verdict", "reason", "policy_digest", "judged_at", "reasons", "excused", "coming")
)
