"""Blobs: pushed in every form, read whole and in ranges, mounted, deleted."""

from __future__ import annotations

import email
import hashlib
import os
from pathlib import Path

import aiohttp

from tests.kit.distribution import error_code, push_blob, start_upload
from tests.kit.images import digest_of
from tests.kit.server import Registry

CONTENT = bytes(range(256)) * 40


async def test_a_blob_comes_back_as_it_was_pushed(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "team/app", CONTENT)
    async with client.get(f"/v2/team/app/blobs/{digest}") as response:
        assert response.status == 200
        assert await response.read() == CONTENT
        assert response.headers["Docker-Content-Digest"] == digest
        assert response.headers["Content-Length"] == str(len(CONTENT))
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Docker-Distribution-API-Version"] == "registry/2.0"
        assert response.headers["ETag"] == f'"{digest}"'
        assert "Content-Encoding" not in response.headers


async def test_head_tells_the_size_without_a_body(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "team/app", CONTENT)
    async with client.head(f"/v2/team/app/blobs/{digest}", headers={"Range": "bytes=0-1"}) as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(len(CONTENT))
        assert response.headers["Docker-Content-Digest"] == digest


async def test_a_blob_of_nothing(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "team/app", b"")
    async with client.get(f"/v2/team/app/blobs/{digest}") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == "0"


async def test_a_known_blob_is_not_sent_again(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "team/app", CONTENT)
    async with client.get(
        f"/v2/team/app/blobs/{digest}", headers={"If-None-Match": f'"{digest}"'}
    ) as response:
        assert response.status == 304
        assert await response.read() == b""
        assert response.headers["ETag"] == f'"{digest}"'


async def test_one_post_with_the_digest_is_enough(client: aiohttp.ClientSession) -> None:
    digest = digest_of(CONTENT)
    async with client.post("/v2/a/blobs/uploads/", params={"digest": digest}, data=CONTENT) as response:
        assert response.status == 201
        assert response.headers["Location"] == f"/v2/a/blobs/{digest}"
        assert response.headers["Docker-Content-Digest"] == digest
    async with client.get(f"/v2/a/blobs/{digest}") as response:
        assert await response.read() == CONTENT


async def test_sha512_is_taken_and_kept(client: aiohttp.ClientSession) -> None:
    digest = "sha512:" + hashlib.sha512(CONTENT).hexdigest()
    location = await start_upload(client, "a")
    async with client.put(location, params={"digest": digest}, data=CONTENT) as response:
        assert response.status == 201
        assert response.headers["Docker-Content-Digest"] == digest
    async with client.get(f"/v2/a/blobs/{digest}") as response:
        assert await response.read() == CONTENT


async def test_one_range(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    for wanted, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=10000-", 10000, 10239),
        ("bytes=-40", 10200, 10239),
        ("bytes=-99999", 0, 10239),
        ("bytes=10200-99999", 10200, 10239),
    ):
        async with client.get(f"/v2/a/blobs/{digest}", headers={"Range": wanted}) as response:
            assert response.status == 206, wanted
            assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
            assert await response.read() == CONTENT[first : last + 1]
    for wanted in ("bytes=10240-", "bytes=500-0", "bytes=99999-100000", "bytes=-0"):
        async with client.get(f"/v2/a/blobs/{digest}", headers={"Range": wanted}) as response:
            assert response.status == 416, wanted
            assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
    for wanted in ("bytes=abc", "items=0-1", "bytes=", "0-5", "bytes=1-2-3"):
        async with client.get(f"/v2/a/blobs/{digest}", headers={"Range": wanted}) as response:
            assert (response.status, await response.read()) == (200, CONTENT), wanted


async def test_several_ranges_come_in_parts(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    headers = {"Range": "bytes=0-9, 100-119,-5, 99999-"}
    async with client.get(f"/v2/a/blobs/{digest}", headers=headers) as response:
        assert response.status == 206
        body = await response.read()
        assert response.headers["Content-Length"] == str(len(body))
        kind = response.headers["Content-Type"]
    assert kind.startswith("multipart/byteranges")
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    parts = message.get_payload()
    assert [part["Content-Range"] for part in parts] == [
        "bytes 0-9/10240",
        "bytes 100-119/10240",
        "bytes 10235-10239/10240",
    ]
    boundary = kind.partition("boundary=")[2].encode()
    raw = [piece.partition(b"\r\n\r\n")[2][:-2] for piece in body.split(b"--" + boundary)[1:-1]]
    assert raw == [CONTENT[:10], CONTENT[100:120], CONTENT[-5:]]


async def test_ranges_that_repeat_the_blob_do_not_multiply_it(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    headers = {"Range": "bytes=" + ",".join(["0-"] * 500)}
    async with client.get(f"/v2/a/blobs/{digest}", headers=headers) as response:
        assert (response.status, await response.read()) == (200, CONTENT)


async def test_hundreds_of_ranges_in_a_long_header(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    spans = [f"{start}-{start + 1}" for start in range(0, 10240, 12)]
    header = "bytes=" + ",".join(spans)
    assert len(header) > 8190
    async with client.get(f"/v2/a/blobs/{digest}", headers={"Range": header}) as response:
        assert response.status == 206
        assert (await response.read()).count(b"Content-Range") == len(spans)


async def test_if_range(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    for condition, status in ((f'"{digest}"', 206), ('"other"', 200), (f'W/"{digest}"', 200)):
        headers = {"Range": "bytes=0-1", "If-Range": condition}
        async with client.get(f"/v2/a/blobs/{digest}", headers=headers) as response:
            assert response.status == status, condition


async def test_a_malformed_digest_is_named(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", CONTENT)
    for digest in ("sha256:short", "sha256:" + "A" * 64, "nonsense", "md5:" + "a" * 32):
        async with client.get(f"/v2/a/blobs/{digest}") as response:
            assert (response.status, error_code(await response.read())) == (400, "DIGEST_INVALID"), digest


async def test_a_blob_is_seen_only_where_it_was_pushed(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    await push_blob(client, "b", b"other")
    async with client.get(f"/v2/b/blobs/{digest}") as response:
        assert response.status == 404
        assert error_code(await response.read()) == "BLOB_UNKNOWN"


async def test_deleting_hides_at_once_here_and_not_elsewhere(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    await push_blob(client, "b", CONTENT)
    async with client.delete(f"/v2/a/blobs/{digest}") as response:
        assert response.status == 202
    async with client.head(f"/v2/a/blobs/{digest}") as response:
        assert response.status == 404
    async with client.delete(f"/v2/a/blobs/{digest}") as response:
        assert response.status == 404
    async with client.get(f"/v2/b/blobs/{digest}") as response:
        assert await response.read() == CONTENT
    await push_blob(client, "a", CONTENT)
    async with client.get(f"/v2/a/blobs/{digest}") as response:
        assert await response.read() == CONTENT


async def test_the_same_bytes_are_stored_once(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        await push_blob(client, name, CONTENT)
    assert len([path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()]) == 1


async def test_mounting(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    async with client.post("/v2/b/blobs/uploads/", params={"mount": digest, "from": "a"}) as response:
        assert response.status == 201
        assert response.headers["Location"] == f"/v2/b/blobs/{digest}"
        assert response.headers["Docker-Content-Digest"] == digest
    async with client.get(f"/v2/b/blobs/{digest}") as response:
        assert await response.read() == CONTENT


async def test_mounting_from_wherever_it_is(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", CONTENT)
    async with client.post("/v2/b/blobs/uploads/", params={"mount": digest}) as response:
        assert response.status == 201


async def test_what_cannot_be_mounted_begins_an_upload(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", b"something else")
    digest = digest_of(CONTENT)
    for source in ("a", "nowhere", "../etc", "UPPER", ""):
        async with client.post("/v2/b/blobs/uploads/", params={"mount": digest, "from": source}) as response:
            assert response.status == 202, source
            location = response.headers["Location"]
    async with client.put(location, params={"digest": digest}, data=CONTENT) as response:
        assert response.status == 201


async def test_a_large_blob_by_chunked_transfer(client: aiohttp.ClientSession) -> None:
    content = os.urandom(5 << 20)

    async def pieces():
        for start in range(0, len(content), 300_000):
            yield content[start : start + 300_000]

    location = await start_upload(client, "a")
    async with client.patch(location, data=pieces()) as response:
        assert response.status == 202
        assert response.headers["Range"] == f"0-{len(content) - 1}"
        location = response.headers["Location"]
    digest = digest_of(content)
    async with client.put(location, params={"digest": digest}) as response:
        assert response.status == 201
    async with client.get(f"/v2/a/blobs/{digest}") as response:
        assert await response.read() == content
    async with client.get(f"/v2/a/blobs/{digest}", headers={"Range": "bytes=1000000-3000000"}) as response:
        assert await response.read() == content[1_000_000:3_000_001]


async def test_nobody_is_challenged(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    digest = await push_blob(client, "there", CONTENT)
    seen = []
    for name in ("there", "not-there"):
        async with nobody.get(f"/v2/{name}/blobs/{digest}") as response:
            body = (await response.read()).decode().replace(name, "NAME")
            challenge = response.headers["WWW-Authenticate"].replace(name, "NAME")
            seen.append((response.status, body, challenge))
    assert seen[0] == seen[1]
    assert seen[0][0] == 401
    assert f'realm="{registry.url}/token"' in seen[0][2]
    assert 'scope="repository:NAME:pull"' in seen[0][2]


async def bearer(client: aiohttp.ClientSession, scope: str) -> dict[str, str]:
    async with client.get("/token", params={"service": "seatrial", "scope": scope}) as response:
        return {"Authorization": f"Bearer {(await response.json())['token']}"}


async def test_a_registry_token_mounts_what_its_account_may_read(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    digest = await push_blob(client, "a", CONTENT)
    headers = await bearer(client, "repository:b:pull,push")
    for params in ({"mount": digest}, {"mount": digest, "from": "a"}):
        async with client.post("/v2/b/blobs/uploads/", params=params, headers=headers) as response:
            assert response.status == 201
    # An API token of fewer repositories mounts from those only, and hears nothing of the others.
    async with client.post(
        "/api/v1/tokens", json={"name": "b only", "scopes": ["repository:b:pull,push"]}
    ) as response:
        assert response.status == 201, await response.text()
        narrow = (await response.json())["token"]
    other = await push_blob(client, "a", b"not for b")
    async with registry.client(narrow) as limited:
        for headers in ({}, await bearer(limited, "repository:b:pull,push repository:a:pull")):
            for params in ({"mount": other}, {"mount": other, "from": "a"}):
                async with limited.post("/v2/b/blobs/uploads/", params=params, headers=headers) as response:
                    assert response.status == 202
