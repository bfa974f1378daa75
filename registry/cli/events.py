"""``seatrial events``: the feed of events, read on from where one was."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import cell

app = typer.Typer(help="The feed of events: follow.", no_args_is_help=True)
_COLUMNS = ("at", "actor", "kind", "repository", "target")
_WAIT_SECONDS = 30


@app.callback()
def group() -> None:
    """Keep this a group, though it has one command."""


@app.command()
def follow(
    *,
    after: Annotated[
        str,
        typer.Option(
            "--after", metavar="CURSOR", help="Go on here; 0 is the oldest that is kept. [default: now]"
        ),
    ] = "now",
    repository: Annotated[
        str | None, typer.Option("--repository", metavar="NAME", help="Of this one; its readers may ask too.")
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", metavar="KIND", help="Kinds, as tag.moved or 'trial.*'; again for more."),
    ] = None,
    until_now: Annotated[
        bool, typer.Option("--until-now", help="End where there is nothing more, and print the cursor.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print events in their order as they come, until Ctrl-C. --json prints JSON lines.

    None is passed over. Whoever keeps the cursor (--until-now prints it on stderr) goes on after days.
    """
    client = connect(server, token_file)
    asked: dict[str, object] = {
        "repository": repository,
        "kind": ",".join(event) if event else None,
        "limit": 1000,
    }
    wait, cursor = (0 if until_now else _WAIT_SECONDS), after
    while True:
        page = client.get("/events", {**asked, "cursor": cursor, "wait": wait}, seconds=wait + 30)
        cursor = page["cursor"]
        if page["missed"]:
            typer.echo("some events after this cursor are no longer kept", err=True)
        for one in page["items"]:
            if as_json:
                typer.echo(json.dumps(one, ensure_ascii=True))
            else:
                typer.echo("  ".join(cell(one[column]) for column in _COLUMNS))
        if until_now and not page["more"]:
            typer.echo(cursor, err=True)
            return
