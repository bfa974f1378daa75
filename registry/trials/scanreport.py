"""The report of a stored image: its newest scan, and what advisories say of that now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from registry.errors import NotFoundError
from registry.formats.excusing import excuse
from registry.trials.findingswaivers import excused_in
from registry.trials.matched import read_stored, stored_of
from registry.trials.trustedvex import read_trusted

if TYPE_CHECKING:
    from registry.advisories.report import Report
    from registry.content.manifests import StoredManifest
    from registry.db.engine import Database
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads


async def read_report(
    database: Database, store: BlobStore, manifest: StoredManifest, *, image: str, parsers: Threads
) -> Report:
    """What is known of an image, which clients call ``image``; what was not looked up, it says so. What live
    waivers and trusted statements of VEX excuse is excused.

    Raises:
        NotFoundError: it was not scanned; of an index, which is scanned by its platforms, there is no report.
    """
    async with database.read() as connection:
        stored = await stored_of(connection, manifest.id)
    if stored is None:
        raise NotFoundError(f"there is no scan of {manifest.digest} itself")
    known = await read_stored(store, stored, parsers=parsers)
    async with database.read() as connection:
        waived = await excused_in(connection, manifest.repository_id, str(manifest.digest), known)
    known = replace(known, excused=(*known.excused, *waived))
    statements = await read_trusted(database, store, manifest, parsers=parsers)
    return await parsers.run(excuse, known, statements, image)
