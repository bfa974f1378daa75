"""Scans of images that are not run again: the scan that belongs to a report goes where the report goes.

A part says by digest which document its worker sent. Only that scan counts for it elsewhere, so that who is
trusted to have run the image is who has scanned it. Where it is gone, or there never was one, the image is
one that was not scanned: nothing here says that nothing was found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.db.content import manifests
from registry.db.dialect import batches, insert_ignoring_conflict
from registry.db.scans import image_scans, scans
from registry.trials.packageblocks import catch_carried
from registry.trials.scanned import parse_scanned

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class CarriedScan:
    """A scan that counts for an image of another repository as well; its part was ``finished_at`` then."""

    scan_id: int
    repository_id: int
    digest: str
    worker: str
    finished_at: datetime


async def hold_scans(connection: AsyncConnection, stored: Collection[str | None]) -> Mapping[str, int]:
    """The scans that parts name, of those that are still here, by what stands in the parts' rows. None of
    them goes before the transaction ends."""
    named = {}
    for text in stored:
        scanned = parse_scanned(text)
        if text is not None and scanned is not None and scanned.state == "taken":
            named[text] = scanned.document_digest
    found: dict[str, int] = {}
    held = select(scans.c.document_digest, scans.c.id).order_by(scans.c.document_digest)
    for some in batches(sorted(set(named.values()))):
        these = held.where(scans.c.document_digest.in_(some)).with_for_update(read=True, key_share=True)
        found |= {row.document_digest: row.id for row in await connection.execute(these)}
    return {text: found[digest] for text, digest in named.items() if digest in found}


async def count_scans(connection: AsyncConnection, carried: Sequence[CarriedScan]) -> None:
    """Let scans count for images; one that has a scan keeps it. The caller holds the repositories' locks and,
    by :func:`hold_scans`, the scans."""
    new = []
    for one in carried:
        image = select(manifests.c.id).where(
            manifests.c.repository_id == one.repository_id, manifests.c.digest == one.digest
        )
        manifest_id = (await connection.execute(image)).scalar()
        if manifest_id is None:
            continue
        values = {
            "manifest_id": manifest_id,
            "scan_id": one.scan_id,
            "worker": one.worker,
            "taken_at": one.finished_at,
        }
        counted = await connection.execute(insert_ignoring_conflict(connection, image_scans, values))
        if counted.rowcount:
            new.append(manifest_id)
    await catch_carried(connection, new)
