"""Long polls: one look at once, one for each change, a last one when time is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.db.engine import Database
from registry.trials.waiting import looks


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'seatrial.db'}")
    yield opened
    await opened.close()


async def count(database: Database, *, seconds: float) -> int:
    return len([None async for _ in looks(database, seconds=seconds)])


async def test_no_time_is_one_look(database: Database) -> None:
    assert await count(database, seconds=0) == 1


async def test_a_quiet_time_ends_with_a_last_look(database: Database) -> None:
    assert await count(database, seconds=0.05) == 2


async def test_each_change_is_a_look(database: Database) -> None:
    seen = []
    async for _ in looks(database, seconds=60):
        seen.append(len(seen))
        if len(seen) == 4:
            break
        # Also a change that comes between the look and the wait is heard.
        database.bell.ring()
    assert seen == [0, 1, 2, 3]


async def test_nobody_waits_for_a_process_that_ends(database: Database) -> None:
    waiting = asyncio.create_task(count(database, seconds=60))
    await asyncio.sleep(0)
    database.bell.mute()
    assert await asyncio.wait_for(waiting, 50) == 2
    assert await count(database, seconds=60) == 1
