"""The check of manifests: their bytes by their digests, their rows by their bytes, and whether what they are
made of is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, insert, select, update

from registry.content import repairing
from registry.content import repositories as repos
from registry.content.checking import Found, Problem
from registry.content.manifests import edge_rows, said_by
from registry.content.storedblobs import StoredBlob
from registry.db.content import blob_links, blobs, edges, manifest_contents, manifests, repositories
from registry.db.dialect import batches
from registry.db.engine import move_epoch
from registry.db.types import db_time
from registry.errors import ManifestInvalidError
from registry.oci.digest import digest_of, parse_digest
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import is_foreign_layer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.checking import Look, Mend
    from registry.content.repairing import Source
    from registry.db.engine import Database
    from registry.oci.manifest import Manifest

_PAGE_ROWS = 100
_SAID = ("media_type", "size", "artifact_type", "subject_digest")
_NAMED_IN_WHY = 3
_EDGE = ("position", "kind", "digest", "media_type", "size")


async def manifests_and_rows(look: Look) -> AsyncIterator[Found]:
    """Each manifest of each repository."""
    position = 0
    while True:
        async with look.database.read() as connection:
            rows = await _page(connection, position)
            ids = [row.id for row in rows]
            held = await _edges(connection, ids)
            missing = await _missing(connection, ids)
        if not rows:
            return
        # To hash and to parse a large one takes long, and a server may be in this process's place.
        for row, read in zip(rows, await look.threads.run(_read_all, rows), strict=True):
            if isinstance(read, str):
                yield await _unreadable(look, row, read)
                continue
            if (found := _differing(look.database, row, read, held.get(row.id, []))) is not None:
                yield found
            for found in await _incomplete(look, row, missing.get(row.id, [])):
                yield found
        look.saw(len(rows))
        position = ids[-1]


async def _page(connection: AsyncConnection, position: int) -> Sequence[Row[Any]]:
    query: Select[Any] = (
        select(
            manifests.c.id,
            manifests.c.repository_id,
            manifests.c.digest,
            manifests.c.annotations,
            *(manifests.c[name] for name in _SAID),
            repositories.c.name,
            manifest_contents.c.raw,
        )
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .join(manifest_contents, manifest_contents.c.digest == manifests.c.digest)
        .where(manifests.c.id > position)
        .order_by(manifests.c.id)
        .limit(_PAGE_ROWS)
    )
    rows: Sequence[Row[Any]] = (await connection.execute(query)).all()
    return rows


async def _edges(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    query: Select[Any] = (
        select(edges).where(edges.c.manifest_id.in_(ids)).order_by(edges.c.manifest_id, edges.c.position)
    )
    found: dict[int, list[Row[Any]]] = {}
    for row in await connection.execute(query):
        found.setdefault(row.manifest_id, []).append(row)
    return found


async def _missing(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """What the manifests are made of and their repository does not have: neither as blob nor as manifest."""
    listed = manifests.alias("listed")
    query: Select[Any] = (
        select(edges.c.manifest_id, edges.c.kind, edges.c.digest, edges.c.media_type, edges.c.size)
        .join(manifests, manifests.c.id == edges.c.manifest_id)
        .outerjoin(blobs, blobs.c.digest == edges.c.digest)
        .outerjoin(
            blob_links,
            and_(
                blob_links.c.blob_id == blobs.c.id,
                blob_links.c.repository_id == manifests.c.repository_id,
            ),
        )
        .outerjoin(
            listed,
            and_(
                edges.c.kind == "child",
                listed.c.repository_id == manifests.c.repository_id,
                listed.c.digest == edges.c.digest,
            ),
        )
        .where(edges.c.manifest_id.in_(ids), blob_links.c.blob_id.is_(None), listed.c.id.is_(None))
        .order_by(edges.c.manifest_id, edges.c.position)
    )
    found: dict[int, list[Row[Any]]] = {}
    for row in await connection.execute(query):
        if not is_foreign_layer(row.media_type):
            found.setdefault(row.manifest_id, []).append(row)
    return found


def _read_all(rows: Sequence[Row[Any]]) -> list[Manifest | str]:
    return [_read(row) for row in rows]


def _read(row: Row[Any]) -> Manifest | str:
    """The manifest, or why it cannot be read."""
    raw, stated = bytes(row.raw), parse_digest(row.digest)
    if digest_of(raw, stated.algorithm) != stated:
        return "its bytes have another digest"
    try:
        return parse_manifest(raw, row.media_type)
    except ManifestInvalidError:
        pass
    try:
        return parse_manifest(raw)  # its row has another type
    except ManifestInvalidError as error:
        return f"it cannot be read: {error.message}"


async def _unreadable(look: Look, row: Row[Any], why: str) -> Found:
    digest = parse_digest(row.digest)
    for source in look.sources:
        if (raw := await source.manifest(digest)) is not None and raw != bytes(row.raw):
            problem = Problem("manifests", row.digest, row.name, why, f"take it from {source.name}")
            return Found(problem, _repair(look.database, row.digest, raw))
    return Found(Problem("manifests", row.digest, row.name, why))


def _repair(database: Database, digest: str, raw: bytes) -> Mend:
    return lambda: repairing.repair_manifest(database, digest, raw)


def _differing(database: Database, row: Row[Any], read: Manifest, held: Sequence[Row[Any]]) -> Found | None:
    said, made_of = said_by(bytes(row.raw), read), edge_rows(row.id, read)
    differing = [name for name in _SAID if said[name] != getattr(row, name)]
    if json.loads(said["annotations"]) != json.loads(row.annotations):
        differing.append("annotations")
    if [tuple(one[name] for name in _EDGE) for one in made_of] != [
        tuple(getattr(one, name) for name in _EDGE) for one in held
    ]:
        differing.append("what it is made of")
    if not differing:
        return None
    why = f"its row differs from its bytes: {', '.join(differing)}"
    problem = Problem("manifests", row.digest, row.name, why, "write the row anew, as the bytes say")
    return Found(problem, _write_anew(database, row, read))


async def _incomplete(look: Look, row: Row[Any], missing: Sequence[Row[Any]]) -> list[Found]:
    found: list[Found] = []
    for one in missing:
        if one.kind == "child":
            continue
        blob = StoredBlob(0, parse_digest(one.digest), one.size, "")
        why = f"the repository does not have its {one.kind} {one.digest}"
        source = await repairing.find(look.sources, blob)
        if source is None:
            found.append(Found(Problem("manifests", row.digest, row.name, f"{why}; push it again")))
        else:
            problem = Problem("manifests", row.digest, row.name, why, f"take it from {source.name}")
            found.append(Found(problem, _bring(look, row.repository_id, blob, source)))
    listed = [one.digest for one in missing if one.kind == "child"]
    if listed:
        why = f"it lists what is not here: {_some(listed)}"
        found.append(Found(Problem("manifests", row.digest, row.name, why, is_note=True)))
    return found


def _bring(look: Look, repository_id: int, blob: StoredBlob, source: Source) -> Mend:
    return lambda: repairing.bring(look.database, look.store, blob, source, repository_id=repository_id)


def _write_anew(database: Database, row: Row[Any], manifest: Manifest) -> Mend:
    async def mend() -> bool:
        said = said_by(bytes(row.raw), manifest)
        async with database.write() as connection:
            await repos.lock(connection, row.repository_id)
            this = (manifests.c.id == row.id, manifests.c.digest == row.digest)
            if not (await connection.execute(update(manifests).where(*this).values(said))).rowcount:
                return False
            before = select(edges.c.digest).where(edges.c.manifest_id == row.id)
            touched = {*(await connection.execute(before)).scalars()}
            await connection.execute(delete(edges).where(edges.c.manifest_id == row.id))
            if made_of := edge_rows(row.id, manifest):
                await connection.execute(insert(edges), made_of)
                touched |= {one["digest"] for one in made_of}
            # Nobody knows what a collection made of the edges that stood there.
            for batch in batches(touched):
                numbers = select(blobs.c.id).where(blobs.c.digest.in_(batch))
                linked = (
                    blob_links.c.repository_id == row.repository_id,
                    blob_links.c.blob_id.in_(numbers),
                )
                reviewed = update(blob_links).where(*linked)
                await connection.execute(reviewed.values(review_at=db_time(), condemned=False))
            await move_epoch(connection, "content")
        return True

    return mend


def _some(digests: Sequence[str]) -> str:
    more = f" and {len(digests) - _NAMED_IN_WHY} more" if len(digests) > _NAMED_IN_WHY else ""
    return ", ".join(digests[:_NAMED_IN_WHY]) + more
