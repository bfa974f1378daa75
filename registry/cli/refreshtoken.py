"""``seatrial refresh-token``: what clients that signed in keep in the place of a password."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_json, print_list

app = typer.Typer(no_args_is_help=True, help="Refresh tokens of clients: list and revoke them.")


@app.command("list")
def list_refresh_tokens(
    *,
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="This account's, as an administrator.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List your own, or as an administrator another account's."""
    found = list(
        connect(server, token_file).items("/refresh-tokens", {"account": account} if account else None)
    )
    print_list(
        found,
        ("id", "account", "client", "address", "created_at", "last_used_at", "expires_at"),
        as_json=as_json,
    )


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let one open nothing from now on; its client has to sign in again."""
    connect(server, token_file).send("DELETE", f"/refresh-tokens/{part(token_id)}")
    if as_json:
        print_json({"id": token_id, "revoked": True})
    else:
        typer.echo(f"{token_id} is revoked")
