"""Manifests: stored byte for byte as received, found by tag or digest, deleted with the tags that name
them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, or_, select, tuple_, update
from sqlalchemy import delete as sql_delete

from registry.content import blocks, chains, quotas
from registry.content import repositories as repos
from registry.content import tags as tag_use
from registry.content.effects import ManifestPushed
from registry.content.grandfathering import require_grandfathering
from registry.content.immutability import require_unneeded
from registry.content.references import attached_bundle, image_origin, require_references
from registry.db.content import (
    STATE_COLUMNS,
    attestations,
    blob_links,
    blobs,
    deleted_manifests,
    edges,
    manifest_contents,
    manifests,
    tags,
)
from registry.db.dialect import insert as insert_or
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import hold_epochs, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import DeniedError, DigestInvalidError, ManifestUnknownError
from registry.oci.conditions import NO_CONDITIONS
from registry.oci.digest import Digest, digest_of, parse_digest
from registry.oci.platform import UNKNOWN_PLATFORM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.effects import Effects
    from registry.content.references import Origin
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.oci.conditions import Conditions
    from registry.oci.manifest import Manifest
    from registry.settings import Settings
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest of a repository: its bytes, and the state of the image that the gate looks at."""

    id: int
    repository_id: int
    digest: Digest
    media_type: str
    raw: bytes
    runnable: bool
    platform: str | None
    subject_digest: str | None
    state: str
    state_reason: str
    state_at: datetime
    grandfathered_until: datetime | None
    blocked_reason: str | None
    turned_bad_at: datetime | None


# Put together once: that takes longer than the queries themselves.
_AGAIN = timedelta(hours=1)
"""After so long it is written down that a manifest was pushed again."""
COLUMNS = (
    manifests.c.id,
    manifests.c.repository_id,
    manifests.c.digest,
    manifests.c.media_type,
    manifest_contents.c.raw,
    manifests.c.runnable,
    manifests.c.platform,
    manifests.c.subject_digest,
    *STATE_COLUMNS,
)
"""What a :class:`StoredManifest` is made of: :func:`from_columns`."""
_STORED = (
    select(*COLUMNS)
    .join(manifest_contents, manifest_contents.c.digest == manifests.c.digest)
    .where(manifests.c.repository_id == bindparam("repository_id"))
)
_BY_DIGEST = _STORED.where(manifests.c.digest == bindparam("reference"))
_BY_TAG = _STORED.join(tags, tags.c.manifest_id == manifests.c.id).where(
    tags.c.repository_id == bindparam("repository_id"), tags.c.name == bindparam("reference")
)


async def get(database: Database, repository: Repository | None, reference: str | Digest) -> StoredManifest:
    """The manifest under a tag (``str``) or digest.

    Raises:
        ManifestUnknownError: there is none.
    """
    if repository is None:
        raise unknown(reference)
    async with database.read_once() as connection:
        found = await find_in(connection, repository.id, reference)
    if found is None:
        raise unknown(reference)
    return found


async def find_in(
    connection: AsyncConnection, repository_id: int, reference: str | Digest
) -> StoredManifest | None:
    """The manifest under a tag or digest, inside a transaction."""
    query = _BY_DIGEST if isinstance(reference, Digest) else _BY_TAG
    parameters = {"repository_id": repository_id, "reference": str(reference)}
    row = (await connection.execute(query, parameters)).first()
    if row is None:
        return None
    return from_columns(row._asdict())


def from_columns(values: Mapping[str, Any]) -> StoredManifest:
    """The value of :data:`COLUMNS`, by their names."""
    return StoredManifest(**{**values, "digest": parse_digest(values["digest"]), "raw": bytes(values["raw"])})


async def put(
    database: Database,
    store: BlobStore,
    name: str,
    *,
    stated: Digest | None,
    tag_names: Sequence[str],
    raw: bytes,
    manifest: Manifest,
    conditions: Conditions,
    settings: Settings,
    actor: Actor,
    effects: Effects,
    parsers: Threads,
    grandfathered_until: datetime | None = None,
) -> Digest:
    """Store ``raw``, of which ``manifest`` is the meaning, and point these tags at it.

    ``stated`` is the digest that the caller gave, whose algorithm then names the manifest; else it is sha256.
    What it refers to must be in this repository as far as
    :func:`registry.content.references.require_references` says. Manifest, edges,
    tag, history, events and whatever ``effects`` add commit together or not at all. ``parsers`` are the
    threads that read the image config. ``conditions`` are about each of the tags, else about the digest.
    ``grandfathered_until``: it comes from elsewhere, and is admitted until then without a verdict.

    Raises:
        RequestInvalidError: until then nothing can be admitted so.
        PreconditionFailedError: one of the conditions does not hold.
        DigestInvalidError: ``stated`` is not the digest of these bytes.
        ManifestBlobUnknownError: content it refers to is not in this repository.
        ManifestInvalidError: the size of content is not what the manifest says.
        DeniedError: the repository, or a namespace above, would hold more than its quota, or one of the tags
            does not move.
        StorageFullError: the disk of the database is full.
    """
    digest = digest_of(raw, stated.algorithm if stated else "sha256")
    if stated not in (None, digest):
        raise DigestInvalidError(f"the manifest has digest {digest}, not {stated}")
    database.require_room()
    arrival = await look_at(database, store, name, digest, raw=raw, manifest=manifest, parsers=parsers)
    async with database.write() as connection:
        repository = await repos.find_or_create(connection, name, settings=settings, actor=actor)
        # One at a time per repository: references and tags stay as checked until this commits.
        await repos.lock(connection, repository.id)
        if conditions:
            await _require(connection, repository.id, digest, tag_names, conditions)
        if grandfathered_until is not None:
            await require_grandfathering(connection, settings, actor, repository, grandfathered_until)
        manifest_id, created = await take_in(
            connection,
            settings,
            repository,
            arrival,
            actor=actor,
            effects=effects,
            tag_names=tag_names,
            grandfathered_until=grandfathered_until,
        )
        data: dict[str, object] = {
            "digest": str(digest),
            "media_type": manifest.media_type,
            "tags": list(tag_names),
        }
        if created and grandfathered_until is not None:
            data["grandfathered_until"] = grandfathered_until.isoformat()
        await record(connection, "manifest.pushed", name, actor, data)
        new_tags = 0
        for tag in tag_names:
            moved = await tag_use.move(connection, repository, tag, manifest_id, digest, actor=actor)
            new_tags += moved is not None and moved.is_new
        added = quotas.Amounts(bytes=len(raw) if created else 0, tags=new_tags)
        await quotas.enforce(connection, repository.id, added)
        await (hold_epochs if created else move_epoch)(connection, "content")
        if created:
            await catch_blocked(connection, repository, arrival, manifest_id, effects=effects)
    return digest


@dataclass(frozen=True, slots=True)
class Arrival:
    """A manifest on its way into a repository, with what was read of it beforehand: where an image comes
    from, and the signature that a referrer holds."""

    digest: Digest
    raw: bytes
    manifest: Manifest
    origin: Origin
    bundle: bytes | None


async def look_at(
    database: Database,
    store: BlobStore,
    name: str,
    digest: Digest,
    *,
    raw: bytes,
    manifest: Manifest,
    parsers: Threads,
) -> Arrival:
    """Read what :func:`take_in` needs to know and no transaction can wait for."""
    origin = await image_origin(database, store, name, manifest, parsers=parsers)
    bundle = await attached_bundle(database, store, name, manifest)
    return Arrival(digest, raw, manifest, origin, bundle)


async def take_in(
    connection: AsyncConnection,
    settings: Settings,
    repository: Repository,
    arrival: Arrival,
    *,
    actor: Actor,
    effects: Effects,
    tag_names: Sequence[str],
    grandfathered_until: datetime | None = None,
) -> tuple[int, bool]:
    """Make the rows of a manifest, which these tags are to name, with its effects; its number, and whether it
    is new. The caller holds the repository's lock, and what is new against the quotas.

    Raises:
        ManifestBlobUnknownError, ManifestInvalidError: as :func:`put`.
    """
    manifest, digest = arrival.manifest, arrival.digest
    missing = await require_references(
        connection, repository.id, digest, manifest, sparse_images=settings.sparse_images
    )
    manifest_id, created = await store_rows(
        connection,
        repository.id,
        digest,
        raw=arrival.raw,
        manifest=manifest,
        origin=arrival.origin,
        actor=actor,
    )
    await effects.manifest_pushed(
        connection,
        ManifestPushed(
            repository_id=repository.id,
            repository=repository.name,
            manifest_id=manifest_id,
            digest=digest,
            manifest=manifest,
            platform=arrival.origin.platform,
            missing=missing,
            created=created,
            actor=actor,
            bundle=arrival.bundle,
            tags=tag_names,
            grandfathered_until=grandfathered_until,
        ),
    )
    return manifest_id, created


async def catch_blocked(
    connection: AsyncConnection,
    repository: Repository,
    arrival: Arrival,
    manifest_id: int,
    *,
    effects: Effects,
) -> None:
    """Let blocks count for a manifest that is new. The caller holds the epochs."""
    made_of = [str(target.digest) for _, target in arrival.manifest.edges()]
    await blocks.catch(
        connection,
        repository_id=repository.id,
        name=repository.name,
        manifest_id=manifest_id,
        digests=[str(arrival.digest), *dict.fromkeys(made_of)],
        effects=effects,
    )


async def delete(
    database: Database,
    repository: Repository | None,
    digest: Digest,
    *,
    conditions: Conditions = NO_CONDITIONS,
    actor: Actor,
    effects: Effects,
) -> None:
    """Remove the manifest from the repository, and each tag that points to it. For the grace of collections
    it can be brought back (:mod:`registry.content.restoring`).

    Raises:
        PreconditionFailedError: one of the conditions does not hold.
        ManifestUnknownError: the repository does not have it.
        DeniedError: it is blocked, and pushed again it would not be; it is the registry's own word about
            another; or an immutable tag names it, or an index that lists it.
    """
    if repository is None:
        raise unknown(digest)
    async with database.write() as connection:
        await repos.lock(connection, repository.id)
        found = await connection.execute(
            select(
                manifests.c.id,
                manifests.c.blocked_reason,
                manifests.c.subject_digest,
                manifests.c.attestation_id,
            ).where(manifests.c.repository_id == repository.id, manifests.c.digest == str(digest))
        )
        row = found.first()
        if row is None:
            raise unknown(digest)
        conditions.require(str(digest), "it")
        if row.blocked_reason is not None:
            raise DeniedError(f"{digest} is blocked; an administrator has to unblock it first")
        if row.attestation_id is not None:
            raise DeniedError(
                f"{digest} is what the registry attests of {row.subject_digest}, and goes with that"
            )
        await require_unneeded(connection, repository, str(digest))
        await take_out(connection, repository, row.id, digest, actor=actor, effects=effects)
        await move_epoch(connection, "content")


async def take_out(
    connection: AsyncConnection,
    repository: Repository,
    manifest_id: int,
    digest: Digest,
    *,
    actor: Actor,
    effects: Effects,
    reason: str | None = None,
) -> None:
    """Remove a manifest with its tags and what the registry attests of it, and write the event; it can be
    brought back for a time. The caller holds the repository's lock, has asked whether it may go, and moves
    the epoch."""
    row = (
        await connection.execute(
            select(manifests.c.media_type, manifests.c.subject_digest).where(manifests.c.id == manifest_id)
        )
    ).one()
    about_it = (attestations.c.repository_id == repository.id, attestations.c.digest == str(digest))
    attested = select(attestations.c.id).where(*about_it)
    await tag_use.delete_all_of(connection, repository, manifest_id, digest, actor=actor)
    await _keep_for_now(connection, repository.id, digest, media_type=row.media_type, actor=actor)
    await remove_rows(
        connection, or_(manifests.c.attestation_id.in_(attested), manifests.c.id == manifest_id)
    )
    await connection.execute(sql_delete(attestations).where(*about_it))
    if row.subject_digest is not None:
        await effects.referrer_deleted(connection, repository.id, row.subject_digest)
    told = {"digest": str(digest)} if reason is None else {"digest": str(digest), "reason": reason}
    await record(connection, "manifest.deleted", repository.name, actor, told)


async def _keep_for_now(
    connection: AsyncConnection, repository_id: int, digest: Digest, *, media_type: str, actor: Actor
) -> None:
    """Let a manifest that goes be brought back for a time."""
    values = {"media_type": media_type, "deleted_by": actor.shown, "deleted_at": db_time()}
    await connection.execute(
        insert_or(connection, deleted_manifests)
        .values(repository_id=repository_id, digest=str(digest), **values)
        .on_conflict_do_update(index_elements=["repository_id", "digest"], set_=values)
    )


def unknown(reference: str | Digest) -> ManifestUnknownError:
    """The error for a tag or digest that the repository does not show."""
    kind = "manifest" if isinstance(reference, Digest) else "tag"
    return ManifestUnknownError(
        f"{kind} {reference} is not in this repository", detail={"reference": str(reference)}
    )


async def _require(
    connection: AsyncConnection,
    repository_id: int,
    digest: Digest,
    tag_names: Sequence[str],
    conditions: Conditions,
) -> None:
    if not tag_names:
        held = select(manifests.c.digest).where(
            manifests.c.repository_id == repository_id, manifests.c.digest == str(digest)
        )
        conditions.require((await connection.execute(held)).scalar(), f"manifest {digest}")
        return
    rows = await connection.execute(
        select(tags.c.name, manifests.c.digest)
        .join(manifests, manifests.c.id == tags.c.manifest_id)
        .where(tags.c.repository_id == repository_id, tags.c.name.in_(tag_names))
    )
    standing = {row.name: row.digest for row in rows}
    for name in tag_names:
        conditions.require(standing.get(name), f"tag {name}")


async def remove_rows(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    """Remove these manifests; the grace of what they were made of begins, and then a collection looks whether
    others name it."""
    made_of = (
        select(manifests.c.repository_id, blobs.c.id)
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .join(blobs, blobs.c.digest == edges.c.digest)
        .where(which)
    )
    link = tuple_(blob_links.c.repository_id, blob_links.c.blob_id)
    await connection.execute(
        update(blob_links).where(link.in_(made_of)).values(review_at=db_time(), condemned=False)
    )
    await connection.execute(sql_delete(manifests).where(which))


async def store_rows(
    connection: AsyncConnection,
    repository_id: int,
    digest: Digest,
    *,
    raw: bytes,
    manifest: Manifest,
    origin: Origin,
    actor: Actor,
) -> tuple[int, bool]:
    """The rows of a manifest, of which what it refers to is there; its number, and whether it is new. The
    repository is locked."""
    platform = origin.platform
    chain = chains.chain_of(origin.diff_ids, layers=len(manifest.layers))
    await _store_content(connection, digest, raw)
    values = {
        "repository_id": repository_id,
        "digest": str(digest),
        **said_by(raw, manifest),
        "runnable": platform is not None,
        "platform": platform,
        # Nobody can run what is neither an image nor an index; the rest is for the effects to say.
        "state": "untried" if platform is not None or manifest.is_index else "not-applicable",
        "state_at": db_time(),
        "pushed_by": actor.shown,
        "workload": actor.workload_text,
        "source": origin.source,
        "revision": origin.revision,
        "labels": origin.labels_text,
        # Null would say that nobody has looked.
        "chain_id": (chain[-1] if chain else "") if platform is not None else None,
        "base_name": origin.base_name,
        "base_digest": origin.base_digest,
        "pushed_at": db_time(),
    }
    made = await connection.execute(
        insert_ignoring_conflict(connection, manifests, values).returning(manifests.c.id)
    )
    manifest_id = made.scalar()
    if manifest_id is None:
        this = (manifests.c.repository_id == repository_id, manifests.c.digest == str(digest))
        last = func.coalesce(manifests.c.pushed_again_at, manifests.c.pushed_at)
        is_stale = (last <= db_time(-_AGAIN)).label("is_stale")
        columns = (manifests.c.id, manifests.c.platform, manifests.c.chain_id, is_stale)
        held = (await connection.execute(select(*columns).where(*this))).one()
        if held.platform == UNKNOWN_PLATFORM != platform and platform is not None:
            # Its config was missing when it was pushed first.
            await connection.execute(update(manifests).where(*this).values(platform=platform))
        if held.is_stale:
            # Who pushed it counts on it: it is not taken away as something old.
            await connection.execute(update(manifests).where(*this).values(pushed_again_at=db_time()))
        if chain and not held.chain_id:
            await chains.learn(connection, held.id, chain, origin)
        return held.id, False
    rows = edge_rows(manifest_id, manifest)
    if rows:
        await connection.execute(insert(edges), rows)
    await chains.store_prefixes(connection, manifest_id, chain)
    return manifest_id, True


def said_by(raw: bytes, manifest: Manifest) -> dict[str, Any]:
    """What a manifest's row has from its bytes alone."""
    return {
        "media_type": manifest.media_type,
        "size": len(raw),
        "artifact_type": manifest.effective_artifact_type,
        "annotations": json.dumps(dict(manifest.annotations), separators=(",", ":")),
        "subject_digest": str(manifest.subject.digest) if manifest.subject else None,
    }


def edge_rows(manifest_id: int, manifest: Manifest) -> list[dict[str, Any]]:
    """The rows of what a manifest is made of."""
    return [
        {
            "manifest_id": manifest_id,
            "position": position,
            "kind": kind,
            "digest": str(target.digest),
            "media_type": target.media_type,
            "size": target.size,
        }
        for position, (kind, target) in enumerate(manifest.edges())
    ]


async def _store_content(connection: AsyncConnection, digest: Digest, raw: bytes) -> None:
    """Have the bytes in a row that no collection takes before the transaction ends."""
    values = {"digest": str(digest), "raw": raw}
    statement = insert_ignoring_conflict(connection, manifest_contents, values)
    made = statement.returning(manifest_contents.c.digest)
    this = select(manifest_contents.c.digest).where(manifest_contents.c.digest == str(digest))
    while (await connection.execute(made)).first() is None:
        held = await connection.execute(this.with_for_update(read=True, key_share=True))
        # A collection may have removed the row that stood in the way of ours.
        if held.first() is not None:
            return
