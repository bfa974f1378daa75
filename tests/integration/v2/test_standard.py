"""Lines of the distribution standard that no other file here holds: headers, and odd forms of requests."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.kit.access import ask
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    push_small,
    put_manifest,
    small_index,
    small_manifest,
    start_upload,
)
from tests.kit.images import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of
from tests.kit.rawhttp import connected
from tests.kit.server import Registry, running_registry

EXTERNAL = "registry.example:8443"
BLOB = b"bytes that would get smaller " * 100


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """A registry that knows its name."""
    async with running_registry(
        tmp_path / "data", database_url, external_url=f"https://{EXTERNAL}"
    ) as running:
        yield running


async def test_every_answer_says_which_api_this_is(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    digest = await push_small(client, "a", "v1")
    blob = await push_blob(client, "a", BLOB)
    upload = await start_upload(client, "a")
    seen = set()
    for who, method, path, headers in (
        (client, "GET", "/v2", {}),
        (nobody, "GET", "/v2/", {}),
        (client, "GET", "/v2/a/manifests/v1", {}),
        (client, "HEAD", f"/v2/a/manifests/{digest}", {}),
        (client, "GET", "/v2/a/manifests/v1", {"If-None-Match": f'"{digest}"'}),
        (client, "GET", "/v2/a/manifests/v1", {"If-Match": '"x"'}),
        (client, "GET", f"/v2/a/blobs/{blob}", {}),
        (client, "GET", f"/v2/a/blobs/{blob}", {"Range": "bytes=1-2"}),
        (client, "GET", f"/v2/a/blobs/{blob}", {"Range": "bytes=999999-"}),
        (client, "GET", "/v2/a/manifests/none", {}),
        (client, "GET", "/v2/a/manifests/sha256:bad", {}),
        (client, "GET", "/v2/nothing/here", {}),
        (client, "POST", "/v2/a/tags/list", {}),
        (client, "PUT", "/v2/a/manifests/big", {"Content-Type": OCI_MANIFEST, "Content-Length": "99999999"}),
        (client, "POST", "/v2/a/blobs/uploads/", {}),
        (client, "GET", upload, {}),
        (client, "DELETE", upload, {}),
        (client, "DELETE", "/v2/a/manifests/v1", {}),
    ):
        answer = await ask(who, method, path, headers=headers)
        assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0", (method, path)
        if answer.status >= 400 and method != "HEAD":
            assert answer.headers["Content-Type"] == "application/json"
            assert error_code(answer.body).isupper()
        seen.add(answer.status)
    assert seen == {200, 202, 204, 206, 304, 400, 401, 404, 405, 412, 413, 416}


async def test_whose_content_it_is(client: aiohttp.ClientSession) -> None:
    """``ns`` as containerd sends it: the registry's own name is confirmed, any other changes nothing."""
    digest = await push_small(client, "a", "v1")
    blob = await push_blob(client, "a", BLOB)
    for path in (
        "/v2/a/manifests/v1",
        f"/v2/a/manifests/{digest}",
        f"/v2/a/blobs/{blob}",
        "/v2/a/tags/list",
        f"/v2/a/referrers/{digest}",
    ):
        plain = await ask(client, "GET", path)
        assert "OCI-Namespace" not in plain.headers
        for _ in range(2):  # the second time from memory
            own = await ask(client, "GET", path, params={"ns": EXTERNAL})
            assert (own.status, own.body) == (200, plain.body)
            assert own.headers["OCI-Namespace"] == EXTERNAL
            other = await ask(client, "GET", path, params={"ns": "docker.io", "unknown": "x"})
            assert (other.status, other.body) == (200, plain.body)
            assert "OCI-Namespace" not in other.headers
    odd = await ask(client, "GET", URL(f"/v2/a/manifests/v1?ns={EXTERNAL}%0d%0aX:%20y", encoded=True))
    assert (odd.status, "X" in odd.headers, "OCI-Namespace" in odd.headers) == (200, False, False)


async def test_content_is_never_compressed_on_its_way(client: aiohttp.ClientSession) -> None:
    digest = await push_small(client, "a", "v1", annotations={"pad": "x" * 5000})
    blob = await push_blob(client, "a", BLOB)
    for path in (f"/v2/a/manifests/{digest}", f"/v2/a/blobs/{blob}", "/v2/a/tags/list"):
        for method in ("GET", "HEAD"):
            answer = await ask(client, method, path, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
            assert "Content-Encoding" not in answer.headers
            if method == "GET":
                assert int(answer.headers["Content-Length"]) == len(answer.body)


async def test_head_has_no_body_when_it_is_refused_either(registry: Registry) -> None:
    for path in ("/v2/", "/v2/a/manifests/v1", "/v2/a/blobs/sha256:bad", "/v2/UPPER/tags/list"):
        request = f"HEAD {path} HTTP/1.1\r\nHost: {registry.host}\r\nConnection: close\r\n\r\n"
        async with connected(registry.host) as (reader, writer):
            writer.write(request.encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        assert head.split()[1] in (b"400", b"401"), head
        assert body == b""


async def test_how_an_upload_begins(client: aiohttp.ClientSession) -> None:
    answer = await ask(client, "POST", "/v2/a/blobs/uploads/")
    assert answer.status == 202
    assert answer.headers["Location"].startswith("/v2/a/blobs/uploads/")
    assert answer.headers["Location"].endswith(answer.headers["Docker-Upload-UUID"])
    assert (answer.headers["Range"], answer.headers["Content-Length"], answer.body) == ("0-0", "0", b"")
    # There is no smallest chunk, so none is named.
    assert "OCI-Chunk-Min-Length" not in answer.headers
    digest = digest_of(BLOB)
    path = f"{answer.headers['Location']}?digest={digest}"
    standing = await ask(client, "GET", path)
    assert (standing.status, standing.headers["Range"]) == (204, "0-0")
    for at in range(0, 10, 5):
        headers = {"Content-Range": f"{at}-{at + 4}", "Content-Type": "application/octet-stream"}
        chunk = await ask(
            client, "PATCH", answer.headers["Location"], data=BLOB[at : at + 5], headers=headers
        )
        assert (chunk.status, chunk.headers["Range"]) == (202, f"0-{at + 4}")
        assert chunk.headers["Docker-Upload-UUID"] == answer.headers["Docker-Upload-UUID"]
    done = await ask(client, "PUT", f"{answer.headers['Location']}?a=b&digest={digest}&c=d", data=BLOB[10:])
    assert (done.status, done.headers["Docker-Content-Digest"]) == (201, digest)
    assert (await ask(client, "GET", done.headers["Location"])).body == BLOB


async def test_a_blob_in_one_request_of_any_type(client: aiohttp.ClientSession) -> None:
    digest = "sha512:" + hashlib.sha512(BLOB).hexdigest()
    for content_type in ("application/octet-stream", "text/plain; charset=x", ""):
        headers = {"Content-Type": content_type} if content_type else {}
        answer = await ask(
            client,
            "POST",
            f"/v2/a/blobs/uploads/?digest={digest}",
            data=io.BytesIO(BLOB),
            headers=headers,
            skip_auto_headers=() if content_type else ("Content-Type",),
        )
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
        assert (await ask(client, "GET", answer.headers["Location"])).body == BLOB


async def test_another_digest_may_come_with_the_end_only(client: aiohttp.ClientSession) -> None:
    digest = "sha512:" + hashlib.sha512(BLOB).hexdigest()
    location = await start_upload(client, "a")
    await ask(client, "PATCH", location, data=BLOB[:50])
    done = await ask(client, "PUT", location, params={"digest": digest}, data=BLOB[50:])
    assert (done.status, done.headers["Docker-Content-Digest"]) == (201, digest)
    assert (await ask(client, "GET", f"/v2/a/blobs/{digest}")).body == BLOB
    assert (await ask(client, "HEAD", f"/v2/a/blobs/{digest_of(BLOB)}")).status == 404


async def test_a_mount_with_an_origin(client: aiohttp.ClientSession) -> None:
    digest = await push_blob(client, "a", BLOB)
    query = {"mount": digest, "from": "a", "origin": "other.example"}
    answer = await ask(client, "POST", "/v2/b/blobs/uploads/", params=query)
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/b/blobs/{digest}")
    assert answer.headers["Docker-Content-Digest"] == digest


async def test_many_tags_with_one_push(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    raw = small_manifest()
    digest = "sha512:" + hashlib.sha512(raw).hexdigest()
    tags = [f"t{number}" for number in range(12)]
    query = "&".join(f"tag={tag}" for tag in tags)
    answer = await put_manifest(client, "a", f"{digest}?{query}", raw)
    assert answer.status == 201
    assert answer.headers["OCI-Tag"].split(", ") == tags
    for method in ("GET", "HEAD"):
        got = await ask(client, method, "/v2/a/manifests/t7")
        assert got.headers["Docker-Content-Digest"] == digest, "a tag remembers the digest it was given"
    refused = await put_manifest(client, "a", f"{digest}?tag=good&tag=.bad", raw)
    assert (refused.status, error_code(refused.body)) == (400, "TAG_INVALID")
    assert (await ask(client, "HEAD", "/v2/a/manifests/good")).status == 404


async def test_a_subject_is_told_for_images_and_indexes_by_tag_and_digest(
    client: aiohttp.ClientSession,
) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    about = descriptor(b"never pushed", OCI_MANIFEST)
    for raw, media_type in (
        (small_manifest(subject=about), OCI_MANIFEST),
        (small_index(subject=about), OCI_INDEX),
    ):
        for reference in ("v1", digest_of(raw)):
            answer = await put_manifest(client, "a", reference, raw, media_type)
            assert (answer.status, answer.headers["OCI-Subject"]) == (201, about["digest"])


async def test_what_clients_add_to_manifests_is_kept(client: aiohttp.ClientSession) -> None:
    """Unknown members, ``data``, types that nobody knows, no layers at all, an index of nothing."""
    await push_blob(client, "a", EMPTY_CONFIG)
    odd = json.loads(small_manifest(artifactType="application/x.never-heard-of", surprise={"a": [1, None]}))
    odd["config"] |= {"data": "e30=", "mediaType": "application/x.config+json"}
    for raw, media_type in (
        (json.dumps(odd).encode(), OCI_MANIFEST),
        (small_manifest(), OCI_MANIFEST),
        (small_index(), OCI_INDEX),
    ):
        assert (await put_manifest(client, "a", "odd", raw, media_type)).status == 201
        assert (await ask(client, "GET", "/v2/a/manifests/odd")).body == raw


async def test_deleting_is_seen_at_once(client: aiohttp.ClientSession) -> None:
    digest = await push_small(client, "a", "v1")
    blob = await push_blob(client, "a", BLOB)
    for path in (f"/v2/a/manifests/{digest}", f"/v2/a/blobs/{blob}"):
        for _ in range(2):
            assert (await ask(client, "GET", path)).status == 200
        assert (await ask(client, "DELETE", path)).status == 202
        for method in ("HEAD", "GET", "DELETE"):
            assert (await ask(client, method, path)).status == 404
    assert (await ask(client, "HEAD", "/v2/a/manifests/v1")).status == 404
    assert (await ask(client, "GET", "/v2/a/tags/list")).json == {"name": "a", "tags": []}
