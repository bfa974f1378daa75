"""``seatrial db``: the database's schema, without a server."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import JsonOption
from registry.cli.options import (
    ConfigOption,
    DataOption,
    existing_settings,
    require_server_libraries,
    server_settings,
)
from registry.cli.output import print_json

app = typer.Typer(help="The database: upgrade, check, copy.", no_args_is_help=True)


@app.command()
def upgrade(*, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this version's schema, as 'serve' does at start. SQLite is copied aside first."""
    settings = server_settings(config, data=data)
    from registry.cli.upgrading import upgrade_and_tell  # noqa: PLC0415  (needs the server's libraries)

    done = upgrade_and_tell(settings)
    if as_json:
        print_json(
            {"before": done.before, "after": done.after, "backup": str(done.backup) if done.backup else None}
        )
    elif done.newer:
        pass  # said already
    elif done.before == done.after:
        typer.echo(f"The database has schema {done.after}, the newest.")
    else:
        typer.echo(f"The database now has schema {done.after}.")


@app.command()
def check(*, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether the database has this version's schema; exit 2 if not. Changes nothing."""
    settings = existing_settings(config, data=data)
    from registry.cli.upgrading import look, require_newest  # noqa: PLC0415  (needs the server's libraries)

    found = look(settings)
    if as_json:
        print_json({"current": found.before, "newest": found.after})
    require_newest(settings)
    if not as_json:
        what = "newer than this version's, which runs on it" if found.newer else "the newest"
        typer.echo(f"The database has schema {found.after}, {what}.")


@app.command()
def copy(
    *,
    source: Annotated[
        str, typer.Option("--from", metavar="URL", help="sqlite:///FILE or postgresql://…; is only read.")
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="URL", help="An empty database, or one that a copy was begun into.")
    ],
    ahead: Annotated[
        bool, typer.Option("--ahead", help="Copy while the server runs; then stop it, and run this again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be copied; change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a whole database to another, as from SQLite to PostgreSQL, while no server runs.

    It can be interrupted and run again. At the end every table is read back from both sides and compared; no
    server starts on a target that is not finished. A password belongs in ~/.pgpass or PGPASSWORD, not here.
    """
    require_server_libraries()
    from registry.cli.dbcopy import copy_database  # noqa: PLC0415  (needs the server's libraries)

    copy_database(source, target, ahead=ahead, dry_run=dry_run, as_json=as_json)
