"""Checks of the store: whether each blob's bytes are there, as many as its row says; bytes without a row."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from registry.content import quarantine, repairing
from registry.content.checking import Found, Problem
from registry.content.collecting import portions_of, unnamed
from registry.content.scrubbing import Pace, examine
from registry.content.scrubs import TOO_MANY_MISSING
from registry.content.storedblobs import from_row
from registry.db.content import blobs
from registry.errors import BlobUnknownError, ConflictError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy import Row, Select

    from registry.content.checking import Look, Mend
    from registry.content.quarantine import Damage
    from registry.content.repairing import Source
    from registry.content.storedblobs import StoredBlob

_PAGE_ROWS = 500
_AT_ONCE = 16
_FAST = 1 << 40
"""Bytes in a second: as fast as it goes."""
_FRESH = timedelta(minutes=10)
"""An upload has its row a moment after its first byte has its place."""


async def blobs_and_bytes(look: Look) -> AsyncIterator[Found]:
    """Each blob."""
    position = 0
    columns = (blobs.c.id, blobs.c.digest, blobs.c.size, blobs.c.locator, blobs.c.damage)
    while True:
        query: Select[Any] = select(*columns).where(blobs.c.id > position)
        query = query.order_by(blobs.c.id).limit(_PAGE_ROWS)
        async with look.database.read_once() as connection:
            rows = (await connection.execute(query)).all()
        if not rows:
            return
        damages: list[Damage | None] = []
        for start in range(0, len(rows), _AT_ONCE):
            portion = rows[start : start + _AT_ONCE]
            damages += await asyncio.gather(*(_damage(look, from_row(row)) for row in portion))
            look.saw(len(portion))
        is_there = damages.count("missing") <= max(quarantine.MISSING_MOST, len(rows) // 10)
        for row, damage in zip(rows, damages, strict=True):
            if (found := await _found(look, row, damage)) is not None:
                is_safe = is_there or damage != "missing" or not found.problem.remains
                yield found if is_safe else replace(found, mend=_refuse)
        position = rows[-1].id


async def _refuse() -> bool:
    """Put nothing into quarantine where most likely the store is not there.

    Raises:
        ConflictError: always; the message says so.
    """
    raise ConflictError(f"{TOO_MANY_MISSING} If all this is lost: seatrial scrub run")


async def _damage(look: Look, stored: StoredBlob) -> Damage | None:
    if look.hashed:
        return await examine(look.store, stored, pace=Pace(_FAST), threads=look.threads, advance=_say_nothing)
    try:
        async with look.store.open_blob(stored.locator) as opened:
            return None if opened.size == stored.size else "size"
    except BlobUnknownError:
        return "missing"


async def _say_nothing(_: int) -> None:
    """Nobody follows the bytes."""


async def _found(look: Look, row: Row[Any], damage: Damage | None) -> Found | None:
    if damage is None and row.damage is None:
        return None
    this = select(blobs.c.id).where(blobs.c.id == row.id, blobs.c.locator == row.locator)
    async with look.database.read_once() as connection:
        if (await connection.execute(this)).first() is None:
            return None  # it was deleted, or healed, meanwhile
    if damage is None and not look.hashed:
        damage = row.damage  # whoever put it there had read it
    if damage is None:
        why = f"it is in quarantine: {quarantine.MEANINGS.get(row.damage, row.damage)}"
        problem = Problem("blobs", row.digest, None, f"{why}; it is whole", "take it out of quarantine")
        return Found(problem, _take_out(look, row))
    why = quarantine.MEANINGS[damage]
    if (source := await repairing.find(look.sources, from_row(row))) is not None:
        problem = Problem("blobs", row.digest, None, why, f"take it from {source.name}")
        return Found(problem, _repair(look, row, damage, source))
    if row.damage is not None:
        return Found(Problem("blobs", row.digest, None, f"{why}; it is in quarantine: push it again"))
    mend = "put it into quarantine, so that a push heals it"
    problem = Problem("blobs", row.digest, None, why, mend, remains=True)
    return Found(problem, _put_in(look, row, damage))


def _put_in(look: Look, row: Row[Any], damage: Damage) -> Mend:
    return lambda: quarantine.put_in(look.database, row.id, locator=row.locator, damage=damage)


def _repair(look: Look, row: Row[Any], damage: Damage, source: Source) -> Mend:
    return lambda: repairing.repair(look.database, look.store, from_row(row), damage, source)


def _take_out(look: Look, row: Row[Any]) -> Mend:
    return lambda: quarantine.take_out(look.database, row.id, locator=row.locator)


async def bytes_without_rows(look: Look) -> AsyncIterator[Found]:
    """Bytes that no row names: they are a collection's."""
    strays, old = 0, 0
    for locators, is_old in (
        (look.store.list_older(datetime.now(UTC) - _FRESH), False),
        (look.store.list_older(datetime.now(UTC) - look.age), True),
    ):
        async for portion in portions_of(locators):
            found: Sequence[str] = await unnamed(look.database, portion)
            if is_old:
                old += len(found)
            else:
                strays += len(found)
                look.saw(len(portion))
    if strays:
        why = (
            f"{strays} uploads or blobs in the store have no row; the next collection deletes {old} of them, "
            "the others once they are as old as an upload may be"
        )
        yield Found(Problem("strays", str(strays), None, why, is_note=True))
