"""``seatrial user``: accounts of people."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, Server, ServerOption, TokenOption, connect, part
from registry.cli.options import ConfigOption, DataOption, existing_settings
from registry.cli.output import print_fields, print_json, print_list, print_with_roles
from registry.errors import RequestInvalidError

app = typer.Typer(help="Users: create, list, change, disable, delete, reset.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]
KeepTokensOption = Annotated[bool, typer.Option("--keep-tokens", help="Do not revoke the user's API tokens.")]
_SHOWN = ("name", "admin", "auditor", "has_password", "created_at", "disabled_at")


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
    auditor: Annotated[
        bool, typer.Option("--auditor", help="Let the user read everything, and change nothing by that.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a user. A generated password is printed, once."""
    body: dict[str, object] = {"name": name, "admin": admin, "auditor": auditor}
    if password_file is not None:
        body["password"] = _password(password_file)
    made = connect(server, token_file).send("POST", "/users", body)
    if as_json:
        print_json(made)
    elif "password" in made:
        typer.echo(made["password"])


@app.command("list")
def list_users(
    *,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="TEXT", help="Only names that begin with this.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List users."""
    found = list(connect(server, token_file).items("/users", {"prefix": prefix}))
    print_list(found, _SHOWN, as_json=as_json)


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show a user, and the roles that it holds by itself and by its groups."""
    client = connect(server, token_file)
    user = client.get(f"/users/{part(name)}")
    roles = list(client.items(f"/users/{part(name)}/grants"))
    print_with_roles(user, _SHOWN, roles, ("on", "role", "member", "created_at"), as_json=as_json)


@app.command("set")
def change(
    name: Name,
    *,
    admin: Annotated[
        bool | None, typer.Option("--admin/--no-admin", help="An administrator, or none.")
    ] = None,
    auditor: Annotated[
        bool | None, typer.Option("--auditor/--no-auditor", help="An auditor, or none.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a user an administrator or auditor, or none. The last administrator stays one."""
    wanted = {"admin": admin, "auditor": auditor}
    body = {flag: value for flag, value in wanted.items() if value is not None}
    if not body:
        raise RequestInvalidError("give --admin, --no-admin, --auditor or --no-auditor")
    _change(name, body, server=server, token_file=token_file, as_json=as_json)


@app.command()
def disable(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Let a user do nothing from now on: its password, tokens, sessions and uploads end at once."""
    _change(name, {"disabled": True}, server=server, token_file=token_file, as_json=as_json)


@app.command()
def enable(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Let a user sign in again, with its password and the API tokens that were not revoked."""
    _change(name, {"disabled": False}, server=server, token_file=token_file, as_json=as_json)


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a user with its tokens, sessions, roles and memberships. Histories keep its name."""
    require_yes(f"Delete the user {name}, and all its tokens?", yes=yes)
    connect(server, token_file).send("DELETE", f"/users/{part(name)}")
    if as_json:
        print_json({"name": name, "deleted": True})


@app.command()
def password(
    name: Name,
    *,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", metavar="FILE|-", help="Where the new one is. [default: one is generated]"
        ),
    ] = None,
    old_password_file: Annotated[
        Path | None,
        typer.Option("--old-password-file", metavar="FILE|-", help="Where the old one is: for your own."),
    ] = None,
    keep_tokens: KeepTokensOption = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change your own password by the old one, or as an administrator another's.

    Sessions and registry tokens of before end. An administrator's reset revokes the user's API tokens too.
    A generated password is printed, once.
    """
    body: dict[str, object] = {"keep_tokens": keep_tokens}
    if password_file is not None:
        body["password"] = _password(password_file)
    if old_password_file is not None:
        body["old_password"] = _password(old_password_file)
    done = connect(server, token_file).send("POST", f"/users/{part(name)}/password", body)
    if as_json:
        print_json(done)
    elif "password" in done:
        typer.echo(done["password"])


@app.command()
def reset(
    name: Name,
    *,
    data: DataOption = None,
    config: ConfigOption = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="FILE", help="Write it there, readable by you only, not to the screen."
        ),
    ] = None,
    keep_tokens: KeepTokensOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a user a new password, and enable it, without the server: for whoever holds its data folder.

    What the user signed in with before opens nothing any more: password, API tokens, sessions, refresh and
    registry tokens. For 'admin' the new one is a token again, in DATA/admin.token, and it is an administrator
    again if it was made none. A server that runs knows at once.
    """
    settings = existing_settings(config, data=data)
    from registry.cli.resetting import reset_user  # noqa: PLC0415  (needs the server's libraries)
    from registry.cli.upgrading import require_newest  # noqa: PLC0415

    require_newest(settings)
    done = asyncio.run(reset_user(settings, name, file=file, keep_tokens=keep_tokens))
    if as_json:
        print_json(done)
    elif "token_file" in done:
        typer.echo(f"The new token of {name} is in {done['token_file']}")
    elif "password_file" in done:
        typer.echo(f"The new password of {name} is in {done['password_file']}")
    else:
        typer.echo(done["password"])


def _change(
    name: str, body: Mapping[str, object], *, server: Server, token_file: str | None, as_json: bool
) -> None:
    changed = connect(server, token_file).send("PATCH", f"/users/{part(name)}", body)
    if as_json:
        print_json(changed)
    else:
        print_fields(changed, _SHOWN)


def _password(path: Path) -> str:
    try:
        text = sys.stdin.readline() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalidError(f"the password file {path} cannot be read: {error}") from None
    return text.rstrip("\r\n")
