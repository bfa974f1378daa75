"""What a collection would do, and why; nothing is changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import func, select

from registry.content.collecting import is_named, unneeded_blobs, unused_manifests
from registry.db.collections import dead_blobs
from registry.db.content import blob_links, blobs, deleted_manifests, manifest_contents, repositories
from registry.errors import RequestInvalidError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database

PORTIONS_MAX = 20
"""So many portions of blobs and manifests are looked at by one call."""
_POSITION = re.compile(r"blob\.[0-9]{1,18}|manifest\.([a-z0-9+._-]+:[a-zA-Z0-9=_-]{1,200})?")
_UNSHOWN = "no repository shows it"
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


@dataclass(frozen=True, slots=True)
class Previewed:
    """Some of what would be removed. ``following`` is where to look on; ``None``: all was looked at, or there
    are as many as were asked for."""

    candidates: Sequence[Candidate]
    following: str | None


async def preview(
    database: Database,
    *,
    grace: timedelta,
    limit: int,
    after: str | None = None,
    portions: int | None = None,
) -> Previewed:
    """At most ``limit`` of each kind; of links, those whose time comes first. No query looks at more rows
    than one of a collection, and no call at more than :data:`PORTIONS_MAX` times so many, or ``portions``
    times: then the next one looks on, ``after`` what this one says.

    Raises:
        RequestInvalidError: that was said by none.
    """
    kind, position = _parse(after)
    found: list[Candidate] = []
    left = PORTIONS_MAX if portions is None else portions
    if after is None:
        async with database.read_once() as connection:
            found += await _links(connection, grace=grace, limit=limit)
    if kind != "manifest":
        rows, left, following = await _first(partial(unneeded_blobs, database), position, limit, left)
        found += [Candidate("blob", None, row.digest, row.size, _UNSHOWN, None) for row in rows]
        if following is not None:
            return Previewed(found, f"blob.{following}")
        position = ""
    unused = partial(unused_manifests, database, grace=timedelta(), also=_ALSO)
    rows, _, following = await _first(unused, position, limit, left)
    found += [_manifest(row, grace) for row in rows]
    if following is not None:
        return Previewed(found, f"manifest.{following}")
    dead = select(dead_blobs.c.size).order_by(dead_blobs.c.died_at).limit(limit)
    async with database.read_once() as connection:
        sizes = (await connection.execute(dead)).scalars()
        found += [Candidate("bytes", None, None, size, "its blob was removed", None) for size in sizes]
    return Previewed(found, None)


def _parse(after: str | None) -> tuple[str, str]:
    if after is None:
        return "", ""
    if _POSITION.fullmatch(after) is None:
        raise RequestInvalidError(f"{after[:80]!r} is no cursor of this list")
    kind, _, position = after.partition(".")
    return kind, position


async def _first(
    look: Callable[[str], Awaitable[tuple[Sequence[Row[Any]], str | None]]],
    position: str,
    limit: int,
    portions: int,
) -> tuple[Sequence[Row[Any]], int, str | None]:
    """The first of them, in so many portions at most; how many portions are left, and where to look on, if
    there were not enough."""
    found: list[Row[Any]] = []
    following: str | None = position
    while following is not None and len(found) < limit:
        if portions == 0:
            return found, 0, following
        some, following = await look(following)
        found += some
        portions -= 1
    return found[:limit], portions, None


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


_LAST_DELETED = select(func.max(deleted_manifests.c.deleted_at)).where(
    deleted_manifests.c.digest == manifest_contents.c.digest
)
_ALSO = (
    func.length(manifest_contents.c.raw).label("size"),
    _LAST_DELETED.scalar_subquery().label("deleted_at"),
)
