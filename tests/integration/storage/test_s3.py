"""The S3 driver on a real service: the contract, and what only an object store can get wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from types_boto3_s3 import S3Client

from registry.content.uploadledger import DatabaseLedger
from registry.db.engine import Database
from registry.errors import (
    BlobUploadInvalidError,
    BlobUploadUnknownError,
    DigestInvalidError,
    SeatrialError,
    UnavailableError,
)
from registry.oci.digest import digest_of
from registry.storage.s3 import S3Store
from registry.storage.s3url import parse_s3_url
from tests.integration.storage.conftest import MakeS3
from tests.kit.blobstore_contract import BlobStoreContract, pattern, read, source, stored
from tests.kit.s3 import SECRET, S3Server


class TestContract(BlobStoreContract):
    pass


LARGE = pattern(12_000_000)


def pieces(first: int, last: int) -> list[bytes]:
    return [LARGE[at : min(at + 500_000, last)] for at in range(first, last, 500_000)]


async def moved(make_store: MakeS3, *ends: int) -> tuple[S3Store, str]:
    """An upload of :data:`LARGE` of which each replica has taken one piece, and the last replica."""
    store, at = make_store(), 0
    locator = await store.start_upload()
    for end in ends:
        store = make_store()
        at = await store.append(locator, source(*pieces(at, end)), offset=at)
        assert at == end == await make_store().upload_size(locator)
    return store, locator


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_parts_from_several_replicas_become_one_blob(
    make_store: MakeS3, s3: S3Server, prefix: str, algorithm: str
) -> None:
    _, locator = await moved(make_store, 100_000, 5_400_000, 5_400_001, 11_900_000, len(LARGE))
    finisher = make_store()
    assert await finisher.finish(locator, digest_of(LARGE, algorithm)) == len(LARGE)
    assert await read(make_store(), locator) == LARGE
    assert await read(finisher, locator, 5_300_000, 200_000) == LARGE[5_300_000:5_500_000]
    assert s3.keys(prefix) == [f"blobs/{locator[-2:]}/{locator}"]
    assert s3.multipart_uploads(prefix) == []


async def test_a_wrong_digest_of_an_upload_that_moved(make_store: MakeS3, s3: S3Server, prefix: str) -> None:
    """The bytes can only be read once they are an object: it goes with the upload."""
    store, locator = await moved(make_store, 6_000_000, len(LARGE))
    with pytest.raises(DigestInvalidError) as refused:
        await store.finish(locator, digest_of(b"other"))
    assert str(digest_of(LARGE)) in refused.value.message
    with pytest.raises(BlobUploadInvalidError):
        await store.append(locator, source(b"more"), offset=len(LARGE))
    assert await make_store().finish(locator, digest_of(LARGE)) == len(LARGE)
    await make_store().delete(locator)
    assert s3.keys(prefix) == []


async def test_a_wrong_digest_of_parts_that_were_hashed_keeps_them(make_store: MakeS3) -> None:
    store = make_store()
    locator = await store.start_upload()
    await store.append(locator, source(*pieces(0, 6_000_000)), offset=0)
    with pytest.raises(DigestInvalidError):
        await store.finish(locator, digest_of(LARGE))
    await store.append(locator, source(*pieces(6_000_000, len(LARGE))), offset=6_000_000)
    assert await store.finish(locator, digest_of(LARGE)) == len(LARGE)


async def test_two_replicas_finish_at_once(make_store: MakeS3) -> None:
    for end in (1_000_000, len(LARGE)):
        _, locator = await moved(make_store, end)
        expected = digest_of(LARGE[:end])
        answers = await asyncio.gather(
            *(make_store().finish(locator, expected) for _ in range(4)), return_exceptions=True
        )
        assert [one for one in answers if not isinstance(one, SeatrialError)].count(end) >= 1
        assert {type(one) for one in answers} <= {int, BlobUploadInvalidError, BlobUploadUnknownError}
        assert await read(make_store(), locator) == LARGE[:end]


KILLED = """
import asyncio, sys
from pathlib import Path
from registry.content.uploadledger import DatabaseLedger
from registry.db.engine import Database
from registry.storage.s3 import open_s3

async def main(url, keys, database_url, folder):
    ledger = DatabaseLedger(Database(database_url))
    store = await open_s3(url, credentials_file=Path(keys), ledger=ledger, folder=Path(folder))
    locator = await store.start_upload()
    async def first():
        yield b"x" * 1000
    await store.append(locator, first(), offset=0)
    async def source():
        for _ in range(200):
            yield b"x" * 65536
        print(locator, flush=True)
        await asyncio.Event().wait()
    await store.append(locator, source(), offset=1000)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_a_killed_replica_has_stored_is_continued_by_another(
    make_store: MakeS3, s3: S3Server, prefix: str, ledger_url: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), s3.url(prefix), s3.credentials, ledger_url]
    with subprocess.Popen([*command, tmp_path / "killed"], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        locator = (await asyncio.to_thread(writer.stdout.readline)).strip()
        store = make_store()
        await grown(store, locator, 10 << 20)
        writer.kill()
    at = await store.upload_size(locator)
    with pytest.raises(BlobUploadInvalidError):
        await store.append(locator, source(b"too early"), offset=at)
    await expire(ledger_url)
    await store.append(locator, source(b"end"), offset=at)
    content = b"x" * at + b"end"
    assert await store.finish(locator, digest_of(content)) == len(content)
    assert await read(store, locator) == content


async def test_who_was_given_up_adds_nothing_more(make_store: MakeS3, ledger_url: str) -> None:
    store, other = make_store(), make_store()
    locator = await store.start_upload()
    running, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        for piece in pieces(0, 6_000_000):
            yield piece
        running.set()
        await go_on.wait()
        yield b"too late"

    task = asyncio.create_task(store.append(locator, slow(), offset=0))
    await running.wait()
    at = await grown(other, locator, 1)
    await expire(ledger_url)
    await other.append(locator, source(*pieces(at, len(LARGE))), offset=at)
    go_on.set()
    with pytest.raises(BlobUploadInvalidError):
        await task
    assert await other.finish(locator, digest_of(LARGE)) == len(LARGE)
    assert await read(store, locator) == LARGE


async def test_a_holder_that_lives_is_not_given_up(
    make_store: MakeS3, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.storage.s3._RENEW_SECONDS", 0.1)
    store = make_store()
    locator = await store.start_upload()
    running, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first "
        running.set()
        await go_on.wait()
        yield b"second"

    task = asyncio.create_task(store.append(locator, slow(), offset=0))
    await running.wait()
    (before,) = await change(ledger_url, "SELECT held_until FROM multipart_uploads")
    # The database fails for a while, which is shorter than the lease.
    await change(ledger_url, "ALTER TABLE multipart_uploads RENAME TO away")
    await asyncio.sleep(0.3)
    await change(ledger_url, "ALTER TABLE away RENAME TO multipart_uploads")
    while await change(ledger_url, "SELECT held_until FROM multipart_uploads") <= [before]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    go_on.set()
    assert await task == 12


async def grown(store: S3Store, locator: str, least: int) -> int:
    """Where an upload stands once another has stored so much of it."""
    while (size := await store.upload_size(locator)) < least:  # noqa: ASYNC110  (another process does it)
        await asyncio.sleep(0.05)
    return size


async def expire(ledger_url: str) -> None:
    """As if nothing had been heard of any holder for long."""
    await change(ledger_url, "UPDATE multipart_uploads SET held_until = 1 WHERE held_until IS NOT NULL")


async def change(ledger_url: str, statement: str) -> list[Any]:
    """Run one statement; the first column of what it gives. In a thread: a store that is in the middle of a
    transaction needs the event loop to end it."""
    path = ledger_url.removeprefix("sqlite:///")

    def run() -> list[Any]:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
            return [row[0] for row in connection.execute(statement).fetchall()]

    return await asyncio.to_thread(run)


async def test_the_sweep_finds_what_no_row_tells_of(make_store: MakeS3, s3: S3Server, prefix: str) -> None:
    lost, later = "0" * 31 + "1", datetime.now(UTC) + timedelta(hours=1)
    with closing(s3.client()) as client:
        key = f"{prefix}/blobs/01/{lost}"
        client.create_multipart_upload(Bucket=s3.bucket(), Key=key)
        client.put_object(Bucket=s3.bucket(), Key=f"{prefix}/uploads/{lost}/3", Body=b"tail")
    store = make_store()
    assert [name async for name in store.list_older(later)] == [lost]
    await store.delete(lost)
    assert (s3.keys(prefix), s3.multipart_uploads(prefix)) == ([], [])
    running = await store.start_upload()
    await store.append(running, source(*pieces(0, 6_000_000)), offset=0)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert [name async for name in store.list_older(hour_ago)] == []


async def test_foreign_objects_below_the_prefix_are_left_alone(
    make_store: MakeS3, s3: S3Server, prefix: str
) -> None:
    with closing(s3.client()) as client:
        for key in ("uploads/notes.txt", "blobs/notes.txt", "notes.txt"):
            client.put_object(Bucket=s3.bucket(), Key=f"{prefix}/{key}", Body=b"mine")
    later = datetime.now(UTC) + timedelta(hours=1)
    assert [name async for name in make_store().list_older(later)] == []


async def test_a_blob_that_changes_while_it_is_read_is_noticed(
    make_store: MakeS3, s3: S3Server, prefix: str
) -> None:
    store = make_store()
    locator = await stored(store, b"content")
    async with store.open_blob(locator) as blob:
        with closing(s3.client()) as client:
            key = f"{prefix}/blobs/{locator[-2:]}/{locator}"
            client.put_object(Bucket=s3.bucket(), Key=key, Body=b"another")
        with pytest.raises(UnavailableError):
            [block async for block in blob.chunks(2)]


async def test_clients_are_sent_to_the_service_by_their_network(
    *, s3: S3Server, s3_client: S3Client, make_store: MakeS3, prefix: str, ledger_url: str, tmp_path: Path
) -> None:
    locator = await stored(make_store(), b"content")
    location = parse_s3_url(s3.url(prefix, redirect="10.0.0.0/8,fd00::/8", redirect_seconds=60))
    database = Database(ledger_url)
    ledger = DatabaseLedger(database)
    store = S3Store(location, s3_client, s3_client, ledger=ledger, folder=tmp_path / "spool")
    try:
        for client in (None, "192.0.2.1", "::1", "unix:"):
            assert await store.redirect_url(locator, client) is None
        for client in ("10.1.2.3", "fd00::1"):
            url = await store.redirect_url(locator, client)
            assert url is not None
            query = dict(parse_qsl(urlsplit(url).query))
            assert query["X-Amz-Expires"] == "60"
            assert query["response-content-type"] == "application/octet-stream"
            assert query["response-content-disposition"] == "attachment"
            assert SECRET not in url
    finally:
        await store.close()
        await database.close()
    assert await make_store().redirect_url(locator, "10.1.2.3") is None
