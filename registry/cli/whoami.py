"""``seatrial whoami``: whom the registry takes these commands for."""

from __future__ import annotations

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_fields, print_json, print_table

_SHOWN = ("name", "kind", "admin", "auditor", "came_with", "scopes", "networks", "token_id", "expires_at")


def command(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Print who this token is, what it may do, and until when: never the token itself.

    Without scopes it may do all that the account may.
    """
    found = connect(server, token_file).get("/whoami")
    if as_json:
        print_json(found)
        return
    print_fields(found, _SHOWN)
    if found["roles"]:
        typer.echo("")
        print_table(found["roles"], ("on", "role"))
