"""``seatrial worker list|show|set|drain|revoke``: workers as the registry sees them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_table
from registry.contract.sizes import shown_size
from registry.errors import RequestInvalidError

app = typer.Typer(
    help="Workers: run one here; list, show, bind, drain, revoke those of a registry.", no_args_is_help=True
)

_FIELDS = (
    "name",
    "platforms",
    "mechanisms",
    "disk_bytes",
    "disk_most_bytes",
    "waiting_parts",
    "needed_bytes",
    "namespaces",
    "labels",
    "networks",
    "slots",
    "leases",
    "address",
    "last_seen_at",
    "drain_at",
    "revoked_at",
)
Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command("list")
def list_workers(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List workers: when each was last seen, what it runs, and what room its disk has."""
    found = list(connect(server, token_file).items("/workers"))
    if as_json:
        print_json(found)
    else:
        columns = ("name", "platforms", "address", "last_seen_at", "room", "drain_at", "revoked_at")
        print_table([{**worker, "room": _room(worker)} for worker in found], columns)


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show one worker: what it is bound to, and how many leases it holds."""
    _print(connect(server, token_file).get(f"/workers/{part(name)}"), as_json=as_json)


@app.command("set")
def bind(
    name: Name,
    *,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            metavar="NAME|any",
            help="Let it try this namespace and those below it only; '*' is any text. Can be repeated.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="LABEL|none", help="Label that repositories may demand. Can be repeated."
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="CIDR|any", help="Let it come from there only. Can be repeated."),
    ] = None,
    slots: Annotated[
        str | None,
        typer.Option("--slots", metavar="N|any", help="How many images it may have at once at most."),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bind a worker: what is given replaces what was there."""
    wanted: dict[str, Any] = {}
    for field, given in (("namespaces", namespace), ("labels", label), ("networks", network)):
        if given:
            wanted[field] = None if given in (["any"], ["none"]) else given
    if slots is not None:
        if slots != "any" and not (slots.isascii() and slots.isdigit()):
            raise RequestInvalidError(f"--slots {slots[:80]!r} is no number")
        wanted["slots"] = None if slots == "any" else int(slots)
    if not wanted:
        raise RequestInvalidError("nothing to change: give --namespace, --label, --network or --slots")
    _print(connect(server, token_file).send("PATCH", f"/workers/{part(name)}", wanted), as_json=as_json)


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


def _room(worker: dict[str, Any]) -> str | None:
    if worker["disk_bytes"] is None:
        return None
    room = shown_size(worker["disk_bytes"])
    if not worker["waiting_parts"]:
        return room
    return f"{room}; {worker['waiting_parts']} wait for {shown_size(worker['needed_bytes'])}"


def _print(worker: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(worker)
    else:
        print_fields(worker, _FIELDS)
