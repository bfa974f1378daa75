"""Waivers of findings: which of an image's findings somebody excused for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from registry.advisories.report import Excused
from registry.db.content import edges, manifests
from registry.db.gate import waivers
from registry.db.types import db_time
from registry.trials.relief import WAIVERS_MAX

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.advisories.report import Report


async def excused_in(
    connection: AsyncConnection, repository_id: int, digest: str, report: Report
) -> Sequence[Excused]:
    """What live waivers excuse in an image of a repository: a finding by its id, in whatever package or in
    one; a waiver of an index counts for what it lists. The one that ends last comes first."""
    listing = (
        select(manifests.c.digest)
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .where(manifests.c.repository_id == repository_id, edges.c.digest == digest, edges.c.kind == "child")
    )
    here = or_(waivers.c.digest.is_(None), waivers.c.digest == digest, waivers.c.digest.in_(listing))
    query = (
        select(waivers)
        .where(
            waivers.c.repository_id == repository_id,
            waivers.c.finding.is_not(None),
            waivers.c.expires_at > db_time(),
            waivers.c.granted_at.is_not(None),
            waivers.c.ended_at.is_(None),
            here,
        )
        .order_by(waivers.c.expires_at.desc(), waivers.c.id)
        .limit(WAIVERS_MAX)
    )
    rows = (await connection.execute(query)).all()
    return [
        Excused(
            match.id,
            match.package_index,
            "waiver",
            f"waiver {row.id}",
            row.reason,
            row.granted_by,
            row.expires_at,
        )
        for match in (report.matches if rows else ())
        for row in rows
        if row.finding in (match.id, *match.aliases)
        and row.package in (None, *_names(report, match.package_index))
    ]


def _names(report: Report, index: int) -> tuple[str | None, str]:
    package = report.scan.packages[index]
    return package.source, package.name
