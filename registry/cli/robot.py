"""``seatrial robot``: accounts of programs, which belong to a namespace."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, Server, ServerOption, TokenOption, connect, part
from registry.cli.output import print_fields, print_json, print_list, print_with_roles

app = typer.Typer(
    no_args_is_help=True,
    help="Robots, named NAMESPACE+NAME: create, list, disable, delete. 'token create --account' makes them "
    "tokens, 'member set' gives them roles.",
)

Name = Annotated[str, typer.Argument(metavar="NAMESPACE+NAME")]
_SHOWN = ("name", "namespace", "created_at", "disabled_at")


@app.command()
def create(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Make a robot in a namespace that you own. One that there is stays, and is enabled."""
    _put(name, disabled=False, server=server, token_file=token_file, as_json=as_json)


@app.command("list")
def list_robots(
    *,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", metavar="NAME", help="Of this one. [default: all, as an administrator]"),
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List robots."""
    found = list(connect(server, token_file).items("/robots", {"namespace": namespace}))
    print_list(found, _SHOWN, as_json=as_json)


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show a robot, and the roles that it holds."""
    client = connect(server, token_file)
    robot = client.get(f"/robots/{part(name)}")
    roles = list(client.items(f"/robots/{part(name)}/grants"))
    print_with_roles(robot, _SHOWN, roles, ("on", "role", "created_at"), as_json=as_json)


@app.command()
def disable(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Let a robot do nothing from now on."""
    # Shown first: to disable one that there is not would make it.
    connect(server, token_file).get(f"/robots/{part(name)}")
    _put(name, disabled=True, server=server, token_file=token_file, as_json=as_json)


@app.command()
def enable(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Let a robot work again, with the tokens that were not revoked."""
    connect(server, token_file).get(f"/robots/{part(name)}")
    _put(name, disabled=False, server=server, token_file=token_file, as_json=as_json)


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a robot with its tokens and roles. Histories keep its name."""
    require_yes(f"Delete the robot {name}, and all its tokens?", yes=yes)
    connect(server, token_file).send("DELETE", f"/robots/{part(name)}")
    if as_json:
        print_json({"name": name, "deleted": True})


def _put(name: str, *, disabled: bool, server: Server, token_file: str | None, as_json: bool) -> None:
    robot = connect(server, token_file).send("PUT", f"/robots/{part(name)}", {"disabled": disabled})
    if as_json:
        print_json(robot)
    else:
        print_fields(robot, _SHOWN)
