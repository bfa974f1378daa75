"""``seatrial logout``: forget a login, and revoke the token that it made."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.addresses import parse_address
from registry.cli.client import CallError, Client, JsonOption, part
from registry.cli.logins import load_logins, save_logins
from registry.cli.output import print_json
from registry.errors import RequestInvalidError


def command(
    *,
    server: Annotated[
        str | None, typer.Argument(metavar="SERVER", help="Address. [default: the last one signed in to]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Forget the token for a registry. One that login has made is revoked there as well.

    It is forgotten also where the registry cannot be reached; then revoke it there: seatrial token revoke ID.
    """
    logins = load_logins()
    address = parse_address(server) if server else logins.current
    if address is None or address not in logins.servers:
        raise RequestInvalidError(f"nobody is signed in{f' to {address}' if address else ''} here")
    login = logins.servers[address]
    save_logins(logins.without(address))
    revoked = False
    if login.token_id is not None:
        client = Client(address, f"Bearer {login.token}", login.ca_file)
        try:
            client.send("DELETE", f"/tokens/{part(login.token_id)}")
            revoked = True
        except CallError as error:
            if error.status != 401:  # it has expired or was revoked
                raise
    if as_json:
        print_json({"server": address, "revoked": revoked})
    else:
        typer.echo(f"Signed out of {address}")
