"""``seatrial scanner``: which other scanners look at the images of a place."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_fields, print_json, print_table
from registry.cli.places import OnArgument

app = typer.Typer(no_args_is_help=True, help="Other scanners, as images: set, list and remove them.")
NameArgument = Annotated[
    str, typer.Argument(metavar="SCANNER", help="Name under which it tells what it finds, as in trivy.")
]
_FIELDS = ("on", "name", "image", "created_by", "created_at")


@app.command("set")
def set_scanner(
    *,
    on: OnArgument,
    name: NameArgument,
    image: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="NAME:TAG or NAME@DIGEST; a tag is resolved now."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be set, and how many workers can run it.")
    ] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have an image look at all images of a place that are scanned from now on; one of that name is replaced.

    It has the label io.seatrial.scanner. If it fails, or a worker cannot run it, the scan is incomplete.
    """
    body = {"on": on, "name": name, "image": image}
    if dry_run:
        told = connect(server, token_file).send("POST", "/scanners/preview", body)
        if as_json:
            print_json(told)
            return
        replaced = told["replaces"] and f"{told['replaces']['image']} on {told['replaces']['on']}"
        print_fields(told | {"replaces": replaced}, ("on", "name", "image", "replaces"))
        print_table(told["images"], ("platform", "format", "command", "wall_seconds", "workers"))
        return
    placed = connect(server, token_file).send("PUT", "/scanners", body)
    if as_json:
        print_json(placed)
    else:
        print_fields(placed, _FIELDS)


@app.command("list")
def list_scanners(
    *,
    on: OnArgument,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the scanners that look at the images of a place, and on which place each was set."""
    found = connect(server, token_file).get("/scanners", {"on": on})["items"]
    if as_json:
        print_json(found)
    else:
        print_table(found, ("name", "image", "on", "created_by", "created_at"))


@app.command("remove")
def remove_scanner(
    *,
    on: OnArgument,
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a scanner look at the images of a place no longer; one of a namespace above looks again."""
    require_yes(f"Have {name} look at images of {on} no longer?", yes=yes)
    connect(server, token_file).remove("/scanners", {"on": on, "name": name})
    if as_json:
        print_json({"on": on, "name": name, "removed": True})
