"""Manifests that were deleted, and come back: for as long as no collection takes what they are made of.

Deleting one lets the grace of its blobs begin, and writes down that there was one, so that a collection
leaves its bytes alone for the same time. Bringing it back is a push of the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.content.manifests import Arrival, look_at
from registry.db.content import deleted_manifests, manifest_contents
from registry.db.sweeping import sweep
from registry.db.types import db_time
from registry.oci.digest import Digest
from registry.oci.manifest import parse_manifest

if TYPE_CHECKING:
    from datetime import timedelta

    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads


async def find_deleted(
    database: Database,
    store: BlobStore,
    repository: Repository,
    digest: Digest,
    *,
    grace: timedelta,
    parsers: Threads,
) -> Arrival | None:
    """A manifest that was deleted from the repository within the grace, ready to be taken in again; ``None``:
    there is none."""
    deleted = deleted_manifests.c
    query = (
        select(manifest_contents.c.raw, deleted.media_type)
        .join(deleted_manifests, deleted.digest == manifest_contents.c.digest)
        .where(
            deleted.repository_id == repository.id,
            deleted.digest == str(digest),
            deleted.deleted_at > db_time(-grace),
        )
    )
    async with database.read_once() as connection:
        row = (await connection.execute(query)).first()
    if row is None:
        return None
    raw = bytes(row.raw)
    manifest = await parsers.run(parse_manifest, raw, row.media_type)
    return await look_at(
        database, store, repository.name, digest, raw=raw, manifest=manifest, parsers=parsers
    )


async def sweep_deleted(database: Database, *, grace: timedelta) -> int:
    """Forget what was deleted before the grace; how many."""
    deleted = deleted_manifests.c
    return await sweep(database, deleted.id, deleted.deleted_at <= db_time(-grace))
