"""Stores on one S3 service: each test has a prefix and a database of its own."""

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
from tests.kit.s3 import S3Server

MakeS3 = Callable[..., S3Store]


@pytest.fixture(scope="module")
def s3_client(s3: S3Server) -> S3Client:
    """One for all stores of a module: to make it takes longer than a test."""
    return make_client(parse_s3_url(s3.url()), read_credentials(s3.credentials), endpoint_url=s3.endpoint_url)


@pytest.fixture
def prefix(s3: S3Server) -> str:
    """The test's part of the bucket."""
    return parse_s3_url(s3.url()).prefix.rstrip("/")


@pytest.fixture
def ledger_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The test's database."""
    path = tmp_path / "seatrial.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
async def make_store(
    s3: S3Server, s3_client: S3Client, prefix: str, ledger_url: str, tmp_path: Path
) -> AsyncIterator[MakeS3]:
    """Each store has the database's connections, the spools and the memory of a replica of its own."""
    location = parse_s3_url(s3.url(prefix))
    made: list[S3Store] = []
    databases: list[Database] = []

    def make(client: S3Client = s3_client) -> S3Store:
        databases.append(Database(ledger_url))
        ledger = DatabaseLedger(databases[-1])
        folder = tmp_path / f"spool-{len(made)}"
        made.append(S3Store(location, client, client, ledger=ledger, folder=folder))
        return made[-1]

    yield make
    for store in made:
        await store.close()
    for one in databases:
        await one.close()
