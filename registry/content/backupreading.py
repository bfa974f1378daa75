"""What a backup holds, read and compared with what it says of itself."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.content import backups as kept
from registry.content.inparallel import each
from registry.db.content import blobs
from registry.db.engine import Database
from registry.errors import BlobUnknownError, ConflictError, NotFoundError
from registry.oci.digest import parse_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from registry.content.backupmaking import Bars
    from registry.content.backups import Backup, Backups, Listed


@dataclass(slots=True)
class Verified:
    """What was looked at; ``problems`` by the name of the file, or of the blob by its digest."""

    blobs: int = 0
    bytes: int = 0
    problems: dict[str, str] = field(default_factory=dict)


async def fetch_rows(backups: Backups, backup: Backup, path: Path) -> None:
    """Bring the rows of a backup to a file of SQLite, which then is what it was when it was made.

    Raises:
        NotFoundError, ConflictError: they are not there, damaged, or encrypted for others.
    """
    name = f"rows/{backup.id}.sqlite.zst"
    state, length = hashlib.sha256(), 0
    file: BinaryIO = await asyncio.to_thread(path.open, "wb")
    try:
        async with backups.open(name) as packed:
            async for piece in kept.hashed(kept.decompressed(packed, name), state):
                length += len(piece)
                if length > backup.database_bytes:
                    break
                await asyncio.to_thread(file.write, piece)
    finally:
        await asyncio.to_thread(file.close)
    if (length, f"sha256:{state.hexdigest()}") != (backup.database_bytes, backup.database_digest):
        raise ConflictError(f"{name} is damaged: it is not what backups/{backup.id}.json says")


@asynccontextmanager
async def open_listed(backups: Backups, listed: Listed) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a blob, whose digest is not compared.

    Raises:
        NotFoundError: on entering; there are none.
        ConflictError: on entering, or while they are read: there are more or fewer, or they are damaged.
    """
    async with backups.target.open(backups.encrypted_name(listed.name)) as there:
        if there.size != backups.stored_bytes(listed.size):
            raise ConflictError(f"{there.size} bytes are there, not {backups.stored_bytes(listed.size)}")
    async with backups.open(listed.name) as chunks:
        yield chunks


class BlobsOfBackup:
    """The blobs of a backup by their locators, as :class:`~registry.storage.store.BlobSource`; ``rows`` are
    those of the same backup."""

    def __init__(self, backups: Backups, rows: Database) -> None:
        self._backups = backups
        self._rows = rows

    @asynccontextmanager
    async def open_blob(self, locator: str) -> AsyncIterator[_KeptBlob]:
        """See :meth:`BlobSource.open_blob`."""
        query = select(blobs.c.digest, blobs.c.size).where(blobs.c.locator == locator)
        async with self._rows.read_once() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise BlobUnknownError("the backup has no such blob")
        listed = kept.Listed(parse_digest(row.digest), row.size)
        try:
            async with open_listed(self._backups, listed) as chunks:
                yield _KeptBlob(row.size, chunks)
        except NotFoundError:
            raise BlobUnknownError("the backup does not have its bytes") from None
        except ConflictError as error:
            raise BlobUnknownError(f"in the backup {error.message}") from None


class _KeptBlob:
    """See :class:`~registry.storage.store.OpenBlob`; it can be read once."""

    def __init__(self, size: int, chunks: AsyncIterator[bytes]) -> None:
        self.size = size
        self.file = None
        self._chunks = chunks

    async def chunks(self, first: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See :meth:`OpenBlob.chunks`."""
        position, end = 0, self.size if length is None else first + length
        async for chunk in self._chunks:
            wanted = chunk[max(first - position, 0) : max(end - position, 0)]
            position += len(chunk)
            if wanted:
                yield wanted
            if position >= end:
                return


async def verify(
    backups: Backups, backup: Backup, *, quick: bool, work: Path, parallel: int, bars: Bars
) -> Verified:
    """Read a backup whole: its rows, and each blob by its digest. ``quick``: only look whether all is there
    and as long as it should be, for which no key is needed.

    Raises:
        ConflictError: it is encrypted, no key was given, and it is not to be ``quick``.
        StorageFullError, UnavailableError: the target fails.
    """
    done = Verified()
    if not quick:
        await _verify_rows(backups, backup, work / "verified.sqlite", done)
    with bars("Blobs looked at", backup.blob_bytes, of_bytes=True) as told:
        looking = _Looking(backups, done, told, quick=quick)
        try:
            await each(backups.listed(backup), looking.look, parallel=parallel)
        except (NotFoundError, ConflictError) as error:
            done.problems[f"lists/{backup.id}"] = error.message
    if not done.problems and (done.blobs, done.bytes) != (backup.blobs, backup.blob_bytes):
        done.problems[f"lists/{backup.id}"] = f"it has {done.blobs} blobs, not {backup.blobs}"
    if quick:
        names = [backups.encrypted_name(f"rows/{backup.id}.sqlite.zst")]
        names += [backups.encrypted_name(f"keys/{backup.id}")] if backup.has_secret_key else []
        for name in names:
            folder, _, file = name.partition("/")
            if file not in await backups.target.sizes(folder):
                done.problems[name] = "is not there"
    return done


async def _verify_rows(backups: Backups, backup: Backup, path: Path, done: Verified) -> None:
    try:
        await fetch_rows(backups, backup, path)
        if backup.has_secret_key:
            async with backups.open(f"keys/{backup.id}") as chunks:
                _ = [chunk async for chunk in chunks]
    except (NotFoundError, ConflictError) as error:
        if backups.recipients and not backups.identities:
            raise
        done.problems[f"rows/{backup.id}"] = error.message


class _Looking:
    def __init__(self, backups: Backups, done: Verified, told: Callable[[int], None], *, quick: bool) -> None:
        self._backups = backups
        self._done = done
        self._told = told
        self._quick = quick
        self._sizes: dict[str, Mapping[str, int]] = {}

    async def look(self, listed: Listed) -> None:
        """Look at one blob."""
        try:
            if self._quick:
                await self._look_quickly(listed)
            else:
                await self._read(listed)
        except (NotFoundError, ConflictError) as error:
            self._done.problems[str(listed.digest)] = error.message
        self._done.blobs += 1
        self._done.bytes += listed.size
        self._told(listed.size)

    async def _look_quickly(self, listed: Listed) -> None:
        folder, _, file = self._backups.encrypted_name(listed.name).rpartition("/")
        if folder not in self._sizes:
            self._sizes[folder] = await self._backups.target.sizes(folder)
        size, expected = self._sizes[folder].get(file), self._backups.stored_bytes(listed.size)
        if size != expected:
            raise ConflictError("is not there" if size is None else f"{size} bytes are there, not {expected}")

    async def _read(self, listed: Listed) -> None:
        state = hashlib.new(listed.digest.algorithm)
        async with open_listed(self._backups, listed) as chunks:
            async for _ in kept.hashed(chunks, state):
                pass
        if state.hexdigest() != listed.digest.encoded:
            raise ConflictError(f"the content has digest {listed.digest.algorithm}:{state.hexdigest()}")
