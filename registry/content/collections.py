"""Collections: when there is one, which replica is at it, how far it has come, and what it found.

There is one at a time. The replica that is at it has a lease; where that ends, another goes on from where the
last portion was written down.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from registry.auth.actor import REGISTRY
from registry.content import collecting
from registry.db import leasing
from registry.db.collections import PHASES, collections
from registry.db.dialect import in_turn
from registry.db.outbox import record
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.collecting import Step
    from registry.db.engine import Database
    from registry.settings import Settings
    from registry.storage.store import BlobStore

LEASE = timedelta(seconds=60)
KEPT = 100
"""So many collections are remembered."""
_REST_SECONDS_MAX = 0.5


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection: what it is at (``phase``), and what it has come to so far.

    ``freed_bytes`` are those of blobs that no repository shows any more; ``strays_removed`` counts bytes that
    no row named. Until ``leased_until`` a replica is believed to be at it.
    """

    id: int
    asked_by: str
    asked_at: datetime
    phase: str
    position: str
    links_condemned: int
    links_removed: int
    blobs_removed: int
    manifests_removed: int
    strays_removed: int
    freed_bytes: int
    ended_at: datetime | None
    leased_until: datetime


_COLUMNS = tuple(collections.c[name] for name in Collection.__slots__)


async def ask(database: Database, *, actor: Actor) -> Collection:
    """Begin a collection for ``actor``, unless there is one already: then that one."""
    async with database.write() as connection:
        begun = await _begin(connection, asked_by=actor.shown)
        await record(connection, "collection.asked", None, actor, {}, target=str(begun.id))
        return begun


async def list_collections(database: Database, *, limit: int) -> Sequence[Collection]:
    """The latest, newest first."""
    async with database.read_once() as connection:
        rows = await connection.execute(select(*_COLUMNS).order_by(collections.c.id.desc()).limit(limit))
        return [Collection(*row) for row in rows]


async def find(database: Database, collection_id: int) -> Collection:
    """The collection of this number.

    Raises:
        NotFoundError: there is none, or it is no longer remembered.
    """
    return Collection(*await leasing.find(database, collections, _COLUMNS, collection_id, what="collection"))


async def begin_if_due(database: Database, *, every: timedelta) -> None:
    """Begin a collection if the last one was begun so long ago, or there was none."""
    begin = partial(_begin, asked_by="")
    await leasing.begin_if_due(database, collections, begin, every=every, what="collection")


async def claim(database: Database) -> Collection | None:
    """The collection that nobody is at, for this replica to be at it; ``None`` if there is none."""
    row = await leasing.claim(database, collections, _COLUMNS, lease=LEASE)
    return Collection(*row) if row else None


async def count_open(database: Database) -> int:
    """How many have not ended: one, or none."""
    return await leasing.count_open(database, collections)


async def carry_out(database: Database, store: BlobStore, settings: Settings, collection: Collection) -> None:
    """Go on with a claimed collection to its end, or until another replica has taken it over. Each portion is
    written down, and the lease renewed; after it others have as long as it took."""
    grace = timedelta(seconds=settings.collection_grace_seconds)
    at: Collection | None = collection
    while at is not None and at.phase not in ("strays", "done"):
        began = time.monotonic()
        step = await _step(database, store, at, grace=grace)
        phase = at.phase if step.position is not None else PHASES[PHASES.index(at.phase) + 1]
        at = await _save(database, replace(_added(at, step), position=step.position or ""), phase=phase)
        await asyncio.sleep(min(time.monotonic() - began, _REST_SECONDS_MAX))
    if at is None or at.phase == "done":
        return
    age = grace + timedelta(seconds=settings.upload_ttl_seconds)
    is_asked_for = bool(collection.asked_by)
    async for step in collecting.delete_strays(database, store, age=age, is_asked_for=is_asked_for):
        at = await _save(database, _added(at, step), phase=at.phase)
        if at is None:
            return
    await _save(database, at, phase="done")


async def _step(database: Database, store: BlobStore, collection: Collection, *, grace: timedelta) -> Step:
    match collection.phase:
        case "links":
            return await collecting.review_links(database, grace=grace)
        case "blobs":
            return await collecting.remove_blobs(database, collection.position)
        case "manifests":
            return await collecting.remove_manifests(database, collection.position, grace=grace)
        case _:
            return await collecting.delete_bytes(database, store)


def _added(collection: Collection, step: Step) -> Collection:
    counted = {"links_condemned": step.condemned, "freed_bytes": step.freed_bytes}
    if collection.phase in _REMOVED:
        counted[_REMOVED[collection.phase]] = step.removed
    sums = {name: getattr(collection, name) + more for name, more in counted.items()}
    return replace(collection, **sums)


async def _save(database: Database, collection: Collection, *, phase: str) -> Collection | None:
    values = {name: getattr(collection, name) for name in ("position", *_COUNTED)}
    async with database.write() as connection:
        saved = await connection.execute(
            update(collections)
            .where(collections.c.id == collection.id, collections.c.leased_until == collection.leased_until)
            .values(
                phase=phase,
                leased_until=db_time(LEASE),
                ended_at=db_time() if phase == "done" else None,
                **values,
            )
            .returning(*_COLUMNS)
        )
        row = saved.first()
        if (
            row is not None
            and phase == "done"
            and (row.asked_by or any(getattr(row, name) for name in _COUNTED))
        ):
            told = {"asked_by": row.asked_by, **{name: getattr(row, name) for name in _COUNTED}}
            await record(connection, "collection.ended", None, REGISTRY, told, target=str(row.id))
    return Collection(*row) if row else None


_REMOVED = MappingProxyType(
    {
        "links": "links_removed",
        "blobs": "blobs_removed",
        "manifests": "manifests_removed",
        "strays": "strays_removed",
    }
)
_COUNTED = ("links_condemned", *_REMOVED.values(), "freed_bytes")


async def _begin(connection: AsyncConnection, *, asked_by: str) -> Collection:
    await in_turn(connection, "collection")
    query = select(*_COLUMNS).where(collections.c.ended_at.is_(None)).limit(1)
    standing = (await connection.execute(query)).first()
    if standing is not None:
        return Collection(*standing)
    made = await connection.execute(
        insert(collections)
        .values(asked_by=asked_by, asked_at=db_time(), leased_until=db_time(), phase=PHASES[0])
        .returning(*_COLUMNS)
    )
    row = made.one()
    await connection.execute(delete(collections).where(collections.c.id <= row.id - KEPT))
    return Collection(*row)
