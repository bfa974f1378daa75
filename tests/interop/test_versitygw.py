"""The S3 driver on versitygw, a second service: the same contract, here with PostgreSQL's ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from types_boto3_s3 import S3Client

from registry.content.uploadledger import DatabaseLedger
from registry.db.engine import Database
from registry.oci.digest import digest_of
from registry.settings import SettingsError
from registry.storage.s3 import S3Store, open_s3
from registry.storage.s3client import make_client, read_credentials
from registry.storage.s3url import parse_s3_url
from tests.kit.blobstore_contract import BlobStoreContract, pattern, read, source, stored
from tests.kit.certificates import Authority
from tests.kit.s3 import S3Server, running_versitygw

MakeS3 = Callable[[], S3Store]


@pytest.fixture(scope="module")
def versitygw(tools: Path) -> Iterator[S3Server]:
    with running_versitygw(tools / "versitygw") as server:
        yield server


@pytest.fixture(scope="module", params=["when_supported", "when_required"])
def client(request: pytest.FixtureRequest, versitygw: S3Server) -> tuple[S3Client, str]:
    """A client, and which checksums go with what it sends: SHA-256, or MD5 as ever."""
    location = parse_s3_url(versitygw.url(checksums=request.param))
    keys = read_credentials(versitygw.credentials)
    return make_client(location, keys, endpoint_url=location.endpoint_url), request.param


@pytest.fixture
async def make_store(
    versitygw: S3Server,
    client: tuple[S3Client, str],
    make_postgres_url: Callable[[], str],
    tmp_path: Path,
) -> AsyncIterator[MakeS3]:
    location = parse_s3_url(versitygw.url(checksums=client[1]))
    database_url = make_postgres_url()
    made: list[S3Store] = []
    databases: list[Database] = []

    def make() -> S3Store:
        databases.append(Database(database_url))
        ledger = DatabaseLedger(databases[-1])
        made.append(S3Store(location, client[0], client[0], ledger=ledger, folder=tmp_path / str(len(made))))
        return made[-1]

    yield make
    for store in made:
        await store.close()
    for database in databases:
        await database.close()


class TestContract(BlobStoreContract):
    async def test_parts_from_several_replicas(self, make_store: MakeS3) -> None:
        content = pattern(12_000_000)
        locator, at = await make_store().start_upload(), 0
        for end in (100_000, 5_400_000, 11_900_000, len(content)):
            at = await make_store().append(locator, source(content[at:end]), offset=at)
        assert await make_store().finish(locator, digest_of(content)) == len(content)
        assert await read(make_store(), locator) == content


async def test_an_authority_of_ones_own(
    tools: Path, make_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    """With TLS the bytes are not signed: what is checked are the sums that go with them."""
    database = Database(make_postgres_url())
    with running_versitygw(tools / "versitygw", Authority()) as server:
        more: dict[str, Any] = {
            "credentials_file": server.credentials,
            "ledger": DatabaseLedger(database),
            "folder": tmp_path / "spool",
        }
        with pytest.raises(SettingsError, match="its certificate is not trusted; give ca_file="):
            await open_s3(server.url(attempts=1), **more)
        store = await open_s3(server.url(ca_file=str(server.ca_file), storage_class="STANDARD"), **more)
        content = pattern(6_000_000)
        locator = await stored(store, content)
        assert await read(store, locator) == content
        small = await stored(store, b"content")
        assert await read(store, small) == b"content"
        await store.close()
    await database.close()
