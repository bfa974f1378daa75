"""What the ways to use a database promise, the same on both."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.db.accounts import accounts
from registry.db.engine import Database
from registry.db.types import db_time


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


async def count(connection: AsyncConnection) -> int:
    return int((await connection.execute(select(func.count()).select_from(accounts))).scalar_one())


async def add(database: Database, name: str) -> None:
    async with database.write() as connection:
        await connection.execute(accounts.insert().values(name=name, kind="user", created_at=db_time()))


async def test_all_statements_of_a_read_see_one_moment(database: Database) -> None:
    async with database.read() as connection:
        before = await count(connection)
        await add(database, "ann")
        assert await count(connection) == before
    async with database.read() as connection:
        assert await count(connection) == before + 1


async def test_each_statement_of_its_own_sees_what_was_committed(database: Database) -> None:
    async with database.read_once() as connection:
        before = await count(connection)
        await add(database, "ann")
        assert await count(connection) == before + 1
