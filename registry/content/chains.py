"""The layers of images as chain IDs: rows by which the base of an image is found, and what is built on it.

They are what the image's config says. Nobody here unpacks a layer; whoever tries or scans the image does, and
refuses one whose layers are others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, or_, select, update

from registry.content.references import image_origin
from registry.db.content import chain_prefixes, manifest_contents, manifests, repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.oci.chains import chain_ids
from registry.oci.manifest import parse_manifest
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.references import Origin
    from registry.db.engine import Database
    from registry.oci.digest import Digest
    from registry.storage.store import BlobStore

_AT_ONCE = 50
"""How many images that an older version stored are looked at before the next are asked for."""


def chain_of(diff_ids: Sequence[Digest], *, layers: int) -> tuple[str, ...]:
    """The chain IDs of an image with so many layers, the lowest first; none where its config has others."""
    return tuple(map(str, chain_ids(diff_ids))) if len(diff_ids) == layers else ()


async def store_prefixes(connection: AsyncConnection, manifest_id: int, chain: Sequence[str]) -> None:
    """The rows of an image that is new."""
    if len(chain) > 1:
        await connection.execute(insert(chain_prefixes), _prefixes(manifest_id, chain))


async def learn(connection: AsyncConnection, manifest_id: int, chain: Sequence[str], origin: Origin) -> None:
    """The same for one whose layers were not known; a second time it changes nothing."""
    values = {
        "chain_id": chain[-1] if chain else "",
        "base_name": origin.base_name,
        "base_digest": origin.base_digest,
        "labels": origin.labels_text,
    }
    unknown = or_(manifests.c.chain_id.is_(None), manifests.c.chain_id == "")
    this = update(manifests).where(manifests.c.id == manifest_id, unknown).values(values)
    changed = await connection.execute(this)
    if changed.rowcount and len(chain) > 1:
        rows = _prefixes(manifest_id, chain)
        await connection.execute(insert_ignoring_conflict(connection, chain_prefixes, rows))


async def learn_missing(database: Database, store: BlobStore) -> int:
    """Look at the images that an older version stored; how many there were."""
    found = 0
    threads: Threads | None = None
    try:
        while rows := await _unlearnt(database):
            threads = threads or Threads("chains", 1)
            for manifest_id, name, raw in rows:
                manifest = parse_manifest(raw)
                origin = await image_origin(database, store, name, manifest, parsers=threads)
                chain = chain_of(origin.diff_ids, layers=len(manifest.layers))
                async with database.write() as connection:
                    await learn(connection, manifest_id, chain, origin)
                found += 1
    finally:
        if threads is not None:
            threads.close()
    return found


async def _unlearnt(database: Database) -> list[tuple[int, str, bytes]]:
    query = (
        select(manifests.c.id, repositories.c.name, manifest_contents.c.raw)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .join(manifest_contents, manifest_contents.c.digest == manifests.c.digest)
        .where(manifests.c.platform.is_not(None), manifests.c.chain_id.is_(None))
        .order_by(manifests.c.id)
        .limit(_AT_ONCE)
    )
    async with database.read_once() as connection:
        return [(row.id, row.name, bytes(row.raw)) for row in await connection.execute(query)]


def _prefixes(manifest_id: int, chain: Sequence[str]) -> list[dict[str, object]]:
    return [
        {"manifest_id": manifest_id, "depth": depth, "chain_id": chain_id}
        for depth, chain_id in enumerate(chain[:-1], start=1)
    ]
