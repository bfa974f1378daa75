"""A registry on PostgreSQL and S3: the whole way of an image, over replicas that share nothing else."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.blobstore_contract import pattern
from tests.kit.distribution import start_upload
from tests.kit.images import digest_of
from tests.kit.s3 import S3Server
from tests.kit.server import Registry, running_registry


@pytest.fixture
def storage(s3: S3Server) -> dict[str, object]:
    """Settings of a registry on S3, of which each test has a prefix of its own."""
    return {"storage_url": s3.url(), "storage_credentials_file": s3.credentials}


@asynccontextmanager
async def replica(
    first: Registry, first_data: Path, data: Path, database_url: str, **settings: Any
) -> AsyncIterator[Registry]:
    """Another registry on the database and the store of the first, with a data folder of its own."""
    (data / "admin.token").write_text(first.token)
    settings["secret_key_file"] = first_data / "secret.key"
    async with running_registry(data, database_url, **settings) as registry:
        yield registry


async def test_an_upload_goes_from_replica_to_replica(
    storage: dict[str, object], make_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    database_url = make_postgres_url()
    content = pattern(23 << 20)
    digest = digest_of(content)
    two_data = tmp_path / "two"
    two_data.mkdir()
    async with (
        running_registry(tmp_path / "one", database_url, **storage) as one,
        replica(one, tmp_path / "one", two_data, database_url, **storage) as two,
        one.client() as first,
        two.client(one.token) as second,
    ):
        location = await start_upload(first, "team/app")
        at = 0
        for number, size in enumerate((1, 3 << 20, 11 << 20, 100, 8 << 20)):
            chunk = content[at : at + size]
            headers = {"Content-Range": f"{at}-{at + len(chunk) - 1}"}
            client = (first, second)[number % 2]
            async with client.patch(location, data=io.BytesIO(chunk), headers=headers) as response:
                assert response.status == 202
                at += len(chunk)
                assert response.headers["Range"] == f"0-{at - 1}"
        async with second.get(location) as response:
            assert response.headers["Range"] == f"0-{at - 1}"
        async with second.put(location, params={"digest": digest}, data=io.BytesIO(content[at:])) as response:
            assert response.status == 201
        async with first.get(f"/v2/team/app/blobs/{digest}") as response:
            assert await response.read() == content
