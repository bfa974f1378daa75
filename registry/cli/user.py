"""``seatrial user``: accounts of people."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.options import ConfigOption, DataOption, server_settings
from registry.cli.output import print_json, print_table
from registry.errors import RequestInvalidError

app = typer.Typer(help="Users: create, list, disable, reset.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command()
def create(
    name: Name,
    *,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", metavar="FILE|-", help="Where the password is. [default: one is generated]"
        ),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Make an administrator.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a user. A generated password is printed, once."""
    body: dict[str, object] = {"name": name, "admin": admin}
    if password_file is not None:
        body["password"] = _password(password_file)
    made = connect(server, token_file).send("POST", "/accounts", body)
    if as_json:
        print_json(made)
    elif "password" in made:
        typer.echo(made["password"])


@app.command("list")
def list_users(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List users."""
    found = list(connect(server, token_file).items("/accounts"))
    if as_json:
        print_json(found)
    else:
        print_table(found, ("name", "admin", "created_at", "disabled_at"))


@app.command()
def disable(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Let a user do nothing from now on."""
    connect(server, token_file).send("POST", f"/accounts/{part(name)}/disable")
    if as_json:
        print_json({"name": name, "disabled": True})


@app.command()
def reset(
    name: Name, *, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Give a user a new password, and enable it, without the server: for whoever holds its data folder.

    The tokens that may do all that the user may are revoked. For 'admin' the new one is a token again, in
    DATA/admin.token. A server that runs knows at once.
    """
    settings = server_settings(config, data=data)
    from registry.cli.resetting import reset_user  # noqa: PLC0415  (needs the server's libraries)
    from registry.cli.upgrading import require_newest  # noqa: PLC0415

    require_newest(settings)
    done = asyncio.run(reset_user(settings, name))
    if as_json:
        print_json(done)
    elif "token_file" in done:
        typer.echo(f"The new token of {name} is in {done['token_file']}")
    else:
        typer.echo(done["password"])


def _password(path: Path) -> str:
    try:
        text = sys.stdin.readline() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalidError(f"the password file {path} cannot be read: {error}") from None
    return text.rstrip("\r\n")
