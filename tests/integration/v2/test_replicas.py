"""Two processes on one database and one store: whatever one began, the other goes on with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.kit.distribution import (
    EMPTY_CONFIG,
    finish_in_turn,
    push_blob,
    put_manifest,
    small_manifest,
    start_upload,
)
from tests.kit.images import digest_of
from tests.kit.postgres import PostgresServer
from tests.kit.server import Registry, RegistryProcess

MIB = 1 << 20


@pytest.fixture(scope="module")
def replicas(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, postgres_template: str
) -> Iterator[tuple[Registry, Registry]]:
    """Two registries with data folders of their own and one folder for blobs."""
    tmp_path = tmp_path_factory.mktemp("replicas")
    name = postgres.create(postgres_template)
    url = postgres.url(name)
    shared = {"storage_url": f"file://{tmp_path / 'blobs'}"}
    first = RegistryProcess(tmp_path / "one", url, **shared)
    second: RegistryProcess | None = None
    try:
        one = first.start()
        secret = str(tmp_path / "one" / "secret.key")
        second = RegistryProcess(tmp_path / "two", url, **shared, secret_key_file=secret)
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "admin.token").write_text(one.token)
        yield one, second.start()
    finally:
        first.stop()
        if second is not None:
            second.stop()
        postgres.drop(name)


async def test_an_upload_wanders_between_replicas(replicas: tuple[Registry, Registry]) -> None:
    content = os.urandom(3 * MIB)
    one, two = replicas
    async with one.client() as first, two.client() as second:
        location = await start_upload(first, "team/app")
        for i, client in enumerate((second, first, second)):
            headers = {"Content-Range": f"{i * MIB}-{(i + 1) * MIB - 1}"}
            async with client.patch(
                location, data=content[i * MIB : (i + 1) * MIB], headers=headers
            ) as response:
                assert response.status == 202
        async with first.put(location, params={"digest": digest_of(content)}) as response:
            assert response.status == 201, "the hash is that of all bytes, whoever took them"
        async with second.get(f"/v2/team/app/blobs/{digest_of(content)}") as response:
            assert await response.read() == content


async def test_finishing_at_both_succeeds_once(replicas: tuple[Registry, Registry]) -> None:
    content = os.urandom(MIB)
    one, two = replicas
    async with one.client() as first, two.client() as second:
        location = await start_upload(first, "a")
        async with second.patch(location, data=content) as response:
            assert response.status == 202
        counts = await finish_in_turn((first, second), location, digest_of(content), times=8)
    assert counts[201] == 1, counts
    assert set(counts) <= {201, 404, 409}, counts


async def test_pushing_at_both_makes_one_repository(replicas: tuple[Registry, Registry]) -> None:
    one, two = replicas
    async with one.client() as first, two.client() as second:
        await asyncio.gather(*(push_blob(client, "fresh", EMPTY_CONFIG) for client in (first, second) * 4))
        bodies = [small_manifest(annotations={"n": str(i)}) for i in range(8)]
        answers = await asyncio.gather(
            *(put_manifest((first, second)[i % 2], "fresh", "v1", raw) for i, raw in enumerate(bodies))
        )
        assert {answer.status for answer in answers} == {201}
        seen = set()
        for client in (first, second):
            async with client.get("/v2/fresh/manifests/v1") as response:
                seen.add(await response.read())
        assert len(seen) == 1
        assert seen <= set(bodies)
