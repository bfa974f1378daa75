"""The S3 driver on a real service: the contract, and what only an object store can get wrong."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from types_boto3_s3 import S3Client

from registry.content.uploadledger import DatabaseLedger
from registry.db.engine import Database
from registry.storage.s3 import S3Store
from registry.storage.s3client import make_client, read_credentials
from registry.storage.s3url import parse_s3_url
from tests.kit.blobstore_contract import BlobStoreContract
from tests.kit.s3 import S3Server

MakeS3 = Callable[..., S3Store]


@pytest.fixture(scope="module")
def s3_client(s3: S3Server) -> S3Client:
    """One for all stores of this module: to make it takes longer than a test."""
    return make_client(parse_s3_url(s3.url()), read_credentials(s3.credentials), endpoint_url=s3.endpoint_url)


@pytest.fixture
async def make_store(
    s3: S3Server, s3_client: S3Client, sqlite_template: Path, tmp_path: Path
) -> AsyncIterator[MakeS3]:
    """Each store has the database's connections, the spools and the memory of a replica of its own."""
    location, database = parse_s3_url(s3.url()), tmp_path / "seatrial.db"
    shutil.copyfile(sqlite_template, database)
    made: list[S3Store] = []
    databases: list[Database] = []

    def make() -> S3Store:
        databases.append(Database(f"sqlite:///{database}"))
        ledger = DatabaseLedger(databases[-1])
        folder = tmp_path / f"spool-{len(made)}"
        made.append(S3Store(location, s3_client, s3_client, ledger=ledger, folder=folder))
        return made[-1]

    yield make
    for store in made:
        await store.close()
    for one in databases:
        await one.close()


class TestContract(BlobStoreContract):
    pass
