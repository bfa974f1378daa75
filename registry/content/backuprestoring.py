"""A registry out of a backup: bytes first, then the secret key, then the rows.

No server starts on the database before the last row is compared, and a restore that was killed is run again:
what is there already is not copied again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from registry.auth.actor import HOST
from registry.auth.keyring import require_opens
from registry.auth.privatefiles import make_private
from registry.auth.secretkey import parse_secret_key
from registry.content.backupreading import BlobsOfBackup, fetch_rows
from registry.content.storecopy import StoreCopied, copy_store, measure
from registry.db import copying, migrate
from registry.db.content import blobs
from registry.db.dialect import portions
from registry.db.engine import Database
from registry.db.outbox import record
from registry.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from registry.content.backupmaking import Bars
    from registry.content.backups import Backup, Backups
    from registry.db.copying import Copied
    from registry.storage.store import BlobStore

_AHEAD = timedelta(days=1)
"""How far the clock of a store may be ahead of ours."""
_LOOKED_AT = 500


@dataclass(frozen=True, slots=True)
class Prepared:
    """A backup whose rows were fetched and have this version's schema. ``begun``: the database holds a part
    of them already."""

    backup: Backup
    database_url: str
    secret_key_text: str
    begun: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored."""

    rows: Copied
    store: StoreCopied


async def prepare(
    backups: Backups, backup: Backup, *, database_url: str, secret_key_file: Path, work: Path
) -> Prepared:
    """Fetch the rows of a backup, and look whether they can be restored into this database; nothing is
    changed outside ``work``.

    Raises:
        ConflictError: the database is not empty; the backup is damaged or of a newer version; its secret key
            is neither in it nor in the file; another one is in the file.
    """
    path = work / "rows.sqlite"
    url = f"sqlite:///{path}"
    await fetch_rows(backups, backup, path)
    upgraded = await asyncio.to_thread(migrate.upgrade, url)
    if upgraded.newer:
        raise ConflictError(
            f"the backup is of a newer version, with schema {upgraded.after}: restore it by that"
        )
    found = await asyncio.to_thread(copying.preview, url, database_url)
    text = await _secret_key(backups, backup, secret_key_file)
    rows = Database(url)
    try:
        await require_opens(rows, parse_secret_key(text, secret_key_file))
    finally:
        await rows.close()
    return Prepared(backup, url, text, found.begun)


async def _secret_key(backups: Backups, backup: Backup, path: Path) -> str:
    there = await asyncio.to_thread(_text_of, path)
    if not backup.has_secret_key:
        if there is None:
            raise ConflictError(
                f"the secret key is not in this backup: put the registry's own at {path}, readable by its "
                "user only. Without it nobody can sign with the registry's keys or open its secrets"
            )
        return there
    async with backups.open(f"keys/{backup.id}") as chunks:
        text = b"".join([chunk async for chunk in chunks]).decode("ascii")
    if there is not None and there != text:
        raise ConflictError(f"{path} holds another secret key than the backup: a registry was started here")
    return text


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else None


async def restore(
    backups: Backups,
    prepared: Prepared,
    store: BlobStore,
    *,
    database_url: str,
    secret_key_file: Path,
    parallel: int,
    bars: Bars,
) -> Restored:
    """Bring all that was prepared to the store and the database.

    Raises:
        ConflictError: one of them is not empty; the rows were not kept as they are.
        StorageFullError, UnavailableError: the store or the target fails; what was copied stays.
    """
    rows = Database(prepared.database_url, pool_size=parallel)
    try:
        await _require_empty(store, rows)
        found = await measure(rows)
        with bars("Blobs restored", found.bytes, of_bytes=True) as told:
            source = BlobsOfBackup(backups, rows)
            copied = await copy_store(rows, source, store, parallel=parallel, progress=told)
        await _take_out_of_quarantine(rows, copied.failed)
    finally:
        await rows.close()
    await asyncio.to_thread(make_private, secret_key_file, prepared.secret_key_text)
    with bars("Rows restored, then compared", 2 * prepared.backup.rows) as told:
        done = await asyncio.to_thread(
            copying.copy, prepared.database_url, database_url, ahead=False, progress=told
        )
    database = Database(database_url)
    try:
        async with database.write() as connection:
            said = {"made_at": prepared.backup.made_at.isoformat(), "blobs_missing": len(copied.failed)}
            await record(connection, "backup.restored", None, HOST, said, target=prepared.backup.id)
    finally:
        await database.close()
    return Restored(done, copied)


async def _take_out_of_quarantine(rows: Database, failed: Collection[str]) -> None:
    """What was damaged in the old store and came whole from the backup is damaged no more."""
    damaged = select(blobs.c.id, blobs.c.digest).where(blobs.c.damage.is_not(None))
    async with rows.write() as connection:
        found = (await connection.execute(damaged)).all()
        whole = [row.id for row in found if row.digest not in failed]
        for some in portions(whole):
            healed = update(blobs).where(blobs.c.id.in_(some))
            await connection.execute(healed.values(damage=None, damaged_at=None))


async def _require_empty(store: BlobStore, rows: Database) -> None:
    """What the rows name may be there: then this restore was begun before, or the store is the old one.

    Raises:
        ConflictError: something else is.
    """
    portion: list[str] = []
    async for locator in store.list_older(datetime.now(UTC) + _AHEAD):
        portion.append(locator)
        if len(portion) == _LOOKED_AT:
            await _require_named(rows, portion)
            portion = []
    await _require_named(rows, portion)


async def _require_named(rows: Database, locators: list[str]) -> None:
    for some in portions(locators):
        async with rows.read_once() as connection:
            found = await connection.execute(select(blobs.c.locator).where(blobs.c.locator.in_(some)))
            others = set(some) - set(found.scalars())
        if others:
            raise ConflictError(
                f"the store is not empty: it holds {min(others)}, which is not of this backup. Give an empty "
                "folder, or another prefix in the bucket"
            )
