"""Races that only PostgreSQL can have, since SQLite has one writer; each is held open at its worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.content import collecting, repositories
from registry.content.manifests import remove_rows
from registry.db.content import blob_links, blobs, manifests, upload_sessions
from registry.db.engine import move_epoch
from registry.db.types import db_time
from registry.oci.digest import parse_digest
from tests.kit.distribution import EMPTY_CONFIG, push_blob, put_manifest, small_manifest, start_upload
from tests.kit.images import digest_of
from tests.kit.postgres import until_somebody_waits
from tests.kit.server import Registry, running_registry

CONTENT = b"contested bytes" * 1000
_WAIT_SECONDS = 60


@pytest.fixture
async def registry(tmp_path: Path, make_postgres_url: Callable[[], str]) -> AsyncIterator[Registry]:
    """A registry on PostgreSQL."""
    async with running_registry(tmp_path / "data", make_postgres_url()) as running:
        yield running


@asynccontextmanager
async def removing_the_only_link(registry: Registry) -> AsyncIterator[AsyncConnection]:
    """A collection that removes the only link there is, when somebody else has come to wait for it."""
    assert registry.services is not None
    database = registry.services.database
    async with database.write() as connection:
        await connection.execute(update(blob_links).values(condemned=True))
    async with database.write() as removing:
        await removing.execute(select(blob_links.c.blob_id).with_for_update())
        yield removing
        async with asyncio.timeout(_WAIT_SECONDS):
            await until_somebody_waits(database, removing)
        await removing.execute(delete(blob_links))
        await move_epoch(removing, "content")


async def test_what_is_pushed_while_a_collection_removes_it_is_there(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    digest = await push_blob(client, "a", CONTENT)
    async with removing_the_only_link(registry):
        pushing = asyncio.ensure_future(push_blob(client, "a", CONTENT))
    await pushing
    async with client.head(f"/v2/a/blobs/{digest}") as response:
        assert response.status == 200


async def test_nobody_is_told_of_a_blob_that_a_collection_has_just_removed(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    """A client that is told that it is there does not send it."""
    digest = await push_blob(client, "a", CONTENT)
    async with removing_the_only_link(registry):
        asking = asyncio.ensure_future(client.head(f"/v2/a/blobs/{digest}"))
    async with await asking as response:
        assert response.status == 404


async def test_what_loses_its_last_manifest_while_a_collection_looks_is_looked_at_again(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    """What a retired key has signed goes in all repositories at once, under none of their locks."""
    assert registry.services is not None
    database = registry.services.database
    raw = small_manifest([CONTENT])
    for content in (EMPTY_CONFIG, CONTENT):
        await push_blob(client, "a", content)
    assert (await put_manifest(client, "a", digest_of(raw), raw)).status == 201
    grace = timedelta(hours=2)
    async with database.write() as connection:
        await connection.execute(
            update(blob_links).values(created_at=db_time(-grace), review_at=db_time(-grace))
        )
    async with database.write() as removing:
        await remove_rows(removing, manifests.c.digest == digest_of(raw))
        looking = asyncio.ensure_future(collecting.review_links(database, grace=grace))
        async with asyncio.timeout(_WAIT_SECONDS):
            await until_somebody_waits(database, removing)
    await looking
    async with database.read_once() as connection:
        found = (await connection.execute(select(blob_links.c.review_at))).scalars().all()
    assert len(found) == 2
    assert None not in found


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
