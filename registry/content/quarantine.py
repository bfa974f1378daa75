"""Blobs whose bytes are damaged: nobody is given them, until the same bytes come again or are whole again.

What is wrong stands on the blob's row. To repositories the blob is not there: whoever asks for it is told
why, a mount is refused, and a manifest that names it, so that a client pushes it again, which heals it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import func, insert, select, update

from registry.auth.actor import REGISTRY
from registry.db.collections import dead_blobs
from registry.db.content import blob_links, blobs, repositories
from registry.db.dialect import portions
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import BlobUnknownError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database
    from registry.oci.digest import Digest
    from registry.storage.store import BlobStore

Damage = Literal["missing", "size", "digest", "unreadable"]
"""What is wrong with a blob's bytes."""
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "missing": "the store does not have its bytes",
        "size": "the store has another number of bytes",
        "digest": "its bytes have another digest",
        "unreadable": "the store cannot read its bytes",
    }
)
MISSING_MOST = 10
"""So many of the blobs looked at together may be missing, and else a tenth of them: where more are, the store
is not there, or another's. Pulls find so many in an hour."""
_LATELY = timedelta(hours=1)
_NAMED_IN_EVENT = 20


@dataclass(frozen=True, slots=True)
class Damaged:
    """A blob in quarantine. ``repositories`` are some of those that show it, of ``repositories_count``."""

    digest: str
    size_bytes: int
    damage: Damage
    damaged_at: datetime
    repositories: Sequence[str]
    repositories_count: int


def refused(digest: Digest, damage: str) -> BlobUnknownError:
    """The error for a blob that is in quarantine."""
    return BlobUnknownError(
        f"blob {digest} is damaged in the registry's store ({MEANINGS.get(damage, damage)}) and is given to "
        "nobody; push it again, or have an administrator repair it",
        detail={"digest": str(digest), "damage": damage},
    )


async def put_in(database: Database, blob_id: int, *, locator: str, damage: Damage) -> bool:
    """Put a blob into quarantine whose bytes, under this locator, are damaged. False: they are those of no
    blob any more, or it was there already."""
    this = (blobs.c.id == blob_id, blobs.c.locator == locator)
    async with database.write() as connection:
        put = await connection.execute(
            update(blobs)
            .where(*this, blobs.c.damage.is_(None))
            .values(damage=damage, damaged_at=db_time())
            .returning(blobs.c.digest, blobs.c.size)
        )
        row = put.first()
        if row is None:
            await connection.execute(update(blobs).where(*this).values(damage=damage))
            return False
        names, count = (await _shown_in(connection, [blob_id])).get(blob_id, ([], 0))
        told = {
            "digest": row.digest,
            "size": row.size,
            "damage": damage,
            "repositories": names,
            "repositories_count": count,
        }
        await record(connection, "blob.damaged", None, REGISTRY, told, target=row.digest)
        await move_epoch(connection, "content")
    return True


async def put_in_missing(database: Database, store: BlobStore, blob_id: int, *, locator: str) -> bool:
    """As :func:`put_in`, where somebody who reads found that the store does not have the bytes: the next push
    then heals it. False as well where that was found so often lately that the store may not be all there.

    Raises:
        UnavailableError: it is the store that is not there.
    """
    await store.free_bytes()
    lately = select(func.count()).where(blobs.c.damage == "missing", blobs.c.damaged_at > db_time(-_LATELY))
    async with database.read_once() as connection:
        if (await connection.execute(lately)).scalar_one() >= MISSING_MOST:
            return False
    return await put_in(database, blob_id, locator=locator, damage="missing")


async def take_out(database: Database, blob_id: int, *, locator: str) -> bool:
    """Take a blob out of quarantine whose bytes, under this locator, were found whole. False: it was not
    there."""
    async with database.write() as connection:
        taken = await connection.execute(
            update(blobs)
            .where(blobs.c.id == blob_id, blobs.c.locator == locator, blobs.c.damage.is_not(None))
            .values(damage=None, damaged_at=None)
            .returning(blobs.c.digest)
        )
        digest = taken.scalar()
        if digest is None:
            return False
        told = {"digest": digest, "how": "its bytes were found whole"}
        await record(connection, "blob.healed", None, REGISTRY, told, target=digest)
    return True


async def heal(connection: AsyncConnection, digest: Digest, *, locator: str) -> bool:
    """Let the bytes under ``locator``, which were verified, be those of the blob, if it is in quarantine;
    the damaged ones go with the next collection."""
    damaged = select(blobs.c.id, blobs.c.locator, blobs.c.size).where(
        blobs.c.digest == str(digest), blobs.c.damage.is_not(None)
    )
    # Locked at once as far as is needed: two who both held it first would wait for each other.
    if (await connection.execute(damaged)).first() is None:
        return False
    row = (await connection.execute(damaged.with_for_update())).first()
    if row is None:
        return False
    healed = {"locator": locator, "created_at": db_time(), "damage": None, "damaged_at": None}
    await connection.execute(update(blobs).where(blobs.c.id == row.id).values(healed))
    dead = {"locator": row.locator, "size": row.size, "died_at": db_time()}
    await connection.execute(insert(dead_blobs).values(dead))
    told = {"digest": str(digest), "how": "its bytes came again"}
    await record(connection, "blob.healed", None, REGISTRY, told, target=str(digest))
    return True


async def count(database: Database) -> int:
    """How many blobs are in quarantine."""
    query = select(func.count()).select_from(blobs).where(blobs.c.damage.is_not(None))
    async with database.read_once() as connection:
        return int((await connection.execute(query)).scalar_one())


async def list_damaged(database: Database, *, after: int, limit: int) -> Sequence[tuple[int, Damaged]]:
    """The blobs in quarantine whose numbers come after ``after``, with these."""
    query = (
        select(blobs.c.id, blobs.c.digest, blobs.c.size, blobs.c.damage, blobs.c.damaged_at)
        .where(blobs.c.damage.is_not(None), blobs.c.id > after)
        .order_by(blobs.c.id)
        .limit(limit)
    )
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
        shown = await _shown_in(connection, [row.id for row in rows])
    return [
        (
            row.id,
            Damaged(
                row.digest,
                row.size,
                cast("Damage", row.damage),
                row.damaged_at,
                *shown.get(row.id, ([], 0)),
            ),
        )
        for row in rows
    ]


async def _shown_in(
    connection: AsyncConnection, blob_ids: Sequence[int]
) -> Mapping[int, tuple[list[str], int]]:
    """Of each of these blobs that repositories show: some of them, by name, and how many do."""
    blob = blob_links.c.blob_id
    number = func.row_number().over(partition_by=blob, order_by=blob_links.c.repository_id).label("number")
    shown_by = func.count().over(partition_by=blob).label("shown_by")
    links = select(blob_links.c.blob_id, blob_links.c.repository_id, number, shown_by)
    found: dict[int, tuple[list[str], int]] = {}
    for some in portions(list(blob_ids)):
        each = links.where(blob_links.c.blob_id.in_(some)).subquery()
        named = (
            select(each.c.blob_id, each.c.shown_by, repositories.c.name)
            .join(repositories, repositories.c.id == each.c.repository_id)
            .where(each.c.number <= _NAMED_IN_EVENT)
            .order_by(repositories.c.name)
        )
        for blob_id, count, name in await connection.execute(named):
            found.setdefault(blob_id, ([], count))[0].append(name)
    return found
