"""Which images below a manifest can be run: the manifest itself, or an index's children at any depth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.content.effects import ManifestPushed
from registry.db.content import edges, manifests
from registry.db.dialect import batches
from registry.errors import ManifestInvalidError
from registry.oci.descriptor import ATTESTATION_ANNOTATION, Descriptor
from registry.oci.mediatypes import INDEXES

MAX_DEPTH = 5
MAX_IMAGES = 256


@dataclass(frozen=True, slots=True, order=True)
class RunnableImage:
    """One image manifest, and the platform that its config states."""

    digest: str
    platform: str


@dataclass(frozen=True, slots=True)
class _Stored:
    id: int
    digest: str
    runnable: bool
    platform: str | None
    media_type: str


async def images_of_push(connection: AsyncConnection, pushed: ManifestPushed) -> tuple[RunnableImage, ...]:
    """The images that a push brings, in a fixed order.

    Raises:
        ManifestInvalidError: an index with more images or more levels than the limits.
    """
    if not pushed.manifest.is_index:
        if pushed.platform is None:
            return ()
        return (RunnableImage(str(pushed.digest), pushed.platform),)
    children = [str(child.digest) for child in pushed.manifest.children if not _is_attestation(child)]
    return await _below(connection, pushed.repository_id, children)


async def images_of_stored(
    connection: AsyncConnection, repository_id: int, digest: str
) -> tuple[RunnableImage, ...]:
    """The same for a manifest that the repository holds already."""
    return await _below(connection, repository_id, [digest])


async def _below(
    connection: AsyncConnection, repository_id: int, digests: Iterable[str]
) -> tuple[RunnableImage, ...]:
    found: set[RunnableImage] = set()
    seen: set[str] = set()
    level = set(digests)
    for _ in range(MAX_DEPTH):
        level -= seen
        if not level:
            return tuple(sorted(found))
        seen |= level
        indexes = []
        for row in await _stored(connection, repository_id, level):
            if row.runnable and row.platform is not None:
                found.add(RunnableImage(row.digest, row.platform))
            elif row.media_type in INDEXES:
                indexes.append(row.id)
        if len(found) > MAX_IMAGES:
            raise ManifestInvalidError(f"the index has more than {MAX_IMAGES} images that can be run")
        level = await _children(connection, indexes)
    raise ManifestInvalidError(f"the index lists indexes more than {MAX_DEPTH} levels deep")


async def _stored(connection: AsyncConnection, repository_id: int, digests: set[str]) -> list[_Stored]:
    query = select(
        manifests.c.id, manifests.c.digest, manifests.c.runnable, manifests.c.platform, manifests.c.media_type
    ).where(manifests.c.repository_id == repository_id)
    rows: list[_Stored] = []
    for batch in batches(sorted(digests)):
        found = await connection.execute(query.where(manifests.c.digest.in_(batch)))
        rows += [_Stored(*row) for row in found]
    return rows


async def _children(connection: AsyncConnection, manifest_ids: list[int]) -> set[str]:
    if not manifest_ids:
        return set()
    query = select(edges.c.digest).where(edges.c.kind == "child", edges.c.manifest_id.in_(manifest_ids))
    return set((await connection.execute(query)).scalars())


def _is_attestation(child: Descriptor) -> bool:
    # Both marks: a mark that a client does not look at must not hide an image that it would run.
    return (
        ATTESTATION_ANNOTATION in child.annotations and child.platform is not None and child.platform.unknown
    )
