"""A repository that is removed, while others are at its rows who do not have its lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.db.content import manifests
from registry.db.matchings import changed_images, rejudgings
from registry.db.types import db_time
from registry.trials.telling import tell_some
from tests.kit.access import api
from tests.kit.matching import count
from tests.kit.postgres import until_somebody_waits
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image

PATH = "/repositories/" + REPOSITORY.replace("/", "%2F")


@pytest.fixture
async def port(tmp_path: Path, make_postgres_url: Callable[[], str]) -> AsyncIterator[Port]:
    """On PostgreSQL: SQLite has one writer."""
    async with open_port(tmp_path / "data", make_postgres_url()) as opened:
        yield opened


def removing(port: Port) -> asyncio.Task[Any]:
    return asyncio.create_task(api(port.admin, "DELETE", PATH, status=204))


async def two_images(port: Port) -> tuple[int, int]:
    """The numbers of two images. An index finds them by their digests, in the other order."""
    one, two = sorted((tiny_image(), tiny_image(Cmd=["/other"])), key=lambda image: image.digest)
    for tag, image in enumerate((two, one)):
        await port.push(image, tag=str(tag))
    async with port.database.read() as connection:
        query = select(manifests.c.id).where(manifests.c.digest.in_([one.digest, two.digest]))
        first, second = (await connection.execute(query.order_by(manifests.c.id))).scalars()
    return first, second


async def ask(connection: AsyncConnection, number: int) -> None:
    await connection.execute(insert(rejudgings).values(manifest_id=number, asked_at=db_time()))


async def at_once(connection: AsyncConnection) -> None:
    """Let what would wait from here on fail: who has it waits for this transaction."""
    await connection.execute(text("SET LOCAL lock_timeout = '500ms'"))


async def test_who_asks_for_images_to_be_judged_waits_for_no_removal(port: Port) -> None:
    database = port.database
    first, second = await two_images(port)
    async with asyncio.timeout(120), database.write() as asking:
        await ask(asking, first)
        gone = removing(port)
        await until_somebody_waits(database, asking)
        await at_once(asking)
        await ask(asking, second)
    await gone
    assert await count(database, rejudgings) == 0


async def test_who_tells_images_holds_none_that_a_removal_waits_for(port: Port) -> None:
    database = port.database
    first, second = await two_images(port)
    async with database.write() as connection:
        rows = [{"manifest_id": number, "first_change": 1} for number in (first, second)]
        await connection.execute(insert(changed_images), rows)

    async def tell() -> None:
        async with database.write() as connection:
            await tell_some(connection)

    async with asyncio.timeout(120), database.write() as going:
        await going.execute(select(manifests.c.id).where(manifests.c.id == second).with_for_update())
        await going.execute(delete(changed_images).where(changed_images.c.manifest_id == second))
        telling = asyncio.create_task(tell())
        await until_somebody_waits(database, going)
        await at_once(going)
        await going.execute(delete(changed_images))
    await telling
