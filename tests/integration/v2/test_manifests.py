"""Manifests and tags: kept byte for byte, refused with a reason, moved and deleted consistently."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select
from yarl import URL

from registry.content import references, repositories, taghistory
from registry.content.references import MISSING_MAX
from registry.db.content import tag_history
from registry.db.events import events
from tests.kit.distribution import (
    EMPTY_CONFIG,
    error_code,
    push_blob,
    push_image,
    push_small,
    put_manifest,
    small_index,
    small_manifest,
)
from tests.kit.images import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    busybox_image,
    descriptor,
    digest_of,
    make_index,
    to_json,
)
from tests.kit.server import Registry

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


async def test_bytes_come_back_as_they_were_pushed(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "team/app", EMPTY_CONFIG)
    raw = b"  " + small_manifest().replace(b",", b" ,\n") + b"\n"
    response = await put_manifest(client, "team/app", "v1", raw, OCI_MANIFEST + "; charset=utf-8")
    digest = digest_of(raw)
    assert response.status == 201
    assert response.headers["Location"] == f"/v2/team/app/manifests/{digest}"
    assert response.headers["Docker-Content-Digest"] == digest
    for reference in ("v1", digest):
        async with client.get(f"/v2/team/app/manifests/{reference}", headers={"Accept": "text/html"}) as got:
            assert await got.read() == raw
            assert got.headers["Content-Type"] == OCI_MANIFEST
            assert got.headers["Docker-Content-Digest"] == digest
            assert got.headers["Content-Length"] == str(len(raw))
        async with client.head(f"/v2/team/app/manifests/{reference}") as got:
            assert (got.status, got.headers["Content-Length"]) == (200, str(len(raw)))
            assert got.headers["Content-Type"] == OCI_MANIFEST
        known = {"If-None-Match": f'"{digest}"'}
        async with client.get(f"/v2/team/app/manifests/{reference}", headers=known) as got:
            assert (got.status, await got.read()) == (304, b"")


async def test_an_index_and_its_children(client: aiohttp.ClientSession) -> None:
    index = make_index(busybox_image(platform="linux/amd64"), busybox_image(platform="linux/arm64"))
    digest = await push_image(client, "multi", "latest", index)
    async with client.get("/v2/multi/manifests/latest") as got:
        assert got.headers["Content-Type"] == OCI_INDEX
        assert await got.read() == index.manifest
    for child in json.loads(index.manifest)["manifests"]:
        async with client.head(f"/v2/multi/manifests/{child['digest']}") as got:
            assert got.status == 200
    async with client.head(f"/v2/multi/manifests/{digest}") as got:
        assert got.status == 200


async def test_sha512_by_digest(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    raw = small_manifest()
    digest = "sha512:" + hashlib.sha512(raw).hexdigest()
    response = await put_manifest(client, "a", digest, raw)
    assert (response.status, response.headers["Docker-Content-Digest"]) == (201, digest)
    async with client.get(f"/v2/a/manifests/{digest}") as got:
        assert await got.read() == raw


async def test_large_manifests_by_chunked_transfer(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)

    async def put(size: int) -> int:
        raw = small_manifest(annotations={"pad": "x" * size})

        async def pieces():
            for start in range(0, len(raw), 100_000):
                yield raw[start : start + 100_000]

        async with client.put(
            "/v2/a/manifests/big", data=pieces(), headers={"Content-Type": OCI_MANIFEST}
        ) as response:
            await response.read()
            return response.status

    assert await put(4_000_000) == 201
    assert await put(4_300_000) == 413
    raw = small_manifest(annotations={"pad": "x" * 4_300_000})
    response = await put_manifest(client, "a", "big2", raw)
    assert response.status == 413
    said = json.loads(response.body)["errors"][0]["message"]
    assert f"this body has {len(raw)} bytes and 4194304 are the limit" in said
    assert "SEATRIAL_MANIFEST_MAX_BYTES" in said
    async with client.get("/v2/a/manifests/big2") as got:
        assert got.status == 404


CONFIG = descriptor(EMPTY_CONFIG, OCI_CONFIG)
BASE: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": []}


NO_MANIFESTS = [
    (b"", OCI_MANIFEST),
    (b"[]", OCI_MANIFEST),
    (b"null", OCI_MANIFEST),
    (b"not json", OCI_MANIFEST),
    (to_json(BASE)[:-1] + b',"layers":[]}', OCI_MANIFEST),
    (b"\xef\xbb\xbf" + to_json(BASE), OCI_MANIFEST),
    (to_json(BASE).decode().encode("utf-16"), OCI_MANIFEST),
    (to_json(BASE)[:-1] + b',"x":"\xff"}', OCI_MANIFEST),
    (to_json(BASE)[:-1] + b',"x":"\\ud800"}', OCI_MANIFEST),
    (to_json(BASE)[:-1] + b',"x":NaN}', OCI_MANIFEST),
    (to_json(BASE)[:-1] + b',"x":' + b"9" * 5000 + b"}", OCI_MANIFEST),
    (to_json(BASE)[:-1] + b',"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", OCI_MANIFEST),
    (to_json(BASE | {"mediaType": OCI_INDEX}), OCI_MANIFEST),
    (to_json(BASE), "application/json"),
    (to_json(BASE), OCI_INDEX),
    (to_json(BASE | {"schemaVersion": 1}), OCI_MANIFEST),
    (to_json(BASE | {"schemaVersion": 3}), OCI_MANIFEST),
    (to_json(BASE | {"manifests": []}), OCI_MANIFEST),
    (to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "layers": []}), OCI_INDEX),
    (to_json(BASE | {"config": CONFIG | {"size": -1}}), OCI_MANIFEST),
    (to_json(BASE | {"config": CONFIG | {"size": True}}), OCI_MANIFEST),
    (to_json(BASE | {"config": CONFIG | {"digest": "sha256:../../../etc/passwd"}}), OCI_MANIFEST),
    (to_json(BASE | {"config": None}), OCI_MANIFEST),
    (to_json(BASE | {"layers": {}}), OCI_MANIFEST),
    (to_json(BASE | {"annotations": {"a": 1}}), OCI_MANIFEST),
    (b'{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+prettyjws"),
]


async def test_what_is_no_manifest_is_refused(registry_once: aiohttp.ClientSession) -> None:
    for raw, content_type in NO_MANIFESTS:
        answer = await put_manifest(registry_once, "a", "bad", raw, content_type)
        assert (answer.status, error_code(answer.body)) == (400, "MANIFEST_INVALID"), (raw[:200], answer.body)
    async with registry_once.get("/v2/a/tags/list") as got:
        assert got.status == 404, "not even the repository was made"


async def test_references_must_be_in_this_repository(client: aiohttp.ClientSession) -> None:
    layer = b"a layer"
    await push_blob(client, "a", EMPTY_CONFIG)
    await push_blob(client, "b", layer)
    raw = small_manifest([layer])
    response = await put_manifest(client, "a", "v1", raw)
    assert response.status == 400
    document = json.loads(response.body)
    assert document["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    assert document["errors"][0]["detail"] == [{"digest": digest_of(layer)}]
    async with client.get("/v2/a/tags/list") as got:
        assert (await got.json())["tags"] == []
    response = await put_manifest(client, "fresh", "v1", raw)
    assert response.status == 400
    async with client.get("/v2/fresh/tags/list") as got:
        assert got.status == 404, "a refused first push must not make the repository"
    cached = descriptor(layer, "application/x-layer")
    cache = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [cached]})
    answer = await put_manifest(client, "a", "cache", cache, OCI_INDEX)
    assert (answer.status, error_code(answer.body)) == (400, "MANIFEST_BLOB_UNKNOWN")


async def test_manifests_that_an_index_lists_may_be_missing(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    child, elsewhere = small_manifest(), small_manifest(annotations={"in": "b"})
    await push_blob(client, "b", EMPTY_CONFIG)
    assert (await put_manifest(client, "b", "1", elsewhere)).status == 201
    index = small_index(child, elsewhere, subject=descriptor(b"absent too", OCI_MANIFEST))
    answer = await put_manifest(client, "a", "index", index, OCI_INDEX)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, digest_of(b"absent too"))
    for reference in ("index", digest_of(index)):
        async with client.get(f"/v2/a/manifests/{reference}") as got:
            assert await got.read() == index
    for missing in (child, elsewhere):
        async with client.head(f"/v2/a/manifests/{digest_of(missing)}") as got:
            assert got.status == 404
    assert (await put_manifest(client, "a", digest_of(child), child)).status == 201
    async with client.get(f"/v2/a/manifests/{digest_of(child)}") as got:
        assert await got.read() == child


async def test_how_much_may_be_missing(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "WAITING_MAX", 4)
    await push_blob(client, "a", EMPTY_CONFIG)
    many = [f"missing {number}".encode() for number in range(MISSING_MAX + 1)]
    answer = await put_manifest(client, "a", "many", small_index(*many), OCI_INDEX)
    assert (answer.status, error_code(answer.body)) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert "256 manifests may be missing" in answer.body.decode()
    assert (await put_manifest(client, "a", "fewer", small_index(*many[1:]), OCI_INDEX)).status == 201
    child = small_manifest()
    for number in range(references.WAITING_MAX):
        index = small_index(child, annotations={"n": str(number)})
        assert (await put_manifest(client, "a", "waits", index, OCI_INDEX)).status == 201
    one_more = small_index(child, annotations={"n": "one more"})
    answer = await put_manifest(client, "a", "waits", one_more, OCI_INDEX)
    assert (answer.status, error_code(answer.body)) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert "4 indexes wait for it already" in answer.body.decode()
    assert (await put_manifest(client, "a", "again", index, OCI_INDEX)).status == 201
    assert (await put_manifest(client, "a", digest_of(child), child)).status == 201
    assert (await put_manifest(client, "a", "waits", one_more, OCI_INDEX)).status == 201


async def test_a_wrong_size_is_refused(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    raw = to_json(BASE | {"config": CONFIG | {"size": 5}})
    response = await put_manifest(client, "a", "v1", raw)
    assert response.status == 400
    assert error_code(response.body) == "MANIFEST_INVALID"


async def test_foreign_layers_and_subjects_are_never_required(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    foreign = descriptor(b"far away", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    subject = descriptor(b"not here", OCI_MANIFEST)
    raw = to_json(BASE | {"layers": [foreign | {"urls": ["https://x.example/l"]}], "subject": subject})
    response = await put_manifest(client, "a", "v1", raw)
    assert response.status == 201
    assert response.headers["OCI-Subject"] == digest_of(b"not here")


async def test_a_build_cache_index_lists_layers(client: aiohttp.ClientSession) -> None:
    layer = b"cached layer"
    await push_blob(client, "a", layer)
    raw = to_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(layer, "application/x-layer")]}
    )
    assert (await put_manifest(client, "a", "cache", raw, OCI_INDEX)).status == 201


async def test_a_manifest_without_media_type_is_what_its_header_says(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    raw = to_json({"schemaVersion": 2, "config": CONFIG, "layers": []})
    assert (await put_manifest(client, "a", "v1", raw, DOCKER_MANIFEST)).status == 201
    async with client.get("/v2/a/manifests/v1") as got:
        assert got.headers["Content-Type"] == DOCKER_MANIFEST


async def test_a_digest_of_other_bytes(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    for reference in (digest_of(b"other"), "sha256:baddigeststring", "sha999:" + "a" * 64):
        response = await put_manifest(client, "a", reference, small_manifest())
        assert response.status == 400
        assert error_code(response.body) == "DIGEST_INVALID"


async def test_hostile_tags(registry_once: aiohttp.ClientSession) -> None:
    for tag in (".hidden", "-dash", "a" * 129, "sp%20ace", "ta%0d%0ag", "%C3%A4"):
        url = URL(f"/v2/a/manifests/{tag}", encoded=True)
        headers = {"Content-Type": OCI_MANIFEST}
        async with registry_once.put(url, data=small_manifest(), headers=headers) as response:
            assert (response.status, error_code(await response.read())) == (400, "TAG_INVALID"), tag


async def test_tags_move_and_remember(client: aiohttp.ClientSession, registry: Registry) -> None:
    first = await push_small(client, "a", "v1", annotations={"n": "1"})
    second = await push_small(client, "a", "v1", annotations={"n": "2"})
    await push_small(client, "a", "v1", annotations={"n": "2"})
    async with client.head(f"/v2/a/manifests/{first}") as got:
        assert got.status == 200, "moving a tag keeps the old manifest"
    async with client.delete("/v2/a/manifests/v1") as response:
        assert response.status == 202
    async with client.head("/v2/a/manifests/v1") as got:
        assert got.status == 404
    async with client.head(f"/v2/a/manifests/{second}") as got:
        assert got.status == 200
    assert registry.services is not None
    database = registry.services.database
    repository = await repositories.find(database, "a")
    assert repository is not None
    moves = await taghistory.history(database, repository, "v1", limit=10, tells_sources=False)
    assert [(move.action, move.old_digest, move.new_digest) for move in moves] == [
        ("delete", second, None),
        ("push", first, second),
        ("push", None, first),
    ]
    assert {move.actor for move in moves} == {"admin"}
    async with database.read() as connection:
        of_it = select(events.c.kind).where(events.c.repository.is_not(None))
        kinds = Counter((await connection.execute(of_it)).scalars())
    assert kinds == {"repository.created": 1, "manifest.pushed": 3, "tag.moved": 2, "tag.deleted": 1}


async def test_deleting_by_digest_takes_the_tags_along(
    client: aiohttp.ClientSession, registry: Registry
) -> None:
    digest = await push_small(client, "a", "v1")
    await push_small(client, "a", "v2")
    other = await push_small(client, "a", "keep", annotations={"x": "y"})
    await push_small(client, "b", "v1")
    async with client.delete(f"/v2/a/manifests/{digest}") as response:
        assert response.status == 202
    for reference in ("v1", "v2", digest):
        async with client.head(f"/v2/a/manifests/{reference}") as got:
            assert got.status == 404
    async with client.delete(f"/v2/a/manifests/{digest}") as response:
        assert response.status == 404
        assert error_code(await response.read()) == "MANIFEST_UNKNOWN"
    async with client.get("/v2/a/tags/list") as got:
        assert (await got.json())["tags"] == ["keep"]
    for name, reference in (("a", other), ("b", "v1"), ("b", digest)):
        async with client.head(f"/v2/{name}/manifests/{reference}") as got:
            assert got.status == 200
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        rows = await connection.execute(select(tag_history.c.name).where(tag_history.c.action == "delete"))
        assert sorted(rows.scalars()) == ["v1", "v2"]
    await push_small(client, "a", "v1")
    async with client.head(f"/v2/a/manifests/{digest}") as got:
        assert got.status == 200


async def test_deleting_a_blob_races_a_manifest_that_names_it(client: aiohttp.ClientSession) -> None:
    layer = b"contested"
    raw = small_manifest([layer])
    await push_blob(client, "a", EMPTY_CONFIG)
    for _ in range(5):
        await push_blob(client, "a", layer)
        put, delete = await asyncio.gather(
            put_manifest(client, "a", "v1", raw), client.delete(f"/v2/a/blobs/{digest_of(layer)}")
        )
        delete.release()
        assert delete.status == 202
        assert put.status in (201, 400)
        async with client.delete(f"/v2/a/manifests/{digest_of(raw)}") as response:
            assert response.status == (202 if put.status == 201 else 404)


async def test_one_push_with_several_tags(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    raw = small_manifest()
    for digest in (digest_of(raw), "sha512:" + hashlib.sha512(raw).hexdigest()):
        answer = await put_manifest(client, "a", f"{digest}?tag=v1&tag=v1.2&tag=latest&tag=v1", raw)
        assert answer.status == 201
        assert answer.headers["OCI-Tag"] == "v1, v1.2, latest"
        for tag in ("v1", "v1.2", "latest"):
            async with client.head(f"/v2/a/manifests/{tag}") as got:
                assert got.headers["Docker-Content-Digest"] == digest, "a tag remembers its algorithm"


async def test_several_tags_go_all_or_none(client: aiohttp.ClientSession) -> None:
    await push_blob(client, "a", EMPTY_CONFIG)
    raw = small_manifest()
    for query in ("tag=good&tag=.bad", "&".join(f"tag=t{i}" for i in range(101))):
        answer = await put_manifest(client, "a", f"{digest_of(raw)}?{query}", raw)
        assert (answer.status, error_code(answer.body)) == (400, "TAG_INVALID")
    async with client.get("/v2/a/tags/list") as got:
        assert (await got.json())["tags"] == []
    async with client.head(f"/v2/a/manifests/{digest_of(raw)}") as got:
        assert got.status == 404


async def test_words_that_a_database_cannot_hold(client: aiohttp.ClientSession) -> None:
    """A NUL inside JSON strings is legal there, and PostgreSQL's text takes none."""
    await push_blob(client, "a", EMPTY_CONFIG)
    odd = small_manifest(annotations={"a\0b": "c\0d"}, subject=descriptor(b"x", OCI_MANIFEST))
    assert (await put_manifest(client, "a", "odd", odd)).status == 201
    async with client.get(f"/v2/a/referrers/{digest_of(b'x')}") as got:
        assert json.loads(await got.read())["manifests"][0]["annotations"] == {"a\0b": "c\0d"}
    assert (await put_manifest(client, "a", "type", small_manifest(artifactType="a/\0"))).status == 400
    for words in ({"os": "li\0nux"}, {"architecture": "²"}, {"os": {"a": 1}}):
        config = to_json({"architecture": "amd64", "os": "linux"} | words)
        layer = b"layer"
        await push_blob(client, "a", config)
        await push_blob(client, "a", layer)
        raw = small_manifest([layer], config=config)
        assert (await put_manifest(client, "a", "config", raw)).status == 201, "its trial will tell"


async def test_history_and_events_tell_from_where(client: aiohttp.ClientSession, registry: Registry) -> None:
    await push_small(client, "team/app", "v1")
    async with registry.services.database.read() as connection:
        moves = (await connection.execute(select(tag_history.c.actor, tag_history.c.address))).all()
        pushed = select(events.c.address).where(events.c.kind == "manifest.pushed")
        told = (await connection.execute(pushed)).scalars().all()
    assert [tuple(move) for move in moves] == [("admin", "127.0.0.1")]
    assert told == ["127.0.0.1"]
