"""The ledger of unfinished uploads on both databases: one holder at a time, and nothing of one given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from registry.content.uploadledger import DatabaseLedger
from registry.db.engine import Database
from registry.db.multipart import multipart_uploads
from registry.db.types import db_time
from registry.errors import BlobUploadInvalidError, BlobUploadUnknownError
from registry.storage.ledger import Part, UploadState

LOCATOR = "0123456789abcdef" * 2
PART = Part(1, 10, '"etag"', "sum")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def ledger(database: Database) -> DatabaseLedger:
    made = DatabaseLedger(database)
    await made.create(LOCATOR)
    return made


async def hold(ledger: DatabaseLedger) -> UploadState:
    state = await ledger.hold(LOCATOR)
    assert state is not None
    return state


async def give_up(database: Database) -> None:
    """As if nothing had been heard of the holder for long."""
    async with database.write() as connection:
        long_ago = db_time(timedelta(hours=-1))
        await connection.execute(update(multipart_uploads).values(held_until=long_ago))


async def test_of_many_at_once_one_holds(ledger: DatabaseLedger) -> None:
    answers = await asyncio.gather(*(ledger.hold(LOCATOR) for _ in range(8)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in answers) == ["BlobUploadInvalidError"] * 7 + ["UploadState"]


async def test_what_is_entered_is_there_for_the_next_holder(ledger: DatabaseLedger) -> None:
    state = await hold(ledger)
    wanted = replace(state, length=14, multipart_id="m", next_part=2, tail_bytes=4, tail_epoch=state.epoch)
    await ledger.save(wanted, PART, release=True)
    assert await ledger.find(LOCATOR) == wanted
    assert await ledger.parts(LOCATOR) == [PART]
    assert await hold(ledger) == replace(wanted, epoch=wanted.epoch + 1)


async def test_who_was_given_up_enters_nothing(ledger: DatabaseLedger, database: Database) -> None:
    first = await hold(ledger)
    assert await ledger.renew(first)
    await give_up(database)
    second = await hold(ledger)
    assert second.next_part == first.next_part + 1, "the first may still be sending that part"
    assert not await ledger.renew(first)
    with pytest.raises(BlobUploadInvalidError):
        await ledger.save(replace(first, length=10), PART)
    assert await ledger.remove(LOCATOR, epoch=first.epoch) is None
    assert await ledger.parts(LOCATOR) == []
    assert await ledger.find(LOCATOR) == second


async def test_what_was_removed_is_unknown(ledger: DatabaseLedger) -> None:
    state = await hold(ledger)
    await ledger.save(state, PART)
    assert await ledger.remove(LOCATOR) == state
    assert await ledger.remove(LOCATOR) is None
    assert await ledger.hold(LOCATOR) is None
    assert await ledger.parts(LOCATOR) == []
    with pytest.raises(BlobUploadUnknownError):
        await ledger.save(state)


async def test_a_locator_is_entered_once(ledger: DatabaseLedger) -> None:
    with pytest.raises(BlobUploadInvalidError):
        await ledger.create(LOCATOR)


async def test_the_sweep_asks_by_age(ledger: DatabaseLedger) -> None:
    now = datetime.now(UTC)
    early, late = now - timedelta(hours=1), now + timedelta(hours=1)
    assert list(await ledger.list_written(before=late)) == [LOCATOR]
    assert list(await ledger.list_written(before=early)) == []
    assert await ledger.written_since([LOCATOR, "0" * 32], early) == {LOCATOR}
    assert await ledger.written_since([LOCATOR], late) == set()
