"""``seatrial keys``: the keys that sign registry tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_fields, print_json, print_list

app = typer.Typer(no_args_is_help=True, help="Signing keys: list and replace them.")
_SHOWN = ("kid", "ring", "algorithm", "created_at", "retired_at")


@app.command("list")
def list_keys(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List all keys, the newest first, without their private halves."""
    found = list(connect(server, token_file).items("/keys"))
    print_list(found, _SHOWN, as_json=as_json)


@app.command()
def rotate(
    *,
    algorithm: Annotated[
        str | None,
        typer.Option("--algorithm", metavar="ES256|EdDSA", help="[default: as the server is set]"),
    ] = None,
    at_once: Annotated[
        bool,
        typer.Option("--at-once", help="A key was stolen: what older keys signed is refused from now on."),
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new key. It signs after a minute; older ones verify until the last token of theirs has ended."""
    wanted: dict[str, object] = {"at_once": at_once}
    if algorithm is not None:
        wanted["algorithm"] = algorithm
    made = connect(server, token_file).send("POST", "/keys/rotate", wanted)
    if as_json:
        print_json(made)
    else:
        print_fields(made, _SHOWN)
