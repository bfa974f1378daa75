"""``seatrial db``: the database's schema, without a server."""

from __future__ import annotations

import typer

from registry.cli.client import JsonOption
from registry.cli.options import ConfigOption, DataOption, server_settings
from registry.cli.output import print_json

app = typer.Typer(help="The database: upgrade, check.", no_args_is_help=True)


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
    elif done.before == done.after:
        typer.echo(f"The database has schema {done.after}, the newest.")
    else:
        typer.echo(f"The database now has schema {done.after}.")


@app.command()
def check(*, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether the database has this version's schema; exit 2 if not. Changes nothing."""
    settings = server_settings(config, data=data)
    from registry.cli.upgrading import look, require_newest  # noqa: PLC0415  (needs the server's libraries)

    found = look(settings)
    if as_json:
        print_json({"current": found.before, "newest": found.after})
    require_newest(settings)
    if not as_json:
        typer.echo(f"The database has schema {found.after}, the newest.")
