"""``seatrial storage copy``: from one blob store to another, with what is told on the way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

import typer

from registry.cli.output import print_json
from registry.cli.process import open_blob_store
from registry.cli.progress import progress_bar
from registry.cli.upgrading import require_newest
from registry.content.storecopy import StoreCopied, copy_store, measure
from registry.db.engine import Database
from registry.db.inuse import is_served
from registry.errors import ConflictError, StorageFullError

if TYPE_CHECKING:
    from registry.settings import Settings

_FAILED_SHOWN = 20


def copy_storage(settings: Settings, target: str, *, parallel: int, dry_run: bool, as_json: bool) -> None:
    """Run the command.

    Raises:
        ConflictError: both are the same store, the database has another schema, or blobs could not be copied.
        SettingsError: the database or one of the stores cannot be used.
        StorageFullError, UnavailableError: as :func:`copy_store`.
    """
    require_newest(settings)
    moved = settings.model_copy(update={"storage_url": target})
    if moved.effective_storage_url.rstrip("/") == settings.effective_storage_url.rstrip("/"):
        raise ConflictError("the registry has this store already")
    served = is_served(settings.effective_database_url)
    done = asyncio.run(_copy(settings, moved, parallel=parallel, dry_run=dry_run))
    if as_json:
        print_json({"dry_run": dry_run, "served": served} | asdict(done))
    elif dry_run:
        typer.echo(f"{done.blobs} blobs with {done.bytes} bytes would be looked for and copied.")
        typer.echo("Nothing was changed.")
    else:
        _tell(done, served=served)
    if done.failed:
        raise ConflictError(
            f"{len(done.failed)} blobs could not be copied; they cannot be pulled from the old store either"
        )


async def _copy(settings: Settings, moved: Settings, *, parallel: int, dry_run: bool) -> StoreCopied:
    async with AsyncExitStack() as stack:
        database = Database(settings.effective_database_url, pool_size=parallel)
        stack.push_async_callback(database.close)
        found = await measure(database)
        if dry_run:
            return found
        source = await open_blob_store(settings, database)
        stack.push_async_callback(source.close)
        target = await open_blob_store(moved, database)
        stack.push_async_callback(target.close)
        free = await target.free_bytes()
        if free is not None and free == 0 < found.bytes:
            raise StorageFullError("the new store has no room")
        progress = stack.enter_context(progress_bar("Blobs copied", found.bytes, of_bytes=True))
        return await copy_store(database, source, target, parallel=parallel, progress=progress)


def _tell(done: StoreCopied, *, served: bool) -> None:
    for digest, reason in islice(done.failed.items(), _FAILED_SHOWN):
        typer.echo(f"not copied: {digest}: {reason}", err=True)
    typer.echo(
        f"{done.blobs} blobs with {done.bytes} bytes; {done.copied} copied now, each hashed on its way."
    )
    if done.uploads_open:
        typer.echo(f"{done.uploads_open} uploads in progress are not copied; their clients begin them anew.")
    if served:
        typer.echo(
            "A server runs: what is pushed from now on is not in the copy. Stop it, and run this again."
        )
    else:
        typer.echo("Start the server with this store as its SEATRIAL_STORAGE_URL.")
