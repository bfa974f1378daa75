"""Backups as where what is damaged is taken from (:class:`registry.content.repairing.Source`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.content.backupreading import fetch_rows, open_listed
from registry.content.backups import Listed
from registry.db.content import manifest_contents
from registry.db.engine import Database
from registry.errors import BlobUnknownError, ConflictError, NotFoundError
from registry.oci.digest import digest_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from registry.content.backups import Backup, Backups
    from registry.content.storedblobs import StoredBlob
    from registry.oci.digest import Digest


class BackupSource:
    """All backups of a target: the blobs of every one, which lie there by their digests, and the manifests,
    which lie in the rows of each. ``work`` is a folder for those rows."""

    def __init__(self, name: str, backups: Backups, work: Path) -> None:
        self.name = name
        self._backups = backups
        self._path = work / "rows.sqlite"
        self._fetched = ""
        self._rows: Database | None = None

    async def require_readable(self) -> None:
        """See that there is a backup, and that the given key reads it.

        Raises:
            NotFoundError: there is no backup.
            ConflictError: they are encrypted and no key was given.
            RequestInvalidError: they are encrypted for others.
        """
        newest = await self._backups.find(None)
        if newest.encrypted:
            async with self._backups.open(f"keys/{newest.id}") as chunks:
                _ = [chunk async for chunk in chunks]

    async def has(self, blob: StoredBlob) -> bool:
        """See :meth:`Source.has`."""
        name = self._backups.encrypted_name(Listed(blob.digest, blob.size).name)
        try:
            async with self._backups.target.open(name) as there:
                return there.size == self._backups.stored_bytes(blob.size)
        except NotFoundError:
            return False

    async def chunks(self, blob: StoredBlob) -> AsyncIterator[bytes]:
        """See :meth:`Source.chunks`."""
        try:
            async with open_listed(self._backups, Listed(blob.digest, blob.size)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except (NotFoundError, ConflictError) as error:
            raise BlobUnknownError(error.message) from None

    async def manifest(self, digest: Digest) -> bytes | None:
        """See :meth:`Source.manifest`. The newest backup is asked first; it may have what was damaged."""
        query = select(manifest_contents.c.raw).where(manifest_contents.c.digest == str(digest))
        for backup in reversed(await self._backups.all()):
            if (rows := await self._rows_of(backup)) is None:
                continue
            async with rows.read_once() as connection:
                raw = (await connection.execute(query)).scalar()
            if raw is not None and digest_of(bytes(raw), digest.algorithm) == digest:
                return bytes(raw)
        return None

    async def _rows_of(self, backup: Backup) -> Database | None:
        """Its rows; ``None``: they are damaged. Those of one backup are kept, for the next manifest."""
        if self._fetched != backup.id:
            await self.close()
            self._fetched = backup.id
            try:
                await fetch_rows(self._backups, backup, self._path)
            except (NotFoundError, ConflictError):
                return None
            self._rows = Database(f"sqlite:///{self._path}")
        return self._rows

    async def close(self) -> None:
        """Give up the rows."""
        rows, self._rows = self._rows, None
        if rows is not None:
            await rows.close()
