"""What a collection does, a bounded portion at a time, with pushes, mounts and deletes beside it.

A blob is seen in a repository through its link. A link that no manifest of the repository names is
condemned, and removed when it has been that for long enough; whoever asks for the blob meanwhile takes it
back, since the manifest that names it may be on its way. A blob without links is seen by nobody, unless it
is the document of a scan: its row goes, and in the same transaction its bytes are written down as dead. Bytes
are deleted last of all. At any point a collection may break off: what it has done is done whole, and the next
one goes on with the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import delete, exists, false, func, insert, or_, select, true, update

from registry.content import holds
from registry.content import repositories as repos
from registry.db.collections import dead_blobs
from registry.db.content import (
    blob_links,
    blobs,
    deleted_manifests,
    edges,
    manifest_contents,
    manifests,
    upload_sessions,
)
from registry.db.dialect import batches, portions
from registry.db.engine import move_epoch
from registry.db.scans import scans
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from sqlalchemy import ColumnElement, Row, Select
    from structlog.typing import FilteringBoundLogger

    from registry.db.engine import Database
    from registry.storage.store import BlobStore

log: FilteringBoundLogger = structlog.get_logger("seatrial.collections")

AT_ONCE = 100
"""So many links, blobs or manifests are changed in one transaction at most: a push may wait for one."""
_LOOKED_AT = 5000
"""So many rows are looked at by one query."""
_LISTED_AT_ONCE = 500
_DELETED_AT_ONCE = 8
_HELD_PAUSE_SECONDS = 5.0
_STRAYS_MOST = 10
"""So many of a portion may be deleted by itself, and else a tenth of it."""

NAMING = (blobs.c.locator, upload_sessions.c.locator, dead_blobs.c.locator)
"""Whatever names bytes of the store."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one portion came to: ``position`` is where the next one begins, ``None`` if there is none."""

    position: str | None
    condemned: int = 0
    removed: int = 0
    freed_bytes: int = 0


async def review_links(database: Database, *, grace: timedelta) -> Step:
    """Condemn links that no manifest of their repository names, and remove those that were condemned for half
    of ``grace``: they have stood unnamed for all of it."""
    async with database.read_once() as connection:
        rows = (await connection.execute(_due_links(grace))).all()
    condemned = removed = 0
    for repository_id, links in groupby(rows, key=lambda row: row.repository_id):
        done = await _review(database, repository_id, {link.blob_id for link in links}, grace=grace)
        condemned, removed = condemned + done.condemned, removed + done.removed
    return Step("" if rows else None, condemned, removed)


def _due_links(grace: timedelta) -> Select[tuple[int, int]]:
    """The links to look at now, those of a repository together."""
    due = (
        select(blob_links.c.repository_id, blob_links.c.blob_id)
        .where(blob_links.c.review_at <= db_time(-grace / 2), blob_links.c.created_at <= db_time(-grace / 2))
        .order_by(blob_links.c.review_at)
        .limit(AT_ONCE)
        .subquery()
    )
    return select(due.c.repository_id, due.c.blob_id).order_by(due.c.repository_id, due.c.blob_id)


async def _review(
    database: Database, repository_id: int, blob_ids: Collection[int], *, grace: timedelta
) -> Step:
    async with database.write() as connection:
        # No manifest comes here until this is done. One that goes without this lock begins the grace anew:
        # what it named is no longer due.
        if not await repos.lock(connection, repository_id):
            return Step(None)
        query = select(blobs.c.id).where(blobs.c.id.in_(blob_ids), is_named(repository_id, blobs.c.digest))
        named = set((await connection.execute(query)).scalars())
        this = blob_links.c.repository_id == repository_id
        due = blob_links.c.review_at <= db_time(-grace / 2)
        if named:
            await connection.execute(
                update(blob_links)
                .where(this, blob_links.c.blob_id.in_(named), due)
                .values(review_at=None, condemned=False)
            )
        unnamed = (this, blob_links.c.blob_id.in_(set(blob_ids) - named), due)
        removed = await connection.execute(
            delete(blob_links).where(*unnamed, blob_links.c.condemned.is_(true()))
        )
        condemned = await connection.execute(
            update(blob_links)
            .where(*unnamed, blob_links.c.condemned.is_(false()))
            .values(review_at=db_time(), condemned=True)
        )
        if removed.rowcount or condemned.rowcount:
            # What is condemned is answered by the database alone, which takes note of who asks.
            await move_epoch(connection, "content")
    return Step(None, condemned.rowcount, removed.rowcount)


def is_named(repository_id: int | ColumnElement[int], digest: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a manifest of the repository names the digest. The first one that does is enough: some blobs
    are named by all attestations of a registry."""
    return exists().where(
        edges.c.digest == digest,
        edges.c.manifest_id == manifests.c.id,
        manifests.c.repository_id == repository_id,
    )


def is_needed(blob_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a repository shows the blob, or it is the document of a scan."""
    linked = select(blob_links.c.blob_id).where(blob_links.c.blob_id == blob_id)
    return or_(_has_any(linked), _has_any(select(scans.c.blob_id).where(scans.c.blob_id == blob_id)))


def _has_any(query: Select[Any]) -> ColumnElement[bool]:
    """Whether there is a row, looked up by an index for each row of the outer query. Of one ``EXISTS`` or
    another PostgreSQL may instead read the whole table, again for each portion."""
    return query.limit(1).scalar_subquery().is_not(None)


async def unneeded_blobs(database: Database, position: str) -> tuple[Sequence[Row[Any]], str | None]:
    """Of so many blobs after ``position`` as one query looks at, those that are not needed (``id``,
    ``digest``, ``size``); and where the next begin, ``None`` if there are none."""
    first = int(position or 0)
    window = select(blobs.c.id).where(blobs.c.id > first).order_by(blobs.c.id).limit(_LOOKED_AT).subquery()
    these: Select[Any] = select(blobs.c.id, blobs.c.digest, blobs.c.size)
    async with database.read() as connection:
        # Two statements: of a range whose end it does not know PostgreSQL thinks that it is long.
        last, count = (await connection.execute(select(func.max(window.c.id), func.count()))).one()
        if last is None:
            return [], None
        these = these.where(blobs.c.id > first, blobs.c.id <= last, ~is_needed(blobs.c.id))
        found = (await connection.execute(these.order_by(blobs.c.id))).all()
    return found, str(last) if count == _LOOKED_AT else None


async def remove_blobs(database: Database, position: str) -> Step:
    """Remove blobs after ``position`` that are not needed, and write down their bytes as dead."""
    unneeded, following = await unneeded_blobs(database, position)
    removed = freed = 0
    for ids in portions([row.id for row in unneeded], AT_ONCE):
        done = await _remove_blobs(database, ids)
        removed, freed = removed + done.removed, freed + done.freed_bytes
    return Step(following, removed=removed, freed_bytes=freed)


async def _remove_blobs(database: Database, ids: Sequence[int]) -> Step:
    async with database.write() as connection:
        # Whoever links one of them holds its row, or waits for this; the second statement sees who was first.
        held = select(blobs.c.id).where(blobs.c.id.in_(ids)).order_by(blobs.c.id)
        await connection.execute(held.with_for_update())
        unneeded = ~is_needed(blobs.c.id)
        gone = await connection.execute(
            delete(blobs).where(blobs.c.id.in_(ids), unneeded).returning(blobs.c.locator, blobs.c.size)
        )
        rows = gone.all()
        if rows:
            dead = [{"locator": row.locator, "size": row.size} for row in rows]
            await connection.execute(insert(dead_blobs).values(died_at=db_time()), dead)
    return Step(None, removed=len(rows), freed_bytes=sum(row.size for row in rows))


async def unused_manifests(
    database: Database, position: str, *, grace: timedelta, also: Sequence[ColumnElement[Any]] = ()
) -> tuple[Sequence[Row[Any]], str | None]:
    """As :func:`unneeded_blobs`, of bytes of manifests, by their digests: those that no repository has any
    more, nor had within the ``grace``; each ``digest`` with what is asked for ``also``."""
    digest = manifest_contents.c.digest
    window = select(digest).where(digest > position).order_by(digest).limit(_LOOKED_AT).subquery()
    async with database.read() as connection:
        last, count = (await connection.execute(select(func.max(window.c.digest), func.count()))).one()
        if last is None:
            return [], None
        these = select(digest, *also).where(digest > position, digest <= last, ~_is_kept(digest, grace))
        found = (await connection.execute(these.order_by(digest))).all()
    return found, last if count == _LOOKED_AT else None


async def remove_manifests(database: Database, position: str, *, grace: timedelta) -> Step:
    """Remove bytes of manifests after the digest ``position`` that no repository has any more, nor had within
    the ``grace``: what was deleted can be brought back for so long."""
    contents = manifest_contents.c
    unused, following = await unused_manifests(database, position, grace=grace)
    removed = 0
    for digests in portions([row.digest for row in unused], AT_ONCE):
        async with database.write() as connection:
            held = select(contents.digest).where(contents.digest.in_(digests)).order_by(contents.digest)
            await connection.execute(held.with_for_update())
            still = ~_is_kept(contents.digest, grace)
            gone = await connection.execute(
                delete(manifest_contents).where(contents.digest.in_(digests), still)
            )
            removed += gone.rowcount
    return Step(following, removed=removed)


def _is_kept(digest: ColumnElement[str], grace: timedelta) -> ColumnElement[bool]:
    deleted = deleted_manifests.c
    lately = select(deleted.id).where(deleted.digest == digest, deleted.deleted_at > db_time(-grace))
    return or_(_has_any(select(manifests.c.id).where(manifests.c.digest == digest)), _has_any(lately))


async def delete_bytes(database: Database, store: BlobStore) -> Step:
    """Delete some of the bytes that are dead; while somebody holds them, wait a little instead."""
    if await holds.ask(database):
        await asyncio.sleep(_HELD_PAUSE_SECONDS)
        return Step("")
    async with database.read_once() as connection:
        # One statement: what is dead in it was dead before whoever holds bytes from now on has looked.
        dead = await connection.execute(
            select(dead_blobs.c.locator).where(~holds.is_held()).order_by(dead_blobs.c.died_at).limit(AT_ONCE)
        )
        locators = list(dead.scalars())
    await _delete_all(store, locators)
    async with database.write() as connection:
        await connection.execute(delete(dead_blobs).where(dead_blobs.c.locator.in_(locators)))
    return Step("" if locators else None, removed=len(locators))


async def delete_strays(
    database: Database, store: BlobStore, *, age: timedelta, is_asked_for: bool
) -> AsyncIterator[Step]:
    """Delete bytes that no row names and that were last written before ``age``: what a crash has left between
    the bytes and the row, or between a row's end and the bytes'. A step for each portion looked at.

    No row comes to name bytes that are so old: an upload has its row from its first byte on. Unless somebody
    has asked for the collection, it ends where there are far more than crashes leave: then the bytes are
    mostly another registry's, or the database is not that of the store.
    """
    async for portion in portions_of(store.list_older(datetime.now(UTC) - age)):
        strays = await unnamed(database, portion)
        if not is_asked_for and len(strays) > max(_STRAYS_MOST, len(portion) // 10):
            log.error(
                "too many bytes in the store are named by no row of this database; none of them was deleted",
                looked_at=len(portion),
                unnamed=len(strays),
            )
            return
        await _delete_all(store, strays)
        yield Step(None, removed=len(strays))


async def portions_of(locators: AsyncIterator[str]) -> AsyncIterator[Sequence[str]]:
    """They, so many at a time as one look at the database takes; the last portion may be empty."""
    portion: list[str] = []
    async for locator in locators:
        portion.append(locator)
        if len(portion) == _LISTED_AT_ONCE:
            yield portion
            portion = []
    yield portion


async def unnamed(database: Database, locators: Sequence[str]) -> Sequence[str]:
    """Those of the bytes in the store that no row names."""
    named: set[str] = set()
    async with database.read() as connection:
        for column in NAMING:
            for batch in batches(locators):
                named |= set((await connection.execute(select(column).where(column.in_(batch)))).scalars())
    return [locator for locator in locators if locator not in named]


async def _delete_all(store: BlobStore, locators: Sequence[str]) -> None:
    for start in range(0, len(locators), _DELETED_AT_ONCE):
        await asyncio.gather(*map(store.delete, locators[start : start + _DELETED_AT_ONCE]))
