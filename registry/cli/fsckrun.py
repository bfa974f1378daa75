"""What ``seatrial fsck`` does, with what is told on the way."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import typer

from registry.cli.backuptargets import is_target, open_target, read_identities, work_folder
from registry.cli.layoutsource import open_source
from registry.cli.output import print_json, print_table
from registry.cli.process import open_blob_store
from registry.cli.progress import progress_bar
from registry.cli.upgrading import require_newest
from registry.content import checking
from registry.content.backups import open_backups
from registry.content.backupsource import BackupSource
from registry.content.fsck import CHECKS
from registry.content.repairing import LayoutSource, StoreSource
from registry.db.engine import Database
from registry.errors import ConflictError, NotFoundError
from registry.layouts.errors import LayoutError
from registry.storage.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from registry.content.checking import Look, Problem, Report
    from registry.content.repairing import Source
    from registry.layouts.layout import Layout
    from registry.settings import Settings

_POOL = 20
_STORES = ("file://", "s3://")
_CHECKED = ("name", "looked_at", "wrong", "mended", "notes")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command was asked for. ``identity`` reads encrypted backups, ``credentials`` are the keys for
    sources in S3; ``limit`` is how many problems are told."""

    mend: bool
    hashed: bool
    sources: tuple[str, ...]
    identity: Path | None
    credentials: Path | None
    ca_file: Path | None
    limit: int


def run_fsck(settings: Settings, asked: Asked, *, as_json: bool) -> int:
    """Run the command; how many problems are left.

    Raises:
        ConflictError: the database has another schema; a source is the store itself, or backups that are
            encrypted while no key was given.
        NotFoundError: a source is not there.
        RequestInvalidError: a source is backups that were encrypted for others.
        SettingsError: the database, a store or the key cannot be used.
        LayoutError: a source is no layout, or cannot be had.
        UnavailableError: the store fails.
    """
    require_newest(settings)
    for text in asked.sources:
        if text.rstrip("/") == settings.effective_storage_url.rstrip("/"):
            raise ConflictError("--from names the store itself; give a copy of it")
        folder = urlsplit(text).path
        is_there = Path(unquote(folder), "blobs").is_dir() or is_target(text)
        if text.startswith("file://") and not is_there:
            raise NotFoundError(f"--from: there is no store in {folder}, and no backup")
    with ExitStack() as stack:
        # Addresses are read with what waits, which no event loop may do.
        layouts = {
            text: stack.enter_context(_layout(text, asked))
            for text in asked.sources
            if not text.startswith(_STORES) and not is_target(text)
        }
        report = asyncio.run(_check(settings, asked, layouts))
    if as_json:
        told: dict[str, Any] = {
            "mend": asked.mend,
            "left": report.left,
            "checks": [asdict(one) for one in report.checks],
            "problems": [asdict(one) for one in report.problems],
        }
        print_json(told)
    else:
        _tell(report, mend=asked.mend)
    return report.left


async def _check(settings: Settings, asked: Asked, layouts: Mapping[str, Layout]) -> Report:
    async with opened(settings) as look, AsyncExitStack() as stack:
        look.hashed = asked.hashed
        sources: list[Source] = []
        for text in asked.sources:
            if text in layouts:
                sources.append(LayoutSource(layouts[text], look.threads))
                continue
            source = await _backups(stack, settings, asked, text) or await _store(
                stack, settings, asked, text, look.database
            )
            sources.append(source)
        look.sources = sources
        with progress_bar("Looked at", None) as advance:
            look.advance = advance
            return await checking.carry_out(look, CHECKS, mend=asked.mend, shown=asked.limit)


@contextmanager
def _layout(text: str, asked: Asked) -> Iterator[Layout]:
    with ExitStack() as stack:
        try:
            layout = stack.enter_context(open_source(text, ca_file=asked.ca_file))
        except LayoutError as error:
            also = "; and there are no backups in it" if Path(text).is_dir() else ""
            raise LayoutError(error.kind, f"--from: {error.message}{also}") from None
        yield layout


async def _backups(stack: AsyncExitStack, settings: Settings, asked: Asked, text: str) -> BackupSource | None:
    """The backups in a folder or a bucket; ``None``: others than these are there."""
    if not text.startswith("s3://") and not is_target(text):
        return None
    target = await open_target(text, settings, asked.credentials)
    stack.push_async_callback(target.close)
    try:
        backups = await open_backups(target, identities=read_identities(asked.identity))
    except NotFoundError:
        return None
    work = stack.enter_context(work_folder(settings.data))
    source = BackupSource(f"the backups in {text.partition('?')[0]}", backups, work)
    stack.push_async_callback(source.close)
    await source.require_readable()
    return source


async def _store(
    stack: AsyncExitStack, settings: Settings, asked: Asked, text: str, database: Database
) -> StoreSource:
    credentials = asked.credentials or settings.storage_credentials_file
    copied = settings.model_copy(update={"storage_url": text, "storage_credentials_file": credentials})
    store = await open_blob_store(copied, database)
    stack.push_async_callback(store.close)
    return StoreSource(f"the store {text.partition('?')[0]}", store)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Look]:
    """Database and store of a registry, to be looked at."""
    async with AsyncExitStack() as stack:
        database = Database(settings.effective_database_url, pool_size=_POOL)
        stack.push_async_callback(database.close)
        store = await open_blob_store(settings, database)
        stack.push_async_callback(store.close)
        threads = Threads("fsck", 4)
        stack.callback(threads.close)
        seconds = settings.collection_grace_seconds + settings.upload_ttl_seconds
        yield checking.Look(database, store, threads, timedelta(seconds=seconds))


def _tell(report: Report, *, mend: bool) -> None:
    for problem in report.problems:
        typer.echo(_line(problem))
    told = len(report.problems)
    found = sum(one.wrong + one.notes for one in report.checks)
    if found > told:
        typer.echo(f"… and {found - told} more")
    if found:
        typer.echo("")
    print_table([asdict(one) for one in report.checks], _CHECKED)
    mendable = any(problem.mend and not problem.mended for problem in report.problems)
    if not mend and mendable:
        typer.echo("\nNothing was changed. seatrial fsck --mend does what stands behind the arrows.")
    elif not report.left:
        typer.echo("\nAll is well.")


def _line(problem: Problem) -> str:
    where = f" in {problem.repository}" if problem.repository else ""
    kind = "note" if problem.is_note else "mended" if problem.mended else "wrong"
    done = f" -> {problem.mend}" if problem.mend else ""
    return f"{kind}: {problem.check}: {problem.what}{where}: {problem.why}{done}"
