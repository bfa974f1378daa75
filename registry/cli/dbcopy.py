"""``seatrial db copy``: from one database to another, with what is told on the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import typer

from registry.cli.output import print_json
from registry.cli.progress import progress_bar
from registry.cli.upgrading import database_faults, require_known
from registry.db import copying

if TYPE_CHECKING:
    from registry.db.copying import Copied, Preview


def copy_database(source: str, target: str, *, ahead: bool, dry_run: bool, as_json: bool) -> None:
    """Run the command.

    Raises:
        ConflictError: as :func:`registry.db.copying.copy`.
        SettingsError: one of the databases cannot be used.
    """
    os.umask(0o077)
    require_known(source, "--from")
    require_known(target, "--to")
    with database_faults("--from or --to"):
        found = copying.preview(source, target)
        if dry_run:
            _tell_preview(found, as_json=as_json)
            return
        rows = sum(found.rows.values())
        label, total = ("Rows copied", rows) if ahead else ("Rows copied, then compared", 2 * rows)
        with progress_bar(label, total) as progress:
            copied = copying.copy(source, target, ahead=ahead, progress=progress)
    _tell(copied, as_json=as_json)


def _tell_preview(found: Preview, *, as_json: bool) -> None:
    if as_json:
        print_json({"schema": found.schema, "rows": found.rows, "begun": found.begun, "served": found.served})
        return
    for name, rows in found.rows.items():
        typer.echo(f"{rows:>12}  {name}")
    typer.echo(
        "The target holds a begun copy of this source; it goes on."
        if found.begun
        else "The target is empty; it gets this version's schema first."
    )
    if found.served:
        typer.echo("A server uses the source: stop it first, or copy ahead with --ahead.")
    typer.echo("Nothing was changed.")


def _tell(copied: Copied, *, as_json: bool) -> None:
    if as_json:
        tables: list[dict[str, Any]] = [
            {
                "name": table.name,
                "rows": table.rows,
                "written": table.written,
                "deleted": table.deleted,
                "checksum": table.checksum,
            }
            for table in copied.tables
        ]
        print_json({"schema": copied.schema, "finished": copied.finished, "tables": tables})
        return
    rows = sum(table.rows for table in copied.tables)
    written = sum(table.written for table in copied.tables)
    deleted = sum(table.deleted for table in copied.tables)
    changes = f"{written} written" + (f", {deleted} taken away" if deleted else "")
    if copied.finished:
        typer.echo(f"{rows} rows in {len(copied.tables)} tables ({changes}): both sides are equal.")
        typer.echo(
            "Start the server with the target as SEATRIAL_DATABASE_URL, and none beside it with the source."
        )
    else:
        typer.echo(
            f"{rows} rows in {len(copied.tables)} tables ({changes}). The copy is not finished: stop the"
        )
        typer.echo("server, and run this again without --ahead.")
