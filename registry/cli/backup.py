"""``seatrial backup``: the whole registry kept elsewhere, and a registry out of that, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from registry.cli.client import JsonOption
from registry.cli.options import (
    ConfigOption,
    CredentialsOption,
    DataOption,
    IdentityOption,
    existing_settings,
    require_server_libraries,
    server_settings,
)

app = typer.Typer(help="Backups: create, list, verify, restore, prune.", no_args_is_help=True)

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="A folder, file:///FOLDER or s3://BUCKET/PREFIX?…, where backups are kept."
    ),
]
BackupOption = Annotated[
    str | None,
    typer.Option("--backup", metavar="ID", help="Which, as 'list' shows it. [default: the newest]"),
]
ParallelOption = Annotated[
    int, typer.Option("--parallel", min=1, max=64, help="How many blobs are copied at once.")
]


@app.command()
def create(
    target: TargetArgument,
    *,
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            "--recipient",
            metavar="age1…",
            help="Encrypt for who has the private key of this; 'backup key' makes both. Can be repeated.",
        ),
    ] = None,
    parallel: ParallelOption = 4,
    credentials: CredentialsOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a backup, also while the registry serves: all rows as they stand now, and all blobs they name.

    Only blobs that the target does not have yet are copied. It can be interrupted and run again. The secret
    key is in it only if it is encrypted. Exits 2 if the registry's own store lacks a blob; the backup of all
    else is made.
    """
    settings = existing_settings(config, data=data)
    from registry.cli import backupwork  # noqa: PLC0415  (needs the server's libraries)

    backupwork.create(
        settings, target, recipient or [], credentials=credentials, parallel=parallel, as_json=as_json
    )


@app.command("list")
def list_backups(
    target: TargetArgument,
    *,
    credentials: CredentialsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the backups in a target, the newest first. One that was interrupted is none."""
    require_server_libraries()
    from registry.cli import backupwork  # noqa: PLC0415  (needs the server's libraries)

    backupwork.list_all(target, config, credentials=credentials, as_json=as_json)


@app.command()
def verify(
    target: TargetArgument,
    *,
    backup: BackupOption = None,
    identity: IdentityOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only look whether all is there, with its length; needs no key.")
    ] = False,
    parallel: ParallelOption = 4,
    credentials: CredentialsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a backup whole, each blob by its digest. Exits 2 if anything is missing or damaged.

    The rows are unpacked in a folder for temporary files (TMPDIR).
    """
    require_server_libraries()
    from registry.cli import backupwork  # noqa: PLC0415  (needs the server's libraries)

    backupwork.verify(
        target,
        config,
        backup=backup,
        identity=identity,
        quick=quick,
        parallel=parallel,
        credentials=credentials,
        as_json=as_json,
    )


@app.command()
def restore(
    source: TargetArgument,
    *,
    backup: BackupOption = None,
    identity: IdentityOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look whether it can be restored here; change nothing.")
    ] = False,
    parallel: ParallelOption = 4,
    credentials: CredentialsOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a registry out of a backup: into the empty database and the empty store of the settings.

    It can be interrupted and run again; no server starts on the database before it is whole. Every blob is
    hashed and every row compared. Exits 2 if a blob could not be restored; all others and the rows are then.
    """
    settings = server_settings(config, data=data)
    from registry.cli import backupwork  # noqa: PLC0415  (needs the server's libraries)

    backupwork.restore(
        settings,
        source,
        backup=backup,
        identity=identity,
        dry_run=dry_run,
        parallel=parallel,
        credentials=credentials,
        as_json=as_json,
    )


@app.command()
def prune(
    target: TargetArgument,
    *,
    keep: Annotated[int, typer.Option("--keep", min=1, metavar="N", help="So many stay, the newest.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    credentials: CredentialsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old backups, and the blobs that no other names. Needs no key."""
    require_server_libraries()
    from registry.cli import backupwork  # noqa: PLC0415  (needs the server's libraries)

    backupwork.prune(target, config, keep=keep, dry_run=dry_run, credentials=credentials, as_json=as_json)


@app.command()
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; it must not exist.")],
) -> None:
    """Make a key for encrypted backups: the private half goes into a file, the public one is printed.

    Keep the file away from the registry: who has it reads the backups, and without it nobody does.
    """
    require_server_libraries()
    from registry.cli import backupwork  # noqa: PLC0415  (needs the server's libraries)

    backupwork.make_key(file)
