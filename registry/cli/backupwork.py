"""What ``seatrial backup`` does, and what it tells of that."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from registry.auth.secretkey import parse_secret_key, secret_key_path
from registry.cli.backuptargets import open_target, read_identities, work_folder
from registry.cli.output import print_json, print_table
from registry.cli.process import open_blob_store
from registry.cli.progress import progress_bar
from registry.cli.upgrading import database_faults, require_known, require_newest
from registry.content import backupmaking, backuppruning, backupreading, backuprestoring
from registry.content import backups as kept
from registry.db import migrate
from registry.db.engine import Database
from registry.errors import ConflictError, RequestInvalidError
from registry.settings import SettingsError, load_settings
from registry.storage.age import Identity, parse_recipient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.content.backups import Backup, Backups
    from registry.settings import Settings
    from registry.storage.age import Recipient

_SHOWN = 20
_LISTED = ("id", "blobs", "blob_bytes", "new_bytes", "encrypted", "has_secret_key", "missing", "version")


def create(
    settings: Settings,
    target: str,
    recipients: Sequence[str],
    *,
    credentials: Path | None,
    parallel: int,
    as_json: bool,
) -> None:
    """Run the command.

    Raises:
        ConflictError: as :func:`backupmaking.make`; or blobs are missing.
        SettingsError: the settings, the target or a recipient cannot be used.
    """
    require_newest(settings)
    known = tuple(dict.fromkeys(map(_recipient, recipients)))
    made = asyncio.run(_create(settings, target, known, credentials, parallel=parallel))
    if as_json:
        print_json(made.model_dump(mode="json", exclude={"tables"}))
    else:
        typer.echo(
            f"{made.id}: {made.rows} rows, {made.blobs} blobs with {made.blob_bytes} bytes; "
            f"{made.new_blobs} of them with {made.new_bytes} bytes are new in the target."
        )
    if not made.has_secret_key:
        typer.echo(
            "THE SECRET KEY IS NOT IN THIS BACKUP, as it is not encrypted. Keep a copy of\n"
            f"  {secret_key_path(settings)}\n"
            "somewhere else: without it the backup cannot be restored. Or encrypt, with --recipient.",
            err=True,
        )
    _tell_problems(made.missing, "not in the backup")
    if made.missing:
        raise ConflictError(
            f"{len(made.missing)} blobs are not in the backup; they cannot be pulled from the registry either"
        )


async def _create(
    settings: Settings,
    target: str,
    recipients: tuple[Recipient, ...],
    credentials: Path | None,
    *,
    parallel: int,
) -> Backup:
    path = secret_key_path(settings)
    text = await asyncio.to_thread(_secret_key_text, path)
    async with AsyncExitStack() as stack:
        database = Database(settings.effective_database_url, pool_size=parallel)
        stack.push_async_callback(database.close)
        store = await open_blob_store(settings, database)
        stack.push_async_callback(store.close)
        opened = await open_target(target, settings, credentials)
        stack.push_async_callback(opened.close)
        registry = backupmaking.Registry(
            database_url=settings.effective_database_url,
            database=database,
            store=store,
            secret_key=parse_secret_key(text, path),
            secret_key_text=text,
            work=stack.enter_context(work_folder(settings.data)),
        )
        return await backupmaking.make(registry, opened, recipients, parallel=parallel, bars=progress_bar)


def list_all(target: str, config: Path | None, *, credentials: Path | None, as_json: bool) -> None:
    """Run the command.

    Raises:
        NotFoundError, ConflictError, SettingsError: as :func:`kept.open_backups`.
    """
    settings = load_settings(config)

    async def look() -> list[Backup]:
        async with AsyncExitStack() as stack:
            backups = await _open(stack, target, settings, credentials)
            return await backups.all()

    found = [one.model_dump(mode="json", exclude={"tables"}) for one in reversed(asyncio.run(look()))]
    if as_json:
        print_json(found)
    elif found:
        print_table([row | {"missing": len(row["missing"])} for row in found], _LISTED)
    else:
        typer.echo("There is no backup here; one that was interrupted is none.")


def verify(
    target: str,
    config: Path | None,
    *,
    backup: str | None,
    identity: Path | None,
    quick: bool,
    parallel: int,
    credentials: Path | None,
    as_json: bool,
) -> None:
    """Run the command.

    Raises:
        ConflictError: something is missing or damaged.
        NotFoundError, SettingsError: as :func:`kept.open_backups`.
    """
    settings = load_settings(config)
    identities = read_identities(identity)

    async def look(work: Path) -> tuple[Backup, backupreading.Verified]:
        async with AsyncExitStack() as stack:
            backups = await _open(stack, target, settings, credentials, identities)
            found = await backups.find(backup)
            return found, await backupreading.verify(
                backups, found, quick=quick, work=work, parallel=parallel, bars=progress_bar
            )

    with tempfile.TemporaryDirectory(prefix="seatrial-backup-") as folder:
        found, done = asyncio.run(look(Path(folder)))
    if as_json:
        print_json(
            {
                "id": found.id,
                "quick": quick,
                "blobs": done.blobs,
                "bytes": done.bytes,
                "missing": found.missing,
                "problems": done.problems,
            }
        )
    else:
        how = "are there" if quick else "were read and have their digests"
        typer.echo(f"{found.id}: {found.rows} rows; {done.blobs} blobs with {done.bytes} bytes {how}.")
        _tell_problems(found.missing, "not in the registry either when it was made")
        _tell_problems(done.problems, "wrong")
    if done.problems:
        raise ConflictError(f"{len(done.problems)} things in the backup are missing or damaged")


def restore(
    settings: Settings,
    source: str,
    *,
    backup: str | None,
    identity: Path | None,
    dry_run: bool,
    parallel: int,
    credentials: Path | None,
    as_json: bool,
) -> None:
    """Run the command.

    Raises:
        ConflictError: as :func:`backuprestoring.prepare` and :func:`backuprestoring.restore`; or blobs could
            not be restored.
        NotFoundError, SettingsError: as :func:`kept.open_backups`; the settings cannot be used.
    """
    url = require_known(settings.effective_database_url, "database_url")
    identities = read_identities(identity)
    with database_faults("database_url"), work_folder(settings.data) as work:
        prepared, done = asyncio.run(
            _restore(
                settings, source, identities, url=url, backup=backup, dry_run=dry_run, parallel=parallel,
                credentials=credentials, work=work,
            )
        )  # fmt: skip
    found = prepared.backup
    failed = {} if done is None else done.store.failed
    if as_json:
        counted: dict[str, Any] = {"id": found.id, "dry_run": dry_run, "begun": prepared.begun}
        if done is not None:
            counted |= {
                "rows": sum(table.rows for table in done.rows.tables),
                "blobs": done.store.blobs - len(failed),
                "bytes": done.store.bytes,
                "failed": failed,
            }
        print_json(counted)
    elif done is None:
        typer.echo(
            f"{found.id} of {found.made_at:%Y-%m-%d %H:%M:%S} UTC, with {found.rows} rows and {found.blobs} "
            f"blobs of {found.blob_bytes} bytes, can be restored into this database."
        )
        typer.echo("Nothing was changed.")
    else:
        rows = sum(table.rows for table in done.rows.tables)
        typer.echo(
            f"{found.id} of {found.made_at:%Y-%m-%d %H:%M:%S} UTC is restored: {rows} rows, compared; "
            f"{done.store.blobs - len(failed)} blobs, hashed."
        )
        typer.echo(
            "Start the server with the same settings. Who was administrator is that again, with the same"
        )
        typer.echo("password or token; 'seatrial user reset' gives a new one.")
    _tell_problems(failed, "not restored")
    if failed:
        raise ConflictError(f"{len(failed)} blobs could not be restored")


async def _restore(
    settings: Settings,
    source: str,
    identities: tuple[Identity, ...],
    *,
    url: str,
    backup: str | None,
    dry_run: bool,
    parallel: int,
    credentials: Path | None,
    work: Path,
) -> tuple[backuprestoring.Prepared, backuprestoring.Restored | None]:
    async with AsyncExitStack() as stack:
        backups = await _open(stack, source, settings, credentials, identities)
        key = secret_key_path(settings)
        prepared = await backuprestoring.prepare(
            backups, await backups.find(backup), database_url=url, secret_key_file=key, work=work
        )
        if dry_run:
            return prepared, None
        # Uploads to S3 are noted down in a database: there is none yet.
        ledger_url = f"sqlite:///{work / 'ledger.sqlite'}"
        await asyncio.to_thread(migrate.upgrade, ledger_url)
        ledger = Database(ledger_url, pool_size=parallel)
        stack.push_async_callback(ledger.close)
        store = await open_blob_store(settings, ledger)
        stack.push_async_callback(store.close)
        done = await backuprestoring.restore(
            backups,
            prepared,
            store,
            database_url=url,
            secret_key_file=key,
            parallel=parallel,
            bars=progress_bar,
        )
        return prepared, done


def prune(
    target: str,
    config: Path | None,
    *,
    keep: int,
    dry_run: bool,
    credentials: Path | None,
    as_json: bool,
) -> None:
    """Run the command.

    Raises:
        ConflictError: as :func:`backuppruning.prune`.
        NotFoundError, SettingsError: as :func:`kept.open_backups`.
    """
    settings = load_settings(config)

    async def work() -> backuppruning.Pruned:
        async with AsyncExitStack() as stack:
            backups = await _open(stack, target, settings, credentials)
            return await backuppruning.prune(backups, keep=keep, dry_run=dry_run)

    done = asyncio.run(work())
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "removed": list(done.removed),
                "kept": list(done.kept),
                "blobs": done.blobs,
                "bytes": done.bytes,
            }
        )
        return
    for name in done.removed:
        typer.echo(f"{'would go' if dry_run else 'removed'}: {name}")
    typer.echo(
        f"{len(done.kept)} backups stay; {done.blobs} blobs with {done.bytes} bytes "
        f"{'would go' if dry_run else 'went'} that only others named."
    )
    if dry_run:
        typer.echo("Nothing was changed.")


def make_key(file: Path) -> None:
    """Run the command.

    Raises:
        ConflictError: there is such a file.
        SettingsError: it cannot be written.
    """
    identity = Identity.make()
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConflictError(f"{file} exists already; nothing is written over it") from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}") from None
    with os.fdopen(fd, "w", encoding="ascii") as opened:
        opened.write(f"# public key: {identity.recipient}\n{identity.text()}\n")
        opened.flush()
        os.fsync(fd)
    typer.echo(identity.recipient)


async def _open(
    stack: AsyncExitStack,
    target: str,
    settings: Settings,
    credentials: Path | None,
    identities: tuple[Identity, ...] = (),
) -> Backups:
    opened = await open_target(target, settings, credentials)
    stack.push_async_callback(opened.close)
    return await kept.open_backups(opened, identities=identities)


def _recipient(text: str) -> Recipient:
    try:
        return parse_recipient(text)
    except ValueError as error:
        # Not what was given: it may be the private key, by mistake.
        raise RequestInvalidError(f"--recipient, of {len(text)} characters: {error}") from None


def _secret_key_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise SettingsError(f"secret_key_file: {path} cannot be read: {error.strerror}") from None


def _tell_problems(problems: Mapping[str, str], what: str) -> None:
    for name, reason in islice(problems.items(), _SHOWN):
        typer.echo(f"{what}: {name}: {reason}", err=True)
    if len(problems) > _SHOWN:
        typer.echo(f"{what}: {len(problems) - _SHOWN} more; --json has them all", err=True)
