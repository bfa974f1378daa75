"""What a collection would do, and why; nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from registry.content.collecting import is_named, is_needed
from registry.db.collections import dead_blobs
from registry.db.content import blob_links, blobs, repositories

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database

_LOOKED_AT = 20_000
"""So many links are looked at; most of what was pushed since the last collection is named."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that a collection would remove, from ``remove_after`` on if nobody asks for it before:

    - ``link``: a blob in one repository, of which no manifest names it;
    - ``blob``: a blob that no repository shows;
    - ``bytes``: what was removed already, but for its bytes; ``digest`` is then not known any more.
    """

    kind: Literal["link", "blob", "bytes"]
    repository: str | None
    digest: str | None
    size_bytes: int
    why: str
    remove_after: datetime | None


async def preview(database: Database, *, grace: timedelta, limit: int) -> list[Candidate]:
    """At most ``limit`` of each kind, those whose time comes first."""
    async with database.read() as connection:
        found = await _links(connection, grace=grace, limit=limit)
        unneeded = ~is_needed(blobs.c.id)
        rows = await connection.execute(
            select(blobs.c.digest, blobs.c.size).where(unneeded).order_by(blobs.c.id).limit(limit)
        )
        found += [
            Candidate("blob", None, row.digest, row.size, "no repository shows it", None) for row in rows
        ]
        dead = await connection.execute(select(dead_blobs.c.size).order_by(dead_blobs.c.died_at).limit(limit))
        found += [
            Candidate("bytes", None, None, size, "its blob was removed", None) for size in dead.scalars()
        ]
    return found


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
