"""Scrubs: when there is one, which replica is at it, how far it has come, and what it found.

There is one at a time, and the replica that is at it has a lease, as for a collection. All blobs that are
there at its beginning are read and hashed, in the order of their numbers. What is damaged is put into
quarantine, and what is whole again taken out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import delete, func, insert, select, update

from registry.auth.actor import REGISTRY
from registry.content import quarantine
from registry.content.scrubbing import Pace, examine
from registry.content.storedblobs import StoredBlob, from_row
from registry.db import leasing
from registry.db.collections import scrubs
from registry.db.content import blobs
from registry.db.dialect import in_turn
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection
    from structlog.typing import FilteringBoundLogger

    from registry.auth.actor import Actor
    from registry.db.engine import Database
    from registry.storage.store import BlobStore

log: FilteringBoundLogger = structlog.get_logger("seatrial.scrubs")

LEASE = timedelta(seconds=60)
KEPT = 100
"""So many scrubs are remembered."""
SAVE_SECONDS = 10.0
"""Written down so often how far it has come."""
RATE_LEAST = 64 << 10
"""Bytes in a second: with fewer the lease would end between two ranges."""
_LOOKED_AT = 200
TOO_MANY_MISSING = "too many blobs are missing in the store: is it this registry's, and all there?"


@dataclass(frozen=True, slots=True)
class Scrub:
    """One scrub. ``damaged`` counts blobs that were not known to be; ``recovered`` those that were thought
    to be and are whole. ``stopped`` is why it ended before its end. Until ``leased_until`` a replica is
    believed to be at it."""

    id: int
    asked_by: str
    asked_at: datetime
    bytes_per_second: int
    position: int
    last_blob: int
    blobs_total: int
    bytes_total: int
    blobs_checked: int
    bytes_checked: int
    damaged: int
    recovered: int
    stopped: str | None
    ended_at: datetime | None
    leased_until: datetime


_COLUMNS = tuple(scrubs.c[name] for name in Scrub.__slots__)
_SAVED = ("position", "blobs_checked", "bytes_checked", "damaged", "recovered")


async def ask(database: Database, *, actor: Actor, bytes_per_second: int | None, by_default: int) -> Scrub:
    """Begin a scrub for ``actor`` at this rate, or the default one. If there is one already it goes on, at
    the rate if one is given."""
    async with database.write() as connection:
        begun = await _begin(
            connection, asked_by=actor.shown, bytes_per_second=bytes_per_second or by_default
        )
        if bytes_per_second is not None and begun.bytes_per_second != bytes_per_second:
            changed = update(scrubs).where(scrubs.c.id == begun.id).values(bytes_per_second=bytes_per_second)
            begun = Scrub(*(await connection.execute(changed.returning(*_COLUMNS))).one())
        told = {"bytes_per_second": begun.bytes_per_second}
        await record(connection, "scrub.asked", None, actor, told, target=str(begun.id))
        return begun


async def stop(database: Database, scrub_id: int, *, actor: Actor) -> Scrub:
    """End a scrub before its end; what it found stays.

    Raises:
        NotFoundError: there is none of this number.
        ConflictError: it has ended.
    """
    async with database.write() as connection:
        row = (
            await connection.execute(
                update(scrubs)
                .where(scrubs.c.id == scrub_id, scrubs.c.ended_at.is_(None))
                .values(ended_at=db_time(), stopped=f"{actor.shown} stopped it", leased_until=db_time())
                .returning(*_COLUMNS)
            )
        ).first()
        if row is not None:
            await _tell_ended(connection, Scrub(*row), actor)
    if row is None:
        found = await find(database, scrub_id)
        raise ConflictError(f"scrub {found.id} has ended already")
    return Scrub(*row)


async def list_scrubs(database: Database, *, limit: int) -> Sequence[Scrub]:
    """The latest, newest first."""
    async with database.read_once() as connection:
        rows = await connection.execute(select(*_COLUMNS).order_by(scrubs.c.id.desc()).limit(limit))
        return [Scrub(*row) for row in rows]


async def find(database: Database, scrub_id: int) -> Scrub:
    """The scrub of this number.

    Raises:
        NotFoundError: there is none, or it is no longer remembered.
    """
    return Scrub(*await leasing.find(database, scrubs, _COLUMNS, scrub_id, what="scrub"))


async def begin_if_due(database: Database, *, every: timedelta, bytes_per_second: int) -> None:
    """Begin a scrub if the last one was begun so long ago, or there was none."""
    begin = partial(_begin, asked_by="", bytes_per_second=bytes_per_second)
    await leasing.begin_if_due(database, scrubs, begin, every=every, what="scrub")


async def claim(database: Database) -> Scrub | None:
    """The scrub that nobody is at, for this replica to be at it; ``None`` if there is none."""
    row = await leasing.claim(database, scrubs, _COLUMNS, lease=LEASE)
    return Scrub(*row) if row else None


async def count_open(database: Database) -> int:
    """How many have not ended: one, or none."""
    return await leasing.count_open(database, scrubs)


async def carry_out(
    database: Database, store: BlobStore, scrub: Scrub, *, checked: Callable[[int], None] = lambda _: None
) -> None:
    """Go on with a claimed scrub to its end, or until another replica has taken it over or somebody stops it.
    ``checked`` is told how many more bytes were read.

    Raises:
        UnavailableError: the store cannot be read at the moment; the scrub goes on from where it was.
    """
    threads = Threads("scrub", 1)
    try:
        await _Scrubbing(database, store, scrub, threads, checked).carry_out()
    except _TakenOverError:
        return
    finally:
        threads.close()


class _TakenOverError(Exception):
    """The scrub is another replica's now, or has ended."""


class _Scrubbing:
    """``_at`` is what was written down last, ``_now`` how far it has come since."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        scrub: Scrub,
        threads: Threads,
        checked: Callable[[int], None],
    ) -> None:
        self._database = database
        self._store = store
        self._at = self._now = scrub
        self._threads = threads
        self._checked = checked
        self._pace = Pace(scrub.bytes_per_second)
        self._saved_at = time.monotonic()
        self._missing: list[StoredBlob] = []

    async def carry_out(self) -> None:
        while rows := await self._next():
            for stored, was_damaged in rows:
                await self._look_at(stored, was_damaged=was_damaged)
            if len(self._missing) > max(quarantine.MISSING_MOST, len(rows) // 10) and not self._at.asked_by:
                log.error(TOO_MANY_MISSING, looked_at=len(rows), missing=len(self._missing))
                await self._end(stopped=TOO_MANY_MISSING)
                return
            for stored in self._missing:
                await self._put_in(stored, "missing")
            self._missing = []
            await self._save()
        await self._end(stopped=None)

    async def _next(self) -> list[tuple[StoredBlob, bool]]:
        columns = (blobs.c.id, blobs.c.digest, blobs.c.size, blobs.c.locator, blobs.c.damage)
        query = (
            select(*columns)
            .where(blobs.c.id > self._now.position, blobs.c.id <= self._now.last_blob)
            .order_by(blobs.c.id)
            .limit(_LOOKED_AT)
        )
        async with self._database.read_once() as connection:
            rows = (await connection.execute(query)).all()
        return [(from_row(row), row.damage is not None) for row in rows]

    async def _look_at(self, stored: StoredBlob, *, was_damaged: bool) -> None:
        found = await examine(
            self._store, stored, pace=self._pace, threads=self._threads, advance=self._advance
        )
        if found == "missing" and not was_damaged:
            # Nobody is given wrong bytes meanwhile: whether it is only this one shows a little later.
            self._missing.append(stored)
        elif found is not None:
            await self._put_in(stored, found)
        elif was_damaged and await quarantine.take_out(self._database, stored.id, locator=stored.locator):
            self._now = replace(self._now, recovered=self._now.recovered + 1)
        self._now = replace(
            self._now,
            position=stored.id,
            blobs_checked=self._now.blobs_checked + 1,
            bytes_checked=self._now.bytes_checked + stored.size,
        )

    async def _put_in(self, stored: StoredBlob, damage: quarantine.Damage) -> None:
        if await quarantine.put_in(self._database, stored.id, locator=stored.locator, damage=damage):
            self._now = replace(self._now, damaged=self._now.damaged + 1)
            log.error(
                "a blob is damaged in the store; nobody is given it until the same bytes come again",
                digest=str(stored.digest),
                damage=damage,
                locator=stored.locator,
            )

    async def _advance(self, length: int) -> None:
        self._checked(length)
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            await self._save()

    async def _save(self) -> None:
        """Write down how far it has come, but for blobs of which it is not yet said that they are missing."""
        if not self._missing:
            self._at = self._now
        values = {name: getattr(self._at, name) for name in _SAVED}
        saved = await self._written(leased_until=db_time(LEASE), **values)
        self._at = replace(self._at, leased_until=saved.leased_until, bytes_per_second=saved.bytes_per_second)
        self._now = replace(self._now, leased_until=saved.leased_until)
        self._pace.bytes_per_second = saved.bytes_per_second
        self._saved_at = time.monotonic()

    async def _end(self, *, stopped: str | None) -> None:
        values = {name: getattr(self._now, name) for name in _SAVED}
        await self._written(leased_until=db_time(), ended_at=db_time(), stopped=stopped, **values)

    async def _written(self, **values: object) -> Scrub:
        async with self._database.write() as connection:
            this = (
                scrubs.c.id == self._at.id,
                scrubs.c.leased_until == self._at.leased_until,
                scrubs.c.ended_at.is_(None),
            )
            saved = await connection.execute(update(scrubs).where(*this).values(values).returning(*_COLUMNS))
            row = saved.first()
            if row is None:
                raise _TakenOverError
            scrub = Scrub(*row)
            if scrub.ended_at is not None and (
                scrub.asked_by or scrub.damaged or scrub.recovered or scrub.stopped
            ):
                await _tell_ended(connection, scrub, REGISTRY)
        return scrub


async def _tell_ended(connection: AsyncConnection, scrub: Scrub, actor: Actor) -> None:
    told = {
        "asked_by": scrub.asked_by,
        "stopped": scrub.stopped,
        **{name: getattr(scrub, name) for name in _SAVED[1:]},
    }
    await record(connection, "scrub.ended", None, actor, told, target=str(scrub.id))


async def _begin(connection: AsyncConnection, *, asked_by: str, bytes_per_second: int) -> Scrub:
    await in_turn(connection, "scrub")
    query = select(*_COLUMNS).where(scrubs.c.ended_at.is_(None)).limit(1)
    standing = (await connection.execute(query)).first()
    if standing is not None:
        return Scrub(*standing)
    sums = func.count(), func.coalesce(func.sum(blobs.c.size), 0), func.coalesce(func.max(blobs.c.id), 0)
    count, size, last = (await connection.execute(select(*sums))).one()
    made = await connection.execute(
        insert(scrubs)
        .values(
            asked_by=asked_by,
            asked_at=db_time(),
            leased_until=db_time(),
            bytes_per_second=bytes_per_second,
            last_blob=last,
            blobs_total=count,
            bytes_total=int(size),
        )
        .returning(*_COLUMNS)
    )
    row = made.one()
    await connection.execute(delete(scrubs).where(scrubs.c.id <= row.id - KEPT))
    return Scrub(*row)
