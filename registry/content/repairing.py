"""Repairing what is damaged from elsewhere: backups, an image layout, a copy of the store.

Nothing that comes from there is believed: the store takes it by its digest, as a push.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import select, update

from registry.content import blobs as blob_use
from registry.content import quarantine
from registry.content import repositories as repos
from registry.db.content import manifest_contents
from registry.db.engine import move_epoch
from registry.errors import BlobUnknownError, ConflictError, DigestInvalidError
from registry.layouts.errors import LayoutError
from registry.layouts.members import PIECE_BYTES
from registry.oci.digest import digest_of, parse_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from registry.content.quarantine import Damage
    from registry.content.storedblobs import StoredBlob
    from registry.db.engine import Database
    from registry.layouts.layout import Layout
    from registry.oci.digest import Digest
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads


class Source(Protocol):
    """Where the same content may be."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    async def has(self, blob: StoredBlob) -> bool:
        """Whether so many bytes are there of the blob; they are not looked at."""

    def chunks(self, blob: StoredBlob) -> AsyncIterator[bytes]:
        """The blob's bytes.

        Raises:
            LayoutError, BlobUnknownError, UnavailableError: they cannot be had.
        """

    async def manifest(self, digest: Digest) -> bytes | None:
        """The bytes of a manifest; ``None``: it is not there, or damaged there too."""


class LayoutSource:
    """An image layout."""

    def __init__(self, layout: Layout, threads: Threads) -> None:
        self.name = layout.members.name
        self._layout = layout
        self._threads = threads

    async def has(self, blob: StoredBlob) -> bool:
        """See :meth:`Source.has`."""
        return await self._threads.run(self._layout.size, blob.digest) == blob.size

    async def chunks(self, blob: StoredBlob) -> AsyncIterator[bytes]:
        """See :meth:`Source.chunks`."""
        with closing(await self._threads.run(self._layout.open, blob.digest)) as reader:
            while piece := await self._threads.run(reader.read, PIECE_BYTES):
                yield piece

    async def manifest(self, digest: Digest) -> bytes | None:
        """See :meth:`Source.manifest`."""
        try:
            return await self._threads.run(self._layout.manifest, digest)
        except LayoutError:
            return None


class StoreSource:
    """A copy of the registry's store, which has its locators (:mod:`registry.content.storecopy`)."""

    def __init__(self, name: str, store: BlobStore) -> None:
        self.name = name
        self._store = store

    async def has(self, blob: StoredBlob) -> bool:
        """See :meth:`Source.has`."""
        try:
            async with self._store.open_blob(blob.locator) as opened:
                return opened.size == blob.size
        except BlobUnknownError:
            return False

    async def chunks(self, blob: StoredBlob) -> AsyncIterator[bytes]:
        """See :meth:`Source.chunks`."""
        async with self._store.open_blob(blob.locator) as opened:
            async for chunk in opened.chunks():
                yield chunk

    async def manifest(self, digest: Digest) -> None:
        """See :meth:`Source.manifest`: those lie in the database."""


async def find(sources: Sequence[Source], blob: StoredBlob) -> Source | None:
    """The first source that has the blob."""
    for source in sources:
        if await source.has(blob):
            return source
    return None


async def repair(
    database: Database, store: BlobStore, blob: StoredBlob, damage: Damage, source: Source
) -> bool:
    """Give the blob, whose bytes are damaged, those of the source. False: it was healed or deleted meanwhile.

    Raises:
        ConflictError: the source's bytes are no better.
    """
    await quarantine.put_in(database, blob.id, locator=blob.locator, damage=damage)
    locator = await _brought(store, blob, source)
    async with database.write() as connection:
        healed = await quarantine.heal(connection, blob.digest, locator=locator)
    if not healed:
        await store.delete(locator)
    return healed


async def bring(
    database: Database, store: BlobStore, blob: StoredBlob, source: Source, *, repository_id: int
) -> bool:
    """Show a blob of the source in a repository that does not have it, whatever its quota. False: the
    repository is gone.

    Raises:
        ConflictError: the source's bytes have another digest.
    """
    locator = await _brought(store, blob, source)
    async with database.write() as connection:
        is_there = await repos.hold(connection, repository_id)
        stands = ""
        if is_there:
            blob_id, stands = await blob_use.store_row(
                connection, blob.digest, size=blob.size, locator=locator
            )
            await blob_use.link(connection, repository_id, blob_id)
    if stands != locator:
        await store.delete(locator)
    return is_there


async def repair_manifest(database: Database, digest: str, raw: bytes) -> bool:
    """Give a manifest, whose bytes are damaged, the right ones. False: it has them."""
    async with database.write() as connection:
        this = manifest_contents.c.digest == digest
        query = select(manifest_contents.c.raw).where(this).with_for_update()
        held = (await connection.execute(query)).scalar()
        if held is None or digest_of(bytes(held), parse_digest(digest).algorithm) == parse_digest(digest):
            return False
        await connection.execute(update(manifest_contents).where(this).values(raw=raw))
        await move_epoch(connection, "content")
    return True


async def _brought(store: BlobStore, blob: StoredBlob, source: Source) -> str:
    """Where the source's bytes lie in the store now, verified."""
    locator = await store.start_upload()
    try:
        await store.append(locator, source.chunks(blob), offset=0, algorithm=blob.digest.algorithm)
        await store.finish(locator, blob.digest)
    except (LayoutError, BlobUnknownError, DigestInvalidError) as error:
        await store.delete(locator)
        raise ConflictError(f"{source.name}: {error.message}") from None
    except BaseException:
        await store.delete(locator)
        raise
    return locator
