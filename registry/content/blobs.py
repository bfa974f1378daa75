"""Blobs: found, mounted and deleted through the links that make them visible in a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete as sql_delete
from sqlalchemy import select, update

from registry.content import quarantine, quotas
from registry.content import repositories as repos
from registry.content.immutability import require_unneeded
from registry.db.content import blob_links, blobs, edges, manifests, repositories
from registry.db.dialect import batches, insert_ignoring_conflict
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import BlobUnknownError, DeniedError
from registry.oci.digest import Digest, parse_digest

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.settings import Settings


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as one repository sees it; ``locator`` is where the store has its bytes. ``condemned``: no
    manifest of the repository named it when a collection looked. ``damage``: what is wrong with its bytes."""

    id: int
    digest: Digest
    size: int
    locator: str
    condemned: bool
    damage: str | None = None


async def find(database: Database, repository: Repository | None, digest: Digest) -> Blob:
    """The blob, if this repository links it.

    Raises:
        BlobUnknownError: otherwise, or its bytes are damaged: who is told that it is not here pushes it
            again, which heals it.
    """
    if repository is not None:
        async with database.read_once() as connection:
            found = await _find_linked(connection, repository.id, [digest])
        if found and (damage := found[digest].damage) is not None:
            raise quarantine.refused(digest, damage)
        if found:
            return found[digest]
    raise unknown(digest)


async def find_all(
    connection: AsyncConnection, repository_id: int, digests: Collection[Digest]
) -> dict[Digest, Blob]:
    """Those of the blobs that the repository links and whose bytes are not damaged, by digest."""
    found = await _find_linked(connection, repository_id, digests)
    return {digest: blob for digest, blob in found.items() if blob.damage is None}


async def _find_linked(
    connection: AsyncConnection, repository_id: int, digests: Collection[Digest]
) -> dict[Digest, Blob]:
    found: dict[Digest, Blob] = {}
    for batch in batches(digests):
        rows = await connection.execute(
            select(
                blobs.c.id,
                blobs.c.digest,
                blobs.c.size,
                blobs.c.locator,
                blob_links.c.condemned,
                blobs.c.damage,
            )
            .join(blob_links, blob_links.c.blob_id == blobs.c.id)
            .where(blob_links.c.repository_id == repository_id, blobs.c.digest.in_(batch))
        )
        found |= {blob.digest: blob for blob in map(_blob, rows)}
    return found


async def store_row(
    connection: AsyncConnection, digest: Digest, *, size: int, locator: str
) -> tuple[int, str]:
    """The number of the blob's row and where its bytes are: at ``locator``, where they were verified, unless
    it has a row already whose bytes are not known to be damaged.

    No collection takes it before the transaction ends.
    """
    values = {"digest": str(digest), "size": size, "locator": locator, "created_at": db_time()}
    made = insert_ignoring_conflict(connection, blobs, values).returning(blobs.c.id)
    while True:
        if (new_id := (await connection.execute(made)).scalar()) is not None:
            return new_id, locator
        await quarantine.heal(connection, digest, locator=locator)
        # A collection may have removed the row that stood in the way of ours.
        if (held := await hold_row(connection, digest)) is not None:
            return held


async def hold_row(connection: AsyncConnection, digest: Digest) -> tuple[int, str] | None:
    """As :func:`store_row`, of a blob that the registry has already; ``None``: it has not (any more), or
    damaged."""
    this = select(blobs.c.id, blobs.c.locator).where(blobs.c.digest == str(digest), blobs.c.damage.is_(None))
    held = (await connection.execute(this.with_for_update(read=True, key_share=True))).first()
    return None if held is None else (held.id, held.locator)


async def link(connection: AsyncConnection, repository_id: int, blob_id: int) -> bool:
    """Make the blob visible in the repository; whether it was not before. Caches hold no absence, so no epoch
    moves."""
    values = {
        "repository_id": repository_id,
        "blob_id": blob_id,
        "created_at": db_time(),
        "review_at": db_time(),
    }
    made = insert_ignoring_conflict(connection, blob_links, values).returning(blob_links.c.blob_id)
    while (await connection.execute(made)).first() is None:
        # A collection may have removed the link that stood in the way of ours.
        if await _revive(connection, repository_id, blob_id):
            return False
    return True


async def link_within_quota(
    connection: AsyncConnection, repository_id: int, blob_id: int, *, size: int
) -> bool:
    """As :func:`link` the blob of ``size`` bytes.

    Raises:
        DeniedError: the repository, or a namespace above, would hold more than its quota.
    """
    is_new = await link(connection, repository_id, blob_id)
    if is_new:
        await quotas.enforce(connection, repository_id, quotas.Amounts(bytes=size))
    return is_new


async def revive(database: Database, repository: Repository, blob: Blob) -> None:
    """Let no collection take the blob for another period of grace: somebody is told that it is here, and may
    push a manifest that names it.

    Raises:
        BlobUnknownError: a collection has taken it since it was found.
    """
    async with database.write() as connection:
        if not await _revive(connection, repository.id, blob.id):
            raise unknown(blob.digest)


async def _revive(connection: AsyncConnection, repository_id: int, blob_id: int) -> bool:
    """Whether the link is there, and no collection takes it for now."""
    this = (blob_links.c.repository_id == repository_id, blob_links.c.blob_id == blob_id)
    held = select(blob_links.c.condemned).where(*this).with_for_update(key_share=True)
    condemned: bool | None = (await connection.execute(held)).scalar()
    if condemned:
        taken_back = update(blob_links).where(*this).values(condemned=False, review_at=db_time())
        await connection.execute(taken_back)
    return condemned is not None


async def find_elsewhere(database: Database, digest: Digest) -> list[Repository]:
    """Repositories that link the blob, to mount it from: a bounded number, so that what the caller may not
    see takes no time that would tell of it."""
    links = (
        select(blob_links.c.repository_id)
        .join(blobs, blobs.c.id == blob_links.c.blob_id)
        .where(blobs.c.digest == str(digest), blobs.c.damage.is_(None))
        .limit(_LINKS_LOOKED_AT)
        .subquery()
    )
    query = repos.COLUMNS.join(links, links.c.repository_id == repositories.c.id)
    async with database.read_once() as connection:
        return [repos.from_row(row) for row in await connection.execute(query)]


async def mount(
    database: Database, digest: Digest, *, source: Repository, into: str, settings: Settings, actor: Actor
) -> bool:
    """Link a blob of ``source``, which the caller may read there, in the repository named ``into``.

    False: ``source`` does not have it (any more), or damaged.

    Raises:
        DeniedError: ``into``, or a namespace above, would hold more than its quota.
    """
    database.require_room()
    async with database.write() as connection:
        found = await connection.execute(
            select(blobs.c.id, blobs.c.size)
            .join(blob_links, blob_links.c.blob_id == blobs.c.id)
            .where(
                blob_links.c.repository_id == source.id,
                blobs.c.digest == str(digest),
                blobs.c.damage.is_(None),
            )
            # Neither the link nor the blob may go before ours stands.
            .with_for_update(read=True, key_share=True)
        )
        blob = found.first()
        if blob is None:
            return False
        target = await repos.find_or_create(connection, into, settings=settings, actor=actor)
        await link_within_quota(connection, target.id, blob.id, size=blob.size)
    return True


async def delete(database: Database, repository: Repository | None, digest: Digest, *, actor: Actor) -> None:
    """Hide the blob in this repository, at once; the bytes go when nothing links them any more.

    Raises:
        BlobUnknownError: the repository does not have it.
        DeniedError: what the registry attests of an image here is made of it, or what an immutable tag names.
    """
    if repository is None:
        raise unknown(digest)
    async with database.write() as connection:
        # So that no manifest is being accepted whose references were checked before this.
        await repos.lock(connection, repository.id)
        await _require_not_attested_with(connection, repository.id, digest)
        await require_unneeded(connection, repository, str(digest))
        gone = await connection.execute(
            sql_delete(blob_links).where(
                blob_links.c.repository_id == repository.id,
                blob_links.c.blob_id.in_(select(blobs.c.id).where(blobs.c.digest == str(digest))),
            )
        )
        if gone.rowcount == 0:
            raise unknown(digest)
        await record(connection, "blob.deleted", repository.name, actor, {"digest": str(digest)})
        await move_epoch(connection, "content")


async def _require_not_attested_with(connection: AsyncConnection, repository_id: int, digest: Digest) -> None:
    attesting = (
        select(manifests.c.subject_digest)
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .where(
            manifests.c.repository_id == repository_id,
            manifests.c.attestation_id.is_not(None),
            edges.c.digest == str(digest),
        )
        .limit(1)
    )
    subject = (await connection.execute(attesting)).scalar()
    if subject is not None:
        raise DeniedError(f"blob {digest} is part of what the registry attests of {subject}")


def unknown(digest: Digest) -> BlobUnknownError:
    """The error for a blob that a repository does not show, whether or not another has it."""
    return BlobUnknownError(f"blob {digest} is not in this repository", detail={"digest": str(digest)})


_LINKS_LOOKED_AT = 50


def _blob(row: Row[Any, Any, Any, Any, Any, Any]) -> Blob:
    return Blob(row.id, parse_digest(row.digest), row.size, row.locator, row.condemned, row.damage)
