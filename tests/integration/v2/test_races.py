"""Races that only PostgreSQL can have, since SQLite has one writer; each is held open at its worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import delete, insert, select, text

from registry.content import repositories
from registry.db.content import blob_links, blobs, upload_sessions
from registry.db.types import db_time
from registry.oci.digest import parse_digest
from tests.kit.distribution import EMPTY_CONFIG, push_blob, put_manifest, small_manifest, start_upload
from tests.kit.images import digest_of
from tests.kit.postgres import until_somebody_waits
from tests.kit.server import Registry, running_registry

CONTENT = b"contested bytes" * 1000


@pytest.fixture
async def registry(tmp_path: Path, make_postgres_url: Callable[[], str]) -> AsyncIterator[Registry]:
    """A registry on PostgreSQL."""
    async with running_registry(tmp_path / "data", make_postgres_url()) as running:
        yield running


async def test_deleting_a_repository_while_an_upload_to_it_is_recorded(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    services = registry.services
    assert services is not None
    digest = digest_of(CONTENT)
    location = await start_upload(client, "a")
    async with client.patch(location, data=CONTENT) as response:
        assert response.status == 202
    repository = await repositories.find(services.database, "a")
    assert repository is not None
    async with services.database.write() as finishing:
        # As uploads.finish does it, and then it takes its time.
        ended = delete(upload_sessions).returning(upload_sessions.c.locator)
        locator = (await finishing.execute(ended)).scalar_one()
        size = await services.blobs.finish(locator, parse_digest(digest))
        values = {"digest": digest, "size": size, "locator": locator, "created_at": db_time()}
        blob_id = (await finishing.execute(insert(blobs).values(values).returning(blobs.c.id))).scalar_one()
        link = {"repository_id": repository.id, "blob_id": blob_id, "created_at": db_time()}
        await finishing.execute(insert(blob_links).values(link))
        deleting = asyncio.ensure_future(client.delete("/api/v1/repositories/a"))
        await until_somebody_waits(services.database, finishing)
    async with await deleting as response:
        assert response.status in (200, 204), await response.text()
    # The blob's row outlives the repository, so its bytes must as well: the next push relies on them.
    await push_blob(client, "b", CONTENT)
    async with client.get(f"/v2/b/blobs/{digest}") as response:
        assert await response.read() == CONTENT


async def test_pushing_to_a_repository_that_is_being_deleted(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    services = registry.services
    assert services is not None
    await push_blob(client, "a", EMPTY_CONFIG)
    async with services.database.write() as deleting:
        await deleting.execute(text("DELETE FROM repositories"))
        pushes = [
            asyncio.ensure_future(put_manifest(client, "a", "v1", small_manifest())),
            asyncio.ensure_future(start_upload(client, "a")),
        ]
        await until_somebody_waits(services.database, deleting, count=2)
    answer, location = await asyncio.gather(*pushes)
    assert answer.status == 400, "its config went with the old repository"
    async with client.get(location) as response:
        assert response.status == 204, "and the upload began in a new one"


async def test_two_first_pushes_make_one_repository(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    locations = await asyncio.gather(*(start_upload(client, "fresh") for _ in range(8)))
    assert len(set(locations)) == 8
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        rows = await connection.execute(select(upload_sessions.c.repository_id))
        assert len(set(rows.scalars())) == 1
