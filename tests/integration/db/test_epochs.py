"""What caches ask before they answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import insert, make_url, select, text, update

from registry.db.accounts import accounts
from registry.db.engine import Database, hold_epochs, move_epoch
from registry.db.types import db_time
from tests.kit.postgres import until_somebody_waits


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[tuple[Database, Database]]:
    """Two replicas' views of one database."""
    one, two = Database(database_url), Database(database_url)
    yield one, two
    await one.close()
    await two.close()


async def move(database: Database, *names: str) -> None:
    async with database.write() as connection:
        await move_epoch(connection, *names)  # type: ignore[arg-type]


async def test_each_epoch_moves_by_itself_and_everybody_sees_it(pair: tuple[Database, Database]) -> None:
    one, two = pair
    before = await two.epochs()
    assert await two.epochs() == before
    await move(one, "content")
    after = await two.epochs()
    assert (after.content, after.access, after.gate) == (before.content + 1, before.access, before.gate)
    await move(two, "access", "gate")
    assert await one.epochs() == await two.epochs()
    assert (await one.epochs()).access == before.access + 1


@pytest.mark.parametrize("moving", [move_epoch, hold_epochs])
async def test_what_is_moved_and_held_counts_once(
    pair: tuple[Database, Database], moving: Callable[..., Awaitable[None]]
) -> None:
    one, two = pair
    before = await two.epochs()
    async with one.write() as connection:
        await move_epoch(connection, "content", "access")
        await moving(connection, "gate")
        await move_epoch(connection, "content")
    after = await two.epochs()
    assert (after.content, after.access) == (before.content + 1, before.access + 1)
    assert after.gate == before.gate + 1
    async with one.write() as connection:
        await connection.execute(select(accounts))
    assert await two.epochs() == after, "what one transaction moved is not moved by the next"


async def test_who_moves_an_epoch_and_goes_on_keeps_nobody_waiting(
    make_postgres_url: Callable[[], str],
) -> None:
    """Else who has the row that this one wants next would wait for the epochs: a deadlock."""
    database = Database(make_postgres_url())
    async with database.write() as connection:
        await connection.execute(insert(accounts).values(name="ann", kind="user", created_at=db_time()))
    wanted = update(accounts).values(name="bob")
    before = await database.epochs()
    async with asyncio.timeout(60), database.write() as early:
        await move_epoch(early, "content")
        async with database.write() as late:
            await late.execute(wanted)
            await move_epoch(late, "content")
        await early.execute(wanted)
    assert (await database.epochs()).content == before.content + 2
    await database.close()


async def test_who_holds_the_epochs_sees_what_others_did_who_held_them(
    make_postgres_url: Callable[[], str],
) -> None:
    database = Database(make_postgres_url())
    read: list[str] = []

    async def look() -> None:
        async with database.write() as connection:
            await hold_epochs(connection, "gate")
            read.extend((await connection.execute(select(accounts.c.name))).scalars())

    async with asyncio.timeout(60):
        async with database.write() as first:
            await hold_epochs(first, "gate")
            looking = asyncio.create_task(look())
            await until_somebody_waits(database, first)
            await first.execute(insert(accounts).values(name="ann", kind="user", created_at=db_time()))
        await looking
    assert read == ["ann"]
    await database.close()


async def test_nobody_is_told_of_a_moment_before_he_asked(pair: tuple[Database, Database]) -> None:
    """However many ask at once, and whatever query is under way already."""
    one, two = pair
    moved = 0
    begun = (await two.epochs()).content

    async def ask() -> None:
        for _ in range(30):
            least = moved
            assert (await two.epochs()).content - begun >= least
            await asyncio.sleep(0)

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    for _ in range(10):
        await move(one, "content")
        moved += 1
    await asyncio.gather(*asking)
    assert (await two.epochs()).content == begun + 10


async def test_an_asker_who_gives_up_takes_no_answer_from_the_others(
    pair: tuple[Database, Database],
) -> None:
    tasks = [asyncio.create_task(pair[0].epochs()) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(answer == answers[3] for answer in answers[1:])


async def test_staleness_is_for_other_replicas_only(make_postgres_url: Callable[[], str]) -> None:
    url = make_postgres_url()
    here, there = Database(url, staleness_seconds=60), Database(url)
    try:
        before = await here.epochs()
        await move(there, "content")
        assert await here.epochs() == before, "as old as was allowed"
        await move(here, "access")
        after = await here.epochs()
        assert (after.content, after.access) == (before.content + 1, before.access + 1)
    finally:
        await here.close()
        await there.close()


async def test_a_lost_connection_is_made_anew(make_postgres_url: Callable[[], str]) -> None:
    url = make_postgres_url()
    database = Database(url)
    killer = Database(make_url(url).set(database="postgres").render_as_string(hide_password=False))
    try:
        before = await database.epochs()
        async with killer.read() as connection:
            await connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                {"name": make_url(url).database},
            )
        assert await database.epochs() == before
        assert await database.epochs() == before
    finally:
        await database.close()
        await killer.close()
