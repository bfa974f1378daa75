"""The bytes of a registry copied from one blob store to another, while it serves.

A blob keeps its locator in the new store, so that switching is a change of one setting. What to copy is asked
of the database, what is there already of the new store: there is no other state, and a copy that was killed
goes on, with the bytes of a begun blob too. Nothing is ever deleted from the old store.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from registry.content.inparallel import each
from registry.content.storedblobs import list_all
from registry.db.content import blobs, upload_sessions
from registry.db.types import db_time
from registry.errors import (
    BlobUnknownError,
    BlobUploadInvalidError,
    BlobUploadUnknownError,
    ConflictError,
    DigestInvalidError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable
    from datetime import datetime

    from registry.content.storedblobs import StoredBlob
    from registry.db.engine import Database
    from registry.storage.store import BlobSource, BlobStore

_MARGIN = timedelta(minutes=10)
"""How long the transaction of a push may take to commit a row after its time was put there."""
_PASSES = 10
_FAULT_PAUSES_SECONDS = (1, 5)
_HELD_PAUSES_SECONDS = (4,) * 6


@dataclass(slots=True)
class StoreCopied:
    """What the new store has: blobs and their bytes; how many of them this run copied; by digest, why it
    could not copy some; how many uploads are in progress, which no copy holds."""

    blobs: int = 0
    bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    uploads_open: int = 0
    failed: dict[str, str] = field(default_factory=dict)


async def measure(database: Database) -> StoreCopied:
    """How much there is to copy."""
    async with database.read() as connection:
        sums = (
            await connection.execute(select(func.count(), func.coalesce(func.sum(blobs.c.size), 0)))
        ).one()
        uploads = await connection.execute(select(func.count()).select_from(upload_sessions))
        return StoreCopied(blobs=sums[0], bytes=int(sums[1]), uploads_open=int(uploads.scalar_one()))


async def copy_store(
    database: Database,
    source: BlobSource,
    target: BlobStore,
    *,
    parallel: int,
    progress: Callable[[int], None],
) -> StoreCopied:
    """Bring every blob to ``target``, ``parallel`` at a time, and then what was pushed meanwhile, until there
    is no more. Each is hashed on its way. ``progress`` is told how many more bytes are there.

    Raises:
        ConflictError: another copy into the target is running, or something else is in its place.
        StorageFullError, UnavailableError: one of the stores fails; what was copied stays.
    """
    copying = _Copying(database, source, target, progress)
    since: datetime | None = None
    for _ in range(_PASSES):
        async with database.read_once() as connection:
            began: datetime = (await connection.execute(select(db_time()))).scalar_one()
        before = copying.done.copied
        await copying.copy_pushed(since, parallel)
        if since is not None and copying.done.copied == before:
            break
        since = began - _MARGIN
    found = await measure(database)
    copying.done.blobs, copying.done.bytes = found.blobs, found.bytes
    copying.done.uploads_open = found.uploads_open
    return copying.done


class _Copying:
    def __init__(
        self, database: Database, source: BlobSource, target: BlobStore, progress: Callable[[int], None]
    ) -> None:
        self.done = StoreCopied()
        self._database = database
        self._source = source
        self._target = target
        self._progress = progress
        self._counted = 0
        """The highest id of a blob that the progress has seen: later passes look at some again."""

    async def copy_pushed(self, since: datetime | None, parallel: int) -> None:
        """Copy what was pushed since then, or ever."""
        highest = self._counted

        async def pushed() -> AsyncIterator[StoredBlob]:
            nonlocal highest
            which = () if since is None else (blobs.c.created_at >= since,)
            async for blob in list_all(self._database, *which):
                highest = max(highest, blob.id)
                yield blob

        await each(pushed(), self._bring, parallel=parallel)
        self._counted = highest

    async def _bring(self, blob: StoredBlob) -> None:
        faults, waits = iter(_FAULT_PAUSES_SECONDS), iter(_HELD_PAUSES_SECONDS)
        while True:
            try:
                await self._bring_once(blob)
            except UnavailableError:
                # A long copy outlives a short fault of either store; what arrived is kept.
                if (pause := next(faults, None)) is None:
                    raise
                await asyncio.sleep(pause)
            except BlobUploadInvalidError as error:
                # A store without locks goes on believing in a copy that was killed, for some seconds.
                if (pause := next(waits, None)) is None:
                    raise ConflictError(f"{blob.digest}: {error.message}; is another copy running?") from None
                await asyncio.sleep(pause)
            except (BlobUnknownError, DigestInvalidError) as error:
                if await self._is_still_named(blob):
                    self.done.failed[str(blob.digest)] = error.message
                return
            else:
                return

    async def _bring_once(self, blob: StoredBlob) -> None:
        if await self._is_there(blob):
            if blob.id > self._counted:
                self._progress(blob.size)
            return
        try:
            standing = await self._target.upload_size(blob.locator)
        except BlobUploadUnknownError:
            standing = 0
            await self._target.start_upload(blob.locator)
        self._progress(standing)
        try:
            await self._send(blob, standing)
        except DigestInvalidError:
            # Either the part that an earlier run left, or the source.
            await self._target.delete(blob.locator)
            if not standing:
                raise
            await self._target.start_upload(blob.locator)
            await self._send(blob, 0)
        self.done.copied += 1

    async def _send(self, blob: StoredBlob, standing: int) -> None:
        if standing == blob.size > 0:
            # All of it was sent before. It may have been about to be finished, and then takes no more.
            await self._target.finish(blob.locator, blob.digest)
            return
        async with self._source.open_blob(blob.locator) as there:
            if there.size != blob.size:
                raise BlobUnknownError(f"the old store has {there.size} bytes of it, not {blob.size}")
            chunks = self._counting(there.chunks(standing))
            await self._target.append(blob.locator, chunks, offset=standing, algorithm=blob.digest.algorithm)
        await self._target.finish(blob.locator, blob.digest)

    async def _counting(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            self.done.copied_bytes += len(chunk)
            self._progress(len(chunk))

    async def _is_there(self, blob: StoredBlob) -> bool:
        """Whether the new store has the blob; it is visible there only once it is whole.

        Raises:
            ConflictError: what is there has another length.
        """
        try:
            async with self._target.open_blob(blob.locator) as there:
                if there.size == blob.size:
                    return True
        except BlobUnknownError:
            return False
        raise ConflictError(
            f"the new store holds something else under the locator of {blob.digest}: give an empty one"
        )

    async def _is_still_named(self, blob: StoredBlob) -> bool:
        async with self._database.read_once() as connection:
            rows = await connection.execute(
                select(blobs.c.id).where(blobs.c.id == blob.id, blobs.c.locator == blob.locator)
            )
            return rows.first() is not None
