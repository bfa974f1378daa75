"""Blobs of another registry's folder, taken in by whoever holds the data folder of this one."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from registry.content import blobs, uploads
from registry.errors import ContentTooLargeError, DigestInvalidError
from registry.storage.filesystem import FilesystemStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from registry.db.engine import Database
    from registry.oci.digest import Digest
    from registry.settings import Settings
    from registry.storage.adopting import Adopted
    from registry.storage.store import BlobStore

Taken = Literal["here", "mounted", "copied"]
_LIFE = timedelta(days=1)
_READ_BYTES = 1 << 20


async def take_file(
    database: Database,
    store: BlobStore,
    settings: Settings,
    repository_id: int,
    fd: int,
    *,
    digest: Digest,
    copy: bool,
) -> Adopted | Taken:
    """Have the bytes of an open file as a blob of the repository: without copying them where the store lies
    on the same file system, unless ``copy``. What the registry has already is not read.

    Raises:
        DigestInvalidError: they have another digest.
        ContentTooLargeError: the blob would be larger than the limit.
        DeniedError: the repository would hold more than its quota.
        StorageFullError, UnavailableError: the store fails.
    """
    size = os.fstat(fd).st_size
    if size > settings.blob_max_bytes:
        raise ContentTooLargeError(
            f"{digest} has {size} bytes and {settings.blob_max_bytes} are the limit (SEATRIAL_BLOB_MAX_BYTES)"
        )
    async with database.write() as connection:
        if (held := await blobs.hold_row(connection, digest)) is not None:
            is_new = await blobs.link_within_quota(connection, repository_id, held[0], size=size)
            return "mounted" if is_new else "here"
    session = await uploads.start_own(database, store, repository_id, algorithm=digest.algorithm, life=_LIFE)
    try:
        if isinstance(store, FilesystemStore) and not copy:
            adopted = await store.adopt(session.locator, fd, digest)
            if adopted is not None:
                await uploads.name(database, store, session, digest=digest, size=size)
                return adopted
        await uploads.append(
            database,
            store,
            session,
            _chunks(fd),
            repository=None,
            length=size,
            at=0,
            closing=False,
            settings=settings,
        )
        await uploads.finish(database, store, session, digest=digest)
    except DigestInvalidError as error:
        raise DigestInvalidError(f"what lies there as {digest} has other bytes: {error.message}") from None
    finally:
        # What was finished has no session any more, and keeps its bytes.
        await uploads.drop(database, store, session)
    return "copied"


async def _chunks(fd: int) -> AsyncIterator[bytes]:
    offset = 0
    while chunk := await asyncio.to_thread(os.pread, fd, _READ_BYTES, offset):
        yield chunk
        offset += len(chunk)
