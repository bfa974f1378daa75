"""What a collection would do, and why; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sqlalchemy import func, select

from registry.content.collecting import is_named, unneeded_blobs, unused_manifests
from registry.db.collections import dead_blobs
from registry.db.content import blob_links, blobs, deleted_manifests, manifest_contents, repositories
from registry.db.dialect import portions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database

T = TypeVar("T", int, str)
_LOOKED_AT = 20_000
"""So many links are looked at; most of what was pushed since the last collection is named."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that a collection would remove, from ``remove_after`` on if nobody asks for it before:

    - ``link``: a blob in one repository, of which no manifest names it;
    - ``blob``: a blob that no repository shows;
    - ``manifest``: the bytes of a manifest that no repository has;
    - ``bytes``: what was removed already, but for its bytes; ``digest`` is then not known any more.
    """

    kind: Literal["link", "blob", "manifest", "bytes"]
    repository: str | None
    digest: str | None
    size_bytes: int
    why: str
    remove_after: datetime | None


async def preview(database: Database, *, grace: timedelta, limit: int) -> list[Candidate]:
    """At most ``limit`` of each kind; of links, those whose time comes first. No query looks at more rows
    than one of a collection."""
    async with database.read_once() as connection:
        found = await _links(connection, grace=grace, limit=limit)
    unneeded = await _first(partial(unneeded_blobs, database), limit)
    unused = await _first(partial(unused_manifests, database, grace=timedelta()), limit)
    async with database.read() as connection:
        for ids in portions(unneeded):
            this = select(blobs.c.digest, blobs.c.size).where(blobs.c.id.in_(ids)).order_by(blobs.c.id)
            rows = await connection.execute(this)
            found += [
                Candidate("blob", None, row.digest, row.size, "no repository shows it", None) for row in rows
            ]
        for digests in portions(unused):
            found += await _manifests(connection, digests, grace=grace)
        dead = await connection.execute(select(dead_blobs.c.size).order_by(dead_blobs.c.died_at).limit(limit))
        found += [
            Candidate("bytes", None, None, size, "its blob was removed", None) for size in dead.scalars()
        ]
    return found


async def _first(look: Callable[[str], Awaitable[tuple[list[T], str | None]]], limit: int) -> list[T]:
    found: list[T] = []
    position: str | None = ""
    while position is not None and len(found) < limit:
        some, position = await look(position)
        found += some
    return found[:limit]


async def _manifests(
    connection: AsyncConnection, digests: Sequence[str], *, grace: timedelta
) -> list[Candidate]:
    contents, deleted = manifest_contents.c, deleted_manifests.c
    last = select(func.max(deleted.deleted_at)).where(deleted.digest == contents.digest).scalar_subquery()
    query = (
        select(contents.digest, func.length(contents.raw).label("size"), last.label("deleted_at"))
        .where(contents.digest.in_(digests))
        .order_by(contents.digest)
    )
    return [_manifest(row, grace) for row in await connection.execute(query)]


def _manifest(row: Any, grace: timedelta) -> Candidate:
    why = "no repository has it"
    if row.deleted_at is None:
        return Candidate("manifest", None, row.digest, row.size, why, None)
    why = f"{why} any more; so long it can be brought back"
    return Candidate("manifest", None, row.digest, row.size, why, row.deleted_at + grace)


async def _links(connection: AsyncConnection, *, grace: timedelta, limit: int) -> list[Candidate]:
    loose = select(blob_links).where(blob_links.c.review_at.is_not(None))
    seen = loose.order_by(blob_links.c.review_at).limit(_LOOKED_AT).subquery()
    query = (
        select(
            repositories.c.name,
            seen.c.review_at,
            seen.c.created_at,
            seen.c.condemned,
            blobs.c.digest,
            blobs.c.size,
        )
        .join(blobs, blobs.c.id == seen.c.blob_id)
        .join(repositories, repositories.c.id == seen.c.repository_id)
        .where(~is_named(seen.c.repository_id, blobs.c.digest))
        .order_by(seen.c.review_at)
        .limit(limit)
    )
    return [_link(row, grace) for row in await connection.execute(query)]


def _link(row: Any, grace: timedelta) -> Candidate:
    seen = max(row.review_at, row.created_at)
    why = "no manifest of the repository names it"
    if row.condemned:
        return Candidate("link", row.name, row.digest, row.size, f"{why}; condemned", seen + grace / 2)
    return Candidate("link", row.name, row.digest, row.size, why, seen + grace)
