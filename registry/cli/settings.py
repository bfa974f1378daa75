"""``seatrial settings``: what the registry was started with."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_list

_COLUMNS = ("name", "value", "is_default")


def command(
    *,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only those that are not as they are by default.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the settings of the registry, as it was started with; no secrets."""
    every = connect(server, token_file).items("/settings")
    found = [one for one in every if not (changed and one["is_default"])]
    print_list(found, _COLUMNS, as_json=as_json)
