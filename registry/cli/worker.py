"""``seatrial worker list|drain|revoke``: workers as the registry sees them."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_json, print_table

app = typer.Typer(
    help="Workers: run one here; list, drain, revoke those of a registry.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command("list")
def list_workers(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List workers: when each was last seen, and what it runs."""
    found = list(connect(server, token_file).items("/workers"))
    if as_json:
        print_json(found)
    else:
        print_table(found, ("name", "platforms", "address", "last_seen_at", "drain_at", "revoked_at"))


@app.command()
def drain(
    name: Name,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Give it jobs again.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a worker no more jobs; it ends the one it has, and then itself."""
    connect(server, token_file).send("DELETE" if undo else "PUT", f"/workers/{part(name)}/drain")
    if as_json:
        print_json({"name": name, "drained": not undo})


@app.command()
def revoke(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Let a worker and its tokens open nothing from now on."""
    connect(server, token_file).send("POST", f"/workers/{part(name)}/revoke")
    if as_json:
        print_json({"name": name, "revoked": True})
