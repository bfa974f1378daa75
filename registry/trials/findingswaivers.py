"""Waivers of findings: which of an image's findings somebody excused for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from registry.advisories.report import Excused
from registry.db.gate import waivers
from registry.db.types import db_time
from registry.trials.relief import WAIVERS_MAX, is_for

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.advisories.report import Report


async def excused_in(
    connection: AsyncConnection, repository_id: int, digest: str, report: Report
) -> Sequence[Excused]:
    """What live waivers excuse in an image of a repository: a finding by its id, in whatever package or in
    one; a waiver of an index counts for what it lists. The one that ends last comes first."""
    query = (
        select(waivers)
        .where(
            waivers.c.repository_id == repository_id,
            waivers.c.finding.is_not(None),
            waivers.c.expires_at > db_time(),
            waivers.c.granted_at.is_not(None),
            waivers.c.ended_at.is_(None),
            is_for(repository_id, digest),
        )
        .order_by(waivers.c.expires_at.desc(), waivers.c.id)
        .limit(WAIVERS_MAX)
    )
    return excused_by((await connection.execute(query)).all(), report)


def excused_by(waived: Sequence[Row[Any]], report: Report) -> Sequence[Excused]:
    """What these rows of ``waivers`` excuse, which are of findings, count for the image and are live."""
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
        for match in (report.matches if waived else ())
        for row in waived
        if row.finding in (match.id, *match.aliases)
        and row.package in (None, *_names(report, match.package_index))
    ]


def _names(report: Report, index: int) -> tuple[str | None, str]:
    package = report.scan.packages[index]
    return package.source, package.name
