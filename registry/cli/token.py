"""``seatrial token``: API tokens, for programs and for workers."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.durations import parse_duration_seconds
from registry.cli.output import print_json, print_table
from registry.errors import RequestInvalidError

app = typer.Typer(help="API tokens: create, list, revoke.", no_args_is_help=True)
_SHOWN = ("id", "token", "scopes", "expires_at")


@app.command()
def create(
    *,
    name: Annotated[str | None, typer.Option("--name", help="What it is for.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="repository:NAME:ACTIONS|admin",
            help="What it may do: pull, push, delete in repositories ('*' in NAME is any text), or manage. "
            "Can be repeated.",
        ),
    ] = None,
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="NAME", help="Make a worker's token instead.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", metavar="USER", help="For this user instead of yourself.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="1h|30d", help="How long it works. [default: for ever]")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it; nobody can read it again later.

    It is a password too, under any user name: podman login -u x --password-stdin HOST.
    """
    if (name is None) == (worker is None):
        raise RequestInvalidError("give --name with --scope, or --worker")
    if name is not None and not scope:
        raise RequestInvalidError("give at least one --scope, as in repository:team/app:pull,push")
    wanted = {
        "name": name,
        "scopes": scope,
        "worker": worker,
        "account": account,
        "expires_seconds": parse_duration_seconds(expires) if expires else None,
    }
    made = connect(server, token_file).send(
        "POST", "/tokens", {field: value for field, value in wanted.items() if value}
    )
    if as_json:
        print_json({field: made[field] for field in _SHOWN})
    else:
        typer.echo(made["token"])


@app.command("list")
def list_tokens(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List tokens: an administrator sees all, others their own."""
    found = list(connect(server, token_file).items("/tokens"))
    if as_json:
        print_json(found)
    else:
        print_table(found, ("id", "name", "account", "scopes", "last_used_at", "expires_at", "revoked_at"))


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a token open nothing from now on."""
    connect(server, token_file).send("DELETE", f"/tokens/{part(token_id)}")
    if as_json:
        print_json({"id": token_id, "revoked": True})
