"""A backup is made, while the registry serves.

First all rows are copied as they stand at one moment, then the bytes of the blobs that these rows name, as
far as the target does not have them from before. Until all is there no replica deletes bytes: what was pushed
before that moment is in the backup, whatever is deleted meanwhile, and what comes later is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import or_

from registry.auth.actor import HOST
from registry.auth.keyring import require_opens
from registry.content import backups as kept
from registry.content.holds import held_bytes
from registry.content.inparallel import each
from registry.content.storedblobs import SELECT, from_row, list_all
from registry.db import copying
from registry.db.collections import byte_holds, dead_blobs
from registry.db.content import blobs, upload_sessions
from registry.db.engine import Database
from registry.db.multipart import multipart_parts, multipart_uploads
from registry.db.outbox import record
from registry.errors import (
    BlobUnknownError,
    ConflictError,
    DigestInvalidError,
    NotFoundError,
    UnavailableError,
)
from registry.storage.files import FileBlob
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from registry.auth.secretkey import SecretKey
    from registry.content.backups import Backup, Backups
    from registry.content.storedblobs import StoredBlob
    from registry.db.copying import Copied
    from registry.storage.age import Recipient
    from registry.storage.backuptarget import BackupTarget
    from registry.storage.store import BlobSource, OpenBlob

LEFT_OUT = (upload_sessions, multipart_uploads, multipart_parts, dead_blobs, byte_holds)
"""What tells of bytes that are in no backup: uploads in progress, and what is about to be deleted."""
SHARDS = tuple(f"{number:02x}" for number in range(256))
_FAULT_PAUSES_SECONDS = (1, 5)
_PAGE_ROWS = 500


class Bars(Protocol):
    """Shows how far something is while a block runs."""

    def __call__(
        self, label: str, total: int | None, *, of_bytes: bool = False
    ) -> AbstractContextManager[Callable[[int], None]]:
        """What it gives is told how much more, of ``total``, is done."""


@dataclass(frozen=True, slots=True)
class Registry:
    """What is backed up. ``secret_key_text`` is what its file holds; ``work`` is a folder of our own."""

    database_url: str
    database: Database
    store: BlobSource
    secret_key: SecretKey
    secret_key_text: str
    work: Path


@dataclass(slots=True)
class _Counts:
    blobs: int = 0
    bytes: int = 0
    new_blobs: int = 0
    new_bytes: int = 0
    missing: dict[str, str] = field(default_factory=dict)


async def make(
    registry: Registry, target: BackupTarget, recipients: tuple[Recipient, ...], *, parallel: int, bars: Bars
) -> Backup:
    """Make a backup in the target, which is empty or holds earlier ones. With ``recipients`` all of it is
    encrypted for them, and the secret key is in it.

    Raises:
        ConflictError: the target holds something else, or backups that are for others; the database has
            another schema; bytes were deleted meanwhile.
        SettingsError: the secret key is not that of the database.
        StorageFullError, UnavailableError: the store or the target fails; what was copied stays.
    """
    await require_opens(registry.database, registry.secret_key)
    async with target.alone():
        backups = await _opened(target, recipients)
        async with held_bytes(registry.database) as hold:
            made_at = datetime.now(UTC)
            name = f"{made_at:%Y%m%dT%H%M%S}.{made_at.microsecond // 1000:03}Z"
            path = registry.work / "rows.sqlite"
            with bars("Rows copied, then compared", None) as told:
                copied = await asyncio.to_thread(_copy_rows, registry.database_url, path, told)
            digest, size = await _keep_rows(backups, path, name)
            snapshot = Database(f"sqlite:///{path}")
            try:
                counts = await _keep_blobs(registry, backups, snapshot, parallel=parallel, bars=bars)
                lines = _lines(snapshot, counts.missing)
                await target.put(f"lists/{name}.txt.zst", kept.compressed(lines))
            finally:
                await snapshot.close()
            if counts.missing and hold.lapsed:
                raise ConflictError(
                    "bytes were deleted while they were copied, as the database was out of reach for too "
                    "long: make the backup again, it has most of its bytes now"
                )
        if recipients:
            await backups.put(f"keys/{name}", kept.once(registry.secret_key_text.encode()))
        made = _backup(name, made_at, copied, counts, database=(digest, size), backups=backups)
        await target.put(f"backups/{name}.json", kept.once(made.model_dump_json(indent=2).encode() + b"\n"))
    async with registry.database.write() as connection:
        told_of = {"blobs": made.blobs, "new_bytes": made.new_bytes, "encrypted": made.encrypted}
        await record(connection, "backup.created", None, HOST, told_of, target=name)
    return made


async def _opened(target: BackupTarget, recipients: tuple[Recipient, ...]) -> Backups:
    try:
        opened = await kept.open_backups(target)
    except NotFoundError:
        others = sorted(set(await target.sizes("")) - {"lock"})
        if others:
            raise ConflictError(
                f"the target holds something else, as {others[0]}: give an empty one"
            ) from None
        return await kept.make_head(target, recipients)
    if set(opened.recipients) != set(recipients):
        theirs = ", ".join(map(str, opened.recipients))
        raise ConflictError(
            f"the backups there are encrypted for {theirs}: give --recipient with that, or another target"
            if theirs
            else "the backups there are not encrypted: give another target for those that are"
        )
    return opened


def _copy_rows(database_url: str, path: Path, told: Callable[[int], None]) -> Copied:
    copied = copying.snapshot(database_url, f"sqlite:///{path}", without=LEFT_OUT, progress=told)
    with closing(sqlite3.connect(path)) as connection:
        # Everything is in the one file then.
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    return copied


async def _keep_rows(backups: Backups, path: Path, name: str) -> tuple[str, int]:
    """Keep the copy of the rows; its digest and size."""
    threads = Threads("backup-rows", 1)
    file, state = FileBlob(path, threads), hashlib.sha256()
    try:
        await threads.run(file.open)
        await backups.put(f"rows/{name}.sqlite.zst", kept.compressed(kept.hashed(file.chunks(), state)))
    finally:
        file.close()
        threads.close()
    return f"sha256:{state.hexdigest()}", file.size


async def _keep_blobs(
    registry: Registry, backups: Backups, snapshot: Database, *, parallel: int, bars: Bars
) -> _Counts:
    counts = _Counts()
    total = 0
    async for blob in list_all(snapshot):
        total += blob.size
    with bars("Blobs kept", total, of_bytes=True) as told:
        keeping = _Keeping(registry.store, backups, counts, told)
        await each(keeping.absent(snapshot), keeping.keep, parallel=parallel)
    return counts


class _Keeping:
    def __init__(
        self, store: BlobSource, backups: Backups, counts: _Counts, told: Callable[[int], None]
    ) -> None:
        self._store = store
        self._backups = backups
        self._counts = counts
        self._told = told

    async def absent(self, snapshot: Database) -> AsyncIterator[StoredBlob]:
        """Blobs that the target does not have, or not whole."""
        for shard in SHARDS:
            there: Mapping[str, int] | None = None
            async for blob in _of_shard(snapshot, shard):
                if there is None:
                    there = await self._backups.target.sizes(f"blobs/{shard}")
                self._counts.blobs += 1
                self._counts.bytes += blob.size
                file = self._backups.encrypted_name(blob.digest.encoded)
                if there.get(file) == self._backups.stored_bytes(blob.size):
                    self._told(blob.size)
                else:
                    yield blob

    async def keep(self, blob: StoredBlob) -> None:
        """Copy one, also over a short fault of either side."""
        pauses = iter(_FAULT_PAUSES_SECONDS)
        while True:
            try:
                async with self._store.open_blob(blob.locator) as there:
                    await self._backups.put(
                        kept.Listed(blob.digest, blob.size).name, self._checked(blob, there)
                    )
            except UnavailableError:
                if (pause := next(pauses, None)) is None:
                    raise
                await asyncio.sleep(pause)
            except (BlobUnknownError, DigestInvalidError) as error:
                self._counts.missing[str(blob.digest)] = error.message
                self._counts.blobs -= 1
                self._counts.bytes -= blob.size
                return
            else:
                self._counts.new_blobs += 1
                self._counts.new_bytes += blob.size
                return

    async def _checked(self, blob: StoredBlob, there: OpenBlob) -> AsyncIterator[bytes]:
        """The blob's bytes; what it is kept under is true, or it is not kept."""
        if there.size != blob.size:
            raise BlobUnknownError(f"the store has {there.size} bytes of it, not {blob.size}")
        state = hashlib.new(blob.digest.algorithm)
        async for chunk in kept.hashed(there.chunks(), state):
            yield chunk
            self._told(len(chunk))
        if state.hexdigest() != blob.digest.encoded:
            raise DigestInvalidError(f"the content has digest {blob.digest.algorithm}:{state.hexdigest()}")


async def _of_shard(snapshot: Database, shard: str) -> AsyncIterator[StoredBlob]:
    ranges = [
        blobs.c.digest.between(f"{algorithm}:{shard}", f"{algorithm}:{shard}g")
        for algorithm in ("sha256", "sha512")
    ]
    after = ""
    while True:
        query = SELECT.where(or_(*ranges), blobs.c.digest > after).order_by(blobs.c.digest)
        async with snapshot.read_once() as connection:
            rows = (await connection.execute(query.limit(_PAGE_ROWS))).all()
        for row in rows:
            yield from_row(row)
        if len(rows) < _PAGE_ROWS:
            return
        after = rows[-1].digest


async def _lines(snapshot: Database, missing: Mapping[str, str]) -> AsyncIterator[bytes]:
    async for blob in list_all(snapshot):
        if str(blob.digest) not in missing:
            yield f"{blob.digest} {blob.size}\n".encode()


def _backup(
    name: str,
    made_at: datetime,
    copied: Copied,
    counts: _Counts,
    *,
    database: tuple[str, int],
    backups: Backups,
) -> Backup:
    return kept.Backup(
        id=name,
        made_at=made_at,
        version=version("seatrial"),
        schema_version=copied.schema,
        rows=sum(table.rows for table in copied.tables),
        tables={
            table.name: kept.TableRows(rows=table.rows, checksum=table.checksum or "")
            for table in copied.tables
        },
        database_digest=database[0],
        database_bytes=database[1],
        blobs=counts.blobs,
        blob_bytes=counts.bytes,
        new_blobs=counts.new_blobs,
        new_bytes=counts.new_bytes,
        missing=counts.missing,
        encrypted=bool(backups.recipients),
        has_secret_key=bool(backups.recipients),
    )
