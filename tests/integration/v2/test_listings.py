"""Lists: ``/v2/`` itself, tags, catalog and referrers, with their pages."""

from __future__ import annotations

import json

import aiohttp
import pytest
from sqlalchemy import update
from yarl import URL

from registry.db.content import repositories
from registry.db.engine import move_epoch
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    push_small,
    put_manifest,
    small_index,
    small_manifest,
)
from tests.kit.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of
from tests.kit.server import Registry


async def test_the_base(client: aiohttp.ClientSession, nobody: aiohttp.ClientSession) -> None:
    for path in ("/v2/", "/v2"):
        async with client.get(path) as response:
            assert (response.status, await response.read()) == (200, b"{}")
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["Docker-Distribution-API-Version"] == "registry/2.0"
        async with client.head(path) as response:
            assert response.status == 200
    async with nobody.get("/v2/") as response:
        assert response.status == 401
        assert response.headers["Docker-Distribution-API-Version"] == "registry/2.0"
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="http://')
        assert "scope" not in response.headers["WWW-Authenticate"]


async def follow(client: aiohttp.ClientSession, path: str, member: str) -> list[list[str]]:
    pages = []
    while path:
        async with client.get(path) as response:
            assert response.status == 200
            pages.append((await response.json())[member])
            link = response.headers.get("Link", "")
            path = link.partition(">")[0].removeprefix("<")
            assert not link or link.endswith('; rel="next"')
    return pages


async def test_tags_in_bytewise_order_and_pages(client: aiohttp.ClientSession) -> None:
    for tag in ("b", "a", "B", "_x", "1.0", "1.0-rc", "a.b"):
        await push_small(client, "team/app", tag)
    ordered = ["1.0", "1.0-rc", "B", "_x", "a", "a.b", "b"]
    async with client.get("/v2/team/app/tags/list") as response:
        assert json.loads(await response.read()) == {"name": "team/app", "tags": ordered}
        assert "Link" not in response.headers
        assert response.headers["Content-Type"] == "application/json"
    assert await follow(client, "/v2/team/app/tags/list?n=3", "tags") == [
        ordered[:3],
        ordered[3:6],
        ordered[6:],
    ]
    assert await follow(client, "/v2/team/app/tags/list?n=7", "tags") == [ordered]
    async with client.get("/v2/team/app/tags/list?last=a.a") as response:
        assert (await response.json())["tags"] == ["a.b", "b"]
    async with client.get("/v2/team/app/tags/list?n=0") as response:
        assert (await response.json())["tags"] == []
        assert "Link" not in response.headers
    async with client.get("/v2/team/app/tags/list?n=" + "9" * 40) as response:
        assert (await response.json())["tags"] == ordered
    for bad in ("-1", "x", "1.5", "", "%D9%A1"):
        async with client.get(f"/v2/team/app/tags/list?n={bad}") as response:
            assert response.status == 400
            assert error_code(await response.read()) == "PAGINATION_NUMBER_INVALID"
    async with client.get("/v2/none/tags/list") as response:
        assert response.status == 404
        assert error_code(await response.read()) == "NAME_UNKNOWN"


async def test_the_catalog_has_what_the_caller_may_pull(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, registry: Registry
) -> None:
    for name in ("z", "team/b", "team/a"):
        await push_blob(client, name, b"x")
    assert await follow(client, "/v2/_catalog", "repositories") == [["team/a", "team/b", "z"]]
    assert await follow(client, "/v2/_catalog?n=2", "repositories") == [["team/a", "team/b"], ["z"]]
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        await connection.execute(
            update(repositories).where(repositories.c.name == "team/b").values(visibility="public")
        )
        await move_epoch(connection, "access")
    async with nobody.get("/v2/_catalog") as response:
        assert response.status == 401
        assert 'scope="registry:catalog:*"' in response.headers["WWW-Authenticate"]
    async with nobody.get("/token?service=seatrial&scope=registry:catalog:*") as response:
        token = (await response.json())["token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with nobody.get("/v2/_catalog", headers=headers) as response:
        assert await response.json() == {"repositories": ["team/b"]}


async def test_referrers(client: aiohttp.ClientSession) -> None:
    subject = await push_small(client, "a", "v1")
    about = descriptor(small_manifest(), OCI_MANIFEST)
    signature = small_manifest(subject=about, artifactType="application/x.signature", annotations={"k": "v"})
    sbom = small_manifest(subject=about)
    index = small_index(subject=about)
    for raw, kind in ((signature, OCI_MANIFEST), (sbom, OCI_MANIFEST), (index, OCI_INDEX)):
        response = await put_manifest(client, "a", digest_of(raw), raw, kind)
        assert response.status == 201
        assert response.headers["OCI-Subject"] == subject
    async with client.get(f"/v2/a/referrers/{subject}") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == OCI_INDEX
        assert "OCI-Filters-Applied" not in response.headers
        listed = json.loads(await response.read())
    assert (listed["schemaVersion"], listed["mediaType"]) == (2, OCI_INDEX)
    assert listed["manifests"] == [
        descriptor(signature, OCI_MANIFEST)
        | {"artifactType": "application/x.signature", "annotations": {"k": "v"}},
        descriptor(sbom, OCI_MANIFEST) | {"artifactType": OCI_CONFIG},
        descriptor(index, OCI_INDEX),
    ]
    query = "artifactType=application/x.signature&artifactType=application/x.none"
    async with client.get(f"/v2/a/referrers/{subject}?{query}") as response:
        assert response.headers["OCI-Filters-Applied"] == "artifactType"
        found = json.loads(await response.read())["manifests"]
    assert [one["digest"] for one in found] == [digest_of(signature)]
    async with client.delete(f"/v2/a/manifests/{digest_of(signature)}") as response:
        assert response.status == 202
    async with client.get(f"/v2/a/referrers/{subject}?{query}") as response:
        assert json.loads(await response.read())["manifests"] == []


async def test_referrers_of_the_unknown(client: aiohttp.ClientSession) -> None:
    digest = digest_of(b"unknown")
    await push_blob(client, "a", EMPTY_CONFIG)
    for name in ("a", "no-such-repository"):
        async with client.get(f"/v2/{name}/referrers/{digest}") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == OCI_INDEX
            assert json.loads(await response.read())["manifests"] == []
    for bad in ("latest", "sha256:abc"):
        async with client.get(f"/v2/a/referrers/{bad}") as response:
            assert response.status == 400
            assert error_code(await response.read()) == "DIGEST_INVALID"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_long_lists_of_referrers_have_pages(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    about = descriptor(b"subject", OCI_MANIFEST)
    pushed = []
    for i in range(3):
        raw = small_manifest(subject=about, annotations={"pad": str(i) * 2_000_000}, artifactType="a/b")
        assert (await put_manifest(client, "a", digest_of(raw), raw)).status == 201
        pushed.append(digest_of(raw))
    path = f"/v2/a/referrers/{digest_of(b'subject')}?artifactType=a/b"
    seen = []
    for _ in range(2):
        async with client.get(path) as response:
            body = await response.read()
            assert len(body) <= 4 << 20
            seen += [one["digest"] for one in json.loads(body)["manifests"]]
            link = response.headers.get("Link", "")
            path = link.partition(">")[0].removeprefix("<")
    assert seen == pushed
    assert not path


async def test_odd_characters_in_queries(client: aiohttp.ClientSession) -> None:
    await push_small(client, "a", "v1")
    for text in ("%00", "%ff", "%ED%A0%80", "%C3%A4", "'", "%25", "a%0d%0aX:%20y"):
        for path in (
            f"/v2/a/tags/list?last={text}",
            f"/v2/_catalog?last={text}",
            f"/v2/a/tags/list?n={text}",
            f"/v2/a/referrers/{digest_of(b'x')}?artifactType={text}",
            f"/v2/a/referrers/{digest_of(b'x')}?last={text}",
        ):
            async with client.get(URL(path, encoded=True)) as response:
                assert response.status in (200, 400), (path, await response.text())
                assert "X" not in response.headers
        for query in (f"mount={text}", f"digest={text}", f"digest-algorithm={text}"):
            async with client.post(URL(f"/v2/a/blobs/uploads/?{query}", encoded=True)) as response:
                assert (response.status, error_code(await response.read())) == (400, "DIGEST_INVALID")
        query = f"mount={digest_of(b'x')}&from={text}"
        async with client.post(URL(f"/v2/a/blobs/uploads/?{query}", encoded=True)) as response:
            assert response.status == 202
        raw = small_manifest()
        answer = await put_manifest(client, "a", f"{digest_of(raw)}?tag={text}", raw)
        assert answer.status == 400
