"""Faults of the real process: killed in the middle, and a disk without room.

The moment is chosen by what the client has sent so far: it stops at a known byte, looks until the server has
taken it, and only then kills. No hook in the server is needed, and nothing depends on how fast it is.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    put_manifest,
    small_manifest,
    start_upload,
)
from tests.kit.images import digest_of
from tests.kit.rawhttp import request
from tests.kit.server import Registry, RegistryProcess

MIB = 1 << 20


@pytest.fixture
def process(tmp_path: Path, database_url: str) -> Iterator[RegistryProcess]:
    """The real server, not started yet."""
    made = RegistryProcess(tmp_path / "data", database_url)
    yield made
    made.stop()


async def test_killed_between_blob_and_manifest(process: RegistryProcess) -> None:
    layer = os.urandom(MIB)
    registry = process.start()
    async with registry.client() as client:
        await push_blob(client, "team/app", layer)
        location = await start_upload(client, "team/app")
    process.kill()
    registry = process.start()
    async with registry.client() as client:
        async with client.get(f"/v2/team/app/blobs/{digest_of(layer)}") as response:
            assert await response.read() == layer
        async with client.get(location) as response:
            assert (response.status, response.headers["Range"]) == (204, "0-0")
        async with client.get("/v2/team/app/tags/list") as response:
            assert (await response.json())["tags"] == []
        await push_blob(client, "team/app", EMPTY_CONFIG)
        answer = await put_manifest(client, "team/app", "v1", small_manifest([layer]))
        assert answer.status == 201
    process.kill()
    registry = process.start()
    async with registry.client() as client, client.get("/v2/team/app/manifests/v1") as response:
        assert await response.read() == small_manifest([layer])


async def test_killed_while_a_blob_streams(process: RegistryProcess) -> None:
    content = os.urandom(12 * MIB)
    registry = process.start()
    async with registry.client() as client:
        location = await start_upload(client, "team/app")
        async with client.patch(location, data=pieces(content[: 3 * MIB])) as response:
            assert (response.status, response.headers["Range"]) == (202, f"0-{3 * MIB - 1}")
        writer = await begin_patch(registry, location, len(content) - 3 * MIB)
        writer.write(content[3 * MIB : 9 * MIB])
        await writer.drain()
        # Acknowledged are 3 MiB; more are on the disk, and the kill comes in the middle of it all.
        await until_received(client, location, 5 * MIB)
        process.kill()
        writer.close()
    registry = process.start()
    async with registry.client() as client:
        async with client.get(location) as response:
            assert response.status == 204
            offset = int(response.headers["Range"].partition("-")[2]) + 1
        assert 5 * MIB <= offset <= 9 * MIB
        async with client.head(f"/v2/team/app/blobs/{digest_of(content)}") as response:
            assert response.status == 404
        headers = {"Content-Range": f"{offset}-{len(content) - 1}"}
        async with client.patch(location, data=pieces(content[offset:]), headers=headers) as response:
            assert response.status == 202
        async with client.put(location, params={"digest": digest_of(content)}) as response:
            assert response.status == 201, "the hash is that of all bytes, also those from before the kill"
        async with client.get(f"/v2/team/app/blobs/{digest_of(content)}") as response:
            assert await response.read() == content


async def test_killed_between_the_bytes_and_their_row(process: RegistryProcess, database_url: str) -> None:
    """Holding the database's lock from outside stops the server exactly there."""
    content = os.urandom(MIB)
    digest = digest_of(content)
    registry = process.start()
    async with registry.client() as client:
        location = await start_upload(client, "a")
        async with client.patch(location, data=content) as response:
            assert response.status == 202
        with writes_held(database_url):
            finishing = asyncio.ensure_future(client.put(location, params={"digest": digest}))
            while not list((process.data / "blobs" / "blobs").glob("*/*")):  # noqa: ASYNC110  (another process)
                await asyncio.sleep(0.01)
            process.kill()
            with pytest.raises(aiohttp.ClientError):
                await finishing
    registry = process.start()
    async with registry.client() as client:
        async with client.head(f"/v2/a/blobs/{digest}") as response:
            assert response.status == 404, "nothing shows that was not acknowledged"
        async with client.get(location) as response:
            assert (response.status, response.headers["Range"]) == (204, f"0-{MIB - 1}")
        async with client.put(location, params={"digest": digest}) as response:
            assert response.status == 201
        async with client.get(f"/v2/a/blobs/{digest}") as response:
            assert await response.read() == content
    assert len(list((process.data / "blobs" / "blobs").glob("*/*"))) == 1


async def test_killed_while_a_manifest_is_recorded(process: RegistryProcess, database_url: str) -> None:
    raw = small_manifest()
    registry = process.start()
    async with registry.client() as client:
        await push_blob(client, "a", EMPTY_CONFIG)
        with writes_held(database_url):
            putting = asyncio.ensure_future(put_manifest(client, "a", "v1", raw))
            metric = "seatrial_http_requests_in_flight 2.0"  # this one, and the one that asks
            while metric not in await metrics(client):  # noqa: ASYNC110  (another process)
                await asyncio.sleep(0.01)
            process.kill()
            with pytest.raises(aiohttp.ClientError):
                await putting
    registry = process.start()
    async with registry.client() as client:
        for reference in ("v1", digest_of(raw)):
            async with client.head(f"/v2/a/manifests/{reference}") as response:
                assert response.status == 404
        assert (await put_manifest(client, "a", "v1", raw)).status == 201


async def test_asked_to_stop_while_a_blob_is_pulled(process: RegistryProcess) -> None:
    content = os.urandom(16 * MIB)
    registry = process.start()
    async with registry.client() as client:
        await push_blob(client, "a", content)
        async with client.get(f"/v2/a/blobs/{digest_of(content)}") as response:
            first = await response.content.readexactly(MIB)
            stopping = asyncio.create_task(asyncio.to_thread(process.stop))
            rest = await response.content.read()
            assert first + rest == content, "running transfers end in peace"
    await stopping


async def test_deleted_while_it_is_pulled(process: RegistryProcess) -> None:
    content = os.urandom(16 * MIB)
    registry = process.start()
    async with registry.client() as client:
        await push_blob(client, "a", content)
        async with client.get(f"/v2/a/blobs/{digest_of(content)}") as response:
            first = await response.content.readexactly(MIB)
            async with client.delete(f"/v2/a/blobs/{digest_of(content)}") as deleted:
                assert deleted.status == 202
            assert first + await response.content.read() == content
        async with client.head(f"/v2/a/blobs/{digest_of(content)}") as response:
            assert response.status == 404


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 96 MiB: what is left beside the store's reserve takes one blob and not two."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=96m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_while_a_blob_streams(small_disk: Path, tmp_path: Path) -> None:
    kept, content = os.urandom(8 * MIB), os.urandom(40 * MIB)
    process = RegistryProcess(small_disk / "data")
    process.log = tmp_path / "server.log"
    try:
        registry = process.start()
        async with registry.client() as client:
            await push_blob(client, "a", kept)
            await push_blob(client, "a", EMPTY_CONFIG)
            assert (await put_manifest(client, "a", "v1", small_manifest([kept]))).status == 201
            location, other = await start_upload(client, "a"), await start_upload(client, "a")
            async with client.patch(location, data=pieces(content)) as response:
                assert response.status == 507
                assert error_code(await response.read()) == "STORAGE_FULL"
                told = response.headers["Range"]
                assert response.headers["Location"] == location
            async with client.get(location) as response:
                assert response.headers["Range"] == told
            offset = int(told.partition("-")[2]) + 1
            assert 0 < offset < len(content)
            async with client.head(f"/v2/a/blobs/{digest_of(content)}") as response:
                assert response.status == 404
            async with client.get("/readyz") as response:
                assert response.status == 200
            # Pulls and deletes go on.
            async with client.get(f"/v2/a/blobs/{digest_of(kept)}") as response:
                assert await response.read() == kept
            async with client.delete("/v2/a/manifests/v1") as response:
                assert response.status == 202
            async with client.post("/v2/a/blobs/uploads/") as response:
                assert response.status == 507, "the next push is told before it sends anything"
            async with client.delete(other) as response:
                assert response.status == 204
        process.kill()
        registry = process.start()
        async with registry.client() as client:
            async with client.get(location) as response:
                assert response.headers["Range"] == told
            # With room again the upload goes on where it stood.
            subprocess.run(["mount", "-o", "remount,size=192m", str(small_disk)], check=True)
            headers = {"Content-Range": f"{offset}-{len(content) - 1}"}
            async with client.patch(location, data=pieces(content[offset:]), headers=headers) as response:
                assert response.status == 202, await response.text()
            async with client.put(location, params={"digest": digest_of(content)}) as response:
                assert response.status == 201
            async with client.get(f"/v2/a/blobs/{digest_of(content)}") as response:
                assert await response.read() == content
    finally:
        process.stop()


@contextmanager
def writes_held(database_url: str) -> Iterator[None]:
    """Let no transaction write while the block runs; all may read."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database), timeout=60, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")
        return
    engine = create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("LOCK TABLE upload_sessions, manifests IN SHARE MODE"))
        yield
        connection.rollback()
    engine.dispose()


async def metrics(client: aiohttp.ClientSession) -> str:
    async with client.get("/metrics") as response:
        return await response.text()


async def pieces(content: bytes):
    for start in range(0, len(content), 256 * 1024):
        yield content[start : start + 256 * 1024]


async def begin_patch(registry: Registry, location: str, length: int) -> asyncio.StreamWriter:
    host, _, port = registry.host.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(request("PATCH", location, token=registry.token, Content_Length=str(length)))
    return writer


async def until_received(client: aiohttp.ClientSession, location: str, count: int) -> None:
    """Wait until the store holds at least ``count`` bytes of the upload."""
    while True:
        async with client.get(location) as response:
            if int(response.headers["Range"].partition("-")[2]) + 1 >= count:
                return
        await asyncio.sleep(0.01)
