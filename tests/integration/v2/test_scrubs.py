"""Scrubs: damaged bytes are found, given to nobody, and healed by pushing them again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select, update

from registry.auth.actor import Actor
from registry.content import quarantine, scrubbing, scrubs
from registry.db.collections import dead_blobs
from registry.db.collections import scrubs as rows_of_scrubs
from registry.db.content import blobs
from registry.db.types import db_time
from registry.errors import UnavailableError
from registry.http.services import Services
from tests.kit.access import api
from tests.kit.collecting import collect
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    put_manifest,
    small_manifest,
    start_upload,
)
from tests.kit.images import digest_of
from tests.kit.s3 import S3Server
from tests.kit.server import Registry, running_registry

NAME, OTHER = "team/app", "team/other"
LAYER = b"layer" * 5000
_END_SECONDS = 60
ADMIN = Actor(kind="user", name="admin")


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    given: dict[str, Any] = {"scrub_every_seconds": 0, "collection_grace_seconds": 0}
    async with running_registry(tmp_path / "data", database_url, **given) as running:
        yield running


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is tried again, and nobody waits for it."""
    monkeypatch.setattr(scrubbing, "FAULT_PAUSES_SECONDS", (0.0, 0.0))


def services_of(registry: Registry) -> Services:
    assert registry.services is not None
    return registry.services


async def scrub(client: aiohttp.ClientSession, **body: int) -> dict[str, Any]:
    """Have all blobs looked at; the scrub as it is at its end."""
    begun = await api(client, "POST", "/scrubs", status=202, json=body)
    async with asyncio.timeout(_END_SECONDS):
        while True:
            found = await api(client, "GET", f"/scrubs/{begun['id']}")
            if found["ended_at"]:
                return dict(found)
            await asyncio.sleep(0.02)


async def push(client: aiohttp.ClientSession, name: str, layers: list[bytes]) -> str:
    for content in (EMPTY_CONFIG, *layers):
        await push_blob(client, name, content)
    raw = small_manifest(layers)
    answer = await put_manifest(client, name, "v1", raw)
    assert answer.status == 201, answer.body
    return digest_of(raw)


async def locator_of(registry: Registry, content: bytes) -> str:
    query = select(blobs.c.locator).where(blobs.c.digest == digest_of(content))
    async with services_of(registry).database.read_once() as connection:
        return str((await connection.execute(query)).scalar_one())


async def file_of(registry: Registry, content: bytes, tmp_path: Path) -> Path:
    locator = await locator_of(registry, content)
    return tmp_path / "data/blobs/blobs" / locator[-2:] / locator


def spoil(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


async def status_of(client: aiohttp.ClientSession, content: bytes, name: str = NAME) -> int:
    async with client.head(f"/v2/{name}/blobs/{digest_of(content)}") as response:
        return response.status


async def text_of(client: aiohttp.ClientSession, path: str) -> str:
    async with client.get(path) as response:
        return await response.text()


async def test_what_is_whole_is_left_alone(client: aiohttp.ClientSession) -> None:
    await push(client, NAME, [LAYER, b""])
    done = await scrub(client)
    assert (done["blobs_checked"], done["blobs_total"]) == (3, 3)
    assert done["bytes_checked"] == done["bytes_total"] == len(LAYER) + len(EMPTY_CONFIG)
    assert (done["damaged"], done["recovered"], done["stopped"]) == (0, 0, None)
    assert await status_of(client, LAYER) == 200


@pytest.mark.parametrize(
    ("damage", "left"), [("digest", b"x" + LAYER[1:]), ("size", LAYER[:-1]), ("missing", None)]
)
async def test_damage_is_found_told_and_healed_by_a_push(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path, damage: str, left: bytes | None
) -> None:
    image = await push(client, NAME, [LAYER])
    await push(client, OTHER, [LAYER])
    url = f"/v2/{NAME}/blobs/{digest_of(LAYER)}"
    async with client.get(url) as response:
        assert await response.read() == LAYER, "and the answer is kept"
    path = await file_of(registry, LAYER, tmp_path)
    if left is None:
        path.unlink()
    else:
        spoil(path, left)
    done = await scrub(client)
    assert (done["damaged"], done["blobs_checked"]) == (1, 2)
    for name in (NAME, OTHER):
        assert await status_of(client, LAYER, name) == 404
    async with client.get(url) as response:
        body = await response.read()
        assert response.status == 404
        assert error_code(body) == "BLOB_UNKNOWN"
        assert b"damaged" in body
        assert b"push it again" in body
    async with client.get(f"/layout/{NAME}/blobs/{digest_of(LAYER).replace(':', '/')}") as response:
        assert response.status == 404
    (found,) = (await api(client, "GET", "/scrubs/damaged"))["items"]
    assert (found["digest"], found["damage"], found["repositories"]) == (
        digest_of(LAYER),
        damage,
        [NAME, OTHER],
    )
    (line,) = (await api(client, "GET", "/audit?action=blob.damaged"))["items"]
    assert (line["target"], line["data"]["damage"]) == (digest_of(LAYER), damage)
    async with asyncio.timeout(_END_SECONDS):
        while "seatrial_blobs_damaged 1.0" not in await text_of(client, "/metrics"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    # Neither a mount nor a manifest goes round it.
    async with client.post(f"/v2/team/new/blobs/uploads/?mount={digest_of(LAYER)}&from={NAME}") as response:
        assert response.status == 202
    refused = await put_manifest(client, NAME, "v2", small_manifest([LAYER]))
    assert (refused.status, error_code(refused.body)) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert await push(client, NAME, [LAYER]) == image
    for name in (NAME, OTHER):
        async with client.get(f"/v2/{name}/blobs/{digest_of(LAYER)}") as response:
            assert await response.read() == LAYER
    (line,) = (await api(client, "GET", "/audit?action=blob.healed"))["items"]
    assert line["target"] == digest_of(LAYER)
    assert (await api(client, "GET", "/scrubs/damaged"))["items"] == []
    assert (await scrub(client))["damaged"] == 0
    await collect(client)
    assert not path.exists(), "the damaged bytes are gone"
    assert await status_of(client, LAYER) == 200


async def test_who_pulls_what_is_missing_is_told_and_can_push_it_again(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    image = await push(client, NAME, [LAYER])
    url = f"/v2/{NAME}/blobs/{digest_of(LAYER)}"
    path = await file_of(registry, LAYER, tmp_path)
    kept, uploads = path.read_bytes(), tmp_path / "data/blobs/uploads"
    path.unlink()
    uploads.rename(tmp_path / "elsewhere")
    async with client.get(url) as response:
        assert response.status == 503, "it is the store that is not there"
    (tmp_path / "elsewhere").rename(uploads)
    path.write_bytes(kept)
    async with client.get(url) as response:
        assert await response.read() == LAYER
    path.unlink()
    assert await status_of(client, LAYER) == 200
    for _ in range(2):
        async with client.get(url) as response:
            assert response.status == 404
            assert b"push it again" in await response.read()
    assert await status_of(client, LAYER) == 404, "so that clients send it"
    assert await push(client, NAME, [LAYER]) == image
    async with client.get(url) as response:
        assert await response.read() == LAYER


async def test_bytes_that_were_put_back_are_found_whole(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    await push(client, NAME, [LAYER])
    path = await file_of(registry, LAYER, tmp_path)
    spoil(path, LAYER[::-1])
    assert (await scrub(client))["damaged"] == 1
    assert (await scrub(client))["damaged"] == 0, "it is known already"
    spoil(path, LAYER)
    done = await scrub(client)
    assert (done["damaged"], done["recovered"]) == (0, 1)
    assert await status_of(client, LAYER) == 200


async def test_a_blob_that_cannot_be_read_is_damaged_and_a_store_that_cannot_is_not(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    await push(client, NAME, [LAYER])
    path = await file_of(registry, LAYER, tmp_path)
    path.unlink()
    path.mkdir()  # a file that no read of gives anything, whoever reads
    assert (await scrub(client))["damaged"] == 1
    (found,) = (await api(client, "GET", "/scrubs/damaged"))["items"]
    assert found["damage"] == "unreadable"
    await push_blob(client, NAME, LAYER)
    services = services_of(registry)
    begun = await scrubs.ask(services.database, actor=ADMIN, bytes_per_second=None, by_default=1 << 30)
    claimed = await scrubs.claim(services.database)
    assert claimed is not None
    path = await file_of(registry, LAYER, tmp_path)
    kept = path.read_bytes()
    path.unlink()
    path.mkdir()
    uploads = tmp_path / "data/blobs/uploads"
    uploads.rename(tmp_path / "elsewhere")
    with pytest.raises(UnavailableError):
        await scrubs.carry_out(services.database, services.blobs, claimed)
    (tmp_path / "elsewhere").rename(uploads)
    path.rmdir()
    path.write_bytes(kept)
    assert await quarantine.count(services.database) == 0
    await let_go(registry)
    done = await scrub(client)
    assert (done["id"], done["damaged"]) == (begun.id, 0), "it goes on from where it was"


async def test_it_goes_on_where_a_replica_was_killed_and_one_is_at_it(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    services = services_of(registry)
    for number in range(4):
        await push_blob(client, NAME, b"%d" % number)
    begun = await scrubs.ask(services.database, actor=ADMIN, bytes_per_second=None, by_default=1 << 30)
    claimed = await scrubs.claim(services.database)
    assert claimed is not None
    assert await scrubs.claim(services.database) is None, "one replica at a time"
    async with services.database.write() as connection:
        ids = list((await connection.execute(select(blobs.c.id).order_by(blobs.c.id))).scalars())
        await connection.execute(
            update(rows_of_scrubs).values(position=ids[1], blobs_checked=2, bytes_checked=2)
        )
    # Who comes back finds that another has it, and writes nothing down.
    await let_go(registry)
    taken = await scrubs.claim(services.database)
    assert taken is not None
    await scrubs.carry_out(services.database, services.blobs, claimed)
    assert (await scrubs.find(services.database, begun.id)).blobs_checked == 2
    await let_go(registry)
    done = await scrub(client)
    assert (done["id"], done["blobs_checked"], done["bytes_checked"]) == (begun.id, 4, 4)


async def test_it_reads_as_fast_as_it_may_and_stops_when_it_is_told(
    client: aiohttp.ClientSession, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubs, "SAVE_SECONDS", 0.05)
    for number in range(3):
        await push_blob(client, NAME, bytes([number]) * (1 << 20))
    loop = asyncio.get_running_loop()
    before = loop.time()
    done = await scrub(client, bytes_per_second=1 << 20)
    assert done["bytes_per_second"] == 1 << 20
    # The first second's worth may come at once.
    assert 1.8 < loop.time() - before < 10
    begun = await api(client, "POST", "/scrubs", status=202, json={"bytes_per_second": 64 << 10})
    again = await api(client, "POST", "/scrubs", status=202, json={"bytes_per_second": 65 << 10})
    assert (again["id"], again["bytes_per_second"]) == (begun["id"], 65 << 10)
    stopped = await api(client, "POST", f"/scrubs/{begun['id']}/stop")
    assert (stopped["stopped"], bool(stopped["ended_at"])) == ("admin stopped it", True)
    await api(client, "POST", f"/scrubs/{begun['id']}/stop", status=409)
    await api(client, "POST", "/scrubs/99/stop", status=404)
    await api(client, "POST", "/scrubs", status=400, json={"bytes_per_second": 1})


async def test_far_more_missing_than_a_disk_loses_is_another_store(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    services = services_of(registry)
    for number in range(12):
        await push_blob(client, NAME, b"%d" % number)
    blobs_folder = tmp_path / "data/blobs/blobs"
    blobs_folder.rename(tmp_path / "unmounted")
    every = timedelta(hours=1)
    for _ in range(2):
        await scrubs.begin_if_due(services.database, every=every, bytes_per_second=1 << 30)
    claimed = await scrubs.claim(services.database)
    assert claimed is not None
    await scrubs.carry_out(services.database, services.blobs, claimed)
    (by_itself,) = await scrubs.list_scrubs(services.database, limit=5)
    assert (by_itself.stopped, by_itself.damaged) == (scrubs.TOO_MANY_MISSING, 0)
    assert await quarantine.count(services.database) == 0
    assert (await scrub(client))["damaged"] == 12, "somebody asked for it"
    (tmp_path / "unmounted").rename(blobs_folder)
    assert (await scrub(client))["recovered"] == 12


async def test_pulls_put_no_more_into_quarantine_than_a_disk_loses(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    contents = [b"%d" % number for number in range(quarantine.MISSING_MOST + 2)]
    for content in contents:
        await push_blob(client, NAME, content)
    (tmp_path / "data/blobs/blobs").rename(tmp_path / "unmounted")
    for content in contents:
        async with client.get(f"/v2/{NAME}/blobs/{digest_of(content)}") as response:
            assert response.status == 404
    assert await quarantine.count(services_of(registry).database) == quarantine.MISSING_MOST
    (tmp_path / "unmounted").rename(tmp_path / "data/blobs/blobs")
    for content in contents[-2:]:
        async with client.get(f"/v2/{NAME}/blobs/{digest_of(content)}") as response:
            assert await response.read() == content


async def test_what_is_deleted_meanwhile_is_not_damaged(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    services = services_of(registry)
    await push_blob(client, NAME, LAYER)
    async with services.database.read_once() as connection:
        query = select(blobs.c.id, blobs.c.locator)
        row = (await connection.execute(query)).one()
    await collect(client)
    assert not await quarantine.put_in(services.database, row.id, locator=row.locator, damage="missing")
    assert await quarantine.count(services.database) == 0


async def test_two_who_push_a_damaged_blob_at_once_heal_it_once(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    await push(client, NAME, [LAYER])
    spoil(await file_of(registry, LAYER, tmp_path), b"other")
    assert (await scrub(client))["damaged"] == 1
    locations = [await start_upload(client, name) for name in (NAME, OTHER, NAME, OTHER)]

    async def finish(location: str) -> int:
        async with client.put(location, params={"digest": digest_of(LAYER)}, data=LAYER) as response:
            return response.status

    assert await asyncio.gather(*map(finish, locations)) == [201] * 4
    assert len((await api(client, "GET", "/audit?action=blob.healed"))["items"]) == 1
    async with services_of(registry).database.read_once() as connection:
        dead = (await connection.execute(select(dead_blobs.c.locator))).all()
    assert len(dead) == 1
    for name in (NAME, OTHER):
        async with client.get(f"/v2/{name}/blobs/{digest_of(LAYER)}") as response:
            assert await response.read() == LAYER


async def test_over_s3(s3: S3Server, make_postgres_url: Callable[[], str], tmp_path: Path) -> None:
    storage = {"storage_url": s3.url(), "storage_credentials_file": s3.credentials, "scrub_every_seconds": 0}
    large = bytes(range(256)) * (20 << 12)
    async with (
        running_registry(tmp_path / "data", make_postgres_url(), **storage) as registry,
        registry.client() as client,
    ):
        await push(client, NAME, [LAYER, large])
        assert (await scrub(client))["damaged"] == 0
        bucket = services_of(registry).blobs._bucket  # type: ignore[attr-defined]
        key = bucket.blob_key(await locator_of(registry, LAYER))
        bucket._client.put_object(Bucket=bucket._bucket, Key=key, Body=LAYER[::-1])
        lost = bucket.blob_key(await locator_of(registry, large))
        bucket._client.delete_object(Bucket=bucket._bucket, Key=lost)
        assert (await scrub(client))["damaged"] == 2
        kinds = {one["damage"] for one in (await api(client, "GET", "/scrubs/damaged"))["items"]}
        assert kinds == {"digest", "missing"}
        await push(client, NAME, [LAYER, large])
        async with client.get(f"/v2/{NAME}/blobs/{digest_of(large)}") as response:
            assert await response.read() == large
        assert (await scrub(client))["damaged"] == 0


async def let_go(registry: Registry) -> None:
    """As when the lease of who was at it is over."""
    async with services_of(registry).database.write() as connection:
        await connection.execute(update(rows_of_scrubs).values(leased_until=db_time(-timedelta(seconds=1))))
