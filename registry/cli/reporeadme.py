"""``seatrial repo readme``: what is said of a repository to those who come to look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part, read_text
from registry.cli.output import print_fields, print_json
from registry.oci.printable import printable

app = typer.Typer(no_args_is_help=True)


@app.command()
def readme(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in team/app.")],
    *,
    file: Annotated[
        str | None, typer.Option("--set", metavar="FILE|none", help="Let this be the README (Markdown).")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the README of a repository, or set it: what its page says to those who come to look.

    Whoever may push sets it. HTML in it is shown as text, and pictures are named, not loaded.
    """
    client, path = connect(server, token_file), f"/repositories/{part(name)}/readme"
    if file is None:
        found = client.get(path)
        if as_json:
            print_json(found)
        else:
            for line in found["text"].splitlines():
                typer.echo(printable(line))
        return
    if file == "none":
        client.send("DELETE", path)
        if as_json:
            print_json({"name": name, "cleared": True})
        return
    made = client.send("PUT", path, {"text": read_text(Path(file), what="README")})
    if as_json:
        print_json(made)
    else:
        print_fields(made, ("updated_by", "updated_at"))
