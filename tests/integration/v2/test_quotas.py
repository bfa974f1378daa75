"""A repository's quota: what is refused, with which numbers, and that it is exact."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest
from sqlalchemy import func, select

from registry.db.content import upload_sessions
from tests.kit.distribution import push_blob, start_upload
from tests.kit.images import digest_of
from tests.kit.server import Registry

NAME = "team/app"
BLOB = bytes(1000)


async def set_quota(client: aiohttp.ClientSession, quota: int | None) -> None:
    async with client.patch("/api/v1/repositories/team%2Fapp", json={"quota_bytes": quota}) as response:
        assert response.status == 200, await response.text()
        assert (await response.json())["quota_bytes"] == quota


async def used(client: aiohttp.ClientSession) -> int:
    async with client.get("/api/v1/repositories/team%2Fapp") as response:
        return int((await response.json())["used_bytes"])


async def refusal(response: aiohttp.ClientResponse) -> dict[str, object]:
    assert response.status == 403, await response.text()
    (error,) = (await response.json())["errors"]
    assert error["code"] == "DENIED"
    assert "delete what is not needed, or ask an administrator" in error["message"]
    return dict(error["detail"])


@pytest.fixture
async def limited(client: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """``team/app`` holds 1000 bytes of the 1500 that it may."""
    await push_blob(client, NAME, BLOB)
    await set_quota(client, 1500)
    return client


async def test_a_blob_beyond_the_quota_is_refused_before_it_is_sent(limited: aiohttp.ClientSession) -> None:
    location = await start_upload(limited, NAME)
    headers = {"Content-Length": str(10**9), "Expect": "100-continue"}
    async with limited.patch(location, data=None, headers=headers) as response:
        detail = await refusal(response)
    assert detail == {"used_bytes": 1000, "needed_bytes": 10**9, "quota_bytes": 1500}
    async with limited.get(location) as response:
        assert response.status == 404, "what can never become a blob holds no room"


async def test_a_blob_of_unknown_size_is_refused_at_its_end(
    limited: aiohttp.ClientSession, registry: Registry
) -> None:
    content = b"x" * 501

    async def stream() -> object:
        yield content

    location = await start_upload(limited, NAME)
    async with limited.patch(location, data=stream()) as response:
        assert response.status == 202
    async with limited.put(location, params={"digest": digest_of(content)}) as response:
        detail = await refusal(response)
    assert detail == {"used_bytes": 1000, "needed_bytes": 501, "quota_bytes": 1500}
    async with limited.head(f"/v2/{NAME}/blobs/{digest_of(content)}") as response:
        assert response.status == 404
    async with registry.services.database.read() as connection:
        sessions = await connection.execute(select(func.count()).select_from(upload_sessions))
        assert sessions.scalar_one() == 0
    assert await used(limited) == 1000


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_blob_of_unknown_size_takes_no_more_than_the_whole_quota(
    limited: aiohttp.ClientSession, registry: Registry, method: str
) -> None:
    """However often its sender goes on: the disk is everybody's."""

    async def stream() -> object:
        yield b"x" * 800

    location = await start_upload(limited, NAME)
    async with limited.patch(location, data=stream()) as response:
        assert response.status == 202
    query = {"digest": digest_of(b"x" * 1600)}
    async with limited.request(method, location, params=query, data=stream()) as response:
        (error,) = (await response.json())["errors"]
        assert (response.status, error["code"]) == (403, "DENIED")
        assert "larger than the 1500 bytes that the quota of team/app allows" in error["message"]
    async with limited.get(location) as response:
        assert response.status == 404
    data = registry.services.settings.data if registry.services else None
    assert data is not None
    assert sum(path.stat().st_size for path in (data / "blobs").rglob("*") if path.is_file()) == len(BLOB)


async def test_what_is_there_already_takes_no_room(limited: aiohttp.ClientSession) -> None:
    await set_quota(limited, 1000)
    location = await start_upload(limited, NAME)

    async def stream() -> object:
        yield BLOB

    async with limited.patch(location, data=stream()) as response:
        assert response.status == 202
    async with limited.put(location, params={"digest": digest_of(BLOB)}) as response:
        assert response.status == 201
    assert await used(limited) == 1000


async def test_a_mount_and_a_manifest_count(limited: aiohttp.ClientSession) -> None:
    other = b"y" * 501
    await push_blob(limited, "team/other", other)
    query = {"mount": digest_of(other), "from": "team/other"}
    async with limited.post(f"/v2/{NAME}/blobs/uploads/", params=query) as response:
        assert (await refusal(response))["needed_bytes"] == 501
    index = b'{"schemaVersion":2,"manifests":[],"annotations":{"a":"%s"}}' % (b"b" * 500)
    headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
    async with limited.put(f"/v2/{NAME}/manifests/big", data=index, headers=headers) as response:
        assert (await refusal(response))["needed_bytes"] == len(index)
    async with limited.get(f"/v2/{NAME}/manifests/big") as response:
        assert response.status == 404


async def test_deleting_makes_room_and_pulls_go_on(limited: aiohttp.ClientSession) -> None:
    await set_quota(limited, 0)
    async with limited.get(f"/v2/{NAME}/blobs/{digest_of(BLOB)}") as response:
        assert await response.read() == BLOB
    async with limited.delete(f"/v2/{NAME}/blobs/{digest_of(BLOB)}") as response:
        assert response.status == 202
    assert await used(limited) == 0
    await set_quota(limited, 600)
    await push_blob(limited, NAME, b"z" * 600)
    assert await used(limited) == 600
    await set_quota(limited, None)
    await push_blob(limited, NAME, b"w" * 10_000)


async def test_of_many_at_once_only_what_fits_is_kept(limited: aiohttp.ClientSession) -> None:
    async def push(number: int) -> int:
        content = bytes([number]) * 300
        location = await start_upload(limited, NAME)
        async with limited.put(location, params={"digest": digest_of(content)}, data=content) as response:
            return response.status

    assert Counter(await asyncio.gather(*(push(number) for number in range(8)))) == {201: 1, 403: 7}
    assert await used(limited) == 1300


async def test_a_quota_must_be_a_number_of_bytes(client: aiohttp.ClientSession) -> None:
    await push_blob(client, NAME, BLOB)
    for wrong in (-1, 2**63, "1GB", 1.5, True):
        async with client.patch("/api/v1/repositories/team%2Fapp", json={"quota_bytes": wrong}) as response:
            assert response.status == 400, wrong
