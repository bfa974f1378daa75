"""``seatrial group``: groups of users, which roles can be given to."""

from __future__ import annotations

from typing import Annotated

import typer

from registry.cli.asking import require_yes
from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect, part
from registry.cli.output import print_json, print_list, print_table

app = typer.Typer(
    no_args_is_help=True,
    help="Groups of users: create, list, show, delete, add and remove members. 'member set' gives roles.",
)

Name = Annotated[str, typer.Argument(metavar="GROUP")]
User = Annotated[str, typer.Argument(metavar="USER")]


@app.command()
def create(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Make a group. One that there is stays."""
    made = connect(server, token_file).send("PUT", f"/groups/{part(name)}")
    if as_json:
        print_json(made)


@app.command("list")
def list_groups(
    *,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="TEXT", help="Only names that begin with this.")
    ] = None,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """List groups."""
    found = list(connect(server, token_file).items("/groups", {"prefix": prefix}))
    print_list(found, ("name", "created_at"), as_json=as_json)


@app.command()
def show(
    name: Name, *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """Show who is in a group, and the roles that it holds."""
    client = connect(server, token_file)
    group = client.get(f"/groups/{part(name)}")
    members = list(client.items(f"/groups/{part(name)}/members"))
    roles = list(client.items(f"/groups/{part(name)}/grants"))
    if as_json:
        print_json({**group, "members": members, "roles": roles})
        return
    print_table(members, ("user", "source"))
    if roles:
        typer.echo("")
        print_table(roles, ("on", "role", "created_at"))


@app.command()
def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a group; its members lose the roles that they had by it."""
    require_yes(f"Delete the group {name}, and the roles that it holds?", yes=yes)
    connect(server, token_file).send("DELETE", f"/groups/{part(name)}")
    if as_json:
        print_json({"name": name, "deleted": True})


@app.command()
def add(
    name: Name,
    user: User,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a user into a group."""
    added = connect(server, token_file).send("PUT", f"/groups/{part(name)}/members/{part(user)}")
    if as_json:
        print_json(added)


@app.command()
def remove(
    name: Name,
    user: User,
    *,
    server: ServerOption = SERVER,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a user out of a group. Whom an issuer put there, only that takes out."""
    connect(server, token_file).send("DELETE", f"/groups/{part(name)}/members/{part(user)}")
    if as_json:
        print_json({"user": user, "removed": True})
