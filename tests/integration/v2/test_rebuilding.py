"""A database made anew from a store alone: of S3 too, on PostgreSQL, and where it was broken off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import func, select

from registry.content import manifests as manifest_use
from registry.content import rebuilding
from registry.content.rebuilding import Rebuilt
from registry.db.content import blobs
from registry.storage.threads import Threads
from tests.kit.distribution import push_blob, push_image, push_small
from tests.kit.images import digest_of, file, make_image, make_index, make_layer
from tests.kit.s3 import S3Server
from tests.kit.server import Registry, running_registry

INTO = "recovered"
IMAGE = make_image(make_layer(file("a", b"a" * 5000)), make_layer(file("b", b"b")), config={"Cmd": ["/a"]})


async def rebuild(registry: Registry) -> Rebuilt:
    services = registry.services
    assert services is not None
    threads = Threads("fsck", 1)
    try:
        found = await rebuilding.survey(
            services.database, services.blobs, into=INTO, threads=threads, advance=lambda _: None
        )
        done, made = rebuilding.plan(found)
        await rebuilding.rebuild(
            services.database,
            services.blobs,
            found,
            made,
            into=INTO,
            settings=services.settings,
            effects=services.effects,
            threads=threads,
        )
        return done
    finally:
        threads.close()


async def require_pulled(client: aiohttp.ClientSession, tag: str) -> None:
    async with client.get(f"/v2/{INTO}/manifests/{tag}") as response:
        assert response.status == 200
        manifest = json.loads(await response.read())
    assert manifest["config"]["digest"] == digest_of(IMAGE.config)
    assert [one["digest"] for one in manifest["layers"]] == [digest_of(one.blob) for one in IMAGE.layers]
    for one in manifest["layers"]:
        async with client.get(f"/v2/{INTO}/blobs/{one['digest']}") as response:
            assert digest_of(await response.read()) == one["digest"]


async def test_over_s3(s3: S3Server, make_postgres_url: Callable[[], str], tmp_path: Path) -> None:
    storage = {"storage_url": s3.url(), "storage_credentials_file": s3.credentials}
    async with (
        running_registry(tmp_path / "lost", make_postgres_url(), **storage) as registry,
        registry.client() as client,
    ):
        await push_image(client, "team/app", "v1", IMAGE)
        await push_blob(client, "team/app", b"loose")
    async with (
        running_registry(tmp_path / "new", make_postgres_url(), **storage) as registry,
        registry.client() as client,
    ):
        done = await rebuild(registry)
        assert (done.images, done.loose, done.incomplete) == (1, 1, 0)
        await require_pulled(client, f"image-{digest_of(IMAGE.config)[7:19]}")
        async with client.get(f"/v2/{INTO}/manifests/loose-1") as response:
            (loose,) = json.loads(await response.read())["layers"]
        assert loose["digest"] == digest_of(b"loose")


async def test_it_goes_on_where_it_was_broken_off(
    database_url: str, make_postgres_url: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And takes nothing of what the database knows."""
    storage = {"storage_url": f"file://{tmp_path}/blobs"}
    index = make_index(IMAGE)
    async with (
        running_registry(tmp_path / "lost", make_postgres_url(), **storage) as registry,
        registry.client() as client,
    ):
        await push_image(client, "team/app", "v1", IMAGE)
        for content in (IMAGE.manifest, index.manifest):
            await push_blob(client, "team/app", content)
    async with running_registry(tmp_path / "new", database_url, **storage) as registry:
        async with registry.client() as client:
            await push_small(client, "team/known", "v1")
            with monkeypatch.context() as patch:
                patch.setattr(manifest_use, "put", broken_off)
                with pytest.raises(KeyboardInterrupt):
                    await rebuild(registry)
            done = await rebuild(registry)
            assert (done.manifests, done.images) == (2, 0)
            assert await rebuild(registry) == done
            await require_pulled(client, f"found-{digest_of(IMAGE.manifest)[7:19]}")
            async with client.get(f"/v2/{INTO}/manifests/{digest_of(index.manifest)}") as response:
                assert await response.read() == index.manifest, "with the digest that it had"
            async with client.get("/v2/team/known/manifests/v1") as response:
                assert response.status == 200
        assert registry.services is not None
        async with registry.services.database.read_once() as connection:
            query = select(func.count()).select_from(blobs)
            # Three of the image, two manifests, the config of artifacts; and one that was known.
            assert (await connection.execute(query)).scalar_one() == 7


async def broken_off(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
