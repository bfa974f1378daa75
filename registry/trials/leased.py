"""What a worker may read: the image of its lease and those of its services, and what they are made of."""

from __future__ import annotations

from sqlalchemy import select

from registry.auth.actor import Actor
from registry.content.manifests import StoredManifest
from registry.content.repositories import Repository
from registry.db.content import edges, manifests
from registry.errors import DeniedError
from registry.oci.digest import Digest
from registry.trials.asking import Reading


def is_leased(actor: Actor, repository: Repository, manifest: StoredManifest) -> bool:
    """Whether this is an image of the worker's lease."""
    lease = actor.lease
    return lease is not None and (repository.name, str(manifest.digest)) in lease.images


def not_of_lease(actor: Actor) -> DeniedError:
    """What a worker is told that asks for anything else."""
    return DeniedError(f"{actor.shown} reads the image of its lease and nothing else")


async def is_of_lease(reading: Reading, blob: Digest) -> bool:
    """Whether an image of the worker's lease is made of the blob, among others."""
    lease = reading.actor.lease
    images = () if lease is None else lease.images
    here = [digest for repository, digest in images if repository == reading.repository.name]
    if not here:
        return False
    named = (
        select(edges.c.digest)
        .join(manifests, manifests.c.id == edges.c.manifest_id)
        .where(
            manifests.c.repository_id == reading.repository.id,
            manifests.c.digest.in_(here),
            edges.c.digest == str(blob),
        )
        .limit(1)
    )
    async with reading.database.read_once() as connection:
        return (await connection.execute(named)).first() is not None
