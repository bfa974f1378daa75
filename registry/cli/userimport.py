"""``seatrial user import``: users of an htpasswd file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_json, print_table
from registry.errors import RequestInvalidError

_LINES_AT_ONCE = 500
app = typer.Typer()


@app.command("import")
def import_users(
    *,
    htpasswd: Annotated[
        Path, typer.Option("--htpasswd", metavar="FILE", help="NAME:HASH in each line, with bcrypt hashes.")
    ],
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make users of an htpasswd file; their passwords stay as they are.

    Only bcrypt is taken ('htpasswd -B'). Lines that make no user are listed with the reason; the exit code is
    1 then. Users that there are stay as they are.
    """
    try:
        lines = htpasswd.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalidError(f"the file {htpasswd} cannot be read: {error}") from None
    client = connect(server, token_file)
    done: dict[str, list[Any]] = {"users": [], "refused": []}
    for start in range(0, len(lines), _LINES_AT_ONCE):
        text = "\n".join(lines[start : start + _LINES_AT_ONCE])
        told = client.send("POST", "/htpasswd-imports", {"htpasswd": text})
        done["users"] += told["users"]
        done["refused"] += [{**each, "line": each["line"] + start} for each in told["refused"]]
    if as_json:
        print_json(done)
    else:
        typer.echo(f"{len(done['users'])} users made")
        if done["refused"]:
            print_table(done["refused"], ("line", "name", "reason"))
    if done["refused"]:
        raise typer.Exit(1)
