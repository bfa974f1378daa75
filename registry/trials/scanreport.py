"""The report of a stored image: its newest scan, and what advisories say of it now."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.advisories.file import open_advisories
from registry.advisories.report import Report, report
from registry.db.scans import image_scans
from registry.errors import NotFoundError, UnavailableError
from registry.formats.excusing import excuse
from registry.trials.scanreading import read_scan
from registry.trials.trustedvex import read_trusted

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from registry.content.manifests import StoredManifest
    from registry.contract.scan import Scan
    from registry.db.engine import Database
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads


async def read_report(
    database: Database,
    store: BlobStore,
    manifest: StoredManifest,
    *,
    image: str,
    advisories: Path,
    parsers: Threads,
) -> Report:
    """What is known of an image, which clients call ``image``. Without a file of advisories that can be read,
    it says so. What trusted statements of VEX excuse is excused.

    Raises:
        NotFoundError: it was not scanned; of an index, which is scanned by its platforms, there is no report.
    """
    scan = await read_scan(database, store, manifest, parsers=parsers)
    query = select(image_scans.c.taken_at).where(image_scans.c.manifest_id == manifest.id)
    async with database.read_once() as connection:
        taken_at = (await connection.execute(query)).scalar()
    if taken_at is None:
        raise NotFoundError(f"there is no scan of {manifest.digest} itself any more")
    statements = await read_trusted(database, store, manifest, parsers=parsers)
    known = await parsers.run(_matched, scan, advisories, taken_at)
    return await parsers.run(excuse, known, statements, image)


def _matched(scan: Scan, advisories: Path, scanned_at: datetime) -> Report:
    try:
        with closing(open_advisories(advisories)) as opened:
            return report(scan, opened, scanned_at=scanned_at)
    except (NotFoundError, UnavailableError):
        # How it stands with the file is told elsewhere; what the image holds is known without it.
        return report(scan, None, scanned_at=scanned_at)
