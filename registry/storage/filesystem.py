"""The blob store in a folder.

::

    ROOT/uploads/LOCATOR         an upload; locked (flock) while bytes are appended or it is being finished
    ROOT/blobs/NN/LOCATOR        a finished blob, read-only; NN are the last two digits of the locator

``finish`` syncs the file, renames it from the one to the other and syncs both folders. The hash of an upload
is carried along in memory; after a restart, or when another process took the earlier chunks, ``finish``
reads the file once more instead. Any number of processes may use one folder.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uuid_utils

from registry.errors import (
    BlobUnknownError,
    BlobUploadInvalidError,
    BlobUploadUnknownError,
    DigestInvalidError,
)
from registry.storage.adopting import Adopted, adopt_file
from registry.storage.files import (
    FileBlob,
    RunningHash,
    UploadFile,
    give_to_owner,
    have_folder,
    lock_upload,
    storage_faults,
    sync_folder,
)
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from registry.oci.digest import Digest

_LOCATOR = re.compile(r"[0-9a-f]{32}")
_WRITE_BYTES = 1 << 20
_WRITE_BYTES_LEAST = 128 << 10
_WAITING_BYTES = 8 << 20
"""Twice this waits in memory to be written, over the first 64 uploads of the process together."""
_BEGIN_BYTES = 4 * _WRITE_BYTES
"""Free when an upload begins. One that met the full disk leaves less than a write; a log that SQLite cut
meanwhile must not let in the next push, which could then hold next to nothing."""
_WRITE_CHUNKS = 512
"""So that a body of tiny pieces is no list of millions; below IOV_MAX."""
_HASHES_KEPT = 1024
_THREADS = 8


class FilesystemStore:
    """A :class:`~registry.storage.store.BlobStore` under ``root``, which is made if it is not there.

    Uploads are refused when they would leave less than ``reserve_bytes`` free on the file system.
    """

    def __init__(self, root: Path, *, reserve_bytes: int = 0) -> None:
        self._uploads = root / "uploads"
        self._blobs = root / "blobs"
        self._reserve_bytes = reserve_bytes
        self._hashes: OrderedDict[str, RunningHash] = OrderedDict()
        self._threads = Threads("blob-store", _THREADS)
        self._appending = 0
        for folder in (self._uploads, self._blobs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(root)

    async def start_upload(self, locator: str | None = None) -> str:
        """See :meth:`BlobStore.start_upload`."""
        if locator is None:
            locator = uuid_utils.uuid7().hex
        elif not _LOCATOR.fullmatch(locator):
            raise BlobUploadInvalidError("this is no locator")
        else:
            await self._threads.run(self._refuse_finished, locator)
        await self._threads.run(self._create, locator)
        return locator

    async def append(
        self, locator: str, chunks: AsyncIterable[bytes], *, offset: int, algorithm: str = "sha256"
    ) -> int:
        """See :meth:`BlobStore.append`."""
        upload = UploadFile(self._upload_path(locator), reserve_bytes=self._reserve_bytes)
        try:
            try:
                await self._threads.run(upload.open, offset)
            except BlobUploadUnknownError:
                await self._threads.run(self._refuse_finished, locator)
                raise
            kept = self._hashes.pop(locator, None)
            if offset == 0:
                upload.running_hash = RunningHash.start(algorithm)
            elif kept is not None and kept.length == offset:
                upload.running_hash = kept
            await self._pump(upload, chunks)
        finally:
            await self._threads.run(upload.close)
            self._keep(locator, upload)
        return upload.length

    async def upload_size(self, locator: str) -> int:
        """See :meth:`BlobStore.upload_size`; a finished upload still answers, until it is deleted."""
        return await self._threads.run(self._upload_size, locator)

    async def finish(self, locator: str, expected: Digest) -> int:
        """See :meth:`BlobStore.finish`."""
        size = await self._threads.run(self._finish, locator, expected, self._hashes.get(locator))
        self._hashes.pop(locator, None)
        return size

    async def adopt(self, locator: str, fd: int, expected: Digest) -> Adopted | None:
        """Make the upload, which is empty, a blob of the open file's bytes without copying them; ``None``:
        they have to be copied.

        Raises:
            BlobUploadUnknownError: there is no such upload.
            DigestInvalidError: the bytes have another digest.
        """
        upload = self._upload_path(locator)
        return await self._threads.run(adopt_file, fd, expected, upload, self._blob_path(locator))

    @asynccontextmanager
    async def open_blob(self, locator: str) -> AsyncIterator[FileBlob]:
        """See :meth:`BlobStore.open_blob`."""
        blob = FileBlob(self._blob_path(locator), self._threads)
        try:
            await self._threads.run(blob.open)
            yield blob
        finally:
            blob.close()

    async def redirect_url(self, locator: str, client: str | None) -> None:
        """See :meth:`BlobStore.redirect_url`."""

    async def delete(self, locator: str) -> None:
        """See :meth:`BlobStore.delete`."""
        self._hashes.pop(locator, None)
        if _LOCATOR.fullmatch(locator):
            await self._threads.run(self._delete, locator)

    async def list_older(self, before: datetime) -> AsyncIterator[str]:
        """See :meth:`BlobStore.list_older`."""
        seconds = before.timestamp()
        folders = [self._uploads, *(self._blobs / f"{shard:02x}" for shard in range(256))]
        for folder in folders:
            for locator in await self._threads.run(_older_names, folder, seconds):
                yield locator

    async def free_bytes(self) -> int:
        """See :meth:`BlobStore.free_bytes`; what is held in reserve does not count."""
        return await self._threads.run(self._free_bytes)

    async def close(self) -> None:
        """See :meth:`BlobStore.close`."""
        self._threads.close()

    async def _pump(self, upload: UploadFile, chunks: AsyncIterable[bytes]) -> None:
        """Write blocks while the next one arrives: at most two blocks are in memory.

        What arrived before the source broke off is written too.
        """
        block: list[bytes] = []
        length = 0
        writing: asyncio.Task[None] | None = None
        self._appending += 1
        try:
            async for chunk in chunks:
                block.append(chunk)
                length += len(chunk)
                if length >= self._block_bytes() or len(block) >= _WRITE_CHUNKS:
                    if writing is not None:
                        await asyncio.wait([writing])
                        writing.result()
                    writing = asyncio.create_task(self._threads.run(upload.write, block))
                    block, length = [], 0
        finally:
            self._appending -= 1
            if writing is not None:
                await asyncio.wait([writing])
                writing.result()
            if block:
                await self._threads.run(upload.write, block)

    def _block_bytes(self) -> int:
        """Large blocks cost fewer changes of thread; many uploads at once get smaller ones."""
        return min(max(_WAITING_BYTES // self._appending, _WRITE_BYTES_LEAST), _WRITE_BYTES)

    def _keep(self, locator: str, upload: UploadFile) -> None:
        running = upload.running_hash
        if running is not None and running.length == upload.length:
            self._hashes[locator] = running
            while len(self._hashes) > _HASHES_KEPT:
                self._hashes.popitem(last=False)

    def _upload_path(self, locator: str) -> Path:
        if not _LOCATOR.fullmatch(locator):
            raise BlobUploadUnknownError("there is no such upload")
        return self._uploads / locator

    def _blob_path(self, locator: str) -> Path:
        if not _LOCATOR.fullmatch(locator):
            raise BlobUnknownError("the blob's bytes are not in the store")
        return self._blobs / locator[-2:] / locator

    def _create(self, locator: str) -> None:
        with storage_faults():
            if self._free_bytes() < _BEGIN_BYTES:
                # Told before it has sent a byte, every client prints why a push is refused.
                raise OSError(errno.ENOSPC, "the reserve is reached")
            try:
                fd = os.open(self._uploads / locator, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            except FileExistsError:
                raise BlobUploadInvalidError("there is an upload under this locator") from None
            try:
                give_to_owner(fd, self._uploads)
            finally:
                os.close(fd)
            sync_folder(self._uploads)

    def _refuse_finished(self, locator: str) -> None:
        if self._blob_path(locator).exists():
            raise BlobUploadInvalidError("the upload is finished; it never changes again")

    def _upload_size(self, locator: str) -> int:
        for path in (self._upload_path(locator), self._blob_path(locator)):
            with storage_faults():
                try:
                    return path.stat().st_size
                except FileNotFoundError:
                    continue
        raise BlobUploadUnknownError("there is no such upload")

    def _finish(self, locator: str, expected: Digest, running: RunningHash | None) -> int:
        source, target = self._upload_path(locator), self._blob_path(locator)
        try:
            fd = lock_upload(source)
        except BlobUploadUnknownError:
            return self._finish_again(target, expected)
        with storage_faults(), os.fdopen(fd, "rb", buffering=0) as file:
            size = os.fstat(fd).st_size
            if running is not None and running.length == size and running.algorithm == expected.algorithm:
                encoded = running.state.hexdigest()
            else:
                encoded = hashlib.file_digest(file, expected.algorithm).hexdigest()
            _compare(expected, encoded)
            os.fchmod(fd, 0o400)
            os.utime(fd)
            os.fsync(fd)
            have_folder(target.parent)
            try:
                source.rename(target)
            except FileNotFoundError:
                raise BlobUploadUnknownError("the upload was cancelled meanwhile") from None
            sync_folder(target.parent)
            sync_folder(self._uploads)
        return size

    def _finish_again(self, target: Path, expected: Digest) -> int:
        with storage_faults():
            try:
                with target.open("rb", buffering=0) as file:
                    _compare(expected, hashlib.file_digest(file, expected.algorithm).hexdigest())
                    os.utime(file.fileno())
                    return os.fstat(file.fileno()).st_size
            except FileNotFoundError:
                raise BlobUploadUnknownError("there is no such upload") from None

    def _delete(self, locator: str) -> None:
        # The upload first: a finish that renames between the two steps is then caught by the second.
        for path in (self._upload_path(locator), self._blob_path(locator)):
            with storage_faults():
                path.unlink(missing_ok=True)

    def _free_bytes(self) -> int:
        with storage_faults():
            room = os.statvfs(self._uploads)
        return max(room.f_bavail * room.f_frsize - self._reserve_bytes, 0)


def _compare(expected: Digest, encoded: str) -> None:
    if encoded != expected.encoded:
        raise DigestInvalidError(
            f"the content has digest {expected.algorithm}:{encoded}, not {expected}",
            detail={"digest": f"{expected.algorithm}:{encoded}"},
        )


def _older_names(folder: Path, seconds: float) -> list[str]:
    with storage_faults():
        try:
            with os.scandir(folder) as entries:
                return [entry.name for entry in entries if _older(entry, seconds)]
        except FileNotFoundError:
            return []


def _older(entry: os.DirEntry[str], seconds: float) -> bool:
    try:
        return _LOCATOR.fullmatch(entry.name) is not None and entry.stat().st_mtime < seconds
    except FileNotFoundError:  # finished or deleted since the folder was listed
        return False
