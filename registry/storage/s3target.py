"""Backups in an S3 bucket; see :class:`~registry.storage.backuptarget.BackupTarget`.

What is written goes through files without names on local disk, a part at a time. Whoever writes holds an
object ``lock`` with a name of his own in it, and puts it there again and again: one that has not been put for
:data:`STALE` was its holder's who was killed.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from registry.errors import (
    BlobUnknownError,
    BlobUploadUnknownError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from registry.storage.s3blob import S3Blob
from registry.storage.s3bucket import Bucket
from registry.storage.s3client import check, code_of, make_client, read_credentials, s3_faults
from registry.storage.s3url import parse_s3_url
from registry.storage.spool import Spool
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping

    from types_boto3_s3 import S3Client

    from registry.storage.ledger import Part
    from registry.storage.s3url import S3Location

STALE = timedelta(minutes=5)
_RENEW_SECONDS = 60.0
_PART_BYTES = 16 << 20
_PARTS_OF_A_SIZE = 1000
_BLOCK_BYTES = 1 << 18
_DISK_THREADS = 4
_HELD = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


async def open_s3_target(url: str, *, credentials_file: Path | None) -> S3Target:
    """The backups at ``url``, after the service has been asked for the bucket.

    Raises:
        SettingsError: it cannot be used; the message says why.
    """
    location = parse_s3_url(url)
    credentials = read_credentials(credentials_file) if credentials_file else None
    client = make_client(location, credentials, endpoint_url=location.endpoint_url)
    await asyncio.to_thread(check, client, location)
    return S3Target(location, client)


class S3Target:
    """The :class:`BackupTarget` at ``location``."""

    def __init__(self, location: S3Location, client: S3Client) -> None:
        self._location = location
        self._client = client
        self._bucket = Bucket(client, location)
        self._calls = Threads("backup-s3", location.connections)
        self._disk = Threads("backup-spool", _DISK_THREADS)
        self._folder = Path(tempfile.gettempdir())
        self._lost = False

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """See :meth:`BackupTarget.alone`."""
        owner = secrets.token_hex(16).encode()
        if not await self._calls.run(self._take_lock, owner):
            raise ConflictError(
                "another command writes to these backups, or was killed within the last "
                f"{STALE.seconds // 60} minutes: wait, and try again"
            )
        self._lost = False
        renewing = asyncio.create_task(self._renew(owner))
        try:
            await self._calls.run(self._bucket.clear_all_parts)
            yield
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
            if not self._lost:
                await self._calls.run(self._bucket.delete, self._bucket.key("lock"))

    async def put(self, name: str, chunks: AsyncIterable[bytes]) -> int:
        """See :meth:`BackupTarget.put`."""
        self._require_lock()
        parts = _Parts(self._bucket, self._bucket.key(name), self._calls)
        spool = await self._disk.run(Spool, self._folder, self._bucket.sum_algorithm)
        try:
            async for chunk in chunks:
                await self._disk.run(spool.write, [chunk])
                if spool.length >= parts.part_bytes:
                    self._require_lock()
                    await parts.send(spool)
                    spool.close()
                    spool = await self._disk.run(Spool, self._folder, self._bucket.sum_algorithm)
            return await parts.finish(spool)
        except BaseException:
            await parts.give_up()
            raise
        finally:
            spool.close()

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[S3Blob]:
        """See :meth:`BackupTarget.open`."""
        key = self._bucket.key(name)
        try:
            opened = await self._calls.run(self._bucket.get, key)
        except BlobUnknownError:
            raise NotFoundError(f"the backups have no {name}") from None
        blob = S3Blob(self._bucket, key, opened, self._calls, lambda: _BLOCK_BYTES)
        try:
            yield blob
        finally:
            blob.close()

    async def sizes(self, folder: str) -> Mapping[str, int]:
        """See :meth:`BackupTarget.sizes`."""
        return await self._calls.run(self._bucket.sizes, folder)

    async def delete(self, name: str) -> None:
        """See :meth:`BackupTarget.delete`."""
        self._require_lock()
        await self._calls.run(self._bucket.delete, self._bucket.key(name))

    async def close(self) -> None:
        """See :meth:`BackupTarget.close`."""
        await asyncio.to_thread(self._calls.close)
        await asyncio.to_thread(self._disk.close)
        self._client.close()

    def _require_lock(self) -> None:
        if self._lost:
            raise ConflictError("another command has begun to write to these backups; this one has ended")

    async def _renew(self, owner: bytes) -> None:
        while not self._lost:
            await asyncio.sleep(_RENEW_SECONDS)
            # A service that fails may be back before the lock is stale.
            with suppress(UnavailableError):
                self._lost = not await self._calls.run(self._keep_lock, owner)

    def _take_lock(self, owner: bytes) -> bool:
        key = self._bucket.key("lock")
        for _ in range(2):
            try:
                self._client.put_object(
                    Bucket=self._location.bucket,
                    Key=key,
                    Body=owner,
                    ContentLength=len(owner),
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if code_of(error) not in _HELD:
                    with s3_faults("PutObject", key):
                        raise
            else:
                return True
            with s3_faults("HeadObject", key):
                answer = self._client.head_object(Bucket=self._location.bucket, Key=key)
            told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            # By the service's clock, if it tells it.
            now = parsedate_to_datetime(told) if told else datetime.now(UTC)
            if now - answer["LastModified"] < STALE:
                return False
            self._bucket.delete(key)
        return False

    def _keep_lock(self, owner: bytes) -> bool:
        key = self._bucket.key("lock")
        try:
            if b"".join(self._bucket.blocks(key)) != owner:
                return False
        except BlobUnknownError:
            return False
        with s3_faults("PutObject", key):
            self._client.put_object(
                Bucket=self._location.bucket, Key=key, Body=owner, ContentLength=len(owner)
            )
        return True


class _Parts:
    """One object, made of parts if it is large."""

    def __init__(self, bucket: Bucket, key: str, calls: Threads) -> None:
        self._bucket = bucket
        self._key = key
        self._calls = calls
        self._multipart_id: str | None = None
        self._parts: list[Part] = []
        self._length = 0

    @property
    def part_bytes(self) -> int:
        """How long the next one is: 10,000 of them must do."""
        return _PART_BYTES << len(self._parts) // _PARTS_OF_A_SIZE

    async def send(self, spool: Spool) -> None:
        """Store the next part."""
        if self._multipart_id is None:
            self._multipart_id = await self._calls.run(self._bucket.begin_parts, self._key)
        number = len(self._parts) + 1
        part = await self._calls.run(self._bucket.send_part, self._key, self._multipart_id, number, spool)
        self._parts.append(part)
        self._length += part.size

    async def finish(self, spool: Spool) -> int:
        """Store the last bytes, and make it the object; its length."""
        if self._multipart_id is None:
            await self._calls.run(self._bucket.put, self._key, spool, is_blob=True)
            return spool.length
        if spool.length:
            await self.send(spool)
        await self._calls.run(self._bucket.complete, self._key, self._multipart_id, self._parts)
        return self._length

    async def give_up(self) -> None:
        """Have the service forget what it has of it."""
        if self._multipart_id is not None:
            with suppress(UnavailableError, BlobUploadUnknownError):
                await self._calls.run(self._bucket.abort, self._key, self._multipart_id)
