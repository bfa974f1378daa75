"""A repository that is removed, while others are at its rows who do not have its lock."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.db.content import blobs, manifests, repositories
from registry.db.engine import Database
from registry.db.matchings import changed_images, rejudgings
from registry.db.types import db_time
from registry.trials.telling import tell_some
from tests.integration.trials.test_hooks import send, standard
from tests.kit.access import api, ask
from tests.kit.distribution import start_upload
from tests.kit.images import digest_of
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


async def want(connection: AsyncConnection, number: int) -> None:
    await connection.execute(insert(rejudgings).values(manifest_id=number, asked_at=db_time()))


async def until_waiting_too(database: Database) -> None:
    """Wait until two transactions or more wait for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(60):
        while True:
            async with database.read_once() as connection:
                if (await connection.execute(waiting)).scalar_one() >= 2:
                    return
            await asyncio.sleep(0.01)


async def at_once(connection: AsyncConnection) -> None:
    """Let what would wait from here on fail: who has it waits for this transaction."""
    await connection.execute(text("SET LOCAL lock_timeout = '500ms'"))


async def test_who_asks_for_images_to_be_judged_waits_for_no_removal(port: Port) -> None:
    database = port.database
    first, second = await two_images(port)
    async with asyncio.timeout(120), database.write() as asking:
        await want(asking, first)
        gone = removing(port)
        await until_somebody_waits(database, asking)
        await at_once(asking)
        await want(asking, second)
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


async def test_an_upload_ends_before_its_repository(port: Port) -> None:
    database = port.database
    content = b"content"
    digest = digest_of(content)
    await port.push(tiny_image())
    location = await start_upload(port.admin, REPOSITORY)
    async with asyncio.timeout(120), database.write() as other:
        # Somebody else is storing the same bytes: the upload waits here, with its session.
        blob = {"digest": digest, "size": len(content), "locator": "elsewhere", "created_at": db_time()}
        await other.execute(insert(blobs).values(blob))
        finished = asyncio.create_task(
            ask(port.admin, "PUT", location, params={"digest": digest}, data=io.BytesIO(content))
        )
        await until_somebody_waits(database, other)
        gone = removing(port)
        await until_waiting_too(database)
        await other.rollback()
        assert (await finished).status == 201
        await gone
    async with port.admin.get("/metrics") as metrics:
        assert "seatrial_http_requests_repeated_total 0.0" in await metrics.text()


async def test_a_message_is_taken_before_its_hook_goes_with_the_repository(port: Port) -> None:
    database = port.database
    await port.push(tiny_image())
    hook = await api(port.admin, "POST", "/hooks", status=201, json={"name": "ci", "repository": REPOSITORY})
    body = json.dumps({"image": f"{REPOSITORY}:1"}).encode()
    async with asyncio.timeout(120), database.write() as other:
        await other.execute(select(repositories).with_for_update(key_share=True))
        gone = removing(port)
        await until_somebody_waits(database, other)
        taken = asyncio.create_task(send(port, "ci", body, standard(hook["secret"], body)))
        await until_somebody_waits(database, other, count=2)
        await other.rollback()
        assert (await taken).status == 202
        await gone
