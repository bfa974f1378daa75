"""``seatrial login``: a token for the commands of this user, on this host."""

from __future__ import annotations

import base64
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

from registry.cli.addresses import parse_address, require_private
from registry.cli.client import CallError, Client, JsonOption, looks_like_token
from registry.cli.durations import parse_duration_seconds
from registry.cli.logins import Login, load_logins, logins_file, save_logins
from registry.cli.output import print_json
from registry.errors import RequestInvalidError

DEFAULT_EXPIRES = "30d"
_EVERYTHING = ("repository:*:pull,push,delete,trial,configure,administer", "account")


def command(
    context: typer.Context,
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Address, as in registry.example.")],
    *,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="Whose password it is.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read password or token from standard input.")
    ] = False,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="repository:NAME:ACTIONS|account|admin",
            help="What the token may do that a password is exchanged for. [default: all that the user may]",
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="8h|30d", help="How long that token works.")
    ] = DEFAULT_EXPIRES,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", metavar="FILE", exists=True, dir_okay=False, help="Trust this authority as well."
        ),
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Send tokens in clear to this server, also over a network.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign in to a registry: all other commands then speak to it, with the token that is kept.

    Takes an API token, or a user's name and password, for which a token is made; the password is not kept.
    The token is in ~/.config/seatrial/logins.json, which nobody else can read; seatrial logout revokes it.
    """
    given = context.find_root().params
    ca_file = ca_file or given.get("ca_file")
    plain_http = plain_http or bool(given.get("plain_http"))
    address = parse_address(server if "://" in server or ca_file is None else f"https://{server}")
    require_private(address, plain_http=plain_http)
    logins = load_logins()
    user, secret = _ask(user, from_stdin=password_stdin)
    trusted = None if ca_file is None else ca_file.resolve()
    if looks_like_token(secret):
        if scope:
            raise RequestInvalidError("--scope is for a password; a token has its scopes already")
        Client(address, f"Bearer {secret}", trusted).get("/repositories", {"limit": 1})
        token, token_id = secret, None
    else:
        basic = base64.b64encode(f"{user}:{secret}".encode()).decode()
        made = _token_for(Client(address, f"Basic {basic}", trusted), scope, expires)
        token, token_id = made["token"], made["id"]
    save_logins(logins.with_login(address, Login(token, token_id, trusted, plain_http)))
    if as_json:
        print_json({"server": address, "token_id": token_id, "file": str(logins_file())})
    else:
        typer.echo(f"Signed in to {address}; the token is in {logins_file()}")


def _ask(user: str | None, *, from_stdin: bool) -> tuple[str, str]:
    if from_stdin:
        secret = sys.stdin.readline().rstrip("\r\n")
    else:
        user = user or typer.prompt("User (empty: sign in with an API token)", default="", show_default=False)
        secret = typer.prompt("Password" if user else "API token", hide_input=True)
    if not secret:
        raise RequestInvalidError("there is no password and no token to sign in with")
    if not user and not looks_like_token(secret):
        raise RequestInvalidError("this is no API token; for a password say whose it is with --user")
    return user or "", secret


def _token_for(client: Client, scopes: list[str] | None, expires: str) -> dict[str, str]:
    wanted = {
        "name": f"seatrial login on {platform.node()[:60] or 'a host without a name'}",
        "expires_seconds": parse_duration_seconds(expires),
    }
    try:
        made: dict[str, str] = client.send("POST", "/tokens", {**wanted, "scopes": scopes or ["admin"]})
    except CallError as error:
        if scopes or error.status != 400:
            raise
        # No administrator: then all that such a token can have.
        made = client.send("POST", "/tokens", {**wanted, "scopes": _EVERYTHING})
    return made
