"""Upload sessions: chunks, streams, what is refused, and that of many at once exactly one wins."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import func, select, update

from registry.content import uploads
from registry.db.content import upload_sessions
from registry.db.types import db_time
from tests.kit.distribution import error_code, start_upload
from tests.kit.images import digest_of
from tests.kit.server import Registry

CONTENT = bytes(range(256)) * 40


async def test_chunks_in_order(client: aiohttp.ClientSession) -> None:
    location = await start_upload(client, "team/app")
    for start in range(0, len(CONTENT), 4000):
        chunk = CONTENT[start : start + 4000]
        headers = {"Content-Range": f"{start}-{start + len(chunk) - 1}"}
        async with client.patch(location, data=chunk, headers=headers) as response:
            assert response.status == 202
            assert response.headers["Range"] == f"0-{start + len(chunk) - 1}"
            assert response.headers["Location"] == location
            assert response.headers["Docker-Upload-UUID"] == location.rpartition("/")[2]
    digest = digest_of(CONTENT)
    async with client.put(location, params={"digest": digest}) as response:
        assert response.status == 201
        assert response.headers["Location"] == f"/v2/team/app/blobs/{digest}"
    async with client.get(f"/v2/team/app/blobs/{digest}") as response:
        assert await response.read() == CONTENT


async def test_an_upload_tells_where_it_stands(client: aiohttp.ClientSession) -> None:
    async with client.post("/v2/a/blobs/uploads/") as started:
        assert started.headers["Location"].startswith("/v2/a/blobs/uploads/")
        assert started.headers["Range"] == "0-0"
        assert started.headers["Content-Length"] == "0"
        location = started.headers["Location"]
    async with client.get(location, params={"digest": digest_of(CONTENT)}) as response:
        assert (response.status, response.headers["Range"]) == (204, "0-0")
        assert response.headers["Location"] == location
    async with client.patch(location, data=CONTENT[:5000]) as response:
        assert response.status == 202
    async with client.get(location) as response:
        assert (response.status, response.headers["Range"]) == (204, "0-4999")


async def test_the_last_chunk_may_come_with_the_put(client: aiohttp.ClientSession) -> None:
    location = await start_upload(client, "a")
    async with client.patch(location, data=CONTENT[:5000]) as response:
        assert response.status == 202
    digest = digest_of(CONTENT)
    async with client.put(
        location,
        params={"digest": digest},
        data=CONTENT[5000:],
        headers={"Content-Range": f"5000-{len(CONTENT) - 1}"},
    ) as response:
        assert response.status == 201


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_chunk_out_of_order_says_where_to_go_on(client: aiohttp.ClientSession, method: str) -> None:
    location = await start_upload(client, "a")
    async with client.patch(location, data=CONTENT[:5000]) as response:
        assert response.status == 202
    for header in ("6000-10239", "0-4239"):
        first, last = map(int, header.split("-"))
        async with client.request(
            method,
            location,
            params={"digest": digest_of(CONTENT)},
            data=CONTENT[first : last + 1],
            headers={"Content-Range": header},
        ) as response:
            assert response.status == 416
            assert error_code(await response.read()) == "RANGE_INVALID"
            assert response.headers["Range"] == "0-4999"
            assert response.headers["Location"] == location
    async with client.get(location) as response:
        assert response.headers["Range"] == "0-4999"


async def test_a_content_range_that_is_none(client: aiohttp.ClientSession) -> None:
    location = await start_upload(client, "a")
    for header in ("bytes 0-9/10", "0-9/10", "9-0", "-1-9", "a-b", "0", "0-" + "9" * 30):
        async with client.patch(location, data=b"0123456789", headers={"Content-Range": header}) as response:
            assert (response.status, error_code(await response.read())) == (400, "BLOB_UPLOAD_INVALID"), (
                header
            )
    async with client.get(location) as response:
        assert response.headers["Range"] == "0-0"


async def test_a_body_of_another_length_than_its_range(client: aiohttp.ClientSession) -> None:
    async def pieces():
        yield b"0123"
        yield b"456789"

    location = await start_upload(client, "a")
    for header in ("0-4", "0-20"):
        async with client.patch(location, data=b"0123456789", headers={"Content-Range": header}) as response:
            assert response.status == 400
            assert error_code(await response.read()) == "SIZE_INVALID"
    async with client.get(location) as response:
        assert response.headers["Range"] == "0-0"
    # Without a Content-Length it shows only while the bytes arrive: those within the range stay.
    async with client.patch(location, data=pieces(), headers={"Content-Range": "0-4"}) as response:
        assert response.status == 400
        assert error_code(await response.read()) == "SIZE_INVALID"
    async with client.get(location) as response:
        assert response.headers["Range"] in ("0-0", "0-3")  # by what arrived together


async def test_a_wrong_digest_stores_nothing(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    location = await start_upload(client, "a")
    wrong = digest_of(b"something else")
    async with client.put(location, params={"digest": wrong}, data=CONTENT) as response:
        assert response.status == 400
        assert error_code(await response.read()) == "DIGEST_INVALID"
    for digest in (wrong, digest_of(CONTENT)):
        async with client.head(f"/v2/a/blobs/{digest}") as response:
            assert response.status == 404
    async with client.get(location) as response:
        assert response.status == 404
    assert [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()] == []


NO_DIGESTS = [
    "",
    "digest=",
    "digest=nonsense",
    "digest=sha256:" + "A" * 64,
    "digest=blake3:" + "a" * 64,
    f"digest={digest_of(CONTENT)}&digest={digest_of(CONTENT)}",
]


async def test_a_digest_that_cannot_be_used_is_refused_first(client: aiohttp.ClientSession) -> None:
    location = await start_upload(client, "a")
    for query in NO_DIGESTS:
        async with client.put(f"{location}?{query}", data=CONTENT) as response:
            assert (response.status, error_code(await response.read())) == (400, "DIGEST_INVALID"), query
    async with client.get(location) as response:
        assert response.headers["Range"] == "0-0"


async def test_one_post_with_a_wrong_digest_leaves_no_session(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    params = {"digest": digest_of(b"other")}
    async with client.post("/v2/a/blobs/uploads/", params=params, data=CONTENT) as response:
        assert response.status == 400
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(upload_sessions))).scalar() == 0
    assert [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()] == []


async def test_cancelling(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    location = await start_upload(client, "a")
    async with client.patch(location, data=CONTENT) as response:
        assert response.status == 202
    async with client.delete(location) as response:
        assert response.status == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        async with client.request(method, location, params={"digest": digest_of(CONTENT)}) as response:
            assert response.status == 404
            assert error_code(await response.read()) == "BLOB_UPLOAD_UNKNOWN"
    assert [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()] == []


async def test_a_session_belongs_to_its_repository(client: aiohttp.ClientSession) -> None:
    location = await start_upload(client, "a")
    await start_upload(client, "b")
    elsewhere = location.replace("/v2/a/", "/v2/b/")
    for name in (elsewhere, location.replace("/v2/a/", "/v2/none/"), "/v2/a/blobs/uploads/nonsense"):
        async with client.patch(name, data=CONTENT) as response:
            assert response.status == 404
    async with client.get(location) as response:
        assert response.headers["Range"] == "0-0"


async def test_compressed_bodies_are_not_taken(client: aiohttp.ClientSession) -> None:
    location = await start_upload(client, "a")
    async with client.patch(location, data=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}) as response:
        assert response.status == 415
    async with client.get(location) as response:
        assert response.headers["Range"] == "0-0"


async def test_a_session_with_an_unknown_algorithm(client: aiohttp.ClientSession) -> None:
    async with client.post("/v2/a/blobs/uploads/", params={"digest-algorithm": "md5"}) as response:
        assert response.status == 400
        assert error_code(await response.read()) == "DIGEST_INVALID"
    async with client.post("/v2/a/blobs/uploads/", params={"digest-algorithm": "sha512"}) as response:
        assert response.status == 202


async def test_expired_sessions_are_unknown_and_swept(
    client: aiohttp.ClientSession, registry: Registry, tmp_path: Path
) -> None:
    assert registry.services is not None
    database, store = registry.services.database, registry.services.blobs
    old, new = await start_upload(client, "a"), await start_upload(client, "a")
    async with client.patch(old, data=CONTENT) as response:
        assert response.status == 202
    async with database.write() as connection:
        await connection.execute(
            update(upload_sessions)
            .where(upload_sessions.c.id == old.rpartition("/")[2])
            .values(expires_at=db_time())
        )
    async with client.get(old) as response:
        assert response.status == 404
    assert await uploads.sweep_expired(database, store) == 1
    assert await uploads.sweep_expired(database, store) == 0
    async with client.get(new) as response:
        assert response.status == 204
    assert len(list((tmp_path / "data" / "blobs" / "uploads").iterdir())) == 1


async def test_too_large_a_blob_is_refused_before_it_is_read(
    registry: Registry, tmp_path: Path, database_url: str
) -> None:
    assert registry.services is not None
    limit = registry.services.settings.blob_max_bytes
    async with registry.client() as client:
        location = await start_upload(client, "a")
        headers = {"Content-Length": str(limit + 1), "Expect": "100-continue"}
        async with client.patch(location, headers=headers, expect100=True, data=b"") as response:
            assert response.status == 413
            (entry,) = (await response.json())["errors"]
            assert f"this blob has {limit + 1} bytes and {limit} are the limit" in entry["message"]
        async with client.get(location) as response:
            assert response.status == 404, "what can never become a blob holds no room"


async def test_another_accounts_session_is_unknown(client: aiohttp.ClientSession, registry: Registry) -> None:
    location = await start_upload(client, "a")
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        await connection.execute(update(upload_sessions).values(account_id=None))
    async with client.patch(location, data=CONTENT) as response:
        assert response.status == 404
