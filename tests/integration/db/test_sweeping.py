"""Deleting what is over, while others have some of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import insert, select

from registry.db.access import tombstones
from registry.db.engine import Database
from registry.db.sweeping import sweep
from registry.db.types import db_time


async def test_a_sweep_waits_for_nobody(make_postgres_url: Callable[[], str]) -> None:
    """It has other rows meanwhile, for which he may wait whom it would wait for."""
    database = Database(make_postgres_url())
    key, over = tombstones.c.name, tombstones.c.epoch == 1
    rows = [{"name": name, "epoch": 1} for name in "abc"]
    async with database.write() as connection:
        await connection.execute(insert(tombstones).values(deleted_at=db_time()), rows)
    async with asyncio.timeout(60), database.write() as holding:
        await holding.execute(select(key).where(key == "b").with_for_update())
        assert await sweep(database, key, over) == 2
        await holding.rollback()
        assert await sweep(database, key, over) == 1
    await database.close()
