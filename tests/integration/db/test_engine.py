"""What the ways to use a database promise, the same on both."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
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


@pytest.mark.parametrize("values", [{"id": 1, "kind": "user"}, {"id": 2, "kind": "captain"}])
async def test_an_error_tells_nothing_of_the_row(database: Database, values: dict[str, Any]) -> None:
    """Neither of one that breaks a rule, nor of one that there is."""
    secret = "0123456789abcdef0123456789abcdef"
    row = {"id": 1, "name": secret, "kind": "user", "password_hash": secret, "created_at": db_time()}
    async with database.write() as connection:
        await connection.execute(accounts.insert().values(row))
    async with database.read_once() as connection:
        with pytest.raises(IntegrityError) as caught:
            await connection.execute(accounts.insert().values(row | values))
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(caught.value.orig)
    assert secret[:8] not in told
    assert "constraint" in told


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


@pytest.mark.parametrize("way", ["read", "read_once", "write"])
async def test_who_is_cancelled_at_any_moment_gives_the_connection_back(
    make_postgres_url: Callable[[], str], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the pool does not get back it tells of when it is garbage."""
    database = Database(make_postgres_url(), pool_size=1)

    async def use() -> None:
        async with getattr(database, way)() as connection:
            await connection.execute(text("SELECT 1"))

    await use()
    for steps in range(10):
        task = asyncio.create_task(use())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()
    async with asyncio.timeout(60):
        await use()
    await database.close()
    assert not [record for record in caplog.records if record.name.startswith("sqlalchemy")]


async def test_who_is_cancelled_while_a_statement_runs_holds_no_lock(database: Database) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000)"
    running = asyncio.Event()

    async def broken_off() -> None:
        async with database.write() as connection:
            await connection.execute(accounts.insert().values(name="bob", kind="user", created_at=db_time()))
            running.set()
            await connection.execute(text(f"{numbers} SELECT count(*) FROM n"))

    task = asyncio.create_task(broken_off())
    await running.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    # What has ended is held on to, with its traceback and so with its statement.
    (cancelled,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    async with asyncio.timeout(60):
        await add(database, "ann")
    async with database.read() as connection:
        assert await count(connection) == 1


@pytest.fixture
async def on_sqlite(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """A database of SQLite with one connection."""
    path = tmp_path / "one.db"
    path.write_bytes(sqlite_template.read_bytes())
    opened = Database(f"sqlite:///{path}", pool_size=1)
    yield opened
    await opened.close()


async def test_a_statement_of_a_transaction_is_one_trip_to_its_thread(
    on_sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What begins one that writes is one, and what ends it. To give the connection back is none."""
    await add(on_sqlite, "ann")  # which opens the connection
    trips = 0
    execute = aiosqlite.Connection._execute

    async def counted(self: aiosqlite.Connection, *given: Any, **options: Any) -> Any:
        nonlocal trips
        trips += 1
        return await execute(self, *given, **options)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)
    async with on_sqlite.write() as connection:
        row = {"name": "bob", "kind": "user", "created_at": db_time()}
        made = await connection.execute(accounts.insert().values(row).returning(accounts.c.name))
        assert made.scalar_one() == "bob"
        renamed = (
            accounts.update().where(accounts.c.name.in_(["ann", "bob"])).values(name="c" + accounts.c.name)
        )
        assert (await connection.execute(renamed)).rowcount == 2
    assert trips == 4
    trips = 0
    async with on_sqlite.read() as connection:
        assert (await connection.execute(select(accounts.c.name))).scalars().all() == ["cann", "cbob"]
        assert await count(connection) == 2
    assert trips == 3
    async with on_sqlite.read():
        pass
    assert trips == 3


async def test_many_rows_of_one_statement_and_the_row_that_was_made(on_sqlite: Database) -> None:
    rows = [
        {"name": f"user-{number}", "kind": "user", "created_at": datetime.now(UTC)} for number in range(3)
    ]
    async with on_sqlite.write() as connection:
        await connection.execute(accounts.insert(), rows)
        made = await connection.execute(
            accounts.insert().values(name="ann", kind="user", created_at=db_time())
        )
        assert made.inserted_primary_key is not None
        named = select(accounts.c.name).where(accounts.c.id == made.inserted_primary_key.id)
        assert (await connection.execute(named)).scalar_one() == "ann"
        assert await count(connection) == 4


async def test_what_an_ended_block_has_not_committed_is_taken_back(on_sqlite: Database) -> None:
    """Also where what ends it is an error of the database, or of somebody else, and for who reads."""
    row = {"name": "ann", "kind": "user", "created_at": db_time()}

    async def twice() -> None:
        async with on_sqlite.write() as connection:
            await connection.execute(accounts.insert().values(row))
            await connection.execute(accounts.insert().values(row))

    async def nothing_of_it() -> None:
        async with on_sqlite.write() as connection:
            await connection.execute(accounts.insert().values(row))
            raise LookupError

    with pytest.raises(IntegrityError):
        await twice()
    with pytest.raises(LookupError):
        await nothing_of_it()
    async with on_sqlite.read() as connection:
        await connection.execute(accounts.insert().values(row))
    async with on_sqlite.read() as connection:
        assert await count(connection) == 0


@pytest.mark.parametrize("way", ["read", "write"])
async def test_who_is_cancelled_at_any_moment_leaves_no_transaction_of_sqlite(
    on_sqlite: Database, way: str
) -> None:
    """Neither a lock nor a moment of the past is left to whoever has the connection next."""
    other = Database(f"sqlite:///{on_sqlite._engine.url.database}")

    async def use() -> None:
        async with getattr(on_sqlite, way)() as connection:
            for _ in range(3):
                await connection.execute(text("SELECT count(*) FROM accounts"))

    for steps in range(20):
        task = asyncio.create_task(use())
        for _ in range(steps):
            await asyncio.sleep(0.0002)
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(10):
            await add(other, f"user-{steps}")
            async with on_sqlite.read() as connection:
                assert await count(connection) == steps + 1
    await other.close()
