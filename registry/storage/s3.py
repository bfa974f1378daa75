"""The blob store in an S3 bucket.

What arrives is kept in parts of a multipart upload, and the rest, too little for a part, in an object of its
own beside. Which parts there are, and who may add to them, is written in a ledger that all replicas share.
``finish`` makes the parts one object under the blob's key; an upload that is smaller than a part becomes an
object at once. Nothing is ever copied or overwritten.

The hash of an upload is carried along in the memory of the process that takes it. When the upload has moved,
``finish`` reads the bytes back: those of parts only after they became an object, which then is not removed if
its digest is another. It is a blob that no row names, and goes with the upload.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING

import uuid_utils

from registry.errors import (
    BlobUnknownError,
    BlobUploadInvalidError,
    BlobUploadUnknownError,
    DigestInvalidError,
    RangeInvalidError,
)
from registry.storage.files import RunningHash
from registry.storage.ledger import LEASE_SECONDS
from registry.storage.s3blob import S3Blob
from registry.storage.s3bucket import Bucket
from registry.storage.s3client import check, make_client, read_credentials, s3_faults
from registry.storage.s3upload import S3Upload, Tools
from registry.storage.s3url import parse_s3_url
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator
    from datetime import datetime
    from pathlib import Path

    from types_boto3_s3 import S3Client

    from registry.oci.digest import Digest
    from registry.storage.ledger import UploadLedger
    from registry.storage.s3url import S3Location
    from registry.storage.spool import Spool

_LOCATOR = re.compile(r"[0-9a-f]{32}")
_HASHES_KEPT = 1024
_SPOOLS_KEPT = 64
_DISK_THREADS = 4
_LISTED_TOGETHER = 500
_RENEW_SECONDS = LEASE_SECONDS / 3
_BLOCK_LEAST, _BLOCK_MOST = 1 << 14, 1 << 18
_READING_BYTES = 8 << 20
"""All readers of a process together hold about so much, until each is down to the smallest block."""


async def open_s3(url: str, *, credentials_file: Path | None, ledger: UploadLedger, folder: Path) -> S3Store:
    """The store at ``url``, after the service has been asked for the bucket.

    Without ``credentials_file`` they are looked for where AWS's tools look.

    Raises:
        SettingsError: it cannot be used; the message says why.
    """
    location = parse_s3_url(url)
    credentials = read_credentials(credentials_file) if credentials_file else None
    client = make_client(location, credentials, endpoint_url=location.endpoint_url)
    public = client
    if location.redirect and location.redirect_endpoint_url:
        public = make_client(location, credentials, endpoint_url=location.redirect_endpoint_url)
    await asyncio.to_thread(check, client, location)
    return S3Store(location, client, public, ledger=ledger, folder=folder)


class S3Store:
    """A :class:`~registry.storage.store.BlobStore` at ``location``.

    ``public`` signs addresses for those who are sent to the service themselves. ``folder`` is local disk for
    bytes on their way, which may be lost at any time.
    """

    def __init__(
        self, location: S3Location, client: S3Client, public: S3Client, *, ledger: UploadLedger, folder: Path
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._location = location
        self._client = client
        self._public = public
        self._bucket = Bucket(client, location)
        self._ledger = ledger
        self._calls = Threads("s3", location.connections)
        self._disk = Threads("s3-spool", _DISK_THREADS)
        self._tools = Tools(self._bucket, ledger, self._calls, self._disk, folder)
        self._hashes: OrderedDict[str, RunningHash] = OrderedDict()
        self._spools: OrderedDict[tuple[str, int], Spool] = OrderedDict()
        self._readers = 0

    async def start_upload(self, locator: str | None = None) -> str:
        """See :meth:`BlobStore.start_upload`."""
        if locator is None:
            locator = uuid_utils.uuid7().hex
        elif not _LOCATOR.fullmatch(locator):
            raise BlobUploadInvalidError("this is no locator")
        elif await self._blob_size(locator) is not None:
            raise BlobUploadInvalidError("the upload is finished; it never changes again")
        await self._ledger.create(locator)
        return locator

    async def append(
        self, locator: str, chunks: AsyncIterable[bytes], *, offset: int, algorithm: str = "sha256"
    ) -> int:
        """See :meth:`BlobStore.append`."""
        async with self._held(locator) as upload:
            if upload is None:
                if await self._blob_size(locator) is None:
                    raise BlobUploadUnknownError("there is no such upload")
                raise BlobUploadInvalidError("the upload is finished; it never changes again")
            if upload.state.finishing:
                raise BlobUploadInvalidError("the upload is being finished; nothing can be appended")
            if upload.state.length != offset:
                raise RangeInvalidError(
                    f"the upload stands at byte {upload.state.length}, not {offset}",
                    detail={"offset": upload.state.length},
                )
            kept = self._hashes.pop(locator, None)
            if offset == 0:
                upload.running_hash = RunningHash.start(algorithm)
            elif kept is not None and kept.length == offset:
                upload.running_hash = kept
            try:
                await upload.append(chunks)
            finally:
                self._keep(upload)
            return upload.state.length

    async def upload_size(self, locator: str) -> int:
        """See :meth:`BlobStore.upload_size`; a finished upload still answers, until it is deleted."""
        if _LOCATOR.fullmatch(locator):
            state = await self._ledger.find(locator)
            if state is not None:
                return state.length
            size = await self._blob_size(locator)
            if size is not None:
                return size
        raise BlobUploadUnknownError("there is no such upload")

    async def finish(self, locator: str, expected: Digest) -> int:
        """See :meth:`BlobStore.finish`."""
        async with self._held(locator) as upload:
            if upload is None:
                try:
                    return await self._compare_stored(locator, expected)
                except BlobUnknownError:
                    raise BlobUploadUnknownError("there is no such upload") from None
            key = self._bucket.blob_key(locator)
            running = self._hashes.get(locator)
            known = running is not None and running.length == upload.state.length
            known = known and running is not None and running.algorithm == expected.algorithm
            if upload.state.finishing and await self._blob_size(locator) is not None:
                await self._compare_stored(locator, expected)
            elif upload.state.multipart_id is None:
                spool = await upload.load_tail()
                if known and running is not None:
                    _compare(expected, running.state.hexdigest())
                else:
                    _compare(expected, await self._disk.run(_digest_spool, spool, expected.algorithm))
                await upload.finish_parts()
                await self._calls.run(self._bucket.put, key, spool, is_blob=True)
            else:
                if known and running is not None:
                    _compare(expected, running.state.hexdigest())
                await upload.finish_parts()
                parts = await self._ledger.parts(locator)
                await self._calls.run(self._bucket.complete, key, upload.state.multipart_id, parts)
                if not known:
                    await self._compare_stored(locator, expected)
            await self._calls.run(self._bucket.clear_tails, locator)
            if await self._ledger.remove(locator, epoch=upload.state.epoch) is None:
                raise BlobUploadUnknownError("the upload was cancelled or finished meanwhile")
            upload.released = True
            self._hashes.pop(locator, None)
            return upload.state.length

    @asynccontextmanager
    async def open_blob(self, locator: str) -> AsyncIterator[S3Blob]:
        """See :meth:`BlobStore.open_blob`."""
        if not _LOCATOR.fullmatch(locator):
            raise BlobUnknownError("the blob's bytes are not in the store")
        key = self._bucket.blob_key(locator)
        opened = await self._calls.run(self._bucket.get, key)
        blob = S3Blob(self._bucket, key, opened, self._calls, self._block_bytes)
        self._readers += 1
        try:
            yield blob
        finally:
            self._readers -= 1
            blob.close()

    async def redirect_url(self, locator: str, client: str | None) -> str | None:
        """See :meth:`BlobStore.redirect_url`."""
        if client is None or not self._location.redirect:
            return None
        try:
            address = ip_address(client)
        except ValueError:
            return None
        if not any(address in network for network in self._location.redirect):
            return None
        return await self._calls.run(self._sign, self._bucket.blob_key(locator))

    async def delete(self, locator: str) -> None:
        """See :meth:`BlobStore.delete`."""
        self._hashes.pop(locator, None)
        if not _LOCATOR.fullmatch(locator):
            return
        # The row first: from then on nothing can be entered, and what is stored without entry is removed.
        state = await self._ledger.remove(locator)
        if state is None or state.multipart_id is not None:
            await self._calls.run(self._bucket.clear_parts, locator)
        await self._calls.run(self._bucket.clear_tails, locator)
        await self._calls.run(self._bucket.delete, self._bucket.blob_key(locator))

    async def list_older(self, before: datetime) -> AsyncIterator[str]:
        """See :meth:`BlobStore.list_older`; also what only an interrupted call to the service has left."""
        uploads = await self._calls.run(self._bucket.old_uploads, before)
        uploads.update(await self._ledger.list_written(before=before))
        fresh = await self._ledger.written_since(sorted(uploads), before)
        for locator in sorted(uploads - fresh):
            if _LOCATOR.fullmatch(locator):
                yield locator
        blobs = self._bucket.old_blobs(before)
        while batch := await self._calls.run(_some, blobs):
            for locator in batch:
                if _LOCATOR.fullmatch(locator) and locator not in uploads:
                    yield locator

    async def free_bytes(self) -> None:
        """See :meth:`BlobStore.free_bytes`."""
        await self._calls.run(self._bucket.ping)

    async def close(self) -> None:
        """See :meth:`BlobStore.close`."""
        self._calls.close()
        self._disk.close()
        for spool in self._spools.values():
            spool.close()
        self._client.close()
        self._public.close()

    @asynccontextmanager
    async def _held(self, locator: str) -> AsyncIterator[S3Upload | None]:
        """Hold the upload, if there is one, and let go of it at the end."""
        state = await self._ledger.hold(locator) if _LOCATOR.fullmatch(locator) else None
        if state is None:
            yield None
            return
        upload = S3Upload(state, self._tools, spool=self._spools.pop((locator, state.tail_epoch), None))
        renewing = asyncio.create_task(self._renew(upload))
        try:
            yield upload
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
            await upload.release()

    async def _renew(self, upload: S3Upload) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            # A database that fails may be back before the lease ends; what is to be entered next will tell.
            (renewed,) = await asyncio.gather(self._ledger.renew(upload.state), return_exceptions=True)
            if renewed is False:
                upload.lost = True
                return

    def _keep(self, upload: S3Upload) -> None:
        """Remember the hash and the tail for the next request, which mostly comes to the same process."""
        state, running, spool = upload.state, upload.running_hash, upload.spool
        if running is not None and running.length == state.length:
            self._hashes[state.locator] = running
            while len(self._hashes) > _HASHES_KEPT:
                self._hashes.popitem(last=False)
        if upload.released and spool is not None and spool.length == state.tail_bytes:
            upload.spool = None
            self._spools[state.locator, state.tail_epoch] = spool
            while len(self._spools) > _SPOOLS_KEPT:
                self._spools.popitem(last=False)[1].close()

    async def _blob_size(self, locator: str) -> int | None:
        if not _LOCATOR.fullmatch(locator):
            return None
        try:
            return await self._calls.run(self._bucket.size, self._bucket.blob_key(locator))
        except BlobUnknownError:
            return None

    async def _compare_stored(self, locator: str, expected: Digest) -> int:
        """Hash the blob once more, and return its size."""
        if not _LOCATOR.fullmatch(locator):
            raise BlobUnknownError("the blob's bytes are not in the store")
        key = self._bucket.blob_key(locator)
        encoded, size = await self._calls.run(_digest_stored, self._bucket, key, expected.algorithm)
        _compare(expected, encoded)
        return size

    def _block_bytes(self) -> int:
        return max(_BLOCK_LEAST, min(_BLOCK_MOST, _READING_BYTES // max(self._readers, 1)))

    def _sign(self, key: str) -> str:
        with s3_faults("sign", key):
            return self._public.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._location.bucket,
                    "Key": key,
                    "ResponseContentType": "application/octet-stream",
                    # Whatever the bytes are, no browser shows them in the bucket's name.
                    "ResponseContentDisposition": "attachment",
                },
                ExpiresIn=self._location.redirect_seconds,
            )


def _compare(expected: Digest, encoded: str) -> None:
    if encoded != expected.encoded:
        raise DigestInvalidError(
            f"the content has digest {expected.algorithm}:{encoded}, not {expected}",
            detail={"digest": f"{expected.algorithm}:{encoded}"},
        )


def _digest_spool(spool: Spool, algorithm: str) -> str:
    state = hashlib.new(algorithm)
    for block in spool.blocks():
        state.update(block)
    return state.hexdigest()


def _digest_stored(bucket: Bucket, key: str, algorithm: str) -> tuple[str, int]:
    state, size = hashlib.new(algorithm), 0
    for block in bucket.blocks(key):
        state.update(block)
        size += len(block)
    return state.hexdigest(), size


def _some(names: Iterator[str]) -> list[str]:
    return list(islice(names, _LISTED_TOGETHER))
