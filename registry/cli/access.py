"""``seatrial access``: who may do what, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_fields, print_json, print_table

app = typer.Typer(help="Access: who may do what, and why.", no_args_is_help=True)
_FIELDS = ("allowed", "rule", "reason", "exists", "visibility")


@app.callback()
def group() -> None:
    """Access: who may do what, and why."""


@app.command()
def explain(
    actor: Annotated[
        str, typer.Argument(metavar="ACTOR", help="A user, robot or worker by name, or anonymous.")
    ],
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="pull, push, trial, delete, configure or administer.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="A repository, there or not; a namespace has a slash at its end: team/."
        ),
    ],
    *,
    token: Annotated[
        str | None, typer.Option("--token", metavar="ID", help="With which of the actor's API tokens.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell whether somebody may do something somewhere, and which rule decides; exit 1 if not."""
    asked = {"actor": actor, "action": action, "target": target, "token": token}
    found = connect(server, token_file).get("/access/explain", asked)
    if as_json:
        print_json(found)
    else:
        print_fields(found, _FIELDS)
        if found["roles"]:
            typer.echo()
            print_table(found["roles"], ("role", "on", "group"))
        for note in found["notes"]:
            typer.echo(f"\n{note}")
    if not found["allowed"]:
        raise typer.Exit(1)
